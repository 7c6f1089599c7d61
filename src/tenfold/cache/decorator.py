"""``@cache.cached``: a function compiled for its own signature, so that a hit costs one frame.

The generated function takes the very parameters of the decorated one, makes the key in an f-string, asks the
region and compares one time; everything else happens on a miss, in :meth:`Cache.load`. For

    @cache.cached(key="product:{product_id}")
    async def get_product(product_id: int) -> Product: ...

it is

    async def get_product(product_id):
        entry = cache.peek(f"product:{product_id}")
        if entry is not None and entry.fresh_until > cache.monotonic():
            stats.hits += 1
            return entry.value
        return await load(load_of(f"product:{product_id}", partial(fn, product_id), (), None))
"""

from __future__ import annotations

import functools
import inspect
import re
import string
from collections.abc import Awaitable, Callable, Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import Parameter
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

import msgspec

from tenfold._core.text import nearest
from tenfold.cache.load import Load, as_tags
from tenfold.cache.policy import Lifetime
from tenfold.errors import DeclarationError

if TYPE_CHECKING:
    from tenfold.cache.cache import Cache

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

Tags = Iterable[str] | Callable[..., Iterable[str]]
TagsFrom = Callable[[Any], Iterable[str]] | None

_FIELD = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SPEC = re.compile(r"[\w.,<>=^+\- #%]*")
_PLAIN = (str, int, float, bytes, type(None), UUID, date, time, timedelta, Decimal, Enum)


class CachedFunction(Protocol[P, R_co]):
    """An async function whose results are cached."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The cached value, or the function's, then cached."""
        ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Drop the value for these arguments."""
        ...

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function now, whatever is stored, and replace the value for these arguments."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the value for these arguments is stored."""
        ...


def cached_function(
    cache: Cache,
    fn: Callable[..., Awaitable[Any]],
    life: Lifetime,
    *,
    key: str | Callable[..., str] | None,
    tags: Tags,
    tags_from: TagsFrom,
    strict: bool = False,
) -> CachedFunction[..., Any]:
    """The decorated function; see :meth:`Cache.cached`."""
    where = f"{fn.__module__}.{fn.__qualname__}"
    if not inspect.iscoroutinefunction(fn):
        raise DeclarationError(
            "only async functions can be cached.",
            where=f"cache {cache.name}: {where}",
            remedy='Make it "async def".',
        )
    shape = _Shape(fn, f"cache {cache.name}: {where}")
    if not callable(key):
        _claim_form(cache, key or where, where)
    names: dict[str, Any] = {
        "_cache": cache,
        "_stats": cache.stats,
        "_fn": fn,
        "_key_fn": key,
        "_tags_fn": tags,
        "_partial": functools.partial,
    }

    def load_of(key: str, loader: Callable[[], Awaitable[Any]], tags: Any, plain: Any) -> Load:
        if plain is not None and not _is_plain(plain):
            raise DeclarationError(
                f"the arguments {plain!r} do not make a key by themselves.",
                where=shape.where,
                remedy='Give key=, for example key="product:{product.id}".',
            )
        return Load(key, loader, life, tags, tags_from, strict=strict)

    names |= {"_load": cache.load, "_load_of": load_of} | shape.defaults
    exec(_source(shape, key, tags, "strict_peek" if strict else "peek"), names)  # noqa: S102 - made of checked names, see _Shape
    call: Any = functools.wraps(fn)(names["call"])
    for name in ("key", "invalidate", "refresh"):
        setattr(call, name, names[name])
    return cast("CachedFunction[..., Any]", call)


def _claim_form(cache: Cache, form: str, owner: str) -> None:
    """Two functions with one form of key would be served each other's values."""
    if other := cache.key_makers.get(form):
        raise DeclarationError(
            f"the key {form!r} is made by {other} already.",
            where=f"cache {cache.name}: {owner}",
            remedy="Give each function a key= of its own.",
        )
    cache.key_makers[form] = owner


def _source(shape: _Shape, key: str | Callable[..., str] | None, tags: Tags, peek: str) -> str:
    """The four functions; ``peek`` is the cache's attribute that a read asks first. Names that begin with an underscore are ours; parameters may not clash."""
    if key is None:
        key_of, plain = shape.default_key(), f"({shape.values()})"
    elif isinstance(key, str):
        key_of, plain = shape.template(key), "None"
    else:
        key_of, plain = f"_key_fn({shape.call})", "None"
    if callable(tags):
        tags_of = f"_tags_fn({shape.call})"
    else:
        tags_of = "(" + "".join(f"{shape.template(tag)}, " for tag in as_tags(tags)) + ")"
    fn = f"_fn, {shape.call}" if shape.call else "_fn"
    load = f"_load_of({key_of}, _partial({fn}), {tags_of}, {plain})"
    return f"""
async def call({shape.parameters}):
    _entry = _cache.{peek}({key_of})
    if _entry is not None and _entry.fresh_until > _cache.monotonic():
        _stats.hits += 1
        return _entry.value
    return await _load({load})

def key({shape.parameters}):
    return {key_of}

async def invalidate({shape.parameters}):
    await _cache.delete({key_of})

async def refresh({shape.parameters}):
    return await _load({load}, now=True)
"""


class _Shape:
    """A signature as source text: its parameters, and a call that passes them on."""

    def __init__(self, fn: Callable[..., Any], where: str) -> None:
        self.where = where
        self.defaults: dict[str, Any] = {}
        self._parameters = tuple(inspect.signature(fn).parameters.values())
        self.parameters = ", ".join(self._declared())
        self.call = ", ".join(_passed(p) for p in self._parameters)

    def _declared(self) -> Iterable[str]:
        kinds = [p.kind for p in self._parameters]
        for index, p in enumerate(self._parameters):
            if p.name.startswith("_"):
                raise DeclarationError(
                    f"the parameter {p.name!r} begins with an underscore.",
                    where=self.where,
                    remedy="Parameters of cached functions are part of the key; name it.",
                )
            before = kinds[index - 1] if index else None
            if p.kind is Parameter.KEYWORD_ONLY and before not in (p.kind, Parameter.VAR_POSITIONAL):
                yield "*"
            if before is Parameter.POSITIONAL_ONLY and p.kind is not before:
                yield "/"
            yield self._parameter(p)
        if kinds and kinds[-1] is Parameter.POSITIONAL_ONLY:
            yield "/"

    def _parameter(self, p: Parameter) -> str:
        star = "*" if p.kind is Parameter.VAR_POSITIONAL else "**" if p.kind is Parameter.VAR_KEYWORD else ""
        if p.default is Parameter.empty:
            return star + p.name
        self.defaults[f"_default_{p.name}"] = p.default
        return f"{p.name}=_default_{p.name}"

    def values(self) -> str:
        """The arguments as the inside of a tuple display."""
        return "".join(f"{p.name}, " for p in self._parameters)

    def default_key(self) -> str:
        """Function name and the arguments' reprs: 5 and "5" differ, and so do 1 and True."""
        fields = [
            f"{{sorted({p.name}.items())!r}}" if p.kind is Parameter.VAR_KEYWORD else f"{{{p.name}!r}}"
            for p in self._parameters
        ]
        name = self.where.partition(": ")[2]
        return f'f"{_literal(name)}({", ".join(fields)})"'

    def template(self, template: str) -> str:
        """A template over the parameters as an f-string; raises DeclarationError for one that is not."""
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self._wrong(template, f"{error}.") from None
        return f'f"{"".join(_literal(text) + self._field(template, *field) for text, *field in parts)}"'

    def _field(self, template: str, field: str | None, spec: str | None, conversion: str | None) -> str:
        if field is None:
            return ""
        names = [p.name for p in self._parameters]
        root = field.partition(".")[0]
        if root not in names:
            known = f"The parameters are: {', '.join(names) or 'none'}.{nearest(root, names)}"
            raise self._wrong(template, f"{{{field}}} is no parameter.", known)
        if not _FIELD.fullmatch(field) or not _SPEC.fullmatch(spec or ""):
            raise self._wrong(
                template, f"{{{field}}} is more than a parameter or its attribute.", "Give a function."
            )
        return "{" + field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"

    def _wrong(self, template: str, what: str, remedy: str = "") -> DeclarationError:
        return DeclarationError(f"in the template {template!r}: {what}", where=self.where, remedy=remedy)


def _passed(p: Parameter) -> str:
    if p.kind is Parameter.VAR_POSITIONAL:
        return f"*{p.name}"
    if p.kind is Parameter.VAR_KEYWORD:
        return f"**{p.name}"
    return f"{p.name}={p.name}" if p.kind is Parameter.KEYWORD_ONLY else p.name


def _literal(text: str) -> str:
    """The text as the literal part of a double-quoted f-string."""
    return text.encode("unicode_escape").decode().replace('"', '\\"').replace("{", "{{").replace("}", "}}")


def _is_plain(value: Any) -> bool:
    """Whether equal reprs mean equal values: only then may a repr be a key."""
    if isinstance(value, tuple | list | frozenset):
        return all(map(_is_plain, cast("Any", value)))
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in cast("Any", value).items() for item in pair)
    if isinstance(value, msgspec.Struct):
        return all(_is_plain(getattr(value, name)) for name in value.__struct_fields__)
    return isinstance(value, _PLAIN)
