"""`tcs-edge init`: a commented tcs-edge.toml for the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcs_edge.cli.completion import target_names
from tcs_edge.cli.guard import guarded
from tcs_edge.cli.output import echo

if TYPE_CHECKING:
    from tcs_edge.project.template import Project


@guarded
def command(
    target: Annotated[
        str, typer.Option(help="Device: a name from `tcs-edge targets`, or a .toml file.", autocompletion=target_names)
    ] = "raspberrypi",
    data: Annotated[Path | None, typer.Option(help="Image folder; default: the image folder found here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write tcs-edge.toml with every option of compress and limit of gate, its default and its purpose.

    The command searches the current folder for images. `tcs-edge compress` and `tcs-edge gate` read the file in
    their current folder. Flags override it.

    \b
    Examples:
      tcs-edge init
      tcs-edge init --target raspberrypi4 --data photos/ --force
    """
    from tcs_edge.errors import UsageError
    from tcs_edge.project.read import OWN_FILE
    from tcs_edge.project.template import project_toml
    from tcs_edge.report.text import one_line
    from tcs_edge.utils.files import write_text

    path = Path(OWN_FILE)
    if path.exists() and not force:
        raise UsageError(f"{path} already exists. Pass --force to replace it.")
    project = _look_around(target, data)
    write_text(path, project_toml(project))
    for remark in project.remarks:
        echo(remark, err=True)
    images = one_line(f"the images in {project.data}") if project.data else "the built-in digits until data is set"
    echo(f"{path} written: {images}, for {target}. Next: tcs-edge compress --dry-run")


def _look_around(target: str, data: Path | None) -> Project:
    from tcs_edge.data.detect import detect_image_folders
    from tcs_edge.errors import DataError
    from tcs_edge.project.template import Project
    from tcs_edge.report.text import one_line

    if data is not None:
        if not data.is_dir():
            raise DataError(f"no such folder: {data}. Pass --data DIR with one folder of images per class.")
        return Project(target, data)
    found = detect_image_folders(Path())
    if not found:
        return Project(target, None, ("No image folder found here. Set data, or leave it out for the digits demo.",))
    remarks = (f"Found: {found[0]}.", *(f"Also found: {folder}." for folder in found[1:]))
    # Folder names may have any characters; comments in TOML may not.
    return Project(target, found[0].path, tuple(map(one_line, remarks)))
