# `make` alone lists the targets. Settings come from the environment: NIGHTLOG_LAKE, NIGHTLOG_DATA, NIGHTLOG_LLM and others.
.DEFAULT_GOAL := help
.PHONY: help setup lock test lint types shape test-jobs test-dags test-slow cluster-test local-llm fuzz bench bench-quick bench-settings bench-bounds bench-compare bench-shapes bench-driver bench-large bench-small faults e2e demo fresh container-test nightly airflow notebooks clean
MAKEFLAGS += --no-print-directory
SHELL := bash

# Small inputs on few cores: the JVM's second compiler takes more time than it gives back. Nights of real size run without this.
QUICK := SPARK_SUBMIT_OPTS=-XX:TieredStopAtLevel=1

JOBS := .venv/bin
AIRFLOW := .venv-airflow/bin
export PYTHON ?= python3.11
export AIRFLOW_HOME := $(CURDIR)/.airflow
export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags
export AIRFLOW__CORE__LOAD_EXAMPLES := False
export AIRFLOW__CORE__PARALLELISM := 2

# An environment of its own for what a requirements file names.
environment = .uv/bin/uv venv --quiet --allow-existing --no-project --python "$(PYTHON)" $(1) && .uv/bin/uv pip install --quiet --python $(1)/bin/python -r $<

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## both environments, and Delta's JARs (again: only what has changed)
	@.ci/setup

lock: setup ## uv.lock from pyproject.toml, and both requirements.txt from it; newer versions: .uv/bin/uv lock --upgrade, then this
	.uv/bin/uv lock
	$(call exported,--no-dev --extra jobs,requirements.txt)
	$(call exported,--only-group airflow,dags/requirements.txt)

exported = .uv/bin/uv export --quiet --frozen --no-hashes --no-emit-project $(1) --output-file $(2)

test: setup ## lint, types, all tests; those of jobs, DAGs and slow ones two at a time, each printed when it is done
	@$(MAKE) lint types
	@$(MAKE) -j2 --output-sync=target test-slow test-dags test-jobs

lint: setup ## ruff: rules and format
	$(JOBS)/ruff check
	$(JOBS)/ruff format --check

types: setup ## mypy, strict on libs and jobs
	$(JOBS)/mypy

shape: ## modules, lines, circles, ways to read and write: the shape of the library
	@python3 tests/shape/shape.py .

test-jobs: setup ## the quick tests of libs and jobs
	$(QUICK) $(JOBS)/pytest --ignore=tests/dags -m "not slow and not cluster and not local_llm"

test-slow: setup build/objects/made build/jupyter/made ## the slow tests of libs and jobs
	$(QUICK) $(JOBS)/pytest --ignore=tests/dags -m slow

test-dags: setup ## the tests of the DAGs, in Airflow's environment
	$(AIRFLOW)/python -m pytest --confcutdir=tests/dags tests/dags

cluster-test: setup build/objects/made build/hadoop/made ## nights on a Spark cluster, in HDFS and in an object store, compared with one machine's (some minutes)
	$(JOBS)/pytest -m cluster tests/cluster tests/objects

build/objects/made: tests/objects/requirements.txt | setup
	@$(call environment,build/objects)
	@touch $@

build/hadoop/made: tests/cluster/hadoop.py | setup
	@$(JOBS)/python $<
	@touch $@

local-llm: build/local-llm/made ## a small model behind llama.cpp's server on this machine, asked by the real client (half a GB, some minutes)
	$(JOBS)/pytest -m local_llm tests/local_llm

build/local-llm/made: tests/local_llm/requirements.txt | setup
	@$(call environment,build/local-llm)
	@touch $@

fuzz: setup ## ten minutes of random inputs for parsing, masking, sessions, answers and more, five of random nights; figures go to docs/reliability.md
	$(JOBS)/python tests/fuzz/fuzz.py --write

bench: setup build/bench/venv/made build/bench/brain/made ## Nightlog beside its peers and the disk on up to 33 million lines (half an hour, 11 GB; goes on where it broke off)
	build/bench/venv/bin/python tests/bench/bench.py

bench-quick: setup build/bench/venv/made ## the same on 1.1 million lines, one round
	build/bench/venv/bin/python tests/bench/bench.py --quick

bench-settings: setup build/bench/venv/made ## what Spark's settings are worth, on JSON lines (a quarter of an hour)
	build/bench/venv/bin/python tests/bench/spark_settings.py

bench-compare: setup build/bench/venv/made ## `nightlog compare` beside diff and LogLead on labelled build logs, which are not part of the repository
	$(JOBS)/python tests/bench/breakages.py

bench-bounds: setup build/bench/venv/made ## the bounds: one id of 5 million events, 300,000 messages, a line of 50 MB, 2,000 files, 200,000 templates, 300,000 anomalous sessions
	build/bench/venv/bin/python tests/bench/bounds.py

bench-shapes: setup ## CPU of ingest and parse for lines plain, with a UUID, outside of ASCII, as JSON and logfmt (some minutes)
	$(JOBS)/python tests/bench/shapes.py

bench-driver: setup ## the driver's work at 1e7 to 1e9 lines, simulated (a minute or two)
	$(JOBS)/python tests/bench/driver.py

bench-large: setup build/bench/venv/made ## 100 million lines in nine files beside 11 million in one (half an hour, 19 GB of disk)
	build/bench/venv/bin/python tests/bench/large.py

bench-small: setup build/bench/venv/made ## a night of 100,000 lines, now and at an earlier commit, as processes (five minutes)
	build/bench/venv/bin/python tests/bench/small.py

build/bench/venv/made: tests/bench/requirements.txt | setup
	@$(call environment,build/bench/venv)
	@touch $@

build/bench/brain/made: tests/bench/requirements-brain.txt | setup
	@$(call environment,build/bench/brain)
	@touch $@

faults: setup ## kills, full disks and other faults, each compared with an undisturbed night; docs/reliability.md (10 to 25 minutes)
	$(QUICK) $(JOBS)/python tests/faults/faults.py

e2e: setup ## nights by Airflow's own scheduler, which is killed half-way, beside the same nights one by one (10 to 15 minutes)
	$(JOBS)/python tests/e2e/e2e.py

FRESH ?= demo test
fresh: ## the README's commands on a bare Debian 12 made here (root, debootstrap): make fresh [FRESH="demo"]; tests/fresh/fresh.sh has its settings
	@tests/fresh/fresh.sh $(FRESH)

container-test: setup build/container-tools/made ## each step of the Dockerfile in a bare Debian 12 (root, debootstrap; 9 GB), compose.yaml by its schema
	build/container-tools/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(JOBS)/python tests/container/dockerfile.py

build/container-tools/made: tests/container/requirements.txt | setup
	@$(call environment,build/container-tools)
	@touch $@

DEMO := env -u NIGHTLOG_DATA -u NIGHTLOG_SYSTEMS -u NIGHTLOG_LLM_RECORDED NIGHTLOG_CONFIG=/dev/null NIGHTLOG_LLM=recorded NIGHTLOG_LAKE=$(CURDIR)/build/demo/lake $(QUICK)
DEMO_EARLIER := 2026-03-02 2026-03-03
DEMO_DS := 2026-03-04
DEMO_SYSTEM := dovecot

demo: setup ## three real nights of the sample corpus, from raw logs to anomalies; the last one through Airflow
	rm -rf build/demo
	@for ds in $(DEMO_EARLIER); do \
		echo "The night of $$ds:"; $(DEMO) $(JOBS)/nightlog run --ds $$ds --systems $(DEMO_SYSTEM) || exit $$?; \
	done
	@echo "The night of $(DEMO_DS), through Airflow:"
	@$(DEMO) $(MAKE) nightly DS=$(DEMO_DS) SYSTEMS=$(DEMO_SYSTEM)
	@$(JOBS)/nightlog anomalies --ds $(DEMO_DS) --lake $(CURDIR)/build/demo/lake
	@echo "The night's page:" && $(JOBS)/nightlog report --ds $(DEMO_DS) --lake $(CURDIR)/build/demo/lake

# On screen: what the stages print; Airflow itself only speaks of failures, not of every second that it waits for a retry.
nightly: export AIRFLOW__LOGGING__LOG_FORMAT := %(asctime)s %(message)s
nightly: export AIRFLOW__LOGGING__NAMESPACE_LEVELS := airflow=WARNING airflow.task.operators=INFO task=ERROR py.warnings=ERROR
nightly: export PYTHONUNBUFFERED := 1
nightly: setup .airflow/migrated ## one night through Airflow: make nightly DS=2008-11-10 [SYSTEMS=hdfs,bgl]
	@set -o pipefail; $(AIRFLOW)/airflow dags test nightlog_nightly \
		--conf '{"ds": $(call json,$(DS)), "systems": $(call json,$(SYSTEMS))}' \
		| (trap '' INT; sed -u -e '/\[DAG TEST\]/d' -e '/No tasks to run/d')

airflow: setup ## Airflow's web page and scheduler on this machine, for every night: make airflow [UNPAUSE=1]; docs/how-to/every-night.md
	@exec env -u AIRFLOW_HOME -u AIRFLOW__CORE__DAGS_FOLDER dags/airflow.sh

# The environment of the notebooks sees the packages of .venv, too, behind its own.
notebooks: build/jupyter/made ## the notebooks in JupyterLab, over the lake that NIGHTLOG_LAKE names
	NIGHTLOG_LAKE="$${NIGHTLOG_LAKE:-$(CURDIR)/lake}" build/jupyter/bin/jupyter lab notebooks

build/jupyter/made: notebooks/requirements.txt | setup
	@$(call environment,build/jupyter)
	@echo "import site; site.addsitedir('$(CURDIR)/.venv/lib/python3.11/site-packages')" >build/jupyter/lib/python3.11/site-packages/nightlog-jobs.pth
	@touch $@

json = $(if $(1),"$(1)",null)

.airflow/migrated: dags/requirements.txt | setup
	@echo "set-up: Airflow's metadata database"
	@mkdir -p .airflow && $(AIRFLOW)/airflow db migrate >.airflow/migrate.log 2>&1 || { cat .airflow/migrate.log >&2; exit 1; }
	@touch $@

clean: ## removes what tests, demo and Airflow left; lakes and environments stay
	rm -rf build .airflow spark-warehouse metastore_db derby.log .pytest_cache .ruff_cache .mypy_cache .hypothesis
