"""`@cache.cached`: keys, signatures, methods of the decorated function."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest

from tenfold.cache.cache import Cache
from tenfold.errors import DeclarationError

pytestmark = pytest.mark.anyio


class Page(msgspec.Struct, frozen=True):
    number: int
    size: int = 20


async def test_results_are_cached_per_arguments_however_they_are_passed(cache: Cache) -> None:
    calls: list[Any] = []

    @cache.cached
    async def f(a: int, /, b: str = "x", *rest: int, c: bool = False, **more: int) -> tuple[Any, ...]:
        calls.append(a)
        return (a, b, rest, c, more)

    assert await f(1) == await f(1, "x") == await f(1, b="x") == (1, "x", (), False, {})
    assert len(calls) == 1
    assert await f(1, "x", 2, c=True, d=4, e=5) == await f(1, "x", 2, c=True, e=5, d=4)
    assert len(calls) == 2


async def test_values_of_different_types_do_not_share_a_key(cache: Cache) -> None:
    @cache.cached
    async def f(a: Any) -> Any:
        return (type(a).__name__, a)

    for value in (1, "1", True, 1.0, b"1", None, "None", (1,), (1, 1), Page(1), Page(1, 2)):
        assert await f(value) == (type(value).__name__, value)


async def test_the_default_key_refuses_objects_whose_repr_may_lie(cache: Cache) -> None:
    @cache.cached
    async def f(a: Any) -> Any:
        return a

    with pytest.raises(DeclarationError, match=r"do not make a key by themselves.*Give key="):
        await f((1, object()))


async def test_a_template_makes_the_key(cache: Cache) -> None:
    @cache.cached(key='{{{page.number:03d}}} "{name!r}"\n', tags=("page:{page.number}", "pages"))
    async def f(page: Page, name: str) -> int:
        return page.number

    assert f.key(Page(7), name="n") == "{007} \"'n'\"\n"
    await f(Page(7), "n")
    await cache.invalidate("page:8")
    assert cache.get_nowait(f.key(Page(7), "n")) == 7
    await cache.invalidate("page:7")
    assert cache.get_nowait(f.key(Page(7), "n")) is None


async def test_functions_make_key_and_tags(cache: Cache) -> None:
    @cache.cached(key=lambda a, b=1: f"sum:{a + b}", tags=lambda a, b=1: [f"a:{a}"])
    async def add(a: int, b: int = 1) -> int:
        return a + b

    assert await add(1, 2) == await add(2) == 3
    assert add.key(1, 2) == "sum:3"
    await cache.invalidate("a:1")
    assert len(cache) == 0


async def test_tags_may_come_from_the_value(cache: Cache) -> None:
    @cache.cached(tags_from=lambda ids: [f"product:{i}" for i in ids])
    async def search(words: str) -> list[int]:
        return [1, 2]

    await search("red shoes")
    await cache.invalidate("product:2")
    assert len(cache) == 0


async def test_invalidate_drops_one_and_refresh_replaces_it(cache: Cache) -> None:
    versions = iter(range(100))

    @cache.cached
    async def f(a: int) -> int:
        return next(versions)

    assert [await f(1), await f(2), await f(1)] == [0, 1, 0]
    await f.invalidate(1)
    assert [await f(1), await f(2)] == [2, 1]
    assert await f.refresh(2) == 3
    assert await f(2) == 3
    assert (cache.stats.hits, cache.stats.misses, cache.stats.loads) == (3, 3, 4)


async def test_the_decorated_function_still_looks_like_itself(cache: Cache) -> None:
    @cache.cached(ttl_s=5)
    async def f(a: int, *, b: str = "x") -> str:
        """Doc."""
        return b

    assert inspect.iscoroutinefunction(f)
    assert str(inspect.signature(f)) == "(a: 'int', *, b: 'str' = 'x') -> 'str'"
    assert (f.__name__, f.__doc__) == ("f", "Doc.")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        await f()  # type: ignore[call-arg]


async def test_a_method_is_cached_by_what_its_template_names(cache: Cache) -> None:
    class Repository:
        @cache.cached(key="item:{item_id}")
        async def get(self, item_id: int) -> int:
            return item_id

    assert await Repository().get(5) == 5
    assert cache.get_nowait("item:5") == 5


async def test_a_function_without_parameters_is_cached(cache: Cache) -> None:
    @cache.cached
    async def f() -> int:
        return 1

    assert await f() == await f() == 1
    assert cache.stats.loads == 1


async def g(product_id: int) -> int:
    return product_id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "product:{product}"}, r"\{product\} is no parameter.*Did you mean 'product_id'\?"),
        ({"key": "product:{}"}, r"\{\} is no parameter"),
        ({"key": "product:{product_id[0]}"}, "is no parameter|is more than a parameter"),
        ({"key": "product:{product_id:{x}}"}, "is more than a parameter"),
        ({"key": "product:{product_id"}, "expected '}'"),
        ({"tags": ("{nothing}",)}, r"\{nothing\} is no parameter"),
    ],
)
async def test_a_wrong_template_is_refused_when_declared(
    cache: Cache, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeclarationError, match=message):
        cache.cached(**options)(g)


async def test_a_plain_function_is_refused(cache: Cache) -> None:
    with pytest.raises(DeclarationError, match="only async functions can be cached"):
        cache.cached(lambda: 1)  # type: ignore[arg-type, return-value]


async def test_a_parameter_of_ours_is_refused(cache: Cache) -> None:
    async def f(_cache: int) -> int:
        return _cache

    with pytest.raises(DeclarationError, match="begins with an underscore"):
        cache.cached(f)


async def test_two_functions_may_not_make_the_same_keys(cache: Cache) -> None:
    async def other(product_id: int) -> int:
        return -product_id

    cache.cached(key="p:{product_id}")(g)
    with pytest.raises(DeclarationError, match=r"'p:\{product_id\}' is made by .*\.g already"):
        cache.cached(key="p:{product_id}")(other)


async def test_a_hit_makes_three_python_and_builtin_calls(cache: Cache) -> None:
    """The function itself, the look-up, the clock: what is behind the figure of a million a second."""
    import sys

    cached = cache.cached(key="hit:{product_id}")(g)
    await cached(5)
    calls: list[str] = []

    def profiler(frame: Any, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            calls.append(event)

    hit = cached(5)
    sys.setprofile(profiler)
    try:
        await hit
    finally:
        sys.setprofile(None)
    assert len(calls) <= 4  # ManualClock's monotonic is Python, and setprofile(None) counts itself
