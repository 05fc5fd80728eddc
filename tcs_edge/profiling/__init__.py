"""Measure latency profiles on this machine, bundle the measurement for a device, and merge results."""
