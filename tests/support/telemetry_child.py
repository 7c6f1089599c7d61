"""A process that writes into a store of telemetry for as long as it lives: ``python -m support.telemetry_child FOLDER NAME``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from support.telemetry_store import Kept, request


def main(folder: Path, name: str) -> None:
    kept = Kept(folder, instance=name)
    put = 0
    while True:
        for _ in range(50):
            kept.feed.request(request(time.time()), fair=True)
        put += 50
        kept.turn()
        kept.feed.tick(1)
        print(put - sum(kept.feed.dropped.values()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
