# Everything installs itself where it is missing: Debian packages through apt-get (as root or with sudo), Python packages into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check
CC ?= gcc
SOURCES := $(wildcard recorder/_ext/*.pyx recorder/_ext/*.pxd recorder/_ext/*.h bench/camsim/*.pyx bench/camsim/*.pxd bench/camsim/*.h)
PACKAGES := setup.py pyproject.toml MANIFEST.in

.PHONY: help setup kernels debug setup-test demo test lint soak bench-ingest clean
help:
	@echo 'make demo [SECONDS=n]   8 simulated cameras, a server and its page'
	@echo 'make setup              .venv with the `watchroom` command'
	@echo 'make test               installs what the tests need and runs lint, types, stubs and all tests'
	@echo 'make lint               ruff, mypy --strict and the stubs against the compiled kernels'
	@echo 'make debug              the kernels with bounds checks and assertions, in build/debug'
	@echo 'make soak               the long figures; writes docs/soak.md (FUZZ_SECONDS=600 of each fuzz target or of FUZZ="some", ROUNDS=2 of each benchmark,'
	@echo '                        KILLS=200 recorders killed, COPIES=200 images of file systems recovered, TESTS="some", STEPS="demo bench-ingest fuzz tests")'
	@echo 'make bench-ingest       what recording costs beside other recorders, and a partnership; writes build/bench'
	@echo 'make clean              removes .venv, build/ and the compiled kernels'

setup: $(VENV)/.watchroom build/.kernels

$(VENV)/.made:
	@scripts/make_venv.sh $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements/build.txt requirements/run.txt
	@echo 'make: Python packages to build and run'
	@$(PIP) -r requirements/build.txt -r requirements/run.txt
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@echo 'make: Python packages to test'
	@$(PIP) -r requirements/test.txt
	@touch $@

$(VENV)/.watchroom: $(VENV)/.run $(PACKAGES) | build/.kernels
	@echo 'make: command $(VENV)/bin/watchroom'
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

kernels: build/.kernels
build/.kernels: $(VENV)/.run $(SOURCES) setup.py
	@echo 'make: kernels'
	@mkdir -p build
	@$(PY) setup.py -q build_ext --inplace >build/kernels.log 2>&1 || { cat build/kernels.log; exit 1; }
	@touch $@

debug: build/debug/.made
build/debug/.made: $(VENV)/.run $(SOURCES) $(PACKAGES)
	@echo 'make: kernels with bounds checks and assertions'
	@mkdir -p build/debug
	@WATCHROOM_DEBUG=1 $(PY) setup.py -q build_ext --build-lib build/debug >build/debug.log 2>&1 || { cat build/debug.log; exit 1; }
	@touch $@

setup-test: setup $(VENV)/.test debug
	@scripts/apt_install.sh requirements/apt-test.txt

demo: setup
	@exec $(VENV)/bin/watchroom demo $(if $(filter command line,$(origin SECONDS)),--seconds $(SECONDS))

test: setup-test
	@exec $(PY) scripts/gate.py

lint: setup $(VENV)/.test
	@exec $(PY) scripts/gate.py --only lint

soak: setup-test
	@exec $(PY) scripts/soak.py $(if $(FUZZ_SECONDS),--fuzz-seconds $(FUZZ_SECONDS)) $(addprefix --fuzz-target ,$(FUZZ)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(KILLS),--kills $(KILLS)) $(if $(COPIES),--copies $(COPIES)) $(addprefix --test ,$(TESTS)) $(addprefix --step ,$(STEPS))

# About an hour on a calm machine with 2 cores and 60 GB of disk; FOLDER=/somewhere puts the footage on another disk.
BENCH := $(VENV)/bin/watchroom bench ingest $(if $(FOLDER),--folder $(FOLDER))
bench-ingest: setup
	@scripts/apt_install.sh requirements/apt-test.txt
	@mkdir -p build/bench
	@$(BENCH) --cameras 128,256 --rounds 3 --json build/bench/ingest.json --markdown build/bench/ingest.md --svg build/bench/ingest.svg
	@$(BENCH) --cameras 128,512 --bitrate 2000 --beside native --rounds 3 --json build/bench/many.json --markdown build/bench/many.md
	@$(BENCH) --cameras 256 --bitrate 2000 --transport tcp,udp --beside none --rounds 3 --markdown build/bench/udp.md
	@$(BENCH) --partnership --json build/bench/partnership.json --markdown build/bench/partnership.md
	@$(BENCH) --partnership --playbacks 20 --exports 2 --markdown build/bench/partnership-readers.md
	@$(BENCH) --partnership --playbacks 20 --exports 2 --cold --markdown build/bench/partnership-cold.md

clean:
	rm -rf $(VENV) build *.egg-info
	find recorder bench -name '*.so' -delete
