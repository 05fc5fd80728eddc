"""Registry of the teachers: a literal table, and `timm/NAME` for every other timm model.

License and parameter count repeat timm's own values; a test compares them.
No heavy module is imported here, so that listing the teachers is fast.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcs_edge.errors import UnknownName
from tcs_edge.models.names import may_be_in_timm, timm_architectures

TIMM_PREFIX = "timm/"


@dataclass(frozen=True)
class TeacherSpec:
    """One teacher: its timm name (empty for the built-in one), license and size.

    `license` is the license of the WEIGHTS as timm states it (lower case, SPDX-like; "unknown" if timm
    states none). `params_m` is the number of parameters in millions, without a classifier. It is 0 for
    `digits` and `timm/NAME`; `load.describe_teacher` computes it from the model.
    """

    timm_name: str
    license: str
    params_m: float

    @property
    def non_commercial(self) -> bool:
        """True if the license of the weights forbids commercial use."""
        return forbids_commercial_use(self.license)


def forbids_commercial_use(license: str) -> bool:
    """Return True if a license, as timm states it, forbids commercial use."""
    return "-nc" in license or "noncommercial" in license


_APACHE = "apache-2.0"
_DINOV3 = "dinov3-license"
_CC_NC = "cc-by-nc-4.0"

TEACHERS: dict[str, TeacherSpec] = {
    "digits": TeacherSpec("", _APACHE, 0.0),
    # arXiv 2304.07193
    "dinov2-small": TeacherSpec("vit_small_patch14_dinov2.lvd142m", _APACHE, 22.06),
    "dinov2-base": TeacherSpec("vit_base_patch14_dinov2.lvd142m", _APACHE, 86.58),
    "dinov2-large": TeacherSpec("vit_large_patch14_dinov2.lvd142m", _APACHE, 304.37),
    "dinov2-giant": TeacherSpec("vit_giant_patch14_dinov2.lvd142m", _APACHE, 1136.48),
    # arXiv 2309.16588
    "dinov2-small-reg": TeacherSpec("vit_small_patch14_reg4_dinov2.lvd142m", _APACHE, 22.06),
    "dinov2-base-reg": TeacherSpec("vit_base_patch14_reg4_dinov2.lvd142m", _APACHE, 86.58),
    "dinov2-large-reg": TeacherSpec("vit_large_patch14_reg4_dinov2.lvd142m", _APACHE, 304.37),
    "dinov2-giant-reg": TeacherSpec("vit_giant_patch14_reg4_dinov2.lvd142m", _APACHE, 1136.48),
    # arXiv 2508.10104
    "dinov3-small": TeacherSpec("vit_small_patch16_dinov3.lvd1689m", _DINOV3, 21.59),
    "dinov3-small-plus": TeacherSpec("vit_small_plus_patch16_dinov3.lvd1689m", _DINOV3, 28.68),
    "dinov3-base": TeacherSpec("vit_base_patch16_dinov3.lvd1689m", _DINOV3, 85.64),
    "dinov3-large": TeacherSpec("vit_large_patch16_dinov3.lvd1689m", _DINOV3, 303.08),
    "dinov3-huge-plus": TeacherSpec("vit_huge_plus_patch16_dinov3.lvd1689m", _DINOV3, 840.51),
    "dinov3-convnext-tiny": TeacherSpec("convnext_tiny.dinov3_lvd1689m", _DINOV3, 27.82),
    "dinov3-convnext-small": TeacherSpec("convnext_small.dinov3_lvd1689m", _DINOV3, 49.45),
    "dinov3-convnext-base": TeacherSpec("convnext_base.dinov3_lvd1689m", _DINOV3, 87.57),
    "dinov3-convnext-large": TeacherSpec("convnext_large.dinov3_lvd1689m", _DINOV3, 196.23),
    # arXiv 2104.14294
    "dino-small": TeacherSpec("vit_small_patch16_224.dino", _APACHE, 21.67),
    "dino-base": TeacherSpec("vit_base_patch16_224.dino", _APACHE, 85.80),
    "dino-small-patch8": TeacherSpec("vit_small_patch8_224.dino", _APACHE, 21.67),
    "dino-base-patch8": TeacherSpec("vit_base_patch8_224.dino", _APACHE, 85.81),
    # arXiv 2111.06377
    "mae-base": TeacherSpec("vit_base_patch16_224.mae", _CC_NC, 85.80),
    "mae-large": TeacherSpec("vit_large_patch16_224.mae", _CC_NC, 303.30),
    "mae-huge": TeacherSpec("vit_huge_patch14_224.mae", _CC_NC, 630.76),
    # arXiv 2301.08243
    "ijepa-huge": TeacherSpec("vit_huge_patch14_gap_224.in1k_ijepa", _CC_NC, 630.76),
    # arXiv 2301.00808
    "fcmae-tiny": TeacherSpec("convnextv2_tiny.fcmae", _CC_NC, 27.87),
    "fcmae-base": TeacherSpec("convnextv2_base.fcmae", _CC_NC, 87.69),
    # arXiv 2303.15343
    "siglip-base": TeacherSpec("vit_base_patch16_siglip_224.webli", _APACHE, 92.88),
    "siglip-so400m": TeacherSpec("vit_so400m_patch14_siglip_224.webli", _APACHE, 427.68),
    # arXiv 2502.14786
    "siglip2-base": TeacherSpec("vit_base_patch16_siglip_224.v2_webli", _APACHE, 92.88),
    "siglip2-so400m": TeacherSpec("vit_so400m_patch14_siglip_224.v2_webli", _APACHE, 427.68),
    # arXiv 2103.00020
    "clip-base": TeacherSpec("vit_base_patch16_clip_224.openai", _APACHE, 85.80),
    "clip-base-patch32": TeacherSpec("vit_base_patch32_clip_224.openai", _APACHE, 87.46),
    "clip-large": TeacherSpec("vit_large_patch14_clip_224.openai", _APACHE, 303.18),
}

ALIASES: dict[str, str] = {
    "dinov2": "dinov2-small",
    "dinov3": "dinov3-small",
    "dino": "dino-small",
    "mae": "mae-base",
    "ijepa": "ijepa-huge",
    "siglip": "siglip-base",
    "clip": "clip-base",
}


def canonical_name(name: str) -> str:
    """Resolve an alias to its full name ("dinov2" -> "dinov2-small"); return other names unchanged."""
    return ALIASES.get(name, name)


def teacher_spec(name: str) -> TeacherSpec:
    """Look a teacher up by name, alias or `timm/NAME`.

    Raises:
        UnknownName: the name is in no table; the message shows near matches.
    """
    if name.startswith(TIMM_PREFIX):
        return _timm_spec(name.removeprefix(TIMM_PREFIX))
    try:
        return TEACHERS[canonical_name(name)]
    except KeyError:
        hint = f"For any other timm model, use {TIMM_PREFIX}NAME."
        raise UnknownName("teacher", name, [*TEACHERS, *ALIASES], hint) from None


def require_teacher_name(name: str) -> None:
    """Refuse the name of a teacher that cannot exist, without importing timm.

    Raises:
        UnknownName: the name is in no table and not in timm's source; the message shows near matches.
    """
    if not name.startswith(TIMM_PREFIX):
        teacher_spec(name)
    elif not may_be_in_timm(name.removeprefix(TIMM_PREFIX)):
        raise UnknownName("teacher", name, [TIMM_PREFIX + known for known in timm_architectures()])


def _timm_spec(timm_name: str) -> TeacherSpec:
    import timm  # imported here, so that the table above can be read without torch

    architecture, _, tag = timm_name.partition(".")
    tagged = timm.list_pretrained(f"{architecture}.*") if tag else [timm_name]
    if not timm.is_model(architecture) or timm_name not in tagged:
        known = [TIMM_PREFIX + known for known in (*timm.list_models(), *timm.list_pretrained())]
        raise UnknownName("teacher", TIMM_PREFIX + timm_name, known)
    config = timm.get_pretrained_cfg(timm_name)
    license = getattr(config, "license", None) or "unknown"
    return TeacherSpec(timm_name, license, 0.0)
