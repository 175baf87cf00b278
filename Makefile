# SPDX-License-Identifier: GPL-2.0-only
#
# The main commands. Each target only calls `python -m kpatch` or a checker. Variables are options:
#
#   make kernel-test KERNEL=6.12 SERIES=netlink TESTS=burst OUT=out ACCEL=tcg JOBS=8
#
# `.venv/bin/python -m kpatch test --help` describes them.

# Prefer Debian's Python. The guest runs the same interpreter, and Debian builds it with profile-
# guided optimization, which makes it a third faster there than a build with a plain ./configure.
PYTHON ?= $(or $(wildcard /usr/bin/python3),python3)
VENV := .venv/bin/
KPATCH := $(VENV)python -m kpatch

# The user's PYTHON* variables must not affect the harness.
unexport $(filter PYTHON%,$(.VARIABLES))
export KERNEL SERIES FLAVOR ACCEL OUT TESTS JOBS MECHANISM UNTRUSTED BOOT_LIMIT TEST_LIMIT RUN_LIMIT
export CHECKS FAIL_ON COUNT AGAINST FAIL_UNDER SEED

.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

.PHONY: ready
ready:
	@$(PYTHON) -I kpatch/bootstrap.py

## make kernel-test   from the kernel's source to a verdict on the carried series
.PHONY: kernel-test
kernel-test: ready
	@$(KPATCH) test

## make shell         a shell in a test kernel, with the devices present
.PHONY: shell
shell: ready
	@$(KPATCH) shell

# What the command `matrix` needs in addition (Dask); no other command needs it.
.PHONY: matrix-ready
matrix-ready: ready
	@$(PYTHON) -I kpatch/bootstrap.py matrix

# What the tests of pages in a browser need in addition (Chromium, playwright).
.PHONY: browser-ready
browser-ready: ready
	@$(PYTHON) -I kpatch/bootstrap.py browser

## make repeat        the whole suite N=20 times on one base, compared test by test
N ?= 20
.PHONY: repeat
repeat: matrix-ready
	@$(KPATCH) matrix run --seeds '$(N)'

# What `make mutants` needs in addition.
.PHONY: mutants-ready
mutants-ready: matrix-ready
	@$(PYTHON) -I kpatch/bootstrap.py mutants

## make mutants       change lines of SERIES by a tool: which lines does no requirement watch?
SEED ?= 1
.PHONY: mutants
mutants: mutants-ready
	@$(KPATCH) matrix run --mutants '$(N)' --mutant-seed '$(SEED)'

# What `make coverage` needs in addition.
.PHONY: coverage-ready
coverage-ready: ready
	@$(PYTHON) -I kpatch/bootstrap.py coverage

## make coverage      which of the lines that SERIES adds does the suite run?
.PHONY: coverage
coverage: coverage-ready
	@$(KPATCH) coverage

## make lint          linters, types and who imports whom
.PHONY: lint
lint: ready
	$(VENV)ruff check .
	$(VENV)ruff format --check .
	$(VENV)mypy
	$(VENV)lint-imports --no-cache --no-logo

## make check         judge a series patch by patch: SERIES=a thread, a file, a branch
.PHONY: check
check: ready
	@$(KPATCH) check

## make compare       compare the mechanisms: requirements, measurements, patches
.PHONY: compare
compare: ready
	@$(KPATCH) compare

## make relay         from the host's interrupt to the driver in the guest of an unmodified QEMU
RELAY := test --flavor relay --tests REQ-VMM
.PHONY: relay
relay: export SERIES := $(or $(SERIES),eventq)
relay: ready
	@$(KPATCH) $(RELAY)

## make test-vmm      all of the VMM's side: test-vmm-guest, then test-vmm-faults
.PHONY: test-vmm
test-vmm:
	@$(MAKE) --no-print-directory --keep-going test-vmm-guest test-vmm-faults

## make test-vmm-guest  as make relay, with each mechanism on each base, as a matrix
.PHONY: test-vmm-guest
test-vmm-guest: matrix-ready
	@$(KPATCH) matrix run --flavor relay --tests REQ-VMM --kernel 7.3 --kernel 6.12 --kernel 6.1 \
		--series base --series eventq --series eventfd --series ack

## make test-vmm-faults  see every planted fault of the relay break its requirements
.PHONY: test-vmm-faults
test-vmm-faults: ready
	$(VENV)python -m pytest -m planted tests/test_vmm_faults.py

## make test          the harness's own tests, then kernel-test on every base
.PHONY: test
test: lint
	@echo "the harness's own tests, in two halves at once; each tells at its end, minutes from now"
	@$(MAKE) --no-print-directory --output-sync=line --jobs=2 test-host test-vm
	$(KPATCH) test --kernel 7.3 --kernel 6.12 --kernel 6.1
	$(KPATCH) test --series eventq --flavor lockdep --out '$(or $(OUT),out)/lockdep'

# The harness's own tests in two halves that run in parallel: one needs a single CPU, the other
# builds and boots kernels.
.PHONY: test-host
test-host: mutants-ready coverage-ready
	$(VENV)python -m pytest -m "not vm and not check and not planted and not fire"

.PHONY: test-vm
test-vm: mutants-ready coverage-ready
	$(VENV)python -m pytest -m "vm and not check"

## make test-all      the carried series on every base in every flavor, as a matrix: many hours
.PHONY: test-all
test-all: export SERIES := $(or $(SERIES),all)
test-all: matrix-ready
	@$(KPATCH) matrix run --kernel all --flavor all

## make test-check    reviews of whole series, and the report in a browser
.PHONY: test-check
test-check: mutants-ready browser-ready coverage-ready
	$(VENV)python -m pytest -m check

## make faults        see every planted fault break its requirements; WHOLE=1: by the whole suite
.PHONY: faults
faults: matrix-ready
	@$(KPATCH) matrix run --fault '$(or $(FAULT),all)' $(if $(WHOLE),--whole)

## make fire          kill the harness and QEMU N=20 times, fill disks, run ten times at once
.PHONY: fire
fire: ready
	FIRE_N='$(N)' FIRE_SEED='$(SEED)' $(VENV)python -m pytest -m "fire or not fire" -s tests/test_fire.py

## make bench         what a run costs, as ratios to make and to virtme-ng alone
.PHONY: bench
bench: ready
	@$(KPATCH) bench

## make clean         empty the cache and print how much space that frees
.PHONY: clean
clean: ready
	@$(KPATCH) clean
