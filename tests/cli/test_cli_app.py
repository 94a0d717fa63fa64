"""The command line: options, messages, exit statuses."""

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from resilient_agents.cli.app import app

COMMAND = (sys.executable, "-c", "from resilient_agents.cli import main; main()")


def test_version_is_told() -> None:
    """``--version`` names the command and the installed version."""
    result = CliRunner().invoke(app, ["--version"])

    assert 0 == result.exit_code
    assert f"resilient-agents {version('resilient-agents')}\n" == result.stdout


def test_main_runs_the_command() -> None:
    """The entry point shows every command in its help."""
    child = subprocess.run([*COMMAND, "--help"], check=True, capture_output=True, text=True)

    assert all(name in child.stdout for name in ("demo", "fake-kommo", "worker"))


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_missing_extra_is_named_without_a_traceback(missing: str) -> None:
    """Without the extra the command says what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom resilient_agents.cli import main; main()"
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert 1 == child.returncode
    assert "pip install 'resilient-agents[cli]'" in child.stderr
    assert "Traceback" not in child.stderr


def test_wrong_fault_script_is_refused(tmp_path: Path) -> None:
    """The message says which fault is wrong and why."""
    script = tmp_path / "faults.json"
    script.write_text('[{"kind": "503"}, {"kind": "earthquake"}]')

    for command in (["demo"], ["fake-kommo", "--port", "0"]):
        result = CliRunner().invoke(app, [*command, "--faults", str(script)])

        assert 2 == result.exit_code
        assert "item 1" in result.stderr
        assert "--faults" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--leads", "0"], "--leads"),
        (["--leads", "many"], "--leads"),
        (["--kills", "-1"], "--kills"),
        (["--leads", "3", "--kills", "4"], "--kills"),
        (["--rate", "0"], "--rate"),
        (["--faults", "missing.json"], "--faults"),
    ],
)
def test_wrong_option_of_the_demo_is_refused(arguments: list[str], named: str) -> None:
    """Nothing is started; the message names the option and the status is 2."""
    result = CliRunner().invoke(app, ["demo", *arguments])

    assert 2 == result.exit_code
    assert named in result.stderr
    assert "" == result.stdout


def test_folder_to_keep_must_be_new_or_empty(tmp_path: Path) -> None:
    """An earlier database would make every lead look delivered."""
    (tmp_path / "leads.db").touch()
    full = CliRunner().invoke(app, ["demo", "--keep", str(tmp_path)])
    file = CliRunner().invoke(app, ["demo", "--keep", str(tmp_path / "leads.db")])

    assert (2, 2) == (full.exit_code, file.exit_code)
    assert "not empty" in full.stderr
    assert "--keep" in file.stderr


def test_process_that_cannot_start_ends_the_demo_with_a_message() -> None:
    """A process that does not come up is reported in a line, with status 1."""
    code = (
        "import sys; sys.executable = '/bin/false'\nfrom resilient_agents.cli.app import app; app(['demo'])"
    )
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert 1 == child.returncode
    assert "did not start" in child.stderr
    assert "Traceback" not in child.stderr


def test_fake_kommo_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    """It tells URL and token, obeys the fault script, and ends with status 0 on SIGTERM."""
    script = tmp_path / "faults.json"
    script.write_text(json.dumps([{"kind": "503", "calls": 2}]))
    command = [*COMMAND, "fake-kommo", "--port", "0", "--token", "secret", "--faults", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url, _, token = child.stdout.readline().split()
        headers = {"Authorization": f"Bearer {token}"}
        statuses = [
            httpx.get(f"{url}/api/v4/leads", headers=headers, timeout=60).status_code for _ in range(3)
        ]
        child.send_signal(signal.SIGTERM)

    assert [204, 503, 204] == statuses
    assert 0 == child.returncode
    assert "secret" == token


def test_port_that_does_not_exist_is_refused() -> None:
    """The message says what to do."""
    result = CliRunner().invoke(app, ["fake-kommo", "--port", "99999"])

    assert 2 == result.exit_code
    assert "99999" in result.stderr
