# One entry point. Variables a person may set: ONCE=1 DAYS=14 CUSTOMERS=8000 SHOP=skincare|cdnow DATA=file FROM=day TO=day
# DAYS_PER_RUN=1 FAULT=id REDSHIFT_PORT S3_PORT CUSTOMERIO_PORT DAGSTER_PORT; for smoke: ANSWERS=folder; for bench: ROWS=1000000 LARGE_ROWS=10000000 CONCURRENCY=4 REPEATS=3 JSON=file
PYTHON ?= python3
UV_VERSION := 0.13.9
PIP_AUDIT_VERSION := 2.10.1
BIN := .venv/bin
INSTALLED := .venv/.installed
PORTS := $(if $(REDSHIFT_PORT),--redshift-port $(REDSHIFT_PORT)) $(if $(CUSTOMERIO_PORT),--customerio-port $(CUSTOMERIO_PORT)) \
	$(if $(DAGSTER_PORT),--dagster-port $(DAGSTER_PORT)) $(if $(S3_PORT),--s3-port $(S3_PORT))
SHOP_OPTIONS := $(if $(SHOP),--shop $(SHOP)) $(if $(DATA),--data $(DATA)) $(if $(CUSTOMERS),--customers $(CUSTOMERS))
DAYS_OPTIONS := $(if $(DAYS),--days $(DAYS)) $(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO)) \
	$(if $(DAYS_PER_RUN),--days-per-run $(DAYS_PER_RUN)) $(if $(FAULT),--fault $(FAULT))
BENCH := .venv-bench/bin
BENCH_OPTIONS := $(if $(ROWS),--rows $(ROWS)) $(if $(LARGE_ROWS),--large-rows $(LARGE_ROWS)) \
	$(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) $(if $(REPEATS),--repeats $(REPEATS)) $(if $(JSON),--json $(JSON))
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 pyproject.toml --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links
export DAGSTER_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_SYSTEM_CERTS := 1

.DEFAULT_GOAL := help
.PHONY: help docs demo dev doctor advance test smoke bench reads costs overhead check audit format lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

demo: $(INSTALLED) ## Fourteen days of a shop into the Customer.io stand-in, then the UI (ONCE=1: exit when done)
	@$(BIN)/rs-cio demo $(if $(ONCE),--once) $(PORTS) $(SHOP_OPTIONS) $(DAYS_OPTIONS)

dev: $(INSTALLED) ## The Dagster UI and the stand-ins on the current state, until Ctrl-C
	@$(BIN)/rs-cio dev $(PORTS)

doctor: $(INSTALLED) ## Is everything in order to sync? Each thing with its remedy; for the settings of the environment
	@$(BIN)/rs-cio doctor

advance: $(INSTALLED) ## While demo or dev runs: let the shop's time go on, with late orders for past days
	@$(BIN)/rs-cio shop advance $(if $(REDSHIFT_PORT),--redshift-port $(REDSHIFT_PORT))

test: $(INSTALLED) ## The whole test suite (WORKERS=4, TESTS=path, LONG=1); three workers, for tests wait for processes now and then
	@$(BIN)/pytest -q -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder $(if $(LONG),--long) $(TESTS)

smoke: $(INSTALLED) ## What only a real cluster and workspace can tell, by your settings and RS_CIO_LIVE (ANSWERS=folder; docs/live.md)
	@$(if $(ANSWERS),RS_CIO_LIVE_ANSWERS=$(ANSWERS)) $(BIN)/pytest -q -p no:cacheprovider --tb=short --timeout=3600 rs_cio_assets_tests/live

bench: $(INSTALLED) .venv-bench/.installed ## Speed and memory, side by side with other clients (ROWS=1000000, LARGE_ROWS=0: no large day)
	@$(BIN)/python -m benchmarks --alternatives-python $(BENCH)/python $(BENCH_OPTIONS)

reads: $(INSTALLED) .venv-bench/.installed ## A day of five million rows out of Redshift: UNLOAD, driver, fetchmany into pandas (ROWS=5000000)
	@$(BIN)/python -m benchmarks.reads --alternatives-python $(BENCH)/python $(if $(ROWS),--rows $(ROWS)) $(if $(JSON),--json $(JSON))

costs: $(INSTALLED) ## What the checks cost: seconds and App API requests for 100,000 people; a segment of a million members
	@$(BIN)/python -m benchmarks.checks
	@$(BIN)/python -m benchmarks.segment_parity

overhead: $(INSTALLED) ## Dagster's share of a day, and a backfill of 90 days beside its own work (DAYS=90 DAYS_PER_RUN=1 WAY=job|assets|process)
	@$(BIN)/python -m benchmarks.overhead --days 0 --customers 200000
	@$(BIN)/python -m benchmarks.overhead --repeats 0 $(if $(DAYS),--days $(DAYS)) $(if $(DAYS_PER_RUN),--days-per-run $(DAYS_PER_RUN)) $(if $(WAY),--way $(WAY))

check: $(INSTALLED) ## Format, lint, types, the contract's SQL, the lock, and that the definitions load with the expected assets
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/rs-cio contract lint
	@$(BIN)/dagster definitions validate -w workspace.yaml
	@$(BIN)/rs-cio contract assets --assert-loaded
	@$(BIN)/pytest -q -p no:cacheprovider rs_cio_assets_tests/unit/test_dependencies.py

audit: $(INSTALLED) ## Known holes in the locked versions; needs a registry and PyPI's advisories (docs/security.md)
	@$(BIN)/uv tool run pip-audit@$(PIP_AUDIT_VERSION) --strict --disable-pip --require-hashes -r requirements.lock

format: $(INSTALLED) ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

docs: $(INSTALLED) ## These pages as a site in build/docs; a broken link fails
	@$(BIN)/mkdocs build --strict

lock: $(INSTALLED) ## Write requirements.lock and the image's deploy/requirements.lock anew from pyproject.toml
	@$(LOCK) --extra dev -o requirements.lock
	@$(LOCK) --extra production -c requirements.lock -o deploy/requirements.lock

clean: ## Remove what the demo made (stand-ins' data, staged files, ledger, Dagster history); keeps .venv
	@for home in $$(cat .rs_cio/redshift/postgres-home.txt .rs_cio/*/redshift/postgres-home.txt 2>/dev/null); do \
		case "$$home" in */rs-cio-redshift-*) rm -rf "$$home";; esac; done
	rm -rf .rs_cio

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {v[0]}.{v[1]}. Set PYTHON=python3.11")'
	@echo "Installing the locked dependencies into .venv (once) ..."
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install -q uv==$(UV_VERSION)
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r requirements.lock \
		|| $(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv-bench/.installed: benchmarks/requirements.txt | $(INSTALLED)
	@echo "Installing the clients to compare with into .venv-bench (once) ..."
	@$(BIN)/python -m venv --clear .venv-bench
	@$(BENCH)/pip install -q -r $<
	@touch $@
