"""Latency profiles: measuring on this machine, bundles that measure on a device, merging results."""
