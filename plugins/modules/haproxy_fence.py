#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fence on the balancer's host: one controller at a time may change its tables."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_fence
short_description: Keep two controllers from changing one balancer
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Reads, claims or releases a fence, a small file on the balancer's host that names the run which may change the
    balancer's tables.
  - The journal's lock keeps two runs of one controller apart. Two controllers that reach the same cluster do not share
    a journal; the fence is the guard that both of them see.
  - M(rondo.upgrade.haproxy_server) refuses to act for a run whose token is older than the fence's, and each of its
    calls is a sign of life of the run that it acts for.
options:
  path:
    description:
      - The fence's file. Its folder has to exist on the balancer's host.
      - A folder that is emptied at boot, as the default's, forgets claims when the host restarts.
    type: path
    default: /run/rondo-upgrade.fence
  state:
    description:
      - V(read) changes nothing and returns what is there.
      - V(claimed) takes the fence for O(owner) with O(token). It is refused while another owner shows signs of life,
        and always if the token that is there is newer.
      - V(released) removes the fence if it is held by O(owner) with O(token), and leaves any other.
    type: str
    choices: [read, claimed, released]
    default: read
  owner:
    description:
      - Who claims. Use one name for all runs that share a journal, for example the controller's host name and the
        journal's path. Then the next run of the same journal, whose token is newer, takes the fence over at once.
      - Required unless O(state=read).
    type: str
  token:
    description:
      - The run's fencing token, a number that grows with each run of one journal.
      - Required unless O(state=read).
    type: int
  stale_after:
    description:
      - Seconds without a sign of life after which another owner's older claim counts as abandoned.
    type: float
    default: 3600
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: full
seealso:
  - module: rondo.upgrade.haproxy_server
"""

EXAMPLES = r"""
- name: Claim the balancers for this run
  rondo.upgrade.haproxy_fence:
    state: claimed
    owner: "deploy1:/srv/upgrade/build/journal.sqlite"
    token: 12

- name: Release them again
  rondo.upgrade.haproxy_fence:
    state: released
    owner: "deploy1:/srv/upgrade/build/journal.sqlite"
    token: 12
"""

RETURN = r"""
fence:
  description: The fence after the module has run (in check mode, as it would be). Null if nothing is claimed.
  returned: success
  type: dict
  contains:
    owner:
      description: Who holds it.
      type: str
    token:
      description: The holder's token.
      type: int
    age:
      description: Seconds since the holder's last sign of life.
      type: float
  sample:
    owner: "deploy1:/srv/upgrade/build/journal.sqlite"
    token: 12
    age: 0.4
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rondo.upgrade.plugins.module_utils._fence import (
    DEFAULT_PATH,
    LOCK_SECONDS,
    Fence,
    FenceError,
    locked,
)


def apply(fence, params, check_mode):
    """Do what `state` asks; returns (changed, fence before, fence after). Raises `FenceError`."""
    before = fence.read() if params["state"] == "read" else None
    if params["state"] == "read":
        return False, before, before
    owner, token = params["owner"], params["token"]
    with locked(fence.directory, LOCK_SECONDS):
        before = fence.read()
        held = before is not None and before["owner"] == owner and before["token"] == token
        if params["state"] == "released":
            if held and not check_mode:
                fence.remove()
            return held, before, None if held else before
        refusal = fence.refusal(owner, token, params["stale_after"])
        if refusal:
            raise FenceError(refusal)
        if not check_mode:
            if held:
                fence.touch()
            else:
                fence.write(owner, token)
        return not held, before, {"owner": owner, "token": token, "age": 0.0}


def shown(fence):
    """A fence for `diff`: its age is no change."""
    return {"owner": fence["owner"], "token": fence["token"]} if fence else {}


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": DEFAULT_PATH},
            "state": {"type": "str", "choices": ["read", "claimed", "released"], "default": "read"},
            "owner": {"type": "str"},
            "token": {"type": "int", "no_log": False},
            "stale_after": {"type": "float", "default": 3600},
        },
        required_if=[("state", "claimed", ["owner", "token"]), ("state", "released", ["owner", "token"])],
        supports_check_mode=True,
    )
    try:
        changed, before, after = apply(Fence(module.params["path"]), module.params, module.check_mode)
    except FenceError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, fence=after, diff={"before": shown(before), "after": shown(after)})


if __name__ == "__main__":
    main()
