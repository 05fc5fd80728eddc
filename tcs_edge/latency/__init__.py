"""Latency of a student on a device: measured, predicted, or transferred from a reference machine."""
