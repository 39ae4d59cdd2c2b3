#!/bin/sh
# Make .venv as the pins say: `make` calls this when the pins changed. Needs Python 3.11 or later and nothing else.
# Bytecode is compiled at install: where PYTHONDONTWRITEBYTECODE is set every rank would else compile torch again (7 s each).
set -eu
cd "$(dirname "$0")/.."

python=""
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: no Python 3.11 or later on PATH. Install one, such as: apt-get install python3 python3-venv" >&2
    exit 1
fi

# uv: the one on PATH, else the pinned one in an environment of its own under the user's cache
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    home="${XDG_CACHE_HOME:-$HOME/.cache}/llmtrain/uv-$(sha256sum requirements/uv.txt | cut -c1-12)"
    if [ ! -x "$home/bin/uv" ]; then
        rm -rf "$home"
        if ! "$python" -m venv "$home" 2>/dev/null; then
            rm -rf "$home"
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
                echo "setup: this Python has no venv module, installing python3-venv"
                scripts/apt_install.sh python3-venv
                "$python" -m venv "$home"
            else
                echo "setup: $python has no venv module. Install it (Debian, Ubuntu: apt-get install python3-venv), then run make again." >&2
                exit 1
            fi
        fi
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
    fi
    uv="$home/bin/uv"
fi

export UV_COMPILE_BYTECODE=1 VIRTUAL_ENV="$PWD/.venv"
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
# DeepSpeed is published as source alone: it is built by the setuptools of the pins, not by one that the build would fetch.
awk '/^[A-Za-z0-9]/ { keep = /^setuptools==/ } keep { print }' requirements/dev.txt |
    "$uv" pip install --quiet --require-hashes --no-deps -r -
"$uv" pip sync --quiet --require-hashes --no-build-isolation requirements/dev.txt
"$uv" pip install --quiet --no-deps --no-build-isolation -e trainer_image -e operator
touch .venv/ready
