"""One logging set-up for all commands: lines or JSON on standard error, a file, syslog, OTLP, MQTT.

Every message begins with a constant event (`camera.lost device=%s retry_s=%.1f`), so a record has
the same facts everywhere: time, level, logger, event, message, and the named values with their
types. Secrets are taken out of all of them: what `hide` was told, logins in addresses, and values
named password, secret or token.

Only standard error is written by the thread that logs. File, syslog and OTLP have a thread of their
own behind a bounded queue: a full disk, a name server or a collector that hangs never keeps a frame
waiting; what does not fit is dropped and counted.
"""

from edge.logs.facts import hide
from edge.logs.mqtt import MqttLog
from edge.logs.root import (
    add_arguments,
    check,
    chosen,
    close,
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
    "hide",
    "install",
    "make_handlers",
    "published",
    "set_up",
]
