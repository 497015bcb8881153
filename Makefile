# Penstock from a shell: everything a person or a build server types. `make help` lists it.
#
# The real work is CMake's and Ninja's; these targets install what is missing, choose build directories and call the
# scripts in tools/. Packages are asked of dpkg first, so once they are there nothing needs root or the network.

BUILD    ?= build
JOBS     ?= $(shell nproc)
PYTHON   ?= /usr/bin/python3
LABS     ?= 4
SECONDS  ?= 60
PREFIX   ?= /usr/local
DESTDIR  ?=
PACKAGES := tools/install-packages.sh
CLANG    := -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19
UNIT_DIR  = $(PREFIX)/lib/systemd/system
DOC_DIR   = $(PREFIX)/share/doc/penstock
# As they lie here, since they link to each other; what the README says to developers is no link there.
PAGES     = $(wildcard README.md SECURITY.md docs/*.md docs/*.svg docs/decisions/*.md configs/* packaging/proxies/*)

export JOBS PYTHON

.DEFAULT_GOAL := build
.PHONY: help build run demo test test-unit test-netns test-fuzz test-waits test-deep test-asan test-tsan windows-check \
        bench bench-nat fairness swarm switch micro lint lint-deep fuzz fuzz-minimize format install clean \
        build-tests build-bench build-fuzzers configure-tests

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: PORT= RUN_DIR= (run)  SECONDS= (fuzz)  BENCH= (bench, bench-nat, fairness)  DESTDIR= PREFIX= (install)  JOBS= LABS= (at a time)  BUILD="

build: ## the executable, build/penstock (the default)
	@$(PACKAGES) build
	@test -f $(BUILD)/CMakeCache.txt || cmake -S . -B $(BUILD) -G Ninja -DPENSTOCK_TESTS=OFF
	@cmake --build $(BUILD) --parallel $(JOBS) --target penstock

run: build ## start a gateway here, with a certificate and a first client's profile made on the way
	@$(PACKAGES) run
	@BUILD=$(BUILD) tools/run.sh

demo: build ## a gateway and two clients in network namespaces: pings, throughput, a crash, the way back (root)
	@$(PACKAGES) demo
	@BUILD=$(BUILD) tools/demo.sh

test: ## everything that must pass: unit tests, lint, some seconds of fuzzing, network namespaces
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-fuzz
	@$(MAKE) --no-print-directory test-netns

configure-tests:
	@$(PACKAGES) build test
	@cmake -S . -B $(BUILD) -G Ninja -DPENSTOCK_TESTS=ON > $(BUILD).configure.log 2>&1 \
	  || { cat $(BUILD).configure.log; exit 1; }
	@mkdir -p $(BUILD) && mv $(BUILD).configure.log $(BUILD)/configure.log

build-tests: configure-tests
	@tools/quiet-build.sh $(BUILD)

test-unit: build-tests ## unit tests and whole gateways in memory
	@tools/run-ctest.sh $(BUILD)

test-netns: build-tests ## labs with real kernels' TUN devices, in network namespaces (root)
	@PENSTOCK=$(abspath $(BUILD))/penstock $(PYTHON) -m pytest -q -p no:cacheprovider -n $(LABS) test/netns

lint: configure-tests ## who includes whom, headers alone, format, clang-tidy, texts
	@$(PACKAGES) lint
	@tools/lint.sh $(BUILD)

test-deep: test-asan test-tsan windows-check lint-deep test-waits fuzz ## the unit tests under sanitizers and wine, the analyzer, real waits, fuzz targets

lint-deep: configure-tests
	@$(PACKAGES) lint
	@tools/clang-tidy-cached.py --deep $(BUILD)

windows-check: ## what a Windows client stands on, built with MinGW, its unit tests under wine
	@$(PACKAGES) windows
	@tools/windows-check.sh build-windows

# The labs that wait for real timeouts, and all of the schedules of which ctest plays some.
test-waits: build-tests
	@PENSTOCK_DEEP=1 $(BUILD)/src/egress/egress_tcp_test --gtest_filter='*Schedules*' --gtest_brief=1
	@PENSTOCK=$(abspath $(BUILD))/penstock PENSTOCK_DEEP=1 $(PYTHON) -m pytest -q -p no:cacheprovider -n $(LABS) \
	  test/netns/test_internet.py test/netns/test_reconnect.py test/netns/test_hostile_peers.py \
	  test/netns/test_tcp_hostile.py test/netns/test_internet_tcp.py

test-asan:
	@$(PACKAGES) build test deep
	@cmake -S . -B build-asan -G Ninja $(CLANG) -DPENSTOCK_SANITIZE=address,undefined
	@tools/quiet-build.sh build-asan
	@tools/run-ctest.sh build-asan

test-tsan:
	@$(PACKAGES) build test deep
	@cmake -S . -B build-tsan -G Ninja $(CLANG) -DPENSTOCK_SANITIZE=thread
	@tools/quiet-build.sh build-tsan
	@tools/run-ctest.sh build-tsan

# Only the fuzz targets and the rooms that they read.
build-fuzzers:
	@$(PACKAGES) build deep
	@cmake -S . -B build-fuzz -G Ninja $(CLANG) -DPENSTOCK_TESTS=OFF -DPENSTOCK_FUZZ=ON -DPENSTOCK_SANITIZE=address,undefined \
	  > build-fuzz.configure.log 2>&1 || { cat build-fuzz.configure.log; exit 1; }
	@mv build-fuzz.configure.log build-fuzz/configure.log
	@tools/quiet-build.sh build-fuzz fuzzers

test-fuzz: build-fuzzers ## the inputs in fuzz/, and some seconds of each fuzz target
	@tools/fuzz.sh --quick build-fuzz

fuzz: build-fuzzers ## every fuzz target for SECONDS=60 each, with what earlier runs found in build-fuzz/corpus
	@tools/fuzz.sh build-fuzz $(SECONDS)

fuzz-minimize: build-fuzzers ## make build-fuzz/corpus small, as each `make fuzz` does at its end
	@tools/fuzz.sh --minimize build-fuzz

build-bench:
	@$(PACKAGES) build bench
	@cmake -S . -B $(BUILD) -G Ninja -DPENSTOCK_BENCH=ON > /dev/null
	@cmake --build $(BUILD) --parallel $(JOBS) --target bench/all penstock tls_pipe delay_relay

# Other words in BENCH are of the first part alone, and for it alone.
bench: build-bench ## beside other VPNs: throughput, delay, processor time; then bench-nat's TCP (root; 45 minutes; BENCH=--quick: eight)
	@$(PACKAGES) peers
	@failed=0; \
	$(PYTHON) bench/compare/run.py --build $(BUILD) --json $(BUILD)/compare.json --svg $(BUILD)/compare.svg $(BENCH) || failed=$$?; \
	test $$failed = 130 || test -n "$(filter-out --quick,$(BENCH))" || \
	  $(PYTHON) bench/nat/run.py --build $(BUILD) --loads tcp --json $(BUILD)/nat-tcp.json $(BENCH) || failed=$$?; \
	exit $$failed

bench-nat: build-bench ## to the internet, UDP and TCP: user-space NAT beside pasta and the kernel's, alone and behind the tunnel (root; half an hour)
	@$(PACKAGES) peers
	@$(PYTHON) bench/nat/run.py --build $(BUILD) --json $(BUILD)/nat.json $(BENCH)

fairness: build-bench ## whether two clients get the same, and what a slow one costs another (root; four minutes)
	@$(PACKAGES) peers
	@$(PYTHON) bench/compare/fairness.py --build $(BUILD) --json $(BUILD)/fairness.json $(BENCH)

swarm: build-bench ## what 10, 1 000 and 10 000 sessions cost: logins, memory, packets (root; four minutes)
	@$(PYTHON) bench/swarm/run.py --build $(BUILD) --json $(BUILD)/swarm.json

switch: build-bench ## what the switch alone costs a packet with 10 and with 10 000 sessions
	@$(PYTHON) bench/switch/run.py --build $(BUILD)

micro: build-bench ## what the parts of a packet's way cost one by one: checksums, segmenting, coalescing, frames, routes
	@$(PYTHON) bench/micro/run.py --build $(BUILD) --json $(BUILD)/micro.json

format: ## clang-format over every C++ file
	@$(PACKAGES) lint
	@tools/sources.sh '*.cc' '*.h' | xargs -r clang-format-19 -i

$(BUILD)/penstock:
	@$(MAKE) --no-print-directory build

install: $(BUILD)/penstock ## what was built, with the systemd units and examples, below DESTDIR and PREFIX
	install -D -m 755 $(BUILD)/penstock $(DESTDIR)$(PREFIX)/bin/penstock
	install -d $(DESTDIR)$(UNIT_DIR)
	for unit in packaging/*.service; do \
	  sed 's,/usr/bin/penstock,$(PREFIX)/bin/penstock,; s,/usr/share/doc/penstock,$(DOC_DIR),' $$unit \
	    > $(DESTDIR)$(UNIT_DIR)/$${unit##*/} || exit 1; \
	  chmod 644 $(DESTDIR)$(UNIT_DIR)/$${unit##*/}; done
	for kind in sysusers.d tmpfiles.d; do \
	  install -D -m 644 packaging/$$kind/penstock.conf $(DESTDIR)$(PREFIX)/lib/$$kind/penstock.conf || exit 1; done
	for page in $(PAGES); do install -D -m 644 $$page $(DESTDIR)$(DOC_DIR)/$$page || exit 1; done
	sed -i -E 's/\[([^]]*)\]\((ARCHITECTURE|HACKING|bench|test)[^)]*\)/\1/g' $(DESTDIR)$(DOC_DIR)/README.md

clean: ## remove the build directories (not run/, which holds a certificate and tokens)
	rm -rf $(BUILD) build-asan build-fuzz build-tsan build-windows
