"""A patient client of the shop: it signs in, and repeats what failed until the shop is back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx2

RETRIED = frozenset({429, 500, 502, 503, 504})
IN_PROGRESS = "urn:tenfold:problem:request-in-progress"


class Refused(Exception):
    """The shop answered, and the answer is no."""

    def __init__(self, what: str, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, problem
        self.type = str(problem.get("type", ""))
        super().__init__(f"{what} was refused with {status}: {problem.get('detail', 'no reason given')}")


class OutOfPatience(Exception):
    """The shop did not come back in time."""


class Client:
    """Calls with one bearer token over kept-alive connections.

    Every call is repeated after a broken connection or a 5xx, with a growing, jittered pause, until it has
    failed for ``patience_s`` seconds. That is safe because everything the replay sends may be repeated:
    orders carry an Idempotency-Key, deliveries a note number, and loading products is a PUT.
    """

    def __init__(self, url: str, user: str, password: str, *, patience_s: float, concurrency: int) -> None:
        self._credentials = {"email": user, "password": password}
        self._patience_s = patience_s
        self._token = ""
        self._signing_in = asyncio.Lock()
        self._http = httpx2.AsyncClient(
            base_url=url,
            timeout=30.0,
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def sign_in(self) -> None:
        """Get a token. Raises Refused for wrong credentials."""
        response = await self._patiently("POST", "/accounts/login", json=self._credentials)
        if response.status_code != 200:
            raise Refused("Signing in", response.status_code, _problem(response))
        self._token = response.json()["access_token"]

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The decoded answer. Raises Refused for a 4xx, OutOfPatience when the shop stays away."""
        return (await self.call(method, path, **options)).json()

    async def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """The answer, with a fresh token when the old one has expired."""
        token = self._token
        response = await self._patiently(method, path, **self._signed(options))
        if response.status_code == 401:
            async with self._signing_in:  # of many callers whose token expired, one signs in
                if token == self._token:
                    await self.sign_in()
            response = await self._patiently(method, path, **self._signed(options))
        if response.status_code >= 400:
            raise Refused(f"{method} {path}", response.status_code, _problem(response))
        return response

    def _signed(self, options: dict[str, Any]) -> dict[str, Any]:
        headers = {**options.get("headers", {}), "authorization": f"Bearer {self._token}"}
        return {**options, "headers": headers}

    async def _patiently(self, method: str, path: str, **options: Any) -> httpx2.Response:
        until, pause = time.monotonic() + self._patience_s, 0.1
        while True:
            try:
                response = await self._http.request(method, path, **options)
                if not _again(response):
                    return response
                reason = f"it answered {response.status_code} ({_problem(response).get('detail', '')})"
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() + pause > until:
                raise OutOfPatience(
                    f"{method} {path} failed for {self._patience_s:g} s; the last time: {reason}."
                )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 2.0)


def _again(response: httpx2.Response) -> bool:
    """Worth repeating: overload and trouble of the server's, or an earlier attempt that is still at work."""
    if response.status_code == 409:
        return _problem(response).get("type") == IN_PROGRESS
    return response.status_code in RETRIED


def _problem(response: httpx2.Response) -> dict[str, Any]:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        if isinstance(problem, dict):
            return problem
    return {}
