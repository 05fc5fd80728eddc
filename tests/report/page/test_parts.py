"""Parts of a report: confusions, sizes by layer, thumbnails, numbers."""

from __future__ import annotations

import base64
import io

import numpy as np
import onnx
import pytest
from PIL import Image

from tcs_edge.errors import DataError
from tcs_edge.report.page.confusion import LARGEST_MATRIX, confusion
from tcs_edge.report.page.environment import counted, listed, megabytes, percent, shown_name, significant
from tcs_edge.report.page.images import opener, thumbnail
from tcs_edge.report.page.layers import sizes_by_layer
from tcs_edge.report.page.names import columns, cut_to, longest_word
from tcs_edge.runs.documents import PredictionsRecord


def predictions(labels, predicted) -> PredictionsRecord:
    names = tuple(map(str, range(len(labels))))
    return PredictionsRecord(names=names, labels=labels, predicted=predicted, confidences=(0.5,) * len(labels))


def test_the_matrix_counts_every_image_once():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, (2, 200))
    found = confusion(predictions(tuple(labels.tolist()), tuple(predicted.tolist())), 5)
    expected = np.zeros((5, 5), int)
    np.add.at(expected, (labels, predicted), 1)
    assert np.array_equal(np.array(found.matrix), expected)
    assert [recall.label for recall in found.recalls] == np.argsort(
        expected.diagonal() / expected.sum(axis=1), kind="stable"
    ).tolist()
    off = expected.copy()
    np.fill_diagonal(off, 0)
    assert [pair.count for pair in found.pairs] == sorted(off[off > 0].tolist(), reverse=True)[:15]


def test_images_without_finite_logits_are_counted_separately():
    found = confusion(predictions((0, 0, 1), (0, None, 0)), 2)
    assert found.matrix == ((1, 0), (1, 0))
    assert found.unanswered == 1
    assert [(recall.label, recall.correct, recall.total) for recall in found.recalls] == [(1, 0, 1), (0, 1, 2)]


def test_too_many_classes_have_no_matrix():
    assert confusion(predictions((0,), (1,)), LARGEST_MATRIX + 1).matrix is None


def test_layer_sizes_sum_to_the_bytes_of_all_weights(onnx_path):
    sizes = sizes_by_layer(onnx_path)
    tensors = onnx.load(onnx_path).graph.initializer
    assert sizes.total_bytes == sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in tensors)
    assert sum(layer.bytes for layer in sizes.largest) + sizes.other_bytes == sizes.total_bytes
    assert len({layer.name for layer in sizes.largest}) == len(sizes.largest)


def test_weight_and_bias_belong_to_one_layer(tmp_path):
    tensors = [
        onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in [("0.conv.weight", (8, 3, 3, 3)), ("0.conv.weight_bias", (8,)), ("1.weight", (2, 8))]
    ]
    graph = onnx.helper.make_graph([], "g", [], [], initializer=tensors)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx.rejected", format="protobuf")
    sizes = sizes_by_layer(tmp_path / "model.onnx.rejected")
    assert [(layer.name, layer.bytes, layer.shape) for layer in sizes.largest] == [
        ("conv", 4 * (216 + 8), (8, 3, 3, 3)),
        ("classifier", 64, (2, 8)),
    ]


def test_a_file_that_is_not_onnx_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"wwwwwwww")
    with pytest.raises(DataError, match=r"model\.onnx"):
        sizes_by_layer(tmp_path / "model.onnx")


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_large_images_shrink_and_small_ones_keep_every_pixel():
    large = thumbnail(lambda name: Image.new("RGB", (1000, 500), (9, 90, 200)), "x")
    assert large.startswith("data:image/jpeg")
    assert decoded(large).size == (160, 80)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))
    tiny = thumbnail(lambda name: noise, "x")
    assert tiny.startswith("data:image/png")
    assert np.array_equal(np.asarray(decoded(tiny)), np.asarray(noise))


def test_a_missing_image_has_no_thumbnail(manifest, photos):
    from tcs_edge.runs.schema import Manifest

    open_image = opener(Manifest.model_validate(manifest), photos)
    assert open_image is not None
    assert thumbnail(open_image, "test/red/none.png") is None
    assert thumbnail(open_image, "test/red/01.png")


def test_names_and_numbers_are_formatted():
    assert shown_name("a<b\n") == "<bdi>a&lt;b\\x0a</bdi>"
    assert percent(0.98765) == "98.77 %"
    assert percent(None) == significant(None) == "–"
    assert significant(0.012345, "ms") == "0.0123 ms"
    assert (megabytes(2_460_000), megabytes(51_200)) == ("2.46 MB", "51.2 kB")
    assert (megabytes(812_345_678), megabytes(1_812_345_678)) == ("812.35 MB", "1812.35 MB")
    assert (megabytes(1), megabytes(0)) == ("1 byte", "0 bytes")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00005, "5e-05"), (0.0506, "0.0506"), (0.05, "0.05"), (9.999, "10"), (999.7, "1000"), (1234.5, "1234"),
        (12345.6, "12,346"), (3.4e6, "3,400,000"), (0.0, "0"), (-1234.5, "-1234"),
    ],
)  # fmt: skip
def test_numbers_from_ten_thousandths_to_millions_have_no_exponent(value, shown):
    assert significant(value) == shown


def test_counts_agree_with_their_noun():
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(12_000, "class", "classes") == "12,000 classes"
    assert (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == ("a", "a and b", "a, b and c")


@pytest.mark.parametrize(
    ("name", "width"),
    [("longsleeve", 10), ("短い", 4), ("كلب", 3), ("e\u0301", 1), ("🐶", 2), ("👩\u200d👧", 4), ("", 0)],
)
def test_the_width_of_a_name_counts_columns(name, width):
    assert columns(name) == width


@pytest.mark.parametrize("most", range(1, 12))
@pytest.mark.parametrize("name", ["mobilenetv4", "日本語の名前", "e\u0301" * 20, "👩\u200d👧" * 5])
def test_a_cut_name_fits_and_ends_with_an_ellipsis(name, most):
    cut = cut_to(name, most)
    assert columns(cut) <= most
    assert cut.endswith("…") or cut == name
    assert not cut.removesuffix("…").endswith("\u200d")


def test_the_longest_word_ends_at_separators():
    assert longest_word(["a_bc.defgh/ijklmno", "kl mn-op"]) == 7
    assert longest_word(["IMG_20.png"]) == 6
    assert longest_word([]) == 0
