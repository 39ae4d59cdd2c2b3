#!/bin/sh
# Install what the test cluster needs of Debian or Ubuntu: a C compiler and libseccomp for runc, iptables, ipset and iproute2 for the pods'
# network, buildah and debootstrap for the images.
# `python -m tests.cluster` calls this as root when something is missing. Go 1.26 or later must be there already.
set -eu
exec 9>/tmp/.llmtrain-packages.lock
flock 9
"$(dirname "$0")/../../scripts/apt_install.sh" \
    gcc libc6-dev pkg-config libseccomp-dev iptables ipset iproute2 openssl util-linux buildah debootstrap
