"""Tests of the pace of an epoch."""

import time

import pytest
import torch

from tcs_edge.training.pace import Pace, bar_pace, pace_text


def batches(count, seconds):
    for _ in range(count):
        time.sleep(seconds)
        yield torch.zeros(4, 3, 2, 2), torch.zeros(4), torch.zeros(4)


@pytest.mark.parametrize(("load_s", "step_s", "limit"), [(0.03, 0.0, "data"), (0.0, 0.03, "compute")])
def test_the_slower_part_is_the_limit(load_s, step_s, limit):
    pace = Pace(processes=2)
    for _ in pace.timed(batches(5, load_s)):
        time.sleep(step_s)
    found = pace.metrics(torch.device("cpu"))
    assert found["images_per_s"] == pytest.approx(40 / found["seconds"], rel=0.02)
    assert 0 < found["images_per_s"] < 40 / 0.15
    assert (found["waiting"] > 0.5) == (limit == "data")
    assert found["memory_mb"] > 10
    assert pace_text(found).endswith(f"images/s (limit: {limit})")
    assert bar_pace(found).endswith(f"img/s {limit}")
    assert len(f"epoch 10/100 loss 0.412 val 93.8 % {bar_pace(found)}") <= 53
