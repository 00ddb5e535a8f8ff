"""The supervisor: binds the sockets once, and keeps workers on them.

It serves no client and loads no application, so little can go wrong with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.settings import Settings
from transports.peers.registry import parse_address

from . import report, runtime_dir
from .control import ControlServer
from .listening import bind, name_of
from .notify import Notifier, inherited_sockets
from .place import SILENT_S, Place
from .process import WorkerProcess, WorkerState
from .worker import BAD_CONFIGURATION, FAILED

logger = logging.getLogger("tidegate.supervisor")

#: How often workers are asked for a report.
REPORT_EVERY_S: Final = 1.0
#: Beyond its time for draining, before a worker is killed.
EXTRA_S: Final = 5.0


class Supervisor:
    """``argv``: the command line, which each worker reads again, with the environment and the file of that time."""

    def __init__(self, settings: Settings, argv: Sequence[str]) -> None:
        self._settings = settings
        self._argv = argv
        self._notifier = Notifier(os.environ)
        self._places = [Place(index) for index in range(settings.worker_count)]
        self._sockets: list[list[socket.socket]] = []
        self._cluster: list[socket.socket] = []
        self._directory: Path
        self._state = "starting"
        self._ended_totals: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop = asyncio.Event()
        #: Set by a SIGHUP that comes while workers are started or replaced.
        self._reload_again = False
        self._reloading: asyncio.Task[None] | None = None
        self._exit_code = 0

    async def run(self) -> int:
        """Until SIGTERM or SIGINT has been drained; the exit code. Raises: OSError, RuntimeDirError."""
        settings = self._settings
        inherited = inherited_sockets(os.environ)
        if inherited:
            self._sockets = [inherited]
        else:
            self._sockets = bind(settings.host, settings.port, len(self._places), settings.backlog, defers=True)
        if settings.cluster_listen is not None:
            self._cluster = bind(*parse_address(settings.cluster_listen), 1, settings.backlog)[0]
        self._directory = runtime_dir.create(runtime_dir.base(settings.runtime_dir, os.environ))
        control = ControlServer(self._directory, self.status)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        try:
            await control.start()
            if await self._start_all():
                self._state = "running"
                for worker in self._all():
                    worker.heard_at = time.monotonic()  # nobody has asked the early ones meanwhile
                self._assign()  # only now, so that clients which wait are spread over all
                self._tell_ready()
                scheme = "https" if settings.certfile is not None else "http"
                logger.info(
                    "Running on %s with %d workers",
                    ", ".join(f"{scheme}://{name_of(sock)}" for sock in self._sockets[0]),
                    len(self._places),
                )
                self._run_task(self._watch())
                if self._reload_again:
                    self._asked_to_reload()
                await self._stop.wait()
            await self._drain_all()
        finally:
            for task in self._tasks:
                task.cancel()
            for worker in self._all():
                worker.kill()
            await control.close()
            shutil.rmtree(self._directory, ignore_errors=True)
        return self._exit_code

    # -- starting ----------------------------------------------------------------------------------------

    async def _start_all(self) -> bool:
        """Whether all workers serve. They start at once; with the first that does not, the others end too."""
        for place in self._places:
            await self._start(place)
            if self._stop.is_set():
                return False
        await asyncio.gather(*(self._settle(worker) for worker in self._all()))
        return not self._stop.is_set()

    async def _start(self, place: Place) -> WorkerProcess | None:
        """None where there can be no process, which has been said."""
        worker = WorkerProcess(place.index)
        place.workers.append(worker)
        try:
            await worker.start(self._argv, self._directory, self._sockets, self._cluster)
        except OSError as error:
            place.workers.remove(worker)
            logger.error("there can be no process for worker %d: %s", place.index, error)  # noqa: TRY400 - not ours
            if self._state == "starting":
                self._exit_code = FAILED
                self._stop.set()
            self._fill(place, 0.0)
            return None
        self._run_task(self._attend(place, worker))
        logger.info("worker %d starts", place.index, extra={"worker": worker.id, "pid": worker.pid})
        if self._stop.is_set():
            worker.drain(())  # all others have been told meanwhile
        return worker

    async def _settle(self, worker: WorkerProcess) -> None:
        """Wait until the worker serves or has ended; one that takes too long is ended."""
        stopping = asyncio.ensure_future(self._stop.wait())
        settled = asyncio.ensure_future(worker.settled.wait())
        limit_s = self._settings.worker_timeout_s or None
        await asyncio.wait((settled, stopping), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not settled.done() and not stopping.done():
            logger.error("worker %d did not start within %gs", worker.index, self._settings.worker_timeout_s)
            worker.kill()
            await asyncio.wait((settled, stopping), return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        stopping.cancel()

    async def _attend(self, place: Place, worker: WorkerProcess) -> None:
        """Until it has ended, and then see to its successor."""
        code = await worker.listen(self._assign)
        place.workers.remove(worker)
        self._ended_totals = report.add(self._ended_totals, worker.report, levels=False)
        (self._directory / f"{worker.id}.sock").unlink(missing_ok=True)
        if self._state == "starting" and not self._stop.is_set():
            self._refuse_to_start(worker, code)
        elif code == 0:
            _log(logging.INFO, worker, f"worker {place.index} has ended")
        else:
            # Who was ended before it served; and where none can start all fail alike, and one has been heard.
            level = logging.DEBUG if self._stop.is_set() and not worker.ready_at else logging.ERROR
            _log(level, worker, f"worker {place.index} ended with {_said(code)}")
        self._fill(place, worker.lived_s() if code else 0.0)

    def _fill(self, place: Place, lived_s: float) -> None:
        """See to it that the place, whose worker has been ready for ``lived_s``, gets another."""
        if self._state == "starting" or self._stop.is_set() or place.is_filled:
            return
        delay_s = place.delays.died(lived_s)
        if delay_s:
            logger.warning("worker %d is started again in %gs", place.index, delay_s)
        place.restart = self._run_task(self._start_again(place, delay_s))

    def _refuse_to_start(self, worker: WorkerProcess, code: int) -> None:
        self._exit_code = BAD_CONFIGURATION if code == BAD_CONFIGURATION else FAILED
        what = "the configuration is refused" if code == BAD_CONFIGURATION else "the application does not start"
        _log(logging.ERROR, worker, f"{what}: worker {worker.index} ended with {_said(code)}; nothing is served")
        self._stop.set()

    async def _start_again(self, place: Place, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        place.restart = None
        if not self._stop.is_set():
            worker = await self._start(place)
            if worker is not None:
                await self._settle(worker)

    # -- who accepts where ---------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Each socket is accepted from by the worker of its place, or while there is none by another."""
        if self._state == "starting" or self._stop.is_set():
            return
        now = time.monotonic()
        ready = [place.ready(now) for place in self._places]
        serving = [worker for worker in ready if worker is not None]
        if not serving:
            return  # connections wait with the kernel
        wanted: dict[str, list[int]] = {worker.id: [] for worker in serving}
        if len(self._sockets) == 1:
            wanted = {worker.id: [0] for worker in serving}
        else:
            for index in range(len(self._sockets)):
                worker = ready[index] or serving[index % len(serving)]
                wanted[worker.id].append(index)
        for worker in serving:  # these first, so that nobody stops before another has begun
            worker.accept(wanted[worker.id])
        for worker in self._all():
            if worker.id not in wanted and worker.state is not WorkerState.STARTING:
                worker.accept([])

    # -- watching ------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        period_s = REPORT_EVERY_S
        if self._notifier.watchdog_s is not None:
            period_s = min(period_s, self._notifier.watchdog_s / 3)
        while True:
            now = time.monotonic()
            is_served = False
            for worker in self._all():
                if worker.state is WorkerState.READY:
                    worker.ask()
                    is_served = is_served or worker.is_responsive(now, SILENT_S)
                    limit_s = self._settings.worker_timeout_s
                    if limit_s and now - worker.heard_at > max(limit_s, SILENT_S):
                        logger.error("worker %d has been held up for %gs, and is killed", worker.index, limit_s)
                        worker.kill()
            self._assign()
            if is_served:
                self._notifier.alive()
            await asyncio.sleep(period_s)

    # -- replacing -----------------------------------------------------------------------------------------

    def _asked_to_reload(self) -> None:
        if self._state == "starting" or self._reloading is not None:
            self._reload_again = True
            return
        if not self._stop.is_set():
            self._reloading = self._run_task(self._reload())

    async def _reload(self) -> None:
        self._state = "reloading"
        self._notifier.reloading()
        logger.info("SIGHUP: workers are replaced one by one")
        while True:
            self._reload_again = False
            for place in self._places:
                if not await self._replace(place):
                    break
            if not self._reload_again or self._stop.is_set():
                break
        self._reloading = None
        if not self._stop.is_set():
            self._state = "running"
            self._tell_ready()

    async def _replace(self, place: Place) -> bool:
        """Whether another worker has taken the place."""
        if place.restart is not None:
            return True  # whoever comes will be new anyway
        old = list(place.workers)
        new = await self._start(place)
        if new is not None:
            await self._settle(new)
        if self._stop.is_set():
            return False
        if new is None or new.state is not WorkerState.READY:
            logger.error("the new worker %d does not start; those that run go on as they are", place.index)
            return False
        self._assign()
        for worker in old:
            worker.drain([each.id for each in self._all() if each.state is WorkerState.READY])
        await self._await_end(old)
        return True

    async def _await_end(self, workers: Sequence[WorkerProcess]) -> None:
        if not workers:
            return
        await asyncio.wait([worker.ended for worker in workers], timeout=self._settings.drain_timeout_s + EXTRA_S)
        for worker in workers:
            if worker.state is not WorkerState.ENDED:
                logger.error("worker %d did not leave in time, and is killed", worker.index)
                worker.kill()

    # -- the end -------------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():  # somebody is in a hurry
            for worker in self._all():
                worker.kill()
        self._stop.set()

    async def _drain_all(self) -> None:
        self._state = "stopping"
        self._stop.set()
        self._notifier.stopping()
        for sock in (*self._cluster, *(sock for several in self._sockets for sock in several)):
            sock.close()
        workers = self._all()
        logger.info("stopping %d workers", len(workers))
        for worker in workers:
            worker.drain(())
        await self._await_end(workers)
        if workers:
            await asyncio.wait([worker.ended for worker in workers], timeout=EXTRA_S)

    # -- telling -------------------------------------------------------------------------------------------

    def _tell_ready(self) -> None:
        self._notifier.ready(f"{len(self._places)} workers")

    def status(self) -> dict[str, Any]:
        """What the control socket answers."""
        now = time.monotonic()
        total = self._ended_totals
        for worker in self._all():
            total = report.add({"sessions": 0, "memory_bytes": 0, **total}, worker.report, levels=True)
        return {
            "pid": os.getpid(),
            "state": self._state,
            "listening": [name_of(sock) for sock in self._sockets[0] if sock.fileno() >= 0],
            "cluster": [name_of(sock) for sock in self._cluster if sock.fileno() >= 0],
            "workers": [row for place in self._places for row in place.rows(now)],
            "total": total,
        }

    def _all(self) -> list[WorkerProcess]:
        return [worker for place in self._places for worker in place.workers]

    def _run_task(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended_task)
        return task

    def _ended_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the supervisor failed", exc_info=task.exception())
            self._exit_code = 1
            self._stop.set()


def _log(level: int, worker: WorkerProcess, message: str) -> None:
    """A line about a worker's end, and below it what the worker has said about that."""
    if logger.isEnabledFor(level):
        extra = {"worker": worker.id, "pid": worker.pid}
        record = logger.makeRecord(logger.name, level, __file__, 0, message, (), None, "_attend", extra)
        record.exc_text = worker.failure.rstrip() or None
        logger.handle(record)


def _said(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
