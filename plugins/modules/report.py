#!/usr/bin/python
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Report on a run
version_added: 0.1.0
author:
  - The rondo.upgrade authors (@rondo)
description:
  - Puts together what the journal, the probe and the balancers' own counters hold of a run, and says the verdict on one
    screen.
  - Writes the same under O(directory) as a page for a browser, C(report/index.html), as data, C(report/report.json),
    and for CI systems as JUnit XML, C(report/junit.xml). See C(docs/report.md).
  - Fails if the run did not do all of its jobs, if something is not as declared, if requests failed, or if the counts
    of requests disagree.
extends_documentation_fragment:
  - rondo.upgrade.controller
options:
  run:
    description:
      - The run, by its number in the journal. The last one if not given.
    type: int
  probe:
    description:
      - Path of the probe's summary (JSON) on the controller.
      - Not needed where the role P(rondo.upgrade.probe#role) was stopped after the run, which keeps its summary in the
        journal. From a probe that has not ended the report has what it had counted when the run ended.
    type: str
  fail:
    description:
      - Fail when the verdict is V(failed). The files are written in any case.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and return what it would do. The files are not written then.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Report on the run that just ended
  rondo.upgrade.report:
    show: true
"""

RETURN = r"""
page:
  description: What O(show) prints.
  returned: always
  type: str
report:
  description: The content of C(report.json). See C(docs/report.md).
  returned: always
  type: dict
summary:
  description: The report in one line.
  returned: always
  type: str
  sample: "clean: 8 of 8 jobs done in 1m 19s (forecast 1m 12s); 0 of 1920 requests failed; the counts agree"
"""
