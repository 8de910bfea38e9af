"""Stopped, killed or partly damaged runs resume and lose no finished work."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from class_folders import draw_splits
from classifying import CHILD, Walk, environment, head, output_of, run_all, stopped, weights_of
from waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_killed_training_resumes_and_ends_with_the_same_weights(walk: Walk) -> None:
    output_of(walk, "head", 0)
    state = walk.folder / "cut" / "state" / "head.json"
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=walk.folder,
        env=environment(walk.folder),
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps([head(walk.folder, "cut")]))
        process.stdin.close()
        wait_until(state.exists, timeout_s=240)
        process.send_signal(signal.SIGKILL)
    done = len(json.loads(state.read_text())["history"])
    assert 0 < done < 60
    (answer,) = run_all(walk.folder, {"cut": head(walk.folder, "cut")}).values()
    assert answer[0] == 0
    whole, cut = (weights_of(walk.folder / name / "model.keras") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(cut[name], value, err_msg=name)


def test_killed_pruning_and_int8_training_resume_and_end_with_the_same_weights(walk: Walk) -> None:
    output_of(walk, "smaller", 0)

    def command(name: str) -> list[str]:
        base = ["quantize", "classifier", str(walk.folder / "base"), "--levels", "TL"]
        settings = ["--prune", "0.3", "--prune-epochs", "2", "--qat", "5"]
        return [*base, *settings, "--output", str(walk.folder / name)]

    state = walk.folder / "adapt-cut" / "adapted" / "state"
    stopped(walk, command("adapt-cut"), lambda: any(state.glob("*/qat.json")))
    (note,) = state.glob("*/qat.json")
    assert 0 < len(json.loads(note.read_text())["history"]) < 5
    names = ("adapt-cut", "adapt-whole")
    for answer in run_all(walk.folder, {name: command(name) for name in names}).values():
        assert answer[0] == 0, answer[2]
    assert not state.exists()
    cut, whole = (weights_of(walk.folder / name / "adapted" / "model.keras") for name in names)
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(cut[name], value, err_msg=name)


def test_stopped_measurement_resumes_with_the_missing_models(walk: Walk) -> None:
    output_of(walk, "levels", 0)
    output = walk.folder / "measured-cut"
    levels = [str(walk.folder / "base" / "levels" / name) for name in ("TL", "F16", "DR", "IO")]
    command = ["evaluate", *levels, "--output", str(output)]
    stopped(walk, command, lambda: any((output / ".unfinished").glob("*.json")))
    done = len(list((output / ".unfinished").glob("*.json")))
    assert 0 < done < 4
    answers = run_all(walk.folder, {"on": command, "afresh": command})
    assert [answer[0] for answer in answers.values()] == [0, 0]
    assert answers["on"][2].count("measured before the run stopped") == done
    assert "measured before" not in answers["afresh"][2]
    rows = list(csv.DictReader((output / "levels.csv").read_text().splitlines()))
    assert [row["level"] for row in rows] == ["TL", "F16", "DR", "IO"]
    assert not (output / ".unfinished").exists()


def test_unreadable_model_does_not_lose_figures_of_others(walk: Walk) -> None:
    output_of(walk, "levels", 0)
    folder = walk.folder / "broken-level"
    shutil.copytree(walk.folder / "base" / "levels" / "IO", folder)
    (folder / "model.tflite").write_bytes(b"no model")
    levels = [str(walk.folder / "base" / "levels" / "TL"), str(folder)]
    data = ["--data", str(walk.folder / "set"), "--output", str(walk.folder / "half")]
    failing = ["evaluate", "classifier", *levels, *data]
    answers = run_all(walk.folder, {"first": failing, "second": failing})
    for code, _, err in answers.values():
        assert code == 78
        assert err.splitlines()[-1].count("broken-level/model.tflite") == 1
    assert "levels/TL: measured before the run stopped" in answers["second"][2]


def test_other_pictures_convert_and_prune_again(walk: Walk) -> None:
    output_of(walk, "smaller", 0)
    other, folder = walk.folder / "other-set", walk.folder / "recalibrated"
    draw_splits(other, 51)  # other pictures, of which as many calibrate
    quantize = ["quantize", str(walk.folder / "base"), "--representative", "30", "--levels", "IO"]
    prune = ["--prune", "0.3", "--prune-epochs", "1", "--output", str(folder)]
    files = [folder / "IO" / "model.tflite", folder / "adapted" / "model.keras"]
    before: list[bytes] = []
    for data in (walk.folder / "set", other):
        command = [*quantize, *prune, "--data", str(data)]
        (answer,) = run_all(walk.folder, {"on": command}).values()
        assert answer[0] == 0, answer[2]
        after = [file.read_bytes() for file in files]
        assert after[:1] != before[:1]
        assert after[1:] != before[1:]
        before = after


def test_sweep_resumes_but_restarts_for_another_network(walk: Walk) -> None:
    output_of(walk, "levels", 0)
    levels = walk.folder / "swept"
    levels.mkdir()
    for name in ("representative.csv", "representative.json"):
        shutil.copy(walk.folder / "base" / "levels" / name, levels)
    points = json.loads((levels / "representative.json").read_text())
    assert set(points["accuracy"]) == {"3", "30"}
    points["accuracy"] = {"3": 0.123}  # as if the run had stopped here
    (levels / "representative.json").write_text(json.dumps(points))
    base = ["quantize", str(walk.folder / "base"), "--levels", "TL", "--output", str(levels)]
    (answer,) = run_all(walk.folder, {"on": [*base, "--sweep", "3", "30"]}).values()
    assert answer[0] == 0
    assert "3 representative pictures: 0.1230" in answer[1]
    (levels / "representative.json").write_text(json.dumps(points | {"made_from": "another"}))
    (answer,) = run_all(walk.folder, {"anew": [*base, "--sweep", "3"]}).values()
    assert "0.1230" not in answer[1]
