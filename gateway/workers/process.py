"""A worker as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import gateway
from transports.session_ids import draw_worker_id

from .channel import Channel
from .notify import VARIABLES
from .worker import FAILED, Instructions

logger = logging.getLogger("tidegate.supervisor")

#: For what a process that has ended has said to be read.
LAST_WORDS_S: Final = 0.5
#: For one that has said why it fails to end; threads and exit handlers of the application may keep it.
FAILED_S: Final = 5.0


class WorkerState(StrEnum):
    """``starting → ready → leaving → ended``."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    ENDED = "ended"


class WorkerProcess:
    """One process. ``index`` is the place that it fills, from 0."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = draw_worker_id()
        self.state = WorkerState.STARTING
        self.started_at = time.monotonic()
        self.ready_at = 0.0
        self.heard_at = self.started_at
        self.report: dict[str, Any] = {}
        #: Why it ended, in its own words; empty where it has not said.
        self.failure = ""
        #: Where it was last told to accept.
        self.accepts: list[int] = []
        #: 0 until it has one; before, it can be told nothing.
        self.pid = 0
        #: Its exit code, negative for a signal; set when it has ended.
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        #: Set when it serves, has ended, or is leaving.
        self.settled = asyncio.Event()
        self._process: asyncio.subprocess.Process
        self._channel: Channel

    async def start(
        self,
        argv: Sequence[str],
        directory: Path,
        sockets: Sequence[Sequence[socket.socket]],
        cluster: Sequence[socket.socket],
    ) -> None:
        """As a fresh interpreter, which has nothing of this one but the sockets.

        Raises: OSError where there can be no process; the worker has ended then.
        """
        places = [[sock.fileno() for sock in several] for several in sockets]
        internal = [sock.fileno() for sock in cluster]
        told: Instructions = {
            "worker_id": self.id,
            "index": self.index,
            "argv": list(argv),
            "directory": str(directory),
            "sockets": places,
            "cluster": internal,
        }
        try:
            self._process, sock = await _spawn([*internal, *(fd for several in places for fd in several)])
        except OSError:
            self._end(FAILED)
            raise
        self._channel = await Channel.over(sock)
        self.pid = self._process.pid
        self._channel.send(**json.loads(json.dumps(told)))

    async def listen(self, changed: Callable[[], None]) -> int:
        """Take in what it says until it has ended; its exit code. ``changed`` is called when its state is another."""
        reading = asyncio.get_running_loop().create_task(self._read(changed))
        try:
            code = await self._process.wait()
            # Children that it has forked may hold its end of the channel, and keep it open.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reading, LAST_WORDS_S)
        finally:
            reading.cancel()
        self._channel.close()
        self._end(code)
        changed()
        return code

    def _end(self, code: int) -> None:
        self.state = WorkerState.ENDED
        self.settled.set()
        self.ended.set_result(code)

    async def _read(self, changed: Callable[[], None]) -> None:
        async for message in self._channel.messages():
            self.heard_at = time.monotonic()
            if "report" in message:
                self.report = message["report"]
            elif "ready" in message:
                self.ready_at = self.heard_at
                self.state = WorkerState.READY
            elif "leaving" in message:
                self.state = WorkerState.LEAVING
            elif "failed" in message:
                self.failure = message["failed"]
                asyncio.get_running_loop().call_later(FAILED_S, self._end_failed)
                continue  # its end, which follows, is the news
            if "report" not in message:
                self.settled.set()
                changed()

    def accept(self, places: list[int]) -> None:
        if places != self.accepts:
            self.accepts = places
            self._channel.send(accept=places)

    def ask(self) -> None:
        """For a report."""
        self._channel.send(report=True)

    def drain(self, successors: Sequence[str]) -> None:
        """Let it leave; ``successors`` take its connections. One that is still starting has none, and just ends."""
        if self.pid and self.state is not WorkerState.ENDED:
            if self.state is WorkerState.STARTING:
                self._signal(signal.SIGTERM)
            self.state = WorkerState.LEAVING
            self._channel.send(drain=list(successors))

    def kill(self) -> None:
        if self.pid and self.state is not WorkerState.ENDED:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
            self._process.send_signal(number)

    def _end_failed(self) -> None:
        if self.state is not WorkerState.ENDED:
            logger.warning("worker %d has failed but does not end, and is killed", self.index)
            self.kill()

    def lived_s(self) -> float:
        """Since it was ready; 0 where it never was."""
        return time.monotonic() - self.ready_at if self.ready_at else 0.0

    def is_responsive(self, now: float, within_s: float) -> bool:
        """Whether it is ready and was heard of lately."""
        return self.state is WorkerState.READY and now - self.heard_at < within_s


async def _spawn(fds: Sequence[int]) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """The process of a worker that gets these descriptors, and our end of its channel. Raises: OSError."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *_interpreter_options(),
                "-m",
                "gateway.workers.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *fds],
                env={name: value for name, value in os.environ.items() if name not in VARIABLES},
                start_new_session=True,  # a terminal's signals are the supervisor's
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def _interpreter_options() -> list[str]:
    """A module in the working directory must not be taken for ours, unless ours is the one that lies there."""
    home = Path(gateway.__file__).parent.parent
    return [] if home == Path.cwd() else ["-P"]
