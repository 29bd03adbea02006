# lambent's build. `make` builds bin/lambent; `make run` shows it at work;
# `make test` runs every test there is. CONTRIBUTING.md tells of the rest.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

GO     ?= go
GOARCH ?= $(shell $(GO) env GOARCH)
ARGS   ?=

# One static binary: no C, no paths of the machine it was built on.
BUILD := CGO_ENABLED=0 GOOS=linux $(GO) build -trimpath -ldflags '-s -w'

# What sandboxes consist of and what they run first, built for the same machine
# and embedded.
PROGRAMS := internal/sandbox/gvisor/programs

.PHONY: all build init run test bench lint cross fuzz hammer clean

all: build

build: init
	GOARCH=$(GOARCH) $(BUILD) -o bin/lambent ./cmd/lambent

# `go build` knows what is up to date; make need not.
init:
	GOARCH=$(GOARCH) $(BUILD) -o $(PROGRAMS)/ ./cmd/lambent-init ./cmd/lambent-sandbox

run: build
	./bin/lambent quickstart $(ARGS)

test:
	scripts/test

bench: build
	scripts/bench $(ARGS)

lint: init
	scripts/lint

# Both architectures; the embedded program is left as this machine needs it.
cross:
	scripts/cross

fuzz: init
	scripts/fuzz $(ARGS)

# A minute of many callers and random kills, on a server that looks for data
# races.
hammer: build
	CGO_ENABLED=1 $(GO) build -race -o bin/race/lambent ./cmd/lambent
	cd conformance && HAMMER=$(or $(ARGS),60s) CONFORMANCE_BIN=$(CURDIR)/bin/race/lambent \
		$(GO) test -race -count=1 -v -timeout 15m -run UnderTheHammer .

clean:
	rm -rf bin $(PROGRAMS)/lambent-*
