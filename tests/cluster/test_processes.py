"""Servers in processes of their own, one Redis, and the stock client of Node."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.redis_server import RedisServer
from tests.support.servers import ROOT, ServerProcess
from tests.support.waiting import TIMEOUT_FACTOR, timeout_s

COUNT = 100


@pytest.mark.parametrize("options", [{}, {"recovery_s": 30}], ids=["plain", "recovery"])
def test_stock_clients_of_two_processes_hear_everything_once_and_in_order(
    shared_redis: RedisServer, options: dict[str, Any]
) -> None:
    conformance = ROOT / "tests" / "conformance"
    assert (conformance / "node_modules" / "socket.io-client").exists(), "scripts/test makes it"
    url = f"{shared_redis.url}?prefix=processes-{len(options)}:"
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(broker=url, **options)) for _ in range(2)]
        done = subprocess.run(
            ["node", "node/cluster.mjs", json.dumps({"urls": [server.url for server in servers], "count": COUNT})],
            cwd=conformance,
            env={**os.environ, "TEST_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR)},
            capture_output=True,
            text=True,
            timeout=timeout_s(60),
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}\n{servers[0].log()[-2000:]}"
    found = json.loads(done.stdout)
    everything = list(range(COUNT))
    expected = {f"{kind} {sender}": everything for kind in ("room", "all") for sender in range(6)}
    assert found["heard"] == [expected] * 6
    assert found["blobs"] == [everything] * 6
