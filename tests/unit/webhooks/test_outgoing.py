"""Events become deliveries, and what becomes of those."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from support.webhooks import Placed, Rig
from tenfold.errors import Conflict, DeclarationError, InvalidInput, NotFound
from tenfold.webhooks.contract import Answer
from tenfold.webhooks.policy import Patience
from tenfold.webhooks.tables import delivery, endpoint, event

pytestmark = pytest.mark.anyio

A, B = "https://a.example/hook", "https://b.example/hook"


async def test_an_event_goes_to_every_endpoint_that_wants_its_topic(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        await rig.add(A)
        await rig.add(B, topics=["orders.cancelled"])
        await rig.place("1")
        async with rig.db.tx() as tx:
            await rig.cancelled.publish(tx, Placed("2"))
        await t.run_jobs()
        assert sorted(rig.sender.urls()) == [A, A, B]
        first = rig.sender.posted[0].json
        assert (first["type"], first["data"]) == ("orders.placed", {"order": "1"})


async def test_no_delivery_without_the_event(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        await rig.add()
        with pytest.raises(RuntimeError):
            async with rig.db.tx() as tx:
                await rig.placed.publish(tx, Placed("1"))
                raise RuntimeError
        await t.run_jobs()
        assert rig.sender.posted == []


async def test_the_specifications_own_library_takes_what_is_sent(rig: Rig) -> None:
    """Its clock is the machine's, so the test's has to say the same."""
    import time

    async with rig.test() as t:
        rig.use_fake(t)
        t.clock.jump(time.time() - t.clock.now())
        async with rig.db.tx() as tx:
            made = await rig.hooks.add(tx, A)
        await rig.place("1")
        await t.run_jobs()
        [sent] = rig.sender.posted
        Webhook(made.secret).verify(sent.body, sent.headers)


async def test_after_a_rotation_both_secrets_sign_for_a_day(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        id_ = await rig.add()
        async with rig.db.tx() as tx:
            await rig.hooks.rotate(tx, id_)
        await rig.place("1")
        await t.run_jobs()
        await t.advance(86_401)
        await rig.place("2")
        await t.run_jobs()
        assert [len(one.headers["webhook-signature"].split()) for one in rig.sender.posted] == [2, 1]


async def test_secrets_are_not_in_the_database_as_they_are(rig: Rig) -> None:
    async with rig.test():
        async with rig.db.tx() as tx:
            made = await rig.hooks.add(tx, A)
        kept = await rig.db.read().scalar(sa.select(endpoint.c.secret))
        assert made.secret.removeprefix("whsec_")[:20] not in kept


async def test_a_failed_attempt_is_made_again_by_the_schedule_under_the_same_id(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500, body="broken")
        id_ = await rig.add()
        await rig.place("1")
        await t.run_jobs()
        [noted] = await rig.hooks.log(id_)
        assert (noted.state, noted.attempts, noted.status, noted.said) == ("pending", 1, 500, "500: broken")
        await t.advance(10)
        assert len(rig.sender.posted) == 2
        rig.sender.answers.clear()
        await t.advance(400)
        first, second, third = rig.sender.posted
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == third.headers["webhook-id"]
        assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
        [noted] = await rig.hooks.log(id_)
        assert (noted.state, noted.attempts, noted.status, noted.said) == ("delivered", 3, 204, "")
        assert (await rig.hooks.get(id_)).failures == 0


async def test_retry_after_is_honoured(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=429, retry_after="900")
        await rig.add()
        await rig.place("1")
        await t.advance(899)
        assert len(rig.sender.posted) == 1
        await t.advance(2)
        assert len(rig.sender.posted) == 2


async def test_a_delivery_is_given_up_after_the_last_attempt_and_can_be_replayed() -> None:
    rig = Rig(Patience(schedule_s=(5, 10)))
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(error="There was no answer.")
        id_ = await rig.add()
        since = t.clock.now()
        await rig.place("1")
        await t.advance(3600)
        assert len(rig.sender.posted) == 3
        [noted] = await rig.hooks.log(id_)
        assert (noted.state, noted.said) == ("failed", "There was no answer.")
        rig.sender.answers.clear()
        assert await rig.hooks.replay(id_, since) == 1
        await t.run_jobs()
        assert len(rig.sender.posted) == 4
        assert [one.state for one in await rig.hooks.log(id_)] == ["delivered"]
        assert await rig.hooks.replay(id_, since) == 0
        assert await rig.hooks.replay(id_, since, states=["delivered"]) == 1


async def test_a_dead_endpoint_is_disabled_once_with_event_and_mail() -> None:
    rig = Rig(Patience(disable_after_failures=3))
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500)
        id_ = await rig.add(owner="ann@example.org")
        await rig.place("1", "2", "3", "4", "5")
        await t.run_jobs()
        found = await rig.hooks.get(id_)
        assert (found.state, found.reason) == ("disabled", "3 attempts failed one after another.")
        assert [event.topic for event in t.events if "disabled" in event.topic] == [
            "orders.webhook-endpoint-disabled"
        ]
        [mail] = t.mails
        assert A in mail.text
        assert id_ in mail.text


async def test_a_success_begins_the_count_anew() -> None:
    rig = Rig(Patience(schedule_s=(), disable_after_failures=2))
    async with rig.test() as t:
        rig.use_fake(t)
        id_ = await rig.add()
        for answer in (500, 200, 500):
            rig.sender.answers[A] = Answer(status=answer)
            await rig.place("x")
            await t.run_jobs()
        assert (await rig.hooks.get(id_)).state == "enabled"


async def test_days_of_nothing_but_failures_disable_too() -> None:
    rig = Rig(Patience(schedule_s=(86_400,) * 9, disable_after_s=2 * 86_400))
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=302)
        id_ = await rig.add()
        await rig.place("1")
        await t.advance(4 * 86_400)
        assert (await rig.hooks.get(id_)).state == "disabled"


async def test_410_disables_at_once(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=410)
        id_ = await rig.add()
        await rig.place("1")
        await t.run_jobs()
        assert "410" in (await rig.hooks.get(id_)).reason
        await t.advance(86_400)
        assert len(rig.sender.posted) == 1


async def test_what_a_disabled_endpoint_missed_is_held_and_comes_with_a_replay(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        id_ = await rig.add()
        since = t.clock.now()
        await rig.place("under way")
        async with rig.db.tx() as tx:
            await rig.hooks.disable(tx, id_)
        await t.run_jobs()
        await rig.place("published meanwhile")
        await t.run_jobs()
        assert rig.sender.posted == []
        assert {one.state for one in await rig.hooks.log(id_)} == {"held"}
        with pytest.raises(Conflict, match="enable it first"):
            await rig.hooks.replay(id_, since)
        async with rig.db.tx() as tx:
            await rig.hooks.enable(tx, id_)
        assert await rig.hooks.replay(id_, since) == 2
        await t.run_jobs()
        said = sorted(one.json["data"]["order"] for one in rig.sender.posted)
        assert said == ["published meanwhile", "under way"]


async def test_ordered_events_of_one_key_wait_for_the_one_that_fails(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500)
        await rig.add(A, ordered=True, concurrency=1)
        await rig.add(B)
        await rig.place("1", "2", key="k")
        await t.run_jobs()
        assert sorted(rig.sender.urls()) == [A, B, B]
        rig.sender.answers.clear()
        await t.advance(10)
        orders = [one.json["data"]["order"] for one in rig.sender.posted if one.url == A]
        assert orders == ["1", "1", "2"]


async def test_a_replay_keeps_the_order_of_a_key(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        id_ = await rig.add(A, ordered=True)
        since = t.clock.now()
        numbers = [str(n) for n in range(40)]
        await rig.place(*numbers, key="k")
        await t.run_jobs()
        await rig.hooks.replay(id_, since, states=["delivered"])
        await t.run_jobs()
        assert [one.json["data"]["order"] for one in rig.sender.posted] == numbers * 2


async def test_an_order_is_not_kept_where_none_is_asked_for(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500)
        await rig.add(A, concurrency=1)
        await rig.place("1", "2", key="k")
        await t.run_jobs()
        assert [one.json["data"]["order"] for one in rig.sender.posted] == ["1", "2"]


async def test_a_removed_endpoint_gets_nothing_more(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500)
        id_ = await rig.add()
        await rig.place("1")
        await t.run_jobs()
        async with rig.db.tx() as tx:
            await rig.hooks.remove(tx, id_)
        await t.advance(86_400)
        assert len(rig.sender.posted) == 1
        with pytest.raises(NotFound):
            await rig.hooks.get(id_)


async def test_a_test_is_sent_at_once_and_leaves_no_trace(rig: Rig) -> None:
    async with rig.test():
        id_ = await rig.add()
        rig.sender.answers[A] = Answer(status=500, body="no")
        answer = await rig.hooks.test(id_, rig.sender)
        assert answer.sentence == "500: no"
        assert rig.sender.posted[0].json["type"] == "webhook.test"
        assert await rig.hooks.log(id_) == []
        assert (await rig.hooks.get(id_)).failures == 0


async def test_an_endpoint_can_be_changed_and_what_is_under_way_follows(rig: Rig) -> None:
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500)
        id_ = await rig.add()
        await rig.place("1")
        await t.run_jobs()
        async with rig.db.tx() as tx:
            changed = await rig.hooks.change(tx, id_, url=B, topics=["orders.placed"], concurrency=2)
        assert (changed.url, changed.topics, changed.concurrency) == (B, ["orders.placed"], 2)
        await t.advance(10)
        assert rig.sender.urls() == [A, B]


async def test_every_wrong_field_is_named(rig: Rig) -> None:
    async with rig.test():
        async with rig.db.tx() as tx:
            with pytest.raises(InvalidInput) as caught:
                await rig.hooks.add(
                    tx, "ftp://x", ["orders.palced"], owner="nobody", secret="c2hvcnQ=", concurrency=0
                )
        said = {error.path: error.message for error in caught.value.errors}
        assert set(said) == {"url", "topics", "owner", "secret", "concurrency"}
        assert "orders.placed" in said["topics"]


async def test_the_past_is_forgotten_after_its_time(rig: Rig) -> None:
    async with rig.test(webhooks__keep_s=3600) as t:
        rig.use_fake(t)
        await rig.add()
        await rig.place("1")
        await t.run_jobs()
        await t.advance(3 * 3600)
        for table in (event, delivery):
            assert await rig.db.read().scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def test_events_that_nobody_wants_are_not_kept(rig: Rig) -> None:
    async with rig.test() as t:
        await rig.place("1")
        await t.run_jobs()
        assert await rig.db.read().scalar(sa.select(sa.func.count()).select_from(event)) == 0


async def test_an_attempt_that_is_recorded_is_not_made_again(rig: Rig) -> None:
    """The worker died between the record and its acknowledgement: the job runs again, and does nothing."""
    async with rig.test() as t:
        rig.use_fake(t)
        rig.sender.answers[A] = Answer(status=500)
        id_ = await rig.add()
        await rig.place("1")
        await t.run_jobs()
        enqueued = next(job for job in t.jobs if job.name == "orders.webhook-delivery")
        async with rig.db.tx() as tx:
            await rig.hooks.work.deliver_job.enqueue(tx, **enqueued.arguments)
        await t.run_jobs()
        assert len(rig.sender.posted) == 1
        assert [one.attempts for one in await rig.hooks.log(id_)] == [1]


def test_what_cannot_work_is_said_at_the_declaration() -> None:
    from tenfold import Service

    service = Service("s")
    topic = service.topic("t", Placed)
    with pytest.raises(DeclarationError, match="database"):
        service.webhooks(topic)
    service.database(sa.MetaData())
    with pytest.raises(DeclarationError, match="no topic"):
        service.webhooks()
    with pytest.raises(DeclarationError, match="before its first failure"):
        Patience(disable_after_failures=0)
