"""Decorator of every command: messages go to stderr, exceptions become one line and an exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from tcs_edge.errors import MissingError, TcsEdgeError
from tcs_edge.report.console import terminal
from tcs_edge.report.text import accept_all_characters, one_line
from tcs_edge.utils.installed import imports_explained
from tcs_edge.utils.launcher import launched
from tcs_edge.utils.shortage import is_panic, shortage
from tcs_edge.utils.stop import INTERRUPT, exit_code, stop_requested

Params = ParamSpec("Params")


def guarded(command: Callable[Params, None]) -> Callable[Params, None]:
    """Apply --quiet and --verbose to the command's messages, and exit with the codes of `errors`."""

    @functools.wraps(command)
    def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> None:
        verbosity = -1 if kwargs.get("quiet") else int(bool(kwargs.get("verbose")))
        accept_all_characters()
        try:
            with imports_explained(), terminal(verbosity):
                command(*args, **kwargs)
        except KeyboardInterrupt:
            raise _interrupted() from None
        except TcsEdgeError as error:
            if stop_requested():  # the signal ended a worker too, or interrupted an import
                raise _interrupted() from None
            _print_error(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # The reader closed the pipe (`| head`). Without this, Python prints a second error at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            raise _unexpected(error) from None
        except BaseException as error:
            if not is_panic(error):
                raise
            raise _unexpected(error) from None

    return wrapped


def _unexpected(error: BaseException) -> typer.Exit:
    """Print the line for an error that no part of the program expects; return the exit."""
    if stop_requested():
        return _interrupted()
    if message := shortage(error):
        _print_error(f"error: {message}")
        return typer.Exit(MissingError.exit_code)
    traceback.print_exception(error)
    _print_error(f"error: this is a bug in tcs-edge ({type(error).__name__}). Report the lines above.")
    return typer.Exit(TcsEdgeError.exit_code)


def _interrupted() -> typer.Exit:
    with contextlib.suppress(OSError):  # SIGHUP: the terminal is gone
        _print_error("interrupted")
    return typer.Exit(exit_code(stop_requested() or INTERRUPT))


def _print_error(text: str) -> None:
    rank = launched().rank
    typer.echo(one_line(f"process {rank}: {text}" if rank else text), err=True)
