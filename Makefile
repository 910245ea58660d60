# make demo: a 30-second video on the CPU. make test: the tests. Both set everything up first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test lint bench clean

demo: $(VENV)/ready
	$(BIN)/longtake generate --script examples/three-scenes.toml --output out/demo-$$(date +%Y%m%d-%H%M%S)

test: $(VENV)/ready-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python bench/speed.py

# torch comes first and alone: constraints.txt pins its CPU build, which everything after it then keeps
$(VENV)/ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; about a minute)"
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: install Python 3.11, or name another with PYTHON=..."; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt install python3.11-venv, or the like"; exit 1; }
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist
