# `make` prints what there is to do.
HOST ?= 127.0.0.1
PORT ?= 8000
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-scaling sizes profile fuzz soak chaos client clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/.run: pyproject.toml
	scripts/venv $(PYTHON)
	@touch $@

.venv/.dev: pyproject.toml
	scripts/venv $(PYTHON) dev
	@touch $@ .venv/.run

.venv/.fuzz: .venv/.dev
	scripts/venv $(PYTHON) dev,fuzz
	@touch $@

.venv/.profile: .venv/.dev
	@if scripts/venv $(PYTHON) dev,profile; then touch $@; else echo "no py-spy for this platform: cProfile is used"; fi

run: .venv/.run ## Start the gateway with its live demo (HOST=127.0.0.1 PORT=8000)
	.venv/bin/tidegate serve --demo --host $(HOST) --port $(PORT)

test: .venv/.dev ## Install what the tests need and run them all
	scripts/test

check: .venv/.dev ## Lint and types
	scripts/check

bench: .venv/.dev ## Side-by-side benchmarks against the peers, as tables (BENCH="--quick --runs 5")
	scripts/bench $(BENCH)

bench-scaling: .venv/.dev ## Two nodes over Redis, workers, forwarded polls, beside Node's adapters (SCALING="--runs 5 --markdown")
	scripts/bench --scaling $(SCALING)

sizes: ## The size of the browser client beside those of others
	scripts/sizes

profile: .venv/.profile ## A profile of tidegate under one cell of the benchmarks (CELL=echo-100, PROFILE="--seconds 5")
	scripts/profile $(CELL) $(PROFILE)

fuzz: .venv/.fuzz ## Search for inputs that break a promise (FUZZ_S=60 for each of FUZZ_TARGETS)
	.venv/bin/python -m tests.fuzz --seconds $(or $(FUZZ_S),60) $(FUZZ_TARGETS)

soak: .venv/.dev ## Clients that come, misbehave and go, against one server that must lose nothing (SOAK_S=180)
	.venv/bin/python -m tests.soak --seconds $(or $(SOAK_S),180) $(if $(SOAK_SEED),--seed $(SOAK_SEED))

chaos: .venv/.dev ## Two hosts of workers whose processes, Redis and network fail, and clients that count (CHAOS_S=180)
	.venv/bin/python -m tests.chaos --seconds $(or $(CHAOS_S),180) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) $(if $(CHAOS_WORLD),--world $(CHAOS_WORLD))

client: ## Build the browser client into gateway/static
	scripts/client

clean: ## Remove what the other targets made
	rm -rf .venv .fuzz build dist node_modules client_js/node_modules client_js/dist client_js/build tests/conformance/node_modules benchmarks/build benchmarks/node_modules benchmarks/bun/node_modules benchmarks/clients/node_modules benchmarks/peers/node_cluster/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
