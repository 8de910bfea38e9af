"""`edge infer` with unreadable inputs and unwritable outputs: results kept, one line per fault."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from disk import full_disk
from edge.errors import EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK
from edge.inference import inputs as infer_pictures
from fakes import FakeSource
from inferring import CLIP, ROOT, Infer, save, street, video


def test_link_to_itself_is_reported_and_the_rest_annotated(tmp_path: Path, infer: Infer):
    folder = save(tmp_path / "in" / "street.png", street()).parent
    (folder / "loop.png").symlink_to("loop.png")
    code, document = infer(folder, "--annotate", tmp_path / "out")
    assert code == EXIT_NO_INPUT
    assert len(document) == len(list((tmp_path / "out").iterdir())) == 1
    assert "loop.png: Too many levels of symbolic links" in infer.complaints[-1]


@pytest.mark.parametrize("name", ["pipe.png", "pipe.mp4"])
def test_named_pipe_is_refused_without_blocking(tmp_path: Path, infer: Infer, name: str):
    save(tmp_path / "street.png", street())
    os.mkfifo(tmp_path / name)
    code, document = infer(tmp_path)
    assert code == EXIT_NO_INPUT
    assert len(document) == 1
    assert f"{name}: a pipe" in infer.complaints[-1]


@pytest.mark.parametrize("name", ["http://host/a.jpg", "s3://bucket/a.mp4", "rtsp://host/stream"])
def test_address_is_refused_with_the_fix(infer: Infer, name: str):
    assert infer(name) == (EXIT_NO_INPUT, [])
    assert infer.complaints == [
        f"edge: {name}: an address; download it first, or give a camera to `edge run`"
    ]


def test_document_is_complete_when_pictures_cannot_be_saved(tmp_path: Path, infer: Infer):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, street())
    with full_disk(1000):
        code, document = infer(tmp_path / "in", "--annotate", tmp_path / "out")
    assert code == EXIT_FAILURE
    assert [len(entry["detections"]) for entry in document] == [2, 2]
    (complaint,) = infer.complaints
    assert f"{tmp_path}/out/a.jpg: File too large" in complaint
    assert list((tmp_path / "out").iterdir()) == []


def test_results_are_kept_when_errors_cannot_be_printed(tmp_path: Path):
    save(tmp_path / "a.png", street())
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "edge", "infer", tmp_path / "missing.png", tmp_path / "a.png"]
    with Path("/dev/full").open("w") as full:
        subprocess.run([*command, "--output", output], cwd=ROOT, stderr=full, check=False)
    assert len(json.loads(output.read_text())) == 1


@pytest.mark.parametrize(
    "arguments",
    [("--output", "/dev/full"), ("--output", "nowhere/x.json"), ("--annotate", "file/under")],
)
def test_unwritable_output_is_named(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, _document = infer(save(tmp_path / "street.png", street()), *arguments)
    assert code == EXIT_FAILURE
    (complaint,) = infer.complaints
    assert arguments[1] in complaint


def test_results_go_to_standard_output_when_the_disk_is_full(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "street.png", street())
    code, document = infer(picture, "--output", "/dev/full")
    assert code == EXIT_FAILURE
    assert [entry["file"] for entry in document] == [str(picture)]
    assert infer.complaints == [
        "edge: /dev/full: No space left on device; the results went to standard output"
    ]


def test_full_disk_leaves_no_half_document(tmp_path: Path, infer: Infer):
    clip = video(tmp_path / "clip.avi", 40)
    output = tmp_path / "found.json"
    with full_disk(8192):
        code, document = infer(clip, "--output", output)
    assert (code, len(document)) == (EXIT_FAILURE, 40)
    assert output.read_bytes() == b""


@pytest.mark.parametrize("standard_output", ["| true", "> /dev/full"])
def test_results_that_nothing_takes_are_said_to_be_lost(tmp_path: Path, standard_output: str):
    picture = save(tmp_path / "street.png", street())
    command = f'"$0" -m edge infer "$1" --output /dev/full; echo "code $?" >&2) {standard_output}'
    done = subprocess.run(
        ["/bin/sh", "-c", f"({command}", sys.executable, str(picture)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=False,
    )
    complaint, *_, code = done.stderr.splitlines()
    assert complaint == (
        "edge: /dev/full: No space left on device; "
        "standard output does not take the results either, they are lost"
    )
    assert code == f"code {EXIT_FAILURE}"
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("output", ["nowhere/x.json", "folder", "n" * 300, "street.png"])
def test_unwritable_output_is_reported_before_the_work(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, output: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    picture = save(tmp_path / "street.png", street())
    code, _document = infer(picture, "--output", output, "--annotate", "drawn")
    assert code == EXIT_FAILURE
    assert output in infer.complaints[-1]
    assert not (tmp_path / "drawn").exists()
    assert cv2.imread(str(picture)) is not None


def test_unwritable_annotate_folder_is_reported_before_the_work(tmp_path: Path, infer: Infer):
    code, _document = infer(tmp_path / "none.png", "--annotate", "/proc")
    assert code == EXIT_FAILURE
    (complaint,) = infer.complaints
    assert re.search(r"/proc: .*; name a folder that can be written", complaint)


@pytest.mark.parametrize("name", [b"\xff\xfe.mp4", b"v\xff.jpg", b"\xff"])
def test_name_that_is_not_utf8_is_reported_and_the_rest_processed(
    tmp_path: Path, infer: Infer, name: bytes
):
    odd = tmp_path / os.fsdecode(name)
    video(tmp_path / "clip.avi", 2).rename(odd)
    save(tmp_path / "a.png", street())
    code, document = infer(odd, tmp_path / "a.png", "--annotate", tmp_path / "drawn")
    assert code == EXIT_NO_INPUT
    assert len(document) == 1
    (complaint,) = infer.complaints
    assert re.search("its name is not UTF-8; rename it|not an image", complaint)


def test_pictures_with_names_that_are_not_utf8_are_read(tmp_path: Path, infer: Infer):
    odd = save(tmp_path / "a.png", street()).rename(tmp_path / os.fsdecode(b"\xff.png"))
    code, document = infer(odd, "--annotate", tmp_path / os.fsdecode(b"an\xff"))
    assert code == EXIT_OK
    assert len(document[0]["detections"]) == 2
    assert document[0]["file"] == f"{tmp_path}/\\xff.png"  # strict readers refuse "\\udcff"
    (drawn,) = (tmp_path / os.fsdecode(b"an\xff")).iterdir()
    assert cv2.imdecode(np.fromfile(drawn, np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize(
    "name", ["wow !.avi", "a ! b/clip.avi", "12:30:00.avi", "clip.mpg", "no suffix"]
)
def test_videos_with_unusual_names_are_read(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    video(Path("clip-made.avi"), 2).rename(name)
    code, document = infer(name)
    assert code == EXIT_OK
    assert [entry["frame"] for entry in document] == [1, 2]


def test_picture_whose_name_begins_with_a_tilde_is_read(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    save(Path("~draft.png"), street())
    code, document = infer("~draft.png")
    assert code == EXIT_OK
    assert len(document) == 1


@pytest.mark.parametrize("name", ["notes", "notes.txt", "list.m3u8", "0"])
def test_file_that_is_neither_image_nor_video_is_reported(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").symlink_to(CLIP)
    Path(name).write_text("ffconcat version 1.0\nfile clip.mp4\n")  # ffmpeg would play it
    code, document = infer(name, "live ! appsink")
    assert code == EXIT_NO_INPUT
    assert document == []
    assert f"{name}: not an image" in infer.complaints[0]
    assert "live ! appsink: no such file" in infer.complaints[1]


def test_hidden_files_and_subfolders_of_a_folder_are_skipped(tmp_path: Path, infer: Infer):
    for name in ("a.png", "folder.png/b.png"):
        save(tmp_path / name, street())
    (tmp_path / "._a.png").write_bytes(b"what macOS writes beside a picture")
    code, document = infer(tmp_path)
    assert code == EXIT_OK
    assert [entry["file"] for entry in document] == [str(tmp_path / "a.png")]


def test_recursive_reads_subfolders_but_follows_no_links(tmp_path: Path, infer: Infer):
    for name in ("c.png", "day 1/a.png", "day 1/night/b.png", "day 2/e.png", ".hidden/d.png"):
        save(tmp_path / name, street())
    (tmp_path / "day 1" / "again").symlink_to(tmp_path)
    (tmp_path / "empty").mkdir()
    code, document = infer(tmp_path, "--recursive")
    assert code == EXIT_OK
    names = [str(Path(entry["file"]).relative_to(tmp_path)) for entry in document]
    assert names == ["c.png", "day 1/a.png", "day 1/night/b.png", "day 2/e.png"]
    assert infer.complaints == []


def test_recursive_finds_pictures_however_deep_their_folder_is(tmp_path: Path):
    deepest = tmp_path.joinpath(*["d"] * 200)
    deepest.mkdir(parents=True)
    path = save(deepest / "a.png", street())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = infer_pictures.expand([tmp_path], is_recursive=True)
    finally:
        sys.setrecursionlimit(limit)
    assert found == ([path], [])


def test_recursive_skips_its_own_annotated_pictures(tmp_path: Path, infer: Infer):
    save(tmp_path / "a.png", street())
    for _ in range(2):
        _, document = infer(tmp_path, "--recursive", "--annotate", tmp_path / "drawn")
        assert [Path(entry["file"]).name for entry in document] == ["a.png"]
    assert (tmp_path / "drawn" / "a.jpg").exists()


def test_skipped_subfolders_are_reported(tmp_path: Path, infer: Infer):
    for name in ("a.png", "more/b.png"):
        save(tmp_path / name, street())
    code, document = infer(tmp_path)
    assert code == EXIT_OK
    assert len(document) == 1
    (complaint,) = infer.complaints
    assert f"infer.folders_left_out in={tmp_path}; --recursive" in complaint


def test_pictures_of_rare_formats_in_a_folder_are_read_or_named(tmp_path: Path, infer: Infer):
    save(tmp_path / "a.png", street()).rename(tmp_path / "a.jfif")
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    code, document = infer(tmp_path)
    assert code == EXIT_NO_INPUT
    assert [Path(entry["file"]).name for entry in document] == ["a.jfif"]
    assert infer.complaints == [
        f"edge: {tmp_path}/b.heic: HEIC cannot be decoded; convert it to JPEG"
    ]


@pytest.mark.parametrize(("seconds", "code"), [(19.0, EXIT_OK), (9.0, EXIT_NO_INPUT)])
def test_video_with_variable_frame_rate_is_complete_at_its_stated_duration(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, seconds: float, code: int
):
    source = FakeSource([street()] * 3, is_live=False, fps=10.0)
    source.frames = 191  # by its 19.1 s, as ffmpeg estimates it for .mkv, .webm, .ts and .avi
    source.seen_s = seconds
    monkeypatch.setattr(infer_pictures, "open_source", lambda _config: source)
    given, document = infer(tmp_path / "phone.webm")
    assert given == code
    assert len(document) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_video_trimmed_by_its_edit_list_is_complete_until_it_is_cut_off(
    tmp_path: Path, infer: Infer, suffix: str
):
    trimmed = tmp_path / f"trimmed{suffix}"
    cut = ["-ss", "1.3", "-i", str(CLIP), "-t", "3", "-c", "copy", "-movflags", "+faststart"]
    subprocess.run(["ffmpeg", "-v", "error", *cut, str(trimmed)], check=True)
    code, document = infer(trimmed)
    assert code == EXIT_OK
    assert len(document) == 32
    content = trimmed.read_bytes()
    trimmed.write_bytes(content[: len(content) * 4 // 5])
    code, document = infer(trimmed)
    assert code == EXIT_NO_INPUT
    assert 0 < len(document) < 32
    assert "of 35 frames; is it complete?" in infer.complaints[0]


def test_a_video_without_a_frame_that_can_be_decoded_is_named(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    source = FakeSource([], is_live=False, fps=10.0)
    monkeypatch.setattr(infer_pictures, "open_source", lambda _config: source)
    code, document = infer(tmp_path / "av1.mp4")
    assert (code, document) == (EXIT_NO_INPUT, [])
    assert "av1.mp4: no frame can be decoded" in infer.complaints[0]


def test_unreadable_input_is_reported_also_when_stdout_is_full(tmp_path: Path):
    picture = save(tmp_path / "cut.bmp", street())
    picture.write_bytes(picture.read_bytes()[:1000])  # OpenCV prints its own message for it
    command = [sys.executable, "-m", "edge", "infer", str(picture)]
    variables = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == EXIT_FAILURE
    assert re.fullmatch(r".*cut.bmp: not an image.*\n.*No space left.*\n", done.stderr)
