"""Where each parameter of a handler comes from: decided once, at start, from its type and place.

1. A marker in ``Annotated`` decides: ``Path``, ``Query``, ``Header``, ``Cookie``, ``Body``, ``Form``, ``File``.
2. A name in the path template is a path parameter.
3. Types that the framework or the container provides are injected.
4. A model, mapping, or list of them is the JSON body on methods that have one.
5. Scalars, and lists of scalars, come from the query string.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from tenfold._core.container import dependency_of, describe, hints_of
from tenfold.errors import DeclarationError
from tenfold.http.types import (
    is_model,
    is_scalar,
    is_sequence_of_scalars,
    present,
    strip_annotated,
    without_none,
)

Place = Literal["path", "query", "header", "cookie", "body", "form", "file"]


@dataclass(frozen=True, slots=True)
class Marker:
    """Base of the markers. ``alias`` is the name on the wire where it differs from the parameter's."""

    alias: str = ""
    description: str = ""


class Path(Marker):
    """A segment of the path."""


class Query(Marker):
    """The query string. On a model: one query parameter per field."""


class Header(Marker):
    """A request header; ``_`` in the parameter's name stands for ``-``."""


class Cookie(Marker):
    """A cookie."""


class Body(Marker):
    """The JSON body, whole. With several, each is one member of the body's object."""


class Form(Marker):
    """A field of an urlencoded or multipart form. On a model: one form field per member."""


class File(Marker):
    """An uploaded file of a multipart form."""


PLACES: dict[type[Marker], Place] = {
    Path: "path",
    Query: "query",
    Header: "header",
    Cookie: "cookie",
    Body: "body",
    Form: "form",
    File: "file",
}

BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter that the request fills."""

    name: str
    """Name in the handler's signature."""
    place: Place
    wire: str
    """Name in the request."""
    type: Any
    """With ``Annotated`` constraints, without the marker's meaning."""
    default: Any = inspect.Parameter.empty
    spread: bool = False
    """A model whose fields are taken one by one (query, form, header, cookie)."""
    description: str = ""
    many: bool = False
    """A list of scalars: the name may repeat."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def marker_of(hint: Any) -> Marker | None:
    """The marker inside an ``Annotated`` hint; a marker class counts as its plain instance."""
    if get_origin(hint) is not Annotated:
        return None
    for extra in get_args(hint)[1:]:
        if isinstance(extra, Marker):
            return extra
        if isinstance(extra, type) and issubclass(extra, Marker):
            return extra()
    return None


def classify(
    fn: Callable[..., Any], *, method: str, path_names: tuple[str, ...], injected: frozenset[str]
) -> list[Param]:
    """Every parameter of ``fn`` that the request fills, in the order of the signature.

    ``injected`` names the parameters that are filled otherwise. Raises DeclarationError for a parameter that
    no rule can place, and for names in the path that the function does not take.
    """
    hints = hints_of(fn)
    found: list[Param] = []
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeclarationError(
                f"its parameter {str(parameter)!r} takes anything, so nothing can be read for it.",
                where=describe(fn),
                remedy="Name the parameters one by one.",
            )
        if name not in injected:
            hint = hints.get(name, str if name in path_names else inspect.Parameter.empty)
            found.append(_place(fn, name, hint, parameter.default, method, path_names))
    _check_path(fn, found, path_names)
    return found


def injectable(hint: Any, path_names: tuple[str, ...], name: str) -> bool:
    """Whether the container may fill the parameter: no marker, not in the path."""
    return marker_of(hint) is None and (name not in path_names or dependency_of(hint) is not None)


def _place(
    fn: Callable[..., Any], name: str, hint: Any, default: Any, method: str, path_names: tuple[str, ...]
) -> Param:
    if hint is inspect.Parameter.empty:
        raise DeclarationError(
            f"its parameter {name!r} has no type.", where=describe(fn), remedy="Annotate it."
        )
    marker = marker_of(hint)
    place = PLACES[type(marker)] if marker else _default_place(fn, name, hint, method, path_names)
    bare = strip_annotated(hint)
    model = is_model(bare)
    wire = (marker.alias if marker else "") or (name.replace("_", "-") if place == "header" else name)
    return Param(
        name=name,
        place=place,
        wire=wire.lower() if place == "header" else wire,
        type=hint if model or place in ("body", "file") else present(hint),
        default=default,
        spread=model and place in ("query", "form", "header", "cookie"),
        description=marker.description if marker else "",
        many=place in ("query", "form", "header", "file")
        and (is_sequence_of_scalars(bare) or _has_files(bare)),
    )


def _has_files(hint: Any) -> bool:
    """``list[Upload]``: the name of the field may repeat."""
    from tenfold.http.forms import Upload

    return any(get_origin(each) is list and get_args(each) == (Upload,) for each in without_none(hint))


def _default_place(
    fn: Callable[..., Any], name: str, hint: Any, method: str, path_names: tuple[str, ...]
) -> Place:
    from tenfold.http.forms import Upload

    bare = strip_annotated(hint)
    if name in path_names:
        return "path"
    if bare is Upload or (get_origin(bare) is list and get_args(bare) == (Upload,)):
        return "file"
    if is_scalar(bare) or is_sequence_of_scalars(bare):
        return "query"
    if method in BODY_METHODS:
        return "body"
    raise DeclarationError(
        f"its parameter {name!r} would be the body, but {method} has none.",
        where=describe(fn),
        remedy="Mark it Annotated[…, Query()] to take its fields from the query string, or provide() its type.",
    )


def _check_path(fn: Callable[..., Any], found: list[Param], path_names: tuple[str, ...]) -> None:
    wired = {p.wire for p in found if p.place == "path"}
    for missing in set(path_names) - wired:
        raise DeclarationError(
            f"its path has {{{missing}}}, but the function has no parameter {missing!r}.", where=describe(fn)
        )
    for extra in wired - set(path_names):
        raise DeclarationError(
            f"its parameter {extra!r} is marked Path(), but the path has no {{{extra}}}.", where=describe(fn)
        )
