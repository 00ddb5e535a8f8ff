"""What a broker promises.

A *node* is a process with clients. A *topic* names what nodes can subscribe to: a room of a namespace, a channel.
A broker carries what a node publishes to the other nodes that subscribed to the topic, and to no others; what a node
publishes never comes back to itself, since it serves its own clients directly, with the broker and without.

**Order.** What one node publishes to one topic arrives in the order in which `Broker.publish` took it. Between
topics, and between nodes, there is no order. A publication to several topics arrives once at each node.

**Delivery between nodes.** A node whose subscription is in effect (`Broker.synced`) receives each publication

- at most once, by default: what is on its way while the subscriber's connection is broken is lost to it;
  `Callbacks.on_gap` tells it so. What waits for the *publisher's* connection is not lost: it is sent when that is back,
  and, where Redis is the broker, once the other nodes are back too, or after ``settle_s``;
- at least once within the stream's size and age, and in practice once, for ``durable`` publications: a node that was
  cut off reads what it missed, in the order of each topic, before it goes on with what is new. Duplicates are dropped
  by the publisher's sequence. Redis may lose what it has taken, where a replica takes over, or where it restarts with
  nothing on disk: publishers that are still there send again what it took lately, and `Gap.is_complete` is False.
  Brokers without a store between the nodes (memory, unix) have nothing to catch up from; ``durable`` adds nothing
  there.

**Position.** Where a node stands in what the broker carries is one moment on the broker's clock: everything that was
published before it has arrived. It moves with each round trip, never leaves the broker, and is good for that broker's
streams only. Offsets of a channel's history are another matter.

**Outage.** Publishing never blocks the loop, and never grows a buffer without bound: ``when_down`` says what
happens while the broker cannot be reached, and in the same way while its outbox is full. Each publication that is given
up is counted by cause in `Counters.dropped`. Subscribing always succeeds at once; it takes effect when it can.
`Health.is_ready` is what a round trip through the broker has shown, not whether a socket is open.

**Concurrency.** All methods belong to the event loop the broker was started in. Any number of tasks may publish
and request at once. Callbacks run in that loop, one after the other; they must not block. One that raises is logged and
counted, and costs nobody else anything.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from transports.session_ids import draw

from ..envelope import MAX_ENVELOPE_BYTES, MAX_NODE_ID_LENGTH, OVERHEAD_BYTES

#: What `Broker.publish` does while the broker cannot be reached, or its outbox is full.
#: wait: until it is handed over, or ``publish_timeout_s`` is over; then `BrokerUnavailableError`.
#: fail: `BrokerUnavailableError` at once.
#: drop: count it and return.
WhenDown = Literal["wait", "fail", "drop"]

MAX_TOPIC_BYTES: Final = 2048
#: Of a node's ``info``, encoded: every node keeps that of every other.
MAX_INFO_BYTES: Final = 4096

_NODE_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NODE_ID_LENGTH}}}\Z")


class BrokerError(Exception):
    """Root of the brokers' errors. ``is_retryable``: the same call may succeed later.

    ::

        BrokerError
        ├── BrokerUnavailableError   it cannot be reached, or its outbox is full
        ├── BrokerClosedError        ours was closed, or never started
        ├── MessageTooLargeError     it would be refused for ever
        └── BrokerConfigError        an option or address makes no sense
    """

    is_retryable: bool = False


class BrokerUnavailableError(BrokerError):
    """``reason``: what `Health.reason` said. ``is_maybe_published``: it had been written, and no answer came."""

    is_retryable = True

    def __init__(self, reason: str, *, is_maybe_published: bool = False) -> None:
        self.reason = reason
        self.is_maybe_published = is_maybe_published
        super().__init__(reason)

    def __str__(self) -> str:
        maybe = "; it may have been published" if self.is_maybe_published else ""
        return f"the broker is not available: {self.reason}{maybe}"


class BrokerClosedError(BrokerError):
    """The broker is not running."""


class MessageTooLargeError(BrokerError):
    """``nbytes`` of a message or of a request, of which ``limit`` are allowed."""

    def __init__(self, nbytes: int, limit: int) -> None:
        self.nbytes = nbytes
        self.limit = limit
        super().__init__(nbytes, limit)

    def __str__(self) -> str:
        return f"a message of {self.nbytes} bytes cannot be published, the limit is {self.limit} bytes"


class BrokerConfigError(BrokerError, ValueError):
    """An option, a URL, a topic or a node id is not what it may be; the text says why."""


def new_node_id() -> str:
    """Random, and short since session ids begin with it: 10 characters that URLs carry as they are."""
    return draw()[:10]


@dataclass(frozen=True, slots=True)
class Node:
    """A process of the cluster. ``info``: what it tells the others of itself (host, address, version)."""

    id: str = field(default_factory=new_node_id)
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NODE_ID.match(self.id):
            raise BrokerConfigError(f"a node id has up to {MAX_NODE_ID_LENGTH} of A-Z a-z 0-9 _ -, not {self.id!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """What another node asks. ``topic``: the one it was sent to, if any. ``timeout_s``: what is left to answer."""

    sender: str
    topic: str | None
    payload: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back of a request before its deadline.

    failed: nodes whose handler raised, with what the exception said
    missing: nodes that did not answer. Where the broker can only count receivers (a topic over Redis), and one of
        them is silent, all nodes that may be it
    missing_count: how many did not answer
    """

    answered: dict[str, bytes]
    failed: dict[str, str]
    missing: tuple[str, ...]
    missing_count: int

    @property
    def is_complete(self) -> bool:
        return not self.missing_count and not self.failed


@dataclass(frozen=True, slots=True)
class Gap:
    """This node was cut off, from others or from the broker, and is back.

    seconds: for how long at most
    peer: the node that it was cut off from, where it was not from all
    caught_up: durable publications that were read afterwards
    is_complete: whether that is all there were; if not, durable publications are lost too
    """

    seconds: float
    peer: str | None = None
    caught_up: int = 0
    is_complete: bool = True


def _ignore(*arguments: Any) -> None:
    """The default of a callback."""


async def _answer_nothing(request: Request) -> bytes:
    return b""


@dataclass(slots=True)
class Callbacks:
    """What a broker calls.

    on_message: topic, sender, payload. The topic is one of those the publication went to
    on_direct: sender, payload of `Broker.send`
    on_request: its result is the answer; its exception, as text, too. Runs as a task, cancelled at the deadline
    on_node_left: also for a node that died, once its lease has run out
    on_health: whenever ``is_ready`` or ``reason`` has changed
    """

    on_message: Callable[[str, str, bytes], object] = _ignore
    on_direct: Callable[[str, bytes], object] = _ignore
    on_request: Callable[[Request], Awaitable[bytes]] = _answer_nothing
    on_node_joined: Callable[[Node], object] = _ignore
    on_node_left: Callable[[Node], object] = _ignore
    on_health: Callable[[Health], object] = _ignore
    on_gap: Callable[[Gap], object] = _ignore


@dataclass(slots=True)
class Counters:
    """Totals since start. Every drop is in here, by its cause."""

    published: int = 0
    published_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    requests: int = 0
    #: Publications, requests and answers given up on this side: down, full, expired, refused, stalled (a
    #: worker that did not read), gone (one that had ended), closed.
    dropped: Counter[str] = field(default_factory=Counter)
    #: What came and was skipped: version, malformed, oversized, no_subscription.
    skipped: Counter[str] = field(default_factory=Counter)
    #: What came a second time: resent after an outage, read from a stream too, or by way of another topic.
    duplicates: int = 0
    caught_up: int = 0
    reconnects: int = 0
    gaps: int = 0
    callback_errors: int = 0
    late_answers: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """``since``: Unix time of the last change of ``is_ready``. ``reason``: why not, empty when ready.

    round_trip_s: of the last message to itself through the broker; None where there is no broker in between
    """

    is_ready: bool
    reason: str
    since: float
    round_trip_s: float | None = None
    outbox_messages: int = 0
    outbox_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """max_message_bytes: of one payload; larger ones are refused at publish.

    max_outbox_bytes: of what waits to be sent, for one connection
    publish_timeout_s: how long ``when_down="wait"`` waits, and how long the outbox keeps anything
    lease_s: a node that has not been heard of for so long is gone
    """

    max_message_bytes: int = 1024 * 1024
    max_outbox_bytes: int = 16 * 1024 * 1024
    publish_timeout_s: float = 30.0
    lease_s: float = 10.0

    def __post_init__(self) -> None:
        most = MAX_ENVELOPE_BYTES - OVERHEAD_BYTES
        if not 0 < self.max_message_bytes <= most:
            raise BrokerConfigError(f"max_message_bytes is 1 to {most}, not {self.max_message_bytes}")
        if self.max_outbox_bytes < self.max_message_bytes + OVERHEAD_BYTES + MAX_TOPIC_BYTES:
            raise BrokerConfigError("max_outbox_bytes must hold one message of max_message_bytes and its topic")
        if self.publish_timeout_s <= 0 or self.lease_s <= 0:
            raise BrokerConfigError("publish_timeout_s and lease_s must be above 0")


class Broker(ABC):
    """Carries messages between nodes. The module says what it promises."""

    node: Node
    #: To be set before ``start``.
    callbacks: Callbacks
    limits: BrokerLimits
    counters: Counters

    @abstractmethod
    async def start(self) -> None:
        """Begin. Returns at once where the broker cannot be reached: it goes on trying, and `health` says so.

        Raises: BrokerConfigError for what no trying will mend, such as a directory that others can write to.
        """

    @abstractmethod
    async def close(self) -> None:
        """Say goodbye, and end every task and connection. What waits in the outbox is sent first, for a second at
        most. Publications that still wait fail with `BrokerClosedError`. May be called twice.
        """

    @abstractmethod
    def subscribe(self, topic: str) -> None:
        """From some moment on, receive what others publish to the topic. Once is enough: calls are not counted.

        All changes of one turn of the loop travel together; subscribing and unsubscribing in one turn costs nothing.
        Raises: BrokerConfigError for a topic that is empty or longer than ``MAX_TOPIC_BYTES`` in UTF-8.
        """

    @abstractmethod
    def unsubscribe(self, topic: str) -> None:
        """Nothing more is delivered of the topic from now on, not even what is on its way."""

    @abstractmethod
    async def synced(self, timeout_s: float) -> bool:
        """Wait until all that was (un)subscribed before is in effect; False when the time is over."""

    @abstractmethod
    async def publish(
        self,
        topics: str | Collection[str],
        payload: bytes,
        *,
        durable: bool = False,
        when_down: WhenDown = "wait",
    ) -> None:
        """Send the payload, once, to each other node that subscribed to any of the topics.

        While the broker is ready this returns as soon as the message is in line, without waiting for the network;
        a durable one when the broker has stored it. While it is not, ``when_down`` decides, for all topics alike.

        Cancelled while it waits, the message is taken back if it has not been written; if it has, it may arrive.
        Raises: MessageTooLargeError, BrokerConfigError, BrokerClosedError; BrokerUnavailableError.
        """

    def publish_now(self, topic: str, payload: bytes) -> bool:
        """Do what ``publish`` does with a message that is not durable, where nothing has to be waited for.

        False where it has, or where this broker cannot: nothing was done, and ``publish`` is to be called.
        Raises: MessageTooLargeError, BrokerConfigError, BrokerClosedError.
        """
        return False

    @abstractmethod
    async def send(self, node_id: str, payload: bytes, *, when_down: WhenDown = "wait") -> None:
        """Send to one node, at most once, in order. A node that is not there is not an error: use `request` to know.

        Raises: as `publish`.
        """

    @abstractmethod
    async def request(
        self, payload: bytes, *, node_id: str | None = None, topic: str | None = None, timeout_s: float
    ) -> Answers:
        """Ask a node, those who subscribed to a topic, or (neither given) all other nodes, and gather their answers.

        Returns when all have answered, or at the deadline, whatever happens to the broker meanwhile. A node that
        leaves is not waited for, where the broker knows by name who was asked. Cancellation abandons it; the others
        are not told, they have the deadline.
        Raises: MessageTooLargeError, BrokerConfigError, BrokerClosedError; BrokerUnavailableError where it cannot be
            sent now: requests do not wait for a broker.
        """

    @abstractmethod
    def nodes(self) -> dict[str, Node]:
        """The other nodes whose lease runs, by id. During an outage of the broker: those that were there before."""

    def has_node(self, node_id: str) -> bool:
        """Whether it is one of ``nodes``."""
        return node_id in self.nodes()

    @property
    @abstractmethod
    def health(self) -> Health: ...

    @property
    @abstractmethod
    def topics(self) -> Collection[str]:
        """What this node has subscribed to."""


class HealthState:
    """Ready or not, since when and why; tells ``on_change`` of every change."""

    def __init__(self, on_change: Callable[[], None], reason: str = "not started") -> None:
        self.is_ready = False
        self.reason = reason
        self.since = time.time()
        self._on_change = on_change

    def set(self, reason: str = "") -> None:
        """Ready where there is no reason not to be."""
        is_ready = not reason
        if is_ready == self.is_ready and reason == self.reason:
            return
        if is_ready != self.is_ready:
            self.since = time.time()
        self.is_ready, self.reason = is_ready, reason
        self._on_change()


def checked_topics(topics: str | Iterable[str]) -> tuple[str, ...]:
    """Each topic once, in order. Raises: BrokerConfigError."""
    if isinstance(topics, str):
        check_topic(topics)
        return (topics,)
    once = tuple(dict.fromkeys(topics))
    for topic in once:
        check_topic(topic)
    return once


def check_topic(topic: str) -> None:
    """Raises: BrokerConfigError."""
    if not isinstance(topic, str) or not topic:
        raise BrokerConfigError(f"a topic is a string that is not empty, not {topic!r}")
    if topic.isascii():
        nbytes = len(topic)
    else:
        try:
            nbytes = len(topic.encode())
        except UnicodeEncodeError:
            raise BrokerConfigError(f"a topic cannot have lone surrogates: {topic[:60]!r}") from None
    if nbytes > MAX_TOPIC_BYTES:
        raise BrokerConfigError(f"a topic has up to {MAX_TOPIC_BYTES} bytes, not {nbytes}: {topic[:60]!r}…")
