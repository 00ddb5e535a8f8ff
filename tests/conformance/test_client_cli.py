"""The command ``tidegate-client``, as a process, against a server whose application offers channels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.support.servers import ROOT, ServerProcess
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.node

MAIN = ROOT / "client_js" / "dist" / "cli" / "main.js"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    if not MAIN.exists():
        pytest.fail("client_js/dist is missing; scripts/test makes it", pytrace=False)
    with ServerProcess(module="tests.support.channels") as process:
        yield process


@pytest.fixture(scope="module")
def plain_server() -> Iterator[ServerProcess]:
    with ServerProcess(module="tests.support.channels", channels=False) as process:
        yield process


class Command:
    """``tidegate-client`` under way; what it has printed so far is in ``out`` and ``err``."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.out = self.err = ""
        self.process = subprocess.Popen(
            ["node", str(MAIN), *arguments],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        if not self.process.stdout.closed:
            self.out += (self.process.stdout.read() or b"").decode()
        self.err += (self.process.stderr.read() or b"").decode()

    def until(self, text: str) -> None:
        """Wait until it has printed ``text``."""

        def has_text() -> bool:
            self.read()
            assert self.process.poll() is None or text in self.out + self.err, f"it ended:\n{self.out}\n{self.err}"
            return text in self.out + self.err

        eventually_sync(has_text, f"{text!r} printed", 30)

    def ends(self) -> int:
        """The exit code."""

        def has_ended() -> bool:
            self.read()
            return self.process.poll() is not None

        eventually_sync(has_ended, f"the end of the command:\n{self.err}", 30)
        self.read()
        assert self.process.returncode is not None
        return self.process.returncode

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
    with Command(*arguments, **environ) as command:
        code = command.ends()
        return code, command.out, command.err


def publish(server: ServerProcess, channel: str, *values: Any) -> dict[str, Any]:
    """The position of the last of them."""
    for value in values:
        message = json.dumps({"channel": channel, "data": value})
        code, out, err = run("emit", server.url, "channel:publish", message)
        assert code == 0, err
    position: dict[str, Any] = json.loads(out)
    return position


def test_emit_prints_the_answer(server: ServerProcess) -> None:
    assert run("emit", server.url, "say", "1", '{"a": "b"}') == (0, "2\n", "")


def test_emit_says_when_nothing_handles_the_event(server: ServerProcess) -> None:
    code, out, err = run("emit", server.url, "nobody")
    assert (code, out) == (5, "")
    assert "no handler for 'nobody'" in err


def test_emit_says_when_the_handler_fails(server: ServerProcess) -> None:
    code, _, err = run("emit", server.url, "fail")
    assert code == 1
    assert "fail: Internal server error" in err
    server.accept_log()


@pytest.mark.parametrize("transport", ["websocket", "polling", "xhr-streaming", "polling,websocket"])
def test_transports_are_those_asked_for(server: ServerProcess, transport: str) -> None:
    code, out, err = run("emit", server.url, "say", "1", "-v", "--transport", transport)
    assert (code, out) == (0, "1\n")
    # The upgrade may come before the server's welcome.
    assert any(f"connected by {name}\n" in err for name in transport.split(","))


def test_events_prints_each_event(server: ServerProcess) -> None:
    with Command("events", server.url, "-v") as human, Command("events", server.url, "--json", "-v") as machine:
        human.until("connected by")
        machine.until("connected by")
        run("emit", server.url, "say", '"one"', '{"n": 2}')
        human.until('said "one" {"n":2}\n')
        machine.until('{"event":"said","args":["one",{"n":2}]}\n')


def test_tail_prints_publications_from_now_on(server: ServerProcess) -> None:
    publish(server, "now", "before")
    with Command("tail", server.url, "now", "-v") as tail:
        tail.until("now: subscribed")
        publish(server, "now", {"n": 1}, "two")
        tail.until('"two"\n')
        assert tail.out == '2 {"n":1}\n3 "two"\n'


def test_tail_begins_with_history(server: ServerProcess) -> None:
    publish(server, "old", *range(5))
    with Command("tail", server.url, "old", "--history", "3", "--json") as tail:
        tail.until('"data":4}\n')
        publish(server, "old", 5)
        tail.until('"data":5}\n')
        assert [json.loads(line) for line in tail.out.splitlines()] == [
            {"channel": "old", "offset": offset, "data": offset - 1} for offset in (3, 4, 5, 6)
        ]


def test_tail_goes_on_from_a_position(server: ServerProcess) -> None:
    position = publish(server, "since", "one", "two")
    publish(server, "since", "three", "four")
    with Command("tail", server.url, "since", "--since", f"{position['offset']}@{position['epoch']}") as tail:
        tail.until('"four"\n')
        assert (tail.out, tail.err) == ('3 "three"\n4 "four"\n', "")


def test_tail_says_when_the_position_is_of_another_stream(server: ServerProcess) -> None:
    publish(server, "other", "one", "two")
    with Command("tail", server.url, "other", "--since", "1@elsewhere") as tail:
        tail.until("some were missed here")


def test_tail_survives_a_lost_connection(server: ServerProcess) -> None:
    """The connection of everybody in the room ends; what is published meanwhile is printed, once."""
    with Command("tail", server.url, "lossy", "-v", "--transport", "websocket") as tail:
        tail.until("lossy: subscribed")
        publish(server, "lossy", 1)
        code, _, err = run("emit", server.url, "drop_subscribers", '"lossy"')
        assert code == 0, err
        publish(server, "lossy", 2)
        tail.until("again by websocket")
        publish(server, "lossy", 3)
        tail.until("3 3\n")
        assert tail.out == "1 1\n2 2\n3 3\n"


def test_tail_says_that_a_gateway_offers_no_channels(plain_server: ServerProcess) -> None:
    code, out, err = run("tail", plain_server.url, "news")
    assert (code, out) == (5, "")
    assert err == "tidegate-client: this gateway does not offer channels\n"


def test_a_refused_channel_and_a_refused_connection(server: ServerProcess) -> None:
    code, _, err = run("tail", server.url, "secret")
    assert code == 3
    assert "members only" in err
    code, _, err = run("tail", server.url, "news", "--auth", '{"refuse": 1}')
    assert code == 3
    assert "no entry" in err


def test_a_token_is_taken_from_the_option_or_the_environment(server: ServerProcess) -> None:
    assert run("emit", server.url, "token", "--token", "abc") == (0, '"abc"\n', "")
    assert run("emit", server.url, "token", TIDEGATE_TOKEN="def") == (0, '"def"\n', "")


def test_no_server_in_time(server: ServerProcess) -> None:
    code, _, err = run("tail", "http://127.0.0.1:9", "news", "--timeout", "0.5")
    assert code == 4
    assert "no connection to http://127.0.0.1:9 within 0.5 s" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it(server: ServerProcess, number: signal.Signals, code: int) -> None:
    with Command("tail", server.url, "news", "-v") as tail:
        tail.until("news: subscribed")
        tail.process.send_signal(number)
        assert tail.ends() == code
        assert "tidegate-client:" not in tail.err


def test_a_pipe_that_closes_is_no_error(server: ServerProcess) -> None:
    with Command("tail", server.url, "piped", "-v") as tail:
        tail.until("piped: subscribed")
        assert tail.process.stdout is not None
        tail.process.stdout.close()
        # The first write finds out.
        publish(server, "piped", 1)
        assert tail.ends() == 0
        assert "tidegate-client:" not in tail.err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((), "which command?"),
        (("listen",), 'unknown command "listen"'),
        (("tail",), "needs the URL"),
        (("tail", "example"), "is not the URL of a gateway"),
        (("tail", "ftp://example.com", "news"), "is not the URL of a gateway"),
        (("tail", "http://127.0.0.1:9"), "needs a channel"),
        (("tail", "http://127.0.0.1:9", "a", "b"), 'what is "b"?'),
        (("events", "http://127.0.0.1:9", "a"), 'what is "a"?'),
        (("events", "http://127.0.0.1:9", "--history", "3"), "are for tail"),
        (("emit", "http://127.0.0.1:9", "say", "hello"), "text needs its quotes"),
        (("emit", "http://127.0.0.1:9", "say", "--auth", "[1]"), "--auth must be a JSON object"),
        (("tail", "http://127.0.0.1:9", "a", "--history", "1.5"), "whole number"),
        (("tail", "http://127.0.0.1:9", "a", "--since", "5"), "OFFSET@EPOCH"),
        (("tail", "http://127.0.0.1:9", "a", "--transport", "pigeon"), 'unknown transport "pigeon"'),
        (("tail", "http://127.0.0.1:9", "a", "--timeout", "soon"), "--timeout must be a number"),
        (("tail", "http://127.0.0.1:9", "a", "--what"), "--what"),
    ],
)
def test_a_wrong_command_line_says_what_is_expected(arguments: tuple[str, ...], hint: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert hint in err
    assert "--help" in err


def test_help_and_version() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "Exit codes:" in out
    package = json.loads((ROOT / "client_js" / "package.json").read_text())
    assert run("--version") == (0, f"{package['version']}\n", "")
    assert package["bin"] == {"tidegate-client": str(MAIN.relative_to(ROOT / "client_js"))}
    assert Path(MAIN).read_text().startswith("#!/usr/bin/env node\n")
