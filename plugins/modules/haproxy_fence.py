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
  - The modules that change a balancer refuse to act for a run whose token is older than the fence's, also when the
    newer run has released it since.
options:
  path:
    description:
      - The fence's file. Its folder has to exist on the balancer's host.
      - A folder that is emptied at boot, as the default's, forgets claims when the host restarts. A run that is still
        going on may act there all the same, and so may another one that claims it then.
    type: path
    default: /run/rondo-upgrade.fence
  state:
    description:
      - V(read) changes nothing and returns what is there.
      - V(claimed) takes the fence for O(owner) with O(token). It is refused while another owner has it, however long
        ago it claimed it, and always if the token that is there is newer.
      - V(released) lets others claim the fence if it is held by O(owner) with O(token), and leaves any other. The
        token stays there, so that older ones are refused from then on.
    type: str
    choices: [read, claimed, released]
    default: read
  owner:
    description:
      - Who claims. Use one name for all runs that share a journal, as M(rondo.upgrade.journal) returns it. Then the
        next run of the same journal, whose token is newer, takes the fence over at once.
      - Required unless O(state=read).
    type: str
  token:
    description:
      - The run's fencing token, a number that grows with each run of one journal.
      - Required unless O(state=read).
    type: int
  takeover:
    description:
      - Take the fence from another owner that has not released it, and warn whose it was.
      - Say so only after you made sure that its run is dead.
    type: bool
    default: false
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
  description: The fence after the module has run (in check mode, as it would be). Null if nobody has claimed it yet.
  returned: success
  type: dict
  contains:
    owner:
      description: Who holds it, or held it last.
      type: str
    token:
      description: The token of that run.
      type: int
    released:
      description: Whether it has been released since.
      type: bool
    age:
      description: Seconds since it was claimed or released.
      type: float
  sample:
    owner: "deploy1:/srv/upgrade/build/journal.sqlite"
    token: 12
    released: false
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
    if params["state"] == "read":
        before = fence.read()
        return False, before, before
    owner, token = params["owner"], params["token"]
    with locked(fence.directory, LOCK_SECONDS):
        before = fence.read()
        held = before is not None and (before["owner"], before["token"], before["released"]) == (owner, token, False)
        released = params["state"] == "released"
        if not released:
            refusal = fence.refusal(owner, token, params["takeover"])
            if refusal:
                raise FenceError(refusal)
        if held != released:
            return False, before, before
        if not check_mode:
            fence.write(owner, token, released)
        return True, before, {"owner": owner, "token": token, "released": released, "age": 0.0}


def shown(fence):
    """A fence for `diff`: its age is no change."""
    return {name: fence[name] for name in ("owner", "token", "released")} if fence else {}


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": DEFAULT_PATH},
            "state": {"type": "str", "choices": ["read", "claimed", "released"], "default": "read"},
            "owner": {"type": "str"},
            "token": {"type": "int", "no_log": False},
            "takeover": {"type": "bool", "default": False},
        },
        required_if=[("state", "claimed", ["owner", "token"]), ("state", "released", ["owner", "token"])],
        supports_check_mode=True,
    )
    try:
        changed, before, after = apply(Fence(module.params["path"]), module.params, module.check_mode)
    except FenceError as error:
        module.fail_json(msg=str(error))
    if changed and module.params["state"] == "claimed" and Fence.held_by_another(before, module.params["owner"]):
        module.warn(
            "The fence was taken over from %s (token %d), which had claimed it %.0f s ago and not released it."
            % (before["owner"], before["token"], before["age"])
        )
    module.exit_json(changed=changed, fence=after, diff={"before": shown(before), "after": shown(after)})


if __name__ == "__main__":
    main()
