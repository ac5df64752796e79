# Every target sets up what it needs; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo up down status test check bench bench-peers build-images sbom test-containers test-kubernetes
.PHONY: lock schemas clean

PYTHON ?= python3
BIN := .venv/bin
PLATFORM := .venv/.platform
DEV := .venv/.dev
IMAGES := .venv/.images
SLIPWAY := $(BIN)/slipway
# By pip, whose configuration may offer a build for the CPU; a lock would name the one with CUDA.
TORCH := torch==2.13.0

include deploy/operate.mk

##@ The platform on this machine
help: ## this list
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Slipway needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

$(PLATFORM): requirements/platform.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/platform.lock
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --no-deps --editable .
	@touch $@

$(DEV): requirements/dev.lock $(PLATFORM) $(IMAGES)
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet $(TORCH)
	@touch $@

$(IMAGES): requirements/images.lock | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/images.lock
	@touch $@

demo: $(PLATFORM) ## everything once: start, two models to production, then a second version by canary
	@$(SLIPWAY) demo

up: $(PLATFORM) ## start the platform in the background
	@$(SLIPWAY) up --detach

down: $(PLATFORM) ## stop the platform and every model server
	@$(SLIPWAY) down

status: $(HERE) ## what runs, where, since when, and what is live: [ON=cluster]
	@$(RUN) status || test $$? -eq 3

##@ Development
# The end-to-end tests wait most of the time: the others run beside them.
END_TO_END := .pytest_cache/end_to_end.txt
test: $(DEV) check ## linters, types, import rule and all tests
	@mkdir -p $(dir $(END_TO_END)); \
	$(BIN)/python -m pytest tests/end_to_end >$(END_TO_END) 2>&1 & end_to_end=$$!; \
	$(BIN)/python -m pytest --ignore=tests/end_to_end --ignore=tests/kubernetes_cluster; others=$$?; \
	echo "the end-to-end tests go on; their output: $(END_TO_END)"; \
	wait $$end_to_end; end_to_end=$$?; \
	cat $(END_TO_END); exit $$((end_to_end | others))

# Without a cluster each test says skipped, and why; it never says passed.
test-kubernetes: $(DEV) ## deploy, fail, roll back and drain on the cluster that KUBECONFIG names
	@$(BIN)/python -m pytest tests/kubernetes_cluster

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
	$(LOCK) pyproject.toml --extra boost --extra kubernetes --extra lambda --extra postgres --extra ray --extra redis --extra s3 --extra torch --overrides requirements/without-torch.txt --group dev -o requirements/dev.lock
	$(LOCK) pyproject.toml --constraints requirements/dev.lock -o requirements/platform.lock
	$(BIN)/python -c "import tomllib; extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*extras['serving'], *extras['redis'], sep='\n')" \
	  | $(LOCK) - --constraints requirements/dev.lock -o requirements/serving.lock
	$(LOCK) pyproject.toml --extra kubernetes --extra postgres --extra redis --extra s3 --constraints requirements/dev.lock -o requirements/orchestration.lock
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], 'editables', 'pip', sep='\n')" \
	  | $(LOCK) - -o requirements/build.lock
	$(LOCK) --group images -o requirements/images.lock

schemas: $(PLATFORM) ## write serving_config/schemas anew
	@$(BIN)/python -m serving_config.load

clean: ## stop the platform on this machine, remove its state and the environment
	@if [ -x $(SLIPWAY) ]; then $(SLIPWAY) down; fi
	rm -rf .slipway .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Containers (docs/containers.md)
# MODEL="iris churn" for their live Bentos; BASE_IMAGE and EXTRA_CA: see docs/containers.md.
build-images: $(PLATFORM) ## container images: the platform's, the model server's, and MODEL=…'s
	@$(SLIPWAY) build-images $(MODEL)

sbom: $(PLATFORM) $(IMAGES) ## the same, and what is in each as CycloneDX in dist/
	@$(SLIPWAY) build-images $(MODEL) --sbom dist

test-containers: $(DEV) ## the platform in containers, for real; skipped without a Docker engine
	@SLIPWAY_TEST_CONTAINERS=1 $(BIN)/python -m pytest tests/containers --exitfirst --verbose --capture=no
