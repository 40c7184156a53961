#!/bin/sh
# Makes the virtual environment VENV and installs Headrace with dependency group GROUP into it.
# Prints one line while it works; the whole output is in VENV/install.log, and is shown if something fails.
set -eu
venv=$1 group=$2
python=${PYTHON:-python3}

fail() { printf '%s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 ||
    fail "Python is missing. Install it (Debian, Ubuntu: apt-get install python3 python3-venv), then run make again."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Headrace needs Python 3.11 or newer; $("$python" --version) was found. Name another one: make PYTHON=python3.12"

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    package="python3-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        printf 'installing %s, which Python needs to make virtual environments\n' "$package"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
    else
        fail "Python's venv module is missing. Install it (Debian, Ubuntu: sudo apt-get install $package), then run make again."
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
log="$venv/install.log"
printf 'installing Headrace and its %s tools into %s … ' "$group" "$venv"
if { "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' &&
     "$venv/bin/python" -m pip install --quiet --editable . --group "$group"; } >"$log" 2>&1; then
    printf 'done\n'
    touch "$venv/.$group"
else
    printf 'failed\n'
    cat "$log" >&2
    fail "The installation failed; the lines above say why. Check that the package index can be reached, then run make again."
fi
