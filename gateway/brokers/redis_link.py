"""One Redis master, as one node uses it: kept connected, listened to, written to in order, and known to work.

::

    locate ─► connect twice ─► subscribe, all confirmed ─► round trip ─► catch up ─► the others are back ─► up
      ▲                                                                                                   │
      └── full-jitter back-off ◄── connection lost, no round trip in time, a refusal, another master ◄────┘

One connection publishes and asks, the other listens. Both end together: whatever is wrong with one of them, the
session begins anew, and the outbox, which outlives it, sends again what was not answered.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from ..envelope import Envelope, EnvelopeKind
from .base import BrokerLimits, Counters, Gap, HealthState
from .core import logger
from .deadlines import Deadlines
from .outbox import Entry, Outbox
from .redis_connection import ConnectionLost, RedisConnection
from .redis_keys import Keys
from .redis_options import Address, RedisOptions
from .redis_scripts import PUBLISH, Script
from .redis_servers import Server, check_role
from .redis_streams import StreamReader
from .redis_subscriptions import CONFIRMATIONS, Subscriptions
from .resp import Oversized, RespError, encode_arguments
from .seen import CatchUp

#: Looked up once: members of an enum cost a call in Python 3.11.
_CANARY: Final = EnvelopeKind.CANARY
_MIN_BACKOFF_S: Final = 0.1
#: A session that ends before it has lasted so long does not reset the back-off.
_STABLE_S: Final = 5.0
_SETTLE_POLL_S: Final = 0.05
#: The command that stores and publishes, up to its keys: stream, channel, envelope and what is the same for all follow.
_STORE_HEAD: Final = PUBLISH.head(keys=2, arguments=4)
#: How long the last words have.
_FAREWELL_S: Final = 1.0


class Owner(Protocol):
    """What a link asks of the broker it belongs to."""

    options: RedisOptions
    limits: BrokerLimits
    counters: Counters
    keys: Keys
    #: With what the node's own publications begin, which it has no use for.
    own_head: bytes

    def link_message(self, channel: bytes, envelope: Envelope, catch_up: CatchUp | None = None) -> None: ...

    def open_envelope(self, data: bytes) -> Envelope | None: ...

    def encode(self, entry: Entry) -> bytes: ...

    def missed(self, topic: str, envelope: Envelope, catch_up: CatchUp) -> bool: ...

    def settle(self, catch_up: CatchUp) -> None: ...

    def link_changed(self, link: RedisLink) -> None: ...

    def link_located(self, link: RedisLink) -> None: ...

    def link_gap(self, gap: Gap) -> None: ...

    def known_nodes(self) -> int: ...


class RedisLink:
    """``topics``: what is to be subscribed to here. ``tag``: of channels that only this master serves."""

    def __init__(
        self,
        owner: Owner,
        locate: Callable[[RedisLink], Awaitable[Address]],
        connect_to: Callable[[Address, str], Awaitable[RedisConnection]],
        tag: str,
    ) -> None:
        self.owner = owner
        self.options = owner.options
        self.tag = tag
        self.topics: set[str] = set()
        #: Channels beside topics: of the node, of all nodes.
        self.own_channels: list[bytes] = []
        # So long this node may go on with a master when another has taken over.
        self._keep_s = self.options.canary_interval_s + self.options.canary_timeout_s
        self.outbox = Outbox(
            secrets.randbits(48), owner.limits.max_outbox_bytes, owner.counters.dropped, self._refused, self._keep_s
        )
        #: Of those that wait for a reply.
        self.deadlines = Deadlines()
        self.health = HealthState(lambda: owner.link_changed(self), "connecting")
        self.is_up = False
        #: In this session, or the last one.
        self._was_up = False
        self.address: Address | None = None
        self.round_trip_s: float | None = None
        self.stream = StreamReader(self)
        self.subscriptions = Subscriptions(owner.keys, self.topics, self.stream.mark_fresh)
        self._locate = locate
        self._connect_to = connect_to
        self._commands: RedisConnection | None = None
        self._listener: RedisConnection | None = None
        self._server: Server | None = None
        self._lost = asyncio.Event()
        self._lost_reason = ""
        self._lost_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._call_soon: Callable[[Callable[[], None]], object]
        self._retry_now = asyncio.Event()
        self._is_flushing = False
        ttl_ms = int(self.options.stream_ttl_s * 1000)
        self._store_rest = encode_arguments(self.options.stream_max_length, ttl_ms, owner.keys.verb.lower())
        self._canary: tuple[int, asyncio.Future[None]] | None = None
        self._references = itertools.count(1)

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._call_soon = loop.call_soon
            self._task = loop.create_task(self._supervise())

    async def close(self, last_words: Iterable[Entry] = ()) -> None:
        """Send what waits, for a moment at most, and give up the rest."""
        try:
            await self._say_farewell(last_words)
        finally:
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            self._end_session("closed")
            self.outbox.close()
            self.deadlines.close()

    async def _say_farewell(self, last_words: Iterable[Entry]) -> None:
        if not self.is_up:
            return
        for entry in last_words:
            self.publish(entry)
        try:
            async with asyncio.timeout(_FAREWELL_S):
                while len(self.outbox) and self.is_up:
                    await self.call("PING")
        except (TimeoutError, ConnectionLost, RespError) as error:
            logger.debug("closing the link to %s: %s", self.address, error)

    async def _supervise(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._session()
            except (OSError, TimeoutError, RespError) as error:
                reason = self._lost_reason or _reason(error)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave the node deaf
                logger.exception("the session with Redis failed")
                reason = f"{type(error).__name__}: {error}"
            self._end_session(reason)
            self.owner.counters.reconnects += 1
            attempt = 0 if self._was_up and loop.time() - began > _STABLE_S else attempt + 1
            self.outbox.expire(loop.time())
            most = min(self.options.max_backoff_s, _MIN_BACKOFF_S * 2 ** min(attempt, 16))
            try:
                async with asyncio.timeout(random.uniform(0, most)):  # noqa: S311 - spreads nodes, hides nothing
                    await self._retry_now.wait()
            except TimeoutError:
                pass

    def _end_session(self, reason: str) -> None:
        self.is_up = False
        self._lost_reason = self._lost_reason or reason
        commands, self._commands = self._commands, None
        listener, self._listener = self._listener, None
        for connection in (commands, listener):
            if connection is not None:
                connection.on_lost = None
                connection.on_push = None
                connection.abort(reason)
        if commands is not None:
            self.outbox.give_back(waiting for waiting in commands.expected if isinstance(waiting, Entry))
            commands.expected.clear()
        if self._lost_at is None and self.stream.has_begun:
            self._lost_at = asyncio.get_running_loop().time()
        if self._canary is not None and not self._canary[1].done():
            self._canary[1].set_exception(ConnectionLost(reason))
            self._canary[1].exception()  # nobody may be waiting yet
        self._lost.set()
        self.subscriptions.end()
        self.health.set(f"{self.address or 'Redis'}: {reason}")

    def _connection_lost(self, reason: str) -> None:
        """Of either connection: the session is over. What was not answered is kept, in its order, at once."""
        if not self._lost_reason:
            self._end_session(reason)

    def _refused(self, entry: Entry, reason: str) -> None:
        commands = self._commands
        if commands is None:
            self.outbox.give_back([entry])
            return
        commands.expected.appendleft(entry)
        self._end_session(reason)

    def restart(self, reason: str) -> None:
        """There may be another server to talk to."""
        self._end_session(reason)
        self._retry_now.set()

    # -- a session -------------------------------------------------------------------------------------

    async def _session(self) -> None:
        timeout_s = self.options.connect_timeout_s
        self._lost_reason = ""  # that of the last session; if there is no master, that is why now
        self._was_up = False
        self._retry_now.clear()
        self.address = await self._locate(self)
        # Again: having looked at a Cluster may have ended this session before it began.
        self._lost.clear()
        self._lost_reason = ""
        self.owner.link_located(self)
        commands = await self._connect_to(self.address, "publisher")
        self._commands = commands
        commands.on_lost = self._connection_lost
        listener = await self._connect_to(self.address, "subscriber")
        self._listener = listener
        listener.on_lost = self._connection_lost
        commands.on_writable = self._flush
        async with asyncio.timeout(timeout_s):
            server = Server.of(self.address, bytes(await self.call("INFO")), self._server)
            for script in Script.ALL:
                await self.call("SCRIPT", "LOAD", script.text)
        listener.on_push = self._pushed
        listener.leave_out(self.owner.own_head)
        self.stream.begin_hold()
        self.subscriptions.begin(listener.write, [self._control, self._canary_channel, *self.own_channels])
        async with asyncio.timeout(timeout_s + len(self.subscriptions) / 10_000):
            await self._all_confirmed()
        gap = await self.stream.catch_up(self._server, server, self._lost_at)
        if server.may_lack(self._server):
            self._repeat()
        self._server = server
        await self._round_trip()
        if self._lost_at is not None:
            await self._settle()
            self._check_alive()
        self._lost_at = None
        self.is_up = self._was_up = True
        self._flush()
        self.health.set()
        if gap is not None:
            self.owner.link_gap(gap)
        await self._keep(server)

    def _repeat(self) -> None:
        """Another server is here than the one that acknowledged what was sent last."""
        now = asyncio.get_running_loop().time()
        since = (now if self._lost_at is None else self._lost_at) - self._keep_s
        count = self.outbox.repeat(since, now + self.owner.limits.publish_timeout_s)
        self.owner.link_located(self)  # the slots of some may have moved since
        logger.info("%s is another server: %d durable publications are sent again", self.address, count)

    async def _keep(self, server: Server) -> None:
        """Until something is wrong."""
        while True:
            try:
                async with asyncio.timeout(self.options.canary_interval_s):
                    await self._lost.wait()
            except TimeoutError:
                pass
            self._check_alive()
            self.outbox.expire(asyncio.get_running_loop().time())
            await self._round_trip()
            current = await self._locate(self)
            self._check_alive()
            if current != server.address:
                raise ConnectionLost(f"the master is {current} now")

    def _check_alive(self) -> None:
        """Raises: ConnectionLost where the session has ended while it waited for something that came all the same."""
        if self._lost.is_set():
            raise ConnectionLost(self._lost_reason)

    async def _settle(self) -> None:
        """Give the other nodes the time to subscribe again, before what waited for them is sent."""
        nodes = self.owner.known_nodes() + 1
        loop = asyncio.get_running_loop()
        until = loop.time() + self.options.settle_s
        count = "SHARDNUMSUB" if self.options.mode == "cluster" else "NUMSUB"
        while loop.time() < until:
            try:
                reply = await self.call("PUBSUB", count, self._control)
            except RespError:
                return  # access rules may forbid asking
            if isinstance(reply, list) and len(reply) == 2 and reply[1] >= nodes:
                return
            await asyncio.sleep(_SETTLE_POLL_S)

    async def _round_trip(self, *, is_mark: bool = True) -> None:
        """Raises: ConnectionLost where it takes too long. ``is_mark``: what came before it has all been taken."""
        loop = asyncio.get_running_loop()
        reference = next(self._references)
        arrived: asyncio.Future[None] = loop.create_future()
        self._canary = (reference, arrived)
        began = loop.time()
        entry = Entry(self._canary_channel, EnvelopeKind.CANARY, b"", began, reference)
        time = self.call("TIME")
        role = self.call("ROLE")
        sent = self.call(self.owner.keys.verb, self._canary_channel, self.owner.encode(entry))
        try:
            async with asyncio.timeout(self.options.canary_timeout_s):
                seconds, microseconds = await time
                try:
                    check_role(await role)
                except RespError:
                    pass  # access rules may forbid asking
                await sent
                await arrived
        except TimeoutError:
            which = "the subscriber hears nothing" if sent.done() else "no answer"
            raise ConnectionLost(f"{which} within {self.options.canary_timeout_s:g} s") from None
        finally:
            self._canary = None
        self._check_alive()
        self.round_trip_s = loop.time() - began
        if is_mark:
            self.stream.mark_all(int(seconds) * 1000 + int(microseconds) // 1000, began)

    async def barrier(self) -> None:
        """Return once everything that was published before has come."""
        await self._round_trip(is_mark=False)

    # -- listening -------------------------------------------------------------------------------------

    @property
    def _canary_channel(self) -> bytes:
        return self.owner.keys.canary(self.tag, self.outbox.lane)

    @property
    def _control(self) -> bytes:
        return self.owner.keys.control(self.tag)

    def subscribe(self, topic: str) -> None:
        self.topics.add(topic)
        self.subscriptions.touch(topic)

    def unsubscribe(self, topic: str) -> None:
        self.topics.discard(topic)
        self.stream.forget(topic)
        self.subscriptions.touch(topic)

    def adopt(self, topic: str, other: RedisLink) -> None:
        """The topic has moved here from another master."""
        other.topics.discard(topic)
        self.topics.add(topic)
        self.stream.adopt(topic, other.stream)
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()

    async def _all_confirmed(self) -> None:
        while self.subscriptions.confirmed < self.subscriptions.asked:
            self._check_alive()
            await self.subscriptions.change()
        self._check_alive()

    async def synced(self) -> None:
        """Return once what is subscribed to now is in effect."""
        while True:
            if self.is_up:
                self.subscriptions.flush()
                asked = self.subscriptions.asked
                while self.is_up and (self.subscriptions.confirmed < asked or self.stream.unmarked):
                    await self.subscriptions.change()
                if self.is_up:
                    return
            await asyncio.sleep(0.01)

    def _pushed(self, value: Any) -> None:
        if type(value) is not list or len(value) != 3:
            if isinstance(value, RespError):
                self._end_session(f"subscribing was refused: {value}")
            return
        kind, channel, data = value
        if kind == b"message" or kind == b"smessage":
            self._message(channel, data)
        elif kind in CONFIRMATIONS and not self.subscriptions.take_confirmation(kind, channel):
            self._end_session("slots have moved")

    def _message(self, channel: bytes, data: Any) -> None:
        if isinstance(data, Oversized):
            self.owner.counters.skipped["oversized"] += 1
            return
        envelope = self.owner.open_envelope(data)
        if envelope is None:
            return
        if envelope.kind is _CANARY:
            if self._canary is not None and envelope.reference == self._canary[0] and not self._canary[1].done():
                self._canary[1].set_result(None)
            return
        if self.stream.is_holding:
            if not self.stream.hold(channel, envelope):
                self._end_session("more came than could be held while catching up")
            return
        self.owner.link_message(channel, envelope)

    # -- writing ---------------------------------------------------------------------------------------

    def can_take(self, nbytes: int) -> bool:
        """Whether so much would be written at once."""
        return self.is_up and self.outbox.has_room(nbytes)

    def publish(self, entry: Entry) -> None:
        """Put it in line; it leaves with all others of this turn."""
        self.outbox.put(entry)
        self.wake()

    def wake(self) -> None:
        if self.is_up and not self._is_flushing:
            self._is_flushing = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        commands = self._commands
        if commands is None or not self.is_up or commands.is_paused:
            return
        parts = []
        nbytes = 0
        while nbytes < 1 << 20 and (entry := self.outbox.take()) is not None:
            parts.append(self._command(entry))
            nbytes += entry.nbytes
            commands.expected.append(entry)
            if entry.future is not None:
                commands.urgent = entry
        if parts:
            commands.write(b"".join(parts))
            if commands.urgent is None and self.outbox.is_nearly_empty:
                commands.read_later()
            else:
                commands.read_now()
        if self.outbox.unsent:
            self.wake()

    def _command(self, entry: Entry) -> bytes:
        envelope = self.owner.encode(entry)
        keys = self.owner.keys
        if entry.stream is None:
            return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                keys.publish_head,
                len(entry.channel),
                entry.channel,
                len(envelope),
                envelope,
            )
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            _STORE_HEAD,
            len(entry.stream),
            entry.stream,
            len(entry.channel),
            entry.channel,
            len(envelope),
            envelope,
            self._store_rest,
        )

    def call(self, *arguments: str | bytes | int) -> asyncio.Future[Any]:
        """A command to the server of this session; its future raises ``RespError``, or ``ConnectionLost``."""
        if self._commands is None:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(ConnectionLost(self._lost_reason or "there is no connection"))
            future.exception()
            return future
        return self._commands.call(*arguments)


def _reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
