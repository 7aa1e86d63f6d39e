# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help venv collection lint test test-unit test-integration test-lab test-ansible-units test-ansible-integration test-matrix test-chaos test-soak test-requests \
	test-external test-external-etcd test-recovery test-single test-molecule bench demo lab-up lab-down docs changelog picture build clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB ?= lab
SOAK ?= 10
ARGS ?=
COLLECTION := .cache/ansible_collections/kubepki/lifecycle
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
JUNIT = --junitxml=.cache/results/$(1).xml
LAB_OK = $(PYTHON) -m tests.lab check

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

venv: $(VENV)/.ready collection ## the tool environment, from PyPI

$(VENV)/.ready: requirements-dev.txt
	@missing=; $(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="python3-venv"; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	test -z "$$missing" || { echo "installing $$missing"; apt-get update -qq && apt-get install -y -qq $$missing; }
	@echo "making the tool environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Links to the parts that Ansible reads, not one to the checkout: a tool that follows links would find .cache in it, and so itself.
collection:
	@test ! -L $(COLLECTION) || rm $(COLLECTION)
	@mkdir -p $(COLLECTION)
	@for part in LICENSE README.md galaxy.yml meta playbooks plugins roles; do \
		test -L $(COLLECTION)/$$part || ln -s ../../../../$$part $(COLLECTION)/$$part; done

lint: export PATH := $(CURDIR)/$(BIN):$(PATH)
lint: export ANSIBLE_HOME := $(CURDIR)/.cache/ansible-home
lint: venv ## ruff, mypy, antsibull, ansible-lint, ansible-test sanity: no ignores (2 min; the first time 6)
	@failed=; run() { echo "-- $$*"; $(BIN)/"$$@" || failed="$$failed; $$*"; }; \
	run ruff check .; \
	run ruff format --check plugins tests tools; \
	run mypy; \
	run antsibull-changelog lint; \
	run antsibull-docs lint-collection-docs --plugin-docs .; \
	run ansible-lint; \
	run python tools/run_ansible_test.py sanity; \
	test -z "$$failed" || { echo "lint: failed: $${failed#; }"; exit 1; }

# The first two keep both processors busy; the lab needs them alone. All of them run, whatever an earlier one says.
test: venv ## unit, integration, lab
	@failed=0; $(MAKE) --no-print-directory --jobs=2 --keep-going test-unit test-integration || failed=1; \
	$(MAKE) --no-print-directory test-lab || failed=1; exit $$failed

test-unit: venv ## the library, anywhere (ARGS="-k NAME": more arguments for pytest)
	$(BIN)/python -m pytest tests/unit --numprocesses 2 --dist worksteal $(call JUNIT,unit) $(ARGS)

test-ansible-units: venv ## the same tests as ansible-test runs them: every test in a process of its own
	$(BIN)/python tools/run_ansible_test.py units

test-ansible-integration: venv ## the targets of ansible-test: the main modules on throw-away directories of this machine
	$(BIN)/python tools/run_ansible_test.py integration $(ARGS)

test-matrix: ## with the oldest and newest Python, cryptography and ansible-core that nodes and controllers have
	$(PYTHON) tools/test_matrix.py

test-integration: venv ## real modules through ansible-playbook on a throw-away tree
	$(BIN)/python -m pytest tests/integration --numprocesses 2 --dist loadgroup $(call JUNIT,integration) $(ARGS)

test-chaos: venv ## a kill at every single write of a rotation, and 50 disturbed runs on the lab; takes an hour or more
	KUBEPKI_KILL_STRIDE=1 $(BIN)/python -m pytest tests/integration/test_cert_ca.py --timeout 7200
	$(BIN)/python -m tests.lab.chaos --write

# What comes about in a moment of milliseconds, once in twenty runs, is met by no single one.
test-soak: venv ## rotations one after the other, undisturbed, under clients that count (SOAK=10 of them: an hour)
	KUBEPKI_ROTATIONS=$(SOAK) $(BIN)/python -m pytest tests/lab/jobs/test_rotation.py -k goes_unnoticed

# Jobs with small labs of their own, each with its own target.
OWN_LAB = requests external_ca external_etcd recovery single
test-lab: venv ## the playbooks on a real three-control-plane cluster (root on Debian)
	@if $(LAB_OK); then $(BIN)/python -m pytest tests/lab/jobs $(OWN_LAB:%=--ignore=tests/lab/jobs/test_%.py) $(call JUNIT,lab); else \
		echo "lab tests are skipped: see the reason above"; \
		mkdir -p .cache/results && echo '<testsuite name="lab" tests="1" skipped="1"/>' > .cache/results/lab.xml; fi

test-requests: venv ## the Certificates API on a small real cluster of its own
	$(BIN)/python -m pytest tests/lab/jobs/test_requests.py

test-external: venv ## a cluster whose CA key is elsewhere, on a small real cluster of its own
	$(BIN)/python -m pytest tests/lab/jobs/test_external_ca.py

test-external-etcd: venv ## a cluster whose etcd is a service on a host of its own, on a small real cluster
	$(BIN)/python -m pytest tests/lab/jobs/test_external_etcd.py

test-single: venv ## a cluster of one control-plane node: the outage is announced and measured
	$(BIN)/python -m pytest tests/lab/jobs/test_single.py

test-recovery: venv ## clusters whose certificates really expire, on small labs of their own (40 min)
	$(BIN)/python -m pytest tests/lab/jobs/test_recovery.py

test-molecule: export PATH := $(CURDIR)/$(BIN):$(PATH)
test-molecule: export ANSIBLE_HOME := $(CURDIR)/.cache/ansible-home
test-molecule: venv ## every molecule scenario, on labs of their own (half an hour; KUBEPKI_MOLECULE_LAB=name: on that one)
	molecule test --all

demo: venv ## a cluster, its report, a renewal of everything, and what clients noticed
	@$(PYTHON) -m tests.lab.demo

bench: venv ## the ratios of docs/performance.md
	$(BIN)/python -m tests.bench

lab-up: ## a kubeadm cluster of three control-plane nodes and two workers (LAB=name)
	$(PYTHON) -m tests.lab up --name $(LAB)

lab-down: ## remove that cluster
	$(PYTHON) -m tests.lab down --name $(LAB)

docs: venv ## the roles' READMEs and docs/reference, from what is declared
	$(BIN)/python tools/reference.py

changelog: export PATH := $(CURDIR)/$(BIN):$(PATH)
changelog: venv ## CHANGELOG.md from changelogs/fragments, for the version in galaxy.yml
	$(BIN)/antsibull-changelog release --update-existing --reload-plugins --refresh-plugins

picture: venv ## docs/images/report.png, from a made-up cluster (needs chromium)
	$(BIN)/python tests/integration/picture.py docs/images/report.png

build: venv ## the collection archive, in build/
	$(BIN)/ansible-galaxy collection build --force --output-path build .

clean: ## remove what the targets above made in the checkout
	rm -rf $(VENV) .cache .nox .ansible build reports
