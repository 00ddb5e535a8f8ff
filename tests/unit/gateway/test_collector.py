"""The collector of a gateway's own process: what is set aside, and when it is looked through again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.collector import BURST, BurstWatch
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def collector_as_it_was() -> Iterator[None]:
    gc.collect()
    yield
    gc.unfreeze()
    gc.collect()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_burst_is_set_aside_and_looked_through_when_half_of_it_has_left() -> None:
    opened = are_open = 0
    watch = BurstWatch(lambda: opened, lambda: are_open)
    watch.look()
    frozen = gc.get_freeze_count()
    opened = are_open = BURST - 1
    watch.look()
    assert gc.get_freeze_count() == frozen, "too few to be a burst"

    cycle = Cycle()
    gone = weakref.ref(cycle)
    opened, are_open = 2 * BURST, 2 * BURST
    watch.look()
    assert gc.get_freeze_count() > frozen
    del cycle
    gc.collect()
    assert gone() is not None, "it was set aside"

    are_open = BURST
    watch.look()
    assert gone() is not None, "half of them are still there"
    are_open = BURST - 1
    watch.look()
    assert gone() is None
    assert gc.get_freeze_count() > frozen, "what is left is set aside again"


def test_few_clients_that_come_and_go_are_no_burst() -> None:
    opened = 0
    watch = BurstWatch(lambda: opened, lambda: 1)
    frozen = gc.get_freeze_count()
    for opened in range(0, 10 * BURST, BURST - 1):  # noqa: B007 - read by the watch
        watch.look()
    assert gc.get_freeze_count() == frozen


async def test_it_looks_on_the_running_loop_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.collector.LOOK_EVERY_S", 0.001)
    looks = 0

    def opened() -> int:
        nonlocal looks
        looks += 1
        return 0

    watch = BurstWatch(opened, lambda: 0)
    watch.start()
    await eventually(lambda: looks >= 3, "the third look")
    watch.stop()
    before = looks
    await eventually(lambda: True, "a turn of the loop")
    assert looks == before
