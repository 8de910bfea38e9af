"""Edge camera runtime: int8 detection and color on camera boards, published over MQTT."""

import os

__version__ = "0.1.0"

# Larger pictures are refused before they are decoded: 64 megapixels are 192 MB in memory already.
# OpenCV reads its limit once, when it is loaded; nothing of edge loads it before this line.
MAX_PIXELS = 64 * 1024 * 1024
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
