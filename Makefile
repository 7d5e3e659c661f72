# make help lists what there is.
GO      ?= go
BIN     := bin
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)
UNITDIR ?= /etc/systemd/system
DOCDIR  ?= $(PREFIX)/share/doc/masterd
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
DEBOUT  ?= $(BIN)
# All packages of all modules of go.work: ./... is those of one module, and says nothing of
# the others. A test looks that none is missing.
ALL := work
# The SDK's modules, in the order in which they need each other, and each release of Go that
# they support, the oldest first.
SDK := pkg/ipc pkg/worker pkg/worker/ginworker
SDKGO ?= go1.24.13 go1.25.14 local
SDKTESTS ?= .
# Tests of how connections move: that rests on how net/http is made, so the gate runs these
# with each release.
MIGRATION := Move|HandOff|Idle|Stays|Taker
# Linux is the home; elsewhere masterd's verbs, the SDK without a master and the
# plain packages build and run: these. A test looks that none is missing.
PORTABLE := ./cmd/... ./docs/man ./pkg/api ./pkg/ipc/... ./pkg/worker/... ./pkg/worker/ginworker/... ./test/load/... \
  $(addprefix ./pkg/master/,admin/... analysis/... answer atomicfile check compare config counters disk draft history journal loop proc page process recent rollout state supervisord trust unitfile version)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
SIMSTEPS ?= 1000000
FUZZTIME ?= 20s

.DEFAULT_GOAL := help

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: masterd ## masterd and the demo worker, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/demo-worker

masterd:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/masterd

install: masterd ## programs, units, man pages, pages, completions and examples, below PREFIX (and DESTDIR)
	install -D -m 0755 $(BIN)/masterd $(DESTDIR)$(PREFIX)/bin/masterd
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(DOCDIR)/docs $(DESTDIR)$(DOCDIR)/examples/container $(DESTDIR)$(DOCDIR)/examples/prometheus $(DESTDIR)$(DOCDIR)/examples/grafana \
	  $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	for u in masterd.service masterd@.service masterd@.socket masterd-sweep@.service; do \
	  sed 's|=/usr/local/bin/|=$(PREFIX)/bin/|' deploy/systemd/$$u >$(DESTDIR)$(UNITDIR)/$$u && \
	  chmod 0644 $(DESTDIR)$(UNITDIR)/$$u || exit 1; done
	install -D -m 0644 docs/man/masterd.8 $(DESTDIR)$(PREFIX)/share/man/man8/masterd.8
	install -D -m 0644 docs/man/masterd.yaml.5 $(DESTDIR)$(PREFIX)/share/man/man5/masterd.yaml.5
	install -m 0644 SECURITY.md GLOSSARY.md COMPATIBILITY.md $(DESTDIR)$(DOCDIR)/
	install -m 0644 docs/*.md $(DESTDIR)$(DOCDIR)/docs/
	install -m 0644 configs/full.yaml configs/minimal.yaml configs/examples/*.yaml deploy/systemd/strict.conf $(DESTDIR)$(DOCDIR)/examples/
	install -m 0644 deploy/container/* $(DESTDIR)$(DOCDIR)/examples/container/
	install -m 0644 deploy/prometheus/* $(DESTDIR)$(DOCDIR)/examples/prometheus/
	install -m 0644 deploy/grafana/* $(DESTDIR)$(DOCDIR)/examples/grafana/
	@# By this machine's own Go where what was built is for another.
	set -e; own=$(BIN)/masterd; \
	[ "$$($(GO) env GOOS GOARCH)" = "$$($(GO) env GOHOSTOS GOHOSTARCH)" ] || own="env GOOS= GOARCH= $(GO) run ./cmd/masterd"; \
	$$own completion bash >$(DESTDIR)$(BASHDIR)/masterd; \
	$$own completion zsh >$(DESTDIR)$(ZSHDIR)/_masterd; \
	$$own completion fish >$(DESTDIR)$(FISHDIR)/masterd.fish
	chmod 0644 $(DESTDIR)$(BASHDIR)/masterd $(DESTDIR)$(ZSHDIR)/_masterd $(DESTDIR)$(FISHDIR)/masterd.fish

deb: ## a Debian package, into DEBOUT; GOARCH says for which machine
	rm -rf $(BIN)/deb
	$(MAKE) install BIN=$(BIN)/deb/bin DESTDIR=$(BIN)/deb/stage PREFIX=/usr UNITDIR=/usr/lib/systemd/system \
	  ZSHDIR=/usr/share/zsh/vendor-completions LDFLAGS='-s -w $(LDFLAGS)'
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)} \
	  scripts/deb.sh $(BIN)/deb/stage '$(VERSION)' $(patsubst arm,armhf,$(patsubst 386,i386,$(shell $(GO) env GOARCH))) $(DEBOUT)

run: build ## serve the demo on 127.0.0.1:8080 under a master in the foreground
	@echo
	@echo "  The demo is about to be served on http://127.0.0.1:8080. In another terminal, here:"
	@echo
	@echo "    curl -i http://127.0.0.1:8080/ping"
	@echo "    bin/masterd status                # or status --watch"
	@echo "    bin/masterd reload --label v2     # a new generation beside the old, checked, then steered to"
	@echo "    bin/masterd rollback              # and back, at once"
	@echo "    bin/masterd logs -f               # what the workers print"
	@echo
	@echo "  Ctrl-C drains and stops."
	@echo
	@exec $(BIN)/masterd run --config configs/demo.yaml

tour: build ## the story in a terminal, with the numbers of this run at its end
	$(GO) run ./test/tour

# The programs that tests of several packages run are built once, as test/service builds
# them, into a directory that everybody may enter: workers run as other users, too.
PROGRAMS := set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; trap 'exit 1' INT TERM; chmod 755 "$$dir"; \
  $(GO) build -ldflags='-s -w' -o "$$dir/" ./cmd/masterd ./cmd/demo-worker ./test/programs/...; \
  export TEST_PROGRAMS="$$dir"

# Most tests wait for most of their time: more of them than there are cores may run
# beside each other. Those that take longest begin first.
BESIDE ?= -p 4 -parallel 8 -timeout 20m
LONG := ./test/e2e ./test/systemd ./pkg/worker ./test/programs ./pkg/master/listen
test: ## what the README promises
	@$(PROGRAMS); $(GO) test $(BESIDE) $(LONG) $(ALL)

tested:
	@echo $(LONG) $(ALL)

# These run programs that were built without the race detector, and little besides.
NORACE := /test/(e2e|monitoring|systemd|container|programs|release|upgrade)$$
race: ## the same under the race detector
	@$(PROGRAMS); $(GO) test -race $(BESIDE) $(filter-out ./test/%,$(LONG)) $$($(GO) list $(ALL) | grep -vE '$(NORACE)')

sim: ## at least a million steps of the seeded simulation, and the mutations
	$(GO) test ./pkg/master/rollout -run 'TestSimulation' -count=1 -timeout 30m -sim.steps=$(SIMSTEPS)
	scripts/mutate.sh

# A line for each fuzz target: its package and its name. A test looks that none is missing.
FUZZERS = grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' cmd pkg test | sed -E 's|/[^/]*:func | |' | sort -u
# Making an input of some kilobytes small takes a minute by default, in which nothing is tried.
fuzz: ## each fuzz target for FUZZTIME
	@$(FUZZERS) | while read -r t f; do \
	  echo "== $$t $$f"; $(GO) test ./$$t -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s || exit 1; done

fuzzers:
	@$(FUZZERS)

portable:
	@echo $(PORTABLE)

e2e: build ## real processes under a strict load, in full
	$(GO) test ./test/e2e -count=1 -v -timeout 60m -e2e.full
	$(GO) test ./pkg/master/listen -count=1 -v -timeout 20m -run 'Weights|WeightChanges|Sticky' -listen.full

sdk: ## the SDK's modules, each by itself, with each release of Go that they support
	@for go in $(SDKGO); do for m in $(SDK); do echo "== $$m, $$go"; \
	  (cd $$m && export GOWORK=off GOTOOLCHAIN=$$go && $(GO) vet ./... && $(GO) test -run '$(SDKTESTS)' ./...) || exit 1; done; done

supported:
	@echo $(SDKGO)

migration:
	@echo '$(MIGRATION)'

examples: ## the programs below examples/, modules of their own, and their tests
	@for m in examples/*/go.mod test/examples/go.mod; do d=$$(dirname $$m); echo "== $$d"; \
	  (cd $$d && export GOWORK=off && $(GO) vet ./... && $(GO) test ./...) || exit 1; done

# Debian's packages of them: gunicorn uvicorn nodejs nginx-light haproxy caddy puma php-fpm
# php-cli apache2 lighttpd tomcat10 default-jdk-headless redis-server.
programs: ## servers as they are packaged, each reloaded 30 times; all of them must be installed
	$(GO) test ./test/programs -count=1 -v -timeout 60m -programs.reloads 30 -programs.must
	$(GO) test ./test/systemd -count=1 -v -timeout 20m -run TestProgramsWithinTheUnits -systemd.full

# Three minutes and more for each program.
table: ## the table of docs/programs.md: 16 and 64 kept connections, 100,000 requests on them
	$(GO) test ./test/programs -count=1 -v -timeout 6h -run '^TestPrograms$$' -programs.must \
	  -programs.reloads 30 -programs.kept 16,64 -programs.requests 100000

h2spec: build ## HTTP/2's specification against a worker, with and without reloads: the same verdicts
	cd test/h2spec && GOWORK=off $(GO) run . -programs $(CURDIR)/$(BIN)

# Debian's package chromium; without it these tests skip, but not where CI=true. With
# BROWSER_PICTURES=DIR they leave pictures of each state there.
browser: build ## the live page in a real Chromium: what it shows and does, by keyboard, narrow and wide
	cd test/browser && export GOWORK=off && $(GO) vet ./... && $(GO) test -count=1 -parallel 4 ./...

# Debian's package prometheus. It listens on a free port, for as long as the test runs.
monitoring: ## a real Prometheus with the rules of deploy/prometheus; it must be installed
	$(GO) test ./test/monitoring -count=1 -v -timeout 20m -monitoring.prometheus

bench: build ## what a reload, a request and an idle master cost
	$(GO) run ./test/bench

lint: ## formatting, vet on every platform, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not gofmt'd:"; gofmt -l .; exit 1; }
	GOWORK=off $(GO) build ./...
	$(GO) vet $(ALL)
	GOOS=linux GOARCH=arm64 $(GO) vet $(ALL)
	GOOS=darwin GOARCH=arm64 $(GO) vet $(PORTABLE)
	GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/...
	$(GO) run $(STATICCHECK) $(ALL)

clean: ## remove what was built
	rm -rf $(BIN)

.PHONY: help build masterd install deb run tour test tested race sdk supported migration sim fuzz fuzzers portable e2e examples programs table h2spec browser monitoring bench lint clean
