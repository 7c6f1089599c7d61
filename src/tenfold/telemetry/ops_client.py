"""Asking the operations listener of a running process (:mod:`tenfold.telemetry.ops`)."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import NamedTuple

TIMEOUT_S = 30.0


class Answer(NamedTuple):
    """Whatever the status is."""

    status: int
    body: bytes


def ask(url: str, token: str = "", body: bytes | None = None, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """GET, or POST of a ``body`` of JSON, with ``token`` where there is one. Blocks; a silence of ``timeout_s`` (30 s) ends
    it. Raises OSError or ValueError where nobody answers at ``url``, or in no HTTP."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - the operator's own address
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - likewise
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from None
    except http.client.HTTPException as error:
        raise OSError(f"what came is no HTTP: {type(error).__name__}") from None
