"""Disturb small runs in every way that the system offers, and compare what is left with an undisturbed run.

    sudo python benchmarks/reliability.py --out reliability.jsonl --page docs/explanation/reliability.md

Every try is one line of the file. A second start makes the tries that are missing, and those that failed.
A try has one verdict:

- same: the command ended, or was stopped and the command of its message ended, with the same result bit for bit
- refused: one line of error, a documented exit code, and the same result once the cause was gone
- lost: no command of a message led to the result
- wrong: a command succeeded with another result, a gate passed it, or drafts and locks were left
- traceback: a traceback, a crash, an undocumented exit code, or a refusal without its one line

Linux only. Mounts are made in a namespace of their own and end with it; without root, the cases that need mounts are
left out and the table says so. The table is written between the markers of the page. A row of the page stays if the
file has no try of its case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reliability_cases import CASES, Case
from reliability_lab import CRASH, LOST, REFUSED, SAME, WRONG, Forks, Lab, make_inputs
from reliability_soak import SOAK, soak, soak_lines

from tcs_edge.utils.version import __version__

BEGIN, END = "<!-- reliability: begin -->", "<!-- reliability: end -->"
VERDICTS = (SAME, REFUSED, LOST, WRONG, CRASH)
IN_NAMESPACE = "TCS_EDGE_RELIABILITY_NAMESPACE"


def main() -> int:
    arguments = parse_arguments()
    if arguments.page:
        split_page(arguments.page)  # refuse a page without markers before the measurement
    enter_namespace()
    if not arguments.table_only:
        measure(arguments)
    records = read_records(arguments.out)
    before, earlier, after = split_page(arguments.page) if arguments.page else ("", "", "")
    text = table(records, earlier)
    print(text)
    if arguments.page:
        arguments.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return int(any(record["verdict"] in (LOST, WRONG, CRASH) for record in records))


def measure(arguments: argparse.Namespace) -> None:
    """Run every try that the file does not have yet."""
    done = {(r["case"], r["try"]) for r in read_records(arguments.out) if r["verdict"] in (SAME, REFUSED)}
    chosen = [case for case in CASES if any(word in case.name for word in arguments.only or [""])]
    with tempfile.TemporaryDirectory(prefix="tcs-edge-reliability-") as place, arguments.out.open("a") as out:
        Path(place).chmod(0o755)
        folder = Path(place, "lab")
        folder.mkdir()
        open_to_all(Path(sys.base_prefix))
        with Forks(folder) as forks, ExitStack() as closing:
            lab = Lab(folder, forks, closing)
            make_inputs(lab)
            for case in chosen:
                measure_case(lab, case, done, out, arguments.tries)
        runs = str(arguments.runs)
        wanted = arguments.runs and any(word in SOAK for word in arguments.only or [""])
        if wanted and (SOAK, runs) not in done:
            write_record(out, SOAK, runs, *soak(folder, arguments.runs))


def measure_case(lab: Lab, case: Case, done: set[tuple[str, str]], out: Any, most: int | None) -> None:
    if reason := case.needs():
        if (case.name, "") not in done:
            write_record(out, case.name, "", "not run", reason, 0.0)
        return
    for one in spread(case.tries(lab), most):
        if (case.name, one) in done:
            continue
        start = time.monotonic()
        result = case.attempt(lab, one)
        write_record(out, case.name, one, result.verdict, result.detail, time.monotonic() - start)


def spread(tries: list[str], most: int | None) -> list[str]:
    """Return at most `most` tries, evenly spaced."""
    if most is None or len(tries) <= most:
        return tries
    return [tries[round((number + 0.5) * len(tries) / most - 0.5)] for number in range(most)]


def write_record(out: Any, case: str, one: str, verdict: str, detail: str, seconds: float) -> None:
    record = {"case": case, "try": one, "verdict": verdict, "detail": detail, "seconds": round(seconds, 2)}
    out.write(json.dumps(record) + "\n")
    out.flush()
    print(f"{verdict:<10}{case} [{one}] {seconds:.1f} s {detail}"[:300], flush=True)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the last record of every try, in the order of the cases."""
    lines = path.read_text().splitlines() if path.exists() else []
    last = {(record["case"], record["try"]): record for record in map(json.loads, lines)}
    return list(last.values())


def table(records: list[dict[str, Any]], earlier: str = "") -> str:
    """Return the results as Markdown: one row per case, and the figures of the runs in one process.

    Args:
        earlier: an earlier table; its rows stand for cases that have no try in `records`.
    """
    rows = ["| case | tries | same | refused | lost | wrong | traceback |", "|---|--:|--:|--:|--:|--:|--:|"]
    total: Counter[str] = Counter()
    kept = False
    for case in CASES:
        own = [record for record in records if record["case"] == case.name]
        found = Counter(record["verdict"] for record in own if record["verdict"] in VERDICTS)
        if not found:
            found = earlier_counts(earlier, case.name)
            kept |= bool(found)
        if own and not found:
            rows.append(f"| {case.name} | not run: {own[-1]['detail']} | | | | | |")
        else:
            rows.append(f"| {case.name} | {found.total()} | {' | '.join(str(found[v]) for v in VERDICTS)} |")
            total += found
    rows.append(f"| **all** | {total.total()} | {' | '.join(str(total[v]) for v in VERDICTS)} |")
    new_soak = soak_table(records)
    old_soak = [] if new_soak else earlier_soak(earlier)
    lines = [*rows, "", *new_soak, *old_soak, measured_with(records, kept or bool(old_soak))]
    if " | 0 | 0 | 0 | 0 | 0 | 0 |" in "\n".join(rows):
        lines.append("A row with 0 tries waits for its measurement.")
    return "\n".join(lines)


def measured_with(records: list[dict[str, Any]], several: bool) -> str:
    minutes = sum(record["seconds"] for record in records) / 60
    system = f"{platform.system()} {platform.release().partition('-')[0]} on {platform.machine()}"
    versions = f"tcs-edge {__version__}, Python {platform.python_version()}, {system}, in {minutes:.0f} minutes."
    return (
        f"The rows come from several measurements, the last with {versions}" if several else f"Measured with {versions}"
    )


def earlier_counts(text: str, name: str) -> Counter[str]:
    """Return the verdicts in the row of a case, none if the table lacks the row or its figures."""
    numbers = re.search(rf"^\| {re.escape(name)} \| \d+ \|(( \d+ \|){{{len(VERDICTS)}}})$", text, re.MULTILINE)
    return (
        +Counter(dict(zip(VERDICTS, map(int, re.findall(r"\d+", numbers[1])), strict=True))) if numbers else Counter()
    )


def soak_table(records: list[dict[str, Any]]) -> list[str]:
    found = [record for record in records if record["case"] == SOAK and record["verdict"] != CRASH]
    if not found:
        return []
    figures = json.loads(found[-1]["detail"])
    warm = figures["warm"]
    head = [f"| {figures['runs']} {SOAK} | runs {warm + 1} to {2 * warm} | last {warm} runs |", "|---|--:|--:|"]
    return [*head, *soak_lines(figures), ""]


def earlier_soak(text: str) -> list[str]:
    """Return the lines of the table of runs in one process, with the empty line after it."""
    found = re.search(rf"^\| \d+ {SOAK} \|.*\n(\|.*\n)+\n", text, re.MULTILINE)
    return found[0].split("\n")[:-1] if found else []


def split_page(page: Path) -> tuple[str, str, str]:
    """Return what is before, between, and after the markers of the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    between, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} lacks the markers {BEGIN} and {END}. Add them where the table belongs.")
    return before, between, after


def enter_namespace() -> None:
    """Start this script again with mounts of its own, if the system allows it."""
    if os.environ.get(IN_NAMESPACE) or os.geteuid() or not shutil.which("unshare"):
        return
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0:
        os.environ[IN_NAMESPACE] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])


def open_to_all(folder: Path) -> None:
    """Let all users reach a folder, in this namespace of mounts: other entries of a closed parent are hidden."""
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & stat.S_IXOTH]
    if not os.environ.get(IN_NAMESPACE) or not closed:
        return
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["mount", "--bind", folder, aside], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", closed[-1]], check=True)
        folder.mkdir(parents=True)
        subprocess.run(["mount", "--bind", aside, folder], check=True)
        subprocess.run(["umount", aside], check=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reliability.jsonl"), help="one line per try")
    parser.add_argument("--page", type=Path, help="Markdown page with the markers, to write the table into")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases whose names contain TEXT")
    parser.add_argument("--tries", type=int, metavar="N", help="at most N tries of each case, evenly spaced")
    parser.add_argument("--runs", type=int, default=200, help="number of runs in one process")
    parser.add_argument("--table-only", action="store_true", help="write the table from the file alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
