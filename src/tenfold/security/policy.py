"""Who may use an operation: small values that combine with ``|`` and ``&``.

    auth=public                                   anybody
    auth=authenticated                            anybody who proved who they are
    auth=Customer                                 principals of that class
    auth=roles("admin", "support")                one of the roles
    auth=scopes("orders:read")                    all of the scopes
    auth=Customer & scopes("orders:read") | roles("admin")
    auth=owns_the_shop                            async def owns_the_shop(principal, request) -> bool

Deny by default: an operation without a policy does not start; an anonymous caller passes only where the policy
says ``public``; a credential limited to scopes (see :attr:`Principal.restricted`) passes only through a part of
the policy that names a scope it has; a callable admits with ``True`` and with nothing else.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeAlias

from tenfold.errors import DeclarationError, Forbidden, Unauthorized
from tenfold.security.principal import Principal

Predicate: TypeAlias = Callable[[Principal, Any], Awaitable[bool]]


class Grade(enum.IntEnum):
    """How far a policy admits an authenticated caller."""

    REFUSED = 0
    ADMITTED = 1
    COVERED = 2
    """Admitted by a part that names the scope, so that restricted credentials pass too."""


# Plain globals: reading a member of an enum costs a descriptor call on every request.
_REFUSED, _ADMITTED, _COVERED = Grade.REFUSED, Grade.ADMITTED, Grade.COVERED


class Policy(ABC):
    """A decision about a caller; immutable. Make one with :func:`as_policy`, not by subclassing."""

    anonymous_ok: bool = False
    """Callers without a credential pass, and hence everybody does."""
    asynchronous: bool = False
    """A callable takes part: use :meth:`check_async`."""
    principal_type: type[Principal] = Principal
    """The nearest class that every admitted principal is an instance of."""

    def check(self, principal: Principal | None, request: Any = None) -> None:
        """Return when ``principal`` (None: anonymous) may pass.

        Raises :class:`Unauthorized` (nobody is there) or :class:`Forbidden` (the wrong one is). Not for policies
        that are :attr:`asynchronous`: the callables among their parts would count as refusing.
        """
        if self.anonymous_ok:  # then nobody is refused, whatever their credential
            return
        if principal is None:
            raise _unauthorized()
        if self.grade(principal) <= principal.restricted:
            raise self._forbidden(principal)

    async def check_async(self, principal: Principal | None, request: Any = None) -> None:
        """The same for every policy; ``request`` is handed to the callables that take part."""
        if self.anonymous_ok:
            return
        if principal is None:
            raise _unauthorized()
        if await self.grade_async(principal, request) <= principal.restricted:
            raise self._forbidden(principal)

    @abstractmethod
    def grade(self, principal: Principal) -> Grade:
        """How far ``principal`` is admitted, without asking callables."""

    async def grade_async(self, principal: Principal, request: Any) -> Grade:
        """How far ``principal`` is admitted."""
        return self.grade(principal)

    @abstractmethod
    def describe(self) -> str:
        """The policy in words: ``Customer with scope orders:read, or role admin``."""

    def __or__(self, other: Any) -> Policy:
        return _Any((self, as_policy(other)))

    def __ror__(self, other: Any) -> Policy:
        return _Any((as_policy(other), self))

    def __and__(self, other: Any) -> Policy:
        return _All((self, as_policy(other)))

    def __rand__(self, other: Any) -> Policy:
        return _All((as_policy(other), self))

    def __repr__(self) -> str:
        return f"<policy: {self.describe()}>"

    def __bool__(self) -> bool:
        raise DeclarationError(
            "a policy has no truth value.",
            where=repr(self),
            remedy="Combine policies with | and &, not with `or` and `and`.",
        )

    def _forbidden(self, principal: Principal) -> Forbidden:
        if principal.restricted and self.grade(principal) is _ADMITTED:
            return Forbidden("This credential is limited to scopes, and none of them covers this operation.")
        return Forbidden(f"This operation is for {self.describe()}.")


class _Public(Policy):
    anonymous_ok = True

    def grade(self, principal: Principal) -> Grade:
        return _ADMITTED  # not covered: `(public | Customer) & roles("x")` names no scope

    def describe(self) -> str:
        return "anybody"


class _Typed(Policy):
    def __init__(self, type_: type[Principal]) -> None:
        self.principal_type = type_

    def grade(self, principal: Principal) -> Grade:
        return _ADMITTED if isinstance(principal, self.principal_type) else _REFUSED

    def describe(self) -> str:
        return "authenticated callers" if self.principal_type is Principal else self.principal_type.__name__


class _Roles(Policy):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def grade(self, principal: Principal) -> Grade:
        return _REFUSED if self._names.isdisjoint(principal.roles) else _ADMITTED

    def describe(self) -> str:
        return f"role {' or '.join(sorted(self._names))}"


class _Scopes(Policy):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def grade(self, principal: Principal) -> Grade:
        return _COVERED if self._names <= principal.scopes else _REFUSED

    def describe(self) -> str:
        return f"scope {' and '.join(sorted(self._names))}"


class _Asked(Policy):
    """A callable decides. It is never asked about anonymous callers."""

    asynchronous = True

    def __init__(self, predicate: Predicate) -> None:
        self._predicate = predicate

    def grade(self, principal: Principal) -> Grade:
        return _REFUSED

    async def grade_async(self, principal: Principal, request: Any) -> Grade:
        # `is True`: a callable that forgot its return statement admits nobody.
        return _ADMITTED if await self._predicate(principal, request) is True else _REFUSED

    def describe(self) -> str:
        name = getattr(self._predicate, "__qualname__", type(self._predicate).__qualname__)
        return f"callers whom {name} admits"


class _Combined(Policy):
    joint: ClassVar[str]
    parts: tuple[Policy, ...]

    def __init__(self, parts: tuple[Policy, ...]) -> None:
        flat: list[Policy] = []
        for part in parts:
            if isinstance(part, _Combined) and part.joint == self.joint:
                flat.extend(part.parts)
            else:
                flat.append(part)
        self.parts = tuple(flat)
        self.asynchronous = any(part.asynchronous for part in flat)

    def describe(self) -> str:
        return self.joint.join(part.describe() for part in self.parts)


class _Any(_Combined):
    joint = ", or "

    def __init__(self, parts: tuple[Policy, ...]) -> None:
        super().__init__(parts)
        self.anonymous_ok = any(part.anonymous_ok for part in self.parts)
        self.principal_type = _common(tuple(part.principal_type for part in self.parts))

    def grade(self, principal: Principal) -> Grade:
        return max(part.grade(principal) for part in self.parts)

    async def grade_async(self, principal: Principal, request: Any) -> Grade:
        best = self.grade(principal)  # the parts that cost nothing come first
        for part in self.parts:
            if best > principal.restricted:
                break
            if part.asynchronous:
                best = max(best, await part.grade_async(principal, request))
        return best


class _All(_Combined):
    joint = " with "

    def __init__(self, parts: tuple[Policy, ...]) -> None:
        super().__init__(parts)
        self.anonymous_ok = all(part.anonymous_ok for part in self.parts)
        self.principal_type = _narrowest(tuple(part.principal_type for part in self.parts), self)

    def grade(self, principal: Principal) -> Grade:
        grades = [part.grade(principal) for part in self.parts]
        return _REFUSED if _REFUSED in grades else max(grades)

    async def grade_async(self, principal: Principal, request: Any) -> Grade:
        best = _REFUSED
        # A callable may look something up: ask it only about callers whom the cheaper parts admit.
        for part in sorted(self.parts, key=lambda p: p.asynchronous):
            grade = await part.grade_async(principal, request)
            if grade is _REFUSED:
                return _REFUSED
            best = max(best, grade)
        return best


public: Policy = _Public()
"""Anybody, with or without a credential (a bad credential is refused all the same)."""

authenticated: Policy = _Typed(Principal)
"""Anybody who proved who they are."""


def roles(*names: str) -> Policy:
    """Principals with at least one of the roles."""
    return _Roles(_names("roles", names))


def scopes(*names: str) -> Policy:
    """Principals whose credential has all of the scopes."""
    return _Scopes(_names("scopes", names))


def as_policy(value: Any) -> Policy:
    """The policy that ``value`` stands for (see the module's list).

    Raises :class:`DeclarationError` with a sentence for anything else.
    """
    if isinstance(value, Policy):
        return value
    if isinstance(value, type) and issubclass(value, Principal):
        return authenticated if value is Principal else _Typed(value)
    if isinstance(value, types.UnionType):
        return _Any(tuple(as_policy(part) for part in typing.get_args(value)))
    if value is roles or value is scopes:
        raise _wrong(value, f'Call it with names, as in {value.__name__}("…").')
    if callable(value) and not isinstance(value, type):
        return _Asked(_predicate(value))
    raise _wrong(value, _remedy(value))


def _names(where: str, names: tuple[Any, ...]) -> frozenset[str]:
    if not names:
        raise DeclarationError("it needs at least one name.", where=f"{where}()")
    for name in names:
        if not isinstance(name, str) or not name or name != name.strip():
            raise DeclarationError(
                f"{name!r} is not a name.", where=f"{where}()", remedy=f'Write {where}("one", "another").'
            )
    return frozenset(names)


def _predicate(value: Any) -> Predicate:
    if not (inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__)):
        raise _wrong(value, "Write it as `async def name(principal, request) -> bool`.")
    try:
        inspect.signature(value).bind(None, None)
    except TypeError:
        raise _wrong(value, "It must take two parameters: the principal and the request.") from None
    return typing.cast(Predicate, value)


def _remedy(value: Any) -> str:
    if isinstance(value, str):
        return f'Did you mean roles("{value}") or scopes("{value}")?'
    if isinstance(value, Principal):
        return f"Give the class {type(value).__name__}, not an instance of it."
    if value in (False, None, types.NoneType):
        return "For operations that anybody may use, write auth=public."
    if value is True:
        return "For any authenticated caller, write auth=authenticated."
    return (
        "Use public, authenticated, a subclass of Principal, roles(…), scopes(…), "
        "an async function (principal, request) -> bool, or these combined with | and &."
    )


def _wrong(value: Any, remedy: str) -> DeclarationError:
    return DeclarationError(f"{value!r} is not a policy.", where="auth", remedy=remedy)


def _common(kinds: tuple[type[Principal], ...]) -> type[Principal]:
    """The nearest class that all of ``kinds`` are."""
    for base in kinds[0].__mro__:
        if issubclass(base, Principal) and all(issubclass(kind, base) for kind in kinds):
            return base
    return Principal


def _narrowest(kinds: tuple[type[Principal], ...], policy: Policy) -> type[Principal]:
    """The one of ``kinds`` that is all of the others too."""
    for kind in kinds:
        if all(issubclass(kind, other) for other in kinds):
            return kind
    names = " and ".join(sorted({kind.__name__ for kind in kinds} - {"Principal"}))
    raise DeclarationError(
        f"no principal is {names} at once.", where=f"auth={policy.describe()}", remedy="Combine them with |."
    )


def _unauthorized() -> Unauthorized:
    return Unauthorized("This operation needs a credential, and the request has none.")
