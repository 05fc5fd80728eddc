"""Version of tcs-edge, in a file without imports."""

__version__ = "0.1.0"
