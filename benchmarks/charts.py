"""Draws charts from the JSON of a run: python -m benchmarks.charts results.json FOLDER."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import svg
from benchmarks.peers import NODE, TIDEGATE

# The order in which series are drawn; one that is not in the results is left out.
SERIES = ("tidegate", "node", "bun", "python-socketio", "c_floor", "c_floor_coalesce")
LATENCY = {
    "latency-1000": "alone",
    "latency-1000-large": "beside 20 echoes of 1 MiB a second",
    "latency-1000-slow": "beside 200 calls of a handler that awaits 100 ms",
}
ROWS = {"rows-1000": "as it is", "rows-1000-deflate": "permessage-deflate"}


def write(document: dict[str, Any], folder: Path) -> list[Path]:
    """Writes a file for each chart that the results have figures for; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawn in draw(document).items():
        path = folder / f"{name}.svg"
        path.write_text(drawn)
        written.append(path)
    return written


def draw(document: dict[str, Any]) -> dict[str, str]:
    """SVG by chart name."""
    figures = {
        (cell["cell"], figure["measure"]): {name: value for name, value in figure["peers"].items() if value is not None}
        for cell in document["cells"]
        for figure in cell["figures"]
    }
    clients = {cell["cell"]: cell["clients"] for cell in document["cells"]}
    charts = {
        "broadcast-four-in-flight": _broadcast(figures, clients, 4),
        "broadcast-one-in-flight": _broadcast(figures, clients, 1),
        "targets": _targets(document["targets"]),
        "latency": _grouped(
            "Slowest percent of ordinary deliveries (p99)",
            "milliseconds, 10,000 deliveries a second to 1,000 clients, open loop",
            {label: figures.get((cell, "p99_ms"), {}) for cell, label in LATENCY.items()},
        ),
        "memory": _grouped(
            "Idle memory of a connection, 10,000 clients",
            "resident bytes of the server per client",
            {"": figures.get(("idle-10000", "rss_bytes_per_client"), {})},
        ),
        "compression-cpu": _grouped(
            "Server CPU per delivery of 1 KiB of JSON, 1,000 clients",
            "µs per delivery",
            {label: figures.get((cell, "cpu_us_per_delivery"), {}) for cell, label in ROWS.items()},
        ),
        "compression-bytes": _grouped(
            "Bytes on the wire per delivery of 1 KiB of JSON",
            "bytes per delivery",
            {label: figures.get((cell, "received_bytes_per_delivery"), {}) for cell, label in ROWS.items()},
        ),
    }
    return {name: chart for name, chart in charts.items() if chart is not None}


def _broadcast(figures: dict[tuple[str, str], dict[str, float]], clients: dict[str, int], window: int) -> str | None:
    points: dict[str, list[tuple[float, float]]] = {}
    for (cell, measure), peers in figures.items():
        if measure == "cpu_us_per_delivery" and cell == f"broadcast-{clients[cell]}-64b-w{window}":
            for peer, value in peers.items():
                points.setdefault(peer, []).append((clients[cell], value))
    if not points:
        return None
    return svg.lines(
        f"Broadcast over WebSocket, 64 B, {'four' if window == 4 else 'one'} in flight",
        "server CPU per delivery, µs, logarithmic; lower is better",
        "clients",
        [svg.Line(peer, sorted(points[peer])) for peer in SERIES if peer in points],
    )


def _targets(targets: list[dict[str, Any]]) -> str | None:
    rows = [row for row in targets if row["figure"] == f"÷ {NODE}" and row["value"] is not None]
    if not rows:
        return None
    return svg.bars(
        "tidegate by Node's socket.io, and what was aimed at",
        "server CPU of tidegate, Node's is 1; the mark is the target",
        [svg.Group(row["title"], [svg.Bar(TIDEGATE, row["value"], row["limit"])]) for row in rows],
    )


def _grouped(title: str, unit: str, groups: dict[str, dict[str, float]]) -> str | None:
    found = [
        svg.Group(label, [svg.Bar(peer, peers[peer] / 1, None) for peer in SERIES if peer in peers])
        for label, peers in groups.items()
        if peers
    ]
    return svg.bars(title, unit, found) if found else None


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    for path in write(json.loads(Path(arguments[0]).read_text()), Path(arguments[1])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
