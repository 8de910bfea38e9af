"""How classifiers use TensorFlow: with as many CPU threads as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from class_folders import draw
from classifying import run_python

# Trains up to the point where the network is built, then says what TensorFlow would use.
SCRIPT = """
import sys
from tools import cli
from tools.classifier import network, runtime

def built(training, classes):
    _, tensorflow = runtime.load()
    print(tensorflow.config.threading.get_intra_op_parallelism_threads())
    print(tensorflow.config.threading.get_inter_op_parallelism_threads())
    raise SystemExit

network.build = built
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tensorflow_uses_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    draw(tmp_path / "set", 20, seed=1)
    words = ["train", "classifier", str(tmp_path / "set"), "--side", "32", "--threads", "2"]
    printed = run_python(tmp_path, "-c", SCRIPT, *words, "--output", str(tmp_path / "run"))
    assert printed[-2:] == ["2", "2"]
