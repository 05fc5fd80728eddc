"""Without enough memory of a GPU, the error names a batch size that fits. A backbone with a limit acts as the GPU."""

import pytest
import torch
from torch import nn

from tcs_edge.errors import MissingError
from tcs_edge.methods import CrossEntropy
from tcs_edge.specs.training import TrainOptions
from tcs_edge.training import out_of_memory
from tcs_edge.training.schedule import Schedule
from tcs_edge.training.trainer import train
from tcs_edge.utils.launcher import Ranks


class Small(nn.Module):
    """A backbone that takes at most `most` images."""

    def __init__(self, backbone: nn.Module, most: int) -> None:
        super().__init__()
        self.backbone, self.most = backbone, most

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 1 GiB free.")
        return self.backbone(images)


@pytest.mark.parametrize(
    ("most", "processes", "advice"),
    [
        (15, 1, "A batch of 8 fits: pass --batch-size 8, or a smaller --img-size."),
        (4, 1, "A batch of 4 fits: pass --batch-size 4, or a smaller --img-size."),
        (1, 1, "Pass a smaller --batch-size, or a smaller --img-size."),
        (15, 2, "Pass a smaller --batch-size, or a smaller --img-size."),
    ],
)
def test_a_batch_size_that_fits_is_named(problem, accelerator, monkeypatch, most, processes, advice):
    monkeypatch.setattr(out_of_memory, "current", lambda: Ranks(0, processes, processes))
    backbone, method = Small(problem.backbone(), most), CrossEntropy(12, 3)
    schedule = Schedule(epochs=1, batch_size=16, lr=0.02)
    with pytest.raises(MissingError) as caught:
        train(backbone, method, problem.data, schedule, 0, accelerator, options=TrainOptions(mixup=0.2))
    told = str(caught.value)
    assert told.startswith("the GPU has too little memory for a batch of 16 images (CUDA out of memory). ")
    assert told.endswith(advice)
