#!/bin/sh
# Boots a Debian 12 with its real systemd and checks the Debian package and its service in it:
#   sudo sh tests/systemd/run.sh dist/edge-camera_VERSION_amd64.deb
# Needs root, debootstrap and systemd-container. Removes everything that it creates.
set -eu
here=$(realpath "$(dirname "$0")")
deb=$(realpath "$1")
[ "$(id -u)" = 0 ] || { echo "systemd-nspawn needs root: sudo sh $0 $1"; exit 77; }
for program in debootstrap systemd-nspawn nsenter; do
    command -v $program >/dev/null || [ -x /usr/sbin/$program ] ||
        { echo "$program is missing: apt install debootstrap systemd-container"; exit 69; }
done
export PATH="$PATH:/usr/sbin"
work=$(mktemp -d "${TMPDIR:-/tmp}/edge-systemd-XXXXXX")
root=$work/root
machine=""
leader=""
clean_up() {
    [ -z "$leader" ] || kill -s RTMIN+4 "$leader" 2>/dev/null || true # systemd's word for power off
    [ -z "$machine" ] || timeout 30 tail --pid="$machine" -f /dev/null || kill -9 "$machine" || true
    umount "$root/proc" 2>/dev/null || true # debootstrap may leave it
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# init-system-helpers and the libraries are the package's dependencies; apt has no network inside.
debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,python3,libstdc++6,procps,init-system-helpers,util-linux,mosquitto \
    bookworm "$root" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; exit 1; }
umount "$root/proc" 2>/dev/null || true
cp "$deb" "$root/root/first.deb"
cp "$here"/*.sh "$here/../../systemd/mosquitto-acl.example" "$root/root/"
# The same package with a later version, for the upgrade.
dpkg-deb -R "$deb" "$work/later"
sed -i 's/^Version: .*/&+later/' "$work/later/DEBIAN/control"
dpkg-deb -Zzstd -z1 --root-owner-group --build "$work/later" "$root/root/later.deb" >/dev/null
rm -rf "$work/later"

systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network -b >"$work/boot.log" 2>&1 &
machine=$!
inside() { nsenter -t "$leader" -a env -u TMPDIR "$@"; }
for _ in $(seq 150); do
    leader=$(pgrep -P "$machine" || true)
    if [ -n "$leader" ]; then
        state=$(inside systemctl is-system-running 2>/dev/null || true)
        case "$state" in running | degraded) break ;; esac
    fi
    sleep 0.2
done
[ -n "$leader" ] || { cat "$work/boot.log"; exit 1; }
inside systemctl --version | head -1
failed=0
inside sh /root/package.sh install /root/first.deb || failed=1
inside sh /root/inside.sh || failed=1
inside sh /root/package.sh upgrade /root/later.deb || failed=1
inside sh /root/package.sh again /root/later.deb || failed=1
inside sh /root/package.sh keep-a-copy || failed=1
inside sh /root/package.sh purge || failed=1
inside sh /root/service.sh || failed=1
[ "$failed" = 0 ] && echo "systemd: all passed ($(basename "$deb"))"
exit "$failed"
