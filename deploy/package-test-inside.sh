#!/usr/bin/env bash
# What deploy/package-test.sh runs within the machine that it has booted. Says `all is well` at the end if it is.
set -euo pipefail
trap 'echo "FAILED in line $LINENO"; systemctl status --no-pager --full eagledb || true; journalctl --no-pager -u eagledb | tail -n 30' ERR

say() { echo "==> $*"; }
# ask WORDS...: a request without quoting, and the first line of its reply.
ask() {
  exec 3<>/dev/tcp/127.0.0.1/6379
  printf '%s\r\n' "$*" >&3
  head -n 1 <&3 | tr -d '\r'
  exec 3>&-
}
value() {
  exec 3<>/dev/tcp/127.0.0.1/6379
  printf 'GET %s\r\n' "$1" >&3
  head -n 2 <&3 | tail -n 1 | tr -d '\r'
  exec 3>&-
}
is() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }
pid() { systemctl show --value --property MainPID eagledb; }

say "install: it starts, ready when dpkg is done, as its user, within its sandbox"
dpkg --install /test/old.deb
is "$(systemctl is-active eagledb)" active
is "$(systemctl is-enabled eagledb)" enabled
is "$(stat --format %U "/proc/$(pid)")" eagledb
is "$(systemctl show --value --property StatusText eagledb)" "Ready to accept connections"
exec 3<>/dev/tcp/127.0.0.1/9121; printf 'GET /ready HTTP/1.0\r\n\r\n' >&3; grep -q ' 200 OK' <&3; exec 3>&-
is "$(ask PING)" +PONG
is "$(ask SET kept 1)" +OK
is "$(stat --format '%U %a' /var/lib/eagledb)" "eagledb 750"
is "$(stat --format '%U:%G %a' /etc/eagledb/eagledb.conf)" "root:eagledb 640"
grep -q '^CapEff:\s*0000000000000000$' "/proc/$(pid)/status"
grep -q '^Seccomp:\s*2$' "/proc/$(pid)/status"
systemd-analyze verify --man=no eagledb.service
eagle-node doctor --json /etc/eagledb/eagledb.conf --dir /var/lib/eagledb >/test/doctor || [ $? -eq 1 ]

say "upgrade: the configuration as the administrator left it, the data kept, the new process serving"
echo 'maxclients 777' >>/etc/eagledb/eagledb.conf
before=$(pid)
dpkg --install /test/new.deb
[ "$(pid)" != "$before" ]
is "$(value kept)" 1
exec 3<>/dev/tcp/127.0.0.1/6379
printf 'CONFIG GET maxclients\r\n' >&3
is "$(head -n 5 <&3 | tail -n 1 | tr -d '\r')" 777
exec 3>&-

say "a hung process: the watchdog ends it, and it is started again with its data"
mkdir -p /run/systemd/system/eagledb.service.d
printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/eagledb.service.d/test.conf
systemctl daemon-reload
systemctl restart eagledb
is "$(ask SET hung 2)" +OK
before=$(pid)
kill -STOP "$before"
for _ in $(seq 300); do
  [ "$(systemctl show --value --property NRestarts eagledb)" = 1 ] && [ "$(systemctl is-active eagledb)" = active ] && break
  sleep 0.1
done
[ "$(pid)" != "$before" ]
is "$(value hung)" 2
journalctl --no-pager -u eagledb | grep -q 'Watchdog timeout'

say "an error at start: one sentence in the journal, and the unit fails"
sed -i 's/^maxclients .*/maxclients none/' /etc/eagledb/eagledb.conf
! systemctl restart eagledb
systemctl stop eagledb
journalctl --no-pager -u eagledb | grep -q "/etc/eagledb/eagledb.conf, line [0-9]*: 'maxclients': argument couldn't be parsed into an integer"
sed -i '/^maxclients/d' /etc/eagledb/eagledb.conf
systemctl reset-failed eagledb
systemctl start eagledb

say "remove: the service is gone, data and configuration stay; installed again it serves them"
dpkg --remove eagledb
[ ! -e /usr/bin/eagle-node ] && [ ! -e /lib/systemd/system/eagledb.service ]
[ -z "$(grep -lx eagle-node /proc/[0-9]*/comm 2>/dev/null || true)" ]
[ -s /var/lib/eagledb/shard-00.pool ] && [ -e /etc/eagledb/eagledb.conf ]
dpkg --install /test/new.deb
is "$(value kept)" 1

say "purge: nothing is left but the data, and it says so"
dpkg --purge eagledb 2>&1 | tee /test/purge
grep -q 'stays in /var/lib/eagledb' /test/purge
[ ! -e /etc/eagledb ] && [ -s /var/lib/eagledb/shard-00.pool ]
[ -z "$(find / -xdev -name '*eagledb*' -not -path '/proc/*' -not -path '/test/*' -not -path '/var/lib/eagledb*' -not -path '/var/log/*' \
  -not -path '/run/*' -not -path '/var/lib/dpkg/*' 2>/dev/null)" ]
echo "all is well"
