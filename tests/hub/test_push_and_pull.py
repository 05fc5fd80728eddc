"""push and pull: files arrive as they were, and whatever differs from the manifest is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tcs_edge
from tcs_edge.errors import UsageError
from tcs_edge.hub.address import Address, parse_address
from tests.bundle.made import bundle_of

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
ADDRESS = "hf://someone/pets"
REPO = "someone/pets"


@pytest.fixture
def pushed(hub, cli, finished, bundled):
    """The hub with the finished run and its bundle."""
    result = cli("push", finished, ADDRESS, "--bundle", bundled)
    assert result.exit_code == 0, result.stderr
    return hub


@pytest.fixture(scope="session")
def bundled(cli, finished, tmp_path_factory) -> Path:
    return bundle_of(finished, cli, tmp_path_factory)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_over(folder: Path) -> list[str]:
    """Names of everything in a folder, drafts and locks included."""
    return sorted(entry.name for entry in folder.iterdir())


def pull_refused(cli, out: Path, problem: str, code: int = 3, address: str = ADDRESS) -> str:
    """Check that a pull fails with one line, and leaves nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    before = left_over(out.parent)
    result = cli("pull", address, out)
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert problem in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert left_over(out.parent) == before
    return result.stderr


def test_a_run_comes_back_as_it_was(pushed, cli, finished, bundled, tmp_path):
    out = tmp_path / "pulled"
    result = cli("pull", ADDRESS, out)
    assert result.exit_code == 0, result.stderr
    assert "all hashes verified, with a bundle in bundle/" in result.stdout
    assert left_over(tmp_path) == ["pulled"]
    came, was = contents(out), contents(finished)
    for name in ("reports/report.html", ".tcs-edge.lock", "tcs-edge-run.json"):
        was.pop(name, None)
    assert {name: came[name] for name in was} == was
    assert set(came) - set(was) == {"tcs-edge-run.json"} | {f"bundle/{name}" for name in contents(bundled)}
    assert came["README.md"].startswith(b"---\n"), "the hub reads the front matter of the model card"


def test_the_pulled_run_works_and_its_bundle_checks_itself(pushed, cli, photos, tmp_path):
    out = tmp_path / "pulled"
    assert cli("pull", ADDRESS, out, "--quiet").exit_code == 0
    assert cli("predict", out, photos / "test").exit_code == 0
    assert cli("gate", out, "--max-params-m", 100).exit_code == 0
    command = [sys.executable, "-I", out / "bundle" / "selfcheck.py", "--seconds", "0.1", "--out", tmp_path / "s.json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_the_machine_is_in_the_published_marker(pushed):
    marker = json.loads(pushed.repos[REPO].files["tcs-edge-run.json"])
    assert marker == {"schema_version": 1, "kind": "tcs-edge run"}


def test_a_new_repository_is_private_unless_asked_otherwise(pushed, cli, finished):
    assert pushed.repos[REPO].private
    assert cli("push", finished, "hf://someone/open", "--public").exit_code == 0
    assert not pushed.repos["someone/open"].private


def test_a_second_push_has_exactly_the_new_files(pushed, cli, finished, make_run, tmp_path):
    other = make_run(name="other", classes=("a", "b"))
    result = cli("push", other, ADDRESS, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    files = pushed.repos[REPO].files
    assert document["commit"] == pushed.repos[REPO].refs["main"]
    assert document["files"] == len(files) - 1
    assert not document["bundle"]
    assert set(files) - {".gitattributes", "manifest.json", "tcs-edge-run.json"} == {
        record["path"] for record in json.loads(files["manifest.json"])["files"]
    }


def test_an_earlier_commit_is_pulled_by_its_revision(pushed, cli, finished, make_run, tmp_path):
    first = pushed.repos[REPO].refs["main"]
    pushed.repos[REPO].refs["v1.0"] = first
    assert cli("push", make_run(name="other", classes=("a", "b")), ADDRESS).exit_code == 0
    for number, revision in enumerate(("v1.0", first)):
        out = tmp_path / f"pulled{number}"
        result = cli("pull", f"{ADDRESS}@{revision}", out)
        assert result.exit_code == 0, result.stderr
        assert f"commit: {first}" in result.stdout
        assert (out / "manifest.json").read_bytes() == (finished / "manifest.json").read_bytes()
    pull_refused(cli, tmp_path / "none", "no such revision", 4, f"{ADDRESS}@v9")


def test_the_commands_work_in_a_process_with_the_usual_variables(hub, finished, tmp_path):
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(tcs_edge.__file__).parents[1]),
    }  # fmt: skip
    for words in (["push", finished, ADDRESS], ["pull", ADDRESS, tmp_path / "out"]):
        command = [sys.executable, "-m", "tcs_edge", *(str(word) for word in words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert hub.token not in done.stdout + done.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert not (tmp_path / "home" / "hub").exists(), "a pull leaves no second copy in the hub cache"


def test_a_token_in_the_file_of_the_library_is_used(hub, cli, finished, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(hub.token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert cli("push", finished, ADDRESS).exit_code == 0


def test_without_a_token_push_sends_nothing(hub, cli, finished, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    result = cli("push", finished, ADDRESS)
    assert result.exit_code == 4
    assert "hf auth login" in result.stderr
    assert hub.requests == []


def test_a_refused_token_is_one_line_without_the_token(hub, cli, finished, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    result = cli("push", finished, ADDRESS)
    assert result.exit_code == 4
    assert "Nothing was published." in result.stderr
    assert "hf_wrong" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_repository_and_a_private_one_look_the_same(pushed, cli, monkeypatch, tmp_path):
    message = pull_refused(cli, tmp_path / "out", "no repository hf://someone/none", 4, "hf://someone/none")
    assert "HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", "hf_of_another_user")
    pull_refused(cli, tmp_path / "out", "no repository hf://someone/pets", 4)


def test_push_without_a_network_changes_nothing(pushed, cli, make_run):
    before = dict(pushed.repos[REPO].commits)
    for part in ("create", "/api/models", "preupload", "batch", "PUT", "commit"):
        pushed.drop_from(part)
        result = cli("push", make_run(name=f"run-{part.strip('/').replace('/', '-')}"), ADDRESS)
        assert result.exit_code == 4, (part, result.stderr)
        assert "Nothing was published." in result.stderr
        assert pushed.repos[REPO].commits == before


@pytest.mark.parametrize("part", ["/api/models", "manifest.json", "model.onnx", "SHA256SUMS"])
def test_a_network_that_goes_midway_leaves_nothing(pushed, cli, tmp_path, part):
    pushed.drop_from(part)
    pull_refused(cli, tmp_path / "place" / "out", "the hub cannot be reached", 4)


def test_a_failing_hub_is_named_by_its_status(pushed, cli, tmp_path):
    pushed.fault = lambda handler: handler.answer(503, {"error": "maintenance"}) or True
    pull_refused(cli, tmp_path / "out", "HTTP 503", 4)


def test_no_request_if_the_hub_is_switched_off(pushed, cli, finished, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pushed.requests.clear()
    pull_refused(cli, tmp_path / "out", "HF_HUB_OFFLINE", 4)
    assert cli("push", finished, ADDRESS).exit_code == 4
    assert pushed.requests == []


def with_manifest(files: dict[str, bytes], change) -> dict[str, bytes]:
    manifest = json.loads(files["manifest.json"])
    change(manifest)
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def listed(path: str, content: bytes) -> dict[str, object]:
    import hashlib

    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


EXTRA = b"import os; os.system('true')\n"
REFUSED = {
    "changed, of the same size": (
        lambda files: {**files, "export/model.onnx": files["export/model.onnx"][:-1] + b"\0"},
        "differ from their recorded hash: export/model.onnx",
    ),
    "changed, of another size": (
        lambda files: {**files, "export/labels.txt": b"cat\n"},
        "another size than in its manifest: export/labels.txt",
    ),
    "missing": (
        lambda files: {name: files[name] for name in files if name != "export/model.onnx"},
        "lacks files of its manifest: export/model.onnx",
    ),
    "not listed": (
        lambda files: {**files, "export/extra.onnx": b"x"},
        "that its manifest does not list: export/extra.onnx",
    ),
    "a script at the top": (lambda files: {**files, "setup.py": EXTRA}, "'setup.py' is not a file of a run"),
    "hidden": (lambda files: {**files, "export/.hidden": b"x"}, "is not a safe file name"),
    "an alternate stream": (lambda files: {**files, "export/a:b": b"x"}, "is not a safe file name"),
    "differs in case alone": (lambda files: {**files, "export/MODEL.onnx": b"x"}, "two files have the name"),
    "listed outside": (
        lambda files: with_manifest(files, lambda one: one["files"].append(listed("../evil.py", EXTRA))),
        "must be inside its folder",
    ),
    "listed with an absolute path": (
        lambda files: with_manifest(files, lambda one: one["files"].append(listed("/tmp/evil.py", EXTRA))),
        "must be inside its folder",
    ),
    "listed in another folder": (
        lambda files: with_manifest(
            files | {".git/hooks/post-checkout": EXTRA},
            lambda one: one["files"].append(listed(".git/hooks/post-checkout", EXTRA)),
        ),
        "is not a file of a run",
    ),
    "a failed run": (
        lambda files: with_manifest(files, lambda one: one.update(verdict="fail")),
        "failed validation",
    ),
    "no run": (lambda files: {"README.md": b"# A model"}, "manifest.json is missing"),
    "damaged manifest": (lambda files: {**files, "manifest.json": b"{"}, "is not JSON"),
    "changed bundle": (
        lambda files: {**files, "bundle/classify.py": files["bundle/classify.py"] + EXTRA},
        "differ from their recorded hash: bundle/classify.py",
    ),
    "script beside the bundle": (
        lambda files: {**files, "bundle/numpy.py": EXTRA},
        "does not list: bundle/numpy.py",
    ),
    "bundle without its list": (
        lambda files: {name: files[name] for name in files if name != "bundle/SHA256SUMS"},
        "has no list of its bundle",
    ),
    "bundle that lists a file outside": (
        lambda files: {**files, "bundle/SHA256SUMS": files["bundle/SHA256SUMS"] + b"0" * 64 + b"  ../x.py\n"},
        "is not the hash and the name of a file",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_differs_from_the_manifest_is_refused(pushed, cli, tmp_path, name):
    change, problem = REFUSED[name]
    pushed.repos[REPO].commit(change(dict(pushed.repos[REPO].files)))
    pull_refused(cli, tmp_path / "place" / "out", problem)


def test_a_bundle_of_another_run_is_refused(pushed, cli, bundled, make_run, tmp_path):
    result = cli("push", make_run(name="other"), ADDRESS, "--bundle", bundled)
    assert result.exit_code == 3
    assert "the model of another run" in result.stderr


def test_a_run_that_failed_or_changed_is_not_published(hub, cli, make_run, own_run):
    assert cli("push", make_run(name="failed", passed=False), ADDRESS).exit_code == 1
    (own_run / "export" / "labels.txt").write_text("other\n")
    assert cli("push", own_run, ADDRESS).exit_code == 1
    assert hub.requests == []


def test_a_repository_of_another_origin_is_left_alone(pushed, cli, finished):
    pushed.repos[REPO].commit({"pytorch_model.bin": b"weights", "README.md": b"# Mine"})
    result = cli("push", finished, ADDRESS)
    assert result.exit_code == 2
    assert "files of another origin: README.md, pytorch_model.bin" in result.stderr
    assert set(pushed.repos[REPO].files) == {"pytorch_model.bin", "README.md"}


def test_a_folder_with_files_is_not_overwritten(pushed, cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    pushed.requests.clear()
    result = cli("pull", ADDRESS, tmp_path / "out")
    assert result.exit_code == 2
    assert left_over(tmp_path / "out") == ["mine.txt"]
    assert pushed.requests == []


def test_the_bundle_beside_the_run_is_published_too(hub, cli, finished, bundled, tmp_path):
    shutil.copytree(finished, tmp_path / "pets")
    shutil.copytree(bundled, tmp_path / "pets-bundle")
    result = cli("push", tmp_path / "pets", ADDRESS)
    assert "with a bundle" in result.stdout, result.stderr


@pytest.mark.parametrize(
    "text",
    ["someone/pets", "hf://pets", "hf://someone/pets/more", "hf://some one/pets", "hf://someone/..", "hf://a/b@../c",
     "https://someone/pets", "hf://someone/pets@", "hf://-x/pets", "hf:/someone/pets"],
)  # fmt: skip
def test_other_addresses_are_refused(text):
    with pytest.raises(UsageError, match="hf://USER/NAME"):
        parse_address(text)


def test_addresses_have_a_name_and_a_revision():
    assert parse_address("hf://a/b.c_d-1") == Address("a/b.c_d-1")
    assert str(parse_address("hf://a/b@refs/pr/3")) == "hf://a/b@refs/pr/3"


def test_push_refuses_a_revision(hub, cli, finished):
    result = cli("push", finished, f"{ADDRESS}@v1")
    assert result.exit_code == 2
    assert "Leave out @v1" in result.stderr
