"""Boxes and arrows: a drawing of parts and what flows between them. Pure: the same parts give the same picture.

``parts`` is what a picture is of, ``lanes`` says who stands beside whom, ``layout`` where everything goes, and ``svg``
draws it.
"""

from __future__ import annotations

from tenfold.dashboard.diagram.parts import Arrow, Box, Kind, Mood
from tenfold.dashboard.diagram.svg import svg

__all__ = ["Arrow", "Box", "Kind", "Mood", "svg"]
