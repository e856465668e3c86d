#!/usr/bin/env bash
# Builds EagleDB and serves on 127.0.0.1:6379.
#
#   deploy/run.sh [CONFIG-FILE] [--DIRECTIVE VALUE]...
#
# Arguments go to the server (`eagle-node --help` names its directives), and win over what this script would say: `deploy/run.sh --port 7000 --shards 2`.
# A configuration file comes first, as with redis-server; what it sets is left to it.
# Status page, metrics and health are on http://127.0.0.1:9121/; a second node on the same host wants an --admin-port of its own, or 0
# for none: `deploy/run.sh --port 7001 --admin-port 9122 --dir data-2`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/install.sh"

# True if the user set this directive, by flag or in the configuration file.
user_sets() {
  local directive=$1 argument
  shift
  for argument in "$@"; do
    case "$argument" in "--$directive" | "--$directive="*) return 0 ;; esac
  done
  [ -n "$config" ] && grep -qiE "^[[:space:]]*$directive[[:space:]]" "$config"
}

config=
case "${1:-}" in
  -h | --help) show_usage ;;
  '' | -*) ;;
  *)
    config=$1
    shift
    [ -r "$config" ] || fail "cannot read the configuration file '$config'"
    ;;
esac

install_packages "${build_packages[@]}"
need_cargo
say "building eagle-node (the first build takes some minutes)"
(cd "$top" && cargo build --release --locked --package eagle-node)

defaults=()
user_sets bind "$@" || defaults+=(--bind 127.0.0.1)
user_sets port "$@" || defaults+=(--port 6379)
if ! user_sets dir "$@"; then
  mkdir -p "$top/data"
  defaults+=(--dir "$top/data")
fi

set -- ${config:+"$config"} ${defaults[@]+"${defaults[@]}"} "$@"
say "starting eagle-node $*"
exec "$CARGO_TARGET_DIR/release/eagle-node" "$@"
