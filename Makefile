# `make` alone lists the targets. Each brings what it needs: scripts/bootstrap.sh.
PORT ?= 8000
OPS_PORT ?= 8001
DATA_DIR ?= data
VISITORS ?= 5
ARGS ?=
# Tests at a time, for two cores: a third of what a test takes, it waits.
WORKERS ?= 3

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint types bench soak clean

help: ## this list
	@echo "Tenfold. Targets:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name about; do \
	  printf '  make %-7s %s\n' "$$name" "$$about"; done

run: export PYTHONPATH := $(CURDIR)/examples
run: ## the example shop on PORT (8000), operations on OPS_PORT (8001), data in DATA_DIR (data); VISITORS=0: no traffic
	@scripts/bootstrap.sh run
	@if [ "$(VISITORS)" != 0 ]; then \
	  echo "  Made-up visitors send $(VISITORS) requests a second, an order among fifty: see them on the operations pages."; \
	  echo "  Meanwhile no request is in the log below. VISITORS=0 keeps them away."; \
	  export TENFOLD_LOG_ACCESS=false; \
	  $(BIN)/python -m shop.visitors --url http://127.0.0.1:$(PORT) --per-s $(VISITORS) & \
	fi; exec $(BIN)/tenfold run shop.app:app --port $(PORT) --ops-port $(OPS_PORT) --data $(abspath $(DATA_DIR)) $(ARGS)

test: ## style, layers, types, then all tests, WORKERS (3) at a time; ARGS go to pytest
	@scripts/bootstrap.sh test
	@$(BIN)/python scripts/check.py
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(ARGS)

lint: ## ruff and the import layers
	@scripts/bootstrap.sh test
	@$(BIN)/python scripts/check.py lint

types: ## mypy and pyright, both strict
	@scripts/bootstrap.sh test
	@$(BIN)/python scripts/check.py types

bench: ## our figures beside the peers', in one run; ARGS go to bench/run.py
	@scripts/bootstrap.sh test
	@$(BIN)/python bench/run.py $(ARGS)

soak: ## the long settings of every suite (hours); SOAK_SHARE=0.05 runs a twentieth of each
	@scripts/bootstrap.sh test
	-@$(BIN)/python scripts/collector.py
	@$(BIN)/pytest -m soak --timeout 0 $(ARGS)

clean: ## remove caches and build output (not .venv, not data)
	@rm -rf build dist bench/out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
