"""Does sioload see faults?  Serves known drops, repeats and swaps, and compares its counts.

Usage: selftest.py [folder of sioload and floor]

Per broadcast number s, to one member only: s%10==3 dropped, s%10==5 sent twice, s%10==7 held back until
after the next.  Echo: ack number 5 of each client never comes, number 7 has its payload changed.  The same
faults are served over WebSocket, long-polling and xhr-streaming, where responses also end every few records,
records are split over chunks, and (for a client that counts) responses are cut in the middle of a record.
Over WebSocket also compressed, with every fourth message as it is and every third one in fragments.

The C floors are run too: nothing may be lost, and they must have sent as often as they are there to show.
"""

import asyncio
import json
import re
import shlex
import signal
import socket
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

BUILD = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "build"
LOAD = str(BUILD / "sioload")
FLOOR = str(BUILD / "floor")
DEFLATE = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OPEN = b'0{"sid":"%s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
PINGS_PER_MEMBER = 2
RECORDS_PER_RESPONSE = 7
RECORDS_PER_CUT = 11
SEPARATOR = b"\x1e"


class Member:
    """A client as the server sees it; `send` takes one Engine.IO packet."""

    def __init__(self, server: "FaultyServer", send: Callable[[bytes], None]) -> None:
        self.server = server
        self.send = send
        self.echoes = 0

    def receive(self, packet: bytes) -> None:
        server = self.server
        if packet == b"3":
            server.pongs += 1
        elif packet == b"40":
            server.join(self)
        elif packet.startswith(b'42["broadcast",'):
            server.broadcast(b'42["message",' + packet[len(b'42["broadcast",') :])
        elif ack := re.match(rb'42(\d+)\["echo",', packet):
            self.echoes += 1
            reply = b"43" + ack[1] + b"[" + packet[ack.end() :]
            if server.faulty and self.echoes == 5:
                return
            if server.faulty and self.echoes == 7:
                reply = reply[:-5] + b"ZZ" + reply[-3:]
            self.send(reply)


class Downstream:
    """Packets waiting for the GETs of a long-polling or xhr-streaming session."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.records: list[bytes] = []
        self.next = 0  # the first record not sent yet
        self.cuts = 0
        self.more = asyncio.Event()

    def send(self, packet: bytes) -> None:
        self.records.append(packet)
        self.more.set()

    async def answer(self, writer: asyncio.StreamWriter, ack: int | None) -> bool:
        """Serves one GET; whether the connection stays open after it."""
        if ack is not None:
            assert ack <= self.next, (ack, self.next)
            self.next = ack
        if self.kind == "polling":
            await self._wait()
            body = SEPARATOR.join(self.records[self.next :])
            self.next = len(self.records)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return True
        return await self._stream(writer)

    async def _stream(self, writer: asyncio.StreamWriter) -> bool:
        chunked = self.kind != "until-close"
        writer.write(b"HTTP/1.1 200 OK\r\n")
        closes = self.kind in ("chunked-close", "until-close")
        writer.write(b"Transfer-Encoding: chunked\r\n" if chunked else b"")
        writer.write(b"Connection: close\r\n" if closes else b"")
        writer.write(b"\r\n")
        for _ in range(RECORDS_PER_RESPONSE):
            await self._wait()
            record = self.records[self.next] + SEPARATOR
            self.next += 1
            cut = self.kind == "cut" and self.next == (self.cuts + 1) * RECORDS_PER_CUT
            half = len(record) // 2
            for piece in (record[:half], b"" if cut else record[half:]):
                if not piece:
                    continue
                frame = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                writer.write(frame[:3])  # chunk heads are split over segments too
                await asyncio.sleep(0)
                writer.write(frame[3:])
            if cut:
                self.cuts += 1
                return False
        if chunked:
            writer.write(b"0\r\n\r\n")
        return not closes

    async def _wait(self) -> None:
        while self.next == len(self.records):
            self.more.clear()
            await self.more.wait()


class FaultyServer:
    """Serves every transport, and keeps the exact number of the faults it served."""

    def __init__(self, *, faulty: bool = True, streaming: str = "chunked") -> None:
        self.faulty = faulty
        self.streaming = streaming
        self.members: list[Member] = []
        self.sessions: dict[bytes, tuple[Member, Downstream]] = {}
        self.held: list[bytes] = []
        self.dropped = self.twice = self.swapped = self.total = self.pongs = 0
        self.sent_frames = self.compressed = self.wire_bytes = 0
        self.break_compressed = False  # the next compressed message of one member
        self.tasks: set[asyncio.Task[Any]] = set()

    def join(self, member: Member) -> None:
        self.members.append(member)
        member.send(b'40{"sid":"x"}')
        self.tasks.add(asyncio.ensure_future(self._ping(member)))

    async def _ping(self, member: Member) -> None:
        for _ in range(PINGS_PER_MEMBER):
            await asyncio.sleep(0.2)
            member.send(b"2")

    def broadcast(self, packet: bytes) -> None:
        found = re.search(rb'"s":(\d+)', packet)
        assert found
        number = int(found[1])
        self.total += 1
        for index, member in enumerate(self.members):
            if index or not self.faulty:
                member.send(packet)
            elif number % 10 == 3:
                self.dropped += 1
            elif number % 10 == 5:
                member.send(packet)
                member.send(packet)
                self.twice += 1
            elif number % 10 == 7:
                self.held.append(packet)
                self.swapped += 1
            else:
                member.send(packet)
                while self.held:
                    member.send(self.held.pop())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Upgrade: websocket" in head:
                    await self._websocket(reader, writer, deflate=DEFLATE in head)
                elif not await self._http(head, reader, writer):
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the client is gone, or close() was called
        finally:
            writer.close()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _websocket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, deflate: bool) -> None:
        def write(data: bytes) -> None:
            if not writer.is_closing():  # asyncio complains of each write to a client that left
                self.wire_bytes += len(data)
                writer.write(data)

        write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            + (b"Sec-WebSocket-Extensions: " + DEFLATE + b"\r\n" if deflate else b"")
            + b"\r\n"
        )
        member = Member(self, lambda packet: write(self._compressed(packet) if deflate else _frame(packet)))
        first = _frame(OPEN % b"x")
        for i in range(0, len(first), 7):  # in small pieces: partial frames
            write(first[i : i + 7])
            await asyncio.sleep(0)
        while True:
            member.receive(await _read_frame(reader))

    def _compressed(self, packet: bytes) -> bytes:
        self.sent_frames += 1
        if self.sent_frames % 4 == 0:
            return _frame(packet)
        deflate = zlib.compressobj(wbits=-15)
        data = (deflate.compress(packet) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        if self.break_compressed and packet.startswith(b'42["message"'):
            self.break_compressed = False
            data = b"\xff" + data[1:]  # a block of a kind that there is not
        else:
            self.compressed += 1
        if self.sent_frames % 3:
            return _frame(data, 0xC1)
        half = len(data) // 2
        return _frame(data[:half], 0x41) + _frame(data[half:], 0x80)

    async def _http(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        method, target, _ = head.split(b" ", 2)
        query = {k: v[0] for k, v in parse_qs(urlsplit(target).query).items()}
        if method == b"POST":
            member, _down = self.sessions[query[b"sid"]]
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length
            body = await reader.readexactly(int(length[1]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            for packet in body.split(SEPARATOR):
                member.receive(packet)
            return True
        session_id = query.get(b"sid")
        if session_id is None:
            session_id = b"s%d" % len(self.sessions)
            down = Downstream("polling" if query[b"transport"] == b"polling" else self.streaming)
            down.send(OPEN % session_id)
            self.sessions[session_id] = (Member(self, down.send), down)
        ack = query.get(b"ack")
        return await self.sessions[session_id][1].answer(writer, None if ack is None else int(ack))


def _frame(data: bytes, first: int = 0x81) -> bytes:
    n = len(data)
    if n < 126:
        return bytes((first, n)) + data
    if n < 65536:
        return bytes((first, 126)) + n.to_bytes(2, "big") + data
    return bytes((first, 127)) + n.to_bytes(8, "big") + data


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    n = head[1] & 127
    if n >= 126:
        n = int.from_bytes(await reader.readexactly(2 if n == 126 else 8), "big")
    mask = await reader.readexactly(4)
    data = await reader.readexactly(n)
    return bytes(b ^ mask[i & 3] for i, b in enumerate(data))


class Report:
    def __init__(self) -> None:
        self.wrong = 0

    def check(self, name: str, got: Any, want: Any) -> None:
        self.wrong += got != want
        print("ok  " if got == want else "FAIL", name, "got", got, "want", want)


async def load(server: FaultyServer, *options: str) -> dict[str, Any]:
    """What sioload counted against `server`."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 20)
    port = listening.sockets[0].getsockname()[1]
    command = [LOAD, "--port", str(port), *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    listening.close()
    await server.close()
    counted: dict[str, Any] = json.loads(out)
    return counted


BROADCAST = shlex.split("--mode broadcast --clients 20 --seconds 2 --warmup 0.3 --drain 1")
ECHO = shlex.split("--mode echo --clients 10 --inflight 4 --seconds 1 --warmup 0.3 --drain 1")


async def faulty_broadcast(report: Report, name: str, *options: str, streaming: str = "chunked") -> None:
    server = FaultyServer(streaming=streaming)
    d = await load(server, *BROADCAST, "--rate", "40", *options)
    late = len(server.held)
    report.check(f"{name}: missing", d["missing"], server.dropped + late)
    report.check(f"{name}: duplicate", d["duplicate"], server.twice)
    report.check(f"{name}: out of order", d["out_of_order"], server.swapped - late)
    report.check(f"{name}: published", d["published"], server.total)
    report.check(f"{name}: pings seen", d["pings"], len(server.members) * PINGS_PER_MEMBER)
    report.check(f"{name}: pings answered", server.pongs, d["pings"])
    report.check(f"{name}: errors and disconnects", d["errors"] + d["disconnects"], 0)
    if "xhr-streaming" not in options and "polling" not in options:
        report.check(f"{name}: bytes received", d["received_bytes"], server.wire_bytes)
    if "--deflate" in options:
        report.check(f"{name}: messages inflated", d["inflated"], server.compressed)
        report.check(f"{name}: some were compressed", server.compressed > 1000, True)
    if "xhr-streaming" in options:
        report.check(f"{name}: streams were reopened", d["stream_responses"] > 20 * 10, True)


async def faulty_echo(report: Report, name: str, *options: str) -> None:
    d = await load(FaultyServer(), *ECHO, *options)
    report.check(f"{name}: unanswered", d["unanswered"], 10)
    report.check(f"{name}: bad payload", d["bad_payload"], 10)


async def broken_compression(report: Report) -> None:
    server = FaultyServer(faulty=False)
    server.break_compressed = True
    d = await load(server, *BROADCAST, "--rate", "40", "--deflate", "--payload", "2000")
    report.check("broken compression: errors", d["errors"], 1)
    report.check("broken compression: disconnects", d["disconnects"], 1)


async def side_calls(report: Report) -> None:
    """A side client is a member too (the faults are served to a listener), and its calls are checked as echoes are."""
    server = FaultyServer()
    side = shlex.split("--side 3 --side-inflight 2 --side-payload 200000")
    d = await load(server, *BROADCAST, "--rate", "40", *side)
    late = len(server.held)
    paced = await load(FaultyServer(faulty=False), *BROADCAST, "--rate", "40", *side, "--side-rate", "30")
    report.check("side calls, paced: about as many as were due", 55 <= paced["side_round_trips"] <= 65, True)
    report.check("side calls, paced: faults", paced["unanswered"] + paced["bad_payload"] + paced["overrun"], 0)
    report.check("side calls: missing", d["missing"], server.dropped + late)
    report.check("side calls: duplicate", d["duplicate"], server.twice)
    report.check("side calls: members", len(server.members), 20 + 1 + 3)
    report.check("side calls: unanswered", d["unanswered"], 3)
    report.check("side calls: bad payload", d["bad_payload"], 3)
    report.check("side calls: there were some", d["side_round_trips"] > 10, True)
    report.check("side calls: errors and disconnects", d["errors"] + d["disconnects"], 0)


async def floor(report: Report, *coalesce: str) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = await asyncio.create_subprocess_exec(FLOOR, *coalesce, str(port), stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        name = " ".join(["floor", *coalesce])
        deliveries = 0
        for options in ([*BROADCAST, "--payload", "64"], [*BROADCAST, "--payload", "70000"], ECHO):
            loading = await asyncio.create_subprocess_exec(LOAD, "--port", str(port), *options, stdout=-1)
            d = json.loads((await loading.communicate())[0])
            faults = ["missing", "duplicate", "out_of_order", "stalled", "foreign", "errors", "disconnects"]
            faults += ["unanswered", "bad_payload"]
            report.check(f"{name}: faults seen", sum(d.get(k, 0) for k in faults), 0)
            report.check(f"{name}: it served", d.get("deliveries", d.get("round_trips")) > 0, True)
            deliveries += d.get("published", 0) * (20 + 1)
    finally:
        process.send_signal(signal.SIGTERM)
        said = json.loads((await process.communicate())[0])
    report.check(f"{name}: deliveries", said["deliveries"], deliveries)
    if coalesce:
        report.check(f"{name}: several deliveries with a send", said["sends"] < 0.9 * said["deliveries"], True)
    else:
        report.check(f"{name}: one send per delivery", said["sends"], said["deliveries"])


async def clean_broadcast(report: Report, name: str, *options: str) -> None:
    d = await load(FaultyServer(faulty=False), *BROADCAST, *options)
    faults = ("missing", "duplicate", "out_of_order", "stale", "stalled", "foreign", "errors", "disconnects")
    report.check(f"{name}: faults seen", sum(d[k] for k in faults), 0)
    report.check(f"{name}: something was delivered", d["deliveries"] > 0, True)


async def long_warmup(report: Report) -> None:
    d = await load(FaultyServer(faulty=False), *BROADCAST, "--rate", "40", "--warmup-broadcasts", "60")
    report.check("warm-up of 60 broadcasts: published beside the 2 s at 40", d["published"] - 80 >= 59, True)
    report.check("warm-up of 60 broadcasts: measured 2 s", d["seconds"] < 2.5, True)


async def second_port(report: Report) -> None:
    """One server at two ports: every second client and the publisher come to the second."""
    server, came = FaultyServer(faulty=False), [0, 0]

    async def listen(place: int) -> tuple[asyncio.Server, int]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came[place] += 1
            await server.serve(reader, writer)

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
        return listening, listening.sockets[0].getsockname()[1]

    second, port = await listen(1)
    first, first_port = await listen(0)
    options = ["--port", str(first_port), "--second-port", str(port), "--pub-port", str(port), "--rate", "40"]
    process = await asyncio.create_subprocess_exec(LOAD, *BROADCAST, *options, stdout=asyncio.subprocess.PIPE)
    d = json.loads((await process.communicate())[0])
    first.close()
    second.close()
    await server.close()
    report.check("second port: clients", came, [10, 11])
    report.check("second port: missing", d["missing"], 0)


async def main() -> int:
    report = Report()
    stream = ("--transport", "xhr-streaming")
    for payload in ("64", "1024", "70000"):  # 7, 16 and 64 bit frame lengths
        await faulty_broadcast(report, f"websocket {payload}", "--payload", payload)
    for payload in ("500", "70000"):
        await faulty_broadcast(report, f"compressed {payload}", "--deflate", "--payload", payload)
    await faulty_broadcast(report, "compressed rows", "--deflate", "--rows", "--payload", "1024")
    await broken_compression(report)
    await side_calls(report)
    await long_warmup(report)
    await second_port(report)
    await floor(report)
    await floor(report, "--coalesce")
    await faulty_broadcast(report, "polling", "--transport", "polling")
    for payload in ("64", "70000"):
        sized = (*stream, "--payload", payload)
        await faulty_broadcast(report, f"streaming {payload}", *sized)
        await faulty_broadcast(report, f"streaming chunked, then close {payload}", *sized, streaming="chunked-close")
        await faulty_broadcast(report, f"streaming until close {payload}", *sized, streaming="until-close")
        await faulty_broadcast(report, f"streaming cut {payload}", *sized, "--stream-ack", streaming="cut")
    await faulty_broadcast(report, "published by streaming", *stream, "--pub-transport", "xhr-streaming")

    d = await load(FaultyServer(faulty=False, streaming="cut"), *BROADCAST, "--rate", "40", *stream)
    report.check("streaming cut, not counted: disconnects", d["disconnects"], 20)

    await faulty_echo(report, "echo websocket")
    await faulty_echo(report, "echo streaming", *stream)
    await clean_broadcast(report, "clean websocket")
    await clean_broadcast(report, "clean polling", "--transport", "polling")
    await clean_broadcast(report, "clean streaming", *stream)
    await clean_broadcast(report, "clean streaming, counted", *stream, "--stream-ack")
    return int(report.wrong > 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
