"""Rate limits of operations: the step after authentication, and its run-time half.

Headers are those of the IETF's draft-ietf-httpapi-ratelimit-headers-11: what the policies are, what is left of each.
``t`` is when a window is as good as new; of a refused request, when it would be admitted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenfold.errors import DeclarationError
from tenfold.guard.gcra import Cell, Taken, wait_us
from tenfold.guard.limiter import refusal
from tenfold.guard.rates import Away, Limit, Window, as_limit
from tenfold.http.encoding import is_plain, with_headers
from tenfold.http.operation import UNSET
from tenfold.http.reply import WrittenHeader

if TYPE_CHECKING:
    from tenfold.errors import TooManyRequests
    from tenfold.http.build import Build
    from tenfold.http.operation import Operation
    from tenfold.http.request import Request
    from tenfold.security.principal import Principal

Declared = list[tuple[str, Limit]]
"""Limits with the name of who declared them: all operations below that share its count."""

COUNTS_CALLERS = frozenset({"principal", "tenant", "api key"})

CALLERS_MAX = 1_000
"""Callers whose cells an operation remembers; some 300 bytes each."""
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
    code.use(
        limiter=limiter, limits=limiter.store, limit_later=limiter.decide,
        limit_refused=rules.refused, **rules.uses,
    )  # fmt: skip
    code.line(*rules.cells, *(_ONE if len(rules.windows) == 1 else _MANY))
    code.line(
        f"    limit_taken = await limit_later(limit_cells, {rules.away!r})",
        "    if not limit_taken.admitted: raise limit_refused(limit_cells, limit_taken.ahead_us)",
        "    limit_ahead = limit_taken.ahead_us",
    )
    code.line(  # Most callers find their windows as good as new, and are told the same.
        "if limit_ahead != limit_headers.ahead_us:",
        f"    limit_left = ({rules.left})",
        "    limit_headers.shown = shown_before(limit_left) or limit_headers.make(limit_left)",
        "    limit_headers.ahead_us = limit_ahead",
        "limit_shown = limit_headers.shown",
    )
    headers = LeftHeaders(rules.names, rules.policy)
    code.use(LIMIT_POLICY=(b"ratelimit-policy", rules.policy))
    code.use(limit_headers=headers, shown_before=headers.get)
    added = ["LIMIT_POLICY", "limit_shown"]
    policies = operation.policies
    if is_plain(operation) and policies.cache is None and not (policies.idempotent or policies.etag):
        build.headers += added
    else:  # the answer may be one that was made before, for others
        code.use(with_headers=with_headers)
        code.after(f"answer = with_headers(answer, {', '.join(added)})")


# RateLimiter.take_now, written out.
_ONE = (
    "((limit_key, limit_cost, limit_room),) = limit_cells",
    "limit_ahead = limits.take_one(limit_key, limit_cost, limit_room)",
    "if limit_ahead is not None:",
    "    if limit_ahead < 0:",
    "        limiter.refused += 1",
    "        raise limit_refused(limit_cells, (~limit_ahead,))",
    "    limiter.admitted += 1",
    "    limit_ahead = (limit_ahead,)",
    "else:",
)
_MANY = (
    "limit_taken = limits.take_now(limit_cells)",
    "if limit_taken is not None:",
    "    if not limit_taken.admitted:",
    "        limiter.refused += 1",
    "        raise limit_refused(limit_cells, limit_taken.ahead_us)",
    "    limiter.admitted += 1",
    "    limit_ahead = limit_taken.ahead_us",
    "else:",
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
        self.cells = self._cells(named)
        """Lines that make ``limit_cells``."""
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

    @property
    def left(self) -> str:
        """The expressions of what each window has left, and in how many seconds it is as good as new."""
        return ", ".join(
            f"({w.room_us} - limit_ahead[{n}]) // {w.interval_us}, -(-limit_ahead[{n}] // 1000000)"
            for n, w in enumerate(self.windows)
        )

    def refused(self, cells: Sequence[Cell], ahead_us: tuple[int, ...]) -> TooManyRequests:
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

    def _cells(self, named: Mapping[tuple[str, Window], Limit]) -> list[str]:
        """Where only principals are counted, and each request costs the same, a caller's cells are always the same."""
        cells = f"limit_cells = ({''.join(self._cell(n, *each) for n, each in enumerate(named.items()))})"
        forms = [
            (f"{owner} {window} ", limit.cost * window.interval_us, window.room_us)
            for (owner, window), limit in named.items()
            if window.per == "principal" and not callable(limit.cost)
        ]
        if len(forms) < len(named):
            return [*self._subjects(), cells]
        self.uses |= {"cells_of": CellsOf(forms), "address_of": address_of}
        return [
            "principal = context.principal",
            "if principal is not None: limit_cells = cells_of[principal.id]",
            f"else: caller = f'address {{address_of(request)}}'; {cells}",
        ]

    def _subjects(self) -> list[str]:
        """Lines that say who is counted, as far as more than one word is needed for it."""
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


class CellsOf(dict[str, tuple[Cell, ...]]):
    """The cells of each principal, by its id: to look up those of one who asks again is no call and makes no text.

    ``forms`` are the beginnings of their keys, with cost and room in microseconds.
    """

    def __init__(self, forms: Sequence[Cell]) -> None:
        super().__init__()
        self._forms = tuple(forms)

    def __missing__(self, principal: str) -> tuple[Cell, ...]:
        if len(self) >= CALLERS_MAX:
            self.clear()
        made = tuple((f"{key}principal {principal}", cost, room) for key, cost, room in self._forms)
        self[principal] = made
        return made


class LeftHeaders(dict[tuple[int, ...], WrittenHeader]):
    """The header that tells what is left, by the numbers in it: most answers say what another one said before. It is sent
    behind the ``policy``."""

    __slots__ = ("_form", "_policy", "ahead_us", "shown")

    def __init__(self, names: Sequence[str], policy: bytes) -> None:
        super().__init__()
        self.ahead_us: tuple[int, ...] = ()
        """What was said last is of this decision."""
        self.shown = WrittenHeader((b"ratelimit", b""))
        """What was said last."""
        self._policy = policy
        self._form = b", ".join(b'"%s";r=%%d;t=%%d' % name.encode() for name in names)

    def make(self, left: tuple[int, ...]) -> WrittenHeader:
        """That of numbers that are not known."""
        if len(self) >= HEADERS_MAX:
            self.clear()
        value = self._form % left
        made = self[left] = WrittenHeader((b"ratelimit", value))
        made.lines = b"ratelimit-policy: %b\r\nratelimit: %b\r\n" % (self._policy, value)
        return made


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
