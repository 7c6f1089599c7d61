"""Money is an integer number of pence, everywhere: no floats, no rounding, no surprises."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Pence = Annotated[int, Meta(ge=0, le=10_000_000, description="Money in pence: 1999 is £19.99.")]


def pounds(pence: int) -> str:
    """``123456`` → ``1234.56``, exactly."""
    sign, pence = ("-", -pence) if pence < 0 else ("", pence)
    return f"{sign}{pence // 100}.{pence % 100:02d}"


def pence(pounds: str) -> int:
    """What :func:`pounds` wrote, back: ``"1234.56"`` → ``123456``."""
    return int(pounds.replace(".", ""))
