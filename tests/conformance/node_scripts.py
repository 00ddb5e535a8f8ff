"""Running the scripts in ``node/``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT
from tests.support.waiting import TIMEOUT_FACTOR, timeout_s

HERE = Path(__file__).parent

STOCK_PATHS = ("polling", "websocket", "polling>websocket")
STREAMING_PATHS = ("xhr-streaming", "polling>xhr-streaming", "xhr-streaming>websocket")
#: Every client on every path it knows.
CLIENTS = (
    *(f"{library}:{path}" for library in ("4", "3") for path in STOCK_PATHS),
    *(f"tidegate:{path}" for path in STREAMING_PATHS),
)
UPGRADING = tuple(name for name in CLIENTS if ">" in name)


def last_transport(client: str) -> str:
    return client.partition(":")[2].rpartition(">")[2]


def run_node(script: str, *arguments: str, seconds: float = 60, **environ: str) -> str:
    """What a script prints. Raises: AssertionError where it fails, with what it said."""
    for needed in (HERE / "node_modules", ROOT / "client_js" / "dist"):
        if not needed.exists():
            pytest.fail(f"{needed.relative_to(ROOT)} is missing; scripts/test makes it", pytrace=False)
    done = subprocess.run(
        ["node", script, *arguments],
        cwd=HERE,
        env={**os.environ, "TEST_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR), **environ},
        capture_output=True,
        text=True,
        timeout=timeout_s(seconds),
        check=False,
    )
    assert done.returncode == 0, f"{script} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def run_concern(concern: str, *, seconds: float = 60, **settings: Any) -> Any:
    """The results of ``node/<concern>.mjs``."""
    return json.loads(run_node(f"node/{concern}.mjs", json.dumps(settings), seconds=seconds))
