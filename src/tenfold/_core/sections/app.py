"""What an app is, and who its people are."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tenfold._core.sections.kinds import Count, Seconds


class AppSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[app]"""

    target: str = ""
    """What the commands run when they name none: "shop.app:app"."""
    env: Literal["development", "production", "test"] = "development"
    data_dir: str = "data"
    """Folder of everything the embedded backends keep."""
    secret_key: str = ""
    """Signs tokens. Required in production; made and kept in data_dir in development."""
    stop_timeout_s: Seconds = 15.0
    """How long running work may take to end after SIGTERM."""


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[auth]"""

    access_ttl_s: Seconds = 900.0
    refresh_ttl_s: Seconds = 2_592_000.0
    session_ttl_s: Seconds = 1_209_600.0
    hash_threads: Count = 2
    """Passwords are hashed in a pool of this size."""
