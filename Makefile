# Drover's commands; `make` alone prints them. Every recipe uses the project's own Node 24 (an npm package).
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
WORLD ?= lab

.PHONY: help setup tools build check test unit lab-test chaos-lab traces bench-operations bench-migration demo lab clean-lab bench bench-network bench-provider golden generate install-provider clean

help: ## Print the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-18s %s\n", $$1, $$2 }'

setup: node_modules/.setup ## Install what is missing: npm packages, and (asking first) Debian packages for the lab

node_modules/.setup: package-lock.json
	@test/tools/setup.sh npm
	@touch $@

tools: node_modules/.setup ## Find or build the pinned tools: opa, Terraform or OpenTofu
	@test/tools/setup.sh tools

build: node_modules/.setup ## Bundle the provider, generate the CDKTF bindings, compile the policies
	@test/tools/setup.sh build

check: node_modules/.setup ## Format, lint, types, tidy, Rego: under a minute
	@biome check --error-on-warnings . && oxlint --type-aware --deny-warnings && tsc -p tsconfig.json && tsc -p stacks/tsconfig.json
	@node --experimental-vm-modules node_modules/jest/bin/jest.js test/tidy.test.ts

test: ## Everything: types, lint, unit, properties, policy, provider conformance, simulation, lab
	@test/tools/test.sh

unit: build ## The tests that need no root: unit, property, policy, conformance, simulation
	@test/tools/setup.sh opentofu && node --experimental-vm-modules node_modules/jest/bin/jest.js

lab-test: build ## The story on real libvirt, QEMU, sshd and Terraform (root)
	@node --experimental-vm-modules node_modules/jest/bin/jest.js -c test/lab/jest.config.js

demo: ## Play the whole story: WORLD=lab (default: real virtual machines, root) or WORLD=simulated
	@test/tools/setup.sh demo $(WORLD) && node test/lab/story/demo.ts --world $(WORLD)

lab: ## Raise the lab and a shepherd and leave them running to play with
	@test/tools/setup.sh demo lab && node test/lab/story/demo.ts --world lab --stay

clean-lab: ## Remove everything the lab made, also after a kill
	@node shepherd/cli/main.ts lab down

bench: build ## Benchmarks, each beside its rival in one run; prints ratios
	@node test/bench/run.ts

bench-provider: build ## The provider beside its rivals: plans, apply and destroy of 100 machines, start, size
	@node test/bench/run.ts provider

bench-network: ## LANs: throughput and latency, rates, cut-over, hosts made as wished; each beside its rival (root)
	@node test/bench/run.ts network host-network

bench-policy: build ## Policy: decisions beside `opa run --server`, plan check, activation, replay, memory
	@node test/bench/run.ts policy policy-history

bench-migration: ## Moves over a WAN beside virsh: one machine, an environment, predictions (root; RUNS=20 is the campaign, QUICK=1 a look)
	@node test/bench/run.ts migration

bench-operations: ## What operations cost: writes, steps, restarts, many machines, virtual time
	@node test/bench/run.ts operations

traces: build ## Traces through a real OpenTelemetry Collector, built once with Go (root: also from a real libvirt)
	@OTEL_COLLECTOR="$$(node test/tools/build-collector.ts)" && export OTEL_COLLECTOR && \
	node --experimental-vm-modules node_modules/jest/bin/jest.js test/simulation/tracing.test.ts && \
	node --experimental-vm-modules node_modules/jest/bin/jest.js -c test/lab/jest.config.js test/lab/stopped-shepherd.test.ts

chaos-lab: build ## Every blow on real hosts in the middle of real operations (root, about a quarter of an hour)
	@CHAOS_MINUTES=600 node --experimental-vm-modules node_modules/jest/bin/jest.js -c test/lab/jest.config.js test/lab/chaos.test.ts

golden: ## Rewrite the golden files; commit only a diff you can explain
	@GOLDEN=write node --experimental-vm-modules node_modules/jest/bin/jest.js

generate: build ## Write generated files again: bindings, policy schemas, provider and error docs
	@node stacks/generate.ts && node test/tools/policy-schemas.ts --write && node provider/docs.ts && node test/tools/errors-doc.ts

install-provider: build ## Install the provider for your own Terraform (a filesystem mirror below ~/.terraform.d)
	@node provider/install.ts

clean: ## Remove build output and caches inside this folder
	@rm -rf dist provider/dist stacks/.gen coverage out node_modules/.setup
