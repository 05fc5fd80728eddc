"""Measure the cost of training with TCS against cross-entropy, KD and SimKD, and of the teacher's pass.

    python benchmarks/cost.py --data photos/ --teacher dinov2 --student mobilenetv3_small_100 --img-size 64

One run measures everything with the code of the package, on real images decoded beforehand:

- Step rates: the methods train in turn (ce, tcs, kd, simkd, ce, ...), so that a slower machine slows all of them.
  A ratio is the median over the rounds, with the lowest and the highest. KD and SimKD have an online teacher.
  On a CPU the time is that of this process, so that other programs matter little.
- Training memory: each method and round has a new process. The result is the peak during training without the
  memory before it (images) and without the libraries' code and buffers. It includes an online teacher.
  On a GPU the result is the peak that torch allocated.
- Teacher: the whole pass (loading, decoding, checking, writing the cache) against the bare model on decoded batches.
- Coordinates: the memory for fitting them at 1x and 10x images, each in a new process.

Prints a table and writes JSON. Exits 1 if a limit is missed. Every limit is an option.
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
class Requirement:
    """A figure with its limit, which is a minimum if `at_least` is True and otherwise a maximum."""

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
    requirements = judge(measured, arguments)
    print("\n".join(requirement.line() for requirement in requirements))
    document = {"schema_version": 1, "settings": {name: str(value) for name, value in vars(arguments).items()}}
    results = [{**vars(requirement), "kept": requirement.kept} for requirement in requirements]
    write_json(arguments.out, document | {"measured": measured, "requirements": results})
    return 0 if all(requirement.kept for requirement in requirements) else 1


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure every part in its own process; the first one fills the cache, to exclude the teacher's pass."""
    measured_part(arguments, "passes")
    return {
        "steps_per_second": measured_part(arguments, "rates"),
        "memory_mb": [
            {name: measured_part(arguments, f"memory:{name}") for name in METHODS}
            for _ in range(arguments.memory_rounds)
        ],
        "teacher": measured_part(arguments, "teacher"),
        "coordinates": {factor: measured_part(arguments, f"coordinates:{factor}") for factor in ("1", "10")},
    }


def measured_part(arguments: argparse.Namespace, part: str) -> Any:
    """Run `part` of this script in a new process, and return its result."""
    sys.stderr.write(f"measuring {part}\n")
    command = [sys.executable, __file__, *sys.argv[1:], "--cache-dir", str(arguments.cache_dir), "--part", part]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"  {json.dumps(answer)}\n")  # an interrupted run shows the results so far
    return answer


def judge(measured: dict[str, Any], limits: argparse.Namespace) -> list[Requirement]:
    """Return every requirement with its figure."""
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
        Requirement("cache, bytes per feature", teacher["bytes_per_feature"], limits.max_bytes, False, ""),
        Requirement("fitting coordinates, memory at 10x / 1x images", fitted["10"] / fitted["1"],
                limits.max_growth, False, f"MB: {fitted['1']:.0f} and {fitted['10']:.0f}, libraries included"),
    ]  # fmt: skip


def _ratio(name: str, ours: list[float], theirs: list[float], limit: float, at_least: bool = True) -> Requirement:
    """Return the ratio of rates per second (`at_least`) or of MB, with its limit."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds"
    medians = f"{statistics.median(ours):.3g} and {statistics.median(theirs):.3g} {'per s' if at_least else 'MB'}"
    return Requirement(name, statistics.median(ratios), limit, at_least, f"{spread}; {medians}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="image folder; default: the built-in digits")
    parser.add_argument("--teacher", help="as for compress")
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--teacher-img-size", type=int)
    parser.add_argument("--student", default="mobilenetv3_small_100")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shots", type=int, default=50, help="number of training images per class")
    parser.add_argument("--steps", type=int, default=4, help="per method and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-dir", type=Path, help="folder of teacher features; default: a temporary one")
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
