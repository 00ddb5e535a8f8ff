"""However much is refused, the log stays short, whole lines, and adds up."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.catalogue import ROWS
from transports.refusal_log import MAX_LENGTH, MAX_LINES, WINDOW_S, RefusalLog, printable
from transports.refusals import Refusal

BY_NAME = {row.name: row for row in ROWS}
ORIGIN = BY_NAME["origin_refused"]
FULL = BY_NAME["too_many_connections"]


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@contextmanager
def heard() -> Iterator[_Records]:
    """Not caplog, which would go on over all the examples of a property."""
    logger = logging.getLogger("tidegate.refusals")
    handler, level = _Records(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_one_line_for_each_kind_and_peer() -> None:
    log = RefusalLog()
    with heard() as seen:
        for _ in range(3):
            for row in (ORIGIN, FULL):
                for peer in ("192.0.2.1", "192.0.2.2"):
                    log.note(row, "no", peer, 1.0)
    assert sorted(seen.lines) == sorted(
        f"refused {row.name} from {peer}: no" for row in (ORIGIN, FULL) for peer in ("192.0.2.1", "192.0.2.2")
    )


def test_the_rest_is_summed_up_when_the_next_window_begins() -> None:
    log = RefusalLog()
    with heard() as seen:
        for _ in range(3):
            log.note(ORIGIN, "no", "192.0.2.1", 1.0)
        log.note(ORIGIN, "no", "192.0.2.1", 0.9 + WINDOW_S)
        assert len(seen.lines) == 1
        log.note(ORIGIN, "no", "192.0.2.1", 1.0 + WINDOW_S)
    assert seen.lines[1:] == [
        "not written one by one in the last window: origin_refused 3 times",
        "refused origin_refused from 192.0.2.1: no",
    ]


def test_a_peer_without_address_has_a_line_too() -> None:
    with heard() as seen:
        RefusalLog().note(ORIGIN, "no", "", 0.0)
    assert seen.lines == ["refused origin_refused from an unknown address: no"]


@pytest.mark.parametrize(("session_id", "has_it"), [("", False), ("abc", True)])
def test_the_session_is_told_where_there_is_one(session_id: str, has_it: bool) -> None:
    with heard() as seen:
        RefusalLog().note(ORIGIN, "no", "192.0.2.1", 0.0, session_id)
    assert hasattr(seen.records[0], "session") == has_it


noted = st.lists(
    st.tuples(
        st.sampled_from([ORIGIN, FULL, BY_NAME["bad_json"], BY_NAME["join_failed"]]),
        st.text(max_size=8),
        st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::\n1", ""]),
        st.floats(0, 30),
    ),
    max_size=60,
)


@given(noted, st.integers(1, 6))
def test_lines_are_bounded_and_add_up(refusals: list[tuple[Refusal, str, str, float]], max_lines: int) -> None:
    log = RefusalLog(window_s=10.0, max_lines=max_lines)
    now = 0.0
    with heard() as seen:
        for refusal, message, peer, after in refusals:
            now += after
            log.note(refusal, message, peer, now)
        log.note(ORIGIN, "last", "192.0.2.9", now + 10.0)  # brings what was left out of the window before
    written: Counter[str] = Counter()
    summed: Counter[str] = Counter()
    sums = 0
    for line in seen.lines:
        if line.startswith("not written"):
            sums += 1
            summed.update({name: int(count) for name, count in re.findall(r"(\w+) (\d+) times", line)})
        else:
            written[line.split()[1]] += 1
    asked = Counter(refusal.name for refusal, *_ in refusals) + Counter(["origin_refused"])
    assert written + summed == asked, "nothing is lost, nothing counted twice"
    windows = 1 + int(now // 10) + 1
    assert sum(written.values()) <= max_lines * windows
    assert sums <= windows


@given(st.text(max_size=2 * MAX_LENGTH), st.text(max_size=40))
@example("\x1b[2J\r\n2030-01-01 refused nobody\u2028\x85\x00\ud800", "10.0.0.1\nroot logged in")
@example("\x00" * (MAX_LENGTH + 1), "\u202e")
def test_nothing_of_the_peer_reaches_the_log_raw(message: str, peer: str) -> None:
    with heard() as seen:
        RefusalLog().note(ORIGIN, message, peer, 0.0)
    [line] = seen.lines
    assert line.isprintable()
    assert line.splitlines() == [line]
    line.encode()  # no lone surrogates, which a file could not take
    # An escape is ten characters at most (\Uxxxxxxxx).
    assert len(line) <= len("refused origin_refused from : ") + 2 * (10 * MAX_LENGTH + len("...")) + len(peer)


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"]), max_size=MAX_LENGTH))
def test_what_can_be_printed_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("lines", [MAX_LINES - 1, MAX_LINES, MAX_LINES + 50])
def test_a_crowd_of_peers_fills_a_window_and_no_more(lines: int) -> None:
    log = RefusalLog()
    with heard() as seen:
        for number in range(lines):
            log.note(ORIGIN, "no", f"192.0.2.{number}", 0.0)
        assert len(seen.lines) == min(lines, MAX_LINES)
        log.note(FULL, "no", "192.0.2.1", WINDOW_S)
    left_out = max(lines - MAX_LINES, 0)
    sums = [line for line in seen.lines if line.startswith("not written")]
    assert sums == ([f"not written one by one in the last window: origin_refused {left_out} times"] if left_out else [])
