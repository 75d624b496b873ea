# SPDX-License-Identifier: Apache-2.0
#
# cofferdam: everything a person or CI does with the checkout. `make help` lists the targets.
# The two that matter: `make run` (set up, build, show the main job) and `make test` (all tests).

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-builtin-rules

# Built things live in the checkout: bin/ for binaries, .cache/ for everything else.
CACHE  := $(CURDIR)/.cache
HOME_  := $(CACHE)/home
IMAGES := $(CACHE)/images
GOLANGCI_VERSION := v2.15.0
AZURITE_VERSION := 3.35.0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
export CGO_ENABLED := 0
GOFLAGS_BUILD := -trimpath -buildvcs=false -ldflags='-s -w -buildid='

# Debian packages. RUN: to build and run. TEST: independent oracles that the tests compare with.
PKGS_RUN  := qemu-system-x86 gcc libc6-dev libseccomp-dev pkg-config e2fsprogs ca-certificates debian-archive-keyring
PKGS_TEST := cryptsetup-bin erofs-utils umoci openssl xz-utils cpio git etcd-server softhsm2

# Rooms: the directories that hold Go code of the module.
ROOMS := $(shell find . -mindepth 1 -maxdepth 1 -type d -not -name '.*' -not -name bin -not -name docs -not -name scripts)
GO_FILES := $(shell find $(ROOMS) -name '*.go' -o -name '*.rego' -o -name '*.lock' 2>/dev/null)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: run
run: setup build guest $(addprefix $(IMAGES)/,redis.tar openssl.tar sidecar.tar) ## set everything up, then show the main job, a key released, data on foreign storage, and six attacks refused
	bin/cofferdam tour --home $(HOME_) $(IMAGES)/redis.tar --sidecar-image $(IMAGES)/sidecar.tar --application-image $(IMAGES)/openssl.tar

.PHONY: test
test: setup setup-test build guest images ## run all tests (real VMs included)
	COFFERDAM_CACHE=$(CACHE) go test -timeout 60m ./...

.PHONY: race
race: setup setup-test build guest images ## run the tests of the concurrent parts under the race detector
	CGO_ENABLED=1 COFFERDAM_CACHE=$(CACHE) go test -race -short -timeout 60m ./attest/... ./collateral/... ./internal/agent/... ./internal/attestsvc/... ./internal/audit/... ./internal/auth/... ./internal/channel/... ./internal/devdomain/... ./internal/group/... ./internal/groupapi/... ./internal/kbs/... ./internal/layer/... ./internal/sandbox/... ./internal/serve/... ./internal/sidecar/... ./internal/simsp/... ./internal/store/... ./internal/token/... ./internal/vault/... ./internal/volume/blob/... ./internal/volume/blockcache/... ./internal/volume/shadow/... ./policy/... ./ratls/... ./release/... ./verify/...

.PHONY: oracle
oracle: ## have independent programs talk to ours: an enforcer of policies, Azure's and Amazon's clients (modules of their own, for tests only)
	cd internal/oracle && go test -tags rego -timeout 60m ./...
	cd internal/vault/rest/azureclients && go test ./...
	cd internal/groupapi/azureclients && go test ./...
	cd internal/volume/blob/storageclients && COFFERDAM_CACHE=$(CACHE) go test ./...

.PHONY: bench
bench: setup setup-test build guest images ## measure, as ratios against references in the same run
	scripts/bench

.PHONY: lint
lint: $(CACHE)/tools/golangci-lint-$(GOLANGCI_VERSION) ## vet, format and lint
	@unformatted=$$(gofmt -l $(ROOMS)); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$< run ./...

.PHONY: fuzz-short
fuzz-short: ## run every fuzz target for ten seconds
	scripts/fuzz 10s

.PHONY: docs
docs: build ## check that the documentation names only commands and files that exist
	go test ./internal/treetest -run 'TestDocs' -count=1

.PHONY: generate
generate: ## regenerate the protocol code (needs protobuf-compiler)
	scripts/generate

.PHONY: build
build: bin/cofferdam bin/cofferdam-guest bin/cofferdam-sidecar bin/runc ## build the binaries into bin/

.PHONY: pkcs11
pkcs11: bin/cofferdam-pkcs11 ## build the helper for vaults whose root key is in a hardware security module

.PHONY: guest
guest: build ## build the guest image (kernel and initramfs) and its reference values
	bin/cofferdam guest build --home $(HOME_) --agent bin/cofferdam-guest --runc bin/runc

.PHONY: images
images: $(addprefix $(IMAGES)/,busybox.tar redis.tar nginx.tar python.tar openssl.tar layers7.tar sidecar.tar) ## build OCI archives of unmodified Debian software, and of the sidecars

.PHONY: clean
clean: ## remove what was built (keeps downloads)
	rm -rf bin $(HOME_) $(IMAGES)

# The version is linked into the command only: the guest's bytes are measured, and depend on its sources alone.
bin/cofferdam: $(GO_FILES) go.mod go.sum
	go build -trimpath -buildvcs=false -ldflags='-s -w -buildid= -X cofferdam.dev/internal/cli.linkedVersion=$(VERSION)' -o $@ ./cmd/cofferdam

bin/cofferdam-guest: $(GO_FILES) go.mod go.sum
	go build $(GOFLAGS_BUILD) -o $@ ./cmd/cofferdam-guest

bin/cofferdam-sidecar: $(GO_FILES) go.mod go.sum
	go build $(GOFLAGS_BUILD) -o $@ ./cmd/cofferdam-sidecar

# A program of its own, and not built by default: modules are shared libraries in C.
bin/cofferdam-pkcs11: $(GO_FILES) go.mod go.sum
	CGO_ENABLED=1 go build -trimpath -buildvcs=false -ldflags='-s -w' -o $@ ./cmd/cofferdam-pkcs11

bin/debimage: $(GO_FILES) go.mod go.sum
	go build $(GOFLAGS_BUILD) -o $@ ./cmd/debimage

# Without checkpoints, which nobody asks for, and what generates its manual: a smaller program that starts sooner.
bin/runc: guest/runc/go.mod guest/runc/go.sum Makefile
	cd guest/runc && CGO_ENABLED=1 go build -tags 'netgo osusergo seccomp runc_nocriu urfave_cli_no_docs' -trimpath -buildvcs=false -ldflags '-s -w -buildid= -linkmode external -extldflags -static' -o $(CURDIR)/$@ github.com/opencontainers/runc

$(IMAGES)/sidecar.tar: bin/debimage bin/cofferdam-sidecar
	bin/debimage -out $(IMAGES) -only sidecar -sidecar bin/cofferdam-sidecar
	@mkdir -p $(HOME_) && cp $@ $(HOME_)/sidecar.tar # where `group up` looks for it
	@touch -c $@

$(IMAGES)/%.tar: bin/debimage
	bin/debimage -out $(IMAGES) -only $*
	@touch -c $@

$(CACHE)/tools/golangci-lint-$(GOLANGCI_VERSION):
	GOBIN=$(CACHE)/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(CACHE)/tools/golangci-lint $@

# Set-up installs only what is missing, through apt as root. Without root it says what to install.
.PHONY: setup setup-test
setup:
	@scripts/setup $(PKGS_RUN)
setup-test: $(CACHE)/tools/azurite/node_modules/azurite/package.json
	@scripts/setup $(PKGS_TEST)

# The storage emulator that volumes are tried with: a program of node's, from its registry.
$(CACHE)/tools/azurite/node_modules/azurite/package.json:
	@command -v npm >/dev/null || scripts/setup nodejs npm
	@rm -rf $(CACHE)/tools/azurite $(CACHE)/tools/azurite.new && mkdir -p $(CACHE)/tools/azurite.new
	npm install --prefix $(CACHE)/tools/azurite.new --ignore-scripts --no-audit --no-fund --loglevel=error azurite@$(AZURITE_VERSION)
	@mv $(CACHE)/tools/azurite.new $(CACHE)/tools/azurite # whole or not at all
