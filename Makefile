# Penstock from a shell: everything a person or a build server types. `make help` lists it.
#
# The real work is CMake's and Ninja's; these targets install what is missing, choose build directories and call the
# scripts in tools/. Packages are asked of dpkg first, so once they are there nothing needs root or the network.

BUILD    ?= build
JOBS     ?= $(shell nproc)
PYTHON   ?= /usr/bin/python3
SECONDS  ?= 60
PREFIX   ?= /usr/local
DESTDIR  ?=
PACKAGES := tools/install-packages.sh
CLANG    := -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19
UNIT_DIR  = $(PREFIX)/lib/systemd/system
DOC_DIR   = $(PREFIX)/share/doc/penstock

export JOBS PYTHON

.DEFAULT_GOAL := build
.PHONY: help build run demo test test-unit test-netns test-waits test-deep test-asan test-tsan lint lint-deep fuzz format install clean \
        build-tests configure-tests

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: PORT= RUN_DIR= (run)  SECONDS= (fuzz)  DESTDIR= PREFIX= (install)  JOBS= BUILD="

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

test: ## everything that must pass: unit tests, lint, network namespaces
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory lint
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
	@PENSTOCK=$(abspath $(BUILD))/penstock $(PYTHON) -m pytest -q -p no:cacheprovider test/netns

lint: configure-tests ## who includes whom, headers alone, format, clang-tidy, texts
	@$(PACKAGES) lint
	@tools/lint.sh $(BUILD)

test-deep: test-asan test-tsan lint-deep test-waits ## the unit tests under sanitizers, fuzz targets, the analyzer, real waits

lint-deep: configure-tests
	@$(PACKAGES) lint
	@tools/clang-tidy-cached.py --deep $(BUILD)

# The labs that wait for real timeouts.
test-waits: build-tests
	@PENSTOCK=$(abspath $(BUILD))/penstock PENSTOCK_DEEP=1 $(PYTHON) -m pytest -q -p no:cacheprovider \
	  test/netns/test_reconnect.py test/netns/test_hostile_peers.py

test-asan:
	@$(PACKAGES) build test deep
	@cmake -S . -B build-asan -G Ninja $(CLANG) -DPENSTOCK_SANITIZE=address,undefined -DPENSTOCK_FUZZ=ON
	@tools/quiet-build.sh build-asan
	@tools/run-ctest.sh build-asan
	@tools/fuzz.sh build-asan $(SECONDS)

test-tsan:
	@$(PACKAGES) build test deep
	@cmake -S . -B build-tsan -G Ninja $(CLANG) -DPENSTOCK_SANITIZE=thread
	@tools/quiet-build.sh build-tsan
	@tools/run-ctest.sh build-tsan

fuzz: ## every fuzz target for SECONDS=60 each, with what earlier runs found in build-asan/corpus
	@$(PACKAGES) build test deep
	@cmake -S . -B build-asan -G Ninja $(CLANG) -DPENSTOCK_SANITIZE=address,undefined -DPENSTOCK_FUZZ=ON
	@tools/quiet-build.sh build-asan
	@tools/fuzz.sh build-asan $(SECONDS)

format: ## clang-format over every C++ file
	@$(PACKAGES) lint
	@tools/sources.sh '*.cc' '*.h' | xargs -r clang-format-19 -i

$(BUILD)/penstock:
	@$(MAKE) --no-print-directory build

install: $(BUILD)/penstock ## what was built, with the systemd units and examples, below DESTDIR and PREFIX
	install -D -m 755 $(BUILD)/penstock $(DESTDIR)$(PREFIX)/bin/penstock
	install -d $(DESTDIR)$(UNIT_DIR) $(DESTDIR)$(DOC_DIR)/examples
	for unit in packaging/*.service; do \
	  sed 's,/usr/bin/penstock,$(PREFIX)/bin/penstock,' $$unit > $(DESTDIR)$(UNIT_DIR)/$${unit##*/} || exit 1; \
	  chmod 644 $(DESTDIR)$(UNIT_DIR)/$${unit##*/}; done
	for example in $(wildcard configs/*); do install -m 644 $$example $(DESTDIR)$(DOC_DIR)/examples/ || exit 1; done
	for page in $(wildcard docs/*.md README.md); do install -m 644 $$page $(DESTDIR)$(DOC_DIR)/ || exit 1; done

clean: ## remove the build directories (not run/, which holds a certificate and tokens)
	rm -rf $(BUILD) build-asan build-tsan
