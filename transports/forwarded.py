"""Who the client is where proxies stand between it and us: its address, and the scheme and host it used.

::

    client ──► proxy (trusted) ──► proxy (trusted) = peer of our connection ──► us

A proxy adds whom it talks to behind what it was sent. So the chain is read from its end and up to the first address
that is not a trusted proxy's: what lies before that was written by the client, and is not even parsed, so that
nothing a client sends can hide its address or forge another.

Spec: RFC 7239, sections 4 to 6; ``X-Forwarded-*`` as proxies write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

Network = IPv4Network | IPv6Network

#: Proxies that are followed back; a longer chain is taken for an attack or a loop, and not believed.
MAX_HOPS: Final = 16
#: List items that are looked at, empty ones and pieces of quoted texts included.
MAX_ITEMS: Final = 4 * MAX_HOPS

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}

#: Characters of headers whose meaning is worth remembering: few clients of many have more.
_MAX_REMEMBERED: Final = 512

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HEADERS = {
    "forwarded": "Forwarded",
    "x-forwarded-for": "X-Forwarded-For",
    "x-forwarded-proto": "X-Forwarded-Proto",
    "x-forwarded-host": "X-Forwarded-Host",
    "x-forwarded-port": "X-Forwarded-Port",
}
#: Those that tell of the client, by lower-case name.
FORWARDING_HEADERS: Final = frozenset(_HEADERS)

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PAIR = rf'({_NAME})=({_NAME}|"(?:[^"\\]|\\.)*+")'
_ELEMENT = re.compile(rf"[ \t]*+(?:{_PAIR})?+(?:[ \t]*+;[ \t]*+(?:{_PAIR})?+)*+[ \t]*+")
_PAIRS = re.compile(_PAIR)
_QUOTED_PAIR = re.compile(r"\\(.)")
_OBFUSCATED = r"_[A-Za-z0-9._-]+"
_NODE = re.compile(
    r"(?:([0-9]{1,3}(?:\.[0-9]{1,3}){3})|\[([0-9A-Fa-f:.]{2,45})\]|[Uu][Nn][Kk][Nn][Oo][Ww][Nn]|" + _OBFUSCATED + ")"
    r"(?::(?:[0-9]{1,5}|" + _OBFUSCATED + "))?"
)
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{0,40}")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}))(:[0-9]{1,5})?")
_PORT = re.compile(r"[0-9]{1,5}")


class Client(NamedTuple):
    """The other end as it is believed to be.

    ``remote`` is empty for a peer without an IP address. ``disbelief`` says which headers were left out of account
    and why; empty where none were.
    """

    remote: str
    scheme: str
    host: str
    disbelief: str = ""


class _Said(NamedTuple):
    """The headers that ``_HEADERS`` names, in that order; empty where they were not sent."""

    forwarded: str
    addresses: str
    proto: str
    host: str
    port: str


class _Hop(NamedTuple):
    """What one proxy says of the other end of its connection: ``address`` is None where it does not tell."""

    address: str | None
    proto: str | None = None
    host: str | None = None


def canonical_network(text: str) -> str:
    """A network, an address or one of the ``WORDS``, in its shortest form.

    Raises: ValueError saying what is wrong with it.
    """
    word = text.strip().lower()
    if word in WORDS:
        return word
    try:
        network = ip_network(word)
    except ValueError:
        try:
            around = ip_network(word, strict=False)
        except ValueError:
            raise ValueError(
                f"{text!r} is not an IP address, a network such as 10.0.0.0/8, or one of {', '.join(WORDS)}"
            ) from None
        raise ValueError(f"{text!r} has bits set behind its prefix; did you mean {str(around)!r}?") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


class TrustedProxies:
    """The peers whose word about the client is taken.

    ``networks``: IP addresses, networks, or the words ``loopback`` (which includes Unix sockets: peers without an IP
    address) and ``private`` (RFC 1918 and unique local IPv6 addresses).

    Raises: ValueError, TypeError.
    """

    def __init__(self, networks: str | Iterable[str]) -> None:
        #: As given, in their shortest form.
        self.networks = tuple(map(_checked, [networks] if isinstance(networks, str) else networks))
        self._networks: list[Network] = [
            ip_network(text) for name in self.networks for text in WORDS.get(name, (name,))
        ]
        self._is_cached = lru_cache(maxsize=1024)(self._is_within)
        self._remembered = lru_cache(maxsize=1024)(self._read)

    def trusts(self, address: str) -> bool:
        """Whether a peer is believed. ``address`` is empty for one without an IP address."""
        return self._is_cached(address)

    def _is_within(self, text: str) -> bool:
        if not text:
            return "loopback" in self.networks
        try:
            address = _address(text.partition("%")[0])
        except ValueError:
            return False
        return any(address.version == network.version and address in network for network in self._networks)

    def client(self, headers: Mapping[str, str], peer: str, scheme: str) -> Client:
        """The client of a request. ``headers``: by lower-case name; ``peer`` and ``scheme``: of the connection."""
        host = headers.get("host", "")
        if headers.keys().isdisjoint(_HEADERS):
            return Client(peer, scheme, host)
        said = _Said(*[headers.get(name, "") for name in _HEADERS])
        if not any(said):
            return Client(peer, scheme, host)
        # A client that polls says the same each time.
        read = self._read if len(host) + sum(map(len, said)) > _MAX_REMEMBERED else self._remembered
        return read(peer, scheme, host, said)

    def _read(self, peer: str, scheme: str, host: str, said: _Said) -> Client:
        given = [name for name, value in zip(_HEADERS.values(), said, strict=True) if value]
        origin = f"from {peer or 'a Unix socket'}"
        if not self.trusts(peer):
            disbelief = f"{_sentence(given, origin, 'not believed')}: it is not in trusted_proxies"
            return Client(peer, scheme, host, disbelief)
        malformed = []
        forwarded = by_address = None
        depth = 1
        try:
            forwarded, _ = self._outermost(_forwarded_hops(said.forwarded), peer)
        except ValueError:
            malformed.append("Forwarded")
        try:
            by_address, depth = self._outermost(_x_forwarded_hops(said.addresses), peer)
        except ValueError:
            malformed.append("X-Forwarded-For")
        if forwarded is not None and by_address is not None and forwarded.address != by_address.address:
            # A proxy writes one of the two and lets the other pass as the client has sent it. Which, cannot be told.
            return Client(peer, scheme, host, f"Forwarded and X-Forwarded-For {origin} contradict each other")
        told = forwarded or _with_scheme_and_host(by_address or _Hop(peer), said, host, depth)
        return Client(
            told.address or peer,
            _SCHEMES.get((told.proto or "").lower(), scheme),
            told.host if told.host and _HOST.fullmatch(told.host) else host,
            _sentence(malformed, origin, "malformed") if malformed else "",
        )

    def _outermost(self, hops: Iterator[_Hop], peer: str) -> tuple[_Hop | None, int]:
        """What the outermost trusted proxy says, with the address nearest to the client that is known; and how many
        hops away that is.

        Raises: ValueError.
        """
        known = peer
        last = None
        count = 0
        for hop in hops:
            count += 1
            if count > MAX_HOPS:
                raise ValueError("too many proxies")
            last = hop
            if hop.address is None:
                break
            known = hop.address
            if not self.trusts(known):
                break
        return (None if last is None else last._replace(address=known)), count


def _checked(network: object) -> str:
    if not isinstance(network, str):
        network = str(network) if isinstance(network, Network | IPv4Address | IPv6Address) else network
    if not isinstance(network, str):
        raise TypeError(f"trusted_proxies must hold texts, not {type(network).__name__}")
    try:
        return canonical_network(network)
    except ValueError as error:
        raise ValueError(f"trusted_proxies: {error}") from None


def _sentence(names: list[str], origin: str, what: str) -> str:
    return f"{' and '.join(names)} {origin} {'was' if len(names) == 1 else 'were'} {what}"


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address:
    """Raises: ValueError."""
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _node_address(node: str) -> str | None:
    """The address of a node in brackets or dotted, with or without a port; None where it is hidden.

    Raises: ValueError.
    """
    match = _NODE.fullmatch(node)
    if match is None:
        raise ValueError("malformed node")
    address = match[1] or match[2]
    return None if address is None else str(_address(address))


def _x_forwarded_hops(value: str) -> Iterator[_Hop]:
    """Last first. Raises: ValueError when a malformed one is reached."""
    for entry in _entries(value):
        yield _Hop(str(_address(entry)) if _BARE_IPV6.fullmatch(entry) else _node_address(entry))


def _entries(value: str) -> Iterator[str]:
    """The items of a list, last first."""
    end = len(value)
    for _ in range(MAX_ITEMS):
        if end < 0:
            break
        comma = value.rfind(",", 0, end)
        entry = value[comma + 1 : end].strip(" \t")
        if entry:
            yield entry
        end = comma


def _with_scheme_and_host(hop: _Hop, said: _Said, sent_host: str, depth: int) -> _Hop:
    """``hop`` with what X-Forwarded-Proto, -Host and -Port say of it, ``depth`` addresses from the end."""
    proto, host, port = _at(said.proto, depth), _at(said.host, depth), _at(said.port, depth)
    # Default ports go without saying: the inner one of two proxies may name that of plain HTTP.
    if port is not None and _PORT.fullmatch(port) and port not in ("80", "443"):
        name = host or sent_host
        match = _HOST.fullmatch(name)
        host = f"{name}:{port}" if match is not None and match[1] is None else host
    return hop._replace(proto=proto, host=host)


def _at(value: str, depth: int) -> str | None:
    """The item ``depth`` from the end, written by the proxy that wrote the address there; of a shorter list the
    first, since its proxies replace what they were sent. Without addresses, the last.
    """
    found = None
    for number, entry in enumerate(_entries(value), 1):
        found = entry
        if number >= depth:
            break
    return found


def _forwarded_hops(value: str) -> Iterator[_Hop]:
    """Last first. Raises: ValueError when a malformed one is reached.

    A comma may also lie inside of quotes, and what the client wrote before may have left quotes open. Read from the
    end, an element is what matches as a whole behind some comma: inside of quotes none does, since the quote that
    would have to close there is escaped, or ends the outer ones.
    """
    end = comma = len(value)
    for _ in range(MAX_ITEMS):
        if comma < 0:
            break
        comma = value.rfind(",", 0, comma)
        match = _ELEMENT.fullmatch(value, comma + 1, end)
        if match is None:
            continue
        end = comma
        pairs: dict[str, str] = {}
        for name, text in _PAIRS.findall(match[0]):
            if name.lower() in pairs:
                raise ValueError("a parameter is given twice")
            pairs[name.lower()] = _QUOTED_PAIR.sub(r"\1", text[1:-1]) if text[0] == '"' else text
        if pairs:
            node = pairs.get("for")
            yield _Hop(None if node is None else _node_address(node), pairs.get("proto"), pairs.get("host"))
    if end >= 0:
        raise ValueError("malformed element")
