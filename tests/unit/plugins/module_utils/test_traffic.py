# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frontends lead where, requests a second, and ports in use."""

from __future__ import annotations

from ansible_collections.rondo.upgrade.plugins.module_utils._traffic import doors, listening, rates, routes

CONFIGURATION = """
global
    stats socket /run/haproxy/admin.sock
defaults
    timeout client 60s
frontend public   # of all
    use_backend glance_back if { path_beg /v2 }
    default_backend keystone_back
frontend internal
    default_backend keystone_back
listen mariadb
    server db1 192.0.2.1:3306
backend keystone_back
    server ctl1 192.0.2.1:5000
backend alone
"""


def test_which_frontends_lead_to_a_backend() -> None:
    assert routes(CONFIGURATION) == {
        "keystone_back": ["internal", "public"],
        "glance_back": ["public"],
        "mariadb": ["mariadb"],
    }


def test_where_only_haproxy_knows() -> None:
    assert routes(CONFIGURATION + "frontend other\n  use_backend %[req.hdr(host)]\n") is None
    assert routes(".if defined(X)\n" + CONFIGURATION) is None


def test_through_which_frontends_a_balancer_asks_itself() -> None:
    text = """
frontend everywhere
    bind *:80
    bind 192.0.2.5:81
    default_backend web
frontend any
    bind :82 name x
    default_backend web
frontend shared      # its address may be another balancer's now
    bind 192.0.2.5:83
    default_backend web
frontend tls
    bind *:443 ssl crt /etc/cert.pem
    bind 127.0.0.1:8443
    default_backend web
listen both
    bind 0.0.0.0:85
frontend inside
    bind *:86 accept-proxy
    default_backend web
backend web
    server a 192.0.2.1:80
"""
    assert doors(text) == {
        "everywhere": "http://127.0.0.1:80/",
        "any": "http://127.0.0.1:82/",
        "tls": "http://127.0.0.1:8443/",
        "both": "http://127.0.0.1:85/",
    }


def row(total: str, kind: str = "1") -> dict[str, str]:
    return {"type": kind, "pxname": "back", "stot": total}


def test_requests_a_second() -> None:
    assert rates([row("100"), row("7", "2")], [row("250"), row("9", "2")], 3.0) == {"back": 50.0}
    assert rates([row("100")], [row("100")], 0.0) == {"back": None}


def test_a_reload_in_between_begins_to_count_anew() -> None:
    assert rates([row("100")], [row("3")], 1.0) == {"back": 0.0}


def test_only_what_listens_has_a_port_in_use() -> None:
    table = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 539 1 0 100 0 0 10 0
   1: 0100007F:C001 0100007F:1388 01 00000000:00000000 00:00000000 00000000     0        0 540 1 0 100 0 0 10 0
   2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 541
"""
    assert listening(table) == {5000, 80}
