"""The database suite on every backend."""

from __future__ import annotations

import pytest

from tenfold.conformance._database_case import WrongUrl
from tenfold.conformance.database import DatabaseConformance


class TestSqlite(DatabaseConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"

    @classmethod
    def wrong_urls(cls, url: str) -> list[WrongUrl]:
        return [
            WrongUrl("a folder that cannot be", "sqlite:////dev/null/app.db", "folder of the database file"),
            WrongUrl("a query", "sqlite:///app.db?mode=ro", r"database\.url: .* without a query"),
        ]
