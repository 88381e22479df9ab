# tallyman: every target works on a fresh Debian 12 that has make and rustup's Rust.
#
# Everything uses the release profile, so that RocksDB compiles once for the demo, the tests and the benches, and
# what is tested is what is shipped. (The profile keeps overflow checks on.)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Cargo would wait for its own lock anyway, and `test` has an order.
.NOTPARALLEL:

# Where rustup puts cargo, for shells that were open before it came.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tallyman
# In the user's cache, so that a new checkout does not compile RocksDB again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
# The Python that the peer tests run; scripts/setup makes it.
export TALLYMAN_TEST_PYTHON ?= $(CACHE)/venv/bin/python

# What is built is what Cargo.lock says.
LOCKED := --release --locked
# With everything that can be built in, as the image is: so one build serves all that follows.
CARGO_FLAGS := $(LOCKED) --features otlp
# The agent and the client. Both at once, so that they share each dependency as it is compiled.
WORKSPACE := $(CARGO_FLAGS) --workspace

.PHONY: help setup build demo test fmt lint client deny advisories sbom doc unit sim kill9 powercut fuzz mutants bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what the build and the tests need
	@scripts/setup test

build: ## Build the release binary
	@scripts/setup build
	cargo build $(CARGO_FLAGS)

demo: build ## Run the whole job on this machine, with proof (ARGS="--hours 6 --speed 900")
	"$(CARGO_TARGET_DIR)/release/tallyman" demo $(ARGS)

# `unit` last: its summary closes the run.
test: setup ## Set up, then run every check and every test
	@$(MAKE) --no-print-directory fmt lint deny doc unit

fmt: ## Check the formatting (`cargo fmt` mends it)
	cargo fmt --all --check

lint: ## Clippy, warnings denied; also without traces
	cargo clippy $(WORKSPACE) --all-targets -- -D warnings
	cargo clippy $(LOCKED) --lib --bins -- -D warnings
	cargo clippy $(CARGO_FLAGS) --test powercut -- -D warnings

# Its dependencies with the features that it asks for itself, which no other target compiles.
client: ## Clippy for the client by itself, as an application compiles it, warnings denied
	@scripts/setup build
	cargo clippy $(LOCKED) -p tallyman-client -- -D warnings

deny: ## Check licences, banned crates and sources
	PATH="$(CACHE)/venv/bin:$(CACHE)/tools/bin:$$PATH" cargo deny --locked check --allow duplicate licenses bans sources

advisories: ## Ask the RustSec database about the crates in Cargo.lock (needs the network)
	PATH="$(CACHE)/venv/bin:$(CACHE)/tools/bin:$$PATH" cargo deny --locked check advisories

sbom: ## Write the software bill of materials (CycloneDX) into the target folder
	@scripts/sbom "$(CARGO_TARGET_DIR)/sbom.cdx.json"

doc: ## Build the documentation and run its examples
	RUSTDOCFLAGS="-D warnings" cargo doc $(WORKSPACE) --no-deps
	cargo test $(WORKSPACE) --doc

unit: ## Run the tests (ARGS="NAME" picks some)
	if command -v cargo-nextest >/dev/null; then \
	    cargo nextest run $(WORKSPACE) $(ARGS); \
	else \
	    cargo test $(WORKSPACE) --lib --bins --tests --examples $(ARGS); \
	fi

sim: ## Simulate days of an agent's life (SEEDS=10000 for many, SEED=7 for one, with what happened if it fails)
	TALLYMAN_SIM_SEEDS="$(if $(SEED),,$(or $(SEEDS),1000))" TALLYMAN_SIM_SEED="$(SEED)" \
	    cargo test $(CARGO_FLAGS) --lib testing::simulation::tests::more_seeds_bill_exactly -- --exact --nocapture

kill9: ## Kill the agent under load, again and again, and hold the bill against what it acknowledged (KILLS=200)
	@scripts/setup build
	TALLYMAN_KILLS=$(or $(KILLS),200) cargo test $(CARGO_FLAGS) --test it kill9_under_load -- --nocapture

powercut: ## Cut the power of a virtual machine under load, and hold the bill against what was acknowledged (CUTS=50)
	@scripts/setup build
	TALLYMAN_CUTS=$(or $(CUTS),50) scripts/powercut

bench: ## Measure, beside other servers (ARGS="--rounds 2 --seconds 2" for a quick look)
	@scripts/setup bench
	cargo bench --locked --features otlp --bench core
	cargo bench --locked --features otlp --bench ingest
	cargo bench --locked --features otlp --bench compare -- --picture docs/performance.svg $(ARGS)

fuzz: build ## Look for inputs that break a decoder, with nightly (TIME=60 seconds for each)
	@scripts/fuzz $(or $(TIME),60)

mutants: ## Break src/domain in one place at a time, and see that a test notices (ARGS="house SAMPLE=300": the rest of src)
	@scripts/mutants $(ARGS)
