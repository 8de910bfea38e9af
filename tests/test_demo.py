"""`edge demo` as a user runs it in a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE
from waiting import is_running, wait_until

TIMEOUT_S = 60
PICTURE = Path(__file__).parent.parent / "models" / "yolox-nano-352" / "golden.jpg"


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "edge", *words])
        self.output = ""

    def read_until(self, text: str) -> None:
        while text not in self.output:
            self.output += os.read(self._terminal, 4096).decode()

    def ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def wait(self) -> int:
        """The exit code, once all output was read."""
        try:
            while chunk := os.read(self._terminal, 4096):
                self.output += chunk.decode()
        except OSError:  # a terminal's end of file
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def daemons_of(pid: int) -> list[int]:
    """The processes that a process started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


@pytest.mark.parametrize(
    "stop",
    [Terminal.ctrl_c, *(lambda t, n=n: os.kill(t.pid, n) for n in (signal.SIGTERM, signal.SIGHUP))],
    ids=["ctrl-c", "terminate", "hang-up"],
)
def test_stopping_the_demo_stops_its_daemon_and_shows_the_summary(
    stop: Callable[[Terminal], None],
):
    terminal = Terminal("demo")
    terminal.read_until("new ")
    (daemon,) = daemons_of(terminal.pid)
    stop(terminal)
    assert terminal.wait() == EXIT_OK
    assert "skipped by cause" in terminal.output
    assert "events of" in terminal.output
    assert "Traceback" not in terminal.output
    wait_until(lambda: not is_running(daemon))


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--seconds", "0"], EXIT_USAGE, "'0' is not a number above 0"),
        (["--seconds", "nan"], EXIT_USAGE, "'nan' is not a number above 0"),
        (["--budget-ms", "3"], EXIT_USAGE, "argument --budget-ms: '3': Expected `float` >= 5.0"),
        (["--faster-model", "nothing"], EXIT_CONFIG, "'nothing' is not installed"),
        (["--source", "none.mp4"], EXIT_NO_INPUT, "none.mp4: no such file"),
        (["--source", "rtsp://me:secret@localhost:1/", "--seconds", "3"], EXIT_FAILURE, "no frame"),
        (["--source", str(PICTURE)], EXIT_FAILURE, "edge infer looks at single pictures"),
    ],
    ids=["zero", "nan", "budget", "model", "source", "camera", "picture"],
)
def test_impossible_demo_options_are_one_line_errors(words: list[str], code: int, part: str):
    done = subprocess.run(
        [sys.executable, "-m", "edge", "demo", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code
    assert part in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
