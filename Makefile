# Every target only calls the real command. `make setup` needs Python 3.11+ with venv, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The CPU build is enough: pip uses it if your package index has one.
TORCH ?= torch==2.13.0
FUZZ_RUNS ?= 100000
TFLITE_VENV := .venv-tflite-runtime

.DEFAULT_GOAL := help
.PHONY: help setup setup-tools demo test test-long faults fuzz test-tflite-runtime check format bench lock deb test-gstreamer test-systemd test-arm64 test-homeassistant test-container test-armhf apt-test clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | column -t -s '	'

setup: $(STAMP)  ## create the virtual environment from the lock file

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "edge needs Python 3.11 or later; select one: make PYTHON=python3.12 setup"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "edge needs Python's venv module: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup-tools: $(STAMP)-tools  ## add what training and quantization need (PyTorch, Keras)

$(STAMP)-tools: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[tools,keras]'
	@touch $@

demo: setup  ## run the whole path on a clip: daemon, broker, subscriber
	$(BIN)/edge demo

test: setup apt-test  ## run the tests, on all cores (installs missing mosquitto and RTSP server with apt)
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-long: setup-tools  ## tests that kill and resume trainings and measurements (minutes)
	$(BIN)/pytest -m long

apt-test:
	@sh tests/apt_test.sh

faults: setup apt-test  ## inject every fault, 200 power cuts; print the README's table
	$(BIN)/pytest -m fault --fault-tries 3 --kills 200 --fault-table=fault-table.md tests
	@cat fault-table.md

fuzz: setup  ## 100,000 random commands; as many coverage-guided where atheris runs (x86-64)
	EDGE_FUZZ=$(FUZZ_RUNS) $(BIN)/pytest tests/test_security.py -k any_command
	$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3.0'
	mkdir -p build
	for target in commands model config; do \
		$(BIN)/python tests/fuzz.py $$target -runs=$(FUZZ_RUNS) -artifact_prefix=build/ || exit 1; done

test-tflite-runtime: apt-test  ## run runtime tests on tflite-runtime 2.14, numpy 1.26, Python 3.11
	sh tests/tflite_runtime.sh $(TFLITE_VENV)

test-gstreamer:  ## test GStreamer pipelines with Debian's Python and OpenCV (python3-opencv)
	sh tests/gstreamer.sh

test-homeassistant: setup  ## check the discovery message with Home Assistant's schemas (Python 3.13)
	sh tests/homeassistant.sh

test-armhf: setup  ## test models and daemon on an emulated ARMv7 (debootstrap, qemu-user-static, a cross compiler)
	sh tests/arm/armhf.sh

test-container:  ## build and test the container image (docker, podman or buildah; mosquitto)
	sh tests/container.sh

check: setup-tools  ## run ruff, mypy --strict (which reads PyTorch's types), import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## time the models and the frame path on this machine
	$(BIN)/python -m tools benchmark

lock:  ## resolve requirements.lock again for all platforms (needs uv: pip install uv)
	uv pip compile --quiet --universal --generate-hashes --no-header \
		--extra demo --extra dev --extra web --extra registry --extra otlp --extra metrics pyproject.toml -o requirements.lock

deb: setup  ## build Debian packages for ARM64 and x86-64 in dist/ (needs dpkg-deb and uv: pip install uv)
	$(BIN)/python systemd/debian/build.py --arch arm64 --arch amd64

test-systemd: setup  ## test the x86-64 package in a booted Debian 12 (root; debootstrap, systemd-container)
	$(BIN)/python systemd/debian/build.py --arch amd64
	sh tests/systemd/run.sh "$$(ls -t dist/edge-camera_*_amd64.deb | head -1)"

test-arm64: setup  ## test the ARM64 package on an emulated Cortex-A72 (debootstrap, qemu-user-static)
	$(BIN)/python systemd/debian/build.py --arch arm64
	sh tests/arm/run.sh "$$(ls -t dist/edge-camera_*_arm64.deb | head -1)"

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) $(TFLITE_VENV) .venv-homeassistant .mypy_cache .ruff_cache .pytest_cache .hypothesis
