#!/usr/bin/env python3
"""Answer HTTP requests with the model in this folder.

    python3 -I serve.py [--host 127.0.0.1] [--port 8080]
    curl --data-binary @photo.jpg 'http://127.0.0.1:8080/predict?top=3'

POST /predict takes the bytes of one image. GET /healthz and GET /metrics (Prometheus) are for monitoring. The service
has no password and no encryption. Keep it on this machine, or in a network that you trust.
"""

# Until this folder is out of the import path, only built-in modules may be imported: a numpy.py beside the program
# would run. `from __future__` opens a file, too. Of this folder, only the modules named edge_* are imported.
import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[:1]
    import os.path

    folder = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]
    sys.dont_write_bytecode = True
    from importlib.util import spec_from_file_location

    class OwnModules:
        """Find the modules of this folder whose names begin with edge_."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            """Return the spec of a module of this folder; None for others."""
            return spec_from_file_location(name, f"{folder}/{name}.py") if name.startswith("edge_") else None

    sys.meta_path.insert(0, OwnModules)

import argparse
import errno
import logging
import signal
from pathlib import Path

from edge_model import Classifier
from edge_options import number
from edge_output import prepare_screen, reason
from edge_service import Log, Service

GOOD, FAILED, INTERRUPTED = 0, 1, 130
ADMIN_THREADS = 4  # for /healthz and /metrics while all predictions wait
SPILL_BYTES = 1 << 20  # larger bodies wait in an unnamed temporary file, to bound the memory
MOST_HEADER_BYTES = 16_384


def parsed(words: "list[str] | None" = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Answer HTTP requests with the model in this folder.")
    positive, share = number(int), number(float, 0.0, 1.0, open_below=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: every network")
    parser.add_argument("--port", type=number(int, 0, 65535, open_below=False), default=8080, help="0: a free one")
    parser.add_argument("--threads", type=positive, help="of the model; default: the target's number of threads")
    parser.add_argument(
        "--unknown-below", type=share, metavar="P", help="threshold in place of confidence.json's; 0: off"
    )
    parser.add_argument("--max-mb", type=number(float), default=20.0, metavar="MB", help="largest body, in 10^6 bytes")
    parser.add_argument("--max-megapixels", type=number(float), default=25.0, metavar="MP", help="largest image")
    parser.add_argument("--max-waiting", type=positive, default=64, metavar="N", help="predictions that may wait")
    parser.add_argument("--max-connections", type=positive, default=100, metavar="N", help="open connections")
    parser.add_argument(
        "--timeout", type=number(float), default=20.0, metavar="S", help="of a request and of an answer"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the log to a file; default: stderr")
    return parser.parse_args(words)


def make_server(service: Service, arguments: argparse.Namespace, log: Log):
    """Return a waitress server, which listens already.

    Raises:
        OSError: the port is in use, or the address is not of this machine.
    """
    import waitress
    from waitress.channel import HTTPChannel
    from waitress.task import ErrorTask

    class Refusal(ErrorTask):
        """Answer to a request that the server itself refuses, such as a body that is too large."""

        def execute(self) -> None:
            """Answer, and write one line to the log."""
            error = self.request.error
            log.say(f"refused {self.channel.addr[0]}: {error.code} {error.reason}: {error.body}")
            self.channel.refused = True
            super().execute()

    class Channel(HTTPChannel):
        """Connection whose time-out counts from the start of a request: bytes that drip in do not extend it."""

        error_task_class = Refusal
        refused = False  # True: what came behind a refused head is not a request

        def handle_read(self) -> None:
            """Read, and keep the time of the last activity if the same request goes on."""
            unfinished, since = self.request, self.last_activity
            super().handle_read()
            if unfinished is not None and self.request is unfinished:
                self.last_activity = since

        def handle_close(self) -> None:
            """Close, and write one line to the log if the request took too long."""
            if self.will_close and self.connected and self.request is not None and not self.refused:
                log.say(f"refused {self.addr[0]}: the request was not complete within {arguments.timeout:g} s")
            super().handle_close()

    sockets = {}
    server = waitress.create_server(
        service, map=sockets, host=arguments.host, port=arguments.port, ident="tcs-edge",
        threads=arguments.max_waiting + ADMIN_THREADS, connection_limit=arguments.max_connections,
        max_request_body_size=int(1e6 * arguments.max_mb), max_request_header_size=MOST_HEADER_BYTES,
        inbuf_overflow=SPILL_BYTES, channel_timeout=arguments.timeout, cleanup_interval=1, log_socket_errors=False,
        clear_untrusted_proxy_headers=True,
    )  # fmt: skip
    for part in sockets.values():
        if hasattr(part, "channel_class"):
            part.channel_class = Channel
    return server


class OneLine(logging.Handler):
    """Handler that writes the server's warnings to the log, one line each, without a traceback."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        error = record.exc_info[1] if record.exc_info else None
        self._log.say(f"{record.getMessage()}{f': {reason(error)}' if error else ''}")


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = parsed()
    prepare_screen()
    try:
        log = Log(arguments.log)
    except OSError as error:
        print(f"error: cannot write {arguments.log}: {reason(error)}", file=sys.stderr)
        return FAILED
    logging.getLogger("waitress").addHandler(OneLine(log))
    logging.getLogger("waitress").propagate = False
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no fault: /metrics counts it
    try:
        classifier = Classifier(threads=arguments.threads, unknown_below=arguments.unknown_below)
    except Exception as error:  # a damaged file, or a runtime that is not installed
        log.say(f"error: cannot load the model: {reason(error)}. Run selfcheck.py.")
        return FAILED
    limits = (arguments.max_waiting, arguments.timeout, int(1e6 * arguments.max_megapixels))
    service = Service(classifier, log.say, lambda: log.lost, *limits)
    service.warm_up()
    try:
        server = make_server(service, arguments, log)
    except ImportError as error:
        log.say(f"error: {reason(error)}. Run: python3 -m pip install -r requirements.txt")
        return FAILED
    except (OSError, ValueError) as error:  # a host that is not known is a ValueError
        used = getattr(error, "errno", None) == errno.EADDRINUSE
        advice = "Another program uses the port. Pass another --port" if used else "Check --host and --port"
        log.say(f"error: cannot listen on {arguments.host} port {arguments.port}: {reason(error)}. {advice}.")
        return FAILED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(GOOD))
    service.files.watch()
    port = getattr(server, "effective_port", arguments.port)
    log.say(f"{classifier.about['student']} on http://{arguments.host}:{port}")
    server.run()  # returns after SIGTERM or Ctrl-C
    log.say("stopped")
    return GOOD


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
