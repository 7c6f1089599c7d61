"""How many trials a run made of each guarantee: without its N, "nothing was found" says nothing.

A pytest plugin. A test that has judged N operations says ``trials("G4", N, "sqlite")``; the summary of the run lists
the sums of the tests that passed. Long settings take their N through :func:`soak`, so that
``SOAK_SHARE=0.05 make soak`` runs a twentieth of each.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

Trials = Callable[[str, int, str], None]
"""Takes the guarantee, the number of trials, and where they were made: a name, or a URL whose scheme is one."""

SHARE = float(os.environ.get("SOAK_SHARE", "1"))


def soak(n: int) -> int:
    """The asked for share of a long setting's ``n``, at least 1."""
    return max(1, round(n * SHARE))


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Trials:
    """Say how many trials of a guarantee this test has made."""

    def count(guarantee: str, n: int, where: str) -> None:
        request.node.user_properties.append(("trials", [guarantee, n, where.partition("://")[0]]))

    return count


@pytest.fixture
def progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say something while the test runs: who waits for an hour is to see that it goes on, and what was found so far."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{request.node.name}: {line}", flush=True)

    return say


def lines(properties: Iterable[Sequence[object]]) -> list[str]:
    """One line per guarantee: the sums by place."""
    sums: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, value in properties:
        if name == "trials" and isinstance(value, list):
            guarantee, n, where = value
            sums[str(guarantee)][str(where)] += int(n)
    by_number = sorted(sums.items(), key=lambda item: int(item[0][1:]))
    return [
        f"{guarantee}: " + ", ".join(f"{where} {n:,}" for where, n in sorted(places.items()))
        for guarantee, places in by_number
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.stats.get("passed", [])
    found = lines(entry for report in passed for entry in getattr(report, "user_properties", ()))
    if found:
        terminalreporter.section("trials of guarantees, none violated")
        for line in found:
            terminalreporter.write_line(line)
