"""``tidegate nodes``, ``sockets``, ``emit`` and ``tail``, as their user sees them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.redis_server import free_ports
from tests.support.servers import ROOT
from tests.support.waiting import eventually, timeout_s

from .conftest import ClusterWorld, of

pytestmark = pytest.mark.usefixtures("no_logged_errors")
over_processes = pytest.mark.parametrize("broker_url", ["unix", "redis"], indirect=True)


async def begin(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *arguments,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def command(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors."""
    process = await begin(*arguments, **environ)
    out, err = await asyncio.wait_for(process.communicate(), timeout_s(30))
    return process.returncode, out.decode(), err.decode()


@over_processes
async def test_nodes_and_sockets_are_listed(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1)
    code, out, err = await command("nodes", "--broker", cluster.url)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["NODE", "HOST", "PID", "VERSION", "UP", "CLIENTS"]
    assert {line.split()[0]: line.split()[-1] for line in lines[1:]} == {of(one).node_id: "1", of(two).node_id: "1"}
    code, out, err = await command("nodes", "--json", TIDEGATE_BROKER=cluster.url)
    assert (code, err) == (0, "")
    assert {(row["id"], row["clients"], row["pid"]) for row in json.loads(out)} == {
        (of(server).node_id, 1, os.getpid()) for server in (one, two)
    }
    code, out, _ = await command("sockets", "--broker", cluster.url)
    assert code == 0
    assert {tuple(line.split()[:3]) for line in out.splitlines()[1:]} == {
        (of(one).node_id, a.sid, "websocket"),
        (of(two).node_id, b.sid, "websocket"),
    }
    code, out, _ = await command("sockets", "--room", "red", "--json", "--broker", cluster.url)
    (row,) = json.loads(out)
    assert (row["sid"], row["rooms"], row["handshake"]["address"]) == (a.sid, sorted([a.sid, "red"]), "127.0.0.1")
    code, out, _ = await command("sockets", "--room", "none", "--broker", cluster.url)
    assert (code, out) == (0, "nobody is there\n")


@over_processes
async def test_emit_reaches_clients_and_tail_shows_it(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1, "red")
    process = await begin("tail", "--json", "--broker", cluster.url, "red")
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.readline())
    number = 0
    while not reading.done():  # until it has subscribed
        await one.emit("x", (number, {"b": b"123"}), room="red", skip_sid=[a.sid])
        number += 1
        await asyncio.wait((reading,), timeout=0.1)
    row = json.loads(await reading)
    assert row["node"] == of(one).node_id
    assert (row["event"], row["arguments"][1], row["rooms"]) == ("x", {"b": "<3 bytes>"}, ["red"])
    assert row["skip_sids"] == [a.sid]
    await eventually(lambda: len(b.heard) == number, "all")
    b.heard.clear()
    options = ("--room", "red", "--broker", cluster.url)
    assert await command("emit", *options, "price", "1.5", '{"a": ["ü"]}') == (0, "", "")
    await a.hears(("price", 1.5, {"a": ["ü"]}))
    await b.hears(("price", 1.5, {"a": ["ü"]}))
    while row["event"] != "price":
        row = json.loads(await asyncio.wait_for(process.stdout.readline(), timeout_s(10)))
    process.send_signal(2)
    await asyncio.wait_for(process.communicate(), timeout_s(10))
    assert process.returncode == 130
    assert (await command("emit", "--broker", cluster.url, "all"))[0] == 0
    await b.hears(("all",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nodes",), "--broker: is needed"),
        (("nodes", "--broker", "memory:"), "one process"),
        (("nodes", "--broker", "http://x"), "begins with redis://"),
        (("sockets", "--broker", "unix:/tmp", "--namespace", "x"), "begins with a slash"),
        (("emit", "--broker", "unix:/tmp"), "EVENT"),
    ],
)
async def test_wrong_command_line_is_told_and_exits_2(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    code, out, err = await command(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


async def test_failures_are_told_in_a_line_and_exit_1() -> None:
    code, out, err = await command("nodes", "--broker", f"redis://:secret@127.0.0.1:{free_ports(1)[0]}")
    assert (code, out) == (1, "")
    assert "did not answer" in err
    assert "secret" not in err
    code, _, err = await command("emit", "--broker", "redis://127.0.0.1", "x", "word")
    assert code == 1
    assert "'word' is not JSON" in err
