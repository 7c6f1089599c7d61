"""A call between services keeps the promises of a remote one, in one process."""
# Without postponed annotations: operations are local to their tests, and so are some of their types.

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import attrs
import msgspec
import pydantic
import pytest
import sqlalchemy as sa
from typing_extensions import TypedDict

from tenfold import (
    App,
    Authenticator,
    Context,
    Depends,
    Principal,
    Reader,
    Reply,
    Request,
    Response,
    Service,
    Stream,
    Tx,
    Upload,
    authenticated,
    current,
    injected,
    public,
    roles,
)
from tenfold._core import context as contexts
from tenfold.errors import (
    DeadlineExceeded,
    DeclarationError,
    Forbidden,
    InternalError,
    InvalidInput,
    NotFound,
    TransactionMisuse,
    Unauthorized,
)

pytestmark = pytest.mark.anyio


class Customer(Principal, frozen=True, kw_only=True):
    pass


ANN = Customer(id="ann", roles=frozenset({"buyer"}))


@asynccontextmanager
async def running(
    tmp_path: Path, *services: Service, auth: Any = None, **settings: Any
) -> AsyncGenerator[App]:
    app = App("test", services, auth=auth)
    app.configure(
        environ={},
        app__data_dir=str(tmp_path),
        app__env="test",
        database__url="sqlite:///:memory:",
        database__lock_timeout_s=30.0,
        worker__enabled=False,
        **settings,
    )
    async with app.lifespan():
        yield app


def as_(principal: Any = None, **members: Any) -> Any:
    return contexts.use(Context(principal=principal, service="caller", **members))


# ── arguments and results ──


class Line(msgspec.Struct):
    product: str
    quantity: Annotated[int, msgspec.Meta(ge=1)] = 1


@dataclass
class DataOrder:
    lines: list[Line] = field(default_factory=list)


@attrs.define
class AttrsOrder:
    lines: list[Line]


class DictOrder(TypedDict):
    lines: list[Line]


class PydanticLine(pydantic.BaseModel):
    product: str
    quantity: int = pydantic.Field(default=1, ge=1)


class PydanticOrder(pydantic.BaseModel):
    lines: list[PydanticLine]


async def test_arguments_and_results_are_copies(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)
    kept: list[Any] = []

    @shop.internal
    async def keep(order: DataOrder, tags: list[str]) -> DataOrder:
        kept.extend((order, tags))
        order.lines.append(Line("added"))
        return order

    sent, tags = DataOrder([Line("a", 2)]), ["x"]
    async with running(tmp_path, shop):
        got = await keep(sent, tags=tags)
        assert got == DataOrder([Line("a", 2), Line("added")]) == kept[0]
        assert got is not kept[0]
        assert got.lines[1] is not kept[0].lines[1]
        assert sent == DataOrder([Line("a", 2)])
        assert kept[1] == tags
        assert kept[1] is not tags
    direct = await keep(sent, tags)
    assert direct is sent  # an app that has stopped leaves plain functions behind


@pytest.mark.parametrize(
    "order",
    [
        DataOrder([Line("a", 2)]),
        AttrsOrder([Line("a", 2)]),
        DictOrder(lines=[Line("a", 2)]),
        PydanticOrder(lines=[PydanticLine(product="a", quantity=2)]),
    ],
    ids=lambda order: type(order).__name__,
)
async def test_models_of_every_kind_travel(tmp_path: Path, order: Any) -> None:
    shop = Service("shop", auth=public)
    kind = DictOrder if isinstance(order, dict) else type(order)

    async def echo(order: kind, many: list[kind], maybe: kind | None = None) -> dict[str, list[kind]]:  # type: ignore[valid-type]
        return {"orders": [order, *many] if maybe is None else [maybe]}

    operation = shop.internal(echo)
    async with running(tmp_path, shop):
        assert await operation(order, [order]) == {"orders": [order, order]}
        assert await operation(order, [], order) == {"orders": [order]}


@pytest.mark.parametrize(
    ("order", "path"),
    [
        ({"lines": [{"product": "a", "quantity": 0}]}, "order.lines[0].quantity"),
        (DataOrder([Line("a", 0)]), "order.lines[0].quantity"),
        ({"lines": 5}, "order.lines"),
    ],
)
async def test_arguments_are_validated_as_a_clients_would_be(tmp_path: Path, order: Any, path: str) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def place(order: DataOrder) -> None: ...

    async with running(tmp_path, shop):
        with pytest.raises(InvalidInput) as caught:
            await place(order)
    assert [(e.in_, e.path) for e in caught.value.errors] == [("argument", path)]


async def test_every_wrong_field_of_a_pydantic_model_is_named(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def place(order: PydanticOrder) -> None: ...

    wrong: Any = {"lines": [{"product": "a", "quantity": 0}, {"quantity": 1}]}
    async with running(tmp_path, shop):
        with pytest.raises(InvalidInput) as caught:
            await place(wrong)
    assert [e.path for e in caught.value.errors] == ["order.lines.0.quantity", "order.lines.1.product"]


async def test_defaults_are_the_callees(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)
    sentinel = Line("default")

    @shop.internal
    async def find(text: str, limit: int = 10, line: Line = sentinel) -> list[Any]:
        return [text, limit, line is sentinel]

    async with running(tmp_path, shop):
        assert await find("a") == ["a", 10, True]
        assert await find("a", 5) == ["a", 5, True]
        assert await find(text="a", line=Line("default")) == ["a", 10, False]


async def test_a_call_that_python_would_refuse_is_refused_in_its_words(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def find(text: str, context: Context = injected(), limit: int = 10) -> None: ...

    loose: Any = find
    async with running(tmp_path, shop):
        for args, kwargs, words in [
            ((), {}, "missing a required argument: 'text'"),
            (("a", 1, 2), {}, "too many positional arguments"),
            (("a",), {"text": "b"}, "multiple values for argument 'text'"),
            (("a",), {"wrong": 1}, "unexpected keyword argument 'wrong'"),
            (("a",), {"context": Context()}, "context: filled by the framework, not by the caller of"),
        ]:
            with pytest.raises(TypeError, match=words):
                await loose(*args, **kwargs)


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800", {"deep": object()}])
async def test_values_that_cannot_travel_are_named(tmp_path: Path, value: Any) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def take(size: int, anything: Any) -> None: ...

    async with running(tmp_path, shop):
        with pytest.raises(InvalidInput, match="argument anything: cannot travel between services"):
            await take(1, value)


async def test_a_result_that_is_not_what_was_declared_is_the_callees_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def wrong() -> list[int]:
        return ["a"]  # type: ignore[list-item]

    async with running(tmp_path, shop):
        with pytest.raises(InternalError, match=r"^shop\.wrong failed\.$"):
            await wrong()
    assert "Expected `int`, got `str`" in caplog.text


async def test_of_a_reply_the_value_travels(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.post("/lines")
    async def add(line: Line) -> Reply[Line]:
        return Reply(line, 201, headers={"location": "/lines/1"})

    async with running(tmp_path, shop):
        assert await add(Line("a")) == Line("a")  # type: ignore[comparison-overlap]


async def test_plain_functions_run_in_a_thread_with_the_context(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.internal  # type: ignore[arg-type]
    def here() -> str:
        return current().operation

    async with running(tmp_path, shop):
        assert await here() == "shop.here"


# ── what only HTTP carries ──


async def test_operations_that_only_http_can_reach_say_so_when_called(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.post("/photos")
    async def upload(photo: Upload) -> None: ...

    @shop.get("/raw")
    async def raw(request: Request) -> None: ...

    @shop.get("/stream")
    async def stream() -> Stream: ...

    @shop.get("/either")
    async def either() -> Line | Response: ...

    calls: list[tuple[Any, str]] = [
        (upload, "its parameter 'photo' is an Upload"),
        (raw, "it takes the HTTP request itself"),
        (stream, "it answers with a Stream, which only HTTP carries"),
        (either, "it answers with a Response, which only HTTP carries"),
    ]
    async with running(tmp_path, shop):
        for operation, words in calls:
            with pytest.raises(DeclarationError, match=f"cannot be called from other services: {words}"):
                await operation()


def test_an_internal_operation_that_cannot_be_called_is_found_by_check(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def upload(photo: Upload) -> None: ...

    app = App("test", [shop])
    app.configure(environ={}, app__data_dir=str(tmp_path))
    assert ["its parameter 'photo' is an Upload" in one for one in app.check()] == [True]


# ── errors ──


async def test_problems_arrive_as_they_were_raised_and_the_unforeseen_as_internal_errors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def fail(kind: str) -> None:
        if kind == "problem":
            raise NotFound("No such line.", line=5)
        if kind == "timeout":
            raise TimeoutError("of its own")
        raise RuntimeError("secret detail")

    async with running(tmp_path, shop) as app:
        with pytest.raises(NotFound, match="No such line") as caught:
            await fail("problem")
        assert caught.value.extra == {"line": 5}
        assert not caplog.records
        for kind in ("timeout", "bug"):
            with pytest.raises(InternalError, match=r"^shop\.fail failed\.$"):
                await fail(kind)
        value = app.assembly.telemetry.registry.value
        assert value("tenfold_calls_total", "shop.fail", "refused", "") == 1
        assert value("tenfold_calls_total", "shop.fail", "failed", "") == 2
        assert value("tenfold_call_duration_seconds", "shop.fail", "") == 3
    assert [r.exc_info is not None for r in caplog.records if r.name == "tenfold.rpc"] == [True, True]


# ── deadlines ──


async def test_the_deadline_is_the_earlier_of_the_callers_and_the_callees(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)

    @shop.get("/left", timeout_s=5.0)
    async def left() -> float:
        return current().deadline or 0.0

    @shop.internal
    async def default() -> float:
        return current().deadline or 0.0

    @shop.internal
    async def through() -> float:
        return await left()

    async with running(tmp_path, shop, http__timeout_s=7.0) as app:
        now = app.clock.monotonic()
        with as_(deadline=now + 3.0):
            assert await left() == await through() == now + 3.0
        with as_(deadline=now + 100.0):
            assert 4.9 < await left() - now < 5.5
            assert 6.9 < await default() - now < 7.5


async def test_a_callee_that_overruns_is_cancelled_and_one_without_time_is_not_begun(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)
    seen: list[str] = []

    @shop.get("/slow", timeout_s=0.01)
    async def slow() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async with running(tmp_path, shop) as app:
        with pytest.raises(DeadlineExceeded, match=r"shop\.slow did not answer within 0\.01 s"):
            await slow()
        assert seen == ["begun", "cancelled"]
        with (
            as_(deadline=app.clock.monotonic() - 1.0),
            pytest.raises(DeadlineExceeded, match="No time was left"),
        ):
            await slow()
        assert len(seen) == 2


# ── who may call ──


class Nobody(Authenticator):
    """An authenticator for apps that only call inside."""

    async def authenticate(self, headers: Any, cookies: Any, /) -> None:
        return None

    def schemes(self) -> dict[str, Any]:
        return {}


async def test_the_policy_is_checked_with_the_principal_of_the_caller(tmp_path: Path) -> None:
    shop = Service("shop", auth=Customer)
    asked: list[Any] = []

    @shop.get("/mine")
    async def mine(customer: Customer) -> str:
        return customer.id

    @shop.get("/buy", auth=roles("buyer"))
    async def buy(principal: Principal | None = None) -> str:
        return "" if principal is None else principal.id

    async def never(principal: Principal, request: Any) -> bool:
        asked.append((principal.id, request))
        return False

    @shop.get("/never", auth=never)
    async def shut() -> None: ...

    @shop.internal
    async def inside(customer: Customer) -> str:
        return await mine()  # carried on, over two calls

    async with running(tmp_path, shop, auth=Nobody()):
        with as_(ANN):
            assert [await mine(), await buy(), await inside()] == ["ann"] * 3
            with pytest.raises(Forbidden):
                await shut()
        with as_(Principal(id="bob")):
            for operation in (mine, buy, inside):
                with pytest.raises(Forbidden):
                    await operation()
        with as_(None):  # an anonymous request of some service is nobody, not that service
            for operation in (mine, buy, inside):
                with pytest.raises(Unauthorized):
                    await operation()
    assert asked == [("ann", None)]


async def test_the_policy_comes_before_the_arguments_are_looked_at(tmp_path: Path) -> None:
    shop = Service("shop", auth=authenticated)

    @shop.get("/find")
    async def find(limit: int) -> None: ...

    async with running(tmp_path, shop, auth=Nobody()):
        with pytest.raises(Unauthorized):
            await find("many")  # type: ignore[arg-type]


async def test_start_hooks_call_as_their_service(tmp_path: Path) -> None:
    shop, stock = Service("shop", auth=authenticated), Service("stock")
    seen: list[Any] = []

    @shop.get("/who")
    async def who(principal: Principal) -> list[str]:
        return [principal.id, principal.kind]

    @stock.on_start
    async def ask() -> None:
        seen.extend(await who())

    async with running(tmp_path, shop, stock, auth=Nobody()):
        assert seen == ["service:stock", "service"]


# ── database ──


class Store:
    """A service with a table, and one that calls it."""

    def __init__(self) -> None:
        self.metadata = sa.MetaData()
        self.table = sa.Table("note", self.metadata, sa.Column("text", sa.Text))
        self.notes = Service("notes", auth=public)
        self.db = self.notes.database(self.metadata)
        self.desk = Service("desk", auth=public)
        self.desk_db = self.desk.database(sa.MetaData())
        insert, table = sa.insert(self.table), self.table

        @self.notes.internal
        async def add(text: str, tx: Tx = injected()) -> int:
            await tx.execute(insert.values(text=text))
            if text == "unforeseen":
                return "not a number"  # type: ignore[return-value]
            return 1

        @self.notes.internal
        async def add_by_hand(text: str) -> None:
            async with self.db.tx() as tx:
                await tx.execute(insert.values(text=text))

        @self.notes.internal
        async def count(reader: Reader = injected()) -> int:
            return int(await reader.scalar(sa.select(sa.func.count()).select_from(table)))

        self.add, self.add_by_hand, self.count = add, add_by_hand, count


async def test_a_callee_has_a_transaction_of_its_own(tmp_path: Path) -> None:
    store = Store()
    async with running(tmp_path, store.notes, store.desk):
        assert await store.add("a") == 1
        assert await store.count() == 1
        with pytest.raises(InternalError):
            await store.add("unforeseen")  # its result cannot travel, so it did not happen
        assert await store.count() == 1


async def test_a_transaction_beside_the_callers_open_one_is_refused_at_once(tmp_path: Path) -> None:
    store = Store()
    async with running(tmp_path, store.notes, store.desk), asyncio.timeout(5), store.desk_db.tx():
        assert await store.count() == 0  # reading is no trouble
        for operation in (store.add, store.add_by_hand):
            with pytest.raises(TransactionMisuse, match="a transaction inside a transaction"):
                await operation("a")


async def test_inside_an_idempotent_operation_it_is_refused_once_that_has_written(tmp_path: Path) -> None:
    store = Store()
    answers: list[Any] = []

    @store.desk.post("/copy", idempotent=True)
    async def copy(first: str) -> None:
        if first == "call":
            await store.add_by_hand("before")
        async with store.desk_db.tx() as tx:
            await tx.execute(sa.text("insert into note values ('own')"))
        for operation in (store.add, store.add_by_hand):
            try:
                await operation("beside")
            except TransactionMisuse as error:
                answers.append(str(error))

    async with running(tmp_path, store.notes, store.desk) as app, asyncio.timeout(5):
        for number, first in enumerate(("call", "write")):
            status = await post(app, f"/copy?first={first}", f"key-{number}")
            assert (status, len(answers)) == (204, 2 + 2 * number)
        assert all("call before the first statement" in a or "Make the call before" in a for a in answers)
        assert await store.count() == 3


async def post(app: App, target: str, key: str) -> int:
    from http_calls import acall

    answer = await acall(app, "POST", target, headers=[(b"idempotency-key", key.encode())])
    return answer.status


async def test_a_job_calls_as_its_service(tmp_path: Path) -> None:
    store = Store()
    seen: list[str] = []
    guarded = Service("guarded", auth=authenticated)

    @guarded.get("/who")
    async def who(principal: Principal) -> str:
        return principal.id

    @store.desk.job()
    async def ask() -> None:
        seen.append(await who())

    app = App("test", [store.notes, store.desk, guarded], auth=Nobody())
    async with app.test() as t:
        await ask.enqueue(store.desk_db)
        await t.run_jobs()
    assert seen == ["service:desk"]


# ── dependencies and telemetry ──


async def test_dependencies_are_made_for_the_call_and_cleaned_up_after_it(tmp_path: Path) -> None:
    shop = Service("shop", auth=public)
    log: list[str] = []

    async def resource(context: Context) -> AsyncGenerator[str]:
        log.append("open")
        yield context.operation
        log.append("close")

    @shop.internal
    async def use(name: Annotated[str, Depends(resource)] = injected()) -> str:
        log.append("use")
        return name

    async with running(tmp_path, shop):
        assert await use() == "shop.use"
    assert log == ["open", "use", "close"]


@pytest.mark.parametrize("sampled", [True, False])
async def test_a_sampled_call_is_a_span_below_its_callers(tmp_path: Path, sampled: bool) -> None:
    shop = Service("shop", auth=public)

    @shop.internal
    async def ping() -> str:
        return current().span_id

    async with running(tmp_path, shop) as app:
        tracer = app.assembly.telemetry.tracer
        with as_(trace_id="a" * 32, sampled=sampled):
            if not sampled:
                await ping()
                assert not tracer.recent
                return
            with tracer.root("caller") as root:
                span_id = await ping()
        call, outer = tracer.recent
        assert (call.name, call.parent_id, call.span_id) == ("rpc.call", root.span_id, span_id)
        assert (call.attributes, outer.name) == ({"operation": "shop.ping"}, "caller")


async def test_a_call_costs_little_more_than_validating_and_copying(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Reported, with a bound that only a mistake exceeds: machines differ, and this one is shared."""
    shop = Service("shop", auth=public)

    @shop.internal
    async def echo(line: Line, limit: int = 10) -> Line:
        return line

    decoder = msgspec.msgpack.Decoder(Line)
    line = Line("a", 2)

    async def by_hand(sent: Line) -> Line:
        copied = decoder.decode(msgspec.msgpack.encode(sent))
        return decoder.decode(msgspec.msgpack.encode(await echo.fn(copied)))  # type: ignore[misc]

    async def best_us(fn: Callable[[Line], Awaitable[Line]]) -> float:
        loop, times = asyncio.get_running_loop(), []
        for _ in range(30):
            begun = loop.time()
            for _ in range(200):
                await fn(line)
            times.append((loop.time() - begun) / 200 * 1e6)
        return min(times)

    logging.disable(logging.NOTSET)
    async with running(tmp_path, shop):
        with as_(None, deadline=asyncio.get_running_loop().time() + 60):
            overhead = await best_us(echo) - await best_us(by_hand)
    record_property("overhead_us", round(overhead, 1))
    print(f"a call between services costs {overhead:.1f} µs above validating and copying")
    assert overhead < 60
