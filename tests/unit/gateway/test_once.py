"""The machine behind ``tidegate:once``: which copy is the first, what is remembered, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.once import MAX_OUTSTANDING, MAX_WAITING, RECORD_BYTES, Message, OnceTable, Refused

WINDOW_S = 10.0
Table = OnceTable[str, str]


def make_table(max_streams: int = 100, max_bytes: int = 1_000_000) -> Table:
    return OnceTable(WINDOW_S, max_streams, max_bytes)


def take(table: Table, number: int, floor: int = 1, now: float = 0.0, key: str = "a") -> Message[str, str]:
    taken = table.take(key, number, floor, now)
    assert isinstance(taken, Message), taken
    return taken


def settled(table: Table, number: int, floor: int = 1, now: float = 0.0, key: str = "a") -> Message[str, str]:
    message = take(table, number, floor, now, key)
    assert (message.copies, message.answer) == (0, None)
    table.settle(message, f"answer {number}", 10, now)
    return message


# -- one message -----------------------------------------------------------------------------------------------


def test_copies_while_the_handler_runs_wait_for_its_answer() -> None:
    table = make_table()
    first = take(table, 1)
    assert first.copies == 0
    first.wait("first")
    again = take(table, 1)
    assert again is first
    assert (again.copies, again.answer) == (1, None)
    again.wait("second")
    assert table.settle(first, "done", 4, 0.0) == ["first", "second"]
    assert take(table, 1).answer == "done"
    assert table.nbytes == 4 + RECORD_BYTES


def test_newest_copies_wait_and_the_oldest_is_given_up() -> None:
    table = make_table()
    message = take(table, 1)
    assert [message.wait(str(number)) for number in range(MAX_WAITING + 2)] == [None] * MAX_WAITING + ["0", "1"]
    assert table.settle(message, "", 0, 0.0) == [str(number) for number in range(2, MAX_WAITING + 2)]


def test_cancelled_message_may_run_again() -> None:
    table = make_table()
    message = take(table, 1)
    message.wait("first")
    table.abandon(message, 0.0)
    again = take(table, 1)
    assert again is not message
    assert again.copies == 0
    assert again.askers == []


def test_numbers_come_in_any_order_and_streams_are_apart() -> None:
    table = make_table()
    assert settled(table, 5) is not settled(table, 3)
    assert take(table, 5).answer == "answer 5"
    assert take(table, 3, key="b").copies == 0


# -- the floor ---------------------------------------------------------------------------------------------------


def test_answers_below_the_floor_are_forgotten_and_copies_refused() -> None:
    table = make_table()
    for number in range(1, 6):
        settled(table, number)
    settled(table, 6, floor=4)
    assert table.nbytes == 3 * (10 + RECORD_BYTES)
    assert table.take("a", 3, 1, 0.0) is Refused.SETTLED, "a floor never sinks"
    assert take(table, 4, floor=1).answer == "answer 4"


def test_floor_may_jump_and_forgets_all_the_same() -> None:
    table = make_table()
    for number in (1, 2, 500):
        settled(table, number)
    settled(table, 10**15, floor=10**15)
    assert table.nbytes == 10 + RECORD_BYTES
    assert table.take("a", 500, 1, 0.0) is Refused.SETTLED


def test_message_that_the_floor_passes_while_it_runs_answers_who_waits_and_is_not_kept() -> None:
    table = make_table()
    message = take(table, 1)
    message.wait("first")
    settled(table, 2, floor=2)
    assert table.settle(message, "late", 100, 0.0) == ["first"]
    assert table.nbytes == 10 + RECORD_BYTES
    assert table.next_deadline() == WINDOW_S, "the stream is idle"


def test_numbers_far_above_the_floor_are_refused() -> None:
    table = make_table()
    assert table.take("a", MAX_OUTSTANDING + 1, 1, 0.0) is Refused.OUTSTANDING
    assert len(table) == 0, "a refusal opens no stream"
    settled(table, MAX_OUTSTANDING)
    assert table.take("a", MAX_OUTSTANDING + 1, 1, 0.0) is Refused.OUTSTANDING
    settled(table, MAX_OUTSTANDING + 1, floor=2)


# -- forgetting --------------------------------------------------------------------------------------------------


def test_stream_is_forgotten_a_window_after_its_last_use() -> None:
    table = make_table()
    settled(table, 1, now=0.0)
    settled(table, 1, now=5.0, key="b")
    take(table, 1, now=6.0)  # a copy is a use
    assert table.next_deadline() == 15.0
    assert table.expire(14.9, 10) == 0
    assert table.expire(15.0, 10) == 1
    assert table.next_deadline() == 16.0
    assert table.expire(16.0, 10) == 1
    assert (len(table), table.nbytes, table.evicted, table.next_deadline()) == (0, 0, 0, None)
    assert take(table, 1, now=16.0).copies == 0


def test_stream_whose_time_is_over_is_not_used_though_nobody_has_called_expire() -> None:
    table = make_table()
    settled(table, 1, now=0.0)
    assert take(table, 1, now=WINDOW_S).copies == 0
    assert table.nbytes == 0


def test_stream_is_kept_while_a_handler_runs_and_a_window_after() -> None:
    table = make_table()
    message = take(table, 1, now=0.0)
    assert table.next_deadline() is None
    assert table.expire(1e6, 10) == 0
    table.settle(message, "slow", 4, 1e6)
    assert table.next_deadline() == 1e6 + WINDOW_S
    assert take(table, 1, now=1e6).answer == "slow"


def test_expire_forgets_so_many_at_a_time() -> None:
    table = make_table()
    for number in range(5):
        settled(table, 1, key=str(number))
    assert [table.expire(WINDOW_S, 2) for _ in range(4)] == [2, 2, 1, 0]


def test_least_recently_used_idle_stream_makes_room() -> None:
    table = make_table(max_streams=3)
    take(table, 1, key="busy")
    settled(table, 1, key="old")
    settled(table, 1, key="new")
    take(table, 1, key="old")
    settled(table, 1, key="another")
    assert (len(table), table.evicted) == (3, 1)
    assert take(table, 1, key="old").answer == "answer 1"
    assert take(table, 1, key="busy").copies == 1
    assert take(table, 1, key="new").copies == 0, "it was forgotten"


def test_table_of_busy_streams_takes_no_other() -> None:
    table = make_table(max_streams=2)
    message = take(table, 1, key="a")
    take(table, 1, key="b")
    assert table.take("c", 1, 1, 0.0) is Refused.FULL
    take(table, 2, key="a")
    table.abandon(message, 0.0)
    assert table.take("c", 1, 1, 0.0) is Refused.FULL, "the other handler runs"


def test_bytes_over_the_bound_are_those_of_the_least_recently_used() -> None:
    table = make_table(max_bytes=3 * (10 + RECORD_BYTES))
    for key in ("a", "b", "c"):
        settled(table, 1, key=key)
    settled(table, 2, key="a")
    settled(table, 3, key="a")
    assert (table.evicted, len(table)) == (1, 2)
    assert take(table, 1, key="c").answer == "answer 1"
    settled(table, 4, key="a")
    assert (table.evicted, len(table)) == (2, 1)
    assert table.take("a", 5, 1, 0.0) is Refused.FULL, "nobody else is left to forget"
    assert take(table, 1, key="a").answer == "answer 1", "copies are answered"
    settled(table, 5, floor=3, key="a")


def test_handlers_of_a_loop_that_has_ended_run_no_more() -> None:
    table = make_table()
    settled(table, 1)
    stale = take(table, 2)
    table.abandon_all(3.0)
    assert table.next_deadline() == 3.0 + WINDOW_S
    fresh = take(table, 2, now=4.0)
    assert fresh.copies == 0
    table.settle(stale, "too late", 8, 5.0)
    assert take(table, 2, now=5.0).answer is None
    table.settle(fresh, "in time", 7, 6.0)
    assert take(table, 2, now=6.0).answer == "in time"
    assert take(table, 1, now=6.0).answer == "answer 1"
    assert table.nbytes == 10 + 7 + 2 * RECORD_BYTES


# -- against a reference ---------------------------------------------------------------------------------------


@dataclass
class PlainStream:
    floor: int
    used_at: float
    #: None while the handler runs.
    answers: dict[int, str | None] = field(default_factory=dict)
    #: Numbers of handlers that run, those below the floor too.
    running: list[int] = field(default_factory=list)


class Reference:
    """The same promises without any thought of speed: everything is looked for anew."""

    def __init__(self, max_streams: int, max_bytes: int) -> None:
        self.streams: dict[str, PlainStream] = {}
        self.max_streams = max_streams
        self.max_bytes = max_bytes
        self.uses = 0

    @property
    def nbytes(self) -> int:
        return sum(
            len(answer) + RECORD_BYTES
            for stream in self.streams.values()
            for answer in stream.answers.values()
            if answer is not None
        )

    def expire(self, now: float) -> None:
        for key, stream in list(self.streams.items()):
            if not stream.running and stream.used_at + WINDOW_S <= now:
                del self.streams[key]

    def _touch(self, key: str, now: float) -> None:
        self.streams[key].used_at = now
        self.streams[key] = self.streams.pop(key)  # the last

    def _makes_room(self, own: str | None) -> bool:
        while self.nbytes > self.max_bytes or (own is None and len(self.streams) >= self.max_streams):
            oldest = next((key for key, stream in self.streams.items() if not stream.running), None)
            if oldest is None or oldest == own:
                return False
            del self.streams[oldest]
        return True

    def take(self, key: str, number: int, floor: int, now: float) -> Any:
        self.expire(now)
        stream = self.streams.get(key)
        if stream is None:
            if number - floor >= MAX_OUTSTANDING:
                return Refused.OUTSTANDING
            if not self._makes_room(None):
                return Refused.FULL
            stream = self.streams[key] = PlainStream(floor, now)
        self._touch(key, now)
        stream.floor = max(floor, stream.floor)
        stream.answers = {each: answer for each, answer in stream.answers.items() if each >= stream.floor}
        if number < stream.floor:
            return Refused.SETTLED
        if number in stream.answers:
            return ("copy", stream.answers[number])
        if number - stream.floor >= MAX_OUTSTANDING:
            return Refused.OUTSTANDING
        if self.nbytes > self.max_bytes and not self._makes_room(key):
            return Refused.FULL
        stream.answers[number] = None
        stream.running.append(number)
        return ("first", None)

    def end(self, key: str, number: int, answer: str | None, now: float) -> None:
        """``answer`` None: the handler was cancelled."""
        stream = self.streams[key]
        stream.running.remove(number)
        if number in stream.answers:
            if answer is None:
                del stream.answers[number]
            else:
                stream.answers[number] = answer
        if not stream.running:
            self._touch(key, now)


class OnceMachine(RuleBasedStateMachine):
    """The table and the reference, told the same."""

    def __init__(self) -> None:
        super().__init__()
        bounds = (3, 4 * (RECORD_BYTES + 10))
        self.table = make_table(*bounds)
        self.reference = Reference(*bounds)
        self.now = 0.0
        self.running: list[tuple[str, Message[str, str]]] = []

    @rule(
        key=st.sampled_from("abcde"),
        number=st.integers(1, 8) | st.integers(MAX_OUTSTANDING - 1, MAX_OUTSTANDING + 8),
        back=st.integers(0, MAX_OUTSTANDING),
        follows=st.booleans(),
    )
    def copy_comes(self, key: str, number: int, back: int, follows: bool) -> None:
        floor = max(1, number - (back % 4 if follows else back))
        taken = self.table.take(key, number, floor, self.now)
        expected = self.reference.take(key, number, floor, self.now)
        if isinstance(taken, Refused):
            assert taken is expected
            return
        assert ("copy" if taken.copies else "first", taken.answer) == expected
        if taken.answer is None:
            taken.wait("")
        if not taken.copies:
            assert (key, taken.number) not in [(each, message.number) for each, message in self._counted()]
            self.running.append((key, taken))

    def _counted(self) -> list[tuple[str, Message[str, str]]]:
        """Handlers that run of messages that the floor has not passed."""
        return [(key, message) for key, message in self.running if message.number >= self.reference.streams[key].floor]

    @rule(key=st.sampled_from("abcde"), number=st.integers(1, 6), length=st.integers(0, 40))
    def message_is_handled_at_once(self, key: str, number: int, length: int) -> None:
        before = len(self.running)
        self.copy_comes(key, number, number - 1, False)
        if len(self.running) > before:
            self.handler_ends(-1, length, False)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100), length=st.integers(0, 40), is_cancelled=st.booleans())
    def handler_ends(self, which: int, length: int, is_cancelled: bool) -> None:
        key, message = self.running.pop(which % len(self.running))
        answer = None if is_cancelled else "x" * length
        if answer is None:
            self.table.abandon(message, self.now)
        else:
            asked = 1 + message.copies
            assert len(self.table.settle(message, answer, length, self.now)) == min(asked, MAX_WAITING)
        self.reference.end(key, message.number, answer, self.now)

    @rule(seconds=st.sampled_from((0.1, 0.5, 4.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def timer_fires(self) -> None:
        self.reference.expire(self.now)
        while self.table.expire(self.now, 1):
            pass
        deadline = self.table.next_deadline()
        assert deadline is None or deadline > self.now
        assert len(self.table) == len(self.reference.streams)

    @invariant()
    def as_much_is_remembered(self) -> None:
        alive = [key for key, stream in self.reference.streams.items() if stream.running]
        alive += [
            key
            for key, stream in self.reference.streams.items()
            if not stream.running and stream.used_at + WINDOW_S > self.now
        ]
        assert len(self.table) >= len(alive)
        assert len(self.table) <= 3
        if len(self.table) == len(self.reference.streams):
            assert self.table.nbytes == self.reference.nbytes


TestOnceMachine = OnceMachine.TestCase
TestOnceMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
