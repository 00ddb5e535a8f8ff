"""One log line for each kind of refusal and peer, however often it is repeated.

Whoever attacks a gateway must not be able to fill its disk, or to hide among its own noise: within a window each
kind is written once for each peer, up to a number of lines; the rest is counted and summed up in one line when the
next window begins. A refusal is the peer's fault or its bad luck, so there is never a traceback.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from .refusals import Refusal

logger = logging.getLogger("tidegate.refusals")

WINDOW_S: Final = 60.0
MAX_LINES: Final = 200
#: Characters of a message: it may quote the peer.
MAX_LENGTH: Final = 300


class RefusalLog:
    """Not a ``logging.Filter``, so that a refusal that is not written costs one look into a set."""

    __slots__ = ("_left_out", "_max_lines", "_window_ends", "_window_s", "_written")

    def __init__(self, window_s: float = WINDOW_S, max_lines: int = MAX_LINES) -> None:
        self._window_s = window_s
        self._max_lines = max_lines
        self._window_ends = 0.0
        self._written: set[tuple[str, str]] = set()
        self._left_out: Counter[str] = Counter()

    def note(self, refusal: Refusal, message: str, peer: str, now: float, session_id: str = "") -> None:
        """Write the refusal, or count it where one like it was written already. ``now``: monotonic seconds."""
        if now >= self._window_ends:
            self._begin_window(now)
        key = (refusal.name, peer)
        if key in self._written or len(self._written) >= self._max_lines:
            self._left_out[refusal.name] += 1
            return
        self._written.add(key)
        logger.log(
            refusal.level,
            "refused %s from %s: %s",
            refusal.name,
            printable(peer) or "an unknown address",
            printable(message),
            extra={"session": session_id} if session_id else None,
        )

    def _begin_window(self, now: float) -> None:
        if self._left_out:
            logger.info(
                "not written one by one in the last window: %s",
                ", ".join(f"{name} {count} times" for name, count in self._left_out.most_common()),
            )
        self._window_ends = now + self._window_s
        self._written.clear()
        self._left_out.clear()


def printable(text: str) -> str:
    """``text`` on one line and of bounded length, whatever the peer has put into it."""
    if len(text) > MAX_LENGTH:
        text = text[:MAX_LENGTH] + "..."
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])
