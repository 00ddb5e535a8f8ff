"""Acks between nodes: those that this node awaits of others' clients, and those that others await of its own.

A client's answer goes back to the node that asked, straight, together with what else goes there from the same turn of
the loop. An answer that cannot be carried, or whose node is out of reach for too long, is lost; it is counted, and who
waits for it has its deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .brokers.base import BrokerError
from .envelope import EnvelopeError, Message, MessageKind
from .members import PendingAck
from .node_messages import ACKS, ANSWERED, EXPIRED, GONE, decode_value, encode_value

logger = logging.getLogger("tidegate.cluster")

#: How long acks of other nodes' clients are awaited where the caller sets no time.
ACK_TIMEOUT_S: Final = 60.0
#: Of one message that carries acks; a longer ack goes alone.
_BATCH_BYTES: Final = 128 * 1024
#: Beyond the deadline, so that a client's answer of the last moment can travel.
_GRACE_S: Final = 2.0

#: Called with a sid, how it ended (``ANSWERED``, ``EXPIRED``, ``GONE``) and the values.
OnAck = Callable[[str, int, list[Any]], object]


class AckWanted(NamedTuple):
    """What the caller of ``emit`` wants of acks: ``callback`` for each, ``on_timeout`` for each that has not come."""

    callback: Callable[..., Any]
    timeout_s: float | None
    on_timeout: Callable[[], Any] | None


@dataclass(slots=True)
class _Awaited:
    on_ack: OnAck
    timer: asyncio.TimerHandle


class AckRelay:
    """Of one node. ``send(node_id, payload)`` carries a message to another; ``spawn`` runs it as a task."""

    def __init__(self, send: Callable[[str, bytes], Awaitable[None]], spawn: Callable[[Any], object]) -> None:
        self._send = send
        self._spawn = spawn
        self._references = itertools.count(1)
        self._awaited: dict[int, _Awaited] = {}
        self._outgoing: dict[str, list[bytes]] = {}
        #: Answers of this node's clients that did not get to who asked.
        self.lost = 0

    # -- awaited here ------------------------------------------------------------------------------------

    def expect(self, on_ack: OnAck, timeout_s: float, on_end: Callable[[], object] | None = None) -> int:
        """The reference under which other nodes will report. ``on_end``: called when the time is over."""
        reference = next(self._references)

        def end() -> None:
            if self._awaited.pop(reference, None) is not None and on_end is not None:
                on_end()

        # Where nobody is told of the end, an answer that was given in time may still come.
        delay_s = timeout_s if on_end is not None else timeout_s + _GRACE_S
        self._awaited[reference] = _Awaited(on_ack, asyncio.get_running_loop().call_later(delay_s, end))
        return reference

    def forget(self, reference: int) -> None:
        awaited = self._awaited.pop(reference, None)
        if awaited is not None:
            awaited.timer.cancel()

    def receive(self, entries: Any) -> None:
        """Another node reports. Raises: EnvelopeError."""
        if type(entries) is not list:
            raise EnvelopeError("acks are a list")
        for entry in entries:
            reference, sid, outcome, values = _read(entry)
            awaited = self._awaited.get(reference)
            if awaited is not None:
                awaited.on_ack(sid, outcome, values)

    def close(self) -> None:
        for reference in list(self._awaited):
            self.forget(reference)

    # -- awaited by others -------------------------------------------------------------------------------

    def pending(self, node_id: str, reference: int, sid: str) -> PendingAck:
        """What to register for the ack of a client that ``node_id`` waits for."""
        return PendingAck(
            lambda *values: self._report(node_id, reference, sid, ANSWERED, list(values)),
            lambda: self._report(node_id, reference, sid, GONE, []),
        )

    def expired(self, node_id: str, reference: int, sid: str) -> None:
        """The client has not answered in time."""
        self._report(node_id, reference, sid, EXPIRED, [])

    def _report(self, node_id: str, reference: int, sid: str, outcome: int, values: list[Any]) -> None:
        try:
            entry = encode_value([reference, sid, outcome, values])
        except (TypeError, ValueError) as error:
            self.lost += 1
            logger.warning("the ack of %s cannot be carried to node %s: %s", sid, node_id, error)
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.setdefault(node_id, []).append(entry)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        for node_id, entries in outgoing.items():
            self._spawn(self._carry(node_id, entries))

    async def _carry(self, node_id: str, entries: list[bytes]) -> None:
        for batch in _batches(entries):
            try:
                await self._send(node_id, Message(MessageKind.OTHER, arguments=(ACKS, batch)).encode())
            except BrokerError as error:
                self.lost += len(batch)
                logger.warning("%d acks did not get to node %s: %s", len(batch), node_id, error)


def _batches(entries: list[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = [[]]
    nbytes = 0
    for entry in entries:
        if batches[-1] and nbytes + len(entry) > _BATCH_BYTES:
            batches.append([])
            nbytes = 0
        batches[-1].append(entry)
        nbytes += len(entry)
    return batches


def _read(entry: Any) -> tuple[int, str, int, list[Any]]:
    """Raises: EnvelopeError."""
    fields = decode_value(entry) if type(entry) is bytes else None
    if type(fields) is not list or len(fields) != 4:
        raise EnvelopeError("an ack is wrong")
    reference, sid, outcome, values = fields
    if type(reference) is not int or type(sid) is not str or type(outcome) is not int or type(values) is not list:
        raise EnvelopeError("a field of an ack is wrong")
    return reference, sid, outcome, values
