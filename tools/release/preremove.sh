#!/bin/sh
# Runs before the package is removed, and before an upgrade, where it does nothing.
set -e
case "$1" in
remove | 0) ;; # as dpkg and rpm say it
*) exit 0 ;;
esac
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  for unit in external-lb-agent.service external-lb-restore.service; do
    systemctl disable --now "$unit" 2> /dev/null || true # host install was never run
  done
fi
if [ -e "$DPKG_ROOT/etc/external-lb/host.yaml" ]; then
  echo "external-lb: what this host carries goes on, and follows no change any more. docs/howto.md says how to end that, too."
fi
