"""Soft labels for images without labels: linear probes and label propagation, pure NumPy."""
