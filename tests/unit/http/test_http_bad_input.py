"""Whatever a client sends, it gets a 4xx problem that says what is wrong and where, never a 5xx."""
# ruff: noqa: A002 - parameters are named as on the wire

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from http_calls import JSON, Answer, Client, app_of, call, operation, run, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from tenfold._core.sections import HttpSettings
from tenfold.http.params import Cookie, Header, Query


class Line(msgspec.Struct):
    product: Annotated[str, Meta(min_length=1, max_length=20)]
    quantity: Annotated[int, Meta(ge=1, le=1000)]


class Cash(msgspec.Struct, tag="cash"):
    amount: int


class Card(msgspec.Struct, tag="card"):
    number: Annotated[str, Meta(pattern="^[0-9]+$")]


class Order(msgspec.Struct):
    customer: str
    lines: list[Line]
    paid: Cash | Card | None = None
    at: datetime | None = None
    weight: float = 0.0
    extra: dict[str, Any] = {}


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Even(msgspec.Struct):
    a: int
    b: int

    def __post_init__(self) -> None:
        if (self.a + self.b) % 2:
            raise ValueError("A and b must add up to an even number")


async def place(order: Order) -> Order:
    return order


async def plant(tree: Tree) -> Tree:
    return tree


async def even(even: Even) -> Even:
    return even


async def find(
    id: int,
    q: str = "",
    weight: float = 0.0,
    x_count: Annotated[int, Header()] = 0,
    session: Annotated[str, Cookie()] = "",
) -> list[Any]:
    return [id, q, weight]


APP = app_of(
    operation(place, "POST", "/orders"),
    operation(plant, "POST", "/trees"),
    operation(even, "POST", "/even"),
    operation(find, "GET", "/find/{id}"),
    settings=HttpSettings(body_max_bytes=5_000_000, query_max_params=50),
)
GOOD = {"customer": "Ann", "lines": [{"product": "x", "quantity": 2}]}


def post(body: bytes, path: str = "/orders", kind: bytes = b"application/json") -> Answer:
    return call(APP, "POST", path, body, [(b"content-type", kind)])


def problem(answer: Answer, status: int) -> str:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    detail: str = answer.json["detail"]
    return detail


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "body is missing"),
        (b'{"customer": "Ann",\n  nope}', 400, "line 2, column 3"),
        (b'{"customer": "Ann"', 400, "ends too early"),
        (b'{"customer": "Ann"} trailing', 400, "trailing characters at line 1, column 21"),
        (b'{"customer": "\xff"}', 400, "not valid UTF-8: byte 14 (0xff)"),
        (b"\xef\xbb\xbf{}", 400, "not valid JSON"),
        (b'{"weight": NaN}', 400, "not valid JSON"),
        (b'{"weight": Infinity}', 400, "not valid JSON"),
        (b'{"weight": 1e999}', 400, "out of range"),
        (b"[" * 100_000, 400, "100,000 levels deep"),
        (b'{"customer":' * 40 + b"1" + b"}" * 40, 400, "40 levels deep"),
        (b'{"extra": {"a": ' + b"[" * 2000 + b"]" * 2000 + b"}}", 400, "levels deep"),
        (b'{"customer": "\\ud800"}', 400, "not valid JSON"),
        (b"null", 422, "must be an object, not null"),
        (b"[]", 422, "must be an object, not a list"),
        (b'"text"', 422, "must be an object, not text"),
    ],
)
def test_a_body_that_is_not_the_json_wanted_is_explained(body: bytes, status: int, words: str) -> None:
    assert words in problem(post(body), status)


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert post(msgspec.json.encode({**GOOD, "customer": '[[{"' * 50})).status == 200


def test_all_wrong_fields_are_reported_at_once() -> None:
    body = {
        "custmer": "Ann",
        "lines": [{"product": "", "quantity": 0}, {"product": 3, "quantity": "2"}, 7],
        "paid": {"type": "card", "number": "x"},
        "at": "yesterday",
        "weight": "heavy",
    }
    answer = call(APP, "POST", "/orders", body)
    assert sorted(answer.errors) == sorted(
        [
            ("body", "at", "must be a time such as 2026-01-31T12:00:00Z."),
            ("body", "customer", "is required."),
            ("body", "custmer", "is not a known field. Did you mean 'customer'?"),
            ("body", "lines[0].product", "must have at least 1 character, not 0."),
            ("body", "lines[0].quantity", "must be at least 1."),
            ("body", "lines[1].product", "must be text, not a number."),
            ("body", "lines[1].quantity", "must be a whole number, not text."),
            ("body", "lines[2]", "must be an object, not a number."),
            ("body", "paid.number", "must match the pattern ^[0-9]+$"),
            ("body", "weight", "must be a number, not text."),
        ]
    )
    assert problem(answer, 422).endswith("(and 9 more)")


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"lines": [{"product": "x", "quantity": 2**63}]}, "lines[0].quantity", "at most 1,000"),
        ({"paid": {"type": "cash", "amount": 2**63}}, "paid.amount", "64 bits"),
        ({"paid": {"type": "cash", "amount": -(2**63) - 1}}, "paid.amount", "64 bits"),
        ({"paid": {"type": "cash", "amount": 1, "more": 1}}, "paid.more", "not a known field"),
        ({"paid": {"type": "gold"}}, "paid", "must be"),
        ({"customer": "a\x00b"}, "customer", "NUL"),
        ({"extra": {"a": ["\x00"]}}, "extra.a[0]", "NUL"),
        ({"lines": None}, "lines", "must be a list, not null"),
        (
            {"lines": [{"product": "x" * 21, "quantity": 1}]},
            "lines[0].product",
            "at most 20 characters, not 21",
        ),
        ({"lines": [{"product": "x", "quantity": 1.5}]}, "lines[0].quantity", "whole number"),
        ({"lines": [{"product": "x", "quantity": True}]}, "lines[0].quantity", "whole number, not true"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(change: dict[str, Any], path: str, words: str) -> None:
    answer = call(APP, "POST", "/orders", {**GOOD, **change})
    assert answer.status == 422, answer.body
    assert [e[1] for e in answer.errors] == [path]
    assert words in answer.errors[0][2]


def test_fields_of_a_type_that_contains_itself_are_checked_too() -> None:
    assert call(APP, "POST", "/trees", {"name": "a", "children": [{"name": "b"}]}).status == 200
    answer = call(APP, "POST", "/trees", {"name": "a", "children": [{"name": "b", "nam": "c"}]})
    assert answer.errors == [("body", "children[0].nam", "is not a known field. Did you mean 'name'?")]


def test_what_the_class_itself_refuses_is_reported() -> None:
    answer = call(APP, "POST", "/even", {"a": 1, "b": 2})
    assert answer.errors == [("body", "", "is not valid: a and b must add up to an even number.")]


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/x-www-form-urlencoded", b"", b"text/json", b"json"]
)
def test_another_content_type_is_415(kind: bytes) -> None:
    assert "application/json" in problem(post(msgspec.json.encode(GOOD), kind=kind), 415)


@pytest.mark.parametrize(
    "kind", [b"application/json; charset=utf-8", b"Application/JSON", b"application/merge-patch+json"]
)
def test_json_by_another_name_is_read(kind: bytes) -> None:
    assert post(msgspec.json.encode(GOOD), kind=kind).status == 200


def test_json_in_another_charset_is_415() -> None:
    assert "utf-16" in problem(post(b"{}", kind=b"application/json; charset=utf-16"), 415)


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("/find/x", 422, "path id: must be a whole number."),
        ("/find/99999999999999999999", 422, "64 bits"),
        ("/find/1?q=a&q=b", 422, "query q: was given more than once"),
        ("/find/1?weight=nan", 422, "finite"),
        ("/find/1?weight=inf", 422, "finite"),
        ("/find/1?weight=1e999", 422, "must be a number"),
        ("/find/1?weight=", 422, "must be a number"),
        ("/find/%ff", 400, "The path is not valid UTF-8"),
        ("/find/%00", 400, "NUL"),
        ("/find/1?q=%ff", 400, "The query string is not valid UTF-8"),
        ("/find/1?q=a%00", 400, "NUL"),
        ("/find/1?%ff=1", 400, "not valid UTF-8"),
        ("/find/1?" + "&".join(f"a{i}=1" for i in range(51)), 400, "more than 50 parameters"),
        ("/find/1?q=%20&" + "&".join(f"a{i}=1" for i in range(51)), 400, "more than 50 parameters"),
        ("/find/1?q=" + "x" * 9000, 414, "8,192"),
        ("/find/" + "1" * 9000, 414, "8,192"),
        ("/nowhere", 404, "GET /nowhere is not served here"),
        ("/find//", 404, "not served"),
        ("/find/a%2Fb", 422, "path id"),
    ],
)
def test_a_wrong_address_is_explained(target: str, status: int, words: str) -> None:
    assert words in problem(call(APP, "GET", target), status)


@pytest.mark.parametrize(
    ("header", "status", "words"),
    [
        ((b"x-count", b"many"), 422, "header x-count: must be a whole number."),
        ((b"x-count", b"\xff"), 400, "The header x-count is not valid UTF-8"),
        ((b"cookie", b"session=\xff"), 400, "The Cookie header is not valid UTF-8"),
        ((b"x-big", b"x" * 20_000), 431, "at most 16,384"),
    ],
)
def test_a_wrong_header_is_explained(header: tuple[bytes, bytes], status: int, words: str) -> None:
    assert words in problem(call(APP, "GET", "/find/1", headers=[header]), status)


def test_errors_of_all_parts_come_together() -> None:
    answer = call(APP, "GET", "/find/x?weight=y", headers=[(b"x-count", b"z")])
    assert [e[:2] for e in answer.errors] == [("path", "id"), ("query", "weight"), ("header", "x-count")]


def test_a_wrong_method_is_405_with_what_is_allowed() -> None:
    answer = call(APP, "DELETE", "/orders")
    assert "accepts OPTIONS, POST" in problem(answer, 405)
    assert answer.headers["allow"] == "OPTIONS, POST"
    assert call(APP, "PUT", "/find/1").headers["allow"] == "GET, HEAD, OPTIONS"
    assert call(APP, "BREW", "/find/1").status == 405


@pytest.mark.parametrize("announced", [b"101", b"9" * 5000])
def test_a_body_that_announces_to_be_too_large_is_not_waited_for(announced: bytes) -> None:
    async def ask() -> list[dict[str, Any]]:
        client = Client([b"[", b"never sent"])
        scope = scope_of("POST", "/", [JSON, (b"content-length", announced)])
        app = app_of(operation(place, "POST", body_max_bytes=100))
        async with asyncio.timeout(5):
            await app(scope, client.receive, client.send)
        assert client.pieces  # the rest was left where it was
        return client.sent

    assert Answer(run(ask())).status == 413


def test_a_compressed_body_is_refused_by_name() -> None:
    whole = msgspec.json.encode(GOOD)
    answer = call(APP, "POST", "/orders", whole, [JSON, (b"content-encoding", b"GZip")])
    assert "'gzip'" in problem(answer, 415)
    assert call(APP, "POST", "/orders", whole, [JSON, (b"content-encoding", b"identity")]).status == 200


def test_a_body_that_is_too_large_is_413_whichever_way_it_comes() -> None:
    app = app_of(operation(place, "POST", body_max_bytes=100))
    assert "larger than 100 bytes" in problem(call(app, "POST", "/", b" " * 101, [JSON]), 413)
    pieces = [b" " * 40] * 3
    assert problem(call(app, "POST", "/", headers=[JSON], pieces=pieces), 413)


def test_a_body_in_pieces_is_read_whole() -> None:
    whole = msgspec.json.encode(GOOD)
    pieces = [whole[:5], b"", whole[5:20], whole[20:]]
    assert call(APP, "POST", "/orders", headers=[JSON], pieces=pieces).status == 200


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["customer", "lines", "paid", "type", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES)
def test_no_json_value_makes_a_5xx(value: Any) -> None:
    try:
        body = msgspec.json.encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError, OverflowError):
        return
    for path in ("/orders", "/trees", "/even"):
        answer = post(body, path)
        assert answer.status in (200, 400, 422), answer.body
        if answer.status == 422:
            assert answer.json["errors"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_a_5xx(raw: bytes) -> None:
    assert post(raw).status in (200, 400, 422)
    assert call(APP, "GET", "/find/1?q=" + raw.decode("latin-1").replace("?", "")).status < 500
    assert call(APP, "GET", "/find/1", headers=[(b"x-count", raw), (b"cookie", raw)]).status < 500


class Counted(msgspec.Struct):
    count: int
    ratio: float = 0.0
    price: Decimal = Decimal(0)
    free: dict[str, Any] = {}
    level: Literal[1, 2] = 1
    counts: list[int | None] = []
    either: int | float = 0


async def count(counted: Counted) -> Counted:
    return counted


def test_a_whole_number_with_a_fraction_or_exponent_is_an_integer() -> None:
    app = app_of(operation(count, "POST"))
    sent = b'{"count":2.0,"level":2e0,"counts":[null,-1.0,1E2],"ratio":3.0,"either":4.0,"free":{"a":5.0},"price":1.10}'
    answer = call(app, "POST", "/", sent, [JSON])
    assert answer.json == {
        "count": 2, "level": 2, "counts": [None, -1, 100], "ratio": 3.0, "either": 4.0, "free": {"a": 5.0},
        "price": "1.10",
    }  # fmt: skip
    for name in (b'"ratio":3.0', b'"either":4.0', b'"a":5.0', b'"price":"1.10"'):
        assert name in answer.body


@pytest.mark.parametrize("number", [b"2.5", b"1e-1", b"1e19", b"1e300", b"9223372036854775808.0"])
def test_other_numbers_are_none(number: bytes) -> None:
    answer = call(
        app_of(operation(count, "POST")), "POST", "/", b'{"count":%s,"counts":[1.0]}' % number, [JSON]
    )
    assert (answer.status, [path for _, path, _ in answer.errors if answer.status == 422]) == (422, ["count"])


def test_integers_in_a_type_that_contains_itself_may_have_a_fraction() -> None:
    async def total(sum: Sum) -> int:
        return sum.value + sum.parts[0].value

    app = app_of(operation(total, "POST"))
    assert call(app, "POST", "/", b'{"value":1.0,"parts":[{"value":2.0}]}', [JSON]).json == 3


class Sum(msgspec.Struct):
    value: int
    parts: list[Sum] = []


@pytest.mark.parametrize("text", ["null", "NULL"])
def test_null_is_no_text_for_the_absent_value(text: str) -> None:
    async def read(
        x: int | None = None,
        ids: Annotated[list[int] | None, Query()] = None,
        level: Annotated[float | None, Header()] = None,
        mark: Annotated[int | None, Cookie(), Meta(ge=0)] = None,
        name: str | None = None,
    ) -> list[Any]:
        return [x, ids, level, mark, name]

    app = app_of(operation(read))
    assert call(app, "GET", "/").json == [None] * 5
    assert call(app, "GET", f"/?name={text}").json == [None] * 4 + [text]
    answer = call(
        app,
        "GET",
        f"/?x={text}&ids={text}",
        headers=[(b"level", text.encode()), (b"cookie", f"mark={text}".encode())],
    )
    assert [path for _, path, _ in answer.errors] == ["x", "ids[0]", "level", "mark"]


class Wanted(msgspec.Struct):
    price: Annotated[float, Meta(ge=0)] | None = None
    text: str | None = None


def test_null_is_no_text_for_the_absent_field_of_a_model_either() -> None:
    async def search(wanted: Annotated[Wanted, Query()]) -> Wanted:
        return wanted

    app = app_of(operation(search))
    assert call(app, "GET", "/?text=null").json == {"price": None, "text": "null"}
    assert call(app, "GET", "/?price=null").errors == [("query", "price", "must be a number.")]
