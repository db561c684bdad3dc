# Makes a root file system with Octavia and a database that has its tables, in the directory $1, from
# Debian's packages. Octavia's and MariaDB's own start scripts are not used: see start.sh.
root=$1
archive() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p; }
[ -n "$(archive)" ] || apt-get -qq update
debootstrap --variant=minbase bookworm "$root" "$(archive)"
printf '#!/bin/sh\nexit 101\n' >"$root"/usr/sbin/policy-rc.d # nothing is started when it is installed
chmod 755 "$root"/usr/sbin/policy-rc.d
mount -t proc proc "$root"/proc
cp /etc/apt/apt.conf.d/* "$root"/etc/apt/apt.conf.d/
DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
  octavia-api octavia-worker octavia-driver-agent python3-pymysql mariadb-server haproxy nftables openssl iproute2
umount "$root"/proc
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/usr/share/{doc,man,locale} "$root"/srv
install -d "$root"/srv/ca "$root"/var/lib/octavia
cp octavia.conf "$root"/etc/octavia/octavia.conf
cp start.sh "$root"/srv/
chroot "$root" /bin/sh -eu <<'IN'
cd /srv/ca
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=octavia -keyout ca.key -out ca.pem
openssl rsa -aes256 -passout pass:foobar -in ca.key -out ca.enc.key
cat ca.pem ca.key >client.pem
mariadb-install-db --user=mysql --datadir=/srv/my >/dev/null
. /srv/start.sh
database
mariadb --socket=/srv/my/s -e "create database octavia; create user o@localhost identified by 'o'; grant all on octavia.* to o@localhost"
octavia-db-manage --config-file /etc/octavia/octavia.conf upgrade head
mariadb-admin --socket=/srv/my/s shutdown
IN
