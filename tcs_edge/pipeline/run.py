"""One run of `tcs-edge compress`, stage by stage.

target + profile -> images -> student -> teacher features (once) -> coordinates -> distillation
-> export -> other precisions -> validation -> run folder. Cheap checks come first, so that a wrong option fails
within seconds. The teacher's pass comes before the choice of the student only for a search that needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from tcs_edge.export.memory import estimated_peak_memory_mb
from tcs_edge.export.own_formats import export_own_formats
from tcs_edge.export.preprocess import write_labels, write_preprocess
from tcs_edge.pipeline.announce import StopHint, announce_probes
from tcs_edge.pipeline.processes import compress_beside, prepare
from tcs_edge.project.read import asks_for_other_exports
from tcs_edge.report.model_card import model_card
from tcs_edge.report.page.pareto import choice_svg
from tcs_edge.report.page.run import run_page
from tcs_edge.runs.bom import bom_text, build_bom
from tcs_edge.runs.choice import choice_record, noted_choice
from tcs_edge.runs.documents import write_document
from tcs_edge.runs.folder import RunFolder, require_usable
from tcs_edge.runs.manifest import build_manifest, exported_files, with_files, write_manifest
from tcs_edge.runs.model_files import models_of, sizes_in
from tcs_edge.runs.place import RunOwner, default_out, require_writable, started_run
from tcs_edge.runs.records import (
    coordinates_record,
    dataset_record,
    predictions_record,
    student_record,
    teacher_record,
)
from tcs_edge.runs.resume import find_unfinished
from tcs_edge.runs.schema import Manifest, StageRecord, TeacherRecord
from tcs_edge.specs.artifacts import CONFIDENCE_FILE, is_deployed, model_name
from tcs_edge.specs.confidence import Confidence
from tcs_edge.specs.config import CompressConfig, config_toml
from tcs_edge.specs.target import ncnn_arithmetic, openvino_arithmetic
from tcs_edge.stages.calibrate import calibrate
from tcs_edge.stages.export_student import StudentExport
from tcs_edge.stages.precisions import export_precisions, int8_checks, int8_losses
from tcs_edge.stages.prepare import Prepared
from tcs_edge.stages.time_exports import measure_latency
from tcs_edge.stages.train import TeacherTargets, build_backbone, teach, train_student
from tcs_edge.stages.try_formats import require_convertible
from tcs_edge.stages.validate import validate_exports, with_quality_checks
from tcs_edge.students.embedding import coordinates_of, save_coordinates, with_embedding
from tcs_edge.training.distill import TrainingFiles
from tcs_edge.training.fold import folded_temperature, load_deployed, save_deployed
from tcs_edge.utils.files import write_json, write_text
from tcs_edge.utils.logs import logged_to_file
from tcs_edge.utils.processes import refuse_second_import
from tcs_edge.utils.progress import busy
from tcs_edge.utils.ranks import joined, leave, shared_json
from tcs_edge.utils.stopwatch import Stopwatch
from tcs_edge.utils.threads import use_threads
from tcs_edge.validation.checks import at_most
from tcs_edge.validation.validate import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run: folder, manifest and validation."""

    folder: RunFolder
    manifest: Manifest
    validation: Validation

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.root

    @property
    def passed(self) -> bool:
        """True if the exports passed their validation; only then are they in `export/`."""
        return self.manifest.verdict == "pass"


def compress(
    options: CompressConfig,
    out: Path | None = None,
    overwrite: bool = False,
    resume: Path | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Run:
    """Distill, export and validate one student; the verdict is in the manifest.

    A run that stops before its training leaves no folder behind. Under torchrun or `accelerate launch`, the processes
    train together. Rank 0 returns; the others raise SystemExit(0) after the training.

    Args:
        out: the run folder; default runs/<date>-<target>-<student>, with -2, -3, ... for later runs of a day.
        overwrite: replace an earlier run in `out`.
        resume: folder of an interrupted run to continue, or of a failed run to export again. `options` equal that
            run's, apart from `project.read.RESUMABLE`.

    Raises:
        TcsEdgeError: see the exit codes in `errors`. A failed validation raises nothing; it sets the verdict.
    """
    refuse_second_import("compress()")  # also for a script that calls this, or the command line, itself
    with joined(options.device) as place:
        if place.rank:
            compress_beside(options)
            raise SystemExit(0)
        return _compress(options, out, overwrite, resume, now)


def _compress(
    options: CompressConfig, out: Path | None, overwrite: bool, resume: Path | None, now: Callable[[], datetime]
) -> Run:
    """Run `compress` in the process of rank 0, or the only one."""
    if resume:
        find_unfinished(resume, asks_for_other_exports(options, resume))
    elif out:
        require_usable(out, overwrite)
    watch = Stopwatch()
    with RunOwner() as owner, logged_to_file() as keep_in, StopHint(resume) as hint:
        if place := resume or (out if out and out.is_dir() else None):
            owner.own(place)
        ready = prepare(options, watch)
        if resume:  # the options name the student, and only the folder has the reasons of its choice
            noted = RunFolder(resume).choice
            if not noted.is_file():
                logger.warning(f"{noted} is missing. The report will lack the selection of the student.")
            ready = replace(ready, choice=noted_choice(ready.choice, noted))
        with watch.stage("student"):
            backbone = build_backbone(ready)
            require_convertible(ready, backbone)

        def opened() -> RunFolder:
            folder = _reopen_folder(ready, resume) if resume else _open_folder(ready, default, out, overwrite, owner)
            keep_in(folder.log)
            hint.folder = folder.root
            return folder

        default = default_out(ready.target.name, ready.student.name, now().date())
        require_writable(resume or out or default)
        folder, model, confidence, teacher = _teach_and_train(ready, backbone, opened, bool(resume), watch)
        return _finish(ready, folder, model, confidence, teacher, watch, now)


def _teach_and_train(
    ready: Prepared, backbone: nn.Module, opened: Callable[[], RunFolder], resume: bool, watch: Stopwatch
) -> tuple[RunFolder, nn.Module, Confidence, TeacherRecord | None]:
    """Run the teacher's pass, open the run folder, and train the student; free the pass's targets at the end."""
    taught = teach(ready, backbone, watch=watch, compare=True)
    announce_probes(ready, taught)
    folder = opened()
    if taught.targets and taught.targets.coordinates:
        write_document(folder.coordinates, coordinates_record(taught.targets.coordinates, ready.options.tcs.ablation))
    probed = taught.targets.probe_accuracy if taught.targets else None
    teacher = teacher_record(taught.meta, probed) if taught.meta else None
    model, confidence = _trained(ready, backbone, taught, folder, resume, watch)
    return folder, model, confidence, teacher


def _finish(
    ready: Prepared,
    folder: RunFolder,
    model: nn.Module,
    confidence: Confidence,
    teacher: TeacherRecord | None,
    watch: Stopwatch,
    now: Callable[[], datetime],
) -> Run:
    """Export and validate the trained model, and write the documents of the run."""
    target = ready.target.model_dump(mode="json", exclude_none=True)
    student_export = StudentExport(model, ready.images, ready.preprocess, ready.target, ready.options)
    with watch.stage("export"), busy("exporting"):
        _export(student_export, confidence, folder)
    with watch.stage("precisions"):
        int8 = export_precisions(folder.unvalidated, folder.int8, folder.int8_weights, student_export)
    with watch.stage("validate"):
        validation = validate_exports(
            model,
            folder.unvalidated,
            ready.images,
            ready.preprocess,
            ready.options,
            ready.target.max_opset,
            arithmetic=openvino_arithmetic(target),
            confidence=confidence,
            ncnn=ncnn_arithmetic(target),
        )
        memory_mb = estimated_peak_memory_mb(folder.unvalidated / "model.onnx")
        student = student_record(ready.choice.winner, model, ready.preprocess.img_size, str(ready.init), memory_mb)
        validation = _with_limit_checks(with_quality_checks(validation, ready.options), ready, folder, student.params_m)
        validation = replace(validation, checks=(*int8_checks(int8), *validation.checks))
    with watch.stage("latency"):
        latency, calls = measure_latency(model, folder.unvalidated, ready.preprocess, ready.options)
    write_document(folder.latency, calls)
    write_json(folder.validation, validation.to_json())
    if validation.predictions:
        write_document(folder.predictions, predictions_record(validation.predictions, ready.images.test.names))
    folder.apply_verdict(validation.verdict == "pass")
    manifest = build_manifest(
        folder.root,
        created=now(),
        seed=ready.options.seed,
        dataset=dataset_record(ready.images),
        teacher=teacher,
        student=student,
        target=target,
        options=ready.options.model_dump(mode="json", exclude_none=True),
        stages=[StageRecord(**stage.to_json()) for stage in watch.stages],
        validation=validation,
        latency_here=latency,
        int8_losses=int8_losses(int8),
    )
    manifest = _with_documents(manifest, folder)
    write_manifest(folder.root, manifest)
    with busy("writing the report"):
        write_text(folder.report, run_page(folder.root))
    return Run(folder, manifest, validation)


def _open_folder(ready: Prepared, default: Path, out: Path | None, overwrite: bool, owner: RunOwner) -> RunFolder:
    img_size, classes = ready.preprocess.img_size, len(ready.images.classes)
    with started_run(out, default, overwrite, owner) as folder:
        options = ready.options
        choice = choice_record(
            ready.choice, ready.target, ready.limits, img_size, classes,
            options.runtime, options.precision, options.max_accuracy_drop,
        )  # fmt: skip
        write_document(folder.choice, choice)
        if drawn := choice_svg(choice):
            write_text(folder.pareto, drawn)
        # Last, because a run with its options can be resumed, but without these documents.
        write_text(folder.config, config_toml(ready.options))
    return folder


def _reopen_folder(ready: Prepared, root: Path) -> RunFolder:
    folder = find_unfinished(root, asks_for_other_exports(ready.options, root))
    folder.reopen()
    write_text(folder.config, config_toml(ready.options))
    return folder


def _trained(
    ready: Prepared, backbone: nn.Module, taught: TeacherTargets, folder: RunFolder, resume: bool, watch: Stopwatch
) -> tuple[nn.Module, Confidence]:
    """Return the trained and calibrated model, of this run or of the one that it resumes."""
    files = TrainingFiles(folder.checkpoints / "last.safetensors", folder.metrics, folder.selection)
    temperature = None
    trained = resume and folder.deployed_weights.exists()
    shared_json(not trained)  # to the other processes
    if trained:
        logger.info("training: skipped (finished before the interruption)")
        with watch.stage("distill"):
            model = load_deployed(folder.deployed_weights, backbone, ready.preprocess.img_size)
            temperature = folded_temperature(folder.deployed_weights)
    else:
        model = train_student(ready, files, backbone, taught, resume and files.checkpoint.exists(), watch)
        if ready.options.with_embedding:  # first, because a run with deployed weights is trained
            save_coordinates(folder.coordinates_weights, coordinates_of(model))
    leave()  # the others have finished
    use_threads(ready.options.threads)
    with watch.stage("calibrate"):
        confidence = calibrate(model, ready.images, ready.preprocess, ready.options, temperature)
    if temperature is None:
        save_deployed(folder.deployed_weights, model, confidence.temperature)
    # The state to resume from is several times the model's size, and no longer needed.
    files.checkpoint.unlink(missing_ok=True)
    if ready.options.with_embedding:
        model = with_embedding(model, folder.coordinates_weights)
    return model, confidence


def _export(student: StudentExport, confidence: Confidence, folder: RunFolder) -> None:
    student.to_onnx(folder.unvalidated / "model.onnx")
    export_own_formats(folder.unvalidated, formats=student.options.format, model=student.model)
    write_labels(folder.unvalidated / "labels.txt", student.images.classes)
    write_preprocess(folder.unvalidated / "preprocess.json", student.preprocess.to_json())
    write_json(folder.unvalidated / CONFIDENCE_FILE, confidence.to_json())


def _with_documents(manifest: Manifest, folder: RunFolder) -> Manifest:
    """Write the model card and the bill of materials from the manifest, and record both in it."""
    write_text(folder.model_card, model_card(manifest))
    write_text(folder.bom, bom_text(build_bom(manifest, exported_files(manifest), manifest.versions)))
    return with_files(manifest, folder.root, (folder.model_card, folder.bom))


def _with_limit_checks(validation: Validation, ready: Prepared, folder: RunFolder, params_m: float) -> Validation:
    """Add checks of the limits against the real files and model, instead of the estimates of the choice.

    A student that fits in fp16 or int8 only has no check of its larger files.
    """
    limits = ready.limits
    checks = list(validation.checks)
    if limits.max_size_mb is not None:
        deployed = ready.choice.winner.precision
        for model, size in models_of(sizes_in(folder.unvalidated)).items():
            if not is_deployed(model_name(model), deployed):
                continue
            checks.append(at_most(f"{model_name(model)}: size", size / 1e6, limits.max_size_mb, "MB", model))
    if limits.max_params_m is not None:
        checks.append(at_most("student: parameters", params_m, limits.max_params_m, "M"))
    return replace(validation, checks=tuple(checks))
