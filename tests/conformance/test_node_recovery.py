"""The stock client loses its connection and gets what it has missed: every message once, in order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node_scripts import CLIENTS, STOCK_PATHS, STREAMING_PATHS, last_transport, run_concern
from tests.support.servers import LISTENERS

pytestmark = pytest.mark.node

#: A client that is cut off in the midst of an upgrade from a stream may be left with the transport that it has paused,
#: until a heartbeat is missed: so it is not asked for a burst that ends with an answer.
BURST = (*(f"4:{path}" for path in STOCK_PATHS), "tidegate:xhr-streaming", "tidegate:polling>xhr-streaming")
RECOVERABLE = (*(f"4:{path}" for path in STOCK_PATHS), *(f"tidegate:{path}" for path in STREAMING_PATHS))


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("client", BURST)
def test_connection_breaks_in_the_midst_of_a_burst(server_process: Any, client: str, listener: str) -> None:
    server = server_process(listener=listener, recovery_s=60)
    result = run_concern("recovery", url=server.url, client=client, scene="burst")
    assert result["seen"] == 600
    assert result["cuts"] >= 1
    assert result["sameId"] is True
    assert result["recovered"] == [False] + [True] * (len(result["recovered"]) - 1)
    # A stream that breaks is taken up again by the client's transport, without a reconnect.
    assert len(result["recovered"]) >= (1 if result["transport"] == "xhr-streaming" else 2)
    assert result["lengths"] == ["string"]
    assert result["echo"] == ["still here"]


@pytest.mark.parametrize("client", RECOVERABLE)
def test_server_has_not_noticed_that_the_connection_is_dead(server_process: Any, client: str) -> None:
    result = run_concern("recovery", url=server_process(recovery_s=60).url, client=client, scene="takeover")
    assert result["numbers"] == [True, True]
    assert result["seen"] == 100
    assert result["sameId"] is True
    assert result["recovered"] == [False, True, True]
    # Over HTTP the client says good-bye to the transport that it gives up, as soon as something gets through again.
    over_http = result["transport"] != "websocket"
    assert result["reason"] in ("connection replaced", *(["client disconnect"] if over_http else []))
    assert result["echo"] == ["still here"]


@pytest.mark.parametrize("client", ["4:websocket", "4:polling>websocket"])
def test_client_that_comes_too_late_begins_anew(server_process: Any, client: str) -> None:
    result = run_concern("recovery", url=server_process(recovery_s=0.2).url, client=client, scene="too late")
    assert result["seen"] == 2
    assert result["sameId"] is False
    assert result["recovered"] == [False, False]


@pytest.mark.parametrize("client", CLIENTS)
def test_everything_else_goes_on_with_an_argument_more(server_process: Any, client: str) -> None:
    """Also a client that knows nothing of recovery."""
    result = run_concern("messages", url=server_process(recovery_s=60).url, client=client)
    assert result["transport"] == last_transport(client)
    assert result["text"] == ["hello", 1, 2.5, True, None, {"a": [{}]}, []]
    assert result["asked"] == [{"got": ["what?", {"hex": "09"}]}, {"hex": "010203"}]
    assert result["ticks"] == [[n, 50] for n in range(300)]


@pytest.mark.parametrize("path", STOCK_PATHS)
def test_msgpack_parser_with_recovery(server_process: Any, path: str) -> None:
    server = server_process(serializer="msgpack", recovery_s=60)
    result = run_concern("msgpack", url=server.url, client=f"4:{path}")
    assert result["ticks"] == list(range(100))
    assert result["pushed"] == 70_000
