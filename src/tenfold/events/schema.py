"""``EventSchema``: the type of a topic's events, its version, and the way from older versions to it.

A message carries ``{"version": 2, "data": {…}}``. What has the current version is decoded into the topic's type
in one go. Older data goes through a chain of *upcasters*, plain functions from the data of one version to that of
the next, so that a subscriber only ever sees the type of the code that is running, whether an event was published
a second or a year ago.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from tenfold._core.container import describe, hints_of
from tenfold.errors import DeclarationError, UndecodableEvent, UnknownVersion, WrongArguments
from tenfold.queue.arguments import Codec, enc_hook

T = TypeVar("T")

Upcaster = Callable[[Any], Any]
"""From the data of one version (a dict, or what its parameter is annotated with) to that of the next."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)

Json = bytes | msgspec.Raw
"""JSON text."""


class _Envelope(msgspec.Struct):
    version: int
    data: msgspec.Raw


_envelopes = msgspec.json.Decoder(_Envelope)


class Refused(msgspec.Struct):
    """What the intake keeps of a message that is no event: why, and what it said. It is no envelope on purpose."""

    undecodable: str
    body: str


_refused = msgspec.json.Decoder(Refused)


class EventSchema(Generic[T]):
    """``type_`` is what events are in ``version``; ``upcast[n]`` makes data of version n+1 from that of n.

    Upcasters need not reach back to version 1, but the chain has no gaps: each version from the oldest given on
    leads to the current one. DeclarationError says what is wrong with them.
    """

    def __init__(
        self,
        topic: str,
        type_: type[T],
        version: int = 1,
        upcast: Mapping[int, Upcaster] | None = None,
        *,
        kind: str = "topic",
    ) -> None:
        self.where = f"{kind} {topic}"
        if not _NAME.fullmatch(topic):
            raise DeclarationError(
                f"{topic!r} is no name of a {kind}.",
                where=self.where,
                remedy="Use up to 100 letters, digits, '-', '_' and '.': brokers and files are named after it.",
            )
        self.type = type_
        self.version = version
        self._codec = Codec(type_, self.where)
        _check(self.where, version, upcast or {})
        self._links = {n: _Link(self.where, n, fn) for n, fn in (upcast or {}).items()}

    @property
    def oldest(self) -> int:
        """The oldest version that can still be read."""
        return min(self._links, default=self.version)

    def type_of(self, version: int) -> Any:
        """The type of the data of ``version``; ``dict[str, Any]`` where its upcaster does not say."""
        return self.type if version == self.version else self._links[version].takes

    def encode(self, event: T) -> str:
        """The payload of an event; raises :class:`WrongArguments` unless it decodes into the topic's type."""
        return self.wrap(self._codec.encode(event), self.version)

    @staticmethod
    def wrap(data: str, version: int) -> str:
        """The payload of data that is JSON text already, as it comes from a broker."""
        return f'{{"version":{version},"data":{data}}}'

    @staticmethod
    def unwrap(payload: str) -> tuple[int, Json]:
        """Version and data (JSON text) of a payload; raises :class:`UndecodableEvent` for what is none."""
        try:
            envelope = _envelopes.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = _reason(payload) or str(error)
            raise UndecodableEvent(f"the payload is no event: {reason.rstrip('.')}.") from None
        return envelope.version, envelope.data

    def decode(self, payload: str) -> T:
        """The event of a payload, in the current version.

        Raises :class:`UnknownVersion` for a version that the running code cannot read, and
        :class:`UndecodableEvent` with the path of what does not fit.
        """
        version, data = self.unwrap(payload)
        if version != self.version:
            data = self._upcast(data, version)
        try:
            event: T = self._codec.decode(data)
        except WrongArguments as error:
            raise UndecodableEvent(self._told(version, error)) from None
        return event

    def _upcast(self, data: Json, version: int) -> Json:
        """Current data, as JSON, from that of an older version."""
        self._check_known(version)
        for n in range(version, self.version):
            try:
                data = self._links[n](data)
            except UndecodableEvent:
                raise
            except Exception as error:
                raise UndecodableEvent(
                    f"{self.where}: the upcaster from version {n} to {n + 1}, {self._links[n].name}, failed: "
                    f"{type(error).__name__}: {error}."
                ) from error
        return data

    def _check_known(self, version: int) -> None:
        if version > self.version:
            raise UnknownVersion(
                f"{self.where}: the event has version {version}, the code that is running knows up to "
                f"{self.version}; it waits for a deploy that knows it."
            )
        if version < self.oldest:
            raise UnknownVersion(
                f"{self.where}: the event has version {version}, and no upcaster leads from there to "
                f"{self.version} (the oldest is {self.oldest}); add upcast={{{version}: …}}, then deploy."
            )

    def _told(self, version: int, error: WrongArguments) -> str:
        if version == self.version:
            return f"{error} The event says that it is of version {version}: was its type changed without raising it?"
        return f"{error} That is what the upcasters made of version {version}."


class _Link:
    """One upcaster as a function from JSON to JSON, so that links of any types fit together."""

    def __init__(self, where: str, version: int, fn: Upcaster) -> None:
        self._fn = fn
        self.name = describe(fn)
        self.takes = _parameter(fn, f"{where}, upcast={{{version}: {self.name}}}")
        self._codec = Codec(self.takes, f"{where}, data of version {version}")

    def __call__(self, data: Json) -> bytes:
        try:
            value = self._codec.decode(data)
        except WrongArguments as error:
            raise UndecodableEvent(str(error)) from None
        return msgspec.json.encode(self._fn(value), enc_hook=enc_hook)


def _check(where: str, version: int, upcast: Mapping[int, Upcaster]) -> None:
    if version < 1:
        raise DeclarationError(f"its version is {version}; versions count from 1.", where=where)
    for n in sorted(upcast):
        if not 1 <= n < version:
            raise DeclarationError(
                f"its upcaster from version {n} leads nowhere: the current version is {version}.",
                where=where,
                remedy=f"upcast={{n: …}} leads from n to n+1; raise version to {n + 1}, or remove the upcaster.",
            )
    for n in range(min(upcast, default=version), version):
        if n not in upcast:
            raise DeclarationError(
                f"its upcasters have a gap: nothing leads from version {n} to {n + 1}.",
                where=where,
                remedy=f"Add upcast={{{n}: …}}, or remove the ones before it.",
            )


def _parameter(fn: Upcaster, where: str) -> Any:
    """What an upcaster takes."""
    parameters = list(inspect.signature(fn).parameters.values()) if inspect.isroutine(fn) else []
    if len(parameters) != 1 or inspect.iscoroutinefunction(fn):
        raise DeclarationError(
            "an upcaster is a plain function of the older version's data.",
            where=where,
            remedy="Write `def from_v1(data: dict[str, Any]) -> dict[str, Any]:`.",
        )
    hint = hints_of(fn).get(parameters[0].name, dict[str, Any])
    return dict[str, Any] if hint in (Any, dict) else hint


def _reason(payload: str) -> str:
    """Why the intake refused what a broker sent; empty for any other payload."""
    try:
        return _refused.decode(payload).undecodable
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
