# Each target does all its own set-up, in .venv and nowhere else. "make help" lists them.

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := gateway devices firmware_bridge hil

# -qq: pip speaks only when it fails. No root warning, no upgrade advice.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install -qq --no-input

.PHONY: help demo test check bench bench-quick bench-line bench-observers bench-service bench-supervised bench-firmware
.PHONY: bench-usb firmware firmware-fuzz vm docs wheelhouse clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    start a gateway with simulated instruments, find it and read them"
	@echo "make test    run the tests"
	@echo "make check   style, types and import contracts"
	@echo "make bench   measure calls against stock rpyc, and draw the table (bench-quick: roughly, in a minute);"
	@echo "             bench-line: the serial link, bench-observers: how late readings are,"
	@echo "             bench-service and bench-supervised: how soon devices are safe"
	@echo "make firmware     build the example for a Cortex-M, and print its sizes (bench-firmware: what it reaches in QEMU)"
	@echo "make vm      build the virtual machine with a real USB stack, for the tests of usb:// (bench-usb: what it carries)"
	@echo "make docs    build the documentation into site/ and check its links"
	@echo "make wheelhouse   download what an installation without a network needs, into build/wheelhouse/"
	@echo "make clean   remove everything the other targets made, .venv too"

demo: $(VENV)/.installed
	@$(BIN)/python -m gateway demo --client

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(ARGS)

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "error: files are not formatted; run: $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports --no-logo
	@echo "check: style, types and import contracts hold"

bench: $(VENV)/.installed-bench
	@$(BIN)/python tests/bench/run.py --plot docs/explanation/performance.png $(ARGS)

bench-quick: $(VENV)/.installed-dev
	@$(BIN)/python tests/bench/run.py --quick $(ARGS)

bench-line: $(VENV)/.installed-dev
	@$(BIN)/python tests/bench/line.py $(ARGS)

bench-observers: $(VENV)/.installed-dev
	@$(BIN)/python tests/bench/observers.py $(ARGS)

bench-service: $(VENV)/.installed-dev
	@$(BIN)/python tests/bench/service.py $(ARGS)

bench-supervised: $(VENV)/.installed-dev
	@$(BIN)/python tests/bench/supervised.py $(ARGS)

bench-firmware: $(VENV)/.installed-dev
	@PYTHONPATH=. $(BIN)/python tests/bench/firmware.py $(ARGS)

bench-usb: $(VENV)/.installed-dev
	@PYTHONPATH=. $(BIN)/python tests/bench/usb_carriers.py $(ARGS)

firmware:
	@command -v arm-none-eabi-gcc >/dev/null || { echo "error: there is no arm-none-eabi-gcc; install gcc-arm-none-eabi" >&2; exit 1; }
	@$(MAKE) --no-print-directory -C firmware_bridge/c OUT=$(CURDIR)/build/firmware

FUZZ_RUNS := 1000000
firmware-fuzz:
	@command -v clang >/dev/null || { echo "error: there is no clang; install clang and libclang-rt-dev" >&2; exit 1; }
	@$(MAKE) --no-print-directory -C firmware_bridge/c OUT=$(CURDIR)/build/firmware RUNS=$(FUZZ_RUNS) fuzz

vm: $(VENV)/.installed-dev
	@$(BIN)/python -m hil.vm.image build/vm

docs: $(VENV)/.installed-docs
	@$(BIN)/mkdocs build --strict
	@echo "docs: site/index.html"

# The Pythons of Debian and Raspberry Pi OS 12 and 13, and of Ubuntu 24.04.
VERSIONS := 3.11 3.12 3.13

wheelhouse: $(VENV)/.made
	@.ci/wheelhouse $(BIN)/python build/wheelhouse $(VERSIONS)

clean:
	rm -rf $(VENV) site build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@.ci/venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "Installing what the gateway needs into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml
	@echo "Installing what the tests need into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.made pyproject.toml
	@echo "Installing what the benchmark needs into $(VENV) ..."
	@$(PIP) --editable '.[dev,bench]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-dev

$(VENV)/.installed-docs: $(VENV)/.made pyproject.toml
	@echo "Installing what the documentation needs into $(VENV) ..."
	@$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/.installed
