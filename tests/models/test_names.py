"""Tests of the name check against timm itself."""

from __future__ import annotations

import pytest
import timm

from tcs_edge.errors import UnknownName
from tcs_edge.models.candidates import CANDIDATES
from tcs_edge.models.names import may_be_in_timm, require_student_name, timm_architectures


def test_architectures_equal_timms_list():
    assert list(timm_architectures()) == sorted(timm.list_models())


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "vit_base_patch16_224_in21k", *CANDIDATES])
def test_names_of_timm_models_are_accepted(name):
    assert timm.is_model(name)
    assert may_be_in_timm(name)
    require_student_name(name)


def test_an_unknown_student_shows_near_matches():
    with pytest.raises(UnknownName, match=r"unknown student 'resnt18'\. Did you mean resnet18 or"):
        require_student_name("resnt18")
