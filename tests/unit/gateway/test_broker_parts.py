"""Parts of brokers that need no network: slots, what was seen, outboxes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.brokers.base import BrokerConfigError, BrokerLimits, BrokerUnavailableError, new_node_id
from gateway.brokers.outbox import Entry, Outbox
from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_connection import RedisConnection
from gateway.brokers.redis_keys import Keys, hash_slot
from gateway.brokers.redis_options import Address, parse_url
from gateway.brokers.redis_topology import ClusterTopology
from gateway.brokers.resp import RespError
from gateway.brokers.seen import CatchUp, SeenInChannels, SeenInLanes
from gateway.envelope import Envelope, EnvelopeKind


@pytest.mark.parametrize(
    ("key", "slot"),
    # The first is the test value of the specification's CRC16; the others were asked of a server.
    [(b"123456789", 0x31C3), (b"foo", 12182), (b"{user1000}.following", 3443), (b"foo{}{bar}", 8363), (b"", 0)],
)
def test_slots_are_those_of_redis_cluster(key: bytes, slot: int) -> None:
    assert hash_slot(key) == slot


@pytest.mark.parametrize("topic", ["room", "{", "}", "{}", "a}b{c", "é{x}"])
def test_stream_lies_where_its_channel_does(topic: str) -> None:
    keys = Keys(parse_url("redis+cluster://h"))
    assert hash_slot(keys.stream(topic)) == hash_slot(keys.topic(topic))
    assert keys.topic_of(keys.topic(topic)) == topic
    assert keys.topic_of(keys.everybody()) is None
    assert keys.topic_of(keys.node("n")) is None


def test_node_ids_are_short_and_differ() -> None:
    ids = {new_node_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(found) for found in ids} == {10}


def test_limits_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"max_message_bytes": 0}, {"max_message_bytes": 1 << 30}, {"max_outbox_bytes": 1000}, {"lease_s": 0}):
        with pytest.raises(BrokerConfigError):
            BrokerLimits(**wrong)  # type: ignore[arg-type]


def envelope(sequence: int, sender: str = "a", lane: int = 1, reference: int = 0) -> Envelope:
    return Envelope(EnvelopeKind.PUBLICATION, sender, lane, sequence, reference)


ROOM = b"room"


def test_what_is_sent_again_is_known() -> None:
    seen = SeenInLanes()
    assert [seen.is_new(envelope(number), ROOM) for number in (1, 2, 5, 3, 4, 5, 6)] == [True] * 3 + [False] * 3 + [
        True
    ]
    assert seen.is_new(envelope(1, "b"), ROOM)
    assert seen.is_new(envelope(1, lane=2), ROOM)
    assert seen.is_new(envelope(0), ROOM)
    assert seen.is_new(envelope(0), ROOM)


def test_lanes_are_forgotten_oldest_first_and_the_newest_kept() -> None:
    seen = SeenInLanes()
    for lane in range(20_001):
        assert seen.is_new(envelope(1, lane=lane), ROOM)
    assert not seen.is_new(envelope(1, lane=20_000), ROOM)
    assert seen.is_new(envelope(1, lane=0), ROOM)


def test_copies_of_one_publication_count_once() -> None:
    seen = SeenInLanes()
    assert [seen.is_first_copy(envelope(1, reference=7)) for _ in range(3)] == [True, False, False]
    assert seen.is_first_copy(envelope(1, "b", reference=7))
    for number in range(8, 8 + 4096):
        assert seen.is_first_copy(envelope(1, reference=number))
    assert seen.is_first_copy(envelope(1, reference=7)), "long ago"


def test_catching_up_leaves_out_what_came_and_what_was_read() -> None:
    seen, catch_up = SeenInLanes(), CatchUp()
    seen.is_new(envelope(5), ROOM)
    read = [catch_up.is_new(seen, envelope(number), ROOM) for number in (4, 5, 7, 9, 9)]
    assert read == [False, False, True, True, False]
    # A live message may be older than one that was read of another topic, but not of its own.
    assert catch_up.is_new(seen, envelope(8), b"other room")
    assert not catch_up.is_new(seen, envelope(8), ROOM)
    assert not catch_up.is_new(seen, envelope(7), ROOM)
    seen.settle(catch_up)
    assert [seen.is_new(envelope(number), ROOM) for number in (8, 9, 10)] == [False, False, True]


def caught_up(seen: SeenInLanes, *read: tuple[int, bytes]) -> None:
    catch_up = CatchUp()
    for sequence, channel in read:
        assert catch_up.is_new(seen, envelope(sequence), channel)
        assert not catch_up.is_new(seen, envelope(sequence), channel)
    seen.settle(catch_up)


def test_what_was_read_ahead_comes_once_and_what_lies_between_too() -> None:
    seen = SeenInLanes()
    assert seen.is_new(envelope(1), b"plain")
    caught_up(seen, (3, b"durable"), (5, b"durable"))
    came = [n for n in range(1, 8) if seen.is_new(envelope(n), b"durable" if n in (3, 5) else b"plain")]
    assert came == [2, 4, 6, 7]
    assert not any(seen.is_new(envelope(n), b"plain") for n in range(1, 8))


def test_what_is_older_than_what_was_read_of_its_channel_is_dropped() -> None:
    seen = SeenInLanes()
    caught_up(seen, (3, b"room"), (9, b"other"))
    assert [n for n in (1, 2, 4) if seen.is_new(envelope(n), b"room")] == [4]


def test_what_was_read_is_not_read_again() -> None:
    seen = SeenInLanes()
    caught_up(seen, (3, b"room"))
    again = CatchUp()
    assert not again.is_new(seen, envelope(3), b"room")
    assert seen.is_new(envelope(4), b"room")
    assert not again.is_new(seen, envelope(4), b"room")


def test_too_much_read_ahead_takes_the_rest_for_lost() -> None:
    seen = SeenInLanes()
    caught_up(seen, *((n, b"durable") for n in range(2, 50_000, 2)))
    assert not seen.is_new(envelope(49_997), b"plain")
    assert seen.is_new(envelope(49_999), b"plain")


def test_channels_of_one_lane_are_known_apart_while_topics_move() -> None:
    seen, catch_up = SeenInChannels(), CatchUp()
    # The topic came to a server whose lane has gone on without it.
    assert seen.is_new(envelope(9), b"other")
    assert [n for n in (3, 4, 4, 3, 5) if seen.is_new(envelope(n), ROOM, catch_up)] == [3, 4, 5]
    # Read anew after another move: before the first has settled, and after.
    assert not seen.is_new(envelope(5), ROOM, CatchUp())
    seen.settle(catch_up)
    assert [n for n in (5, 6) if seen.is_new(envelope(n), ROOM)] == [6]
    assert seen.is_new(envelope(1, "b"), ROOM)
    assert seen.is_new(envelope(1, lane=2), ROOM)
    assert seen.is_new(envelope(0), ROOM)
    assert seen.is_new(envelope(0), ROOM)


def test_channels_in_use_are_remembered_and_others_forgotten() -> None:
    seen = SeenInChannels()
    assert seen.is_new(envelope(1), b"idle")
    for number in range(250_000):
        assert seen.is_new(envelope(1), b"%d" % number)
        if number % 1000 == 0:
            assert seen.is_new(envelope(number + 1), b"busy")
    assert not seen.is_new(envelope(249_001), b"busy")
    assert seen.is_new(envelope(1), b"idle")


class Box:
    """An outbox, and what it refused."""

    def __init__(self, max_bytes: int = 2000, lane: int = 1, keep_s: float = 0.0) -> None:
        self.dropped: Counter[str] = Counter()
        self.refused: list[tuple[Entry, str]] = []
        self.outbox = Outbox(
            lane, max_bytes, self.dropped, lambda entry, reason: self.refused.append((entry, reason)), keep_s
        )

    def put(self, name: bytes, deadline: float = 1e9, *, is_awaited: bool = False) -> Entry:
        entry = Entry(name, EnvelopeKind.PUBLICATION, b"", deadline)
        if is_awaited:
            entry.future = asyncio.get_running_loop().create_future()
        self.outbox.put(entry)
        return entry


async def test_what_was_not_answered_goes_first_again_under_its_number() -> None:
    box = Box()
    entries = [box.put(name) for name in (b"1", b"2", b"3")]
    taken = [box.outbox.take(), box.outbox.take()]
    assert taken == entries[:2]
    entries[0].reply(1)
    box.outbox.give_back([entries[1]])
    assert [box.outbox.take(), box.outbox.take(), box.outbox.take()] == [entries[1], entries[2], None]
    assert [entry.sequence for entry in entries] == [1, 2, 3]
    for entry in entries[1:]:
        entry.reply(0)
    assert box.outbox.nbytes == 0
    assert len(box.outbox) == 0


async def test_what_moves_to_another_outbox_keeps_its_number_if_it_may_have_been_taken() -> None:
    box, other = Box(lane=1), Box(lane=2)
    written, moving, staying = box.put(b"1"), box.put(b"2"), box.put(b"3")
    box.outbox.take()
    box.outbox.give_back([written])
    for entry in box.outbox.take_where(lambda entry: entry is not staying):
        other.outbox.put(entry)
    assert [(entry.lane, entry.sequence) for entry in (written, moving, staying)] == [(1, 1), (2, 1), (1, 3)]
    assert [other.outbox.take(), other.outbox.take()] == [written, moving]
    assert box.outbox.take() is staying
    for entry in (written, moving, staying):
        entry.reply(1)
    assert box.outbox.nbytes == other.outbox.nbytes == 0


async def test_refusal_of_the_connection_keeps_the_entry_and_another_answers_it() -> None:
    box = Box()
    first, second = box.put(b"1", is_awaited=True), box.put(b"2", is_awaited=True)
    box.outbox.take()
    first.reply(RespError("READONLY You can't write against a read only replica."))
    assert box.refused[0][0] is first
    box.outbox.give_back([first])
    assert box.outbox.take() is first
    first.reply(3)
    box.outbox.take()
    second.reply(RespError("OOM command not allowed"))
    assert first.future is not None
    assert second.future is not None
    assert await first.future == 3
    with pytest.raises(RespError, match="OOM"):
        await second.future


async def test_what_was_acknowledged_lately_goes_first_again_under_its_number() -> None:
    box = Box(max_bytes=20_000, keep_s=60)
    entries = [box.put(b"%d" % number) for number in range(6)]
    for entry in entries[::2]:
        entry.stream = b"stream"
    for entry in entries[:5]:
        assert box.outbox.take() is entry
        entry.reply(1)
    since = asyncio.get_running_loop().time() - 1
    assert box.outbox.repeat(since, since + 60) == 3, "what is plain is not kept"
    again = [box.outbox.take() for _ in range(4)]
    assert again == [*entries[:5:2], entries[5]]
    assert [entry.sequence for entry in again if entry is not None] == [1, 3, 5, 6]
    for entry in entries[:5:2]:
        entry.reply(1)
    entries[5].reply(1)
    assert (box.outbox.nbytes, len(box.outbox)) == (0, 0)
    assert box.outbox.repeat(asyncio.get_running_loop().time() + 1, 0) == 0, "too long ago"


async def test_of_what_was_acknowledged_the_newest_is_kept_within_a_share() -> None:
    box = Box(max_bytes=40 * 1024, keep_s=60)
    entries = [box.put(b"x" * 1000) for _ in range(20)]
    for entry in entries:
        entry.stream = b"stream"
        assert box.outbox.take() is entry
        entry.reply(1)
    count = box.outbox.repeat(0, 0)
    assert 1 < count < 10
    assert box.outbox.take() is entries[-count]


async def test_what_was_refused_and_comes_again_has_another_number() -> None:
    box = Box()
    refused, later = box.put(b"1", is_awaited=True), box.put(b"2")
    box.outbox.take()
    refused.reply(RespError("OOM command not allowed"))
    box.outbox.put(refused)
    assert (later.sequence, refused.sequence) == (2, 3)
    assert refused.future is not None
    refused.future.exception()


async def test_bytes_of_what_was_answered_count_no_more_though_it_is_withdrawn() -> None:
    box = Box()
    entry = box.put(b"1", is_awaited=True)
    box.outbox.take()
    entry.reply(1)
    box.outbox.withdraw(entry)
    assert box.outbox.nbytes == 0


async def test_who_waits_for_room_in_an_outbox_that_is_over_goes_elsewhere() -> None:
    box = Box(max_bytes=600)
    box.put(b"1")
    box.put(b"2")
    waiting = [Entry(name, EnvelopeKind.PUBLICATION, b"", 1e9) for name in (b"3", b"4")]
    tasks = [asyncio.create_task(box.outbox.put_when_room(entry)) for entry in waiting]
    await asyncio.sleep(0)
    box.outbox.retire()
    assert await asyncio.gather(*tasks) == [False, False]
    assert len(box.outbox) == 2


async def test_nobody_overtakes_between_two_that_wait() -> None:
    box = Box(max_bytes=600)
    first, _ = box.put(b"1"), box.put(b"2")
    loop = asyncio.get_running_loop()
    waiting = [Entry(name, EnvelopeKind.PUBLICATION, b"", loop.time() + 60) for name in (b"3", b"4")]
    tasks = [asyncio.create_task(box.outbox.put_when_room(entry)) for entry in waiting]
    await asyncio.sleep(0)
    box.outbox.take()
    first.reply(1)
    box.outbox.max_bytes = 10_000
    while not all(task.done() for task in tasks):
        assert not box.outbox.has_room(1) or all(entry.sequence for entry in waiting)
        await asyncio.sleep(0)


async def test_what_waited_too_long_is_given_up_and_counted() -> None:
    box = Box()
    box.put(b"1", 10.0)
    waited = box.put(b"2", 11.0, is_awaited=True)
    box.put(b"3", 20.0)
    box.outbox.expire(15.0)
    assert box.dropped == {"expired": 1}
    assert waited.future is not None
    with pytest.raises(BrokerUnavailableError) as error:
        await waited.future
    assert not error.value.is_maybe_published
    assert len(box.outbox) == 1


async def test_withdrawn_entry_is_not_sent() -> None:
    box = Box()
    first, second = box.put(b"1"), box.put(b"2")
    box.outbox.withdraw(first)
    box.outbox.withdraw(first)
    assert box.outbox.take() is second
    box.outbox.withdraw(second)
    assert box.outbox.nbytes == 0
    second.reply(1)
    assert box.outbox.nbytes == 0
    assert box.outbox.in_flight == 0


async def test_those_who_wait_for_room_are_served_in_their_order() -> None:
    box = Box(max_bytes=600)
    for name in (b"1", b"2"):
        box.put(name)
    loop = asyncio.get_running_loop()
    waiting = [Entry(name, EnvelopeKind.PUBLICATION, b"", loop.time() + 60) for name in (b"3", b"4", b"5")]
    tasks = [asyncio.create_task(box.outbox.put_when_room(entry)) for entry in waiting]
    await asyncio.sleep(0)
    assert not box.outbox.has_room(1), "nobody may overtake"
    order = []
    for _ in range(5):
        entry = box.outbox.take()
        while entry is None:
            await asyncio.sleep(0)
            entry = box.outbox.take()
        order.append(entry.channel)
        entry.reply(1)
    await asyncio.gather(*tasks)
    assert order == [b"1", b"2", b"3", b"4", b"5"]


async def test_topic_that_moves_is_read_from_before_its_old_master_knew() -> None:
    broker = RedisBroker("redis+cluster://127.0.0.1:1")
    one, two = broker._make_link("1"), broker._make_link("2")
    one.topics |= {"old", "fresh"}
    one.stream.mark_fresh(["old"])
    one.stream.mark_all(1_000_000, 0.0)
    one.stream.mark_all(1_100_000, 100.0)
    one.stream.mark_fresh(["fresh"])
    two.stream.mark_all(1_110_000, 110.0)
    assert [one.stream.start_of(topic) for topic in ("old", "fresh")] == [1_100_000, 1_100_000]
    for topic in ("old", "fresh", "not subscribed to yet"):
        two.adopt(topic, one)
    starts = [two.stream.start_of(topic) for topic in ("old", "fresh", "not subscribed to yet")]
    assert starts == [1_070_000, 1_100_000, 1_110_000], "and nothing that is older than the subscription"
    # Back again, before it was read.
    one.stream.mark_all(1_111_000, 111.0)
    one.adopt("old", two)
    assert one.stream.start_of("old") == 1_070_000


async def test_slot_that_moves_takes_what_is_in_flight_before_what_waits_behind_it() -> None:
    broker = RedisBroker("redis+cluster://127.0.0.1:1")
    topology = ClusterTopology(broker.options, broker._make_link, broker._connect_to, broker._moved_slots)
    broker._topology = topology
    old, new = Address("old", 1), Address("new", 1)
    topology._apply({old: [range(16_000)], new: [range(16_000, 16_384)]})
    topic = next(f"room {n}" for n in range(1000) if hash_slot(broker.keys.topic(f"room {n}")) < 16_000)
    channel = broker.keys.topic(topic)
    link = topology.link_of(channel)
    in_flight, waits = [Entry(channel, EnvelopeKind.PUBLICATION, b"", 1e9) for _ in range(2)]
    link.outbox.put(in_flight)
    link.outbox.put(waits)
    link._commands = RedisConnection(1024)
    taken = link.outbox.take()
    assert taken is in_flight
    link._commands.expected.append(in_flight)
    topology._apply({old: [range(hash_slot(channel))], new: [range(hash_slot(channel), 16_384)]})
    now = topology.link_of(channel)
    assert now is not link
    assert [now.outbox.take(), now.outbox.take()] == [in_flight, waits]
    assert len(link.outbox) == 0
    for each in topology.links:
        await each.close()
