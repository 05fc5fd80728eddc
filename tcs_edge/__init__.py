"""tcs-edge: distil, choose, export and prove small image classifiers."""

__version__ = "0.1.0"
