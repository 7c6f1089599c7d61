"""The dashboard: pages over telemetry and public facades, shown at the operations listener.

``attach(app)`` gives an app its dashboard; ``tenfold run`` and ``tenfold up`` do so. A page is one file in ``pages/``.
"""

from __future__ import annotations

from tenfold.dashboard.attach import attach

__all__ = ["attach"]
