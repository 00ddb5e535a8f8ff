"""The workers' servers as one: by the broker of the settings, or among the workers of a host by their directory."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.cluster import Cluster
from gateway.server import Server
from transports.engine import Engine
from transports.peers.registry import Address, parse_address

#: Of a node's ``info``: the internal address of its host, where it has one.
ADDRESS: Final = "address"
_ANY: Final = frozenset({"", "0.0.0.0", "::"})


def join(engines: Iterable[Engine], directory: Path, cluster_listen: str | None) -> list[Cluster]:
    """The clusters of the servers of these engines, before their application starts. A server that has no broker of its
    own meets those of the other workers in ``directory``.
    """
    found = []
    for place, engine in enumerate(engines):
        server = engine.application
        if not isinstance(server, Server):
            continue
        cluster = server.cluster
        if cluster is None:
            # One directory for each server of an application: those of the same place are one.
            cluster = server.join(f"unix:{directory / f'bus-{place}'}")
        if cluster_listen is not None:
            cluster.info[ADDRESS] = _advertised(cluster_listen)
        found.append(cluster)
    return found


def _advertised(listen: str) -> str:
    host, port = parse_address(listen)
    if host in _ANY:
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class NodeRegistry:
    """Where workers live, as the nodes of the clusters tell: ``transports.peers.registry.Registry``."""

    def __init__(self, clusters: Iterable[Cluster]) -> None:
        self._clusters = tuple(clusters)

    def locate(self, worker_id: str) -> Address | None:
        for cluster in self._clusters:
            node = None if cluster.broker is None else cluster.broker.nodes().get(worker_id)
            address = None if node is None else node.info.get(ADDRESS)
            if isinstance(address, str):
                try:
                    return parse_address(address)
                except ValueError:
                    return None  # of another version of us
        return None
