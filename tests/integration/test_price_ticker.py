"""The price ticker example over slow lines: its page in headless Chromium, and what the server keeps for it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

from examples.price_ticker.app import MARKET, SERVER, create_app, parse_arguments
from examples.price_ticker.market import SYMBOLS
from examples.price_ticker.slow_line import SlowLine
from tests.conformance.node_scripts import HERE as NODE_SCRIPTS
from tests.support.servers import ROOT, serving
from tests.support.waiting import eventually, timeout_s

TRANSPORTS = ("websocket", "xhr-streaming", "polling")
FAST_BYTES_PER_S = 100_000_000
SLOW_BYTES_PER_S = 12_000
CHANGES_PER_S = 50
#: Changes of each price while the lines are slow: some 3 MB in all, of which a line carries a tenth.
CHANGES = 400
#: One message of each symbol, news that waits, and what a port holds; far from what was sent.
MAX_BACKLOG_BYTES = 128 * 1024


class Pages:
    """The example's page, several times, in a browser."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        text = (await asyncio.wait_for(stdout.readline(), timeout_s(60))).decode().strip()
        assert text, "the browser's script ended; its error is above"
        return text

    async def results(self, sent: dict[str, Any]) -> Any:
        """What the pages have counted once they show what was sent last."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(sent).encode() + b"\n")
        await stdin.drain()
        return json.loads(await self.line())


@asynccontextmanager
async def browsing(urls: dict[str, str]) -> AsyncIterator[Pages]:
    for needed in (NODE_SCRIPTS / "node_modules", ROOT / "client_js" / "dist"):
        if not needed.exists():
            pytest.fail(f"{needed.relative_to(ROOT)} is missing; scripts/test makes it", pytrace=False)
    settings = {"pages": [{"name": name, "url": url} for name, url in urls.items()], "seconds": timeout_s(40)}
    process = await asyncio.create_subprocess_exec(
        "node",
        "node/price_ticker.mjs",
        json.dumps(settings),
        cwd=NODE_SCRIPTS,
        env=dict(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Pages(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), timeout_s(20))
        except TimeoutError:
            process.kill()
            await process.wait()


@pytest.mark.browser
async def test_newest_prices_and_all_news_arrive_over_lines_that_carry_a_tenth_of_what_is_sent(
    no_logged_errors: None,
) -> None:
    app = create_app(CHANGES_PER_S)
    market, server = app[MARKET], app[SERVER]
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(app))
        lines = {name: SlowLine("127.0.0.1", port, FAST_BYTES_PER_S) for name in TRANSPORTS}
        urls = {}
        for name, line in lines.items():
            line_port = await stack.enter_async_context(line.listening("127.0.0.1", 0))
            urls[name] = f"http://127.0.0.1:{line_port}/?transport={name}"
        pages = await stack.enter_async_context(browsing(urls))
        assert await pages.line() == "ready"
        sessions = dict(server.eio.sockets)
        assert sorted(session.transport for session in sessions.values()) == sorted(TRANSPORTS)
        for line in lines.values():
            line.bytes_per_s = SLOW_BYTES_PER_S
        most = 0

        def has_changed() -> bool:
            nonlocal most
            most = max(most, *(session.backlog() for session in sessions.values()))
            return market.quotes[SYMBOLS[0]].n >= until

        until = market.quotes[SYMBOLS[0]].n + CHANGES
        before = server.eio.counters.conflated
        await eventually(has_changed, "the prices change", 60)
        await market.close()
        sent = {"quotes": {symbol: quote.n for symbol, quote in market.quotes.items()}, "news": market.news_n}
        results = await pages.results(sent)

        assert server.eio.counters.conflated > before
        assert most <= MAX_BACKLOG_BYTES
        assert dict(server.eio.counters.closed) == {}, "nobody was dropped"
        assert server.eio.sockets == sessions, "nobody came anew"
        names = {"websocket": "WebSocket", "xhr-streaming": "xhr-streaming", "polling": "long-polling"}
        for transport, result in results.items():
            assert result["errors"] == [], transport
            assert result["quotes"] == sent["quotes"], transport
            assert (result["state"], result["transport"]) == ("connected", names[transport])
            assert result["news"] == sent["news"], transport
            assert (result["newsMissed"], result["newsReceived"] > 1) == (0, True), transport
            assert min(result["skipped"]) > 0, transport
        print({name: (sum(result["skipped"]), result["pulsesMissed"]) for name, result in results.items()}, most)


async def test_slow_line_carries_everything_and_no_faster() -> None:
    data = os.urandom(30_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5)) + data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line = SlowLine("127.0.0.1", server.sockets[0].getsockname()[1], 100_000)
    async with server, line.listening("127.0.0.1", 0) as port:
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.read(), timeout_s(10)) == b"hello" + data
        assert loop.time() - began >= 0.25
        writer.close()


async def test_slow_line_to_nowhere_closes() -> None:
    async with SlowLine("127.0.0.1", 1, 1000).listening("127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), timeout_s(10)) == b""
        writer.close()


async def test_page_its_assets_and_the_clock_are_served(no_logged_errors: None) -> None:
    async with serving(create_app()) as port, ClientSession(f"http://127.0.0.1:{port}") as http:
        for path, content in (
            ("/", "<title>Price ticker"),
            ("/ticker.css", ":root"),
            ("/ticker.js", "offsetS"),
            ("/favicon.svg", "<svg"),
            ("/socket.io/tidegate-client.min.js", "tidegate"),
        ):
            async with http.get(path) as response:
                assert response.status == 200
                assert content in await response.text()
        async with http.get("/clock") as response:
            assert (await response.json())["t"] > 0


@pytest.mark.parametrize("arguments", [["--changes", "0"], ["--line", "-1"], ["--line", "fast"]])
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
