"""An app gets its dashboard from whoever owns the process, as it gets its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.app import App


def attach(app: App) -> None:
    """Show the dashboard at the app's operations listener (:meth:`tenfold.app.App.ops`). Before its start."""
    from tenfold.dashboard.dashboard import Dashboard

    app.dashboard = Dashboard
