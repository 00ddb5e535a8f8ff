"""What is measured: the cells of the table, in order, and what is aimed at in each."""

import fnmatch
from dataclasses import dataclass

from benchmarks.peers import BUN, FLOOR, FLOOR_COALESCE, NODE, PYTHON_SOCKETIO, TIDEGATE

# A server needs some files besides its connections, and idle cells open 100 clients before the first reading.
SPARE_DESCRIPTORS = 300


@dataclass(frozen=True)
class Timing:
    """Seconds. A cell of `connect` takes as long as its handshakes take."""

    measured: float
    warmup: float
    drain: float = 10  # at most: a run ends when nothing is outstanding


FULL = Timing(measured=5, warmup=1)
QUICK = Timing(measured=1.5, warmup=0.5)


@dataclass(frozen=True)
class Measure:
    """A figure of a cell, in `unit`: what sioload calls `of` (or `name`), times `scale`."""

    name: str
    unit: str
    of: str = ""
    scale: float = 1

    @property
    def key(self) -> str:
        return self.of or self.name


CPU_PER_DELIVERY = Measure("cpu_us_per_delivery", "µs/delivery")
CPU_PER_ROUND_TRIP = Measure("cpu_us_per_round_trip", "µs/round trip")
CPU_PER_HANDSHAKE = Measure("cpu_us_per_handshake", "µs/handshake")
BYTES_PER_CLIENT = Measure("rss_bytes_per_client", "bytes/client")
BYTES_PER_DELIVERY = Measure("received_bytes_per_delivery", "wire bytes/delivery")
P99 = Measure("p99_ms", "ms p99", "lat_p99_us", 1e-3)
LONGEST = Measure("longest_ms", "ms longest", "lat_max_us", 1e-3)
SIDE_CALLS = Measure("side_round_trips_per_s", "calls/s beside")

CONTROL = "control"
OWN = "own"


@dataclass(frozen=True)
class Target:
    """At most `limit`: tidegate's figure by that of a peer or of the CONTROL, or its OWN figure in the cell's unit."""

    limit: float
    against: str


@dataclass(frozen=True)
class Cell:
    """One load that each of `peers` is put under in turn; a row for each of `measures`.

    transport: what the clients use, in sioload's words.
    control: also run tidegate over this transport in the same rounds, as the row's own yardstick.
    server: options of the peers' programs.
    targets: of the first measure.
    at_least_s: measured time even in a quick run; max_runs: more would say nothing new.
    """

    name: str
    title: str
    mode: str
    clients: int
    options: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = (CPU_PER_DELIVERY,)
    transport: str = "websocket"
    peers: tuple[str, ...] = (TIDEGATE, NODE, PYTHON_SOCKETIO, BUN)
    control: str | None = None
    server: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    at_least_s: float = 0
    max_runs: int | None = None

    @property
    def descriptors(self) -> int:
        """Files that the server, or the load, has open at once."""
        each = 2 if self.transport == "xhr-streaming" else 1
        return self.clients * each + SPARE_DESCRIPTORS

    def load_options(self, transport: str, timing: Timing) -> list[str]:
        options = [
            "--mode",
            self.mode,
            "--transport",
            transport,
            "--clients",
            str(self.clients),
            *self.options,
        ]
        if transport == "xhr-streaming":
            options.append("--stream-ack")  # as the browser client does
        if self.mode != "connect":
            options += ["--seconds", str(max(timing.measured, self.at_least_s))]
        if self.mode in ("broadcast", "echo"):
            options += ["--warmup", str(timing.warmup)]
            options += ["--drain", str(timing.drain), "--stall", str(timing.drain)]
        return options


@dataclass(frozen=True)
class Growth:
    """A row made of two cells: what an operation costs in the `large` one, by what it costs in the `small` one."""

    name: str
    title: str
    large: str
    small: str
    limit: float


# Of the C floor that makes one system call for each delivery: with four in flight a gateway can be below it, by
# sending several at once; with one in flight nobody can, and a seventh on top is for everything that is not sending.
OF_NODE = {4: 0.35, 1: 0.50}
OF_FLOOR = {4: 1.0, 1: 1.15}


def _broadcast(clients: int, *, window: int = 4, payload: int = 64) -> Cell:
    size = "1 KiB" if payload == 1024 else f"{payload} B"
    peers = [TIDEGATE, NODE, FLOOR]
    if window == 4:
        peers.append(FLOOR_COALESCE)  # with one in flight it is the other floor
    if payload == 64 and clients <= 5000:
        peers.append(BUN)
        if clients <= 1000 or window == 4:
            peers.append(PYTHON_SOCKETIO)  # takes a second for one broadcast to thousands
    # 10,000 are there for the growth; the table aims at sizes up to 5,000.
    targets = (Target(OF_NODE[window], NODE), Target(OF_FLOOR[window], FLOOR)) if clients <= 5000 else ()
    return Cell(
        name=f"broadcast-{clients}-{payload}b-w{window}",
        title=f"broadcast, {clients:,} clients, {size}, {window} in flight",
        mode="broadcast",
        clients=clients,
        options=("--payload", str(payload), "--window", str(window)),
        peers=tuple(peers),
        targets=targets,
    )


def _echo(clients: int, of_node: float) -> Cell:
    return Cell(
        name=f"echo-{clients}",
        title=f"echo with ack, coroutine handler, {clients:,} clients, 64 B",
        mode="echo",
        clients=clients,
        measures=(CPU_PER_ROUND_TRIP,),
        targets=(Target(of_node, NODE),),
    )


def _connect(transport: str, title: str, of_node: float) -> Cell:
    return Cell(
        name=f"connect-{transport}",
        title=f"{title} to CONNECT answered, and leave",
        mode="connect",
        clients=2000,
        options=("--close",),
        measures=(CPU_PER_HANDSHAKE,),
        transport=transport,
        targets=(Target(of_node, NODE),),
    )


def _latency(name: str, title: str, *side: str, targets: tuple[Target, ...] = ()) -> Cell:
    """Ten broadcasts a second to 1,000 clients, whatever the server makes of it: 10,000 deliveries a second."""
    return Cell(
        name=name,
        title=title,
        mode="broadcast",
        clients=1000,
        options=("--payload", "64", "--rate", "10", *side),
        measures=(P99, LONGEST, SIDE_CALLS) if side else (P99, LONGEST),
        peers=(TIDEGATE, NODE) if side else (TIDEGATE, NODE, PYTHON_SOCKETIO, FLOOR),
        targets=targets,
        at_least_s=4,  # 40 broadcasts
    )


def _rows(name: str, title: str, *options: str, server: tuple[str, ...] = ()) -> Cell:
    return Cell(
        name=name,
        title=title,
        mode="broadcast",
        clients=1000,
        options=("--payload", "1024", "--rows", "--window", "4", *options),
        measures=(CPU_PER_DELIVERY, BYTES_PER_DELIVERY),
        peers=(TIDEGATE, NODE),
        server=server,
    )


# Not one after the other: tidegate takes 32 MiB a second from one client at most, and who takes less is less disturbed.
_LARGE = ("--side", "1", "--side-payload", str(1 << 20), "--side-rate", "20", "--side-inflight", "4")
_SLOW = ("--side", "20", "--side-event", "slow", "--side-inflight", "10")

CELLS = (
    # Those that a growth compares follow each other, so that a drift of the machine is not taken for one.
    _broadcast(100),
    _broadcast(10000),
    _broadcast(1000),
    _broadcast(5000),
    _broadcast(100, window=1),
    _broadcast(10000, window=1),
    _broadcast(1000, window=1),
    _broadcast(5000, window=1),
    _broadcast(100, payload=1024),
    _broadcast(1000, payload=1024),
    _broadcast(5000, payload=1024),
    _broadcast(100, payload=1024, window=1),
    _broadcast(1000, payload=1024, window=1),
    _broadcast(5000, payload=1024, window=1),
    _echo(100, 0.75),
    _echo(1000, 0.55),
    _connect("websocket", "WebSocket connect", 0.25),
    _connect("polling", "polling handshake", 0.8),
    Cell(
        "broadcast-polling-1000",
        "long-polling broadcast, 1,000 clients, 64 B, 4 in flight",
        "broadcast",
        1000,
        ("--payload", "64", "--window", "4"),
        transport="polling",
        targets=(Target(0.9, NODE),),
    ),
    Cell(
        "broadcast-streaming-1000",
        "xhr-streaming broadcast, 1,000 clients, 64 B, 4 in flight",
        "broadcast",
        1000,
        ("--payload", "64", "--window", "4"),
        transport="xhr-streaming",
        peers=(TIDEGATE,),
        control="websocket",
        targets=(Target(1.2, CONTROL),),
    ),
    Cell(
        "idle-10000",
        "idle memory, 10,000 clients",
        "idle",
        10000,
        measures=(BYTES_PER_CLIENT,),
        targets=(Target(6000, OWN),),
        max_runs=3,
    ),
    _latency("latency-1000", "10,000 deliveries a second, 1,000 clients", targets=(Target(12, OWN),)),
    _latency("latency-1000-large", "10,000 deliveries a second, beside 20 echoes of 1 MiB a second", *_LARGE),
    _latency(
        "latency-1000-slow", "10,000 deliveries a second, beside 200 calls of a handler that awaits 100 ms", *_SLOW
    ),
    _rows("rows-1000", "broadcast of JSON records, 1,000 clients, 1 KiB, 4 in flight"),
    _rows(
        "rows-1000-deflate",
        "broadcast of JSON records, 1,000 clients, 1 KiB, 4 in flight, deflated",
        "--deflate",
        server=("--compression",),
    ),
)

GROWTHS = tuple(
    Growth(
        name=f"growth-w{window}",
        title=f"growth: a delivery at 10,000 clients by one at 100, 64 B, {window} in flight",
        large=f"broadcast-10000-64b-w{window}",
        small=f"broadcast-100-64b-w{window}",
        limit=1.2,
    )
    for window in (4, 1)
)


def select(pattern: str | None) -> list[Cell]:
    """The cell of that name, or those whose name contains `pattern` or matches it as a shell pattern.

    A growth's name selects its two.
    """
    if not pattern:
        return list(CELLS)
    if exact := [cell for cell in CELLS if cell.name == pattern]:
        return exact
    parts = {name for growth in GROWTHS if _matches(growth.name, pattern) for name in (growth.large, growth.small)}
    return [cell for cell in CELLS if cell.name in parts or _matches(cell.name, pattern)]


def _matches(name: str, pattern: str) -> bool:
    return pattern in name or fnmatch.fnmatch(name, pattern)
