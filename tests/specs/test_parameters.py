"""An option is declared once: flag, help, docs, `tcs-edge init` and the Python signature follow."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from tcs_edge.api import compress
from tcs_edge.cli.options import PanelCommand, given, with_flags_of
from tcs_edge.project.template import Project, project_toml
from tcs_edge.specs.config import CompressConfig
from tcs_edge.specs.options import DataOptions, TrainingOptions
from tcs_edge.specs.parameters import argument_docs, parameters, python_signature
from tcs_edge.specs.training import TrainOptions

# The groups of options in the order of their fields, which is the reverse of the bases; [train] follows Training.
PANELS = [
    panel
    for base in CompressConfig.__bases__[::-1]
    for panel in ([base, TrainOptions] if base is TrainingOptions else [base])
]


class MoreData(DataOptions):
    """Images, with one more option."""

    zoom: tuple[Literal["near", "far"], ...] | None = Field(None, min_length=1)
    """Zoom of every image; repeatable."""
    tilt: int = 3
    """Tilt of every image in degrees."""


class MoreConfig(CompressConfig, MoreData):
    """A config with the options that this test adds."""


@pytest.fixture
def received() -> dict[str, Any]:
    return {}


@pytest.fixture
def app(received: dict[str, Any]) -> typer.Typer:
    """A command with the flags of `MoreConfig`."""

    def command(**options: Any) -> None:
        """Run."""
        received.update(given(options))

    made = typer.Typer(rich_markup_mode=None)
    made.command(cls=PanelCommand)(with_flags_of(MoreConfig)(command))
    return made


def test_a_new_option_is_a_flag_with_its_help_in_its_panel(app, received):
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    data = shown.partition("Data:\n")[2].partition("\n\n")[0]
    assert "--tilt" in data
    assert "Tilt of every image in degrees. Default: 3." in " ".join(data.split())
    assert CliRunner().invoke(app, ["--tilt", "5", "--zoom", "near", "--zoom", "far"]).exit_code == 0
    assert received == {"tilt": 5, "zoom": ["near", "far"]}


def test_a_new_option_is_in_the_file_that_init_writes():
    text = project_toml(Project("raspberrypi", Path("photos")), MoreConfig)
    assert "# Tilt of every image in degrees. Default: 3.\n#tilt = 3\n" in text


def test_a_new_option_is_in_the_python_signature_and_its_docs():
    assert python_signature(compress, MoreConfig).parameters["tilt"].default is None
    assert "tilt: Tilt of every image in degrees. Default: 3." in argument_docs(MoreConfig)


def test_the_python_api_documents_every_option():
    names = set(inspect.signature(compress).parameters)
    assert set(CompressConfig.model_fields) <= names
    assert "options" not in names
    assert all(f"        {name}: " in compress.__doc__ for name in CompressConfig.model_fields)


def test_every_option_has_a_text_and_a_panel():
    found = list(parameters(CompressConfig))
    assert [one.name for one in found if not one.text] == []
    assert {one.panel for one in found} == {panel.panel for panel in PANELS}
    assert set(TrainOptions.model_fields) <= {one.name for one in found}


def test_every_panel_of_the_help_comes_in_order():
    shown = list(dict.fromkeys(one.panel for one in parameters(CompressConfig)))
    assert shown == [panel.panel for panel in PANELS]
