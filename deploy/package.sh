#!/usr/bin/env bash
# Builds the Debian package: eagledb_VERSION_ARCH.deb in the target folder. Its last line is the path.
#
#   deploy/package.sh [--binary PATH] [--version VERSION]
#
# --binary takes a server that was built already; --version is that of the package (by default that of the workspace).
# dpkg-deb puts it together from the files of deploy/ and what `eagle-node generate` prints: there is nothing that a crate for packaging
# would add. The package depends on what the binary links, as dpkg-shlibdeps finds.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/install.sh"

binary=
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)
while [ $# -gt 0 ]; do
  case "$1" in
    --binary) binary=$2 && shift 2 ;;
    --version) version=$2 && shift 2 ;;
    *) fail "unknown option '$1': this script knows --binary and --version" ;;
  esac
done
command -v dpkg-deb >/dev/null 2>&1 || fail "dpkg-deb is missing: packages are built on Debian"
if [ -z "$binary" ]; then
  install_packages "${build_packages[@]}"
  need_cargo
  say "building eagle-node"
  (cd "$top" && cargo build --release --locked --package eagle-node)
  binary=$CARGO_TARGET_DIR/release/eagle-node
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
# put MODE FILE PATH: a file of the package.
put() { install -D --mode "$1" "$2" "$root/$3"; }
# made MODE WHAT PATH: what the server prints, compressed if the name says so.
made() {
  "$binary" generate "$2" >"$work/made"
  case "$3" in *.gz) gzip --best --no-name "$work/made" && mv "$work/made.gz" "$work/made" ;; esac
  put "$1" "$work/made" "$3"
}

say "putting eagledb $version together"
put 755 "$binary" usr/bin/eagle-node
strip --strip-debug "$root/usr/bin/eagle-node"
put 644 "$top/deploy/systemd/eagledb.service" lib/systemd/system/eagledb.service
put 644 "$top/deploy/systemd/eagledb.sysusers" usr/lib/sysusers.d/eagledb.conf
put 644 "$top/deploy/systemd/eagledb.tmpfiles" usr/lib/tmpfiles.d/eagledb.conf
made 640 config etc/eagledb/eagledb.conf
made 644 man usr/share/man/man8/eagle-node.8.gz
made 644 bash usr/share/bash-completion/completions/eagle-node
made 644 zsh usr/share/zsh/vendor-completions/_eagle-node
made 644 fish usr/share/fish/vendor_completions.d/eagle-node.fish
put 644 "$top/README.md" usr/share/doc/eagledb/README.md
put 644 "$top/deploy/README.md" usr/share/doc/eagledb/operation.md
put 644 "$top/deploy/debian/copyright" usr/share/doc/eagledb/copyright
for file in alerts.yml dashboard.json prometheus.yml; do
  put 644 "$top/deploy/monitoring/$file" "usr/share/doc/eagledb/monitoring/$file"
done
for script in postinst prerm postrm; do put 755 "$top/deploy/debian/$script" "DEBIAN/$script"; done
echo /etc/eagledb/eagledb.conf >"$root/DEBIAN/conffiles"
chmod 644 "$root/DEBIAN/conffiles"

# dpkg-shlibdeps looks for a source package around it.
mkdir -p "$work/source/debian" && printf 'Source: eagledb\n\nPackage: eagledb\nArchitecture: any\n' >"$work/source/debian/control"
depends=$(cd "$work/source" && dpkg-shlibdeps -O "$root/usr/bin/eagle-node" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || fail "dpkg-shlibdeps does not say what the binary depends on: is dpkg-dev installed?"
cat >"$root/DEBIAN/control" <<CONTROL
Package: eagledb
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: EagleDB <eagledb@localhost>
Installed-Size: $(du --summarize --apparent-size --block-size=1024 --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends, systemd (>= 249) | systemd-standalone-sysusers, init-system-helpers (>= 1.54)
Section: database
Priority: optional
Description: Redis-compatible key-value server, one shard a core
 Every pinned core owns one shard: a Dash hash table and a pool of records close
 to it in memory, shared with nobody. What a reply acknowledges is durable, in
 files or on persistent memory. Any Redis client can use it.
CONTROL
package=$CARGO_TARGET_DIR/eagledb_${version}_$(dpkg --print-architecture).deb
mkdir -p "$CARGO_TARGET_DIR"
dpkg-deb --root-owner-group --build "$root" "$package" >&2
echo "$package"
