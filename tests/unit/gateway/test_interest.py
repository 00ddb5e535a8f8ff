"""What a node subscribes to, and for how long."""

from __future__ import annotations

import pytest

from gateway.brokers.memory import MemoryBroker
from gateway.interest import Interest
from tests.support.waiting import eventually


async def test_topics_follow_rooms() -> None:
    interest = Interest(lambda: 0.0)
    interest.add("#servers")
    interest.room_opens("/", None)
    broker = MemoryBroker()
    interest.attach(broker)
    interest.room_opens("/", "a")
    assert set(broker.topics) == {"#servers", "/", "/,a"}
    interest.room_closes("/", "a")
    interest.room_closes("/", None)
    assert set(broker.topics) == {"#servers"}
    with pytest.raises(TypeError):
        interest.room_opens("/", 5)
    again = MemoryBroker()
    interest.detach()
    interest.attach(again)
    assert set(again.topics) == {"#servers"}


async def test_topics_of_clients_that_may_come_back_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.interest._SWEEP_S", 0.01)
    interest = Interest(lambda: linger_s)
    broker = MemoryBroker()
    interest.attach(broker)
    linger_s = 1000.0
    interest.room_opens("/", "kept")
    interest.room_closes("/", "kept")
    linger_s = 0.02
    for room in ("gone", "back"):
        interest.room_opens("/", room)
        interest.room_closes("/", room)
    interest.room_opens("/", "back")
    await eventually(lambda: "/,gone" not in broker.topics, "the time to be over")
    assert set(broker.topics) == {"/,kept", "/,back"}
    interest.detach()
    fresh = MemoryBroker()
    interest.attach(fresh)
    assert set(fresh.topics) == {"/,back"}, "nobody is left who may come back"
