"""Comparison of training methods: same student, data, budget and seeds, each run in its own process."""
