"""Edge camera runtime: int8 detection and color on camera boards, published over MQTT."""

import os

__version__ = "0.1.0"

# Larger pictures are refused before decoding: 64 megapixels already take 192 MB of memory.
# OpenCV reads this limit once, when it is loaded; no module of edge loads it before this line.
MAX_PIXELS = 64 * 1024 * 1024
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
