"""A campaign: every target for a while under atheris, with a table at the end.

    python -m tests.fuzz [--seconds 60] [TARGET …]

What the fuzzer learns lies in ``.fuzz/TARGET/corpus`` and is where the next campaign goes on; findings lie in
``.fuzz/findings``. Exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .targets import HERE, TARGETS, Target

ROOT = HERE.parent.parent
WORK = ROOT / ".fuzz"
#: An input that takes longer than this is a finding.
SLOWEST_INPUT_S = 10
_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)
_WRITTEN = re.compile(r"Test unit written to (\S+)")


@dataclass
class Result:
    target: str
    executions: int
    per_second: int
    corpus: int
    fresh: int
    findings: list[Path]


def command(target: Target, corpora: list[Path], findings: Path, *limits: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        target.name,
        *map(str, corpora),
        *limits,
        f"-max_len={target.max_bytes}",
        f"-dict={target.dictionary}",
        f"-artifact_prefix={findings}/{target.name}-",
        f"-timeout={SLOWEST_INPUT_S}",
        "-print_final_stats=1",
        "-close_fd_mask=0",
    ]


def search(target: Target, seconds: int) -> Result:
    corpus = WORK / target.name / "corpus"
    findings = WORK / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    corpora = [corpus, *(folder for folder in (target.corpus, target.regressions) if folder.is_dir())]
    before = len(list(corpus.iterdir()))
    print(f"== {target.name}: {seconds} s", flush=True)
    log = WORK / target.name / "log"
    with log.open("w") as output:
        code = subprocess.run(
            command(target, corpora, findings, f"-max_total_time={seconds}"),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    text = log.read_text(errors="replace")
    statistics = {name: int(value) for name, value in _STATISTIC.findall(text)}
    found = [Path(path) for path in _WRITTEN.findall(text)]
    if code and not found:
        found = [log]  # it could not even begin
    if found:
        print(_last_traceback(text), flush=True)
    after = len(list(corpus.iterdir()))
    return Result(
        target.name,
        statistics.get("number_of_executed_units", 0),
        statistics.get("average_exec_per_sec", 0),
        after,
        after - before,
        found,
    )


def _last_traceback(text: str) -> str:
    start = max(text.rfind("Traceback (most recent call last)"), text.rfind("=== Uncaught"), 0)
    return text[start:][:6000]


def table(results: list[Result]) -> str:
    rows = [("target", "executions", "per s", "corpus", "new", "findings")]
    rows += [
        (r.target, f"{r.executions:,}", f"{r.per_second:,}", str(r.corpus), str(r.fresh), str(len(r.findings)))
        for r in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Search for inputs that break a promise.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed (pip install 'tidegate[fuzz]'; it has wheels for Linux only)")
    results = [search(TARGETS[name], arguments.seconds) for name in arguments.targets or TARGETS]
    print(table(results))
    findings = [path for result in results for path in result.findings]
    for path in findings:
        print(f"finding: {path}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
