# Sourced in the root file system.

# database starts MariaDB, and returns when it answers.
database() {
  setsid mariadbd --no-defaults --user=mysql --datadir=/srv/my --socket=/srv/my/s --pid-file=/srv/my/pid --skip-networking \
    --innodb-flush-log-at-trx-commit=0 --skip-log-bin >/srv/my.log 2>&1 </dev/null &
  i=0
  until mariadb-admin --socket=/srv/my/s ping >/dev/null 2>&1; do
    i=$((i + 1))
    [ $i -lt 1200 ] || { cat /srv/my.log >&2; return 1; }
    sleep 0.05
  done
}

# octavia runs Octavia on 127.0.0.1:9876, with addresses of the subnet $1. It does not return.
octavia() {
  ip route replace local "$1" dev lo
  VIP_SUBNET=$1 exec python3 /srv/one.py
}
