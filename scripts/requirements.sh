#!/bin/sh
# Resolve the pins again: requirements/*.txt, with hashes, for every Python from 3.11. The versions that stand there are kept
# unless a floor forbids them; to move one, delete its line first. `make requirements` calls this.
set -eu
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --no-emit-package llmtrain-trainer --custom-compile-command 'make requirements' "$@"
}
compile trainer_image/pyproject.toml operator/pyproject.toml requirements/dev.in --extra torch --extra deepspeed --extra megatron -o requirements/dev.txt
compile trainer_image/pyproject.toml --extra torch --extra deepspeed --extra megatron -c requirements/dev.txt -o requirements/trainer.txt
compile operator/pyproject.toml -c requirements/dev.txt -o requirements/operator.txt
compile requirements/audit.in -o requirements/audit.txt
