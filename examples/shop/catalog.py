"""Catalog: what is for sale. Reading is public and cached as whole responses; writing is for admins."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Meta, Struct

from shop.columns import NAMING
from shop.money import Pence
from shop.pages import Page, PageNumber, PerPage, offset, paged
from tenfold import ResponseCache, Service, Tx, public, roles
from tenfold.errors import Conflict, NotFound, UniqueViolation

catalog = Service("catalog", tags=["catalog"], calls=[])

metadata = sa.MetaData(naming_convention=NAMING)
product_table = sa.Table(
    "products",
    metadata,
    sa.Column("sku", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(120), nullable=False, index=True),
    sa.Column("category", sa.String(40), nullable=False, index=True),
    sa.Column("price", sa.Integer, nullable=False),
    sa.CheckConstraint("price >= 0", name="price"),
)
db = catalog.database(metadata)

Sku = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,31}$",
        description="Stock-keeping unit: the shop's own number of a product.",
        examples=["MUG-BLUE-1", "85123A"],
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=120)]
Category = Annotated[str, Meta(min_length=1, max_length=40)]
Words = Annotated[str, Meta(max_length=100, description="Words that must all be in the name.")]

TAG = "catalog"
CACHED = ResponseCache(ttl_s=60, tags=(TAG,))
"""A change of the catalogue drops these responses in the transaction that makes it, so the time may be long."""


class Product(Struct):
    sku: Sku
    name: Name
    category: Category
    price: Pence


class CategoryCount(Struct):
    name: str
    products: int


class Loaded(Struct):
    """How many products a bulk load wrote."""

    products: int


_by_sku = sa.select(product_table).where(product_table.c.sku == sa.bindparam("sku"))
_by_skus = sa.select(product_table).where(product_table.c.sku.in_(sa.bindparam("skus", expanding=True)))
_categories = (
    sa.select(product_table.c.category.label("name"), sa.func.count().label("products"))
    .group_by(product_table.c.category)
    .order_by(product_table.c.category)
)
_insert = sa.insert(product_table)
_update = (
    sa.update(product_table)
    .where(product_table.c.sku == sa.bindparam("sku_"))
    .values({name: sa.bindparam(name) for name in ("name", "category", "price")})
)


@catalog.get("/products", auth=public, cache=CACHED, errors=(NotFound,))
async def list_products(
    q: Words = "",
    category: Annotated[str, Meta(max_length=40)] = "",
    page: PageNumber = 1,
    per_page: PerPage = 24,
) -> Page[Product]:
    """List products by name, all or of one category, or search their names."""
    where = [product_table.c.name.icontains(word, autoescape=True) for word in q.split()]
    if category:
        where.append(product_table.c.category == category)
    found = sa.select(product_table).where(*where).order_by(product_table.c.name, product_table.c.sku)
    async with db.read() as reader:  # one snapshot: the count belongs to the items
        total = await reader.scalar(sa.select(sa.func.count()).select_from(product_table).where(*where))
        items = await reader.all(found.limit(per_page).offset(offset(page, per_page)), Product)
    return paged(items, total=total, page=page, per_page=per_page, path="/products", q=q, category=category)


@catalog.get("/products/{sku}", auth=public, cache=CACHED, errors=(NotFound,))
async def get_product(sku: Sku) -> Product:
    product = await db.read().maybe(_by_sku, Product, sku=sku)
    if product is None:
        raise NotFound(f"There is no product {sku!r}.")
    return product


@catalog.get("/categories", auth=public, cache=CACHED)
async def list_categories() -> list[CategoryCount]:
    """Every category with the number of its products."""
    return await db.read().all(_categories, CategoryCount)


@catalog.post("/products", auth=roles("admin"), status=201, errors=(Conflict,))
async def add_product(product: Product, tx: Tx) -> Product:
    try:
        await tx.execute(_insert, _row(product))
    except UniqueViolation:
        raise Conflict(f"There is a product {product.sku!r} already.") from None
    tx.invalidate(TAG)
    return product


@catalog.put("/products", auth=roles("admin"))
async def load_products(
    products: Annotated[list[Product], Meta(min_length=1, max_length=500)], tx: Tx
) -> Loaded:
    """Add or replace up to 500 products at once. The same call twice leaves the same catalogue."""
    return await store(tx, products)


@catalog.internal
async def find_products(skus: list[str]) -> dict[str, Product]:
    """The products among ``skus`` that exist, by SKU: one query for a whole order."""
    return {product.sku: product for product in await db.read().all(_by_skus, Product, skus=skus)}


async def store(tx: Tx, products: list[Product]) -> Loaded:
    """Write products, new ones and known ones; of several with one SKU the last counts."""
    wanted = {product.sku: product for product in products}
    known = {product.sku for product in await tx.all(_by_skus, Product, skus=list(wanted))}
    if changed := [product for sku, product in wanted.items() if sku in known]:
        await tx.execute(_update, [_row(product, key="sku_") for product in changed])
    if added := [product for sku, product in wanted.items() if sku not in known]:
        await tx.load(product_table, [_row(product) for product in added])
    tx.invalidate(TAG)
    return Loaded(products=len(wanted))


def _row(product: Product, key: str = "sku") -> dict[str, Any]:
    return {key: product.sku, "name": product.name, "category": product.category, "price": product.price}
