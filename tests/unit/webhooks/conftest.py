"""The rig of this folder's tests."""

from __future__ import annotations

import pytest

from support.webhooks import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()
