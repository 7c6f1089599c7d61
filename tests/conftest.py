"""What all tests share."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Generator

import pytest

from support.unsteady import Unsteady, passes_alone
from tenfold._core.context import _current  # pyright: ignore[reportPrivateUsage]

pytest_plugins = ["support.servers", "support.brokers", "support.trials", "support.seeds", "support.sharing"]

# Tests start hundreds of processes. Where the environment forbids to keep what was compiled, each would compile all that it
# imports once more, which is a third of the work of its start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# To draw the pictures of a new shop takes as long as its start, and tests start dozens.
os.environ["SHOP_PICTURES"] = "0"

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked ``anyio`` run on asyncio: the only loop Tenfold supports."""
    return "asyncio"


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def skip_is_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In continuous integration a skipped test has not passed. (An expected failure is not a skip.)"""
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} was skipped, which counts as a failure under CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports go from process to process as UTF-8, which what a test had logged need not be."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    if IN_CI:
        skip_is_failure(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Whatever a test leaves as the work in hand, with a deadline that passes, is none of the next one's."""
    try:
        return (yield)
    finally:
        _current.set(None)


if IN_CI:

    def pytest_configure(config: pytest.Config) -> None:
        if not os.environ.get("TENFOLD_TESTS_ALONE"):
            config.pluginmanager.register(Unsteady(passes_alone))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        skip_is_failure(report)
        return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are half a million objects that stay: to look through them for garbage again and again would be a
    tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this machine cannot do at all, as a container that may not mount file systems; nothing that could
    be installed."""
    from support import collector, hosts, power

    for marker, possible in (
        ("mounts", power.possible), ("networks", hosts.possible), ("collector", collector.possible),
    ):  # fmt: skip
        needing = [item for item in items if item.get_closest_marker(marker) is not None]
        if needing and not possible():
            items[:] = [item for item in items if item not in needing]
            config.hook.pytest_deselected(items=needing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out, and say how many snippets of the documentation were not run: it must not creep."""
    from support import collector, hosts, power
    from support.snippets import not_run_summary

    if not power.possible():
        terminalreporter.write_line(
            "left out, since file systems cannot be mounted here: tests/faults/test_power_loss.py, test_full_disk.py"
        )
    if not hosts.possible():
        terminalreporter.write_line(
            "left out, since network namespaces cannot be made here: tests/faults/test_partition.py"
        )
    if not collector.possible():
        terminalreporter.write_line(
            "left out, since scripts/collector.py has not built OpenTelemetry's Collector (Go, some minutes): "
            "tests/integration/observe/test_collector.py"
        )

    reports = [r for reports in terminalreporter.stats.values() for r in reports]
    if any("docs/test_snippets" in getattr(report, "nodeid", "") for report in reports):
        terminalreporter.write_line(not_run_summary())
