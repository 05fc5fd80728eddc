"""The teacher that a run's options name: a registered one, an ONNX file, or a file of features."""

from __future__ import annotations

import torch

from tcs_edge.data.images import ImageSet
from tcs_edge.specs.config import CompressConfig, ResolvedConfig
from tcs_edge.specs.options import TeacherOptions
from tcs_edge.teachers.feature_file import read_feature_file
from tcs_edge.teachers.features import Features, cached_images, cached_images_of, features_of
from tcs_edge.teachers.given import given_features
from tcs_edge.teachers.info import TeacherInfo
from tcs_edge.teachers.load import describe_teacher
from tcs_edge.teachers.onnx_teacher import describe_onnx_teacher
from tcs_edge.teachers.readout import POOLED, Readout

DEFAULT_TEACHER = "dinov2"


def describe(options: TeacherOptions) -> TeacherInfo:
    """Describe the teacher that computes the features.

    Raises:
        ValueError: the features come from a file.
        UnknownName, UsageError, DataError, MissingError: as `describe_teacher` and `describe_onnx_teacher`.
    """
    if options.teacher_features:
        raise ValueError("the features come from a file")
    if options.teacher_onnx:
        return describe_onnx_teacher(options)
    return describe_teacher(options.teacher or DEFAULT_TEACHER, options.teacher_weights, options.teacher_img_size)


def require_own_file(options: TeacherOptions) -> None:
    """Check the user's ONNX file or file of features, without its images.

    Raises:
        UsageError, DataError, MissingError: as `describe_onnx_teacher` and `read_feature_file`.
    """
    if options.teacher_features:
        read_feature_file(options.teacher_features)
    elif options.teacher_onnx:
        describe_onnx_teacher(options)


def run_features(
    images: ImageSet, options: CompressConfig, device: torch.device, readout: Readout = POOLED
) -> Features:
    """Return the features of a run's images: from the user's file, from the cache, or computed now.

    Raises:
        UnknownName, UsageError, DataError, MissingError: as `describe`, `features_of` and `given_features`.
    """
    if options.teacher_features:
        return given_features(images, options.teacher_features)
    return features_of(
        images, describe(options), options.cache_dir, workers=options.workers, device=device, readout=readout
    )


def images_at_hand(images: ImageSet, options: ResolvedConfig) -> int:
    """Count the training and validation images whose pooled features need no pass; nothing is downloaded.

    Raises:
        UnknownName, UsageError, DataError, MissingError: as `run_features`.
    """
    if options.teacher_features:
        found = given_features(images, options.teacher_features)
        return len(found.train) + len(found.val)
    if options.teacher_onnx:
        return cached_images_of(images, describe(options), options.cache_dir)
    return cached_images(images, options.teacher, options.teacher_weights, options.teacher_img_size, options.cache_dir)
