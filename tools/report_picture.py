#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw docs/images/report.png: the whole page of the tests' clean report, or of a real run's report.json.

.venv/bin/python tools/report_picture.py [build/report/report.json]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (".cache/collections", "tests/integration/report", "tests/unit/plugins/plugin_utils"):
    sys.path.insert(0, str(ROOT / folder))

import sample_report
from browser import Browser

from ansible_collections.rondo.upgrade.plugins.plugin_utils._report_html import html

WIDTH = 1000


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")) if sys.argv[1:] else sample_report.clean()
    program = subprocess.run([ROOT / "tools/browser"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "index.html")
        page.write_text(html(report), encoding="utf-8")
        with Browser(program, Path(folder, "profile")) as browser:
            browser.look(WIDTH, 800)
            browser.open(page.as_uri())
            browser.look(WIDTH, browser.value("document.documentElement.scrollHeight"))
            (ROOT / "docs/images/report.png").write_bytes(browser.picture())


if __name__ == "__main__":
    main()
