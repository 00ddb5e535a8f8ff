"""``python -m tests.chaos [--seconds 60] [--seed N] [--world NAME]``: exits with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.support import netns

from .run import chaos
from .worlds import WORLDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60.0, help="of all worlds together")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--world", choices=WORLDS, help="one alone; otherwise each has its share of the time")
    parser.add_argument("--keep", type=Path, help="an empty directory for the logs, which are removed otherwise")
    arguments = parser.parse_args()
    if netns.why_not():
        print(f"no network namespaces here: {netns.why_not()}", file=sys.stderr)
        return 2
    worlds = [arguments.world] if arguments.world else list(WORLDS)
    seconds = arguments.seconds / len(worlds)
    print(f"seed {arguments.seed}", flush=True)
    problems = []
    with tempfile.TemporaryDirectory(prefix="tidegate-chaos-") as folder:
        for world in worlds:
            print(f"{world}: {WORLDS[world].what}, {seconds:g} s", flush=True)
            place = (arguments.keep or Path(folder)) / world
            place.mkdir(parents=True)
            problems += chaos(place, world, seconds, arguments.seed, partial(print, flush=True)).all_problems()
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
