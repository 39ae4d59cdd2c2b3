#!/bin/sh
# Install packages of Debian or Ubuntu: scripts/apt_install.sh PACKAGE... As root. Another apt that runs just now is waited for.
# Without a package, only the package lists are fetched.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
seconds=${APT_PATIENCE:-600}

# `update` does not wait for the lock of the package lists by itself; `install` waits for the other locks.
waited=0
until said=$(apt-get -qq update 2>&1); do
    case "$said" in
        *"Could not get lock"* | *"Unable to lock"*) ;;
        *) echo "$said" >&2; exit 1 ;;
    esac
    if [ "$waited" -ge "$seconds" ]; then
        echo "$said" >&2
        echo "apt_install: another apt has held its lock for $seconds s. Let it end, or end it, and try again." >&2
        exit 1
    fi
    [ "$waited" -gt 0 ] || echo "apt_install: another apt is at work, waiting for it" >&2
    sleep 1
    waited=$((waited + 1))
done
[ $# -gt 0 ] || exit 0
exec apt-get -qq -o "DPkg::Lock::Timeout=$seconds" install -y --no-install-recommends "$@" >/dev/null
