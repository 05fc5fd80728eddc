"""Tests of commands that only print: targets, candidates, doctor, help and version."""

from __future__ import annotations

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import typer

from tcs_edge import __version__
from tcs_edge.cli.app import ENTRIES, app
from tcs_edge.latency.plausibility import load_target_profile
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.specs.target import load_target
from tcs_edge.students.choice import choose_student

COMMANDS = sorted(typer.main.get_command(app).commands)
# Their help starts with more than fits into one line of the list.
OWN_SUMMARIES = {"init", "label-next", "bench"}


def test_version(cli):
    assert cli("--version").stdout == f"tcs-edge {__version__}\n"


def test_help_names_every_command(cli):
    text = cli("--help").stdout
    assert {"compress", "targets", "candidates", "validate", "predict", "doctor"} <= set(COMMANDS)
    assert all(name in text for name in COMMANDS)


def test_summaries_of_commands_fit_80_columns(cli):
    lines = cli("--help").stdout.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(typer.main.get_command(app).commands)
    assert [line for line in lines if "..." in line or len(line) > 80] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_summaries_are_those_of_the_commands(command):
    group = typer.main.get_command(app)
    text = " ".join(group.commands[command].help.split())
    summary = ENTRIES[command].summary
    assert text.startswith(summary) or command in OWN_SUMMARIES
    assert group.commands[command].get_short_help_str(200) == summary


def test_a_command_is_imported_when_it_is_looked_up():
    code = """
import sys
from tcs_edge.cli.app import Commands
group = Commands(name="tcs-edge")
assert "targets" in group.commands and len(group.commands) == len(list(group.commands))
assert not [name for name in sys.modules if name.startswith("pydantic") or name == "tcs_edge.cli.targets"]
group.commands["targets"]
assert "tcs_edge.cli.targets" in sys.modules and "tcs_edge.cli.compress" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["profile", "merge"]])
def test_short_and_long_help_are_the_same(cli, command):
    short, long = cli(*command, "-h"), cli(*command, "--help")
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "Usage: tcs-edge" in short.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command):
    group = typer.main.get_command(app).commands[command]
    inner = [parameter for below in getattr(group, "commands", {}).values() for parameter in below.params]
    parameters = [*group.params, *inner]
    without = [parameter.name for parameter in parameters if not getattr(parameter, "help", None)]
    assert parameters
    assert without == []


def test_targets(cli):
    documents = json.loads(cli("targets", "--json").stdout)["targets"]
    names = {document["name"] for document in documents}
    assert {"raspberrypi4", "raspberrypi5"} <= names
    table = cli("targets").stdout
    assert all(name in table for name in names)
    one = json.loads(cli("targets", "raspberrypi4", "--json").stdout)
    assert one["name"] == "raspberrypi4"


def test_printed_target_is_a_valid_target_file(cli, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(cli("targets", "raspberrypi4").stdout)
    shown, again = cli("targets", "raspberrypi4", "--json"), cli("targets", path, "--json")
    assert json.loads(again.stdout) == json.loads(shown.stdout)


def test_candidates_have_reasons_for_rejection(cli):
    result = cli("candidates", "--target", "raspberrypi4", "--max-params-m", 3, "--json")
    candidates = json.loads(result.stdout)["candidates"]
    assert candidates
    for candidate in candidates:
        too_large = candidate["params_m"] > 3
        assert bool([why for why in candidate["reasons"] if "param" in why]) == too_large
    assert {bool(candidate["reasons"]) for candidate in candidates} == {True, False}


def test_table_has_one_line_per_candidate(cli):
    names = [
        c["name"] for c in json.loads(cli("candidates", "--target", "raspberrypi4", "--json").stdout)["candidates"]
    ]
    lines = cli("candidates", "--target", "raspberrypi4").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : lines.index("")]] == names


def test_candidates_fit_80_columns(cli):
    for target in ("raspberrypi-zero2w", "raspberrypi4", "x86-avx512"):
        lines = cli("candidates", "--target", target).stdout.splitlines()
        assert [line for line in lines if len(line.rstrip()) > 80 and not line.startswith("  tcs-edge ")] == []
    assert lines[0].split("  ")[0] == "student"


def test_all_shows_every_column_of_candidates(cli):
    short, every = (cli("candidates", "--target", "raspberrypi4", *more).stdout for more in ((), ("--all",)))
    heading = every.splitlines()[0]
    assert [word for word in ("MACs M", "fp16 MB", "int8 MB", "interval ms", "source", "license") if word in heading]
    assert "is over the 150 ms limit" in every
    assert "left out of the list:" in every
    assert "left out of the list:" not in short
    assert "MACs M" not in short


def test_candidates_apply_the_limits_of_the_target(cli):
    arguments = ("candidates", "--target", "raspberrypi4")
    own, loose = (json.loads(cli(*arguments, *more, "--json").stdout) for more in ((), ("--max-latency-ms", 1e6)))
    assert own["limits"] == {"max_latency_ms": 150, "max_size_mb": 50}
    assert loose["limits"] == {"max_latency_ms": 1e6, "max_size_mb": 50}
    assert len([c for c in own["candidates"] if c["reasons"]]) > len([c for c in loose["candidates"] if c["reasons"]])
    assert "limits on raspberrypi4: latency 150 ms, size 50 MB" in cli(*arguments).stdout


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_candidates_name_the_student_of_compress(cli, runtime):
    target = load_target("x86-avx512")
    choice = choose_student(target, load_target_profile(target), 224, 10, target.limits, runtime=runtime)
    arguments = ("candidates", "--target", "x86-avx512", "--runtime", runtime)
    document = json.loads(cli(*arguments, "--json").stdout)
    assert [c["name"] for c in document["candidates"] if c["chosen"]] == [choice.winner.candidate.name]
    head = f"`tcs-edge compress --search table --runtime {runtime}` at 224 px with 10 classes:"
    assert f"{head}\n  {choice.winner.candidate.name} in {runtime}\n" in cli(*arguments).stdout


def test_candidates_have_the_faster_runtime_of_every_student(cli):
    fastest, *each = (
        {
            c["name"]: c["latency"]
            for c in json.loads(cli("candidates", "--target", "raspberrypi5", *more, "--json").stdout)["candidates"]
        }
        for more in ((), ("--runtime", "onnxruntime"), ("--runtime", "openvino"))
    )
    for name, latency in fastest.items():
        if latency["high_ms"] <= 50:
            fitting = [runtime[name]["p50_ms"] for runtime in each if runtime[name]["high_ms"] <= 50]
            assert latency["p50_ms"] == min(fitting)
    assert {latency["runtime"] for latency in fastest.values()} >= {"openvino"}
    assert "runtime: openvino (" in cli("candidates", "--target", "raspberrypi5").stdout


def test_a_larger_student_in_int8_beats_a_smaller_one_in_fp32(cli):
    arguments = ("candidates", "--target", "raspberrypi5", "--max-size-mb", "50")
    plain, eighth = (
        json.loads(cli(*arguments, *more, "--json").stdout)["candidates"][0] for more in ((), ("--precision", "int8"))
    )
    assert (plain["precision"], eighth["precision"]) == ("fp32", "int8")
    assert eighth["params_m"] > 2 * plain["params_m"]
    assert plain["expected_accuracy"]["percent"] < eighth["expected_accuracy"]["percent"]
    # Published accuracy less the point that int8 may lose.
    assert eighth["expected_accuracy"]["percent"] == pytest.approx(eighth["top1"] - 1)
    assert eighth["size_mb"] < eighth["exported"]["fp32"]["bytes"] / 3e6
    text = cli(*arguments, "--precision", "int8").stdout
    assert text.splitlines()[1].split()[-2:] == ["in", "int8"]
    assert f"--precision int8` at 224 px with 10 classes:\n  {eighth['name']} in " in text


def test_candidates_report_that_none_fits(cli):
    text = cli("candidates", "--target", "raspberrypi4", "--max-latency-ms", 0.01).stdout
    assert "none, because no student fits" in text


def test_candidates_show_the_pareto_front(cli):
    arguments = ("candidates", "--target", "raspberrypi4", "--max-latency-ms", 100)
    document, text = json.loads(cli(*arguments, "--json").stdout), cli(*arguments).stdout
    front = [found for found in document["candidates"] if found["on_pareto_front"]]
    names = [found["name"] for found in sorted(front, key=lambda found: found["latency"]["p50_ms"])]
    assert names
    below = text.split("Pareto-optimal students (accuracy, latency, size):")[1]
    assert [line.split(":")[0].strip() for line in below.splitlines()[1:]][: len(names)] == names
    assert "o front" in below


def test_unknown_target(cli):
    for command in (("targets", "raspberypi4"), ("candidates", "--target", "raspberypi4")):
        result = cli(*command)
        assert result.exit_code == 2
        assert "raspberrypi4" in result.stderr


def test_candidates_have_source_of_latency_and_a_command_to_narrow_it(cli):
    document = json.loads(cli("candidates", "--target", "raspberrypi4", "--json").stdout)
    for candidate in document["candidates"]:
        latency = candidate["latency"]
        assert latency["low_ms"] <= latency["p50_ms"] <= latency["high_ms"]
        assert latency["source"] in ("measured", "published", "estimated")
        assert latency["citation"]
        assert {entry["source"] for entry in candidate["exported"].values()} <= {"measured", "computed"}
        assert len(candidate["latency_img_sizes"]) >= 3
    over_ssh, by_hand = document["to_narrow"].split(" Without ssh: ")
    assert " tcs-edge measure --ssh USER@HOST --target raspberrypi4 --model" in over_ssh
    assert by_hand.startswith("tcs-edge bundle-profiler --target raspberrypi4 --model")
    printed = cli("candidates", "--target", "raspberrypi4").stdout
    assert document["to_narrow"] in " ".join(printed.split())
    assert f"  {over_ssh[over_ssh.index('tcs-edge') :]}\n" in printed, "the command is not on a line of its own"


def test_measured_candidates_need_no_advice(cli):
    document = json.loads(cli("candidates", "--target", "x86-avx512", "--json").stdout)
    assert document["to_narrow"] is None
    assert {candidate["latency"]["source"] for candidate in document["candidates"]} == {"measured"}


def test_candidates_of_the_other_runtime(cli):
    arguments = ("candidates", "--target", "x86-avx512", "--json")
    one, other = (json.loads(cli(*arguments, "--runtime", name).stdout) for name in ("onnxruntime", "openvino"))
    assert (one["runtime"], other["runtime"]) == ("onnxruntime", "openvino")
    p50 = [{c["name"]: c["latency"]["p50_ms"] for c in found["candidates"]} for found in (one, other)]
    assert p50[0].keys() == p50[1].keys()
    assert all(p50[0][name] != p50[1][name] for name in p50[0])
    wrong = cli(*arguments, "--runtime", "tflite")
    assert wrong.exit_code == 2
    assert "Known: onnxruntime, openvino" in wrong.stderr


def test_candidates_refuse_a_runtime_that_compress_refuses(cli):
    result = cli("candidates", "--target", "raspberrypi4", "--runtime", "openvino")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "raspberrypi4 has no runtime openvino, only onnxruntime." in result.stderr


def test_candidates_write_the_plot_to_a_file(cli, tmp_path):
    path = tmp_path / "pareto.svg"
    result = cli("candidates", "--target", "raspberrypi4", "--max-latency-ms", 100, "--pareto-svg", path)
    assert result.exit_code == 0, result.stderr
    drawn = ElementTree.parse(path)
    titles = [found.text for found in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(CANDIDATES)
    assert any("(rejected)" in title for title in titles)
    assert any("(fits)" in title for title in titles)


BARE = """
name = "new-board"
extends = "raspberrypi4"
title = "A board without measurements"
profile = ""
"""


def test_target_without_rows_has_estimates_and_a_command_to_measure(cli, tmp_path):
    path = tmp_path / "new.toml"
    path.write_text(BARE)
    bare = json.loads(cli("candidates", "--target", path, "--json").stdout)
    known = json.loads(cli("candidates", "--target", "raspberrypi4", "--json").stdout)
    widths = [
        {c["name"]: c["latency"]["high_ms"] / c["latency"]["low_ms"] for c in found["candidates"]}
        for found in (bare, known)
    ]
    assert all(widths[0][name] > widths[1][name] for name in CANDIDATES)
    citation = bare["candidates"][0]["latency"]["citation"]
    assert "by the processors' facts alone" in citation
    assert "the latency of any one student measured there narrows it" in citation
    assert f"bundle-profiler --target {path} " in bare["to_narrow"]


def test_one_measured_row_narrows_all_intervals(cli, tmp_path):
    path = tmp_path / "new.toml"
    path.write_text(BARE)
    before = json.loads(cli("candidates", "--target", path, "--json").stdout)["candidates"]
    slow = next(c["latency"]["p50_ms"] for c in before if c["name"] == "resnet18")
    row = {
        "model": "resnet18", "img_size": 224, "runtime": "onnxruntime", "threads": 4, "precision": "fp32",
        "p50_ms": slow, "low_ms": slow, "high_ms": slow, "source": "measured", "citation": "us",
    }  # fmt: skip
    machine = {"cpu": "New Board", "system": "Linux aarch64"}
    profile = {"schema_version": 1, "target": "new-board", "machine": machine, "citations": {"us": "us"}, "rows": [row]}
    (tmp_path / "new.json").write_text(json.dumps(profile))
    path.write_text(BARE.replace('profile = ""', 'profile = "new.json"'))
    after = {
        c["name"]: c["latency"] for c in json.loads(cli("candidates", "--target", path, "--json").stdout)["candidates"]
    }
    for candidate in before:
        old, new = candidate["latency"], after[candidate["name"]]
        assert new["high_ms"] / new["low_ms"] < old["high_ms"] / old["low_ms"]


@pytest.mark.usefixtures("offline")
def test_doctor_shows_absent_teachers_in_one_row(cli):
    findings = json.loads(cli("doctor", "--json").stdout)["findings"]
    absent = [row for row in findings if row["state"] == "absent" and row["name"].startswith("teacher ")]
    lines = cli("doctor").stdout.splitlines()
    assert lines[-1].startswith(f"{len(absent)} teachers")
    assert len(lines) == 1 + len(findings) - len(absent) + 1
