"""Reading what was missed. Durable publications lie in a stream per topic; positions are moments on the server's clock.

While a node catches up, what comes live waits. Streams are read from the last moment at which everything had come; what
had come after it is known by its sequence. A round trip then makes sure that all live messages are there that
are older than anything read, and only then do they follow, without those that were read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ..envelope import Envelope
from .base import Gap
from .resp import Oversized
from .seen import CatchUp

if TYPE_CHECKING:
    from .redis_link import RedisLink
    from .redis_servers import Server

_ENTRIES_A_READ: Final = 100
_TOPICS_A_TURN: Final = 256
#: Durable messages are held up to this many times ``max_held_bytes``; others are dropped beyond once.
_DURABLE_FACTOR: Final = 4
_HELD_BYTES: Final = 300
#: A master hears of slots that were given to another within this, or is cut off, and then does not answer any more.
_MOVE_MS: Final = 30_000


class StreamReader:
    """The position of one link, and what is held while it is being reached again."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._options = link.options
        #: Everything published before had come (ms on the server's clock). None before the first session.
        self._mark: int | None = None
        self._marked_at: float | None = None
        #: When topics were subscribed to, of those for which that was not long ago.
        self._since: dict[str, int] = {}
        #: Of topics that came from another master: up to where everything had come there.
        self._adopted: dict[str, int] = {}
        #: Topics whose subscription was in effect.
        self._established: set[str] = set()
        #: Questions when subscriptions took effect that are not answered yet.
        self.unmarked = 0
        self.is_holding = False
        self._held: list[tuple[bytes, Envelope]] = []
        self._held_bytes = 0
        self._catch_up = CatchUp()

    @property
    def has_begun(self) -> bool:
        return self._mark is not None

    # -- where we are

    def mark_all(self, server_ms: int, began: float) -> None:
        """A round trip that began then, on the server's clock and on the loop's, is complete."""
        self._mark = server_ms
        self._marked_at = began
        for topic in [topic for topic, since in self._since.items() if since <= server_ms - _MOVE_MS]:
            del self._since[topic]

    def mark_fresh(self, topics: Iterable[str]) -> None:
        """Subscriptions have taken effect; what is older is none of theirs.

        Should the server not say any more when that was, the last mark has to do: a little may come that is older.
        """
        fresh = [topic for topic in topics if topic in self._link.topics]
        self._established.update(fresh)
        if self._mark is not None:
            self._since.update(dict.fromkeys(fresh, self._mark))
        self.unmarked += 1

        def answered(reply: asyncio.Future[Any]) -> None:
            self.unmarked -= 1
            self._link.subscriptions.notify()
            if reply.cancelled() or reply.exception() is not None:
                return
            seconds, microseconds = reply.result()
            for topic in fresh:
                if topic in self._established:
                    self._since[topic] = int(seconds) * 1000 + int(microseconds) // 1000

        self._link.call("TIME").add_done_callback(answered)

    def forget(self, topic: str) -> None:
        self._established.discard(topic)
        self._since.pop(topic, None)
        self._adopted.pop(topic, None)

    def adopt(self, topic: str, other: StreamReader) -> None:
        """The topic has moved here from another master: go on from where that one was, as far as it knew.

        A master that does not know yet that a slot is another's answers as ever, while what is published there does
        not come. So the moves of its mark in that time count for nothing.
        """
        mark = other._mark
        if mark is not None and topic in other._established:
            self._established.add(topic)
            self._adopted[topic] = other._adopted.get(topic, mark - _MOVE_MS)
            if topic in other._since:
                self._since[topic] = other._since[topic]
        other.forget(topic)

    def start_of(self, topic: str) -> int | None:
        """From when on what was published may not have come."""
        mark = self._adopted.get(topic, self._mark)
        return None if mark is None else max(mark, self._since.get(topic, 0))

    # -- holding what comes live

    def begin_hold(self) -> None:
        self.is_holding = True

    def hold(self, channel: bytes, envelope: Envelope) -> bool:
        """False where there is no more room."""
        nbytes = len(envelope.body) + _HELD_BYTES
        limit = self._options.max_held_bytes
        if self._held_bytes + nbytes > limit:
            if not envelope.extra:
                self._link.owner.counters.skipped["held"] += 1
                return True
            if self._held_bytes + nbytes > limit * _DURABLE_FACTOR:
                return False
        self._held_bytes += nbytes
        self._held.append((channel, envelope))
        return True

    def _release(self) -> None:
        held, self._held = self._held, []
        self._held_bytes = 0
        self.is_holding = False
        owner = self._link.owner
        for channel, envelope in held:
            owner.link_message(channel, envelope, self._catch_up)
        owner.settle(self._catch_up)

    # -- catching up

    async def catch_up(self, before: Server | None, now: Server, lost_at: float | None) -> Gap | None:
        """Deliver what was missed, then what was held. None where nothing can have been.

        Raises: ConnectionLost. What was delivered by then is not delivered again.
        """
        loop = asyncio.get_running_loop()
        topics = [topic for topic in self._established if topic in self._link.topics]
        gap = None
        if (self._mark is not None or topics) and lost_at is not None:
            skew_ms = 0 if before is None or before.address == now.address else int(self._options.clock_skew_s * 1000)
            seconds = loop.time() - (lost_at if self._marked_at is None else self._marked_at)
            is_whole = not now.may_lack(before)
            count = 0
            for at in range(0, len(topics), _TOPICS_A_TURN):
                found, is_complete = await self._read(topics[at : at + _TOPICS_A_TURN], skew_ms)
                count += found
                is_whole &= is_complete
            is_whole &= seconds < self._options.stream_ttl_s
            gap = Gap(seconds, None, count, is_whole)
            self._link.owner.counters.caught_up += count
        await self._link.barrier()
        self._release()
        self._established = set(self._link.topics)
        self._adopted.clear()
        return gap

    async def _read(self, topics: list[str], skew_ms: int) -> tuple[int, bool]:
        """How many were missed, and whether these are all. A page of each topic at a time."""
        keys = self._link.owner.keys
        starts: dict[str, str | bytes] = {}
        for topic in topics:
            start = self.start_of(topic)
            if start is not None:
                starts[topic] = str(max(0, start - skew_ms))
        counts = dict.fromkeys(starts, 0)
        delivered = 0
        while starts:
            replies = {
                topic: self._link.call("XRANGE", keys.stream(topic), start, "+", "COUNT", _ENTRIES_A_READ)
                for topic, start in starts.items()
            }
            starts = {}
            for topic, reply in replies.items():
                async with asyncio.timeout(self._options.connect_timeout_s):
                    entries = await reply
                for entry in entries:
                    delivered += self._take(topic, entry)
                counts[topic] += len(entries)
                if len(entries) == _ENTRIES_A_READ:
                    starts[topic] = b"(" + entries[-1][0]
        is_complete = all(count < self._options.stream_max_length for count in counts.values())
        return delivered, is_complete

    def _take(self, topic: str, entry: Any) -> bool:
        owner = self._link.owner
        try:
            data = entry[1][1]
        except (IndexError, TypeError):
            owner.counters.skipped["malformed"] += 1
            return False
        if isinstance(data, Oversized) or not isinstance(data, bytes):
            owner.counters.skipped["oversized" if isinstance(data, Oversized) else "malformed"] += 1
            return False
        envelope = owner.open_envelope(data)
        return envelope is not None and owner.missed(topic, envelope, self._catch_up)
