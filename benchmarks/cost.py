"""What training with TCS costs beside cross-entropy, KD and SimKD, and what the teacher's pass costs.

    python benchmarks/cost.py --data photos/ --teacher dinov2 --student mobilenetv3_small_100 --img-size 64

Everything is measured in one run, on real images decoded beforehand, through the product's own code:

- step rates: the training loop, in turn (ce, tcs, kd, simkd, ce, ...), so that a machine that slows down slows all;
  a ratio is the median over the rounds, with the lowest and the highest. KD and SimKD keep the teacher in the loop.
  On a CPU a second is a second of this process's computing, so that other programs count little.
- training memory: a fresh process per method and round, in turn; the peak while training less what the process held
  before (images) and less the libraries' code and buffers, so the teacher counts where it stays in memory. On a
  GPU: the most that torch took there.
- teacher: the whole pass (loading, decoding, checking, writing the cache) against the bare model on decoded batches.
- coordinates: memory that fitting them takes at 1x and 10x images, each in a fresh process.

Prints a table and writes JSON; exits 1 where a limit is missed. Every limit is an option.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_parts import METHODS, PARTS

from tcs_edge.utils.files import write_json


@dataclass(frozen=True)
class Promise:
    """A figure with its limit; `at_least` says on which side of it the figure must lie."""

    name: str
    value: float
    limit: float
    at_least: bool
    detail: str

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        wanted = f"{'>=' if self.at_least else '<='} {self.limit:g}"
        return f"{'ok' if self.kept else 'MISSED':<7}{self.name:<44}{self.value:>8.3f}  {wanted:<9} {self.detail}"


def main() -> int:
    arguments = parse_arguments()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part.partition(":")[0]](arguments)))
        return 0
    with tempfile.TemporaryDirectory() as cache:
        arguments.cache_dir = arguments.cache_dir or Path(cache)
        measured = measure(arguments)
    promises = judge(measured, arguments)
    print("\n".join(promise.line() for promise in promises))
    document = {"schema_version": 1, "settings": {name: str(value) for name, value in vars(arguments).items()}}
    results = [{**vars(promise), "kept": promise.kept} for promise in promises]
    write_json(arguments.out, document | {"measured": measured, "promises": results})
    return 0 if all(promise.kept for promise in promises) else 1


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every part in a process of its own; the first one fills the cache, so that no other sees the teacher's pass."""
    ask(arguments, "passes")
    return {
        "steps_per_second": ask(arguments, "rates"),
        "memory_mb": [
            {name: ask(arguments, f"memory:{name}") for name in METHODS} for _ in range(arguments.memory_rounds)
        ],
        "teacher": ask(arguments, "teacher"),
        "coordinates": {factor: ask(arguments, f"coordinates:{factor}") for factor in ("1", "10")},
    }


def ask(arguments: argparse.Namespace, part: str) -> Any:
    """What this script answers for `part`, in a fresh process."""
    sys.stderr.write(f"measuring {part}\n")
    command = [sys.executable, __file__, *sys.argv[1:], "--cache-dir", str(arguments.cache_dir), "--part", part]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"  {json.dumps(answer)}\n")  # so that a run that is stopped still leaves what it found
    return answer


def judge(measured: dict[str, Any], limits: argparse.Namespace) -> list[Promise]:
    """Every promise with its figure."""
    rates, teacher = measured["steps_per_second"], measured["teacher"]
    memory = {name: [found[name]["training"] for found in measured["memory_mb"]] for name in METHODS}
    fitted = {factor: found["memory"] + found["before"] for factor, found in measured["coordinates"].items()}
    return [
        _ratio("step rate, tcs / ce", rates["tcs"], rates["ce"], limits.min_rate_ce),
        _ratio("step rate, tcs / kd with the teacher", rates["tcs"], rates["kd"], limits.min_rate_loop),
        _ratio("step rate, tcs / simkd with the teacher", rates["tcs"], rates["simkd"], limits.min_rate_loop),
        _ratio("training memory, tcs / ce", memory["tcs"], memory["ce"], limits.max_memory_ce, False),
        _ratio("training memory, tcs / kd with the teacher",
               memory["tcs"], memory["kd"], limits.max_memory_loop, False),
        _ratio("teacher pass / bare model", *teacher["images_per_second"].values(), limits.min_teacher),
        Promise("cache, bytes per feature", teacher["bytes_per_feature"], limits.max_bytes, False, ""),
        Promise("fitting coordinates, memory at 10x / 1x images", fitted["10"] / fitted["1"],
                limits.max_growth, False, f"MB: {fitted['1']:.0f} and {fitted['10']:.0f}, libraries included"),
    ]  # fmt: skip


def _ratio(name: str, ours: list[float], theirs: list[float], limit: float, at_least: bool = True) -> Promise:
    """Of rates per second, of which there should be many, or else of MB, of which there should be few."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds"
    medians = f"{statistics.median(ours):.3g} and {statistics.median(theirs):.3g} {'per s' if at_least else 'MB'}"
    return Promise(name, statistics.median(ratios), limit, at_least, f"{spread}; {medians}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="image folder; without it, the built-in digits")
    parser.add_argument("--teacher", help="as for compress")
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--teacher-img-size", type=int)
    parser.add_argument("--student", default="mobilenetv3_small_100")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shots", type=int, default=50, help="training images per class that are used")
    parser.add_argument("--steps", type=int, default=4, help="per method and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-dir", type=Path, help="where teacher features are kept; default: nowhere")
    parser.add_argument("--out", type=Path, default=Path("cost.json"))
    parser.add_argument("--min-rate-ce", type=float, default=0.95)
    parser.add_argument("--min-rate-loop", type=float, default=1.8)
    parser.add_argument("--max-memory-ce", type=float, default=1.05)
    parser.add_argument("--max-memory-loop", type=float, default=0.6)
    parser.add_argument("--min-teacher", type=float, default=0.9)
    parser.add_argument("--max-bytes", type=float, default=2.1)
    parser.add_argument("--max-growth", type=float, default=1.05)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
