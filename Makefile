# Needs bash, and Python 3.11 or newer with its venv module; everything else goes into $(VENV).
#
# All targets may be repeated and do only what is needed. What may be set on the command line:
#   make test PYTHON=python3.13 VENV=.venv-3.13     another interpreter, beside the usual one
#   make test PYTEST="-k limits -x"                 other options for pytest; also for test-all
#   make demo DEMO="apixo plan examples/prompts.jsonl"
#   make mutate SAMPLE=all MODULES="retries wire"   all mutants of some modules
#   make mutate MUTATE=--again                      the survivors once more; also --report

SHELL = /bin/bash
PYTHON = python3
VENV = .venv

# What `make demo` runs; {} stands for an empty directory.
DEMO = apixo batch examples/prompts.jsonl --emulator --journal {}/run.db --save-to {}/videos \
    --price fast=0.20 --price quality=1.50 && apixo report {}/run.db -o {}/report
# What `make bench` runs, one after the other, as modules: some share what the tests use.
BENCHMARKS = benchmarks/[!_]*.py
# Options for pytest; two workers suit two cores, and share what is slow until the end.
PYTEST = -q -n 2 --dist worksteal
# Tests of what no dependency has a part in, left out of `make test-oldest`.
OWN = polling model simulation cancellation fuzz batch/journal test_cancellation.py test_simulation.py \
    test_docs.py test_docs_journal.py test_docs_site.py test_docstrings.py test_fault_matrix.py \
    test_threat_model.py test_mutation.py test_herd.py test_soak.py test_logs.py batch/report/test_browser.py
# Tests with a package that does not go together with the oldest of our dependencies.
NEWER = integrations/test_pgqueuer.py
# 1 tries in `make test-all` all of what it usually tries a part of: for hours.
THOROUGH =
# How many seeds `make simulate` tries, and which is the first.
SEEDS = 2000
FIRST = 0
# Where no line or branch may be left out: what decides about money, limits and records.
CORE = */apixo_async/retries.py $(CORE_PACKAGES:%=*/apixo_async/%/*)
CORE_PACKAGES = _wire polling limits batch/journal webhooks
# What `make mutate` tries: so many mutants of each of MODULES, of all groups if that is empty.
SAMPLE = 100
MODULES =
MUTATE =
# Where Python code is; those that exist are checked.
CODE = apixo_async tests benchmarks examples tools

BIN = $(VENV)/bin
SPHINX = $(BIN)/python -Im sphinx --quiet --fail-on-warning --doctree-dir site/.doctrees
IN_VENV = @PYTHON="$(PYTHON)" tools/venv.sh "$(VENV)"
EXISTING_CODE = $$(find $(CODE) -name '*.py' 2>/dev/null | cut -d/ -f1 | sort -u)

help: ## list the targets (what a bare `make` does)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
	    printf '%-12s %s\n' "$$name" "$$what"; done

demo: ## generate 200 videos without a key or cost, on an emulated APIXO, and a page to look at them
	$(IN_VENV) cli,report
	@directory=demo/$$(date +%Y-%m-%dT%H-%M-%S); mkdir -p $$directory; \
	    command="$(DEMO)"; command=$${command//"{}"/$$directory}; \
	    echo "$$ $$command"; PATH="$$(cd $(BIN) && pwd):$$PATH" bash -c "$$command"

test: ## run all but the slow tests against the built and installed wheel: about five minutes
	$(IN_VENV) cli,report,speed build test
	@$(BIN)/python -Im pytest -m "not slow" $(PYTEST)

test-all: ## with the slow ones (kill -9, failing disks, damaged bytes): a quarter of an hour
	$(IN_VENV) cli,report,speed build test
	@APIXO_TEST_THOROUGH=$(THOROUGH) $(BIN)/python -Im pytest $(PYTEST)

test-oldest: ## as test, with the oldest dependencies that pyproject.toml allows
	@OLDEST=1 PYTHON="$(PYTHON)" tools/venv.sh "$(VENV)-oldest" cli,report,speed build test-oldest
	@$(VENV)-oldest/bin/python -Im pytest $(PYTEST) -m "not slow" $(OWN:%=--ignore=tests/%) $(NEWER:%=--ignore=tests/%)

test-s3: ## does saving to S3 work with s3fs and a server of its protocol?
	@PYTHON="$(PYTHON)" tools/venv.sh "$(VENV)-s3" cli,speed,storage build test s3
	@$(VENV)-s3/bin/python -Im pytest -q tests/test_storage_s3.py

services: ## start PostgreSQL and Redis for the tests, where they do not answer, and say where
	@tools/services.sh

simulate: ## SEEDS whole lives of batches under faults and crashes; prints what repeats a failure
	$(IN_VENV) cli,report,speed build test
	@$(BIN)/python -W ignore -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

coverage: ## run all tests; 95 % of lines and branches, and all of CORE, have to be reached
	$(IN_VENV) cli,report,speed build test
	@rm -f .coverage .coverage.*
	@$(BIN)/python -Im coverage run -m pytest -q
	@$(BIN)/python -Im coverage combine -q
	@core="$(CORE)"; failed=0; \
	    $(BIN)/python -Im coverage report || failed=1; \
	    $(BIN)/python -Im coverage report --fail-under=100 --include="$${core// /,}" || failed=1; \
	    exit $$failed

mutate: ## does a test fail for each small change to MODULES? SAMPLE of each, or all (docs/mutation.md)
	$(IN_VENV) cli,report,speed build test
	@$(BIN)/python -m tools.mutation --sample $(SAMPLE) $(MUTATE) $(MODULES)

check: lint types floors wheel links docs audit ## all checks that are not tests: the next seven

lint: ## ruff: rules and formatting
	$(IN_VENV) cli,report,speed build test check bench
	@$(BIN)/ruff check --quiet $(EXISTING_CODE)
	@$(BIN)/ruff format --quiet --check $(EXISTING_CODE) || { echo "run: make format"; exit 1; }

types: ## mypy and pyright, both strict
	$(IN_VENV) cli,report,speed build test check bench
	@code="$(EXISTING_CODE)"; failed=0; \
	    $(BIN)/mypy $$code || failed=1; \
	    $(BIN)/pyright --pythonpath $(BIN)/python $$code || failed=1; \
	    exit $$failed

floors: ## which module may import which (import-linter)
	$(IN_VENV) cli,report,speed build test check bench
	@$(BIN)/lint-imports --no-logo

wheel: ## what is in the wheel, and does it work when it is all there is?
	$(IN_VENV) cli,report,speed build test check bench
	@$(BIN)/python tools/check_wheel.py $(VENV)

links: ## do the links between our Markdown files lead somewhere?
	$(IN_VENV) cli,report,speed build test check bench
	@$(BIN)/python tools/check_links.py

docs: ## build the site, where a warning or a dead link is an error; open site/index.html
	$(IN_VENV) cli,otel,report,speed build test docs
	@rm -rf site
	@$(SPHINX) --fresh-env --write-all --builder html docs site
	@$(SPHINX) --builder text docs site/text docs/reference/*.rst
	@$(BIN)/python tools/check_links.py site

pictures: ## take the pictures of board and report in docs/ anew; needs a Chromium
	$(IN_VENV) cli,report,speed build bench
	@$(BIN)/python -m tools.pictures

audit: ## are all dependencies, allowed or installed, outside of what advisories are about?
	$(IN_VENV) cli,report,speed build test check bench
	@$(BIN)/python tools/audit.py
	@[ ! -e $(VENV)-oldest/.stamps/installed ] || $(VENV)-oldest/bin/python tools/audit.py

audit-online: ## look for advisories that nobody here knows of yet; asks PyPI and OSV
	@PYTHON="$(PYTHON)" tools/venv.sh "$(VENV)-audit" cli,report,speed build audit
	@$(VENV)-audit/bin/python -m pip_audit --local --skip-editable
	@$(VENV)-audit/bin/python -m pip_audit --local --skip-editable --vulnerability-service osv

bench: ## run the benchmarks
	$(IN_VENV) cli,report,speed build bench
	@failed=0; for script in $(BENCHMARKS); do name=$${script//\//.}; \
	    echo "== $$script"; $(BIN)/python -m "$${name%.py}" || failed=1; done; exit $$failed

bench-peers: ## run benchmarks.overhead and .startup beside the SDKs of other vendors
	@PYTHON="$(PYTHON)" tools/venv.sh "$(VENV)-peers" cli,report,speed build bench bench-peers
	@failed=0; for name in overhead startup; do \
	    $(VENV)-peers/bin/python -m "benchmarks.$$name" || failed=1; done; exit $$failed

format: ## let ruff format the code and mend what it can
	$(IN_VENV) cli,report,speed build test check bench
	@$(BIN)/ruff format $(EXISTING_CODE)
	@$(BIN)/ruff check --fix --show-fixes $(EXISTING_CODE)

clean: ## remove all that was made here, demo videos included
	@rm -rf $(VENV) $(VENV)-oldest $(VENV)-peers $(VENV)-audit $(VENV)-s3 .services demo dist build site \
	    htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mutation .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help demo test test-all test-oldest test-s3 services simulate coverage mutate check lint types floors wheel links \
    docs pictures audit audit-online bench bench-peers format clean
