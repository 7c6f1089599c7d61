"""The pages, in the order of the navigation: one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenfold.dashboard.page import Page


def pages() -> tuple[type[Page], ...]:
    """Every page there is. Imported when a dashboard is made, so that commands that show none do not pay for them."""
    from tenfold.dashboard.pages.overview import Overview

    return (Overview,)
