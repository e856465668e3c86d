#!/usr/bin/env bash
# Tests the Debian package in a machine of its own: a minimal Debian in a folder, booted with systemd by systemd-nspawn.
#
#   deploy/package-test.sh [--binary PATH]
#
# It installs the package, sees the service start under its sandbox and its watchdog, writes data, upgrades to a newer version with the data
# kept, hangs the process until systemd restarts it, removes, installs again over the data, and purges. Nothing of it touches this machine.
# Needs root, debootstrap and systemd-nspawn, which it installs. Exit code 77: this machine cannot (the reason is said).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/install.sh"

options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --binary) options+=(--binary "$2") && shift 2 ;;
    *) fail "unknown option '$1': this script knows --binary" ;;
  esac
done
cannot() { say "the package is not tested: $*" && exit 77; }
[ "$(id -u)" -eq 0 ] || cannot "it needs root"
command -v apt-get >/dev/null 2>&1 || cannot "it needs Debian"
install_packages debootstrap systemd-container

base=$CARGO_TARGET_DIR/package-root
if [ ! -e "$base/complete" ]; then
  say "making a minimal Debian under $base (once)"
  rm -rf "$base"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,init-system-helpers,libhwloc15 bookworm "$base" >&2 ||
    cannot "debootstrap failed, see its words above"
  touch "$base/complete"
fi

old=$("$top/deploy/package.sh" ${options[@]+"${options[@]}"} --version 0.0.1 | tail -n 1)
new=$("$top/deploy/package.sh" ${options[@]+"${options[@]}"} --version 0.0.2 | tail -n 1)
root=$CARGO_TARGET_DIR/package-test
rm -rf "$root"
cp --archive --reflink=auto "$base" "$root"
trap 'rm -rf "$root"' EXIT
mkdir "$root/test"
mv "$old" "$root/test/old.deb"
mv "$new" "$root/test/new.deb"
cp "$top/deploy/package-test-inside.sh" "$root/test/inside.sh"
cat >"$root/etc/systemd/system/package-test.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /test/inside.sh
StandardOutput=append:/test/log
StandardError=append:/test/log
ExecStopPost=/bin/systemctl poweroff --force --no-block
[Install]
WantedBy=default.target
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../package-test.service "$root/etc/systemd/system/default.target.wants/"
# The network is this machine's loopback interface only; nobody logs in.
say "booting it"
timeout --signal=KILL 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --as-pid2 --directory="$root" true 2>&1 ||
  cannot "systemd-nspawn does not run here"
timeout --signal=KILL 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --boot --directory="$root" \
  --console=pipe </dev/null >"$CARGO_TARGET_DIR/package-test.console" 2>&1 || say "systemd-nspawn ended with code $?"
[ -e "$root/test/log" ] || { tail -n 20 "$CARGO_TARGET_DIR/package-test.console" >&2; cannot "systemd does not boot in systemd-nspawn here"; }
cat "$root/test/log"
grep -qx 'all is well' "$root/test/log"
