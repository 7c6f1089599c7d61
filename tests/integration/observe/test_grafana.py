"""Grafana's own types judge the dashboard, and promtool each expression of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.clients import CACHE, NODE, TSC, needs_typescript
from support.told import judged, written
from tenfold.observe.grafana import dashboard
from tenfold.telemetry.objectives import Objective

OBJECTIVES = {"orders.place": Objective("99.9% under 300ms")}
SCHEMA = next(iter(sorted(CACHE.glob("grafana-schema-*/node_modules"))), None)
JUDGE = """
import { ThresholdsMode } from "@grafana/schema";
import type { AnnotationQuery, Dashboard, DataQuery, Panel, RowPanel, VariableModel } from "@grafana/schema";
type Marked = Omit<AnnotationQuery, "target"> & { target: DataQuery & { expr: string } };
const variables: VariableModel[] = %s;
const annotations: Marked[] = %s;
const panels: (Panel | RowPanel)[] = %s;
const dashboard: Dashboard = { ...%s, panels, templating: { list: variables }, annotations: { list: annotations } };
export default dashboard;
"""


def enumerated(text: str) -> str:
    """Where TypeScript wants the member of an enumeration, whose value is the text in the document."""
    return text.replace('"mode": "absolute"', '"mode": ThresholdsMode.Absolute')


def judge(folder: Path, document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    rest = {
        key: value for key, value in document.items() if key not in ("panels", "templating", "annotations")
    }
    parts = (document["templating"]["list"], document["annotations"]["list"], document["panels"], rest)
    (folder / "dashboard.ts").write_text(JUDGE % tuple(enumerated(json.dumps(part)) for part in parts))
    (folder / "node_modules").symlink_to(SCHEMA) if not (folder / "node_modules").exists() else None
    words = [
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "dashboard.ts",
    ]
    return subprocess.run([str(TSC), *words], cwd=folder, capture_output=True, text=True, check=False)


@needs_typescript
@pytest.mark.skipif(
    SCHEMA is None or NODE is None, reason="Grafana's types are not there: scripts/typescript.py"
)
def test_grafanas_own_types_take_the_dashboard_and_refuse_a_wrong_one(tmp_path: Path) -> None:
    document = json.loads(dashboard("shop", OBJECTIVES))
    done = judge(tmp_path, document)
    assert done.stdout == ""
    document["panels"][1]["gridPos"]["x"] = "left"
    document["panels"][2]["titel"] = "Failed"
    wrong = judge(tmp_path, document)
    assert "Type 'string' is not assignable to type 'number'" in wrong.stdout
    assert "titel" in wrong.stdout


def expressions(document: dict[str, Any]) -> list[str]:
    found = [t["expr"] for panel in document["panels"] for t in panel.get("targets", ())]
    return [each.replace("$__rate_interval", "5m") for each in found]


def test_every_expression_is_one(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{n}", "expr": e}
        for n, e in enumerate(expressions(json.loads(dashboard("shop", OBJECTIVES))))
    ]
    assert len(rules) >= 25
    text = yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]})
    judged("promtool", "check", "rules", written(tmp_path / "panels.yml", text))


def test_panels_neither_overlap_nor_leave_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(dashboard("shop", OBJECTIVES))["panels"]
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_without_objectives_there_are_no_panels_about_them() -> None:
    assert "slo" not in " ".join(expressions(json.loads(dashboard("shop", {}))))
