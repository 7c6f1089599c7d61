"""What of an operation's signature travels in a call, and how it is copied.

A call between services is a remote call even when it is local: arguments and result go through MessagePack
and are validated against the declared types. So both sides own their objects, wrong values fail at the
boundary, and splitting a service out changes nothing but latency.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec

from tenfold._core.container import describe, hints_of
from tenfold.errors import DeclarationError, FieldError, InvalidInput, MalformedBody
from tenfold.http.adapters import encode_hook
from tenfold.http.forms import Upload
from tenfold.http.reply import Reply, Response
from tenfold.http.types import members, parts, strip_annotated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenfold.rpc.wire import Wire

NOT_ENCODED = (TypeError, NotImplementedError, OverflowError, UnicodeEncodeError, RecursionError)
"""What MessagePack raises for values it has no form for."""

_LEFT_OUT: Any = object()


class Signature:
    """Copies arguments and results of one operation.

    Raises DeclarationError for types that only HTTP carries (uploads, streams, finished responses) and for those
    that MessagePack cannot.
    """

    def __init__(self, fn: Callable[..., Any], injected: frozenset[str]) -> None:
        self._where = describe(fn)
        self._name = fn.__name__
        self._hints = hints = hints_of(fn)
        self._injected = injected
        parameters = [p for p in inspect.signature(fn).parameters.values() if p.name not in injected]
        self.names = tuple(p.name for p in parameters)
        self._known = frozenset(self.names)
        self._required = frozenset(p.name for p in parameters if p.default is p.empty)
        self._signature = inspect.Signature(parameters)
        self._encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
        result = hints.get("return", Any)
        self._refuse_http_types({name: hints.get(name, Any) for name in self.names}, result)
        self.result_type: Any = _unwrapped(result)
        """What comes back."""
        try:
            self.arguments_type = _struct_of(fn.__name__, parameters, hints)
            """A Struct of what travels there; what has a default may be missing."""
            self._arguments = msgspec.msgpack.Decoder(self.arguments_type, dec_hook=decode_hook)
            self._result = msgspec.msgpack.Decoder(self.result_type, dec_hook=decode_hook)
        except TypeError as error:
            raise self._wrong(str(error)) from None

    @property
    def described_type(self) -> type[msgspec.Struct]:
        """The same Struct for schemas, which have no words for an argument that is left out."""
        parameters = list(self._signature.parameters.values())
        return _struct_of(self._name, parameters, self._hints, msgspec.field(default_factory=object))

    def send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments as they travel.

        Raises :class:`TypeError` as a wrong call of a plain function does, and :class:`InvalidInput` for values
        that cannot travel.
        """
        bound = self._bind(args, kwargs)
        try:
            return self._encode(bound)
        except NOT_ENCODED:
            raise InvalidInput(errors=list(self._not_encoded(bound))) from None

    def receive(self, data: bytes) -> dict[str, Any]:
        """Arguments as the callee sees them, without those that were left out. Raises :class:`InvalidInput`."""
        return self._filled(self._arguments.decode, data)

    def _filled(self, decode: Callable[[bytes], Any], data: bytes) -> dict[str, Any]:
        try:
            values = decode(data)
        except msgspec.ValidationError as error:
            raise InvalidInput(errors=_field_errors(error)) from error
        return {name: value for name in self.names if (value := getattr(values, name)) is not _LEFT_OUT}

    def result(self, data: bytes) -> Any:
        """The result that came over a wire, in MessagePack. Raises what msgspec and Pydantic do."""
        return self._result.decode(data)

    def over(self, wire: Wire) -> tuple[Callable[[bytes], dict[str, Any]], Callable[[Any], bytes]]:
        """What takes arguments off a wire, and what puts the result on it: both raise what :meth:`receive` and
        :meth:`copy_result` do, and the first :class:`MalformedBody` for what is not of the wire's format."""
        arguments = wire.decoder(self.arguments_type)
        result = wire.decoder(self.result_type)

        def take(data: bytes) -> dict[str, Any]:
            try:
                return self._filled(arguments, data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise MalformedBody(f"The arguments are not {wire.name}: {error}.") from None

        def give(value: Any) -> bytes:
            encoded = wire.encode(value.value if isinstance(value, Reply) else value)
            result(encoded)  # what was not declared does not leave
            return encoded

        return take, give

    def copy_result(self, value: Any) -> Any:
        """The result as the caller sees it. Raises what msgspec does when it is not what was declared."""
        return self._result.decode(self._encode(value.value if isinstance(value, Reply) else value))

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = kwargs
        if args:
            bound = dict(zip(self.names, args, strict=False))
            if len(args) > len(self.names) or bound.keys() & kwargs.keys():
                self._signature.bind(*args, **kwargs)  # raises with Python's own words
            bound.update(kwargs)
        if not self._required <= bound.keys() <= self._known:
            if filled := bound.keys() & self._injected:
                names = ", ".join(sorted(filled))
                raise TypeError(f"{names}: filled by the framework, not by the caller of {self._where}")
            self._signature.bind(**bound)
        return bound

    def _not_encoded(self, bound: Mapping[str, Any]) -> list[FieldError]:
        found: list[FieldError] = []
        for name, value in bound.items():
            try:
                self._encode(value)
            except NOT_ENCODED as error:
                found.append(FieldError("argument", name, f"cannot travel between services: {error}"))
        return found

    def _refuse_http_types(self, arguments: Mapping[str, Any], result: Any) -> None:
        for name, hint in arguments.items():
            if any(part is Upload for part in parts(hint)):
                raise self._wrong(f"its parameter {name!r} is an Upload, which only a form carries.")
        for hint in members(result):
            bare = get_origin(strip_annotated(hint)) or strip_annotated(hint)
            if isinstance(bare, type) and issubclass(bare, Response):
                raise self._wrong(f"it answers with a {bare.__name__}, which only HTTP carries.")

    def _wrong(self, why: str) -> DeclarationError:
        return DeclarationError(f"it cannot be called from other services: {why}", where=self._where)


def _field_errors(error: msgspec.ValidationError) -> list[FieldError]:
    message, _, at = str(error).partition(" - at `$")
    path = at.strip("`.")
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return [FieldError("argument", path or "?", message)]
    # Pydantic lists every wrong field of its model, with the path inside it.
    return [
        FieldError("argument", ".".join([path, *map(str, one["loc"])]), one["msg"])
        for one in details(include_url=False)
    ]


def decode_hook(type_: Any, value: Any) -> Any:
    """Types that msgspec does not know: Pydantic models validate themselves."""
    if hasattr(type_, "__pydantic_validator__"):
        return type_.model_validate(value)
    raise NotImplementedError(f"a {type_.__name__} cannot travel between services")


def _struct_of(
    name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any], left_out: Any = _LEFT_OUT
) -> type[msgspec.Struct]:
    """The arguments as one Struct; those with a default may be left out, so that the callee's default holds."""
    fields: list[Any] = []
    for parameter in parameters:
        field = (parameter.name, hints.get(parameter.name, Any))
        fields.append(field if parameter.default is parameter.empty else (*field, left_out))
    return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True)


def _unwrapped(result: Any) -> Any:
    """The value's type of ``Reply[T]``: status and headers are the HTTP face's business, not the caller's."""
    bare = strip_annotated(result)
    if bare is Reply:
        return Any
    return get_args(bare)[0] if get_origin(bare) is Reply else result
