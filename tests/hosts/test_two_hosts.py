"""Two hosts with two workers each behind a balancer that asks them by turns, and stock clients of every transport."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.node_scripts import CLIENTS
from tests.support import netns
from tests.support.two_hosts import URL, two_hosts
from tests.support.waiting import TIMEOUT_FACTOR, timeout_s

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(bool(netns.why_not()), reason=f"no network namespaces here: {netns.why_not()}"),
]

COUNT = 200
ROOMS = 10
PUBLISHERS = 10
MESSAGES = 30
ECHOES = 40


@pytest.mark.timeout(timeout_s(240))
def test_clients_of_every_transport_hear_everything_once_and_in_order(tmp_path: Path) -> None:
    settings = {
        "url": URL,
        "clients": CLIENTS,
        "count": COUNT,
        "rooms": ROOMS,
        "publishers": PUBLISHERS,
        "messages": MESSAGES,
        "echoes": ECHOES,
        "upgradeMs": 3000,
    }
    with two_hosts(tmp_path, "tests.hosts.application:app") as cluster:
        workers = {worker: host.place for host in cluster.hosts for worker in host.workers()}
        environ = {**os.environ, "TEST_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR)}
        node = cluster.node("hosts.mjs", json.dumps(settings), env=environ)
        try:
            output, _ = node.communicate(timeout=timeout_s(200))
        finally:
            node.kill()
        logs = "".join(host.log[-3000:] for host in cluster.hosts)
        assert node.returncode == 0, f"{logs}\n{cluster.nginx_log()[-2000:]}"
        statuses = [host.status() for host in cluster.hosts]
        requests = cluster.requests()
    found = json.loads(output)
    assert len(found) == COUNT
    everything = list(range(MESSAGES))
    for number, client in enumerate(found):
        room = number % ROOMS
        expected = {f"all {publisher}": everything for publisher in range(PUBLISHERS)}
        for publisher in range(PUBLISHERS):
            expected[f"room {room} {publisher}"] = [n for n in everything if (publisher + n) % ROOMS == room]
        assert client["heard"] == expected, client["name"]
        # The last asks whether anything comes twice. Handlers of one client may overtake each other's answers.
        assert sorted(client["echoes"]) == list(range(ECHOES)), client["name"]
    owners = Counter(workers[client["owner"]] for client in found)
    assert len({client["owner"] for client in found}) == 4, "every worker has clients"
    assert min(owners.values()) > COUNT / 4, owners
    for status in statuses:
        assert status is not None
        assert status["total"]["forwarded"]["relayed_to_hosts"] > COUNT / 4
        assert not status["total"]["refused"]
    # An upgrade that came to the other host was answered there.
    assert {line.split()[1] for line in requests} <= {"200", "101", "499"}, Counter(
        line.split()[1] for line in requests
    )
