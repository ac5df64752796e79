# Every target sets up what it needs; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo up down status test check bench bench-peers lock schemas clean

PYTHON ?= python3
BIN := .venv/bin
PLATFORM := .venv/.platform
DEV := .venv/.dev
SLIPWAY := $(BIN)/slipway
# By pip, whose configuration may offer a build for the CPU; a lock would name the one with CUDA.
TORCH := torch==2.13.0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Slipway needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

$(PLATFORM): requirements/platform.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/platform.lock
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --no-deps --editable .
	@touch $@

$(DEV): requirements/dev.lock $(PLATFORM)
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet $(TORCH)
	@touch $@

demo: $(PLATFORM) ## everything once: start, two models to production, then a second version by canary
	@$(SLIPWAY) demo

up: $(PLATFORM) ## start the platform in the background
	@$(SLIPWAY) up --detach

down: $(PLATFORM) ## stop the platform and every model server
	@$(SLIPWAY) down

status: $(PLATFORM) ## what runs, where, since when, and what is live
	@$(SLIPWAY) status || test $$? -eq 3

# The end-to-end tests wait most of the time: the others run beside them.
END_TO_END := .pytest_cache/end_to_end.txt
test: $(DEV) check ## linters, types, import rule and all tests
	@mkdir -p $(dir $(END_TO_END)); \
	$(BIN)/python -m pytest tests/end_to_end >$(END_TO_END) 2>&1 & end_to_end=$$!; \
	$(BIN)/python -m pytest --ignore=tests/end_to_end; others=$$?; \
	echo "the end-to-end tests go on; their output: $(END_TO_END)"; \
	wait $$end_to_end; end_to_end=$$?; \
	cat $(END_TO_END); exit $$((end_to_end | others))

check: $(DEV) ## linters, types and the import rule alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(DEV) ## measure the platform, the model server against its peers, and releases; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks.platform
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.prediction_log
	@$(BIN)/python -m benchmarks.prediction_store
	@$(BIN)/python -m benchmarks.features
	@$(BIN)/python -m benchmarks.drift
	@$(BIN)/python -m benchmarks.batch --ray
	@$(BIN)/python -m benchmarks.variants
	@$(BIN)/python -m benchmarks.releases

PEERS := $(patsubst benchmarks/peers/%.txt,.venv-bench/%/.installed,$(wildcard benchmarks/peers/*.txt))
bench-peers: $(PEERS) ## install the peers of the benchmark, each in an environment of its own

.venv-bench/%/.installed: benchmarks/peers/%.txt | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench/$*
	$(BIN)/uv pip install --compile-bytecode --python .venv-bench/$*/bin/python -r $<
	@touch $@

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
lock: | $(BIN)/uv ## resolve the lock files anew
	$(LOCK) pyproject.toml --extra boost --extra postgres --extra ray --extra redis --extra torch --overrides requirements/without-torch.txt --group dev -o requirements/dev.lock
	$(LOCK) pyproject.toml --constraints requirements/dev.lock -o requirements/platform.lock
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['serving'], sep='\n')" \
	  | $(LOCK) - --constraints requirements/dev.lock -o requirements/serving.lock

schemas: $(PLATFORM) ## write serving_config/schemas anew
	@$(BIN)/python -m serving_config.load

clean: ## stop the platform, remove its state and the environment
	@if [ -x $(SLIPWAY) ]; then $(SLIPWAY) down; fi
	rm -rf .slipway .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
