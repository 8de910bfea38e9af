"""How far long work of `edge-tools` has come: a bar on a terminal, lines in the log elsewhere."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("rich")

from tools import progress
from tools.progress import track


def test_log_tells_each_minute_how_far_work_has_come(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    minutes = iter(range(9))
    clock = SimpleNamespace(monotonic=lambda: next(minutes) * 60.0)
    monkeypatch.setattr(progress, "time", clock)
    with caplog.at_level(logging.INFO):
        assert list(track("abcd", "letters")) == ["a", "b", "c", "d"]
    assert caplog.messages == [
        "work.progress done=1 of=4 left_s=180 what=letters",
        "work.progress done=2 of=4 left_s=120 what=letters",
        "work.progress done=3 of=4 left_s=60 what=letters",
    ]
    assert capsys.readouterr() == ("", "")


def test_log_says_nothing_of_short_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert list(track(iter("ab"), "letters")) == ["a", "b"]
    assert not caplog.messages


def test_work_of_unknown_length_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LOGGED_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        assert list(track(iter("a"), "letters")) == ["a"]
    assert caplog.messages == ["work.progress done=1 of=- left_s=- what=letters"]


def test_terminal_shows_a_bar_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track(iter("ab"), "letters", 2)) == ["a", "b"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "letters" in shown.err
    assert "100%" in shown.err
