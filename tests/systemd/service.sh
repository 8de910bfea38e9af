#!/bin/sh
# Runs as root inside the booted machine, where edge is in /opt/edge and no package is installed:
# `edge install-service` and `edge uninstall-service` with the real systemd.
. "${0%/*}/check.sh"
edge=/opt/edge/bin/edge
cannot_find() { [ -z "$(find "$@" 2>/dev/null)" ]; }
changes() { "$edge" install-service | grep -qE '^(write|update)'; }
fails() { ! "$@"; }

check "a dry run" "$edge" install-service --dry-run
check "does nothing" cannot_find /etc/systemd/system -name 'edge*'
check "install-service" "$edge" install-service
check "has started the service" is ActiveState active
check "it starts with the machine" systemctl is-enabled edge
check "a second install-service changes nothing" fails changes
check "uninstall-service" "$edge" uninstall-service
check "has stopped the service" fails systemctl is-active edge
check "the config stays" test -e /etc/edge/edge.yaml
check "uninstall-service --purge" "$edge" uninstall-service --purge
check "has left nothing" cannot_find /etc /var/lib ! -path '/etc/credstore*' '(' -name 'edge*.service*' \
    -o -path /etc/edge -o -path '/etc/[st]*.d/edge.conf' -o -path /var/lib/edge -o -path /var/lib/private/edge ')'
exit "$failed"
