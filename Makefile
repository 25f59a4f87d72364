# make run   install into .venv and run the quickstart
# make test  every test;  make fast  those without Ray, servers or long trainings
# make faults  kill the driver of a sweep at 20 seeded moments
# make lint  ruff and mypy;  make check  every shipped sweep, without running it

PYTHON ?= python3
BIN := .venv/bin
FAULTS ?= --moments 20 --seed 0
CONFIG ?= tune_configs/quickstart.yaml

.PHONY: run test fast lint check faults clean

run: .venv/installed
	$(BIN)/python launch.py run $(CONFIG)

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

fast: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

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
