"""Fifty clients upgrade while a thousand numbered messages flow to and from each: every one comes once, in order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node_scripts import UPGRADING, last_transport, run_concern
from tests.support.servers import LISTENERS
from tests.support.waiting import timeout_s

pytestmark = pytest.mark.node

COUNT = 50
MESSAGES = 1000
#: That upgrades take long on a busy machine is nothing to fail for.
UPGRADE_TIMEOUT_S = 60


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("client", UPGRADING)
def test_nothing_is_lost_repeated_or_overtaken_in_an_upgrade(server_process: Any, client: str, listener: str) -> None:
    results = run_concern(
        "upgrades",
        url=server_process(listener=listener, upgrade_timeout=timeout_s(UPGRADE_TIMEOUT_S)).url,
        client=client,
        clients=COUNT,
        messages=MESSAGES,
        seconds=100,
    )
    assert len(results) == COUNT
    first, last = client.partition(":")[2].split(">")
    # With the first problem the script stops, and the others have not got everything yet.
    assert [result["problems"] for result in results if result["problems"]] == []
    for result in results:
        assert (result["ticks"], result["acks"], result["received"]) == (True, True, True)
        assert (result["upgrades"], result["transport"], result["who"]) == ([last], last, last_transport(client))
    # The test's own validity: both directions flowed on both transports.
    for flow in ("ticksByTransport", "heardOn", "sentOn"):
        assert sum(set(result[flow]) == {first, last} for result in results) >= COUNT * 0.9, flow
