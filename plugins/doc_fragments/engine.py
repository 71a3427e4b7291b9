# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that talks to a container engine."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - Address of the container engine, such as V(unix:///var/run/docker.sock) or V(tcp://192.0.2.10:2376).
      - The default is the environment variable E(DOCKER_HOST), else V(unix:///var/run/docker.sock).
        E(DOCKER_TLS_VERIFY) and E(DOCKER_CERT_PATH) are respected too.
    type: str
  engine_timeout:
    description: Seconds that one answer of the engine may take.
    type: int
    default: 120
requirements:
  - Docker SDK for Python (C(docker)) 5.0.0 or later on the managed host
  - a container engine with Docker's API 1.41 or later
"""
