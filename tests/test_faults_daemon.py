"""Faults of the whole daemon: signals, its files replaced under it, no file descriptors."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from asking import EVENTS, events_of
from daemon import Daemon
from edge import model_store
from edge.config import DetectorConfig
from edge.messages import Event
from fault_table import Fault
from mosquitto import Mosquitto, Subscriber
from waiting import wait_until

MODEL = DetectorConfig().model


def lost_of(events: list[Event]) -> int:
    """How many numbers are missing below the highest of each start."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for event in events:
        numbers[event.boot_id].add(event.seq)
    return sum(max(found) - len(found) for found in numbers.values())


def wait_for_new_event(subscriber: Subscriber) -> None:
    count = len(events_of(subscriber.received))
    subscriber.wait_for(lambda all_: len(events_of(all_)) > count, 40)


def reload_refused(daemon: Daemon) -> None:
    """Have the daemon reload its config, which it must refuse."""

    def refusals() -> int:
        return sum("reload_refused" in line for line in daemon.log)

    before = refusals()
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: refusals() > before)


@pytest.mark.fault("SIGTERM, SIGINT, SIGHUP at any moment, twice")
def test_signals_at_any_moment(tmp_path: Path, fault: Fault) -> None:
    chance = random.Random(11)
    pause = threading.Event()
    ends = (signal.SIGTERM, signal.SIGINT)
    for number in range(3 * fault.tries):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Daemon(folder, 1) as daemon, fault.trial() as strike:
            for _ in range(3):
                pause.wait(chance.uniform(0, 1.5))
                if any("service.started" in line for line in daemon.log):
                    daemon.signal(signal.SIGHUP)
            strike.strike()
            daemon.signal(chance.choice(ends))
            pause.wait(chance.uniform(0, 0.1))
            daemon.signal(chance.choice(ends))
            code = daemon.wait(20)
            strike.recovered()
        # 1: interrupted in an import; negative: before Python itself listened.
        assert code in {0, 1, *(128 + one for one in ends), *(-one for one in ends)}
        if any("service.started" in line for line in daemon.log):
            assert code in {0, *(128 + one for one in ends)}
            assert not [line for line in daemon.log if "Traceback" in line]


@pytest.mark.fault("config replaced by garbage, then reload")
def test_config_replaced_by_garbage(
    tmp_path: Path, fault: Fault, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    chance = random.Random(12)
    with Daemon(tmp_path, mosquitto.port) as daemon:
        subscriber.wait_for_topic(EVENTS, timeout_s=40)
        good = daemon.config_path.read_bytes()
        for _ in range(10 * fault.tries):
            with fault.trial() as strike:
                garbage = bytearray(good)
                for _ in range(20):
                    garbage[chance.randrange(len(garbage))] = chance.randrange(256)
                daemon.config_path.write_bytes(bytes(garbage))
                strike.strike()
                reload_refused(daemon)
                strike.recovered()
        wait_for_new_event(subscriber)
        assert daemon.stop() == 0
    assert lost_of(events_of(subscriber.received)) == 0


@pytest.mark.fault("model replaced under the daemon, then reload")
def test_model_replaced_by_garbage(
    tmp_path: Path, fault: Fault, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    models = tmp_path / "models"
    shutil.copytree(model_store.find(MODEL, None), models / MODEL)
    file = next((models / MODEL).glob("*.tflite"))
    good = file.read_bytes()
    with Daemon(tmp_path, mosquitto.port, models_dir=str(models)) as daemon:
        subscriber.wait_for_topic(EVENTS, timeout_s=40)
        for number in range(3 * fault.tries):
            with fault.trial() as strike:
                file.write_bytes(random.Random(number).randbytes(len(good)))  # in place
                reload_refused(daemon)
                file.write_bytes(good)
                strike.strike()
                wait_for_new_event(subscriber)  # the old model stays in use
                strike.recovered(lost=lost_of(events_of(subscriber.received)))
        assert daemon.stop() == 0
    assert lost_of(events_of(subscriber.received)) == 0


@pytest.mark.fault("out of file descriptors while the broker restarts")
def test_out_of_file_descriptors(
    tmp_path: Path, fault: Fault, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with Daemon(tmp_path, mosquitto.port) as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        for _ in range(fault.tries):
            wait_for_new_event(subscriber)
            with fault.trial() as strike:
                highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
                mosquitto.restart()
                subscriber.wait_subscribed()
                time.sleep(2)  # several attempts to connect
                assert daemon.process.poll() is None, "\n".join(daemon.log)
                assert (
                    max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) <= highest
                )
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
                strike.strike()
                wait_for_new_event(subscriber)
                strike.recovered()
        assert daemon.stop() == 0
    assert not [line for line in daemon.log if "Traceback" in line]
