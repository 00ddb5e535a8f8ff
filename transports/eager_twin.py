"""Coroutines that begin at once, and cost a task only where they suspend.

asyncio's eager tasks come with Python 3.12, and make a task for each coroutine all the same. Here a coroutine takes
its first step inside of one spare task, which is the current one meanwhile; only a coroutine that suspends takes the
task with it::

    begin ── first step, the spare task current ──► ends: the task stays spare
                                                └─► suspends: the task carries it on, to its end
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final

#: By which the spare task is known among all tasks of a loop, and one that carries a coroutine on.
SPARE_TASK_NAME: Final = "tidegate-spare"
CARRYING_TASK_NAME: Final = "tidegate-handler"


class EagerStarter:
    """Begins coroutines on ``loop``."""

    __slots__ = ("_loop", "_spare")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: _Carrier | None = None

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run ``coroutine`` up to where it first suspends, in a copy of the current context.

        Returns its result, or ``Suspended`` where it has not ended: the caller must have it carried on.
        Call it in the loop's thread, inside of a task or outside. Raises: what the coroutine raises.
        """
        loop = self._loop
        spare = self._spare
        if spare is None or not spare.is_free():
            spare = _Carrier(loop)
        self._spare = None  # what begins inside of this has another
        context = copy_context()
        task = spare.task
        outer = asyncio.current_task(loop)
        if outer is not None:
            _leave_task(loop, outer)
        _enter_task(loop, task)
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration as ended:
            self._put_back(spare)
            return ended.value
        except BaseException:
            self._put_back(spare)
            raise
        finally:
            _leave_task(loop, task)
            if outer is not None:
                _enter_task(loop, outer)
        return Suspended(coroutine, context, waits_for, spare)

    def _put_back(self, spare: _Carrier) -> None:
        if self._spare is None:
            self._spare = spare
        else:
            spare.task.cancel()

    def close(self) -> None:
        """Let go of the spare task."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.task.cancel()


class Suspended:
    """A coroutine that has begun and not ended. Await it, once, in the coroutine given to ``carry``."""

    __slots__ = ("_carrier", "_context", "_coroutine", "_waits_for")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], context: Context, waits_for: Any, carrier: _Carrier
    ) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for
        self._carrier: _Carrier | None = carrier

    def carry(self, outer: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have the task in which this has begun run ``outer``, which awaits it first of all.

        Whoever calls this holds the task until it is done.
        """
        carrier, self._carrier = self._carrier, None
        if carrier is None:
            raise RuntimeError("it is carried on already")
        carrier.carry(outer, self._context)
        return carrier.task

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - for the coroutine, whatever it is
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(sent)
        except StopIteration as ended:
            return ended.value


class _Carrier(Coroutine[Any, Any, None]):
    """What a task runs that waits for a coroutine to carry on, and then carries it on.

    A coroutine itself, since a task steps nothing else, and written out, since a native one that is cancelled before
    its first step never takes it.
    """

    __slots__ = ("_context", "_coroutine", "_has_begun", "_loop", "_wake", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wake: asyncio.Future[None] | None = None  # what the task waits for, spare
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._context: Context | None = None
        self._has_begun = False
        self.task = loop.create_task(self, name=SPARE_TASK_NAME)
        # A loop that is closed with nothing but this one pending has nothing to complain of.
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]

    def is_free(self) -> bool:
        """Whether it can carry something. What has begun in it, and ended, may have cancelled the task, or want to
        be told of its end.
        """
        task = self.task
        if task.cancelling() or (self._wake is not None and self._wake.done()):
            return False
        if task._callbacks:
            self._finish()
            return False
        return True

    def carry(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        """Run ``coroutine`` in ``context``; it begins with what is suspended."""
        self._coroutine = coroutine
        self._context = context
        self.task.set_name(CARRYING_TASK_NAME)
        self.task._log_destroy_pending = True  # type: ignore[attr-defined]
        self._wake_up()

    def _finish(self) -> None:
        self._has_begun = True
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- for the task ----------------------------------------------------------------------------------

    def send(self, value: Any) -> Any:
        coroutine, context = self._coroutine, self._context
        if coroutine is None or context is None:
            if self._has_begun:
                raise StopIteration
            self._wake = self._loop.create_future()
            return self._wake.__await__().send(None)
        sent = value if self._has_begun else None
        self._has_begun = True
        return self._step(context, coroutine.send, sent)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        coroutine, context = self._coroutine, self._context
        if coroutine is None or context is None:
            raise error
        if not self._has_begun:
            self.send(None)
        return self._step(context, coroutine.throw, error)

    def _step(self, context: Context, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            return context.run(step, value)
        except BaseException:
            # It has ended: no cycle of carrier and task is left for the collector.
            self._coroutine = self._context = self._wake = None
            del self.task
            raise

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("a task runs this; nobody else awaits it")
