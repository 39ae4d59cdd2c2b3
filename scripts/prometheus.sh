#!/bin/sh
# Print the directory of promtool and prometheus: where PATH has them, else unpacked from Debian's package into the user's cache. Nothing is
# installed and no service is started. apt's package lists are fetched as root where they are missing; another apt at work is waited for.
set -eu
cd "$(dirname "$0")/.."
if found=$(command -v promtool) && command -v prometheus >/dev/null; then
    dirname "$found"
    exit 0
fi
home="${XDG_CACHE_HOME:-$HOME/.cache}/llmtrain/prometheus"
mkdir -p "$home"
exec 9>"$home/lock"
flock 9
if [ ! -x "$home/ready/usr/bin/promtool" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "prometheus: no promtool on PATH, and no apt-get to fetch it with: install Prometheus 2.42 or later" >&2
        exit 1
    fi
    rm -rf "$home/ready" "$home/fetch"
    mkdir "$home/fetch"
    fetch() { (cd "$home/fetch" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download prometheus); }
    fetch 2>/dev/null || { scripts/apt_install.sh && fetch; }
    dpkg-deb -x "$home"/fetch/prometheus_*.deb "$home/fetch/made"
    mv "$home/fetch/made" "$home/ready"
    rm -rf "$home/fetch"
fi
echo "$home/ready/usr/bin"
