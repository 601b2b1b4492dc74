#!/usr/bin/env bash
# Install bubblewrap, the sandbox for programs written by models, if that needs no password: as root or with `sudo -n`,
# by apt-get or dnf. Otherwise print the command to run. Never fails, because everything else works without it.
set -uo pipefail

command -v bwrap >/dev/null && exit 0
if [ "$(uname -s)" != Linux ]; then
    echo "bubblewrap: it exists only for Linux, so programs written by models cannot run here"
    exit 0
fi

if command -v apt-get >/dev/null; then
    install="apt-get install -y bubblewrap"
elif command -v dnf >/dev/null; then
    install="dnf install -y bubblewrap"
else
    echo "bubblewrap: not installed; install the package bubblewrap to verify programs written by models"
    exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "bubblewrap: not installed; to verify programs written by models, run: sudo $install"
        exit 0
    fi
    as_root=(sudo -n)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [[ $install == apt-get* ]]; then
    "${as_root[@]}" apt-get update -qq >"$log" 2>&1  # if this fails, the existing lists may be enough
fi
# shellcheck disable=SC2086 # a command and its arguments
if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $install >>"$log" 2>&1; then
    echo "bubblewrap: installed ($install)"
else
    tail -n 1 "$log"
    echo "bubblewrap: could not be installed; to verify programs written by models, run: ${as_root[*]:+sudo }$install"
fi
exit 0
