"""The command line: parse, call, print. Nothing here computes, and nothing heavy is imported early."""

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script. A stop signal or a shortage is one line, also while modules are imported."""
    import os
    import sys

    from tcs_edge.utils.shortage import is_panic, shortage
    from tcs_edge.utils.stop import exit_code, handle_stop_signals, leave_soon, stop_requested

    handle_stop_signals()
    try:
        from tcs_edge.cli.app import main as run

        run()
    except BaseException as error:
        number = stop_requested()
        finished = isinstance(error, SystemExit) and not error.code
        if number is None and (isinstance(error, Exception) or is_panic(error)) and (message := shortage(error)):
            sys.stderr.write(f"error: {message}\n")
            sys.exit(4)
        if number is None or finished:
            raise
        leave_soon()
        try:
            if not isinstance(error, SystemExit):
                sys.stderr.write("interrupted\n")
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # the terminal is gone
            os._exit(exit_code(number))
        sys.exit(exit_code(number))
