"""A shop to try things on: in development, each service that has nothing yet gets something: products, stock, pictures
and two accounts. Each sows its own, so that it does wherever it runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import islice, product
from pathlib import Path

import sqlalchemy as sa

from shop import accounts, catalog, inventory
from shop.accounts import SignUp
from shop.catalog import Product
from shop.demo import ADMIN, ADMIN_PASSWORD, CUSTOMER, CUSTOMER_PASSWORD
from shop.files import write_whole
from shop.orders.declared import Item
from shop.uploads import pictures
from shop.uploads.pictures import uploads
from tenfold import Clock, Database, Leases, Settings, Tx, injected

__all__ = ["uploads"]  # the service, complete once this module is imported: what the app needs

PRODUCTS = 200
PICTURES = int(os.environ.get("SHOP_PICTURES", "24"))
STOCK_EACH = 100

COLOURS = ("Blue", "Red", "Green", "Ivory", "Black", "Rose", "Amber")
STYLES = ("Vintage", "Spotty", "Striped", "Woodland")
THINGS = (
    ("Mug", "Kitchen", 650),
    ("Umbrella", "Outdoors", 1495),
    ("Wall Clock", "Living", 2250),
    ("Lunch Box", "Kitchen", 895),
    ("Cushion", "Living", 1195),
    ("Notebook", "Stationery", 425),
    ("Tea Towel", "Kitchen", 550),
    ("Lantern", "Outdoors", 1850),
)


def products() -> list[Product]:
    """The generated catalogue, the same each time."""
    made = product(STYLES, COLOURS, THINGS)
    return [
        Product(
            f"{thing.replace(' ', '').upper()}-{n:03d}",
            f"{style} {colour} {thing}",
            category,
            price + n % 7 * 50,
        )
        for n, (style, colour, (thing, category, price)) in enumerate(islice(made, PRODUCTS), start=1)
    ]


@accounts.service.on_start
async def sow_accounts(settings: Settings, leases: Leases) -> None:
    """Two people."""

    async def sow(tx: Tx) -> None:
        await accounts.enrol(tx, SignUp(ADMIN, ADMIN_PASSWORD, "Admin"), roles=["admin"])
        await accounts.enrol(tx, SignUp(CUSTOMER, CUSTOMER_PASSWORD, "Ada"))

    if await _once(settings, leases, accounts.db, accounts.profile_table, sow):
        print(f"A new shop. Sign in as {ADMIN} ({ADMIN_PASSWORD}) or {CUSTOMER} ({CUSTOMER_PASSWORD}).")


@catalog.catalog.on_start
async def sow_products(settings: Settings, leases: Leases) -> None:
    """A catalogue."""

    async def sow(tx: Tx) -> None:
        await catalog.store(tx, products())

    await _once(settings, leases, catalog.db, catalog.product_table, sow)


@inventory.inventory.on_start
async def sow_stock(settings: Settings, leases: Leases, clock: Clock) -> None:
    """Some of each product."""

    async def sow(tx: Tx) -> None:
        stock = inventory.Delivery("seed", [Item(made.sku, STOCK_EACH) for made in products()])
        await inventory.store(tx, stock, datetime.fromtimestamp(clock.now(), UTC))

    await _once(settings, leases, inventory.db, inventory.delivery_table, sow)


@uploads.on_start
async def sow_pictures(settings: Settings, leases: Leases) -> None:
    """Pictures of some products, by a job: nobody waits for them."""

    async def sow(tx: Tx) -> None:
        await draw_pictures.enqueue(tx)

    if PICTURES:
        await _once(settings, leases, pictures.db, pictures.picture_table, sow)


async def _once(
    settings: Settings, leases: Leases, db: Database, table: sa.Table, sow: Callable[[Tx], Awaitable[None]]
) -> bool:
    """Only in development, and only while ``table`` is empty: whether that was so."""
    if settings.app.env != "development":
        return False
    async with leases.hold(f"seed {table.name}", wait_s=30):  # of instances that start together, one sows
        if await db.read(consistency="strong").scalar(sa.select(sa.func.count()).select_from(table)):
            return False
        async with db.tx() as tx:
            await sow(tx)
    return True


@uploads.job(timeout=300, unique=True)
async def draw_pictures(settings: Settings = injected()) -> None:
    """Draw pictures of some products and have their thumbnails made."""
    digests = {}
    for made in products()[:PICTURES]:
        drawing = await draw_picture.enqueue(
            pictures.db, name=made.name, originals=str(pictures.originals(settings))
        )
        digests[made.sku] = await drawing.result(timeout=60)
    await pictures.replace(digests)


@uploads.job(cpu=True, result_ttl=3600)
def draw_picture(name: str, originals: str) -> str:
    """Draw one, in a process of its own (Pillow stays out of this one); the digest that names the file."""
    from shop.uploads.drawing import draw

    content = draw(name)
    digest = hashlib.sha256(content).hexdigest()
    write_whole(Path(originals) / digest, content)
    return digest
