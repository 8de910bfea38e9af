"""Start-up time and memory of a fresh daemon process, measured from outside.

A child process imports edge, loads both models and takes the demo clip as fast as possible until
the pipeline tells of the first object; the parent's clock starts before the interpreter does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from edge.errors import EdgeError

TIMEOUT_S = 120

CHILD = """
import json, time
from edge.capture import open_source
from edge.config import BudgetConfig, CameraConfig, Config
from edge.health import read_condition
from edge.values import Frame
from tools.benchmark.frame_path import DEMO_CLIP, NO_BUDGET_MS, Rig
camera = CameraConfig(source=str(DEMO_CLIP), realtime=False)
source = open_source(camera)
rig = Rig(Config(cameras={"clip": camera}, budget=BudgetConfig(frame_ms=NO_BUDGET_MS)), None)
rig.pipeline.warm_up(source.read())
loaded = time.time()
number, events = 0, ()
while not events:
    number += 1
    bgr = source.read()
    if bgr is None:
        raise SystemExit(f"no object in {number} frames of the demo clip")
    frame = Frame("clip", number, bgr, time.monotonic(), time.time(), number / 10)
    events = rig.pipeline.process(frame).events
rss = read_condition().rss_bytes
print(json.dumps({"loaded": loaded, "event": time.time(), "frames": number, "rss_bytes": rss}))
"""


def measure() -> dict[str, Any]:
    """Return seconds from the start of Python to loaded models and to the first event, and RSS."""
    started = time.time()
    try:
        child = subprocess.run(
            [sys.executable, "-c", CHILD],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise EdgeError(f"start-up: no event within {TIMEOUT_S} s") from None
    if child.returncode:
        reason = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise EdgeError(f"start-up: the child process failed: {reason[-1]}")
    facts = json.loads(child.stdout)
    return {
        "models_loaded_s": round(facts["loaded"] - started, 3),
        "first_event_s": round(facts["event"] - started, 3),
        "frames_to_first_event": facts["frames"],
        "rss_mb": round(facts["rss_bytes"] / 1e6, 1),
    }


def show(report: dict[str, Any]) -> None:
    """Print the numbers."""
    print(
        f"\nstart-up: models loaded after {report['models_loaded_s']} s, first event after "
        f"{report['first_event_s']} s ({report['frames_to_first_event']} frames); "
        f"RSS {report['rss_mb']} MB"
    )
