"""Who may open a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import FakeExchange, request
from transports import admission, catalogue
from transports.admission import Admission, address_group
from transports.engine import Engine
from transports.errors import RequestRefused
from transports.refusals import Refusal


def make(**options: Any) -> Admission:
    defaults: dict[str, Any] = {"max_connections": 0, "max_per_address": 0, "handshakes_per_s": 0.0}
    return Admission(exempt=lambda address: address == "127.0.0.1", **{**defaults, **options})


def refusal(entry: Admission, address: str, now: float = 0.0) -> Refusal | None:
    try:
        entry.enter(address, now)
    except RequestRefused as refused:
        return refused.refusal
    return None


def test_without_bounds_everybody_enters() -> None:
    entry = make()
    assert [refusal(entry, "10.0.0.1") for _ in range(1000)] == [None] * 1000


def test_the_server_is_full_until_somebody_leaves() -> None:
    entry = make(max_connections=2)
    groups = [entry.enter("10.0.0.1", 0.0), entry.enter("127.0.0.1", 0.0)]
    assert refusal(entry, "10.0.0.2") is catalogue.TOO_MANY_CONNECTIONS
    entry.leave(groups[1])
    assert refusal(entry, "10.0.0.2") is None


def test_one_address_does_not_keep_the_others_out() -> None:
    entry = make(max_per_address=2)
    groups = [entry.enter("10.0.0.1", 0.0) for _ in range(2)]
    assert refusal(entry, "10.0.0.1") is catalogue.TOO_MANY_FROM_ADDRESS
    assert refusal(entry, "10.0.0.2") is None
    entry.leave(groups[0])
    assert refusal(entry, "10.0.0.1") is None


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_exempt_and_unknown_addresses_are_not_limited(address: str) -> None:
    entry = make(max_per_address=1, handshakes_per_s=0.1)
    assert [refusal(entry, address) for _ in range(5)] == [None] * 5


def test_handshakes_of_an_address_are_spread_over_time() -> None:
    entry = make(handshakes_per_s=2.0)
    assert [refusal(entry, "10.0.0.1") for _ in range(20)] == [None] * 20, "ten seconds' worth at once"
    assert refusal(entry, "10.0.0.1") is catalogue.TOO_MANY_HANDSHAKES
    assert refusal(entry, "10.0.0.2") is None
    assert refusal(entry, "10.0.0.1", 0.5) is None
    assert refusal(entry, "10.0.0.1", 0.5) is catalogue.TOO_MANY_HANDSHAKES


def test_a_rate_below_one_lets_the_first_in() -> None:
    entry = make(handshakes_per_s=0.01)
    assert refusal(entry, "10.0.0.1") is None
    assert refusal(entry, "10.0.0.1", 1.0) is catalogue.TOO_MANY_HANDSHAKES
    assert refusal(entry, "10.0.0.1", 101.0) is None


def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_ADDRESSES", 100)
    entry = make(handshakes_per_s=1.0)
    for number in range(1000):
        entry.leave(entry.enter(f"10.0.{number // 256}.{number % 256}", 0.0))
    assert len(entry._buckets) == 100
    assert entry._by_address == {}


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("a:b", "a:b"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_customer_is_a_network(address: str, group: str) -> None:
    assert address_group(address) == group


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 5)), max_size=60))
def test_counts_are_those_of_the_sessions_that_are_open(steps: list[tuple[str, bool, float]]) -> None:
    entry = make(max_connections=10, max_per_address=4, handshakes_per_s=3.0)
    inside: list[str] = []
    now = 0.0
    for address, enters, passed in steps:
        now += passed
        if enters:
            refused = refusal(entry, address, now)
            if refused is None:
                inside.append(address)
            elif refused is not catalogue.TOO_MANY_HANDSHAKES:
                assert len(inside) == 10 or inside.count(address) == 4
        elif inside:
            entry.leave(inside.pop())
        assert entry._count == len(inside) <= 10
        assert all(count == inside.count(address) <= 4 for address, count in entry._by_address.items())


def test_doubtful_address_is_limited_even_where_it_would_be_exempt() -> None:
    entry = make(max_per_address=1)
    for address in ("127.0.0.1", ""):
        group = entry.enter(address, 0.0, is_doubtful=True)
        with pytest.raises(RequestRefused):
            entry.enter(address, 0.0, is_doubtful=True)
        entry.enter(address, 0.0)
        entry.leave(group)
        entry.leave(entry.enter(address, 0.0, is_doubtful=True))


def test_contradicting_a_proxy_is_no_way_around_the_limits(
    make_engine: Callable[..., Engine], ask: Callable[..., FakeExchange]
) -> None:
    """The proxy writes X-Forwarded-For; the client adds a Forwarded that says something else."""
    engine = make_engine(max_connections_per_address=2)
    headers = {"host": "example.org", "x-forwarded-for": "192.0.2.1", "forwarded": "for=198.51.100.7"}
    statuses = [
        ask(
            engine,
            request("EIO=4&transport=polling", headers=headers, peer="127.0.0.1", proxies=engine.trusted_proxies),
        ).status
        for _ in range(3)
    ]
    assert statuses == [200, 200, 429]
    clean = {"host": "example.org", "x-forwarded-for": "192.0.2.1"}
    told = request("EIO=4&transport=polling", headers=clean, peer="127.0.0.1", proxies=engine.trusted_proxies)
    assert ask(engine, told).status == 200, "others behind the proxy are not made to pay for it"
