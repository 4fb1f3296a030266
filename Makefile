# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The ways in. Each target says what it needs and makes what is missing; see
# Documentation/accel/vaccel/testing.rst.

DEV := tools/dev
export VACCEL_T0 := $(shell date +%s)

.PHONY: help demo test check bench bench-instructions fuzz soak module clippy debug-module image boot lint clean distclean
.NOTPARALLEL:

help:
	@echo 'make demo          run the main jobs in a virtual machine on the packaged kernel (out/demo.json)'
	@echo 'make test          run everything that is tested (out/test.json)'
	@echo 'make check         the fast subset for daily work (out/check.json)'
	@echo 'make bench         measure what operations cost, as ratios (out/bench.json)'
	@echo 'make bench-instructions   count the instructions of a job (out/bench-instructions.json)'
	@echo 'make fuzz          run the fuzzers of the host (FUZZ_SECONDS=60 for each; needs cargo-fuzz)'
	@echo 'make soak          all that the driver survives, for SOAK_MINUTES=30 (out/survive.json)'
	@echo ''
	@echo 'make module        build the driver for the packaged kernel (out/module/vaccel.ko)'
	@echo 'make module CLIPPY=1   lint it instead'
	@echo 'make debug-module  build the driver in the debug kernel'\''s tree'
	@echo 'make image PLAN=demo   build what a machine is started with (out/image)'
	@echo 'make boot          boot the packaged kernel with the driver, console here'
	@echo 'make lint          formatting and the repository'\''s own rules'
	@echo 'make clean         remove out/'
	@echo 'make distclean     remove out/ and the cache (kernels, build roots, programs)'
	@echo ''
	@echo 'Cache: $${XDG_CACHE_HOME:-~/.cache}/vaccel. Logs: out/log.'

demo test check bench bench-instructions soak lint:
	@$(DEV)/run.sh $@

FUZZ_SECONDS ?= 60
fuzz:
	@$(DEV)/fuzz.sh $(FUZZ_SECONDS)

module:
	@$(DEV)/module.sh

clippy:
	@CLIPPY=1 $(DEV)/module.sh

debug-module:
	@DEBUG_TREE=1 $(DEV)/module.sh

PLAN ?= demo
image: module
	@$(DEV)/user.sh guest-init vaccel-smoke vaccel-selftests vaccel-interop
	@$(DEV)/image.sh packaged $(PLAN)

boot: module
	@$(DEV)/boot.sh $(PLAN)

clean:
	rm -rf out

distclean: clean
	@$(DEV)/clean-cache.sh
