"""Class names: unusable ones are refused, and names that look alike are one class or a warning."""

from __future__ import annotations

import os
import sys
import unicodedata

import pytest

from tcs_edge.data import load_images
from tcs_edge.data.class_names import look, lookalikes
from tcs_edge.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture
def make(tmp_path, fill):
    """make({"train": ["a", "b"]}): folder of splits with these classes; "." stands for no splits."""

    def write(parts):
        seed = 0
        for part, names in parts.items():
            for name in names:
                seed += 1
                fill(tmp_path / "pets" / part / name, 6, seed)
        return tmp_path / "pets"

    return write


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("red\nblue", "a line break"),
        ("red\r", "a line break"),
        ("red\u2028", "a line break"),
        ("red\tblue", "a control character"),
        ("red\x1b[31m", "a control character"),
        ("  ", "only blanks"),
    ],
)
@pytest.mark.parametrize("part", [".", "train", "test"])
def test_unusable_names_are_refused(make, name, problem, part):
    splits = {"train": ["cat", "dog"], "test": ["cat", "dog"]}
    folder = make({".": ["cat", name]} if part == "." else splits | {part: ["cat", "dog", name]})
    with pytest.raises(DataError) as caught:
        load_images(folder)
    assert f"class folder {name!a}" in str(caught.value)
    assert f"has {problem} in its name. Rename it." in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_name_that_is_not_text_is_refused(make):
    folder = make({".": ["cat", "dog"]})
    (folder / "cat").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    with pytest.raises(DataError, match=r"has bytes that are not UTF-8 in its name\. Rename it") as caught:
        load_images(folder)
    str(caught.value).encode("utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_image_names_may_be_any_bytes(make):
    folder = make({".": ["cat", "dog"]})
    (folder / "cat/000.png").rename(os.fsdecode(os.fsencode(folder) + b"/cat/\xff\xe9.png"))
    images = load_images(folder)
    assert sum(map(len, (images.train, images.val, images.test))) == 12


@pytest.mark.parametrize("forms", [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_unicode_forms_of_a_name_are_one_class(make, recorder, forms):
    images = load_images(make({"train": [forms[0], "tea"], "test": [forms[1], "tea"]}))
    assert images.classes == (NFC, "tea")
    assert len(images.test) == 12
    assert not recorder.warned


def test_unicode_forms_in_one_folder_are_one_class(make, recorder):
    folder = make({".": [NFC, NFD, "tea"]})
    if len(list(folder.iterdir())) < 3:
        pytest.skip("this file system keeps one Unicode form")
    images = load_images(folder)
    assert images.classes == (NFC, "tea")
    assert sum(map(len, (images.train, images.val, images.test))) == 18
    assert "2 folders" in recorder.said[0]


@pytest.mark.parametrize("other", ["Cat", "cat ", " cat", "CAT"])
def test_names_that_look_alike_in_train_are_a_warning(make, recorder, other):
    folder = make({".": ["cat", other, "dog"]})
    if len(list(folder.iterdir())) < 3:
        pytest.skip("this file system ignores case")
    assert len(load_images(folder).classes) == 3
    (line,) = recorder.warned
    assert "class names that look alike" in line
    assert repr(other) in line


@pytest.mark.parametrize("other", ["Cat", "cat ", "CAT"])
def test_a_held_out_name_that_looks_alike_is_the_class_of_train(make, recorder, other):
    images = load_images(make({"train": ["cat", "dog"], "test": [other, "dog"]}))
    assert images.classes == ("cat", "dog")
    assert len(images.test) == 12
    (line,) = recorder.warned
    assert f"class {other!r} is taken as 'cat' of train" in line


def test_a_held_out_name_that_looks_like_two_classes_is_refused(make):
    folder = make({"train": ["cat", "Cat"], "test": ["CAT"]})
    if len(list((folder / "train").iterdir())) < 2:
        pytest.skip("this file system ignores case")
    with pytest.raises(DataError, match="classes that train lacks: CAT"):
        load_images(folder)


INVISIBLE = {
    "zero width space": "c\u200bat",
    "zero width joiner": "cat\u200d",
    "byte order mark": "\ufeffcat",
    "soft hyphen": "ca\u00adt",
    "left-to-right mark": "cat\u200e",
    "right-to-left override": "\u202ecat\u202c",
    "isolate": "\u2066cat\u2069",
    "word joiner": "cat\u2060",
    "combining joiner": "c\u034fat",
    "variant selector": "cat\ufe0f",
    "tag": "cat\U000e0041",
    "filler": "cat\u3164",
}


@pytest.mark.parametrize("other", INVISIBLE.values(), ids=INVISIBLE)
@pytest.mark.parametrize("part", [".", "train"])
def test_names_that_differ_only_by_invisible_characters_are_refused(make, other, part):
    folder = make({part: ["cat", "dog", other]} | ({} if part == "." else {"test": ["cat", "dog"]}))
    with pytest.raises(DataError, match="look the same") as caught:
        load_images(folder)
    message = str(caught.value)
    assert "'cat'" in message
    assert all(f"U+{ord(char):04X}" in message for char in set(other) - set("cat"))
    assert "Give them one name if they are one class, or rename one." in message


@pytest.mark.parametrize("other", ["red\u00a0fox", "red\u2009fox", "red \u200bfox"])
def test_kinds_of_blanks_are_refused_as_the_difference(make, other):
    with pytest.raises(DataError, match=r"the class names 'red.* and 'red.* look the same"):
        load_images(make({".": ["red fox", other, "dog"]}))


def test_twins_without_a_common_plain_name_show_their_code_points(make):
    with pytest.raises(DataError, match=r"'ca\\u200bt' \(U\+200B\) and 'c\\u200bat' \(U\+200B\) look the same"):
        load_images(make({".": ["c\u200bat", "ca\u200bt", "dog"]}))


@pytest.mark.parametrize("other", INVISIBLE.values(), ids=INVISIBLE)
def test_a_held_out_twin_is_the_class_of_train(make, recorder, other):
    images = load_images(make({"train": ["cat", "dog"], "test": [other, "dog"]}))
    assert images.classes == ("cat", "dog")
    assert "is taken as 'cat' of train" in recorder.warned[0]


@pytest.mark.parametrize(
    "names", [["خانهها", "خانه\u200cها 2"], ["👩\u200d💻", "👩"], ["❤\ufe0f", "b"], ["dog", "cat\u200b"]]
)
def test_invisible_characters_alone_are_no_problem(make, names):
    assert set(load_images(make({".": names})).classes) == set(names)


def test_numeric_names_keep_their_text(make):
    assert load_images(make({".": ["1", "10", "-1", "01"]})).classes == ("-1", "01", "1", "10")


def test_the_look_of_names():
    assert look("Straße ") == look("strasse")
    assert look("ﬁsh") == look("fish")
    assert lookalikes(["a", "A", "b", "1", "-1"]) == [["A", "a"]]
