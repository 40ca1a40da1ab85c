# make demo and make test work on a machine that has Python 3.11 or later and make, nothing else.
PYTHON ?= python3
DEMO := demo
# Real recordings instead of simulated ones: make demo RECORDS=folder
RECORDS ?=
PATIENTS ?= 1600
# Digital units per mV, for recordings whose headers give wrong gains (LUDB: 1000).
ADU_PER_MV ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all lint check format-check types clean

$(VENV)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/demo: pyproject.toml constraints.txt | $(VENV)/pip
	$(INSTALL) --editable '.[eval]'
	touch $@

$(VENV)/dev: pyproject.toml constraints.txt | $(VENV)/pip
	$(INSTALL) --editable '.[dev]'
	touch $@

# From a folder of recordings and a table of patients to an encoder, and what it has learned.
demo: $(VENV)/demo
	rm -rf $(DEMO)
	$(BIN)/python tools/simulate_cohort.py --out $(DEMO)/cohort --patients $(PATIENTS) $(if $(RECORDS),--recordings $(RECORDS))
	$(BIN)/python tools/compute_risk.py --metadata $(DEMO)/cohort/metadata.csv --out $(DEMO)/risk.parquet
	$(BIN)/python tools/write_shards.py --records $(or $(RECORDS),$(DEMO)/cohort) --record_list $(DEMO)/cohort/record_list.csv --metadata $(DEMO)/cohort/metadata.csv --risk $(DEMO)/risk.parquet --validation_fraction 0.25 $(if $(ADU_PER_MV),--adu_per_mv $(ADU_PER_MV)) --out $(DEMO)/shards
	$(BIN)/python tools/pretrain.py --config configs/demo.py --shards $(DEMO)/shards --workdir $(DEMO)/run
	$(BIN)/python tools/report_learned.py --workdir $(DEMO)/run --shards $(DEMO)/shards

# Two processes, each test file in one of them: half of the time goes to waiting for others.
PYTEST := $(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile

test: $(VENV)/dev
	$(PYTEST)

# The proofs that take minutes, too.
test-all: $(VENV)/dev
	$(PYTEST) -m "slow or not slow"

lint: check format-check types

check: $(VENV)/dev
	$(BIN)/ruff check .

format-check: $(VENV)/dev
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO)
