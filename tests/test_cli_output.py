"""Output that nobody takes, has no room, or cannot be encoded; Ctrl-C before anything ran."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import (
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_OK,
)
from waiting import wait_until

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 60


def test_output_in_an_encoding_without_a_sign_escapes_it():
    done = subprocess.run(
        [sys.executable, "-m", "edge", "models", "--help"],
        capture_output=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (EXIT_OK, b"")
    assert rb"\u2026" in done.stdout  # an ellipsis


@pytest.mark.parametrize("words", [("edge", "models"), ("tools", "validate")])
def test_ctrl_c_during_the_imports_leaves_no_traceback(tmp_path: Path, words: tuple[str, ...]):
    marker = tmp_path / "importing"
    (tmp_path / "msgspec.py").write_text(
        f"import pathlib, time\npathlib.Path({str(marker)!r}).touch()\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    child = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(marker.exists, TIMEOUT_S)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=TIMEOUT_S)[1] == ""
    assert child.returncode == -signal.SIGINT


def test_sigterm_stops_tools_like_ctrl_c():
    program = (
        "import os, signal, sys, time\n"
        "from tools import __main__, cli\n"
        "def run(*_):\n"
        "    for _ in range(2):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "cli._run = run\n"
        "sys.argv[1:] = ['demo-clip']\n"
        "sys.exit(__main__.main())\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, cwd=ROOT, check=False
    )
    assert done.stderr == "edge-tools: stopped; what was saved so far is kept\n"
    assert done.returncode == EXIT_FAILURE


def in_shell(words: str) -> subprocess.CompletedProcess[str]:
    """Run one of our programs with redirections of the shell."""
    return subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m {words}', sys.executable],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "code", "complaint"),
    [
        (">/dev/full", EXIT_FAILURE, "edge: output: No space left on device; make room\n"),
        (">&-", EXIT_OK, ""),
        ("2>&-", EXIT_OK, ""),
    ],
    ids=["full", "no output", "no errors"],
)
def test_output_to_a_full_device_leaves_no_traceback(redirection: str, code: int, complaint: str):
    done = in_shell(f"edge config-schema {redirection}")
    assert (done.returncode, done.stderr) == (code, complaint)


@pytest.mark.parametrize("redirection", [">&-", "2>&-"])
def test_tool_with_a_closed_stream_leaves_no_traceback(redirection: str):
    done = in_shell(f"tools validate color-64 {redirection}")
    assert (done.returncode, done.stderr) == (EXIT_OK, "")
    assert bool(done.stdout) == (redirection == "2>&-")


@pytest.mark.parametrize("redirection", ["| true", ">/dev/full"])
def test_error_of_a_tool_keeps_its_code_when_nobody_takes_the_output(redirection: str):
    command = '("$0" -m tools validate color-64 nosuch; echo "code $?" >&2)'
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} {redirection}", sys.executable],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    complaint, code = done.stderr.splitlines()
    assert complaint.startswith("edge-tools: model 'nosuch' is not installed")
    assert code == f"code {EXIT_CONFIG}"


@pytest.mark.parametrize("command", ["config-schema", "models"], ids=["long", "short"])
def test_closed_stdout_is_not_a_failure(command: str):
    words = [sys.executable, "-m", "edge", command]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=buffered
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read().decode()
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert process.returncode == EXIT_OK
