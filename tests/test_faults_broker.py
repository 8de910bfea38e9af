"""The broker's faults, on a real spool, publisher and mosquitto: events lost and time to recover.

Time to recover counts from the end of the fault to the last acknowledgement of all that waited.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.publisher import ConnectionState, Publisher
from edge.spool import Spool
from fault_table import Fault, Try
from mosquitto import PERSISTENT, Login, Mosquitto, Subscriber
from publishing import EVENTS, body, seqs, starting
from relay import Relay
from waiting import wait_until

HOUR_EVENTS = 3600  # an hour at one event a second
BURST = 40


@dataclass
class Rig:
    """A broker, its subscriber and a publisher that connects through a relay."""

    broker: Mosquitto
    subscriber: Subscriber
    publisher: Publisher
    spool: Spool
    relay: Relay
    put: int = 0

    def publish(self, count: int = BURST) -> None:
        for _ in range(count):
            self.put = self.publisher.publish_event(EVENTS, body(self.put))

    def wait_well(self, strike: Try, timeout_s: float = 40) -> None:
        """Wait until all is acknowledged and has arrived; count what did not."""
        wait_until(lambda: self.spool.counters().waiting == 0, timeout_s)
        self.subscriber.wait_subscribed()
        lost = self.spool.counters().lost
        strike.recovered(lost=lost)
        wanted = set(range(1, self.put + 1))  # looked for only when there are enough to be all
        self.subscriber.wait_for(
            lambda all_: len(all_) >= self.put and wanted <= set(seqs(all_)), timeout_s
        )
        assert lost == 0


@contextmanager
def rig(folder: Path, *, delay_s: float = 0.0, **settings: object) -> Iterator[Rig]:
    folder.mkdir()
    broker = Mosquitto(folder, settings=f"{PERSISTENT}{folder}/")
    with (
        broker,
        Subscriber(broker.port, EVENTS) as subscriber,
        Relay(broker.port, delay_s=delay_s) as relay,
        starting(folder) as start,
    ):
        publisher, spool = start(relay.port, keepalive_s=2, **settings)
        yield Rig(broker, subscriber, publisher, spool, relay)


@pytest.mark.fault("broker down at start")
def test_broker_that_is_down_at_start(tmp_path: Path, fault: Fault, mosquitto_program: str) -> None:
    for number in range(fault.tries):
        with rig(tmp_path / str(number)) as on, fault.trial() as strike:
            on.broker.stop()
            on.relay.cut()
            wait_until(lambda: on.publisher.state[0] is not ConnectionState.CONNECTED)
            on.publish()
            on.broker.start()
            strike.strike()
            on.wait_well(strike)


@pytest.mark.fault("broker away for an hour (3600 events)")
def test_broker_that_is_away_for_an_hour(
    tmp_path: Path, fault: Fault, mosquitto_program: str
) -> None:
    for number in range(fault.tries):
        with rig(tmp_path / str(number)) as on, fault.trial() as strike:
            on.publish()
            on.broker.stop()
            on.publish(HOUR_EVENTS)
            assert on.spool.flush(30)  # all of it is on the disk
            on.broker.start()
            strike.strike()
            on.wait_well(strike)


@pytest.mark.fault("broker restarts")
def test_broker_that_restarts_amid_events(
    tmp_path: Path, fault: Fault, mosquitto_program: str
) -> None:
    with rig(tmp_path / "rig") as on:
        for _ in range(3 * fault.tries):
            with fault.trial() as strike:
                on.publish()
                on.broker.restart()
                on.publish()
                strike.strike()
                on.wait_well(strike)


@pytest.mark.fault("broker refuses the login")
def test_broker_that_refuses_the_login_for_a_while(
    tmp_path: Path, fault: Fault, mosquitto_program: str
) -> None:
    login = Login("gate", "right")
    for number in range(fault.tries):
        folder = tmp_path / str(number)
        folder.mkdir()
        password = folder / "password"
        password.write_text("wrong\n")
        account = {"username": "gate", "password_file": str(password)}
        with (
            Mosquitto(folder, login=login) as broker,
            Subscriber(broker.port, EVENTS, login=login) as subscriber,
            Relay(broker.port) as relay,
            starting(folder) as start,
            fault.trial() as strike,
        ):
            on = Rig(broker, subscriber, *start(relay.port, **account), relay)
            wait_until(lambda on=on: on.publisher.state[0] is ConnectionState.REFUSED)
            on.publish()
            password.write_text("right\n")
            strike.strike()
            on.wait_well(strike)


@pytest.mark.fault("half-open TCP")
def test_half_open_connection(tmp_path: Path, fault: Fault, mosquitto_program: str) -> None:
    for number in range(fault.tries):
        with rig(tmp_path / str(number)) as on, fault.trial() as strike:
            wait_until(lambda: on.publisher.state[0] is ConnectionState.CONNECTED)
            on.relay.mute()
            on.publish()
            wait_until(lambda: on.publisher.state[0] is ConnectionState.LOST, 20)
            on.relay.cut()
            on.relay.unmute()
            strike.strike()
            on.wait_well(strike)


@pytest.mark.fault("slow broker (50 ms each way)")
def test_broker_that_is_slow(tmp_path: Path, fault: Fault, mosquitto_program: str) -> None:
    with rig(tmp_path / "rig", delay_s=0.05) as on:
        for _ in range(fault.tries):
            with fault.trial() as strike:
                on.publish()
                on.wait_well(strike)
