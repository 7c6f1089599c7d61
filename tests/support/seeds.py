"""``pytest --seed N``: a simulation plays the seed that failed, and no other."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=None, help="Simulations play this seed only, and tell its history."
    )


@pytest.fixture
def only_seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that was asked for, or None."""
    seed: int | None = request.config.getoption("--seed")
    return seed
