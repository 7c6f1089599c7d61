"""Decorated cache hits a second, ours beside the peers, by the peers' own client.

    python bench/cache_hit.py PATH/TO/bench/cache/client.py [--rounds 3] [--seconds 2] [--peers c_dict,c_cachebox]

The client imports a contender module by name and measures `get` and the guarded (decorated) hit over 1,000
keys. Each contender runs in a process of its own, in turns, so that a busy machine slows all alike; printed
are the medians and the ratio to ours. This file is itself the contender module for Tenfold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any


async def make(kind: str) -> tuple[Any, Any, Any]:
    """The client's interface: (get, set, guard). Tags and statistics are on, as in any app.

    ``redis`` is the store at BENCH_REDIS with copies in the process, ``strict`` a strict cache on it.
    """
    from tenfold._core.clock import SystemClock
    from tenfold._core.resolve import backend_class
    from tenfold._core.sections import CacheSettings
    from tenfold.cache.cache import Cache

    redis = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379")
    settings = CacheSettings(url="memory:" if kind == "mem" else redis)
    clock = SystemClock()
    backend = backend_class("cache", settings.url, where="BENCH_REDIS").from_url(
        settings.url, settings, clock
    )
    await backend.start()
    cache = Cache("bench", ttl_s=600, strict=kind == "strict")
    cache.bind(backend, clock)

    def guard(loader: Any, ttl: float) -> Any:
        @cache.cached(ttl_s=ttl, tags=("products", "{key}"))
        async def load(key: str) -> Any:
            return await loader(key)

        return load

    async def set_(key: str, value: Any, ttl: float) -> None:
        await cache.set(key, value, ttl_s=ttl, tags=("products",))

    return cache.get_nowait if kind == "mem" else cache.get, set_, guard


def measure(client: Path, peer: str, kind: str, seconds: float, python: str) -> dict[str, float]:
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent / 'src'}"}
    command = [
        sys.executable if peer == "cache_hit" else python,
        client.name,
        peer,
        kind,
        "hit",
        str(seconds),
    ]
    done = subprocess.run(command, cwd=client.parent, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{peer}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("client", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--peers", default="c_dict,c_cachebox,c_theine,c_cashews,c_aiocache")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers installed")
    parser.add_argument("--kind", default="mem", help="mem, redis or strict (Redis at BENCH_REDIS)")
    parser.add_argument("--json", action="store_true", help="print every round as it was measured")
    args = parser.parse_args()
    names = ["cache_hit", *args.peers.split(",")]
    rounds = [
        {name: measure(args.client, name, args.kind, args.seconds, args.python) for name in names}
        for _ in range(args.rounds)
    ]
    if args.json:
        print(json.dumps(rounds))
        return
    ours = median(r["cache_hit"]["guarded"] for r in rounds)
    print(f"{'':14}{'get/s':>14}{'decorated/s':>14}{'ours / theirs':>15}")
    for name in names:
        gets = [r[name]["get"] for r in rounds if "get" in r[name]]
        hits = [r[name]["guarded"] for r in rounds if "guarded" in r[name]]
        get = f"{median(gets):,.0f}" if gets else "–"
        hit, ratio = (f"{median(hits):,.0f}", f"{ours / median(hits):.2f}") if hits else ("–", "–")
        print(f"{name.replace('cache_hit', 'tenfold'):14}{get:>14}{hit:>14}{ratio:>15}")


if __name__ == "__main__":
    main()
