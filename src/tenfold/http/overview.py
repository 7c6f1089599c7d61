"""What surrounds each operation, for people: the value of every policy in force, and who said so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold._core.context import Priority
from tenfold.http.limiting import limits_of
from tenfold.http.policies import DEFAULT, OPERATION, OVERRIDE, UNSET, Layers, Sourced, effective, sourced
from tenfold.security.policy import as_policy

if TYPE_CHECKING:
    from tenfold._core.sections import HttpSettings
    from tenfold.guard.rates import Limit
    from tenfold.http.operation import Operation, ResponseCache

NONE = "–"


class PolicyRow(msgspec.Struct, frozen=True):
    """One policy of one operation."""

    name: str
    """As it is written on the operation, and changed at run time."""
    value: str | int | float | bool | None
    shown: str
    """The value as people read it."""
    source: str
    """``operation``, ``service orders``, ``app``, ``override``, ``setting http.timeout_s`` or ``default``."""

    @property
    def declared(self) -> bool:
        """Whether somebody chose it for this app, as opposed to settings and defaults that hold for all."""
        return self.source != DEFAULT and not self.source.startswith("setting ")


class OperationRow(msgspec.Struct, frozen=True):
    """One operation with everything that surrounds it."""

    operation: str
    service: str
    method: str
    path: str
    """Empty for operations that only other services call."""
    policies: list[PolicyRow]


def overview(
    operations: Iterable[Operation[..., Any]],
    inherited: Mapping[str, Layers],
    limits: Mapping[str, list[tuple[str, Limit]]],
    settings: HttpSettings,
    *,
    before: Mapping[str, Layers] | None = None,
) -> list[OperationRow]:
    """A row per operation, in order. ``before`` has by operation what was changed at run time."""
    rows: list[OperationRow] = []
    for operation in operations:
        layers = (*(before or {}).get(operation.name, ()), *inherited.get(operation.service, ()))
        path = operation.path if operation.routed else ""
        rows.append(
            OperationRow(
                operation.name,
                operation.service,
                operation.method,
                path,
                _policies(operation, layers, limits, settings),
            )
        )
    return rows


def _policies(
    operation: Operation[..., Any],
    layers: Layers,
    limits: Mapping[str, list[tuple[str, Limit]]],
    settings: HttpSettings,
) -> list[PolicyRow]:
    found = sourced(operation, layers)
    timeout = _or_setting(found["timeout_s"], settings.timeout_s, "setting http.timeout_s")
    bound = found["concurrency"]
    shown_bound = NONE if bound.value is None else f"{bound.value} at a time"
    inner = [
        PolicyRow("timeout_s", timeout.value, f"{timeout.value:g} s", timeout.source),
        PolicyRow("concurrency", bound.value, shown_bound, bound.source),
    ]
    if not operation.routed:
        return [PolicyRow("auth", None, "other services only", DEFAULT), *inner]
    priority = found["priority"]
    name = Priority(priority.value).name.lower()
    return [
        _auth(operation),
        PolicyRow("priority", name, name, priority.source),
        *_limits(operation, layers, limits),
        *inner,
        *_of_bodies(operation, found, settings),
        _cache(operation.policies.cache),
        *_objective(found["slo"]),
    ]


def _objective(found: Sourced) -> Sequence[PolicyRow]:
    """Of operations that have one."""
    return [] if found.value is None else [PolicyRow("slo", str(found.value), str(found.value), found.source)]


def _auth(operation: Operation[..., Any]) -> PolicyRow:
    policies = operation.policies
    if policies.auth is UNSET:
        return PolicyRow("auth", None, "no policy!", DEFAULT)
    said = as_policy(policies.auth).describe()
    return PolicyRow("auth", said, said, policies.auth_from or OPERATION)


def _limits(
    operation: Operation[..., Any], layers: Layers, inherited: Mapping[str, list[tuple[str, Limit]]]
) -> list[PolicyRow]:
    changed = any(source == OVERRIDE and shared.limit is not UNSET for source, shared in layers)
    own = OVERRIDE if changed else OPERATION
    declared = limits_of(effective(operation, layers), inherited)
    if not declared:
        lifted = own if changed or operation.policies.limit is None else DEFAULT
        return [PolicyRow("limit", None, NONE, lifted)]
    return [
        PolicyRow("limit", str(limit), _shown(limit), own if owner == operation.name else owner)
        for owner, limit in declared
    ]


def _shown(limit: Limit) -> str:
    if callable(limit.cost):
        return f"{limit}, at a cost of its own"
    return f"{limit}, {limit.cost} each" if limit.cost != 1 else str(limit)


def _of_bodies(
    operation: Operation[..., Any], found: Mapping[str, Sourced], settings: HttpSettings
) -> Sequence[PolicyRow]:
    """Those of operations that take a body."""
    if operation.method in ("GET", "HEAD", "OPTIONS"):
        return ()
    key, body = found["idempotent"], found["body_max_bytes"]
    words = {"required": "key required", True: "key honoured", False: NONE}
    size = _or_setting(body, settings.body_max_bytes, "setting http.body_max_bytes")
    return (
        PolicyRow("idempotent", key.value, words[key.value], key.source),
        PolicyRow("body_max_bytes", size.value, _bytes(size.value), size.source),
    )


def _cache(cache: ResponseCache | None) -> PolicyRow:
    if cache is None:
        return PolicyRow("cache", None, NONE, DEFAULT)
    tags = f", tags {', '.join(cache.tags)}" if cache.tags else ""
    stale = f", then {cache.stale_s:g} s stale" if cache.stale_s else ""
    return PolicyRow("cache", cache.ttl_s, f"{cache.ttl_s:g} s{stale}{tags}", OPERATION)


def _or_setting(found: Sourced, value: Any, setting: str) -> Sourced:
    return Sourced(value, setting) if found.value is None else found


def _bytes(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
