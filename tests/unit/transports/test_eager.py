"""Coroutines that begin at once: what they see of asyncio is what they would see in a task of their own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar
from typing import Any

import pytest

from transports import eager, eager_twin
from transports.eager_twin import CARRYING_TASK_NAME, SPARE_TASK_NAME, EagerStarter

where: ContextVar[str] = ContextVar("where", default="outside")


@pytest.fixture(params=[eager_twin, eager], ids=["python", "in use"])
async def starter(request: pytest.FixtureRequest) -> AsyncIterator[EagerStarter]:
    starter: EagerStarter = request.param.EagerStarter(asyncio.get_running_loop())
    yield starter
    starter.close()


def carried(begun: Any) -> asyncio.Task[Any]:
    """The task of a coroutine that has suspended; its result is the coroutine's."""
    assert type(begun) in (eager_twin.Suspended, eager.Suspended)

    results: list[Any] = []

    async def wait() -> None:
        results.append(await begun)

    task = begun.carry(wait())

    async def result() -> Any:
        await task
        return results[0]

    return asyncio.get_running_loop().create_task(result())


async def test_what_ends_at_once_has_ended_when_begin_returns(starter: EagerStarter) -> None:
    async def handler() -> str:
        return "done"

    assert starter.begin(handler()) == "done"


async def test_what_it_raises_at_once_is_raised_by_begin(starter: EagerStarter) -> None:
    async def handler() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        starter.begin(handler())


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_what_suspends_goes_on(starter: EagerStarter, turns: int) -> None:
    """Also where the spare task has not had its own first step yet (no turns of the loop before)."""
    starter.begin(returns(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    seen = []

    async def handler() -> str:
        seen.append("begun")
        await asyncio.sleep(0)
        seen.append("after a turn")
        await asyncio.sleep(0.001)
        return "done"

    task = carried(starter.begin(handler()))
    assert seen == ["begun"]
    assert await task == "done"


async def returns(value: Any) -> Any:
    return value


async def test_what_it_raises_later_comes_out_of_the_await(starter: EagerStarter) -> None:
    async def handler() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await carried(starter.begin(handler()))


async def test_it_runs_in_one_task_throughout(starter: EagerStarter) -> None:
    tasks = []

    async def handler() -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    me = asyncio.current_task()
    begun = starter.begin(handler())
    assert asyncio.current_task() is me
    await carried(begun)
    assert isinstance(tasks[0], asyncio.Task)
    assert tasks[0] is tasks[1] is not me


async def test_its_task_is_named_for_what_it_does(starter: EagerStarter) -> None:
    before = asyncio.all_tasks()

    async def handler() -> None:
        await asyncio.sleep(0)

    begun = starter.begin(handler())
    [task] = asyncio.all_tasks() - before
    assert task.get_name() == SPARE_TASK_NAME
    ended = carried(begun)
    assert task.get_name() == CARRYING_TASK_NAME
    await ended


@pytest.mark.parametrize("value", [None, (), ("a", "b"), StopAsyncIteration()])
async def test_whatever_it_returns_comes_out(starter: EagerStarter, value: Any) -> None:
    """A tuple is not taken for the arguments of StopIteration, nor an exception for being raised."""
    assert starter.begin(returns(value)) is value
    assert await carried(starter.begin(waits(asyncio.sleep(0, value)))) is value


async def test_it_is_carried_on_once(starter: EagerStarter) -> None:
    begun = starter.begin(waits(asyncio.sleep(0)))
    ended = carried(begun)
    with pytest.raises(RuntimeError, match="carried on already"):
        begun.carry(again := waits(begun))
    again.close()
    await ended


async def test_nothing_keeps_what_has_ended(starter: EagerStarter) -> None:
    class Big:
        pass

    async def handler(big: Big) -> None:
        await asyncio.sleep(0)

    big = Big()
    gone = weakref.ref(big)
    ended = carried(starter.begin(handler(big)))
    del big
    await ended
    del ended
    gc.collect()
    assert gone() is None


async def test_what_has_ended_is_freed_without_the_collector(starter: EagerStarter) -> None:
    """Or a burst of handlers that suspend would leave as many cycles of tasks and contexts."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    async def swallows(begun: Any) -> None:
        with contextlib.suppress(LookupError):
            await begun

    gc.collect()
    gc.disable()
    try:
        tasks = weakref.WeakSet[asyncio.Task[Any]]()
        for coroutine in (waits(asyncio.sleep(0)), fails()):
            begun = starter.begin(coroutine)
            task = begun.carry(swallows(begun))
            tasks.add(task)
            await asyncio.wait((task,))
        cancelled = starter.begin(waits(asyncio.sleep(60)))
        task = cancelled.carry(waits(cancelled))
        tasks.add(task)
        task.cancel()
        await asyncio.wait((task,))
        del begun, cancelled, task, coroutine
        await asyncio.sleep(0)
        assert len(tasks) == 0
    finally:
        gc.enable()


async def test_outside_of_any_task_none_is_current_afterwards(starter: EagerStarter) -> None:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Any] = loop.create_future()

    async def handler() -> Any:
        return asyncio.current_task()

    def from_a_callback() -> None:
        found.set_result((starter.begin(handler()), asyncio.current_task()))

    loop.call_soon(from_a_callback)
    inside, after = await found
    assert isinstance(inside, asyncio.Task)
    assert after is None


async def test_no_task_is_made_for_what_ends_at_once(starter: EagerStarter) -> None:
    starter.begin(returns(1))
    before = asyncio.all_tasks()
    for number in range(100):
        assert starter.begin(returns(number)) == number
    assert asyncio.all_tasks() == before


async def test_each_has_a_context_of_its_own(starter: EagerStarter) -> None:
    async def sets(place: str) -> str:
        where.set(place)
        await asyncio.sleep(0)
        return where.get()

    async def sets_at_once() -> None:
        where.set("at once")

    async def reads() -> str:
        return where.get()

    first, second = carried(starter.begin(sets("first"))), carried(starter.begin(sets("second")))
    starter.begin(sets_at_once())
    assert starter.begin(reads()) == "outside"
    assert [await first, await second] == ["first", "second"]
    where.set("here")
    assert starter.begin(reads()) == "here"


async def test_a_timeout_in_it_works(starter: EagerStarter) -> None:
    async def handler() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    assert await carried(starter.begin(handler())) == "timed out"


async def test_a_timeout_that_is_not_reached_leaves_the_spare_task_fit(starter: EagerStarter) -> None:
    async def handler() -> str:
        async with asyncio.timeout(0.0005):
            return "in time"

    assert starter.begin(handler()) == "in time"
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(0.002, fired.set)
    await fired.wait()
    assert await carried(starter.begin(waits(asyncio.sleep(0, "next")))) == "next"


async def waits(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.mark.parametrize("turns", [0, 2])
async def test_one_that_cancels_its_task_and_ends_does_not_cancel_the_next(starter: EagerStarter, turns: int) -> None:
    async def cancels() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done all the same"

    starter.begin(returns(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert starter.begin(cancels()) == "done all the same"
    assert await carried(starter.begin(waits(asyncio.sleep(0, "untouched")))) == "untouched"


@pytest.mark.parametrize("turns", [0, 2])
async def test_one_that_cancels_its_task_and_suspends_is_cancelled_there(starter: EagerStarter, turns: int) -> None:
    seen = []

    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    starter.begin(returns(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    begun = starter.begin(cancels())
    task = begun.carry(waits(begun))
    await asyncio.wait((task,))
    assert task.cancelled()
    assert seen == ["cancelled"]


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_its_task_can_be_cancelled_from_outside(starter: EagerStarter, turns: int) -> None:
    """Before the task has taken its first step, too: then a native coroutine would never begin, nor clean up."""
    seen = []

    async def handler() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cleaned up")

    async def outer(begun: Awaitable[Any]) -> None:
        try:
            await begun
        finally:
            seen.append("accounted for")

    begun = starter.begin(handler())
    task = begun.carry(outer(begun))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert seen == ["cleaned up", "accounted for"]


async def test_who_waits_for_its_task_to_end_is_told(starter: EagerStarter) -> None:
    ended = asyncio.Event()

    async def handler() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: ended.set())

    starter.begin(handler())
    starter.begin(returns(1))
    await ended.wait()


async def test_one_may_begin_inside_of_another(starter: EagerStarter) -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return "inner"

    async def outer() -> list[Any]:
        begun = [starter.begin(returns("at once")), starter.begin(inner())]
        task = carried(begun[1])
        await asyncio.sleep(0)
        return [begun[0], await task, asyncio.current_task()]

    begun = starter.begin(outer())
    first, second, task = await carried(begun)
    assert (first, second) == ("at once", "inner")
    assert isinstance(task, asyncio.Task)


async def test_what_is_never_carried_on_is_closed(starter: EagerStarter) -> None:
    seen = []

    async def handler() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("closed")

    starter.begin(handler())
    gc.collect()
    assert seen == ["closed"]


async def test_closing_leaves_no_task(starter: EagerStarter) -> None:
    before = asyncio.all_tasks()
    other = type(starter)(asyncio.get_running_loop())
    other.begin(returns(1))
    left = asyncio.all_tasks() - before
    assert len(left) == 1
    other.close()
    await asyncio.wait(left)
    assert other.begin(returns(2)) == 2
    other.close()


def test_a_loop_that_is_closed_before_it_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        EagerStarter(asyncio.get_running_loop()).begin(returns(1))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert not caplog.records
