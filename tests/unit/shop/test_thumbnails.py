"""Thumbnails: every size, no leftovers of the original, and a sentence for what is not a picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from PIL import Image

from shop.uploads import thumbnails


def test_every_size_fits_its_square_and_keeps_the_proportions(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 800), "#2f6fde").save(tmp_path / "in", "PNG")
    assert thumbnails.make(tmp_path / "in", tmp_path / "out") == ""
    sizes = {name: Image.open(tmp_path / "out" / f"{name}.webp").size for name in thumbnails.SIZES}
    assert sizes == {"small": (160, 80), "medium": (480, 240), "large": (1200, 600)}


def test_a_small_picture_is_not_blown_up(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "in", "PNG")
    assert thumbnails.make(tmp_path / "in", tmp_path / "out") == ""
    assert Image.open(tmp_path / "out" / "large.webp").size == (40, 30)


def test_positions_and_comments_are_left_behind(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    Image.new("RGB", (40, 30)).save(tmp_path / "in", "JPEG", exif=exif)
    assert b"secret place" in (tmp_path / "in").read_bytes()
    thumbnails.make(tmp_path / "in", tmp_path / "out")
    assert b"secret place" not in (tmp_path / "out" / "large.webp").read_bytes()


def test_a_broken_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\x89PNG\r\n\x1a\n" + b"not really")
    assert "not a picture" in thumbnails.make(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "in").write_bytes(png)
    assert thumbnails.make(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in").write_bytes(
        png.replace(struct.pack(">II", 60_000, 60_000), struct.pack(">II", 9_000, 9_000))
    )
    assert thumbnails.make(tmp_path / "in", tmp_path / "out")
