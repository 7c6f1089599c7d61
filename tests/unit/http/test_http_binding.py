"""Arguments of handlers come from where their types and markers say."""
# ruff: noqa: A002 - parameters are named as on the wire

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from http_calls import app_of, call, operation
from msgspec import Meta

from tenfold._core.container import Container, Depends
from tenfold._core.context import Context, current
from tenfold.errors import DeclarationError
from tenfold.http.forms import Upload
from tenfold.http.params import Body, Cookie, Form, Header, Query
from tenfold.http.request import Request


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    product: str
    quantity: Annotated[int, Meta(ge=1)]


class Order(msgspec.Struct):
    customer: str
    lines: list[Line] = []


@dataclass
class DataOrder:
    customer: str
    lines: list[Line]


@attrs.define
class AttrsOrder:
    customer: str
    lines: list[Line]


class DictOrder(TypedDict):
    customer: str
    lines: list[Line]


class ModelLine(pydantic.BaseModel):
    product: str
    quantity: int = pydantic.Field(ge=1)


class ModelOrder(pydantic.BaseModel):
    customer: str
    lines: list[ModelLine]


class Page(msgspec.Struct):
    page: Annotated[int, Meta(ge=1)] = 1
    size: Annotated[int, Meta(ge=1, le=100)] = 20
    tag: list[str] = []


class ModelPage(pydantic.BaseModel):
    page: int = 1
    tag: list[str] = []


def test_path_and_query_values_arrive_in_their_types() -> None:
    async def find(
        id: int,
        when: date,
        key: UUID,
        colour: Colour,
        q: str = "-",
        limit: int | None = None,
        exact: bool = False,
    ) -> list[str]:
        return [repr(v) for v in (id, when, colour, q, limit, exact, key.hex[:2])]

    app = app_of(operation(find, path="/f/{id}/{when}/{key}"))
    target = (
        "/f/7/2026-01-31/a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11?colour=red&limit=3&exact=true&q=a%20b%2Bc+d"
    )
    assert call(app, "GET", target).json == [
        "7", "datetime.date(2026, 1, 31)", "<Colour.RED: 'red'>", "'a b+c d'", "3", "True", "'a0'",
    ]  # fmt: skip


def test_a_repeated_query_parameter_fills_a_list() -> None:
    async def find(id: list[int], tag: set[str] = set()) -> list[int]:  # noqa: B006 - never changed
        return [*id, len(tag)]

    app = app_of(operation(find))
    assert call(app, "GET", "/?id=3&id=4&tag=x").json == [3, 4, 1]
    assert call(app, "GET", "/?id=3").json == [3, 0]


@pytest.mark.parametrize("type_", [Order, DataOrder, AttrsOrder, DictOrder, ModelOrder])
def test_a_model_of_any_library_is_the_json_body(type_: Any) -> None:
    async def place(order: Any) -> Any:
        assert type(order) is (dict if type_ is DictOrder else type_)
        return order

    place.__annotations__["order"] = type_
    app = app_of(operation(place, "POST"))
    good = {"customer": "Ann", "lines": [{"product": "x", "quantity": 2}]}
    assert call(app, "POST", "/", good).json == good
    bad = {"customer": 1, "lines": [{"product": "x", "quantity": 0, "colour": "red"}]}
    answer = call(app, "POST", "/", bad)
    assert answer.status == 422
    assert {path for _, path, _ in answer.errors} == {"customer", "lines[0].quantity", "lines[0].colour"}


def test_lists_of_models_and_mappings_are_bodies_too() -> None:
    async def lines(lines: list[Line]) -> int:
        return sum(line.quantity for line in lines)

    async def counts(counts: dict[str, int]) -> int:
        return sum(counts.values())

    app = app_of(operation(lines, "POST", "/lines"), operation(counts, "PUT", "/counts"))
    assert call(app, "POST", "/lines", [{"product": "a", "quantity": 2}] * 2).json == 4
    assert call(app, "PUT", "/counts", {"a": 1, "b": 2}).json == 3


def test_several_bodies_are_members_of_one_object() -> None:
    async def place(order: Order, note: Annotated[str, Body()] = "none") -> str:
        return order.customer + note

    app = app_of(operation(place, "POST"))
    assert call(app, "POST", "/", {"order": {"customer": "Ann"}, "note": "!"}).json == "Ann!"
    assert call(app, "POST", "/", {"order": {"customer": "Ann"}}).json == "Annnone"


def test_a_body_with_a_default_may_be_left_out() -> None:
    async def place(order: Order | None = None) -> str:
        return "none" if order is None else order.customer

    app = app_of(operation(place, "POST"))
    assert call(app, "POST", "/").json == "none"
    assert call(app, "POST", "/", {"customer": "Ann"}).json == "Ann"
    assert call(app, "POST", "/", {"customer": 1}).status == 422


def test_headers_and_cookies_are_named_by_markers() -> None:
    async def read(
        user_agent: Annotated[str, Header()],
        retries: Annotated[int, Header("X-Retries")] = 0,
        session: Annotated[str | None, Cookie()] = None,
    ) -> list[Any]:
        return [user_agent, retries, session]

    app = app_of(operation(read))
    headers = [(b"user-agent", b"curl"), (b"x-retries", b"2"), (b"cookie", b'a=b; session="x y"')]
    assert call(app, "GET", "/", headers=headers).json == ["curl", 2, "x y"]
    assert call(app, "GET", "/").errors == [("header", "user-agent", "is required.")]


@pytest.mark.parametrize("type_", [Page, ModelPage])
def test_a_model_marked_query_is_spread_over_the_query_string(type_: Any) -> None:
    async def listing(page: Any) -> list[Any]:
        return [page.page, page.tag]

    listing.__annotations__["page"] = Annotated[type_, Query()]
    app = app_of(operation(listing))
    assert call(app, "GET", "/?page=3&tag=a&tag=b&utm_source=x").json == [3, ["a", "b"]]
    assert call(app, "GET", "/?tag=a").json == [1, ["a"]]
    assert call(app, "GET", "/").json == [1, []]
    assert [e[:2] for e in call(app, "GET", "/?page=x").errors] == [("query", "page")]


def test_form_fields_and_files_come_from_one_form() -> None:
    async def upload(
        title: Annotated[str, Form()], picture: Upload, count: Annotated[int, Form()] = 1
    ) -> Any:
        return [title, count, picture.filename, (await picture.read()).decode()]

    app = app_of(operation(upload, "POST"))
    body = (
        b'--b\r\ncontent-disposition: form-data; name="title"\r\n\r\nA cat\r\n'
        b'--b\r\ncontent-disposition: form-data; name="picture"; filename="cat.txt"\r\n\r\nmeow\r\n--b--\r\n'
    )
    kind = [(b"content-type", b"multipart/form-data; boundary=b")]
    assert call(app, "POST", "/", body, kind).json == ["A cat", 1, "cat.txt", "meow"]
    encoded = [(b"content-type", b"application/x-www-form-urlencoded")]
    answer = call(app, "POST", "/", b"title=x&count=many", encoded)
    assert answer.errors == [("form", "count", "must be a whole number.")]
    answer = call(app, "POST", "/", b"title=x", encoded)
    assert answer.errors == [("form", "picture", "is required: send a file.")]


def test_an_operation_may_take_nothing_but_a_file() -> None:
    async def upload(picture: Upload) -> str:
        return picture.filename

    app = app_of(operation(upload, "POST"))
    body = (
        b'--b\r\ncontent-disposition: form-data; name="picture"; filename="cat.txt"\r\n\r\nmeow\r\n--b--\r\n'
    )
    kind = [(b"content-type", b"multipart/form-data; boundary=b")]
    assert call(app, "POST", "/", body, kind).json == "cat.txt"


CLOSED: list[str] = []


async def connection(request: Request) -> Any:
    yield f"connected for {request.path}"
    CLOSED.append(request.path)


def test_request_context_and_dependencies_are_injected() -> None:
    async def read(
        request: Request, context: Context, connection: Annotated[str, Depends(connection)]
    ) -> list[Any]:
        assert current() is context
        assert not CLOSED
        return [request.path_params, context.operation, connection]

    app = app_of(operation(read, path="/x"), container=Container())
    assert call(app, "GET", "/x").json == [{}, "shop.read", "connected for /x"]
    assert CLOSED == ["/x"]


def test_a_plain_function_runs_in_a_thread_with_the_context_kept() -> None:
    import threading

    def read(id: int) -> list[Any]:
        return [id, current().operation, threading.current_thread() is threading.main_thread()]

    assert call(app_of(operation(read, path="/{id}")), "GET", "/4").json == [4, "shop.read", False]


def test_unknown_fields_may_be_ignored_by_policy() -> None:
    async def place(order: Order) -> str:
        return order.customer

    app = app_of(operation(place, "POST", unknown_fields="ignore"))
    assert call(app, "POST", "/", {"customer": "Ann", "more": 1}).json == "Ann"


def _takes_anything(*args: int) -> None: ...
def _untyped(x) -> None: ...  # type: ignore[no-untyped-def]
def _model_on_get(order: Order) -> None: ...
def _fine() -> None: ...
def _body_and_form(order: Order, title: Annotated[str, Form()]) -> None: ...


@pytest.mark.parametrize(
    ("fn", "method", "path", "sentence"),
    [
        (_takes_anything, "GET", "/", "takes anything"),
        (_untyped, "GET", "/", "has no type"),
        (_model_on_get, "GET", "/", "would be the body"),
        (_fine, "GET", "/{id}", "no parameter 'id'"),
        (_fine, "GET", "/a{id}", "A placeholder is a whole segment"),
        (_fine, "GET", "/{id}/{id}", "twice"),
        (_fine, "GET", "/{rest:path}/x", "nothing can follow"),
        (_body_and_form, "POST", "/", "one or the other"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_with_a_sentence(
    fn: Any, method: str, path: str, sentence: str
) -> None:
    with pytest.raises(DeclarationError, match=sentence):
        app_of(operation(fn, method, path))


def test_an_operation_without_a_policy_does_not_start() -> None:
    from tenfold.http.operation import UNSET

    with pytest.raises(DeclarationError, match="does not say who may use it"):
        app_of(operation(_fine, auth=UNSET))


def test_literals_are_chosen_from() -> None:
    async def read(order: Literal["asc", "desc"] = "asc") -> str:
        return order

    app = app_of(operation(read))
    assert call(app, "GET", "/?order=desc").json == "desc"
    assert call(app, "GET", "/?order=up").errors == [("query", "order", "must be one of asc, desc.")]
