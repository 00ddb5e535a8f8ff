"""The ``tidegate`` command as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio

from tests.support.waiting import eventually, eventually_sync, timeout_s

TIDEGATE = Path(sys.executable).with_name("tidegate")
RUNNING = re.compile(r"Running on (https?)://127\.0\.0\.1:(\d+)")

APPLICATION = """
import asyncio
import gateway
from aiohttp import web

server = gateway.Server(ping_interval=1, ping_timeout=2)

@server.event
async def slow(sid, seconds):
    print("slow begins", flush=True)
    await asyncio.sleep(seconds)
    return "done"

@server.event
async def flood(sid, count):
    print("flood begins", flush=True)
    for _ in range(count):
        await server.emit("data", b"x" * 65536, to=sid)

@server.event
async def disconnect(sid, reason):
    print("disconnect:", reason, flush=True)

app = web.Application()
quiet = gateway.Server(ping_interval=60)
quiet.attach(app)
quiet.on("slow", slow)
quiet.on("flood", flood)
quiet.on("disconnect", disconnect)

async def hello(request):
    return web.Response(text="hello from the application")

async def wait(request):
    print("request begins", flush=True)
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text="waited")

app.router.add_get("/hello", hello)
app.router.add_get("/wait", wait)
number = 7
"""


def environment(**variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "PYTHONPATH"))}
    return {**clean, "PYTHONUNBUFFERED": "1", **variables}


class Process:
    """``tidegate`` with these arguments; its output is collected in files."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.log_path = folder / "stderr.log"
        self.output_path = folder / "stdout.log"
        with self.log_path.open("wb") as log, self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [TIDEGATE, *arguments],
                cwd=folder,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    def await_running(self) -> str:
        """Its URL."""

        def is_running() -> re.Match[str] | None:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            return RUNNING.search(self.log)

        found = eventually_sync(is_running, "the address in the log", 20)
        return f"{found[1]}://127.0.0.1:{found[2]}"

    def terminate(self) -> float:
        """Ask it to stop; when that was."""
        self.process.send_signal(signal.SIGTERM)
        return time.monotonic()

    async def ended(self, seconds: float) -> int:
        """Its exit code, within the time."""
        code = await asyncio.to_thread(self.process.wait, timeout_s(seconds))
        assert "Traceback" not in self.log, self.log
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``tidegate``; a module ``application`` lies in its folder."""
    (tmp_path / "application.py").write_text(APPLICATION)
    processes: list[Process] = []

    def start(*arguments: str, **variables: str) -> Process:
        folder = tmp_path / f"process-{len(processes)}"
        folder.mkdir()
        (folder / "application.py").write_text(APPLICATION)
        processes.append(Process(folder, *arguments, **variables))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a ``tidegate`` that ends by itself says."""
    return subprocess.run(
        [TIDEGATE, *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout_s(30),
        check=False,
    )


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> Any:
    connect = {"transports": ["websocket"], **options.pop("connect", {})}
    client = socketio.AsyncClient(**{"reconnection": False, **options})
    try:
        await client.connect(url, **connect)
        yield client
    finally:
        await client.shutdown()
        if client.eio.http is not None:
            await client.eio.http.close()


# -- serving -------------------------------------------------------------------------------------------------


async def test_demo_serves_its_page_and_the_browser_client(start: Start) -> None:
    url = start("serve", "--demo", "--port", "0").await_running()
    async with aiohttp.ClientSession() as http:
        async with http.get(url + "/") as response:
            page = await response.text()
            assert response.status == 200
        scripts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert any(script.lstrip("/").startswith("socket.io/") for script in scripts), scripts
        for script in scripts:
            if script.startswith(("data:", "#", "http")):
                continue
            async with http.get(url + "/" + script.lstrip("/")) as response:
                assert response.status == 200, script
                assert await response.read()
        async with http.get(url + "/socket.io/?EIO=4&transport=polling") as response:
            assert (await response.text()).startswith('0{"sid"')
    async with connected(url) as client:
        samples: asyncio.Queue[Any] = asyncio.Queue()
        client.on("sample", lambda *arguments: samples.put_nowait(arguments))
        sample, offset = await asyncio.wait_for(samples.get(), timeout_s(10))
        assert sample["clients"] == 1
        assert isinstance(offset, str), "recovery is on"


async def test_application_of_the_working_directory_is_served(start: Start) -> None:
    url = start("serve", "application:server", "--port", "0").await_running()
    async with connected(url) as client:
        assert await client.call("slow", 0) == "done"


@pytest.mark.parametrize("target", ["application:app", "application:server"])
async def test_application_on_the_path_is_served(start: Start, tmp_path: Path, target: str) -> None:
    url = start("serve", target, "--port", "0", PYTHONPATH=str(tmp_path)).await_running()
    async with connected(url) as client:
        assert await client.call("slow", 0) == "done"
    if target.endswith("app"):
        async with aiohttp.ClientSession() as http, http.get(url + "/hello") as response:
            assert await response.text() == "hello from the application"


async def test_settings_reach_the_server(start: Start) -> None:
    process = start("serve", "--port", "0", "--path", "/live/", TIDEGATE_PING_INTERVAL_S="7s")
    async with (
        aiohttp.ClientSession() as http,
        http.get(process.await_running() + "/live/?EIO=4&transport=polling") as response,
    ):
        assert json.loads((await response.text())[1:])["pingInterval"] == 7000


def test_config_tells_each_setting_and_its_source(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[server]\nport = 9000\n[log]\nlog_level = "debug"\n')
    ended = run(tmp_path, "config", "--json", "--host", "0.0.0.0", TIDEGATE_LOG_LEVEL="error")
    assert ended.returncode == 0, ended.stderr
    tables = json.loads(ended.stdout)
    assert tables["server"]["port"] == {"value": 9000, "source": "file", "place": "tidegate.toml"}
    assert tables["server"]["host"]["source"] == "flag"
    assert tables["log"]["log_level"]["value"] == "error"
    text = run(tmp_path, "config").stdout
    assert re.search(r"^port +9000 +tidegate\.toml$", text, re.MULTILINE)


def test_module_can_be_run_like_the_command(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "--version"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s(30),
        check=False,
    )
    assert ended.returncode == 0
    assert ended.stdout.startswith("tidegate ")


# -- failing -------------------------------------------------------------------------------------------------


def test_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(tmp_path, "serve", "--port", str(port))
    assert ended.returncode == 1
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--port", "70000"], {}, ["--port", "65535"]),
        (["--prot", "1"], {}, ["--prot"]),
        ([], {"TIDEGATE_PING_INTERVAL_S": "soon"}, ["TIDEGATE_PING_INTERVAL_S"]),
        (["--config", "missing.toml"], {}, ["missing.toml"]),
        (["--certfile", "missing.pem", "--keyfile", "missing.pem"], {}, ["missing.pem"]),
        (["no_such_module:app"], {}, ["no_such_module"]),
        (["application:number"], {}, ["application:number"]),
        (["application"], {}, ["module:attribute"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_configuration_ends_with_2_and_says_what(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], words: list[str]
) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    ended = run(tmp_path, "serve", "--port", "0", *arguments, PYTHONPATH=str(tmp_path), **variables)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert all(word in ended.stderr for word in words), ended.stderr
    assert all(line.startswith("tidegate: ") for line in ended.stderr.splitlines())


# -- TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-keyout", str(keyfile), "-out", str(certfile),
        ],
        check=True,
        capture_output=True,
        timeout=timeout_s(30),
    )  # fmt: skip
    return certfile, keyfile


@pytest.mark.parametrize("uvloop", ["--uvloop", "--no-uvloop"])
async def test_tls_carries_every_transport(start: Start, certificate: tuple[Path, Path], uvloop: str) -> None:
    certfile, keyfile = certificate
    process = start(
        "serve", "application:app", "--port", "0", uvloop, "--certfile", str(certfile), "--keyfile", str(keyfile),
        PYTHONPATH=str(certfile.parent),
    )  # fmt: skip
    url = process.await_running()
    assert url.startswith("https://")
    context = ssl.create_default_context(cafile=str(certfile))
    for transport in ("websocket", "polling"):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            connect = {"transports": [transport]}
            async with connected(url, http_session=http, connect=connect) as client:
                assert client.transport() == transport
                assert await client.call("slow", 0) == "done"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        async with http.get(url + "/hello") as response:
            assert await response.text() == "hello from the application"
        async with http.get(url + "/socket.io/?EIO=4&transport=xhr-streaming") as response:
            assert (await response.content.readuntil(b"\x1e")).startswith(b'0{"sid"')
    process.terminate()
    assert await process.ended(10) == 0


# -- stopping ------------------------------------------------------------------------------------------------


def refuses_connections(url: str) -> bool:
    host, port = url.rpartition("/")[2].split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_handler_in_flight_finishes_and_its_ack_arrives(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", "--drain-timeout-s", "10s", PYTHONPATH=str(tmp_path))
    url = process.await_running()
    async with connected(url) as client:
        reasons: list[str] = []
        client.on("disconnect", reasons.append)
        answer = asyncio.create_task(client.call("slow", 2, timeout=10))
        await eventually(lambda: "slow begins" in process.output, "the handler")
        process.terminate()
        await eventually(lambda: refuses_connections(url), "the listener is closed", 1.5)
        assert not answer.done()
        assert await asyncio.wait_for(answer, timeout_s(8)) == "done"
        await eventually(lambda: reasons, "the client is told")
        # What JavaScript clients call "transport close", python-engineio's calls an error.
        assert reasons in (["transport close"], ["transport error"])
        assert await process.ended(8) == 0
    assert process.output.count("disconnect: server shutting down") == 1


async def test_websocket_is_closed_with_the_code_for_a_restart(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", PYTHONPATH=str(tmp_path))
    url = process.await_running() + "/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as websocket:
        assert (await websocket.receive_str()).startswith("0{")
        await websocket.send_str("40")
        assert (await websocket.receive_str()).startswith("40{")
        asked_at = process.terminate()
        closing = await websocket.receive(timeout_s(5))
        assert closing.type == aiohttp.WSMsgType.CLOSE
        assert closing.data == 1012
        assert await process.ended(8) == 0
        assert time.monotonic() - asked_at < timeout_s(4)


async def test_clients_try_to_reconnect_after_a_stop(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", PYTHONPATH=str(tmp_path))
    url = process.await_running()
    port = url.rpartition(":")[2]
    async with connected(url, reconnection=True, reconnection_delay=0.1, reconnection_delay_max=0.2) as client:
        sids = [client.sid]
        client.on("connect", lambda: sids.append(client.sid))
        process.terminate()
        assert await process.ended(8) == 0
        again = start("serve", "application:app", "--port", port, PYTHONPATH=str(tmp_path))
        again.await_running()
        await eventually(lambda: len(sids) > 1 and client.connected, "the client is back")
        assert sids[1] != sids[0]


async def test_idle_long_polling_client_is_told_at_once(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", PYTHONPATH=str(tmp_path))
    url = process.await_running() + "/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as response:
            session_id = json.loads((await response.text())[1:])["sid"]
        async with http.post(f"{url}&sid={session_id}", data="40") as response:
            assert response.status == 200
        async with http.get(f"{url}&sid={session_id}") as response:
            assert (await response.text()).startswith("40{")
        poll = asyncio.create_task(http.get(f"{url}&sid={session_id}"))
        await asyncio.sleep(0.2)
        asked_at = process.terminate()
        async with await poll as response:
            assert await response.text() == "1"
        assert await process.ended(8) == 0
        assert time.monotonic() - asked_at < timeout_s(4), "nobody else had to be waited for"


async def test_polling_client_without_a_poll_does_not_hold_the_end_up_for_ever(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", "--drain-timeout-s", "2s", PYTHONPATH=str(tmp_path))
    url = process.await_running() + "/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as response:
            session_id = json.loads((await response.text())[1:])["sid"]
        async with http.post(f"{url}&sid={session_id}", data="40") as response:
            assert response.status == 200
        asked_at = process.terminate()
        assert await process.ended(8) == 0
        assert time.monotonic() - asked_at < timeout_s(4)


async def test_client_that_never_reads_does_not_hold_the_end_up(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", "--drain-timeout-s", "3s", PYTHONPATH=str(tmp_path))
    url = process.await_running()
    host, port = url.rpartition("/")[2].split(":")
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.settimeout(timeout_s(10))
        lazy.connect((host, int(port)))
        lazy.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert lazy.recv(20).startswith(b"HTTP/1.1 101")
        lazy.sendall(b"\x81\x82\0\0\0\x0040")
        flood = b'42["flood",40]'
        lazy.sendall(bytes((0x81, 0x80 | len(flood))) + b"\0\0\0\0" + flood)
        await eventually(lambda: "flood begins" in process.output, "the flood")
        await asyncio.sleep(0.5)
        asked_at = process.terminate()
        assert await process.ended(10) == 0
        assert time.monotonic() - asked_at < timeout_s(6)


async def test_request_in_flight_is_answered(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", PYTHONPATH=str(tmp_path))
    url = process.await_running()
    async with aiohttp.ClientSession() as http:
        async with http.get(url + "/hello") as response:  # whose connection stays open, idle
            assert response.status == 200
        waiting = asyncio.create_task(http.get(url + "/wait?seconds=1"))
        await eventually(lambda: "request begins" in process.output, "the request")
        process.terminate()
        async with await waiting as response:
            assert await response.text() == "waited"
        assert await process.ended(8) == 0


async def test_request_that_does_not_end_is_cut_off_within_the_deadline(start: Start, tmp_path: Path) -> None:
    process = start("serve", "application:app", "--port", "0", "--drain-timeout-s", "2s", PYTHONPATH=str(tmp_path))
    url = process.await_running()
    async with aiohttp.ClientSession() as http:
        waiting = asyncio.create_task(http.get(url + "/wait?seconds=600"))
        await eventually(lambda: "request begins" in process.output, "the request")
        process.terminate()
        try:
            assert await process.ended(10) == 0
        finally:
            process.kill()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_interrupt_stops_like_terminate(start: Start) -> None:
    process = start("serve", "--port", "0")
    process.await_running()
    process.process.send_signal(signal.SIGINT)
    assert await process.ended(8) in (0, 130)


async def test_json_log_is_one_object_a_line(start: Start) -> None:
    process = start("serve", "--port", "0", "--log-format", "json")
    process.await_running()
    process.terminate()
    assert await process.ended(8) == 0
    for line in process.log.splitlines():
        assert {"ts", "level", "logger", "message"} <= json.loads(line).keys()
