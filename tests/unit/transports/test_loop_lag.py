"""The lag of the loop: what is sampled, and what is said of it."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually_sync
from tests.unit.transports.engine_doubles import FakeLoop
from transports.loop_lag import BOUNDS_S, INTERVAL_S, LOG_EVERY_S, NAMED_S, WARN_S, WINDOW_S, LoopLag, named


@pytest.fixture
def lag(loop: FakeLoop) -> Iterator[LoopLag]:
    probe = LoopLag(loop.time)
    probe.start(loop)
    yield probe
    probe.stop()


def block(loop: FakeLoop, seconds: float) -> None:
    """Keep the loop for so long from the moment at which the next sample is due."""
    loop.block(INTERVAL_S + seconds)
    loop.turn()


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tidegate-loop-watch"]


def test_idle_loop_has_no_lag(loop: FakeLoop, lag: LoopLag) -> None:
    loop.advance(60)
    dump = lag.dump()
    assert dump["count"] >= 60 / INTERVAL_S - 1
    assert dump["buckets"][0] == (BOUNDS_S[0], dump["count"])
    assert dump["max_s"] == pytest.approx(0, abs=1e-6)


def test_late_sample_is_in_the_buckets_of_its_lag(loop: FakeLoop, lag: LoopLag) -> None:
    block(loop, 0.03)
    dump = lag.dump()
    assert [count for bound, count in dump["buckets"]] == [int(bound >= 0.03) for bound in BOUNDS_S]
    assert (dump["count"], dump["sum_s"]) == (1, pytest.approx(0.03))
    assert dump["max_s"] == dump["worst_s"] == lag.worst_s == pytest.approx(0.03)
    assert 0 < dump["mean_s"] == lag.mean_s < 0.03


def test_samples_that_could_not_be_taken_count_as_late_as_they_would_have_been(loop: FakeLoop, lag: LoopLag) -> None:
    """Else a second in which nothing ran would be one sample among ten good ones of the second before."""
    block(loop, 10 * INTERVAL_S + 0.01)
    dump = lag.dump()
    assert dump["count"] == 11
    assert dict(dump["buckets"])[1.0] == 5
    assert dump["max_s"] == pytest.approx(10 * INTERVAL_S + 0.01)


def test_lag_beyond_the_last_bound_is_counted(loop: FakeLoop, lag: LoopLag) -> None:
    block(loop, BOUNDS_S[-1] + INTERVAL_S / 2)
    dump = lag.dump()
    assert dump["count"] == dump["buckets"][-1][1] + 1


def test_highest_lag_is_forgotten_after_a_while_and_the_worst_is_not(loop: FakeLoop, lag: LoopLag) -> None:
    block(loop, 0.08)
    loop.advance(WINDOW_S)
    assert lag.dump()["max_s"] == pytest.approx(0.08)
    loop.advance(WINDOW_S)
    assert lag.dump()["max_s"] < 0.001
    assert lag.worst_s == pytest.approx(0.08)


def test_lag_is_logged_once_a_minute(loop: FakeLoop, lag: LoopLag, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tidegate.loop"):
        block(loop, WARN_S / 2)
        assert caplog.messages == []
        for _ in range(3):
            block(loop, WARN_S * 2)
        assert len(caplog.messages) == 1
        assert "held up for 200 ms" in caplog.text
        loop.advance(LOG_EVERY_S)
        block(loop, WARN_S * 3)
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith(": 3")


def test_stopped_probe_leaves_nothing_running(loop: FakeLoop) -> None:
    lag = LoopLag(loop.time)
    lag.start(loop)
    lag.start(loop)
    assert len(watchers()) == 1
    loop.advance(1)
    count = lag.dump()["count"]
    lag.stop()
    lag.stop()
    assert watchers() == []
    assert not loop.has_timers()
    assert lag.dump()["count"] == count
    lag.start(loop)
    loop.advance(1)
    assert lag.dump()["count"] > count
    lag.stop()


def test_nobody_watches_for_a_log_that_nobody_writes(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "tidegate.loop"):
        lag = LoopLag(loop.time)
        lag.start(loop)
        assert watchers() == []
        lag.stop()


def test_what_keeps_the_loop_is_named_while_it_does(
    loop: FakeLoop, lag: LoopLag, caplog: pytest.LogCaptureFixture
) -> None:
    def busy_handler() -> None:
        loop.block(INTERVAL_S + NAMED_S)
        eventually_sync(lambda: "busy_handler" in caplog.text, "the handler in the log")

    with caplog.at_level(logging.WARNING, "tidegate.loop"):
        loop.call_soon(busy_handler)
        loop.settle()
    assert "held up, for" in caplog.text
    assert "test_loop_lag.py" in caplog.text


def test_innermost_frame_comes_first() -> None:
    def inner() -> str:
        return named(sys._getframe())

    def outer() -> str:
        return inner()

    text = outer()
    assert text.index("inner (") < text.index("outer (") < text.index("test_innermost_frame_comes_first (")
