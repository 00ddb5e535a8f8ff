"""What waits to be sent over one connection, and what was sent and is not answered: bounded, in order, sent again."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..envelope import EnvelopeKind
from .base import BrokerClosedError, BrokerError, BrokerUnavailableError
from .resp import RespError

#: What an entry takes beside its body.
_ENTRY_BYTES: Final = 256
#: Refusals that concern the connection, not the command: the server is not what we took it for, or not yet.
OF_THE_CONNECTION: Final = frozenset(
    {"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "NOSCRIPT", "BUSY", "UNKILLABLE"}
    | {"NOAUTH", "NOREPLICAS", "MISCONF"}
)
#: Refusals that pass by themselves, while the connection is as it should be.
OF_THE_MOMENT: Final = frozenset({"OOM"})

#: Of the bytes that may wait, the share that may be kept of what was acknowledged.
_KEPT_SHARE: Final = 4


class Entry:
    """Something to publish. ``future`` gets the server's reply, where somebody waits for it.

    channel, stream: where it goes; a stream only for what is durable
    lane, sequence: given when it is put into an outbox, and kept when it is sent again, be it from another one
    deadline: loop time; after it nobody may send it any more
    """

    __slots__ = (
        "body",
        "channel",
        "deadline",
        "extra",
        "future",
        "is_withdrawn",
        "is_written",
        "kind",
        "lane",
        "nbytes",
        "outbox",
        "reference",
        "sequence",
        "stream",
    )

    def __init__(
        self,
        channel: bytes,
        kind: EnvelopeKind,
        body: bytes,
        deadline: float,
        reference: int = 0,
        extra: int = 0,
        stream: bytes | None = None,
    ) -> None:
        self.channel = channel
        self.kind = kind
        self.body = body
        self.deadline = deadline
        self.reference = reference
        self.extra = extra
        self.stream = stream
        self.nbytes = len(body) + len(channel) + _ENTRY_BYTES
        self.lane = 0
        self.sequence = 0
        self.future: asyncio.Future[int] | None = None
        self.is_written = False
        self.is_withdrawn = False
        self.outbox: Outbox | None = None

    def reply(self, value: Any) -> None:
        """Of the server."""
        outbox = self.outbox
        if outbox is None:
            return
        # As nearly always.
        if self.future is None and self.stream is None and type(value) is int and not self.is_withdrawn:
            outbox.in_flight -= 1
            outbox.release(self.nbytes)
        else:
            outbox.replied(self, value)


class Outbox:
    """Entries in the order in which they were put.

    lane: of what it sends, whichever connection that goes over
    keep_s: what is durable is kept for so long after it was acknowledged, within a share of ``max_bytes``
    on_refused: the connection is of no use any more. The entry counts as in flight yet: it is to be given back, and
        all those behind it with it
    """

    def __init__(
        self,
        lane: int,
        max_bytes: int,
        dropped: Counter[str],
        on_refused: Callable[[Entry, str], object],
        keep_s: float = 0.0,
    ) -> None:
        self.lane = lane
        self.max_bytes = max_bytes
        self.keep_s = keep_s
        self.nbytes = 0
        self.unsent: deque[Entry] = deque()
        self.in_flight = 0
        self._dropped = dropped
        self._on_refused = on_refused
        self._sequence = 0
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._is_over = False
        self._room = asyncio.Event()
        self._is_room_awaited = False
        self._kept: deque[tuple[float, Entry]] = deque()
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.unsent) + self.in_flight

    def has_room(self, nbytes: int) -> bool:
        """Whether so much can be put without overtaking anybody who waits."""
        return self.nbytes + nbytes <= self.max_bytes and not self._waiting

    @property
    def is_nearly_empty(self) -> bool:
        """Whether there is no haste to learn what was taken."""
        return self.nbytes * 4 < self.max_bytes

    def put(self, entry: Entry) -> None:
        if not entry.is_written:
            self._sequence += 1
            entry.lane, entry.sequence = self.lane, self._sequence
        entry.outbox = self
        self.nbytes += entry.nbytes
        self.unsent.append(entry)

    async def put_when_room(self, entry: Entry) -> bool:
        """Wait for those who waited before, and for room; False, and it was not put, where this outbox is over.

        Raises: TimeoutError at its deadline.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout_at(entry.deadline), self._turn:
                while self.nbytes + entry.nbytes > self.max_bytes and not self._is_over:
                    self._room.clear()
                    self.expire(asyncio.get_running_loop().time())
                    if self.nbytes + entry.nbytes > self.max_bytes:
                        self._is_room_awaited = True
                        await self._room.wait()
                if self._is_over:
                    return False
                self.put(entry)
                return True
        finally:
            self._waiting -= 1

    def take(self) -> Entry | None:
        """The next to be written; it is in flight from now on."""
        while self.unsent:
            entry = self.unsent.popleft()
            if not entry.is_withdrawn:
                entry.is_written = True
                self.in_flight += 1
                return entry
        return None

    def replied(self, entry: Entry, value: Any) -> None:
        if isinstance(value, RespError) and value.code in OF_THE_CONNECTION:
            self._on_refused(entry, str(value))
            return
        self.in_flight -= 1
        if entry.is_withdrawn:
            return
        self._finish(entry)
        if isinstance(value, RespError):
            entry.is_written = False  # the server has not taken it: it would be another one if it came later
            if entry.future is None or entry.future.done():
                self._dropped["refused"] += 1
            else:
                entry.future.set_exception(value)
            return
        if entry.stream is not None:
            self._keep(entry)
        if entry.future is not None and not entry.future.done():
            entry.future.set_result(value)

    def _keep(self, entry: Entry) -> None:
        now = asyncio.get_running_loop().time()
        kept = self._kept
        kept.append((now, entry))
        self._kept_bytes += entry.nbytes
        while kept and (kept[0][0] < now - self.keep_s or self._kept_bytes > self.max_bytes // _KEPT_SHARE):
            self._kept_bytes -= kept.popleft()[1].nbytes

    def repeat(self, since: float, deadline: float) -> int:
        """What is kept and was acknowledged since then goes first again, under its numbers; how much that is.

        Whoever acknowledged it may have taken it along. Those who have it drop what comes again.
        """
        again = [entry for acknowledged, entry in self._kept if acknowledged >= since]
        self._kept.clear()
        self._kept_bytes = 0
        for entry in again:
            entry.deadline = deadline
            entry.future = None
            entry.outbox = self
            self.nbytes += entry.nbytes
        self.unsent.extendleft(reversed(again))
        return len(again)

    def give_back(self, entries: Iterable[Entry]) -> None:
        """The connection was lost before these were answered: they go first over the next one. Oldest first."""
        returned = list(entries)
        self.in_flight -= len(returned)
        self.unsent.extendleft(reversed(returned))

    def withdraw(self, entry: Entry) -> None:
        """Nobody waits for it any more: it is not sent, or not again."""
        if not entry.is_withdrawn and entry.outbox is self:
            entry.is_withdrawn = True
            self.release(entry.nbytes)

    def expire(self, now: float) -> None:
        """Give up what has waited too long."""
        while self.unsent and (self.unsent[0].is_withdrawn or self.unsent[0].deadline < now):
            entry = self.unsent.popleft()
            if not entry.is_withdrawn:
                self._finish(entry)
                error = BrokerUnavailableError("it waited too long", is_maybe_published=entry.is_written)
                _give_up(entry, error, self._dropped, "expired")

    def take_where(self, condition: Callable[[Entry], bool]) -> list[Entry]:
        """What is unsent and so, to be put somewhere else."""
        taken = [entry for entry in self.unsent if not entry.is_withdrawn and condition(entry)]
        if taken:
            gone = set(map(id, taken))
            self.unsent = deque(entry for entry in self.unsent if id(entry) not in gone)
        for entry in taken:
            self._finish(entry)
        return taken

    def retire(self) -> None:
        """Take nothing more, also of those who wait for room."""
        self._is_over = True
        self._room.set()

    def close(self) -> None:
        """Give up everything, and take nothing more."""
        self.retire()
        for entry in self.take_where(lambda entry: True):
            _give_up(entry, BrokerClosedError("the broker was closed"), self._dropped, "closed")

    def _finish(self, entry: Entry) -> None:
        """It is none of this outbox's any more."""
        self.release(entry.nbytes)
        entry.outbox = None

    def release(self, nbytes: int) -> None:
        """So much of what was put does not count any more."""
        self.nbytes -= nbytes
        if self._is_room_awaited:
            self._is_room_awaited = False
            self._room.set()


def _give_up(entry: Entry, error: BrokerError, dropped: Counter[str], cause: str) -> None:
    """Tell whoever waits for it, or count it."""
    if entry.future is None or entry.future.done():
        dropped[cause] += 1
    else:
        entry.future.set_exception(error)
