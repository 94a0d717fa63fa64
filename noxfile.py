"""What is checked before a change is accepted: `nox` runs all of it, `nox -l` lists the parts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_external_run = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
WHEELS = Path(".nox/wheels")
BENCHMARKS = (
    "import_cost.py",
    "retry_success_path.py",
    "policies.py",
    "classify.py",
    "durable_submit.py",
    "cache.py",
    "activity.py",
)


def interpreter(version: str) -> str | None:
    """Return a Python of *version* that starts; a pyenv shim may be on the PATH and refuse to."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    built = map(str, versions.glob(f"{version}.*/bin/python"))
    probe = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in (sys.executable, f"python{version}", *built):
        if path := shutil.which(candidate):
            answer = subprocess.run([path, "-c", probe], check=False, capture_output=True, text=True)
            if answer.stdout.strip() == version:
                return path
    return None


def interpreters() -> dict[str, str]:
    """Return the supported Pythons of this machine by version; the running one where there is none."""
    found = {version: interpreter(version) for version in nox.project.python_versions(PYPROJECT)}
    present = {version: path for version, path in found.items() if path}
    return present or {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def install_wheel(session: nox.Session, *requirements: str) -> None:
    """Install the built wheel, as a user gets it, and *requirements*."""
    (wheel,) = WHEELS.glob("*.whl")
    session.install(str(wheel), *requirements)


PYTHONS = interpreters()
MEASURED = next(iter(PYTHONS))
TESTS = [f"tests-{version}" for version in PYTHONS]

nox.options.sessions = ["lint", "types", *TESTS, "catalogue", "coverage"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting of all Python code."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types, read by two checkers."""
    session.install("--editable", ".", *group("types"))
    session.run("mypy")
    session.run("basedpyright", "--pythonpath", f"{session.bin}/python")


@nox.session
def build(session: nox.Session) -> None:
    """The wheel that the tests install."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(WHEELS), ".")


def tests(session: nox.Session) -> None:
    """Tests and the examples in the documentation, against the built wheel."""
    install_wheel(session, *group("tests"))
    if session.name == f"tests-{MEASURED}":
        session.run("coverage", "erase")
        session.run("coverage", "run", "-m", "pytest", *session.posargs)
    else:
        session.run("python", "-m", "pytest", *session.posargs)


for name, python in zip(TESTS, PYTHONS.values(), strict=True):
    nox.session(name=name, python=python, requires=["build"], tags=["tests"])(tests)


@nox.session(requires=[f"tests-{MEASURED}"])
def coverage(session: nox.Session) -> None:
    """Coverage of statements and branches, subprocesses included."""
    session.install(*group("coverage"))
    session.run("coverage", "combine")
    session.run("coverage", "report", "--fail-under=95")


@nox.session(python=PYTHONS[MEASURED], requires=["build"])
def catalogue(session: nox.Session) -> None:
    """What is known about other people's exceptions, against the libraries themselves."""
    install_wheel(session, *group("catalogue"))
    session.run("python", "-m", "pytest", "tests/errors/catalogue.py", *session.posargs)


@nox.session(requires=["build"])
def unit(session: nox.Session) -> None:
    """The quick tests alone: no files, no sockets, no processes."""
    install_wheel(session, *group("tests"))
    session.run("python", "-m", "pytest", "-m", "not real", "tests", *session.posargs)


@nox.session(requires=["build"])
def crash(session: nox.Session) -> None:
    """The crash tests at length: real processes are killed, over and over."""
    install_wheel(session, *group("tests"))
    session.run("python", "-m", "pytest", "-m", "crash", "--crash-kills=100", "tests", *session.posargs)


@nox.session(requires=["build"])
def soak(session: nox.Session) -> None:
    """The activity log at length: servers away for half a minute under load, and memory that stays flat."""
    install_wheel(session, *group("tests"))
    session.run("python", "-m", "pytest", "-s", "-m", "soak", "--outage=30", "tests", *session.posargs)


@nox.session(requires=["build"])
def bench(session: nox.Session) -> None:
    """Every benchmark; arguments go to each of them."""
    install_wheel(session, *group("benchmarks"))
    for script in BENCHMARKS:
        session.run("python", f"benchmarks/{script}", *session.posargs)
