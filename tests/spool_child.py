"""A process with a spool, for tests that kill it: prints the seq of every accepted event."""

from __future__ import annotations

import sys
from pathlib import Path

from edge.config import SpoolConfig
from edge.spool import Spool


def main(path: str, boot_id: str) -> None:
    config = SpoolConfig(commit_interval_s=0.001)
    with Spool(Path(path), config, boot_id=boot_id) as spool:
        while True:
            for _ in range(3):
                seq = spool.put("edge/gate/front/events", b'{"pad":"%s"}' % (b"x" * 500))
            if not spool.flush(10):
                raise SystemExit("not accepted within 10 s")
            sys.stdout.write(f"{seq}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
