"""`edge-tools data split`: writes train.json, val.json and test.json of a data set.

Near-duplicates stay in one split. Groups of them are assigned stratified by their rarest class, in
the order of their content's hash, so the same pictures give the same splits whatever their names.
Pictures assigned by an earlier run keep their split, so that a growing set keeps its validation
data separate. With --keep-folders, so do those in folders named after a split.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edge import lookup
from edge.errors import EXIT_OK, EdgeError, InputError, why_not_written
from tools import parallel
from tools.arguments import option, share
from tools.data import check, fingerprint, folder
from tools.data.convert import link_or_copy
from tools.data.entry import whole_number
from tools.data.fingerprint import Fingerprint
from tools.dataset import Dataset

EXAMPLES = """\
examples:
  edge-tools data split data/street                  # 80 : 10 : 10
  edge-tools data split data/street --val 0.2 --test 0
  edge-tools data split data/own --keep-folders      # images/train and images/val stay apart
  edge-tools data split data/birds    # of class folders: data/birds/folders/train/<class>, too
"""
TRAIN, VAL, TEST = folder.SPLITS
NAMED_SPLIT = re.compile(r"(?i)(?P<train>train(ing)?)|(?P<val>val(id|idation)?)|(?P<test>test)")


@dataclass(frozen=True)
class Group:
    """Near-duplicate pictures. key: the smallest hash of their files."""

    names: tuple[str, ...]
    labels: frozenset[str]
    key: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("data", type=Path, help="folder with annotations.json and images")
    option(parser, "--val", share, 0.1, "of the pictures, 0 for none", metavar="SHARE")
    option(parser, "--test", share, 0.1, "the same for test", metavar="SHARE")
    parser.add_argument(
        "--keep-folders",
        action="store_true",
        help="pictures in folders named train, val (valid) or test stay there",
    )
    parallel.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the splits and print how many pictures and objects each got."""
    if args.val + args.test >= 1:
        raise InputError("--val and --test leave nothing to train on; together they are below 1")
    file = folder.whole(args.data)
    data = folder.read(file, None)
    taken, faults = check.fingerprints(list(data.pictures), args.workers, args.dask)
    if faults:
        raise InputError(f"{faults[0].text} ({len(faults)} broken; see edge-tools data check)")
    root = folder.root_of(file, None)
    groups = make_groups(data, taken, root)
    shares = {VAL: args.val, TEST: args.test}
    splits = assign_splits(groups, shares, _kept_splits(args, groups, root))
    content = folder.document(file)
    for split in folder.SPLITS:
        names = {name for name, where in splits.items() if where == split}
        path = args.data / f"{split}.json"
        if names or split == TRAIN:
            part = part_of(content, names, root)
            folder.write(path, part)
            print(f"{path}: {len(part['images'])} pictures, {len(part['annotations'])} objects")
        else:
            path.unlink(missing_ok=True)
    if content.get("info", {}).get("task") == folder.CLASSIFICATION:
        _class_folders(args.data, splits)
    return EXIT_OK


def _kept_splits(args: argparse.Namespace, groups: list[Group], root: Path) -> dict[str, str]:
    """Return the split of each picture that is assigned already: in files, or by its folder.

    Raises InputError when folders are to be kept and none is named after a split.
    """
    names = [name for group in groups for name in group.names]
    by_folder = {name: split for name in names if (split := _folder_split(name))}
    earlier = _earlier_splits(args.data, root)
    if args.keep_folders:
        if not by_folder:
            raise InputError(
                f"{args.data}/images: no folder train, val or test; omit --keep-folders"
            )
        return {**earlier, **by_folder}
    if not earlier and len({*by_folder.values()}) > 1:
        found = ", ".join(split for split in folder.SPLITS if split in by_folder.values())
        fix = "--keep-folders keeps them apart"
        print(f"{args.data}: its folders {found} are mixed and split anew; {fix}", file=sys.stderr)
    return earlier


def _folder_split(name: str) -> str | None:
    """Return the split that one of a picture's folders is named after, None for other names."""
    matches = (NAMED_SPLIT.fullmatch(part) for part in PurePosixPath(name).parts[:-1])
    return next((match.lastgroup for match in matches if match), None)


def make_groups(data: Dataset, taken: dict[Path, Fingerprint], root: Path) -> list[Group]:
    """Return the pictures of a set in groups of near-duplicates."""
    labels: dict[int, set[str]] = defaultdict(set)
    for item in data.annotations:
        labels[item["image_id"]].add(data.labels[item["category_id"]])
    pictures = data.pictures
    prints = [taken[lookup.real(picture.path)] for picture in pictures]
    return [
        Group(
            tuple(folder.name_of(pictures[index].path, root) for index in members),
            frozenset().union(*(labels[pictures[index].image_id] for index in members)),
            min(prints[index].sha256 for index in members),
        )
        for members in fingerprint.groups(prints)
    ]


def assign_splits(
    groups: list[Group], shares: dict[str, float], earlier: dict[str, str]
) -> dict[str, str]:
    """Return the split of every picture by name.

    shares: of val and test; the rest is train. earlier: splits from an earlier run, which are kept;
    new pictures of a group join the earlier ones.
    """
    frequency = Counter(label for group in groups for label in group.labels)
    strata: dict[str, list[Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda item: item.key):
        strata[min(group.labels, key=lambda name: (frequency[name], name), default="")].append(
            group
        )
    splits: dict[str, str] = {}
    for stratum in strata.values():
        fixed = [_split_of(group, earlier) for group in stratum]
        counts = Counter(fixed)
        quota = {
            split: _quota(share, len(stratum)) - counts[split] for split, share in shares.items()
        }
        for group, kept in zip(stratum, fixed, strict=True):
            split = kept or next((name for name in quota if quota[name] > 0), TRAIN)
            if not kept and split in quota:
                quota[split] -= 1
            splits.update(dict.fromkeys(group.names, split))
    return splits


def _quota(share: float, groups: int) -> int:
    """Return how many of a class's groups a split gets: at least one if there are three groups."""
    least = 1 if share > 0 and groups >= len(folder.SPLITS) else 0
    return max(round(share * groups), least)


def _split_of(group: Group, earlier: dict[str, str]) -> str | None:
    """Return a group's earlier split; train wins, because those pictures were trained on."""
    known = {earlier[name] for name in group.names if name in earlier}
    return next((split for split in folder.SPLITS if split in known), None)


def _earlier_splits(data: Path, root: Path) -> dict[str, str]:
    """Return the split of each picture according to the existing split files."""
    return {
        folder.name_of(root / item["file_name"], root): split
        for split in folder.SPLITS
        if (data / f"{split}.json").is_file()
        for item in folder.document(data / f"{split}.json").get("images", ())
    }


def part_of(content: dict[str, Any], names: set[str], root: Path) -> dict[str, Any]:
    """Return a COCO document with only the named pictures; ids stay. names: of `folder.name_of`."""
    images = [
        item
        for item in content["images"]
        if folder.name_of(root / item["file_name"], root) in names
    ]
    numbers = {whole_number(item["id"]) for item in images}
    found = [item for item in content["annotations"] if whole_number(item["image_id"]) in numbers]
    return {**content, "images": images, "annotations": found}


def _class_folders(data: Path, splits: dict[str, str]) -> None:
    """Link the pictures into folders/<split>/<class>, the layout that classifiers read."""
    root = data / "folders"
    shutil.rmtree(root, ignore_errors=True)
    try:
        for name, split in splits.items():
            target = root / split / name
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(data / "images" / name, target)
    except OSError as error:
        raise EdgeError(f"{root}: {why_not_written(error)}") from None
    print(f"{root}: {', '.join(sorted(set(splits.values())))}, each with one folder per class")
