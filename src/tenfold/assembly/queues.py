"""The queues of an app: what is said of each by declarations and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenfold.queue.lanes import Lanes
from tenfold.queue.options import merged, retention
from tenfold.queue.queue import Queues

if TYPE_CHECKING:
    from tenfold.app import App


def queues_of(app: App) -> Queues:
    """The queues of ``app``, as its settings have it. Raises DeclarationError for what does not fit together."""
    services = app.everywhere  # one settings file for all processes
    used = {job._options.queue for service in services for job in service.jobs}
    used |= {subscription.queue for service in services for subscription in service.subscriptions}
    used |= {schedule.queue for service in services for schedule in service.schedules}
    declared = [options for service in services for options in service.queues]
    options = merged(declared, app.settings.queues, used)
    lanes = Lanes([service.name for service in services], [service.name for service in app.elsewhere])
    return Queues(app.clock, options, retention(app.settings.worker, options), lanes)
