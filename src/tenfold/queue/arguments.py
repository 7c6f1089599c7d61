"""Arguments of a handler as JSON: checked when they are put into the queue, and again when they are run.

The parameters that the container does not fill make up the handler's *signature*. What does not fit it is a
:class:`WrongArguments` at the call that enqueues, not a dead letter an hour later. A default that the caller
does not override is not stored, so that the run uses the default of the code that runs.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args, get_origin

import msgspec

from tenfold._core.container import describe, hints_of
from tenfold.errors import DeclarationError, WrongArguments

_UNSET = msgspec.UNSET


def enc_hook(value: Any) -> Any:
    """Encode what msgspec does not know: Pydantic models."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a {type(value).__name__} cannot be kept in a message")


def dec_hook(type_: type[Any], value: Any) -> Any:
    """Decode what msgspec does not know: Pydantic models."""
    if hasattr(type_, "model_validate"):
        return type_.model_validate(value)
    raise NotImplementedError(f"a {type_.__name__} cannot be kept in a message")


class Codec:
    """JSON text from and to one type, checked both ways."""

    def __init__(self, type_: Any, where: str) -> None:
        self._where = where
        try:
            self._decoder = msgspec.json.Decoder(type_, dec_hook=dec_hook)
        except TypeError as error:
            raise DeclarationError(f"its type cannot be kept in a message: {error}", where=where) from None
        self._encoder = msgspec.json.Encoder(enc_hook=enc_hook)

    def encode(self, value: Any) -> str:
        """Text of ``value``; raises :class:`WrongArguments` unless it decodes into the declared type."""
        try:
            data = self._encoder.encode(value)
        except (TypeError, NotImplementedError, OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise WrongArguments(f"{self._where}: {error}.") from None
        self._decode(data)
        return data.decode()

    def decode(self, text: str | bytes | msgspec.Raw) -> Any:
        """The value of ``text``; raises :class:`WrongArguments` with the path of what does not fit."""
        return self._decode(text)

    def _decode(self, data: str | bytes | msgspec.Raw) -> Any:
        try:
            return self._decoder.decode(data)
        except (
            msgspec.DecodeError,
            ValueError,
            RecursionError,
        ) as error:  # Pydantic's errors are ValueErrors
            raise WrongArguments(f"{self._where}: {_sentence(error)}.") from None


class Signature:
    """The parameters of one handler that travel in its messages."""

    def __init__(self, fn: Callable[..., Any], where: str, injected: Collection[str] = ()) -> None:
        self.where = where
        parameters = _travelling(fn, where, injected)
        hints = hints_of(fn)
        self.names = tuple(parameters)
        self._kinds_positional = tuple(n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY)
        in_order = len(self._kinds_positional) == len(parameters)
        self._struct = msgspec.defstruct(
            "Arguments",
            [_field(name, hints.get(name, Any), parameter) for name, parameter in parameters.items()],
            kw_only=not in_order,
            forbid_unknown_fields=True,
        )
        self._codec = Codec(self._struct, where)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """JSON text of a call; raises :class:`WrongArguments` unless the handler could be called so."""
        try:
            arguments = self._struct(*args, **kwargs)
        except TypeError:
            arguments = self._made_by_name(self._by_name(args, kwargs))
        return self._codec.encode(arguments)

    def _made_by_name(self, kwargs: dict[str, Any]) -> Any:
        """As said by name, so that errors are about names too."""
        try:
            return self._struct(**kwargs)
        except TypeError as error:
            raise WrongArguments(f"{self.where}: {_sentence(error)}; {self._help()}.") from None

    def decode(self, text: str) -> dict[str, Any]:
        """Keyword arguments for the handler; raises :class:`WrongArguments` when its signature changed."""
        arguments = self._codec.decode(text)
        out: dict[str, Any] = {}
        for name in self.names:
            value = getattr(arguments, name)
            if value is not _UNSET:
                out[name] = value
        return out

    def digest(self, payload: str) -> str:
        """A short key of the arguments, the same whatever the order in which they were named."""
        canonical = msgspec.json.encode(msgspec.json.decode(payload), order="sorted")
        return hashlib.blake2b(canonical, digest_size=16).hexdigest()

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if len(args) > len(self._kinds_positional):
            raise WrongArguments(
                f"{self.where}: {len(args)} positional arguments were given; {self._help()}."
            )
        named = dict(zip(self._kinds_positional, args, strict=False))
        if twice := named.keys() & kwargs.keys():
            raise WrongArguments(f"{self.where}: {min(twice)!r} was given twice; {self._help()}.")
        return named | dict(kwargs)

    def _help(self) -> str:
        return f"it takes ({', '.join(self.names)})" if self.names else "it takes no arguments"


def _travelling(
    fn: Callable[..., Any], where: str, injected: Collection[str]
) -> dict[str, inspect.Parameter]:
    out: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(fn).parameters.items():
        if name in injected:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DeclarationError(
                f"its parameter {parameter} has no name that a message could carry.",
                where=f"{where}, {describe(fn)}",
                remedy="Give every parameter a name of its own.",
            )
        out[name] = parameter
    return out


def _field(name: str, hint: Any, parameter: inspect.Parameter) -> tuple[str, Any] | tuple[str, Any, Any]:
    if parameter.default is parameter.empty:
        return name, hint
    return name, (hint if _takes_unset(hint) else hint | msgspec.UnsetType), _UNSET


def _takes_unset(hint: Any) -> bool:
    return hint is Any or (get_origin(hint) is not None and msgspec.UnsetType in get_args(hint))


def _sentence(error: Exception) -> str:
    text = str(error).split("\n", 1)[0].rstrip(".")
    return text[:1].lower() + text[1:]
