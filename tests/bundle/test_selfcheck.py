"""Self-check of a bundle with hostile files: nothing of it runs, and the answer is one line per check."""

from __future__ import annotations

import json
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from tcs_edge.validation.checks import TOLERANCES

SCRIPTS = Path(__file__).resolve().parents[2] / "tcs_edge" / "bundle" / "device_files"
MARK = "open({mark!r}, 'w').close()\nraise SystemExit(0)\n"
# Modules that a script imports, directly or not; `os` and its like are loaded before any script.
SHADOWS = (
    "__future__", "argparse", "hashlib", "json", "tempfile", "pathlib", "types", "datetime", "numpy", "PIL",
    "edge_model", "onnxruntime", "sitecustomize",
)  # fmt: skip


@pytest.fixture
def script(tmp_path):
    """script(folder, "selfcheck.py", ...): a script of the bundle in its own process, as a user starts it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(folder: Path, name: str, *arguments: object, python: tuple = (sys.executable,), cwd: Path = tmp_path):
        command = [*python, folder / name, *arguments]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=100, env=environment, cwd=cwd
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def verdict(script, tmp_path):
    """verdict(folder): exit code, and the lines of the failed checks."""

    def run(folder: Path, **settings: object) -> tuple[int, str]:
        done = script(folder, "selfcheck.py", "--seconds", 0.1, "--threads", 1, **settings)
        document = json.loads((settings.get("cwd", tmp_path) / "selfcheck.json").read_text(encoding="utf-8"))
        assert document["verdict"] == ("fail" if done.returncode else "pass")
        return done.returncode, " | ".join(line for line in done.stdout.splitlines() if line.startswith("FAILED"))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("-I",)])
def test_a_good_bundle_passes_with_and_without_isolation(bundled, verdict, option):
    assert verdict(bundled, python=(sys.executable, *option)) == (0, "")


@pytest.mark.slow
def test_the_result_and_the_environment_may_be_in_the_folder(own_bundle, verdict):
    site = next(path for path in map(Path, sys.path) if (path / "numpy").is_dir())
    venv.create(own_bundle / ".venv", symlinks=True)
    paths = list((own_bundle / ".venv").glob("lib/python*/site-packages"))
    (paths[0] / "outer.pth").write_text(f"{site}\n")
    own = (own_bundle / ".venv" / "bin" / "python",)
    for _ in range(2):
        assert verdict(own_bundle, python=own, cwd=own_bundle) == (0, "")
    code, line = verdict(own_bundle, cwd=own_bundle)
    assert (code, line.endswith("not in SHA256SUMS: .venv. Move them out of this folder")) == (1, True)


@pytest.mark.parametrize("option", [(), ("-I",), ("-S",)])
@pytest.mark.parametrize("name", SHADOWS)
def test_a_module_beside_the_self_check_does_not_run(own_bundle, verdict, tmp_path, name, option):
    (own_bundle / f"{name}.py").write_text(MARK.format(mark=str(tmp_path / "ran")))
    code, line = verdict(own_bundle, python=(sys.executable, *option))
    assert not (tmp_path / "ran").exists()
    assert code == 1
    problem = "changed or missing: edge_model.py" if name == "edge_model" else f"not in SHA256SUMS: {name}.py"
    assert line.startswith(f"FAILED files  {problem}")


@pytest.mark.parametrize("name", sorted({*SHADOWS} - {"edge_model"}))
def test_a_module_beside_a_program_does_not_run(own_bundle, script, photos, tmp_path, name):
    (own_bundle / name).mkdir()
    (own_bundle / name / "__init__.py").write_text(MARK.format(mark=str(tmp_path / "ran")))
    image = next((photos / "test").rglob("*.jpg"))
    done = script(own_bundle, "classify.py", image, cwd=own_bundle)
    assert not (tmp_path / "ran").exists()
    assert (done.returncode, done.stdout.startswith(f"{image}: ")) == (0, True)


def _cached(folder: Path, mark: Path) -> None:
    """Put other code into the cache of edge_model.py, with its time and size."""
    script = folder / "edge_model.py"
    good, facts = script.read_bytes(), script.stat()
    script.write_bytes(MARK.format(mark=str(mark)).encode().ljust(len(good), b"\n"))
    os.utime(script, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    py_compile.compile(str(script))
    script.write_bytes(good)
    os.utime(script, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_cached_code_does_not_run(own_bundle, verdict, tmp_path):
    _cached(own_bundle, tmp_path / "ran")
    code, line = verdict(own_bundle)
    assert not (tmp_path / "ran").exists()
    assert (code, "not in SHA256SUMS: __pycache__" in line) == (1, True)


def _names(*names: str):
    def change(folder: Path) -> None:
        with (folder / "SHA256SUMS").open("a") as sums:
            sums.writelines(f"{'0' * 64}  {name}\n" for name in names)

    return change


def _content(content: bytes):
    return lambda folder: (folder / "SHA256SUMS").write_bytes(content)


def _instead(make):
    def change(folder: Path) -> None:
        (folder / "SHA256SUMS").unlink()
        make(folder / "SHA256SUMS")

    return change


def _linked(name: str):
    def change(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return change


SUMS = {
    "missing": (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    "empty": (_content(b""), "SHA256SUMS is empty"),
    "not text": (_content(b"\xff\xfe\n\n x"), "SHA256SUMS is damaged: line 1"),
    "a short hash": (_content(b"abc  model.onnx\n"), "SHA256SUMS is damaged: line 1"),
    "a folder": (_instead(Path.mkdir), "SHA256SUMS is missing, or not a regular file"),
    "a pipe": (_instead(os.mkfifo), "SHA256SUMS is missing, or not a regular file"),
    "a device": (_instead(lambda path: path.symlink_to("/dev/zero")), "SHA256SUMS is missing, or not a regular file"),
    "an absolute path": (_names("/etc/passwd"), "SHA256SUMS is damaged: line NEXT"),
    "a folder above": (_names("../own/model.onnx"), "SHA256SUMS is damaged: line NEXT"),
    "two dots": (_names(".."), "SHA256SUMS is damaged: line NEXT"),
    "a subfolder": (_names("a/b"), "SHA256SUMS is damaged: line NEXT"),
    "a Windows path": (_names("C:\\x"), "SHA256SUMS is damaged: line NEXT"),
    "a name twice": (_names("model.onnx"), "SHA256SUMS is damaged: line NEXT"),
    "itself": (_names("SHA256SUMS"), "SHA256SUMS is damaged: line NEXT"),
    "a missing file": (_names("more.bin"), "changed or missing: more.bin"),
    "a linked model": (_linked("model.onnx"), "changed or missing: model.onnx"),
    "a linked script": (_linked("edge_model.py"), "changed or missing: edge_model.py"),
    "an extra file": (lambda folder: (folder / "a\x1b[31m.so").touch(), r"not in SHA256SUMS: a\x1b[31m.so"),
    "an extra link": (lambda folder: (folder / "a").symlink_to("/etc"), "not in SHA256SUMS: a"),
    "an extra folder": (lambda folder: (folder / "cv2").mkdir(), "not in SHA256SUMS: cv2"),
    "a pipe as result": (lambda folder: os.mkfifo(folder / "selfcheck.json"), "not in SHA256SUMS: selfcheck.json"),
}


@pytest.mark.parametrize("case", SUMS)
def test_sums_and_files_that_do_not_agree_are_one_line(own_bundle, verdict, case):
    change, expected = SUMS[case]
    after_the_last = len((own_bundle / "SHA256SUMS").read_text().splitlines()) + 1
    change(own_bundle)
    code, line = verdict(own_bundle)
    assert code == 1
    assert line.startswith(f"FAILED files  {expected.replace('NEXT', str(after_the_last))}")
    assert line.isprintable()


def _about(**changes: object):
    def change(folder: Path) -> None:
        document = json.loads((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(json.dumps(document | changes))

    return change


def _golden(change):
    def write(folder: Path) -> None:
        with np.load(folder / "golden.npz") as stored:
            arrays = dict(stored)
        change(arrays)
        np.savez(folder / "golden.npz", **arrays)

    return write


def _flip(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


ANY = dict.fromkeys(TOLERANCES, 1e308)
SIGNED = {
    "damaged bundle.json": (lambda folder: (folder / "bundle.json").write_text("{"), "JSONDecodeError"),
    "a model elsewhere": (_about(model="/etc/passwd"), "describes another model"),
    "a model above": (_about(model="../own/model.onnx"), "describes another model"),
    "another file as model": (_about(model="labels.txt"), "describes another model"),
    "the hash of another model": (_flip, "describes another model"),
    "no limit": (_about(max_rel_diff=ANY), "allows a difference of 1e+308"),
    "a limit that is not a number": (_about(max_rel_diff=dict.fromkeys(TOLERANCES, float("nan"))), "allows a diff"),
    "no logits": (_golden(lambda arrays: arrays.pop("logits")), "KeyError"),
    "logits NaN": (_golden(lambda arrays: arrays.update(logits=arrays["logits"] * np.nan)), "FAILED outputs"),
    "no images": (_golden(lambda arrays: arrays.update(inputs=arrays["inputs"][:0])), "FAILED runs"),
    "a pickle": (_golden(lambda arrays: arrays.update(labels=np.array([print], object))), "pickle"),
    "few labels": (lambda folder: (folder / "labels.txt").write_text("a\n"), "3 classes, labels.txt has 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SIGNED)
def test_a_hostile_bundle_with_new_hashes_fails_in_one_line(own_bundle, sign_again, verdict, case):
    change, expected = SIGNED[case]
    change(own_bundle)
    sign_again(own_bundle)
    code, line = verdict(own_bundle)
    assert code == 1
    assert expected in line


def test_a_result_that_is_a_link_is_replaced(bundled, script, tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "selfcheck.json").symlink_to(tmp_path / "precious")
    script(bundled, "selfcheck.py", "--seconds", 0.1)
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "selfcheck.json").is_symlink()
    assert {entry.name for entry in tmp_path.iterdir()} == {"precious", "selfcheck.json"}


def test_a_result_that_cannot_be_written_is_one_line(bundled, script, tmp_path):
    done = script(bundled, "selfcheck.py", "--seconds", 0.1, "--out", tmp_path / "none" / "a.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cannot write" in done.stderr


@pytest.mark.parametrize("option", [("--seconds", "inf"), ("--seconds", "nan"), ("--threads", "0")])
def test_options_out_of_range_are_usage_errors(bundled, script, option):
    assert script(bundled, "selfcheck.py", *option).returncode == 2


def test_missing_packages_are_named(bundled, verdict):
    code, line = verdict(bundled, python=(sys.executable, "-S"))
    assert (code, line) == (
        1,
        "FAILED runs  No module named 'numpy'. Run: python3 -m pip install -r requirements.txt",
    )


def test_classify_names_a_model_elsewhere_in_one_line(own_bundle, script, tmp_path):
    _about(model="../own/model.onnx")(own_bundle)
    done = script(own_bundle, "classify.py", "a.jpg")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "outside of its folder" in done.stderr


def test_the_limits_are_those_of_the_validation(bundled):
    sys.path.append(str(SCRIPTS))
    import edge_checks
    import selfcheck

    sys.path.remove(str(SCRIPTS))
    limits = edge_checks.MAX_REL_DIFF
    assert limits == {name: TOLERANCES[name].max_rel_diff for name in limits}
    assert platform.machine() == selfcheck.describe_machine()["architecture"]
