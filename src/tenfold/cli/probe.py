"""``tenfold probe``: one question to a running instance, answered as Nagios plugins answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tenfold.cli import console
from tenfold.errors import ConfigError
from tenfold.observe import nagios
from tenfold.observe.nagios import State, Verdict

if TYPE_CHECKING:
    from tenfold.observe.probe import Probe

What = Annotated[
    Literal["ready", "queue", "traffic", "alerts", "metric", "page"],
    Parameter(
        name="WHAT",
        help="What to ask: ready, queue, traffic, alerts, metric with --name, or page for all metrics as text.",
    ),
]
Url = Annotated[str, Parameter(name=["--url", "-H"], help="The operations listener.")]
Warn = Annotated[str, Parameter(name=["--warning", "-w"], help='Range of a warning: "10", "~:10", "@10:20".')]
Crit = Annotated[str, Parameter(name=["--critical", "-c"], help="Range of a critical state.")]


def probe(
    what: What = "ready",
    /,
    *,
    url: Url = "http://127.0.0.1:8001",
    warning: Warn = "",
    critical: Crit = "",
    name: Annotated[str, Parameter(help="The metric, for `metric`.")] = "",
    label: Annotated[
        tuple[str, ...], Parameter(negative="", help="A label that it has, as NAME=VALUE; again for more.")
    ] = (),
    operation: Annotated[str, Parameter(help="Traffic of this operation only.")] = "",
    seconds: Annotated[float, Parameter(help="How long traffic is watched.")] = 5.0,
    timeout: Annotated[
        float, Parameter(name=["--timeout", "-t"], help="Seconds to wait for an answer.")
    ] = 10.0,
) -> int:
    """Probe an instance: a line, performance data, and exit code 0 (OK), 1 (warning), 2 (critical) or 3 (unknown).

    The token of the listener is read from TENFOLD_OPS_TOKEN, since the arguments of a process are public.
    """
    from tenfold.observe.probe import Asked, Probe

    if not (0 < timeout <= 300 and 0 < seconds <= 300):
        raise ConfigError("seconds are from above 0 to 300.", where="--timeout, --seconds")
    asking = Probe(
        url,
        os.environ.get("TENFOLD_OPS_TOKEN", ""),
        timeout_s=timeout,
        warning=nagios.range_of(warning, "--warning"),
        critical=nagios.range_of(critical, "--critical"),
    )
    if what == "metric" and not name:
        raise ConfigError("which metric?", where="--name", remedy="Name one of the page /metrics.")
    labels = dict(_label(text) for text in label)
    if what == "page":
        return _page(asking)
    asked: dict[str, Callable[[], Verdict]] = {
        "ready": asking.ready,
        "queue": asking.queue,
        "traffic": lambda: asking.traffic(seconds, operation),
        "alerts": asking.alerts,
        "metric": lambda: asking.metric(name, labels),
    }
    try:
        verdict = asked[what]()
    except Asked as failed:
        verdict = failed.verdict
    console.say(str(verdict))
    return int(verdict.state)


def _page(asking: Probe) -> int:
    """All metrics, for agents that take numbers out of a text by themselves."""
    from tenfold.observe.probe import Asked

    try:
        console.say(asking.page().rstrip("\n"))
    except Asked as failed:
        console.say(str(failed.verdict))
        return int(failed.verdict.state)
    return 0


def unknown(sentence: str) -> int:
    """A mistake in the call: to Nagios, whose reader sees standard output, and by its own exit code."""
    console.say(str(Verdict(State.UNKNOWN, sentence)))
    return int(State.UNKNOWN)


def _label(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigError(f"{text!r} is no label.", where="--label", remedy="Write --label queue=mail.")
    return name, value
