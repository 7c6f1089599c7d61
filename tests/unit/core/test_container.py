"""Dependencies: made once per scope, cleaned up in reverse, and checked before anything runs."""
# Without postponed annotations, because the factories are local to their tests.

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from tenfold._core.container import Container, Depends, injected
from tenfold._core.context import Context
from tenfold.errors import DeclarationError


async def call(container: Container, fn: Callable[..., Any], **given: Any) -> Any:
    """Run ``fn`` as one piece of work: its dependencies made, then cleaned up."""
    handed = {type(value): value for value in given.values()}
    async with AsyncExitStack() as stack:
        values = await container.plan(fn, frozenset(handed)).resolve(handed, stack)
        result = fn(**values)
        return await result if asyncio.iscoroutine(result) else result


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def test_functions_coroutines_and_generators_of_both_kinds_are_cleaned_up_in_reverse() -> None:
    log: list[str] = []

    def plain() -> str:
        return "plain"

    async def coroutine(first: Annotated[str, Depends(plain)]) -> str:
        return f"{first}+coroutine"

    def generator(first: Annotated[str, Depends(coroutine)]) -> Generator[str]:
        log.append("open generator")
        yield f"{first}+generator"
        log.append("close generator")

    async def agenerator(first: Annotated[str, Depends(generator)]) -> AsyncGenerator[str]:
        log.append("open agenerator")
        yield f"{first}+agenerator"
        log.append("close agenerator")

    def handler(value: Annotated[str, Depends(agenerator)]) -> str:
        log.append("handler")
        return value

    assert run(lambda: call(Container(), handler)) == "plain+coroutine+generator+agenerator"
    assert log == ["open generator", "open agenerator", "handler", "close agenerator", "close generator"]


def test_a_handler_that_fails_is_seen_by_the_generators_which_still_clean_up() -> None:
    seen: list[BaseException] = []

    async def resource() -> AsyncGenerator[int]:
        try:
            yield 1
        except ValueError as error:
            seen.append(error)
            raise

    def handler(_value: Annotated[int, Depends(resource)]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(lambda: call(Container(), handler))
    assert [str(error) for error in seen] == ["no"]


def test_a_factory_that_fails_cleans_up_what_was_made_before_it() -> None:
    log: list[str] = []

    def first() -> Generator[int]:
        yield 1
        log.append("closed")

    def second(_one: Annotated[int, Depends(first)]) -> int:
        raise OSError("disk")

    def handler(value: Annotated[int, Depends(second)]) -> int:
        return value

    async def main() -> None:
        async with AsyncExitStack() as stack:
            with pytest.raises(OSError, match="disk"):
                await Container().plan(handler).resolve({}, stack)

    run(main)
    assert log == ["closed"]


# ── scopes ──


class Counter:
    """Counts how often it was asked to make something."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> int:
        self.made += 1
        return self.made


def test_a_value_is_made_once_per_request_and_a_singleton_once_per_app() -> None:
    per_request, per_app = Counter(), Counter()

    def via(value: Annotated[int, Depends(per_request)]) -> int:
        return value

    def handler(
        a: Annotated[int, Depends(per_request)],
        b: Annotated[int, Depends(via)],
        c: Annotated[int, Depends(per_app, scope="singleton")],
    ) -> tuple[int, int, int]:
        return a, b, c

    async def main() -> None:
        container = Container()
        assert await call(container, handler) == (1, 1, 1)
        assert await call(container, handler) == (2, 2, 1)

    run(main)


def test_singletons_are_cleaned_up_last_made_first_and_made_anew_afterwards() -> None:
    log: list[str] = []

    def pool() -> Generator[str]:
        log.append("open pool")
        yield "pool"
        log.append("close pool")

    async def client(_pool: Annotated[str, Depends(pool, scope="singleton")]) -> AsyncGenerator[str]:
        log.append("open client")
        yield "client"
        log.append("close client")

    def handler(value: Annotated[str, Depends(client, scope="singleton")]) -> str:
        return value

    async def main() -> None:
        container = Container()
        for _ in range(2):
            assert await call(container, handler) == "client"
        await container.clean_up()
        assert log == ["open pool", "open client", "close client", "close pool"]
        await call(container, handler)
        assert log[4:] == ["open pool", "open client"]

    run(main)


def test_requests_at_the_same_moment_make_a_singleton_once() -> None:
    made: list[int] = []

    async def slow() -> int:
        made.append(1)
        await asyncio.sleep(0)
        return len(made)

    def handler(value: Annotated[int, Depends(slow, scope="singleton")]) -> int:
        return value

    async def main() -> None:
        container = Container()
        assert await asyncio.gather(*(call(container, handler) for _ in range(20))) == [1] * 20

    run(main)


def test_a_singleton_that_could_not_be_made_is_tried_again_also_in_another_loop() -> None:
    attempts: list[int] = []
    container = Container()

    async def flaky() -> str:
        attempts.append(1)
        await asyncio.sleep(0)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "there"

    def handler(value: Annotated[str, Depends(flaky, scope="singleton")]) -> str:
        return value

    async def together() -> list[Any]:
        return await asyncio.gather(*(call(container, handler) for _ in range(2)), return_exceptions=True)

    first = asyncio.run(together())
    assert [type(value) for value in first] == [ConnectionError, ConnectionError]
    asyncio.run(container.clean_up())
    assert asyncio.run(together()) == ["there", "there"]
    assert len(attempts) == 3


# ── what may ask, and be asked for ──


class Currency(msgspec.Struct):
    name: str = "EUR"


@dataclass
class Shop:
    currency: Currency


class Catalog(msgspec.Struct):
    shop: Shop


def test_what_is_provided_for_a_type_is_injected_by_the_type_alone() -> None:
    container = Container()
    container.provide(Currency, lambda: Currency("JPY"))
    container.provide(Shop, Shop)  # a class is a factory: its constructor's parameters are dependencies
    container.provide(Catalog, Catalog)

    def handler(catalog: Catalog, other: Annotated[Shop, "documentation"]) -> str:
        assert catalog.shop is other
        return catalog.shop.currency.name

    assert run(lambda: call(container, handler)) == "JPY"


def test_what_the_caller_hands_in_reaches_every_depth() -> None:
    def tenant(context: Context) -> str | None:
        return context.tenant

    def handler(value: Annotated[str | None, Depends(tenant)], context: Context) -> tuple[Any, Any]:
        return value, context.tenant

    assert run(lambda: call(Container(), handler, context=Context(tenant="t1"))) == ("t1", "t1")
    assert Container().plan(handler, {Context}).uses(Context)
    assert not Container().plan(handler, {Context}).uses(Currency)


def test_partials_and_objects_that_can_be_called_are_factories() -> None:
    class Factory:
        def __call__(self, currency: Currency) -> str:
            return currency.name

    def joined(left: str, currency: Currency) -> str:
        return left + currency.name

    container = Container()
    container.provide(Currency, Currency)

    def handler(
        a: Annotated[str, Depends(Factory())],
        b: Annotated[str, Depends(functools.partial(joined, left="in "))],
    ) -> tuple[str, str]:
        return a, b

    assert run(lambda: call(container, handler)) == ("EUR", "in EUR")


def test_parameters_that_nobody_provides_are_left_to_the_caller_or_keep_their_default() -> None:
    def maker(size: int = 3) -> int:
        return size

    def handler(id: int, made: Annotated[int, Depends(maker)], flag: bool = True) -> None: ...  # noqa: A002

    plan = Container().plan(handler)
    assert plan.wanted == ("made",)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            assert await plan.resolve({}, stack) == {"made": 3}

    run(main)


# ── found at start ──


def test_a_circle_is_named() -> None:
    def hen(egg: Currency) -> Shop:
        return Shop(egg)

    def egg(_hen: Shop) -> Currency:
        return Currency()

    container = Container()
    container.provide(Shop, hen)
    container.provide(Currency, egg)
    with pytest.raises(DeclarationError, match=r"circle: \S*egg → \S*hen → \S*egg\."):
        container.plan(hen)


def test_a_singleton_that_needs_a_requests_value_is_refused() -> None:
    def maker(context: Context) -> str:
        return context.request_id

    def handler(value: Annotated[str, Depends(maker, scope="singleton")]) -> None: ...

    with pytest.raises(DeclarationError, match="it is a singleton, but its parameter 'context' lives only"):
        Container().plan(handler, {Context})


@pytest.mark.parametrize("default", [False, True])
def test_a_factorys_parameter_that_nobody_provides_is_refused(default: bool) -> None:
    def without(currency: Currency) -> str:
        return currency.name

    def with_injected(currency: Currency = injected()) -> str:
        return currency.name

    def handler(value: Annotated[str, Depends(with_injected if default else without)]) -> None: ...

    with pytest.raises(DeclarationError, match="nothing provides its parameter 'currency'"):
        Container().plan(handler)


def test_a_function_that_nobody_else_calls_must_be_filled_whole() -> None:
    def hook(context: Context, size: int = 1) -> None: ...

    def wrong(context: Context, size: int) -> None: ...

    assert Container().plan_all(hook, {Context}).wanted == ("context",)
    with pytest.raises(DeclarationError, match=r"wrong .*test_container.py.*parameter 'size'"):
        Container().plan_all(wrong, {Context})


def test_a_type_that_cannot_be_resolved_at_run_time_is_named() -> None:
    def handler(value: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DeclarationError, match="the type 'Nowhere' in its signature cannot be resolved"):
        Container().plan(handler)


# ── overrides ──


def test_an_override_replaces_a_factory_or_a_provided_type_inside_its_block_only() -> None:
    def price() -> int:
        return 1

    def other(currency: Currency) -> int:
        return len(currency.name)

    def handler(
        price: Annotated[int, Depends(price, scope="singleton")], currency: Currency
    ) -> tuple[int, str]:
        return price, currency.name

    async def main() -> None:
        container = Container()
        container.provide(Currency, Currency)
        assert await call(container, handler) == (1, "EUR")
        with container.override(price, other), container.override(Currency, lambda: Currency("pound")):
            assert await call(container, handler) == (5, "pound")
            with container.override(price, lambda: 9):
                assert await call(container, handler) == (9, "pound")
            assert await call(container, handler) == (5, "pound")
        assert await call(container, handler) == (1, "EUR")

    run(main)


def test_an_override_that_depends_on_what_it_overrides_is_refused() -> None:
    def price() -> int:
        return 1

    def doubled(before: Annotated[int, Depends(price)]) -> int:
        return 2 * before

    def handler(price: Annotated[int, Depends(price)]) -> int:
        return price

    async def main() -> None:
        container = Container()
        with (
            container.override(price, doubled),
            pytest.raises(DeclarationError, match="overrides what it dep"),
        ):
            await call(container, handler)

    run(main)
