# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.rondo.upgrade.plugins.plugin_utils._batches import batches

PLAN = {
    "services": [{"name": "keystone"}, {"name": "glance"}],
    "jobs": [
        {"id": "expand keystone@a", "service": "keystone", "kind": "expand", "host": "a"},
        {"id": "replace keystone@c", "service": "keystone", "kind": "replace", "host": "c"},
        {"id": "replace keystone@a", "service": "keystone", "kind": "replace", "host": "a"},
        {"id": "replace keystone@b", "service": "keystone", "kind": "replace", "host": "b"},
        {"id": "replace glance@b", "service": "glance", "kind": "replace", "host": "b"},
    ],
    "rounds": [
        ["expand keystone@a"],
        ["replace keystone@c", "replace glance@b"],
        ["replace keystone@b", "replace keystone@a"],
    ],
}


def test_only_replacements_of_the_service_in_the_rounds_order() -> None:
    assert batches(PLAN, "keystone") == [["c"], ["b", "a"]]
    assert batches(PLAN, "glance") == [["b"]]


def test_nothing_to_do_is_no_batch() -> None:
    assert batches({**PLAN, "jobs": [], "rounds": []}, "glance") == []


def test_unknown_service_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="no service nova; it has: keystone, glance"):
        batches(PLAN, "nova")
