"""The workers' servers as one: who joins what, and where workers of other hosts are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.brokers.base import Node
from gateway.brokers.memory import MemoryBroker, MemoryHub
from gateway.workers.membership import NodeRegistry, join
from transports.engine import Engine


def test_servers_without_a_broker_meet_by_their_place_in_the_directory(tmp_path: Path) -> None:
    servers = [gateway.Server(), gateway.Server()]
    clusters = join([server.eio for server in servers], tmp_path, None)
    assert clusters == [server.cluster for server in servers]
    assert [cluster._given for cluster in clusters] == [f"unix:{tmp_path}/bus-0", f"unix:{tmp_path}/bus-1"]
    assert all(cluster.info == {} for cluster in clusters)


def test_a_broker_of_the_servers_own_is_kept_and_engines_without_a_server_are_passed_over(tmp_path: Path) -> None:
    server = gateway.Server(broker="memory:own")
    assert join([Engine(), server.eio], tmp_path, None) == [server.cluster]


@pytest.mark.parametrize(
    ("listen", "address"),
    [("10.0.0.5:7000", "10.0.0.5:7000"), ("[fd00::5]:7000", "[fd00::5]:7000"), ("0.0.0.0:7000", "here:7000")],
)
def test_nodes_tell_the_internal_address_of_their_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str, address: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    (cluster,) = join([gateway.Server().eio], tmp_path, listen)
    assert cluster.info == {"address": address}


async def test_a_worker_is_found_where_its_node_says_as_long_as_that_is_there() -> None:
    hub = MemoryHub()
    here, there = (
        MemoryBroker(hub, Node(name, info))
        for name, info in (("aaaaaaa", {}), ("bbbbbbb", {"address": "10.0.0.6:7000"}))
    )
    broken = MemoryBroker(hub, Node("ccccccc", {"address": "nowhere"}))
    for broker in (here, there, broken):
        await broker.start()

    class Joined:
        broker: Any = here

    class Alone:
        broker = None

    registry = NodeRegistry([Alone(), Joined()])  # type: ignore[list-item]
    assert registry.locate("bbbbbbb") == ("10.0.0.6", 7000)
    assert registry.locate("ccccccc") is None
    assert registry.locate("ddddddd") is None
    await there.close()
    assert registry.locate("bbbbbbb") is None
    for broker in (broken, here):
        await broker.close()
