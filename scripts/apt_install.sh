#!/usr/bin/env bash
# usage: apt_install.sh LIST...   installs the Debian packages named in the lists that are missing; says which; does nothing if none is.
set -euo pipefail

fail() { echo "make: $1" >&2; exit 1; }

mapfile -t wanted < <(grep -hv '^#' "$@" | sort -u)
command -v dpkg-query >/dev/null || fail "this is no Debian system; install the like of: ${wanted[*]}"

missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=(env)
elif command -v sudo >/dev/null; then
    as_root=(sudo env)
else
    fail "these packages are missing and you are not root; run: apt-get install ${missing[*]}"
fi

echo "make: installing Debian packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; }
apt update || { cat "$log" >&2; fail "apt-get update failed; check the network and /etc/apt/sources.list"; }
apt install -y --no-install-recommends "${missing[@]}" || { cat "$log" >&2; fail "apt-get install failed; see above"; }
