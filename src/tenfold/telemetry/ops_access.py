"""Who may do what at the operations listener. Two roles: to read everything, and to operate too.

Three ways to say who one is: a bearer token (``ops.token`` operates, ``ops.read_token`` reads), the dashboard's cookie,
or, where no token is set, being on this machine.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec


class Role(IntEnum):
    """What a visitor may do; each role includes those before it."""

    READ = 1
    """See every page."""
    OPERATE = 2
    """Change what runs: retry, pause, override, send requests."""


class Visitor(msgspec.Struct, frozen=True):
    """Who asks for a page."""

    name: str
    """As the audit log has them: ``ann@example.org``, ``ops.token``, ``this machine``."""
    role: Role

    @property
    def operates(self) -> bool:
        return self.role >= Role.OPERATE


LOCAL: Final = Visitor("this machine", Role.OPERATE)
"""Who asks a listener on the loopback interface that has no token."""
