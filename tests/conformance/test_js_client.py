"""The tests of ``tests/js``: tidegate-client in Node.js against servers, through proxies that misbehave."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node_scripts import run_node
from tests.support.servers import ROOT
from tests.support.waiting import TIMEOUT_FACTOR

pytestmark = pytest.mark.node

SUITES = sorted(path.name for path in (ROOT / "tests" / "js").glob("*.test.mjs"))


@pytest.mark.parametrize("suite", SUITES)
def test_the_client_holds_against_bad_networks(server_process: Any, suite: str) -> None:
    run_node(
        "--test",
        str(ROOT / "tests" / "js" / suite),
        seconds=110,
        TIDEGATE_URL=server_process().url,
        TIDEGATE_SMALL_STREAM_URL=server_process(stream_max_bytes=4000).url,
        TIDEGATE_RECOVERING_URL=server_process(module="tests.networks.server", recovery_s=60).url,
        TIDEGATE_FULL_URL=server_process(max_connections=1).url,
        TIDEGATE_TEST_TIMEOUT_FACTOR=str(TIMEOUT_FACTOR),
    )
