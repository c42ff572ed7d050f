#!/usr/bin/env bash
# usage: make_venv.sh FOLDER   makes a virtual environment with Python 3.11 or later, and what building needs around it (apt-build.txt).
set -euo pipefail
here=$(dirname "$0")
venv=$1

fail() { echo "make: $1" >&2; exit 1; }

find_python() {     # the first Python >= 3.11 that runs
    local name
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$name"; return; }
    done
    return 1
}

can_build() {       # a compiler, Python's headers and ensurepip
    command -v "${CC:-gcc}" >/dev/null && "$1" -c '
import ensurepip, os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

python=$(find_python) || { "$here/apt_install.sh" "$here/../requirements/apt-build.txt"; python=$(find_python); } \
    || fail "no Python 3.11 or later; install one, or name it: make setup PYTHON=/path/to/python3.11"
can_build "$python" || "$here/apt_install.sh" "$here/../requirements/apt-build.txt"
can_build "$python" || fail "$python lacks a compiler, Python.h or ensurepip; install gcc and its -dev and -venv packages"

echo "make: virtual environment $venv with $("$python" -V)"
rm -rf "$venv"
"$python" -m venv "$venv"
