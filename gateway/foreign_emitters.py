"""Listening to emitters of other libraries, so that an existing deployment moves one process at a time.

They publish on channels of their own, which every server hears in full; each serves its own clients with it. They know
neither subscriptions by room nor durability, and what they say while this connection is broken is lost, as it is to
their own servers. The connection is tried anew until the server leaves, and checked by a ping.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .brokers.base import BrokerConfigError
from .brokers.redis_connection import ConnectionLost, connect
from .brokers.redis_options import RedisOptions, parse_url
from .brokers.resp import RespError, encode_command
from .envelope import EnvelopeError, Message
from .foreign_messages import from_python_socketio, from_redis_emitter, from_redis_emitter_request

logger = logging.getLogger("tidegate.cluster")

_PING_S: Final = 5.0
_RETRY_S: Final = 1.0
#: Of one message.
_MAX_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ForeignEmitters:
    """Who is listened to; None: not to such.

    python_socketio_channel: of ``RedisManager``, by default "socketio" there
    redis_emitter_key: of ``@socket.io/redis-emitter``, by default "socket.io" there
    """

    python_socketio_channel: str | None = None
    redis_emitter_key: str | None = None


class ForeignListener:
    """Hands what comes to ``perform``. ``url``: of the cluster's broker.

    Raises: BrokerConfigError where that is not a single Redis, or one that Pub/Sub of a Cluster reaches.
    """

    def __init__(
        self, url: object, emitters: ForeignEmitters, perform: Callable[[Message], object], skip: Callable[..., object]
    ) -> None:
        options = parse_url(url) if isinstance(url, str) and not url.startswith(("unix:", "memory:")) else None
        if options is None or options.mode == "sentinel":
            raise BrokerConfigError(
                "emitters of other libraries are heard where broker is the URL of one Redis, or of a Redis Cluster"
            )
        self._options: RedisOptions = options
        self._emitters = emitters
        self._perform = perform
        self._skip = skip
        self._task: asyncio.Task[None] | None = None
        self._has_pong = True
        #: Whether what they say comes here now.
        self.is_listening = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_listening())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep_listening(self) -> None:
        number = 0
        while True:
            address = self._options.addresses[number % len(self._options.addresses)]
            number += 1
            try:
                await self._listen(address)
            except (OSError, TimeoutError, ConnectionLost, RespError) as error:
                logger.warning("emitters of other libraries are not heard: %s", error)
            finally:
                self.is_listening = False
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, address: Any) -> None:
        """Until the connection is lost, which it raises."""
        options = self._options
        connection = await connect(
            address,
            tls=options.ssl_context(),
            username=options.username,
            password=options.password,
            database=options.database,
            name="tidegate:foreign",
            max_string_bytes=_MAX_BYTES,
            timeout_s=options.connect_timeout_s,
        )
        try:
            connection.on_push = self._pushed
            key, channel = self._emitters.redis_emitter_key, self._emitters.python_socketio_channel
            if channel is not None:
                connection.write(encode_command("SUBSCRIBE", channel))
            if key is not None:
                escaped = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in key)
                connection.write(encode_command("PSUBSCRIBE", f"{escaped}#*", f"{escaped}-request#*"))
            self._has_pong = True
            while self._has_pong:
                self._has_pong = False
                connection.write(encode_command("PING"))
                await asyncio.sleep(_PING_S)
            raise ConnectionLost("Redis did not answer")
        finally:
            connection.abort("closed")

    def _pushed(self, value: Any) -> None:
        if isinstance(value, RespError):
            logger.warning("subscribing for emitters of other libraries was refused: %s", value)
            return
        if type(value) is not list or not value:
            return
        if value[0] == b"pong":
            self._has_pong = self.is_listening = True
            return
        if value[0] not in (b"message", b"pmessage") or type(value[-1]) is not bytes:
            return
        channel, data = value[-2], value[-1]
        try:
            self._perform(self._read(value[0], channel.decode(), data))
        except (EnvelopeError, UnicodeDecodeError) as error:
            self._skip("of another library", error)

    def _read(self, kind: bytes, channel: str, data: bytes) -> Message:
        if kind == b"message":
            return from_python_socketio(data)
        key = self._emitters.redis_emitter_key or ""
        if channel.startswith(f"{key}-request#"):
            return from_redis_emitter_request(channel.removeprefix(f"{key}-request#").partition("#")[0], data)
        return from_redis_emitter(data)
