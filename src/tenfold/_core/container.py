"""One container of dependencies for operations, jobs, subscribers and schedules.

A dependency is a plain function, coroutine function, generator or async generator, named in the type::

    async def mailer(settings: MailSettings) -> Mailer: ...

    async def send(order_id: int, mailer: Annotated[Mailer, Depends(mailer)]) -> None: ...

Its own parameters are dependencies again. A generator's code after ``yield`` runs when its scope ends, in
reverse order. ``scope="request"`` (default) makes one value per request, job or event; ``scope="singleton"``
one per running app. Types registered with :meth:`Container.provide` are injected by their type alone.

What can be wrong is found by :meth:`Container.plan`, at start: circles, a singleton that needs a request's
value, parameters nobody provides.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tenfold.errors import DeclarationError

Scope = Literal["request", "singleton"]


@dataclass(frozen=True, slots=True)
class Depends:
    """Marks a parameter as made by ``factory``: ``Annotated[T, Depends(factory)]``."""

    factory: Callable[..., Any]
    scope: Scope = "request"


def injected() -> Any:
    """Default for a parameter that the framework fills, so that type checkers let callers leave it out."""
    return INJECTED


class _Injected:
    def __repr__(self) -> str:
        return "injected()"


INJECTED: Any = _Injected()


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The parameter types of ``fn`` with ``Annotated`` kept; a sentence where a name cannot be resolved."""
    try:
        return get_type_hints(fn, include_extras=True)
    except NameError as error:
        raise DeclarationError(
            f"the type {error.name!r} in its signature cannot be resolved.",
            where=describe(fn),
            remedy="Import it at run time (not only under TYPE_CHECKING).",
        ) from None


def describe(fn: Callable[..., Any]) -> str:
    """``module.function`` with file and line, for messages."""
    inner = inspect.unwrap(fn)
    code = getattr(inner, "__code__", None)
    name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', repr(inner))}"
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def dependency_of(hint: Any) -> Depends | None:
    """The ``Depends`` inside an ``Annotated`` hint, if there is one."""
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Depends):
                return extra
    return None


@dataclass(slots=True)
class _Node:
    """How to make one value."""

    key: Any  # the factory, or a type that the caller hands in
    scope: Scope
    make: Callable[[dict[str, Any], AsyncExitStack], Awaitable[Any]] | None  # None: handed in
    args: tuple[tuple[str, _Node], ...] = ()


class Plan:
    """The dependencies of one function, resolved to an order at start; ``wanted`` names its parameters."""

    __slots__ = ("_container", "_nodes", "wanted")

    def __init__(self, container: Container, nodes: tuple[tuple[str, _Node], ...]) -> None:
        self._container = container
        self._nodes = nodes
        self.wanted = tuple(name for name, _ in nodes)

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def uses(self, type_: Any) -> bool:
        """Whether a parameter, or a dependency at any depth, takes ``type_`` from the caller."""
        return any(_uses(node, type_) for _, node in self._nodes)

    async def resolve(self, given: Mapping[Any, Any], stack: AsyncExitStack) -> dict[str, Any]:
        """Values by parameter name. ``given`` maps types (``Request``, ``Tx`` …) to this work's values;
        clean-up is pushed on ``stack``, which the caller closes when the work is done."""
        made: dict[Any, Any] = dict(given)
        return {name: await self._container._value(node, made, stack) for name, node in self._nodes}


def _uses(node: _Node, type_: Any) -> bool:
    return node.key is type_ or any(_uses(inner, type_) for _, inner in node.args)


class Container:
    """Factories and overrides of one app. ``clean_up`` ends the singletons, last made first."""

    def __init__(self) -> None:
        self._by_type: dict[Any, Depends] = {}
        self._overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._singletons: dict[Any, Any] = {}
        self._making: dict[Any, Any] = {}
        self._stack = AsyncExitStack()

    def provide(self, type_: Any, factory: Callable[..., Any], *, scope: Scope = "singleton") -> None:
        """Inject ``factory``'s value wherever a parameter is annotated with ``type_``."""
        self._by_type[type_] = Depends(factory, scope)

    @contextmanager
    def override(self, factory: Callable[..., Any], other: Callable[..., Any]) -> Generator[None]:
        """Inside the block, ``other`` makes what ``factory`` would (for tests).

        ``factory`` may be a type that was registered with :meth:`provide`.
        """
        if factory in self._by_type:
            factory = self._by_type[factory].factory
        before, cached = self._overrides.get(factory), self._singletons.pop(factory, _MISSING)
        self._overrides[factory] = other
        try:
            yield
        finally:
            self._singletons.pop(factory, None)
            if cached is not _MISSING:
                self._singletons[factory] = cached
            if before is None:
                del self._overrides[factory]
            else:
                self._overrides[factory] = before

    def plan(
        self,
        fn: Callable[..., Any],
        given: frozenset[Any] | set[Any] = frozenset(),
        skip: frozenset[str] | set[str] = frozenset(),
    ) -> Plan:
        """Which of ``fn``'s parameters the container fills; ``given`` are the types the caller hands in.

        Parameters in ``skip`` and those that nobody provides are left for the caller to bind.
        """
        nodes = []
        for name, hint in _parameters(fn):
            if name not in skip and (node := self._node(hint, given, ())) is not None:
                nodes.append((name, node))
        return Plan(self, tuple(nodes))

    def plan_all(self, fn: Callable[..., Any], given: frozenset[Any] | set[Any] = frozenset()) -> Plan:
        """The same for a function that nobody else hands arguments to: a parameter without a default that the
        container cannot fill is a DeclarationError."""
        return Plan(self, self._arguments(fn, given, ()))

    async def clean_up(self) -> None:
        """Run the clean-up of every singleton, last made first."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._singletons.clear()
        self._making.clear()  # locks belong to the loop that is about to end
        await stack.aclose()

    # ── planning ──

    def _node(self, hint: Any, given: Any, path: tuple[Any, ...]) -> _Node | None:
        depends = dependency_of(hint)
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if depends is None:
            if _hashable(bare) and bare in given:
                return _Node(bare, "request", None)
            depends = self._by_type.get(bare) if _hashable(bare) else None
        return None if depends is None else self._factory_node(depends, given, path)

    def _factory_node(self, depends: Depends, given: Any, path: tuple[Any, ...]) -> _Node:
        factory = depends.factory
        if factory in path:
            circle = " → ".join(
                getattr(f, "__qualname__", repr(f)) for f in (*path[path.index(factory) :], factory)
            )
            raise DeclarationError(f"the dependencies form a circle: {circle}.", where=describe(factory))
        args = self._arguments(factory, given, (*path, factory))
        for name, node in args:
            if depends.scope == "singleton" and node.scope == "request":
                raise DeclarationError(
                    f"it is a singleton, but its parameter {name!r} lives only as long as a request.",
                    where=describe(factory),
                    remedy='Give it scope="request".',
                )
        return _Node(factory, depends.scope, self._maker(factory, args), args)

    def _arguments(
        self, fn: Callable[..., Any], given: Any, path: tuple[Any, ...]
    ) -> tuple[tuple[str, _Node], ...]:
        nodes = []
        for name, hint in _parameters(fn):
            node = self._node(hint, given, path)
            if node is not None:
                nodes.append((name, node))
            elif not _has_default(fn, name):
                raise DeclarationError(
                    f"nothing provides its parameter {name!r}.",
                    where=describe(fn),
                    remedy="Annotate it with Depends(…), or register its type with provide().",
                )
        return tuple(nodes)

    def _maker(self, factory: Callable[..., Any], args: tuple[tuple[str, _Node], ...]) -> Any:
        async def make(made: dict[Any, Any], stack: AsyncExitStack) -> Any:
            actual = self._overrides.get(factory, factory)
            if actual is not factory:  # an override has parameters of its own
                wanted = self.plan_all(actual, frozenset(made))
                if wanted.uses(factory):
                    raise DeclarationError("it overrides what it depends on.", where=describe(actual))
                values = await wanted.resolve(made, stack)
            else:
                values = {name: await self._value(node, made, stack) for name, node in args}
            return await _call(actual, values, stack)

        return make

    # ── making ──

    async def _value(self, node: _Node, made: dict[Any, Any], stack: AsyncExitStack) -> Any:
        if node.scope == "singleton":
            return await self._singleton(node)
        if node.key in made:
            return made[node.key]
        assert node.make is not None
        value = made[node.key] = await node.make(made, stack)
        return value

    async def _singleton(self, node: _Node) -> Any:
        if node.key in self._singletons:
            return self._singletons[node.key]
        lock = self._making.setdefault(node.key, asyncio.Lock())
        async with lock:  # two requests may need it first at the same moment
            if node.key not in self._singletons:
                assert node.make is not None
                self._singletons[node.key] = await node.make({}, self._stack)
        self._making.pop(node.key, None)
        return self._singletons[node.key]


_MISSING: Any = object()


def _parameters(fn: Callable[..., Any]) -> list[tuple[str, Any]]:
    hints = hints_of(_annotated(fn))
    names = [
        name
        for name, p in inspect.signature(fn).parameters.items()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return [(name, hints.get(name, Any)) for name in names]


def _annotated(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Where the annotations of a callable's parameters stand: a partial's in its function, those of an object
    that can be called in its class, those of a class without a Python ``__init__`` (Structs) in itself."""
    if isinstance(fn, functools.partial):
        return _annotated(fn.func)
    if inspect.isclass(fn):
        return fn.__init__ if inspect.isfunction(fn.__init__) else fn
    return fn if inspect.isroutine(fn) else type(fn).__call__


def _has_default(fn: Callable[..., Any], name: str) -> bool:
    return inspect.signature(fn).parameters[name].default not in (inspect.Parameter.empty, INJECTED)


def _hashable(hint: Any) -> bool:
    try:
        hash(hint)
    except TypeError:
        return False
    return True


async def _call(factory: Callable[..., Any], values: dict[str, Any], stack: AsyncExitStack) -> Any:
    if inspect.isasyncgenfunction(factory):
        return await stack.enter_async_context(asynccontextmanager(factory)(**values))
    if inspect.isgeneratorfunction(factory):
        return stack.enter_context(contextmanager(factory)(**values))
    value = factory(**values)
    return await value if inspect.isawaitable(value) else value
