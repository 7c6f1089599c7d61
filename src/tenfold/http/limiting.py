"""Rate limits of operations: the step after authentication, and its run-time half.

Headers are those of the IETF's draft-ietf-httpapi-ratelimit-headers-11: what the policies are, what is left of each.
``t`` is when a window is as good as new; of a refused request, when it would be admitted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeclarationError
from tenfold.guard.gcra import Cell, Taken, wait_us
from tenfold.guard.limiter import refusal
from tenfold.guard.rates import Away, Limit, Window, as_limit
from tenfold.http.access import policy_of
from tenfold.http.operation import UNSET

if TYPE_CHECKING:
    from tenfold.errors import TooManyRequests
    from tenfold.http.build import Build
    from tenfold.http.operation import Operation
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request
    from tenfold.security.principal import Principal

Declared = list[tuple[str, Limit]]
"""Limits with the name of who declared them: all operations below that share its count."""

COUNTS_CALLERS = frozenset({"principal", "tenant", "api key"})

_STRICTEST: tuple[Away, ...] = ("closed", "local", "open")


def limits_of(operation: Operation[..., Any], inherited: Mapping[str, Declared]) -> Declared:
    """Every limit that holds for the operation: the app's and the service's (``inherited``, by service) and its own.
    ``limit=None`` lifts them all. Raises DeclarationError."""
    own = operation.policies.limit
    if own is None:
        return []
    found = list(inherited.get(operation.service, ()))
    if own is not UNSET:
        try:
            found.append((operation.name, as_limit(own)))
        except DeclarationError as error:
            raise DeclarationError(
                error.what, where=f"{operation.where}, {error.where}", remedy=error.remedy
            ) from None
    return found


def asks_who(build: Build) -> bool:
    """Whether a limit counts callers, so that they must be known even where anybody may come."""
    declared = limits_of(build.operation, build.wiring.limits)
    return any(window.per in COUNTS_CALLERS for _, limit in declared for window in limit.windows)


def write(build: Build) -> None:
    """The step: refuse, or go on and tell what is left. Limits that were changed since cost an attribute until they
    are, and a call each then."""
    declared = limits_of(build.operation, build.wiring.limits)
    if not declared:
        return
    limiter, operation, code = build.wiring.limiter, build.operation, build.code
    if limiter is None:
        raise DeclarationError("it has limit=, but the app counts no requests.", where=operation.where)
    limits = OperationLimits(operation.name, declared, callers_known=_callers_known(build))
    for name, limit in declared:
        limiter.declare(name, limit, limits.prepare)
    own = limits.own
    code.use(limit_now=limiter.take_now, limit_later=limiter.decide, limit_rules=limits, **own.uses)
    code.line(
        *own.subjects,
        "limit_changed = limit_rules.changed",
        f"limit_cells = ({own.cell_texts}) if limit_changed is None else limit_changed.cells(request)",
        "limit_taken = limit_now(limit_cells)",
        "if limit_taken is None: limit_taken = await limit_later(limit_cells, limit_rules.away)",
        "if not limit_taken.admitted: raise limit_rules.refused(limit_changed, limit_cells, limit_taken)",
    )
    code.use(LIMIT_POLICY=(b"ratelimit-policy", own.policy))
    # A new list: the answer's may be one that a cache keeps. In front, because the edge looks at the last.
    told = f"(answer[0], [LIMIT_POLICY, (b'ratelimit', {own.left_text}), *answer[1]], answer[2], answer[3])"
    code.after(f"answer = {told} if limit_changed is None else limit_changed.tell(answer, limit_taken)")


def _callers_known(build: Build) -> bool:
    """Whether the operation has its callers authenticated, or counts them already as far as anybody knows them."""
    if asks_who(build):
        return True
    authenticator = build.wiring.authenticator
    if authenticator is None:
        return False
    return not policy_of(build.operation, authenticator).anonymous_ok or build.injection.wants_principal


class OperationLimits:
    """All limits of one operation: those that were declared, and those that hold in their place while the app runs."""

    def __init__(self, operation: str, declared: Declared, *, callers_known: bool) -> None:
        self._operation, self._callers_known = operation, callers_known
        self._declared, self._now = declared, dict(declared)
        self.own = Rules(operation, declared)
        self.changed: Rules | None = None
        """What holds now, if that is not what was declared."""
        self.away = self.own.away

    def prepare(self, name: str, limit: Limit) -> Callable[[], None]:
        """Whoever calls the answer has changed the limit of that name. Raises DeclarationError."""
        now = {**self._now, name: limit}
        if not self._callers_known and limit is not dict(self._declared)[name]:
            for window in limit.windows:
                if window.per in COUNTS_CALLERS:
                    raise DeclarationError(
                        f"{window} counts callers, and {self._operation} does not ask who they are.",
                        where=f"limit of {name!r}",
                        remedy="Count per address or per operation, or declare a limit that counts callers.",
                    )
        same = all(now[each] is declared for each, declared in self._declared)
        changed = None if same else Rules(self._operation, list(now.items()))

        def apply() -> None:
            self._now, self.changed = now, changed
            self.away = (changed or self.own).away

        return apply

    def refused(self, changed: Rules | None, cells: Sequence[Cell], taken: Taken) -> TooManyRequests:
        """The problem for a request that was not admitted."""
        return (changed or self.own).refused(cells, taken)


class Rules:
    """Windows as one operation applies them: the expressions for its code, and the same as functions."""

    def __init__(self, operation: str, limits: Declared) -> None:
        self._operation = operation
        named: dict[tuple[str, Window], Limit] = {
            (owner, window): limit for owner, limit in limits for window in limit.windows
        }
        self.windows = [window for _, window in named]
        self.uses: dict[str, Any] = {}
        """What the expressions need, by name."""
        self.subjects = self._subjects()
        """Lines that say who is counted, as far as more than one word is needed for it."""
        self.cell_texts = "".join(self._cell(n, *each) for n, each in enumerate(named.items()))
        self.away = _strictest(named.values())
        often = Counter(map(str, self.windows))
        self.names = [
            str(window) if often[str(window)] == 1 else f"{ascii(owner)[1:-1]}: {window}"
            for owner, window in named
        ]
        """Those of the policies in the headers: strings of printable ASCII, no two the same."""
        self.policy = ", ".join(
            f'"{name}";q={w.count};w={w.period_s}' for name, w in zip(self.names, self.windows, strict=True)
        ).encode()
        self._functions: dict[str, Any] | None = None

    @property
    def left_text(self) -> str:
        """The expression of the header's value: what each window has left, and when it is as good as new."""
        form = b", ".join(b'"%s";r=%%d;t=%%d' % name.encode() for name in self.names)
        values = [
            f"({w.room_us} - limit_taken.ahead_us[{n}]) // {w.interval_us}, -(-limit_taken.ahead_us[{n}] // 1000000)"
            for n, w in enumerate(self.windows)
        ]
        return f"{form!r} % ({', '.join(values)})"

    def cells(self, request: Request) -> tuple[Cell, ...]:
        """What a request counts in."""
        found: tuple[Cell, ...] = self._made["cells"](request)
        return found

    def tell(self, answer: Answer, taken: Taken) -> Answer:
        """The answer with what is left."""
        headers = [(b"ratelimit-policy", self.policy), (b"ratelimit", self._made["left"](taken)), *answer[1]]
        return (answer[0], headers, answer[2], answer[3])

    def refused(self, cells: Sequence[Cell], taken: Taken) -> TooManyRequests:
        """The problem for a request that was not admitted."""
        each = list(zip(self.names, self.windows, cells, taken.ahead_us, strict=True))
        full = [(name, window) for name, window, (_, cost, room), ahead in each if ahead + cost > room]
        wait = wait_us(cells, taken)
        # Nobody is told to come back before the windows that it is told of have ended.
        end_us = max(1_000_000, wait) if wait is not None else max(taken.ahead_us)
        left = ", ".join(
            f'"{name}";r={max(0, w.room_us - ahead) // w.interval_us};t={-(-min(ahead, end_us) // 1_000_000)}'
            for name, w, _, ahead in each
        )
        return refusal(
            ", ".join(str(window) for _, window in full),
            None if wait is None else wait / 1_000_000,
            {"RateLimit-Policy": self.policy.decode(), "RateLimit": left},
            violated=[name for name, _ in full],
        )

    @property
    def _made(self) -> dict[str, Any]:
        """The expressions as functions: made when the limits of a running app are changed, and not before."""
        if self._functions is None:
            lines = [
                "def cells(request):",
                " context, headers = request.context, request.header_bytes",
                *(f" {line}" for line in self.subjects),
                f" return ({self.cell_texts})",
                f"def left(limit_taken): return {self.left_text}",
            ]
            self._functions = dict(self.uses)
            exec("\n".join(lines), self._functions)  # noqa: S102 - source of our own making
        return self._functions

    def _subjects(self) -> list[str]:
        whom = {window.per for window in self.windows}
        if whom == {"operation"}:
            return []
        self.uses["address_of"] = address_of
        if not whom & COUNTS_CALLERS:
            return []
        if "api key" in whom:
            self.uses["api_key_of"] = api_key_of
        return [
            "principal = context.principal",
            "caller = f'address {address_of(request)}' if principal is None else f'principal {principal.id}'",
        ]

    def _cell(self, number: int, named: tuple[str, Window], limit: Limit) -> str:
        """The expression of one cell, with a comma."""
        owner, window = named
        key = f"{owner} {window} ".replace("{", "{{").replace("}", "}}")
        cost = str(window.interval_us)
        if callable(limit.cost):
            self.uses[f"cost_{number}"] = _checked(limit)
            cost = f"cost_{number}(request) * {window.interval_us}"
        elif limit.cost != 1:
            cost = str(limit.cost * window.interval_us)
        return f"(f{key!r}{self._subject(window)}, {cost}, {window.room_us}), "

    def _subject(self, window: Window) -> str:
        """An f-string that continues the key."""
        match window.per:
            case "principal":
                return " f'{caller}'"
            case "address":
                return " f'{address_of(request)}'"
            case "tenant":
                return """ f'{caller if context.tenant is None else "tenant " + context.tenant}'"""
            case "api key":
                return " f'{api_key_of(headers, principal) or caller}'"
            case "operation":
                return f" {self._operation!r}"


def _strictest(limits: Any) -> Away | None:
    """Of several policies the strictest; None: the app's."""
    said = {limit.away for limit in limits} - {None}
    return next((away for away in _STRICTEST if away in said), None)


def _checked(limit: Limit) -> Any:
    """The cost function of a limit, held to whole numbers from 1."""
    ask = limit.cost
    assert callable(ask)

    def cost(request: Request) -> int:
        units = ask(request)
        if not isinstance(units, int) or units < 1:
            raise TypeError(
                f"the cost of limit {limit.text!r} is {units!r}; it must be a whole number from 1."
            )
        return units

    return cost


def address_of(request: Request) -> str:
    """The client's address as limits count it: of IPv6 the network of 64 bits, since a household has them all."""
    return address_in(request.scope)


def address_in(scope: Mapping[str, Any]) -> str:
    """As :func:`address_of`, of an ASGI scope."""
    client = scope.get("client")
    if client is None:
        return "unknown"
    host: str = client[0]
    if ":" not in host:
        return host
    import ipaddress

    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"


def api_key_of(headers: Mapping[bytes, bytes], principal: Principal | None) -> str | None:
    """What stands for the API key of a caller who was recognised by one; None for others."""
    if principal is None or principal.via != "api-key":
        return None
    key = headers.get(b"x-api-key") or headers.get(b"authorization", b"")
    return f"key {hashlib.blake2b(key, digest_size=16).hexdigest()}"
