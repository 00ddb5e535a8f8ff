"""Subscriptions of one link: what they should be, what the server was asked for, and what it has confirmed.

Answers come in the order of the questions, so counting them tells which subscriptions are in effect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Final

from .redis_keys import Keys
from .resp import encode_command

#: Channels of one SUBSCRIBE.
_CHANNELS_A_COMMAND: Final = 500

CONFIRMATIONS: Final = frozenset({b"subscribe", b"ssubscribe", b"unsubscribe", b"sunsubscribe"})


class Subscriptions:
    """topics: what is to be subscribed to, as it is at any time.

    on_effect: gets topics whose subscriptions took effect, but not those that a session began with
    """

    def __init__(self, keys: Keys, topics: Set[str], on_effect: Callable[[list[str]], object]) -> None:
        self._keys = keys
        self._topics = topics
        self._on_effect = on_effect
        # Channels of one sharded command must lie in one slot.
        self._portion = 1 if keys.is_sharded else _CHANNELS_A_COMMAND
        self._write: Callable[[bytes], object] | None = None
        #: Of the session: channels beside topics.
        self._fixed: Sequence[bytes] = ()
        self._touched: dict[str, None] = {}
        self._subscribed: set[bytes] = set()
        #: Channels that were asked to end, in the order in which the answers come.
        self._ending: deque[bytes] = deque()
        #: Subscriptions that are not in effect yet: how many confirmations they need.
        self._fresh: deque[tuple[int, list[str]]] = deque()
        self.asked = 0
        self.confirmed = 0
        self._change = asyncio.Event()

    def __len__(self) -> int:
        return len(self._subscribed)

    def begin(self, write: Callable[[bytes], object], fixed: Sequence[bytes]) -> None:
        """Subscribe to everything over a new connection. ``fixed``: channels beside topics."""
        self._write = write
        self._fixed = fixed
        self._touched.clear()
        self._fresh.clear()
        self._ending.clear()
        self.asked = self.confirmed = 0
        channels = [*fixed, *map(self._keys.topic, self._topics)]
        self._subscribed = set(channels)
        self._ask(self._keys.subscribe_verb, channels)

    def end(self) -> None:
        """The connection is of no use any more."""
        self._write = None
        self.notify()

    def touch(self, topic: str) -> None:
        """It is among the topics, or no longer. The server hears of it at the end of this turn."""
        if not self._touched:
            asyncio.get_running_loop().call_soon(self.flush)
        self._touched[topic] = None

    def flush(self) -> None:
        """Tell the server what has changed."""
        touched, self._touched = self._touched, {}
        if self._write is None:
            return  # a new session subscribes to whatever there is
        add, remove = [], []
        for topic in touched:
            channel = self._keys.topic(topic)
            if topic in self._topics and channel not in self._subscribed:
                add.append(topic)
                self._subscribed.add(channel)
            elif topic not in self._topics and channel in self._subscribed:
                remove.append(channel)
                self._subscribed.discard(channel)
        self._ending.extend(remove)
        self._ask(self._keys.unsubscribe_verb, remove)
        self._ask(self._keys.subscribe_verb, [self._keys.topic(topic) for topic in add])
        if add:
            self._fresh.append((self.asked, add))

    def _ask(self, verb: str, channels: list[bytes]) -> None:
        if self._write is None or not channels:
            return
        portions = [channels[at : at + self._portion] for at in range(0, len(channels), self._portion)]
        self.asked += len(channels)
        self._write(b"".join(encode_command(verb, *portion) for portion in portions))

    def take_confirmation(self, kind: bytes, channel: bytes) -> bool:
        """One of ``CONFIRMATIONS``. False where nobody has asked for it and the channel is wanted: its slot moved."""
        if kind.endswith(b"unsubscribe"):
            if not self._ending or self._ending[0] != channel:
                self._subscribed.discard(channel)
                return channel not in self._fixed and self._keys.topic_of(channel) not in self._topics
            self._ending.popleft()
        self.confirmed += 1
        self.notify()
        while self._fresh and self._fresh[0][0] <= self.confirmed:
            self._on_effect(self._fresh.popleft()[1])
        return True

    def notify(self) -> None:
        """Something has happened that ``change`` may wait for."""
        self._change.set()

    async def change(self) -> None:
        """Wait for the next confirmation, or end."""
        self._change.clear()
        await self._change.wait()
