"""Calls out in tests: answered by the test, or not made at all."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from tenfold.client.answer import Headers
from tenfold.client.contract import BrokenOff, Incoming, Outgoing, Slow, Transport, Unreached

if TYPE_CHECKING:
    from collections.abc import Sequence

Failure = Literal["unreachable", "broken", "silent"]
_FAILURES: dict[Failure, type[Unreached | BrokenOff | Slow]] = {
    "unreachable": Unreached,
    "broken": BrokenOff,
    "silent": Slow,
}
_NOTHING = object()
_KEPT = "/%:@!$&'()*+,;=~-._"


class Sent:
    """One request that a client has sent; of a call that was tried again, one of several."""

    def __init__(self, outgoing: Outgoing, path: str) -> None:
        self.method = outgoing.method
        self.url = outgoing.place.url
        self.path = path
        """Below the client's URL, without the query, decoded."""
        self.query: list[tuple[str, str]] = parse_qsl(outgoing.place.target.partition("?")[2], True)
        self.headers = Headers([(name.lower(), value) for name, value in outgoing.headers])
        assert isinstance(outgoing.content, bytes), "clients send no bodies in pieces"
        self.content = outgoing.content

    def __repr__(self) -> str:
        return f"<Sent {self.method} {self.path}>"

    def json(self, type_: Any = Any) -> Any:
        """The body as ``type_``; raises msgspec.DecodeError or ValidationError."""
        return msgspec.json.decode(self.content, type=type_)


class Fake(Transport):
    """The other side of a client, in a test: ``fake = t.fake(payments)``.

    ``answer`` says what it answers, ``fail`` how it does not; ``sent`` is what it got. What was said last counts, for as
    many ``times`` as it was said for. A request for which nothing was said fails the test.
    """

    def __init__(self, name: str, base: str) -> None:
        self.sent: list[Sent] = []
        self._name, self._base = name, base
        self._said: list[_Said] = []

    def answer(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        json: Any = _NOTHING,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
    ) -> None:
        """Answer ``method`` at ``path`` (below the client's URL; ``{id}`` stands for any one part) with a body."""
        head = {name.lower(): value for name, value in (headers or {}).items()}
        if json is not _NOTHING:
            content, head = msgspec.json.encode(json), {"content-type": "application/json", **head}
        self._said.append(_Said(method, path, times, reply=(status, list(head.items()), content)))

    def fail(self, method: str, path: str, how: Failure = "unreachable", *, times: int | None = None) -> None:
        """Do not answer: nobody takes the connection, it breaks off, or nothing comes."""
        self._said.append(_Said(method, path, times, failure=how))

    async def send(self, request: Outgoing) -> Incoming:
        path = request.place.target.partition("?")[0].removeprefix(self._base) or "/"
        self.sent.append(Sent(request, unquote(path)))
        for said in reversed(self._said):
            if said.fits(request.method, path):
                return said.done(f"{request.place.authority} (faked)")
        known = ", ".join(f"{said.method} {said.path}" for said in self._said) or "nothing"
        raise AssertionError(
            f"{self._name} was asked for {request.method} {path}, and the test has no answer to it. It has {known}."
        )


class Blocked(Transport):
    """Nothing leaves a test by accident."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def send(self, request: Outgoing) -> Incoming:
        raise AssertionError(
            f"{self._name} was about to call {request.method} {request.place.url}. Say what it answers,"
            f" fake = t.fake({self._name}), or let calls leave the test: TestApp(app, network=True)."
        )


class _Said:
    def __init__(
        self,
        method: str,
        path: str,
        times: int | None,
        *,
        reply: tuple[int, Sequence[tuple[str, str]], bytes] = (200, (), b""),
        failure: Failure | None = None,
    ) -> None:
        self.method, self.path, self._left = method.upper(), path, times
        self._reply = reply
        self._failure: Failure | None = failure
        parts = re.split(r"\{\w+\}", path)
        self._pattern = re.compile("[^/]+".join(re.escape(quote(part, safe=_KEPT)) for part in parts))

    def fits(self, method: str, path: str) -> bool:
        """``path`` is encoded: a slash within a part is not one between two."""
        return method == self.method and self._left != 0 and self._pattern.fullmatch(path) is not None

    def done(self, where: str) -> Incoming:
        if self._left is not None:
            self._left -= 1
        if self._failure is not None:
            failure: Failure = self._failure
            raise _FAILURES[failure](f"{where} is {failure}.")
        return _Reply(*self._reply)


class _Reply(Incoming):
    def __init__(self, status: int, headers: Sequence[tuple[str, str]], content: bytes) -> None:
        self.status, self.headers, self._content = status, headers, content

    async def pieces(self) -> AsyncGenerator[bytes]:
        if self._content:
            yield self._content

    async def close(self) -> None:
        return
