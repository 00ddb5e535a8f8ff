"""Acks of a broadcast, gathered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .members import PendingAck


@dataclass(frozen=True, slots=True)
class BroadcastAnswers:
    """``answers``: what each client said, by sid: one value, a tuple of several, None for none.

    ``missing``: the sids of those who did not answer in time or disconnected.
    """

    answers: dict[str, Any]
    missing: list[str]


def as_answer(values: tuple[Any, ...]) -> Any:
    """An ack's values as ``Server.call`` returns them."""
    return values if len(values) > 1 else values[0] if values else None


class Gathering:
    """Waits for the acks of a fixed set of clients."""

    def __init__(self, sids: Iterable[str]) -> None:
        self._answers: dict[str, Any] = {}
        self._sids = list(sids)
        self._awaited = set(self._sids)
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._awaited:
            self._complete.set_result(None)

    def pending(self, sid: str) -> PendingAck:
        """What to register for this client's ack."""

        def answered(*values: Any) -> None:
            if sid in self._awaited:
                self._answers[sid] = as_answer(values)
            self._settle(sid)

        return PendingAck(answered, lambda: self._settle(sid))

    def _settle(self, sid: str) -> None:
        self._awaited.discard(sid)
        if not self._awaited and not self._complete.done():
            self._complete.set_result(None)

    async def wait(self, timeout_s: float) -> BroadcastAnswers:
        """The answers there are once all are in, or after ``timeout_s``."""
        await asyncio.wait((self._complete,), timeout=timeout_s)
        self._awaited.clear()
        return BroadcastAnswers(self._answers, [sid for sid in self._sids if sid not in self._answers])
