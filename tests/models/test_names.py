"""Tests of the name check against timm itself."""

from __future__ import annotations

import pytest
import timm

from tcs_edge.errors import UnknownName, UsageError
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.models.names import may_be_in_timm, require_student_name, timm_architectures
from tcs_edge.students.build import require_student


def test_architectures_equal_timms_list():
    assert list(timm_architectures()) == sorted(timm.list_models())


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet18.a1_in1k", "vit_base_patch16_gap_224.untrained", "vit_base_patch16_224_in21k", *CANDIDATES],
)
def test_names_of_timm_models_are_accepted(name):
    assert timm.is_model(name)
    assert may_be_in_timm(name)
    require_student_name(name)


def test_an_unknown_student_shows_near_matches():
    with pytest.raises(UnknownName, match=r"unknown student 'resnt18'\. Did you mean resnet18 or"):
        require_student_name("resnt18")


def test_every_tag_of_timm_is_accepted():
    for name in timm.list_pretrained():
        require_student_name(name)


@pytest.mark.parametrize("check", [require_student_name, require_student])
def test_a_wrong_tag_shows_near_matches(check):
    with pytest.raises(UnknownName, match=r"unknown student 'resnet18\.a1_in2k'\. Did you mean resnet18\.a1_in1k"):
        check("resnet18.a1_in2k")
    with pytest.raises(UnknownName, match=r"unknown student 'test_resnet\.nonsense'"):
        check("test_resnet.nonsense")
    with pytest.raises(UnknownName, match=r"unknown student 'test_resnet\.'"):
        check("test_resnet.")


@pytest.mark.parametrize("check", [require_student_name, require_student])
@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18.a1_in1k"])
def test_an_id_of_the_hub_is_refused(check, name):
    with pytest.raises(UsageError, match=r"is an id of the model hub\. Pass the name of a timm model"):
        check(name)
