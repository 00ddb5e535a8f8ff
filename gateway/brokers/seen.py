"""What has come already, so that what comes twice is dropped."""

from __future__ import annotations

from typing import Final

from ..envelope import Envelope

#: Connections of senders that are remembered. One is forgotten long after it was last heard of.
_MAX_LANES: Final = 20_000
#: Channels of lanes: the last so many are remembered, and as many before them.
_MAX_CHANNELS: Final = 100_000
#: Publications to several topics, of one sender: their copies lie next to each other, unless an outage parts them.
_MAX_SEVERAL: Final = 4096
#: Sequences of one lane that were read ahead of others. Beyond, the others are taken for lost.
_MAX_AHEAD: Final = 20_000

Lane = tuple[str, int]


class _Ahead:
    """Of a lane, what was read from streams before what it follows came: sequences, and the newest by channel."""

    __slots__ = ("newest", "sequences")

    def __init__(self) -> None:
        self.sequences: set[int] = set()
        self.newest: dict[bytes, int] = {}

    def add(self, sequence: int, channel: bytes) -> None:
        self.sequences.add(sequence)
        self.newest[channel] = max(sequence, self.newest.get(channel, 0))


class Seen:
    """Which copies have come, of publications to several topics. Subclasses: which messages."""

    def __init__(self) -> None:
        self._several: dict[str, dict[int, None]] = {}

    def is_new(self, envelope: Envelope, channel: bytes, catch_up: CatchUp | None = None) -> bool:
        """Whether it has not come before, nor anything of its channel that follows it; now it has.

        catch_up: under which it came, live or from a stream
        """
        raise NotImplementedError

    def settle(self, catch_up: CatchUp) -> None:
        """It is over."""

    def is_first_copy(self, envelope: Envelope) -> bool:
        """Of a publication to several topics: whether no copy of it was delivered; now one is."""
        if not envelope.reference:
            return True
        several = self._several.setdefault(envelope.sender, {})
        if envelope.reference in several:
            return False
        several[envelope.reference] = None
        if len(several) > _MAX_SEVERAL:
            del several[next(iter(several))]
        return True

    def forget(self, sender: str) -> None:
        """The node has gone; no more copies come. Its sequences stay: what it left in streams may be read yet."""
        self._several.pop(sender, None)


class SeenInChannels(Seen):
    """Sequences by lane and channel, for topics that move from one server to another, each of which has lanes to it.

    What came over a lane says nothing about a channel that was not listened to there then.
    """

    def __init__(self) -> None:
        super().__init__()
        # Two generations: what is still in use is in the younger one, or comes back to it.
        self._young: dict[tuple[str, int, bytes], int] = {}
        self._old: dict[tuple[str, int, bytes], int] = {}

    def is_new(self, envelope: Envelope, channel: bytes, catch_up: CatchUp | None = None) -> bool:
        sequence = envelope.sequence
        if not sequence:
            return True
        key = (envelope.sender, envelope.lane, channel)
        highest = self._young.get(key) or self._old.get(key, 0)
        if sequence <= highest:
            return False
        self._young[key] = sequence
        if len(self._young) >= _MAX_CHANNELS:
            self._old, self._young = self._young, {}
        return True


class SeenInLanes(Seen):
    """Sequences by lane. Within a lane they come in order; what is sent again begins with what was not answered.

    What is durable is read from its stream while the rest of its lane may be on its way once more, so that comes
    later and is no duplicate. Within a channel it would be out of order, and is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._highest: dict[Lane, int] = {}
        self._ahead: dict[Lane, _Ahead] = {}

    def is_new(self, envelope: Envelope, channel: bytes, catch_up: CatchUp | None = None) -> bool:
        sequence = envelope.sequence
        if not sequence:
            return True
        if catch_up is not None:
            return catch_up.is_new(self, envelope, channel)
        lane = (envelope.sender, envelope.lane)
        highest = self._highest.get(lane)
        if highest is not None and sequence <= highest:
            return False
        if highest is None and len(self._highest) >= _MAX_LANES:
            for old in list(self._highest)[: _MAX_LANES // 2]:
                del self._highest[old]
                self._ahead.pop(old, None)
        self._highest[lane] = sequence
        return not self._ahead or lane not in self._ahead or self._still_counts(lane, sequence, channel)

    def _still_counts(self, lane: Lane, sequence: int, channel: bytes) -> bool:
        """Whether it may still come, though the lane was read from beyond it."""
        ahead = self._ahead[lane]
        if sequence >= max(ahead.newest.values()):
            del self._ahead[lane]
        return sequence not in ahead.sequences and sequence > ahead.newest.get(channel, 0)

    def settle(self, catch_up: CatchUp) -> None:
        for lane, found in catch_up.take_delivered().items():
            self.add(lane, found)

    def has_come(self, envelope: Envelope) -> bool:
        """Whether it has, or what came over its lane since shows that it never will."""
        lane = (envelope.sender, envelope.lane)
        ahead = self._ahead.get(lane)
        return envelope.sequence <= self._highest.get(lane, 0) or (
            ahead is not None and envelope.sequence in ahead.sequences
        )

    def add(self, lane: Lane, found: dict[int, bytes]) -> None:
        """These have come: channels by sequence."""
        highest = self._highest.setdefault(lane, 0)
        ahead = self._ahead.get(lane) or _Ahead()
        for sequence, channel in found.items():
            if sequence > highest:
                ahead.add(sequence, channel)
        if len(ahead.sequences) > _MAX_AHEAD:
            self._highest[lane] = max(ahead.sequences)
            self._ahead.pop(lane, None)
        elif ahead.sequences:
            self._ahead[lane] = ahead


class CatchUp:
    """What one catching-up has delivered of lanes, while live messages wait behind it."""

    def __init__(self) -> None:
        self._delivered: dict[Lane, dict[int, bytes]] = {}
        self._newest: dict[tuple[str, int, bytes], int] = {}

    def is_new(self, seen: SeenInLanes, envelope: Envelope, channel: bytes) -> bool:
        """Whether neither came before the outage nor was read since; now it was."""
        if seen.has_come(envelope):
            return False
        delivered = self._delivered.setdefault((envelope.sender, envelope.lane), {})
        if envelope.sequence in delivered:
            return False
        newest = self._newest.get((envelope.sender, envelope.lane, channel), 0)
        if envelope.sequence < newest:
            return False  # it would be out of order
        self._newest[envelope.sender, envelope.lane, channel] = envelope.sequence
        delivered[envelope.sequence] = channel
        return True

    def take_delivered(self) -> dict[Lane, dict[int, bytes]]:
        """To count from now on as what came."""
        delivered, self._delivered = self._delivered, {}
        self._newest.clear()
        return delivered
