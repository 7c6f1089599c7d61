"""The pages, in the order of the navigation: one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.dashboard.page import Page


def pages() -> tuple[type[Page], ...]:
    """Every page there is. Imported when a dashboard is made, so that commands that show none do not pay for them."""
    from tenfold.dashboard.pages.alerts import Alerts
    from tenfold.dashboard.pages.cache import Cache
    from tenfold.dashboard.pages.database import Database
    from tenfold.dashboard.pages.events import Events
    from tenfold.dashboard.pages.job import Job
    from tenfold.dashboard.pages.jobs import Jobs
    from tenfold.dashboard.pages.logs import Logs
    from tenfold.dashboard.pages.mailbox import Letter, Mailbox
    from tenfold.dashboard.pages.operations import OneOperation, Operations
    from tenfold.dashboard.pages.overview import Overview
    from tenfold.dashboard.pages.policies import Policies
    from tenfold.dashboard.pages.profiler import Profiler
    from tenfold.dashboard.pages.schedules import Schedules
    from tenfold.dashboard.pages.services import OneService, Services
    from tenfold.dashboard.pages.settings import Settings
    from tenfold.dashboard.pages.traces import OneTrace, Traces

    return (
        Overview,
        Alerts,
        Services,
        OneService,
        Operations,
        OneOperation,
        Traces,
        OneTrace,
        Logs,
        Jobs,
        Job,
        Schedules,
        Events,
        Database,
        Cache,
        Mailbox,
        Letter,
        Policies,
        Profiler,
        Settings,
    )
