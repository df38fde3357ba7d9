# `make demo` and `make test` are all the set-up there is: each makes .venv where it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests' nets are small: on busy cores two threads wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# All tests but the slow and the GPU ones, on two processes.
SUITE := -n 2 --dist loadfile -m "not slow and not gpu"

.PHONY: help demo test test-oldest test-newest test-slow test-gpu check format lint types bench bench-gpu bench-graphs bench-normalizers bench-shifts sample-data architecture-index clean

help: ## Show what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "adabn needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
# A third party's digit nets for the tests; its own dependencies would bring a second torch.
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt ccexam
	@touch $@

demo: $(VENV)/installed ## Adapt the sample model to the sample pictures
	$(BIN)/adabn demo

test: $(VENV)/installed ## Run the tests, but for the slow and the GPU ones
	$(PYTEST) $(SUITE)

# Environments of their own, with torch's ordinary wheels: some GB each.
$(VENV)-%/installed: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --constraint constraints-$*.txt --editable ".[test]"
	$(VENV)-$*/bin/python -m pip install --quiet --no-deps --constraint constraints-$*.txt ccexam
	@touch $@

test-oldest: $(VENV)-oldest/installed ## Run them with the oldest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest $(SUITE)

test-newest: $(VENV)-newest/installed ## Run them with the newest versions
	OMP_NUM_THREADS=1 $(VENV)-newest/bin/python -m pytest $(SUITE)

test-slow: $(VENV)/installed ## Run the slow tests
	$(PYTEST) -m slow

test-gpu: $(VENV)/installed ## Run the tests that need a GPU
	$(PYTEST) -m gpu

check: format lint types test ## Everything that CI holds a change to

format: $(VENV)/installed ## See that the code is formatted
	$(BIN)/ruff format --check .

lint: $(VENV)/installed ## See that the code is clean
	$(BIN)/ruff check .

types: $(VENV)/installed ## See that the types fit
	$(BIN)/mypy

bench: $(VENV)/installed ## Time, error and whole jobs beside update_bn, fvcore and others (needs apt-get)
	$(BIN)/python -m pip install --quiet fvcore
# Its own dependencies would replace torchmetrics by one of 2022.
	$(BIN)/python -m pip install --quiet --no-deps pytorch-adapt pytorch-metric-learning==1.6.3
	$(BIN)/python benchmarks/peers.py

bench-gpu: $(VENV)/installed ## The same on a GPU, with NCCL (needs a CUDA build of torch, and apt-get)
	$(BIN)/python benchmarks/gpu.py

bench-graphs: $(VENV)/installed ## Time TorchScript, .pt2 and ONNX against a plain pass of the same file
	$(BIN)/python benchmarks/graph_formats.py

bench-normalizers: $(VENV)/installed ## Train five normalizers and measure their papers' claims (needs npm)
	$(BIN)/python -m pip install --quiet scikit-learn
	$(BIN)/python benchmarks/normalizers.py --output benchmarks/normalizers.json

bench-shifts: $(VENV)/installed ## Every method and the verdict over nets and shifts (needs npm and apt-get)
	$(BIN)/python -m pip install --quiet scikit-learn
	$(BIN)/python benchmarks/shifts.py --output benchmarks/shifts.json

sample-data: $(VENV)/installed ## Build sample_data/ again (needs npm)
	$(BIN)/python -m pip install --quiet scikit-learn
	$(BIN)/python sample_data/build.py
	$(BIN)/adabn profile sample_data/digits_wn.pt --source sample_data/source --max-images 500 \
	  --force -o sample_data/digits_wn.profile
	$(BIN)/adabn profile sample_data/digits_mean_only.pt --source sample_data/source \
	  --max-images 500 --force -o sample_data/digits_mean_only.profile

architecture-index: $(VENV)/installed ## Build the index of architectures again (ten minutes)
	$(BIN)/python scripts/build_architecture_index.py

clean: ## Remove the virtual environment and the caches
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
