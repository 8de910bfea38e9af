"""Start-up time and memory of a new process that runs the daemon's pipeline.

A child process imports edge, loads both models and processes the demo clip as fast as possible
until the pipeline emits the first event, or to the clip's end if the detector knows none of its
objects. The parent measures from before Python starts; the monotonic clock is the same in both.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tools import child

TIMEOUT_S = 120

CHILD = """
import json, sys, time
from edge.capture import open_source
from edge.health import read_condition
from edge.pipeline import warm_up
from edge.values import Frame
from tools.benchmark.frame_path import FRAME_S, Rig, config_with
models, models_dir = json.loads(sys.argv[1])
config = config_with(models)
source = open_source(config.cameras["clip"])
rig = Rig(config, models_dir)
warm_up(rig.models, rig.governor, time.monotonic, source.read())
loaded_s = time.monotonic()
number, events = 0, ()
while not events:
    bgr = source.read()
    if bgr is None:
        break
    number += 1
    frame = Frame("clip", number, bgr, time.monotonic(), time.time(), number * FRAME_S)
    events = rig.pipeline.process(frame).events
event_s = time.monotonic() if events else None
rss = read_condition().rss_bytes
print(json.dumps({"loaded_s": loaded_s, "event_s": event_s, "frames": number, "rss_bytes": rss}))
"""


def measure(models: dict[str, str], models_dir: str | None = None) -> dict[str, Any]:
    """Return seconds from the start of Python to loaded models and to the first event, and RSS.

    models: names or folders by task, instead of the default ones. The event's time is None if the
    detector knows no object of the demo clip. Raises EdgeError when the child process fails.
    """
    started_s = time.monotonic()
    command = [sys.executable, "-c", CHILD, json.dumps([models, models_dir])]
    facts = json.loads(child.output_of(command, "start-up", timeout_s=TIMEOUT_S))
    return {
        "models_loaded_s": round(facts["loaded_s"] - started_s, 3),
        "first_event_s": facts["event_s"] and round(facts["event_s"] - started_s, 3),
        "frames": facts["frames"],
        "rss_mb": round(facts["rss_bytes"] / 1e6, 1),
    }


def show(report: dict[str, Any]) -> None:
    """Print the measurements."""
    event_s = report["first_event_s"]
    event = "no event" if event_s is None else f"first event after {event_s} s"
    print(
        f"\nstart-up: models loaded after {report['models_loaded_s']} s, {event} "
        f"({report['frames']} frames); RSS {report['rss_mb']} MB"
    )
