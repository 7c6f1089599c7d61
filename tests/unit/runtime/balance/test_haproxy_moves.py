"""What a running HAProxy is told when instances come and go."""

from __future__ import annotations

from tenfold.runtime.balance import Listener, Plan, Pool, Upstream
from tenfold.runtime.balance.haproxy import CONFIG, Haproxy
from tenfold.runtime.balance.haproxy_socket import commands, servers_in, states_in, without_servers

UP, IN_MAINTENANCE = 0, 1


def wanted(*upstreams: Upstream) -> dict[str, dict[str, str]]:
    plan = Plan((Listener("public", "127.0.0.1", 8080),), (Pool("web", upstreams),))
    return servers_in(Haproxy().render(plan)[CONFIG])


def told(upstreams: tuple[Upstream, ...], has: dict[str, tuple[int, int]]) -> list[str]:
    return [command for command, _ in commands(wanted(*upstreams), {"web": has})]


def test_servers_are_read_out_of_the_file() -> None:
    found = wanted(Upstream("web.1", "127.0.0.1", 4001, 5001, weight=2))
    assert found["web"]["web.1-4001"].startswith("127.0.0.1:4001 weight 2 check port 5001 inter 1s")


def test_another_number_of_servers_is_a_change_of_servers_only() -> None:
    one, two, other = (
        Haproxy().render(Plan((Listener("public", "127.0.0.1", port),), (Pool("web", upstreams),)))[CONFIG]
        for port, upstreams in (
            (8080, (Upstream("web.1", "::1", 4001),)),
            (8080, (Upstream("web.1", "::1", 4002), Upstream("web.2", "::1", 4003))),
            (8081, (Upstream("web.1", "::1", 4001),)),
        )
    )
    assert without_servers(one) == without_servers(two) != without_servers(other)


def test_who_comes_is_added_before_who_leaves_is_taken_out() -> None:
    first, second, *rest = told((Upstream("web.1", "::1", 4002),), {"web.1-4001": (UP, 1)})
    assert first.startswith("add server web/web.1-4002 [::1]:4002 weight 1 check")
    assert second == "enable health web/web.1-4002"
    assert rest == [
        "enable server web/web.1-4002",
        "set server web/web.1-4001 state maint",
        "del server web/web.1-4001",
    ]


def test_nothing_is_told_of_who_stays() -> None:
    assert told((Upstream("web.1", "::1", 4001),), {"web.1-4001": (UP, 1)}) == []


def test_another_weight_is_told() -> None:
    stays = (Upstream("web.1", "::1", 4001, weight=5),)
    assert told(stays, {"web.1-4001": (UP, 1)}) == ["set server web/web.1-4001 weight 5"]


def test_who_left_and_comes_again_is_ready_again() -> None:
    again = (Upstream("web.1", "::1", 4001),)
    assert told(again, {"web.1-4001": (IN_MAINTENANCE, 1)}) == ["set server web/web.1-4001 state ready"]


def test_states_are_read_from_the_answer() -> None:
    said = (
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n"
        "3 web 1 web.1-4001 127.0.0.1 2 1 7 1 8 2 0\n\n"
    )
    assert states_in(said) == {"web": {"web.1-4001": (1, 7)}}
