"""Which protocol, refused logins, TLS and unreachable brokers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from edge.config import MqttConfig
from edge.errors import ConfigError
from edge.publisher import ConnectionState, connection, event_sender, options
from mosquitto import (
    LOOPBACK,
    Certificates,
    Login,
    Mosquitto,
    Subscriber,
    free_port,
    make_certificates,
)
from publishing import (
    EVENTS,
    Start,
    body,
    both_protocols,
    seqs,
    starting,
    wait_acknowledged,
    wait_connected,
)
from relay import Relay, protocol_level
from waiting import wait_until


def test_broker_that_closes_on_mqtt5_gets_mqtt_3_1_1_at_once(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    with Relay(mosquitto.port, refuses_mqtt5=True) as relay:
        publisher, spool = start(relay.port, retry_min_s=30, retry_max_s=60)
        wait_connected(publisher)  # no back-off in between
        assert publisher.state[1] == "MQTT 3.1.1"
        assert relay.accepted == 2
        publisher.publish_event(EVENTS, body(1))
        assert seqs(subscriber.wait_for_topic(EVENTS)) == [1]
        wait_acknowledged(spool)


def test_broker_that_supports_mqtt5_after_a_restart_gets_mqtt5_again(
    mosquitto: Mosquitto, start: Start
) -> None:
    with Relay(mosquitto.port, refuses_mqtt5=True) as relay:
        publisher, _ = start(relay.port)
        wait_connected(publisher)
        relay.refuses_mqtt5 = False
        relay.cut()
        wait_until(lambda: publisher.state == (ConnectionState.CONNECTED, "MQTT 5"))


def test_silent_broker_is_tried_with_both_protocols_and_reported(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(connection, "_TICK_S", 0.05)
    with socket.create_server((LOOPBACK, 0)) as silent:
        publisher, _ = start(silent.getsockname()[1])
        levels = []
        for _ in range(4):
            client, _ = silent.accept()
            with client:
                levels.append(protocol_level(client.recv(4096)))
                assert client.recv(4096) == b""  # given up silently
        assert levels == [5, 4, 5, 4]
        wait_until(lambda: "no answer to CONNECT" in publisher.state[1])
        publisher.close()


def test_broker_without_acknowledgements_is_reconnected(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sender, "ACK_TIMEOUT_S", 0.3)
    with Relay(mosquitto.port) as relay:
        publisher, spool = start(relay.port)
        wait_connected(publisher)
        relay.mute()
        publisher.publish_event(EVENTS, body(1))
        wait_until(lambda: "no acknowledgement in" in publisher.state[1])
        relay.unmute()
        wait_acknowledged(spool)
    assert set(seqs(subscriber.received)) == {1}


def test_close_does_not_wait_for_name_resolution(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = threading.Event(), threading.Event()

    def unanswered(*_: object) -> None:
        asked.set()
        release.wait(30)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", unanswered)
    publisher, spool = start(1, host="broker.lan")
    assert asked.wait(10)
    publisher.publish_event(EVENTS, body(1))
    begin_s = time.monotonic()
    publisher.close()
    assert time.monotonic() - begin_s < 15
    assert spool.counters().waiting == 1
    release.set()
    wait_until(lambda: publisher.state[0] is ConnectionState.CLOSED)


def test_fixed_protocol_is_not_changed(mosquitto: Mosquitto, start: Start) -> None:
    with Relay(mosquitto.port, refuses_mqtt5=True) as relay:
        publisher, _ = start(relay.port, protocol="5")
        wait_until(lambda: relay.accepted >= 4)
        assert publisher.state[0] is ConnectionState.LOST
        assert "closed before its answer" in publisher.state[1]
        publisher.close()


@both_protocols
def test_refused_login_is_a_separate_state_and_recovers_without_a_restart(
    mosquitto_program: str,
    tmp_path: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    login = Login("gate", "right")
    password = tmp_path / "password"
    password.write_text("wrong\n")
    with Mosquitto(tmp_path, login=login) as broker:
        begin_s = time.monotonic()
        publisher, spool = start(
            broker.port,
            protocol=protocol,
            username="gate",
            password_file=str(password),
            retry_max_s=0.6,
        )
        publisher.publish_event(EVENTS, body(1))
        wait_until(lambda: int(publisher.counters().refusals) >= 3)
        assert time.monotonic() - begin_s >= 2 * 0.6 / 2  # two waits of half retry_max_s at least
        assert publisher.state[0] is ConnectionState.REFUSED
        assert publisher.state[1] in ("not authorized", "bad user name or password")
        assert publisher.counters().connects == 0
        assert caplog.text.count("mqtt.refused") == 1
        assert "wrong" not in caplog.text
        password.write_text("right\n")
        wait_acknowledged(spool)
        assert publisher.state[0] is ConnectionState.CONNECTED
        assert publisher.counters().connects == 1
    assert "right" not in caplog.text


def test_error_for_tls_on_a_plain_port_suggests_the_cause(
    mosquitto: Mosquitto, start: Start
) -> None:
    publisher, _ = start(mosquitto.port, tls=True)
    wait_until(lambda: "is it a port for TLS" in publisher.state[1])


def test_two_boards_with_one_device_name_get_a_hint(
    mosquitto: Mosquitto, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with starting(tmp_path / "other board") as start_other:
        first, _ = start(mosquitto.port)
        wait_connected(first)
        start_other(mosquitto.port)
        wait_until(lambda: "does another board have this device name?" in caplog.text)


def test_unreachable_broker_is_reported_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    publisher, _ = start(port)
    wait_until(lambda: publisher.state[0] is ConnectionState.LOST)
    assert publisher.state[1] == f"{LOOPBACK}:{port}: Connection refused"
    with socket.create_server((LOOPBACK, port)) as listener:  # six further attempts
        for _ in range(6):
            connection, _ = listener.accept()
            connection.close()
        publisher.close()
    assert caplog.text.count("Connection refused") == 1


@pytest.mark.parametrize("host", ["no..host", "x" * 64 + ".example"])
def test_impossible_host_name_is_refused(start: Start, host: str) -> None:
    publisher, _ = start(1883, host=host)
    wait_until(lambda: publisher.state[0] is ConnectionState.REFUSED)
    assert publisher.state[1].startswith(f"mqtt.host {host}:1883: ")


def test_tls_with_a_client_certificate_and_an_authority_without_key_usage(
    mosquitto_program: str, tmp_path: Path, start: Start, certificates: Certificates
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the authority has no key usage
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    broker = Mosquitto(tmp_path, certificates=certificates)
    with broker, Subscriber(broker.port, tls=context) as subscriber:
        publisher, spool = start(
            broker.port, host="localhost", ca_file=str(certificates.ca),
            cert_file=str(certificates.client_cert), key_file=str(certificates.client_key),
        )  # fmt: skip
        wait_connected(publisher)
        for number in range(200):
            publisher.publish_event(EVENTS, body(number, 2000))
        assert seqs(subscriber.wait_for_topic(EVENTS, 200)) == list(range(1, 201))
        wait_acknowledged(spool)


def test_error_for_a_missing_client_certificate_suggests_the_cause(
    mosquitto_program: str, tmp_path: Path, start: Start, certificates: Certificates
) -> None:
    with Mosquitto(tmp_path, certificates=certificates) as broker:
        publisher, _ = start(broker.port, host="localhost", ca_file=str(certificates.ca))
        wait_until(lambda: "another client certificate (mqtt.cert_file)?" in publisher.state[1])
        publisher.close()


@pytest.mark.parametrize("fault", ["other authority", "other name"])
def test_certificate_of_another_authority_is_refused(
    mosquitto_program: str, tmp_path: Path, start: Start, certificates: Certificates, fault: str
) -> None:
    other = make_certificates(tmp_path / "other", names="DNS:elsewhere.example")
    served, trusted = (certificates, other) if fault == "other authority" else (other, other)
    with Mosquitto(tmp_path, certificates=served) as broker:
        publisher, _ = start(broker.port, host="localhost", ca_file=str(trusted.ca))
        wait_until(lambda: publisher.state[0] is ConnectionState.REFUSED)
        assert publisher.state[1].startswith(f"certificate of localhost:{broker.port}: ")
        publisher.close()


def test_certificate_of_another_time_is_tried_again_soon(
    mosquitto_program: str, tmp_path: Path, start: Start
) -> None:
    served = make_certificates(tmp_path / "old", days=-1)
    with Mosquitto(tmp_path, certificates=served) as broker:
        publisher, _ = start(broker.port, host="localhost", ca_file=str(served.ca))
        wait_until(lambda: publisher.state[0] is ConnectionState.LOST)
        assert publisher.state[1].endswith("has expired; is this board's clock right?")
        publisher.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ca_file": "/nowhere/ca.pem"}, r"mqtt\.ca_file /nowhere/ca\.pem: No such file"),
        ({"ca_file": __file__}, r"mqtt\.ca_file .*test_publisher_connection\.py: "),
        ({"cert_file": "/nowhere/c.pem"}, r"mqtt\.cert_file /nowhere/c\.pem with key_file None: "),
        ({"password_file": "/nowhere/p", "username": "u"}, r"mqtt\.password_file /nowhere/p: No"),
        ({"password_file": "/dev/null", "username": "u"}, r"/dev/null: its first line is empty"),
        ({"password_file": "/dev/null"}, r"without mqtt\.username"),
    ],
)
def test_invalid_file_in_the_mqtt_section_is_one_clear_error(
    start: Start, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        start(1883, **settings)
    assert raised.value.exit_code == 78
    assert "\n" not in str(raised.value)


def test_password_comes_from_file_then_variable_then_credential(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from file\r\nsecond line\n")
    (tmp_path / "mqtt-password").write_text("from credential")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with_file = MqttConfig(username="u", password_file=str(tmp_path / "file"))
    without = MqttConfig(username="u")
    assert options.read_password(without, {}) is None
    assert options.read_password(without, environment) == "from credential"
    environment["EDGE_MQTT_PASSWORD"] = "from variable"
    assert options.read_password(without, environment) == "from variable"
    assert options.read_password(with_file, environment) == "from file"


def test_password_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"caf\xe9\n")
    config = MqttConfig(username="u", password_file=str(tmp_path / "p"))
    with pytest.raises(ConfigError, match=r"^mqtt\.password_file .*/p: not UTF-8; "):
        options.read_password(config, {})
