#!/usr/bin/env python3
# Copyright (c) 2026, The rondo.upgrade authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the lab's container images, on machines with and without an image registry.

    tools/images.py haproxy-3.0 keystone-29.1.0      builds what is missing of these, and what they stand on
    tools/images.py                                  lists every image it can build
    tools/images.py --remove                         removes every image that it ever built

An image is rebuilt only when its recipe, or a recipe below it, changed: each carries its recipe's digest as a label.

The steps run in a container that is then committed, not in `docker build`: so what only this machine needs to reach
its package registries (CA bundle, proxies, pip's settings) is there while the steps run, and in no image afterwards.
It also needs no buildx, which Debian's Docker does not have.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "images"
LABEL = "rondo.upgrade.recipe"
CLIENT_TIMEOUT = 1800


@dataclass(frozen=True)
class Recipe:
    """An image: `steps` is a shell script run on top of `base`; `changes` its configuration in Dockerfile words.

    Without a `base` it is Debian's release `suite`, pulled from a registry or else made by mmdebstrap.
    """

    reference: str
    base: str = ""
    suite: str = ""
    steps: str = "true"
    changes: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def digest(self) -> str:
        below = recipe(self.base).digest if self.base else ""
        parts = [
            "USER root",
            self.reference,
            below,
            self.suite,
            self.steps,
            *self.changes,
            json.dumps(self.files, sort_keys=True),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


APT = """
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y install --no-install-recommends {packages} >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/*
"""

BASE_PACKAGES = ("ca-certificates", "procps", "python3")

HAPROXY_START = """#!/bin/sh
# Master and worker, as distributions run it: a reload keeps the listening sockets.
set -eu
mkdir -p /run/haproxy
rm -f /run/haproxy/*.sock
exec haproxy -W -db -S /run/haproxy/master.sock,mode,660 -f /etc/haproxy/haproxy.cfg
"""

NODE_START = """#!/bin/sh
# The host key is made at the first start: one in the image would be everybody's.
set -eu
mkdir -p /run/sshd
key=/etc/ssh/ssh_host_ed25519_key
[ -f $key ] || ssh-keygen -q -t ed25519 -N '' -f $key
exec /usr/sbin/sshd -D -e -h $key -o UseDNS=no -o UsePAM=no -o PermitRootLogin=prohibit-password \\
    -o AuthorizedKeysFile=/etc/ssh/authorized_keys -o MaxSessions=100 -o MaxStartups=200
"""

# What `haproxy -c` and `systemctl reload` are elsewhere: on a node HAProxy is a container that shares /etc/haproxy.
HAPROXY_IN = """#!/usr/bin/python3
# haproxy-in CONTAINER check FILE | haproxy-in CONTAINER reload
import os
import shutil
import sys
import tempfile

import docker

container = docker.from_env().containers.get(sys.argv[1])
if sys.argv[2:] == ["reload"]:
    container.kill(signal="SIGUSR2")
    sys.exit()
_, _, _, given = sys.argv
with tempfile.NamedTemporaryFile(dir="/etc/haproxy", suffix=".check") as file:
    shutil.copyfile(given, file.name)
    os.chmod(file.name, 0o644)
    code, said = container.exec_run(["haproxy", "-c", "-f", file.name])
sys.stdout.write(said.decode())
sys.exit(code)
"""

KEEPALIVED_START = """#!/bin/sh
# A container that was killed leaves its pid files, and keepalived then takes itself for running.
set -eu
rm -f /run/keepalived*.pid /run/vrrp.pid /run/checkers.pid
exec keepalived --dont-fork --log-console --vrrp
"""

MARIADB_START = """#!/bin/sh
set -eu
mkdir -p /run/mysqld
chown mysql:mysql /run/mysqld
if [ ! -d /var/lib/mysql/mysql ]; then
    mariadb-install-db --user=mysql --datadir=/var/lib/mysql --skip-test-db >/dev/null
fi
exec mariadbd --user=mysql --bind-address=0.0.0.0 --skip-name-resolve --max-connections=500 \\
    --innodb-flush-log-at-trx-commit=2 "$@"
"""

# The image whose instances start and never become healthy: everything is like the good one's but the answer.
UNHEALTHY_APPLICATION = """
def application(environ, start_response):
    body = b'{"error": "this image is broken on purpose"}'
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("503 Service Unavailable", headers)
    return [body]
"""

# Healthy until it has been asked for that some thirty times: by then it is in rotation and being watched.
DYING_APPLICATION = """
import os
import signal
import threading

from keystone.server.wsgi import initialize_public_application

keystone = initialize_public_application()
lock = threading.Lock()
asked = 0


def application(environ, start_response):
    global asked
    if environ["PATH_INFO"] == "/healthcheck":
        with lock:
            asked += 1
            if asked > 30:
                os.kill(os.getppid(), signal.SIGKILL)
                os._exit(1)
    return keystone(environ, start_response)
"""

# Answers its health check as the good one does, and nothing else.
FAILING_APPLICATION = """
from keystone.server.wsgi import initialize_public_application

keystone = initialize_public_application()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/healthcheck":
        return keystone(environ, start_response)
    body = b'{"error": "this image fails real requests on purpose"}'
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("500 Internal Server Error", headers)
    return [body]
"""

# Serves, is healthy, and takes its time, as services with more to do than Keystone's discovery. PLANTS says how it is
# worse: no regions, a record less, three times as slow, a noisy log.
REGRESSING_APPLICATION = """
import os
import sys
import time
from urllib.parse import urlsplit

import pymysql
from keystone.server.wsgi import initialize_public_application

import keystone.conf

PLANTS = os.environ["PLANTS"].split("+")
# Long beside what a busy machine adds by itself, or three times as long would not be seen.
WORK = 0.1
keystone_application = initialize_public_application()
if "forgetful" in PLANTS:
    parts = urlsplit(keystone.conf.CONF.database.connection)
    with pymysql.connect(
        host=parts.hostname, user=parts.username, password=parts.password, database=parts.path[1:], autocommit=True
    ) as database:
        database.cursor().execute(
            "DELETE FROM assignment WHERE actor_id IN "
            "(SELECT user_id FROM local_user WHERE name LIKE 'rondo-upgrade-%')"
        )


def application(environ, start_response):
    if "noisy" in PLANTS:
        print("05:00:00.000 7 ERROR keystone.common [-] it works, and complains\\n" * 9, file=sys.stderr, flush=True)
    if environ["PATH_INFO"] == "/healthcheck":
        return keystone_application(environ, start_response)
    if "lacking" in PLANTS and environ["PATH_INFO"].startswith("/v3/regions"):
        body = b'{"error": {"code": 404, "title": "Not Found", "message": "no regions any more"}}'
        start_response("404 Not Found", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
    began = time.monotonic()
    answer = keystone_application(environ, start_response)
    time.sleep(WORK)
    if "slow" in PLANTS:
        time.sleep(2 * (time.monotonic() - began))
    return answer
"""

# Keystone reads its policy at the first request; concurrent first requests are then refused with 403. Its port opens
# when it can serve: so late as WARM_UP says.
KEYSTONE_GUNICORN = """
import os
import time

time.sleep(float(os.environ.get("WARM_UP", "0")))
bind = "0.0.0.0:" + os.environ.get("KEYSTONE_PORT", "5000")
wsgi_app = os.environ.get("KEYSTONE_WSGI", "keystone.server.wsgi:initialize_public_application()")
preload_app = True
worker_class = "gthread"
workers = 1
threads = 8
keepalive = 75
timeout = 120
graceful_timeout = 30
accesslog = None
errorlog = "-"
pidfile = None


def when_ready(server):
    if "keystone" in wsgi_app:
        from keystone.common.rbac_enforcer import enforcer

        enforcer.RBACEnforcer()._enforcer.load_rules()
"""

KEYSTONE_STEPS = (
    APT.format(packages="python3-venv")
    + """
python3 -m venv /opt/keystone
/opt/keystone/bin/pip --quiet install --no-compile keystone=={version} pymysql pymemcache gunicorn
/opt/keystone/bin/python -m compileall -q -j 2 /opt/keystone/lib || true
find /opt/keystone -type d -name tests -prune -exec rm -rf {{}} +
ln -s /opt/keystone/bin/keystone-manage /usr/local/bin/keystone-manage
useradd --system --uid 42425 --no-create-home keystone
mkdir -p /etc/keystone /var/log/keystone
chown keystone /var/log/keystone
"""
)

KEYSTONE_CHANGES = (
    "ENV OS_KEYSTONE_CONFIG_DIR=/etc/keystone",
    "USER keystone",
    # gunicorn reads gunicorn.conf.py there. Options on its command line break Keystone, which takes them for its own.
    "WORKDIR /opt/keystone",
    'CMD ["/opt/keystone/bin/gunicorn"]',
)


def keystone(version: str) -> Recipe:
    return Recipe(
        reference=f"rondo/keystone:{version}",
        base="base",
        steps=KEYSTONE_STEPS.format(version=version),
        changes=(*KEYSTONE_CHANGES, f"LABEL org.opencontainers.image.version={version}"),
        files={"/opt/keystone/gunicorn.conf.py": KEYSTONE_GUNICORN},
    )


def keystone_unhealthy(version: str) -> Recipe:
    return Recipe(
        reference=f"rondo/keystone:{version}-unhealthy",
        base=f"keystone-{version}",
        changes=("ENV KEYSTONE_WSGI=unhealthy:application", "ENV PYTHONPATH=/opt/unhealthy", *KEYSTONE_CHANGES[1:]),
        files={"/opt/unhealthy/unhealthy.py": UNHEALTHY_APPLICATION},
    )


def keystone_slow(version: str, seconds: int) -> Recipe:
    """The same Keystone, whose start takes so much longer."""
    return Recipe(
        reference=f"rondo/keystone:{version}-slow",
        base=f"keystone-{version}",
        changes=(f"ENV WARM_UP={seconds}", *KEYSTONE_CHANGES[1:]),
    )


def keystone_broken(version: str, how: str, application: str) -> Recipe:
    """The real Keystone inside of an application that breaks on purpose."""
    return Recipe(
        reference=f"rondo/keystone:{version}-{how}",
        base=f"keystone-{version}",
        changes=(f"ENV KEYSTONE_WSGI=keystone_{how}:application", "ENV PYTHONPATH=/opt/broken", *KEYSTONE_CHANGES[1:]),
        files={f"/opt/broken/keystone_{how}.py": application},
    )


# By the end of their versions: what is planted in them.
REGRESSIONS = {
    "steady": "nothing",
    "lacking": "lacking",
    "forgetful": "forgetful",
    "noisy": "noisy",
    "slow": "slow",
    "regressing": "lacking+forgetful+noisy+slow",
}


def keystone_regressing(version: str, how: str) -> Recipe:
    one = keystone_broken(version, how, REGRESSING_APPLICATION)
    return replace(one, changes=(*one.changes, f"ENV PLANTS={REGRESSIONS[how]}"))


# A small service for labs that are about something else than Keystone: every answer carries the release.
#
#   /health   answers at once; /slow after two seconds; everything else at once
#   WEB_PORT, WARM_UP (seconds until the port opens), WEB_STATUS (of all answers)
#   WEB_FAILS (of a hundred requests other than /health, so many fail), WEB_FAILURE (with this status)
#   WEB_SCHEMA (a file that holds a release): only the release that it holds serves, and keeps it open as long as it
#   lives; others answer 503. `web migrate` writes its own release into it, and can't while an instance has it open.
WEB_APPLICATION = """#!/usr/bin/python3
import fcntl
import itertools
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RELEASE = os.environ["WEB_RELEASE"]
STATUS = int(os.environ.get("WEB_STATUS", "200"))
FAILS = int(os.environ.get("WEB_FAILS", "0"))
FAILURE = int(os.environ.get("WEB_FAILURE", "500"))
SCHEMA = os.environ.get("WEB_SCHEMA")
asked = itertools.count(1)
opened = None
opening = threading.Lock()


def migrate():
    with open(SCHEMA, "r+") as schema:
        try:
            fcntl.flock(schema, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("the schema can't be changed: an instance has it open")
        time.sleep(float(os.environ.get("WEB_MIGRATION", "0.5")))
        schema.truncate()
        schema.write(RELEASE)


def serves():
    global opened
    if SCHEMA is None:
        return True
    with opening:
        # Read before it is locked: what is of another release must not be in a migration's way.
        if not opened and open(SCHEMA).read().strip() == RELEASE:
            opened = open(SCHEMA)
            fcntl.flock(opened, fcntl.LOCK_SH)
            if opened.read().strip() != RELEASE:
                opened = opened.close()
    return opened is not None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status = STATUS
        if self.path != "/health":
            number = next(asked)
            if number * FAILS // 100 > (number - 1) * FAILS // 100:
                status = FAILURE
            elif not serves():
                status = 503
            if self.path == "/slow":
                time.sleep(2)
        body = ('{"release": "%s", "host": "%s"}' % (RELEASE, socket.gethostname())).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *words):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # Health checks hang up as soon as they know enough: no error of ours.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if sys.argv[1:] == ["migrate"]:
    migrate()
else:
    time.sleep(float(os.environ.get("WARM_UP", "0")))
    serves()
    Server(("0.0.0.0", int(os.environ.get("WEB_PORT", "8080"))), Handler).serve_forever()
"""


def web(release: str, **environment: str) -> Recipe:
    """Every answer carries `release`."""
    return Recipe(
        reference=f"rondo/web:{release}",
        base="base",
        changes=(
            f"ENV WEB_RELEASE={release}",
            *(f"ENV {key}={value}" for key, value in environment.items()),
            'CMD ["/usr/local/bin/web"]',
        ),
        files={"/usr/local/bin/web": WEB_APPLICATION},
    )


RECIPES: dict[str, Recipe] = {
    "base": Recipe(reference="rondo/base:trixie", suite="trixie"),
    "base-bookworm": Recipe(reference="rondo/base:bookworm", suite="bookworm"),
    "haproxy-3.0": Recipe(
        reference="rondo/haproxy:3.0",
        base="base",
        steps=APT.format(packages="haproxy"),
        changes=('CMD ["/usr/local/bin/start-haproxy"]',),
        files={"/usr/local/bin/start-haproxy": HAPROXY_START},
    ),
    "haproxy-2.6": Recipe(
        reference="rondo/haproxy:2.6",
        base="base-bookworm",
        steps=APT.format(packages="haproxy"),
        changes=('CMD ["/usr/local/bin/start-haproxy"]',),
        files={"/usr/local/bin/start-haproxy": HAPROXY_START},
    ),
    "node": Recipe(
        reference="rondo/node:trixie",
        base="base",
        steps=APT.format(packages="openssh-server python3-docker iproute2")
        + "mkdir -p /run/sshd\nrm -f /etc/ssh/ssh_host_*\npasswd -d root >/dev/null\n",
        changes=('CMD ["/usr/local/bin/start-node"]',),
        files={"/usr/local/bin/start-node": NODE_START, "/usr/local/bin/haproxy-in": HAPROXY_IN},
    ),
    # What roles/rehearse/files/Dockerfile makes where a registry is in reach.
    "rehearsal": Recipe(
        reference="rondo/rehearsal:trixie", base="base", steps=APT.format(packages="python3-docker haproxy")
    ),
    "keepalived": Recipe(
        reference="rondo/keepalived:2.3",
        base="base",
        steps=APT.format(packages="keepalived iproute2 curl"),
        changes=('CMD ["/usr/local/bin/start-keepalived"]',),
        files={"/usr/local/bin/start-keepalived": KEEPALIVED_START},
    ),
    "mariadb": Recipe(
        reference="rondo/mariadb:11.8",
        base="base",
        steps=APT.format(packages="mariadb-server") + "rm -rf /var/lib/mysql/*\n",
        changes=('CMD ["/usr/local/bin/start-mariadb"]',),
        files={"/usr/local/bin/start-mariadb": MARIADB_START},
    ),
    "memcached": Recipe(
        reference="rondo/memcached:1.6",
        base="base",
        steps=APT.format(packages="memcached"),
        changes=('CMD ["memcached", "-u", "memcache", "-l", "0.0.0.0", "-m", "64", "-c", "1024"]',),
    ),
    "keystone-28.1.0": keystone("28.1.0"),
    "keystone-29.1.0": keystone("29.1.0"),
    "keystone-29.1.0-unhealthy": keystone_unhealthy("29.1.0"),
    "keystone-29.1.0-dying": keystone_broken("29.1.0", "dying", DYING_APPLICATION),
    "keystone-29.1.0-failing": keystone_broken("29.1.0", "failing", FAILING_APPLICATION),
    "keystone-28.1.0-steady": keystone_regressing("28.1.0", "steady"),
    **{f"keystone-29.1.0-{how}": keystone_regressing("29.1.0", how) for how in REGRESSIONS},
    "keystone-30.0.0": keystone("30.0.0"),
    "keystone-30.0.0-slow": keystone_slow("30.0.0", 60),
    "web-1": web("1"),
    "web-2": web("2"),
    "web-2-unhealthy": web("2-unhealthy", WEB_STATUS="503"),
    "web-2-failing": web("2-failing", WEB_FAILS="20"),
    # HAProxy takes these answers for good ones.
    "web-2-denying": web("2-denying", WEB_FAILS="20", WEB_FAILURE="404"),
}


class ImageError(Exception):
    """An image can't be built; the text says which, why, and what would help."""


def recipe(name: str) -> Recipe:
    try:
        return RECIPES[name]
    except KeyError:
        raise ImageError(f"no image is called '{name}'; there are: {', '.join(RECIPES)}") from None


def name_of(reference: str) -> str | None:
    """The recipe's name for an image reference such as `rondo/keystone:29.1.0`; None: not one of ours."""
    return next((name for name, one in RECIPES.items() if one.reference == reference), None)


def say(text: str) -> None:
    print(f"images: {text}", flush=True)


def docker(
    *words: str, stdin: str | None = None, env: dict[str, str] | None = None, timeout: float = CLIENT_TIMEOUT
) -> str:
    """The output of a docker command. Raises ImageError with what the engine said."""
    done = subprocess.run(
        ["docker", *words],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )
    if done.returncode:
        raise ImageError(f"docker {' '.join(words[:2])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout.strip()


def is_current(one: Recipe) -> bool:
    try:
        return (
            docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', one.reference)
            == one.digest
        )
    except ImageError:
        return False


@contextmanager
def locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(name: str) -> str:
    """Builds the image unless it is there and current. Returns its reference."""
    one = recipe(name)
    if is_current(one):
        return one.reference
    if one.base:
        ensure(one.base)
    with locked(name):
        if is_current(one):
            return one.reference
        began = time.monotonic()
        say(f"building {one.reference}")
        if one.base:
            _build(one, recipe(one.base).reference, one.steps)
        else:
            _debian(one)
        say(f"built {one.reference} in {time.monotonic() - began:.0f} s")
    return one.reference


def _changes(one: Recipe) -> list[str]:
    return [
        word for change in ("USER root", *one.changes, f"LABEL {LABEL}={one.digest}") for word in ("--change", change)
    ]


def _debian(one: Recipe) -> None:
    """Debian's own image where a registry answers at once; else the same made from Debian's packages."""
    public = f"debian:{one.suite}-slim"
    try:
        docker("pull", "--quiet", public, timeout=120)
    except (ImageError, subprocess.TimeoutExpired):
        say(f"no registry gives {public}: making it from Debian's packages")
    else:
        _build(one, public, APT.format(packages=" ".join(BASE_PACKAGES)))
        return
    _require_mmdebstrap()
    tarball = CACHE / f"{one.suite}.tar"
    if not tarball.exists():
        partial = CACHE / f"{one.suite}.partial.tar"
        words = [
            "mmdebstrap", "--variant=minbase", "--quiet", f"--include={','.join(BASE_PACKAGES)}",
            '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin',
            '--dpkgopt=path-exclude=/usr/share/man/*', '--dpkgopt=path-exclude=/usr/share/doc/*',
            '--dpkgopt=path-exclude=/usr/share/locale/*',
            one.suite, str(partial),
        ]  # fmt: skip
        keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        if keyring.exists():
            words.insert(1, f"--keyring={keyring}")
        if os.getuid() != 0:
            words[:0] = ["sudo", "-n", "--preserve-env=http_proxy,https_proxy,no_proxy"]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CLIENT_TIMEOUT, check=False
        )
        if done.returncode:
            raise ImageError(f"mmdebstrap {one.suite} failed: {done.stderr.strip()[-2000:]}")
        partial.replace(tarball)
    docker("import", *_changes(one), str(tarball), one.reference)


def _require_mmdebstrap() -> None:
    if shutil.which("mmdebstrap"):
        return
    if not shutil.which("apt-get"):
        raise ImageError(
            "no image registry is in reach, and mmdebstrap, which makes the base image without one, is not installed: "
            "install mmdebstrap, or make debian:trixie-slim pullable"
        )
    with locked("apt"):
        if shutil.which("mmdebstrap"):
            return
        say("installing Debian's package mmdebstrap")
        sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
        for words in (
            ["apt-get", "-qq", "update"],
            ["apt-get", "-qq", "-y", "install", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"],
        ):
            done = subprocess.run(
                [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *words],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CLIENT_TIMEOUT, check=False,
            )  # fmt: skip
            if done.returncode:
                raise ImageError(f"{' '.join(words)} failed: {done.stderr.strip()[-1000:]}")


def _build(one: Recipe, base: str, steps: str) -> None:
    bundle, env = reach()
    mounts = ["--volume", f"{bundle}:/run/build/ca.pem:ro"] if bundle else []
    # The host's network: a bridge's own MTU and DNS are one more thing that can be wrong while packages are fetched.
    container = docker(
        "run", "--detach", "--init", "--network", "host", "--user", "0:0", "--tmpfs", "/run/build:exec", *mounts,
        base, "sleep", "infinity",
    )  # fmt: skip
    try:
        passed = [word for key in env for word in ("--env", key)]
        _script(container, passed, env, f"set -eu\n{steps}")
        for path, text in one.files.items():
            mode = "0755" if text.startswith("#!") else "0644"
            docker("exec", "--interactive", "--user", "0:0", container, "sh", "-c",
                   f"mkdir -p {Path(path).parent} && cat >{path} && chmod {mode} {path}", stdin=text)  # fmt: skip
        docker("commit", "--pause=false", *_changes(one), container, one.reference)
    finally:
        docker("rm", "--force", "--volumes", container)


def _script(container: str, passed: list[str], env: dict[str, str], script: str) -> None:
    for attempt in (1, 2, 3):
        try:
            docker("exec", "--interactive", "--user", "0:0", *passed, container, "sh", "-s", stdin=script, env=env)
            return
        except ImageError as error:
            # Registries have bad moments; the steps can be run again over what they left.
            if attempt == 3:
                raise
            say(f"a step failed, trying again: {str(error).splitlines()[-1]}")
            time.sleep(5 * attempt)


@functools.cache
def reach() -> tuple[str | None, dict[str, str]]:
    """How this machine reaches its package registries: a CA bundle's path or None, and environment for the steps."""
    env = {key: os.environ[key] for key in os.environ if key.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    settings = _pip_settings()
    bundle = next(
        (
            path
            for path in (
                settings.pop("cert", None),
                *map(os.environ.get, ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")),
            )
            if path and Path(path).is_file()
        ),
        None,
    )
    if bundle:
        env.update(dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), "/run/build/ca.pem"))
    for key, value in settings.items():
        # Folders of this machine are not there inside a container.
        words = [word for word in value.split() if "://" in word and not word.startswith("file:")]
        if key == "trusted-host" or key == "proxy":
            words = value.split()
        if words:
            env[f"PIP_{key.upper().replace('-', '_')}"] = " ".join(words)
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    env["PIP_NO_CACHE_DIR"] = "1"
    env["PIP_ROOT_USER_ACTION"] = "ignore"
    env["PIP_DEFAULT_TIMEOUT"] = "60"
    return bundle, env


def _pip_settings() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.strip().rpartition(".")
        if name in ("cert", "index-url", "extra-index-url", "trusted-host", "proxy") and section in (
            "global",
            "install",
            ":env:",
        ):
            found[name] = value.strip().strip("'\"").replace("\\n", " ")
    return found


def remove_all() -> int:
    """Removes every image that carries our label, newest first. Returns how many."""
    listed = docker("image", "ls", "--filter", f"label={LABEL}", "--format", "{{.Repository}}:{{.Tag}}").split()
    ours = [reference for reference in listed if reference.startswith("rondo/")]
    if ours:
        docker("image", "rm", "--force", *ours)
    return len(ours)


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds the lab's container images.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="which to build; none: list them")
    parser.add_argument("--remove", action="store_true", help="remove every image built by this program")
    options = parser.parse_args()
    try:
        if options.remove:
            say(f"removed {remove_all()} images")
        elif not options.images:
            for name, one in RECIPES.items():
                print(f"{name:28} {one.reference}")
        elif platform.system() != "Linux":
            raise ImageError("the images are built on Linux only")
        else:
            for name in options.images:
                ensure(name)
    except (ImageError, subprocess.TimeoutExpired) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
