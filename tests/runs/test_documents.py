"""Records of a run for its report."""

from __future__ import annotations

import json

import pytest

from tcs_edge.errors import DataError
from tcs_edge.runs.documents import (
    ChoiceRecord,
    CoordinatesRecord,
    PredictionsRecord,
    RoundRecord,
    SelectionRecord,
    read_document,
    write_document,
)
from tcs_edge.runs.records import predictions_record
from tcs_edge.validation.predictions import Predictions


def test_documents_are_read_as_written(tmp_path):
    document = SelectionRecord(rounds=(RoundRecord(step=3, removed=(1, 4), scores=(0.5, 0.1)),))
    write_document(tmp_path / "selection.json", document)
    assert read_document(tmp_path / "selection.json", SelectionRecord) == document
    assert document.removed == {1, 4}


def test_a_missing_document_is_none(tmp_path):
    assert read_document(tmp_path / "choice.json", ChoiceRecord) is None


def test_columns_of_different_lengths_are_refused(tmp_path):
    document = {"schema_version": 1, "names": ["a"], "labels": [0, 1], "predicted": [0], "confidences": [0.5]}
    (tmp_path / "predictions.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="the columns differ in length"):
        read_document(tmp_path / "predictions.json", PredictionsRecord)


def test_names_that_are_not_utf_8_are_written_as_escapes(tmp_path):
    predictions = Predictions((0,), (0,), (0.5,))
    write_document(tmp_path / "predictions.json", predictions_record(predictions, ["a\udcff.png"]))
    found = read_document(tmp_path / "predictions.json", PredictionsRecord)
    assert found is not None
    assert found.names == ("a\\udcff.png",)


def test_a_finished_run_records_choice_spectrum_selection_and_predictions(finished, manifest):
    reports = finished / "reports"
    choice = read_document(reports / "choice.json", ChoiceRecord)
    assert choice is not None
    assert choice.named
    assert [found.name for found in choice.candidates if found.chosen] == ["lcnet_050"]
    assert len(choice.candidates) > 20
    coordinates = read_document(reports / "coordinates.json", CoordinatesRecord)
    assert coordinates is not None
    assert coordinates.dims <= len(coordinates.eigenvalues) == 64
    assert list(coordinates.eigenvalues) == sorted(coordinates.eigenvalues, reverse=True)
    selection = read_document(reports / "selection.json", SelectionRecord)
    assert selection is not None
    assert len(selection.removed) == coordinates.dims - round(coordinates.dims * 0.5)
    predictions = read_document(reports / "predictions.json", PredictionsRecord)
    assert predictions is not None
    right = sum(label == guess for label, guess in zip(predictions.labels, predictions.predicted, strict=True))
    assert (right, len(predictions.names)) == (manifest["accuracy"]["pytorch"]["correct"], 36)
