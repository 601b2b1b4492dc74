#!/usr/bin/env bash
# Install bubblewrap, in which programs that models write are run, where that needs no password: as root, or by
# `sudo -n`, with apt-get or dnf. Otherwise one line says what to run. Never fails: all else works without it.
set -uo pipefail

command -v bwrap >/dev/null && exit 0
if [ "$(uname -s)" != Linux ]; then
    echo "bubblewrap: only Linux has it, so programs that models write are not run here"
    exit 0
fi

if command -v apt-get >/dev/null; then
    install="apt-get install -y bubblewrap"
elif command -v dnf >/dev/null; then
    install="dnf install -y bubblewrap"
else
    echo "bubblewrap: not installed; install the package bubblewrap to verify programs that models write"
    exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "bubblewrap: not installed; to verify programs that models write, run: sudo $install"
        exit 0
    fi
    as_root=(sudo -n)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [[ $install == apt-get* ]]; then
    "${as_root[@]}" apt-get update -qq >"$log" 2>&1  # where it fails, the lists that are there may do
fi
# shellcheck disable=SC2086 # a command and its arguments
if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $install >>"$log" 2>&1; then
    echo "bubblewrap: installed ($install)"
else
    tail -n 1 "$log"
    echo "bubblewrap: could not be installed; to verify programs that models write, run: ${as_root[*]:+sudo }$install"
fi
exit 0
