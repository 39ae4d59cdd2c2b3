#!/bin/sh
# Make the Python environment of an image, in one layer: `image_environment.sh DIRECTORY ARGUMENT...`, the arguments as `uv pip install`
# takes them. The two Dockerfiles call it. uv.txt must lie beside it; every download is checked against the hashes of the pins.
#
# TORCH_INDEX, a package index that is asked before the default one, is for another build of torch (for CPUs, for another CUDA): hashes
# are then not checked, because the pins know those of the default index alone.
# What the building machine needs to reach its package index comes as build secrets, and stays in no layer:
#   settings     lines of shell such as `export UV_DEFAULT_INDEX=...`
#   pip.conf     pip's own file, at /etc/pip.conf
#   uv.toml      uv's own file, at /etc/uv/uv.toml
set -eu
directory=$1
shift
cd "$(dirname "$0")"
[ ! -f /run/secrets/settings ] || . /run/secrets/settings

python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r uv.txt
export UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV="$directory"
/tmp/uv/bin/uv venv --quiet --python python3 "$directory"
checks=--require-hashes
[ -z "${TORCH_INDEX:-}" ] || checks="--no-verify-hashes --index $TORCH_INDEX --index-strategy unsafe-best-match"
# shellcheck disable=SC2086
/tmp/uv/bin/uv pip install --quiet $checks "$@"

# DeepSpeed compiles its C++ parts when they are first used: in a pod, which may have no compiler and nowhere to write. What training on
# CPUs takes is compiled here. What GPUs take is compiled on first use, unless variables DS_BUILD_* ask for it here.
if [ -d "$directory"/lib/python3*/site-packages/deepspeed ]; then
    # shellcheck disable=SC2086
    PATH="$directory/bin:$PATH" DS_BUILD_SHM_COMM=1 /tmp/uv/bin/uv pip install --quiet $checks "$@" --no-build-isolation --reinstall-package deepspeed
fi

# Our own code comes in a later layer, to one place whatever the version of Python.
echo /opt/llmtrain/code > "$("$directory/bin/python" -c 'import site; print(site.getsitepackages()[0])')/llmtrain.pth"
rm -rf /tmp/uv /tmp/uv-*
