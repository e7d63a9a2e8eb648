# The two commands that matter are `make demo` and `make test`. Both set up a fresh Debian 12 by themselves.
SHELL := /bin/bash
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
STATIC := x86_64-unknown-linux-musl

.PHONY: help demo test lint doc unit fuzz static stand-in setup-demo setup-test

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

demo: setup-demo stand-in ## The founding example: build, push and run a Python image without Docker
	$(CARGO) build --locked --quiet --bin coracle --example token-server
	scripts/demo $(TARGET)/debug target/stand-in

test: setup-test lint doc stand-in unit ## Everything that CI checks

lint:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	@$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null || \
		{ echo "fuzz/Cargo.lock lacks a dependency: run cargo metadata --manifest-path fuzz/Cargo.toml"; exit 1; }
	$(CARGO) clippy --locked --all-targets --quiet -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --quiet

unit:
	@rm -f $(TARGET)/tmp/skipped
	@if $(CARGO) nextest --version > /dev/null 2>&1; then \
		$(CARGO) nextest run --locked --no-fail-fast; status=$$?; \
	else \
		echo "cargo-nextest is not installed: falling back to cargo test"; \
		$(CARGO) test --locked --no-fail-fast; status=$$?; \
	fi; \
	cat $(TARGET)/tmp/skipped 2> /dev/null; exit $$status

FUZZ_SECONDS ?= 60

fuzz: setup-test ## Run each fuzz target for FUZZ_SECONDS (60); see fuzz/
	scripts/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

static: ## One static binary for any x86-64 Linux, in target/x86_64-unknown-linux-musl/release
	@command -v musl-gcc > /dev/null || { echo "please run: sudo apt-get install musl-tools"; exit 1; }
	@rustc --print target-libdir --target $(STATIC) | xargs test -d || { echo "please run: rustup target add $(STATIC)"; exit 1; }
	CC_x86_64_unknown_linux_musl=musl-gcc $(CARGO) build --locked --release --bin coracle --target $(STATIC)
	@ls -l $(TARGET)/$(STATIC)/release/coracle

stand-in: ## The stand-in for python:3.6-slim, as an OCI layout in target/stand-in
	@scripts/stand-in target/stand-in

setup-demo:
	@scripts/setup demo

setup-test:
	@scripts/setup test
