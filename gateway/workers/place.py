"""What one of the workers fills: one at a time, or two while one replaces the other."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from .process import WorkerProcess, WorkerState
from .restarts import RestartDelays

#: How long a worker may be silent until others accept in its place.
SILENT_S: Final = 4.0


class Place:
    """``index``: from 0."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.workers: list[WorkerProcess] = []
        self.delays = RestartDelays()
        #: Set while a worker is to be started after a while.
        self.restart: asyncio.Task[None] | None = None

    @property
    def is_filled(self) -> bool:
        """Whether a worker serves here, or is about to."""
        return self.restart is not None or any(
            worker.state in (WorkerState.STARTING, WorkerState.READY) for worker in self.workers
        )

    def ready(self, now: float) -> WorkerProcess | None:
        """The newest that serves."""
        for worker in reversed(self.workers):
            if worker.is_responsive(now, SILENT_S):
                return worker
        return None

    def rows(self, now: float) -> list[dict[str, Any]]:
        """What the status says of its workers."""
        return [
            {
                "index": self.index,
                "pid": worker.pid,
                "id": worker.id,
                "state": str(worker.state),
                "restarts": self.delays.count,
                "age_s": round(now - worker.started_at, 1),
                "accepts": worker.accepts,
                **worker.report,
            }
            for worker in self.workers
        ]
