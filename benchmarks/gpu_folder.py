"""Parts of the GPU check from an image folder to an exported model."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from gpu_figures import (
    AMP,
    CUDA,
    DEVICE,
    FOLDER_BATCH,
    FOLDER_CLASSES,
    HELD_OUT_IMAGES,
    RESULTS,
    SIZE,
    SMALL,
    STUDENT,
    TEACHER,
    TRAIN_IMAGES,
    WORK,
    WORKERS,
    failed,
    left,
    part,
    seconds,
    show,
    skipped,
    sync,
)
from gpu_networks import device
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tcs_edge.data.augment import Augment
from tcs_edge.data.cache import keep_decoded
from tcs_edge.data.loader import TrainingBatches
from tcs_edge.teachers.features import teacher_features
from tcs_edge.teachers.load import build_teacher, describe_teacher
from tcs_edge.training.distill import TrainingFiles

if TYPE_CHECKING:
    from tcs_edge.stages.prepare import Prepared


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
    """Rate of the training loader, from files and from decoded images, against the rate of training.

    Views of decoded images are computed in the workers, and on the device.
    """
    ready = prepared()
    augment, found = Augment("crop-flip", ready.preprocess), {}
    decoded = keep_decoded(ready.images.train, ready.preprocess)
    sources = {"files": (ready.images.train, False), "decoded": (decoded, False), "windows": (decoded, True)}
    counts, firsts = (0, 1) if SMALL else (4, 15), {}
    for source, (images, on_device) in sources.items():
        for workers in counts:
            loader = TrainingBatches(
                images, augment, FOLDER_BATCH, 0, workers, device=device(), persistent=False, on_device=on_device
            ).of_epoch(0)
            started, count, first = time.perf_counter(), 0, None
            for pixels, labels, _ in loader:
                firsts.setdefault(source, pixels)
                count += len(labels)
                first = first or time.perf_counter() - started
            sync()
            found[f"{source} {workers}"] = speed = count / (time.perf_counter() - started)
            note = f"img/s to the device, first batch after {first:.2f} s"
            show(f"training loader, {source}, {workers} workers", speed, note)
    apart = (firsts["windows"] - firsts["decoded"]).abs() * 255 * min(ready.preprocess.std)
    note = f"largest {float(apart.max()):.1f}; of 255, limit of the mean <= 0.1"
    mean = float(apart.mean())
    show("views of the device against those of the workers", mean, note, mean <= 0.1)
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
