# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

root := $(CURDIR)
export PATH := $(root)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(root)/.cache/collections
export ANSIBLE_HOME := $(root)/.cache/ansible
export ANSIBLE_NOCOLOR ?= $(if $(CI),1,0)
export PYTHONDONTWRITEBYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
python := .venv/bin/python

# What the demo upgrades, from and to. LAB=name keeps labs apart.
FROM ?= 28.1.0
TO ?= 29.1.0

help:  ## This list
	@echo 'make TARGET, where TARGET is one of:'
	@sed -n 's/^\([a-z][a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  %-18s %s\n' "$$name" "$$text"; done

setup:  ## The virtual environment, and what it needs (instant when nothing changed)
	@tools/setup

engine:  ## A Docker Engine that answers (installed and started if need be)
	@tools/engine

demo: setup engine  ## Upgrade a real Keystone under load: make demo [FROM=28.1.0 TO=29.1.0]
	@$(python) tools/demo.py --from $(FROM) --to $(TO)

lab-up: setup engine  ## The lab alone, its Keystone at FROM
	@$(python) tools/lab.py up --image keystone=rondo/keystone:$(FROM)

lab-down:  ## Removes every lab, our images and the engine if it is ours; leaves the caches
	@tools/lab-down

clean: lab-down  ## Removes the caches too
	@rm -rf .venv build 2>/dev/null || sudo -n rm -rf .venv build
	@rm -rf .hypothesis .mypy_cache .ruff_cache
	@rm -rf .cache 2>/dev/null || sudo -n rm -rf .cache
	@echo 'clean: removed .venv, .cache and build'

include tests/tests.mk

.PHONY: help setup engine demo lab-up lab-down clean
