"""Run the demo and draw the two pictures of the README: python tools/make_pictures.py

docs/start/terminal.svg shows what the command prints, docs/start/report.png the top of the run's report.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

START = Path(__file__).resolve().parents[1] / "docs" / "start"
COMMAND = ("tcs-edge", "compress", "--target", "raspberrypi")
COLUMNS = 110
REPORT_WIDTH, REPORT_HEIGHT = 1100, 900


def main() -> None:
    """Draw both pictures from one run."""
    with tempfile.TemporaryDirectory() as place:
        words = run_demo(Path(place))
        (START / "terminal.svg").write_text(terminal_svg(words), encoding="utf-8")
        (report,) = Path(place).glob("runs/*/reports/report.html")
        photograph(report, START / "report.png")


def run_demo(folder: Path) -> str:
    """Return what the demo prints, messages and results in their order.

    Lines of epochs are left out: on a terminal they are in the progress bar.
    """
    environment = os.environ | {"COLUMNS": str(COLUMNS), "CI": "true"}
    command = [sys.executable, "-m", "tcs_edge", *COMMAND[1:]]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("epoch "))


def terminal_svg(words: str) -> str:
    """Return a terminal window as SVG that loads nothing from the network."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    console.print(Text(f"$ {' '.join(COMMAND)}", style="bold"))
    console.print(Text(words.rstrip()))
    # rich's template loads a web font; the reader's own monospace font serves as well.
    start, end = CONSOLE_SVG_FORMAT.index("@font-face"), CONSOLE_SVG_FORMAT.index(".{unique_id}-matrix")
    template = CONSOLE_SVG_FORMAT[:start] + CONSOLE_SVG_FORMAT[end:].replace("Fira Code", "monospace")
    return console.export_svg(title="tcs-edge", theme=MONOKAI, code_format=template, unique_id="terminal")


def photograph(page: Path, picture: Path) -> None:
    """Write the top of an HTML page as PNG."""
    with sync_playwright() as driver:
        found = os.environ.get("TCS_EDGE_CHROMIUM") or shutil.which("chromium") or driver.chromium.executable_path
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": REPORT_WIDTH, "height": REPORT_HEIGHT})
        tab.goto(page.as_uri())
        tab.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
