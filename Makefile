# Every command sets up what it needs: Python 3.11 or later is all that must be there.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
PINS := requirements/dev.txt requirements/uv.txt operator/pyproject.toml trainer_image/pyproject.toml
export OMP_NUM_THREADS := 1

.PHONY: help setup demo test test-fast test-cluster cases images cluster cluster-down check format generate parity bench bench-gpu bench-operator fuzz memory house requirements sbom audit clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/ready: $(PINS) scripts/setup.sh
	@scripts/setup.sh

setup: .venv/ready  ## Install llmtrain and its tools into .venv

demo: .venv/ready  ## Train a real 2 x 2 x 2 job from a manifest on this machine, with a failure on the way
	$(PYTHON) examples/demo.py

test: .venv/ready  ## The pure and the process tiers, at most 10 minutes on 2 cores
	$(PYTHON) -m pytest -q -n auto -m "not processes and not cluster and not gpu"
	$(PYTHON) tests/servers/s3_server.py
	$(PYTHON) -m pytest -q -n 2 --dist loadscope -m "processes and not cluster and not gpu" --durations=10

test-fast: .venv/ready  ## The pure tier but its long tests, under a minute
	$(PYTHON) -m pytest -q -n auto -m "not long and not processes and not cluster and not gpu"

test-cluster: .venv/ready  ## The Kubernetes tier: a real two-node cluster, built once from Go modules
	$(PYTHON) -m tests.cluster build
	$(PYTHON) -m tests.cluster images
	scripts/prometheus.sh > /dev/null
	$(PYTHON) -m pytest -q -m cluster tests/cluster tests/chart --durations=10

cases: .venv/ready  ## Inputs that once went wrong, at the command line: case, expected, got
	$(PYTHON) -m tests.cases

images: .venv/ready  ## The operator's and the trainer's image by buildah; once some minutes, then seconds
	$(PYTHON) -m tests.cluster images

cluster: .venv/ready  ## Start the cluster of the tests with llmtrain installed, and keep it up
	$(PYTHON) -m tests.cluster build
	$(PYTHON) -m tests.cluster up

cluster-down: .venv/ready  ## Stop it; nothing of it stays
	$(PYTHON) -m tests.cluster down

check: .venv/ready  ## Lint, types, import layers, generated files in step
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m llmtrain_operator.manifest.crd | diff -u crds/llmtrain.io_llmtrainjobs.yaml - || { echo "crds/ is out of step: run make generate"; exit 1; }
	$(PYTHON) scripts/chart_files.py --check
	$(PYTHON) -m scripts.dashboards --check
	$(PYTHON) -m scripts.house --check
	$(PYTHON) scripts/sbom.py "$$(scripts/audit_tools.sh)/cyclonedx-py" --check

format: .venv/ready  ## Format and fix what the linter can
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

generate: .venv/ready  ## Write the generated files anew
	mkdir -p crds
	$(PYTHON) -m llmtrain_operator.manifest.crd > crds/llmtrain.io_llmtrainjobs.yaml
	$(PYTHON) scripts/metrics_page.py > docs/operations/metrics.md
	$(PYTHON) scripts/chart_files.py
	$(PYTHON) -m scripts.dashboards
	$(PYTHON) scripts/models_page.py
	$(PYTHON) scripts/migration_page.py
	$(PYTHON) -m scripts.house --write

parity: .venv/ready  ## Every small layout against one process and HF Trainer -> out/parity.json, docs/parity.md
	$(PYTHON) benchmarks/parity.py --page

bench: .venv/ready  ## Step time, checkpoint stall, recovery, upload -> out/bench-trainer.json
	$(PYTHON) benchmarks/trainer.py

bench-gpu: .venv/ready  ## A model of 1.1B parameters on one GPU by each engine and HF Trainer -> out/bench-gpu.json
	$(PYTHON) benchmarks/gpu.py

bench-operator: .venv/ready  ## The operator on 512 simulated nodes -> out/bench-operator.json
	$(PYTHON) -m tests.cluster build
	$(PYTHON) benchmarks/operator_scale.py

fuzz: .venv/ready  ## 10,000 odd jobs against the real API server and the operator, 11,000 damaged data files, 1,000 damaged answers of S3, other examples of each property
	LLMTRAIN_CHANCE=1 $(PYTHON) -m pytest -q -n auto -m "hypothesis and not cluster"
	$(PYTHON) -m tests.cluster build
	LLMTRAIN_ODD_JOBS=10000 $(PYTHON) -m pytest -q -s tests/cluster/test_fuzz.py
	LLMTRAIN_ODD_ANSWERS=1000 $(PYTHON) -m pytest -q -s tests/trainer/checkpoint/test_odd_answers.py
	LLMTRAIN_ODD_FILES=1000 $(PYTHON) -m pytest -q -s tests/trainer/data/test_odd_files.py

memory: .venv/ready  ## Estimated memory against the measured peak -> out/memory.json, docs/memory.md
	$(PYTHON) benchmarks/memory.py --page

house: .venv/ready  ## Figures of the structure: lengths, folders, cycles, names; words that the glossary rules out
	$(PYTHON) -m scripts.house

requirements:  ## Resolve the pins again
	scripts/requirements.sh

sbom: .venv/ready  ## What the images are made of: CycloneDX under out/sbom/, licences in docs/operations/licences.md
	$(PYTHON) scripts/sbom.py "$$(scripts/audit_tools.sh)/cyclonedx-py"

audit: .venv/ready  ## Known vulnerabilities of the pins, where a service that knows them is reachable
	scripts/audit.sh

clean:  ## Remove what the commands made
	rm -rf .venv out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
