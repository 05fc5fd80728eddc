"""The command line: parse, call, print. Nothing here computes, and nothing heavy is imported early."""

from tcs_edge.cli.app import main

__all__ = ["main"]
