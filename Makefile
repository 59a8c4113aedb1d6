# A menu of one-liners; `make help` prints it. Everything installs into .venv, so deleting that folder starts afresh.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMIUM

.DEFAULT_GOAL := help
.PHONY: help install run test lint format bench bench-load chromium lock clean

help: ## print this menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## install Querent and its tools into .venv

$(INSTALLED): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[embedded,worker,dev]"
	touch $@

run: install ## run the whole product, with a demo project, on http://127.0.0.1:8000
	$(BIN)/querent up

test: install lint chromium ## lint and run every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: install ## style, types and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## measure speed, each figure beside its baseline
	$(BIN)/python -m tests.benchmarks

bench-load: install ## fifty people label while a round trains: how long answers and next images take
	$(BIN)/python -m tests.benchmarks.load

chromium: # the browser tests need one; Debian's is installed when none is found
	@if [ -z "$(CHROMIUM)" ]; then \
	  echo "No Chromium found: installing Debian's package (apt-get install chromium)."; \
	  sudo=$$( [ "$$(id -u)" = 0 ] || echo sudo ); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	fi

lock: ## write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --all-extras -o requirements.lock pyproject.toml
	sed -i -E '/^(#|$$)/d; s/^(torch|torchvision)==([0-9.]+)\+.*/\1==\2/' requirements.lock
	echo 'async-timeout==5.0.1 ; python_full_version < "3.11.3"' >> requirements.lock # redis needs it there

clean: ## delete what can be made again
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
