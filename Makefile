# `make demo`: the whole loop of a generated project, on a fresh machine. `make test`: all tests.

VENV := .venv
RUN := $(VENV)/bin
PROJECT := <<cookiecutter.project_slug>>
DEMO := demo/rare-players
COMPILE := --quiet --universal --python-version 3.11 --no-header --no-annotate --upgrade
# The first that really runs (a pyenv shim may not) and can make an environment (Debian's may not).
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import ensurepip, sys; raise SystemExit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
INSTALL := PATH="$$PATH:$(RUN)" uv pip install --quiet --python $(RUN)/python
# Where a mirror of the package registry is known to pip alone, uv fails and pip does the work.
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check
ALL := -r requirements.txt -r "$(PROJECT)/requirements-cloud.txt"
export UV_PYTHON_DOWNLOADS := never
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help demo test check quick lint lint-infra types clean lock tree bench-kddcup99 bench-scale bench-telemetry bench-training bench-features

help:  ## what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.tools-ready  ## generates a project into demo/ and runs its whole loop
	@test -d $(DEMO) && echo "$(DEMO) stands already and is kept (make clean removes it)." || "$(RUN)/python" bake.py demo > /dev/null
	@echo "$(DEMO) is the generated project; its own 'make local' follows."
	@PATH="$$PATH:$(CURDIR)/$(RUN)" env -u PYTHONDONTWRITEBYTECODE $(MAKE) --no-print-directory -C $(DEMO) local PYTHON="$(PYTHON)"
	@echo "These paths begin in $(DEMO): cd $(DEMO)"

test: check lint-infra  ## lint and types, then all tests, those of a generated project included
	"$(RUN)/python" -m pytest

quick: check  ## lint, types and the tests of the project's rooms that changed since the last commit, under a minute
	@$(MAKE) --no-print-directory -C "$(PROJECT)" quick VENV="$(CURDIR)/$(VENV)"

check: lint types  ## lint and types of the template's own Python, in seconds

lint: $(VENV)/.all-ready
	"$(RUN)/python" -m ruff check . && "$(RUN)/python" -m ruff format --check .

lint-infra: $(VENV)/.all-ready  ## cfn-lint and checkov over the project's CloudFormation templates
	@$(MAKE) --no-print-directory -C "$(PROJECT)" lint-infra VENV="$(CURDIR)/$(VENV)"

types: $(VENV)/.all-ready
	"$(RUN)/python" -m mypy

$(VENV)/.tools-ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 with venv found (Debian, Ubuntu: apt install python3-venv)." \
		"Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Setting up $(VENV) ..."
	@test -x $(RUN)/python || "$(PYTHON)" -m venv $(VENV)
	@command -v uv > /dev/null || test -x $(RUN)/uv || $(PIP) $$(grep '^uv==' requirements.txt)
	@$(INSTALL) -r requirements.txt || $(PIP) -r requirements.txt
	@touch $@

# The project's own requirements too: its tests run from this environment. Compiled here, for no test writes bytecode,
# and TensorFlow is imported by many of them.
$(VENV)/.all-ready: $(VENV)/.tools-ready $(wildcard ./*/requirements-cloud.txt)
	@$(INSTALL) --compile-bytecode $(ALL) || $(PIP) $(ALL)
	@touch $@

bench-kddcup99: $(VENV)/.all-ready  ## KDD Cup 99 through the pipeline and against simple models: DATA=/folder/with/the/gzip/files
	"$(RUN)/python" benchmarks/bench_kddcup99.py $(DATA)

bench-scale: $(VENV)/.all-ready  ## time and memory for 10,000 and 100,000 users
	"$(RUN)/python" benchmarks/bench_scale.py

bench-telemetry: $(VENV)/.all-ready  ## model quality on several synthetic populations, and what unknown catches
	"$(RUN)/python" benchmarks/bench_telemetry.py

bench-training: $(VENV)/.all-ready  ## iterations per second against a plain loop
	"$(RUN)/python" benchmarks/bench_training.py

bench-features: $(VENV)/.all-ready  ## users per second against Prophet
	@$(INSTALL) -r benchmarks/requirements.txt
	"$(RUN)/python" benchmarks/bench_features.py

tree: $(VENV)/.tools-ready  ## rewrites tests/tree.txt, the list of files a project is made of
	"$(RUN)/python" tests/tree.py

lock: $(VENV)/.all-ready  ## compiles every requirements.txt anew: the project's three, then the template's own
	rm -rf $(VENV)/lock && "$(RUN)/python" bake.py $(VENV)/lock > /dev/null
	PATH="$$PATH:$(CURDIR)/$(RUN)" $(MAKE) --no-print-directory -C $(VENV)/lock/rare-players lock VENV=../..
	cp $(VENV)/lock/rare-players/requirements*.txt "$(PROJECT)/"
	cp $(VENV)/lock/rare-players/infra/requirements*.txt "$(PROJECT)/infra/"
	PATH="$$PATH:$(RUN)" uv pip compile $(COMPILE) requirements.in -c "$(PROJECT)/requirements-cloud.txt" -o requirements.txt

clean:  ## removes the environment, the demo and its runs
	rm -rf $(VENV) demo
