"""Makes a paho client from the `mqtt` section: login, TLS, will, protocol.

Each attempt to connect reads all files again, so a changed password or certificate needs no
restart. Secrets never leave this module: no log, error or topic shows them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge import logs
from edge.config import MqttConfig
from edge.errors import ConfigError
from edge.messages import Message

PASSWORD_VARIABLE = "EDGE_MQTT_PASSWORD"  # noqa: S105 - a variable's name
CREDENTIAL_NAME = "mqtt-password"
# The versions to try, in order, by `mqtt.protocol`.
PROTOCOLS = {
    "auto": (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311),
    "5": (MQTTProtocolVersion.MQTTv5,),
    "3.1.1": (MQTTProtocolVersion.MQTTv311,),
}
CONNECT_TIMEOUT_S = 5.0
# Commands have at most 16 KiB. Larger ones up to this limit still get an error as answer.
MAX_INCOMING_BYTES = 1024 * 1024


class ClosingSocket(ssl.SSLSocket):
    """A TLS socket that closes itself when its handshake fails; paho would leak it."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base's
        """Do the TLS handshake. Raises OSError as the base class does."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class Identity:
    """The client id, and the will that the broker publishes when the connection dies."""

    client_id: str
    will: Message


def make_client(
    config: MqttConfig,
    identity: Identity,
    protocol: MQTTProtocolVersion,
) -> mqtt.Client:
    """Return a client that is ready to `connect`, with a clean session.

    It never reconnects by itself and sends every message at once.
    Raises ConfigError when a file named in the config cannot be used.
    """
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        identity.client_id,
        protocol=protocol,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages_set(0)  # no limit: the publisher keeps the window
    will = identity.will
    client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
    if config.username is not None:
        password = read_password(config)
        logs.hide(password)
        client.username_pw_set(config.username, password)
    context = make_tls(config)
    if context is not None:
        client.tls_set_context(context)
    return client


def connect(client: mqtt.Client, config: MqttConfig) -> None:
    """Open the connection and send CONNECT; blocks for at most a few CONNECT_TIMEOUT_S.

    Raises OSError, which includes ssl.SSLError.
    """
    if client.protocol == MQTTProtocolVersion.MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAX_INCOMING_BYTES
        client.connect(
            config.host, config.port, config.keepalive_s, clean_start=True, properties=properties
        )
    else:
        client.connect(config.host, config.port, config.keepalive_s)


def check(config: MqttConfig) -> None:
    """Raise ConfigError when a file of the `mqtt` section cannot be used."""
    if config.password_file and config.username is None:
        raise ConfigError("mqtt.password_file is given without mqtt.username; give both")
    if config.username is not None:
        read_password(config)
    make_tls(config)


def read_password(config: MqttConfig, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the password, None when there is none.

    From password_file, else the variable EDGE_MQTT_PASSWORD, else systemd's credential.
    Raises ConfigError when the file cannot be read or is empty.
    """
    if config.password_file is not None:
        return _first_line(Path(config.password_file), "mqtt.password_file")
    if PASSWORD_VARIABLE in environment:
        return environment[PASSWORD_VARIABLE]
    if "CREDENTIALS_DIRECTORY" in environment:
        path = Path(environment["CREDENTIALS_DIRECTORY"]) / CREDENTIAL_NAME
        return _first_line(path, f"credential {CREDENTIAL_NAME}") if path.exists() else None
    return None


def is_tls(config: MqttConfig) -> bool:
    """Return whether the section asks for TLS."""
    return bool(config.tls or config.ca_file or config.cert_file)


def make_tls(config: MqttConfig) -> ssl.SSLContext | None:
    """Return the TLS context, None when the section asks for none; certificates are verified.

    Raises ConfigError when a file cannot be read or is not the PEM file it should be.
    """
    if not is_tls(config):
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"mqtt.ca_file {config.ca_file}: {_why(error)}; name a PEM file of the authority"
        ) from None
    # Python 3.13 refuses authorities without a key usage, such as those of mosquitto's own guide.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.sslsocket_class = ClosingSocket
    if config.cert_file:
        try:
            # The empty password keeps OpenSSL from prompting for that of an encrypted key.
            context.load_cert_chain(config.cert_file, config.key_file, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"mqtt.cert_file {config.cert_file} with key_file {config.key_file}: "
                f"{_why(error)}; name a certificate and its unencrypted key, both PEM"
            ) from None
    return context


def _first_line(path: Path, name: str) -> str:
    try:
        line = path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"{name} {path}: {error.strerror}; name a readable file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name} {path}: not UTF-8; write the password as text") from None
    if not line:
        raise ConfigError(f"{name} {path}: its first line is empty; write the password there")
    return line


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)
