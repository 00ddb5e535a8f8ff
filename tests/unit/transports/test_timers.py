"""The timing wheel on a loop."""

import logging

import pytest

from tests.unit.transports.engine_doubles import FakeLoop
from transports.protocol.timing_wheel import UNSCHEDULED
from transports.timers import BLOCKED_S, Timers


class Entry:
    def __init__(self, fault: Exception | None = None) -> None:
        self.wheel_slot = UNSCHEDULED
        self.fired: list[float] = []
        self._fault = fault

    def on_deadline(self, now: float) -> None:
        self.fired.append(now)
        if self._fault is not None:
            raise self._fault


def handles(loop: FakeLoop) -> int:
    return sum(not handle.cancelled() for handle in loop._scheduled)


def test_entries_fire_when_they_are_due(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    now = loop.time()
    late, early = Entry(), Entry()
    timers.schedule(late, now + 10)
    timers.schedule(early, now + 2)
    loop.advance(1.9)
    assert early.fired == []
    loop.advance(0.5)
    assert early.fired == [now + 2]
    loop.advance(10)
    assert late.fired == [now + 10]
    assert len(early.fired) == 1


def test_many_entries_share_one_timer(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    entries = [Entry() for _ in range(100)]
    for number, entry in enumerate(entries):
        timers.schedule(entry, loop.time() + 50 - number / 3)
    assert handles(loop) == 1
    loop.advance(60)
    assert all(len(entry.fired) == 1 for entry in entries)
    assert handles(loop) == 0


def test_cancelled_entry_does_not_fire(loop: FakeLoop) -> None:
    timers, entry = Timers(loop, 0.25), Entry()
    timers.schedule(entry, loop.time() + 1)
    timers.cancel(entry)
    loop.advance(5)
    assert entry.fired == []


def test_fault_of_one_entry_does_not_stop_the_others(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers(loop, 0.25)
    entries = [Entry(RuntimeError("broken")), Entry(), Entry(RuntimeError("broken"))]
    for entry in entries:
        timers.schedule(entry, loop.time() + 1)
    with caplog.at_level(logging.ERROR, "tidegate.timers"):
        loop.advance(2)
    assert all(entry.fired for entry in entries)
    assert len(caplog.records) == 2
    later = Entry()
    timers.schedule(later, loop.time() + 1)
    loop.advance(2)
    assert later.fired


def test_blocked_loop_reads_before_it_judges(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    timers, entry = Timers(loop, 0.25), Entry()
    timers.schedule(entry, loop.time() + 1)
    loop.block(1 + BLOCKED_S + 5)
    with caplog.at_level(logging.WARNING, "tidegate.timers"):
        loop.turn()
    assert "blocked" in caplog.text
    assert entry.fired == []
    timers.cancel(entry)  # what a pong that lay unread does
    loop.advance(10)
    assert entry.fired == []


def test_blocked_loop_fires_one_tick_later_what_is_still_due(loop: FakeLoop) -> None:
    timers, entry = Timers(loop, 0.25), Entry()
    timers.schedule(entry, loop.time() + 1)
    loop.block(30)
    loop.turn()
    loop.advance(0.3)
    assert len(entry.fired) == 1


def test_schedule_during_the_grace_does_not_lose_the_timer(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    overdue, other, past = Entry(), Entry(), Entry()
    timers.schedule(overdue, loop.time() + 1)
    loop.block(30)
    loop.turn()
    timers.schedule(other, loop.time() + 0.1)
    timers.schedule(past, loop.time() - 20)
    loop.advance(2)
    assert overdue.fired
    assert other.fired
    assert past.fired
    assert len(overdue.fired) == len(other.fired) == len(past.fired) == 1


def test_closed_timers_are_silent_and_can_begin_again(loop: FakeLoop) -> None:
    timers, entry = Timers(loop, 0.25), Entry()
    timers.schedule(entry, loop.time() + 1)
    timers.close()
    loop.advance(5)
    assert entry.fired == []
    assert handles(loop) == 0
    timers.schedule(Entry(), loop.time() + 1)
    loop.advance(5)
    assert entry.fired
