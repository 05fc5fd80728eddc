"""Every option of `tcs-edge compress`, grouped as the help shows them.

An option is declared here and nowhere else. Its field and the docstring below it become the flag, its help,
`tcs-edge init`, docs/reference/cli.md and the Python signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tcs_edge.specs.artifacts import Format, Precision, with_fp32, with_standard
from tcs_edge.specs.methods import METHODS, CeOptions, DkdOptions, KdOptions, TcsOptions
from tcs_edge.specs.strict import Spec
from tcs_edge.specs.target import RuntimeName
from tcs_edge.specs.training import TrainOptions

Augmentation = Literal["none", "crop", "crop-flip"]
SearchName = Literal["table", "alignment", "halving"]
Device = Literal["auto", "cpu", "cuda", "mps"]
TeacherLayout = Literal["nchw", "nhwc"]
Tracker = Literal["tensorboard", "wandb", "mlflow"]
ImgSize = Annotated[int, Field(ge=16, le=1024)]


@dataclass(frozen=True)
class Flag:
    """Name of a flag that differs from its field's name with dashes."""

    name: str


@dataclass(frozen=True)
class Choices:
    """Values of an option whose type is plain text."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class CommaSeparated:
    """Marks a tuple whose flag takes one text, with commas between the values."""


def _channels(value: Any) -> Any:
    """Return three values for one number or text such as "0.5", "1/255" or "0.485,0.456,0.406"."""
    if value is None:
        return None
    words = value.split(",") if isinstance(value, str) else value
    words = list(words) if isinstance(words, list | tuple) else [words]
    try:
        numbers = [_number(word) for word in words]
    except (TypeError, ValueError, ZeroDivisionError):
        numbers = []
    if len(numbers) not in (1, 3):
        raise ValueError("write one number, or three (R, G, B) with commas")
    return tuple(numbers * (3 // len(numbers)))


def _number(word: Any) -> float:
    top, _, bottom = str(word).partition("/")
    return float(top) / float(bottom or 1)


def _of_unit_pixels(values: Any) -> Any:
    if values is not None and not all(0 <= value <= 1 for value in values):
        raise ValueError("write it for pixels in 0..1, so divide a value for 0..255 by 255")
    return values


def _above_zero(values: Any) -> Any:
    if values is not None and min(values) <= 0:
        raise ValueError("write values above 0")
    return values


Channels = Annotated[tuple[float, float, float] | None, BeforeValidator(_channels), AfterValidator(_of_unit_pixels)]


def _known_method(name: str) -> str:
    if name not in METHODS:
        expected = " or ".join(f"'{known}'" for known in METHODS)
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


MethodName = Annotated[str, AfterValidator(_known_method), Choices(tuple(METHODS))]


class Int8Options(Spec):
    """Options of `--precision int8`, `[int8]` in a config file."""

    calibration_images: int = Field(default=128, ge=8, le=4096)
    """Largest number of training images for the ranges of the activations."""
    sensitivity_images: int = Field(default=16, ge=1, le=512)
    """Calibration images that measure the cost of each layer."""
    rounds: int = Field(default=6, ge=0, le=64)
    """Largest number of rounds that return layers to float."""
    finetune_epochs: int = Field(default=2, ge=0, le=100)
    """Epochs of training with simulated rounding for files that missed --max-accuracy-drop; 0 is off."""


class DataOptions(Spec):
    """Images, with or without labels."""

    panel: ClassVar[str] = "Data"

    data: Path | None = None
    """Image folder: train/, val/, test/ with a folder per class, or a folder per class. Or a table such as labels.csv,
    archives such as shards/{000..099}.tar, or hf://NAME. Default: the built-in digits demo."""
    shots: int | None = Field(None, ge=1)
    """Labeled training images per class, drawn by the seed. Default: all."""
    unlabeled: Path | None = None
    """Folder of images without labels that join training (for methods that need no labels)."""
    rest_unlabeled: bool = False
    """With --shots: train on the other training images too, without their labels."""
    labeled_fraction: float | None = Field(None, gt=0, le=1)
    """With unlabeled images: smallest fraction of labeled images in a batch. Default: halfway from their fraction of
    all images to 1."""
    exclude: tuple[str, ...] | None = None
    """Names of folders or files to leave out of the images, as in 'labels' or '*_mask.png'; repeatable. @FILE reads
    names of images to drop, or with a tab and a class to relabel, as `tcs-edge check` saves them."""
    column: tuple[str, ...] | None = None
    """With a table: a column by its role (path, label, split or group), as in label=species; repeatable."""
    allow_leaks: bool = False
    """Go on with copies in train and test; the report counts them."""


class TeacherOptions(Spec):
    """The teacher."""

    panel: ClassVar[str] = "Teacher"

    teacher: str | None = None
    """Teacher: dinov2, dinov3-small, timm/NAME, ... Default: dinov2; digits for the demo."""
    teacher_weights: Path | None = None
    """Local .safetensors file of the teacher, instead of the model hub."""
    teacher_img_size: int | None = Field(None, ge=16, le=1024)
    """Pixels of the teacher's input. Default: the teacher's own."""
    teacher_onnx: Path | None = None
    """ONNX file of a feature extractor, as the teacher."""
    teacher_mean: Annotated[Channels, CommaSeparated()] = None
    """With --teacher-onnx: mean that its input is normalized with, of pixels in 0..1, such as 0.485,0.456,0.406 or 0.5.
    Default: as the file states."""
    teacher_std: Annotated[Channels, AfterValidator(_above_zero), CommaSeparated()] = None
    """With --teacher-onnx: standard deviation, such as 0.229,0.224,0.225; 1 keeps pixels in 0..1, 1/255 gives 0..255.
    Default: as the file states."""
    teacher_layout: TeacherLayout | None = None
    """With --teacher-onnx: axes of its input. Default: by the shape that the file states."""
    teacher_output: str | None = None
    """With --teacher-onnx: name of the output with the features, or NAME[0] for the first token of a transformer.
    Default: its only output."""
    teacher_features: Path | None = None
    """File of features that were computed elsewhere, as the teacher: .npz, .safetensors or .parquet."""
    online_teacher: bool = False
    """Keep the teacher in memory and run it on every training view (for methods that allow it)."""
    cache_dir: Path | None = None
    """Folder of cached teacher features. Default: the user's cache folder."""

    @property
    def teacher_file(self) -> Path | None:
        """The user's own teacher: an ONNX file or a file of features."""
        return self.teacher_onnx or self.teacher_features


class StudentOptions(Spec):
    """The student, and the search for it."""

    panel: ClassVar[str] = "Student"

    student: Annotated[str, AfterValidator(lambda name: name.removeprefix("timm/"))] = "auto"
    """Student: a timm name, NAME or NAME.TAG, or auto for the best one within the limits."""
    student_init: str = "auto"
    """First weights: pretrained, random, a .safetensors file, or a folder of them. Weights of one candidate choose
    it as student. Default: pretrained; random for the demo."""
    img_size: ImgSize | None = None
    """Pixels of the student's square input. Default: the images' own size, at most 224."""
    search: SearchName | Literal["auto"] = "auto"
    """Ranking of the students that fit: table (published accuracy), alignment (compare pretrained features with the
    teacher's), halving (short training runs), or auto. auto is alignment if everything it reads is on this machine,
    else table."""
    search_img_sizes: Annotated[tuple[ImgSize, ...] | None, Flag("--search-img-size")] = Field(None, min_length=1)
    """With --search halving: an input size to try; repeatable. Default: --img-size, else the images' own size, three
    quarters and half of it."""


class TrainingOptions(Spec):
    """The training."""

    panel: ClassVar[str] = "Training"

    method: MethodName = "tcs"
    """Training method: tcs, or another one to compare with; ce is cross-entropy."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the training images. Default: 30; 60 from random weights; 25 for the demo."""
    batch_size: int = Field(64, ge=2)
    """Images per training step."""
    # Above 1e30, one step of AdamW overflows float32 before the check of the loss.
    lr: float | None = Field(None, gt=0, le=1e30)
    """Peak learning rate of AdamW. Default: by student, first weights, number of steps and batch size."""
    augment: Augmentation | None = None
    """Augmentation: none, crops, or crops with mirroring. Default: crop-flip; crop for the demo."""
    train: TrainOptions = TrainOptions()
    """Precision, regularization and reproducibility of the training loop."""
    tcs: TcsOptions = TcsOptions()
    """Options of method tcs."""
    kd: KdOptions = KdOptions()
    """Options of method kd."""
    dkd: DkdOptions = DkdOptions()
    """Options of method dkd."""
    ce: CeOptions = CeOptions()
    """Options of method ce."""


class LimitOptions(Spec):
    """Limits of the student."""

    panel: ClassVar[str] = "Limits"

    max_latency_ms: float | None = Field(None, gt=0)
    """Latency limit on the target in milliseconds, for the upper end of the student's interval."""
    max_size_mb: float | None = Field(None, gt=0)
    """Largest model file, in 10^6 bytes; an .xml counts with its .bin."""
    max_params_m: float | None = Field(None, gt=0)
    """Most parameters, in millions."""
    min_accuracy: float | None = Field(None, gt=0, le=1)
    """Least accuracy on the test images, in 0..1, for the lower end of its 95 % interval."""
    min_class_recall: float | None = Field(None, gt=0, le=1)
    """Least recall of every class on the test images, in 0..1."""
    min_macro_f1: float | None = Field(None, gt=0, le=1)
    """Least mean F1 score of the classes on the test images, in 0..1."""
    max_ece: float | None = Field(None, gt=0, le=1)
    """Largest expected calibration error on the test images (15 bins), in 0..1."""
    max_accuracy_drop: float = Field(0.01, ge=0, lt=1)
    """Largest loss of accuracy by int8, in 0..1: 0.01 is one percentage point."""
    allow_unshown_int8: bool = False
    """Release int8 files without a loss above --max-accuracy-drop on too few images to show it at 95 %."""


def _with_fp32(precision: tuple[Precision, ...] | None) -> tuple[Precision, ...] | None:
    return None if precision is None else with_fp32(precision)


def _with_standard(formats: tuple[Format, ...] | None) -> tuple[Format, ...] | None:
    return None if formats is None else with_standard(formats)


class ExportOptions(Spec):
    """The exported files."""

    panel: ClassVar[str] = "Export"

    precision: Annotated[tuple[Precision, ...] | None, AfterValidator(_with_fp32)] = None
    """Model files to export besides fp32: fp16 or int8; repeatable. Default: the target's advice."""
    runtime: RuntimeName | None = None
    """Runtime to deploy on the target: onnxruntime or openvino. Default: the faster one, by the latency of the
    student."""
    format: Annotated[tuple[Format, ...] | None, AfterValidator(_with_standard)] = None
    """Model formats to export besides ONNX and OpenVINO: ncnn, litert; repeatable. Default: ONNX and OpenVINO."""
    opset: int | None = Field(None, ge=1)
    """ONNX opset, 18 to 24. Default: 18, which most runtimes read."""
    dynamic_batch: bool = False
    """Export for any number of images at a time instead of one."""
    embed_preprocess: bool = False
    """Also write ONNX files that take uint8 images of any size."""
    with_embedding: bool = False
    """Export a second output beside the logits, for like images and added classes: the kept coordinates of tcs, or the
    features in front of the classifier."""
    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    """Share of images of known classes that may count as unknown, in 0..1; sets the threshold of predict."""
    compiled_latency: bool = False
    """Also time the model under torch.compile after the export; compiling may take minutes."""
    int8: Int8Options = Int8Options()
    """Options of int8."""


class RunOptions(Spec):
    """The target and the machine of the run."""

    panel: ClassVar[str] = "Run"

    target: str
    """Device: a name from `tcs-edge targets`, or the path of a target file."""
    device: Device = "auto"
    """Compute device."""
    threads: int | None = Field(None, ge=1)
    """Compute threads. Default: the free cores."""
    workers: int | None = Field(None, ge=0)
    """Image-decoding processes, or threads on macOS and Windows. Default: free cores less one, at most 4;
    16 with a GPU."""
    cache_gb: float = Field(4.0, ge=0, le=1e6)
    """Space for decoded images during the run, in 10^9 bytes, in the cache folder. What has no room is decoded in
    every epoch, with the same result."""
    log: tuple[Tracker, ...] | None = None
    """Also send the metrics of every epoch to tensorboard, wandb or mlflow; repeatable."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Random seed."""
