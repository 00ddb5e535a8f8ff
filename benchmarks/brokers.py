"""What one hop between two nodes costs: CPU of the publisher and of the subscriber, per message.

``python -m benchmarks.brokers [--messages N] [--size BYTES]`` starts its own Redis where ``redis-server`` is installed.

Load: one process publishes, in batches of 1 and of 100 a turn of the loop; another, which subscribed to the topic,
counts. At most ``WINDOW`` are under way, since the subscriber tells how far it has come.
Invariant: every message arrives once and in order, or the run fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway.brokers.base import Broker, Callbacks, Node
from gateway.brokers.redis import RedisBroker
from gateway.brokers.unix import UnixBroker

WINDOW = 2000
TOPIC = "room"
ACK = "progress"


def make(url: str, callbacks: Callbacks) -> Broker:
    if url.startswith("unix:"):
        return UnixBroker(url.removeprefix("unix:"), Node(), callbacks)
    return RedisBroker(url, Node(), callbacks)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def subscriber(url: str, count: int) -> None:
    expected = 0
    done = asyncio.Event()
    pending: set[asyncio.Task[None]] = set()
    started = 0.0

    def on_message(topic: str, sender: str, payload: bytes) -> None:
        nonlocal expected, started
        if not expected:
            started = cpu_s()
        number = int.from_bytes(payload[:8], "big")
        if number != expected:
            raise SystemExit(f"message {number} came instead of {expected}")
        expected += 1
        if expected % (WINDOW // 4) == 0:
            task = asyncio.get_running_loop().create_task(broker.publish(ACK, b"%d" % expected))
            pending.add(task)
            task.add_done_callback(pending.discard)
        if expected == count:
            done.set()

    broker = make(url, Callbacks(on_message=on_message))
    await broker.start()
    broker.subscribe(TOPIC)
    await broker.synced(30)
    print("ready", flush=True)
    await done.wait()
    print(json.dumps({"cpu_s": cpu_s() - started, "duplicates": broker.counters.duplicates}), flush=True)
    await broker.close()


async def publisher(url: str, count: int, size: int, batch: int, durable: bool) -> dict[str, Any]:
    came = 0
    moved = asyncio.Event()

    def on_message(topic: str, sender: str, payload: bytes) -> None:
        nonlocal came
        came = int(payload)
        moved.set()

    broker = make(url, Callbacks(on_message=on_message))
    await broker.start()
    broker.subscribe(ACK)
    await broker.synced(30)
    command = [sys.executable, "-m", "benchmarks.brokers", "--subscribe", url, "--messages", str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    await broker.synced(30)
    padding = bytes(size - 8)
    started, began = cpu_s(), time.monotonic()
    for number in range(0, count, batch):
        while number - came > WINDOW:
            moved.clear()
            await moved.wait()
        payloads = [each.to_bytes(8, "big") + padding for each in range(number, min(number + batch, count))]
        if durable:
            await asyncio.gather(*(broker.publish(TOPIC, payload, durable=True) for payload in payloads))
        else:
            for payload in payloads:
                await broker.publish(TOPIC, payload)
            await asyncio.sleep(0)
    result = json.loads(await process.stdout.readline())
    seconds = time.monotonic() - began
    mine = cpu_s() - started
    await process.wait()
    await broker.close()
    return {
        "publisher_us": mine / count * 1e6,
        "subscriber_us": result["cpu_s"] / count * 1e6,
        "per_s": count / seconds,
    }


class OwnRedis:
    """A server for the time of the run."""

    def __enter__(self) -> str | None:
        if shutil.which("redis-server") is None:
            return None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.directory = tempfile.TemporaryDirectory()
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory.name]
        self.process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        return f"redis://127.0.0.1:{port}"

    def __exit__(self, *error: object) -> None:
        if hasattr(self, "process"):
            self.process.terminate()
            self.process.wait()
            self.directory.cleanup()


def redis_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def run(coroutine: Any) -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=128, help="bytes of a message")
    parser.add_argument("--subscribe", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subscribe:
        run(subscriber(options.subscribe, options.messages))
        return
    print(f"CPU us per message of {options.size} bytes; one publisher, one subscriber")
    print(f"{'broker':<16}{'batch':>6}{'publisher':>12}{'subscriber':>12}{'both':>8}{'redis':>8}{'per second':>13}")
    own = OwnRedis()
    with tempfile.TemporaryDirectory() as directory, own as redis_url:
        cells = [("unix", f"unix:{directory}", False)]
        if redis_url is not None:
            cells += [("redis", redis_url, False), ("redis, durable", redis_url, True)]
        for name, url, durable in cells:
            for batch in (1, 100):
                before = redis_cpu_s(own.process.pid) if redis_url is not None else 0.0
                found = run(publisher(url, options.messages, options.size, batch, durable))
                server_us = (redis_cpu_s(own.process.pid) - before) / options.messages * 1e6 if redis_url else 0.0
                both = found["publisher_us"] + found["subscriber_us"]
                print(
                    f"{name:<16}{batch:>6}{found['publisher_us']:>12.1f}{found['subscriber_us']:>12.1f}{both:>8.1f}"
                    f"{server_us if name != 'unix' else 0:>8.1f}{found['per_s']:>13,.0f}"
                )
    if redis_url is None:
        print("redis-server is not installed: its rows are left out")


if __name__ == "__main__":
    main()
