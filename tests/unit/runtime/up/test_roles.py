"""What [up] asks for."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold._core.sections import UpSettings
from tenfold.errors import ConfigError
from tenfold.runtime.up.roles import Wanted, parse_count, parse_scale, parse_size, wanted_of


@pytest.mark.parametrize(
    ("text", "found"), [(2, (2, 2)), ("2", (2, 2)), ("2..4", (2, 4)), (" 0 .. 3 ", (0, 3))]
)
def test_a_count_is_a_number_or_a_range(text: Any, found: tuple[int, int]) -> None:
    assert parse_count(text) == found


@pytest.mark.parametrize("text", ["", "two", "4..2", "-1", -1, "2..", "1..2..3", "1.5", "9999"])
def test_what_is_no_count_is_refused_by_name(text: Any) -> None:
    with pytest.raises(ConfigError, match=r"up\.web"):
        parse_count(text, where="up.web")


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("512MiB", 512 << 20), ("1.5 GiB", 3 << 29), ("2GB", 2 * 10**9), ("100", 100), ("8k", 8000)],
)
def test_memory_is_written_in_units(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_memory_in_unknown_units_is_refused() -> None:
    with pytest.raises(ConfigError, match="512MiB"):
        parse_size("lots")


def test_groups_are_roles_and_services() -> None:
    found = wanted_of(UpSettings(web="2..4", worker=1, services={"orders": 2}), ["orders", "users"])
    assert found == (Wanted("web", "", 2, 4), Wanted("worker", "", 1, 1), Wanted("web", "orders", 2, 2))
    assert [wanted.group for wanted in found] == ["web", "worker", "orders"]


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to run"):
        wanted_of(UpSettings(web=0), ["orders"])


def test_a_service_may_not_be_called_like_a_role() -> None:
    with pytest.raises(ConfigError, match=r"up\.services\.worker"):
        wanted_of(UpSettings(services={"worker": 1}), ["worker"])


def test_scaling_names_the_nearest_group() -> None:
    known = {wanted.group: wanted for wanted in wanted_of(UpSettings(worker=1), ["orders"])}
    assert parse_scale("web=4", known) == ("web", 4, 4)
    with pytest.raises(ConfigError, match="worker"):
        parse_scale("workers=2", known)
    with pytest.raises(ConfigError, match="says no count"):
        parse_scale("web", known)


def test_web_is_left_out_where_each_service_has_instances_of_its_own() -> None:
    found = wanted_of(UpSettings(services={"orders": 2, "users": 1}), ["orders", "users"])
    assert [wanted.group for wanted in found] == ["orders", "users"]


def test_a_service_that_the_app_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="orders"):
        wanted_of(UpSettings(services={"order": 2}), ["orders"])
