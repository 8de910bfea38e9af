"""The soak's figures: leaks are found, and outages of the broker are separated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import EXIT_FAILURE, EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE, EdgeError
from tools import soak
from tools.cli import main
from tools.soak import BUDGETS, Sample, figures_of

STEADY = Sample(
    at_s=0, rss_bytes=100_000_000, descriptors=20, threads=8, log_lines=5, events=0,
    written_bytes=0, lost=0, silent_cameras=0, is_away=False,
)  # fmt: skip


def steady(count: int = 120) -> list[Sample]:
    """Ten minutes, one event and 1000 bytes in five seconds."""
    return [
        replace(STEADY, at_s=5.0 * n, events=n, written_bytes=1000 * n) for n in range(1, count + 1)
    ]


def broken(samples: list[Sample]) -> set[str]:
    figures = figures_of(samples) | {"exit_code": 0.0}
    return {name for name, limit in BUDGETS.items() if figures[name] > limit}


def test_steady_run_exceeds_no_limit() -> None:
    assert broken(steady()) == set()
    assert figures_of(steady())["spool_mb_per_day_broker_there"] == pytest.approx(86.4)


@pytest.mark.parametrize(
    ("field", "per_sample", "name", "figure"),
    [
        ("rss_bytes", 20_000, "rss_slope_mb_per_hour", 14.4),
        ("descriptors", 1, "descriptors_growth", 96),  # of 120 samples, the first fifth left out
        ("threads", 1, "threads_growth", 96),
        ("log_lines", 1, "log_lines_per_minute", 12),
        ("lost", 1, "events_lost", 119),
    ],
)
def test_growth_is_reported(field: str, per_sample: int, name: str, figure: float) -> None:
    grown = [
        replace(one, **{field: getattr(one, field) + per_sample * n})
        for n, one in enumerate(steady())
    ]
    assert broken(grown) == {name}
    assert figures_of(grown)[name] == pytest.approx(figure)


def test_warm_up_is_not_reported_as_a_leak() -> None:
    samples = steady()
    warming = [replace(one, rss_bytes=n * 4_000_000) for n, one in enumerate(samples[:20])]
    assert broken(warming + samples[20:]) == set()


def test_writes_are_measured_separately_with_and_without_the_broker() -> None:
    samples = [replace(one, is_away=40 <= n < 80) for n, one in enumerate(steady())]
    for n in range(41, 80):  # ten times as much while it is away
        samples[n] = replace(
            samples[n], written_bytes=samples[40].written_bytes + 10_000 * (n - 40)
        )
    figures = figures_of(samples)
    assert figures["spool_mb_per_day_broker_there"] == pytest.approx(86.4)
    assert figures["spool_mb_per_day_broker_away"] == pytest.approx(864)


@pytest.mark.parametrize("count", [0, 1])
def test_daemon_that_hardly_answers_is_an_error_that_says_so(count: int) -> None:
    with pytest.raises(EdgeError, match=f"{count} answers of the daemon: too few"):
        figures_of(steady(count))


def test_silent_daemon_gives_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_folder: Path) -> None:
        raise TimeoutError

    monkeypatch.setattr(soak.status_socket, "ask", silent)
    assert soak._sample(tmp_path, os.getpid(), 5.0, 0, is_away=False) is None


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("trap 'exit 0' TERM", 0),
        ("trap 'exit 3' TERM", 3),
        ("trap 'kill -SEGV $$' TERM", 128 + signal.SIGSEGV),
        ("trap '' TERM", 128 + signal.SIGKILL),  # does not stop
    ],
)
def test_only_a_clean_end_of_the_daemon_is_within_the_budget(
    script: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "STOP_S", 0.5 if code == 128 + signal.SIGKILL else 20)
    command = ["sh", "-c", f"{script}; echo ready; while :; do sleep 0.05; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert soak._stopped(process) == code


@pytest.mark.parametrize(
    ("changes", "exit_code", "names"),
    [({}, 0, []), ({"lost": 1}, 0, ["events_lost"]), ({}, 137, ["exit_code"])],
)
def test_command_names_the_broken_budgets_and_fails(
    changes: dict[str, int],
    exit_code: int,
    names: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []
    samples = [replace(one, **changes) for one in steady()]

    def fake(_folder: Path, sources: list[str], run_s: float) -> tuple[list[Sample], int]:
        asked.append((sources, run_s))
        return samples, exit_code

    monkeypatch.setattr(soak, "_run_and_sample", fake)
    report = tmp_path / "soak.json"
    words = ["soak", "--minutes", "1", "--source", "clip.mp4", "--cameras", "2"]
    words += ["--json", str(report)]
    assert main(words) == (EXIT_FAILURE if names else EXIT_OK)
    assert asked == [(["clip.mp4", "clip.mp4"], 60)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == list(BUDGETS)
    assert [line[0] for line in lines if line[-1] == "BROKEN"] == names
    saved = json.loads(report.read_text())
    assert saved["figures"]["exit_code"] == exit_code
    assert len(saved["samples"]) == len(samples)


def test_source_without_frames_is_an_error_and_no_good_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "SAMPLE_S", 0.5)
    monkeypatch.setattr(soak, "FIRST_FRAME_S", 1.0)
    words = ["soak", "--minutes", "1", "--cameras", "2", "--source", "/dev/video63"]
    assert main(words) == EXIT_UNAVAILABLE
    assert "2 of 2 cameras gave no frame in " in capsys.readouterr().err


def test_run_that_is_too_short_to_measure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "0.9"]) == EXIT_USAGE  # 1: a budget is broken
    assert "--minutes 0.9: too short" in capsys.readouterr().err
