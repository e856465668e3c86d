# Shell functions that run.sh and test.sh share: say what is done, and install what is missing.
#
# Sourced, never run. Nothing here is done twice: what is installed already is left as it is, and a second
# run installs nothing. Package lists are fetched only when apt does not know a package yet.

# The repository's folder, whatever folder the caller stands in.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where cargo puts what it builds, as an absolute path.
case "${CARGO_TARGET_DIR:=$top/target}" in /*) ;; *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; esac
export CARGO_TARGET_DIR

say() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Shows what a script says of itself at its head, and ends it.
show_usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
  exit 0
}

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo "$@"
  else fail "'$*' needs root, and there is no sudo: run it as root once, then start this script again"
  fi
}

package_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_packages NAME...: installs those of the Debian packages that are missing.
# A service that a package brings along is not started: the scripts start their own servers.
install_packages() {
  local missing=() name
  if ! command -v dpkg-query >/dev/null 2>&1; then
    say "not a Debian system: install what corresponds to these yourself, should the build miss them: $*"
    return 0
  fi
  for name in "$@"; do package_installed "$name" || missing+=("$name"); done
  [ "${#missing[@]}" -gt 0 ] || return 0

  say "installing Debian packages: ${missing[*]}"
  for name in "${missing[@]}"; do
    if [ -z "$(apt-cache show "$name" 2>/dev/null)" ]; then
      as_root apt-get update || fail "apt-get update failed: see its words above"
      break
    fi
  done
  apt_install "${missing[@]}" && return 0
  say "that failed: fetching newer package lists and trying once more"
  as_root apt-get update && apt_install "${missing[@]}" || fail "could not install: ${missing[*]}"
}

# Installs with services held back: a policy file answers "do not start" while apt runs (only if the system has none
# of its own), and what came just now does not start with the machine either.
apt_install() {
  local policy=/usr/sbin/policy-rc.d ours='' status=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" && ours=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" || status=$?
  [ -z "$ours" ] || as_root rm -f "$policy"
  if [ "$status" -eq 0 ] && [ -d /run/systemd/system ]; then
    case " $* " in *" redis-server "*) as_root systemctl disable --quiet redis-server || true ;; esac
  fi
  return "$status"
}

# What the build links: a C compiler, and hwloc, through which the server asks for the machine's cores and nodes.
build_packages=(build-essential pkg-config libhwloc-dev libudev-dev)

# Puts cargo on the PATH, or says how to get it.
need_cargo() {
  command -v cargo >/dev/null 2>&1 || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null 2>&1 ||
    fail "cargo is missing: install Rust 1.90 or newer (https://rustup.rs says how) and start this script again"
}
