"""Tests of feature maps in the cache: averaged to a grid, and separate from the pooled features."""

import numpy as np
import pytest
import torch

from tcs_edge.models.feature_map import last_map, pooled_to
from tcs_edge.teachers.features import teacher_features
from tcs_edge.teachers.load import build_teacher, describe_teacher
from tcs_edge.teachers.readout import POOLED, Readout, teacher_map_shape

VIT, CNN, SIZE = "timm/test_vit", "timm/test_efficientnet", 160


@pytest.fixture
def teacher_of(vit_weights, cnn_weights):
    return {VIT: vit_weights, CNN: cnn_weights}


@pytest.mark.parametrize("name", [VIT, CNN])
def test_map_shape_is_computed_without_weights(name, teacher_of):
    info = describe_teacher(name, teacher_of[name], SIZE)
    teacher = build_teacher(info)
    images = torch.zeros(1, 3, info.preprocess.img_size, info.preprocess.img_size)
    actual = last_map(teacher.module.backbone, images).shape
    assert teacher_map_shape(info) == (actual[1], actual[3])


@pytest.mark.parametrize("name", [VIT, CNN])
def test_cached_maps_are_the_averaged_maps_of_the_teacher(name, teacher_of, image_set, tmp_path):
    info = describe_teacher(name, teacher_of[name], SIZE)
    readout = Readout("map", teacher_map_shape(info)[0], 2)
    features = teacher_features(image_set, name, teacher_of[name], SIZE, tmp_path, readout=readout)
    teacher = build_teacher(info)
    images = torch.stack([torch.from_numpy(info.preprocess(image_set.train.image(i))) for i in range(3)])
    with torch.no_grad():
        wanted = pooled_to(last_map(teacher.module.backbone, images), 2)
    kept = torch.from_numpy(features.train[:3]).float().unflatten(1, (readout.channels, 2, 2))
    torch.testing.assert_close(kept, wanted, rtol=2e-3, atol=2e-3)

    # The input of a probe is the mean of the map, for both readouts.
    means = teacher_features(
        image_set, name, teacher_of[name], SIZE, tmp_path, readout=Readout("map mean", readout.channels, 2)
    )
    np.testing.assert_allclose(readout.vectors(features.train), means.readout.vectors(means.train), atol=3e-3)


def test_maps_and_pooled_features_have_separate_caches(cnn_weights, image_set, tmp_path):
    info = describe_teacher(CNN, cnn_weights, SIZE)
    channels = teacher_map_shape(info)[0]
    readouts = [POOLED, Readout("map", channels, 2), Readout("map", channels, 1), Readout("map mean", channels, 2)]
    keys = set()
    for readout in readouts:
        features = teacher_features(image_set, CNN, cnn_weights, SIZE, tmp_path, readout=readout)
        assert features.images_computed == 27
        keys.add(features.key)
        again = teacher_features(image_set, CNN, cnn_weights, SIZE, tmp_path, readout=readout)
        assert again.images_computed == 0
        assert np.array_equal(again.train, features.train)
    assert len(keys) == len(readouts)
