"""What every broker does alike: checking, requests and their answers, who is there, calling back, counting."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from ..envelope import (
    MAX_ENVELOPE_BYTES,
    AnswerStatus,
    Envelope,
    EnvelopeError,
    EnvelopeKind,
    UnknownVersionError,
    encode_envelope,
)
from .base import (
    MAX_INFO_BYTES,
    Answers,
    Broker,
    BrokerClosedError,
    BrokerConfigError,
    BrokerLimits,
    BrokerUnavailableError,
    Callbacks,
    Counters,
    Health,
    HealthState,
    MessageTooLargeError,
    Node,
    Request,
    WhenDown,
    check_topic,
    checked_topics,
)

logger = logging.getLogger("tidegate.brokers")

#: Looked up once: members of an enum cost a call in Python 3.11.
_PUBLICATION: Final = EnvelopeKind.PUBLICATION
#: Of an exception's text in an answer.
_MAX_ERROR_CHARACTERS: Final = 1000
#: Requests of other nodes that are being answered at one time; more are answered as failed.
_MAX_HANDLERS: Final = 10_000


@dataclass(slots=True)
class Expected:
    """Whom a request was sent to: by name, or how many as the broker counted.

    gone: those of them that are known not to be there
    """

    names: set[str] | None
    count: int = 0
    gone: set[str] = field(default_factory=set)


@dataclass(slots=True)
class PendingRequest:
    """A request under way.

    expected: None before the broker has counted
    is_looped: it has come back, so this node is one of those counted
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    expected: Expected | None = None
    answered: dict[str, bytes] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    is_looped: bool = False

    def missing_count(self) -> int:
        """How many are waited for."""
        if self.expected is None:
            return 1
        heard = {*self.answered, *self.failed}
        if self.expected.names is not None:
            return len(self.expected.names - heard - self.left - self.expected.gone)
        return max(0, self.expected.count - self.is_looped - len(heard))


class BrokerCore(Broker):
    """Subclasses carry envelopes: ``_publish``, ``_send``, ``_ask``, and hand what comes to ``_take``."""

    def __init__(
        self, node: Node | None = None, callbacks: Callbacks | None = None, limits: BrokerLimits | None = None
    ) -> None:
        self.node = node or Node()
        self.callbacks = callbacks or Callbacks()
        self.limits = limits or BrokerLimits()
        self.counters = Counters()
        self._topics: set[str] = set()
        self._nodes: dict[str, Node] = {}
        self._health = HealthState(self._health_changed)
        self._is_open = False
        self._requests: dict[int, PendingRequest] = {}
        # Not from 1: a node that took the id of an earlier one would take answers to that one's requests.
        self._references = itertools.count(secrets.randbits(40))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._handlers = 0
        self._movement = asyncio.Event()
        self._encoded_node = encode_node(self.node)

    # -- the subclass ----------------------------------------------------------------------------------

    @abstractmethod
    async def _publish(self, topics: tuple[str, ...], payload: bytes, durable: bool, when_down: WhenDown) -> bool:
        """Whether it is on its way; False when it was dropped, and counted, as ``when_down`` says."""

    @abstractmethod
    async def _send(self, node_id: str, kind: EnvelopeKind, reference: int, extra: int, body: bytes) -> None:
        """To one node, as far as it is there. Raises: BrokerUnavailableError at once where it cannot be sent."""

    @abstractmethod
    async def _ask(self, node_id: str | None, topic: str | None, reference: int, extra: int, body: bytes) -> Expected:
        """Send a request. Raises: BrokerUnavailableError at once where it cannot be sent."""

    @abstractmethod
    def _subscribe(self, topic: str) -> None: ...

    @abstractmethod
    def _unsubscribe(self, topic: str) -> None: ...

    # -- Broker ----------------------------------------------------------------------------------------

    @property
    def topics(self) -> Collection[str]:
        return self._topics

    def nodes(self) -> dict[str, Node]:
        return dict(self._nodes)

    def has_node(self, node_id: str) -> bool:
        return node_id in self._nodes

    @property
    def health(self) -> Health:
        state = self._health
        return Health(state.is_ready, state.reason, state.since)

    def subscribe(self, topic: str) -> None:
        if topic not in self._topics:
            check_topic(topic)
            self._topics.add(topic)
            self._subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        if topic in self._topics:
            self._topics.discard(topic)
            self._unsubscribe(topic)

    async def publish(
        self,
        topics: str | Collection[str],
        payload: bytes,
        *,
        durable: bool = False,
        when_down: WhenDown = "wait",
    ) -> None:
        names = checked_topics(topics)
        self._check(payload)
        if when_down not in ("wait", "fail", "drop"):
            raise BrokerConfigError(f"when_down is wait, fail or drop, not {when_down!r}")
        if names and await self._publish(names, payload, durable, when_down):
            self.counters.published += 1
            self.counters.published_bytes += len(payload)

    async def request(
        self, payload: bytes, *, node_id: str | None = None, topic: str | None = None, timeout_s: float
    ) -> Answers:
        if node_id is not None and topic is not None:
            raise BrokerConfigError("a request goes to a node or to a topic, not to both")
        if topic is not None:
            check_topic(topic)
        self._check(payload)
        if node_id == self.node.id:
            return Answers({}, {}, (), 0)
        reference = next(self._references)
        pending = self._requests[reference] = PendingRequest()
        self.counters.requests += 1
        try:
            async with asyncio.timeout(timeout_s):
                pending.expected = await self._ask(node_id, topic, reference, max(1, int(timeout_s * 1000)), payload)
                while pending.missing_count():
                    pending.changed.clear()
                    await pending.changed.wait()
        except TimeoutError:
            if pending.expected is None:
                self.counters.dropped["expired"] += 1
                raise BrokerUnavailableError("it did not take the request in time", is_maybe_published=True) from None
        finally:
            del self._requests[reference]
        return self._answers(pending)

    def _answers(self, pending: PendingRequest) -> Answers:
        expected = pending.expected
        missing: set[str] = set()
        count = pending.missing_count()
        heard = {*pending.answered, *pending.failed}
        if expected is not None and expected.names is not None:
            missing = expected.names - heard
            count = len(missing)
        elif count:
            missing = set(self._nodes) - heard
        return Answers(pending.answered, pending.failed, tuple(sorted(missing)), count)

    def _check(self, payload: bytes) -> None:
        if not self._is_open:
            raise BrokerClosedError("the broker is not running")
        if len(payload) > self.limits.max_message_bytes:
            raise MessageTooLargeError(len(payload), self.limits.max_message_bytes)

    # -- what comes ------------------------------------------------------------------------------------

    def _open_envelope(self, data: bytes) -> Envelope | None:
        """None, and counted, for what is not to be read."""
        if len(data) > MAX_ENVELOPE_BYTES:
            self.counters.skipped["oversized"] += 1
            return None
        try:
            return Envelope.decode(data)
        except UnknownVersionError:
            self.counters.skipped["version"] += 1
        except EnvelopeError:
            self.counters.skipped["malformed"] += 1
        return None

    def _take(self, topic: str | None, envelope: Envelope) -> None:
        """An envelope of another node, duplicates left out."""
        kind = envelope.kind
        if kind is _PUBLICATION:
            if topic is None or topic not in self._topics:
                self.counters.skipped["no_subscription"] += 1
                return
            body = envelope.body
            counters = self.counters
            counters.received += 1
            counters.received_bytes += len(body)
            self._call(self.callbacks.on_message, topic, envelope.sender, body)
        elif kind is EnvelopeKind.DIRECT:
            self.counters.received += 1
            self.counters.received_bytes += len(envelope.body)
            self._call(self.callbacks.on_direct, envelope.sender, envelope.body)
        elif kind is EnvelopeKind.REQUEST:
            if topic is not None and topic not in self._topics:
                # It was counted as a receiver, so it must say that it has nothing to say.
                self._spawn(self._answer(envelope, AnswerStatus.ANSWERED, b""))
            else:
                self._spawn(self._handle(topic, envelope))
        elif kind is EnvelopeKind.ANSWER:
            self._take_answer(envelope)

    def _take_answer(self, envelope: Envelope) -> None:
        pending = self._requests.get(envelope.reference)
        if pending is None:
            self.counters.late_answers += 1
        elif envelope.extra == AnswerStatus.FAILED:
            pending.failed[envelope.sender] = envelope.body.decode(errors="replace")
            pending.changed.set()
        else:
            pending.answered[envelope.sender] = envelope.body
            pending.changed.set()

    def _request_came_back(self, reference: int) -> None:
        """This node subscribed to the topic it asks, and the broker has counted it."""
        pending = self._requests.get(reference)
        if pending is not None:
            pending.is_looped = True
            pending.changed.set()

    async def _handle(self, topic: str | None, envelope: Envelope) -> None:
        timeout_s = envelope.extra / 1000
        if self._handlers >= _MAX_HANDLERS:
            await self._answer(envelope, AnswerStatus.FAILED, b"too many requests are being answered")
            return
        self._handlers += 1
        try:
            async with asyncio.timeout(timeout_s):
                body = await self.callbacks.on_request(Request(envelope.sender, topic, envelope.body, timeout_s))
            self._check(body)
        except TimeoutError:
            self.counters.dropped["expired"] += 1
            return
        except Exception as error:  # the callback's; the other node is told
            self.counters.callback_errors += 1
            logger.exception("answering a request of node %s failed", envelope.sender)
            text = f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARACTERS]
            await self._answer(envelope, AnswerStatus.FAILED, text.encode(errors="replace"))
            return
        finally:
            self._handlers -= 1
        await self._answer(envelope, AnswerStatus.ANSWERED, body)

    async def _answer(self, request: Envelope, status: AnswerStatus, body: bytes) -> None:
        try:
            await self._send(request.sender, EnvelopeKind.ANSWER, request.reference, status, body)
        except BrokerUnavailableError:
            self.counters.dropped["down"] += 1
        except BrokerClosedError:
            self.counters.dropped["closed"] += 1

    # -- who is there ----------------------------------------------------------------------------------

    def _node_joined(self, node: Node) -> None:
        known = self._nodes.get(node.id)
        if node.id == self.node.id or known == node:
            return
        self._nodes[node.id] = node
        if known is None:
            self._call(self.callbacks.on_node_joined, node)

    def _node_left(self, node_id: str) -> None:
        node = self._nodes.pop(node_id, None)
        if node is None:
            return
        for pending in self._requests.values():
            pending.left.add(node_id)
            pending.changed.set()
        self._call(self.callbacks.on_node_left, node)

    # -- inner works -----------------------------------------------------------------------------------

    def _health_changed(self) -> None:
        if self._health.is_ready:
            logger.info("broker is ready", extra={"node": self.node.id})
        elif self._is_open:
            logger.warning("broker is not ready: %s", self._health.reason, extra={"node": self.node.id})
        self._moved()
        self._call(self.callbacks.on_health, self.health)

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:  # the caller's: it must not end what reads from other nodes
            self.counters.callback_errors += 1
            logger.exception("a broker's callback failed")

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the broker failed", exc_info=task.exception())

    def _moved(self) -> None:
        """Something has changed that ``_until`` may wait for."""
        self._movement.set()
        self._movement = asyncio.Event()

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for it; False when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._movement.wait()
        except TimeoutError:
            return condition()
        return True

    async def _end_tasks(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _envelope(self, kind: EnvelopeKind, lane: int, sequence: int, reference: int, extra: int, body: bytes) -> bytes:
        return encode_envelope(kind, self.node.id, lane, sequence, reference, extra, body)


def encode_node(node: Node) -> bytes:
    """Raises: BrokerConfigError for an info that MessagePack cannot carry, or that is too long."""
    try:
        encoded: bytes = msgpack.packb((node.id, dict(node.info)))
    except (TypeError, ValueError, OverflowError) as error:
        raise BrokerConfigError(f"the info of a node must be plain data: {error}") from None
    if len(encoded) > MAX_INFO_BYTES:
        raise BrokerConfigError(f"the info of a node has up to {MAX_INFO_BYTES} bytes, not {len(encoded)}")
    return encoded


def decode_node(data: bytes) -> Node | None:
    """None for what is not a node's."""
    try:
        fields = msgpack.unpackb(data, strict_map_key=False)
        if type(fields) is list and len(fields) == 2 and type(fields[0]) is str and type(fields[1]) is dict:
            return Node(fields[0], fields[1])
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        pass
    return None


async def deadline(awaitable: Awaitable[Any], timeout_s: float) -> bool:
    """Whether it ended in time."""
    try:
        async with asyncio.timeout(timeout_s):
            await awaitable
    except TimeoutError:
        return False
    return True
