"""Services in processes of their own know each other by their keys: what is not proved and declared gets nothing."""

from __future__ import annotations

import base64
import shutil
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from support.split import configured, serving
from tenfold import App, Service, public
from tenfold._core.clock import SystemClock
from tenfold.errors import ConfigError, DeclarationError, DependencyFailed
from tenfold.security.identity import certificates, issuing
from tenfold.security.identity.names import service_name
from tenfold.security.identity.tls import Material, client_context

pytestmark = pytest.mark.anyio


class Shop:
    """One process's code: ``orders`` calls ``catalog.find``, which it declares, and tries ``catalog.remove``."""

    def __init__(self) -> None:
        catalog = Service("catalog", auth=public, calls=[])
        orders = Service("orders", auth=public, calls=["catalog.find"])

        @catalog.internal
        async def find(sku: str) -> str:
            return f"found {sku}"

        @catalog.internal
        async def remove(sku: str) -> None: ...

        @orders.internal
        async def place(sku: str) -> str:
            return await find(sku)

        @orders.internal
        async def clear(sku: str) -> None:
            await remove(sku)

        self.app, self.place, self.clear = App("shop", [catalog, orders]), place, clear


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for service in ("orders", "catalog"):
        issuing.issue(tmp_path / "identity", service, time.time())
        certificates.issue(tmp_path / "identity", service_name("shop", service), time.time())
    return tmp_path / "identity"


@asynccontextmanager
async def apart(
    keys: Path, *, theirs: Path | None = None, **settings: Any
) -> AsyncGenerator[tuple[Shop, str]]:
    """``orders`` here, and the URL of ``catalog`` there, whose keys are in ``theirs``."""
    there, here = Shop(), Shop()
    there.app.serve_only("catalog")
    configured(there.app, keys.parent, identity__folder=str(theirs or keys), **settings)
    async with serving(there.app) as found:
        url = found.replace("http:", "https:") if settings.get("identity__tls") else found
        here.app.serve_only("orders")
        configured(here.app, keys.parent, identity__folder=str(keys), services__catalog__url=url, **settings)
        async with here.app.lifespan():
            yield here, url


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "mutual TLS"])
async def test_a_declared_call_passes_and_another_is_refused_before_it_is_sent(keys: Path, tls: bool) -> None:
    async with apart(keys, identity__tls=tls) as (here, _):
        assert await here.place("a") == "found a"
        with pytest.raises(
            DeclarationError, match=r'write: Service\("orders", calls=\["catalog.remove", …\]\)'
        ):
            await here.clear("a")


async def test_who_proves_nothing_gets_nothing(keys: Path) -> None:
    async with apart(keys) as (here, url):
        mine = here.app.assembly.identity.proves
        assert mine is not None
        token = mine.issue("orders", "catalog")
        cases = {
            "none": ("find", "", 401),
            "another scheme": ("find", f"Bearer {token}", 401),
            "forged": ("find", f"Tenfold {token[:-6]}AAAAAA", 401),
            "for another": ("find", f"Tenfold {mine.issue('orders', 'orders')}", 401),
            "not declared": ("remove", f"Tenfold {token}", 403),
        }
        async with httpx2.AsyncClient(base_url=url) as client:
            for what, (operation, authorization, status) in cases.items():
                headers = {"content-type": "application/json", "authorization": authorization}
                answer = await client.post(
                    f"/_tenfold/call/catalog.{operation}", content='["a"]', headers=headers
                )
                assert answer.status_code == status, what
                assert token.rpartition(".")[2] not in answer.text


async def test_a_service_whose_key_is_not_known_is_refused_with_a_sentence(
    keys: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(keys, theirs)
    (theirs / "public" / "orders.jwks").unlink()
    async with apart(keys, theirs=theirs) as (here, _):
        with pytest.raises(
            DependencyFailed,
            match=r"catalog does not take calls from here: .*The key \w+ of the token is not",
        ):
            await here.place("a")


async def test_mutual_tls_lets_nobody_in_who_shows_no_certificate(keys: Path) -> None:
    async with apart(keys, identity__tls=True) as (_, url):
        trusting = ssl.create_default_context(cafile=keys / "public" / "ca.pem")
        async with httpx2.AsyncClient(base_url=url, verify=trusting) as client:
            with pytest.raises(httpx2.TransportError):
                await client.get("/")


async def test_a_token_counts_only_over_the_connection_of_who_it_is_of(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """``catalog`` takes calls of ``orders``; ``inventory`` has got hold of its token. A balancer says whom it was shown."""
    for name in ("inventory", "balancer"):
        certificates.issue(keys, service_name("shop", name), time.time())
    pem = {name: (keys / name / "certificate.pem").read_text() for name in ("orders", "inventory")}
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(pem["orders"])).decode()
    orders, inventory = (f"spiffe://shop/service/{name}" for name in ("orders", "inventory"))
    other = f"The token is of {orders}, and the connection showed the certificate of {inventory}"
    nobody = f"The token is of {orders}, and the connection showed no certificate of a service"
    cases: list[tuple[str, str, int, str]] = [
        ("orders", "", 200, "found a"),
        ("inventory", "", 403, other),
        ("inventory", quote(pem["orders"]), 403, other),  # who is no balancer says nothing of others
        ("balancer", "", 403, nobody),
        ("balancer", quote(pem["inventory"]), 403, other),
        ("balancer", "no certificate", 403, nobody),
        ("balancer", quote(pem["orders"]), 200, "found a"),  # as NGINX writes it
        ("balancer", der, 200, "found a"),  # as HAProxy does
    ]
    async with apart(keys, identity__tls=True) as (here, url):
        mine = here.app.assembly.identity.proves
        assert mine is not None
        headers = {
            "authorization": f"Tenfold {mine.issue('orders', 'catalog')}",
            "content-type": "application/json",
        }
        for who, told, status, said in cases:
            material = Material(keys, service_name("shop", who), SystemClock())
            context = client_context(material, service_name("shop", "catalog"))
            async with httpx2.AsyncClient(base_url=url, verify=context) as client:
                answer = await client.post(
                    "/_tenfold/call/catalog.find",
                    content='{"sku": "a"}',
                    headers=headers | ({"tenfold-certificate": told} if told else {}),
                )
                assert (answer.status_code, said in answer.text) == (status, True), (who, told, answer.text)
    refused = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [(each["caller"], each["reason"]) for each in refused] == [
        ("inventory", "certificate"),
        ("unknown", "certificate"),
    ]


async def test_production_does_not_split_services_that_prove_nothing(tmp_path: Path) -> None:
    here = Shop()
    here.app.serve_only("orders")
    configured(here.app, tmp_path, app__env="production", services__catalog__url="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="Run: tenfold identity issue, and set"):
        await here.app.start()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"identity__folder": "nowhere"}, "there is no private key of orders.*tenfold identity issue orders"),
        ({"identity__folder": ""}, "mutual TLS needs certificates. Run: tenfold identity issue --tls"),
        ({"services__catalog__url": "http://127.0.0.1:1"}, "without TLS, which identity.tls asks for"),
        ({"identity__trust_domain": "Shop!"}, "cannot be a trust domain"),
        (
            {"identity__trust_domain": "else"},
            "is of spiffe://shop/service/orders, and this is spiffe://else/",
        ),
    ],
)
async def test_what_is_wrong_is_said_at_the_start(keys: Path, change: dict[str, Any], said: str) -> None:
    here = Shop()
    here.app.serve_only("orders")
    settings = {
        "identity__folder": str(keys),
        "identity__tls": True,
        "services__catalog__url": "https://127.0.0.1:1",
    }
    configured(here.app, keys.parent, **(settings | change))
    with pytest.raises(ConfigError, match=said):
        await here.app.start()
