#!/bin/sh
# Runs edge on an emulated ARMv7 (Cortex-A7, as a Raspberry Pi 2 or a Zero 2 W with a 32-bit system),
# without a board, a container or root:
#   sh tests/arm/armhf.sh
# Method: as run.sh; but numpy, OpenCV and PyYAML are Debian 12's own for armhf, as README says for
# ARMv7, tflite-runtime and paho come as wheels, and msgspec, which has no wheel, is compiled here.
# Checks every model's golden picture against the manifest's results from x86-64 within the
# manifest's tolerance, wide frames for each detector, and the daemon: events of the demo clip
# reach a mosquitto.
# Needs debootstrap, qemu-user-static, gcc-arm-linux-gnueabihf, mosquitto and mosquitto-clients.
set -eu
here=$(realpath "$(dirname "$0")/../..")
root=$(realpath -m "${1:-$here/build/armhf-root}")
pip="$here/.venv/bin/pip --disable-pip-version-check --quiet"
for program in debootstrap qemu-arm-static arm-linux-gnueabihf-gcc mosquitto mosquitto_sub; do
    command -v $program >/dev/null || [ -x /usr/sbin/$program ] || {
        echo "$program is missing: apt install debootstrap qemu-user-static gcc-arm-linux-gnueabihf" \
            "mosquitto mosquitto-clients"
        exit 69
    }
done
export PATH="$PATH:/usr/sbin"

if [ ! -e "$root/.complete" ]; then
    archives="$root.download"
    mkdir -p "$(dirname "$root")"
    debootstrap --download-only --arch=armhf --variant=minbase \
        --include=python3,libstdc++6,python3-numpy,python3-opencv,python3-yaml,libpython3.11-dev \
        bookworm "$archives" >"$root.log" 2>&1 || { tail "$root.log"; exit 1; }
    for package in "$archives"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    # Links that the packages' scripts would have created.
    for library in blas lapack; do
        ln -sf "$library/lib$library.so.3" "$root/usr/lib/arm-linux-gnueabihf/lib$library.so.3"
    done
    rm -rf "$archives"
    touch "$root/.complete"
fi

packages=$root/packages
rm -rf "$packages" && mkdir -p "$packages"
$pip install --target "$packages" --no-deps --python-version 3.11 --only-binary :all: \
    --platform manylinux_2_34_armv7l --platform any tflite-runtime==2.14.0 'paho-mqtt>=2.1,<3'
source=$(mktemp -d)
broker=""
daemon=""
clean_up() {
    for process in $daemon $broker; do kill "$process" 2>/dev/null || true; done
    rm -rf "$source"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
$pip download --no-deps --no-binary :all: --dest "$source" 'msgspec>=0.19'
tar -xf "$source"/msgspec-*.tar.gz -C "$source"
cp -r "$source"/msgspec-*/src/msgspec "$packages/"
arm-linux-gnueabihf-gcc -shared -fPIC -O2 -w -I"$root/usr/include/python3.11" -I"$root/usr/include" \
    "$packages/msgspec/_core.c" -o "$packages/msgspec/_core.cpython-311-arm-linux-gnueabihf.so"
cp -r "$here/edge" "$here/tools" "$packages/"
cp -r "$here/models" "$packages/edge/models"

python=$root/python
cat >"$python" <<END
#!/bin/sh
exec qemu-arm-static -cpu cortex-a7 -0 "$python" -L "$root" "$root/usr/bin/python3.11" "\$@"
END
chmod +x "$python"
# Not /usr: qemu 7.2 looks up statx, which only 32-bit programs use here, outside of its root.
export PYTHONHOME="$root/usr" PYTHONPATH="$packages:$root/usr/lib/python3/dist-packages"
export OPENBLAS_NUM_THREADS=1
cd "$root"
models=$(cd "$packages/edge/models" && ls)
"$python" -c 'import platform, cv2, numpy; print(platform.machine(), platform.python_version(),
    "numpy", numpy.__version__, "opencv", cv2.__version__)'
timeout 600 "$python" -m edge models
# shellcheck disable=SC2086 # one word a model
timeout 1800 "$python" -m tools validate $models
timeout 600 "$python" "$here/tests/wide_frame.py" "$packages/edge/models"

port=18831
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' $port >"$source/mosquitto.conf"
mosquitto -c "$source/mosquitto.conf" >/dev/null 2>&1 &
broker=$!
for _ in $(seq 50); do mosquitto_pub -p $port -t started -n 2>/dev/null && break; sleep 0.1; done
cat >"$source/edge.yaml" <<END
device: armhf
state_dir: $source/state
mqtt: {host: 127.0.0.1, port: $port}
budget: {frame_ms: 60000}
detector: {model: yolox-nano-288}
cameras: {front: {source: $packages/edge/assets/demo.mp4, loop: true}}
END
"$python" -m edge run --config "$source/edge.yaml" &
daemon=$!
timeout 300 mosquitto_sub -p $port -t 'edge/armhf/+/events' -C 5 >"$source/events"
kill "$daemon"
wait "$daemon"
daemon=""
[ "$(wc -l <"$source/events")" = 5 ]
echo "ARMv7: all passed ($(qemu-arm-static --version | head -1))"
