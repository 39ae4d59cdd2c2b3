#!/bin/sh
# Print the directory of the programs of requirements/audit.txt, made in an environment of their own under the user's cache, once a pin.
set -eu
cd "$(dirname "$0")/.."
home="${XDG_CACHE_HOME:-$HOME/.cache}/llmtrain/audit-$(sha256sum requirements/audit.txt | cut -c1-12)"
if [ ! -e "$home/ready" ]; then
    rm -rf "$home"
    if ! .venv/bin/python -m venv "$home" 2>/dev/null; then
        rm -rf "$home"
        scripts/apt_install.sh python3-venv
        .venv/bin/python -m venv "$home"
    fi
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
    touch "$home/ready"
fi
echo "$home/bin"
