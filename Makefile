# `make` alone lists what there is. Everything happens in one virtual environment, made when missing
# and renewed when the requirements or the sources of the kernels change.

PYTHON ?= python3
VENV ?= .venv
DEMO_CLIP ?= sample_videos/pan_zoom.mp4

BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.stnls-ready
SOURCES := pyproject.toml constraints.txt $(wildcard cuda_ext/CMakeLists.txt cuda_ext/cmake/*) \
    $(wildcard cuda_ext/csrc/*/*)

# An editable install lists its modules by name: a new one, or one that has moved, renews it.
MODULES := $(sort $(shell find cuda_ext/stnls stnls_cli -name '*.py'))
ifneq ($(MODULES),$(shell cat $(READY) 2>/dev/null))
    RENEW := renew
endif

# An environment that was made without the kernels for GPUs stays so, until STNLS_CUDA is given anew.
CUDA_BEFORE := $(or $(shell cat $(VENV)/.stnls-cuda 2>/dev/null),AUTO)
CUDA_GIVEN := $(STNLS_CUDA)
STNLS_CUDA ?= $(CUDA_BEFORE)
export STNLS_CUDA
ifneq ($(STNLS_CUDA),$(CUDA_BEFORE))
    RENEW := renew
endif

# Kernels for the GPU of this machine alone, unless the environment asks for more.
export STNLS_CUDA_ARCHITECTURES ?= native

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench gpu-bench quality gpu-check gpu-sanitize sanitize samples wheel setup clean

help: ## list these targets
	@echo "make targets (VENV=$(VENV) is the virtual environment, PYTHON=$(PYTHON) what it is made from):"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1@\2/p' $(firstword $(MAKEFILE_LIST)) | \
	    awk -F@ '{ printf "%-15s%s\n", $$1, $$2 }'

demo: $(READY) ## set up if need be, then align a sample clip and say where the report is
	$(BIN)/stnls align $(DEMO_CLIP) --wt 1 -o demo.stnls --overwrite
	@echo
	@echo "Open demo.stnls/report.html for the report (report.json and report.csv hold its figures);"
	@echo "the aligned frames are in demo.stnls/aligned."
	@echo "To have stnls on the PATH of this shell: source $(BIN)/activate"
	@echo "For good: ln -s $(abspath $(BIN))/stnls ~/.local/bin/"

test: $(READY) ## set up if need be, then run the test suite without the slow tests
	$(PY) -m pytest -m "not slow"

lint: $(READY) ## check style and types: ruff, clang-format, mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(wildcard cuda_ext/csrc/*/*)
	$(BIN)/mypy

docs: $(READY) ## write the library's documentation as web pages, into build/docs
	$(PY) -m sphinx -q -W --keep-going -d build/docs-cache docs build/docs
	@echo "Open build/docs/index.html in a browser."

bench: $(READY) ## time the operators on this machine's processor (benchmarks/results/bench.json)
	@mkdir -p build
	$(PY) -m stnls_cli bench --device cpu --sweep --json >build/bench.json
	@mv build/bench.json benchmarks/results/bench.json

gpu-bench: ## after gpu-check: time the operators on the GPU (benchmarks/results/bench-cuda.json; CLIP_FLOW=file)
	@test -f build/gpu/kernels/libstnls_cuda.so || \
	    { echo "there are no CUDA kernels in build/gpu: run make gpu-check first" >&2; exit 1; }
	STNLS_LIBRARY_DIR=build/gpu/kernels PYTHONPATH=cuda_ext:.:build/gpu/site$${PYTHONPATH:+:$$PYTHONPATH} \
	    $(PYTHON) -m stnls_cli.bench --device cuda --sweep --json \
	    $(if $(CLIP_FLOW),--flow-file "$(CLIP_FLOW)") >build/bench-cuda.json
	@mv build/bench-cuda.json benchmarks/results/bench-cuda.json

quality: $(READY) ## the README's tables on real footage (flows are cached; needs the shared data)
	$(PY) benchmarks/quality.py

gpu-check: ## on a machine with a GPU and its own torch: build there, offline, and test (WHEELS=folder, TOOL=no)
	PYTHON="$(PYTHON)" bash .ci/gpu-check

gpu-sanitize: ## after gpu-check: the GPU tests of the library under compute-sanitizer
	PYTHON="$(PYTHON)" bash .ci/gpu-sanitize

sanitize: $(READY) ## the library's tests with CPU kernels that check memory and undefined behaviour
	PYTHON=$(PY) bash .ci/sanitize

samples: $(READY) ## render the sample clips again
	$(PY) sample_videos/render.py --flow

wheel: $(READY) ## build a wheel for every GPU architecture that nvcc knows, into dist/
	STNLS_CUDA=$(or $(CUDA_GIVEN),AUTO) STNLS_CUDA_ARCHITECTURES=all $(PY) -m pip wheel -q --no-deps --no-build-isolation -w dist -C build-dir=build/dist .
	@ls -l dist/*.whl

setup: $(READY) ## only make the virtual environment, with the kernels compiled

clean: ## remove what was built and written, but not the virtual environment
	rm -rf build dist sample_videos/flow demo.stnls demo.stnls.partial .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.*' -prune -exec rm -rf {} +

.PHONY: renew

$(READY): $(SOURCES) $(RENEW)
	@PYTHON="$(PYTHON)" sh .ci/check-tools
	@"$(PYTHON)" .ci/setup_venv.py "$(VENV)"
	@echo $(MODULES) > $@
