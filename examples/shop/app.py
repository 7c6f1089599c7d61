"""The shop: its services, and the app that they make. Run it with ``tenfold run shop.app:app``."""

from __future__ import annotations

from shop import accounts
from shop.imports.api import catalog
from shop.inventory import inventory
from shop.notifications import notifications
from shop.orders.partners import orders
from shop.reports.nightly import reports
from shop.seed import uploads
from tenfold import App

app = App(
    "shop",
    [accounts.service, catalog, inventory, orders, notifications, reports, uploads],
    auth=accounts.people,
    slo="99.9% under 500ms",
)
