"""What is measured: the cells of the table, in order."""

import fnmatch
from dataclasses import dataclass

from benchmarks.peers import NODE, PYTHON_SOCKETIO, TIDEGATE

ALL_PEERS = (TIDEGATE, NODE, PYTHON_SOCKETIO)
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
class Cell:
    """One row: a load that each of `peers` is put under in turn.

    transport: what the clients use, in sioload's words.
    control: also run tidegate over this transport in the same rounds, as the row's own yardstick.
    """

    name: str
    title: str
    mode: str
    clients: int
    options: tuple[str, ...] = ()
    transport: str = "websocket"
    peers: tuple[str, ...] = ALL_PEERS
    control: str | None = None

    @property
    def measure(self) -> str:
        """The key of sioload's result that fills the row."""
        return {
            "broadcast": "cpu_us_per_delivery",
            "echo": "cpu_us_per_round_trip",
            "connect": "cpu_us_per_handshake",
            "idle": "rss_bytes_per_client",
        }[self.mode]

    @property
    def unit(self) -> str:
        return {
            "broadcast": "µs/delivery",
            "echo": "µs/round trip",
            "connect": "µs/handshake",
            "idle": "bytes/client",
        }[self.mode]

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
            options += ["--seconds", str(timing.measured)]
        if self.mode in ("broadcast", "echo"):
            options += ["--warmup", str(timing.warmup)]
            options += ["--drain", str(timing.drain), "--stall", str(timing.drain)]
        return options


def _broadcast(clients: int, *, window: int = 4, payload: int = 64) -> Cell:
    size = "1 KiB" if payload == 1024 else f"{payload} B"
    return Cell(
        name=f"broadcast-{clients}-{payload}b-w{window}",
        title=f"broadcast, {clients:,} clients, {size}, {window} in flight",
        mode="broadcast",
        clients=clients,
        options=("--payload", str(payload), "--window", str(window)),
    )


def _echo(clients: int) -> Cell:
    return Cell(f"echo-{clients}", f"echo with ack, {clients:,} clients, 64 B", "echo", clients)


CELLS = (
    _broadcast(100),
    _broadcast(1000),
    _broadcast(5000),
    _broadcast(100, window=1),
    _broadcast(1000, window=1),
    _broadcast(5000, window=1),
    _broadcast(1000, payload=1024),
    _echo(100),
    _echo(1000),
    Cell("connect-websocket", "connect and leave, WebSocket", "connect", 2000, ("--close",)),
    Cell("connect-polling", "connect and leave, long-polling", "connect", 2000, ("--close",), "polling"),
    Cell("idle-10000", "idle memory, 10,000 clients", "idle", 10000),
    Cell(
        "broadcast-polling-1000",
        "long-polling broadcast, 1,000 clients, 64 B, 4 in flight",
        "broadcast",
        1000,
        ("--payload", "64", "--window", "4"),
        "polling",
    ),
    Cell(
        "broadcast-streaming-1000",
        "xhr-streaming broadcast, 1,000 clients, 64 B, 4 in flight",
        "broadcast",
        1000,
        ("--payload", "64", "--window", "4"),
        "xhr-streaming",
        peers=(TIDEGATE,),
        control="websocket",
    ),
)


def select(pattern: str | None) -> list[Cell]:
    """Cells whose name contains `pattern`, or matches it as a shell pattern."""
    if not pattern:
        return list(CELLS)
    return [cell for cell in CELLS if pattern in cell.name or fnmatch.fnmatch(cell.name, pattern)]
