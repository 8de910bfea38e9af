# Sourced by the checks that run inside the booted machine: one line per check; `failed` counts failures.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
failed=0
check() { # name, then a command
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "pass $name"; else echo "FAIL $name"; failed=$((failed + 1)); fi
}
is() { [ "$(systemctl show -P "$1" edge)" = "$2" ]; }
