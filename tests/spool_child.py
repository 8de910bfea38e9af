"""A process with a spool, for tests that kill it: prints the seq of every accepted event."""

from __future__ import annotations

import sys
from pathlib import Path

from edge.config import SpoolConfig
from edge.spool import Spool


def body_of(boot_id: str, seq: int) -> bytes:
    """The only valid body for a sequence number."""
    return b'{"boot":"%s","n":%d,"pad":"%s"}' % (boot_id.encode(), seq, b"x" * 460)


def main(path: str, boot_id: str) -> None:
    config = SpoolConfig(commit_interval_s=0.001)
    number = 0
    with Spool(Path(path), config, boot_id=boot_id) as spool:
        while True:
            for _ in range(3):
                number += 1
                seq = spool.put("edge/gate/front/events", body_of(boot_id, number))
            if not spool.flush(10):
                raise SystemExit("not accepted within 10 s")
            sys.stdout.write(f"{seq}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
