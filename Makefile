# What contributors run. `make` alone lists it.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-builtin-rules

# Purser is built without cgo. Everything else is too, and with the flags of the binary, so that all targets share one
# build cache: the packages are compiled once on a fresh machine.
export CGO_ENABLED := 0
export GOFLAGS     := $(strip $(filter-out -trimpath,$(GOFLAGS)) -trimpath)

# Flags for `purser demo`, for example DEMO_FLAGS=--once.
DEMO_FLAGS ?=
# Flags for the benchmark of metering: bin/bench-metering -help lists them.
BENCH_FLAGS ?=
# Which tests and benchmarks: PKG=./internal/store RUN=TestPaging
PKG ?= ./...
RUN ?= .

LINT    := bin/golangci-lint
GOFUMPT := bin/gofumpt

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/purser, a static binary
	go build -ldflags '-s -w' -o bin/purser ./cmd/purser

.PHONY: demo
demo: build ## start a server with sample buckets and measure them; DEMO_FLAGS=--once ends after that
	bin/purser demo $(DEMO_FLAGS)

.PHONY: test
test: ## run all tests, on SQLite and PostgreSQL; PKG=./internal/store RUN=Name for some
	scripts/test-services go test -run '$(RUN)' $(PKG)

.PHONY: race
race: ## run all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 scripts/test-services go test -race -run '$(RUN)' $(PKG)

.PHONY: check
check: ## run what CI runs: format, vet, lint, generate-and-diff, tests
	.ci/run

.PHONY: fmt
fmt: $(GOFUMPT) ## format the code
	$(GOFUMPT) -w .

.PHONY: fmt-check
fmt-check: $(GOFUMPT) ## fail if code is not formatted
	@out=$$($(GOFUMPT) -l .); [ -z "$$out" ] || { printf 'not formatted, run make fmt:\n%s\n' "$$out" >&2; exit 1; }

.PHONY: vet
vet: ## run go vet
	go vet ./...

.PHONY: lint
lint: $(LINT) ## run the linter, which also holds the import table
	$(LINT) run $(PKG)

.PHONY: lint-rules
lint-rules: $(LINT) ## prove that the import rules of the linter bite
	scripts/test-lint

.PHONY: generate
generate: ## make api/openapi.json and internal/oas from api/openapi.yaml
	go generate ./...

.PHONY: generate-check
generate-check: ## fail if generated files are not up to date
	scripts/check-generated

.PHONY: bench
bench: build ## measure the server beside a bare handler, as in docs/benchmarks.md
	scripts/need wrk
	go run ./e2e/bench -purser bin/purser

.PHONY: bench-metering
bench-metering: build bin/peers/rclone bin/peers/mc ## measure purser du beside its peers; BENCH_FLAGS='-cases plain -rounds 3' for less
	-scripts/need gdu
	go build -o bin/timed ./e2e/benchmetering/timed
	go build -o bin/bench-metering ./e2e/benchmetering
	bin/bench-metering $(BENCH_FLAGS)

# The peers have modules of their own, so that each is built with the versions that its authors chose.
bin/peers/%: e2e/peers/%/go.mod e2e/peers/%/go.sum
	cd e2e/peers/$* && nice go build -p 2 -ldflags '-s -w' -o ../../../bin/peers/ tool

.PHONY: bench-growth
bench-growth: build ## measure what grows with what is stored, and what must not
	scripts/need wrk
	go run ./e2e/bench -purser bin/purser -growth 10000000
	scripts/test-services go test -run '^$$' -bench Tick -benchtime 50x -timeout 1h ./internal/metering

.PHONY: bench-go
bench-go: ## run the Go benchmarks; PKG and RUN choose some
	scripts/test-services go test -run '^$$' -bench '$(RUN)' -benchmem $(PKG)

.PHONY: soak
soak: ## run the long tests: kills, sleeping nodes, thousands of models, and each fuzz target for a minute
	PURSER_CRASH_CYCLES=500 go test ./e2e -run TestKilled -count=1 -timeout 2h -v
	PURSER_KILL_CYCLES=50 PURSER_SLEEP_CYCLES=20 PURSER_SLEEP=2m scripts/test-services \
		go test ./e2e -run 'TestANode' -count=1 -timeout 2h -v
	go test -run 'TestEngineIsExact|TestSumsAreExact|TestAnyCutIsExact' -count=1 -cpu 1,4 -timeout 2h \
		./internal/s3bucket ./internal/metering ./internal/posixtree -rapid.checks 5000
	scripts/fuzz 1m

.PHONY: vuln
vuln: ## look for known vulnerabilities (needs vuln.go.dev)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

.PHONY: tools
tools: $(LINT) $(GOFUMPT) ## build the linter and the formatter into bin/

# One build for both; a grouped target, so that make -j does not start it twice.
$(LINT) $(GOFUMPT) &: tools/go.mod tools/go.sum
	cd tools && go build -o ../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint mvdan.cc/gofumpt
	@touch $(LINT) $(GOFUMPT)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
