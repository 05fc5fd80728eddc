"""Report of a run: its content for passed runs, failed runs and hostile names."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from tcs_edge.errors import DataError
from tcs_edge.report.page.run import run_page
from tcs_edge.runs.folder import RunFolder

SECTIONS = (
    "verdict", "student", "parity", "confusion", "mistakes", "latency", "size", "training", "coordinates",
    "provenance",
)  # fmt: skip
VOID = {"meta", "link", "img", "br", "input", "wbr"}
MAX_SECONDS, MAX_MB = 10, 5


class Outline(HTMLParser):
    """Tags, ids and text of a page; fails on tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def page(finished):
    return (finished / "reports" / "report.html").read_text(encoding="utf-8")


def test_compress_writes_a_report_with_every_section(page):
    outline = Outline(page)
    assert [name for name in outline.ids() if name in SECTIONS] == list(SECTIONS)
    assert len(set(outline.ids())) == len(outline.ids())
    assert "Verdict: pass" in outline.text


def test_the_report_shows_the_numbers_of_the_manifest(page, manifest):
    text = Outline(page).text
    accuracy = manifest["accuracy"]["onnxruntime"]
    assert f"{100 * accuracy['value']:.2f} %" in text
    assert manifest["dataset"]["fingerprint"] in text
    assert manifest["teacher"]["weights_sha256"] in text
    assert "lcnet_050 was selected by name" in text
    assert all(
        f"{runtime} f32" in text for runtime in manifest["parity"] if manifest["parity"][runtime]["precision"] == "f32"
    )


def test_the_report_links_to_no_other_file(page):
    links = re.findall(r'(?:src|href|url\()="?([^"\s)>]+)', page)
    assert links
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_every_chart_and_image_has_a_text(page):
    tags = Outline(page).tags
    assert [attributes for tag, attributes in tags if tag == "svg" and not attributes.get("aria-label")] == []
    assert [attributes for tag, attributes in tags if tag == "img" and not attributes.get("alt")] == []
    tables = sum(tag == "table" for tag, _ in tags)
    assert tables == sum(tag == "caption" for tag, _ in tags) > 5


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in Outline(page).tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_mistakes_have_thumbnails_if_the_images_are_found(noted_run, pictures):
    root = noted_run()
    assert run_page(root, pictures).count("<img") == 2 + 5
    without = run_page(root)
    assert "<img" not in without
    assert "there are no thumbnails" in without


def test_the_most_confident_mistake_comes_first(noted_run):
    text = Outline(run_page(noted_run(classes=("a", "b", "c")))).text
    mistakes = text[text.index("Most confident mistakes") :]
    assert re.findall(r"test/(\d\d).png", mistakes) == ["20", "15", "10", "05", "00"]
    assert "90.0 % sure" in mistakes


def test_flips_are_listed_by_falling_margin(noted_run):
    text = Outline(run_page(noted_run())).text
    flips = text[text.index("Flips") : text.index("Most confident")]
    assert "2 of 24 images" in flips
    assert re.findall(r"margin ([\d.]+)", flips) == ["1", "0.1"]


def test_the_kept_coordinates_are_listed(noted_run):
    text = Outline(run_page(noted_run())).text
    assert "kept 26 of them" in text
    assert "1–3, 6–10, 12–29." in text


def test_rejected_students_are_listed_with_reasons(noted_run):
    text = Outline(run_page(noted_run())).text
    assert "2 of 3 students meet the limits at 32 px" in text
    assert "9 ms is over the 5 ms limit" in text


NASTY = (
    "<script>alert(1)</script>", "a\"b'c & <b>", "two\nlines", "كلب", "🐶", "../../etc/passwd", "x\u202egpj\x1b[31m",
    "</title></style>", "{{ 7 * 7 }}", "\ud800",
)  # fmt: skip


def test_hostile_class_names_are_escaped(noted_run):
    root = noted_run(classes=NASTY[:-1])
    page = run_page(root)
    outline = Outline(page)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert {"b", "script"} & {tag for tag, _ in outline.tags} == set()
    for shown in (
        "<script>alert(1)</script>",
        "a\"b'c & <b>",
        "two\\x0alines",
        "كلب",
        "🐶",
        "../../etc/passwd",
        "{{ 7 * 7 }}",
    ):
        assert shown in outline.text
    assert page.count("<bdi>") > 50


def test_hostile_file_names_are_escaped(noted_run, pictures):
    names = tuple(f"test/{index}{NASTY[index % 9]}.png" for index in range(24))
    page = run_page(noted_run(names=names), pictures)
    page.encode("utf-8")
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\n" not in re.search(r'class="file"><bdi>(.*?)</bdi>', page).group(1)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "test/../../secret.png"])
def test_an_untrusted_run_folder_shows_no_other_files(noted_run, pictures, name):
    (pictures.parent / "secret.png").write_bytes((pictures / "test" / "00.png").read_bytes())
    page = run_page(noted_run(names=(name,) * 24), pictures)
    assert "<img" not in page


def test_a_failed_run_shows_verdict_and_reasons_first(noted_run):
    outline = Outline(run_page(noted_run(failed="onnxruntime: <b>difference</b>")))
    assert "Verdict: fail" in outline.text
    assert "1 of 2 checks failed" in outline.text
    assert "onnxruntime: <b>difference</b> : 0.5 against 0.1 of max |logit| <i>" in outline.text
    assert outline.text.index("Verdict: fail") < outline.text.index("onnxruntime: <b>")


def test_files_changed_after_validation_fail_the_report(noted_run):
    root = noted_run()
    (root / "export" / "labels.txt").write_text("others\n")
    text = Outline(run_page(root)).text
    assert "Verdict: fail" in text
    assert "export/labels.txt : changed" in text


def test_provenance_has_every_option_and_the_command_to_reproduce(noted_run):
    root = noted_run()
    document = json.loads((root / "manifest.json").read_text())
    options = {
        "method": "kd", "precision": ["fp32", "int8"], "dynamic_batch": False, "kd": {"weight": 0.9},
        "train": {"mixup": 0.25}, "int8": {"rounds": 6}, "tcs": {"dims": 256}, "dkd": 3,
    }  # fmt: skip
    (root / "manifest.json").write_text(json.dumps(document | {"options": options}))
    text = Outline(run_page(root)).text
    for shown in ("precision fp32, int8", "dynamic_batch false", "kd.weight 0.9", "train.mixup 0.25", "int8.rounds 6"):
        assert shown in text
    assert "tcs.dims" not in text
    assert f"tcs-edge compress --config {root.resolve()}/config.resolved.toml" in text


def test_the_command_to_reproduce_quotes_blanks_and_runs_from_any_folder(noted_run, tmp_path, monkeypatch):
    root = noted_run(name="my runs/it's one")
    monkeypatch.chdir(tmp_path)
    text = Outline(run_page(root.relative_to(tmp_path))).text
    shown = text[text.index("tcs-edge compress --config ") :].split(" Versions ")[0]
    assert shlex.split(shown)[:4] == ["tcs-edge", "compress", "--config", str(root.resolve() / "config.resolved.toml")]


def test_every_model_file_is_listed_with_its_size(finished, manifest):
    text = Outline((finished / "reports" / "report.html").read_text(encoding="utf-8")).text
    assert len(manifest["artifacts"]) >= 2
    for artifact in manifest["artifacts"]:
        assert f"{artifact['path']} {artifact['precision']} preprocessed float32 images" in text


def links(page: str) -> list[str]:
    return re.findall(r'<li><a href="#([\w-]+)">', page)


def test_sections_without_records_are_left_out_and_named_in_one_line(noted_run):
    folder = RunFolder(noted_run())
    for path in (folder.choice, folder.coordinates, folder.selection, folder.predictions, folder.metrics):
        path.unlink()
    page = run_page(folder.root)
    outline = Outline(page)
    kept = ["verdict", "parity", "mistakes", "latency", "size", "provenance"]
    assert [name for name in outline.ids() if name in SECTIONS] == kept
    assert links(page) == kept
    assert (
        "Not in this report: student selection (the run has no record of it); confusion and mistakes (the run has no "
        "recorded predictions); training (the run has no metrics.jsonl); coordinates (the run has no record of them)."
    ) in outline.text


def test_a_method_without_coordinates_has_no_section_for_them(noted_run):
    folder = RunFolder(noted_run())
    document = json.loads(folder.manifest.read_text())
    folder.manifest.write_text(json.dumps(document | {"options": {"method": "ce"}, "teacher": None}))
    folder.coordinates.unlink()
    folder.selection.unlink()
    page = run_page(folder.root)
    assert "coordinates" not in links(page)
    assert "Not in this report: coordinates (method ce uses no coordinates)." in Outline(page).text


def test_a_complete_report_names_no_missing_section(noted_run):
    page = run_page(noted_run())
    assert links(page) == list(SECTIONS)
    assert "Not in this report" not in page


def _predict(root, right: bool = True, flips: int = 0) -> None:
    """Make all predictions right or all wrong, and let the first `flips` images change class in every runtime."""
    folder = RunFolder(root)
    document = json.loads(folder.predictions.read_text())
    classes = len(json.loads(folder.manifest.read_text())["dataset"]["classes"])
    document["predicted"] = [(label + (not right)) % classes for label in document["labels"]]
    folder.predictions.write_text(json.dumps(document))
    validation = json.loads(folder.validation.read_text())
    parity = validation["parities"]["onnxruntime"]
    found = [{"index": index, "reference_class": 0, "model_class": 1, "margin": 1.0} for index in range(flips)]
    runtimes = ("onnxruntime", "openvino", "openvino-device")
    validation["parities"] = {name: parity | {"flips": found if name == "openvino" else []} for name in runtimes}
    folder.validation.write_text(json.dumps(validation))


def mistakes(root) -> str:
    page = run_page(root)
    return page[page.index('<section id="mistakes"') : page.index('<section id="latency"')]


def test_no_flips_and_no_mistakes_take_one_paragraph(noted_run):
    root = noted_run()
    _predict(root)
    part = mistakes(root)
    assert part.count("<p>") == part.count("<p") == 1
    assert "<h3" not in part
    assert "No flips in" in part
    assert "onnxruntime, openvino and openvino-device" in part
    assert "All 24 test images were classified correctly." in run_page(root)


def test_runtimes_without_flips_share_one_line(noted_run):
    root = noted_run()
    _predict(root, flips=2)
    text = Outline(mistakes(root)).text
    assert "openvino : 2 of 24 images" in text
    assert text.count("No flips in") == 1
    assert "onnxruntime and openvino-device" in text


def test_the_number_of_all_mistakes_is_given_if_only_some_are_shown(noted_run):
    root = noted_run()
    _predict(root, right=False)
    assert "Shown are 12 of 24 mistakes." in mistakes(root)


@pytest.mark.parametrize("fits", [True, False])
def test_one_candidate_is_named_as_the_only_one(noted_run, fits):
    folder = RunFolder(noted_run())
    document = json.loads(folder.choice.read_text())
    document["candidates"] = document["candidates"][:1] if fits else document["candidates"][2:]
    folder.choice.write_text(json.dumps(document))
    text = Outline(run_page(folder.root)).text
    assert ("at 32 px is the only candidate." in text) is fits
    assert ("0 of 1 student meet the limits" in text) is not fits
    assert "1 students" not in text


def test_one_epoch_is_a_table_without_a_chart(noted_run):
    folder = RunFolder(noted_run())
    folder.metrics.write_text(folder.metrics.read_text().splitlines()[0] + "\n")
    page = run_page(folder.root)
    part = page[page.index('<section id="training"') : page.index('<section id="coordinates"')]
    assert "1 epoch, 1.0 s." in part
    assert "<svg" not in part
    assert "<details open>" in part


def test_long_class_names_may_break_and_short_words_never_do(noted_run):
    german = "Donaudampfschifffahrtsgesellschaft"
    page = run_page(noted_run(classes=("longsleeve", german, "night_gown")))
    assert f'<bdi class="long">{german}</bdi>' in page
    assert "<bdi>longsleeve</bdi>" in page
    assert "<bdi>night_<wbr>gown</bdi>" in page


def test_many_classes_have_no_matrix(noted_run):
    page = run_page(noted_run(classes=tuple(f"class {index}" for index in range(1000))))
    assert "1000 classes are too many for a matrix" in page
    assert len(page) < 200_000


def test_the_error_for_an_unfinished_run_has_the_resume_command(noted_run):
    folder = RunFolder(noted_run())
    folder.manifest.unlink()
    with pytest.raises(DataError, match="compress --resume"):
        run_page(folder.root)


@pytest.mark.parametrize("content", ['{"schema_version": 1}', "[]", "no json", '{"schema_version": 2}'])
def test_a_damaged_file_of_the_run_is_an_error_of_one_line(noted_run, content):
    folder = RunFolder(noted_run())
    folder.predictions.write_text(content)
    with pytest.raises(DataError, match=r"predictions\.json") as caught:
        run_page(folder.root)
    assert "\n" not in str(caught.value)


def test_predictions_of_unknown_classes_are_refused(noted_run):
    folder = RunFolder(noted_run())
    document = json.loads(folder.predictions.read_text())
    document["predicted"][0] = 99
    folder.predictions.write_text(json.dumps(document))
    with pytest.raises(DataError, match="classes that the manifest does not have"):
        run_page(folder.root)


@pytest.mark.slow
def test_the_report_takes_little_time_and_space(finished, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = tmp_path / "report.html"
    code = "from tcs_edge.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, "report", finished, "--out", out], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time, because wall time includes other work of the machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MAX_SECONDS
    assert out.stat().st_size < MAX_MB * 1e6


def test_the_verdict_names_exports_and_model_quality(finished, manifest):
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", run_page(finished)))
    trained = manifest["accuracy"]["pytorch"]
    assert "Exports validated. The files equal the trained model" in page
    assert f"Model quality: {100 * trained['value']:.1f} % of the test images are correct." in page
    assert f"(95 %). Chance is {100 * chance_of(manifest):.1f} %." in page
    assert "calibration: temperature " in page
    assert "unknown images: largest probability below " in page


def chance_of(manifest):
    counts = manifest["metrics"]["pytorch"]["recalls"]
    pairs = zip(counts["total"], counts["predicted"], strict=True)
    return sum(total * predicted for total, predicted in pairs) / sum(counts["total"]) ** 2
