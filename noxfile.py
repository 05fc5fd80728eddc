"""Development tasks: `nox -l` lists them, `nox -s lint` runs one.

`tests`, `lint` and `types` are the steps of `.ci/run`; `ci` runs all of it. A session has an environment of its own
below `.nox/`, which later runs reuse. With the whole package it takes some 6 GB on Linux. `nox --no-venv -s lint`
installs nothing and uses the active environment.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

LITERT_TESTS = ("tests/runtimes/litert", "tests/gate/test_litert_file.py", "tests/selftest/test_litert.py")
DEV = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["dev"]


def install(session: nox.Session, *requirements: str) -> None:
    """Install into the session's own environment; leave an active one (`--no-venv`) as it is."""
    if session.virtualenv.is_sandboxed:
        session.install(*requirements)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after `--` go to pytest."""
    install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]))


@nox.session(python=False)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest dependencies of pyproject.toml (needs uv); arguments after `--` go to pytest."""
    session.run("bash", "ci/lowest.sh", "build/lowest", *(session.posargs or ["-n", "2"]))


@nox.session
def litert(session: nox.Session) -> None:
    """Run the tests of the LiteRT export, whose converter needs another torch than `tests`."""
    needed = ("hypothesis", "pytest", "waitress")
    install(session, "-e", ".[train,litert]", *(line for line in DEV if line.startswith(needed)))
    session.run("python", "-m", "pytest", "-rs", *(session.posargs or LITERT_TESTS))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lint and import contracts; the package itself is not installed."""
    install(session, *(line for line in DEV if line.startswith(("ruff", "import-linter"))))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    install(session, "-e", ".[dev]")
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write docs/reference/cli.md again, build the site, and check links, commands, options and examples."""
    install(session, "-e", ".[dev]")
    session.run("python", "tools/make_cli_reference.py")
    session.run("mkdocs", "build", "--strict")
    session.run("python", "-m", "pytest", "-q", "tests/test_docs.py", "tests/cli/test_reference.py")


@nox.session(python=False)
def ci(session: nox.Session) -> None:
    """Run `.ci/run`, everything that a change must pass; it makes or uses `.venv`."""
    session.run("bash", ".ci/run")
