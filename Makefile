# The whole job: `make run`. A machine needs Python 3.11 or newer, and make. `make help` lists the rest.

VENV := .venv
PY := $(VENV)/bin/python
# A python that is new enough; `make run PYTHON=/path/to/python` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; exit; }; done; echo python3)
# `make run PORT=9000 ATOM_HOME=/srv/atom`: make puts both into the environment. An empty one is as good as none.
ifeq ($(PORT),)
unexport PORT
endif
ifeq ($(ATOM_HOME),)
unexport ATOM_HOME
endif

# Every process that a test starts would compile the product and its tests anew.
unexport PYTHONDONTWRITEBYTECODE
FAST := not e2e and not browser
SLOW := e2e or browser
PYTEST := $(PY) -m pytest -q
# Some tests wait for processes and leave their processor to a third worker; tests that are left go to who is free.
SIDE_BY_SIDE := -n 3 --dist worksteal
PYTEST_ARGS ?=
# .ci/run gives COVERAGE these options: one run of the SQLite lane in place of two.
SHOW_COVERAGE := --cov --cov-branch --cov-report=term
COVERAGE ?=

# Real processes and browsers only: what they import takes seconds, which the fast tests need not wait for.
SLOW_ONLY := $(addprefix --ignore=,tests/e2e tests/browser tests/shellagent/test_schema.py)
# What never asks a database, and so says the same on any.
ANY_DATABASE := $(addprefix --ignore=,tests/host tests/governance/policy tests/bench tests/faults)
# Clients, which know the API alone. What they ask for is asked by other tests on both databases.
CLIENTS := $(addprefix --ignore=,$(addprefix tests/e2e/,test_ai_tools.py test_doors.py test_endings.py test_recipes.py) \
	tests/docs/test_connect_your_agent.py)
# How pages look and what their scripts do. What they are made of is asked for by tests/admin and tests/shellagent on both
# databases; deciding and following in a browser stay, whose pages wait for what other processes write.
PAGES := $(addprefix --ignore=,tests/browser/test_pages.py tests/browser/test_queue.py tests/browser/test_review.py)

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-slow slow-sqlite slow-postgresql faults-sqlite faults-postgresql faults-trail bench faults lint coverage clean atom schema
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.run-stamp ## Set up what is missing and start everything under one Ctrl-C (PORT=, ATOM_HOME=)
	@$(PY) manage.py init --quiet && exec $(PY) manage.py up

test: $(VENV)/.dev-stamp ## The fast tests on SQLite, and on PostgreSQL where TEST_DATABASE_URL is set
	@echo "Fast tests on SQLite"
	@env -u DATABASE_URL $(PYTEST) $(SIDE_BY_SIDE) -m "$(FAST)" $(SLOW_ONLY) $(COVERAGE) $(PYTEST_ARGS)
ifneq ($(TEST_DATABASE_URL),)
	@echo "Fast tests on PostgreSQL"
	@DATABASE_URL="$(TEST_DATABASE_URL)" $(PYTEST) $(SIDE_BY_SIDE) -m "$(FAST)" $(SLOW_ONLY) $(ANY_DATABASE) $(PYTEST_ARGS)
else
	@echo "PostgreSQL was left out: TEST_DATABASE_URL is not set."
endif

test-all: test test-slow ## The fast tests, then real processes and a real browser on the same databases

test-slow: $(VENV)/.dev-stamp $(VENV)/.recipes-stamp ## Only the tests with real processes and a real browser, and a short fault run
	@$(MAKE) --no-print-directory -j2 --output-sync=target slow-sqlite $(if $(TEST_DATABASE_URL),slow-postgresql)
	@echo "Faults, in the short form"
	@$(MAKE) --no-print-directory -j3 --output-sync=target faults-sqlite faults-trail $(if $(TEST_DATABASE_URL),faults-postgresql)

# They mostly wait for processes: two files at a time on each database, and both databases at once. The tests of a file
# share one running product. One of them takes longer where four run at once, and is not yet taken for one that hangs.
BY_FILE := -n 2 --dist loadfile -o faulthandler_timeout=300
slow-sqlite:
	@echo "End to end on SQLite"
	@env -u DATABASE_URL $(PYTEST) $(BY_FILE) -m "$(SLOW)" $(PYTEST_ARGS)

slow-postgresql:
	@echo "End to end on PostgreSQL"
	@DATABASE_URL="$(TEST_DATABASE_URL)" $(PYTEST) $(BY_FILE) -m "$(SLOW)" $(ANY_DATABASE) $(CLIENTS) $(PAGES) $(PYTEST_ARGS)

# They wait for outages and leases, each with servers of its own.
faults-sqlite:
	@$(PY) -m faults --short --database sqlite

faults-postgresql:
	@$(PY) -m faults --short --database postgres

faults-trail:
	@$(PY) -m faults trail --short --database $(if $(TEST_DATABASE_URL),both,sqlite)

faults: $(VENV)/.dev-stamp ## Kill, cut off and fill up everything under 2,000 sessions on each database (half an hour)
	@$(PY) -m faults
	@$(PY) -m faults trail

coverage: $(VENV)/.dev-stamp ## The fast tests on SQLite with branch coverage shown
	@env -u DATABASE_URL $(PYTEST) $(SIDE_BY_SIDE) -m "$(FAST)" $(SLOW_ONLY) $(SHOW_COVERAGE) $(PYTEST_ARGS)

bench: $(VENV)/.bench-stamp ## Measure against ssh, sudo, Celery and others; writes docs/benchmarks.md
	@$(PY) -m bench

atom: $(VENV)/.run-stamp ## Make the command `atom` as one file, dist/atom, for any machine with Python
	@$(PY) -m shellagent.client_file dist/atom

schema: $(VENV)/.run-stamp ## Write the API's description, docs/reference/openapi.json, anew
	@$(PY) manage.py spectacular --format openapi-json --validate --fail-on-warn --file docs/reference/openapi.json

lint: $(VENV)/.dev-stamp ## Format, lint, types, import directions, missing migrations
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports
	@$(PY) manage.py makemigrations --check --dry-run

clean: ## Remove the virtual environment and caches; ./var, which holds your data, stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* htmlcov staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment -------------------------------------------------------------------------------------

# Prints a line each ten packages: quiet, but not silent for a minute.
define install
	@echo "Installing $(1) (the first time takes about a minute)"
	@{ $(PY) -m pip install --disable-pip-version-check --no-input -r $(1); echo "status $$?"; } | awk \
		'/^Collecting/ { n++; if (n % 10 == 0) print "  " n " packages" } /^ERROR/ { print } /^status / { code = $$2 } END { exit code }'
	@touch $@
endef

$(VENV)/.run-stamp: requirements.txt $(VENV)/.made
	$(call install,requirements.txt)

$(VENV)/.dev-stamp: requirements-dev.txt requirements-mcp.txt requirements.txt $(VENV)/.made
	$(call install,requirements-dev.txt)

# An environment of their own: what they need and what the product pins do not go together.
$(VENV)/.recipes-stamp: requirements-recipes.txt $(VENV)/.made
	@$(PYTHON) -m venv $(VENV)/recipes
	@echo "Installing requirements-recipes.txt (the first time takes about a minute)"
	@$(VENV)/recipes/bin/python -m pip install --disable-pip-version-check --no-input --quiet -r requirements-recipes.txt
	@touch $@

$(VENV)/.bench-stamp: requirements-bench.txt requirements-mcp.txt requirements.txt $(VENV)/.made
	$(call install,requirements-bench.txt)

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not on the PATH. Install it, or name another: make run PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit("Python 3.11 or newer is needed; $(PYTHON) is %d.%d. Name another one: make run PYTHON=/path/to/python" % v[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Creating $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@
