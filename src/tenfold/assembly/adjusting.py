"""What of a running app can be changed, as :class:`~tenfold.guard.overrides.Overrides` needs it.

An operation whose policies change is compiled again: the generated code has every value written into it, so what does
not change costs nothing, and what was left out (a limit, a bulkhead) can be put in. A cell that the code would read
instead costs each request a look, and could only change what was declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tenfold.errors import ConfigError
from tenfold.guard.backends._memory_overrides import MemoryOverrides
from tenfold.guard.backends._sql_overrides import SqlOverrides
from tenfold.guard.overrides import Adjustable, Overrides
from tenfold.http.policies import OVERRIDE, Layers, Shared, checked

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.client.client import HttpClient
    from tenfold.guard.admission import Admission
    from tenfold.guard.rates import Limit
    from tenfold.http.asgi import HttpApp
    from tenfold.http.operation import Operation
    from tenfold.rpc.binding import Calls
    from tenfold.service import Service

OF_OPERATIONS = ("limit", "timeout_s", "priority", "concurrency")
BREAKER_STATES = ("open", "closed")


def overrides_of(app: App, changes: Changes) -> Overrides:
    """Everything that can be changed in a running app; kept in its first database, or else in this process."""
    adjustables = [of_operation(operation, changes) for operation in app.operations]
    adjustables += [of_service(service, changes) for service in app.services]
    adjustables += [of_client(client) for client in app.clients]
    adjustables += [
        each for s in app.services for m in s.mounts for each in getattr(m.app, "adjustables", ())
    ]
    if changes.gate is not None:
        adjustables.append(of_admission(changes.gate, changes.gate.learned))
    store = SqlOverrides(app.databases[0]) if app.databases else MemoryOverrides()
    return Overrides(store, app.clock, adjustables)


class Changes:
    """The changed policies of operations and services, put into force by compiling what they concern."""

    def __init__(self, http: HttpApp, calls: Calls, limits: dict[str, list[tuple[str, Limit]]]) -> None:
        self._http, self._calls = http, calls
        self.limits = limits
        """The limits by service that the endpoints are compiled with, as they are now."""
        self._declared = {service: list(each) for service, each in limits.items()}
        self._operations: dict[str, Shared] = {}

    @property
    def gate(self) -> Admission | None:
        """What lets requests in; None without a bound."""
        return self._http.wiring.admission

    @property
    def layers(self) -> dict[str, Layers]:
        """By operation: what goes before what it declares."""
        return {name: ((OVERRIDE, changed),) for name, changed in self._operations.items()}

    def before(self, operation: Operation[..., Any]) -> Layers:
        """What goes before what an operation declares."""
        return self.layers.get(operation.name, ())

    def change_operation(self, name: str, values: Mapping[str, Any]) -> None:
        self._operations.pop(name, None)
        if values:
            self._operations[name] = Shared(**values)
        self._compile(lambda operation: operation.name == name)

    def change_service(self, name: str, values: Mapping[str, Any]) -> None:
        owner = f"service {name}"
        declared = self._declared[name]
        if "limit" in values:
            declared = [each for each in declared if each[0] != owner]
            declared += [] if values["limit"] is None else [(owner, values["limit"])]
        self.limits[name] = declared
        self._compile(lambda operation: operation.service == name)

    def _compile(self, concerns: Callable[[Operation[..., Any]], bool]) -> None:
        def changed(operation: Operation[..., Any]) -> Layers | None:
            return self.before(operation) if concerns(operation) else None

        self._http.recompile(changed)
        self._calls.change(changed)


def of_operation(operation: Operation[..., Any], changes: Changes) -> Adjustable:
    """``orders.place_order.limit``, ``.timeout_s``, ``.priority`` and ``.concurrency``. Of operations without a route,
    what calls between services heed."""
    policies = OF_OPERATIONS if operation.routed else ("timeout_s", "concurrency")
    return Adjustable(
        operation.name,
        {policy: _check(policy, operation.name) for policy in policies},
        lambda values: changes.change_operation(operation.name, values),
    )


def of_service(service: Service, changes: Changes) -> Adjustable:
    """``orders.limit``: the one that all its operations share, besides their own and the app's."""
    return Adjustable(
        service.name,
        {"limit": _check("limit", f"service {service.name}")},
        lambda values: changes.change_service(service.name, values),
    )


def of_admission(gate: Admission, learns: bool) -> Adjustable:
    """``http.concurrency``: a number, or ``adaptive`` where the setting says so."""

    def check(value: Any) -> int | None:
        if value == "adaptive" and learns:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        either = "a number from 1, or adaptive" if learns else "a number from 1"
        raise ConfigError(f"{value!r} is not how many requests may run at a time.", remedy=f"Write {either}.")

    return Adjustable(
        "http", {"concurrency": check}, lambda values: gate.set_limit(values.get("concurrency"))
    )


def of_client(client: HttpClient) -> Adjustable:
    """``payments.breaker``: ``open`` refuses every call, ``closed`` lets all of them through; unset, it decides."""

    def check(value: Any) -> str:
        if value in BREAKER_STATES:
            return str(value)
        raise ConfigError(f"a breaker is not {value!r}.", remedy="Write open or closed.")

    def apply(values: Mapping[str, Any]) -> None:
        client.force_all(values.get("breaker"))

    return Adjustable(client.name, {"breaker": check}, apply)


def _check(policy: str, where: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is None and policy == "timeout_s":
            raise ConfigError("there is always a deadline.", remedy="Write seconds above 0, such as 2.5.")
        return checked(policy, value, where)

    return check
