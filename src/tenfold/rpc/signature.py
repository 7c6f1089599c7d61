"""What of an operation's signature travels in a call, and how it is copied.

A call between services is a remote call even when it is local: arguments and result go through MessagePack
and are validated against the declared types. So both sides own their objects, wrong values fail at the
boundary, and splitting a service out changes nothing but latency.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import msgspec

from tenfold._core.container import describe, hints_of
from tenfold.errors import DeclarationError, FieldError, InvalidInput
from tenfold.http.adapters import encode_hook


class Signature:
    """Encodes arguments for one operation, decodes and validates them, and the same for its result."""

    def __init__(self, fn: Callable[..., Any], injected: frozenset[str]) -> None:
        self._where = describe(fn)
        hints = hints_of(fn)
        parameters = inspect.signature(fn).parameters.values()
        self.names = tuple(p.name for p in parameters if p.name not in injected)
        self._signature = inspect.Signature([p for p in parameters if p.name in self.names])
        encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
        self.encode_arguments: Callable[[Any], bytes] = encode
        self.encode_result: Callable[[Any], bytes] = encode
        try:
            self._arguments = msgspec.msgpack.Decoder(
                _struct_of(fn.__name__, self._signature, hints), dec_hook=_decode_hook
            )
            result = hints.get("return", Any)
            self._result = msgspec.msgpack.Decoder(_unwrapped(result), dec_hook=_decode_hook)
        except TypeError as error:
            raise DeclarationError(
                f"it cannot be called from other services: {error}.", where=self._where
            ) from None

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name. Raises :class:`TypeError` as a wrong call of a plain function does."""
        if not args:
            return kwargs
        if len(args) > len(self.names):
            self._signature.bind(*args, **kwargs)  # raises with Python's own words
        bound = dict(zip(self.names, args, strict=False))
        if twice := bound.keys() & kwargs.keys():
            raise TypeError(f"{self._where} got more than one value for {', '.join(sorted(twice))}")
        bound.update(kwargs)
        return bound

    def decode_arguments(self, data: bytes) -> dict[str, Any]:
        """Arguments as the callee sees them. Raises :class:`InvalidInput` naming the wrong one."""
        try:
            values = self._arguments.decode(data)
        except msgspec.ValidationError as error:
            message, _, at = str(error).partition(" - at `$")
            field = FieldError("argument", at.strip("`.") or "?", message)
            raise InvalidInput(errors=[field]) from error
        return {
            name: getattr(values, name) for name in self.names if getattr(values, name) is not msgspec.UNSET
        }

    def decode_result(self, data: bytes) -> Any:
        """The result as the caller sees it."""
        return self._result.decode(data)


def _decode_hook(type_: Any, value: Any) -> Any:
    """Types that msgspec does not know: Pydantic models validate themselves."""
    if hasattr(type_, "__pydantic_validator__"):
        return type_.model_validate(value)
    raise NotImplementedError(f"a {type_.__name__} cannot travel between services")


def _struct_of(name: str, signature: inspect.Signature, hints: dict[str, Any]) -> type[msgspec.Struct]:
    """The arguments as one Struct; those with a default may be left out, so that the callee's default holds."""
    fields: list[Any] = []
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name, Any)
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True)


def _unwrapped(result: Any) -> Any:
    """The value's type of ``Reply[T]``: status and headers are the HTTP face's business, not the caller's."""
    origin = getattr(result, "__origin__", None)
    if origin is not None and getattr(origin, "__module__", "").endswith("http.reply"):
        return get_args(result)[0]
    return result
