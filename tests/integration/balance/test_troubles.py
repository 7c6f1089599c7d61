"""What goes wrong around a balancer is a sentence with the remedy, and what runs goes on running."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from integration.balance.conftest import FAST, plan_for
from support.balanced import Client, Instance
from support.certificates import Authority
from tenfold._core.clock import SystemClock
from tenfold.errors import ConfigError
from tenfold.runtime.balance import Balancer, Listener, balancer_of
from tenfold.runtime.balance.nginx import Nginx
from tenfold.runtime.balance.programs import until

pytestmark = pytest.mark.anyio


async def test_a_port_in_use_is_named(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("in the way", port=port):
        with pytest.raises(ConfigError) as refused:
            await balancer.apply(plan_for(port, 4000), folder)
    assert str(refused.value) == (
        f"balancer.port: port {port} on 127.0.0.1 is taken by another process."
        " Stop that process, or choose another port."
    )
    assert balancer.running(folder) == 0
    await balancer.apply(plan_for(port, 4000), folder)  # the same plan, once the port is free
    assert balancer.running(folder)


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_a_missing_program_says_what_to_install(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("tenfold.runtime.balance.programs.FOLDERS", "/nowhere")
    found = balancer_of(kind)
    assert found is not None
    with pytest.raises(
        ConfigError, match=rf"balancer\.kind: {kind} is not installed.*apt install {kind}, brew"
    ):
        await found.apply(plan_for(8080, 4000), folder)


async def test_a_program_that_is_none_is_named(balancer: Balancer, tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    with pytest.raises(ConfigError, match=r"balancer\.program: /\S+/text is no program that can be run"):
        _ = type(balancer)(str(tmp_path / "text")).program


async def test_what_is_refused_leaves_what_runs(
    balancer: Balancer, folder: Path, port: int, tmp_path: Path
) -> None:
    async with Instance("only") as instance:
        await balancer.apply(plan_for(port, instance.port), folder)
        running, text = balancer.running(folder), _config(folder)
        expired = Authority(tmp_path, time.time() - 90 * 86_400).issue("shop.example", days=30)
        listener = Listener("public", "127.0.0.1", port, expired)
        with pytest.raises(ConfigError, match=r"balancer\.tls_certificate: .*expired on .*Renew it"):
            await balancer.apply(
                msgspec.structs.replace(plan_for(port, instance.port), listeners=(listener,)), folder
            )
        unresolved = plan_for(port, instance.port)
        pool = msgspec.structs.replace(
            unresolved.pools[0],
            upstreams=(msgspec.structs.replace(unresolved.pools[0].upstreams[0], host="no.invalid"),),
        )
        with pytest.raises(ConfigError, match=f"{balancer.name} refuses its configuration: .*no.invalid"):
            await balancer.apply(msgspec.structs.replace(unresolved, pools=(pool,)), folder)
        assert (balancer.running(folder), _config(folder)) == (running, text)
        client = Client(port)
        assert (await client.ask("GET", "/"))[0] == 200
        client.close()


def _config(folder: Path) -> str:
    (path,) = (path for name in ("nginx.conf", "haproxy.cfg") if (path := folder / name).exists())
    return path.read_text()


async def test_a_name_that_the_certificate_lacks_is_refused(
    balancer: Balancer, folder: Path, port: int, tmp_path: Path
) -> None:
    tls = Authority(tmp_path, time.time()).issue("shop.example")
    plan = msgspec.structs.replace(
        plan_for(port, 4000), listeners=(Listener("public", "127.0.0.1", port, tls),)
    )
    with pytest.raises(ConfigError, match=r"not valid for pay\.example, but for shop\.example"):
        await balancer.apply(plan, folder, names=["pay.example"])


async def test_stopping_answers_what_is_in_progress(balancer: Balancer, folder: Path, port: int) -> None:
    async with Instance("slow", pause_s=0.4) as instance:
        await balancer.apply(plan_for(port, instance.port, options=FAST), folder)
        idle, client = Client(port), Client(port)
        await idle.ask("GET", "/")
        asking = asyncio.create_task(client.ask("POST", "/", b"x"))
        assert await until(lambda: any(each.method == "POST" for each in instance.asked), 5.0, SystemClock())
        begun = time.monotonic()
        await balancer.stop()
        assert (await asking)[0] == 200
        assert balancer.running(folder) == 0
        assert time.monotonic() - begun < FAST.stop_timeout_s  # the idle client was not waited for
        idle.close()
        client.close()


async def test_one_that_died_is_started_again(balancer: Balancer, folder: Path, port: int) -> None:
    import psutil

    async with Instance("only") as instance:
        plan = plan_for(port, instance.port)
        await balancer.apply(plan, folder)
        process = psutil.Process(balancer.running(folder))
        workers = (psutil.cpu_count() or 1) if isinstance(balancer, Nginx) else 1
        # Those who are not there yet would keep the port.
        assert await until(lambda: len(process.children(recursive=True)) >= workers, 5.0, SystemClock())
        family = [process, *process.children(recursive=True)]
        for each in family:
            each.kill()
        psutil.wait_procs(family, 5.0)
        assert await balancer.apply(plan, folder)
        client = Client(port)
        assert (await client.ask("GET", "/"))[0] == 200
        client.close()
