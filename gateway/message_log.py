"""The messages that were sent lately, numbered, and found by whom they were sent to.

Pure: ``now`` (monotonic seconds) comes from the caller.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final

from transports.outbound import MESSAGE_OVERHEAD_BYTES, OutboundMessage

#: What an entry takes beside the bytes of its message; measured, 440 to 530.
ENTRY_BYTES: Final = 512

_MAX_DIGITS: Final = 16

#: A namespace and a room of it; None is everybody, a sid the client of that name.
Address = tuple[str, Any]


class Entry:
    """A message of the log, and whom it was for.

    ``previous``: for each address, the position of the message to it before this one (0: none).
    ``key``: of a conflated message.
    """

    __slots__ = (
        "_message",
        "addresses",
        "at",
        "attachments",
        "excepted",
        "key",
        "nbytes",
        "position",
        "previous",
        "skipped",
        "text",
    )

    def __init__(
        self,
        position: int,
        at: float,
        message: OutboundMessage,
        addresses: tuple[Address, ...],
        previous: tuple[int, ...],
        skipped: Sequence[Any],
        excepted: Sequence[Any],
        key: Hashable,
    ) -> None:
        self.position = position
        self.at = at
        self.text = message.text
        self.attachments = message.attachments
        self.addresses = addresses
        self.previous = previous
        self.skipped = skipped
        self.excepted = excepted
        self.key = key
        self.nbytes = ENTRY_BYTES - MESSAGE_OVERHEAD_BYTES + message.nbytes
        self._message: OutboundMessage | None = None

    def message(self) -> OutboundMessage:
        """Not the object that was sent, which keeps its wire forms; all who missed it share this one."""
        if self._message is None:
            self._message = OutboundMessage(self.text, self.attachments)
        return self._message

    def cool(self) -> None:
        """Forget the wire forms."""
        self._message = None


class MessageLog:
    """Messages in the order of their sending: those of the last ``keep_s`` seconds, and of no more than ``max_bytes``.

    Entries are linked by address, so that what a client has missed is found without a look at what others were sent.
    """

    def __init__(self, epoch: str, keep_s: float, max_bytes: int) -> None:
        self.epoch = epoch
        self.head = 0
        #: Position of the oldest message that is kept; of the next one where none is.
        self.first = 1
        self.nbytes = 0
        #: When the newest message that is not kept any more was sent.
        self.dropped_at = float("-inf")
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._entries: dict[int, Entry] = {}
        self._last: dict[Address, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def offset(self, position: int) -> str:
        return f"{self.epoch}-{position}"

    def position(self, offset: str) -> int | None:
        """None where no message of this log has had it."""
        epoch, _, digits = offset.rpartition("-")
        if epoch != self.epoch or len(digits) > _MAX_DIGITS or not (digits.isascii() and digits.isdigit()):
            return None
        position = int(digits)
        return position if position <= self.head else None

    def append(
        self,
        now: float,
        message: OutboundMessage,
        addresses: Sequence[Address],
        *,
        skipped: Sequence[Any] = (),
        excepted: Sequence[Any] = (),
        key: Hashable = None,
    ) -> int:
        """Keep ``message``, which goes to these addresses; how many older ones had to go for it."""
        position = self.head = self.head + 1
        unique = tuple(addresses if len(addresses) == 1 else dict.fromkeys(addresses))
        last = self._last
        previous = tuple([last.get(address, 0) for address in unique])
        for address in unique:
            last[address] = position
        entry = self._entries[position] = Entry(position, now, message, unique, previous, skipped, excepted, key)
        self.nbytes += entry.nbytes
        count = 0
        while self.nbytes > self._max_bytes:
            self._drop_first()
            count += 1
        return count

    def drop_old(self, now: float) -> None:
        while self._entries and self._entries[self.first].at + self._keep_s < now:
            self._drop_first()

    def next_deadline(self) -> float | None:
        """When the oldest message will be old."""
        return self._entries[self.first].at + self._keep_s if self._entries else None

    def _drop_first(self) -> None:
        entry = self._entries.pop(self.first)
        for address in entry.addresses:
            if self._last.get(address) == entry.position:
                del self._last[address]
        self.nbytes -= entry.nbytes
        self.dropped_at = entry.at
        self.first += 1

    def to(self, address: Address, after: int) -> Iterator[Entry]:
        """What was sent to an address after that position, newest first."""
        position = self._last.get(address, 0)
        while position > after and position >= self.first:
            entry = self._entries[position]
            yield entry
            position = entry.previous[entry.addresses.index(address)]
