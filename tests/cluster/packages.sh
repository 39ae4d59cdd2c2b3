#!/bin/sh
# Install what the test cluster needs of Debian or Ubuntu: a C compiler and libseccomp for runc, iptables and iproute2 for the pods' network,
# buildah and debootstrap for the images.
# `python -m tests.cluster` calls this as root when something is missing. Go 1.26 or later must be there already.
set -eu
exec 9>/tmp/.llmtrain-packages.lock
flock 9
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    gcc libc6-dev pkg-config libseccomp-dev iptables iproute2 openssl util-linux buildah debootstrap >/dev/null
