# amlaks. `make help` says what each target is for.
GO      ?= go
VERSION ?= 0.1.0-dev
BIN     := bin
# Only these: the front end must be static, and its bytes the same wherever it is built.
FLAGS   := -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: help build quickstart demo test bench lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '%-11s %s\n' "$$t" "$$d"; done

build: ## the binaries, into bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build $(FLAGS) -o $(BIN)/ ./cmd/amlaks ./cmd/amlaks-fe ./cmd/amlaks-sandbox

quickstart: ## the quickstart example's scoring server, into examples/quickstart/score/
	CGO_ENABLED=0 $(GO) build $(FLAGS) -o examples/quickstart/score/server ./examples/quickstart/server

demo: build quickstart ## the main job, told as a story, on a sandbox of its own
	@examples/demo.sh

test: lint build quickstart ## vet, staticcheck, gofmt and every test
	$(GO) test -timeout 25m -parallel 8 ./... # most of it waits: for servers, not for a processor

bench: build ## what amlaks set out to reach, measured beside its peers (ROW=validate, plan, converge, diff or go)
	$(GO) build -o $(BIN)/amlaks-bench ./testdata/bench
	$(BIN)/amlaks-bench -row '$(ROW)'

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l cmd spec schema reconcile examples testdata)" || { gofmt -d cmd spec schema reconcile examples testdata; exit 1; }
	$(GO) vet ./... ./testdata/bench
	$(GO) tool staticcheck ./... ./testdata/bench

clean: ## what the other targets made
	rm -rf $(BIN) .demo BENCH.json examples/quickstart/score/server
