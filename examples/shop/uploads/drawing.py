"""Draw pictures for the generated catalogue, so that a fresh shop has something to show."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

SIDE = 800
COLOURS = {
    "Blue": "#3f6fd8",
    "Red": "#d9534f",
    "Green": "#3f9d6b",
    "Ivory": "#d8cdb0",
    "Black": "#3a3d46",
    "Rose": "#d8799c",
    "Amber": "#e0a030",
}


def draw(name: str) -> bytes:
    """A PNG for a product called "Style Colour Thing": its colour, and a pattern for its style."""
    style, colour, *_ = (*name.split(), "", "")
    ink = COLOURS.get(colour, "#7a8699")
    image = Image.new("RGB", (SIDE, SIDE), "#f5f3ee")
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((150, 150, 650, 650), 70, ink)
    if style == "Spotty":
        for x in range(220, 620, 90):
            for y in range(220, 620, 90):
                pen.ellipse((x - 18, y - 18, x + 18, y + 18), "#ffffff")
    elif style == "Striped":
        for y in range(210, 600, 80):
            pen.rectangle((150, y, 650, y + 30), "#ffffff")
    elif style == "Woodland":
        for x in (270, 400, 530):
            pen.polygon(((x, 230), (x - 70, 540), (x + 70, 540)), "#ffffff")
    else:
        pen.rounded_rectangle((210, 210, 590, 590), 46, None, "#ffffff", 12)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
