"""Standard error of C++ code is passed on, except for the runtime's banner."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edge.quiet import GREETINGS, without_greeting


def test_only_the_banner_of_the_runtime_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    with without_greeting():
        os.write(2, GREETINGS[0] + b"\nERROR: this matters\n")
    assert capfd.readouterr().err == "ERROR: this matters\n"


def test_output_before_a_failure_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with without_greeting():
            os.write(2, b"why it failed\n")
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "why it failed\nafter\n"


def test_commands_that_load_models_print_nothing_to_stderr_on_success() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge", "models"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
