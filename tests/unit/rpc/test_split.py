"""A service in a process of its own answers as it did within: the same body of tests runs against both."""
# Without postponed annotations: operations are local to their making, and so are some of their types.

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncGenerator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
import sqlalchemy as sa

from support.split import Way, running
from tenfold import App, Authenticator, Context, Principal, Reader, Service, Tx, current, public, roles
from tenfold._core import context as contexts
from tenfold._core.context import Priority
from tenfold.errors import (
    Conflict,
    DatabaseUnavailable,
    DeadlineExceeded,
    DeclarationError,
    DependencyUnavailable,
    FieldError,
    Forbidden,
    InternalError,
    InvalidInput,
    NotFound,
    TenfoldError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UniqueViolation,
)

pytestmark = pytest.mark.anyio


class Customer(Principal, frozen=True, kw_only=True):
    level: int = 0


class SoldOut(Conflict):
    """Of the app, with attributes and a constructor of its own."""

    kind = "sold-out"

    def __init__(self, sku: str, left: int) -> None:
        self.sku, self.left = sku, left
        super().__init__(f"Of {sku}, {left} are left.", sku=sku)


class Line(msgspec.Struct):
    sku: str
    quantity: Annotated[int, msgspec.Meta(ge=1)] = 1


class Everything(msgspec.Struct):
    lines: list[Line]
    at: dt.datetime
    price: Decimal
    id: uuid.UUID
    raw: bytes
    counts: dict[int, str]
    maybe: Line | None = None


class Model(pydantic.BaseModel):
    name: str
    size: int = pydantic.Field(default=1, ge=1)


ANN = Customer(id="ann", roles=frozenset({"buyer"}), scopes=frozenset({"a", "b"}), level=3, tenant="acme")

Kind = Literal[
    "problem", "own", "field", "limit", "unavailable", "database", "unique", "call", "unforeseen", "timeout", "result",
    "group", "surrogate",
]  # fmt: skip


class Nobody(Authenticator):
    """An authenticator for apps that only call inside."""

    async def authenticate(self, headers: Any, cookies: Any, /) -> None:
        return None

    def schemes(self) -> dict[str, Any]:
        return {}


def make() -> tuple[App, Any]:
    stock = Service("stock", auth=public)
    orders = Service("orders", auth=public, calls=[stock])
    metadata = sa.MetaData()
    held = sa.Table("held", metadata, sa.Column("sku", sa.String(20), primary_key=True))
    stock.database(metadata)

    @stock.internal
    async def echo(
        everything: Everything, models: list[Model], note: str = "none"
    ) -> tuple[Everything, list[Model], str]:
        return everything, models, note

    @stock.internal
    async def add(line: Line) -> int:
        return line.quantity

    @stock.get("/stock/{sku}", auth=roles("buyer"))
    async def level(sku: str, customer: Customer) -> str:
        return f"{sku}: {customer.id} of {customer.tenant} at {customer.level}, {sorted(customer.scopes)}"

    @stock.internal
    async def who() -> dict[str, Any]:
        context = current()
        return {
            "principal": type(context.principal).__name__, "tenant": context.tenant, "trace": context.trace_id,
            "priority": context.priority.name, "request": context.request_id, "operation": context.operation,
            "retried": context.retried,
        }  # fmt: skip

    @stock.internal
    async def left_s(context: Context) -> float:
        assert context.deadline is not None
        return context.deadline - context.monotonic()

    @stock.internal
    async def write(sku: str, tx: Tx, fail: bool = False) -> None:
        await tx.execute(sa.insert(held).values(sku=sku))
        if fail:
            raise SoldOut(sku, 2)

    @stock.internal
    async def written(reader: Reader) -> list[str]:
        return [row[0] for row in await reader.all(sa.select(held.c.sku), tuple)]

    @stock.internal
    async def moves(token: str, fail: bool) -> str:
        was, current().causal = current().causal, token
        if fail:
            raise NotFound("after it has written")
        return was

    @stock.internal
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @stock.internal
    async def fail(kind: Kind) -> list[int]:
        match kind:
            case "problem":
                raise NotFound("No such line.", headers={"X-Line": "5"}, line=5)
            case "own":
                raise SoldOut("tea", 3)
            case "field":
                raise InvalidInput(errors=[FieldError("body", "a.b", "no")])
            case "limit":
                raise TooManyRequests("Slower.", headers={"Retry-After": "7"})
            case "unavailable":
                raise Unavailable("The shelf is being moved.")
            case "database":
                raise DatabaseUnavailable("The disk is full.")
            case "unique":
                raise UniqueViolation("Twice.", constraint="pk", table="held", columns=("sku", "at"))
            case "call":
                raise DependencyUnavailable(
                    "Away.", dependency="mill", reason="breaker", retry_after_s=2.5, limit="l"
                )
            case "unforeseen":
                raise RuntimeError("secret detail")
            case "timeout":
                raise TimeoutError("of its own")
            case "result":
                return ["a"]  # type: ignore[list-item]
            case "group":
                raise ExceptionGroup("several", [NotFound("one"), ValueError("secret detail")])
            case "surrogate":
                raise NotFound("half a character: \ud800", value=object())

    @stock.internal
    async def chained(depth: int) -> str:
        return f"{depth}"

    @orders.internal
    async def place(kind: Kind) -> list[int]:
        return await fail(kind)

    named = dict(locals())
    names = [
        "echo",
        "add",
        "level",
        "who",
        "left_s",
        "write",
        "written",
        "moves",
        "sleep",
        "fail",
        "chained",
        "place",
    ]
    return App("test", [orders, stock], auth=Nobody()), SimpleNamespace(
        **{name: named[name] for name in names}
    )


@pytest.fixture(params=["together", "apart"])
async def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
async def app(way: Way, tmp_path: Path) -> AsyncGenerator[Any]:
    async with running(make, way, tmp_path) as things:
        yield things


def as_(principal: Any = None, **members: Any) -> Any:
    return contexts.use(Context(principal=principal, service="orders", **members))


# ── values ──


async def test_values_of_every_kind_arrive_as_they_were(app: Any) -> None:
    sent = Everything(
        [Line("tea"), Line("cup", 2)], dt.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC), Decimal("1.10"),
        uuid.UUID(int=7), b"\x00\xff", {1: "one"},
    )  # fmt: skip
    with as_():
        got, models, note = await app.echo(sent, [Model(name="a", size=2)])
        assert (got, models, note) == (sent, [Model(name="a", size=2)], "none")
        assert await app.echo(everything=sent, models=[], note="x") == (sent, [], "x")


async def test_wrong_arguments_are_named(app: Any) -> None:
    with as_(), pytest.raises(InvalidInput) as caught:
        await app.add(Line("tea", 0))
    assert [(e.in_, e.path) for e in caught.value.errors] == [("argument", "line.quantity")]
    assert caught.value.extra["errors"] == caught.value.errors
    with as_(), pytest.raises(TypeError, match="missing a required argument: 'line'"):
        await app.add()


# ── who, until when, how urgent ──


async def test_the_caller_travels_and_the_policy_judges_it(app: Any) -> None:
    with as_(ANN):
        assert await app.level("tea") == "tea: ann of acme at 3, ['a', 'b']"
    with as_(Customer(id="bob")), pytest.raises(Forbidden):
        await app.level("tea")
    with as_(), pytest.raises(Unauthorized):
        await app.level("tea")


async def test_the_context_travels(app: Any) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    told = {
        "priority": Priority.CRITICAL,
        "trace_id": trace,
        "request_id": "r-1",
        "tenant": "acme",
        "retried": True,
    }
    with as_(ANN, span_id="b7ad6b7169203331", **told):
        assert await app.who() == {
            "principal": "Customer", "tenant": "acme", "trace": trace, "priority": "CRITICAL", "request": "r-1",
            "operation": "stock.who", "retried": True,
        }  # fmt: skip


async def test_the_deadline_travels(app: Any) -> None:
    with as_(deadline=Context().monotonic() + 5):
        assert 4 < await app.left_s() <= 5
    with as_():
        assert 28 < await app.left_s() <= 30
    with (
        as_(deadline=Context().monotonic() - 1),
        pytest.raises(DeadlineExceeded, match="No time was left to call"),
    ):
        await app.left_s()


async def test_who_is_too_slow_is_not_waited_for(app: Any) -> None:
    with (
        as_(deadline=Context().monotonic() + 0.2),
        pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.[12]"),
    ):
        await app.sleep(20)


async def test_the_causal_token_goes_there_and_comes_back_also_from_a_failure(app: Any) -> None:
    with as_(causal="1.a-1-1") as context:
        assert await app.moves("1.a-1-5", False) == "1.a-1-1"
        assert context.causal == "1.a-1-5"
        with pytest.raises(NotFound):
            await app.moves("1.a-1-9", True)
        assert context.causal == "1.a-1-9"


# ── effects and errors ──


async def test_the_callee_has_a_transaction_of_its_own(app: Any) -> None:
    with as_():
        await app.write("tea")
        with pytest.raises(SoldOut):
            await app.write("cup", fail=True)
        assert await app.written() == ["tea"]


EXPECTED: dict[str, tuple[type[TenfoldError], dict[str, Any]]] = {
    "problem": (NotFound, {"detail": "No such line.", "headers": {"X-Line": "5"}, "extra": {"line": 5}}),
    "own": (SoldOut, {"sku": "tea", "left": 3, "detail": "Of tea, 3 are left.", "extra": {"sku": "tea"}}),
    "field": (InvalidInput, {"detail": "body a.b: no"}),
    "limit": (TooManyRequests, {"headers": {"Retry-After": "7"}}),
    "unavailable": (Unavailable, {"detail": "The shelf is being moved."}),
    "database": (DatabaseUnavailable, {"args": ("The disk is full.",)}),
    "unique": (UniqueViolation, {"constraint": "pk", "columns": ("sku", "at")}),
    "call": (
        DependencyUnavailable,
        {"reason": "breaker", "retry_after_s": 2.5, "dependency": "mill", "limit": "l"},
    ),
    "unforeseen": (InternalError, {"detail": "stock.fail failed."}),
    "timeout": (InternalError, {"detail": "stock.fail failed."}),
    "result": (InternalError, {"detail": "stock.fail failed."}),
    "group": (InternalError, {"detail": "stock.fail failed."}),
}


async def test_errors_arrive_as_what_they_are(app: Any) -> None:
    for kind, (type_, members) in EXPECTED.items():
        with as_(), pytest.raises(TenfoldError) as caught:
            await app.fail(kind)
        assert type(caught.value) is type_
        assert {name: getattr(caught.value, name) for name in members} == members


async def test_what_of_an_error_cannot_travel_does_not_hide_it(app: Any) -> None:
    with as_(), pytest.raises(NotFound, match="half a character"):
        await app.fail("surrogate")


async def test_twenty_failures_in_a_row_are_still_what_they_are(app: Any) -> None:
    """Errors of operations are answers: no breaker takes the service for gone."""
    for _ in range(20):
        with as_(), pytest.raises(InternalError):
            await app.fail("unforeseen")
    with as_():
        assert await app.chained(1) == "1"


async def test_errors_go_on_through_a_service_in_between(app: Any) -> None:
    with contexts.use(Context()), pytest.raises(SoldOut):
        await app.place("own")


async def test_only_declared_calls_leave(way: Way, tmp_path: Path) -> None:
    """Within a process, who declares nothing may call what is there; beyond it, nobody may who does not declare it."""

    def silent() -> tuple[App, Any]:
        stock, orders = Service("stock", auth=public), Service("orders", auth=public)

        @stock.internal
        async def one() -> int:
            return 1

        @orders.internal
        async def two() -> int:
            return 1 + await one()

        return App("test", [orders, stock]), two

    async with running(silent, way, tmp_path) as two:
        if way == "together":
            assert await two() == 2
        else:
            with pytest.raises(DeclarationError, match="declares no calls"):
                await two()
