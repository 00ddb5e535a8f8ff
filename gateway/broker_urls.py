"""A broker from its URL: the only place, beside the application's own code, that names a concrete one.

::

    redis://… rediss://… redis+sentinel://… redis+cluster://… redis+unix://… valkey://…   see ``redis_options``
    unix:/run/tidegate        the nodes of one host, which meet in a directory of their user's
    memory:                   the nodes of one process; memory:NAME for several clusters in it
"""

from __future__ import annotations

from typing import Final

from .brokers.base import Broker, BrokerConfigError, BrokerLimits, Callbacks, Node
from .brokers.memory import MemoryBroker, MemoryHub

#: Where the nodes of ``memory:NAME`` meet.
_hubs: Final[dict[str, MemoryHub]] = {}

FORMS: Final = (
    "redis://HOST, redis+sentinel://HOST/NAME, redis+cluster://HOST, redis+unix:///PATH, valkey://HOST, "
    "unix:DIRECTORY or memory:"
)


def check_broker_url(url: str) -> None:
    """Raises: BrokerConfigError for what ``broker_from_url`` would not take."""
    broker_from_url(url)


def broker_from_url(
    url: str, node: Node | None = None, callbacks: Callbacks | None = None, limits: BrokerLimits | None = None
) -> Broker:
    """Not started. Raises: BrokerConfigError, without the password."""
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise BrokerConfigError(f"a broker is {FORMS}, not {url!r:.80}")
    if scheme == "memory":
        return MemoryBroker(_hubs.setdefault(rest.strip("/"), MemoryHub()), node, callbacks, limits)
    if scheme == "unix":
        from .brokers.unix import UnixBroker

        directory = rest.removeprefix("//")
        if not directory:
            raise BrokerConfigError("unix: is followed by the directory that the nodes meet in, as unix:/run/tidegate")
        return UnixBroker(directory, node, callbacks, limits)
    from .brokers.redis import RedisBroker
    from .brokers.redis_options import parse_url

    return RedisBroker(parse_url(url), node, callbacks, limits)
