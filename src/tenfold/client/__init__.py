"""Calls out of the app: clients with time-outs, retries, breakers, bulkheads and judged addresses."""

from __future__ import annotations

from tenfold.client.answer import Answer, Download
from tenfold.client.client import HttpClient

__all__ = ["Answer", "Download", "HttpClient"]
