"""Acks between two nodes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from gateway.ack_relay import AckRelay
from gateway.brokers.base import BrokerUnavailableError
from gateway.envelope import EnvelopeError, Message
from gateway.node_messages import ANSWERED, EXPIRED, GONE, encode_value
from tests.support.waiting import eventually


class Pair:
    """``asks`` waits for the acks of clients of ``answers``."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[bytes]]] = []
        self.is_down = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.asks = AckRelay(self._send, self._spawn)
        self.answers = AckRelay(self._send, self._spawn)

    async def _send(self, node_id: str, payload: bytes) -> None:
        if self.is_down:
            raise BrokerUnavailableError("down")
        entries = Message.decode(payload).arguments[1]
        self.sent.append((node_id, entries))
        self.asks.receive(entries)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def test_acks_of_one_turn_travel_together() -> None:
    pair = Pair()
    told: list[Any] = []
    reference = pair.asks.expect(lambda *ack: told.append(ack), 60)
    pair.answers.pending("asker", reference, "a").answered(1, b"2")
    pair.answers.expired("asker", reference, "b")
    pair.answers.pending("asker", reference, "c").abandon()
    await eventually(lambda: len(told) == 3, "three acks")
    assert told == [("a", ANSWERED, [1, b"2"]), ("b", EXPIRED, []), ("c", GONE, [])]
    assert [node_id for node_id, _ in pair.sent] == ["asker"]
    pair.asks.forget(reference)
    pair.answers.pending("asker", reference, "late").answered()
    await eventually(lambda: len(pair.sent) == 2, "the late one")
    assert len(told) == 3
    pair.asks.close()


async def test_large_acks_are_divided_among_messages() -> None:
    pair = Pair()
    told: list[Any] = []
    reference = pair.asks.expect(lambda *ack: told.append(ack), 60)
    for number in range(10):
        pair.answers.pending("asker", reference, str(number)).answered("x" * 50_000)
    await eventually(lambda: len(told) == 10, "all")
    assert [sid for sid, _, _ in told] == [str(number) for number in range(10)]
    assert [len(entries) for _, entries in pair.sent] == [2, 2, 2, 2, 2]
    pair.asks.close()


async def test_acks_that_do_not_arrive_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()
    pair.answers.pending("asker", 1, "a").answered(1 << 70)
    assert pair.answers.lost == 1
    pair.is_down = True
    pair.answers.pending("asker", 1, "b").answered(1)
    pair.answers.pending("asker", 1, "c").answered(1)
    await eventually(lambda: pair.answers.lost == 3, "two more")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


async def test_end_is_told_once_and_not_after_it_was_forgotten() -> None:
    pair = Pair()
    ended: list[str] = []
    pair.asks.expect(lambda *_: None, 0.01, lambda: ended.append("one"))
    two = pair.asks.expect(lambda *_: None, 0.01, lambda: ended.append("two"))
    pair.asks.forget(two)
    pair.asks.expect(lambda *_: None, 0.02, lambda: ended.append("three"))
    await eventually(lambda: "three" in ended, "the end")
    assert ended == ["one", "three"]


@pytest.mark.parametrize(
    "entries",
    [None, {}, [5], [b"\xc1"], [encode_value([1, "sid", 0])], [encode_value(["1", "sid", 0, []])], [encode_value(5)]],
)
async def test_what_is_no_ack_is_refused(entries: Any) -> None:
    with pytest.raises(EnvelopeError):
        Pair().asks.receive(entries)
