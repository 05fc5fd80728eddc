"""What runs on the device: Python 3.9 or newer, NumPy and a runtime. Profiler bundles carry this folder as it is."""
