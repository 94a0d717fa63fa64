"""What the disk may do to a queue: each fault has an error of its own, and nothing acknowledged is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from resilient_agents import DeadLetterQueue, Replayer
from resilient_agents.deadletter import State
from resilient_agents.deadletter._file import storage_failure
from resilient_agents.deadletter._schema import APPLICATION_ID, SCHEMA_VERSION
from resilient_agents.errors import (
    ApiError,
    Origin,
    StorageCorrupt,
    StorageFailure,
    StorageFull,
    StorageReadOnly,
    ValidationFailed,
)

ROOM = 60
"""Pages that a full disk has room for."""


def keys(queue: DeadLetterQueue) -> set[str]:
    """Return the keys of everything that waits."""
    return {entry.key for entry in queue.entries(limit=100_000)}


def test_full(queue: DeadLetterQueue) -> None:
    """When there is no room, nothing is accepted, nothing is half-written, and it passes with the cause."""
    acknowledged: set[str] = set()
    queue.blocking(lambda it: it.execute(f"PRAGMA max_page_count={ROOM}").fetchone())

    def fill() -> None:
        while True:
            acknowledged.add(queue.enqueue("t", {"v": "x" * 3000}).key)

    with pytest.raises(StorageFull, match=r"queue\.db: the disk is full: free some space"):
        fill()

    assert len(acknowledged) > ROOM / 3
    assert acknowledged == keys(queue)
    assert "ok" == queue.blocking(lambda it: it.execute("PRAGMA integrity_check").fetchone()[0])
    acknowledged.add(queue.enqueue("t", {"v": "x" * 3000}).key)
    assert acknowledged == keys(queue)


FULL_DISK = """
import json, pathlib, sys
from resilient_agents import DeadLetterQueue
from resilient_agents.errors import StorageFailure

folder = pathlib.Path(sys.argv[1])
ballast = folder / "ballast"
ballast.write_bytes(bytes(400_000))
queue = DeadLetterQueue(f"sqlite:///{folder}/queue.db")
acknowledged, errors = [], []

def fill():
    try:
        while True:
            acknowledged.append(queue.enqueue("t", {"v": "x" * 3000}).key)
    except StorageFailure as exc:
        errors.append(type(exc).__name__)

fill()
fill()
ballast.unlink()
for _ in range(10):
    acknowledged.append(queue.enqueue("t", {"v": "x" * 3000}).key)
found = [entry.key for entry in queue.entries(limit=100_000)]
check = queue.blocking(lambda it: it.execute("PRAGMA integrity_check").fetchone()[0])
queue.close()
print(json.dumps({"acknowledged": acknowledged, "found": found, "errors": errors, "check": check}))
"""


def test_full_disk(tmp_path: Path) -> None:
    """On a real disk that fills up and is tidied later, everything acknowledged is there."""
    mount = 'mount -t tmpfs -o size=1200k none "$0" && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", mount, str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")

    told = json.loads(subprocess.check_output([*command, sys.executable, "-c", FULL_DISK, tmp_path]))

    assert told["acknowledged"] == told["found"]
    assert len(told["found"]) > 20
    assert (["StorageFull", "StorageFull"], "ok") == (told["errors"], told["check"])


LIMITED_FILE = """
import json, resource, sys
from resilient_agents import DeadLetterQueue
from resilient_agents.errors import StorageFailure

queue = DeadLetterQueue(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
acknowledged, errors = [], []
try:
    while True:
        acknowledged.append(queue.enqueue("t", {"v": "x" * 3000}).key)
except StorageFailure as exc:
    errors.append(str(exc))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
acknowledged.append(queue.enqueue("t", {"v": "x" * 3000}).key)
found = [entry.key for entry in queue.entries(limit=100_000)]
queue.close()
print(json.dumps({"acknowledged": acknowledged, "found": found, "errors": errors}))
"""


def test_file_at_its_limit(url: str) -> None:
    """A file that may not grow refuses work; when it may again, everything acknowledged is there."""
    told = json.loads(subprocess.check_output([sys.executable, "-c", LIMITED_FILE, url]))

    assert told["acknowledged"] == told["found"]
    assert len(told["found"]) > 10
    assert 1 == len(told["errors"])
    assert told["errors"][0].startswith("queue.db: ")


STRANGER = """
import os, sys
from resilient_agents import DeadLetterQueue
from resilient_agents.errors import ApiError

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    DeadLetterQueue(sys.argv[1]).enqueue("t", {})
except ApiError as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize("closed", ["file", "lock", "folder"])
def test_no_permission(tmp_path: Path, url: str, closed: str) -> None:
    """Where the file, its lock or its folder may not be written, the error says so and names the file."""
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to(tmp_path.parents[2]):
            folder.chmod(0o755)
    if closed != "folder":
        DeadLetterQueue(url).close()
        (tmp_path / "queue.db-lock").chmod(0o444 if closed == "lock" else 0o666)
        (tmp_path / "queue.db").chmod(0o444 if closed == "file" else 0o666)
    tmp_path.chmod(0o555 if closed == "folder" else 0o777)

    try:
        told = subprocess.check_output([sys.executable, "-c", STRANGER, url], text=True)
    finally:
        tmp_path.chmod(0o700)

    assert told.startswith("StorageReadOnly queue.db: the file cannot be ")


def refusal(url: str) -> ApiError:
    """Open a queue in vain and return why."""
    with pytest.raises(ApiError) as caught:
        DeadLetterQueue(url)
    return caught.value


def test_no_database(tmp_path: Path, url: str) -> None:
    """A file of something else is left alone."""
    (tmp_path / "queue.db").write_bytes(b"Dear diary, " * 1000)

    exc = refusal(url)

    assert isinstance(exc, StorageCorrupt)
    assert "queue.db: the file is no SQLite database: move it away or choose another path" == str(exc)
    assert b"Dear diary, " * 1000 == (tmp_path / "queue.db").read_bytes()


def test_damaged(tmp_path: Path, url: str) -> None:
    """A damaged file is said to be damaged, not empty."""
    with DeadLetterQueue(url) as queue:
        for number in range(100):
            queue.enqueue("t", {"v": "x" * 500}, key=str(number))
    path = tmp_path / "queue.db"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))

    with (
        pytest.raises(StorageCorrupt, match=r"queue\.db: the file is damaged"),
        DeadLetterQueue(url) as queue,
    ):
        queue.entries()


def test_database_of_another_program(tmp_path: Path, url: str) -> None:
    """A database with other tables gets none of ours."""
    other = sqlite3.connect(tmp_path / "queue.db")
    other.execute("CREATE TABLE theirs (x)")
    other.close()

    exc = refusal(url)

    assert isinstance(exc, StorageFailure)
    assert "queue.db: the file belongs to another program: choose another path" == str(exc)


def test_newer_schema(tmp_path: Path, url: str) -> None:
    """A file of a newer version is not touched by an older one."""
    DeadLetterQueue(url).close()
    newer = sqlite3.connect(tmp_path / "queue.db")
    newer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    newer.close()

    message = str(refusal(url))

    assert message.startswith(f"queue.db: the file has schema version {SCHEMA_VERSION + 1}")
    assert message.endswith("upgrade resilient-agents")


def test_marked_as_ours(tmp_path: Path, url: str) -> None:
    """Our files say whose they are, for `file` and for other programs."""
    DeadLetterQueue(url).close()
    connection = sqlite3.connect(tmp_path / "queue.db")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    connection.close()

    assert APPLICATION_ID == application


def test_folder(tmp_path: Path, url: str) -> None:
    """A folder is no file."""
    (tmp_path / "queue.db").mkdir()

    exc = refusal(url)

    assert isinstance(exc, StorageReadOnly)
    assert str(exc).startswith("queue.db: the file cannot be opened")


def test_missing_folder(tmp_path: Path) -> None:
    """A path that leads nowhere is said to lead nowhere."""
    exc = refusal(f"sqlite:///{tmp_path}/nowhere/queue.db")

    assert isinstance(exc, StorageReadOnly)
    assert "check that its folder exists" in str(exc)


@pytest.mark.parametrize("leftovers", ["", "-wal", "-shm"])
def test_deleted_while_in_use(
    queue: DeadLetterQueue, tmp_path: Path, url: str, leftovers: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When somebody deletes the file, it is said aloud, and later work is durable again."""
    queue.enqueue("t", {}, key="before")
    for suffix in {"", leftovers}:
        (tmp_path / f"queue.db{suffix}").unlink()

    queue.enqueue("t", {}, key="after")

    assert {"after"} == keys(queue)
    assert "queue.db was moved or deleted while in use; opening it anew" in caplog.text
    with DeadLetterQueue(url) as other:
        assert {"after"} == keys(other)


def test_restored_backup(queue: DeadLetterQueue, tmp_path: Path) -> None:
    """A file that was put in the place of ours is taken up without a restart."""
    backup = tmp_path / "backup.db"
    with DeadLetterQueue(f"sqlite:///{backup}") as elsewhere:
        elsewhere.enqueue("t", {}, key="saved")
    queue.enqueue("t", {}, key="before")
    queue.close()
    queue.stats()
    backup.rename(tmp_path / "queue.db")

    queue.enqueue("t", {}, key="after")

    assert {"saved", "after"} == keys(queue)


def test_payload_that_cannot_be_read(queue: DeadLetterQueue, caplog: pytest.LogCaptureFixture) -> None:
    """An entry that was damaged in the file is parked, can be seen, and holds up no other."""
    taken: list[object] = []
    queue.handler("t")(taken.append)
    damaged, sound = queue.enqueue("t", {"n": 1}), queue.enqueue("t", {"n": 2})
    damage = "UPDATE entries SET payload = x'7b22' WHERE id = ?"
    queue.blocking(lambda it: it.execute(damage, (damaged.id,)).fetchone())

    done = Replayer(queue).run_once()

    assert ([{"n": 2}], 1) == (taken, done.delivered)
    [left] = queue.entries()
    assert (damaged.id, State.PARKED, "internal.data", {}) == (left.id, left.state, left.code, left.payload)
    assert f"entry {damaged.id} is parked" in caplog.text
    assert State.DELIVERED == getattr(queue.get("t", sound.key), "state", None)


def test_half_a_character_in_an_error(queue: DeadLetterQueue) -> None:
    """What a target says may be no valid text: it is recorded all the same, and so are the others."""
    taken: list[object] = []

    @queue.handler("t")
    def work(payload: dict[str, int]) -> None:
        if payload["n"] == 1:
            raise ValidationFailed("path: \ud83d", origin=Origin.DEPENDENCY, code="validation.\ud83d")
        taken.append(payload)

    queue.enqueue("t", {"n": 1})
    queue.enqueue("t", {"n": 2})

    done = Replayer(queue).run_once()

    assert (1, 1, [{"n": 2}]) == (done.parked, done.delivered, taken)
    [parked] = queue.entries()
    assert ("validation.?", "path: ?") == (parked.code, (parked.last_error or "")[-7:])


def test_one_file_by_two_names(tmp_path: Path) -> None:
    """A link leads to the same file and to the same lock."""
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    with (
        DeadLetterQueue(f"sqlite:///{tmp_path}/real.db") as real,
        DeadLetterQueue(f"sqlite:///{tmp_path}/link.db") as link,
    ):
        real.enqueue("t", {}, key="one")
        assert {"one"} == keys(link)

    assert ["real.db-lock"] == [path.name for path in tmp_path.glob("*-lock")]


@pytest.mark.parametrize(
    ("name", "kind", "advice"),
    [
        ("SQLITE_FULL", StorageFull, "the disk is full"),
        ("SQLITE_IOERR_SHMSIZE", StorageFull, "the disk is full"),
        ("SQLITE_IOERR_WRITE", StorageFailure, "the disk failed, or a quota"),
        ("SQLITE_READONLY_DBMOVED", StorageReadOnly, "-wal, -shm and -lock"),
    ],
)
def test_what_a_refusal_means(name: str, kind: type[StorageFailure], advice: str) -> None:
    """Each refusal of SQLite is told in words, with what to do."""
    exc = sqlite3.OperationalError()
    exc.sqlite_errorname = name

    failure = storage_failure(exc, Path("queue.db"))

    assert type(failure) is kind
    assert failure.detail.startswith("queue.db: ")
    assert advice in failure.detail
