#!/bin/sh
# Runs as root inside a booted machine where the Debian package is installed: checks the service under
# the real systemd. The exit code is the number of failed checks.
. "${0%/*}/check.sh"
clip=$(ls /usr/lib/edge-camera/lib/python3*/site-packages/edge/assets/demo.mp4)
in_sandbox() { nsenter -t "$pid" -m sh -c "$1"; }
cannot_write() { ! in_sandbox "touch $1/probe"; }
fails() { ! "$@"; }
seconds() { date +%s; }
logged() { journalctl -u edge -o cat --no-pager | grep -q "$1"; }
anybody_reads() {
    for _ in $(seq 100); do runuser -u nobody -- test -s "$1" && return 0; sleep 0.2; done
    return 1
}
restarted() {
    for _ in $(seq 200); do
        [ "$(systemctl show -P NRestarts edge)" -ge 1 ] && is ActiveState active && return 0
        sleep 0.2
    done
    return 1
}

healthy() {
    for _ in $(seq 100); do edge status >/dev/null 2>&1 && return 0; sleep 0.2; done
    return 1
}

# A broker that requires a login, with the example's access rights; the password is a credential.
check "the folder of the secrets is root's alone" test "$(stat -c %a:%U /etc/credstore)" = 700:root
echo the-password >/etc/credstore/edge.mqtt-password
cp /root/mosquitto-acl.example /etc/mosquitto/edge.acl
mosquitto_passwd -c -b /etc/mosquitto/passwords gate the-password
chown mosquitto /etc/mosquitto/passwords /etc/mosquitto/edge.acl
printf 'listener 1883 127.0.0.1\nallow_anonymous false\npassword_file %s\nacl_file %s\n' \
    /etc/mosquitto/passwords /etc/mosquitto/edge.acl >/etc/mosquitto/conf.d/login.conf
systemctl restart mosquitto
echo 'EDGE_LOG_FORMAT=json' >>/etc/edge/environment
cat >/etc/edge/edge.yaml <<END
device: gate
mqtt: {host: 127.0.0.1, username: gate}
cameras: {front: {source: "$clip", loop: true}}
metrics: {textfile: /run/edge/edge.prom}
publish: {stats_interval_s: 2}
END
mkdir -p /run/systemd/system/edge.service.d
printf '[Service]\nWatchdogSec=6\nRestartSec=1\n' >/run/systemd/system/edge.service.d/test.conf
systemctl daemon-reload
check "starts and says ready" timeout 60 systemctl restart edge
pid=$(systemctl show -P MainPID edge)
check "logs in with the credential, and edge status says that all is well" healthy
check "node_exporter may read the metrics, whoever it is" anybody_reads /run/edge/edge.prom
check "the environment file is read" logged '"event":"service.started"'
check "no log has the password" fails logged the-password
check "the journal has the lines' priorities" sh -c 'journalctl -u edge -p info -o cat | grep -q service.started &&
    ! journalctl -u edge -p warning -o cat | grep -q service.started'
check "is not root" test "$(ps -o uid= -p "$pid")" -gt 1000
check "has no capability" grep -q 'CapEff:.0000000000000000' "/proc/$pid/status"
check "has a system-call filter" grep -q 'Seccomp:.2' "/proc/$pid/status"
for folder in /etc /usr /var /opt; do check "cannot write $folder" cannot_write "$folder"; done
check "can write its state" in_sandbox "touch /var/lib/private/edge/probe"
# The group of the video devices must work in spite of PrivateUsers.
touch /srv/camera && chgrp video /srv/camera && chmod 0040 /srv/camera
check "reads what the group video may" timeout 30 systemd-run --quiet --wait --pipe -p DynamicUser=yes \
    -p SupplementaryGroups=video -p PrivateUsers=yes -p CapabilityBoundingSet= cat /srv/camera
check "without the group it may not" fails timeout 30 systemd-run --quiet --wait --pipe \
    -p DynamicUser=yes -p PrivateUsers=yes -p CapabilityBoundingSet= cat /srv/camera
check "reloads" systemctl reload edge
sleep 2
check "has read the config again" logged service.reloaded
kill -STOP "$pid"
check "watchdog kills and restarts a hung daemon" restarted
began=$(seconds)
check "stops" systemctl stop edge
check "stops within 5 s" test $(($(seconds) - began)) -le 5
# The units of a Raspberry Pi's camera module, with a stand-in for its program.
python=$(sed -n '1s/^#!//p' "$(command -v edge)")
"$python" -c 'import cv2, sys; clip = cv2.VideoCapture(sys.argv[1])
for name in ("1.jpg", "2.jpg"): cv2.imwrite("/srv/" + name, clip.read()[1])' "$clip"
chmod 644 /srv/*.jpg
printf '#!/bin/sh\nwhile cat /srv/1.jpg && sleep .05 && cat /srv/2.jpg; do sleep .05; done\n' >/usr/bin/rpicam-vid
chmod 755 /usr/bin/rpicam-vid
module_is() { [ "$(systemctl list-units --plain --no-legend 'edge-rpicam@*' | wc -l)" = "$1" ]; }
becomes() { for _ in $(seq 100); do module_is "$1" && return 0; sleep 0.2; done; return 1; }
check "the camera module's socket is not enabled" test "$(systemctl is-enabled edge-rpicam.socket)" = disabled
check "it can be" systemctl enable --quiet --now edge-rpicam.socket
check "the camera module rests while nobody reads" module_is 0
sed -i 's,^cameras.*,cameras: {front: {source: "tcp://127.0.0.1:8888"}},' /etc/edge/edge.yaml
systemctl start edge
check "the daemon reads the camera module" healthy
check "which runs" module_is 1
check "and is not root" test "$(ps -o uid= -p "$(pgrep -o -f /usr/bin/rpicam-vid)")" -gt 1000
systemctl restart edge
check "a daemon that starts again reads it again" healthy
systemctl stop edge
check "it stops when the daemon does" becomes 0
systemctl disable --quiet --now edge-rpicam.socket
echo 'camras: {}' >/etc/edge/edge.yaml
systemctl start edge 2>/dev/null
sleep 4
check "wrong config ends with 78" is ExecMainStatus 78
check "wrong config is not restarted" is ActiveState failed
exit "$failed"
