# `make` alone prints the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/external-lb/external-lb/internal/host.version=$(VERSION)
GENERATE := go tool -modfile=tools/go.mod controller-gen
CHART := charts/external-lb
TOOLS := monitoring recording site# the modules below tools/ that have tests
PACKAGES := nginx libnginx-mod-stream openssh-server openssh-client sudo iproute2 nftables iptables ipset conntrack haproxy keepalived procps openssl
INSPECT := rpm# to install what is released
MONITORING := prometheus# beside them, for tests of alerts
MACHINES := e2fsprogs gcc libc6-dev flex bison bc xz-utils# beside them, to build the kernel of hosts with LVS, which are User-Mode Linux
BROWSER := chromium chromium-driver fonts-dejavu-core# for the tests of the page of `external-lb ui`: 140 MB to fetch, 400 MB on the disk

# One set of flags for all that is compiled, the Kubernetes of the test cluster too, so that nothing is
# compiled twice. What runs here is stripped: the compiler need not write DWARF, a tenth of its work.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false -gcflags=all=-dwarf=false $(GOFLAGS)

.DEFAULT_GOAL := help
.PHONY: help
help: ## Print the targets; times are of 2 CPUs, first with Go's cache and then without
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use it
.PHONY: demo demo-check
ENGINE ?= nginx
HOSTS ?= 1
DEMO := bin/demo -engine $(ENGINE) -hosts $(HOSTS)
demo: $(if $(filter lvs,$(ENGINE)),deps-machines,deps-proxies) build ## Show it at work, first with files, then on a real cluster, which stays up until Ctrl-C; ENGINE=nginx|haproxy|lvs, HOSTS=2 for a fail-over. An address in 15 s, or 4 min
	$(DEMO)

demo-check: $(if $(filter lvs,$(ENGINE)),deps-machines,deps-proxies) build ## The demo without staying up: proves every act of it. 15 s, or 6 min
	dir=$$(mktemp -d) && trap "rm -rf $$dir" EXIT && $(DEMO) -check -dir "$$dir/cluster"

.PHONY: bench bench-metallb bench-all metallb
BENCHFLAGS ?=
bench: $(if $(filter lvs,$(ENGINE)),deps-machines,deps-proxies) build ## Measure ENGINE=nginx|haproxy|lvs on a cluster with a real balancer: tables, and bench.json; BENCHFLAGS: test/README.md. 25 min
	go run ./test/bench -engine $(ENGINE) $(BENCHFLAGS)

bench-metallb: deps-proxies build metallb ## Measure MetalLB's controller, and ours beside it on the same cluster. 10 min, and 5 more the first time
	go run ./test/bench -engine metallb,nginx -suites life $(BENCHFLAGS)

bench-all: deps-machines build metallb ## Measure everything at all sizes, for docs/reference/performance.md. Hours; wants an idle machine with 24 GB
	go run ./test/bench -engine nginx,haproxy,lvs,metallb -full -json docs/reference/performance.json $(BENCHFLAGS)
	$(MAKE) docs

metallb: # what is measured beside ours, from the module that MetalLB releases
	cd test/bench/metallb && GOGC=400 go build -ldflags '-s -w' -o ../../../bin/metallb-controller go.universe.tf/metallb/controller

.PHONY: bench-plan
bench-plan: ## Measure plans of large clusters: time, and the heap at its peak
	go test -run '^$$' -bench '^BenchmarkPlan$$' ./internal/plan

.PHONY: build
build: ## Build bin/external-lb, and the demo and the test cluster beside it. 5 s, or 2 min
	GOGC=400 go build -ldflags '-s -w' -ldflags 'github.com/external-lb/external-lb=$(LDFLAGS)' -o bin/ . ./test/demo ./test/cluster/cmd/testcluster

.PHONY: helm
helm: ## Build bin/helm, with which the chart is tested. 5 s, or 2 min
	cd tools/helm && go build -ldflags '-s -w' -o ../../bin/helm helm.sh/helm/v4/cmd/helm

IMG ?= ghcr.io/external-lb/external-lb:$(VERSION)

.PHONY: docker-build docker-push
docker-build: ## Build the manager's image as IMG
	docker build --build-arg VERSION=$(VERSION) -t $(IMG) .

docker-push: ## Push IMG
	docker push $(IMG)

.PHONY: deploy undeploy
deploy: ## Install the CRDs and the manager in the cluster of your kubeconfig; an IMG that you give is in config/manager from then on
ifneq ($(origin IMG),file)
	cd config/manager && go tool -modfile=../../tools/release/go.mod kustomize edit set image 'external-lb=$(IMG)'
endif
	kubectl apply --server-side -k config/default

undeploy: ## Remove what deploy installed; `external-lb uninstall` comes before
	kubectl delete --ignore-not-found -k config/default

##@ Release it
.PHONY: release release-check
DIST ?= dist
release: ## Build all that is released of VERSION=v0.1.0 into DIST=dist, the same bytes each time. 30 s, or 6 min
	tools/release/release.sh "$(VERSION)" "$(DIST)"

release-check: deps ## Build it twice, in two places, and look into all that is in it. 1 min, or 7
	go test -count=1 -timeout 30m $(TESTFLAGS) ./test/release

##@ Test it (test/README.md says more)
# Each package is in one of these lists, or is the suite of test/e2e or test/octavia, or of the modules test/crd and test/openapi.
QUICK = $$(go list ./... | grep -v /test/) ./test/conformance/...
CLUSTER = $$(go list ./test/... | grep -v -e /test/e2e -e /test/conformance -e /test/octavia)

.PHONY: test test-quick test-cluster test-e2e
test: test-quick test-cluster test-e2e ## Every test. Needs root, for network namespaces. 27 min, or 46

test-quick: deps-quick ## Units, goldens, each daemon's own check, and the controllers on a real API server; no cluster. 3 min, or 11
	go test -timeout 20m $(TESTFLAGS) $(QUICK)
	for module in $(TOOLS); do (cd tools/$$module && go test -count=1 $(TESTFLAGS) .); done # -count: Go does not see changes outside of a module
	cd test/crd && for flags in '' '-modfile=oldest.mod -tags oldest'; do \
	  go test -count=1 $$flags $(TESTFLAGS) .; done
	cd test/openapi && go test -count=1 $(TESTFLAGS) .

test-cluster: deps ## The test cluster itself, a toy engine, the chart, a release, that the documentation is true on it, and faults on it. 3 min
	go test -timeout 30m $(TESTFLAGS) $(CLUSTER)

test-e2e: deps ## What users see, on every engine: requests through real balancers, events, statuses; a table of rows. 20 min
	cd test/e2e && go test -timeout 3h $(TESTFLAGS) # from its directory: go shows what it says at once, such as the tables of rows

.PHONY: test-octavia
test-octavia: deps-octavia ## The provider for OpenStack, with a real Octavia that carries traffic. 10 min, and 3 to build Octavia the first time
	go test -count=1 -parallel 4 -timeout 40m -v $(TESTFLAGS) ./test/octavia

.PHONY: conformance
conformance: deps-machines $(if $(filter octavia,$(ENGINE)),deps-octavia) ## What Kubernetes expects, row by row, on one ENGINE=nginx|haproxy|lvs, haproxy+lvs with datagrams in the kernel, or octavia: a table. 10 min
	go run ./test/conformance/run -engine $(ENGINE)

.PHONY: test-versions
VERSIONS ?= $(patsubst test/cluster/kube/%.mod,%,$(wildcard test/cluster/kube/1.*.mod))
test-versions: deps ## The same, on nginx, on older releases of Kubernetes: VERSIONS="1.34 1.35 1.36". 20 min, or 40
	@for version in $(VERSIONS); do echo "Kubernetes $$version:"; \
	  go run ./test/conformance/run -engine nginx -kubernetes $$version || exit; done

.PHONY: test-crds
MINORS ?= 31 32 33 34 35 36
test-crds: ## Our kinds, looked at by the code of each API server between the oldest and the newest, which test-quick has: MINORS="31 32". 5 min, or 12
	test/crd/minor.sh $(MINORS)

.PHONY: chaos
STEPS ?= 1000
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
OFTEN ?= # kinds of steps, with commas between them
chaos: deps-machines ## Take a cluster with ENGINE=nginx|haproxy|lvs through STEPS=1000 random faults; the same ones for the same SEED
	cd test/chaos && go test -count=1 -timeout 0 $(TESTFLAGS) -run '^TestSchedule_' -engine $(ENGINE) -steps $(STEPS) -seed $(SEED) -often '$(OFTEN)'

.PHONY: fuzz
fuzz: ## Fuzz all that reads what others wrote, TIME=1m for each target; ONLY=regex of PACKAGE.TARGET, LANES=1 at a time. A table
	test/fuzz.sh

.PHONY: lint
lint: ## Vet, staticcheck, gofmt, the directions of imports and the workflows. 1 min, or 5
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v -e zz_generated -e '\.pb\.go$$') | tee /dev/stderr)"
	go vet ./...
	cd test/crd && go vet .
	cd test/openapi && go vet .
	cd tools/release && go vet ./image
	for module in $(TOOLS); do (cd tools/$$module && go vet .); done
	go tool -modfile=tools/go.mod staticcheck ./...
	go tool -modfile=tools/go.mod actionlint
	go test ./internal/archtest

##@ Change it
.PHONY: generate
generate: ## Generate the deep copies of the kinds; `go generate ./internal/lb ./internal/wire` has the wire's messages
	$(GENERATE) object paths=./api/...

.PHONY: manifests
manifests: ## Generate the CRDs, the rights and the dashboards, for the chart too
	$(GENERATE) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(GENERATE) rbac:roleName=external-lb paths=./controllers/... output:rbac:artifacts:config=config/rbac
	cd tools/monitoring && go run . ../../config/components/dashboards
	rm -rf $(CHART)/files && mkdir -p $(CHART)/files/crds $(CHART)/files/rbac $(CHART)/files/tls $(CHART)/files/pods $(CHART)/files/ui $(CHART)/files/alerts $(CHART)/files/dashboards
	cp config/crd/bases/*.yaml $(CHART)/files/crds
	cp config/rbac/*role*.yaml $(CHART)/files/rbac
	cp config/components/tls/role*.yaml $(CHART)/files/tls
	cp config/components/pods/role*.yaml $(CHART)/files/pods
	cp config/components/ui-service/*role*.yaml $(CHART)/files/ui
	cp config/components/alerts/prometheus_rule.yaml $(CHART)/files/alerts
	cp config/components/dashboards/*.json $(CHART)/files/dashboards

.PHONY: docs
docs: ## Generate the reference: kinds, commands, capabilities, limits, conformance, what was measured, values of the chart
	go tool -modfile=tools/go.mod crd-ref-docs --log-level=ERROR --source-path=api/v1alpha1 --config=docs/gen/crd-ref-docs.yaml --renderer=markdown --output-path=docs/reference/kinds.md
	go run ./docs/gen
	go tool -modfile=tools/helm/go.mod helm-docs --chart-search-root=$(CHART) --sort-values-order=file --log-level=warning

.PHONY: site
site: ## Make the site of docs/ in bin/site: open bin/site/index.html. 5 s
	rm -rf bin/site
	cd tools/site && go run . ../.. ../../bin/site

.PHONY: recording
RECORDING := docs/images/demo
recording: deps-proxies build ## Record the demo with two hosts, for the README. 30 s, or 6 min
	cd tools/recording && go build -o ../../bin/recording .
	dir=$$(mktemp -d) && trap "rm -rf $$dir" EXIT && bin/recording -cast $(RECORDING).cast -svg $(RECORDING).svg \
	  -title 'external-lb: a Service of type LoadBalancer gets an address that answers' bin/demo -check -hosts 2 -dir "$$dir/cluster"

.PHONY: verify
verify: generate manifests docs ## Fail if kinds, rights, dashboards or the reference are not as committed. 1 min, or 3
	go mod tidy -diff
	cd test/crd && go mod tidy -diff
	cd test/openapi && go mod tidy -diff
	for module in $(TOOLS); do (cd tools/$$module && go mod tidy -diff); done
	go mod verify
	git diff --exit-code -- api charts config docs

##@ Prepare
# Call it with packages: installs those that are missing.
install-missing = @missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "as root: apt-get install -y --no-install-recommends" $$missing >&2; exit 1; fi; \
	  echo "installing" $$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

.PHONY: deps deps-quick deps-machines deps-octavia deps-proxies
deps: ## Install the Debian packages that the tests and the demo need, if any is missing
	$(call install-missing,$(PACKAGES) $(MONITORING) $(BROWSER) $(MACHINES) $(INSPECT))

deps-quick: # what tests without a cluster need
	$(call install-missing,$(PACKAGES) $(MONITORING) $(BROWSER))

deps-octavia: # what builds a root file system with Octavia
	$(call install-missing,$(PACKAGES) debootstrap)

deps-machines: # what hosts with LVS need
	$(call install-missing,$(PACKAGES) $(MACHINES))

deps-proxies: # what hosts with nginx or HAProxy need
	$(call install-missing,$(PACKAGES))

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin dist bench.json
