"""The database: prebuilt SQLAlchemy statements, rows in your own types, one transaction for everything."""

from __future__ import annotations

from tenfold.db.ambient import Ambient
from tenfold.db.contract import Capabilities, DatabaseBackend
from tenfold.db.database import Database, Reader, Tx
from tenfold.db.decode import Row

__all__ = ["Ambient", "Capabilities", "Database", "DatabaseBackend", "Reader", "Row", "Tx"]
