"""A process with a spool and a publisher, for tests that kill it.

Prints the seq of every event that the spool accepted.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec

from edge.config import MqttConfig, SpoolConfig
from edge.messages import Status, Topics
from edge.publisher import Publisher
from edge.spool import Spool


def main(port: str, protocol: str, path: str, boot_id: str) -> None:
    settings = {"port": int(port), "protocol": protocol, "retry_min_s": 0.05, "retry_max_s": 0.2}
    config = msgspec.convert({"host": "127.0.0.1", **settings}, MqttConfig)
    topics = Topics("edge", "gate")
    birth = Status(status="online", boot_id=boot_id, version="1")
    spool_config = SpoolConfig(commit_interval_s=0.005)
    pause = threading.Event()
    with (
        Spool(Path(path), spool_config, boot_id=boot_id) as spool,
        Publisher(config, topics, spool, birth) as publisher,
    ):
        while True:
            body = b'{"boot":"%s","pad":"%s"}' % (boot_id.encode(), b"x" * 300)
            seq = publisher.publish_event(topics.camera("front", "events"), body)
            if not spool.flush(10):
                raise SystemExit("not accepted within 10 s")
            sys.stdout.write(f"{seq}\n")
            sys.stdout.flush()
            pause.wait(0.002)


if __name__ == "__main__":
    main(*sys.argv[1:])
