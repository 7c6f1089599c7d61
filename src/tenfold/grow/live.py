"""The running processes of an app, through their operations listeners (:mod:`tenfold.assembly.switch_page`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from tenfold.assembly.switch import Status
from tenfold.errors import ConfigError, Conflict, DatabaseUnavailable
from tenfold.telemetry.ops_client import Answer, ask


class Unreachable(DatabaseUnavailable):
    """Nobody answers at the address."""


class Live:
    """Every process that has the database open. An order goes to all of them at the same time."""

    def __init__(self, addresses: Sequence[str], token: str) -> None:
        self._addresses = [address.rstrip("/") for address in addresses]
        self._token = token

    def __bool__(self) -> bool:
        return bool(self._addresses)

    async def status(self) -> list[Status]:
        """What each says of itself. Raises Unreachable."""
        return await self._all("", None)

    async def prepare(self, id_: str, url: str) -> None:
        """Have each connect to the new database. Raises what they raise."""
        await self._all("/prepare", {"id": id_, "url": url})

    async def hold(self, id_: str, quiet_s: float, hold_s: float) -> None:
        """Hold all of them, or none. Raises Conflict when one is too busy."""
        try:
            await self._all("/hold", {"id": id_, "quiet_s": quiet_s, "hold_s": hold_s})
        except BaseException:
            await asyncio.gather(*self._orders("/resume", {"id": id_}), return_exceptions=True)
            raise

    async def resume(self, id_: str) -> list[Status]:
        """Have each look at the mark and go on."""
        return await self._all("/resume", {"id": id_})

    async def forget(self, id_: str) -> None:
        """The move is given up."""
        await self._all("/forget", {"id": id_})

    async def _all(self, path: str, body: dict[str, Any] | None) -> list[Status]:
        answers = await asyncio.gather(*self._orders(path, body), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Status)]

    def _orders(self, path: str, body: dict[str, Any] | None) -> list[Any]:
        return [asyncio.to_thread(_ask, f"{a}/grow{path}", self._token, body) for a in self._addresses]


def _ask(url: str, token: str, body: dict[str, Any] | None) -> Status:
    try:
        answer = ask(url, token, None if body is None else json.dumps(body).encode())
        if answer.status < 400:
            return msgspec.json.decode(answer.body, type=Status)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise Unreachable(f"{url} does not answer as an operations listener ({error}).") from None
    raise _refusal(url, answer)


def _refusal(url: str, answer: Answer) -> Exception:
    if answer.status == 401:
        return ConfigError(
            "it asks for the token of its operations listener.", where=url, remedy="Set ops.token."
        )
    try:
        said: dict[str, str] = json.loads(answer.body)
    except ValueError:
        said = {"error": f"it answered {answer.status}"}
    text = f"{url}: {said.get('error', '')}"
    if answer.status == 409 and said.get("kind") != "config":
        return Conflict(text)
    return ConfigError(said.get("error", ""), where=url)
