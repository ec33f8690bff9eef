#!/bin/sh
# Installs the Debian packages that a fresh machine lacks: `venv` for Python's, `tests` for what the tests drive.
set -eu

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    command -v apt-get >/dev/null || { echo "setup: please install $* by hand (no apt-get here)" >&2; exit 1; }
    echo "setup: installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

case "${1:-}" in
    venv) install python3-venv ;;
    tests)
        if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then install chromium; fi
        if ! command -v tc >/dev/null || ! command -v ip >/dev/null; then install iproute2; fi
        ;;
    *) echo "usage: tools/setup_system.sh venv|tests" >&2; exit 2 ;;
esac
