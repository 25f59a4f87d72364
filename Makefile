# make run   install into .venv and run the quickstart
# make test  what a change needs: unit tests, a real Ray, real servers, one of each kind of fault; 15 minutes
# make fast  without Ray, servers and long computing; 100 seconds
# make test-all  every test, long repetitions among them; make faults  kill a driver at 20 seeded moments
# make lint  ruff and mypy;  make check  every shipped sweep, without running it

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# Side by side by files, long ones first; bytecode is kept, for tests start hundreds of processes.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	--no-loadscope-reorder
FAULTS ?= --moments 20 --seed 0
CONFIG ?= tune_configs/quickstart.yaml

.PHONY: run test fast test-all lint check faults clean

run: .venv/installed
	$(BIN)/python launch.py run $(CONFIG)

test: .venv/installed
	$(PYTEST) -m "not long"

fast: .venv/installed
	$(PYTEST) -m "not slow and not long" tests/unit tests/repository

test-all: .venv/installed
	$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: .venv/installed
	$(BIN)/python -m tests.repository.tune_configs

faults: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.system.faults $(FAULTS)

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
