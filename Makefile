PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m remit_lit
# Libraries that ask a hub for updates would wait for it on a machine without a network.
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help quickstart test test-all test-slurm gpu lint docs format real-inputs real real-claim lab clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The registry's torch for Linux brings several GB of CUDA. Without an NVIDIA driver the CPU build is taken from
# PyTorch's own index; where that cannot be reached, the next line installs whatever the registry has.
CPU_TORCH := $(if $(shell command -v nvidia-smi),,--no-deps --retries 0 --index-url https://download.pytorch.org/whl/cpu)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(if $(CPU_TORCH),-$(BIN)/python -m pip install --quiet --constraint constraints.txt $(CPU_TORCH) torch)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: .venv/installed ## mid-train the embedded lab's base model with ReMiT (under 4 minutes with installation)
	$(RUN) fit --config experiments/quickstart.yaml --overwrite=true

test: .venv/installed-dev lint ## lint and run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations 20 -m "not slow and not real and not slurm"

test-all: .venv/installed-dev lint ## all tests, the slow and the real ones too
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations 20

test-slurm: .venv/installed-dev ## jobs on a SLURM of this machine alone (as root on Debian or Ubuntu)
	apt-get install -y --no-install-recommends slurm-wlm munge
	tests/slurm/one_node.sh .cache/slurm $(BIN)/python -m pytest --durations 0 tests/slurm

gpu: .venv/installed-dev ## on a machine with an NVIDIA GPU: its tests, and tests/benchmarks/RESULTS_GPU.md
	$(BIN)/python -m pytest -m gpu tests/gpu
	$(BIN)/python -m tests.benchmarks gpu

lint: .venv/installed-dev docs ## ruff, mypy, the floors of the package, and the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: .venv/installed-dev ## build the documentation in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: .venv/installed-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

real-inputs: .venv/installed-dev ## fetch SmolLM2-135M and benchmark text (180 MB), and make what experiments read
	$(BIN)/python -m remit_lit.recipes real

real: real-inputs ## the table of a real model: a degraded SmolLM2-135M, mid-trained on MATH
	$(RUN) table --config experiments/tables/real.yaml

real-claim: .venv/installed-dev ## the table of the claim: SmolLM2-135M on right and wrong MATH, against its own SFT
	$(BIN)/python -m remit_lit.recipes real_claim
	$(RUN) table --config experiments/tables/real_claim.yaml

SEED ?= 0
lab: .venv/installed-dev ## build the lab's models from nothing, in .cache/lab/models-SEED (about 4 minutes)
	$(BIN)/python -m remit_lit.recipes lab --seed $(SEED) --output .cache/lab/models-$(SEED)

clean: ## remove the environment, caches and runs
	rm -rf .venv .cache runs site
