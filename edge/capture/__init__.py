"""Frames from cameras, streams, files and folders, each read in its own thread.

The daemon uses `Cameras`. Each `Camera` never blocks, reconnects by itself and keeps the newest
frame.
`open_source` reads the same sources without threads, `read_image` one still image.
"""

from edge.capture.address import HEIC_SUFFIXES, SourceKind, kind_of, redact
from edge.capture.camera import Camera, CaptureState, CaptureStatus
from edge.capture.cameras import Cameras, check_sources
from edge.capture.reader import end_process_if_hanging, longest_quiet_s
from edge.capture.source import Source, check_source, open_source, read_image, refuse_pipe

__all__ = [
    "HEIC_SUFFIXES",
    "Camera",
    "Cameras",
    "CaptureState",
    "CaptureStatus",
    "Source",
    "SourceKind",
    "check_source",
    "check_sources",
    "end_process_if_hanging",
    "kind_of",
    "longest_quiet_s",
    "open_source",
    "read_image",
    "redact",
    "refuse_pipe",
]
