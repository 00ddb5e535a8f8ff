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
    ``missing_nodes``: the ids of nodes of the cluster that did not say in time which of their clients were asked.
    """

    answers: dict[str, Any]
    missing: list[str]
    missing_nodes: tuple[str, ...] = ()


def as_answer(values: tuple[Any, ...]) -> Any:
    """An ack's values as ``Server.call`` returns them."""
    return values if len(values) > 1 else values[0] if values else None


class Gathering:
    """Waits for the acks of a set of clients. ``is_open``: more clients may be added until ``close``."""

    def __init__(self, sids: Iterable[str], *, is_open: bool = False) -> None:
        self._answers: dict[str, Any] = {}
        self._sids = list(sids)
        self._awaited = set(self._sids)
        self._is_open = is_open
        #: Settled before they were added: an ack may come sooner than the list of who was asked.
        self._early: dict[str, tuple[Any, ...] | None] = {}
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._look()

    def pending(self, sid: str) -> PendingAck:
        """What to register for this client's ack."""
        return PendingAck(lambda *values: self.settle(sid, values), lambda: self.settle(sid, None))

    def settle(self, sid: str, values: tuple[Any, ...] | None) -> None:
        """The client has answered, or with None will not."""
        if sid in self._awaited:
            if values is not None:
                self._answers[sid] = as_answer(values)
            self._awaited.discard(sid)
            self._look()
        elif self._is_open and sid not in self._early:
            self._early[sid] = values

    def add(self, sids: Iterable[str]) -> None:
        """These have been asked too."""
        for sid in sids:
            self._sids.append(sid)
            self._awaited.add(sid)
            if sid in self._early:
                self.settle(sid, self._early[sid])

    def give_up(self, sids_begin_with: str) -> None:
        """Those will not answer any more."""
        for sid in [sid for sid in self._awaited if sid.startswith(sids_begin_with)]:
            self.settle(sid, None)

    def close(self) -> None:
        """All who were asked have been added."""
        self._is_open = False
        self._early.clear()
        self._look()

    def _look(self) -> None:
        if not self._awaited and not self._is_open and not self._complete.done():
            self._complete.set_result(None)

    async def wait(self, timeout_s: float, missing_nodes: tuple[str, ...] = ()) -> BroadcastAnswers:
        """The answers there are once all are in, or after ``timeout_s``."""
        await asyncio.wait((self._complete,), timeout=timeout_s)
        self._awaited.clear()
        missing = [sid for sid in self._sids if sid not in self._answers]
        return BroadcastAnswers(self._answers, missing, missing_nodes)
