#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: brings the lab up, upgrades its Keystone under load, and says whether any request failed.

Beside the probe a second, independent client watches: `openstack token issue`, before, during and after.
The report is in build/report, the lab stays up (`make lab-down` removes it). Exit code 0: nothing failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import images

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
BIN = Path(sys.executable).parent
# One client's start costs a second of CPU, and two cores carry the whole cluster.
CLIENT_PAUSE = 10.0


def say(text: str) -> None:
    print(f"\ndemo: {text}", flush=True)


class Client:
    """`openstack token issue` again and again, until it is stopped."""

    def __init__(self, vip: str) -> None:
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
            "OS_AUTH_URL": f"http://{vip}:5000/v3",
            "OS_USERNAME": "admin",
            "OS_PASSWORD": "admin-lab",
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
        }
        self.issued = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def issue(self) -> None:
        done = subprocess.run(
            [str(BIN / "openstack"), "token", "issue", "--format", "value", "--column", "expires"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        if done.returncode == 0 and done.stdout.strip():
            self.issued += 1
        else:
            self.failures.append((done.stderr or "no token in its output").strip())

    def _run(self) -> None:
        while not self._stop.wait(CLIENT_PAUSE):
            self.issue()

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def stop_probe() -> None:
    """In case the playbook ended before it stopped its probe."""
    probe = BUILD / "probe" / "probe.py"
    if probe.exists():
        subprocess.run(
            [sys.executable, str(probe), "stop", str(probe.with_suffix(".json"))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )


def judge(report: dict[str, Any], client: Client) -> list[str]:
    """What speaks against a clean upgrade; nothing, if it was clean."""
    unproven = report["reasons"] or report["counts"]["missing"]
    wrong = [] if report["verdict"] == "clean" else [f"the run is not clean: {text}" for text in unproven]
    if client.failures:
        wrong.append(
            f"openstack token issue failed {len(client.failures)} times of {client.issued + len(client.failures)}: "
            f"{client.failures[0]}"
        )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Upgrades a real Keystone in containers, under load.")
    parser.add_argument("--from", dest="old", default="28.1.0", help="the release that the lab starts with")
    parser.add_argument("--to", dest="new", default="29.1.0", help="the release that it is upgraded to")
    options = parser.parse_args()
    lab = [sys.executable, str(ROOT / "tools" / "lab.py")]
    try:
        images.ensure(f"keystone-{options.new}")
    except images.ImageError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    say(f"a lab with Keystone {options.old} on three controllers behind two balancers")
    if subprocess.run([*lab, "up", "--image", f"keystone=rondo/keystone:{options.old}"], check=False).returncode:
        return 1
    state = json.loads((ROOT / ".cache" / "lab" / os.environ.get("RONDO_LAB", "lab") / "lab.json").read_text())

    client = Client(state["vip"])
    client.issue()
    if client.failures:
        print(f"demo: openstack token issue fails before anything began: {client.failures[0]}", file=sys.stderr)
        return 1
    say(f"openstack token issue works; now the upgrade to {options.new}, with 20 requests a second all the while")
    report = BUILD / "report" / "report.json"
    # A journal tells of one cluster, and the one of an earlier demo's is gone.
    for old in (report, *BUILD.glob("journal.sqlite*")):
        old.unlink(missing_ok=True)
    colour = "1" if sys.stdout.isatty() else "0"
    try:
        with client:
            code = subprocess.run(
                [
                    str(BIN / "ansible-playbook"),
                    "--inventory",
                    str(ROOT / "inventories" / "lab"),
                    "--extra-vars",
                    json.dumps({"keystone_release": options.new, "upgrade_directory": str(BUILD)}),
                    str(ROOT / "molecule" / "shared" / "upgrade_under_load.yml"),
                ],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={
                    **os.environ,
                    "ANSIBLE_STDOUT_CALLBACK": "rondo.upgrade.progress",
                    "ANSIBLE_FORCE_COLOR": colour,
                    "ANSIBLE_DEPRECATION_WARNINGS": "0",
                },
                check=False,
            ).returncode
    finally:
        stop_probe()
    client.issue()
    if code or not report.exists():
        say("the upgrade did not end well; its output is above, and the lab is left as it is")
        return code or 1
    wrong = judge(json.loads(report.read_text()), client)
    for text in wrong:
        say(text)
    if wrong:
        return 1
    requests = json.loads(report.read_text())["requests"]
    say(
        f"Keystone went from {options.old} to {options.new}: {requests['sent']} requests sent, 0 failed "
        "by three counts that agree; "
        f"openstack token issue {client.issued} of {client.issued}.\n"
        f"      The report: build/report. The lab is still up: ssh -F .cache/lab/{state['name']}/ssh_config ctl1; "
        "make lab-down removes it."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
