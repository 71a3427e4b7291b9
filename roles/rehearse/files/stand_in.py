# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for a service in a rehearsal: answers HTTP on its port, and says which service and version it is."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENVIRONMENT = {name: os.environ["STAND_IN_" + name] for name in ("SERVICE", "HOST", "PATH", "STATUS", "VERSION")}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_OPTIONS = do_GET

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        healthy = self.path.partition("?")[0] == ENVIRONMENT["PATH"]
        body = json.dumps({name.lower(): ENVIRONMENT[name] for name in ("SERVICE", "HOST", "VERSION")}).encode()
        self.send_response(int(ENVIRONMENT["STATUS"]) if healthy else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        # HAProxy's checks end by a reset: in its log that would be errors of the service.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    # Asked to stop, it stops: the drain has seen to its sessions.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    Server(("0.0.0.0", int(os.environ["STAND_IN_PORT"])), Handler).serve_forever()
