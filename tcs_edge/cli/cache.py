"""`tcs-edge cache`: sizes of the cache folder, and a way to clear it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.guard import guarded

if TYPE_CHECKING:
    from tcs_edge.commands.cache import CacheContents


@guarded
def command(
    clear: Annotated[
        str | None, typer.Option("--clear", metavar="[intake|features|all]", help="Remove this kind of contents.")
    ] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="The cache folder. Default: the user's cache folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Show what is cached between commands, or clear it.

    intake holds the checks of images, features those of teachers. Both are made again when they are needed.

    \b
    Examples:
      tcs-edge cache
      tcs-edge cache --clear features
    """
    from tcs_edge.cli.output import print_json
    from tcs_edge.commands.cache import KINDS, cache_contents, clear_cache
    from tcs_edge.errors import UnknownName
    from tcs_edge.utils.cache_folder import default_cache_dir

    if clear is not None and clear not in KINDS:
        raise UnknownName("kind of contents", clear, KINDS)
    folder = cache_dir or default_cache_dir()
    contents = clear_cache(folder, clear) if clear else cache_contents(folder)
    if json:
        print_json(contents.to_json())
        return
    _print(contents, removed=clear is not None)


def _print(contents: CacheContents, removed: bool) -> None:
    from tcs_edge.report.console import print_table
    from tcs_edge.report.text import one_line

    typer.echo(one_line(f"cache: {contents.folder}"))
    total = ("total", "", "", f"{sum(part.bytes for part in contents.parts) / 1e6:.1f}")
    rows = [
        (part.kind, part.what, "" if part.images is None else str(part.images), f"{part.bytes / 1e6:.1f}")
        for part in contents.parts
    ]
    print_table(("removed" if removed else "kind", "what", "images", "MB"), [*rows, total])
