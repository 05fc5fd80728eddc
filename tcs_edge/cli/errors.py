"""From an exception to one line on stderr and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from tcs_edge.errors import TcsEdgeError

INTERRUPTED = 130

Params = ParamSpec("Params")


def one_line_errors(command: Callable[Params, None]) -> Callable[Params, None]:
    """Let a command end as DESIGN says: 1 missed, 2 usage, 3 data, 4 missing, 70 bug, 130 Ctrl-C."""

    @functools.wraps(command)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except TcsEdgeError as error:
            _complain(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader went away (`| head`); a second format_error at exit would be noise.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            traceback.print_exc()
            _complain(f"error: this is a bug in tcs-edge ({type(error).__name__}); please report the lines above.")
            raise typer.Exit(TcsEdgeError.exit_code) from None

    return guarded


def _complain(text: str) -> None:
    typer.echo(text, err=True)
