"""What an event costs that goes to clients of another node, against one to clients of the same node.

``python -m benchmarks.cluster [--clients N] [--messages N]`` starts its own Redis, and two servers in processes of
their own. An event goes to one room whose members are all on the server that sends it (local), or all on the other one
(a hop through Redis). Clients are bare WebSockets in this process.

Invariant: every client gets every event once and in order, or the run fails.
Printed: CPU of both servers and of Redis, in microseconds per delivered event, and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import shutil
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import redis
from aiohttp import web

import gateway
from gateway.runner import new_event_loop
from tests.support.redis_server import RedisServer, running

#: Events that one turn sends before it lets the loop write them.
BATCH = 10


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(url: str, pipe: Connection) -> None:
    async def main() -> None:
        server = gateway.Server(broker=url, namespaces=["/"], handshakes_per_second=0)

        @server.event
        async def join(sid: str, room: str) -> None:
            await server.enter_room(sid, room)

        @server.on_server_event("cpu")
        def cpu() -> float:
            return cpu_s()

        @server.event
        async def go(sid: str, room: str, count: int) -> None:
            for number in range(count):
                await server.emit("n", {"number": number, "text": "x" * 40}, room=room)
                if number % BATCH == BATCH - 1:
                    await asyncio.sleep(0)

        @server.event
        async def cpu_of_both(sid: str) -> list[float]:
            found = await server.server_side_call("cpu", timeout=30)
            return [cpu_s(), *found.answers.values()]

        app = web.Application()
        server.attach(app)
        runner = gateway.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.to_thread(pipe.recv)
        await runner.cleanup()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


class Client:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.expected = 0
        self.acks: dict[int, asyncio.Future[str]] = {}
        self.reading = asyncio.create_task(self._read())
        self.changed = asyncio.Event()

    async def _read(self) -> None:
        async for message in self.socket:
            text: str = message.data
            if text == "2":
                await self.socket.send_str("3")
            elif text.startswith('42["n"'):
                if f'"number":{self.expected},' not in text:
                    raise SystemExit(f"event {text} came instead of {self.expected}")
                self.expected += 1
                self.changed.set()
            elif text.startswith("43"):
                self.acks.pop(int(text[2])).set_result(text[3:])

    async def call(self, number: int, arguments: str) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.acks[number] = answer
        await self.socket.send_str(f"42{number}{arguments}")
        return await answer

    async def until(self, count: int) -> None:
        while self.expected < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 60)


async def connect(session: aiohttp.ClientSession, port: int, room: str) -> Client:
    socket = await session.ws_connect(f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket")
    await socket.receive_str()
    await socket.send_str("40")
    await socket.receive_str()
    client = Client(socket)
    await client.call(1, f'["join","{room}"]')
    return client


async def measure(ports: list[int], broker: RedisServer, clients: int, messages: int) -> list[tuple[str, float, float]]:
    rows = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        control = await connect(session, ports[0], "control")
        for name, port in (("local", ports[0]), ("a hop through Redis", ports[1])):
            members = await asyncio.gather(*(connect(session, port, name) for _ in range(clients)))
            await asyncio.sleep(1)  # the room is heard of
            before, redis_before = await _cpu(control), _redis_cpu(broker)
            await control.call(2, f'["go","{name}",{messages}]')
            await asyncio.gather(*(member.until(messages) for member in members))
            after, redis_after = await _cpu(control), _redis_cpu(broker)
            delivered = clients * messages
            rows.append((name, (after - before) / delivered * 1e6, (redis_after - redis_before) / delivered * 1e6))
            for member in members:
                await member.socket.close()
        await control.socket.close()
    return rows


async def _cpu(control: Client) -> float:
    return sum(float(part) for part in (await control.call(3, '["cpu_of_both"]')).strip("[]").split(","))


def _redis_cpu(broker: RedisServer) -> float:
    client: redis.Redis = broker.client()
    info: dict[str, Any] = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--messages", type=int, default=5000)
    arguments = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        broker = RedisServer(Path(directory))
        with running(broker):
            pairs = [context.Pipe() for _ in range(2)]
            processes = [context.Process(target=serve, args=(broker.url, theirs)) for _, theirs in pairs]
            for process in processes:
                process.start()
            try:
                ports = [ours.recv() for ours, _ in pairs]
                sys.stdout.write("CPU in microseconds per delivered event; ratio: servers, to local\n")
                for clients in arguments.clients:
                    rows = asyncio.run(measure(ports, broker, clients, max(200, arguments.messages // clients)))
                    local = rows[0][1]
                    for name, servers, of_redis in rows:
                        sys.stdout.write(
                            f"{clients:4} clients  {name:<20} servers {servers:8.1f}  redis {of_redis:6.1f}  "
                            f"ratio {servers / local:5.2f}\n"
                        )
            finally:
                for ours, _ in pairs:
                    ours.send("end")
                for process in processes:
                    process.join(10)
                    if process.is_alive():
                        process.terminate()


if __name__ == "__main__":
    main()
