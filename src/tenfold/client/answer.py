"""What came back, whole or in pieces, and as a type."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from tenfold.client.contract import Headers as Pairs
from tenfold.errors import BadAnswer

SHOWN_MAX = 200
"""Characters of an answer that are shown in errors."""


class Headers(Mapping[str, str]):
    """Of an answer; names in any case. A name that repeats gives its first value, :meth:`all` every one."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        """Names in lower case."""

    def __getitem__(self, name: str) -> str:
        for found in self.all(name):
            return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(dict(self.pairs))

    def all(self, name: str) -> list[str]:
        """Every value of a name."""
        return [value for key, value in self.pairs if key == name.lower()]


class Answer:
    """A whole answer, of any status."""

    def __init__(
        self, request: str, status: int, headers: Headers, content: bytes, *, dependency: str = ""
    ) -> None:
        self.request = request
        """Client, method and path as it was written, for messages."""
        self.status = status
        self.headers = headers
        self.content = content
        """The body, unpacked."""
        self.dependency = dependency

    def __repr__(self) -> str:
        return f"<Answer {self.status} to {self.request}: {self.shown}>"

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.content.decode(errors="replace")

    @property
    def shown(self) -> str:
        """The beginning of the body, fit for a log."""
        text = self.content[: SHOWN_MAX * 4].decode("utf-8", "replace")[:SHOWN_MAX]
        return "".join(char if char.isprintable() else " " for char in text).strip()

    def json(self, type: Any = Any) -> Any:
        """The body as ``type``: whatever msgspec decodes, or a Pydantic model. Raises :class:`BadAnswer`."""
        try:
            return _decoder(type).decode(self.content)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            path, said = _where(error)
            place = f" At {path}: {said}." if path else f" {said}."
            wanted = getattr(type, "__name__", str(type))
            raise BadAnswer(
                f"{self.request} answered {self.status} with a body that is not {_a(wanted)}.{place}",
                dependency=self.dependency,
                path=path,
            ) from None


class Download:
    """An answer whose body comes in pieces: ``async for piece in download``."""

    def __init__(self, status: int, headers: Headers, pieces: AsyncGenerator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, unpacked, once."""
        return self._pieces


def decodes(type_: Any) -> None:
    """Raises TypeError for a type that no body can be decoded into."""
    _decoder(type_)


@lru_cache(maxsize=512)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, dec_hook=_pydantic)


def _pydantic(type_: type[Any], value: Any) -> Any:
    if hasattr(type_, "model_validate"):
        return type_.model_validate(value)
    raise NotImplementedError(f"a {type_.__name__} cannot be read from JSON")


def _where(error: Exception) -> tuple[str, str]:
    """The path of what does not fit, and what is wrong with it, in plain words."""
    text, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`").removeprefix(".")
    return re.sub(r"\[\.\.\.\]", "[…]", path), text.replace("`", "").removesuffix(".") or "It is empty"


def _a(name: str) -> str:
    return f"an {name}" if name[:1] in "AEIOUaeiou" else f"a {name}"
