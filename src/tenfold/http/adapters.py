"""Codecs: how a type is read from JSON and written to it.

msgspec reads and writes Structs, dataclasses, attrs classes, TypedDicts and builtins natively. Types with a
Pydantic model inside go through Pydantic's own validator, imported when the first one is met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tenfold.errors import DeclarationError
from tenfold.http.shape import Recursive, shape_of
from tenfold.http.types import bounded, has_pydantic


def encode_hook(value: Any) -> Any:
    """What msgspec cannot encode by itself: Pydantic models, and mappings and sequences of other libraries."""
    if hasattr(value, "__pydantic_serializer__"):
        return value.model_dump(mode="json", by_alias=True)
    raise NotImplementedError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be encoded as JSON."
    )


encode_json: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=encode_hook).encode
"""The one JSON encoder: every response that is JSON is written by it."""


class Codec:
    """How one body type is read.

    ``decode`` turns JSON into the value; ``check`` is a second decoder to run for what the first lets pass, or
    None; ``walk`` says that only the collector can find that (recursive types).
    """

    def __init__(self, type_: Any, *, reject_unknown: bool, where: str) -> None:
        self.type = type_
        self.reject_unknown = reject_unknown
        self.check: Callable[[bytes], Any] | None = None
        self.walk = False
        self.adapter: Any = None
        self.decode: Callable[[bytes], Any]
        if has_pydantic(type_):
            self._use_pydantic()
        else:
            self._use_msgspec(where)

    def _use_pydantic(self) -> None:
        from pydantic import TypeAdapter

        self.adapter = adapter = TypeAdapter(self.type)
        if self.reject_unknown:
            self.decode = lambda body: adapter.validate_json(body, extra="forbid")
        else:
            self.decode = adapter.validate_json

    def _use_msgspec(self, where: str) -> None:
        try:
            self.decode = msgspec.json.Decoder(bounded(self.type)).decode
            shape = shape_of(self.type, unknown_fields=self.reject_unknown)
        except Recursive:
            self.walk = True
        except TypeError as error:
            raise DeclarationError(
                f"its body type {self.type!r} cannot be read from JSON: {error}.", where=where
            ) from None
        else:
            self.check = None if shape is None else msgspec.json.Decoder(shape).decode
