"""Messages that are sent once more: they wait in front of all others, and are taken in portions.

``Session`` decides when. What waits here is shared with whoever keeps it for others, so it does not count
toward ``max_buffered_bytes``; a portion alone is ever joined to the bytes of one client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from .outbound import OutboundMessage, Run
from .ports import Port

PORTION_BYTES: Final = 64 * 1024


class Replay:
    """Oldest first."""

    __slots__ = ("_messages", "nbytes")

    def __init__(self) -> None:
        self._messages: deque[OutboundMessage] = deque()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[OutboundMessage]) -> None:
        for message in messages:
            self._messages.append(message)
            self.nbytes += message.nbytes

    def write(self, port: Port) -> None:
        """Write portions, as long as ``port`` takes them."""
        while self._messages and port.writable:
            portion = self.take()
            rest = None if portion is None else port.write(portion)
            if rest is not None:
                self.put_back(rest)

    def clear(self) -> None:
        self._messages.clear()
        self.nbytes = 0

    def take(self) -> Run | None:
        """A portion: messages until ``PORTION_BYTES`` are reached, at least one."""
        taken = []
        nbytes = 0
        while self._messages and nbytes < PORTION_BYTES:
            message = self._messages.popleft()
            taken.append(message)
            nbytes += message.nbytes
        self.nbytes -= nbytes
        return Run.of(taken)

    def put_back(self, rest: Run) -> None:
        """Of what ``take`` gave, this could not leave."""
        messages = rest.messages()
        self._messages.extendleft(reversed(messages))
        self.nbytes += sum([message.nbytes for message in messages])
