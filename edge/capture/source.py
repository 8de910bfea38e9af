"""Reads every kind of source in one way: `open_source(config)`, then `read()` until None.

Everything here may block inside OpenCV; `edge.capture.reader` runs it in a thread of its own.
The backend is always given: with "any", OpenCV tries one after the other and prints addresses
with their passwords.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import MAX_PIXELS, lookup, picture_file
from edge.capture import edit_list
from edge.capture.address import HEIC_SUFFIXES, SourceKind, kind_of, path_of, redact
from edge.config import CameraConfig
from edge.errors import CameraError, ConfigError, InputError
from edge.values import Image

FOLDER_FPS = 1.0  # images have no rate of their own
USUAL_FPS = 25.0  # for a file that states none
MAX_FPS = 1000.0  # a file that states more means its time base, not its rate
MAX_IMAGE_BYTES = 256 * 1024 * 1024  # of one image file
MAX_BAD_READS = 10  # a V4L2 camera's broken JPEGs in a row before it counts as lost
# Decoders of H.264 and H.265 hold back a picture for each further thread. OpenCV takes a thread for
# each core by default: on four cores, 300 ms at 10 frames/s.
LIVE_DECODER_THREADS = 2
STREAM_SCHEMES = frozenset({  # what ffmpeg reads over a network, with all its libraries
    "ftp", "http", "https", "mmsh", "mmst", "rist", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte",
    "rtmpts", "rtp", "rtsp", "rtsps", "satip", "sctp", "sftp", "smb", "srt", "srtp", "tcp", "tls",
    "udp", "udplite", "unix", "zmq",
})  # fmt: skip
# The rate, which no stream needs here, from two frames instead of 28: a stream of 10 frames/s opens
# in 1.3 s instead of 3.4 s. With none, MPEG-TS files opened later state twice their rate. TCP is
# OpenCV's own choice where none is made. Set with the first stream and never taken back, since
# other threads may read the environment at any time.
FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
STREAM_OPTIONS = "rtsp_transport;tcp|fpsprobesize;2"
FFMPEG_QUIET = "8"  # AV_LOG_FATAL: a stream that stays away would fill the journal

NO_GSTREAMER = (
    "this OpenCV has no GStreamer (wheels from PyPI never have it); use Debian's python3-opencv as "
    "README.md says (Sources)"
)
GSTREAMER_HINT = "try gst-launch-1.0; is an element of the pipeline not installed?"
# Receivers of a Raspberry Pi's camera modules, until the Pi 4 and on the Pi 5. OpenCV opens them
# and never gets a picture (opencv/opencv#22820): libcamera has to set up the sensor.
VIDEO_CLASS = Path("/sys/class/video4linux")
MODULE_NAMES = ("unicam", "rp1-cfe")
MODULE_HINT = (
    "it is a Raspberry Pi's camera module: enable edge-rpicam.socket and read "
    "tcp://127.0.0.1:8888 (README.md, Camera modules)"
)


class Source(Protocol):
    """An opened source; used by one thread at a time.

    is_live: a device or stream; no frame means that it is lost, not that it ended.
    fps: a file's rate, > 0; 0 for live sources.
    frames: number of frames a file states, which may be an estimate from its length; 0 when it
        states none, and for live sources.
    seen_s: the newest image's position in a file by its time stamps; 0 when it has none.
    """

    is_live: bool
    fps: float
    frames: int
    seen_s: float

    def read(self) -> Image | None:
        """Return the next image, uint8 (height, width, 3) BGR; None when there is none.

        Raises ValueError for one damaged image after which the next may be good.
        """

    def close(self) -> None:
        """Release the device or file; idempotent."""


def check_source(config: CameraConfig) -> None:
    """Check for faults that no retry can fix, without opening a device.

    Raises InputError for a missing file or a folder without images, CameraError for a
    GStreamer string that this OpenCV cannot run, ConfigError for an address of no known protocol.
    """
    kind = kind_of(config.source)
    if kind is SourceKind.STREAM:
        _check_scheme(str(config.source))
    if kind is SourceKind.GSTREAMER:
        _check_gstreamer(str(config.source))
    if kind is SourceKind.IMAGES:
        image_paths(path_of(config.source))
    if kind is SourceKind.VIDEO:
        path = path_of(config.source)
        _check_exists(path)
        _check_name(path)


def open_source(config: CameraConfig) -> Source:
    """Open a camera's source; may block for its open time-out and longer.

    Raises InputError for a file that is missing or not a video, CameraError for a live source
    that does not open.
    """
    check_source(config)
    kind = kind_of(config.source)
    if kind is SourceKind.IMAGES:
        return ImageFolder(image_paths(path_of(config.source)), config.fps or FOLDER_FPS)
    return VideoSource(config)


def no_frame_reason(config: CameraConfig) -> str:
    """Return why an opened live source gives no frame, in words for the log."""
    if kind_of(config.source) is SourceKind.V4L2 and _is_module(config):
        return f"no frame: {MODULE_HINT}"
    return "no frame in time, or the sender closed the stream"


def hang_hint(config: CameraConfig) -> str:
    """Return what happened when a call did not return, and what to try, in words for the log."""
    given_up = "the hanging reader was given up"
    if kind_of(config.source) is SourceKind.GSTREAMER:  # OpenCV waits for ever, without a source
        return f"{given_up}; {GSTREAMER_HINT}"
    return given_up


def read_image(path: Path) -> Image:
    """Return one image file as uint8 (height, width, 3) BGR; see `picture_file.decode`.

    Raises InputError when the file is missing, too large or cannot be decoded.
    """
    _check_exists(path)
    refuse_pipe(path)
    _silence_opencv()
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes; too large for a picture")
        encoded = np.fromfile(path, dtype=np.uint8)
        bgr = picture_file.decode(encoded)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, cv2.error) as error:
        reason = str(error).strip().splitlines()[0]  # OpenCV's have more
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if bgr is None and path.suffix.lower() in HEIC_SUFFIXES:
        raise InputError(f"{path}: HEIC cannot be decoded; convert it to JPEG")
    if bgr is None:
        raise InputError(f"{path}: not an image that can be decoded; is it complete?")
    return checked(bgr)


def refuse_pipe(path: Path) -> None:
    """Raise InputError for a named pipe."""
    if lookup.is_pipe(path):
        raise InputError(f"{path}: a pipe, which may never say anything; name a file")


def image_paths(path: Path) -> list[Path]:
    """Return the image itself, or a folder's images sorted by name.

    Raises InputError when there are none.
    """
    _check_exists(path)
    if not path.is_dir():
        return [path]
    images = lookup.files_in(path, picture_file.SUFFIXES)
    if not images:
        kinds = ", ".join(sorted(picture_file.SUFFIXES))
        raise InputError(f"{path}: no images in this folder ({kinds})")
    return images


def checked(pixels: NDArray[np.generic] | None) -> Image:
    """Return a backend's image as uint8 (height, width, 3) BGR.

    Raises ValueError for None, an empty or huge image, or a layout other than 1, 3 or 4 bytes a
    pixel.
    """
    if pixels is None or pixels.size == 0 or pixels.ndim < 2 or pixels.dtype != np.uint8:
        raise ValueError("no picture")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise ValueError(f"over {MAX_PIXELS} pixels")
    bgr = np.asarray(pixels, dtype=np.uint8)
    channels = bgr.shape[2] if bgr.ndim == 3 else bgr.ndim - 1
    if channels == 1:
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if channels == 4:
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    if channels != 3:
        raise ValueError(f"{channels} bytes a pixel; make the source give BGR")
    return bgr


class ImageFolder:
    """Still images in order; a damaged one is reported and skipped."""

    is_live = False

    def __init__(self, paths: Sequence[Path], fps: float) -> None:
        self.fps = fps
        self.frames = len(paths)
        self.seen_s = 0.0
        self._rest = list(reversed(paths))

    def read(self) -> Image | None:
        """Return the next image, None after the last; raise ValueError for a damaged one."""
        if not self._rest:
            return None
        path = self._rest.pop()
        try:
            return read_image(path)
        except InputError as error:
            raise ValueError(str(error)) from error

    def close(self) -> None:
        """Drop the images not yet read."""
        self._rest.clear()


class VideoSource:
    """A device, stream, pipeline or video file read by OpenCV."""

    def __init__(self, config: CameraConfig) -> None:
        self._kind = kind_of(config.source)
        self._bad_reads = 0
        _silence_opencv()
        self._capture = _open_capture(config, self._kind)
        if not self._capture.isOpened():
            self._capture.release()
            raise _cannot_open(config, self._kind)
        self._refuse_huge(config)
        self.is_live = self._kind.is_live
        self.fps = 0.0 if self.is_live else self._recorded_fps()
        self.frames = 0 if self.is_live else self._stated_frames(path_of(config.source))
        self.seen_s = 0.0

    def read(self) -> Image | None:
        """Return the next image; None at a file's end or when a live source failed.

        Raises ValueError for a damaged image, which a V4L2 camera may give now and then.
        """
        is_read, pixels = self._capture.read()
        if is_read:
            self._bad_reads = 0
            if not self.is_live:
                self.seen_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            return checked(pixels)
        self._bad_reads += 1
        if self._kind is SourceKind.V4L2 and self._bad_reads <= MAX_BAD_READS:
            raise ValueError("damaged picture")
        return None

    def close(self) -> None:
        """Release OpenCV's capture."""
        self._capture.release()

    def _refuse_huge(self, config: CameraConfig) -> None:
        """Raise, before anything is decoded, for frames that would not fit into memory."""
        width = float(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = float(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            self._capture.release()
            kind = CameraError if self._kind.is_live else InputError
            raise kind(
                f"{redact(config.source)}: {width:.0f}x{height:.0f} is over {MAX_PIXELS} pixels"
            )

    def _recorded_fps(self) -> float:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate <= MAX_FPS else USUAL_FPS  # NaN fails the comparison too

    def _stated_frames(self, path: Path) -> int:
        count = float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        shown_s = edit_list.shown_s(path)
        if shown_s is not None:  # ffmpeg counts what the edit list hides
            count = min(count, round(shown_s * self.fps))
        return int(count) if 0 < count < 2**31 else 0


def _open_capture(config: CameraConfig, kind: SourceKind) -> cv2.VideoCapture:
    if kind is SourceKind.GSTREAMER:
        return cv2.VideoCapture(str(config.source), cv2.CAP_GSTREAMER)
    if kind is SourceKind.V4L2:
        return _open_v4l2(config)
    open_ms, read_ms = int(config.open_timeout_s * 1000), int(config.read_timeout_s * 1000)
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    if kind is SourceKind.STREAM:
        scheme, mark, rest = str(config.source).partition("://")
        where = f"{scheme.lower()}{mark}{rest}"  # ffmpeg knows no other case
        options += _decoder_threads()
        os.environ.setdefault(FFMPEG_OPTIONS, STREAM_OPTIONS)  # OpenCV has no other way
    else:  # absolute: ffmpeg would take the beginning of `12:30.mp4` for a protocol
        where = str(path_of(config.source).absolute())
    return cv2.VideoCapture(where, cv2.CAP_FFMPEG, options)


def _decoder_threads() -> list[int]:
    """Return the option that limits a stream's decoder threads, unless the user chose a number."""
    if "OPENCV_FFMPEG_THREADS" in os.environ or not hasattr(cv2, "CAP_PROP_N_THREADS"):  # 4.6
        return []
    return [cv2.CAP_PROP_N_THREADS, LIVE_DECODER_THREADS]


def _open_v4l2(config: CameraConfig) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(_v4l2_index(config), cv2.CAP_V4L2)
    pixel_format = config.pixel_format
    settings = {
        # First: the camera's sizes and rates depend on it.
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*pixel_format) if pixel_format else 0,
        cv2.CAP_PROP_FRAME_WIDTH: config.width,
        cv2.CAP_PROP_FRAME_HEIGHT: config.height,
        cv2.CAP_PROP_FPS: config.fps,
        cv2.CAP_PROP_BUFFERSIZE: 1,  # the driver's queue would only add age
    }
    for key, value in settings.items():
        if value and capture.isOpened():
            capture.set(key, value)
    return capture


def _v4l2_index(config: CameraConfig) -> int:
    """Return N of /dev/videoN; raise CameraError when there is no such device or no permission."""
    text = str(config.source)
    device = lookup.real(Path(f"/dev/video{text}" if text.isdecimal() else text))
    match = re.fullmatch(r"/dev/video(\d+)", str(device))
    if match is None or not device.exists():
        raise CameraError(f"cannot open {device}: no such camera; is it plugged in?")
    if not os.access(device, os.R_OK | os.W_OK):
        raise CameraError(f"cannot open {device}: no permission; add the user to group video")
    return int(match[1])


def _is_module(config: CameraConfig) -> bool:
    """Return whether a V4L2 device is the receiver of a Raspberry Pi's camera module."""
    try:
        name = (VIDEO_CLASS / f"video{_v4l2_index(config)}" / "name").read_text()
    except (OSError, CameraError):
        return False
    return name.startswith(MODULE_NAMES)


def _cannot_open(config: CameraConfig, kind: SourceKind) -> CameraError | InputError:
    name = redact(config.source)
    if kind is SourceKind.VIDEO:
        return InputError(f"{name}: not a video that can be decoded; is it complete?")
    if kind is SourceKind.STREAM:
        hint = "check address, login and network"
    elif kind is SourceKind.V4L2:
        busy = "is another program, or another camera of the config, using it?"
        hint = MODULE_HINT if _is_module(config) else busy
    else:
        hint = GSTREAMER_HINT
    return CameraError(f"cannot open {name}: {hint}")


def _check_gstreamer(pipeline: str) -> None:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise CameraError(f"cannot open {redact(pipeline)}: {NO_GSTREAMER}")
    if "appsink" not in pipeline:
        raise CameraError(
            f"cannot open {redact(pipeline)}: end the pipeline with "
            "`! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1`"
        )


def _check_scheme(address: str) -> None:
    scheme = address.partition("://")[0].lower()
    if scheme not in STREAM_SCHEMES:
        raise ConfigError(
            f"cannot open {redact(address)}: no protocol {scheme}; cameras have rtsp:// or http://"
        )


def _check_exists(path: Path) -> None:
    reason = lookup.why_hidden(path)
    if reason is not None:
        raise InputError(f"{path}: {reason}; check the path")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")


def _check_name(path: Path) -> None:
    """Raise InputError for a name that is not UTF-8: it crashes OpenCV."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: its name is not UTF-8; rename it") from None


def _silence_opencv() -> None:
    """Keep OpenCV and ffmpeg from logging every attempt, unless the user set their log level."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.setLogLevel(0) if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel(0)
