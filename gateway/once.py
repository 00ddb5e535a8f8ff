"""What a server remembers so that a message that a client sends again is handled once.

A client numbers the messages of a *stream* and sends each again after a reconnect until it is answered. The first
copy of a number runs the handler; the others get its answer::

             first copy                 handler ends                the floor passes,
    unseen ────────────► RUNNING ──────────────────► ANSWERED ──── or the stream is ────► forgotten
      ▲                 │   copies wait               copies get     forgotten
      └─────────────────┘                             the answer
       handler cancelled

The *floor* is a number below which everything is settled for the client: those answers are forgotten, and copies of
them are refused. A stream is busy while a handler of its messages runs, else idle; only idle streams are forgotten:
``window_s`` after the last use, or, beyond ``max_streams`` or ``max_bytes``, the least recently used first.

Nothing here knows a clock: ``now`` is monotonic seconds, and never less than before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Any, Final, Generic, TypeVar

#: Numbers from the floor on that one stream may use.
MAX_OUTSTANDING: Final = 1_000
#: Copies of one message that wait while its handler runs: a client waits on its newest connection only.
MAX_WAITING: Final = 8
#: What an answer costs beside its own bytes.
RECORD_BYTES: Final = 512

Asker = TypeVar("Asker")
Answer = TypeVar("Answer")


class Refused(Enum):
    """Why a message is not taken."""

    #: Its number is below the floor: it was settled, and its answer is forgotten.
    SETTLED = auto()
    #: Its number is ``MAX_OUTSTANDING`` or more above the floor.
    OUTSTANDING = auto()
    #: There are as many streams, or bytes of answers, as there may be, and no idle stream to forget.
    FULL = auto()


class Message(Generic[Asker, Answer]):
    """One number of a stream, from its first copy on."""

    __slots__ = ("answer", "askers", "copies", "event", "nbytes", "number", "stream")

    def __init__(self, stream: Stream[Asker, Answer], number: int) -> None:
        self.stream = stream
        self.number = number
        #: Whoever is to be told of the end; oldest first.
        self.askers: list[Asker] = []
        #: None while the handler runs.
        self.answer: Answer | None = None
        #: What the answer takes.
        self.nbytes = 0
        #: Beyond the first.
        self.copies = 0
        #: Its name, while the handler runs.
        self.event: Any = None

    def wait(self, asker: Asker) -> Asker | None:
        """Have ``asker`` told when the handler ends. The oldest, where more than ``MAX_WAITING`` wait: it is not."""
        self.askers.append(asker)
        return self.askers.pop(0) if len(self.askers) > MAX_WAITING else None


class Stream(Generic[Asker, Answer]):
    """What is remembered of one client's outbox."""

    __slots__ = ("floor", "key", "messages", "nbytes", "running", "used_at")

    def __init__(self, key: Hashable, floor: int, now: float) -> None:
        self.key = key
        self.floor = floor
        self.used_at = now
        #: From the floor on.
        self.messages: dict[int, Message[Asker, Answer]] = {}
        #: Of the answers in ``messages``.
        self.nbytes = 0
        #: Handlers that run, of messages that the floor has passed too.
        self.running = 0


class OnceTable(Generic[Asker, Answer]):
    """The streams of a server by key. ``nbytes`` of its answers are remembered."""

    def __init__(self, window_s: float, max_streams: int, max_bytes: int) -> None:
        self._window_s = window_s
        self._max_streams = max_streams
        self._max_bytes = max_bytes
        self._busy: dict[Hashable, Stream[Asker, Answer]] = {}
        #: The least recently used first.
        self._idle: OrderedDict[Hashable, Stream[Asker, Answer]] = OrderedDict()
        self.nbytes = 0
        #: Streams forgotten because there were too many streams, or bytes.
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def take(self, key: Hashable, number: int, floor: int, now: float) -> Message[Asker, Answer] | Refused:
        """A copy of a message has come.

        ``copies`` of the message tells whether it is the first: 0. Its handler is to be run, and then ``settle`` or
        ``abandon`` called, in any case. Of a later copy the ``answer`` is to be sent, or it is to ``wait`` for that.
        """
        stream = self._use(key, now)
        if stream is None:
            if number - floor >= MAX_OUTSTANDING:
                return Refused.OUTSTANDING
            if not self._makes_room(None):
                return Refused.FULL
            stream = self._idle[key] = Stream(key, floor, now)
        elif floor > stream.floor:
            self._advance(stream, floor)
        if number < stream.floor:
            return Refused.SETTLED
        message = stream.messages.get(number)
        if message is not None:
            message.copies += 1
            return message
        if number - stream.floor >= MAX_OUTSTANDING:
            return Refused.OUTSTANDING
        if self.nbytes > self._max_bytes and not self._makes_room(stream):
            return Refused.FULL
        message = stream.messages[number] = Message(stream, number)
        if not stream.running:
            del self._idle[key]
            self._busy[key] = stream
        stream.running += 1
        return message

    def settle(self, message: Message[Asker, Answer], answer: Answer, nbytes: int, now: float) -> list[Asker]:
        """The handler has ended: those who are to be told. ``nbytes``: what the answer takes."""
        askers, message.askers = message.askers, []
        message.answer = answer
        message.event = None
        stream = message.stream
        if stream.messages.get(message.number) is message:
            message.nbytes = nbytes + RECORD_BYTES
            stream.nbytes += message.nbytes
            self.nbytes += message.nbytes
        self._ended(stream, now)
        return askers

    def abandon(self, message: Message[Asker, Answer], now: float) -> None:
        """The handler was cancelled: the next copy is the first again."""
        stream = message.stream
        if stream.messages.get(message.number) is message:
            del stream.messages[message.number]
        self._ended(stream, now)

    def abandon_all(self, now: float) -> None:
        """No handler runs any more, whatever has become of them: the loop that ran them has ended."""
        busy, self._busy = self._busy, {}
        for ended in busy.values():
            # Another object, so that a handler that ends all the same changes nothing.
            stream = self._idle[ended.key] = Stream(ended.key, ended.floor, now)
            stream.nbytes = ended.nbytes
            stream.messages = {number: each for number, each in ended.messages.items() if each.answer is not None}
            ended.messages = {}

    def expire(self, now: float, at_most: int) -> int:
        """Forget idle streams whose window is over, ``at_most`` so many; how many that were."""
        count = 0
        while self._idle and count < at_most:
            stream = next(iter(self._idle.values()))
            if stream.used_at + self._window_s > now:
                break
            self._forget(stream)
            count += 1
        return count

    def next_deadline(self) -> float | None:
        """When ``expire`` should be called next; None while no stream is idle."""
        return next(iter(self._idle.values())).used_at + self._window_s if self._idle else None

    def _use(self, key: Hashable, now: float) -> Stream[Asker, Answer] | None:
        stream = self._busy.get(key)
        if stream is None:
            stream = self._idle.get(key)
            if stream is None:
                return None
            if stream.used_at + self._window_s <= now:
                self._forget(stream)
                return None
            self._idle.move_to_end(key)
        stream.used_at = now
        return stream

    def _ended(self, stream: Stream[Asker, Answer], now: float) -> None:
        if self._busy.get(stream.key) is not stream:
            return  # ``abandon_all`` was called meanwhile
        stream.running -= 1
        if not stream.running:
            del self._busy[stream.key]
            stream.used_at = now
            self._idle[stream.key] = stream

    def _advance(self, stream: Stream[Asker, Answer], floor: int) -> None:
        messages = stream.messages
        # Whatever is less: floors mostly move by one, but a client may let them jump.
        if floor - stream.floor < len(messages):
            passed = [number for number in range(stream.floor, floor) if number in messages]
        else:
            passed = [number for number in messages if number < floor]
        stream.floor = floor
        for number in passed:
            nbytes = messages.pop(number).nbytes  # 0 while its handler runs
            stream.nbytes -= nbytes
            self.nbytes -= nbytes

    def _makes_room(self, for_stream: Stream[Asker, Answer] | None) -> bool:
        """Whether another stream (None), or another message of ``for_stream``, may be kept."""
        while self.nbytes > self._max_bytes or (for_stream is None and len(self) >= self._max_streams):
            stream = next(iter(self._idle.values()), None)
            if stream is None or stream is for_stream:
                return False
            self._forget(stream)
            self.evicted += 1
        return True

    def _forget(self, stream: Stream[Asker, Answer]) -> None:
        del self._idle[stream.key]
        self.nbytes -= stream.nbytes
