"""One loop for every method: schedule, checkpoints, finiteness, the deployed model."""
