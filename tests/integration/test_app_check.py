"""What ``tenfold check`` and ``App.check`` find without starting anything."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from tenfold import Accounts, App, Service


def app_of(service: Service) -> App:
    return App("sample", [service], auth=Accounts(service.database(sa.MetaData())))


def test_production_without_a_secret_key_is_found_beside_what_is_declared_wrong(tmp_path: Path) -> None:
    service = Service("notes")

    @service.get("/open")
    async def unguarded() -> str:
        return ""

    app = app_of(service)
    app.configure(environ={}, app__env="production", app__data_dir=str(tmp_path / "data"))
    secret, policy = app.check()
    assert secret.startswith("app.secret_key: production needs a secret key")
    assert "does not say who may use it" in policy
    assert not (tmp_path / "data").exists()


def test_development_needs_no_secret_key() -> None:
    app = app_of(Service("notes"))
    app.configure(environ={})
    assert app.check() == []
