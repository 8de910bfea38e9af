#!/bin/sh
# Checks the discovery message with Home Assistant's own schemas, of the release named here, in a
# separate virtual environment (default .venv-homeassistant). Needs Python 3.13 and a C++ compiler, and
# writes tests/reference/homeassistant.json, with which every test run checks keys without it.
set -eu
venv="${1:-.venv-homeassistant}"
release="${HOMEASSISTANT:-2025.4.4}"
python="${PYTHON313:-python3.13}"
command -v "$python" >/dev/null 2>&1 || {
    echo "Home Assistant $release needs Python 3.13 ($python not found); set PYTHON313=…"
    exit 69
}
if [ ! -e "$venv/.installed-$release" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "homeassistant==$release" 'paho-mqtt>=2.1,<3'
    touch "$venv/.installed-$release"
fi
message=$(mktemp)
trap 'rm -f "$message"' EXIT
.venv/bin/python tests/homeassistant_message.py >"$message"
"$venv/bin/python" tests/homeassistant_check.py <"$message"
"$venv/bin/python" tests/homeassistant_check.py --keys <"$message" >tests/reference/homeassistant.json
