"""A teacher from an ONNX file: its features equal a direct call of onnxruntime, and open questions are errors."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tcs_edge import compress
from tcs_edge.data.images import ImageSet, Split
from tcs_edge.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from tcs_edge.errors import DataError
from tcs_edge.project.read import read_options
from tcs_edge.runs.licenses import licenses_of
from tcs_edge.teachers import onnx_teacher
from tcs_edge.teachers.features import Features
from tcs_edge.teachers.source import describe, images_at_hand, run_features

SIZE = 16  # pixels
IMAGENET = {"teacher_mean": "0.485,0.456,0.406", "teacher_std": "0.229,0.224,0.225"}
HALVES = {"teacher_mean": "0.5", "teacher_std": "0.5"}
CPU = torch.device("cpu")


@pytest.fixture
def options_of(resolved: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """options_of(path, teacher_output="map"): options of a run with the teacher in `path`."""
    return lambda path, **given: resolved(
        data="photos", teacher_onnx=path, cache_dir=tmp_path / "cache", workers=0, student_init="random", **given
    )


@pytest.fixture
def features(image_set: ImageSet, options_of: Callable[..., Any]) -> Callable[..., Features]:
    return lambda path, **given: run_features(image_set, options_of(path, **given), CPU)


def direct(
    path: Path, split: Split, scaled: Callable[[np.ndarray], np.ndarray], output: str = "embedding"
) -> np.ndarray:
    """Features of each image by a call of its own, with resizing and normalization written out here."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    rows = []
    for index in range(len(split)):
        pixels = np.asarray(split.image(index).resize((SIZE, SIZE), Preprocess(SIZE).resampling))
        values = scaled(pixels).astype(
            {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16}.get(given.type, np.float32)
        )
        values = values.transpose(2, 0, 1) if given.shape[-3] == 3 else values
        if len(given.shape) == 4:
            values = values[None]
            values = np.repeat(values, given.shape[0] if isinstance(given.shape[0], int) else 1, axis=0)
        rows.append(session.run([output], {given.name: values})[0][0])
    return np.stack(rows)


def normalized(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD


def raw(pixels: np.ndarray) -> np.ndarray:
    return pixels


@pytest.mark.parametrize(
    ("model", "options", "scaled"),
    [
        ({}, IMAGENET, normalized),
        ({"shape": (1, 3, 16, 16)}, IMAGENET, normalized),
        ({"shape": (3, 3, 16, 16)}, IMAGENET, normalized),
        ({"dtype": "float16"}, IMAGENET, normalized),
        ({"shape": ("n", 16, 16, 3), "channels_last": True}, IMAGENET, normalized),
        ({"shape": ("n", 3, "h", "w")}, IMAGENET | {"teacher_img_size": SIZE}, normalized),
        ({}, {"teacher_mean": "0", "teacher_std": "1"}, lambda pixels: pixels / 255),
        ({}, {"teacher_mean": "0", "teacher_std": "1/255"}, raw),
        ({}, {"teacher_mean": 0.5, "teacher_std": (0.5, 0.5, 0.5)}, lambda pixels: pixels / 127.5 - 1),
        ({"metadata": {"Image.NominalPixelRange": "NominalRange_0_255"}}, {}, raw),
        ({"metadata": {"Image.NominalPixelRange": "Normalized_1_1"}}, {}, lambda pixels: pixels / 127.5 - 1),
        ({"metadata": {"preprocess": json.dumps(Preprocess(SIZE).to_json())}}, {}, normalized),
        ({"metadata": {"preprocess": "imagenet"}}, IMAGENET, normalized),
        ({"metadata": {"preprocess": '{"mean": [0.5, 0.5, 0.5]}'}}, IMAGENET, normalized),
        ({"dtype": "uint8"}, {}, raw),
        ({"dtype": "uint8", "shape": (4, 16, 16, 3), "channels_last": True}, {}, raw),
        (
            {"dtype": "uint8", "shape": ("n", "h", "w", 3), "channels_last": True},
            {"teacher_img_size": SIZE},
            raw,
        ),
        ({"dtype": "uint8", "shape": ("h", "w", 3)}, {"teacher_img_size": SIZE}, raw),
        ({"shape": (3, 16, 16)}, IMAGENET, normalized),
        ({"dtype": "uint8", "shape": (3, "h", "w")}, {"teacher_img_size": SIZE}, raw),
    ],
)  # fmt: skip
def test_features_equal_a_direct_call(make_onnx, features, image_set, model, options, scaled):
    path = make_onnx(**model)
    found = features(path, **options)
    for split, rows in ((image_set.train, found.train), (image_set.val, found.val)):
        expected = direct(path, split, scaled)
        np.testing.assert_allclose(rows, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    assert found.meta.license == f"unknown ({path.name})"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_layout_that_the_file_leaves_open_is_an_option(make_onnx, features, image_set, layout):
    path = make_onnx(shape=("n", "a", "b", "c"), channels_last=layout == "nhwc", dtype="uint8")
    fixed = make_onnx("fixed.onnx", shape=("n", 3, 16, 16) if layout == "nchw" else ("n", 16, 16, 3),
                      channels_last=layout == "nhwc", dtype="uint8")  # fmt: skip
    found = features(path, teacher_layout=layout, teacher_img_size=SIZE)
    np.testing.assert_array_equal(found.train, features(fixed).train)


@pytest.mark.parametrize("output", ["map", "map_last"])
def test_a_map_is_averaged_whatever_its_layout(make_onnx, features, image_set, output):
    path = make_onnx(outputs=("embedding", "map", "map_last"))
    found = features(path, teacher_output=output, **IMAGENET)
    expected = direct(path, image_set.train, normalized) / 2
    np.testing.assert_allclose(found.train, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("token", [0, 3])
def test_a_token_of_a_sequence_is_the_feature_vector(make_onnx, features, image_set, token):
    path = make_onnx(outputs=("tokens",), tokens=True)
    found = features(path, teacher_output=f"tokens[{token}]", **IMAGENET)
    expected = direct(path, image_set.train, normalized, "tokens")[:, token]
    np.testing.assert_allclose(found.train, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_features_are_cached_by_content_and_preprocessing(make_onnx, features, options_of, image_set):
    path = make_onnx(outputs=("embedding", "map"))
    first = features(path, teacher_output="embedding", **IMAGENET)
    assert (
        first.images_computed
        == 27
        == images_at_hand(image_set, options_of(path, teacher_output="embedding", **IMAGENET))
    )
    renamed = path.rename(path.with_name("renamed.onnx"))
    again = features(renamed, teacher_output="embedding", **IMAGENET)
    assert again.images_computed == 0
    np.testing.assert_array_equal(again.train, first.train)
    assert features(renamed, teacher_output="embedding", **HALVES).images_computed == 27
    assert features(renamed, teacher_output="map", **IMAGENET).images_computed == 27
    other = make_onnx(outputs=("embedding", "map"), seed=1)
    assert features(other, teacher_output="embedding", **IMAGENET).images_computed == 27


def test_external_data_is_a_part_of_the_cache_key(make_onnx, features, tmp_path):
    paths = []
    for seed in (0, 1):
        model = onnx.load(make_onnx(seed=seed))
        folder = tmp_path / str(seed)
        folder.mkdir()
        onnx.save(model, folder / "t.onnx", save_as_external_data=True, location="t.data", size_threshold=0)
        paths.append(folder / "t.onnx")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    first, second = (features(path, **IMAGENET) for path in paths)
    assert second.images_computed == 27
    assert not np.allclose(first.train, second.train)


def test_the_session_is_not_in_memory_after_the_pass(make_onnx, features, monkeypatch):
    made: list[weakref.ref[Any]] = []

    class Watched(onnx_teacher.OnnxFeatures):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(weakref.ref(self))

    monkeypatch.setattr(onnx_teacher, "OnnxFeatures", Watched)
    features(make_onnx(), **IMAGENET)
    gc.collect()
    assert [reference() for reference in made] == [None]


@pytest.mark.parametrize(
    ("device", "able", "used"),
    [
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cuda", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_the_session_has_the_threads_of_the_run_and_the_gpu_if_there_is_one(
    make_onnx, options_of, monkeypatch, device, able, used
):
    made: list[tuple[int, list[str]]] = []
    info = describe(options_of(make_onnx(), **IMAGENET))

    def session(path: str, options: Any, providers: list[str]) -> Any:
        made.append((options.intra_op_num_threads, providers))

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: able)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    onnx_teacher.open_onnx_teacher(info, torch.device(device))
    assert made == [(3, used)]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"scale": np.nan}, "give NaN or Inf"),
        ({"scale": 1e9}, "above the fp16 limit"),
        ({"scale": 0.0}, "are the same for different images"),
        ({"scale": 1e-10}, "fp16 does not hold their differences"),
        ({"offset": 6e4}, "fp16 does not hold their differences"),
    ],
)
def test_unusable_features_name_the_options_of_the_file(make_onnx, features, model, message):
    with pytest.raises(DataError, match=f"{message}.* Check --teacher-mean, --teacher-std and --teacher-output"):
        features(make_onnx(**model), **IMAGENET)


FIXED = {"teacher_mean": "0", "teacher_std": "1"}


@pytest.mark.parametrize(
    ("model", "options", "code", "words"),
    [
        ({"shape": ("n", 3, "h", "w")}, FIXED, 2, ["images of any size", "--teacher-img-size"]),
        ({}, FIXED | {"teacher_img_size": 32}, 2, ["16 px only, got 32"]),
        ({}, {}, 2, ["does not state their mean and std", "--teacher-mean"]),
        ({}, {"teacher_mean": "0.5"}, 2, ["one of the two is missing"]),
        ({}, {"teacher_mean": "123.7,116.3,103.5", "teacher_std": "1"}, 2, ["pixels in 0..1", "divide"]),
        ({}, {"teacher_mean": "0.5", "teacher_std": "0"}, 2, ["teacher_std", "above 0"]),
        ({}, {"teacher_mean": "half", "teacher_std": "1"}, 2, ["teacher_mean", "one number, or three"]),
        ({"dtype": "uint8"}, FIXED, 2, ["uint8", "Leave --teacher-mean and --teacher-std out"]),
        ({"metadata": {"Image.NominalPixelRange": "Normalized_0_1"}}, FIXED, 2, ["states mean and std"]),
        ({"metadata": {"Image.BitmapPixelFormat": "Bgr8"}}, FIXED, 2, ["B, G, R"]),
        ({"metadata": {"preprocess": "{"}}, FIXED, 3, ["is not JSON"]),
        ({"metadata": {"preprocess": '{"schema_version": 99}'}}, FIXED, 3, ["schema_version is 99"]),
        ({"shape": ("n", "a", "b", "c")}, FIXED, 2, ["may be nchw or nhwc", "--teacher-layout"]),
        ({}, FIXED | {"teacher_layout": "nhwc"}, 2, ["is nchw, not nhwc"]),
        ({"shape": ("n", 1, 16, 16)}, FIXED, 3, ["three channels"]),
        ({"shape": ("n", 3, 16, 20)}, FIXED, 3, ["16 x 20", "square"]),
        ({"shape": (10**6, 3, 16, 16)}, FIXED, 3, ["1000000 images of 16 px at a time"]),
        ({"shape": (1, 3, 10**6, 10**6)}, FIXED, 3, ["1000000 pixels, above 4096"]),
        (
            {"outputs": ("embedding", "map")}, FIXED, 2,
            ["2 outputs", "embedding (n, 8)", "map (n, 8, 4, 4)", "--teacher-output"],
        ),
        ({}, FIXED | {"teacher_output": "embeding"}, 2, ["Did you mean embedding"]),
        ({"outputs": ("tokens",), "tokens": True}, FIXED, 2, ["tokens is (2, 8, 16)", "tokens[0]"]),
        ({"outputs": ("tokens",), "tokens": True}, FIXED | {"teacher_output": "tokens[8]"}, 2, ["without a token 8"]),
        ({}, FIXED | {"teacher_output": "embedding[0]"}, 2, ["without a token 0", "Pass --teacher-output embedding"]),
        ({"outputs": ("cube",), "cube": True}, FIXED, 2, ["cube is (2, 8, 8, 8)", "--teacher-features"]),
        ({}, FIXED | {"teacher": "dinov2"}, 2, ["Leave --teacher out"]),
        ({}, FIXED | {"method": "simkd"}, 2, ["simkd needs feature maps", "tcs, tcs-paper, kd, dkd"]),
        ({}, FIXED | {"teacher_features": "f.npz"}, 2, ["two teachers"]),
    ],
)  # fmt: skip
def test_what_neither_file_nor_options_state_is_one_line(cli, tiny, make_onnx, tmp_path, model, options, code, words):
    own = {"teacher": None, "teacher_weights": None, "teacher_img_size": None, "cache_dir": tmp_path / "cache"}
    result = cli(*tiny(**own | {"teacher_onnx": make_onnx(**model)} | options), "--out", tmp_path / "run")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]
    assert [word for word in words if word not in line] == [], line
    assert not (tmp_path / "run").exists()


def test_an_online_teacher_needs_a_registered_one(cli, tiny, make_onnx):
    arguments = tiny(teacher=None, teacher_weights=None, teacher_onnx=make_onnx(), method="kd", **FIXED)
    result = cli(*arguments, "--online-teacher")
    assert result.exit_code == 2
    assert "Leave --online-teacher out" in result.stderr


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("none.onnx", 4, "missing or not a regular file"),
        (".", 2, "is a folder"),
        ("text.onnx", 3, "cannot be read as ONNX"),
    ],
)
def test_a_file_that_is_no_model_is_one_line(cli, tiny, tmp_path, place, code, words):
    (tmp_path / "text.onnx").write_text("not a model")
    own = {"teacher": None, "teacher_weights": None, "teacher_img_size": None}
    result = cli(*tiny(**own, teacher_onnx=tmp_path / place), "--out", tmp_path / "run")
    assert (result.exit_code, words in result.stderr.splitlines()[-1]) == (code, True), result.output


def test_an_option_of_an_onnx_file_without_one_is_refused(cli, tiny):
    result = cli(*tiny(teacher_output="embedding"))
    assert result.exit_code == 2
    assert "Pass --teacher-onnx too" in result.stderr


def test_the_plan_times_the_file_and_downloads_nothing(cli, tiny, make_onnx, tmp_path):
    own = {"teacher": None, "teacher_weights": None, "teacher_img_size": None, "cache_dir": tmp_path / "cache"}
    result = cli(*tiny(**own, teacher_onnx=make_onnx(), **FIXED), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["downloads"] == []
    assert "tiny.onnx, 0 of 96 images are cached" in next(s["what"] for s in plan["stages"] if s["name"] == "teacher")


def test_a_run_names_its_file_and_can_be_repeated_from_elsewhere(
    photos, make_onnx, tmp_path, short_training, monkeypatch
):
    make_onnx()
    monkeypatch.chdir(tmp_path)
    run = compress(
        photos, target="raspberrypi4", teacher_onnx="tiny.onnx", teacher_mean=0.5, teacher_std=(0.5, 0.5, 0.5),
        student="lcnet_050", student_init="random", img_size=32, epochs=1, batch_size=12, threads=1, workers=0,
        cache_dir="cache", out="run", quiet=True,
    )  # fmt: skip
    teacher = run.manifest.teacher
    assert (teacher.name, teacher.license, teacher.source) == ("tiny.onnx", "unknown (tiny.onnx)", "file tiny.onnx")
    assert str(licenses_of(run.manifest)[0]).startswith("teacher tiny.onnx: unknown (tiny.onnx)")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = read_options({}, None, tmp_path / "run")
    assert again.teacher_mean == again.teacher_std == (0.5, 0.5, 0.5)
    assert again.teacher_onnx.samefile(tmp_path / "tiny.onnx")
