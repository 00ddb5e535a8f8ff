"""The browser files that the gateway serves, in headless Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node_scripts import STOCK_PATHS, STREAMING_PATHS, last_transport, run_concern

pytestmark = pytest.mark.browser

CASES = {
    **{f"stock:{path}": {"library": "stock", "path": path} for path in STOCK_PATHS},
    **{f"tidegate:{path}": {"library": "tidegate", "path": path} for path in (*STOCK_PATHS, *STREAMING_PATHS)},
    "tidegate, XMLHttpRequest:xhr-streaming": {"library": "tidegate", "path": "xhr-streaming", "via": "xhr"},
    "tidegate, XMLHttpRequest:polling>xhr-streaming": {
        "library": "tidegate",
        "path": "polling>xhr-streaming",
        "via": "xhr",
    },
}


@pytest.fixture(scope="module")
def results(_server_pool: Any) -> Any:
    cases = [{"name": name, **case} for name, case in CASES.items()]
    return run_concern("browser", url=_server_pool.get().url, cases=cases, seconds=100)


@pytest.mark.parametrize("name", CASES)
def test_the_browser_talks_and_listens(results: Any, server_process: Any, name: str) -> None:
    result = results[name]
    assert result["errors"] == []
    assert result["bursts"] == [list(range(200))] * 2
    assert result["echo"] == "zwölf € 😀 \x1e"
    assert result["echoed"] == "001eff"
    assert result["binary"] == {"buffer": bytes(range(256)).hex(), "deep": "001eff"}
    assert (result["who"], result["transport"]) == (last_transport(name), last_transport(name))
    assert result["disconnects"] == []
