#!/bin/sh
# Make the Python environment of an image, in one layer: `image_environment.sh DIRECTORY ARGUMENT...`, the arguments as `uv pip install`
# takes them. The two Dockerfiles call it. uv.txt must lie beside it; every download is checked against the hashes of the pins.
#
# TORCH_INDEX, another package index, is for another build of torch (for CPUs, for another CUDA). torch and what it alone needs come from
# there, as wheels, without a check of hashes: the pins know those of the default index alone. All other packages are checked as ever.
# What the building machine needs to reach its package index comes as build secrets, and stays in no layer:
#   settings     lines of shell such as `export UV_DEFAULT_INDEX=...`
#   pip.conf     pip's own file, at /etc/pip.conf
#   uv.toml      uv's own file, at /etc/uv/uv.toml
set -eu
directory=$1
shift
cd "$(dirname "$0")"
[ ! -f /run/secrets/settings ] || . /run/secrets/settings

work=$(mktemp -d)
python3 -m venv "$work/uv"
"$work/uv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r uv.txt
export UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV="$directory"
uv=$work/uv/bin/uv
"$uv" venv --quiet --python python3 "$directory"
pins=$(for argument in "$@"; do case "$argument" in *.txt) echo "$argument" ;; esac; done)

# What is published as source alone (DeepSpeed) is built by the setuptools of the pins, not by one that the build would fetch.
awk '/^[A-Za-z0-9]/ { keep = /^setuptools==/ } keep { print }' $pins >"$work/builder.txt"
[ ! -s "$work/builder.txt" ] || "$uv" pip install --quiet --require-hashes --no-deps -r "$work/builder.txt"
if [ -z "${TORCH_INDEX:-}" ]; then
    "$uv" pip install --quiet --require-hashes --no-build-isolation "$@"
else
    # which packages are wanted, by the pins; then those of them that are not torch's own, each with its lines of hashes
    "$uv" pip install --dry-run --require-hashes --no-build-isolation "$@" 2>&1 | sed -n 's/^ + //p' >"$work/wanted"
    torch=$(grep '^torch==' "$work/wanted")
    awk -v family='^(torch|triton|nvidia-.*|cuda-.*)$' '
        FNR == NR { wanted[$1] = 1; next }
        /^[A-Za-z0-9]/ { split($1, part, "=="); keep = ($1 in wanted) && part[1] !~ family }
        keep { print }' "$work/wanted" $pins >"$work/checked.txt"
    "$uv" pip install --quiet --no-verify-hashes --only-binary :all: --index "$TORCH_INDEX" --index-strategy unsafe-best-match "$torch"
    "$uv" pip install --quiet --require-hashes --no-build-isolation --no-deps --reinstall -r "$work/checked.txt"
fi

# DeepSpeed compiles its C++ parts when they are first used: in a pod, which may have no compiler and nowhere to write. What training on
# CPUs takes is compiled here. What GPUs take is compiled on first use, unless variables DS_BUILD_* ask for it here.
if [ -d "$directory"/lib/python3*/site-packages/deepspeed ]; then
    [ -e "$work/checked.txt" ] && set -- --no-deps -r "$work/checked.txt"
    PATH="$directory/bin:$PATH" DS_BUILD_SHM_COMM=1 "$uv" pip install --quiet --require-hashes "$@" --no-build-isolation --reinstall-package deepspeed
fi

# Our own code comes in a later layer, to one place whatever the version of Python.
echo /opt/llmtrain/code > "$("$directory/bin/python" -c 'import site; print(site.getsitepackages()[0])')/llmtrain.pth"
rm -rf "$work"
