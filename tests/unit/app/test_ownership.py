"""What a process of some of the services does when its role can reach the tables of others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import sqlalchemy as sa

from tenfold import Service
from tenfold._core.sections import AppSettings, IdentitySettings, Settings
from tenfold.assembly.ownership import OwnershipPart
from tenfold.db import ownership
from tenfold.errors import ConfigError

pytestmark = pytest.mark.anyio

SAID = "the role of this process can reach tables of catalog, which it does not serve: products."
Env = Literal["development", "production"]


def part(env: Env, roles: Literal["warn", "refuse"] | None = None, *, split: bool = True) -> OwnershipPart:
    stock, orders = Service("stock"), Service("orders")
    for service in (stock, orders):
        service.database(sa.MetaData())
    app: Any = SimpleNamespace(
        name="shop",
        auth=None,
        fronts=False,
        databases=[SimpleNamespace(backend=None)],
        services=[stock] if split else [stock, orders],
        elsewhere=[orders] if split else [],
        settings=Settings(app=AppSettings(env=env), identity=IdentitySettings(database_roles=roles)),
    )
    return OwnershipPart(app)


@pytest.fixture(autouse=True)
def reaches_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    async def said(*_: Any) -> str:
        return SAID

    monkeypatch.setattr(ownership, "check", said)


@pytest.mark.parametrize(("env", "roles"), [("production", None), ("development", "refuse")])
async def test_it_does_not_start_in_production_or_where_that_is_asked_for(env: Env, roles: Any) -> None:
    with pytest.raises(ConfigError, match=f"database.url: {SAID} Give each .*: tenfold identity database"):
        await part(env, roles).start()


@pytest.mark.parametrize(("env", "roles"), [("development", None), ("production", "warn")])
async def test_elsewhere_it_says_so(env: Env, roles: Any, caplog: pytest.LogCaptureFixture) -> None:
    await part(env, roles).start()
    assert [f"{SAID} Give each service a role of its own: tenfold identity database"] == caplog.messages


async def test_a_process_of_all_services_is_not_asked(caplog: pytest.LogCaptureFixture) -> None:
    await part("production", split=False).start()
    assert caplog.messages == []
