"""Measure latencies on a device with Python 3.9 or newer, NumPy and a runtime; profiler bundles copy this folder."""
