"""Options of the commands that measure latencies."""

from __future__ import annotations

from typing import Annotated

import typer

Rounds = Annotated[int, typer.Option(min=3, help="Visits to each model, interleaved.")]
Seconds = Annotated[float, typer.Option(min=0.01, help="Length of one visit.")]
MaxSpread = Annotated[
    float, typer.Option(min=0.01, help="Largest spread of the rounds' medians, as a fraction of their median.")
]
Retries = Annotated[int, typer.Option(min=0, help="Repeated measurements of a noisy latency.")]
