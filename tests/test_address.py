"""The kind of a source address, and the redaction of its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.capture import SourceKind, kind_of, redact
from edge.config_file import MAX_BYTES


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (0, SourceKind.V4L2),
        ("2", SourceKind.V4L2),
        ("/dev/video0", SourceKind.V4L2),
        ("/dev/v4l/by-id/usb-cam", SourceKind.V4L2),
        ("rtsp://camera/live", SourceKind.STREAM),
        ("https://camera/mjpeg?fast!", SourceKind.STREAM),
        ("v4l2src device=/dev/video0 ! videoconvert ! appsink", SourceKind.GSTREAMER),
        ("rtspsrc location=rtsp://camera/live ! decodebin ! appsink", SourceKind.GSTREAMER),
        ("clip.mp4", SourceKind.VIDEO),
        ("wow!.mp4", SourceKind.VIDEO),
        ("file:///tmp/clip.mkv", SourceKind.VIDEO),
        ("file:///", SourceKind.IMAGES),
        ("photo.JPG", SourceKind.IMAGES),
        ("/", SourceKind.IMAGES),
    ],
)
def test_kind_of_source(source: int | str, kind: SourceKind):
    assert kind_of(source) is kind


def test_existing_path_with_exclamation_mark_is_not_a_pipeline(tmp_path: Path):
    clip, folder = tmp_path / "in ! out.mp4", tmp_path / "in ! out"
    assert kind_of(str(clip)) is SourceKind.GSTREAMER
    clip.touch()
    folder.mkdir()
    assert kind_of(str(clip)) is SourceKind.VIDEO
    assert kind_of(str(folder)) is SourceKind.IMAGES


def test_only_videos_and_images_are_not_live():
    assert {kind for kind in SourceKind if not kind.is_live} == {
        SourceKind.VIDEO,
        SourceKind.IMAGES,
    }


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://joe:secret@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://joe:sec/ret@cam/live", "rtsp://***@cam/live"),
        ("rtsp://joe:s@cret@cam/live", "rtsp://***@cam/live"),
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("http://cam/v?user=joe&pwd=secret&w=640", "http://cam/v?user=***&pwd=***&w=640"),
        ("http://cam/v?token=secret", "http://cam/v?token=***"),
        (
            'rtspsrc location=rtsp://joe:secret@cam/x user-id=joe user-pw="se cret" ! appsink',
            "rtspsrc location=rtsp://***@cam/x user-id=*** user-pw=*** ! appsink",
        ),
        ("rtsp://joe:my s!cret@cam/live", "rtsp://***@cam/live"),
        ("rtsp://cam:554/user=joe_password=secret_channel=1", "rtsp://cam:554/user=***"),
        ("srt://cam:9000?a=b&passphrase=secret", "srt://cam:9000?a=b&passphrase=***"),
        ("http://cam/v?access_token=secret&turnkey=1", "http://cam/v?access_token=***&turnkey=1"),
        (
            "rtspsrc location=rtsp://joe:secret@cam/x proxy-id=joe proxy-pw=secret ! tee name=a@b",
            "rtspsrc location=rtsp://***@cam/x proxy-id=*** proxy-pw=*** ! tee name=a@b",
        ),
        ("rtspsrc user-id='joe' user-pw = 'se cret' ! x", "rtspsrc user-id=*** user-pw = *** ! x"),
        (r'rtspsrc user-pw="se\"c ret" ! x', "rtspsrc user-pw=*** ! x"),
        (r"rtspsrc user-pw=se\ cret ! x", "rtspsrc user-pw=*** ! x"),
        ("/home/joe@work/clip.mp4", "/home/joe@work/clip.mp4"),
        (0, "0"),
    ],
)
def test_redact(source: int | str, shown: str):
    assert redact(source) == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["a", "a://", "a://b ! ", "a://b@c ! ", "pw=", "pw ", "key='"])
def test_redaction_of_a_huge_source_takes_no_quadratic_time(part: str):
    assert redact(part * (MAX_BYTES // len(part)))
