#!/bin/sh
# Runs the tests that use the interpreter on the other runtime: tflite-runtime 2.14, numpy 1.26
# and OpenCV 4.11 on Python 3.11, in a separate virtual environment (default .venv-tflite-runtime).
set -eu
venv="${1:-.venv-tflite-runtime}"
python="${PYTHON311:-python3.11}"
command -v "$python" >/dev/null 2>&1 || { echo "tflite-runtime needs Python 3.11 ($python not found)"; exit 1; }
if [ ! -e "$venv/.installed" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check tflite-runtime==2.14.0 numpy==1.26.4 \
        opencv-python-headless==4.11.0.86 'paho-mqtt>=2.1' 'pyyaml>=6.0' 'msgspec>=0.19' \
        'pytest>=8.3' 'pytest-randomly>=3.16' 'pytest-timeout>=2.3' 'hypothesis>=6.130' hatchling editables
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    touch "$venv/.installed"
fi
"$venv/bin/python" -c 'import importlib.util as u; assert u.find_spec("ai_edge_litert") is None'
exec "$venv/bin/pytest" -m "not slow" tests/test_interpreter.py tests/test_detector.py tests/test_follows_frame.py tests/test_color.py \
    tests/test_foreign_detectors.py tests/test_pipeline.py tests/test_models.py tests/test_infer.py tests/test_replay.py
