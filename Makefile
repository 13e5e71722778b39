# The only commands of this project: a fresh clone needs Python 3.11 to 3.13, git and make.
#   make train       installs into .venv, then trains on built-in data (ARGS="model=... data=..." to choose)
#   make test        the fast tests
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
PY := .venv/bin/python
ARGS ?=

.PHONY: setup train test test-e2e test-slow test-gpu check format smoke coverage lock

train: setup
	$(PY) -m src.train $(ARGS)

test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# The tests that train, kill, sweep or spawn processes through a command.
test-e2e: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "e2e and not slow and not gpu" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup
	$(PY) -m pytest -m slow $(ARGS)

test-gpu: setup
	$(PY) -m pytest -m gpu $(ARGS)

check: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Every entry point once, on built-in data, in a folder of its own.
smoke: setup
	$(PY) scripts/smoke.py

coverage: setup
	$(PY) -m pytest --cov=src --cov-report=term-missing $(ARGS)

# Hashes of every file of every pinned release, for Linux and macOS; no addresses.
lock: setup
	$(PY) -m uv pip compile pyproject.toml --extra dev --extra export --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --quiet --upgrade -o requirements.lock

setup: .venv/.installed

.venv/.installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; install one, or make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@
