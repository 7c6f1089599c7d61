"""The commands by name, and what happens to their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from tenfold.cli import console
from tenfold.errors import ConfigError, SchemaBehind, TenfoldError

USAGE, FAILURE = 2, 1

COMMANDS = {
    "new": "Write a small project that runs and passes its tests at once.",
    "run": "Serve an app: API, operations page and worker in one process.",
    "worker": "Run an app's jobs, subscribers and schedules, without its API.",
    "up": "Keep a fleet running on this machine: instances by role, balancer, companions.",
    "ps": "List the instances of the fleet that runs here.",
    "scale": "Change how many instances of a role run: web=4.",
    "restart": "Replace instances by new ones, one after the other.",
    "reload": "Have a fleet follow its settings as they are now.",
    "down": "End the fleet that runs here, in order.",
    "gateway": "Serve one public entry that leads to services in processes of their own.",
    "migrate": "Bring the database's tables to what the code says.",
    "grow": "Move an embedded installation to a database server while it runs.",
    "jobs": "Look at messages of the queue, and retry, cancel or discard them.",
    "projections": "Look at projections of events, and pause, resume or rebuild them.",
    "queues": "Look at queues, pause and resume them.",
    "schedules": "Look at schedules: next tick, last one, missed ones.",
    "events": "Look at topics and their schemas, replay events, deal with those in quarantine.",
    "webhooks": "Look at webhook endpoints, test them, enable them, and replay events.",
    "balancer": "Print the configuration of the balancer in front of a fleet.",
    "identity": "Make, rotate and show the keys of services, and roles of their own in the database.",
    "routes": "List the operations, and what surrounds each.",
    "policies": "Change limits, deadlines and priorities of a running app, and see what is changed.",
    "config": "Show every setting with where it came from.",
    "check": "Find what is wrong, without starting anything or in a running process.",
    "shell": "A Python prompt inside the running app, with await.",
    "openapi": "Print the OpenAPI document: operations.",
    "asyncapi": "Print the AsyncAPI document: topics and subscribers.",
    "observe": "Write rules, dashboards and templates for Prometheus, Grafana, Alertmanager and Zabbix.",
    "top": "Watch requests, latency and work of running instances in the terminal.",
    "probe": "Ask a running instance how it is, as Nagios plugins do.",
    "client": "Write a client library of the app's API, in Python or TypeScript.",
}

MODULES = {"asyncapi": "openapi", **dict.fromkeys(("ps", "scale", "restart", "reload", "down"), "up")}
"""Of commands that share one."""

GROUPS = frozenset(
    {
        "client",
        "events",
        "identity",
        "jobs",
        "observe",
        "policies",
        "projections",
        "queues",
        "schedules",
        "webhooks",
    }
)
"""Those with commands of their own."""


def program() -> App:
    """The command line. Commands are import paths: the module of one is imported when it is used."""
    app = App(
        name="tenfold",
        help="Build, run and look after a Tenfold backend.",
        version=_version,
        help_flags=["--help", "-h"],
        version_flags=["--version"],
        result_action="return_value",
        help_format="plaintext",
    )
    for name, about in COMMANDS.items():
        target = "commands" if name in GROUPS else name
        app.command(f"tenfold.cli.{MODULES.get(name, name)}:{target}", name=name, help=about)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every error into a sentence; the exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    _add_working_folder()
    try:
        answer = program()(tokens, print_error=False, exit_on_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        if tokens[:1] == ["probe"]:
            return _unknown(_first_sentence(error))
        return console.fail(_first_sentence(error), USAGE, hint="tenfold --help lists the commands.")
    except TenfoldError as error:
        if tokens[:1] == ["probe"]:
            return _unknown(str(error))
        usage = isinstance(error, ConfigError) and not isinstance(error, SchemaBehind)
        return console.fail(str(error), USAGE if usage else FAILURE)
    except KeyboardInterrupt:
        return 128 + 2
    except BrokenPipeError:
        # The reader (`head`, a pager) has had enough; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if tokens[:1] == ["probe"]:
            return _unknown(f"{type(error).__name__}: {error}")
        return console.fail_with(error, FAILURE)
    return answer if isinstance(answer, int) else 0


def _unknown(sentence: str) -> int:
    """Of a probe, 2 would say that what it asks about is in a critical state."""
    from tenfold.cli import probe

    return probe.unknown(sentence)


def _version() -> str:
    from importlib.metadata import version

    return version("tenfold")


def _first_sentence(error: CycloptsError) -> str:
    return " ".join(str(error).split())


def _add_working_folder() -> None:
    """``tenfold run shop.app:app`` finds ./shop, as ``python -m`` would."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
