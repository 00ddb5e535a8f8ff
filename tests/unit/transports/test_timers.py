"""The timing wheel on a loop."""

import logging
from itertools import pairwise

import pytest

from tests.unit.transports.engine_doubles import FakeLoop
from transports.protocol.timing_wheel import UNSCHEDULED
from transports.timers import BLOCKED_S, PORTION, Timers


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


def _due_together(loop: FakeLoop, timers: Timers, count: int) -> list[Entry]:
    entries = [Entry() for _ in range(count)]
    for entry in entries:
        timers.schedule(entry, loop.time() + 1)
    loop.block(1.2)
    return entries


def test_others_have_their_turn_between_portions_of_a_tick(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    entries = _due_together(loop, timers, 3 * PORTION)
    seen: list[int] = []

    def serve_others() -> None:
        seen.append(sum(len(entry.fired) for entry in entries))
        if seen[-1] < len(entries):
            loop.call_soon(serve_others)

    loop.call_soon(serve_others)
    loop.settle()
    assert {PORTION, 2 * PORTION} <= set(seen)
    assert all(later - earlier <= PORTION for earlier, later in pairwise(seen))
    loop.advance(5)
    assert all(len(entry.fired) == 1 for entry in entries)
    assert handles(loop) == 0


def test_entry_that_is_cancelled_or_moved_between_portions_does_not_fire(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    entries = _due_together(loop, timers, 2 * PORTION)
    loop.turn()
    cancelled, moved, *_ = [entry for entry in entries if not entry.fired]
    timers.cancel(cancelled)
    timers.schedule(moved, loop.time() + 10)
    loop.settle()
    assert sum(len(entry.fired) for entry in entries) == 2 * PORTION - 2
    loop.advance(20)
    assert cancelled.fired == []
    assert len(moved.fired) == 1


def test_what_is_scheduled_between_portions_fires_when_it_is_due(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    _due_together(loop, timers, 2 * PORTION)
    loop.turn()
    early = Entry()
    timers.schedule(early, loop.time() + 0.1)
    loop.settle()
    assert early.fired == []
    loop.advance(0.5)
    assert len(early.fired) == 1


def test_timers_closed_between_portions_are_silent(loop: FakeLoop) -> None:
    timers = Timers(loop, 0.25)
    entries = _due_together(loop, timers, 2 * PORTION)
    loop.turn()
    timers.close()
    loop.advance(5)
    assert sum(len(entry.fired) for entry in entries) == PORTION


def test_timers_closed_by_an_entry_are_silent(loop: FakeLoop) -> None:
    timers, entry = Timers(loop, 0.25), Entry()
    entry.on_deadline = lambda now: timers.close()  # type: ignore[method-assign]
    timers.schedule(entry, loop.time() + 1)
    timers.schedule(Entry(), loop.time() + 9)
    loop.advance(5)
    assert handles(loop) == 0


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
