#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has left for second copies: memory, disk, ports."""

from __future__ import annotations

DOCUMENTATION = r"""
module: room_info
short_description: See what a host has left for second copies
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Tells the memory and the disk that are left on a host, and the ports that are in use. Changes nothing.
options:
  ports:
    description:
      - Ranges of ports, each with its first and its last one. Only ports in these ranges are looked at.
    type: list
    elements: list
    default: []
  path:
    description:
      - Where the container engine keeps its files. Where that doesn't exist, the next folder above that does counts.
    type: path
    default: /var/lib/docker
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
seealso:
  - module: rondo.upgrade.container_info
"""

EXAMPLES = r"""
- name: See what there is room for
  rondo.upgrade.room_info:
    ports: [[15000, 15009]]
  register: room
"""

RETURN = r"""
memory:
  description: Bytes that programs can still get (C(MemAvailable)), also by the limit of the control group that the host
    itself is in. Null where that isn't told.
  returned: success
  type: int
  sample: 4123456789
disk:
  description: Bytes that are left at O(path).
  returned: success
  type: int
  sample: 52345678901
ports:
  description: The ports in O(ports) that are in use.
  returned: success
  type: list
  elements: int
  sample: [15000]
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._traffic import listening, machine_memory

# Version 2 and version 1 of control groups, as a host that is a container sees its own.
CONTROL_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def text(path):
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def memory():
    """Bytes, None where nothing tells."""
    found = [machine_memory()]
    for limit, usage in CONTROL_GROUPS:
        most, used = text(limit).strip(), text(usage).strip()
        if most.isdigit() and used.isdigit():
            found.append(max(0, int(most) - int(used)))
    told = [number for number in found if number is not None]
    return min(told) if told else None


def disk(path):
    there = next(folder for folder in (Path(path), *Path(path).absolute().parents) if folder.exists())
    return shutil.disk_usage(str(there)).free


def main():
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "list", "default": []},
            "path": {"type": "path", "default": "/var/lib/docker"},
        },
        supports_check_mode=True,
    )
    try:
        ranges = [(int(first), int(last)) for first, last in module.params["ports"]]
    except (TypeError, ValueError):
        module.fail_json(msg="ports: write ranges of two numbers each, such as [[15000, 15009]]")
    used = listening(text("/proc/net/tcp")) | listening(text("/proc/net/tcp6"))
    module.exit_json(
        changed=False,
        memory=memory(),
        disk=disk(module.params["path"]),
        ports=sorted(port for port in used if any(first <= port <= last for first, last in ranges)),
    )


if __name__ == "__main__":
    main()
