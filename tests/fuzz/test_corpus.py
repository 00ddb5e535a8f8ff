"""Every seed and every former finding through its target, and a short search of each, without a fuzzing engine."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
from pathlib import Path

import pytest

from .__main__ import ROOT, command
from .mutation import mutate, mutate_script
from .seeds import CORPUS
from .shrink import shrink
from .targets import HERE, TARGETS, Target

#: Inputs of the short search. Half of a second or so for each target.
TRIES = {"gateway": 300}
DEFAULT_TRIES = 3000
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None

SEEDS = [(name, seed) for name, target in TARGETS.items() for seed in target.seeds()]


@pytest.mark.parametrize(("name", "seed"), SEEDS, ids=[seed for _, seed in SEEDS])
def test_seed_keeps_the_promise(name: str, seed: str) -> None:
    TARGETS[name].check((HERE / seed).read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_seed_corpus_is_what_its_script_writes(name: str) -> None:
    written = {path.stem: path.read_bytes() for path in TARGETS[name].corpus.iterdir()}
    assert written == CORPUS[name](), "run: python -m tests.fuzz.seeds"


@pytest.mark.parametrize("name", TARGETS)
def test_dictionary_has_words(name: str) -> None:
    words = TARGETS[name].words()
    assert len(words) > 5
    assert all(words)
    assert len(words) == len(TARGETS[name].dictionary.read_text().splitlines())


def test_every_former_finding_belongs_to_a_target() -> None:
    replayed = {seed for _, seed in SEEDS}
    found = {path.relative_to(HERE).as_posix() for path in (HERE / "regressions").rglob("*") if path.is_file()}
    assert found <= replayed, "not replayed: it must be regressions/TARGET/NAME.bin"


@pytest.mark.parametrize("name", TARGETS)
def test_changed_seeds_keep_the_promise(name: str) -> None:
    """Always the same inputs: what fails here fails again, and is printed as what a regression seed holds."""
    target = TARGETS[name]
    rng = random.Random(20)
    seeds, words = list(target.seeds().values()), target.words()

    def change(data: bytes) -> bytes:
        return mutate(data, rng, words, seeds, target.max_bytes)

    for _ in range(TRIES.get(name, DEFAULT_TRIES)):
        seed = rng.choice(seeds)
        is_by_line = target.is_script and rng.random() < 0.7
        data = mutate_script(seed, rng, seeds, target.max_bytes, change) if is_by_line else change(seed)
        try:
            target.check(data)
        except Exception:
            print(f"{name}: {data!r}")
            raise


@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris is not installed (the extra 'fuzz'; wheels for Linux x86-64 only)")
@pytest.mark.parametrize(("name", "runs"), [("frames", 5000), ("msgpack", 5000), ("gateway", 500)])
def test_fuzzing_engine_runs_the_target(name: str, runs: int, tmp_path: Path) -> None:
    target: Target = TARGETS[name]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    done = subprocess.run(
        command(target, [corpus, target.corpus], tmp_path, f"-runs={runs}", "-seed=1"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"stat::number_of_executed_units: {runs}" in done.stderr
    assert any(corpus.iterdir()), "nothing was learnt: is the code instrumented?"


def test_shrinking_keeps_what_fails() -> None:
    found = shrink(b"one\xff\ntwo needle three\xff\nfour\0", lambda data: b"needle" in data, is_script=True)
    assert found == b"needle"
