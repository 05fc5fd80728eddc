"""The version of tcs-edge, in a file that imports nothing."""

__version__ = "0.1.0"
