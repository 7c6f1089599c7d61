"""Pictures of products: uploaded by admins, cut to size by a job, served with ETag and for long."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct

from shop import catalog
from shop.catalog import Sku
from shop.columns import NAMING
from shop.files import folder
from tenfold import File, Retry, Service, Settings, Upload, injected, public, roles
from tenfold.errors import NotFound, PayloadTooLarge, UnsupportedMedia

uploads = Service("uploads", tags=["pictures"], calls=["catalog.get_product"])

metadata = sa.MetaData(naming_convention=NAMING)
picture_table = sa.Table(
    "pictures",
    metadata,
    sa.Column("sku", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(200), nullable=False),
)
db = uploads.database(metadata)

BYTES_MAX = 8_388_608
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
Size = Literal["small", "medium", "large"]


class Picture(Struct):
    """``digest`` names the content; ``reason`` says why a refused file cannot be used."""

    sku: Sku
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    state: Literal["processing", "ready", "refused"]
    reason: str


_by_sku = sa.select(picture_table).where(picture_table.c.sku == sa.bindparam("sku"))
_drop = sa.delete(picture_table).where(picture_table.c.sku == sa.bindparam("sku"))
_add = sa.insert(picture_table)
_decide = (
    sa.update(picture_table)
    .where(picture_table.c.sku == sa.bindparam("sku_"), picture_table.c.digest == sa.bindparam("digest_"))
    .values(state=sa.bindparam("state"), reason=sa.bindparam("reason"))
)


@uploads.put(
    "/pictures/{sku}", auth=roles("admin"), status=202, errors=(NotFound, PayloadTooLarge, UnsupportedMedia)
)
async def put_picture(sku: Sku, picture: Upload, settings: Settings) -> Picture:
    """Upload a picture of a product (form field ``picture``; PNG, JPEG or WebP, up to 8 MiB)."""
    await catalog.get_product(sku)  # 404 when there is no such product
    if picture.size > BYTES_MAX:
        raise PayloadTooLarge(f"picture: the file has {picture.size:,} bytes; {BYTES_MAX:,} are allowed.")
    digest, head = hashlib.sha256(), b""
    async for chunk in picture.chunks():
        head = head or chunk[:16]
        digest.update(chunk)
    if not head.startswith(SIGNATURES):
        raise UnsupportedMedia("picture: the file is neither PNG nor JPEG nor WebP.")
    await picture.save(originals(settings) / digest.hexdigest())
    (noted,) = await replace({sku: digest.hexdigest()})
    return noted


@uploads.get("/pictures/{sku}", auth=public, errors=(NotFound,))
async def get_picture(sku: Sku) -> Picture:
    """Whether the product has a picture, and whether it can be shown yet."""
    picture = await db.read().maybe(_by_sku, Picture, sku=sku)
    if picture is None:
        raise NotFound(f"There is no picture of {sku!r}.")
    return picture


@uploads.get("/pictures/{sku}/{size}", auth=public, errors=(NotFound,))
async def show_picture(sku: Sku, size: Size, settings: Settings) -> File:
    """The picture itself, as WebP."""
    picture = await get_picture(sku)
    if picture.state != "ready":
        raise NotFound(f"The picture of {sku!r} cannot be shown: it is {picture.state}.")
    return File(_thumbnails(settings, picture.digest) / f"{size}.webp")


@uploads.job(retry=Retry(attempts=5), timeout=120)
async def prepare_picture(sku: str, digest: str, settings: Settings = injected()) -> None:
    """Have the thumbnails made, then show the picture, unless another one has replaced it meanwhile."""
    source, target = originals(settings) / digest, _thumbnails(settings, digest)
    making = await make_thumbnails.enqueue(db, source=str(source), target=str(target))
    reason = await making.result(timeout=90)
    async with db.tx() as tx:
        state = "refused" if reason else "ready"
        await tx.execute(_decide, sku_=sku, digest_=digest, state=state, reason=reason)


@uploads.job(cpu=True, timeout=60, result_ttl=3600)
def make_thumbnails(source: str, target: str) -> str:
    """The work itself; returns why the file cannot be used, or an empty string."""
    from shop.uploads import thumbnails  # Pillow is loaded in the process that needs it, and nowhere else

    return thumbnails.make(Path(source), Path(target))


async def replace(digests: Mapping[str, str]) -> list[Picture]:
    """Note new pictures of products, by sku, and have them prepared; their files are among the originals already."""
    new = [Picture(sku, digest, "processing", "") for sku, digest in digests.items()]
    async with db.tx() as tx:
        await tx.execute(_drop, [{"sku": picture.sku} for picture in new])
        await tx.execute(_add, [msgspec.structs.asdict(picture) for picture in new])
        await prepare_picture.enqueue_many(tx, [{"sku": p.sku, "digest": p.digest} for p in new])
    return new


def originals(settings: Settings) -> Path:
    """Files are named by their content: nothing that a client calls its file reaches our disk."""
    return folder(settings, "pictures/originals")


def _thumbnails(settings: Settings, digest: str) -> Path:
    return folder(settings, "pictures/thumbnails") / digest
