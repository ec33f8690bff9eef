# Everything a developer or a new user needs; `make run` and `make test` set up whatever is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN_ARGS ?=
NAME ?= all

.PHONY: run test check bench setup system lint types layers clean

run: $(READY) ## a server with bots, and a page to watch
	$(BIN)/hitreg run $(RUN_ARGS)

test: $(READY) system ## all tests
	$(BIN)/python -m pytest $(TEST_ARGS)

check: $(READY) system lint types layers ## exactly what CI runs
	$(BIN)/python -m pytest $(TEST_ARGS)
	HITREG_BOUNDSCHECK=1 $(BIN)/python -m pytest -m checked

bench: $(READY) ## `make bench NAME=rays`
	$(BIN)/hitreg bench $(NAME)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

setup: $(READY) system

# A root shell needs no sudo. Debian keeps ensurepip in a package of its own.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/setup_system.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $(READY)

system:
	@tools/setup_system.sh tests

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
