"""A dashboard for Grafana over our metrics in Prometheus, or in Mimir by way of OTLP. Pure: one JSON document.

It has a variable for the data source, one for the job and one for the operation, so one dashboard serves every app.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tenfold.telemetry import names
from tenfold.telemetry.objectives import Objective

SCHEMA_VERSION: Final = 41
"""Of Grafana 12; older ones migrate it when it is imported."""
WIDTH: Final = 24
"""Columns of a dashboard."""
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
JOB: Final = 'job="$job"'
OF: Final = 'job="$job",operation=~"$operation"'

Query = tuple[str, str]
"""Expression and legend."""


def dashboard(app: str, objectives: Mapping[str, Objective], *, job: str = "") -> str:
    """The document. Panels of error budgets are there where the app declares objectives."""
    panels = _Panels()
    panels.row("Traffic", *_traffic())
    if objectives:
        panels.row("Objectives", *_budgets())
    panels.row("Saturation", *_saturation())
    panels.row("Work", *_work())
    panels.row("Database and cache", *_data())
    panels.row("Process", *_process())
    document: dict[str, Any] = {
        "title": f"{app} (Tenfold)",
        "uid": f"tenfold-{app}"[:40],
        "description": "Written by `tenfold observe grafana`.",
        "tags": ["tenfold"],
        "timezone": "browser",
        "editable": True,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(job or app)},
        "annotations": {"list": [_alerts()]},
        "links": [],
        "panels": panels.made,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


class _Panels:
    """Panels from left to right, row below row."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self._y = 0

    def row(self, title: str, *panels: dict[str, Any]) -> None:
        """A heading, and panels that share the width below it."""
        self._add({"type": "row", "title": title, "collapsed": False, "panels": []}, 0, WIDTH, 1)
        self._y += 1
        for start in range(0, len(panels), 3):
            line = panels[start : start + 3]
            width = WIDTH // len(line)
            for at, panel in enumerate(line):
                self._add(panel, at * width, width, HEIGHT)
            self._y += HEIGHT

    def _add(self, panel: dict[str, Any], x: int, width: int, height: int) -> None:
        self.made.append(
            {**panel, "id": len(self.made) + 1, "gridPos": {"x": x, "y": self._y, "w": width, "h": height}}
        )


def _traffic() -> Sequence[dict[str, Any]]:
    requests, seconds = names.HTTP_REQUESTS, f"{names.HTTP_DURATION}_bucket"
    return (
        _lines(
            "Requests",
            "reqps",
            (f"sum by (operation) (rate({requests}{{{OF}}}[$__rate_interval]))", "{{operation}}"),
        ),
        _lines(
            "Failed",
            "reqps",
            (
                f'sum by (operation, status) (rate({requests}{{{OF},status=~"4xx|5xx"}}[$__rate_interval]))',
                "{{operation}} {{status}}",
            ),
        ),
        _lines(
            "Latency",
            "s",
            *(
                (
                    f"histogram_quantile({share}, sum by (le) (rate({seconds}{{{OF}}}[$__rate_interval])))",
                    f"p{share * 100:g}",
                )
                for share in (0.5, 0.9, 0.99)
            ),
        ),
    )


def _budgets() -> Sequence[dict[str, Any]]:
    only = f'{JOB},operation=~"$operation"'
    return (
        _gauge("Left of the error budget", f"tenfold:slo_budget:remaining{{{only}}}", "{{operation}}"),
        _lines(
            "Bad requests, 1 h",
            "percentunit",
            (f"tenfold:slo_bad:ratio_rate1h{{{only}}}", "{{operation}} {{objective}}"),
        ),
        _lines(
            "Alerts",
            "short",
            (f'sum by (alertname, severity) (ALERTS{{{JOB},alertstate="firing"}})', "{{alertname}}"),
        ),
    )


def _saturation() -> Sequence[dict[str, Any]]:
    gate = names.ADMISSION
    return (
        _lines(
            "In progress, and the limit",
            "short",
            (f"sum by (instance) ({gate}_in_flight{{{JOB}}})", "in progress {{instance}}"),
            (f"sum by (instance) ({gate}_limit{{{JOB}}})", "limit {{instance}}"),
        ),
        _lines(
            "Refused",
            "reqps",
            (f"sum by (priority) (rate({names.HTTP_SHED}{{{JOB}}}[$__rate_interval]))", "{{priority}}"),
        ),
        _lines(
            "Lag of the event loop, p99",
            "s",
            (
                f"histogram_quantile(0.99, sum by (instance, le) (rate({names.LOOP_LAG}_bucket{{{JOB}}}[$__rate_interval])))",
                "{{instance}}",
            ),
        ),
    )


def _work() -> Sequence[dict[str, Any]]:
    return (
        _lines(
            "Messages",
            "short",
            (f"max by (queue, state) ({names.QUEUE_MESSAGES}{{{JOB}}})", "{{queue}} {{state}}"),
        ),
        _lines("Oldest due message", "s", (f"max({names.QUEUE_OLDEST}{{{JOB}}})", "oldest")),
        _lines(
            "Handled",
            "ops",
            (
                f"sum by (handler, outcome) (rate({names.QUEUE_HANDLED}{{{JOB}}}[$__rate_interval]))",
                "{{handler}} {{outcome}}",
            ),
        ),
        _lines("Oldest unsent event", "s", (f"max({names.EVENTS_OLDEST}{{{JOB}}})", "oldest")),
        _lines(
            "Calls out, p99",
            "s",
            (
                f"histogram_quantile(0.99, sum by (client, le) (rate({names.CLIENT_DURATION}_bucket{{{JOB}}}[$__rate_interval])))",
                "{{client}}",
            ),
        ),
        _lines(
            "Breakers",
            "short",
            (f"max by (client, host) ({names.CLIENT_BREAKER}{{{JOB}}})", "{{client}} {{host}}"),
        ),
    )


def _data() -> Sequence[dict[str, Any]]:
    hits = f"sum by (cache) (rate({names.CACHE_NUMBERS}_hits_total{{{JOB}}}[$__rate_interval]))"
    misses = f"sum by (cache) (rate({names.CACHE_NUMBERS}_misses_total{{{JOB}}}[$__rate_interval]))"
    return (
        _lines(
            "Transactions",
            "ops",
            (f"sum by (database) (rate(tenfold_db_transactions{{{JOB}}}[$__rate_interval]))", "{{database}}"),
        ),
        _lines(
            "Waiting for the database",
            "short",
            (f"sum by (database) (tenfold_db_waiting{{{JOB}}})", "{{database}}"),
        ),
        _lines("Cache hits", "percentunit", (f"{hits} / ({hits} + {misses})", "{{cache}}")),
    )


def _process() -> Sequence[dict[str, Any]]:
    return (
        _lines(
            "CPU",
            "percentunit",
            (f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])", "{{instance}}"),
        ),
        _lines("Memory", "bytes", (f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}")),
        _lines(
            "Lost telemetry",
            "short",
            (f"sum by (reason) ({names.LOG_DROPPED}{{{JOB}}})", "log: {{reason}}"),
            (f"sum by (signal, reason) ({names.OTLP}_dropped_total{{{JOB}}})", "{{signal}}: {{reason}}"),
        ),
    )


def _lines(title: str, unit: str, *queries: Query) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "targets": _targets(queries),
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }  # fmt: skip


def _gauge(title: str, expr: str, legend: str) -> dict[str, Any]:
    steps = [
        {"color": "red", "value": None},
        {"color": "orange", "value": 0.0},
        {"color": "green", "value": 0.25},
    ]
    return {
        "type": "gauge",
        "title": title,
        "datasource": SOURCE,
        "targets": _targets([(expr, legend)]),
        "fieldConfig": {
            "defaults": {
                "unit": "percentunit",
                "min": 0,
                "max": 1,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}},
    }


def _targets(queries: Sequence[Query]) -> list[dict[str, Any]]:
    return [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        for number, (expr, legend) in enumerate(queries)
    ]


def _variables(job: str) -> list[dict[str, Any]]:
    build = names.BUILD_INFO
    return [
        {
            "name": "datasource",
            "type": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "refresh": 1,
        },
        _variable("job", "App", f"label_values({build}, job)", {"selected": True, "text": job, "value": job}),
        {
            **_variable(
                "operation",
                "Operation",
                f"label_values({names.HTTP_REQUESTS}{{{JOB}}}, operation)",
                {"selected": True, "text": ["All"], "value": ["$__all"]},
            ),
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
        },
    ]


def _variable(name: str, label: str, query: str, current: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "current": current,
        "refresh": 2,
        "sort": 1,
    }


def _alerts() -> dict[str, Any]:
    """Marks where an alert began to fire."""
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "target": {
            "refId": "Alerts",
            "expr": f'ALERTS{{{JOB},alertstate="firing"}}',
        },
    }  # fmt: skip
