#!/bin/sh
# Takes README's way to GStreamer pipelines (Debian's Python, OpenCV and numpy, in a separate virtual
# environment, default .venv-gstreamer) and runs their tests there. Once before:
#   apt install python3-venv python3-opencv gstreamer1.0-plugins-base
set -eu
venv="${1:-.venv-gstreamer}"
/usr/bin/python3 -c 'import cv2, ensurepip' 2>/dev/null ||
    { echo "Debian's OpenCV is missing: apt install python3-venv python3-opencv gstreamer1.0-plugins-base"; exit 1; }
if [ ! -e "$venv/.installed" ]; then
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check . \
        'pytest>=8.3' 'pytest-randomly>=3.16' 'pytest-timeout>=2.3' 'hypothesis>=6.130'
    "$venv/bin/pip" uninstall --quiet --yes opencv-python-headless numpy
    touch "$venv/.installed"
fi
"$venv/bin/python" -c 'import cv2; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), cv2.__file__'
exec "$venv/bin/python" -m pytest tests/test_capture_gstreamer.py tests/test_capture.py tests/test_capture_v4l2.py
