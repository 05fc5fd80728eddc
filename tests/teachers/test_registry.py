from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcs_edge.errors import UnknownName
from tcs_edge.teachers.registry import ALIASES, TEACHERS, canonical_name, require_teacher_name, teacher_spec

TIMM_TEACHERS = sorted(name for name in TEACHERS if TEACHERS[name].timm_name)


@pytest.mark.parametrize("name", TIMM_TEACHERS)
def test_license_equals_timms(name: str) -> None:
    config = timm.get_pretrained_cfg(TEACHERS[name].timm_name, allow_unregistered=False)
    assert config.has_weights
    assert TEACHERS[name].license == config.license


@pytest.mark.parametrize("name", TIMM_TEACHERS)
def test_size_equals_the_models(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(TEACHERS[name].timm_name, num_classes=0)
    params = sum(parameter.numel() for parameter in model.parameters())
    assert TEACHERS[name].params_m == pytest.approx(params / 1e6, abs=0.006)


def test_licenses_of_common_teachers() -> None:
    assert teacher_spec("dinov2").license == "apache-2.0"
    assert teacher_spec("dinov3").license == "dinov3-license"
    assert teacher_spec("mae").non_commercial
    assert teacher_spec("ijepa").non_commercial
    assert not teacher_spec("dinov2").non_commercial


def test_aliases_name_teachers_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(TEACHERS)
    assert not set(ALIASES) & set(TEACHERS)
    assert teacher_spec("dinov2") == teacher_spec("dinov2-small")
    assert canonical_name("dinov2") == "dinov2-small"
    assert canonical_name("mae-large") == "mae-large"


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("dinov2-smal", "dinov2-small"),
        ("dino-v2", "dinov2"),
        ("timm/vit_smal_patch14_dinov2", "timm/vit_small_patch14_dinov2"),
        ("timm/vit_small_patch14_dinov2.lvd", "timm/vit_small_patch14_dinov2.lvd142m"),
    ],
)
def test_unknown_name_shows_near_matches(wrong: str, near: str) -> None:
    with pytest.raises(UnknownName, match="Did you mean") as caught:
        teacher_spec(wrong)
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_timm_model_is_a_teacher() -> None:
    assert teacher_spec("timm/tf_efficientnet_lite0").license == "apache-2.0"
    assert teacher_spec("timm/convnextv2_tiny.fcmae").non_commercial


@given(st.text(max_size=30))
def test_lookup_of_any_text_raises_unknown_name(name: str) -> None:
    if name in TEACHERS or name in ALIASES:
        assert teacher_spec(name)
    else:
        with pytest.raises(UnknownName):
            teacher_spec(name)


def test_registry_does_not_import_heavy_modules() -> None:
    code = "import sys, tcs_edge.teachers.registry;sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["dinov2", "mae-large", "timm/resnet18", "timm/vit_small_patch14_dinov2.lvd142m"])
def test_the_check_without_timm_accepts_existing_names(name: str) -> None:
    require_teacher_name(name)


@pytest.mark.parametrize(
    ("wrong", "near"), [("dino-v2", "dinov2"), ("timm/vit_smal_patch14_dinov2", "timm/vit_small_patch14_dinov2")]
)
def test_the_check_without_timm_shows_near_matches(wrong: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean .*{near}"):
        require_teacher_name(wrong)
