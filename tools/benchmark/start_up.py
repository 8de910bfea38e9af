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

CHILD = """
import json, time
from edge.budget import Governor
from edge.capture import open_source
from edge.config import CameraConfig, Config
from edge.health import read_condition
from edge.values import Frame
from tools.benchmark.frame_path import DEMO_CLIP
from edge.service import build_pipeline, load_models
camera = CameraConfig(source=str(DEMO_CLIP), realtime=False)
config = Config(cameras={"clip": camera})
models = load_models(config)
pipeline = build_pipeline("clip", config, models, Governor(200, time.monotonic), time.monotonic)
source = open_source(camera)
pipeline.warm_up(source.read())
loaded = time.time()
for number in range(1, 10_000):
    frame = Frame("clip", number, source.read(), time.monotonic(), time.time(), number / 10)
    if pipeline.process(frame).events:
        break
rss = read_condition().rss_bytes
print(json.dumps({"loaded": loaded, "event": time.time(), "frames": number, "rss_bytes": rss}))
"""


def measure() -> dict[str, Any]:
    """Return seconds from the start of Python to loaded models and to the first event, and RSS."""
    started = time.time()
    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=False, timeout=120
    )
    if child.returncode:
        raise EdgeError(f"start-up: the child process failed: {child.stderr.strip()[-300:]}")
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
