"""The relay behind nginx, as the blocks of docs/operations.md configure both."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from crypto.tls_certificate import create_tls_identity, tls_pin
from release.lock import ROOT
from tests.scenarios.process import Installation
from tests.server.harness import Hospital, hospital, now_ms
from tests.waiting import comes_true

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
STOP_S = 20.0


def documented(language: str, *, has: str, outer: int, inner: int) -> str:
    """Return the block of the document that has a text, with other ports."""
    text = (ROOT / "docs" / "operations.md").read_text()
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (found,) = [block for block in blocks if has in block]
    ports = {"8443": str(outer), "8444": str(inner)}
    return re.sub("8443|8444", lambda named: ports[named[0]], found)


@contextmanager
def reserved() -> Iterator[int]:
    """Bind a port and do not listen: only whoever shares addresses can have it, as servers do."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@contextmanager
def nginx(folder: Path, server: str) -> Iterator[None]:
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; events {{}}"
        f"http {{ access_log {folder}/access.log; {places} {server} }}"
    )
    arguments = [str(NGINX), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(arguments)
    try:
        yield
    finally:
        process.terminate()
        process.wait(STOP_S)


def listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def status_of(path: str, port: int) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    asked = HTTPSConnection("127.0.0.1", port, context=context, timeout=STOP_S)
    try:
        asked.request("GET", path)
        return asked.getresponse().status
    finally:
        asked.close()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed here")
async def test_a_device_connects_through_nginx_as_the_document_configures_it(
    tmp_path: Path,
) -> None:
    of, folder = hospital(), tmp_path / "relay"
    at = Installation(folder, of)
    identity = create_tls_identity("proxy", at_ms=now_ms())
    (folder / "proxy.pem").write_bytes(identity.certificate)
    (folder / "proxy.key").write_bytes(identity.key)
    (folder / "proxy.pin").write_text(tls_pin(identity.certificate).hex())
    with reserved() as outer, reserved() as inner:
        await connects(at, of, outer=outer, inner=inner)


async def connects(at: Installation, of: Hospital, **ports: int) -> None:
    """Run relay and nginx by the document's blocks, and let a device in."""
    folder = at.folder
    relay = documented("toml", has="behind_proxy", **ports).replace("/var/lib/wardline", "data")
    (folder / "relay.toml").write_text(relay)
    at.command("init")
    server = documented("nginx", has="server {", **ports).replace("/etc/wardline", str(folder))
    await at.start()
    try:
        with nginx(folder, server):
            await comes_true(lambda: listens(ports["outer"]))
            at.port = ports["outer"]
            client = await at.opened(of.enrol("ann/phone"))
            assert status_of("/healthz", ports["outer"]) == 200
            assert status_of("/metrics", ports["outer"]) == 404
            await client.socket.close()
    finally:
        await at.stop()
