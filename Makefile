# Two commands do everything on a bare Debian or Ubuntu with Rust and make: `make demo` and `make test`.
# Each installs the system packages that it lacks (as root or through sudo), builds, and does its job.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BUILD := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV := $(BUILD)/venv
PYTHON := $(VENV)/bin/python
SECONDS ?= 30
SEEDS ?= 100
ARGS ?=

stage = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help setup demo test test-full test-matrix check unit real grammar bench bench-check fuzz sim loom clean

help:
	@echo 'make demo [ARGS=--once]   throwaway PostgreSQL servers with pgdog before them, to play with'
	@echo 'make test                 formatting, clippy, unit tests, real-PostgreSQL suites (under 15 minutes on 2 cores)'
	@echo 'make test-full            the same with every combination, on the debug and the release build'
	@echo 'make test-matrix          the suites against PostgreSQL 14 to 18 (PGDOG_VERSIONS=18 for one; ARGS=…)'
	@echo 'make bench [ARGS=…]       pgdog beside pgbouncer and no proxy; writes bench/RESULTS.md (ARGS=--help)'
	@echo 'make bench-check          instructions per transaction beside the recorded ones; fails if they have grown by 3 %'
	@echo 'make grammar              the reading of SQL beside PostgreSQL'\''s own parser (builds it: 3 minutes; needs libclang)'
	@echo 'make fuzz [SECONDS=30]    every fuzz target for so long'
	@echo 'make sim [SEEDS=100]      the simulator with so many seeds'
	@echo 'make loom                 every interleaving of the mailbox, and of grant against withdraw'
	@echo 'make setup                only install what the above need'

setup:
	$(call stage,setup)
	@tests/tools/setup.sh build postgresql python drivers '$(VENV)'

# ---- demo

demo:
	@tests/tools/setup.sh build postgresql python
	@cargo build --quiet --release --locked
	@PGDOG_BIN='$(BUILD)/release/pgdog' python3 tests/tools/demo.py $(ARGS)

# ---- tests

test: setup check unit real

test-full: setup check unit loom grammar
	$(call stage,every suite; release build)
	@cargo build --quiet --release --locked
	@PGDOG_BIN='$(BUILD)/release/pgdog' $(PYTHON) -m pytest tests/real --full
	$(call stage,every suite; debug build with its invariants)
	@cargo build --quiet --locked
	@PGDOG_BIN='$(BUILD)/debug/pgdog' $(PYTHON) -m pytest tests/real
	$(call stage,the suites themselves against PostgreSQL without a proxy)
	@$(PYTHON) -m pytest tests/real --direct

test-matrix: setup
	$(call stage,every version of PostgreSQL)
	@cargo build --quiet --release --locked
	@PGDOG_BIN='$(BUILD)/release/pgdog' tests/tools/matrix.sh '$(BUILD)' '$(PYTHON)' $(ARGS)

check:
	$(call stage,formatting)
	@cargo fmt --all --check
	$(call stage,clippy)
	@cargo clippy --quiet --locked --all-targets -- -D warnings

unit:
	$(call stage,unit$(comma) layer and integration tests)
	@cargo test --quiet --locked -- --skip proxy::
	$(call stage,simulator: many seeds)
	@cargo test --quiet --locked --test sim -- --nocapture proxy::
	$(call stage,simulator: deliberate bugs are found)
	@cargo test --quiet --locked --features sabotage --test sim -- --nocapture proxy::sabotage

comma := ,

real:
	$(call stage,real PostgreSQL)
	@cargo build --quiet --release --locked
	@PGDOG_BIN='$(BUILD)/release/pgdog' $(PYTHON) -m pytest tests/real $(ARGS)

# A workspace of its own, with settings of its own for the build: the product needs neither PostgreSQL's parser nor libclang.
grammar:
	$(call stage,the reading of SQL beside PostgreSQL's parser)
	@tests/tools/setup.sh build grammar
	@cd tests/grammar && cargo test --quiet --locked --target-dir '$(BUILD)/grammar'

# ---- measuring, fuzzing, simulating

bench:
	@tests/tools/setup.sh build postgresql python pgbouncer strace
	@cargo build --quiet --release --locked
	@PGDOG_BIN='$(BUILD)/release/pgdog' python3 bench/run.py $(ARGS)

bench-check:
	@tests/tools/setup.sh build postgresql python pgbouncer valgrind
	@cargo build --quiet --release --locked --bin pgdog --example stub --example micro
	@PGDOG_BIN='$(BUILD)/release/pgdog' python3 bench/instructions.py $(ARGS)

fuzz:
	@tests/tools/fuzz.sh '$(SECONDS)'

sim:
	@SIM_SEEDS='$(SEEDS)' cargo test --quiet --locked --profile sim --test sim -- --nocapture proxy::

# Its own target folder: the flag would make everything else be built again.
loom:
	$(call stage,loom)
	@RUSTFLAGS='--cfg pgdog_loom' cargo test --quiet --locked --release --target-dir '$(BUILD)/loom' --lib loom_tests

clean:
	cargo clean
	rm -rf tests/drivers/node_modules
