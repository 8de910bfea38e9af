"""Caches the frozen backbone's features, so that the head trains in seconds.

Stored as float16, whose rounding error of 0.05 % does not matter to a dense layer.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.classifier.data import Pictures, network_input
from tools.classifier.fit import Floats, Samples
from tools.progress import track

BATCH = 32


def cached(frozen: Any, pictures: Pictures, cache: Path) -> Samples:
    """Return the frozen network's features of the pictures, from the cache if they are there.

    frozen: images -> feature maps (n, h, w, channels). An interrupted computation is resumed.
    """
    path = cache / f"features-{_key(frozen, pictures)}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _compute(frozen, pictures, path)
    stored = np.load(path, mmap_mode="r")

    def prepare(rows: NDArray[np.intp], _: np.random.Generator | None) -> Floats:
        return np.asarray(stored[rows], np.float32)

    return Samples(prepare, pictures.labels)


def _key(frozen: Any, pictures: Pictures) -> str:
    digest = hashlib.blake2b(pictures.sha256.encode(), digest_size=8)
    digest.update(repr(frozen.output.shape).encode())
    for value in frozen.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _compute(frozen: Any, pictures: Pictures, path: Path) -> None:
    """Write the features as a .npy file; completed batches of an interrupted run are reused."""
    shape = (len(pictures.labels), *frozen.output.shape[1:])
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    part = path.with_suffix(".part")  # not `durable.replacing`: its file is removed on interruption
    row_bytes = int(np.prod(shape[1:])) * 2
    with part.open("ab") as file:
        if not file.tell():
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
        start = _header_bytes(part)
        done = (file.tell() - start) // (row_bytes * BATCH) * BATCH
        file.truncate(start + done * row_bytes)
        for at in track(range(done, shape[0], BATCH), "frozen backbone"):
            images = network_input(np.asarray(pictures.rgb[at : at + BATCH]))
            file.write(frozen.predict_on_batch(images).astype("<f2").tobytes())
    part.replace(path)


def _header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()
