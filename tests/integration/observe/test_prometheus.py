"""A real Prometheus scrapes two instances, with the rules that are written for them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from support.servers import Server, program
from tenfold.observe.prometheus import ratio, rules
from tenfold.telemetry.objectives import Objective

from .conftest import Watched

pytestmark = pytest.mark.xdist_group("watched")
SLO = "99.9% under 300ms"


class Prometheus(Server):
    user = ""

    def __init__(self, targets: list[str]) -> None:
        super().__init__()
        self.targets = targets

    def prepare(self) -> None:
        text = rules("watched", {"orders.show": Objective(SLO)}).replace('"30s"', '"500ms"')
        (self.folder / "rules.yml").write_text(text)
        (self.folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: watched
    static_configs: [{{targets: {json.dumps(self.targets)}}}]
""")

    def command(self) -> list[str]:
        return [
            program("prometheus"), f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address={self.address}",
        ]  # fmt: skip

    def ready(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
            return int(answer.status) == 200
        return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What a query answers."""
        url = f"http://{self.address}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def until(self, query: str, value: float) -> list[dict[str, Any]]:
        """Ask until every result has this value."""
        end, found = time.monotonic() + 20, []
        while time.monotonic() < end:
            found = self.ask(query)
            if found and all(abs(float(each["value"][1]) - value) < 1e-9 for each in found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{query} is {found}, not {value}")


@pytest.fixture
def prometheus(fleet: list[Watched]) -> Iterator[Prometheus]:
    running = Prometheus([f"127.0.0.1:{each.ops_port}" for each in fleet])
    running.start()
    yield running
    running.stop()


def test_a_real_prometheus_takes_what_two_instances_say_and_what_rules_make_of_it(
    fleet: list[Watched], prometheus: Prometheus
) -> None:
    # Counters begin at 0 in Prometheus' eyes once they were seen at 0.
    prometheus.until('sum(up{job="watched"})', 2)
    prometheus.until('sum(scrape_samples_scraped{job="watched"} > bool 0)', 2)
    for instance in fleet:
        statuses = [instance.get(f"/orders/{number}") for number in (1, 2, 3, 13, 13, 13)]
        assert statuses == [200, 200, 200, 500, 500, 500]
    of = f'{{job="watched",operation="orders.show",objective="{SLO}"}}'
    assert len(prometheus.until(f"tenfold_slo_requests_total{of}", 6)) == 2
    assert len(prometheus.until(f"tenfold_slo_bad_requests_total{of}", 3)) == 2
    # Half of all requests are bad, by both instances together: the page's rule sees it.
    prometheus.until(f"{ratio(300)}{of}", 0.5)
    prometheus.until('sum(ALERTS{alertname="TenfoldBudgetBurnsFast",alertstate="firing"})', 1)
    assert not prometheus.ask('ALERTS{alertname="TenfoldInstanceDown"}')
    groups = prometheus.get("/api/v1/rules")["groups"]
    assert [
        (rule["name"], rule.get("lastError", ""))
        for g in groups
        for rule in g["rules"]
        if rule["health"] != "ok"
    ] == []
    targets = prometheus.get("/api/v1/targets")["activeTargets"]
    assert [target["lastError"] for target in targets] == ["", ""]


def test_promtool_finds_no_fault_in_the_page(fleet: list[Watched]) -> None:
    with urllib.request.urlopen(f"{fleet[0].ops}/metrics", timeout=10) as answer:
        page = answer.read()
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
