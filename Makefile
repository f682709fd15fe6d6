# Each target does all of its own set-up: hack/bootstrap makes .venv, `python -m controlplane build` the API server,
# `python -m guest build` the image that real guests boot from, `python -m image build` the operator's container image.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-integration test-contract test-guest test-image test-node test-chart lint fmt crds chart docs docs-tables drawings argocd pve-roles bench lock audit secrets release-check image sbom kind clean bootstrap

PY := .venv/bin/python
HACK := PYTHONPATH=hack
PYTEST := $(PY) -m pytest
# Our own API server, whatever the shell's KUBECONFIG names: nobody's cluster is touched by accident.
OWN := env -u KUBECONFIG
# One more than cores, of which the tests of a worker use two thirds.
WORKERS ?= 3
# Kept bytecode spares each process of a test, and each pytest, the compiling of all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# More than two guests at once make each other late on two cores.
GUEST_TESTS = $(PYTEST) -n 2 --dist loadscope --no-loadscope-reorder tests/guest $(ARGS)
IMAGE_TESTS = $(PYTEST) -n 0 tests/image $(ARGS)
NODE_TESTS = $(PYTEST) -n 0 tests/node $(ARGS)
# What ARGS selects may all be in one of the runs of `make test`: the others have nothing to do (5) then.
COUNTED = case $$? in 0) ran=1 ;; 5) $(if $(ARGS),:,failed=1) ;; *) failed=1 ;; esac
# Tests that not every machine can run: $(1) is built for them, unless this one cannot (3). $(2): what they do.
OPTIONAL = $(HACK) $(PY) -m $(1) build >/dev/null; case $$? in \
		0) $(OWN) $(3); $(COUNTED) ;; \
		3) echo "SKIPPED: tests/$(1), which $(2): this machine lacks what is named above" ;; \
		*) echo "FAILED: tests/$(1) could not be run, for the reason above"; failed=1 ;; \
	esac

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bootstrap:  ## Make .venv, and nothing else
	@hack/bootstrap

demo: bootstrap  ## API server, Proxmox simulator and operator: manifests become VMs (KEEP=1 leaves it up; GUESTS=qemu boots one)
	@$(HACK) $(PY) -m controlplane build
	@$(if $(GUESTS),$(HACK) $(PY) -m guest build >/dev/null)
	@$(HACK) $(PY) -m demo $(if $(KEEP),--keep) $(if $(GUESTS),--guests $(GUESTS))

test: bootstrap  ## All tests: a real API server of our own, the simulator, and guests, image and node where they can be had
	@$(OWN) $(HACK) $(PY) -m controlplane build
	@$(HACK) $(PY) -m gotools helm helm-docs kstatus promtool monitoring >/dev/null
	@ran=0 failed=0; \
	$(OWN) $(PYTEST) -n $(WORKERS) --dist loadscope --no-loadscope-reorder tests \
		--ignore tests/guest --ignore tests/image --ignore tests/node $(ARGS); $(COUNTED); \
	$(call OPTIONAL,image,looks into the image,$(IMAGE_TESTS)); \
	$(call OPTIONAL,node,runs the image on a real kubelet,$(NODE_TESTS)); \
	$(call OPTIONAL,guest,boots real guests,$(GUEST_TESTS)); \
	if [ $$ran$$failed = 00 ]; then echo "FAILED: ARGS selects no test"; failed=1; fi; exit $$failed

test-unit: bootstrap  ## Only the tests that need no API server
	@$(PYTEST) -n $(WORKERS) --dist loadscope tests/unit $(ARGS)

test-integration: bootstrap  ## Only the tests on an API server: our own, or the cluster of KUBECONFIG
	@$(HACK) $(PY) -m controlplane build
	@$(PYTEST) -n $(if $(KUBECONFIG),0,$(WORKERS)) --dist loadscope tests/integration \
		$(if $(KUBECONFIG),--ignore=tests/integration/test_controlplane.py) $(ARGS)

test-contract: bootstrap  ## What we rely on in Proxmox VE: the simulator, or a real one (PVE_URL=... and so on)
	@$(PYTEST) -n 0 -m contract tests $(ARGS)

test-chart: bootstrap  ## Only the tests of the chart and what is rendered from it
	@$(HACK) $(PY) -m controlplane build
	@$(HACK) $(PY) -m gotools helm helm-docs monitoring >/dev/null
	@$(OWN) $(PYTEST) -n $(WORKERS) --dist loadscope tests/chart $(ARGS)

test-guest: bootstrap  ## Only the tests that boot real guests (QEMU; emulated where there is no KVM)
	@$(OWN) $(HACK) $(PY) -m controlplane build
	@$(HACK) $(PY) -m guest build >/dev/null
	@$(OWN) $(GUEST_TESTS)

test-image: bootstrap image  ## Only the tests of what is in the container image
	@$(IMAGE_TESTS)

test-node: bootstrap  ## Only the tests that run the image, from the chart, on a real kubelet
	@$(HACK) $(PY) -m node build >/dev/null
	@$(OWN) $(NODE_TESTS)

lint: bootstrap  ## ruff, formatting, mypy --strict, import order
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

fmt: bootstrap  ## Format, and fix what ruff can fix
	@$(PY) -m ruff check --fix-only
	@$(PY) -m ruff format

crds: bootstrap  ## Write crds/*.yaml from the models
	@.venv/bin/proxmox-operator crds --output crds

chart: bootstrap  ## Write what of charts/ and manifests/ is made from the code and from the chart's values
	@$(HACK) $(PY) -m chartfiles

docs: bootstrap  ## The documentation as a site, in build/site (SERVE=1 shows it, and what is edited, at http://127.0.0.1:8000)
	@NO_MKDOCS_2_WARNING=1 $(HACK) $(PY) -m mkdocs $(if $(SERVE),serve --dev-addr 127.0.0.1:8000,build --strict)

docs-tables: bootstrap  ## Write the tables in docs/ that are made from the code
	@$(HACK) $(PY) -m doctables

drawings: bootstrap  ## Draw what was changed of the drawings in docs/ (needs npx and chromium)
	@$(HACK) $(PY) -m docsite.drawings

argocd: bootstrap  ## Write Argo CD's health checks as a ConfigMap patch and as Helm values, from manifests/argocd/*.lua
	@$(HACK) $(PY) -m argohealth

pve-roles: bootstrap  ## Write manifests/proxmox/*.sh from the privileges that the code asks for
	@$(HACK) $(PY) -m pveroles

bench: bootstrap  ## N VMs (N=100) through their life: times, calls and writes, beside their budgets
	@$(HACK) $(PY) -m controlplane build
	@$(HACK) $(PY) -m bench $(if $(N),--vms $(N))

lock: bootstrap  ## Write requirements/*.txt anew (UPGRADE=1 takes newer versions)
	@$(LOCK) pyproject.toml -o requirements/runtime.txt
	@$(LOCK) --group dev pyproject.toml -o requirements/dev.txt
	@$(LOCK) --group build --constraints requirements/dev.txt -o requirements/build.txt
LOCK = .venv/bin/uv pip compile -q --universal --python-version 3.12 --generate-hashes \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

audit: bootstrap  ## Known vulnerabilities of what is shipped (asks an advisory service)
	@$(HACK) $(PY) -m releasing audit

secrets:  ## Secrets in the history of the repository (needs Go)
	@go run github.com/zricethezav/gitleaks/v8@v8.30.1 git --no-banner --redact .

release-check: bootstrap  ## Whether HEAD can be released: version, changelog, generated files, locks, wheel, CRDs
	@$(HACK) $(PY) -m releasing check

image: bootstrap  ## The container image, as build/image.tar (by buildah; BASE, REVISION and SOURCE as in the Dockerfile)
	@$(HACK) $(PY) -m image build

sbom: bootstrap  ## What the image is made of: build/sbom.cdx.json, in CycloneDX
	@$(HACK) $(PY) -m sbom

kind:  ## A kind cluster to test against (needs docker and kind)
	@hack/kind/up

clean:  ## Remove .venv, caches and build results (not the API server's binaries)
	@rm -rf .venv .venv-uv .logs build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find operator hack tests -name __pycache__ -type d -prune -exec rm -rf {} +
