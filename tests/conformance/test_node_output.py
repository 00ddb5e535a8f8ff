"""What the scripts in ``node/`` print arrives whole, however long it is."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.conformance.node_scripts import HERE, run_node

pytestmark = pytest.mark.node

SIZE = 1_000_000


def test_long_results_are_not_cut_off() -> None:
    script = f'import("./node/output.mjs").then(({{printAndExit}}) => printAndExit("x".repeat({SIZE})))'
    assert json.loads(run_node("-e", script)) == "x" * SIZE


def test_long_failures_are_not_cut_off() -> None:
    script = f'import("./node/output.mjs").then(({{failAndExit}}) => failAndExit("x".repeat({SIZE})))'
    done = subprocess.run(["node", "-e", script], cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr)) == (1, "", SIZE + 1)
