"""Writing what waits for many sessions.

After a broadcast most of them wait for the same run, and after events for an ack, and nearly every socket takes it at
once: those are served together, in one call, without asking each session and each transport. The others flush as
they would one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from . import reasons
from .outbound import DeflateForm, Run
from .session import Session
from .socket_writer import NO_FD, SocketWriter, send_each
from .websocket import WebSocketPort

logger = logging.getLogger("tidegate.flushing")

#: Sockets served in one call, in which no other thread runs.
PORTION: Final = 256


def flush_sessions(sessions: Iterable[Session]) -> None:
    """Flush all of them. A connection that cannot be written to costs its own session and no other."""
    others = []
    writers: list[SocketWriter] = []
    fds: list[int] = []
    forms: list[bytes] = []
    last: Run | None = None  # with its form, which the next session is likely to need too
    deflate: DeflateForm | None = None
    data = b""
    for session in sessions:
        session.is_queued = False
        run, port = session.run, session.port
        if type(port) is WebSocketPort and port.direct_fd != NO_FD and run is not None and session.is_plain():
            if run is not last or port.deflate is not deflate:
                try:
                    data = run.frames if port.deflate is None else run.deflated_frames(port.deflate)
                except Exception:  # noqa: BLE001 - met once more, and logged, below
                    others.append(session)
                    continue
                last, deflate = run, port.deflate
            session.run = None
            writers.append(port)
            fds.append(port.direct_fd)
            forms.append(data)
            if len(fds) >= PORTION:
                send_each(writers, fds, forms)
                writers, fds, forms = [], [], []
        elif run is not None or session.conflated is not None or session.replay is not None:
            others.append(session)
    # Before any of the others: their flushes may call out, and what is sent then must not overtake this.
    send_each(writers, fds, forms)
    for session in others:
        try:
            session.flush()
        except Exception:  # one client's connection must not keep the others from theirs
            logger.exception("writing to session %s failed", session.id)
            session.close(reasons.TRANSPORT_ERROR)
