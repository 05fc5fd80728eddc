"""Report of a run: its content for passed runs, failed runs and hostile names."""

from __future__ import annotations

import json
import re
import resource
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
VOID = {"meta", "link", "img", "br", "input"}
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
    assert "config.resolved.toml" in text


def test_every_model_file_is_listed_with_its_size(finished, manifest):
    text = Outline((finished / "reports" / "report.html").read_text(encoding="utf-8")).text
    assert len(manifest["artifacts"]) >= 2
    for artifact in manifest["artifacts"]:
        assert f"{artifact['path']} {artifact['precision']} preprocessed float32 images" in text


def test_missing_records_have_a_note(make_run, noted_run):
    folder = RunFolder(noted_run())
    for path in (folder.choice, folder.coordinates, folder.selection, folder.predictions, folder.metrics):
        path.unlink()
    outline = Outline(run_page(folder.root))
    assert [name for name in outline.ids() if name in SECTIONS] == list(SECTIONS)
    assert "has no recorded predictions" in outline.text
    assert "uses no coordinates" in outline.text


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
