#!/usr/bin/env bash
# Bring a virtual environment up to date, doing only what is missing:
#
#   tools/venv.sh DIRECTORY EXTRAS [GROUP...]
#
# It then holds the newest wheel of this checkout, never the checkout itself, with the EXTRAS
# ("cli,speed", or "" for none) and the dependency GROUPs of pyproject.toml.
# PYTHON names the interpreter for a new environment. OLDEST=1 installs the oldest versions of
# the dependencies that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1 extras=$2
shift 2
groups=$*
python=${PYTHON:-python3}
stamps=$venv/.stamps

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# pip, without a word unless something is wrong
pip() {
    "$venv/bin/python" -m pip --quiet --quiet --disable-pip-version-check "$@"
}

make_venv() {
    command -v "$python" >/dev/null ||
        fail "No '$python' found. Install Python 3.11 or newer, or say which: make PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$python" --version 2>&1) is too old: apixo-async needs Python 3.11 or newer." \
            "If there is another one, say which: make PYTHON=/path/to/python3.11"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "'$python' comes without its venv module; on Debian and Ubuntu: apt-get install python3-venv"
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
    pip install --upgrade 'pip>=25.1' # the first that knows dependency groups
    pip install --group build
    mkdir -p "$stamps"
    touch "$stamps/made"
}

# Is anything that goes into the wheel newer than $1? Directories count: a file may be gone.
changed_since() {
    [ ! -e "$1" ] || [ -n "$(find apixo_async pyproject.toml README.md LICENSE \
        \( -name __pycache__ -prune \) -o -newer "$1" -print 2>/dev/null)" ]
}

build_wheel() {
    changed_since "$stamps/wheel" || return 0
    rm -rf "$venv/dist"
    touch "$stamps/wheel.next" # before building, so that no change goes unnoticed
    local log
    log=$("$venv/bin/python" -m hatchling build --target wheel --directory "$venv/dist" 2>&1) ||
        fail "$log"
    mv "$stamps/wheel.next" "$stamps/wheel"
}

install() {
    local wheel set=$stamps/with-${extras//,/-}-${groups// /-}
    wheel=$(echo "$venv"/dist/*.whl)
    if [ ! -e "$set" ] || [ pyproject.toml -nt "$set" ]; then
        echo "installing ${extras:+extras $extras }${groups:+groups $groups}"
        local group arguments=()
        for group in $groups; do arguments+=(--group "$group"); done
        if [ -n "${OLDEST:-}" ]; then
            "$venv/bin/python" tools/oldest.py >"$venv/oldest.txt"
            arguments+=(--constraint "$venv/oldest.txt")
        fi
        pip install "$wheel${extras:+[$extras]}" ${arguments[@]+"${arguments[@]}"}
        touch "$set"
    fi
    if [ ! -e "$stamps/installed" ] || [ "$stamps/wheel" -nt "$stamps/installed" ]; then
        pip install --no-deps --force-reinstall "$wheel"
        touch -r "$stamps/wheel" "$stamps/installed"
    fi
}

# An environment that was left half made, or whose Python has gone, is made anew.
[ -e "$stamps/made" ] && "$venv/bin/python" -c '' 2>/dev/null || make_venv
build_wheel
install
