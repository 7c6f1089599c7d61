"""Asking the operations listener of a running process."""

from __future__ import annotations

import urllib.error
import urllib.request

from tenfold.errors import ConfigError

TIMEOUT_S = 30.0
_REMEDY = "Give --live the address that `tenfold run` prints for operations, such as http://127.0.0.1:8001."


def fetch(url: str, path: str, token: str) -> bytes:
    """What the operations listener at ``url`` answers for ``path``. Raises ConfigError where none does."""
    request = urllib.request.Request(  # noqa: S310 - the operator's own address
        url.rstrip("/") + path, headers={"authorization": f"Bearer {token}"} if token else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise ConfigError(
                "it asks for the token of its operations listener.", where=url,
                remedy="Set ops.token (TENFOLD_OPS_TOKEN) to the one of the running process.",
            ) from None  # fmt: skip
        raise ConfigError(f"it answered {error.code}.", where=url, remedy=_REMEDY) from None
    except (OSError, ValueError) as error:
        raise not_there(url, getattr(error, "reason", error)) from None


def not_there(url: str, why: object) -> ConfigError:
    """What answers at ``url`` is no operations listener."""
    return ConfigError(f"nobody answers there as an operations listener ({why}).", where=url, remedy=_REMEDY)
