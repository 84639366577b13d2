"""The fuzzer's driver: makes mutants, has them read in another process, and counts what became of them.

A mutant that reaches lines of `tracer` which none before it reached joins the seeds. The reader is a process of its
own, with a limit on its memory: it is killed when a file takes too long, and started again when it died.
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO, Any

from tests.fuzzing.contents import CONTENTS
from tests.fuzzing.mutations import BYTES
from tests.fuzzing.reading import FORMS
from tests.fuzzing.sample import Sample
from tests.fuzzing.seeds import seeds

FINDINGS = ("crash", "slow", "hang", "memory", "died", "unsound", "warning")
_LARGEST = 20_000_000
_MUTATIONS = (*BYTES, *CONTENTS)
_KILL_AFTER = 60.0  # seconds of wall time; the law is one second of processor time, which the reader measures


def mutant(rng: Random, corpus: list[Sample]) -> Sample:
    """A sample of the corpus after one to three mutations, most often one."""
    sample = rng.choice(corpus)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not sample.file:
            break
        mutation = rng.choice(_MUTATIONS)
        changed = mutation(rng, sample)
        if len(changed.file) > _LARGEST:  # what multiplies may do so again and again
            continue
        sample = Sample(f"{sample.name}+{mutation.__name__}", changed.file, changed.log)
    return sample


@dataclass(slots=True)
class Plain:
    """What a seed gives before any mutation: fingerprints of its parts, and what it refuses (no tensors, say)."""

    figures: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


class Reader:
    """A process that reads one file after the other."""

    def __init__(self, memory: int) -> None:
        self._command = [sys.executable, "-m", "tests.fuzzing.worker", str(memory)]
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        """What became of the file: `outcome`, `detail`, `lines` (newly reached), `seconds`, `figures`."""
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        asked, answered = _pipes(self._process)
        asked.write(f"{path}\n")
        asked.flush()
        ready, _, _ = select.select([answered], [], [], _KILL_AFTER)
        line = answered.readline() if ready else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        outcome = "died" if ready else "hang"
        self.close()
        nothing: dict[str, Any] = {"lines": [], "figures": {}, "refused": []}
        return {"outcome": outcome, "detail": f"the reader: {outcome}", "seconds": _KILL_AFTER, **nothing}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


def main() -> int:
    """Fuzz; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=1000, help="megabytes that reading may need")
    parser.add_argument("--keep", type=Path, default=None, help="where files that show a fault go")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(options.files, options.seed, options.memory, Path(folder), keep)
    return 1 if found else 0


def fuzz(files: int, seed: int, memory: int, folder: Path, keep: Path) -> int:
    """The number of faults found; prints them and a table of all outcomes."""
    rng, corpus, seen = Random(seed), seeds(), set[str]()
    outcomes: dict[str, Counter[str]] = {}
    slowest, start = 0.0, time.monotonic()
    reader = Reader(memory)
    plain = {sample.name: Plain() for sample in corpus}
    for sample in corpus:
        for _ in FORMS:  # of which the reader makes one for each file
            answer = _read(reader, sample, folder, Plain())
            seen.update(answer["lines"])
            plain[sample.name].figures |= answer["figures"]
            plain[sample.name].refused |= set(answer["refused"])
    for index in range(files):
        sample = mutant(rng, corpus)
        answer = _read(reader, sample, folder, plain[sample.name.split("+")[0]])
        outcome = answer["outcome"]
        lines = set(answer["lines"]) - seen
        if lines and outcome not in FINDINGS:
            seen |= lines
            corpus.append(sample)
        slowest = max(slowest, answer["seconds"])
        outcomes.setdefault(sample.name.split("+")[-1], Counter())[outcome] += 1
        if outcome in FINDINGS:
            sample.write(keep / f"{outcome}-{seed}-{index}.dltrace")
            print(f"{outcome}-{seed}-{index} {sample.name}: {answer['detail']}", flush=True)
        if (index + 1) % 1000 == 0:
            print(f"{index + 1} files, {len(corpus)} in the corpus, {len(seen)} lines", file=sys.stderr, flush=True)
    reader.close()
    _print_table(outcomes)
    print(
        f"\n{files} files in {time.monotonic() - start:.0f} s, the slowest part {slowest:.2f} s; "
        f"{len(corpus)} files in the corpus, {len(seen)} lines of tracer reached"
    )
    faults = sum(counts[name] for counts in outcomes.values() for name in FINDINGS)
    print(f"{faults} faults" + (f", their files in {keep}" if faults else ""))
    return faults


def _read(reader: Reader, sample: Sample, folder: Path, plain: Plain) -> dict[str, Any]:
    """The reader's answer, its outcome "read" told apart by what the seed gave."""
    path = folder / "mutant.dltrace"
    sample.write(path)
    answer = reader.read(path)
    if answer["outcome"] == "read":
        if any(figures != plain.figures.get(part, figures) for part, figures in answer["figures"].items()):
            answer["outcome"] = "other figures"
        else:
            answer["outcome"] = "as its seed" if set(answer["refused"]) <= plain.refused else "refused in part"
    return answer


def _print_table(outcomes: dict[str, Counter[str]]) -> None:
    names = ["refused on opening", "refused in part", "as its seed", "other figures"]
    names += [name for name in FINDINGS if any(counts[name] for counts in outcomes.values())]
    print(f"\n{'last mutation':<16}" + "".join(f"{name:>20}" for name in names))
    for mutation, counts in [*sorted(outcomes.items()), ("all", sum(outcomes.values(), Counter()))]:
        print(f"{mutation:<16}" + "".join(f"{counts[name]:>20}" for name in names))


if __name__ == "__main__":
    sys.exit(main())
