# The only commands of this project: a fresh clone needs Python 3.11 to 3.13, git and make.
#   make train       installs into .venv, then trains on built-in data (ARGS="model=... data=..." to choose)
#   make test        the fast tests
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=

.PHONY: setup train test test-e2e test-install test-slow test-gpu test-browser test-next-hydra check format smoke coverage lock

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

# The page of src.report. apt-get installs Chromium if there is none, for which it must be root.
test-browser: setup
	@command -v chromium chromium-browser google-chrome >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }
	$(PY) -m pytest -m browser tests/reports/test_report_page.py $(ARGS)

check: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/basedpyright --pythonpath $(PY) --level error

# Installs the lock anew beside .venv, with the oldest pip that this Python came with.
test-install: setup
	$(PY) -m pytest -m install tests/test_installation.py $(ARGS)

# Composes every configuration with the release candidate of the next Hydra, in a folder beside $(VENV).
test-next-hydra: setup
	$(PY) scripts/check_next_hydra.py --folder $(VENV)-next-hydra $(ARGS)

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# The commands on built-in data, in a folder of its own.
smoke: setup
	OMP_NUM_THREADS=1 $(PY) scripts/smoke.py

coverage: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not gpu and not install" -n 2 --dist loadfile --cov=src --cov-report=term-missing $(ARGS)

# Keeps the pinned releases; make lock ARGS=--upgrade takes the newest. No addresses: they are each machine's own.
lock: setup
	$(VENV)/bin/uv pip compile pyproject.toml --extra dev --extra export --extra download --extra sweep --extra weights \
		--extra video --extra geo --universal --python-version 3.11 --generate-hashes --no-strip-extras \
		--no-annotate --no-header --quiet $(ARGS) -o requirements.lock

# Into $(VENV), by hash, with whatever pip this Python has; docs/install.md.
setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock scripts/install.py
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; install one, or make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) scripts/install.py --venv $(VENV)
	@touch $@
