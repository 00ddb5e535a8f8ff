"""One timer for many deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from transports.protocol.timing_wheel import UNSCHEDULED, TimingWheel


class Entry:
    def __init__(self) -> None:
        self.wheel_slot = UNSCHEDULED

    def on_deadline(self, now: float) -> None:
        raise AssertionError("the caller of advance does this")


def test_entry_is_due_at_its_deadline_and_once() -> None:
    wheel, entry = TimingWheel(0.25), Entry()
    wheel.schedule(entry, 10.1)
    assert wheel.next_deadline() == 10.25
    assert wheel.advance(10.2) == []
    assert wheel.advance(10.25) == [entry]
    assert entry.wheel_slot == UNSCHEDULED
    assert wheel.advance(99) == []
    assert wheel.next_deadline() is None


def test_entry_that_is_scheduled_again_moves() -> None:
    wheel, entry = TimingWheel(1.0), Entry()
    wheel.schedule(entry, 5)
    wheel.schedule(entry, 9)
    assert wheel.advance(8) == []
    wheel.schedule(entry, 8.5)
    assert wheel.advance(9) == [entry]


def test_cancelled_entry_is_not_due() -> None:
    wheel, entry, other = TimingWheel(1.0), Entry(), Entry()
    wheel.cancel(entry)
    wheel.schedule(entry, 5)
    wheel.schedule(other, 5)
    wheel.cancel(entry)
    wheel.cancel(entry)
    assert wheel.advance(5) == [other]
    assert wheel.next_deadline() is None


def test_what_is_due_comes_earliest_first() -> None:
    wheel = TimingWheel(1.0)
    entries = [Entry() for _ in range(4)]
    for entry, deadline in zip(entries, (4, 2, 3, 1), strict=True):
        wheel.schedule(entry, deadline)
    assert wheel.advance(3) == [entries[3], entries[1], entries[2]]
    assert wheel.next_deadline() == 4


def test_a_portion_leaves_the_others_in_the_wheel() -> None:
    wheel = TimingWheel(1.0)
    entries = [Entry() for _ in range(5)]
    for entry, deadline in zip(entries, (1, 1, 2, 2, 9), strict=True):
        wheel.schedule(entry, deadline)
    first = wheel.advance(3, 3)
    assert set(first[:2]) == set(entries[:2]), "earliest first"
    assert len(first) == 3
    [left] = set(entries[2:4]) - set(first)
    assert wheel.next_deadline() == 2
    wheel.cancel(left)
    assert wheel.advance(3, 3) == []
    assert wheel.next_deadline() == 9


@given(st.floats(0, 1e6), st.sampled_from([0.005, 0.05, 0.25, 1.0]))
def test_deadline_is_met_at_most_one_tick_late_and_never_early(deadline: float, tick_s: float) -> None:
    wheel, entry = TimingWheel(tick_s), Entry()
    wheel.schedule(entry, deadline)
    at = wheel.next_deadline()
    assert at is not None
    assert deadline - 1e-9 <= at <= deadline + tick_s + 1e-9
    assert wheel.advance(at) == [entry]
