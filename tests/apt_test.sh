#!/bin/sh
# Installs missing programs for the tests: mosquitto (MQTT broker), ffmpeg with GStreamer's RTSP
# server (cameras), minisign (signatures), systemd-analyze (the units), chromium (the pages), and
# prints their names. Needs root or sudo; without, the tests that need them fail with the same list,
# those of the pages are skipped.
set -eu
missing=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v ffmpeg >/dev/null 2>&1 || missing="$missing ffmpeg"
/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
    missing="$missing python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
command -v minisign >/dev/null 2>&1 || missing="$missing minisign"
command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
browser=""
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || browser=chromium
command -v chromedriver >/dev/null 2>&1 || browser="$browser chromium-driver"
[ -n "$missing$browser" ] || exit 0
echo "tests need these Debian packages, installing:$missing $browser"
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
$sudo apt-get update -qq
if [ -n "$browser" ]; then
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $browser >/dev/null ||
        echo "no chromium: the tests of pages in a browser will be skipped"
fi
[ -n "$missing" ] || exit 0
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
