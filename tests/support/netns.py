"""A private network of namespaces: a hub, and hosts with a line to the clients and another to each other."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

FRONT = "10.211.1"
BACK = "10.211.2"


class NetworkError(Exception):
    """The system does not let us make one; the text says what failed."""


def _ip(*arguments: str) -> None:
    """Raises: NetworkError."""
    program = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise NetworkError("iproute2 is missing; scripts/test installs it")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Network:
    """``hub`` has address 1 of both networks, the host of place n address 11 + n.

    ::

        hub: clients, nginx, Redis
          ├─ front 10.211.1.0/24 ─ host …   what comes from the balancer
          └─ back  10.211.2.0/24 ─ host …   Redis, and the other hosts

    Nothing of it touches the network that the tests run in; addresses may be the same in several at a time.
    """

    def __init__(self, hosts: int) -> None:
        token = secrets.token_hex(3)
        self.hub = f"tg-{token}-hub"
        self.hosts = [f"tg-{token}-{place}" for place in range(hosts)]
        self._made: list[str] = []

    @staticmethod
    def front(place: int) -> str:
        return f"{FRONT}.{11 + place}"

    @staticmethod
    def back(place: int) -> str:
        return f"{BACK}.{11 + place}"

    def make(self) -> None:
        """Raises: NetworkError."""
        for name in (self.hub, *self.hosts):
            _ip("netns", "add", name)
            self._made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        for line, net in (("front", FRONT), ("back", BACK)):
            _ip("-n", self.hub, "link", "add", line, "type", "bridge")
            _ip("-n", self.hub, "addr", "add", f"{net}.1/24", "dev", line)
            _ip("-n", self.hub, "link", "set", line, "up")
            for place, host in enumerate(self.hosts):
                port = f"{line}{place}"
                _ip("-n", self.hub, "link", "add", port, "type", "veth", "peer", "name", line, "netns", host)
                _ip("-n", self.hub, "link", "set", port, "master", line, "up")
                _ip("-n", host, "addr", "add", f"{net}.{11 + place}/24", "dev", line)
                _ip("-n", host, "link", "set", line, "up")

    def cut(self, place: int) -> None:
        """The host hears neither Redis nor other hosts, and nobody is told: what is sent vanishes."""
        _ip("-n", self.hub, "link", "set", f"back{place}", "down")

    def mend(self, place: int) -> None:
        _ip("-n", self.hub, "link", "set", f"back{place}", "up")

    def remove(self) -> None:
        for name in self._made:
            _ip("netns", "del", name)
        self._made.clear()


def inside(namespace: str) -> list[str]:
    """What a command begins with so that it runs there; its process is the command's own."""
    return ["ip", "netns", "exec", namespace]


@contextmanager
def network(hosts: int) -> Iterator[Network]:
    """Raises: NetworkError."""
    made = Network(hosts)
    try:
        made.make()
        yield made
    finally:
        made.remove()


@cache
def why_not() -> str:
    """Why no such network can be made here; empty where it can."""
    try:
        with network(1) as made:
            subprocess.run([*inside(made.hub), "true"], check=True, capture_output=True)
    except (NetworkError, OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return ""
