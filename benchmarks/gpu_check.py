"""Checks and rates of tcs-edge on one device; `gpu_check.sh` sets the environment and runs this.

Every part is a function with `@part`: it prints figures, and judges those that have a limit. Rates and memory are
judged on a GPU only. Parts use the training loop with random batches; `intake` and later ones make image folders.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib.util
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import keep_decoded
from tcs_edge.data.loader import training_loader
from tcs_edge.data.preprocess import Preprocess
from tcs_edge.methods import Batch, CachedTargets, CrossEntropy, Kd, Method, OnlineTeacher, SimKd, Tcs
from tcs_edge.models.feature_map import drop_head, map_shape
from tcs_edge.specs.training import TrainOptions
from tcs_edge.students.build import build_student, feature_dim
from tcs_edge.students.features import features_before_training
from tcs_edge.tcs.selection import SelectionSchedule
from tcs_edge.teachers.features import teacher_features
from tcs_edge.teachers.load import build_teacher, describe_teacher
from tcs_edge.training import trainer
from tcs_edge.training.accelerator import make_accelerator
from tcs_edge.training.distill import TrainingFiles
from tcs_edge.training.modes import deterministic
from tcs_edge.training.schedule import Schedule

if TYPE_CHECKING:
    from tcs_edge.stages.prepare import Prepared

STARTED = time.monotonic()
DEVICE, SMALL = os.environ.get("DEVICE", "cuda"), os.environ.get("SMALL") == "1"
CUDA = DEVICE == "cuda"
OUT, WORK = Path(os.environ["OUT"]), Path(os.environ["WORK"])
BUDGET_S = float(os.environ.get("BUDGET", "440"))
WANTED = set(filter(None, os.environ.get("PARTS", "").split(",")))

SIZE, BATCH, STEPS = (64, 8, 3) if SMALL else (224, 256, 20)
# Cached targets of the methods: training images, coordinates, classes.
ROWS, DIMS, CLASSES = (2000, 384, 20) if SMALL else (100_000, 384, 100)
FEW_ROWS = 500
STUDENT = "mobilenetv3_small_050" if SMALL else "mobilenetv3_large_100"
TEACHER = "vit_tiny_patch16_224" if SMALL else "vit_small_patch14_dinov2"
# The image folder.
TRAIN_IMAGES, HELD_OUT_IMAGES, FOLDER_CLASSES = (120, 30, 3) if SMALL else (3000, 200, 10)
FOLDER_BATCH, WORKERS = (16, 0) if SMALL else (64, 12)
AMP = "bf16" if CUDA else "no"
PRECISIONS = ("no", "bf16", "fp16") if CUDA else ("no", "bf16")
# Limits of TCS against another method: step rate at least, peak memory at most.
RATE_LIMITS = {"ce": 0.95, "kd": 1.8}
MEMORY_LIMITS = {"ce": 1.05, "kd": 0.6}

Rows = tuple[Tensor, Tensor, Tensor]  # images (B, 3, S, S), labels (B,), indices (B,)


@dataclass(frozen=True)
class Figure:
    """One printed line; `ok` is None for a figure without a limit."""

    name: str
    value: str
    note: str
    ok: bool | None

    def line(self) -> str:
        flag = {True: "ok", False: "FAIL", None: ""}[self.ok]
        return f"{flag:5}{self.name:58}{self.value:>14}  {self.note}"


@dataclass(frozen=True)
class Part:
    """A group of checks; `needs_s` is the time below which it is skipped."""

    name: str
    needs_s: float
    run: Callable[[], Any]


@dataclass(frozen=True)
class Span:
    """When a part ran, in local time as nvidia-smi prints it."""

    part: str
    start: datetime.datetime
    end: datetime.datetime


PARTS: list[Part] = []
FIGURES: list[Figure] = []
RESULTS: dict[str, Any] = {}
SPANS: list[Span] = []


def part(name: str, needs_s: float) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function as a part of this check; its result goes into gpu_check.json."""

    def register(run: Callable[[], Any]) -> Callable[[], Any]:
        PARTS.append(Part(name, needs_s, run))
        return run

    return register


def show(name: str, value: object, note: str = "", ok: bool | None = None) -> None:
    """Print and keep one figure."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    FIGURES.append(Figure(name, text, note, ok))
    print(FIGURES[-1].line(), flush=True)


def failed(name: str, error: BaseException) -> dict[str, str]:
    """Show an exception as a failed figure; its traceback goes to stderr."""
    show(name, type(error).__name__, str(error).replace("\n", " ")[:300], ok=False)
    traceback.print_exc(limit=-4)
    return {"error": repr(error)[:500]}


def skipped(name: str, error: ModuleNotFoundError) -> dict[str, str]:
    """Show a part as skipped for want of a package; a module that tcs-edge itself lacks is a failure."""
    if not error.name or error.name.startswith("tcs_edge"):
        return failed(name, error)
    show(name, "skipped", f"not installed: {error.name}")
    return {"skipped": error.name}


def elapsed() -> float:
    """Seconds since the start."""
    return time.monotonic() - STARTED


def left() -> float:
    """Seconds left of the budget."""
    return BUDGET_S - elapsed()


def sync() -> None:
    """Wait for the GPU."""
    if CUDA:
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Time of `repeat` calls, with the GPU's work included."""
    sync()
    started = time.perf_counter()
    for _ in range(repeat):
        run()
    sync()
    return time.perf_counter() - started


def shown(values: list[float], digits: int = 4) -> str:
    """Numbers in one short line."""
    return " ".join(f"{value:.{digits}g}" for value in values)


# Networks and batches


def device() -> torch.device:
    """The device under test."""
    return torch.device(DEVICE)


def make_teacher_module() -> nn.Module:
    """Frozen teacher network with random weights, on the device."""
    torch.manual_seed(0)
    module = timm.create_model(TEACHER, num_classes=0, img_size=SIZE)
    return module.eval().requires_grad_(False).to(device())


def make_student() -> tuple[nn.Module, int]:
    """Student with random weights, and the width of its features."""
    backbone = build_student(STUDENT, SIZE, "random", 0)
    return backbone, feature_dim(backbone, SIZE)


def make_method(name: str, width: int, rows: int = ROWS) -> Method:
    """Method ce, tcs, tcs-lsh or kd behind `width` features, with random targets of `rows` training images."""
    teacher = make_teacher_module() if name == "kd" else None
    torch.manual_seed(0)  # for the head's weights
    generator = torch.Generator().manual_seed(0)
    if name == "ce":
        return CrossEntropy(width, CLASSES)
    if teacher:
        probe = nn.Linear(teacher.num_features, CLASSES).to(device())
        view = Preprocess(SIZE)
        return Kd(width, CLASSES, OnlineTeacher(nn.Sequential(teacher, probe).requires_grad_(False), view, view))
    return Tcs(
        width,
        CLASSES,
        torch.randn(rows, DIMS, generator=generator).half(),
        SelectionSchedule(),
        mimic_warmup=0.2,
        mimic="lsh" if name == "tcs-lsh" else "cosine",
        soft_share=0.9,
        soft_labels=torch.randn(rows, CLASSES, generator=generator).half(),
    )


def make_simkd() -> tuple[nn.Module, Method]:
    """SimKD with cached maps; the student's grid is one wider than the teacher's, so pooling is uneven."""
    backbone, _ = make_student()
    drop_head(backbone, SIZE)
    channels, side = map_shape(backbone, SIZE)
    grid = max(1, side - 1)
    maps = CachedTargets(torch.randn(FEW_ROWS, 64, grid, grid))
    return backbone, SimKd(channels, nn.Linear(64, CLASSES), maps, grid, True)


def random_batches(count: int, batch: int = BATCH, where: str = "cpu", rows: int = ROWS) -> list[Rows]:
    """Batches of noise, the same in every call."""
    generator = torch.Generator().manual_seed(0)

    def one() -> Rows:
        images = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
        labels = torch.randint(0, CLASSES, (batch,), generator=generator)
        return images.to(where), labels.to(where), torch.randint(0, rows, (batch,), generator=generator).to(where)

    return [one() for _ in range(count)]


def train(
    backbone: nn.Module,
    method: Method,
    batches: Callable[[int], Any],
    steps: int,
    epochs: int,
    batch: int,
    where: str = DEVICE,
    **options: Any,
) -> None:
    """Run the training loop; `options` are fields of TrainOptions, or log, checkpoint and resume."""
    loop = {name: options.pop(name) for name in ("log", "checkpoint", "resume") if name in options}
    trainer.train(
        backbone,
        method,
        trainer.Data(batches, steps, lambda: []),
        Schedule(epochs, batch, 1e-3),
        0,
        make_accelerator(where, options.get("amp", "no")),
        options=TrainOptions(**options),
        **loop,
    )


# Training rates and memory


@part("env", 1)
def env() -> dict[str, Any]:
    """Versions, and the defaults that the device leads to."""
    facts = {
        "python": sys.version.split()[0],
        **{module.__name__: module.__version__ for module in (torch, torchvision, timm, accelerate)},
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if CUDA else "none",
        "cores": os.cpu_count(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_conv": torch.backends.cudnn.allow_tf32,
    }
    for name, value in facts.items():
        show(name, value)
    chosen = make_accelerator("auto").device
    show("device of 'auto'", chosen, ok=not CUDA or chosen.type == "cuda")
    show("precision of --amp auto", make_accelerator(DEVICE, "auto").mixed_precision, "bf16 on an H100")
    return facts


@part("student-features", 15)
def student_features() -> int:
    """Features of an untrained student on the device; the width of its features can be read afterwards too."""
    backbone, _ = make_student()
    got = features_before_training(backbone, (images for images, *_ in random_batches(2, 8)), device(), "test")
    show("features before training", str(got.shape), ok=got.shape[0] == 16)
    show("  backbone is then on", next(backbone.parameters()).device)
    width = feature_dim(backbone, SIZE)
    show("feature width afterwards", width, ok=width == got.shape[1])
    return width


def rate(name: str, amp: str = "no", compiled: bool = False, ema: float = 0.0) -> dict[str, Any]:
    """Rates, peak memory and losses of three epochs of `STEPS`; the first epoch warms up and is not counted."""
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    backbone, width = make_student()
    method = make_method(name, width)
    batches = random_batches(4, where=DEVICE)
    ends, losses = [], []

    def log(metrics: dict[str, Any]) -> None:
        sync()
        ends.append(time.perf_counter())
        losses.append(metrics["loss"])

    def epoch(number: int) -> Iterator[Rows]:
        return (batches[step % 4] for step in range(STEPS))

    started = time.perf_counter()
    train(backbone, method, epoch, STEPS, 3, BATCH, amp=amp, compile=compiled, ema_decay=ema, log=log)
    steps_per_s = 2 * STEPS / (ends[2] - ends[0])
    return {
        "steps_per_s": steps_per_s,
        "images_per_s": steps_per_s * BATCH,
        "first_epoch_s": ends[0] - started,
        "losses": losses,
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if CUDA else None,
    }


@part("rates", 90)
def rates() -> dict[str, Any]:
    """Training of ce, tcs and kd at each precision, twice in turn; limits on step rate and peak memory of tcs."""
    first = {amp: {name: rate(name, amp) for name in ("ce", "tcs", "kd")} for amp in PRECISIONS}
    for amp, found in first.items():
        for name, one in found.items():
            memory = f"peak {one['peak_mb']:.0f} MB, " if CUDA else ""
            finite = all(map(math.isfinite, one["losses"]))
            show(
                f"train {name} amp={amp}", one["images_per_s"], f"img/s, {memory}losses {shown(one['losses'])}", finite
            )
    for amp, found in first.items():
        again = {name: rate(name, amp) for name in found}
        for other, limit in RATE_LIMITS.items():
            ratios = [one["tcs"]["steps_per_s"] / one[other]["steps_per_s"] for one in (found, again)]
            kept = min(ratios) >= limit if CUDA else None
            show(f"step rate tcs / {other}, amp={amp}", min(ratios), f"rounds {shown(ratios)}, limit >= {limit}", kept)
        for other, limit in MEMORY_LIMITS.items() if CUDA else ():
            ratio = found["tcs"]["peak_mb"] / found[other]["peak_mb"]
            note = f"limit <= {limit}, with the targets of {ROWS} images"
            show(f"peak memory tcs / {other}, amp={amp}", ratio, note, ratio <= limit)
    averaged, hashed = rate("tcs", AMP, ema=0.999), rate("tcs-lsh", AMP)
    show(f"train tcs with EMA, amp={AMP}", averaged["images_per_s"], "img/s")
    show(f"train tcs mimic=lsh, amp={AMP}", hashed["images_per_s"], "img/s, hashing anew at each of 20 prunings")
    return {"rates": first, "ema": averaged, "lsh": hashed}


@part("layout", 20)
def layout() -> dict[str, float]:
    """Rates of a bare training step by memory format, cuDNN benchmark and TF32, and of copies to the device."""
    found = {}

    def bare_step(
        name: str,
        memory_format: torch.memory_format = torch.channels_last,
        amp: bool = True,
        benchmark: bool = False,
        tf32: bool = False,
    ) -> None:
        torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32 = benchmark, tf32
        model = make_student()[0].to(device(), memory_format=memory_format).train()
        images = torch.randn(BATCH, 3, SIZE, SIZE, device=device()).contiguous(memory_format=memory_format)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
                loss = model(images).float().square().mean()
            loss.backward()
            optimizer.step()

        seconds(step, 3)
        repeat = 2 if SMALL else 15
        found[name] = repeat * BATCH / seconds(step, repeat)
        show(f"bare step, {name}", found[name], "img/s")
        torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32 = False, False

    bare_step("bf16 channels_last")
    bare_step("bf16 contiguous", torch.contiguous_format)
    bare_step("bf16 channels_last, cuDNN benchmark", benchmark=True)
    bare_step("fp32 channels_last", amp=False)
    bare_step("fp32 channels_last, TF32 matmul", amp=False, tf32=True)
    for dtype in (torch.float32, torch.uint8):
        for pinned in (False, True) if CUDA else (False,):
            images = torch.zeros(BATCH, 3, SIZE, SIZE, dtype=dtype)
            copy = (images.pin_memory() if pinned else images).to
            seconds(lambda copy=copy: copy(device(), non_blocking=True), 1)
            name = f"copy to the device, {dtype}, {'pinned' if pinned else 'pageable'}"
            found[name] = 5 * BATCH / seconds(lambda copy=copy: copy(device(), non_blocking=True), 5)
            show(name, found[name], "img/s")
    return found


@part("syncs", 20)
def syncs() -> dict[str, dict[str, int]]:
    """Source lines that make the host wait for the GPU, counted over the 12 steps of the second epoch."""
    if not CUDA:
        show("syncs", "skipped", "needs CUDA")
        return {}
    found = {}
    batches = random_batches(2, 32)

    def epoch(number: int) -> Iterator[Rows]:
        for step in range(12):
            if number == 1 and step == 0:
                torch.cuda.set_sync_debug_mode("warn")
            yield batches[step % 2]
        torch.cuda.set_sync_debug_mode("default")

    for name, amp in (("ce", "bf16"), ("tcs", "bf16"), ("kd", "bf16"), ("tcs", "fp16")):
        backbone, width = make_student()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(backbone, make_method(name, width), epoch, 12, 2, 32, amp=amp)
        waits = [one for one in caught if "synchroniz" in str(one.message).lower()]
        lines = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in waits)
        found[f"{name} {amp}"] = dict(lines)
        note = ", ".join(f"{line} x{count}" for line, count in lines.most_common(6))
        show(f"host waits in 12 steps, {name} {amp}", len(waits), note)
    return found


@part("compile", 110)
def compiled() -> dict[str, Any]:
    """Step rate with torch.compile over the plain one, its first epoch, and its graph breaks."""
    from torch._dynamo.utils import counters

    trainer.COMPILER = os.environ.get("COMPILER") or trainer.COMPILER
    found = {}
    for name in ("tcs",) if SMALL else ("tcs", "ce", "kd"):
        if left() < 70:
            show(f"compile {name}", "skipped", f"{left():.0f} s left")
            continue
        counters.clear()
        plain, fast = rate(name, AMP), rate(name, AMP, compiled=True)
        breaks, frames = dict(counters["graph_break"]), dict(counters["frames"])
        found[name] = fast
        note = f"first epoch {fast['first_epoch_s']:.0f} s, graph breaks {sum(breaks.values())}, frames {frames}"
        show(f"compiled / plain, {name} amp={AMP}", fast["steps_per_s"] / plain["steps_per_s"], note)
        torch._dynamo.reset()
    return found


# Results: CPU against GPU, resumed against whole


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Full float32 in convolutions and products."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@part("agreement", 40)
def agreement() -> dict[str, Any]:
    """Losses of three steps on the device against float32 on the CPU, from the same weights, batches and seeds.

    Only the first loss has a limit: AdamW's first steps have the size of the learning rate whatever the gradient, so
    that rounding shows in the weights.
    """
    found = {}
    batches = random_batches(3, 16, rows=FEW_ROWS)

    def losses(where: str, name: str, amp: str = "no") -> tuple[list[float], dict[str, Tensor]]:
        backbone, width = make_student()
        logged: list[float] = []
        method = make_method(name, width, FEW_ROWS)

        def log(metrics: dict[str, Any]) -> None:
            logged.append(metrics["loss"])

        train(backbone, method, lambda epoch: batches[epoch : epoch + 1], 1, 3, 16, where, amp=amp, log=log)
        return logged, {name: value.detach().float().cpu() for name, value in backbone.state_dict().items()}

    for name in ("ce", "tcs", "tcs-lsh"):
        expected, weights = losses("cpu", name)
        kernels = [key for key, value in weights.items() if value.ndim > 1]
        for amp, limit in {"no": 1e-4, "bf16": 3e-2, "fp16": 1e-2}.items():
            if amp not in PRECISIONS:
                continue
            with without_tf32():
                got, moved = losses(DEVICE, name, amp)
            first = abs(got[0] - expected[0]) / abs(expected[0])
            worst = max(float((moved[key] - weights[key]).norm() / (weights[key].norm() + 1e-6)) for key in kernels)
            found[f"{name} {amp}"] = {"first_loss": first, "worst_kernel": worst}
            note = f"losses {shown(got, 5)} / {shown(expected, 5)}, worst kernel {worst:.2e}, limit <= {limit:g}"
            show(f"{DEVICE} {amp} against cpu fp32, {name}: first loss", first, note, first <= limit)
    return found


@part("resume", 40)
def resume() -> dict[str, Any]:
    """Weights of a run that stopped after two of four epochs and went on, against a run without a break.

    Deterministic runs are equal to the bit; of others, the difference of two whole runs sets the limit.
    """
    found = {}
    trainer.SECONDS_BETWEEN_CHECKPOINTS = -1.0  # a checkpoint after every epoch
    batches = random_batches(4, 16, rows=FEW_ROWS)

    class Stop(Exception):
        """Ends a run early."""

    def weights(path: Path, amp: str, repeatable: bool, stop_after: int = 0, again: bool = False) -> dict[str, Tensor]:
        backbone, width = make_student()
        method = make_method("tcs", width, FEW_ROWS)

        def log(metrics: dict[str, Any]) -> None:
            if stop_after and metrics["epoch"] > stop_after:
                raise Stop

        with contextlib.suppress(Stop), deterministic(repeatable):
            train(
                backbone, method, lambda epoch: batches, 4, 4, 16, amp=amp, ema_decay=0.9, deterministic=repeatable,
                checkpoint=path, resume=again, log=log,
            )  # fmt: skip
        states = {"backbone": backbone.state_dict(), "method": method.state_dict()}
        return {f"{part}.{key}": value.float().cpu() for part, state in states.items() for key, value in state.items()}

    for amp, repeatable in (("no", True), ("bf16", True), ("fp16", False), ("bf16", False)):
        if amp not in PRECISIONS:
            continue
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            whole, twin = (weights(Path(folder) / name, amp, repeatable) for name in ("whole", "twin"))
            weights(Path(folder) / "broken", amp, repeatable, stop_after=2)
            resumed = weights(Path(folder) / "broken", amp, repeatable, again=True)
        difference, noise = (
            max(float((whole[key] - one[key]).abs().max()) for key in whole) for one in (resumed, twin)
        )
        found[f"{amp} deterministic={repeatable}"] = {"difference": difference, "noise": noise}
        limit = max(noise * 3, 0 if repeatable else 1e-4)
        note = f"two whole runs: {noise:.2e}, limit <= {limit:.2g}"
        show(
            f"resumed, amp={amp} deterministic={repeatable}: largest difference", difference, note, difference <= limit
        )
    return found


@part("deterministic", 25)
def deterministic_methods() -> dict[str, str]:
    """Each method with --deterministic: it runs, or PyTorch names the operation that it refuses."""
    found = {}
    for name in ("ce", "tcs", "tcs-lsh", "kd", "simkd"):
        try:
            if name == "simkd":
                backbone, method = make_simkd()
            else:
                backbone, width = make_student()
                method = make_method(name, width, FEW_ROWS)
            batches = random_batches(2, 8, rows=FEW_ROWS)
            with deterministic(True):
                train(backbone, method, lambda epoch, rows=batches: rows, 2, 1, 8, deterministic=True)
            found[name] = "runs"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:160]}"
        show(f"--deterministic {name}", found[name][:60], ok=found[name] == "runs" or "deterministic" in found[name])
    return found


# From an image folder to an exported model


def image_folder() -> Path:
    """Folder of JPEG images with train/, val/ and test/, made once; classes differ in color and in a bar."""
    root = WORK / "images"
    if root.exists():
        return root

    def write(split: str, number: int) -> None:
        label = number % FOLDER_CLASSES
        rng = np.random.default_rng([number, len(split)])
        small = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        small[..., label % 3] //= 1 + label
        small[2 : 4 + label % 6, 2:10] = 20 * label
        smooth = np.asarray(Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = smooth + rng.integers(-12, 12, smooth.shape)
        path = root / split / f"class{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=88)

    counts = {"train": TRAIN_IMAGES, "val": HELD_OUT_IMAGES, "test": HELD_OUT_IMAGES}
    jobs = [(split, number) for split, count in counts.items() for number in range(count)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: write(*job), jobs))
    return root


def random_weights(name: str, seed: int, **options: Any) -> Path:
    """Safetensors file with random weights of a timm model, made once."""
    path = WORK / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(seed)
        state = timm.create_model(name, **options).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def teacher_and_weights() -> tuple[str, Path]:
    """DINOv2 where TCS_EDGE_SHARED has it, else a teacher with random weights."""
    shared = os.environ.get("TCS_EDGE_SHARED")
    if shared and not SMALL:
        path = Path(shared) / "weights" / "vit_small_patch14_dinov2_saliency.fp16.safetensors"
        if path.exists():
            return "dinov2-small", path
    return f"timm/{TEACHER}", random_weights(TEACHER, 0, num_classes=0)


def options_of_folder() -> dict[str, Any]:
    """Options of a run on the image folder, by their names in CompressConfig."""
    teacher, weights = teacher_and_weights()
    return {
        "target": "x86-avx2",
        "data": image_folder(),
        "teacher": teacher,
        "teacher_weights": weights,
        "teacher_img_size": SIZE,
        "student": STUDENT,
        "student_init": str(random_weights(STUDENT, 1)),
        "img_size": SIZE,
        "device": DEVICE,
        "workers": WORKERS,
        "cache_dir": WORK / "cache",
    }


def prepared(**options: Any) -> Prepared:
    """Images, student and resolved options of a run on the image folder; needs onnx."""
    from tcs_edge.project.read import read_options
    from tcs_edge.stages.prepare import list_students

    given = options_of_folder() | {"batch_size": FOLDER_BATCH, "epochs": 2} | options
    return list_students(read_options(given, None, None)).prepared()


def trained(ready: Prepared, folder: Path) -> tuple[nn.Module, dict[str, Any], dict[str, float]]:
    """Trained and folded student, metrics of its last epoch, and the seconds of targets and training."""
    from tcs_edge.stages.train import build_backbone, teach, train_student

    backbone = build_backbone(ready)
    started = time.perf_counter()
    taught = teach(ready, backbone)
    made = time.perf_counter()
    files = TrainingFiles(folder / "state", folder / "metrics.jsonl", folder / "selection.json")
    model = train_student(ready, files, backbone, taught)
    times = {"targets_s": made - started, "training_s": time.perf_counter() - made}
    return model, json.loads(files.metrics.read_text().splitlines()[-1]), times


@part("intake", 30)
def intake() -> float:
    """Time to list, decode and hash the images of a folder."""
    started = time.perf_counter()
    image_folder()
    made = time.perf_counter()
    ready = prepared()
    took = time.perf_counter() - made
    count = TRAIN_IMAGES + 2 * HELD_OUT_IMAGES
    show("images made", count, f"{made - started:.1f} s")
    minutes = 1.28e6 * took / count / 60
    show("prepare", count / took, f"img/s on {os.cpu_count()} cores; 1.28 M images: {minutes:.0f} min")
    show("resolved workers, threads", f"{ready.options.workers}, {ready.options.threads}")
    return took


@part("teacher", 45)
def teacher_rates() -> dict[str, float]:
    """Rate of the teacher's pass against the bare network, and its features on the device against the CPU."""
    ready = prepared()
    options, found = ready.options, {}
    images = replace(ready.images, val=ready.images.val.subset([]))
    info = describe_teacher(options.teacher, options.teacher_weights, options.teacher_img_size)
    module = build_teacher(info, device()).module
    noise = torch.randn(32, 3, info.preprocess.img_size, info.preprocess.img_size)

    def bare(name: str, batch: int, amp: bool, repeat: int) -> None:
        inputs = noise.repeat(batch // 32, 1, 1, 1).to(device())
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
            seconds(lambda: module(inputs), 3)
            found[name] = repeat * batch / seconds(lambda: module(inputs), repeat)
        show(f"bare teacher {name}", found[name], "img/s")

    bare("fp32, batch 32", 32, False, 3 if SMALL else 30)  # as the pass runs it
    for tf32 in (False, True) if CUDA else ():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        bare(f"fp32 TF32={tf32}, batch 256", 256, False, 30)
    torch.backends.cuda.matmul.allow_tf32 = False
    for batch in (32, 256):
        bare(f"bf16, batch {batch}", batch, True, 3 if SMALL else 20)
    with torch.inference_mode():
        full = module(noise.to(device())).float()
        with torch.autocast(DEVICE, torch.bfloat16):
            low = module(noise.to(device())).float()
        on_cpu = build_teacher(info, "cpu").module(noise[:4])
    cosine = torch.nn.functional.cosine_similarity(full, low, dim=1).min().item()
    show("  bf16 features against fp32: smallest cosine", cosine, "on noise")
    difference = float((on_cpu - full[:4].cpu()).norm() / full[:4].norm())
    show(f"teacher on {DEVICE} against cpu: relative difference", difference, "limit < 0.01", difference < 1e-2)
    for workers in (0,) if SMALL else (None, 8, 15):
        with tempfile.TemporaryDirectory(dir=WORK) as cache:
            started = time.perf_counter()
            teacher_features(
                images, options.teacher, options.teacher_weights, options.teacher_img_size, Path(cache),
                workers=workers, device=DEVICE,
            )  # fmt: skip
            speed = len(images.train) / (time.perf_counter() - started)
        found[f"pass, workers={workers}"] = speed
        shares = {name: speed / found[name] for name in ("fp32, batch 32", "bf16, batch 256")}
        note = ", ".join(f"{share:.0%} of {name}" for name, share in shares.items())
        show(f"teacher pass, workers={workers}", speed, f"img/s, {note}")
    return found


@part("feed", 40)
def feed() -> dict[str, float]:
    """Rate of the training loader, from files and from decoded images, against the rate of training."""
    ready = prepared()
    augment, found = Augment("crop-flip", ready.preprocess), {}
    sources = {"files": ready.images.train, "decoded": keep_decoded(ready.images.train, ready.preprocess)}
    counts = (0, 1) if SMALL else (4, 15)
    for source, images in sources.items():
        for workers in counts:
            loader = training_loader(images, augment, FOLDER_BATCH, 0, 0, workers=workers)
            started, count, first = time.perf_counter(), 0, None
            for pixels, labels, _ in loader:
                pixels.to(device(), non_blocking=True)
                count += len(labels)
                first = first or time.perf_counter() - started
            sync()
            found[f"{source} {workers}"] = speed = count / (time.perf_counter() - started)
            note = f"img/s to the device, first batch after {first:.2f} s"
            show(f"training loader, {source}, {workers} workers", speed, note)
    if "rates" in RESULTS.get("rates", {}):
        speed = RESULTS["rates"]["rates"][AMP]["tcs"]["images_per_s"]
        note = f"training takes {speed:.0f} img/s; above 1 the GPU waits"
        show("training rate / loader rate (files, most workers)", speed / found[f"files {counts[-1]}"], note)
    return found


@part("whole", 60)
def whole() -> dict[str, Any]:
    """Stages from the image folder to ONNX: all labels, then five per class with the rest unlabeled."""
    runs = {"labeled, bf16": {"amp": "bf16"}, "5 shots, rest unlabeled": {"shots": 5, "rest_unlabeled": True}}
    found = {}
    for name, options in runs.items():
        try:
            ready = prepared(**options)
            folder = Path(tempfile.mkdtemp(dir=WORK))
            model, last, times = trained(ready, folder)
            where = next(model.parameters()).device
            speed = len(ready.images.train) / last["seconds"]
            found[name] = times | last
            note = (
                f"targets {times['targets_s']:.1f} s, training {times['training_s']:.1f} s, {speed:.0f} img/s at last"
            )
            show(f"whole, {name}: validation accuracy", last["val_accuracy"], note)
            show("  weights of the folded model are on", where, ok=where.type == "cpu")
            check_onnx(model, ready, folder / "model.onnx")
        except ModuleNotFoundError:
            raise
        except Exception as error:
            found[name] = failed(f"whole, {name}", error)
    return found


def check_onnx(model: nn.Module, ready: Prepared, path: Path) -> None:
    """Export a trained model, and compare its logits of eight images in ONNX Runtime."""
    try:
        from tcs_edge.export.onnx import export_onnx
        from tcs_edge.runtimes.onnxruntime import OrtRunner
    except ModuleNotFoundError as error:
        skipped("  ONNX export", error)
        return
    preprocess = ready.preprocess
    export_onnx(model, path, preprocess.img_size, labels=ready.images.classes, preprocess=preprocess.to_json())
    pixels = np.stack([preprocess(ready.images.test.image(row)) for row in range(8)])
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels)).numpy()
    difference = float(np.abs(logits - OrtRunner(path, 4).run(pixels)).max())
    show("  ONNX against PyTorch: largest difference of logits", difference, "limit < 0.001", difference < 1e-3)


@part("wrapped", 25)
def wrapped() -> float:
    """One process under DistributedDataParallel; cached targets must not be among the buffers it broadcasts."""
    distributed = torch.distributed
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        backend = "nccl" if CUDA else "gloo"
        distributed.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        try:
            backbone, width = make_student()
            trainee = trainer.Trainee(backbone, make_method("tcs", width)).to(device())
            parallel = nn.parallel.DistributedDataParallel(trainee, device_ids=[0] if CUDA else None)
            losses = parallel(Batch(*random_batches(1, 8, DEVICE)[0]))
            losses.total.backward()
            show("loss under DDP", float(losses.total.detach()), ok=bool(losses.total.isfinite()))
            broadcast, state = (
                sum(one.numel() * one.element_size() for one in tensors) / 1e6
                for tensors in (parallel.modules_buffers, trainee.state_dict().values())
            )
            note = f"MB for {ROWS} images, limit: {state:.1f} MB of a checkpoint"
            show("buffers broadcast before every forward pass", broadcast, note, broadcast < state)
            return broadcast
        finally:
            distributed.destroy_process_group()


@part("cli", 100)
def cli() -> list[int]:
    """`tcs-edge compress` in a process of its own: interrupted after an epoch, then resumed to the end."""
    missing = [name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None]
    if missing:
        show("compress", "skipped", f"not installed: {', '.join(missing)}")
        return []
    run = WORK / "run"
    options = options_of_folder() | {"epochs": 3, "amp": AMP, "precision": "fp32", "out": run}
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    compress = [sys.executable, "-m", "tcs_edge", "compress"]
    first = subprocess.Popen([*compress, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    give_up = time.monotonic() + 90
    while first.poll() is None and time.monotonic() < give_up and not has_text(run / "metrics.jsonl"):
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    show("compress, interrupted: exit code", first.returncode, last_line(output), first.returncode in (0, 130))
    if first.returncode != 130:
        return [first.returncode]
    rest = [*compress, "--resume", str(run)]
    second = subprocess.run(rest, capture_output=True, text=True, timeout=max(30, left()))
    note = last_line(second.stdout + second.stderr)
    show("compress --resume: exit code", second.returncode, note, second.returncode == 0)
    return [first.returncode, second.returncode]


def has_text(path: Path) -> bool:
    """True for a file that is there and not empty."""
    return path.exists() and bool(path.read_text().strip())


def last_line(text: str) -> str:
    """The end of a program's output, shortened."""
    return (text.strip().splitlines() or [""])[-1][:150]


# The run of all parts


def main() -> int:
    """Run the parts that were asked for; exit code 1 when a figure failed."""
    for one in PARTS:
        if WANTED and one.name not in WANTED:
            continue
        if left() < one.needs_s:
            show(one.name, "skipped", f"{left():.0f} s left, needs {one.needs_s:.0f} s")
            continue
        print(f"-- {one.name} ({elapsed():.0f} s)", flush=True)
        start = datetime.datetime.now()
        try:
            RESULTS[one.name] = one.run()
        except ModuleNotFoundError as error:
            RESULTS[one.name] = skipped(one.name, error)
        except Exception as error:
            RESULTS[one.name] = failed(one.name, error)
        SPANS.append(Span(one.name, start, datetime.datetime.now()))
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
        save()
    return summarize()


def save() -> None:
    """Write all results so far."""
    document = {
        "schema_version": 1,
        "results": RESULTS,
        "figures": [vars(figure) for figure in FIGURES],
        "parts": [vars(span) for span in SPANS],
    }
    (OUT / "gpu_check.json").write_text(json.dumps(document, indent=1, default=str))


def summarize() -> int:
    """Print GPU utilization by part and the failed figures; return the exit code."""
    print("\n== summary")
    samples = list(utilization(OUT / "util.csv"))
    for span in SPANS:
        inside = [use for at, use in samples if span.start <= at <= span.end]
        if inside:
            took = (span.end - span.start).total_seconds()
            mean, median = statistics.mean(inside), statistics.median(inside)
            print(f"GPU utilization in {span.part:16} mean {mean:5.1f} %  median {median:5.1f} %  ({took:.1f} s)")
    failures = [figure for figure in FIGURES if figure.ok is False]
    print(f"{len(FIGURES)} figures, {len(failures)} failed, {elapsed():.0f} s")
    for figure in failures:
        print("FAIL", figure.name, figure.value, figure.note[:200])
    return 1 if failures else 0


def utilization(path: Path) -> Iterator[tuple[datetime.datetime, float]]:
    """Samples of nvidia-smi: time, and utilization in per cent; none on a machine without it."""
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            stamp, use, _ = (field.strip() for field in line.split(","))
            yield datetime.datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f"), float(use)


if __name__ == "__main__":
    sys.exit(main())
