"""``pytest --seed N``: a simulation plays the seed that failed, and no other. And what properties are judged by."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A property holds or does not, however busy the machine is. Under CI Hypothesis has a profile of its own, which says so too.
settings.register_profile("tenfold", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if "CI" not in os.environ:
    settings.load_profile("tenfold")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=None, help="Simulations play this seed only, and tell its history."
    )


@pytest.fixture
def only_seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that was asked for, or None."""
    seed: int | None = request.config.getoption("--seed")
    return seed
