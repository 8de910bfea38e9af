"""Logging for all commands: text or JSON on standard error, a file, syslog, OTLP, MQTT.

Every message begins with a constant event (`camera.lost device=%s retry_s=%.1f`), so a record has
the same fields everywhere: time, level, logger, event, message, and the named values with their
types. Secrets are removed from all of them: those given to `hide`, logins in addresses, and values
named password, secret or token.

The logging thread itself writes only standard error. File, syslog and OTLP each have a thread of
their own behind a bounded queue, so a full disk, or a name server or collector that hangs, delays
neither a frame nor another of them. Records that do not fit the queue are dropped and counted.
"""

from edge.logs.facts import hide, redacted
from edge.logs.mqtt import MqttLog
from edge.logs.root import (
    add_arguments,
    check,
    chosen,
    close,
    for_stderr,
    install,
    make_handlers,
    published,
    set_up,
)

__all__ = [
    "MqttLog",
    "add_arguments",
    "check",
    "chosen",
    "close",
    "for_stderr",
    "hide",
    "install",
    "make_handlers",
    "published",
    "redacted",
    "set_up",
]
