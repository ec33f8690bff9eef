# Everything a developer or a new user needs; `make run` and `make test` set up whatever is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile
CHECKED := tests/sim/test_golden.py tests/sim/test_snapshot_hostile.py tests/sim/test_geometry.py \
	tests/sim/test_broadphase.py tests/sim/test_motion.py \
	tests/sim/test_weapons.py tests/net/test_host_hostile.py tests/net/test_inputs.py tests/net/test_replica.py \
	tests/tools/test_fuzz.py \
	tests/net/test_endpoint.py tests/net/test_endpoint_hostile.py tests/net/test_endpoint_twin.py \
	tests/net/test_blocks.py tests/net/test_blocks_network.py
NAME ?= all
PACKETS ?= 10000000

.PHONY: run test check checked bench fuzz setup system lint types layers clean

run: $(READY) ## a server with bots, and a page to watch
	$(BIN)/hitreg run $(RUN_ARGS)

test: $(READY) system ## all tests, the kernels compiled first on all cores
	$(BIN)/hitreg prepare
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(READY) lint types layers test checked ## exactly what CI runs

# The same behaviour with every array access of every kernel checked.
checked: $(READY)
	HITREG_BOUNDSCHECK=1 $(BIN)/hitreg prepare
	HITREG_BOUNDSCHECK=1 $(BIN)/python -m pytest $(PYTEST_ARGS) $(CHECKED)

bench: $(READY) ## `make bench NAME=rays`
	$(BIN)/hitreg bench $(NAME)

# Ten million mangled packets, for the night; the tests feed 200,000.
fuzz: $(READY)
	$(BIN)/hitreg fuzz --packets $(PACKETS)

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
