"""``python -m tenfold`` is the ``tenfold`` command."""

from __future__ import annotations

import sys

from tenfold.cli import main

if __name__ == "__main__":
    sys.exit(main())
