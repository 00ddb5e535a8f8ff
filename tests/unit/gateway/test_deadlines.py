"""Futures with a deadline, and the one timer for all of them."""

from __future__ import annotations

import asyncio

import pytest

from gateway.brokers.deadlines import Deadlines


async def failed_of(futures: list[asyncio.Future[None]]) -> list[bool]:
    return [isinstance(found, TimeoutError) for found in await asyncio.gather(*futures, return_exceptions=True)]


async def test_those_that_are_not_done_raise_at_their_deadline_in_turn() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    now = loop.time()
    futures = [loop.create_future() for _ in range(4)]
    ended: list[int] = []
    for number, future in enumerate(futures):
        deadlines.add(now + 0.01 * (number + 1), future)
        future.add_done_callback(lambda _, number=number: ended.append(number))
    futures[1].set_result(None)
    assert await failed_of(futures) == [True, False, True, True]
    assert ended == [1, 0, 2, 3]


async def test_one_that_is_added_with_an_earlier_deadline_has_its_own() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    late, early = loop.create_future(), loop.create_future()
    deadlines.add(loop.time() + 3600, late)
    deadlines.add(loop.time(), early)
    with pytest.raises(TimeoutError):
        await early
    assert not late.done()
    late.set_result(None)
    deadlines.close()


async def test_what_is_done_is_forgotten_and_the_end_leaves_no_timer() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    for _ in range(1000):
        future = loop.create_future()
        deadlines.add(loop.time() + 3600, future)
        future.set_result(None)
    assert len(deadlines._waiting) == 1
    deadlines.close()
    assert deadlines._timer is None


async def test_the_end_takes_no_deadline_from_those_that_wait() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    future = loop.create_future()
    deadlines.add(loop.time() + 0.01, future)
    deadlines.close()
    with pytest.raises(TimeoutError):
        await future
