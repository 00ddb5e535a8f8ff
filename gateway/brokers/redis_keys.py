"""Names of channels and keys.

The part in braces decides in a Cluster where one lies, so what belongs together has the same. It begins with a
character of ours, since empty braces would count for nothing.
"""

from __future__ import annotations

from typing import Final

from .redis_options import RedisOptions

#: Names that are kept made, of those in use.
_MAX_REMEMBERED: Final = 10_000


class Keys:
    """And the commands that the mode asks for: in a Cluster, those of sharded Pub/Sub."""

    def __init__(self, options: RedisOptions) -> None:
        self._prefix = options.prefix.encode()
        self.is_sharded = options.mode == "cluster"
        self.verb = "SPUBLISH" if self.is_sharded else "PUBLISH"
        self.subscribe_verb = "SSUBSCRIBE" if self.is_sharded else "SUBSCRIBE"
        self.unsubscribe_verb = "SUNSUBSCRIBE" if self.is_sharded else "UNSUBSCRIBE"
        self.publish_head = b"*3\r\n$%d\r\n%b\r\n" % (len(self.verb), self.verb.encode())
        self._topic_start = len(self._prefix) + 3
        self._channels: dict[str, bytes] = {}
        self._topics: dict[bytes, str] = {}

    def topic(self, topic: str) -> bytes:
        """The channel of a topic."""
        channel = self._channels.get(topic)
        if channel is None:
            channel = b"%bt{:%b}" % (self._prefix, topic.encode())
            if len(self._channels) >= _MAX_REMEMBERED:
                self._channels.clear()
            self._channels[topic] = channel
        return channel

    def stream(self, topic: str) -> bytes:
        return b"%bs{:%b}" % (self._prefix, topic.encode())

    def node(self, node_id: str) -> bytes:
        return b"%bn{:%b}" % (self._prefix, node_id.encode())

    def everybody(self) -> bytes:
        return b"%ba{:}" % self._prefix

    def registry(self) -> tuple[bytes, bytes]:
        """Leases, and what nodes say of themselves."""
        return b"%bleases{:}" % self._prefix, b"%bnodes{:}" % self._prefix

    def control(self, tag: str) -> bytes:
        """What every node listens to at each master, to be counted."""
        return b"%bc{%b}" % (self._prefix, tag.encode())

    def canary(self, tag: str, lane: int) -> bytes:
        return b"%bk%x{%b}" % (self._prefix, lane, tag.encode())

    def topic_of(self, channel: bytes) -> str | None:
        """Of the channel of a topic; None for other channels."""
        topic = self._topics.get(channel)
        if topic is None:
            start = self._topic_start
            if channel[start - 3 : start] != b"t{:":
                return None
            topic = channel[start:-1].decode()
            if len(self._topics) >= _MAX_REMEMBERED:
                self._topics.clear()
            self._topics[channel] = topic
        return topic


def hash_slot(key: bytes) -> int:
    """Of 16,384, in which Redis Cluster keeps the key. Spec: Redis Cluster specification, "Hash tags"."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    crc = 0
    for byte in key:
        crc = ((crc << 8) & 0xFFFF) ^ _CRC16[(crc >> 8) ^ byte]
    return crc & 0x3FFF


def _crc16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
    return crc


_CRC16 = tuple(_crc16_of(byte) for byte in range(256))
