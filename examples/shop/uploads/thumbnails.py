"""Make thumbnails. Pure file work that may hold a core for a while: it runs in a process of its own."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from shop.files import write_whole

SIZES = {"small": 160, "medium": 480, "large": 1200}
"""Longest side in pixels, by name."""

PIXELS_MAX = 50_000_000
"""A file of few bytes can unpack to gigabytes; beyond this it is not unpacked at all."""


def make(source: Path, target: Path) -> str:
    """Write every size of the picture ``source`` into the folder ``target``.

    Returns an empty string, or a sentence that says why the file cannot be used. Pixels are written anew, so
    that nothing else that was in the file (positions, comments, scripts) is ever served.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as opened:
                if opened.width * opened.height > PIXELS_MAX:
                    return f"The picture has more than {PIXELS_MAX:,} pixels."
                picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning):
        return "The file is not a picture that can be read (PNG, JPEG or WebP)."
    target.mkdir(parents=True, exist_ok=True)
    for name, side in SIZES.items():
        small = ImageOps.contain(picture, (min(side, picture.width), min(side, picture.height)))
        out = io.BytesIO()
        small.save(out, "WEBP", quality=82)
        write_whole(target / f"{name}.webp", out.getvalue())
    return ""
