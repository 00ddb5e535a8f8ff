"""Writing what waits for many sessions at the end of a turn of the loop.

After a broadcast most of them wait for the same run, and their sockets take it at once: those are served together,
without asking each session and each transport. The others flush as they would one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from . import reasons
from .outbound import DeflateForm, Run
from .session import Session
from .socket_writer import NO_FD, send_each
from .websocket import WebSocketPort

logger = logging.getLogger("tidegate.flushing")

#: Sockets served in one call, in which no other thread runs.
PORTION: Final = 256


class _Portion:
    """Ports that are to write the same bytes."""

    __slots__ = ("fds", "form", "ports", "run")

    def __init__(self, run: Run, form: DeflateForm | None) -> None:
        self.run = run
        self.form = form
        self.ports: list[WebSocketPort] = []
        self.fds: list[int] = []

    def write(self) -> None:
        run, form = self.run, self.form
        send_each(self.ports, self.fds, run.frames if form is None else run.deflated_frames(form))


def flush_sessions(sessions: Iterable[Session]) -> None:
    """Flush all of them. A connection that cannot be written to costs its own session and no other."""
    others = []
    portion: _Portion | None = None
    for session in sessions:
        session.is_queued = False
        run, port = session.run, session.port
        if type(port) is WebSocketPort and port.direct_fd != NO_FD and run is not None and session.is_plain():
            form = port.deflate
            if portion is None or portion.run is not run or portion.form is not form or len(portion.fds) >= PORTION:
                if portion is not None:
                    portion.write()
                portion = _Portion(run, form)
            session.run = None
            portion.ports.append(port)
            portion.fds.append(port.direct_fd)
        elif run is not None or session.conflated is not None:
            others.append(session)
    # Before any of the others: their flushes may call out, and what is sent then must not overtake this.
    if portion is not None:
        portion.write()
    for session in others:
        flush(session)


def flush(session: Session) -> None:
    """Flush one session; an error ends it."""
    try:
        session.flush()
    except Exception:  # one client's connection must not keep the others from theirs
        logger.exception("writing to session %s failed", session.id)
        session.close(reasons.TRANSPORT_ERROR)
