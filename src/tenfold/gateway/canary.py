"""Which of several services a caller is sent to, by weight. Pure, and the same in every process.

A caller stays where it is while weights stay, and when they change, no more callers move than have to: each service
draws a number for the caller from a hash, which its weight favours, and the highest wins (rendezvous hashing: Thaler and
Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998; with weights: Schindelhauer and Schomaker, "Weighted
Distributed Hash Tables", 2005). Nothing is remembered, so nothing is lost with a process.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

_SPACE = 1 << 64


def weights(service: str, canary: Mapping[str, float]) -> dict[str, float]:
    """The weight of each: percent of the callers. What the canaries leave is the service's."""
    return {service: max(0.0, 100.0 - sum(canary.values())), **canary}


def chosen(key: str, among: Mapping[str, float]) -> str:
    """The one for the caller ``key``. One without weight gets nobody. Raises ValueError when all are without."""
    best, most = "", -math.inf
    for name, weight in among.items():
        if weight > 0 and (drawn := -weight / math.log(_drawn(key, name))) > most:
            best, most = name, drawn
    if not best:
        raise ValueError("no service has a weight above 0.")
    return best


def _drawn(key: str, name: str) -> float:
    """Between 0 and 1, both left out; evenly, and independently for each name."""
    text = f"{len(name)}:{name}{key}".encode(errors="surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    # 53 bits: more would be rounded, to 1 at the upper end.
    return ((int.from_bytes(digest) * (1 << 53) // _SPACE) + 0.5) / (1 << 53)
