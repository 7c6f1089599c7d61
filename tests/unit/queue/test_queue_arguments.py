"""Arguments are checked where they are given and where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel

from tenfold.errors import DeclarationError, WrongArguments
from tenfold.queue.arguments import Signature


class Line(msgspec.Struct):
    product: int
    quantity: Annotated[int, msgspec.Meta(ge=1)]


@dataclass
class Address:
    city: str


class Customer(BaseModel):
    name: str
    age: int


async def handler(
    order_id: int, lines: list[Line], *, note: str = "", at: datetime | None = None
) -> None: ...


signature = Signature(handler, "orders.handler")


def test_a_call_comes_back_as_keyword_arguments() -> None:
    at = datetime.fromisoformat("2026-03-01T10:00:00+01:00")
    text = signature.encode((7,), {"lines": [Line(1, 2)], "at": at})
    assert signature.decode(text) == {"order_id": 7, "lines": [Line(1, 2)], "at": at}


def test_the_row_holds_readable_json_without_untouched_defaults() -> None:
    assert signature.encode((7, []), {}) == '{"order_id":7,"lines":[]}'


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {"lines": []}, "order_id"),
        ((1, []), {"order_id": 2}, "given twice"),
        ((1, [], "x"), {}, "3 positional"),
        ((1, []), {"colour": "red"}, "colour"),
        (("one", []), {}, r"\$\.order_id"),
        ((1, [Line(1, 0)]), {}, r"\$\.lines\[0\]\.quantity"),
        ((1, []), {"note": 5}, r"\$\.note"),
        ((1, []), {"note": object()}, "object"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_with_a_sentence(
    args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(WrongArguments, match=says) as caught:
        signature.encode(args, kwargs)
    assert "orders.handler" in str(caught.value)


@pytest.mark.parametrize("payload", ['{"order_id":1}', '{"order_id":1,"lines":[],"gone":1}', "[]", "{"])
def test_a_payload_of_other_code_does_not_decode(payload: str) -> None:
    with pytest.raises(WrongArguments):
        signature.decode(payload)


def test_all_kinds_of_models_travel() -> None:
    async def takes(a: Address, c: Customer, d: Decimal, u: UUID, b: bytes) -> None: ...

    values = {
        "a": Address("Bonn"),
        "c": Customer(name="Ada", age=36),
        "d": Decimal("1.10"),
        "u": UUID(int=5),
        "b": b"\x00\xff",
    }
    models = Signature(takes, "t")
    assert models.decode(models.encode((), values)) == values


def test_a_model_that_its_own_rules_refuse_is_wrong() -> None:
    async def takes(c: Customer) -> None: ...

    with pytest.raises(WrongArguments):
        Signature(takes, "t").decode('{"c":{"name":"Ada","age":"old"}}')


def test_parameters_without_a_name_of_their_own_are_refused_at_declaration() -> None:
    async def takes(*args: int) -> None: ...

    with pytest.raises(DeclarationError, match=r"\*args"):
        Signature(takes, "t")


def test_a_type_that_cannot_travel_is_refused_at_declaration() -> None:
    async def takes(x: int | str | list[int] | set[int]) -> None: ...

    with pytest.raises(DeclarationError):
        Signature(takes, "t")


def test_the_digest_does_not_depend_on_the_order_of_arguments() -> None:
    assert signature.digest('{"a":1,"b":{"x":1,"y":2}}') == signature.digest('{"b":{"y":2,"x":1},"a":1}')
    assert signature.digest('{"a":1}') != signature.digest('{"a":2}')
