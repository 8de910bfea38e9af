"""Pruning and quantization-aware training (QAT) of the network before conversion.

The result is saved in a folder together with what it was made from; during training, so are the
weights of the last completed epoch, from which a restarted command resumes.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tools.classifier import description, network
from tools.classifier.claim import STATE
from tools.classifier.job import MADE_FROM, Job


@dataclass(frozen=True)
class Adaptation:
    """Requested adaptation.

    prune: share of channels to cut, 0 for none. prune_epochs: of training after pruning. qat:
    epochs of QAT, 0 for none. learning_rate: of both trainings.
    """

    prune: float
    prune_epochs: int
    qat: int
    learning_rate: float

    def __bool__(self) -> bool:
        """Return whether any adaptation is requested."""
        return bool(self.prune or self.qat)

    def __str__(self) -> str:
        """Return all settings that determine the result, as text for `notes`."""
        prune = f"prune {self.prune:g}, {self.prune_epochs} epochs" if self.prune else ""
        qat = f"qat {self.qat} epochs" if self.qat else ""
        return ", ".join(filter(None, (prune, qat, f"rate {self.learning_rate:g}")))


def adapted(net: Any, job: Job, asked: Adaptation, kept: Path) -> tuple[Any, Job]:
    """Return the pruned and quantization-aware trained network, and the job updated for it.

    kept: folder of the result; a result there of the same settings and pictures is reused.
    """
    data = f"pictures {job.train.sha256} {job.validation.sha256}"
    made_from = f"{job.described.notes[MADE_FROM]}, {asked}, {data}"
    if (kept / description.FILE).is_file():
        described = description.read(kept)
        if described.notes.get(MADE_FROM) == made_from:
            return network.load(kept / described.file), replace(job, described=described)
    state = kept / STATE / hashlib.sha256(made_from.encode()).hexdigest()[:16]
    net, notes = _adapt(net, job, asked, state)
    described = msgspec.structs.replace(
        job.described,
        file=description.KERAS_FILE,
        parameters=network.parameters(net),
        notes=job.described.notes | notes | {MADE_FROM: made_from},
    )
    (kept / description.FILE).unlink(missing_ok=True)
    network.save(net, kept / described.file)
    description.write(kept, described)
    shutil.rmtree(kept / STATE, ignore_errors=True)
    return net, replace(job, described=described)


def _adapt(net: Any, job: Job, asked: Adaptation, state: Path) -> tuple[Any, dict[str, str]]:
    """Return the network after pruning and QAT, and the notes on both for its description."""
    from tools.classifier import prune, qat

    notes = {}
    sets = job.train, job.validation
    rate = asked.learning_rate
    if asked.prune:
        net, notes["pruning"] = prune.prune(net, asked.prune)
        before = network.parameters(net)
        prune.recover(net, *sets, epochs=asked.prune_epochs, learning_rate=rate, state=state)
        print(f"pruned: {notes['pruning']}; {before:,} parameters are left")
    if asked.qat:
        net = qat.train_quantized(net, *sets, epochs=asked.qat, learning_rate=rate, state=state)
        notes["qat"] = f"{asked.qat} epochs through fake quantization, rate {rate:g}"
    return net, notes
