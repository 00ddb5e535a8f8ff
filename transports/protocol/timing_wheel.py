"""One timer for many deadlines.

A session has one entry here, at the nearest thing that could become due for it (ping, pong, upgrade, stream
age). Entries lie in buckets of ``tick_s``; moving one is two set operations, and the host needs a single timer
for the earliest bucket. Deadlines are met up to one tick late, never early.
"""

from __future__ import annotations

import sys
from math import ceil
from typing import Protocol


class Timed(Protocol):
    """What the wheel carries."""

    #: Bucket the wheel has put this in; the wheel's own.
    wheel_slot: int

    def on_deadline(self, now: float) -> None:
        """``now`` (monotonic seconds) has reached the deadline. The entry is out of the wheel."""


#: ``wheel_slot`` of something that is not in the wheel.
UNSCHEDULED = -1


class TimingWheel:
    def __init__(self, tick_s: float) -> None:
        self.tick_s = tick_s
        self._buckets: dict[int, set[Timed]] = {}

    def schedule(self, entry: Timed, deadline: float) -> None:
        """Put ``entry`` at ``deadline`` (monotonic seconds), wherever it was before."""
        slot = ceil(deadline / self.tick_s)
        if slot == entry.wheel_slot:
            return
        if entry.wheel_slot != UNSCHEDULED:
            self.cancel(entry)
        entry.wheel_slot = slot
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = {entry}
        else:
            bucket.add(entry)

    def cancel(self, entry: Timed) -> None:
        """Take ``entry`` out, if it is in."""
        slot = entry.wheel_slot
        if slot == UNSCHEDULED:
            return
        entry.wheel_slot = UNSCHEDULED
        bucket = self._buckets.get(slot)
        if bucket is not None:
            bucket.discard(entry)
            if not bucket:
                del self._buckets[slot]

    def next_deadline(self) -> float | None:
        """When ``advance`` should be called next (monotonic seconds); None while the wheel is empty."""
        return min(self._buckets) * self.tick_s if self._buckets else None

    def advance(self, now: float, at_most: int = sys.maxsize) -> list[Timed]:
        """Take out what is due at ``now``, earliest bucket first. The caller runs ``on_deadline`` of each.

        Of more than ``at_most`` entries the others stay in the wheel, due still, for the next call.
        """
        due: list[Timed] = []
        for slot in sorted(slot for slot in self._buckets if slot * self.tick_s <= now):
            bucket = self._buckets[slot]
            while bucket and len(due) < at_most:
                entry = bucket.pop()
                entry.wheel_slot = UNSCHEDULED
                due.append(entry)
            if bucket:
                break
            del self._buckets[slot]
        return due
