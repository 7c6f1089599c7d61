"""What ``tenfold ps``, ``scale``, ``restart``, ``reload`` and ``down`` do to a running fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from tenfold._core.text import nearest
from tenfold.errors import ConfigError
from tenfold.runtime.up.control import Request, Row, Said
from tenfold.runtime.up.fleet import Fleet
from tenfold.runtime.up.instance import Instance
from tenfold.runtime.up.roles import parse_scale

if TYPE_CHECKING:
    from tenfold.runtime.up.supervisor import Supervisor

Heard = asyncio.Queue[str]


async def answer(supervisor: Supervisor, request: Request, heard: Heard) -> AsyncIterator[Said]:
    """Do what is asked; ``heard`` brings the supervisor's sentences meanwhile, an empty one when it ends."""
    fleet = supervisor.fleet
    if request.command == "ps":
        yield Said(done=True, rows=rows(fleet, supervisor.now()))
        return
    if request.command == "down":
        supervisor.stop()
        async for said in _hear(lambda: not fleet.instances, heard):
            yield said
        yield Said("The fleet has ended.", done=True)
        return
    groups = _begin(supervisor, request)
    supervisor.remember()

    def over() -> bool:
        done = settled(fleet, groups) and supervisor.shown
        return done or bool(_held(fleet, groups) or supervisor.complaint)

    async for said in _hear(over, heard):
        yield said
    wrong = _held(fleet, groups) or supervisor.complaint
    yield Said(wrong or f"{_listed(fleet, groups)}.", done=True, failed=bool(wrong))


def _begin(supervisor: Supervisor, request: Request) -> list[str]:
    """The groups that it is about."""
    if request.command == "reload":
        supervisor.reload()
        return list(supervisor.fleet.groups)
    if request.command == "scale":
        return _scale(supervisor.fleet, request.words)
    return _restart(supervisor.fleet, request, supervisor.now())


def rows(fleet: Fleet, now: float) -> list[Row]:
    """Every instance, and one row for what is missing of a group that is held."""
    found = [
        Row(instance, now - (instance.started_at or now), about(instance))
        for group in fleet.groups
        for instance in sorted(fleet.of(group), key=lambda i: i.number)
    ]
    for name, group in fleet.groups.items():
        if group.held:
            missing = Instance(name=f"{name}.*", role=group.role, service=group.service, state="held")
            found.append(Row(missing, 0.0, group.held))
    return found


def about(instance: Instance) -> str:
    """What there is to say of an instance beside its numbers."""
    if instance.state == "draining":
        return "was told to end" if instance.told_at else "leaves the balancer"
    if instance.state == "ready" and not instance.answers:
        return "says that it is not ready; see its /health/ready"
    return f"is to be replaced: {instance.worn}" if instance.worn else ""


def settled(fleet: Fleet, groups: Collection[str]) -> bool:
    """Whether these groups are as wanted, and nothing is under way."""
    for name in groups:
        group, members = fleet.groups[name], fleet.of(name)
        newest = all(i.state == "ready" and i.generation == group.generation for i in members)
        if len(members) != group.count or not newest:
            return False
    return True


async def _hear(condition: Callable[[], bool], heard: Heard) -> AsyncIterator[Said]:
    """The supervisor's sentences until the condition holds."""
    while not condition():
        try:
            async with asyncio.timeout(0.5):  # not everything that changes is said
                sentence = await heard.get()
        except TimeoutError:
            continue
        if sentence:
            yield Said(sentence)
    while not heard.empty():
        if sentence := heard.get_nowait():
            yield Said(sentence)


def _scale(fleet: Fleet, words: Sequence[str]) -> list[str]:
    """All of them or none: a word that is wrong changes nothing."""
    found = [parse_scale(word, fleet.groups) for word in words]
    if not found:
        raise ConfigError(
            "it does not say what to scale.", where="scale", remedy="Write: tenfold scale web=4."
        )
    for group, low, high in found:
        fleet.scale(group, low, high)
    return [group for group, _, _ in found]


def _restart(fleet: Fleet, request: Request, now: float) -> list[str]:
    names = list(request.words) or list(fleet.groups)
    for name in names:
        if name not in fleet.groups:
            raise ConfigError(f"this fleet has no {name!r}.{nearest(name, fleet.groups)}", where="restart")
    fleet.renew(names, rolling=request.rolling, now=now)
    return names


def _held(fleet: Fleet, groups: Collection[str]) -> str:
    return " ".join(fleet.groups[name].held for name in groups if fleet.groups[name].held)


def _listed(fleet: Fleet, groups: Collection[str]) -> str:
    groups = [name for name in groups if fleet.groups[name].declared != (0, 0)]
    return ", ".join(f"{name}: {fleet.groups[name].count} ready" for name in groups)
