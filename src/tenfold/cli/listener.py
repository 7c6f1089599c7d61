"""What the operations listener of a running process says, for commands with ``--live``."""

from __future__ import annotations

from tenfold.errors import ConfigError
from tenfold.telemetry.ops_client import ask

_REMEDY = "Give --live the address that `tenfold run` prints for operations, such as http://127.0.0.1:8001."


def fetch(url: str, path: str, token: str) -> bytes:
    """What the operations listener at ``url`` answers for ``path``. Raises ConfigError where none does."""
    try:
        answer = ask(url.rstrip("/") + path, token)
    except (OSError, ValueError) as error:
        raise not_there(url, error) from None
    if answer.status == 401:
        raise ConfigError(
            "it asks for the token of its operations listener.", where=url,
            remedy="Set ops.token (TENFOLD_OPS_TOKEN) to the one of the running process.",
        )  # fmt: skip
    if answer.status >= 400:
        raise ConfigError(f"it answered {answer.status}.", where=url, remedy=_REMEDY)
    return answer.body


def not_there(url: str, why: object) -> ConfigError:
    """What answers at ``url`` is no operations listener."""
    return ConfigError(f"nobody answers there as an operations listener ({why}).", where=url, remedy=_REMEDY)
