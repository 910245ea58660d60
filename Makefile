# make demo: a 30-second video on the CPU. make studio: the page in the browser. make test: the tests. All set everything up first.
PYTHON ?= $(firstword $(foreach v,python3.11 python3.12 python3.13 python3,$(if $(shell $(v) --version 2>/dev/null),$(v))))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Where pip finds PyTorch. Without an NVIDIA GPU PyTorch's own index has a build without CUDA, which spares gigabytes.
# TORCH_INDEX= uses the index that pip is configured with, alone.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu)
WORKERS ?= 2

.PHONY: demo studio test test-long lint docs docs-reference bench lock release-check clean

demo: $(VENV)/ready
	$(BIN)/longtake generate --script examples/three-scenes.toml --output out/demo-$$(date +%Y%m%d-%H%M%S)

# the page in the browser, on a free port of this machine
studio: $(VENV)/ready
	$(BIN)/longtake studio --output out

test: $(VENV)/ready-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not long"

# kills, several processes, fuzz, every command of the docs
test-long: $(VENV)/ready-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m long

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the site, into site/; fails on a link that leads nowhere
docs: $(VENV)/ready-docs
	$(BIN)/python docs/build.py --check
	$(BIN)/zensical build --clean --strict --config-file mkdocs.yml

# the pages of docs/reference and the pictures of the strategies, from the code
docs-reference: $(VENV)/ready-dev
	$(BIN)/python docs/build.py

bench: $(VENV)/ready
	$(BIN)/python bench/speed.py

# the requirements files with hashes, after a dependency or a pin has changed
lock: $(VENV)/ready-release
	$(BIN)/python release/lock.py
	$(BIN)/python release/third_parties.py

# wheel, source distribution, an empty environment, one second of video, a bill of materials, into dist/
release-check: $(VENV)/ready-release
	$(BIN)/python release/check.py --python $(PYTHON) --torch-index "$(lastword $(TORCH_INDEX))"

# torch comes first and alone, from the index that suits the machine; everything after it then keeps that build
$(VENV)/ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; about a minute)"
	@test -n "$(PYTHON)" && command -v $(PYTHON) >/dev/null || { echo "no Python 3.11, 3.12 or 3.13 here: install one, or name it with PYTHON=..."; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt install python3-venv, or the like"; exit 1; }
	@$(PIP) install -c constraints.txt --retries 1 $(TORCH_INDEX) torch
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/ready-docs: $(VENV)/ready
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/ready-release: $(VENV)/ready
	@$(PIP) install -c constraints.txt -e '.[release]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist site
