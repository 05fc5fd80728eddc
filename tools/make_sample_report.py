"""Write docs/start/sample-report.html from a run of the demo: python tools/make_sample_report.py [--run RUN]

Without --run, the demo runs first; that takes minutes and needs no network. With --onnxruntime-web DIR, the npm
package, --out FILE gets the drop zone too. That page has some 5 MB more, so it is not in the repository.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tcs_edge.utils.files import write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "start" / "sample-report.html"
RUN = Path("runs/digits")
COMMAND = ("compress", "--target", "raspberrypi", "--out", str(RUN))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--run", type=Path, help="a finished run of the demo")
    parser.add_argument("--onnxruntime-web", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    web = arguments.onnxruntime_web
    drop_zone = ("--interactive", "--onnxruntime-web", str(web.resolve())) if web else ()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run:
            shutil.copytree(arguments.run, Path(folder) / RUN)
        for words in (*(() if arguments.run else (COMMAND,)), ("report", str(RUN), "--out", "page.html", *drop_zone)):
            subprocess.run([sys.executable, "-m", "tcs_edge", *words], cwd=folder, check=True, env=environment())
        page = (Path(folder) / "page.html").read_text(encoding="utf-8")
        # The command that repeats the run has whole paths; the page names no folder of this machine.
        write_text(arguments.out, page.replace(f"{Path(folder).resolve()}{os.sep}", ""))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")
    return 0


def environment() -> dict[str, str]:
    """Return the environment with this repository first in the import path."""
    path = os.pathsep.join(filter(None, (str(PAGE.parents[2]), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


if __name__ == "__main__":
    raise SystemExit(main())
