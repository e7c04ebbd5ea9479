# Everything one does with this repository. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
MEMBERS := libs/shared_store libs/service_kit services/auth-api services/mailer services/key-rotator launcher
EDITABLE := $(addprefix -e ,$(MEMBERS))
SERVICES := auth-api mailer key-rotator
# More words for what a target runs: make test ARGS="-k mail".
ARGS ?=

.PHONY: help
help:  ## List the targets
	@grep -hE '^([a-z-]+|\$$\(SERVICES\)):.*##' $(MAKEFILE_LIST) | sed -E 's/^\$$\(SERVICES\)/$(SERVICES)/; s/:.*## /\t/' \
	  | expand -t 28

# --- install ---------------------------------------------------------------------------------------------------

$(BIN)/uv: requirements/bootstrap.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

.venv/.installed: $(BIN)/uv requirements/launcher.txt $(addsuffix /pyproject.toml,$(MEMBERS))
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/build.txt
	$(BIN)/uv pip install --quiet --require-hashes --no-build-isolation -r requirements/launcher.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

.venv/.installed-dev: .venv/.installed requirements/dev.txt
	$(BIN)/uv pip install --quiet --require-hashes --no-build-isolation -r requirements/dev.txt
	@touch $@

.PHONY: install
install: .venv/.installed  ## Install the four commands into .venv/bin

.PHONY: install-dev
install-dev: .venv/.installed-dev  ## The same with everything that tests and checks need

CLIENTS := tests/clients/node

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package-lock.json
	npm --prefix $(CLIENTS) ci --silent
	@touch $@

.PHONY: install-clients
install-clients: $(CLIENTS)/node_modules/.package-lock.json  ## The npm packages that tests/clients log in with

# Debian's packages $(2), unless the programs $(1) are all there.
DEBIAN = [ "$$(command -v $(1) | wc -l)" = $(words $(1)) ] || { apt-get update -qq && \
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2); }

.PHONY: system-packages
system-packages:  ## Install what tests need from Debian's packages (as root): Redis 7, Chromium, Node.js
	@$(call DEBIAN,redis-server chromium,redis-server chromium)
	@$(call DEBIAN,node npm,nodejs npm)
	@$(call DEBIAN,faketime,faketime)

# --- run -------------------------------------------------------------------------------------------------------

.PHONY: run
run: install  ## Start everything with an inbox and a demo site, and print what to open
	@exec $(BIN)/portier-broker demo $(ARGS)

.PHONY: $(SERVICES)
$(SERVICES): install-dev  ## Run one service alone against the Redis in BROKER_REDIS_URL, with readable logs, and anew after a change
	@exec $(BIN)/watchfiles --sigint-timeout 30 '$(BIN)/$@ run --debug $(ARGS)' libs services/$@

# --- test ------------------------------------------------------------------------------------------------------

.PHONY: test
test: install-dev install-clients  ## Every test that needs no container engine
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

# A script whose `up` starts an engine and prints what the shell needs to find it.
WITH_ENGINE = $(if $(ENGINE),eval "$$($(ENGINE) up)" && )

JOBS ?= 100000
SERVERS ?= valkey9,redis7,redis6,valkey9-socket,redis7-password,redis7-acl,redis7-tls,valkey9-sentinel,redis7-sentinel-tls,valkey9-cluster6,redis7-cluster6-tls

.PHONY: test-redis
test-redis: install-dev  ## The store's contract suite on every kind of server (SERVERS=kind,kind)
	$(BIN)/pytest libs/shared_store -m "not soak" --servers $(SERVERS) $(ARGS)

.PHONY: test-faults
test-faults: install-dev  ## Every fault of docs/faults.md, caused for real
	$(BIN)/pytest -n 0 -m "faults or not faults" tests/faults libs/shared_store/tests/test_outage.py $(ARGS)
	$(BIN)/pytest -n 0 -m faults libs/shared_store/tests/test_failover.py --servers valkey9-sentinel,valkey9-cluster6 $(ARGS)

.PHONY: soak-mail
soak-mail: install-dev  ## JOBS=100000 mails through four mailers while everything around them fails, and the books on each
	JOBS=$(JOBS) $(BIN)/pytest services/mailer/tests/test_soak.py -m soak -n 0 -q -s $(ARGS)

REQUESTS ?= 100000

.PHONY: fuzz
fuzz: install-dev  ## Send nonsense to every endpoint (REQUESTS=100000), to see that nothing breaks
	FUZZ_REQUESTS=$(REQUESTS) $(BIN)/pytest -n 0 -s tests/fuzz $(ARGS)

.PHONY: images
images:  ## Build the containers' images
	$(WITH_ENGINE)docker compose -f docker/compose.yaml --profile mailcatcher build

.PHONY: test-containers
test-containers: install-dev  ## Build them, run them scaled, log in, kill some (ENGINE=script that starts an engine)
	$(WITH_ENGINE)$(BIN)/pytest -n 0 -m containers tests/containers $(ARGS)

.PHONY: check
check: install-dev  ## Lint, types, layers, lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# One by one, since every member has its own `tests`.
	set -e; for m in $(MEMBERS) tests bench; do echo "mypy $$m"; $(BIN)/mypy --cache-dir .mypy_cache/$$m $$m; done
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory lock OUT=.venv/locks
	diff -r -x build.in requirements .venv/locks

.PHONY: format
format: install-dev  ## Rewrite the source in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: install-dev  ## Measure whole logins, as many as go and 100 a second, with an instant and a 50 ms mail server
	$(BIN)/python bench/logins.py $(ARGS)

.PHONY: bench-redis
bench-redis: install-dev  ## Measure what logins cost Redis, and how their keys spread over a Cluster
	$(BIN)/python bench/scaling.py $(ARGS)

.PHONY: bench-mail
bench-mail: install-dev  ## Measure one mailer with an instant and a 50 ms mail server, and a backlog of 100,000
	$(BIN)/python bench/mail.py $(ARGS)

# --- generated files -------------------------------------------------------------------------------------------

.PHONY: docs
docs: install-dev  ## Write the tables of settings and Redis keys, and Redis' users, anew
	$(BIN)/python -m service_kit.document_settings > docs/configuration.md
	$(BIN)/python -m shared_store.document_keys > docs/redis-keys.md
	$(BIN)/python -m tests.faults.document > docs/faults.md
	$(BIN)/python -m shared_store.document_acl

.PHONY: messages
messages: install-dev  ## Bring the catalogues of pages and mails up to their templates; then translate what is empty
	@set -e; pot=$$(mktemp); trap 'rm -f "$$pot"' EXIT; for package in auth-api/auth_api mailer/mailer; do \
	  cd $(CURDIR)/services/$${package%/*}; \
	  $(CURDIR)/$(BIN)/pybabel -q extract -F babel.cfg --no-location --omit-header -w 100 -o "$$pot" $${package#*/}; \
	  $(CURDIR)/$(BIN)/pybabel -q update -N --ignore-obsolete --ignore-pot-creation-date -w 100 -i "$$pot" \
	    -d $${package#*/}/locales; \
	done

# --- lock files ------------------------------------------------------------------------------------------------

OUT := requirements
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  $(foreach m,shared-store service-kit auth-api mailer key-rotator portier-broker,--no-emit-package $(m)) \
  --custom-compile-command 'make lock'

.PHONY: lock
lock: $(BIN)/uv  ## Compile the hash-locked requirements anew, keeping versions that still fit
	@mkdir -p $(OUT) && { [ $(OUT) = requirements ] || cp requirements/*.txt $(OUT)/; }
	echo uv | $(COMPILE) - -o $(OUT)/bootstrap.txt
	$(COMPILE) requirements/build.in -o $(OUT)/build.txt
	$(COMPILE) launcher/pyproject.toml -o $(OUT)/launcher.txt
	for s in $(SERVICES); do $(COMPILE) services/$$s/pyproject.toml -c requirements/launcher.txt -o $(OUT)/$$s.txt || exit; done
	$(COMPILE) --group dev -c requirements/launcher.txt -o $(OUT)/dev.txt
