"""Asking the operations listener of a running process (:mod:`tenfold.telemetry.ops`)."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


class Answer(NamedTuple):
    """Whatever the status is."""

    status: int
    body: bytes


def ask(url: str, token: str = "", body: bytes | None = None, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """GET, or POST of a ``body`` of JSON, with ``token`` where there is one. Blocks; a silence of ``timeout_s`` (30 s) ends it.
    Redirects are not followed, and no proxy is asked: the token is for this listener alone.

    Raises OSError or ValueError where nobody answers at ``url``, or in no HTTP.
    """
    where = urlsplit(url)
    if where.scheme not in {"http", "https"} or not where.hostname:
        raise ValueError("it does not begin with http:// or https:// and a host")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
    connection = kind(where.hostname, where.port, timeout=timeout_s)
    target = (where.path or "/") + (f"?{where.query}" if where.query else "")
    try:
        connection.request("GET" if body is None else "POST", target, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    except HTTPException as error:
        raise OSError(f"what came is no HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
