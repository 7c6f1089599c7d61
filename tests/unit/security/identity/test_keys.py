"""Keys in files: who may read them, what is refused, and what goes on when they turn bad."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tenfold._core.clock import ManualClock
from tenfold.errors import ConfigError
from tenfold.security.identity import issuing
from tenfold.security.identity.keys import LOOK_S, MISS_S, Jwk, Keys, private_keys
from tenfold.security.identity.names import parse, service_name

NOW = 1_700_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    issuing.issue(tmp_path, "orders", NOW)
    return tmp_path


def file_of(folder: Path) -> Path:
    return next((folder / "orders").glob("*.jwk"))


def opened(folder: Path) -> Keys:
    return Keys(folder, ManualClock(NOW), service="orders")


def test_only_the_owner_may_read_a_private_key(folder: Path) -> None:
    assert file_of(folder).stat().st_mode & 0o777 == 0o600
    assert (folder / "orders").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(
    folder: Path, mode: int
) -> None:
    file_of(folder).chmod(mode)
    with pytest.raises(
        ConfigError, match=rf"others .* may read this key \(mode {mode:o}\)\. Run: chmod 600 /.*rotate"
    ):
        opened(folder)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_public_keys_that_others_may_change_are_refused(folder: Path, mode: int) -> None:
    (folder / "public" / "orders.jwks").chmod(mode)
    with pytest.raises(ConfigError, match="others than its owner may change what is trusted here"):
        opened(folder)


def test_a_key_under_another_ones_id_is_refused(folder: Path) -> None:
    key = private_keys(folder / "orders")[0]
    other = msgspec.structs.replace(issuing.new_key(NOW), kid=key.kid)
    (folder / "public" / "orders.jwks").write_bytes(msgspec.json.encode({"keys": [other.public]}))
    with pytest.raises(ConfigError, match="its id is not that of its public part"):
        opened(folder)


def test_one_key_of_two_services_is_refused(folder: Path) -> None:
    same = folder / "public" / "catalog.jwks"
    same.write_bytes((folder / "public" / "orders.jwks").read_bytes())
    with pytest.raises(ConfigError, match="have the same key"):
        opened(folder)


def test_a_service_without_a_key_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match="tenfold identity issue catalog"):
        Keys(folder, ManualClock(NOW), service="catalog").signing()


async def test_files_that_turn_bad_are_reported_once_and_the_keys_from_before_stay(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(NOW)
    keys = Keys(folder, clock, service="orders")
    kid = keys.signing().kid
    file_of(folder).chmod(0o644)
    for _ in range(5):
        await clock.advance(LOOK_S)
        assert keys.signing().kid == kid
    assert [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()] == [
        caplog.messages[0]
    ]


async def test_an_unknown_key_is_looked_for_at_once_but_not_for_every_stranger(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(NOW)
    keys = Keys(folder, clock)
    looks: list[int] = []
    stamped = keys._stamped
    monkeypatch.setattr(keys, "_stamped", lambda: (looks.append(1), stamped())[1])
    await clock.advance(MISS_S)
    added = issuing.issue(folder, "catalog", NOW)
    assert added is not None
    assert keys.public(added.kid) is not None
    for number in range(1_000):
        assert keys.public(f"{number:032x}") is None
    assert len(looks) == 1


def test_issuing_again_changes_nothing(folder: Path) -> None:
    assert issuing.issue(folder, "orders", NOW) is None
    assert len(private_keys(folder / "orders")) == 1


def test_rotating_removes_keys_whose_end_has_come(folder: Path) -> None:
    for step in range(4):
        issuing.rotate(folder, "orders", NOW + step * 1_000)
    assert len(private_keys(folder / "orders")) == 2


def test_a_key_is_never_printed(folder: Path) -> None:
    key = private_keys(folder / "orders")[0]
    shown = f"{key} {key!r} {opened(folder).signing()!r}"
    assert key.d not in shown
    assert isinstance(key, Jwk)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://shop/service/",
        "spiffe:///service/orders",
        "spiffe://Shop/service/orders",
        "SPIFFE://shop/service/orders",
        "spiffe://shop/service/Orders",
        "spiffe://shop/service/orders/",
        "spiffe://shop/service/orders?x",
        "spiffe://shop/service/orders#x",
        "spiffe://shop/service/orders\n",
        "spiffe://shop/service/%6frders",
        "spiffe://user@shop/service/orders",
        "spiffe://shop:80/service/orders",
        "spiffe://shop/services/orders",
        "spiffe://shop/x/service/orders",
        "spiffe://shop/service/orders/service/catalog",
        "spiffe://" + "a" * 256 + "/service/orders",
        "https://shop/service/orders",
    ],
)
def test_there_is_one_form_of_a_name(text: str) -> None:
    assert parse(text) is None


def test_a_name_reads_as_it_is_written() -> None:
    name = service_name("shop.example", "order-book_2")
    assert parse(str(name)) == name


@pytest.mark.parametrize(
    ("domain", "service"), [("Shop", "orders"), ("", "orders"), ("shop", ""), ("shop", "a/b"), ("shop", "9a")]
)
def test_what_cannot_be_a_name_is_refused(domain: str, service: str) -> None:
    with pytest.raises(ConfigError):
        service_name(domain, service)
