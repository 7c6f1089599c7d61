"""What the services of an app own in its database, and whether a process reaches more than that."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tenfold.db import ownership
from tenfold.db.ownership import Owned
from tenfold.errors import ConfigError
from tenfold.security.tables import TABLES

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.service import Service

log = logging.getLogger("tenfold.identity")


def owned_by(app: App, services: Iterable[Service]) -> list[Owned]:
    """The tables of these services. Those by which callers are recognised belong to the service that has the accounts:
    the others ask it."""
    accounts = getattr(app.auth, "database", None)
    databases = [database for service in services for database in service.databases]
    more = {} if accounts is None else {accounts.name: TABLES}
    return ownership.owned(app.name, databases, more)


class OwnershipPart:
    """Asks at the start what the role of a process that serves some of the services may touch of the others' tables."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def start(self) -> None:
        """Raises ConfigError in production where it may touch any, unless ``identity.database_roles`` says otherwise."""
        app = self._app
        others = owned_by(app, app.elsewhere)
        if not app.databases or not others or app.fronts:
            return
        said = await ownership.check(app.databases[0].backend, owned_by(app, app.services), others)
        if not said:
            return
        remedy = "Give each service a role of its own: tenfold identity database"
        refuses = "refuse" if app.settings.app.env == "production" else "warn"
        if (app.settings.identity.database_roles or refuses) == "refuse":
            raise ConfigError(said, where="database.url", remedy=remedy)
        log.warning("%s %s", said, remedy)

    async def stop(self) -> None:
        return
