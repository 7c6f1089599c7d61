"""Failures that do not come again: a pytest plugin for continuous integration.

On two cores that others use, one of thousands of tests fails now and then because something took too long. Such a test is
tried again when all others are over: three times, alone. If it passes each time the run does not fail; the summary names
it, so that it gets mended. Never excused are a test of a guarantee (one with the ``trials`` fixture): what fails there
once in a thousand times is what those tests are for; one that took its process with it; more than three failures; whatever
fails again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator

import pytest

AT_MOST = 3
TIMES = 3
TIME_S = 300


class Unsteady:
    """Sees every report of a run, and judges the failures at its end."""

    def __init__(self, passes: Callable[[str], bool]) -> None:
        self._passes = passes
        self.failed: dict[str, bool] = {}
        """Failed tests, and whether each may be tried again."""
        self.excused: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if "trials" in getattr(item, "fixturenames", ()):
            report.user_properties.append(("of a guarantee", True))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            died = report.when not in (
                "setup",
                "call",
                "teardown",
            )  # with its process: xdist tells it in its place
            of_a_guarantee = ("of a guarantee", True) in map(tuple, report.user_properties)
            self.failed[report.nodeid] = not died and not of_a_guarantee

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = False

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if hasattr(session.config, "workerinput") or exitstatus != pytest.ExitCode.TESTS_FAILED:
            return
        if len(self.failed) <= AT_MOST and all(self.failed.values()) and all(map(self._steady, self.failed)):
            self.excused = list(self.failed)
            session.exitstatus = pytest.ExitCode.OK

    def _steady(self, test: str) -> bool:
        return all(self._passes(test) for _ in range(TIMES))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.excused:
            terminalreporter.section(f"unsteady: failed once, then passed {TIMES} times alone; to be mended")
            for test in self.excused:
                terminalreporter.write_line(test)


def passes_alone(test: str) -> bool:
    """Whether a test passes in a run of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    alone["TENFOLD_TESTS_ALONE"] = "1"
    try:
        return (
            subprocess.run(command, env=alone, capture_output=True, check=False, timeout=TIME_S).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False
