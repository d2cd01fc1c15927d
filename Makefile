# `make` alone lists the targets. Everything runs in .venv, from the versions pinned in requirements.lock.

PYTHON ?= python3
ROUNDS ?= 20
BIN := .venv/bin
STAMP := .venv/.installed

# Our own tests must see every warning as the project's settings want it, whoever runs them.
unexport PYTHONWARNINGS PYTHONPATH

PREREQUISITES := apt-get install -y python3-venv build-essential python3-dev

.DEFAULT_GOAL := help
.PHONY: help venv run test check format lock bench fuzz clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

venv: $(STAMP) ## set up .venv; done again only when the lock or pyproject.toml change

run: $(STAMP) ## start reputon on this machine: SMTP on 127.0.0.1:2525, nothing else needed
	$(BIN)/reputon serve --config deploy/quickstart.toml

test: lint ## all that a change must pass: the checks and the whole test suite
	$(BIN)/python -m pytest

check: lint ## the checks that take seconds: format, lint, types, imports, docs
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_docs.py

.PHONY: lint
lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## format the code, and mend what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pins stay as they are while they satisfy pyproject.toml; UPGRADE=--upgrade takes the newest of everything.
lock: ## write requirements.lock again from pyproject.toml (UPGRADE=--upgrade for new versions)
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; \
	"$$tools/bin/python" -m pip install --quiet uv; \
	"$$tools/bin/uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	    --all-extras --group dev $(UPGRADE) pyproject.toml --output-file requirements.lock

bench: $(STAMP) ## run every benchmark at full size, which takes twenty minutes
	@set -e; for name in store judge profile memory accuracy peers growth reputation policy replay lookups smtp policy_service sessions api; do \
	    $(BIN)/python -m benchmarks.$$name; echo; \
	done

# A failure is found again by the next `make test`: Hypothesis keeps it in .hypothesis.
fuzz: $(STAMP) ## look for inputs that break an invariant, ROUNDS=20 times as long as the tests do
	@set -e; for round in $$(seq $(ROUNDS)); do \
	    seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); echo "== round $$round, seed $$seed"; \
	    $(BIN)/python -m pytest tests/properties tests/fuzz --hypothesis-seed=$$seed; \
	done

clean: ## remove .venv and everything that can be made again; never the data of `make run`
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@stop() { echo "make: $$1. On Debian or Ubuntu: $(PREREQUISITES)" >&2; exit 1; }; \
	command -v $(PYTHON) >/dev/null || stop "$(PYTHON) was not found"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || stop "$(PYTHON) is older than Python 3.11"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || stop "$(PYTHON) has no venv module"; \
	command -v cc >/dev/null || stop "a C compiler (cc) was not found"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
