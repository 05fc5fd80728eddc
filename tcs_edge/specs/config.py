"""What one `compress` run is asked for: every option, and how the ones left open are settled.

A config comes from flags, from a TOML file, or both (flags win). `resolved` settles what was
left open ("auto") and returns a new config; that one is saved with the run.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import Field, ValidationInfo, field_validator

from tcs_edge.errors import SpecError
from tcs_edge.specs.artifacts import Precision, with_fp32
from tcs_edge.specs.methods import DkdOptions, KdOptions, TcsOptions
from tcs_edge.specs.strict import Spec
from tcs_edge.specs.training import TrainOptions

Augmentation = Literal["none", "crop", "crop-flip"]
SearchName = Literal["table", "alignment", "halving"]
MethodName = Literal["tcs", "simkd", "kd", "dkd", "ce"]
ImgSize = Annotated[int, Field(ge=16, le=1024)]
ONLINE_METHODS = ("simkd", "kd", "dkd")
SEARCHED_SHARES = (1, 3 / 4, 1 / 2)  # of the pictures' own size
OPEN = (None, "auto")
# Weights of TCS's losses: with the probe's soft labels above all, or as arXiv 2412.09388 has them.
SOFTENED = {"label_weight": 0.1, "soft_weight": 0.9, "mimic_weight": 0.1}
UNSOFTENED = {"label_weight": 1.0, "soft_weight": 0.0, "mimic_weight": 1.0}
FINE_TUNED = UNSOFTENED | {"mimic_weight": 0.1}
AnySpec = TypeVar("AnySpec", bound=Spec)
# Their loss about the teacher needs no label.
LABEL_FREE = ("tcs", "simkd", "kd")


class Int8Options(Spec):
    """Options of `--precision int8`, `[int8]` in a config file.

    Attributes:
        calibration_images: training images that the ranges of the activations are taken from, at most.
        sensitivity_images: of these, how many measure what each layer costs.
        rounds: how often layers may go back to float before it is given up.
    """

    calibration_images: int = Field(default=128, ge=8, le=4096)
    sensitivity_images: int = Field(default=16, ge=1, le=512)
    rounds: int = Field(default=6, ge=0, le=64)


class CompressConfig(Spec):
    """Options of `tcs-edge compress`; `resolved` settles None and "auto", and `for_student` what hangs on the student.

    Attributes:
        target: a name from `tcs-edge targets`, or the path of a target file.
        data: image folder; None uses the built-in handwritten digits.
        teacher: a teacher's name; None is `digits` for the built-in data, else `dinov2`.
        teacher_weights: local safetensors file instead of the hub.
        teacher_img_size: pixels of the teacher's input; None is the teacher's own choice.
        student: a timm name, or "auto" for the best one that fits.
        search: where the expected accuracy comes from that students are chosen by: "table" is the published one,
            "alignment" compares pretrained features with the teacher's, "halving" trains briefly; "auto" is
            alignment where everything it reads is on this machine already, else the table.
        search_img_sizes: input sizes that halving tries every student with; None is `img_size` where it is given, else
            the pictures' own size, three quarters and half of it.
        student_init: "pretrained", "random", the path of a safetensors file, or of a folder of such files.
        method: how the student is trained; all but TCS are there to compare with.
        online_teacher: keep the teacher in memory and show it the student's own views, instead of one
            pass over the plain images; for simkd, kd and dkd.
        shots: training images per class, drawn by the seed; None takes all.
        unlabeled: folder of images without labels that join training; for tcs, kd and simkd.
        rest_unlabeled: with `shots`, the training images that were not drawn join without their labels.
        labeled_fraction: least part of every batch that has labels, where there are images without.
        img_size: pixels of the student's square input.
        precision: model files to export; fp32 is always among them. None is fp32 and the target's own advice.
        max_accuracy_drop: accuracy that int8 may lose, as a share: 0.01 is one percentage point.
        opset: of the ONNX files; None is the lowest that the exporter writes, which most runtimes read.
        dynamic_batch: export for any number of images at a time instead of one.
        embed_preprocess: also write ONNX files that take uint8 pictures of any size.
        compiled_latency: also measure torch.compile's model after the export; compiling may take minutes.
        device: "auto", "cpu", "cuda", "mps".
        threads: compute threads; None uses the cores that are free.
        train: precision, regularization and reproducibility of the training loop.
        workers: image-decoding processes; None decodes in as many as there are free cores, less one.
    """

    target: str
    data: Path | None = None
    teacher: str | None = None
    teacher_weights: Path | None = None
    teacher_img_size: int | None = Field(None, ge=16, le=1024)
    student: str = "auto"
    search: SearchName | Literal["auto"] = "auto"
    search_img_sizes: tuple[ImgSize, ...] | None = Field(None, min_length=1)
    student_init: str = "auto"
    method: MethodName = "tcs"
    online_teacher: bool = False
    shots: int | None = Field(None, ge=1)
    unlabeled: Path | None = None
    rest_unlabeled: bool = False
    labeled_fraction: float = Field(0.5, gt=0, le=1)
    epochs: int | None = Field(None, ge=1)
    batch_size: int = Field(64, ge=2)
    img_size: ImgSize | None = None
    # Above 1e30 a step of AdamW overflows float32 before the loss can be looked at.
    lr: float | None = Field(None, gt=0, le=1e30)
    augment: Augmentation | None = None
    max_latency_ms: float | None = Field(None, gt=0)
    max_size_mb: float | None = Field(None, gt=0)
    max_params_m: float | None = Field(None, gt=0)
    precision: tuple[Precision, ...] | None = None
    max_accuracy_drop: float = Field(0.01, ge=0, lt=1)
    opset: int | None = Field(None, ge=1)
    dynamic_batch: bool = False
    embed_preprocess: bool = False
    compiled_latency: bool = False
    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    workers: int | None = Field(None, ge=0)
    cache_dir: Path | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    train: TrainOptions = TrainOptions()
    tcs: TcsOptions = TcsOptions()
    kd: KdOptions = KdOptions()
    dkd: DkdOptions = DkdOptions()
    int8: Int8Options = Int8Options()

    @field_validator("precision")
    @classmethod
    def _fp32_is_there(cls, precision: tuple[Precision, ...] | None) -> tuple[Precision, ...] | None:
        return None if precision is None else with_fp32(precision)

    @field_validator("search_img_sizes")
    @classmethod
    def _are_searched(cls, sizes: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        if sizes and (search := info.data.get("search")) != "halving":
            raise ValueError(f"search {search} looks at one input size; pass --search halving, or --img-size")
        return sizes

    @field_validator("method")
    @classmethod
    def _has_what_the_search_reads(cls, method: MethodName, info: ValidationInfo) -> MethodName:
        if method == "ce" and (search := info.data.get("search")) in ("alignment", "halving"):
            raise ValueError(f"ce has no teacher, which search {search} needs; pass --search table")
        return method

    @field_validator("online_teacher")
    @classmethod
    def _can_stay_online(cls, online: bool, info: ValidationInfo) -> bool:
        if online and info.data.get("method") not in ONLINE_METHODS:
            raise ValueError(f"only methods {', '.join(ONLINE_METHODS)} can keep the teacher in the loop")
        return online

    @field_validator("unlabeled")
    @classmethod
    def _is_of_use(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        if folder and info.data.get("data") is None:
            raise ValueError("it goes with --data; the built-in digits all have labels")
        return _learnt_from(folder, info)

    @field_validator("rest_unlabeled")
    @classmethod
    def _has_a_rest(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and not info.data.get("shots"):
            raise ValueError("it goes with --shots, which says how many images keep their labels")
        return _learnt_from(wanted, info)

    @field_validator("train")
    @classmethod
    def _has_labels_to_smooth(cls, train: TrainOptions, info: ValidationInfo) -> TrainOptions:
        if train.label_smoothing and info.data.get("method") == "simkd":
            raise ValueError("simkd imitates a map and reads no labels: leave label_smoothing out")
        return train

    @property
    def builtin(self) -> bool:
        """Whether the built-in demo data is used."""
        return self.data is None

    @property
    def all_labeled(self) -> bool:
        """Whether every image that the student learns from has a label."""
        return self.unlabeled is None and not self.rest_unlabeled

    def resolved(self, typical_px: int) -> CompressConfig:
        """This config with data-dependent choices settled.

        Args:
            typical_px: median shorter side of the training images, in pixels.
        """
        return _filled(self, _demo_defaults(self) if self.builtin else _folder_defaults(typical_px, self))

    def for_student(self, kind: str) -> CompressConfig:
        """This config with the choices settled that depend on the student.

        Args:
            kind: "cnn", "hybrid", "transformer" or "unknown", as of a `Candidate`.
        """
        # CNNs, transformers and pretrained weights learn best with different settings
        # (docs/explanation/decisions/0006 to 0012).
        transformer, scratch = kind == "transformer", self.student_init == "random"
        from_scratch, fine_tuning = (3e-4, 1e-4) if transformer else (2e-3, 1e-3)
        settled = _filled(self, {"lr": from_scratch if scratch else fine_tuning})
        mimic_warmup = 0.2 if scratch and not transformer else 0.0
        weights = SOFTENED
        if self.all_labeled and (transformer or not scratch):
            weights = UNSOFTENED if scratch else FINE_TUNED
        tcs = _filled(self.tcs, {"mimic_warmup": mimic_warmup, "probe_start": scratch, **weights})
        return settled.model_copy(update={"tcs": tcs})


def _filled(spec: AnySpec, defaults: Mapping[str, Any]) -> AnySpec:
    """`spec` with `defaults` where it leaves a choice open."""
    return spec.model_copy(update={name: value for name, value in defaults.items() if getattr(spec, name) in OPEN})


def _learnt_from(wanted: Any, info: ValidationInfo) -> Any:
    """What brings images without labels, for a method that can use them."""
    if wanted and info.data.get("method") not in LABEL_FREE:
        raise ValueError(f"only methods {', '.join(LABEL_FREE)} learn from images without labels")
    return wanted


def _demo_defaults(config: CompressConfig) -> dict[str, Any]:
    """Tiny images, no mirror symmetry, no hub: a small student trains from scratch in about a minute."""
    # The limits make the choice quick; a student that the user named is not held against them.
    limits = {"max_latency_ms": 2.5, "max_params_m": 1.0} if config.student == "auto" else {}
    return limits | {
        "teacher": "digits", "student_init": "random", "img_size": 32, "epochs": 25, "lr": 3e-3, "augment": "crop",
    }  # fmt: skip


def _folder_defaults(typical_px: int, config: CompressConfig) -> dict[str, Any]:
    """No larger than the pictures are, at most 224; a search may try smaller inputs too, where none was asked for."""
    from_scratch = config.student_init == "random"
    img_size = min(224, _strided(typical_px))
    several = config.search == "halving" and config.img_size is None
    smaller = {"search_img_sizes": tuple(dict.fromkeys(_strided(share * img_size) for share in SEARCHED_SHARES))}
    return {
        "teacher": "dinov2", "student_init": "pretrained", "img_size": img_size,
        "epochs": 60 if from_scratch else 30, "augment": "crop-flip",
    } | (smaller if several else {})  # fmt: skip


def _strided(pixels: float) -> int:
    """The next multiple of 32 (the strides of most students), at least 32."""
    return max(32, math.ceil(pixels / 32) * 32)


def load_config(path: Path) -> dict[str, Any]:
    """The options in a TOML file, checked as TOML only; flags are laid over them later.

    Raises:
        SpecError: no such file, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise SpecError(f"no such config file: {path}. `tcs-edge init` writes one.") from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read as a config file: {error.strerror}. Pass a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not TOML: {error}") from None


def with_flags(document: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """A config file's options with `flags` laid over them; those of the training loop go into its table."""
    training = {name: value for name, value in flags.items() if name in TrainOptions.model_fields}
    merged = {**document, **{name: value for name, value in flags.items() if name not in training}}
    table = document.get("train", {})
    # Anything but a table is left for the schema to complain about.
    return merged | {"train": table | training} if training and isinstance(table, dict) else merged


def config_toml(config: CompressConfig) -> str:
    """The config as TOML that `load_config` reads back; options left open are absent."""
    document = config.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps(document)
