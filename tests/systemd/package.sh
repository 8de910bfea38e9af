#!/bin/sh
# Runs as root inside the booted machine: `package.sh install DEB`, `upgrade DEB` (a later version),
# `again DEB` or `purge`, each with apt without network: all dependencies are installed in the machine.
. "${0%/*}/check.sh"
apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null >/root/apt.log 2>&1; }
cannot_find() { [ -z "$(find "$@" 2>/dev/null)" ]; }
case "$1" in
install)
    check "apt installs it" apt install "$2"
    check "the service was started and is ready, without a camera" is ActiveState active
    check "the service starts with the machine" systemctl is-enabled edge
    check "the command runs" edge models
    ;;
upgrade)
    clip=$(ls /usr/lib/edge-camera/lib/python3*/site-packages/edge/assets/demo.mp4)
    printf 'cameras: {mine: {source: "%s", loop: true}}\n' "$clip" >/etc/edge/edge.yaml
    systemctl restart edge
    touch /var/lib/private/edge/mine
    before=$(systemctl show -P MainPID edge)
    check "apt upgrades it" apt install "$2"
    check "is the later version" test "$(dpkg-query -Wf '${Version}' edge-camera)" = \
        "$(dpkg-deb -f "$2" Version)"
    check "the upgrade kept the changed config" grep -q mine /etc/edge/edge.yaml
    check "the upgrade kept the state" test -e /var/lib/private/edge/mine
    check "the upgraded service runs" is ActiveState active
    check "the upgrade restarted the service" test "$(systemctl show -P MainPID edge)" != "$before"
    systemctl disable --quiet --now edge
    check "apt installs it once more" apt install --reinstall "$2"
    check "what was disabled stays so" test "$(systemctl is-enabled edge)" = disabled
    ;;
again)
    sed 's/mine/door/; 1i device: door' /etc/edge/edge.yaml >/etc/edge/door.yaml
    systemctl enable --quiet --now edge@door
    check "apt removes it" apt remove edge-camera
    check "no instance runs" cannot_find /sys/fs/cgroup/system.slice -name 'edge@*.service'
    check "apt installs it again" apt install "$2"
    check "its enabled instance runs again" systemctl is-active edge@door
    systemctl disable --quiet --now edge@door
    rm -r /etc/edge/door.yaml /var/lib/edge-door /var/lib/private/edge-door
    ;;
keep-a-copy) # for service.sh, as pip would have put it there
    cp -a /usr/lib/edge-camera /opt/edge
    sed -i 's,/usr/lib/edge-camera,/opt/edge,' /opt/edge/bin/edge
    ;;
purge)
    check "apt removes it" apt remove edge-camera
    check "the config stays" test -e /etc/edge/edge.yaml
    check "no service runs" cannot_find /sys/fs/cgroup/system.slice -name 'edge.service'
    check "apt purges it" apt purge edge-camera
    check "nothing is left" cannot_find / -xdev ! -path '/proc/*' ! -path '/root/*' ! -path '/opt/*' \
        ! -path '/var/log/*' '(' -name 'edge*.service*' -o -name 'edge-camera*' -o -path '/etc/edge' \
        -o -path '/var/lib/edge' -o -path '/var/lib/private/edge' ')'
    ;;
esac
[ "$failed" = 0 ] || tail -n 20 /root/apt.log
exit "$failed"
