# `make` prints the targets. Nothing here installs into the system's Python.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # one set of packages at a time
.PHONY: help setup setup-dev setup-export setup-import setup-bench train test test-all test-slurm test-container lint check drill bench scale doctor picture image lock clean

PYTHON ?= python3
RANKS ?= 4
BIN := .venv/bin
# The tests wait half of the time: one worker more than there are processors, 9 at most.
WORKERS ?= -n $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 8 ? n + 1 : 9))) --dist worksteal
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)

help: ## print the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.synced-user ## install what a user needs into .venv
setup-dev: .venv/.synced-dev ## ... and what `make test` and `make check` need
setup-export: .venv/.synced-export ## ... and what `python -m src.export` needs
setup-import: .venv/.synced-import ## ... and what `python -m src.data import` of Parquet and Arrow files needs
setup-bench: .venv/.synced-bench ## ... and the peers that `make bench` compares with

train: .venv/.synced-user ## train on 4 processes (RANKS=2, ARGS="train.epochs=1 ...")
	PYTHON=$(BIN)/python launch/local.sh $(RANKS) $(ARGS)

test: .venv/.synced-dev ## run the tests but the slow ones: every promise once (ARGS="tests/run -k damaged")
	$(BIN)/pytest $(WORKERS) -m "not slow" $(ARGS)

test-all: .venv/.synced-dev ## run the slow ones too
	$(BIN)/pytest $(WORKERS) $(ARGS)

test-slurm: .venv/.synced-dev ## run launch/ on a real Slurm cluster and on several hosts (as root; installs slurm with apt)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	 tests/slurm/cluster.sh install || echo "cannot install slurm: its tests will be skipped" >&2; fi
	SLURM_TESTS=1 $(BIN)/pytest -n 2 --dist loadfile tests/slurm tests/launch/test_hosts.py $(ARGS)

test-container: .venv/.synced-dev ## build the image and run its job (as root; installs buildah with apt; 12 GB in /var/tmp)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	 tests/helpers/container.sh install || echo "cannot install buildah: its tests will be skipped" >&2; fi
	CONTAINER_TESTS=1 $(BIN)/pytest tests/launch/test_container.py $(ARGS)

lint: .venv/.synced-dev ## ruff, mypy --strict, import-linter, shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck $$(git ls-files '*.sh' '*.sbatch') .ci/run

check: lint test ## lint and test

drill: .venv/.synced-user ## break a scratch run in every way, and compare with an unbroken one (MODEL=convnet)
	$(BIN)/python -m src.drill $(if $(MODEL),--model $(MODEL)) $(ARGS)

bench: .venv/.synced-bench ## time this job beside its peers, into docs/ (12 minutes)
	$(BIN)/python -m tests.bench.compare $(ARGS)
	$(BIN)/python -m tests.bench.compare --epochs=10 --rounds=1 --section="ten epochs" --only='^this job(, train.sync.*)?$$|tutorial' $(ARGS)
	$(BIN)/python -m tests.bench.growth --rounds=1 $(ARGS)
	$(BIN)/python -m tests.bench.profile --rounds=3 $(ARGS)
	$(BIN)/python -m tests.bench.tracking --rounds=0 $(ARGS)
	$(BIN)/python -m tests.bench.start $(ARGS)

scale: .venv/.synced-user ## time 1 to 8 ranks, and compare their hashes (MODEL=convnet)
	$(BIN)/python -m tests.bench.bandwidth
	$(BIN)/python -m tests.bench.scale $(if $(MODEL),--model $(MODEL)) $(ARGS)

doctor: .venv/.synced-user ## look at this host before a job (ARGS="config=... --nodes a,b")
	$(BIN)/python -m src.doctor $(ARGS)

picture: .venv/.synced-dev ## take docs/report.png anew, of a run of configs/best.yaml (needs /usr/bin/chromium)
	$(BIN)/python -m tests.helpers.picture $(ARGS)

image: ## build the container image (DOCKER=podman for another builder)
	$(or $(DOCKER),docker) build -t training-job \
	 --build-arg COMMIT="$$(git describe --always --dirty --abbrev=40 --exclude='*')" .

LOCK := $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-header --upgrade pyproject.toml

lock: | $(UV) ## renew the pinned requirements from pyproject.toml
	@$(LOCK) -o requirements.lock
	@$(LOCK) --group dev --extra export --extra import --extra mirror -c requirements.lock -o requirements-dev.lock
	@$(LOCK) --extra export -c requirements.lock -o requirements-export.lock
	@$(LOCK) --extra import -c requirements.lock -o requirements-import.lock
	@$(LOCK) --group bench -c requirements.lock -o requirements-bench.lock

clean: ## remove what make and the tools made, never data or runs
	rm -rf .venv .uv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# `uv pip sync` removes what it is not asked for, so every set that is installed already is asked for again. The
# shell looks for them: make's own wildcard does not see what an earlier recipe of the same call has made.
SYNC = $(UV) pip sync -q --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock \
	$(patsubst .venv/.synced-%,requirements-%.lock,$(filter-out %-user,$(shell ls .venv/.synced-* 2>/dev/null)))

.venv/.synced-user: requirements.lock | .venv
	@echo "installing requirements.lock into .venv"
	@$(SYNC)
	@touch $@

.venv/.synced-%: requirements-%.lock requirements.lock | .venv
	@echo "installing requirements-$*.lock into .venv"
	@$(SYNC) $<
	@touch $@ .venv/.synced-user

.venv: | $(UV)
	@$(UV) venv -q --relocatable --python $(PYTHON) .venv # a checkout may be moved

# A machine without uv gets it with pip, into a folder of its own. Debian's python3 has no ensurepip unless
# python3-venv is installed, but its pip can still install into a folder.
.uv/bin/uv:
	@echo "installing uv into .uv"
	@{ $(PYTHON) -m venv .uv >/dev/null 2>&1 && .uv/bin/pip install -q --disable-pip-version-check uv; } || \
	 { rm -rf .uv; $(PYTHON) -m pip install -q --disable-pip-version-check --target .uv uv; } || \
	 { rm -rf .uv; echo "no uv, and $(PYTHON) can neither make a virtual environment nor run pip:" \
	   "apt install python3-venv, or put uv on PATH" >&2; exit 2; }
