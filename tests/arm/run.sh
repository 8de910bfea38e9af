#!/bin/sh
# Runs the ARM64 Debian package on an emulated Cortex-A72, without a board, a container or root:
#   sh tests/arm/run.sh dist/edge-camera_VERSION_arm64.deb
# Method: Debian 12's ARM64 packages and ours are unpacked into one folder, and qemu's user mode runs
# its Python. Checks every model's golden picture, on both kernel families, against the manifest's
# results from x86-64 within the manifest's tolerance, wide frames for each detector, and
# a complete `edge demo`.
# Needs debootstrap and qemu-user-static. Its speed is not that of a board.
set -eu
here=$(realpath "$(dirname "$0")/../..")
deb=$(realpath "$1")
root=$(realpath -m "${2:-build/arm64-root}")
for program in debootstrap qemu-aarch64-static dpkg-deb; do
    command -v $program >/dev/null || [ -x /usr/sbin/$program ] ||
        { echo "$program is missing: apt install debootstrap qemu-user-static"; exit 69; }
done

if [ ! -x "$root/usr/bin/python3.11" ]; then
    archives="$root.download"
    mkdir -p "$(dirname "$root")"
    PATH=$PATH:/usr/sbin debootstrap --download-only --arch=arm64 --variant=minbase \
        --include=python3,libstdc++6 bookworm "$archives" >"$root.log" 2>&1 || { tail "$root.log"; exit 1; }
    for package in "$archives"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -rf "$archives"
fi
home=$root/usr/lib/edge-camera
rm -rf "$home"
dpkg-deb -x "$deb" "$root"

# ai-edge-litert reads it and ends on the one of an x86-64 machine.
mkdir -p "$root/proc"
cat >"$root/proc/cpuinfo" <<'END'
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3
END
# Cortex-A72, the one of a Raspberry Pi 4: with qemu's default, `max`, XNNPACK's results are wrong.
# Python takes the script for its own executable, so that the demo starts its daemon through it.
python=$root/python
cat >"$python" <<END
#!/bin/sh
exec qemu-aarch64-static -cpu cortex-a72 -0 "$python" -L "$root" "$root/usr/bin/python3.11" "\$@"
END
chmod +x "$python"
export PYTHONHOME=/usr PYTHONPATH="$home/lib/python3.11/site-packages"

cd "$root" # where there is no checkout that Python could import
models=$(cd "$PYTHONPATH/edge/models" && ls)
"$python" -c 'import platform, cv2, numpy; print(platform.machine(), platform.python_version(),
    "numpy", numpy.__version__, "opencv", cv2.__version__)'
timeout 300 "$python" -m edge models
# shellcheck disable=SC2086 # one word a model
timeout 900 "$python" -m tools validate $models
timeout 600 "$python" "$here/tests/wide_frame.py" "$PYTHONPATH/edge/models"
# A budget that emulation can meet; otherwise every detection would be skipped.
timeout 600 "$python" -m edge demo --budget-ms 20000
echo "ARM64: all passed ($(basename "$deb"), $(qemu-aarch64-static --version | head -1))"
