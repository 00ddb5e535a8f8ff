"""The JavaScript clients, over every transport and upgrade they know."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node_scripts import CLIENTS, STOCK_PATHS, last_transport, run_concern
from tests.support.servers import LISTENERS

pytestmark = pytest.mark.node

ALL_BYTES = bytes(range(256)).hex()
MADE = {"buffer": {"hex": ALL_BYTES}, "nested": [{"hex": ""}, {"deep": {"hex": "001eff"}}], "text": "b"}


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_everything_a_client_says_and_hears(server_process: Any, client: str, listener: str) -> None:
    result = run_concern("messages", url=server_process(listener=listener).url, client=client)
    assert result["text"] == ["hello", 1, 2.5, True, None, {"a": [{}]}, []]
    assert result["nothing"] == []
    assert result["unicode"] == ['zwölf € 😀 \x1e \u2028 \x00 "\\']
    assert result["binary"] == [{"hex": "001eff62"}, {"hex": "07"}, {"hex": ""}]
    assert result["nested"] == [{"a": [{"hex": "c3a9"}, {"b": {"hex": "00"}}], "c": "b"}]
    assert result["made"] == [MADE]
    assert result["pushed"] == {"bytes": 70_000, "last": 69_999 % 256, "nested": MADE["nested"]}
    assert result["asked"] == [{"got": ["what?", {"hex": "09"}]}, {"hex": "010203"}]
    assert (result["who"], result["transport"]) == ([last_transport(client)], last_transport(client))
    assert result["news"] == [{"hex": "05"}, "in /news"]
    assert result["sameConnection"] is True
    assert result["nowhere"] == "Invalid namespace"
    assert result["refused"] == ["no entry", {"code": 7}]
    assert result["heard"] == {
        "socket": [["only socket"], ["both", {"hex": "01"}]],
        "other": [["only other"], ["both", {"hex": "01"}]],
    }
    assert result["ticks"] == [[n, 50] for n in range(300)]


@pytest.mark.parametrize("client", CLIENTS)
def test_half_a_megabyte_each_way(server_process: Any, client: str) -> None:
    result = run_concern("big", url=server_process().url, client=client)
    assert result == {"text": True, "binary": True, "made": 500_000, "disconnects": []}


@pytest.mark.parametrize("path", STOCK_PATHS)
def test_the_msgpack_parser(server_process: Any, path: str) -> None:
    result = run_concern("msgpack", url=server_process(serializer="msgpack").url, client=f"4:{path}")
    assert result == {
        "text": ["zwölf € 😀", 1, -1, 2.5, 4294967296, True, None, {"a": [{}]}],
        "undefined": [None, 1],
        "binary": [{"hex": "001eff62"}, {"a": [{"hex": "c3a9"}]}],
        "pushed": 70_000,
        "asked": [{"got": ["what?", {"hex": "09"}]}, {"hex": "010203"}],
        "news": ["in /news"],
        "refused": ["no entry", {"code": 7}],
        "ticks": list(range(100)),
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_how_connections_end_and_who_comes_back(server_process: Any, client: str) -> None:
    result = run_concern("ends", url=server_process().url, client=client)
    assert result["engineClose"] == {"client": "transport close", "server": "server disconnect"}
    assert result["reconnected"] == {"otherId": True, "transport": last_transport(client), "echo": ["again"]}
    assert result["clientEngineClose"]["client"] == "forced close"
    # Over WebSocket the client closes the connection and sends no packet that says so.
    assert result["clientEngineClose"]["server"] in ("client disconnect", "transport close")
    assert result["echoAfter"] == ["again"]
    if ">" in client:
        assert result["closeAtUpgrade"]["client"] == "forced close"
        assert result["closeAtUpgrade"]["server"] in ("client disconnect", "transport close")
    assert result["serverDisconnect"] == {
        "client": "io server disconnect",
        "server": "server disconnect",
        "connected": False,
    }
    assert result["broughtBack"] == ["by hand"]
    assert result["newsLeft"] == {"server": "client disconnect", "echo": ["stays"]}
    assert result["clientDisconnect"] == {"client": "io client disconnect", "server": "client disconnect"}
