# `make demo`: the whole loop of a generated project, on a fresh machine. `make test`: all tests.

VENV := .venv
RUN := $(VENV)/bin
PROJECT := <<cookiecutter.project_slug>>
# The project in demo: a fork names it otherwise.
DEMO = $(patsubst %/config.yaml,%,$(firstword $(wildcard demo/*/config.yaml)))
COMPILE := --quiet --universal --python-version 3.11 --no-header --no-annotate --upgrade
IN_A_BUILD := --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_28 --only-binary :all: --generate-hashes \
	--no-header --no-annotate --upgrade
PYTHONS := 3.12 3.13 3.11
# Does a Python run (a pyenv shim may not), can it make an environment (Debian's may not), and is it supported?
SUPPORTED := 'import ensurepip, sys; raise SystemExit("%d.%d" % sys.version_info[:2] not in "$(PYTHONS)".split())' 2>/dev/null
PYTHON ?= $(shell for p in $(PYTHONS:%=python%) python3 python; do $$p -c $(SUPPORTED) && echo $$p && break; done)
# An environment that no longer runs, or whose Python is another than the one you name, is made anew.
FIT := $(shell "$(RUN)/python" -c $(SUPPORTED) $(if $(filter file default,$(origin PYTHON)),, \
	&& test "$$("$(RUN)/python" -V)" = "$$("$(PYTHON)" -V)") && echo yes)
INSTALL := PATH="$$PATH:$(RUN)" uv pip install --quiet --python $(RUN)/python
# Where a mirror of the package registry is known to pip alone, uv fails and pip does the work.
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check
ALL := -r requirements.txt -r "$(PROJECT)/requirements-cloud.txt"
export UV_PYTHON_DOWNLOADS := never
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help demo demo-loop test check quick lint lint-infra types clean lock tree bench-kddcup99 bench-scale bench-telemetry bench-training bench-features bench-serving

help:  ## what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.tools-ready  ## generates a project into demo/ and runs its whole loop
	@$(if $(DEMO),echo "$(DEMO) stands already and is kept (make clean removes it).","$(RUN)/python" bake.py demo > /dev/null)
	@$(MAKE) --no-print-directory demo-loop

demo-loop:
	@echo "$(DEMO) is the generated project; its own 'make local' follows: about three minutes on two cores, and some more"
	@echo "the first time, when it sets up its environment (2.3 GB)."
	@PATH="$$PATH:$(CURDIR)/$(RUN)" env -u PYTHONDONTWRITEBYTECODE $(MAKE) --no-print-directory -C $(DEMO) local
	@echo "These paths begin in $(DEMO): cd $(DEMO)"

test: check lint-infra  ## lint and types, then all tests, those of a generated project included, on two cores
	"$(RUN)/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: check  ## lint, types and the tests of the project's rooms that changed since the last commit, under a minute
	@$(MAKE) --no-print-directory -C "$(PROJECT)" quick VENV="$(CURDIR)/$(VENV)"

check: lint types  ## lint and types of the template's own Python, in seconds

lint: $(VENV)/.all-ready
	"$(RUN)/python" -m ruff check . && "$(RUN)/python" -m ruff format --check .

lint-infra: $(VENV)/.all-ready  ## cfn-lint and checkov over the CloudFormation templates, the project's and service_catalog's
	@$(MAKE) --no-print-directory -C "$(PROJECT)" lint-infra VENV="$(CURDIR)/$(VENV)"
	@"$(RUN)/cfn-lint" service_catalog/*.yaml
	@"$(VENV)/lint/bin/checkov" --directory service_catalog --framework cloudformation --skip-download --quiet --compact

types: $(VENV)/.all-ready
	"$(RUN)/python" -m mypy

ifeq ($(FIT),)
.PHONY: $(VENV)/.tools-ready
endif
$(VENV)/.tools-ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv found. Type: uv python install 3.12 (Debian, Ubuntu: apt" \
		"install python3-venv; macOS: brew install python@3.12), or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Setting up $(VENV) ..."
	@test -n "$(FIT)" || "$(PYTHON)" -m venv --clear $(VENV)
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

bench-serving: $(VENV)/.all-ready  ## rows per second of the endpoint beside a plain Starlette app, and /ping beside large bodies
	"$(RUN)/python" benchmarks/bench_serving.py

tree: $(VENV)/.tools-ready  ## rewrites tests/tree.txt, the list of files a project is made of
	"$(RUN)/python" tests/tree.py

lock: $(VENV)/.all-ready  ## compiles every requirements.txt anew: the project's, the template's own, the seed's
	rm -rf $(VENV)/lock && "$(RUN)/python" bake.py $(VENV)/lock > /dev/null
	PATH="$$PATH:$(CURDIR)/$(RUN)" $(MAKE) --no-print-directory -C $(VENV)/lock/* lock VENV=../..
	cp $(VENV)/lock/*/requirements*.txt "$(PROJECT)/"
	cp $(VENV)/lock/*/infra/requirements*.txt "$(PROJECT)/infra/"
	PATH="$$PATH:$(RUN)" uv pip compile $(COMPILE) requirements.in -c "$(PROJECT)/requirements-cloud.txt" -o requirements.txt
	PATH="$$PATH:$(RUN)" uv pip compile $(IN_A_BUILD) service_catalog/seed/requirements.in -c requirements.txt \
		-c "$(PROJECT)/requirements-cloud.txt" -o service_catalog/seed/requirements.txt

clean:  ## removes environments, caches, the demo and its runs
	rm -rf $(VENV) demo .bench build "$(PROJECT)/.venv" "$(PROJECT)/runs"
	find . -name .git -prune -o \( -name __pycache__ -o -name '*.pyc' -o -name '.*_cache' -o -name '*.egg-info' -o -name .DS_Store \) \
		-prune -exec rm -rf {} +
