"""Both ends of a connection are who they say, and stay so when certificates are changed under them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from pathlib import Path

import pytest
import uvloop

from tenfold._core.clock import ManualClock
from tenfold.errors import ConfigError
from tenfold.security.identity import certificates
from tenfold.security.identity.certificates import DAY_S, SERVICE_DAYS
from tenfold.security.identity.keys import LOOK_S
from tenfold.security.identity.names import ServiceName, service_name
from tenfold.security.identity.tls import Material, client_context, peer_of, server_context

NOW = time.time()
"""OpenSSL has no other clock than the machine's."""
ORDERS, CATALOG, INVENTORY = (service_name("shop", name) for name in ("orders", "catalog", "inventory"))


class Ends:
    """The contexts of two services, on one clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock(NOW)
        for name in (ORDERS, CATALOG, INVENTORY):
            certificates.issue(folder, name, NOW)
        self.server_material = Material(folder, CATALOG, self.clock)
        self.server = server_context(self.server_material)
        self.client_material = Material(folder, ORDERS, self.clock)
        self.clients = {name: client_context(self.client_material, name) for name in (CATALOG, INVENTORY)}

    def connect(self, to: ServiceName = CATALOG) -> tuple[ServiceName | None, ServiceName | None, str]:
        """Whom the client sees, whom the server sees, and the serial number of the server's certificate."""
        return handshake(self.clients[to], self.server)


def handshake(
    client_context: ssl.SSLContext, context: ssl.SSLContext
) -> tuple[ServiceName | None, ServiceName | None, str]:
    """A handshake without a network. Raises SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="10.9.8.7")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    shown = client.getpeercert() or {}
    return peer_of(client), peer_of(server), str(shown["serialNumber"])


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path / "identity")


def test_both_ends_learn_who_the_other_is(ends: Ends) -> None:
    assert ends.connect()[:2] == (CATALOG, ORDERS)


def test_another_service_of_the_same_domain_does_not_answer_for_one(ends: Ends) -> None:
    with pytest.raises(
        ssl.SSLCertVerificationError,
        match="the other end is spiffe://shop/service/catalog, and not spiffe://shop/service/inventory",
    ):
        ends.connect(INVENTORY)


def test_who_shows_no_certificate_is_not_let_in(ends: Ends) -> None:
    nobody = ssl.create_default_context(cafile=ends.folder / "public" / "ca.pem")
    nobody.check_hostname = False
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(nobody, ends.server)


def test_a_certificate_of_another_authority_is_not_believed(ends: Ends, tmp_path: Path) -> None:
    other = tmp_path / "other"
    certificates.issue(other, ORDERS, NOW)
    stranger = client_context(Material(other, ORDERS, ends.clock), CATALOG)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(stranger, ends.server)


def test_a_certificate_of_our_authority_that_names_no_service_of_the_domain_is_refused(ends: Ends) -> None:
    foreign = service_name("elsewhere", "orders")
    certificates.issue(ends.folder, foreign, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="and not a service of shop"):
        handshake(client_context(Material(ends.folder, foreign, ends.clock), CATALOG), ends.server)


async def test_new_certificates_are_used_without_a_restart(ends: Ends) -> None:
    first = ends.connect()[2]
    made = certificates.issue(ends.folder, CATALOG, NOW)
    assert ends.connect()[2] == first  # it has looked a moment ago
    await ends.clock.advance(LOOK_S)
    assert int(ends.connect()[2], 16) == int(made.serial, 16)


async def test_a_new_authority_replaces_the_old_one_on_both_ends(ends: Ends, tmp_path: Path) -> None:
    shutil.copytree(ends.folder, tmp_path / "old")
    old = client_context(Material(tmp_path / "old", ORDERS, ends.clock), CATALOG)
    shutil.rmtree(ends.folder / "ca")
    (ends.folder / "public" / "ca.pem").unlink()
    for name in (ORDERS, CATALOG):
        certificates.issue(ends.folder, name, NOW)
    await ends.clock.advance(LOOK_S)
    assert ends.connect()[:2] == (CATALOG, ORDERS)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(old, ends.server)


async def test_a_certificate_that_turns_bad_is_reported_and_the_former_one_used(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    first = ends.connect()[2]
    home = ends.folder / "catalog"
    shutil.copy(ends.folder / "inventory" / "certificate.pem", home / "certificate.pem")
    await ends.clock.advance(LOOK_S)
    assert ends.connect()[2] == first
    assert "the one from before is" in caplog.text
    assert (
        "the certificate is of spiffe://shop/service/inventory, and this is spiffe://shop/service/catalog"
        in caplog.text
    )


async def test_a_certificate_near_its_end_is_complained_of_once(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    await ends.clock.advance((SERVICE_DAYS - 2) * DAY_S)
    for _ in range(3):
        await ends.clock.advance(LOOK_S)
        ends.server_material.look()
    assert caplog.text.count("expires in 48 hours. Run: tenfold identity issue catalog --tls") == 1


def wrong(folder: Path, name: ServiceName, at: float) -> str:
    with pytest.raises(ConfigError) as error:
        certificates.check(folder, name, at)
    return str(error.value)


def test_what_is_wrong_with_a_certificate_is_a_sentence_with_what_to_do(ends: Ends) -> None:
    folder, home = ends.folder, ends.folder / "orders"
    assert certificates.check(folder, ORDERS, NOW).name == ORDERS
    expired = wrong(folder, ORDERS, NOW + 33 * DAY_S)
    assert expired.endswith("expired 3 days ago. Run: tenfold identity issue orders --tls")
    assert "good from 2.0 hours from now on. Set this machine's clock right" in wrong(
        folder, ORDERS, NOW - 7260
    )
    shutil.copy(folder / "inventory" / "certificate.key", home / "certificate.key")
    assert "the key is not that of the certificate beside it" in wrong(folder, ORDERS, NOW)
    (home / "certificate.key").chmod(0o640)
    assert "others than its owner may read this key (mode 640)" in wrong(folder, ORDERS, NOW)
    (home / "certificate.pem").write_text("no certificate")
    assert "it does not hold a certificate (PEM)" in wrong(folder, ORDERS, NOW)
    (home / "certificate.pem").unlink()
    assert "there is no such file. Make it by: tenfold identity issue" in wrong(folder, ORDERS, NOW)


def test_a_certificate_that_the_trusted_authority_did_not_sign_is_found_before_anybody_connects(
    ends: Ends, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    certificates.issue(other, ORDERS, NOW)
    shutil.copytree(other / "orders", ends.folder / "orders", dirs_exist_ok=True)
    assert "was not signed by an authority in" in wrong(ends.folder, ORDERS, NOW)


def test_who_lacks_the_authoritys_key_is_told_where_to_issue(ends: Ends) -> None:
    (ends.folder / "ca" / "ca.key").unlink()
    with pytest.raises(ConfigError, match="its key is not here, so nothing can be signed"):
        certificates.issue(ends.folder, ORDERS, NOW)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_over_a_network_only_the_service_that_is_wanted_gets_a_byte(ends: Ends, new_loop: object) -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(10))
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ends.server)
        port = server.sockets[0].getsockname()[1]
        for name in (CATALOG, INVENTORY):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ends.clients[name])
            except ssl.SSLCertVerificationError:
                got.append(b"refused")
                continue
            writer.write(b"hello")
            await writer.drain()
            writer.write_eof() if writer.can_write_eof() else writer.close()
        server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(scene())
    assert sorted(got)[-2:] == [b"hello", b"refused"]
