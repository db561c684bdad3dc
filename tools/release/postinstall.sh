#!/bin/sh
# Runs after each installation and upgrade. It prepares nothing by itself: which key may
# deliver, and what this machine may carry, is for its owner to say.
set -e
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # Traffic does not depend on the agent: what is live goes on while it starts anew.
  systemctl try-restart external-lb-agent.service
fi
if [ -e "$DPKG_ROOT/usr/local/bin/external-lb" ]; then
  echo "external-lb: an older program is in /usr/local/bin, and comes first: remove it"
fi
if [ -e "$DPKG_ROOT/etc/external-lb/host.yaml" ]; then
  echo "external-lb: for what this version needs of the host, run as root: external-lb host install; then: external-lb host status"
else
  cat <<'TEXT'
external-lb: nothing is changed yet. To make this machine a balancer host, install nginx, HAProxy or keepalived, and run as root:
  external-lb host install --authorized-key KEY.pub --addresses 203.0.113.0/24 --dry-run
and then the same without --dry-run. man external-lb says more.
TEXT
fi
