"""A shop to try things on: in development, an empty database gets products, pictures, stock and two accounts."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from itertools import islice, product
from pathlib import Path

from shop import accounts, catalog, inventory
from shop.accounts import SignUp
from shop.catalog import Product
from shop.demo import ADMIN, ADMIN_PASSWORD, CUSTOMER, CUSTOMER_PASSWORD
from shop.files import write_whole
from shop.orders.declared import Item
from shop.uploads import pictures
from tenfold import Clock, Leases, Service, Settings, injected

demo = Service("demo", calls=[])

PRODUCTS = 200
PICTURES = 24
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


@demo.on_start
async def seed(settings: Settings, clock: Clock, leases: Leases) -> None:
    """Only in development, only once: while nobody has an account."""
    if settings.app.env != "development":
        return
    async with leases.hold("seed", wait_s=30):  # of instances that start together, one sows
        if await accounts.nobody_yet():
            await sow(clock)
            print(f"A new shop. Sign in as {ADMIN} ({ADMIN_PASSWORD}) or {CUSTOMER} ({CUSTOMER_PASSWORD}).")


async def sow(clock: Clock) -> None:
    goods = products()
    stock = inventory.Delivery("seed", [Item(made.sku, STOCK_EACH) for made in goods])
    # One transaction: services may share a database, and a half-sown shop would never be sown again.
    async with accounts.db.tx() as tx:
        await catalog.store(tx, goods)
        await inventory.store(tx, stock, datetime.fromtimestamp(clock.now(), UTC))
        await accounts.enrol(tx, SignUp(ADMIN, ADMIN_PASSWORD, "Admin"), roles=["admin"])
        await accounts.enrol(tx, SignUp(CUSTOMER, CUSTOMER_PASSWORD, "Ada"))
        await draw_pictures.enqueue(tx)


@demo.job(timeout=300)
async def draw_pictures(settings: Settings = injected()) -> None:
    """Draw pictures of some products and have their thumbnails made."""
    digests = {}
    for made in products()[:PICTURES]:
        drawing = await draw_picture.enqueue(
            catalog.db, name=made.name, originals=str(pictures.originals(settings))
        )
        digests[made.sku] = await drawing.result(timeout=60)
    await pictures.replace(digests)


@demo.job(cpu=True, result_ttl=3600)
def draw_picture(name: str, originals: str) -> str:
    """Draw one, in a process of its own (Pillow stays out of this one); the digest that names the file."""
    from shop.uploads.drawing import draw

    content = draw(name)
    digest = hashlib.sha256(content).hexdigest()
    write_whole(Path(originals) / digest, content)
    return digest
