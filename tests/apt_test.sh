#!/bin/sh
# Installs the servers that tests talk to, where they are missing: mosquitto (MQTT broker), and
# ffmpeg with GStreamer's RTSP server (cameras). Says so; needs root or sudo. Where it cannot,
# the tests that need them fail with the same list.
set -eu
missing=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v ffmpeg >/dev/null 2>&1 || missing="$missing ffmpeg"
/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
    missing="$missing python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
[ -n "$missing" ] || exit 0
echo "tests need these Debian packages, installing:$missing"
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
