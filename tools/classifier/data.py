"""Reads class folders: `DATASET/<class>/**/*.png`, or the same under `train`, `val` and `test`.

Without folders for the splits, pictures are split 8 : 1 : 1 by the hash of their content, so that a
picture keeps its split when others are added or files are renamed. Pictures are stretched to the
network's input with the interpolation that the board uses and cached in a memory-mapped file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import durable
from edge.errors import InputError
from tools.data.entry import SUFFIXES, is_utf8, pictures_below
from tools.dataset import load_file
from tools.progress import track

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
TENTHS = 10  # content hashes modulo 10: 0 is val, 1 is test, the others are train
READERS = 4  # threads; the decoders release the GIL

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """A picture's file and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split at the network's input size.

    rgb: uint8, (n, side, side, 3), read-only, memory-mapped from `file`. labels: int64, (n,), class
    indices. names: path of each picture relative to the data set. sha256: of pixels and labels.
    """

    rgb: Pixels
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    sha256: str
    file: Path


def class_names(dataset: Path) -> tuple[str, ...]:
    """Return the class names, i.e. the names of the folders, sorted.

    Raises InputError when there are fewer than two.
    """
    root = _split_folder(dataset, "train") or dataset
    if not root.is_dir():
        raise InputError(f"data set {dataset}: no such folder")
    names = tuple(sorted(path.name for path in root.iterdir() if _is_class(path)))
    odd = [name for name in names if not is_utf8(name)]
    if odd:  # class names are stored in manifests, which are UTF-8
        raise InputError(f"data set {root}: the name of class {odd[0]!r} is not UTF-8; rename it")
    if len(names) < 2:
        found = f"only the class {names[0]!r}" if names else "no class folder"
        raise InputError(f"data set {root}: {found}; a classifier needs a folder for each of two")
    return names


def items(dataset: Path, split: str, labels: Sequence[str]) -> list[Item]:
    """Return the pictures of `train`, `val` or `test`, in a stable order.

    labels: class names; `Item.label` indexes them. Raises InputError for a missing folder, and for
    a class without pictures.
    """
    if not dataset.is_dir():
        raise InputError(f"data set {dataset}: no such folder")
    folder = _split_folder(dataset, split)
    if folder is not None:
        found = _scan(folder, labels)
        has_val = split != "train" or _split_folder(dataset, "val") is not None
        return found if has_val else [item for item in found if _hash_tenth(item.path) != 0]
    train = _split_folder(dataset, "train")
    if train is not None and split == "test":
        raise InputError(f"data set {dataset}: no folder test; add it, or choose --split val")
    wanted = {"val": {0}, "test": {1}, "train": set(range(2, TENTHS))}[split]
    found = [item for item in _scan(train or dataset, labels) if _hash_tenth(item.path) in wanted]
    _require_all(found, labels, dataset, split)
    return found


def pack(dataset: Path, split: str, labels: Sequence[str], side_px: int, cache: Path) -> Pictures:
    """Return a split's pictures, cached in the cache folder.

    Raises InputError naming every picture that cannot be read.
    """
    chosen = items(dataset, split, labels)
    names = tuple(str(item.path.relative_to(dataset)) for item in chosen)
    marks = np.array([item.label for item in chosen], np.int64)
    path = cache / f"{split}-{_key(chosen, side_px)}.npy"
    note = path.with_suffix(".json")
    if not note.exists():  # written last, so it marks the pixel file as complete
        cache.mkdir(parents=True, exist_ok=True)
        digest = _write(chosen, side_px, path)
        facts = {"sha256": digest, "pictures": len(chosen)}
        durable.replace(note, f"{json.dumps(facts)}\n".encode())
    digest = json.loads(note.read_text())["sha256"]
    return Pictures(np.load(path, mmap_mode="r"), marks, names, digest, path)


def network_input(rgb: Pixels) -> NDArray[np.float32]:
    """Return float32 network inputs of uint8 pixels: (level - 128) / 128, of the same shape.

    Quantized with scale 1/128 and zero point 0, this is level - 128 (the top bit flipped).
    """
    return (rgb.astype(np.float32) - np.float32(128)) / np.float32(128)


def read_picture(path: Path, side_px: int) -> Pixels:
    """Return a file's pixels, uint8 (side, side, 3), RGB, stretched to a square.

    Raises InputError when it cannot be read.
    """
    resized = cv2.resize(load_file(path), (side_px, side_px), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.ascontiguousarray(resized[..., ::-1], np.uint8)


def _split_folder(dataset: Path, split: str) -> Path | None:
    """Return the folder of a split; None if the data set has no folder `train`."""
    if not (dataset / "train").is_dir():
        return None
    return next(
        (dataset / name for name in SPLIT_FOLDERS[split] if (dataset / name).is_dir()), None
    )


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _scan(folder: Path, labels: Sequence[str]) -> list[Item]:
    extra = {path.name for path in folder.iterdir() if _is_class(path)} - set(labels)
    if extra:
        raise InputError(
            f"{folder}: classes that were not trained: {', '.join(sorted(extra))}; "
            f"known are {', '.join(labels)}"
        )
    found = []
    for label, name in enumerate(labels):
        paths = pictures_below(folder / name) if (folder / name).is_dir() else []
        if not paths:
            raise InputError(
                f"class {name!r}: no picture in {folder / name} "
                f"({', '.join(sorted(SUFFIXES))}); fill or remove the class"
            )
        found += [Item(path, label) for path in paths]
    return found


def _hash_tenth(path: Path) -> int:
    return int(hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest(), 16) % TENTHS


def _require_all(found: Sequence[Item], labels: Sequence[str], dataset: Path, split: str) -> None:
    present = {item.label for item in found}
    missing = [name for label, name in enumerate(labels) if label not in present]
    if missing:
        raise InputError(
            f"data set {dataset}: too few pictures of {', '.join(missing)} for the split {split}; "
            "add pictures, or make folders train, val and test"
        )


def _key(chosen: Sequence[Item], side_px: int) -> str:
    """Return a cache file's name, unique to the files, their sizes and times, and `side_px`."""
    digest = hashlib.blake2b(str(side_px).encode(), digest_size=8)
    for item in chosen:
        status = item.path.stat()
        digest.update(os.fsencode(f"{item.path.resolve()} {status.st_size} {status.st_mtime_ns}"))
    return digest.hexdigest()


def _write(chosen: Sequence[Item], side_px: int, path: Path) -> str:
    """Write the pixels as a .npy file; return the hash of pixels and labels.

    Written sequentially, not through a memory map, where a full disk would be a fatal SIGBUS.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(chosen), side_px, side_px, 3)}
    digest, broken = hashlib.sha256(), []
    with path.open("wb") as file, ThreadPoolExecutor(READERS) as pool:
        np.lib.format.write_array_header_1_0(file, header)
        read = pool.map(lambda item: _read_or_reason(item.path, side_px), chosen)
        for item, result in zip(chosen, track(read, "pictures", len(chosen)), strict=True):
            if isinstance(result, str):
                broken.append(result)
                continue
            content = result.tobytes()
            file.write(content)
            digest.update(content + item.label.to_bytes(4, "little"))
    if broken:
        path.unlink()
        raise InputError("; ".join(broken))
    return digest.hexdigest()


def _read_or_reason(path: Path, side_px: int) -> Pixels | str:
    try:
        return read_picture(path, side_px)
    except InputError as error:
        return str(error)


def subset(pictures: Pictures, rows: NDArray[np.intp]) -> Pictures:
    """Return the pictures of some rows, written to a separate file beside the original."""
    digest = hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()
    path = pictures.file.with_name(f"{pictures.file.stem}-{digest}.npy")
    np.save(path, pictures.rgb[rows])
    names = tuple(pictures.names[row] for row in rows)
    rgb = np.load(path, mmap_mode="r")
    return Pictures(rgb, pictures.labels[rows], names, f"{pictures.sha256}-{digest}", path)
