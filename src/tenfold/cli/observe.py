"""``tenfold observe``: what other monitoring systems are to be given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App as Commands
from cyclopts import Parameter

from tenfold.cli import console, target
from tenfold.cli.target import Config, Target
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.app import App

Out = Annotated[
    Path | None, Parameter(name=["--out", "-o"], help="Write it to this file. Default: standard output.")
]
Job = Annotated[
    str, Parameter(help="The job's name in Prometheus' scrape configuration. Default: the app's.")
]

commands = Commands(
    name="observe", help="Write rules, dashboards and templates for Prometheus, Grafana and others."
)


@commands.command
def prometheus(app: Target = None, /, *, job: Job = "", out: Out = None, config: Config = None) -> int:
    """Recording and alerting rules: error budgets of declared objectives (slo=), and what is wrong in any app."""
    from tenfold.assembly.alerts import objectives
    from tenfold.observe import prometheus as rules
    from tenfold.telemetry.alerts.settings import own_rules

    loaded = _loaded(app, config)
    declared = objectives(loaded)
    text = rules.rules(loaded.name, declared, job=job, extra=own_rules(loaded.settings.alerts))
    if not declared:
        console.note(
            'No operation has an objective: write slo="99.9% under 300ms" on the app, a service or an operation.'
        )
    return _write(text, out)


@commands.command
def alertmanager(app: Target = None, /, *, job: Job = "", out: Out = None, config: Config = None) -> int:
    """Routes and receivers, for who is told of alerts by the settings alerts.page and alerts.ticket."""
    from tenfold.observe import alertmanager as routes
    from tenfold.telemetry.alerts.settings import targets

    loaded = _loaded(app, config)
    found = targets(loaded.settings.alerts)
    if not found["page"]:
        console.note("Nobody is told: set alerts.page and alerts.ticket.")
    mails = any(each.kind == "mail" for those in found.values() for each in those)
    mail = routes.mail_server(loaded.settings.mail) if mails else None
    return _write(routes.routes(loaded.name, found, mail=mail, job=job), out)


@commands.command
def grafana(app: Target = None, /, *, job: Job = "", out: Out = None, config: Config = None) -> int:
    """A dashboard, for Grafana's import or for provisioning it from a file."""
    from tenfold.assembly.alerts import objectives
    from tenfold.observe.grafana import dashboard

    loaded = _loaded(app, config)
    return _write(dashboard(loaded.name, objectives(loaded), job=job), out)


@commands.command
def zabbix(
    app: Target = None,
    /,
    *,
    agent: Annotated[
        bool, Parameter(negative="", help="The agent's lines (UserParameter) instead of the template.")
    ] = False,
    url: Annotated[
        str, Parameter(help="The operations listener that the agent asks.")
    ] = "http://127.0.0.1:8001",
    out: Out = None,
    config: Config = None,
) -> int:
    """A template for Zabbix 6.0 and newer, and with --agent the lines for the agent beside the app."""
    from tenfold.assembly.alerts import objectives
    from tenfold.observe import zabbix as made

    if agent:
        return _write(made.user_parameters(url), out)
    loaded = _loaded(app, config)
    return _write(made.template(loaded.name, objectives(loaded)), out)


def _loaded(app: str | None, config: Path | None) -> App:
    loaded = target.load(app, config)
    loaded.configure(config)
    return loaded


def _write(text: str, out: Path | None) -> int:
    if out is None:
        console.say(text.rstrip("\n"))
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"it cannot be written: {error.strerror or error}.", where=str(out)) from None
    console.note(f"Wrote {os.path.relpath(out)}.")
    return 0
