"""Rate limits of operations: the step after authentication, and its run-time half.

Headers are those of the IETF's draft-ietf-httpapi-ratelimit-headers-11: what the policies are, what is left of each.
``t`` is when a window is as good as new; of a refused request, when it would be admitted.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tenfold._core.made import Made
from tenfold.errors import DeclarationError
from tenfold.guard.gcra import LATER, Cell, Taken, wait_us
from tenfold.guard.limiter import refusal
from tenfold.guard.rates import Away, Limit, Window, as_limit
from tenfold.http.encoding import is_plain, with_headers
from tenfold.http.operation import UNSET
from tenfold.http.reply import WrittenHeader

if TYPE_CHECKING:
    from tenfold.errors import TooManyRequests
    from tenfold.guard.limiter import RateLimiter
    from tenfold.http.build import Build
    from tenfold.http.operation import Operation
    from tenfold.http.request import Request
    from tenfold.security.principal import Principal

Declared = list[tuple[str, Limit]]
"""Limits with the name of who declared them: all operations below that share its count."""

COUNTS_CALLERS = frozenset({"principal", "tenant", "api key"})

CALLERS_MAX = 1_000
"""Callers whose keys a window of an operation remembers; some 250 bytes each."""
HEADERS_MAX = 5_000
"""Headers that it remembers to have made; some 250 bytes each. As many as a limit of 1,000 an hour can need."""

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
    """The step: refuse, or go on and tell what is left."""
    declared = limits_of(build.operation, build.wiring.limits)
    if not declared:
        return
    limiter, operation, code = build.wiring.limiter, build.operation, build.code
    if limiter is None:
        raise DeclarationError("it has limit=, but the app counts no requests.", where=operation.where)
    rules = Rules(operation.name, declared)
    left = left_headers(rules.names, rules.policy)
    code.use(limiter=limiter, **rules.uses)
    headers: Any = left
    if len(rules.windows) == 1:
        headers = headers_of_one(rules.windows[0], left)
        code.use(take_one=limiter.store.take_one, limit_not_yet=rules.not_yet(limiter))
        code.line(*rules.subject, *_one(rules.cells[0], step_of(rules.windows[0])))
    else:
        code.use(take_now=limiter.store.take_now, limit_not_yet=rules.not_yet_all(limiter))
        code.line(*rules.subject, *_all(rules))
    code.use(
        limit_headers=headers.known, limit_header=headers, LIMIT_POLICY=(b"ratelimit-policy", rules.policy)
    )
    added = ["LIMIT_POLICY", "limit_shown"]
    policies = operation.policies
    if is_plain(operation) and policies.cache is None and not (policies.idempotent or policies.etag):
        build.headers += added
    else:  # the answer may be one that was made before, for others
        code.use(with_headers=with_headers)
        code.after(f"answer = with_headers(answer, {', '.join(added)})")


def _one(cell: Expressions, step_us: int) -> tuple[str, ...]:
    """RateLimiter.take_now for one cell, written out: a number and no object."""
    set_cost, cost = (
        ((), cell.cost) if cell.cost.isdecimal() else ((f"limit_cost = {cell.cost}",), "limit_cost")
    )
    return (
        f"limit_key = {cell.key}",
        *set_cost,
        f"limit_ahead = take_one(limit_key, {cost}, {cell.room_us})",
        f"if limit_ahead < 0: limit_ahead = await limit_not_yet(limit_ahead, (limit_key, {cost}, {cell.room_us}))",
        "else: limiter.admitted += 1",
        *_shown(f"-limit_ahead // {step_us}"),
    )


def _shown(left: str) -> tuple[str, str]:
    return (
        f"try: limit_shown = limit_headers[{left}]",
        f"except KeyError: limit_shown = limit_header(({left}))",
    )


def _all(rules: Rules) -> tuple[str, ...]:
    """RateLimiter.take_now, written out."""
    cells = "".join(f"({cell.key}, {cell.cost}, {cell.room_us}), " for cell in rules.cells)
    return (
        f"limit_cells = ({cells})",
        "limit_taken = take_now(limit_cells)",
        "if limit_taken is None or not limit_taken.admitted:",
        "    limit_taken = await limit_not_yet(limit_taken, limit_cells)",
        "else: limiter.admitted += 1",
        "limit_ahead = limit_taken.ahead_us",
        *_shown(rules.left),
    )


class Rules:
    """Windows as one operation applies them: the expressions for its code, and its refusals."""

    def __init__(self, operation: str, limits: Declared) -> None:
        self._operation = operation
        named: dict[tuple[str, Window], Limit] = {
            (owner, window): limit for owner, limit in limits for window in limit.windows
        }
        self.windows = [window for _, window in named]
        self.uses: dict[str, Any] = {}
        """What the expressions need, by name."""
        self.subject = self._subject_lines()
        """Lines that say who asks, as far as the keys need more than the ``principal`` of the authentication step."""
        self.cells = [self._cell(n, *each) for n, each in enumerate(named.items())]
        self.away: Away | None = _strictest(named.values())
        often = Counter(map(str, self.windows))
        self.names = [
            str(window) if often[str(window)] == 1 else f"{ascii(owner)[1:-1]}: {window}"
            for owner, window in named
        ]
        """Those of the policies in the headers: strings of printable ASCII, no two the same."""
        self.policy = ", ".join(
            f'"{name}";q={w.count};w={w.period_s}' for name, w in zip(self.names, self.windows, strict=True)
        ).encode()

    @property
    def left(self) -> str:
        """The expressions of what each window has left, and in how many seconds it is as good as new."""
        return ", ".join(
            f"({w.room_us} - limit_ahead[{n}]) // {w.interval_us}, -(-limit_ahead[{n}] // 1000000)"
            for n, w in enumerate(self.windows)
        )

    def not_yet(self, limiter: RateLimiter) -> Callable[[int, Cell], Awaitable[int]]:
        """For a request that one window did not admit at once: asks the store where only that can decide, and answers the
        number that it says; raises TooManyRequests."""

        async def not_yet(ahead: int, cell: Cell) -> int:
            if ahead == LATER:
                taken = await limiter.decide((cell,), self.away)
                if taken.admitted:
                    return taken.ahead_us[0]
                raise self._refused((cell,), taken.ahead_us)
            limiter.refused += 1
            raise self._refused((cell,), (~ahead,))

        return not_yet

    def not_yet_all(self, limiter: RateLimiter) -> Callable[[Taken | None, Sequence[Cell]], Awaitable[Taken]]:
        """The same of several."""

        async def not_yet(taken: Taken | None, cells: Sequence[Cell]) -> Taken:
            if taken is None:
                taken = await limiter.decide(cells, self.away)
            else:
                limiter.refused += 1
            if not taken.admitted:
                raise self._refused(cells, taken.ahead_us)
            return taken

        return not_yet

    def _refused(self, cells: Sequence[Cell], ahead_us: tuple[int, ...]) -> TooManyRequests:
        """The problem for a request that was not admitted."""
        each = list(zip(self.names, self.windows, cells, ahead_us, strict=True))
        full = [(name, window) for name, window, (_, cost, room), ahead in each if ahead + cost > room]
        wait = wait_us(cells, Taken(False, 0, ahead_us))
        # Nobody is told to come back before the windows that it is told of have ended.
        end_us = max(1_000_000, wait) if wait is not None else max(ahead_us)
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

    def _subject_lines(self) -> list[str]:
        whom = {window.per for window in self.windows}
        if whom == {"operation"}:
            return []
        self.uses["address_of"] = address_of
        if not whom & {"tenant", "api key"}:
            return []
        self.uses["api_key_of"] = api_key_of
        return [
            "caller = f'address {address_of(request)}' if principal is None else f'principal {principal.id}'"
        ]

    def _cell(self, number: int, named: tuple[str, Window], limit: Limit) -> Expressions:
        owner, window = named
        cost = str(window.interval_us)
        if callable(limit.cost):
            self.uses[f"cost_{number}"] = _checked(limit)
            cost = f"cost_{number}(request) * {window.interval_us}"
        elif limit.cost != 1:
            cost = str(limit.cost * window.interval_us)
        return Expressions(self._key(number, f"{owner} {window} ", window), cost, window.room_us)

    def _key(self, number: int, beginning: str, window: Window) -> str:
        text = beginning.replace("{", "{{").replace("}", "}}")
        match window.per:
            case "principal":
                keys = self.uses[f"key_{number}"] = keys_of(beginning)
                self.uses[f"keys_{number}"] = keys.known
                unknown = f"f{text!r} f'address {{address_of(request)}}'"
                known = f"keys_{number}[principal.id] if principal.id in keys_{number} else key_{number}(principal.id)"
                return f"({unknown} if principal is None else {known})"
            case "address":
                return f"f{text!r} f'{{address_of(request)}}'"
            case "tenant":
                return (
                    f"""f{text!r} f'{{caller if context.tenant is None else "tenant " + context.tenant}}'"""
                )
            case "api key":
                return f"f{text!r} f'{{api_key_of(headers, principal) or caller}}'"
            case "operation":
                return repr(f"{beginning}{self._operation}")


class Expressions(NamedTuple):
    """Of a cell, in the generated code."""

    key: str
    cost: str
    room_us: int


def keys_of(beginning: str) -> Made[str, str]:
    """The keys of principals, by their ids: that of one who asks again is looked up. ``beginning``: what all of them begin
    with."""
    return Made(lambda principal: f"{beginning}principal {principal}", CALLERS_MAX)


def left_headers(names: Sequence[str], policy: bytes) -> Made[tuple[int, ...], WrittenHeader]:
    """The header that tells what is left, by the numbers in it: most answers say what another one said before. It is sent
    behind the ``policy``."""
    form = b", ".join(b'"%s";r=%%d;t=%%d' % name.encode() for name in names)

    def written(left: tuple[int, ...]) -> WrittenHeader:
        value = form % left
        made = WrittenHeader((b"ratelimit", value))
        made.lines = b"ratelimit-policy: %b\r\nratelimit: %b\r\n" % (policy, value)
        return made

    return Made(written, HEADERS_MAX)


def step_of(window: Window) -> int:
    """The longest time, in microseconds, in which neither of the two numbers of its header changes."""
    return math.gcd(window.interval_us, 1_000_000)


def headers_of_one(window: Window, left: Made[tuple[int, ...], WrittenHeader]) -> Made[int, WrittenHeader]:
    """The same of one window, by how many steps its TAT is ahead, negative: ``-ahead_us // step_us``, which rounds up."""
    step_us = step_of(window)

    def written(steps: int) -> WrittenHeader:
        ahead_us = -steps * step_us
        return left(((window.room_us - ahead_us) // window.interval_us, -(-ahead_us // 1_000_000)))

    return Made(written, HEADERS_MAX)


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
