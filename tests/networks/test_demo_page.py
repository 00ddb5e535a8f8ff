"""The page of ``tidegate serve --demo`` as its visitors see it: what it says of the connection, and what it counts.

The server is the demo's own, with recovery on; faults are those of ``tests/networks/node``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import socketio

from tests.support.chromium import Chromium, Network, Page
from tests.support.servers import ROOT
from tests.support.waiting import eventually_sync, timeout_s

pytestmark = pytest.mark.browser

STATE = "document.getElementById('state').dataset.state"
#: Notes each state that is on the screen, with its words, from now on.
WATCH = """() => {
  const shown = (globalThis.shown = []);
  const note = () => {
    const words = ["state-text", "state-why", "countdown"].map((id) => document.getElementById(id).textContent);
    shown.push([document.getElementById("state").dataset.state, ...words].join(" | "));
  };
  note();
  const options = { attributes: true, subtree: true, childList: true, characterData: true };
  new MutationObserver(note).observe(document.getElementById("state"), options);
}"""
SAY = """(text) => {
  document.getElementById("chat-text").value = text;
  document.getElementById("chat-form").requestSubmit();
}"""
LINES = "[...document.querySelectorAll('#lines li > span')].map((line) => line.textContent)"
WAITING = "[...document.querySelectorAll('#waiting li')].map((line) => line.children[1].textContent)"
COUNTERS = "missed", "repeated", "reordered", "came-gap"


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tidegate-demo-") as directory:
        log = Path(directory, "log")
        # Heartbeats at short intervals, so that a browser that is paused is given up while one waits for it.
        command = [sys.executable, "-m", "gateway", "serve", "--demo", "--port", "0"]
        command += ["--ping-interval-s", "2", "--ping-timeout-s", "2"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:

            def url() -> str:
                said = log.read_text(errors="replace")
                assert process.poll() is None, f"the server ended:\n{said}"
                return next((word for word in said.split() if word.startswith("http://127.0.0.1:")), "")

            yield eventually_sync(url, "the server's address", 20)
            assert "Traceback" not in log.read_text(errors="replace")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout_s(20))


@pytest.fixture
def demo_page(chromium: Chromium, demo_url: str) -> Iterator[tuple[Page, Network]]:
    """The page, connected, with a TCP proxy between."""
    with chromium.network(demo_url) as network, chromium.page(network.url) as page:
        page.eventually(f"{STATE} === 'connected'")
        page.eventually(number("received") + " >= 1")
        page.run(WATCH)
        yield page, network
        assert page.errors() == []


def number(counter: str) -> str:
    return f"Number(document.getElementById('{counter}').textContent)"


def check_nothing_is_missing(page: Page, returns: int = 1) -> None:
    """After a sample has come that was sent since the return."""
    page.eventually(f"{STATE} === 'connected' && {number('came-complete')} >= {returns}", 30)
    received = page.read(number("received"))
    page.eventually(f"{number('received')} > {received}")
    assert {counter: page.read(number(counter)) for counter in COUNTERS} == dict.fromkeys(COUNTERS, 0)
    assert "everything that was missed has been delivered" in page.read(
        "document.getElementById('state-why').textContent"
    )


def shown(page: Page, state: str) -> list[str]:
    """The words that were on the screen in that state."""
    words: list[str] = page.read(f"shown.filter((words) => words.startsWith('{state} |'))")
    return words


def test_a_cut_shows_recovering_and_costs_nothing(demo_page: tuple[Page, Network]) -> None:
    page, _ = demo_page
    for n in (1, 2, 3):
        page.eventually(f"{STATE} === 'connected'")
        page.run("() => document.getElementById('cut').click()")
        page.eventually(f"{number('came-complete')} >= {n}")
    check_nothing_is_missing(page, 3)
    recovering = shown(page, "recovering")
    assert any("The connection" in words and "Next attempt in" in words for words in recovering), recovering


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming", "polling"])
def test_a_chosen_transport_is_kept_to_and_recovers_too(demo_page: tuple[Page, Network], transport: str) -> None:
    page, _ = demo_page
    page.run("(name) => document.querySelector(`[data-transport='${name}']`).click()", transport)
    name = {"websocket": "WebSocket", "xhr-streaming": "xhr-streaming", "polling": "long-polling"}[transport]
    page.eventually(f"document.getElementById('state-text').textContent === 'Connected over {name}'")
    page.eventually(f"document.getElementById('server-transport').textContent === '{name}'")
    page.run("() => document.getElementById('cut').click()")
    page.eventually(f"{number('came-complete')} >= 1")
    assert page.read("document.getElementById('client-transport').textContent") == name
    assert page.read(number("repeated")) == 0


def test_lines_written_without_a_network_wait_and_are_said_once(demo_page: tuple[Page, Network]) -> None:
    page, network = demo_page
    network.set("refuse")
    page.eventually(f"{STATE} === 'recovering'")
    page.cut_network()
    page.eventually(f"{STATE} === 'offline'")
    page.run(SAY, "first")
    page.run(SAY, "second")
    assert page.read(WAITING) == ["waits for the connection"] * 2
    network.set("pass")
    page.restore_network()
    page.eventually("document.querySelectorAll('#waiting li').length === 0")
    check_nothing_is_missing(page)
    assert page.read(LINES)[-2:] == ["first", "second"]
    assert sum(line in ("first", "second") for line in page.read(LINES)) == 2
    (offline,) = {words.split(" | ")[2] for words in shown(page, "offline") if "no network" in words}
    assert offline.startswith("The browser has no network.")


def test_a_line_survives_the_choice_of_another_transport(demo_page: tuple[Page, Network]) -> None:
    page, network = demo_page
    network.set("refuse")
    page.eventually(f"{STATE} === 'recovering'")
    page.run(SAY, "not lost")
    page.run("() => document.querySelector('[data-transport=polling]').click()")
    assert page.read(WAITING) == ["waits for the connection"]
    network.set("pass")
    page.eventually(f"({LINES}).includes('not lost') && document.querySelectorAll('#waiting li').length === 0", 30)
    assert page.read(LINES).count("not lost") == 1


def test_a_line_that_is_refused_says_why_and_can_be_sent_again(demo_page: tuple[Page, Network]) -> None:
    page, _ = demo_page
    for n in range(6):
        page.run(SAY, f"hurry {n}")
    page.eventually("document.querySelector('#waiting [data-state=failed]')?.textContent.includes('Too fast')")
    page.eventually(
        "(document.querySelector('#waiting [data-state=failed] button')?.click(), "
        "document.querySelectorAll('#waiting li').length === 0)"
    )
    assert page.read(LINES)[-6:] == [f"hurry {n}" for n in range(6)]


@contextmanager
def no_network(page: Page, network: Network, chromium: Chromium) -> Iterator[None]:
    network.set("strand")
    page.cut_network()
    page.eventually(f"{STATE} === 'offline'")
    yield
    page.restore_network()


@contextmanager
def silence(page: Page, network: Network, chromium: Chromium) -> Iterator[None]:
    """Packets vanish, and only time tells."""
    network.set("silence")
    yield
    network.set("pass")


@contextmanager
def frozen(page: Page, network: Network, chromium: Chromium) -> Iterator[None]:
    page.freeze()
    yield
    page.thaw()


@contextmanager
def paused(page: Page, network: Network, chromium: Chromium) -> Iterator[None]:
    with chromium.paused():
        yield


#: With what is on the screen of each, in which state; "recovering" may be too short to be painted.
FAULTS: dict[str, tuple[Callable[[Page, Network, Chromium], AbstractContextManager[None]], str, str]] = {
    "no network": (no_network, "offline", "The browser has no network."),
    "silence": (silence, "recovering", "The server went silent."),
    "frozen": (frozen, "offline", "The page is frozen."),
    "paused": (paused, "recovering", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_befalls_the_page_is_told_and_nothing_is_missed(
    chromium: Chromium, demo_url: str, demo_page: tuple[Page, Network], fault: str
) -> None:
    page, network = demo_page
    befall, state, words = FAULTS[fault]
    with socketio.SimpleClient() as witness:
        witness.connect(demo_url, transports=["websocket"])
        with befall(page, network, chromium):
            await_samples_without_the_page(witness)
    check_nothing_is_missing(page)
    assert any(words in said for said in shown(page, state)), page.read("shown")
    assert page.read("shown.at(-1)").startswith("connected | Connected over ")


def await_samples_without_the_page(witness: socketio.SimpleClient) -> None:
    """Two of them, once the server has given the page's connection up."""
    alone = 0
    while alone < 2:
        event, *arguments = witness.receive(timeout_s(20))
        alone += event == "sample" and arguments[0]["clients"] == 1
