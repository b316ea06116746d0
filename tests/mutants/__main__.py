"""python -m tests.mutants: breaks the kernels on purpose, by rule, and asks the tests to notice.

--total 480       faults drawn (0: all there are)
--seed COMMIT     what draws them; the commit's hash where none is given
--minutes 3       stops when the time is over, that of the build and of the tests without a fault not counted, and fails
                  under 90 %
--checked         runs what survived once more on the instrumented kernels, with the detector
--processes 2     tests at a time; also the jobs of the build
--kind, --file    only faults of this class, of files with this in their path
--number 17 18    only these
--list            prints the faults and runs nothing
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import subprocess
import sys
from collections import Counter
from pathlib import Path

from .build import ROOT, all_mutants, build
from .report import KILLED, Report
from .rules import CLASSES
from .run import Result, run_and_send
from .sample import draw

RESULTS = Path(__file__).with_name("results")
LEAST_OF_A_SAMPLE = 0.90


def main() -> int:
    arguments = parse_arguments()
    mutants = all_mutants()
    commit = git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "csrc", "tests", "minicnn") else "")
    seed = arguments.seed or commit.removesuffix("-dirty")
    wanted = [n for n, m in enumerate(mutants, 1) if arguments.kind in (m.kind, None) and arguments.file in m.file]
    wanted = [n for n in wanted if n in arguments.number] if arguments.number else wanted
    numbers = [wanted[i - 1] for i in draw([mutants[n - 1] for n in wanted], arguments.total or len(wanted), seed)]
    if arguments.list:
        for number in sorted(numbers):
            print(number, mutants[number - 1].kind, Report(mutants, commit, seed, {}).describe(number))
    sites = Counter(mutant.kind for mutant in mutants)
    print(f"{len(numbers)} of {len(mutants)} faults, seed {seed}:", ", ".join(f"{sites[k]} {k}" for k in CLASSES))
    if arguments.list:
        return 0

    outputs = phase("_emulated", numbers, set(), len(mutants), arguments.processes, 60 * arguments.minutes)
    report = Report(mutants, commit, seed, outputs)
    if arguments.checked:
        survivors = [n for n in numbers if n in outputs and outputs[n].outcome == "survived"]
        tests = {test for n in survivors for test in outputs[n].passed}
        report.detector = phase(
            "_emulated_checked", survivors, tests, len(mutants), arguments.processes, 60 * arguments.minutes
        )
    print(report.markdown())
    if arguments.write:
        report.write(RESULTS)
    complaints = report.complaints(LEAST_OF_A_SAMPLE if math.isfinite(arguments.minutes) else 0.0, len(numbers))
    print("\n".join(f"mutants: {complaint}" for complaint in complaints), file=sys.stderr)
    return bool(complaints)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--total", type=int, default=480)
    parser.add_argument("--seed", default="")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--checked", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kind", choices=CLASSES)
    parser.add_argument("--file", default="")
    parser.add_argument("--number", type=int, nargs="+", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the result in tests/mutants/results")
    return parser.parse_args()


def phase(
    module: str, numbers: list[int], tests: set[str], count: int, processes: int, seconds: float
) -> dict[int, Result]:
    """Builds a module and runs faults on it, in a process of its own: each has its own kernels."""
    if not numbers:
        return {}
    print(f"building {module} with {count} faults in it", flush=True)
    path = build(module, processes)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=run_and_send, args=(theirs, path, count, numbers, tests, processes, seconds))
    worker.start()
    theirs.close()
    results: dict[int, Result] = {}
    try:
        with progress() as bar:
            task = bar.add_task(module, total=len(numbers), survivors=0)
            while True:
                result = ours.recv()
                results[result.number] = result
                bar.update(task, advance=1, survivors=sum(r.outcome not in KILLED for r in results.values()))
    except EOFError:
        worker.join()
    if worker.exitcode:
        raise SystemExit(f"mutants: the run on {module} ended with status {worker.exitcode}")
    return results


def progress():
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        "{task.fields[survivors]} alive",
    )
    return Progress(*(TextColumn(c) if isinstance(c, str) else c for c in columns))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
