# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that touches ansible-core's private names."""

from __future__ import annotations

from typing import Any

from ansible.utils.vars import transform_to_native_types


def plain(value: Any) -> Any:
    """Strip Ansible's tags, deeply: what pure code, json and sqlite3 may be given.

    Mappings become dicts, sequences lists, and lazily templated values their results. Vaulted strings are decrypted.
    """
    return transform_to_native_types(value, redact=False)
