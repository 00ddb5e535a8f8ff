"""What `gateway.brokers.base` promises, of every broker, while nothing fails."""

from __future__ import annotations

import asyncio

import pytest

from gateway.brokers.base import (
    BrokerClosedError,
    BrokerConfigError,
    BrokerLimits,
    MessageTooLargeError,
    Node,
    Request,
)
from tests.support.redis_server import HAS_VALKEY
from tests.support.waiting import eventually, timeout_s

from .conftest import KINDS, LIMITS, Spawn
from .recording import numbered

pytestmark = pytest.mark.usefixtures("no_logged_errors")


async def test_publications_arrive_in_order_at_those_who_subscribed(spawn: Spawn) -> None:
    one, two, three = await spawn(3)
    await two.subscribe("room")
    await three.subscribe("other")
    for payload in numbered(500):
        await one.broker.publish("room", payload)
    await one.broker.publish("other", b"end")
    await two.got(numbered(500))
    await three.got([b"end"])
    assert {sender for _, sender, _ in two.seen.messages} == {one.id}


async def test_what_is_published_at_once_arrives_in_its_place_or_nothing_was_done(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("room")
    for number, payload in enumerate(numbered(100)):
        if number % 2 or not one.broker.publish_now("room", payload):
            await one.broker.publish("room", payload)
    await two.got(numbered(100))
    assert one.broker.counters.published == 100


async def test_what_is_published_at_once_is_checked_as_ever(spawn: Spawn) -> None:
    (one,) = await spawn(1)
    if not one.broker.publish_now("room", b""):
        return  # this one never does
    with pytest.raises(MessageTooLargeError):
        one.broker.publish_now("room", bytes(LIMITS.max_message_bytes + 1))
    with pytest.raises(BrokerConfigError):
        one.broker.publish_now("", b"")
    await one.broker.close()
    with pytest.raises(BrokerClosedError):
        one.broker.publish_now("room", b"")


async def test_nobody_hears_itself(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await one.subscribe("room")
    await two.subscribe("room")
    await one.broker.publish("room", b"of one")
    await two.broker.publish("room", b"of two")
    await two.got([b"of one"])
    await one.got([b"of two"])


async def test_order_holds_for_each_publisher_among_many_tasks(spawn: Spawn) -> None:
    one, two, three = await spawn(3)
    await three.subscribe("a", "b")

    async def publish(node: int, topic: str) -> None:
        for number in range(200):
            await (one, two)[node].broker.publish(topic, f"{node} {topic} {number}".encode())
            if number % 7 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(publish(node, topic) for node in (0, 1) for topic in "ab"))
    await eventually(lambda: len(three.seen.messages) >= 800, "all messages")
    for node in (0, 1):
        for topic in "ab":
            expected = [f"{node} {topic} {number}".encode() for number in range(200)]
            mine = [payload for payload in three.seen.payloads(topic) if payload.startswith(b"%d " % node)]
            assert mine == expected
    assert len(three.seen.messages) == 800


async def test_publication_to_several_topics_arrives_once(spawn: Spawn) -> None:
    one, two, three = await spawn(3)
    await two.subscribe("a", "b", "c")
    await three.subscribe("b")
    for payload in numbered(50):
        await one.broker.publish(["a", "b", "c"], payload)
    await one.broker.publish(["a", "b"], b"end")
    await eventually(lambda: b"end" in two.seen.payloads() and b"end" in three.seen.payloads(), "the end")
    await one.broker.publish("c", b"behind")
    await eventually(lambda: b"behind" in two.seen.payloads(), "what is behind")
    assert sorted(two.seen.payloads()) == sorted([*numbered(50), b"end", b"behind"])
    assert three.seen.payloads() == [*numbered(50), b"end"]


async def test_publication_to_several_topics_keeps_its_place_while_it_is_awaited(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("a")
    first = asyncio.create_task(one.broker.publish(["a", "b"], b"first", durable=True))
    await asyncio.sleep(0)
    await one.broker.publish("a", b"second")
    await first
    await two.got([b"first", b"second"], "a")


async def test_durable_publications_arrive_once_and_in_order(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("room")
    for payload in numbered(100):
        await one.broker.publish("room", payload, durable=True)
    await two.got(numbered(100))


async def test_subscribing_twice_is_once_and_unsubscribing_ends_it(spawn: Spawn) -> None:
    one, two = await spawn(2)
    two.broker.subscribe("room")
    await two.subscribe("room", "other")
    await one.broker.publish("room", b"1")
    await two.got([b"1"])
    two.broker.unsubscribe("room")
    two.broker.unsubscribe("room")
    assert await two.broker.synced(timeout_s(10))
    await one.broker.publish("room", b"2")
    await one.broker.publish("other", b"3")
    await two.got([b"1", b"3"])
    assert set(two.broker.topics) == {"other"}


async def test_nothing_comes_after_unsubscribe_has_returned(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("room", "other")
    for payload in numbered(100):
        await one.broker.publish("room", payload)
    two.broker.unsubscribe("room")
    before = len(two.seen.messages)
    await one.broker.publish("other", b"end")
    await eventually(lambda: two.seen.payloads("other"), "the end")
    assert len(two.seen.payloads("room")) == before


async def test_subscription_changed_back_within_a_turn_stands(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("kept")
    two.broker.unsubscribe("kept")
    two.broker.subscribe("kept")
    two.broker.subscribe("not")
    two.broker.unsubscribe("not")
    assert await two.broker.synced(timeout_s(10))
    await one.broker.publish("not", b"0")
    await one.broker.publish("kept", b"1")
    await two.got([b"1"])


async def test_thousands_of_topics_take_effect(spawn: Spawn) -> None:
    one, two = await spawn(2)
    topics = [f"room {number}" for number in range(3000)]
    await two.subscribe(*topics)
    for topic in topics:
        await one.broker.publish(topic, topic.encode())
    await eventually(lambda: len(two.seen.messages) >= 3000, "every topic")
    assert sorted(two.seen.payloads()) == sorted(topic.encode() for topic in topics)


@pytest.mark.parametrize(
    "topic", ["{a}b", "}", "{}", "ключ \0 \r\n", "*", "[x]", "a" * 2048], ids=lambda topic: repr(topic)[:20]
)
async def test_any_text_can_be_a_topic(spawn: Spawn, topic: str) -> None:
    one, two = await spawn(2)
    await two.subscribe(topic)
    await one.broker.publish(topic, b"live")
    await one.broker.publish(topic, b"durable", durable=True)
    await two.got([b"live", b"durable"])
    assert {found for found, _, _ in two.seen.messages} == {topic}


@pytest.mark.parametrize("topic", ["", "a" * 2049, "\ud800", "é" * 1025], ids=["empty", "long", "surrogate", "bytes"])
async def test_topic_that_cannot_be_is_refused(spawn: Spawn, topic: str) -> None:
    (one,) = await spawn(1)
    with pytest.raises(BrokerConfigError):
        one.broker.subscribe(topic)
    with pytest.raises(BrokerConfigError):
        await one.broker.publish(["room", topic], b"")
    with pytest.raises(BrokerConfigError):
        await one.broker.request(b"", topic=topic, timeout_s=1)


async def test_message_over_the_bound_is_refused_and_the_largest_goes_through(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("room")
    limit = LIMITS.max_message_bytes
    for call in (
        lambda payload: one.broker.publish("room", payload),
        lambda payload: one.broker.send(two.id, payload),
        lambda payload: one.broker.request(payload, timeout_s=1),
    ):
        with pytest.raises(MessageTooLargeError) as error:
            await call(bytes(limit + 1))
        assert str(limit + 1) in str(error.value)
        assert not error.value.is_retryable
    await one.broker.publish("room", bytes(limit))
    await one.broker.publish("room", b"behind")
    await two.got([bytes(limit), b"behind"])


async def test_many_large_messages_arrive_though_the_outbox_is_small(spawn: Spawn) -> None:
    limits = BrokerLimits(max_message_bytes=200_000, max_outbox_bytes=500_000, lease_s=2.0)
    one, two = await spawn(2, limits)
    await two.subscribe("room")
    payloads = [f"{number:06}".encode() * 20_000 for number in range(60)]
    await asyncio.gather(*(one.broker.publish("room", payload) for payload in payloads))
    await two.got(payloads)
    assert one.broker.counters.dropped == {}


async def test_nodes_join_with_their_info_and_leave(spawn: Spawn) -> None:
    one, two = await spawn(2)
    assert one.broker.nodes() == {two.id: two.broker.node}
    assert one.broker.nodes()[two.id].info == {"number": 1}
    (three,) = await spawn(1)
    assert one.seen.joined == [two.id, three.id]
    await three.broker.close()
    await eventually(lambda: three.id not in one.broker.nodes(), "three has left")
    await eventually(lambda: two.seen.left == [three.id], "two was told")
    assert one.seen.left == [three.id]


async def test_send_reaches_one_node_in_order(spawn: Spawn) -> None:
    one, two, three = await spawn(3)
    for payload in numbered(100):
        await one.broker.send(two.id, payload)
    await one.broker.send("nobody", b"x")
    await one.broker.send(three.id, b"end")
    await eventually(lambda: len(two.seen.direct) >= 100 and three.seen.direct, "all")
    assert two.seen.direct == [(one.id, payload) for payload in numbered(100)]
    assert three.seen.direct == [(one.id, b"end")]


async def test_request_to_all_gathers_every_answer(spawn: Spawn) -> None:
    one, two, three = await spawn(3)
    answers = await one.broker.request(b"who?", timeout_s=timeout_s(10))
    assert answers.answered == {two.id: b"answer to who?", three.id: b"answer to who?"}
    assert answers.is_complete
    assert two.seen.requests[0].sender == one.id
    assert two.seen.requests[0].topic is None
    assert not one.seen.requests


async def test_request_to_one_node(spawn: Spawn) -> None:
    one, two, three = await spawn(3)
    answers = await one.broker.request(b"you?", node_id=three.id, timeout_s=timeout_s(10))
    assert answers.answered == {three.id: b"answer to you?"}
    assert not two.seen.requests


async def test_request_to_a_node_that_is_not_there_ends_at_once(spawn: Spawn) -> None:
    one, _ = await spawn(2)
    answers = await asyncio.wait_for(
        one.broker.request(b"you?", node_id="nobody", timeout_s=timeout_s(100)), timeout_s(20)
    )
    assert answers.answered == {}
    assert answers.missing == ("nobody",)
    assert answers.missing_count == 1


@pytest.mark.parametrize("is_subscribed", [False, True])
async def test_request_to_a_topic_asks_those_who_subscribed(spawn: Spawn, is_subscribed: bool) -> None:
    one, two, three, four = await spawn(4)
    await two.subscribe("room")
    await three.subscribe("room")
    if is_subscribed:
        await one.subscribe("room")
    answers = await asyncio.wait_for(one.broker.request(b"?", topic="room", timeout_s=timeout_s(100)), timeout_s(20))
    assert set(answers.answered) == {two.id, three.id}
    assert answers.is_complete
    assert not four.seen.requests
    assert not one.seen.requests
    assert two.seen.requests[0].topic == "room"


async def test_request_to_a_topic_of_nobody_ends_at_once(spawn: Spawn) -> None:
    one, _ = await spawn(2)
    answers = await asyncio.wait_for(one.broker.request(b"?", topic="x", timeout_s=timeout_s(100)), timeout_s(20))
    assert answers.answered == {}
    assert answers.is_complete


@pytest.mark.parametrize("topic", [None, "room"])
async def test_request_says_who_did_not_answer(spawn: Spawn, topic: str | None) -> None:
    one, two, three = await spawn(3)

    async def never(request: Request) -> bytes:
        await asyncio.Event().wait()
        return b""

    three.seen.answer = never
    await two.subscribe("room")
    await three.subscribe("room")
    answers = await one.broker.request(b"?", topic=topic, timeout_s=0.5)
    assert set(answers.answered) == {two.id}
    assert answers.missing == (three.id,)
    assert answers.missing_count == 1


async def test_handler_that_fails_is_reported(spawn: Spawn, caplog: pytest.LogCaptureFixture) -> None:
    one, two = await spawn(2)

    async def fail(request: Request) -> bytes:
        raise LookupError("no such client")

    two.seen.answer = fail
    answers = await one.broker.request(b"?", timeout_s=timeout_s(10))
    assert answers.failed == {two.id: "LookupError: no such client"}
    assert not answers.is_complete
    assert two.broker.counters.callback_errors == 1
    assert "no such client" in caplog.text
    caplog.clear()


async def test_cancelled_request_leaves_nothing(spawn: Spawn) -> None:
    one, two = await spawn(2)
    begun = asyncio.Event()

    async def wait(request: Request) -> bytes:
        begun.set()
        await asyncio.sleep(0.05)
        return b"late"

    two.seen.answer = wait
    asking = asyncio.create_task(one.broker.request(b"?", timeout_s=30))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await eventually(lambda: one.broker.counters.late_answers == 1, "the late answer")


async def test_callback_that_raises_costs_the_others_nothing(spawn: Spawn, caplog: pytest.LogCaptureFixture) -> None:
    one, two = await spawn(2)
    append = two.broker.callbacks.on_message  # type: ignore[attr-defined]

    def raise_once(topic: str, sender: str, payload: bytes) -> None:
        append(topic, sender, payload)
        if payload == b"1":
            raise ArithmeticError("of the callback")

    two.broker.callbacks.on_message = raise_once  # type: ignore[attr-defined]
    await two.subscribe("room")
    for payload in numbered(3):
        await one.broker.publish("room", payload)
    await two.got(numbered(3))
    assert two.broker.counters.callback_errors == 1
    caplog.clear()


async def test_closed_broker_refuses(spawn: Spawn) -> None:
    (one,) = await spawn(1)
    await one.broker.close()
    await one.broker.close()
    with pytest.raises(BrokerClosedError):
        await one.broker.publish("room", b"")
    with pytest.raises(BrokerClosedError):
        await one.broker.request(b"", timeout_s=1)
    assert not one.broker.health.is_ready


async def test_what_was_published_before_close_arrives(spawn: Spawn) -> None:
    one, two = await spawn(2)
    await two.subscribe("room")
    for payload in numbered(300):
        await one.broker.publish("room", payload)
    await one.broker.close()
    await two.got(numbered(300))


@pytest.mark.skipif(not HAS_VALKEY, reason="valkey-server is not installed; Debian has it from version 13")
def test_valkey_is_among_the_kinds() -> None:
    assert "valkey" in KINDS


def test_node_id_must_fit_into_urls_and_keys() -> None:
    assert Node().id != Node().id
    for wrong in ("", "a b", "a/b", "é", "x" * 65):
        with pytest.raises(BrokerConfigError):
            Node(wrong)


async def test_unknown_way_when_down_is_refused(spawn: Spawn) -> None:
    (one,) = await spawn(1)
    with pytest.raises(BrokerConfigError, match="when_down"):
        await one.broker.publish("room", b"", when_down="later")  # type: ignore[arg-type]
