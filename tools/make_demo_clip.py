"""Makes the demo's clip `edge/assets/demo.mp4` from a video that Debian redistributes.

Method: `vtest.avi` of Debian's package opencv-doc shows a plaza from a fixed camera (768x576,
10 frames/s). People in it are small, so a part of the picture is cropped and enlarged until they
are about 80 to 180 px tall; 25 s are used in which people come, meet, stand and leave.
The encoder runs with one thread and without dates or version strings, so the same ffmpeg build
produces identical files.

Usage: edge-tools demo-clip [--source vtest.avi] [--output edge/assets/demo.mp4]
Without --source the package is fetched by `apt-get download` and unpacked into a temporary folder.
Needs Debian's ffmpeg (with libx264).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge.errors import EXIT_OK, InputError
from tools.arguments import option

PACKAGE = "opencv-doc"
VIDEO_IN_PACKAGE = "usr/share/doc/opencv-doc/examples/data/vtest.avi"
DEFAULT_OUTPUT = Path("edge/assets/demo.mp4")

FIRST_FRAME, END_FRAME = 430, 680  # 25 s: the woman in red enters; the man in blue enters at 660
CROP = "512:384:256:160"  # width:height:x:y in the source, 4:3 like the result
OUTPUT_SIZE = "640:480"
QUALITY = "23"  # x264 constant rate factor; lands near 1.6 MB
KEYFRAME_EVERY = "50"

EXAMPLES = """examples:
  edge-tools demo-clip                       # fetches Debian's opencv-doc
  edge-tools demo-clip --source vtest.avi --output demo.mp4"""


def filter_graph() -> str:
    """Return ffmpeg's filter graph: select frames, crop, enlarge."""
    return (
        f"trim=start_frame={FIRST_FRAME}:end_frame={END_FRAME},setpts=PTS-STARTPTS,"
        f"crop={CROP},scale={OUTPUT_SIZE}:flags=lanczos"
    )


def encode_command(source: Path, output: Path) -> list[str]:
    """Return the ffmpeg command that writes the clip reproducibly."""
    reproducible = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    codec = ["-c:v", "libx264", "-preset", "veryslow", "-crf", QUALITY, "-pix_fmt", "yuv420p"]
    layout = ["-g", KEYFRAME_EVERY, "-threads", "1", "-movflags", "+faststart"]
    files_in = ["ffmpeg", "-v", "error", "-y", "-i", str(source)]
    return [*files_in, "-vf", filter_graph(), "-an", *reproducible, *codec, *layout, str(output)]


def fetch_source(folder: Path) -> Path:
    """Download and unpack Debian's package into `folder`; return the video's path.

    Raises InputError when apt-get or dpkg-deb is missing or fails.
    """
    _run(["apt-get", "download", PACKAGE], folder)
    package = next(folder.glob(f"{PACKAGE}_*.deb"))
    _run(["dpkg-deb", "-x", package.name, "."], folder)
    return folder / VIDEO_IN_PACKAGE


def make_clip(source: Path, output: Path) -> None:
    """Write the clip made from `source`.

    Raises InputError when the source is missing or ffmpeg cannot convert it.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such video; give opencv-doc's vtest.avi as --source")
    output.parent.mkdir(parents=True, exist_ok=True)
    _run(encode_command(source.resolve(), output.resolve()), Path.cwd())


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise InputError(f"{command[0]} is not installed; this needs Debian's package") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        raise InputError(f"{command[0]} failed: {reason[0]}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--source", type=Path, help="vtest.avi; fetched by apt-get when absent")
    option(parser, "--output", Path, DEFAULT_OUTPUT, "MP4 to write")


def run(args: argparse.Namespace) -> int:
    """Make the clip and print its size; InputError when source or ffmpeg are missing."""
    with tempfile.TemporaryDirectory() as folder:
        make_clip(args.source or fetch_source(Path(folder)), args.output)
    print(f"{args.output}: {args.output.stat().st_size} bytes")
    return EXIT_OK
