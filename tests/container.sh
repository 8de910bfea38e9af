#!/bin/sh
# Builds the container image and checks it against README: not root, `edge status` as health check
# becomes 0, only its state is writable, SIGTERM stops it with 0. With docker, podman or buildah:
#   sh tests/container.sh [options of build]
# The daemon inside publishes to a mosquitto of the host, on the loopback.
set -eu
cd "$(dirname "$0")/.."
engine=""
for candidate in docker podman buildah; do
    command -v $candidate >/dev/null && $candidate info >/dev/null 2>&1 && engine=$candidate && break
done
[ -n "$engine" ] || { echo "no docker, podman or buildah runs here: apt install buildah"; exit 69; }
port="${PORT:-18830}"
scratch=$(mktemp -d)
broker=""
container=""
clean_up() {
    [ -z "$broker" ] || kill "$broker" 2>/dev/null || true
    [ -z "$container" ] || buildah rm "$container" >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$scratch"
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$scratch/mosquitto.conf"
PATH="$PATH:/usr/sbin" mosquitto -c "$scratch/mosquitto.conf" >/dev/null 2>&1 &
broker=$!

[ "$engine" != buildah ] || set -- --format docker "$@" # the other format has no health check
"$engine" build "$@" -q -t edge-camera-test . >/dev/null
inside() {
    mounts="-v $scratch:/etc/edge:ro"
    # shellcheck disable=SC2086 # words on purpose
    if [ "$engine" = buildah ]; then
        timeout 90 buildah run $mounts "$container" -- sh -c "$1"
    else
        timeout 90 "$engine" run --rm --network host --read-only --tmpfs /tmp $mounts --entrypoint sh edge-camera-test -c "$1"
    fi
}
[ "$engine" != buildah ] || container=$(buildah from --pull-never edge-camera-test)
cat >"$scratch/edge.yaml" <<END
device: box
mqtt: {host: 127.0.0.1, port: $port}
cameras: {front: {source: CLIP, loop: true}}
END
clip=$(inside 'ls /opt/edge/lib/python3*/site-packages/edge/assets/demo.mp4')
sed -i "s,CLIP,$clip," "$scratch/edge.yaml"
inside '
failed=0
check() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "pass $name"; else echo "FAIL $name"; failed=1; fi; }
cannot_write() { ! touch "$1/probe"; }
healthy() { for _ in $(seq 60); do edge status && return 0; sleep 0.5; done; return 1; }
ends() { kill "$daemon"; wait "$daemon"; }
edge run --config /etc/edge/edge.yaml 2>/dev/null &
daemon=$!
check "is not root" test "$(id -u)" = 990
check "is in the group video" sh -c "id -Gn | grep -qw video"
check "the health check becomes 0" healthy
check "can write its state" test -w "$STATE_DIRECTORY"
for folder in /opt/edge /etc /usr; do check "cannot write $folder" cannot_write $folder; done
check "SIGTERM ends it with 0" ends
exit $failed'
echo "container: all passed ($engine, $(uname -m))"
