"""A real mosquitto for tests: start, stop, kill, freeze; with passwords, TLS or an old protocol.

Also `Subscriber`, which records what a broker delivers.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LOOPBACK = "127.0.0.1"


# Undelivered messages survive SIGTERM.
PERSISTENT = "persistence true\nmax_queued_messages 100000\npersistence_location "


def find_mosquitto() -> str | None:
    """The broker's path; Debian puts it where a user's PATH does not look."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A port that nobody listens on, outside the range of outgoing connections.

    Within that range a client that keeps trying a dead broker may connect to itself. Each of
    pytest's workers has its own thousand: a broker of the other may be down for a moment.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + 1000 * (worker % 12)
    while True:
        port = random.randrange(first, first + 1000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


@dataclass(frozen=True)
class Login:
    username: str
    password: str


@dataclass(frozen=True)
class Certificates:
    """PEM files of an authority, a broker on localhost and a client, made on the spot."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


class Mosquitto:
    """One broker; a context manager that starts it and always ends it.

    login: only this user may connect.
    certificates: TLS, and clients must have a certificate of the same authority.
    settings: further lines of its config file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        login: Login | None = None,
        certificates: Certificates | None = None,
        settings: str = "",
    ) -> None:
        self.port = free_port()
        self.folder = folder
        self.log: list[str] = []
        self._logged = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._config = folder / "mosquitto.conf"
        self._write_config(login, certificates, settings)

    @property
    def connects(self) -> int:
        """How many clients have connected so far, refused ones included."""
        return sum("New connection from" in line for line in self.log)

    def _write_config(
        self, login: Login | None, certificates: Certificates | None, settings: str
    ) -> None:
        lines = [f"listener {self.port} {LOOPBACK}", "log_dest stderr", "log_type all"]
        lines += ["user root"] if os.geteuid() == 0 else []  # else it gives up root, and its files
        if login is None:
            lines.append("allow_anonymous true")
        else:
            passwords = self.folder / "passwords"
            passwords.write_text(f"{login.username}:{login.password}\n")
            subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        if certificates is not None:
            lines += [f"certfile {certificates.cert}", f"keyfile {certificates.key}"]
            lines += [f"cafile {certificates.ca}", "require_certificate true"]
        self._config.write_text("\n".join([*lines, settings, ""]))

    def start(self) -> None:
        """Return when it accepts connections."""
        program = find_mosquitto()
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", self._config], stderr=subprocess.PIPE, text=True
        )
        first = len(self.log)
        self._reader = threading.Thread(target=self._read_log, args=(self._process,))
        self._reader.start()
        self.wait_for_log(" running", first=first)

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._logged:
                self.log.append(line.rstrip())
                self._logged.notify_all()
        with self._logged:
            self._logged.notify_all()

    def wait_for_log(self, text: str, *, first: int = 0, timeout_s: float = 20) -> str:
        """The first log line from index `first` on that holds the text."""
        with self._logged:
            found = self._logged.wait_for(
                lambda: next((line for line in self.log[first:] if text in line), None), timeout_s
            )
        assert found is not None, f"mosquitto did not log {text!r}: {self.log[first:]}"
        return found

    def reload(self) -> None:
        """Read passwords and access rights again."""
        first = len(self.log)
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        self.wait_for_log("Reloading config", first=first)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the process (SIGSTOP): connections stay open but nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        process.wait(10)
        assert self._reader is not None
        self._reader.join(10)
        assert process.stderr is not None
        process.stderr.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def make_certificates(
    folder: Path, names: str = f"DNS:localhost,IP:{LOOPBACK}", *, days: int = 30
) -> Certificates:
    """An authority, and what it signed for a broker of these names and for a client.

    days: how long that is valid; negative: it has expired. Needs the openssl command.
    """
    folder.mkdir(exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca")
    (folder / "names").write_text(f"subjectAltName={names}\n")
    for name, common_name in (("broker", "localhost"), ("client", "gate")):
        openssl(
            "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
            f"/CN={common_name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "names", "-days", str(days),
        )  # fmt: skip
    return Certificates(
        *(folder / f for f in ("ca.pem", "broker.pem", "broker.key", "client.pem", "client.key"))
    )


@dataclass(frozen=True)
class Received:
    """One delivery."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Any


class Subscriber:
    """Records every delivery of a topic filter; a context manager.

    It keeps its session at the broker and reconnects by itself: with PERSISTENT settings the broker
    keeps what was published while it restarts.
    """

    def __init__(
        self,
        port: int,
        topic: str = "#",
        *,
        login: Login | None = None,
        tls: ssl.SSLContext | None = None,
        is_mqtt5: bool = True,
    ) -> None:
        self.received: list[Received] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._topic = topic
        self._port = port
        protocol = MQTTProtocolVersion.MQTTv5 if is_mqtt5 else MQTTProtocolVersion.MQTTv311
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, f"subscriber-{port}-{id(self)}", protocol=protocol
        )
        if login is not None:
            self.client.username_pw_set(login.username, login.password)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.reconnect_delay_set(0.1, 0.1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_disconnect = lambda *_: self._subscribed.clear()
        self.client.on_message = self._on_message

    def _on_connect(self, *_: Any) -> None:
        self.client.subscribe(self._topic, qos=1)

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.received.append(
                Received(
                    message.topic, bytes(message.payload), message.qos, message.retain,
                    message.properties,
                )
            )  # fmt: skip
            self._changed.notify_all()

    def wait_subscribed(self, timeout_s: float = 20) -> None:
        assert self._subscribed.wait(timeout_s), "the subscriber got no connection"

    def wait_for(
        self, condition: Callable[[list[Received]], object], timeout_s: float = 20
    ) -> list[Received]:
        """All deliveries so far, as soon as they satisfy a condition."""
        with self._changed:
            came = self._changed.wait_for(lambda: condition(self.received), timeout_s)
            assert came, f"not delivered in {timeout_s} s; got {self.received[-20:]}"
            return list(self.received)

    def wait_for_topic(self, topic: str, count: int = 1, timeout_s: float = 20) -> list[Received]:
        """At least `count` deliveries of one topic."""
        everything = self.wait_for(lambda all_: sum(r.topic == topic for r in all_) >= count,
                                   timeout_s)  # fmt: skip
        return [r for r in everything if r.topic == topic]

    def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        """Publish at QoS 1 and wait for the acknowledgement."""
        self.client.publish(topic, payload, qos=1, **options).wait_for_publish(20)

    def __enter__(self) -> Self:
        options: dict[str, Any] = {}
        if self.client.protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600
            options = {"clean_start": False, "properties": properties}
        self.client.connect_async("localhost", self._port, keepalive=60, **options)
        self.client.loop_start()
        self.wait_subscribed()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
