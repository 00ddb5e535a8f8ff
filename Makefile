# `make` prints what there is to do.
HOST ?= 127.0.0.1
PORT ?= 8000
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help run test check bench client clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/.run: pyproject.toml
	scripts/venv $(PYTHON)
	@touch $@

.venv/.dev: pyproject.toml
	scripts/venv $(PYTHON) dev
	@touch $@ .venv/.run

run: .venv/.run ## Start the gateway with its live demo (HOST=127.0.0.1 PORT=8000)
	.venv/bin/tidegate serve --demo --host $(HOST) --port $(PORT)

test: .venv/.dev ## Install what the tests need and run them all
	scripts/test

check: .venv/.dev ## Lint and types
	scripts/check

bench: .venv/.dev ## Side-by-side benchmarks against the peers, as a table
	scripts/bench

client: ## Build the browser client into gateway/static
	scripts/client

clean: ## Remove what the other targets made
	rm -rf .venv build dist node_modules client_js/node_modules client_js/dist client_js/build tests/conformance/node_modules benchmarks/build benchmarks/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
