"""A TestApp per test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.notes_backend import Backend, build
from tenfold.testing import TestApp


@pytest.fixture
def backend() -> Backend:
    return build()


@pytest.fixture
async def t(backend: Backend, anyio_backend: str) -> AsyncIterator[TestApp]:
    async with backend.app.test() as started:
        yield started
