"""Child processes: what they print, and one line for each way to fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge.errors import EdgeError, ModelError
from tools import child


def test_output_and_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.getcwd())"]
    assert child.output_of(command, "it", folder=tmp_path) == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "last"),
        (["sh", "-c", "exit 3"], "it ended without a message"),
        (["sh", "-c", "kill -9 $$"], "its process was killed (signal 9)"),
        (["sleep", "60"], "not done within 0.1 s"),
        (["no-such-program"], "No such file or directory"),
    ],
)
def test_failure_is_one_line_that_begins_with_the_name(command: list[str], reason: str) -> None:
    with pytest.raises(EdgeError) as raised:
        child.output_of(command, "sender", timeout_s=0.1 if command[0] == "sleep" else 60)
    assert str(raised.value) == f"sender: {reason}"


def test_error_is_of_the_callers_kind() -> None:
    with pytest.raises(ModelError, match="runtime: it ended"):
        child.output_of(["false"], "runtime", error=ModelError)
