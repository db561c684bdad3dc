# `make` alone prints the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/external-lb/external-lb/internal/cli.version=$(VERSION)
GENERATE := go tool -modfile=tools/go.mod controller-gen
PACKAGES := nginx libnginx-mod-stream openssh-server openssh-client sudo iproute2 nftables iptables ipset conntrack haproxy keepalived procps qemu-system-x86 e2fsprogs

.DEFAULT_GOAL := help
.PHONY: help
help: ## Print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use it
.PHONY: demo
ENGINE ?= nginx
HOSTS ?= 1
demo: deps build ## Show it at work on a real cluster; ENGINE=nginx|haproxy|lvs, HOSTS=2 for a fail-over; stays up until Ctrl-C
	go run ./test/demo -engine $(ENGINE) -hosts $(HOSTS)

.PHONY: demo-check
demo-check: deps build ## The demo without staying up; fails if anything in it failed
	dir=$$(mktemp -d) && trap "rm -rf $$dir" EXIT && go run ./test/demo -check -dir "$$dir/cluster" -engine $(ENGINE) -hosts $(HOSTS)

.PHONY: bench
bench: deps build ## Measure on a cluster with a real balancer, ENGINE=nginx|haproxy|lvs: a table, and bench.json
	go run ./test/bench -engine $(ENGINE)

.PHONY: build
build: ## Build bin/external-lb and bin/testcluster
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/external-lb .
	go build -o bin/testcluster ./test/cluster/cmd/testcluster

IMG ?= ghcr.io/external-lb/external-lb:latest

.PHONY: docker-build docker-push
docker-build: ## Build the manager's image as IMG
	docker build --build-arg VERSION=$(VERSION) -t $(IMG) .

docker-push: ## Push IMG
	docker push $(IMG)

.PHONY: deploy undeploy
deploy: ## Install the CRDs and the manager with IMG in the cluster of your kubeconfig
	kubectl kustomize config/default | sed 's#image: ghcr.io/external-lb/external-lb:latest#image: $(IMG)#' | kubectl apply --server-side -f -

undeploy: ## Remove what deploy installed; Balancers must be deleted before
	kubectl delete --ignore-not-found -k config/default

##@ Test it
.PHONY: test
test: deps ## Every test: unit, golden, API server, end to end. Needs root, for network namespaces
	go test -timeout 30m $(TESTFLAGS) $$(go list ./... | grep -v /test/e2e)
	cd test/e2e && go test -timeout 75m $(TESTFLAGS) # from its directory: go shows what it says at once, such as the tables of rows

.PHONY: conformance
conformance: deps ## What Kubernetes expects, row by row, on ENGINE=nginx|haproxy|lvs: a table
	go run ./test/conformance/run -engine $(ENGINE)

.PHONY: test-unit
test-unit: ## The tests that need no cluster
	go test ./api/... ./internal/...

.PHONY: fuzz
fuzz: ## Fuzz what parses and renders, a minute each
	@for package in $$(grep -rlE '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' $$package | sed 's/func //'); do \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 1m ./$$package; done; done

.PHONY: lint
lint: ## Vet, staticcheck, gofmt and the directions of imports
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v -e zz_generated -e '\.pb\.go$$') | tee /dev/stderr)"
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	go test ./internal/archtest

##@ Change it
.PHONY: generate
generate: ## Generate code: deep copies
	$(GENERATE) object paths=./api/...

.PHONY: manifests
manifests: ## Generate the CRDs and the rights
	$(GENERATE) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(GENERATE) rbac:roleName=external-lb paths=./controllers/... output:rbac:artifacts:config=config/rbac

.PHONY: docs
docs: ## Generate the reference: kinds, commands, capabilities, conformance
	go tool -modfile=tools/go.mod crd-ref-docs --log-level=ERROR --source-path=api/v1alpha1 --config=docs/gen/crd-ref-docs.yaml --renderer=markdown --output-path=docs/reference/kinds.md
	go run ./docs/gen

.PHONY: verify
verify: generate manifests docs ## Fail if anything generated is not as committed
	go mod tidy -diff
	go mod verify
	git diff --exit-code -- api config docs

##@ Prepare
.PHONY: deps
deps: ## Install the Debian packages that the tests and the demo need, if any is missing
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "as root: apt-get install -y --no-install-recommends" $$missing >&2; exit 1; fi; \
	  echo "installing" $$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin bench.json
