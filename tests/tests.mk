# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Each part runs alone (`make unit`), and `make test` runs them all.

parts := lint types sanity unit strategy integration molecule-default molecule-faults molecule-rehearsal
pytest := $(python) -m pytest
# Those that don't look at the clock run side by side.
workers := --numprocesses auto --maxprocesses 4
collection := .cache/collections/ansible_collections/rondo/upgrade

test: setup engine  ## All tests, one part after the other (about 40 minutes on two cores)
	@$(python) tools/parts.py $(parts)

lint: setup  ## Style of Python, YAML and roles; documentation; changelog
	ruff check .
	yamllint --strict .
	ansible-lint --offline
	cd $(collection) && antsibull-docs lint-collection-docs --plugin-docs .
	cd $(collection) && antsibull-changelog lint

types: setup  ## mypy --strict
	mypy -p ansible_collections.rondo.upgrade.plugins.plugin_utils
	MYPYPATH=tools mypy tools/images.py tools/lab.py tools/parts.py tools/fetch_collections.py tools/demo.py

sanity: setup  ## ansible-test sanity, on ansible-core 2.19 and on the newest that runs here
	$(python) tests/integration/strategy/cores.py
	$(python) tools/sanity.py .venv $$(ls -d .cache/venv-newest 2>/dev/null)

unit: setup  ## The brain, the modules and the plugins, without any container
	$(pytest) $(workers) tests/unit

strategy: setup  ## The strategy, on ansible-core 2.19 and on the newest that runs here
	$(pytest) tests/integration/strategy

integration: setup engine  ## Modules, probe and playbooks against real HAProxy and a real engine
	$(pytest) $(workers) --dist loadfile tests/integration --ignore tests/integration/strategy

molecule-default: setup engine  ## Keystone upgraded under load: create, converge, idempotence, verify, destroy
	molecule test --no-command-borders --scenario-name default

molecule-faults: setup engine  ## What happens when things are broken on purpose
	molecule test --no-command-borders --scenario-name faults

molecule-rehearsal: setup engine  ## Scenario rehearsal copied to another repository, as people do: a cluster's upgrade on its twin
	$(pytest) -s tests/rehearsal/test_scenario.py

rehearsal-kolla: setup engine  ## Kolla-Ansible's multinode sample inventory, rehearsed to its end in under 15 minutes
	$(pytest) -s tests/rehearsal/test_kolla.py

molecule-control: setup engine  ## Pause, resume, abort, revert; versions that go wrong after they were healthy
	molecule test --no-command-borders --scenario-name control

molecule-crashes: setup engine  ## The run is killed at every step, interrupted, cut off; balancers and members fail
	molecule test --no-command-borders --scenario-name crashes

# What the balancers of molecule-methods are: HAPROXY=2.6, 3.0 or mixed (one of each), BALANCERS=1 or 2.
HAPROXY ?= mixed
BALANCERS ?= 2

molecule-methods: setup engine  ## hold, side_by_side, held_switch under load and killed: [HAPROXY=2.6|3.0|mixed BALANCERS=1|2]
	HAPROXY=$(HAPROXY) BALANCERS=$(BALANCERS) molecule test --no-command-borders --scenario-name methods

# What the methods have to show is shown behind each; behind two of 3.0 the run is killed in every phase, not only in the
# worst of each method, and there are the tests of what else makes it go back.
table := PYTEST_ADDOPTS=--ignore=molecule/methods/tests/test_back.py molecule test --no-command-borders --scenario-name methods

molecule-methods-all: setup engine  ## The same behind HAProxy 2.6 and 3.0, with one balancer and with two (some 90 minutes)
	HAPROXY=3.0 BALANCERS=2 METHODS_KILLS=all molecule test --no-command-borders --scenario-name methods
	HAPROXY=3.0 BALANCERS=1 $(table)
	HAPROXY=2.6 BALANCERS=2 $(table)
	HAPROXY=2.6 BALANCERS=1 $(table)

molecule-killed: setup engine  ## The one test of molecule-crashes in which the run is killed at every step
	LAB_TESTS=test_killed.py molecule test --no-command-borders --scenario-name crashes

molecule-exported: setup engine  ## The exported playbook ends as the strategy does, well and badly
	molecule test --no-command-borders --scenario-name exported

molecule-regressions: setup engine  ## A version that is healthy and worse; three counts that do not agree; Tempest
	molecule test --no-command-borders --scenario-name regressions

contrast: setup engine  ## The same load over four ways to upgrade; prints the README's table
	$(python) tests/contrast/contrast.py

bench-plan: setup  ## How long planning takes for fleets of 10 to 10,000 hosts
	$(python) tests/benchmarks/plan.py

bench-window: setup  ## The strategy against linear and host_pinned on 20 to 1,000 simulated hosts (about 12 minutes)
	$(python) tests/benchmarks/window.py

bench-methods: setup engine  ## Restart, roll, hold, side_by_side and held_switch: the same service under the same load
	$(python) tests/benchmarks/methods.py

.PHONY: test contrast rehearsal-kolla bench-plan bench-window bench-methods molecule-control molecule-crashes molecule-killed molecule-exported molecule-methods molecule-methods-all molecule-regressions $(parts)
