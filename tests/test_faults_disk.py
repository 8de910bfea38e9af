"""The disk's faults and power cuts, on a real spool and real processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from disk import full_disk
from edge.spool import Spool
from edge.spool import spool as spool_module
from fault_table import Fault
from mosquitto import PERSISTENT, Mosquitto, Subscriber
from publishing import EVENTS, start_child, starting, wait_connected
from publishing import body as event_body
from publishing import seqs as events_seqs
from spool_child import body_of
from spooling import PROMPT, TOPIC, accepting, body, killed, open_spool, printed, seqs
from waiting import wait_until

CHILD = Path(__file__).with_name("spool_child.py")
COUNT = 30
FAST_RETRY_S = 0.02


def start_spool(path: Path, boot_id: str) -> subprocess.Popen[str]:
    return accepting(CHILD, str(path), boot_id)


def lost_of(spool: Spool, last: int) -> int:
    return len(set(range(1, last + 1)) - set(seqs(spool)))


@pytest.mark.fault("disk full")
def test_full_disk(tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", FAST_RETRY_S)
    for number in range(3 * fault.tries):
        with open_spool(tmp_path / str(number)) as spool, fault.trial() as strike:
            spool.put(TOPIC, body(0))
            assert spool.flush(10)
            with full_disk(4096):
                for n in range(1, COUNT):
                    spool.put(TOPIC, body(n))
                wait_until(lambda: spool.counters().failure != "")
            strike.strike()
            assert spool.flush(20)
            strike.recovered(lost=lost_of(spool, COUNT))
            assert lost_of(spool, COUNT) == 0


@pytest.mark.fault("disk turns read-only")
def test_disk_that_turns_read_only(
    small_disk: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only as after a kernel remount: new writes fail with EROFS once the file is reopened."""
    monkeypatch.setattr(spool_module, "RETRY_S", FAST_RETRY_S)
    remount = ["mount", "-o"]
    for number in range(3 * fault.tries):
        with fault.trial() as strike:
            with open_spool(small_disk, boot_id=f"boot-{number}") as spool:
                spool.put(TOPIC, body(0))
                assert spool.flush(10)
            subprocess.run([*remount, "remount,ro", str(small_disk)], check=True)
            with pytest.raises(spool_module.PublishError, match="make its folder writable"):
                open_spool(small_disk).__enter__()
            subprocess.run([*remount, "remount,rw", str(small_disk)], check=True)
            strike.strike()
            with open_spool(small_disk, boot_id=f"again-{number}") as spool:
                kept = [event.boot_id for event in spool.pending(0, 1000)]
            strike.recovered(lost=number + 1 - len(kept))
            assert kept == [f"boot-{n}" for n in range(number + 1)]


@dataclass(frozen=True)
class Card:
    """A real ext4 in a file, mounted."""

    folder: Path
    image: Path

    def fail(self) -> None:
        """Make it read-only for good, as the kernel does with a dying card."""
        found = run("findmnt", "-no", "SOURCE", str(self.folder)).stdout.strip()
        (Path("/sys/fs/ext4") / Path(found).name / "trigger_fs_error").write_text("a test")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True)


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Card]:
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop,errors=remount-ro", str(image), str(folder))
    try:
        yield Card(folder, image)
    finally:
        run("umount", str(folder))


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    image = tmp_path / "card.img"
    with image.open("wb") as file:
        file.truncate(8 * 1024 * 1024)
    if os.geteuid() or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    run("mkfs.ext4", "-q", str(image))
    with ExitStack() as stack:
        try:
            yield stack.enter_context(mounted(image, tmp_path / "card"))
        except subprocess.CalledProcessError as error:
            if error.cmd[0] != "mount":
                raise
            pytest.skip("may not mount a disk of its own here")


@pytest.mark.fault("power cut: the card as it was at that moment")
@pytest.mark.timeout(600)
def test_power_cut_leaves_all_that_was_accepted_on_the_card(
    card: Card, tmp_path: Path, fault: Fault, kills: int
) -> None:
    """Data in memory only, the page cache included, is lost: the card's bytes are copied.

    The copy then goes through a boot: replay of the journal, then the spool.
    """
    chance = random.Random(20261126)
    copy = tmp_path / "after.img"
    for number in range(max(3, kills // 10)):
        boot_id = f"boot-{number}"
        child = start_spool(card.folder / f"{number}.sqlite", boot_id)
        accepted = range(1, printed(child, chance.randint(1, 40))[-1] + 1)
        child.send_signal(signal.SIGSTOP)
        shutil.copyfile(card.image, copy)
        killed(child)
        with fault.trial() as strike, mounted(copy, tmp_path / "after") as after:
            path = after.folder / f"{number}.sqlite"
            with Spool(path, PROMPT, boot_id="later") as spool:
                bodies = {event.seq: event.body for event in spool.pending(0, 100_000)}
            strike.recovered(lost=len(set(accepted) - set(bodies)))
            assert set(accepted) <= set(bodies)
            assert all(body == body_of(boot_id, seq) for seq, body in bodies.items())
        for file in card.folder.glob(f"{number}.sqlite*"):
            file.unlink()


@pytest.mark.fault("disk fails and turns read-only under the open spool")
def test_disk_that_fails_under_the_spool(
    card: Card, fault: Fault, tmp_path: Path, mosquitto_program: str
) -> None:
    """Stored events can still be read, later ones stay in memory: all reach the broker."""
    with (
        Mosquitto(tmp_path, settings=f"{PERSISTENT}{tmp_path}/") as mosquitto,
        Subscriber(mosquitto.port, EVENTS) as subscriber,
        starting(card.folder) as start,
        fault.trial() as strike,
    ):
        publisher, spool = start(mosquitto.port, spool=PROMPT)
        wait_connected(publisher)
        mosquitto.stop()
        for n in range(COUNT):
            last = publisher.publish_event(EVENTS, event_body(n))
        assert spool.flush(20)
        card.fail()
        for n in range(COUNT):
            last = publisher.publish_event(EVENTS, event_body(n))
        wait_until(lambda: spool.counters().failure != "", 20)
        assert not spool.flush(0.1)
        mosquitto.start()
        strike.strike()
        subscriber.wait_for(lambda all_: len(events_seqs(all_)) >= last, 40)
        strike.recovered(lost=last - len(set(events_seqs(subscriber.received))))
        assert set(events_seqs(subscriber.received)) == set(range(1, last + 1))


@pytest.mark.fault("spool file corrupted")
def test_corrupted_file(tmp_path: Path, fault: Fault) -> None:
    """Events in the file are lost and counted; later ones are not lost."""
    chance = random.Random(7)
    for number in range(5 * fault.tries):
        folder = tmp_path / str(number)
        with open_spool(folder) as spool:
            for n in range(COUNT):
                spool.put(TOPIC, body(n))
        content = bytearray((folder / "spool.sqlite").read_bytes())
        for _ in range(200):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (folder / "spool.sqlite").write_bytes(content)
        with fault.trial() as strike, open_spool(folder, boot_id="boot-2") as spool:
            for n in range(COUNT):
                spool.put(TOPIC, body(n))
            assert spool.flush(20)
            found = spool.pending(0, 1000)
            after = [event.seq for event in found if event.boot_id == "boot-2"]
            strike.recovered(lost=COUNT - sum(event.boot_id == "boot-1" for event in found))
            assert after == list(range(1, COUNT + 1))


@pytest.mark.fault("power cut (kill -9): spool")
@pytest.mark.timeout(1800)
def test_power_cut_at_any_moment_loses_nothing_accepted(
    tmp_path: Path, fault: Fault, kills: int
) -> None:
    chance = random.Random(20261124)
    path = tmp_path / "spool.sqlite"
    accepted: set[tuple[str, int]] = set()
    for boot in range(kills):
        child = start_spool(path, f"boot-{boot}")
        numbers = [*printed(child, chance.randint(1, 40)), *killed(child)]
        accepted |= {(f"boot-{boot}", number) for number in numbers}
    with fault.trial() as strike, Spool(path, PROMPT, boot_id="last") as spool:
        events = spool.pending(0, 1_000_000)
        found = [(event.boot_id, event.seq) for event in events]
        strike.recovered(lost=len(accepted - set(found)))
    fault.count(tries=kills - 1, lost=0)
    assert accepted <= set(found)
    assert len(found) == len(set(found))
    assert [event.body for event in events] == [body_of(*name) for name in found]


@pytest.mark.fault("power cut (kill -9): publisher, broker there")
@pytest.mark.timeout(1800)
def test_power_cut_gives_no_number_to_two_events(
    tmp_path: Path, fault: Fault, mosquitto: Mosquitto, kills: int
) -> None:
    chance = random.Random(5)
    accepted: set[tuple[str, int]] = set()
    boots = max(3 * fault.tries, kills // 5)
    with Subscriber(mosquitto.port, EVENTS) as subscriber:
        for boot in range(boots):
            with fault.trial():
                child = start_child(mosquitto.port, "auto", tmp_path, f"boot-{boot}")
                numbers = [*printed(child, chance.randint(5, 60)), *killed(child)]
                accepted |= {(f"boot-{boot}", number) for number in numbers}
        child = start_child(mosquitto.port, "auto", tmp_path, "last")  # delivers what was left
        subscriber.wait_for(lambda all_: accepted <= bodies_of(all_).keys(), 60)
        killed(child)
        for (boot_id, _), contents in bodies_of(subscriber.received).items():
            assert len(contents) == 1
            assert json.loads(next(iter(contents)))["boot"] == boot_id


def bodies_of(received: list) -> dict[tuple[str, int], set[bytes]]:
    """The body received for each number, without the fields added at sending."""
    found: dict[tuple[str, int], set[bytes]] = {}
    for one in received:
        event = json.loads(one.payload)
        body_only = one.payload.rpartition(b',"seq"')[0] + b"}"
        found.setdefault((event["boot_id"], event["seq"]), set()).add(body_only)
    return found
