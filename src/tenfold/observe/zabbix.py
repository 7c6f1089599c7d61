"""Zabbix: a template with items, triggers and graphs, and the agent's ``UserParameter`` lines. Pure.

The agent runs ``tenfold probe`` for states, and fetches ``/metrics`` once a minute as one text; the other items depend on
that text and take their number out of it with Zabbix' own Prometheus preprocessing, so the app is asked once for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from tenfold.observe.text import yaml
from tenfold.telemetry import names
from tenfold.telemetry.alerts.rules import BUILT_IN
from tenfold.telemetry.objectives import Objective

GROUP: Final = "Templates/Applications"
_SPACE: Final = uuid5(NAMESPACE_URL, "tenfold:zabbix")

ITEMS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # key: name, pattern, function over the lines that match, unit
    "queue.oldest": ("Oldest due message", names.QUEUE_OLDEST, "max", "s"),
    "queue.ready": ("Messages that are ready", f'{names.QUEUE_MESSAGES}{{state="ready"}}', "sum", ""),
    "queue.dead": ("Dead messages", f'{names.QUEUE_MESSAGES}{{state="dead"}}', "sum", ""),
    "http.requests": ("Requests", names.HTTP_REQUESTS, "sum", "rps"),
    "http.failed": ("Failed requests", f'{names.HTTP_REQUESTS}{{status="5xx"}}', "sum", "rps"),
    "http.in_flight": ("Requests in progress", names.HTTP_IN_FLIGHT, "sum", ""),
    "http.shed": ("Refused requests", names.HTTP_SHED, "sum", "rps"),
    "checks.worst": ("Worst check", names.HEALTH, "min", ""),
    "breakers.worst": ("Worst breaker", names.CLIENT_BREAKER, "max", ""),
    "events.oldest": ("Oldest unsent event", names.EVENTS_OLDEST, "max", "s"),
    "log.lost": ("Lost lines of the log", names.LOG_DROPPED, "sum", ""),
    "slo.requests": ("Requests that objectives count", names.SLO_REQUESTS, "sum", "rps"),
    "slo.bad": ("Requests that were bad", names.SLO_BAD, "sum", "rps"),
    "memory": ("Memory", "process_resident_memory_bytes", "sum", "B"),
    "cpu": ("CPU", "process_cpu_seconds_total", "sum", "%"),
}
TRIGGERS: Final[Mapping[str, tuple[str, str, str]]] = {
    # rule of the box: item, expression over it, and what it says of all labels together
    "QueueLate": (
        "queue.oldest",
        "min(/{T}/{K},5m)>300",
        "The oldest due message has waited for {ITEM.LASTVALUE1}",
    ),
    "JobsDie": (
        "queue.dead",
        "last(/{T}/{K})>0",
        "{ITEM.LASTVALUE1} messages are dead: all of their attempts failed",
    ),
    "RequestsShed": (
        "http.shed",
        "min(/{T}/{K},5m)>1",
        "{ITEM.LASTVALUE1} are refused: the instance is overloaded",
    ),
    "CheckFails": ("checks.worst", "max(/{T}/{K},2m)<1", "A check fails, so balancers send nobody here"),
    "BreakerOpen": ("breakers.worst", "min(/{T}/{K},5m)>=1", "Calls out are held back: too many failed"),
    "EventsLate": (
        "events.oldest",
        "min(/{T}/{K},5m)>300",
        "The oldest unsent event has waited for {ITEM.LASTVALUE1}",
    ),
    "TelemetryLost": (
        "log.lost",
        "change(/{T}/{K})>0",
        "Lines of the log are lost: {ITEM.LASTVALUE1} so far",
    ),
}
_PRIORITY: Final = {"page": "HIGH", "ticket": "WARNING"}


def user_parameters(url: str, program: str = "tenfold") -> str:
    """Lines for the agent, such as /etc/zabbix/zabbix_agentd.d/tenfold.conf. The token is read from the agent's environment
    (TENFOLD_OPS_TOKEN)."""
    probes = "\n".join(
        f"UserParameter=tenfold.state.{what},{program} probe {what} --url {url} >/dev/null; echo $?"
        for what in ("ready", "queue", "alerts")
    )
    return (
        "# Items of Tenfold for the agent of Zabbix, written by `tenfold observe zabbix --agent`.\n"
        "# States of probes: 0 OK, 1 warning, 2 critical, 3 unknown. The page of metrics is one text.\n"
        f"{probes}\n"
        f"UserParameter=tenfold.metrics,{program} probe page --url {url}\n"
    )


def template(app: str, objectives: Mapping[str, Objective]) -> str:
    """The template, for import at *Data collection → Templates* (Zabbix 6.0 and newer)."""
    name = f"Tenfold {app}"
    items = [_ready(name), _page(), *(_item(name, key) for key in ITEMS if _wanted(key, objectives))]
    document = {
        "zabbix_export": {
            "version": "6.0",
            "groups": [{"uuid": _uuid(GROUP), "name": GROUP}],
            "templates": [
                {
                    "uuid": _uuid(name),
                    "template": name,
                    "name": name,
                    "description": f"{app}, by `tenfold observe zabbix`.",
                    "groups": [{"name": GROUP}],
                    "items": items,
                }
            ],
        }
    }
    return yaml(document, about=f"Template of {app} for Zabbix, written by `tenfold observe zabbix`.")


def _wanted(key: str, objectives: Mapping[str, Objective]) -> bool:
    return bool(objectives) or not key.startswith("slo.")


def _ready(template_name: str) -> dict[str, Any]:
    key = "tenfold.state.ready"
    return {
        "uuid": _uuid(f"{template_name}/{key}"),
        "name": "Readiness",
        "key": key,
        "delay": "1m",
        "description": "0 OK, 1 a check is slow, 2 not ready or not reached, 3 unknown.",
        "triggers": [_trigger(template_name, "NotReady", f"min(/{template_name}/{key},2m)>=2", "HIGH", "The instance is not ready, or does not answer.", "`tenfold probe ready` says why.")],
    }  # fmt: skip


def _page() -> dict[str, Any]:
    return {
        "uuid": _uuid("tenfold.metrics"),
        "name": "Metrics",
        "key": "tenfold.metrics",
        "delay": "1m",
        "history": "0",
        "trends": "0",
        "value_type": "TEXT",
        "description": "All metrics as one text; the other items take their numbers out of it.",
    }


def _item(template_name: str, key: str) -> dict[str, Any]:
    shown, pattern, function, unit = ITEMS[key]
    steps: list[dict[str, Any]] = [
        {
            "type": "PROMETHEUS_PATTERN",
            "parameters": [pattern, "function", function],
            "error_handler": "CUSTOM_VALUE",
            "error_handler_params": "1" if key == "checks.worst" else "0",
        }
    ]
    if unit in ("rps", "%"):
        steps.append({"type": "CHANGE_PER_SECOND", "parameters": [""]})
    if unit == "%":
        steps.append({"type": "MULTIPLIER", "parameters": ["100"]})
    item: dict[str, Any] = {
        "uuid": _uuid(f"{template_name}/{key}"),
        "name": shown,
        "type": "DEPENDENT",
        "key": f"tenfold.{key}",
        "delay": "0",
        "value_type": "FLOAT",
        **({"units": unit} if unit else {}),
        "preprocessing": steps,
        "master_item": {"key": "tenfold.metrics"},
    }
    triggers = _triggers(template_name, key)
    return {**item, **({"triggers": triggers} if triggers else {})}


def _triggers(template_name: str, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for rule in BUILT_IN:
        item, expression, says = TRIGGERS[rule.name]
        if item == key:
            written = expression.replace("{T}", template_name).replace("{K}", f"tenfold.{key}")
            found.append(_trigger(template_name, rule.name, written, _PRIORITY[rule.severity], says, rule.do))
    return found


def _trigger(
    template_name: str, rule: str, expression: str, priority: str, says: str, do: str
) -> dict[str, Any]:
    return {
        "uuid": _uuid(f"{template_name}/{rule}"),
        "expression": expression,
        "name": says,
        "priority": priority,
        "description": do,
    }


def _uuid(text: str) -> str:
    """A UUID of version 4 in form, as Zabbix asks for, and always the same."""
    made = uuid5(_SPACE, text).int & ~(0xF << 76) | (0x4 << 76)
    return UUID(int=made).hex
