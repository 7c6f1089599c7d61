"""What is claimed, in which order, and how much of it: decided purely."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tenfold.queue import outcome, policy
from tenfold.queue.contract import Expired
from tenfold.queue.message import Message
from tenfold.queue.policy import Lane, Slots

names = st.sampled_from(["", "a", "b", "!", "!a", "!b"])
lanes = st.lists(st.builds(Lane, st.sampled_from(["q", "r"]), names), unique=True, max_size=8)


@given(lanes, st.integers(0, 300), st.integers(0, 5), st.integers(0, 5), st.integers(0, 9), st.integers(0, 1))
def test_shares_never_exceed_the_capacity_a_limit_or_one_suspect(
    open_lanes: list[Lane], capacity: int, limit: int, running: int, turn: int, suspects: int
) -> None:
    claims = policy.shares(
        open_lanes, capacity, {"a": limit}, {"a": running}, turn=turn, suspects_held=suspects
    )
    assert sum(c.limit for c in claims) <= capacity
    assert all(c.limit > 0 for c in claims)
    of_a = sum(c.limit for c in claims if c.lane in ("a", "!a"))
    assert of_a <= max(0, limit - running)
    assert sum(c.limit for c in claims if c.lane.startswith("!")) <= 1 - suspects


@given(st.integers(1, 8), st.integers(8, 300), st.integers(0, 20))
def test_every_wide_lane_gets_its_share(count: int, capacity: int, turn: int) -> None:
    claims = policy.shares(
        [Lane("q", ""), *(Lane(f"q{i}", "") for i in range(1, count))], capacity, {}, {}, turn=turn
    )
    assert len(claims) == count
    assert sum(c.limit for c in claims) == capacity
    assert max(c.limit for c in claims) - min(c.limit for c in claims) <= 1


def test_what_a_limited_lane_cannot_use_goes_to_the_others() -> None:
    claims = policy.shares([Lane("q", ""), Lane("q", "a")], 100, {"a": 2}, {}, turn=0)
    assert sorted(claims) == [("q", "", 98), ("q", "a", 2)]


def test_with_less_capacity_than_lanes_everybody_gets_a_turn() -> None:
    served = {
        claim.queue
        for turn in range(3)
        for claim in policy.shares([Lane(q, "") for q in "xyz"], 1, {}, {}, turn=turn)
    }
    assert served == {"x", "y", "z"}


def test_slow_messages_are_not_claimed_ahead_of_free_slots() -> None:
    assert policy.room(Slots(concurrency=64, batch=200, running=60, waiting=0, average_s=1.0)) == 4
    assert policy.room(Slots(concurrency=64, batch=200, running=64, waiting=0, average_s=1.0)) == 0


def test_short_messages_are_claimed_ahead_in_large_bites() -> None:
    assert policy.room(Slots(concurrency=64, batch=200, running=64, waiting=10, average_s=0.001)) == 190
    assert policy.room(Slots(concurrency=64, batch=200, running=64, waiting=150, average_s=0.001)) == 0


@given(
    st.builds(
        Slots,
        st.integers(1, 99),
        st.integers(1, 500),
        st.integers(0, 99),
        st.integers(0, 500),
        st.floats(0, 9),
        st.sampled_from([policy.AHEAD_S, policy.AHEAD_IN_TURN_S]),
    )
)
def test_room_is_between_nothing_and_a_batch(slots: Slots) -> None:
    assert 0 <= policy.room(slots) <= slots.batch


def test_polls_slow_down_to_the_setting() -> None:
    polls = [policy.next_poll_s(n, 1.0) for n in range(12)]
    assert polls == sorted(polls)
    assert polls[0] == policy.POLL_MIN_S
    assert polls[-1] == 1.0
    assert policy.next_poll_s(0, 0.001) == 0.001


def test_the_second_crash_makes_a_suspect_and_the_third_a_dead_letter() -> None:
    fates = [outcome.crashed(Expired(1, 1, crashes, cancel=None)) for crashes in range(3)]
    assert [f.verdict for f in fates] == ["crash", "crash", "dead"]
    assert [f.suspect for f in fates] == [False, True, False]
    assert "3 times" in (fates[2].error or "")


def test_an_error_is_kept_with_the_users_part_of_the_traceback() -> None:
    def users_code() -> None:
        raise ValueError("no stock")

    try:
        users_code()
    except ValueError as error:
        text = outcome.describe_error(error)
    assert text.startswith("ValueError: no stock\n")
    assert "users_code" in text


def test_a_long_error_is_cut_at_its_limit() -> None:
    assert len(outcome.describe_error(ValueError("x" * 99_999))) == outcome.ERROR_MAX_CHARS


def test_no_more_is_claimed_ahead_than_is_soon_worked_off() -> None:
    full = Slots(concurrency=10, batch=200, running=10, waiting=0, average_s=0.01)
    assert policy.room(full) == 50
    assert policy.room(full._replace(ahead_s=policy.AHEAD_IN_TURN_S)) == 10


def test_a_limited_queue_gets_what_it_is_open_to_and_the_others_the_rest() -> None:
    lanes = [Lane("q", ""), Lane("mail", ""), Lane("mail", "a")]
    claims = policy.shares(lanes, 100, {}, {}, open_to={"mail": 3})
    assert sum(c.limit for c in claims if c.queue == "mail") == 3
    assert sum(c.limit for c in claims) == 100
    assert policy.shares([Lane("mail", "")], 100, {}, {}, open_to={"mail": 0}) == []


shares_of = st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=30)


@given(shares_of, st.sampled_from(["", "a", "b", "z"]))
def test_in_turn_nobody_comes_again_before_all_others_came(shares: list[str], after: str) -> None:
    fields = [None] * (len(Message._fields) - 1)
    messages = [Message(*fields, share=share)._replace(id=n) for n, share in enumerate(shares)]  # type: ignore[arg-type]
    ordered = policy.in_turn(messages, after)
    assert sorted(m.id for m in ordered) == list(range(len(shares)))
    for share in set(shares):
        mine = [at for at, m in enumerate(ordered) if m.share == share]
        assert [ordered[at].id for at in mine] == sorted(ordered[at].id for at in mine)
        for before, then in pairwise(mine):
            between = [m.share for m in ordered[before + 1 : then]]
            assert len(between) == len(set(between))
    if shares:
        first = min(shares, key=lambda share: (share <= after, share))
        assert ordered[0].share == first


def test_jobs_hold_back_for_requests_and_never_stand_still() -> None:
    assert [policy.yielding(64, pressure) for pressure in (0.0, 0.25, 0.5, 0.99, 1.0)] == [64, 48, 32, 1, 1]
    assert policy.yielding(1, 1.0) == 1
