# make demo and make test each work as the first command after a clone: they create .venv, install everything, do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: setup demo test test-all test-slurm test-trackers example lint bench gpu lock
setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "backbench needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet pip==25.3
	$(BIN)/pip install --progress-bar off --constraint constraints.txt --editable .[test]
	$(BIN)/pip install --quiet --group detectron2 --no-deps --only-binary=:all: --python-version 3.10 --implementation cp \
	    --abi none --platform any --upgrade \
	    --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	touch $(READY)

demo: $(READY)
	$(BIN)/backbench demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow and not slurm" --durations 30

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slurm"

# On a real Slurm of this machine alone, which the script sets up for it and takes down; its packages have to be there.
test-slurm: $(READY)
	tests/slurm/one_machine.sh run $(BIN)/python -m pytest -m slurm tests/slurm

# Weights & Biases and MLflow, which are installed for these tests only: timm imports wandb wherever it finds it, which
# makes each start slower by half a second.
test-trackers: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[trackers]
	$(BIN)/python -m pytest -n 2 tests/backbones/training/test_trackers.py tests/benchmarks/commands/test_tracked_runs.py

# The package of examples/plugin, built and installed beside backbench, through all tasks.
example: $(READY)
	$(BIN)/python -m pytest tests/test_example_plugin.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	for script in benchmarks/speed/*.py; do $(BIN)/python $$script; done

# The self-test of training and the comparisons with peers, about twenty minutes:
#   make gpu [DEVICE=cuda] [MINUTES=10] [REPEATS=N] [OUT=gpu]
DEVICE ?= cuda
MINUTES ?= 10
REPEATS ?=
OUT ?= gpu
# A failed line leaves the second part to be run; a wrong call, no GPU, or Ctrl-C in one part ends both (not every shell
# goes by the signal itself where a program has caught it).
FAILED = { ended=$$?; [ $$ended -eq 1 ] || exit $$ended; status=1; }
gpu: $(READY)
	status=0; \
	$(BIN)/backbench doctor --train --device "$(DEVICE)" --minutes "$(MINUTES)" --out "$(OUT)" || $(FAILED); \
	$(BIN)/python benchmarks/speed/comparing/everything.py --device "$(DEVICE)" --out "$(OUT)" \
	    $(if $(REPEATS),--repeats "$(REPEATS)") || $(FAILED); \
	exit $$status

# Every version beneath those in pyproject.toml, from the environment at hand.
lock: $(READY)
	$(BIN)/pip freeze --exclude-editable --exclude sal-detectron2 > constraints.txt
