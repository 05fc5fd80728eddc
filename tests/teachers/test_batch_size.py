"""Batch size of a teacher's pass by the memory of a GPU, which a function stands for here."""

import pytest
import torch

from tcs_edge.errors import MissingError
from tcs_edge.teachers.batch_size import batch_for_memory, pass_batch_size

MB = 10**6


def gpu(per_image: int, most: int = 10**9):
    def peak_bytes(images: int) -> int:
        if images * per_image > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return images * per_image

    return peak_bytes


@pytest.mark.parametrize(
    ("per_image", "free", "batch"),
    [(10 * MB, 80_000 * MB, 256), (20 * MB, 4_000 * MB, 96), (20 * MB, 200 * MB, 8), (80 * MB, 250 * MB, 2)],
)
def test_the_batch_takes_half_of_the_free_memory(per_image, free, batch):
    assert batch_for_memory(gpu(per_image, free), free) == batch


def test_a_teacher_that_does_not_fit_is_refused():
    with pytest.raises(MissingError, match=r"for one image of the teacher \(50 MB free\)\. Choose a smaller --teacher"):
        batch_for_memory(gpu(60 * MB, 50 * MB), 50 * MB)


def test_a_cpu_computes_32_images_at_a_time():
    assert pass_batch_size(lambda images: images, 224, torch.device("cpu")) == 32
