"""How long whatever comes to the event loop waits until it runs.

A timer that fires five times a second notes how late it is: so late is also what a packet or a heartbeat that comes at
that moment. Work that keeps the loop for a time ``d`` is seen by a sample with the probability ``d / INTERVAL_S``, and
for certain where it is longer than that; the samples which fall into a longer one count as late as they would have
been. Nothing of this is on the way of a packet, and no task runs.

A loop that is held up for long is caught in the act: a thread that looks twice a second whether the timer is
overdue writes to the log what the loop's thread is doing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from bisect import bisect_left
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Final, TypedDict

logger = logging.getLogger("tidegate.loop")

#: On an idle process ten in a second would be felt as 0.13 percent of a core, five as half of that.
INTERVAL_S: Final = 0.2
#: Upper bounds of the histogram's buckets. uvloop counts whole milliseconds, so less than two are no news.
BOUNDS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
#: A lag beyond it is written to the log.
WARN_S: Final = 0.1
#: When the thread looks at what keeps the loop.
NAMED_S: Final = 0.25
#: One line of each of the two in this time.
LOG_EVERY_S: Final = 60.0
#: How long the highest lag stays in ``max_s``: so long, and up to twice that. Over so much the mean decays.
WINDOW_S: Final = 10.0
#: Innermost frames that are named.
MAX_FRAMES: Final = 8
#: Samples that fell into one time of blocking, and are counted all the same.
MAX_MISSED: Final = 1000


class LagDump(TypedDict):
    """Seconds. ``buckets``: upper bounds, and how many of ``count`` samples were no later; the rest was later.

    ``mean_s`` decays over ten seconds, ``max_s`` is the highest of the last ten to twenty, ``worst_s`` of all.
    """

    buckets: list[tuple[float, int]]
    count: int
    sum_s: float
    mean_s: float
    max_s: float
    worst_s: float


class LoopLag:
    """Samples the lag of one loop between ``start`` and ``stop``; numbers are kept beyond that.

    ``clock``: monotonic seconds. Not the loop's own, which stands still while a callback runs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._watch: _Watch | None = None
        #: When the timer should fire next; read by the thread.
        self.due_at = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = self._mean_s = self._worst_s = 0.0
        self._max_s = self._max_before_s = 0.0  # of this window, and of the one before
        self._window_ends = 0.0
        self._warns_at = 0.0
        self._late = 0  # samples beyond WARN_S since the last line

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to sample. To be called on the loop's thread."""
        if self._loop is not None:
            return
        self._loop = loop
        now = self._clock()
        self._window_ends = now + WINDOW_S
        self._sleep(loop, now)
        if logger.isEnabledFor(logging.WARNING):
            self._watch = _Watch(self, self._clock, threading.get_ident())
            self._watch.start()

    def stop(self) -> None:
        """Begin no other sample; the thread has ended when this returns."""
        self._loop = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    @property
    def mean_s(self) -> float:
        """Decaying over ten seconds."""
        return self._mean_s

    @property
    def worst_s(self) -> float:
        """Since the first start."""
        return self._worst_s

    def dump(self) -> LagDump:
        """The numbers, in the shape of a cumulative histogram. Reading them changes nothing."""
        total = 0
        buckets = []
        for bound, count in zip(BOUNDS_S, self._counts, strict=False):
            total += count
            buckets.append((bound, total))
        return {
            "buckets": buckets,
            "count": total + self._counts[-1],
            "sum_s": self._sum_s,
            "mean_s": self._mean_s,
            "max_s": max(self._max_s, self._max_before_s),
            "worst_s": self._worst_s,
        }

    def _sleep(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self.due_at = now + INTERVAL_S
        self._handle = loop.call_later(INTERVAL_S, self._sample)

    def _sample(self) -> None:
        loop = self._loop
        if loop is None:
            return
        now = self._clock()
        lag_s = max(now - self.due_at, 0.0)
        self._record(lag_s)
        for missed in range(1, min(int(lag_s / INTERVAL_S), MAX_MISSED) + 1):
            self._record(lag_s - missed * INTERVAL_S)
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_S
            self._max_before_s, self._max_s = self._max_s, 0.0
        if lag_s > self._max_s:
            self._max_s = lag_s
            self._worst_s = max(self._worst_s, lag_s)
        if lag_s > WARN_S:
            self._note(lag_s, now)
        self._sleep(loop, now)

    def _record(self, lag_s: float) -> None:
        self._counts[bisect_left(BOUNDS_S, lag_s)] += 1
        self._sum_s += lag_s
        self._mean_s += (lag_s - self._mean_s) * (INTERVAL_S / WINDOW_S)

    def _note(self, lag_s: float, now: float) -> None:
        self._late += 1
        if now >= self._warns_at:
            self._warns_at = now + LOG_EVERY_S
            logger.warning(
                "the event loop was held up for %.0f ms; samples later than %.0f ms since the last such line: %d",
                lag_s * 1000,
                WARN_S * 1000,
                self._late,
            )
            self._late = 0


class _Watch(threading.Thread):
    """Says what keeps the loop's thread while the probe's timer is overdue."""

    def __init__(self, probe: LoopLag, clock: Callable[[], float], loop_thread: int) -> None:
        super().__init__(name="tidegate-loop-watch", daemon=True)
        self._probe = probe
        self._clock = clock
        self._loop_thread = loop_thread
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        names_at = 0.0
        wait_s = NAMED_S
        while not self._stopping.wait(wait_s):
            now = self._clock()
            late_s = now - self._probe.due_at
            if late_s < NAMED_S:
                wait_s = NAMED_S - late_s
                continue
            wait_s = NAMED_S
            frame = sys._current_frames().get(self._loop_thread)
            if frame is not None and now >= names_at:
                names_at = now + LOG_EVERY_S
                logger.warning("the event loop is held up, for %.0f ms so far, in %s", late_s * 1000, named(frame))


def named(frame: FrameType) -> str:
    """The innermost frames, from there outwards."""
    frames = islice(traceback.walk_stack(frame), MAX_FRAMES)
    return " < ".join([f"{each.f_code.co_qualname} ({each.f_code.co_filename}:{line})" for each, line in frames])
