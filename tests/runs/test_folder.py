"""Run folder: no foreign files are overwritten, and unvalidated exports are never deployable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.runs.folder import MARKER, find_run, open_run, require_usable


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def filled(out: Path):
    run = open_run(out)
    (run.unvalidated / "onnx").mkdir()
    (run.unvalidated / "onnx" / "model.onnx").write_bytes(b"graph")
    (run.unvalidated / "labels.txt").write_text("cat\n")
    run.deployed_weights.write_bytes(b"weights")
    return run


def test_a_new_run_has_nothing_deployable(tmp_path):
    run = open_run(tmp_path / "a" / "run")
    assert contents(run.root) == {MARKER, "checkpoints", "export.unvalidated", "reports"}
    assert not run.export.exists()
    assert find_run(run.root) == run


def test_a_passed_run_has_an_export_folder(tmp_path):
    run = filled(tmp_path / "run")
    assert run.apply_verdict(passed=True) == run.export
    assert contents(run.export) == {"onnx", "onnx/model.onnx", "labels.txt"}
    assert not run.unvalidated.exists()


@pytest.mark.parametrize("revoked", [False, True])
def test_a_failed_run_has_no_deployable_file(tmp_path, revoked):
    run = filled(tmp_path / "run")
    if revoked:
        run.apply_verdict(passed=True)
    assert (run.revoke() if revoked else run.apply_verdict(passed=False)) == run.rejected
    assert contents(run.rejected) == {"onnx", "onnx/model.onnx.rejected", "labels.txt.rejected"}
    assert not run.unvalidated.exists()
    assert not run.export.exists()


def test_a_run_has_one_verdict(tmp_path):
    run = filled(tmp_path / "run")
    with pytest.raises(UsageError, match="no export/"):
        run.revoke()
    run.apply_verdict(passed=True)
    with pytest.raises(UsageError, match="no exports to validate"):
        run.apply_verdict(passed=True)
    run.unvalidated.mkdir()
    with pytest.raises(UsageError, match="one verdict"):
        run.apply_verdict(passed=True)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            open_run(tmp_path, overwrite)
    assert contents(tmp_path) == {"notes.txt"}


def test_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match="is a file"):
        open_run(tmp_path / "run", overwrite=True)


def test_an_earlier_run_is_replaced_only_with_overwrite(tmp_path):
    filled(tmp_path / "run").apply_verdict(passed=False)
    with pytest.raises(UsageError, match="--overwrite"):
        open_run(tmp_path / "run")
    run = open_run(tmp_path / "run", overwrite=True)
    assert contents(run.root) == {MARKER, "checkpoints", "export.unvalidated", "reports"}


def test_a_foreign_file_in_a_run_prevents_overwriting(tmp_path):
    run = filled(tmp_path / "run")
    (run.root / "thesis.docx").write_text("three years of work")
    before = contents(run.root)
    with pytest.raises(UsageError, match=r"thesis\.docx"):
        open_run(run.root, overwrite=True)
    assert contents(run.root) == before


def test_overwriting_does_not_follow_links(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.jpg").write_bytes(b"photo")
    run = open_run(tmp_path / "run")
    run.reports.rmdir()
    run.reports.symlink_to(precious)
    open_run(run.root, overwrite=True)
    assert contents(precious) == {"photo.jpg"}


@pytest.mark.parametrize("marker", [None, "", "{}", '{"schema_version": 1, "kind": "other"}', '{"schema_version": 9}'])
def test_only_a_marked_folder_is_a_run(tmp_path, marker):
    if marker is not None:
        (tmp_path / MARKER).write_text(marker)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="not a run folder"):
        find_run(tmp_path)
    with pytest.raises(UsageError):
        open_run(tmp_path, overwrite=True)
    with pytest.raises(DataError, match="no such run folder"):
        find_run(tmp_path / "missing")


def test_a_folder_is_checked_without_changing_it(tmp_path):
    out = tmp_path / "run"
    require_usable(out, overwrite=False)
    assert not out.exists()
    filled(out)
    before = contents(out)
    with pytest.raises(UsageError, match="not empty"):
        require_usable(out, overwrite=False)
    require_usable(out, overwrite=True)
    assert contents(out) == before


def test_the_error_for_an_impossible_folder_has_its_path(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingError, match="file/run cannot be written"):
        open_run(tmp_path / "file" / "run")
