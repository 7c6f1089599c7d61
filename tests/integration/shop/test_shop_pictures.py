"""Pictures that cannot be used are refused by the process that looks at pixels, with a sentence; the shop goes on."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import httpx2
import pytest
from PIL import Image

from shop.seed import products


def drawn(kind: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((400, 300), 80).convert("RGB").save(out, kind)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that claims 3.6 billion pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def test_a_new_shop_draws_pictures_of_some_products(admin: httpx2.Client) -> None:
    sku = products()[0].sku
    assert settled(admin, sku)["state"] == "ready"
    assert admin.get(f"/pictures/{sku}/small").status_code == 200


def settled(admin: httpx2.Client, sku: str) -> dict[str, Any]:
    """What became of a picture once it has been looked at."""
    until = time.monotonic() + 30
    while (answer := admin.get(f"/pictures/{sku}")).status_code == 404 or answer.json()[
        "state"
    ] == "processing":
        assert time.monotonic() < until, answer.text
        time.sleep(0.05)
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(bomb(), id="bomb"),
        pytest.param(drawn("PNG")[:20_000], id="truncated PNG"),
        pytest.param(drawn("JPEG")[:5_000], id="truncated JPEG"),
        pytest.param(drawn("WEBP")[:3_000], id="truncated WebP"),
        pytest.param(b"\xff\xd8\xff" + b"GIF89a" * 100, id="another kind behind a known beginning"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_with_a_sentence(
    admin: httpx2.Client, content: bytes
) -> None:
    sku = f"PIC-{zlib.crc32(content):x}"
    admin.put("/products", json=[{"sku": sku, "name": "P", "category": "Tests", "price": 1}])
    taken = admin.put(f"/pictures/{sku}", files={"picture": ("p.png", content, "image/png")})
    assert taken.status_code == 202, taken.text
    found = settled(admin, sku)
    assert found["state"] == "refused"
    assert found["reason"].endswith(".")
    assert admin.get(f"/pictures/{sku}/small").status_code == 404
