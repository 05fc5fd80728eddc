"""Options that do not go together, with a message for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcs_edge.specs.methods import METHODS

if TYPE_CHECKING:
    from tcs_edge.specs.config import CompressConfig

ONE_OUTPUT = ("ncnn", "litert")  # formats whose exports have logits alone


def conflicts(config: CompressConfig) -> list[str]:
    """Return a message for every pair of options that do not go together, each with its fix."""
    facts, search = METHODS[config.method], config.search
    problems = []
    if config.search_img_sizes and search != "halving":
        problems.append(f"search_img_sizes: search {search} uses one input size. Pass --search halving, or --img-size.")
    if not config.has_teacher and search in ("alignment", "halving"):
        problems.append(f"method: {config.method} has no teacher, but search {search} needs one. Pass --search table.")
    if config.online_teacher and not facts.online:
        able = ", ".join(name for name, known in METHODS.items() if known.online)
        problems.append(f"online_teacher: not available with method {config.method}. Methods that have it: {able}.")
    if config.tcs.head == "linear" and config.tcs.probe_start:
        problems.append("tcs: probe_start is for a classifier of coordinates. Leave it out, or leave head out.")
    if config.with_embedding:
        for kind in (kind for kind in config.format or () if kind in ONE_OUTPUT):
            problems.append(f"with_embedding: files of {kind} have one output. Leave --format {kind} out.")
    problems += _own_probe_problems(config)
    problems += _teacher_problems(config)
    if config.unlabeled and config.data is None and not config.labels_optional:
        problems.append("unlabeled: the built-in digits all have labels. Pass --data too.")
    if config.rest_unlabeled and not config.shots:
        problems.append("rest_unlabeled: every image has a label. Pass --shots too.")
    if not config.all_labeled and not facts.label_free:
        able = ", ".join(name for name, known in METHODS.items() if known.label_free)
        name = "unlabeled" if config.unlabeled else "rest_unlabeled"
        problems.append(f"{name}: method {config.method} needs labels. Methods that do not: {able}.")
    if config.train.label_smoothing and not facts.reads_labels:
        problems.append(f"train: method {config.method} uses no labels. Leave label_smoothing out.")
    return problems


def _own_probe_problems(config: CompressConfig) -> list[str]:
    """Messages on methods that need the features of a pretrained student."""
    own = config.starts_from_own_probe or config.soft_labels_from == "student"
    if own and config.student_init == "random":
        what = f"method: {config.method} with a probe on the student's features needs pretrained weights."
        return [f"{what} Leave --student-init random out."]
    if config.online_teacher and config.method in ("kd", "dkd") and config.soft_labels_from != "teacher":
        return ["online_teacher: soft labels of a student's probe belong to plain images. Leave online_teacher out."]
    return []


def _teacher_problems(config: CompressConfig) -> list[str]:
    """Messages on options of a teacher from the user's own file."""
    of_onnx = [name for name in ("mean", "std", "layout", "output") if getattr(config, f"teacher_{name}") is not None]
    if of_onnx and config.teacher_onnx is None:
        return [f"teacher_{of_onnx[0]}: describes an ONNX file. Pass --teacher-onnx too."]
    if (config.teacher_mean is None) != (config.teacher_std is None):
        return ["teacher_mean, teacher_std: one of the two is missing. Pass both."]
    if config.teacher_file is None:
        return []
    if config.teacher_onnx and config.teacher_features:
        return ["teacher_onnx, teacher_features: two teachers. Pass one of them."]
    option = "teacher_onnx" if config.teacher_onnx else "teacher_features"
    flag = f"--{option.replace('_', '-')}"
    problems = []
    if config.teacher not in (None, config.teacher_file.name):
        problems.append(f"teacher: {flag} is the teacher already. Leave --teacher out.")
    if config.teacher_weights:
        problems.append(f"teacher_weights: {flag} needs no other weights. Leave --teacher-weights out.")
    if config.teacher_features and config.teacher_img_size:
        problems.append("teacher_img_size: the features are computed already. Leave --teacher-img-size out.")
    if config.online_teacher:
        problems.append(f"online_teacher: {flag} has features of plain images only. Leave --online-teacher out.")
    if config.method_facts.targets == "maps":
        others = ", ".join(name for name, known in METHODS.items() if known.targets not in ("maps", "none"))
        problems.append(
            f"method: {config.method} needs feature maps, but {flag} gives one vector per image. "
            f"Methods for it: {others}."
        )
    return problems
