"""Messages of which only the newest counts: what waits for a client that cannot take them.

Pure: ``Session`` decides when something is put here, and when it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from .outbound import OutboundMessage, Run, extend

#: A key and the message that waits under it.
Kept = tuple[Hashable, OutboundMessage]


class Conflated:
    """The newest message of each key, in the order in which the keys began to wait.

    A newer message takes the place of the one it replaces, so that a key that changes all the time is not put off
    behind the others for ever. ``nbytes`` is what all of them count for in buffers.
    """

    __slots__ = ("_newest", "nbytes")

    def __init__(self) -> None:
        self._newest: dict[Hashable, OutboundMessage] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._newest)

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._newest.items())

    def put(self, key: Hashable, message: OutboundMessage) -> bool:
        """Let ``message`` wait under ``key``; True where an older one gave way."""
        older = self._newest.get(key)
        self._newest[key] = message
        self.nbytes += message.nbytes
        if older is None:
            return False
        self.nbytes -= older.nbytes
        return True

    def take(self, nbytes: int) -> list[Kept]:
        """Remove messages, those that wait longest first, until ``nbytes`` are reached (at least one)."""
        taken: list[Kept] = []
        total = 0
        for key, message in self._newest.items():
            if taken and total + message.nbytes > nbytes:
                break
            taken.append((key, message))
            total += message.nbytes
        for key, _ in taken:
            del self._newest[key]
        self.nbytes -= total
        return taken

    def withdraw(self, is_meant: Callable[[Hashable], bool]) -> list[OutboundMessage]:
        """Remove the messages whose keys ``is_meant`` accepts."""
        withdrawn = [(key, message) for key, message in self._newest.items() if is_meant(key)]
        for key, message in withdrawn:
            del self._newest[key]
            self.nbytes -= message.nbytes
        return [message for _, message in withdrawn]

    def put_back(self, kept: Iterable[Kept]) -> None:
        """What ``take`` gave and could not leave is first once more."""
        first = dict(kept)
        self.nbytes += sum([message.nbytes for message in first.values()])
        self._newest = {**first, **self._newest}


def behind(run: Run | None, kept: Iterable[Kept]) -> Run | None:
    """``run`` with the messages of ``kept`` after it."""
    for _, message in kept:
        run = extend(run, message)
    return run


def divide_rest(rest: Run | None, kept: list[Kept]) -> tuple[Run | None, list[Kept]]:
    """Of what a port could not write of ``behind(run, kept)``: what must be sent as it is, and what may be replaced.

    A message whose first packets have left must be completed, whatever has come since.
    """
    if rest is None:
        return None, []
    messages = rest.messages()
    count = min(len(messages), len(kept))
    left = kept[len(kept) - count :]
    must = messages[: len(messages) - count]
    if left and messages[len(must)] is not left[0][1]:
        must.append(messages[len(must)])
        left = left[1:]
    return Run.of(must), left
