"""The pages of the examples, whose connection breaks: what they say of it, and that nothing is missed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.chromium import Chromium
from tests.support.servers import ROOT
from tests.support.waiting import eventually_sync, timeout_s

pytestmark = pytest.mark.browser

STATE = "document.getElementById('state').dataset.state"
DETAIL = "document.getElementById('connection-detail').textContent"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def example(name: str, *arguments: str) -> Iterator[str]:
    """The URL of an example that runs, and logs no traceback meanwhile."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tidegate-example-") as directory:
        log = Path(directory, "log")
        command = [sys.executable, "-m", f"examples.{name}", "--port", str(port), *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

        def is_listening() -> bool:
            assert process.poll() is None, f"the example ended:\n{log.read_text(errors='replace')}"
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually_sync(is_listening, "the example's port", 20)
            yield f"http://127.0.0.1:{port}"
            assert "Traceback" not in log.read_text(errors="replace")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout_s(20))


#: Arguments, and where the page counts what it has received and what it has missed.
EXAMPLES = {
    "live_feed": (("--sample-feed", "--interval", "0.5"), "received", "missed"),
    "price_ticker": (("--slow-port", "0"), "news-received", "news-missed"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_whose_connection_breaks_says_so_and_comes_back_with_everything(chromium: Chromium, name: str) -> None:
    arguments, received, missed = EXAMPLES[name]

    def number(counter: str) -> str:
        return f"Number(document.getElementById('{counter}').textContent)"

    with example(name, *arguments) as url, chromium.network(url) as network, chromium.page(network.url) as page:
        page.eventually("document.getElementById('state-text').textContent === 'Live · WebSocket'")
        before = page.eventually(number(received))
        network.set("refuse")
        page.eventually(f"{STATE} === 'recovering' && document.getElementById('retry').textContent.startsWith('Next')")
        assert page.read("document.getElementById('in-use').textContent") != "WebSocket"
        network.set("pass")
        page.eventually(f"{DETAIL}.startsWith('Back, with everything that was missed at ')", 30)
        assert page.read(STATE) == "connected"
        page.eventually(f"{number(received)} > {before}", 30)
        assert page.read(number(missed)) == 0
        assert page.errors() == []
