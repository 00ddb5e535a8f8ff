"""What a node tells the others of itself, and which nodes are servers."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from .brokers.base import Node

#: Of a node's ``info``, under ``kind``: nodes that have no clients.
_NO_SERVERS: Final = frozenset({"emitter", "command"})


def node_info(kind: str) -> dict[str, Any]:
    """``started``: Unix time."""
    try:
        version = importlib.metadata.version("tidegate")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return {
        "kind": kind,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version,
        "started": int(time.time()),
    }


def servers_among(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Those of the nodes, by id, that have clients."""
    return {node_id: node for node_id, node in nodes.items() if node.info.get("kind") not in _NO_SERVERS}
