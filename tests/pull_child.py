"""Forks a process that pulls versions until it is killed, for each line that it reads.

pull_child.py FOLDER KEY; writes each one's process id, and `dead` once it is. The imports are paid
for once.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from edge import model_update, registry
from edge.model_shelf import Shelf
from edge.signature import PublicKey


def pull_for_ever(folder: Path, key: PublicKey) -> None:
    store = registry.open_store(str(folder / "registry"))
    shelf = Shelf(folder / "board", "tiny-color")
    for number in itertools.count():
        version = ("1.0.0", "1.1.0")[number % 2]
        model_update.pull(store, shelf, version, (key,), is_forced=True)


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        pull_for_ever(Path(sys.argv[1]), PublicKey.parse(sys.argv[2]))
    say(child)
    os.waitpid(child, 0)
    say("dead")
