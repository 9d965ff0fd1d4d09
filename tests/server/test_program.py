"""The program as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from crypto.certificate import create_root
from crypto.note import Note
from crypto.tls_certificate import VALIDITY_DAYS, create_tls_identity
from protocol.report import verify_report
from server import checking, configuration, program, records
from server.configuration import ConfigurationError
from server.store import StoreFailedError
from tests.server import harness
from tests.waiting import WITHIN_S


def installed(folder: Path, listen: str = "port = 0") -> Path:
    """Return a configuration file of an organisation, its root beside it."""
    der, _ = create_root("St. Elsewhere", at_ms=time.time_ns() // 1_000_000)
    (folder / "root.der").write_bytes(der)
    path = folder / "relay.toml"
    path.write_text(
        f'data = "data"\norganisations = [{{ root = "root.der" }}]\n[listen]\n{listen}\n'
    )
    return path


def run(path: Path, *command: str) -> int:
    return program.main(["--config", str(path), *command])


def test_init_makes_what_check_finds_and_makes_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "is_clock_kept", lambda: True)
    path = installed(tmp_path)
    assert run(path, "check") == 1
    assert run(path, "init") == 0
    first = capsys.readouterr().out
    assert run(path, "check") == 0
    assert capsys.readouterr().out.startswith(first)
    assert first.startswith("pin ")
    assert run(path, "init") == 1
    for file in (tmp_path / "data").iterdir():
        assert not file.stat().st_mode & 0o077


@pytest.mark.parametrize(
    "text",
    [
        "unknown = 1",
        "[listen]\nport = 70000",
        "[listen]\nport = 'x'",
        "[listen]\nencryption = false",
        "[listen]\nbehind_proxy = true",
        "[listen]\ncertificate = 'a.pem'",
        "[storage]\nexpiry_days = 0",
        "[rates]\nmessages = 0.0",
        "log_level = 'EVERYTHING'",
        "not toml",
    ],
)
def test_a_configuration_that_says_anything_wrong_stops_the_start(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "relay.toml"
    head = 'data = "data"\norganisations = []\n'
    path.write_text(head)
    configuration.read(path)
    path.write_text(head + text)
    with pytest.raises(ConfigurationError):
        configuration.read(path)
    assert run(path, "run") == 1


def test_a_root_that_is_none_or_named_twice_stops_the_start(tmp_path: Path) -> None:
    path = installed(tmp_path)
    assert run(path, "init") == 0
    root = tmp_path / "root.der"
    der = root.read_bytes()
    root.write_bytes(der[:-1])
    assert run(path, "check") == 1
    root.write_bytes(der)
    text = path.read_text()
    path.write_text(text.replace("]\n", ', { root = "root.der" }]\n', 1))
    assert run(path, "check") == 1


def started(path: Path) -> tuple[subprocess.Popen[str], int]:
    """Start the program; return it and its port once it listens."""
    path.write_text(path.read_text().replace("port = 0", 'port = 0\nhost = "127.0.0.1"'))
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "--config", str(path), "run"],
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "MALLOC_PERTURB_"},
    )
    assert process.stderr is not None
    said = json.loads(process.stderr.readline())
    assert said["event"] == "listening"
    return process, int(said["listen"])


def test_it_serves_tls_1_3_and_nothing_older_and_drains_on_sigterm(tmp_path: Path) -> None:
    path = installed(tmp_path)
    assert run(path, "init") == 0
    process, port = started(path)
    try:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"MALLOC_PERTURB_=" in environment
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as tls:
            assert tls.version() == "TLSv1.3"
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = tls.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"server:" not in answer.lower()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(ssl.SSLError):
            context.wrap_socket(raw)
        assert run(path, "backup", str(tmp_path / "copy")) == 0
        assert {f.name for f in (tmp_path / "copy").iterdir()} == {"relay.db", "secrets.db"}
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0
        assert '"stopped"' in log
    finally:
        process.kill()


def test_a_backup_is_restored_into_an_empty_directory_alone(tmp_path: Path) -> None:
    path = installed(tmp_path)
    assert run(path, "init") == 0
    assert run(path, "backup", str(tmp_path / "copy")) == 0
    assert run(path, "restore", str(tmp_path / "copy")) == 1
    (tmp_path / "data").rename(tmp_path / "lost")
    assert run(path, "restore", str(tmp_path / "copy")) == 0
    for name in ("secrets.key", "tls.pem", "tls.key"):
        (tmp_path / "lost" / name).rename(tmp_path / "data" / name)
    # It awaits the archive, and its witness key is a new one.
    assert failing(path) == {"logs", "secrets"}
    keys = [(tmp_path / at / "witness.key").read_text() for at in ("lost", "data")]
    assert keys[0] != keys[1]


def failing(path: Path) -> set[str]:
    """Return the names of the checks that do not hold, whatever this machine's clock is."""
    found = checking.report(program.Program(path)).failed
    return {check.name for check in found} - {"clock", "disk"}


def test_a_second_channel_that_cannot_work_is_found_before_a_page_needs_it(tmp_path: Path) -> None:
    path = installed(tmp_path)
    assert run(path, "init") == 0
    said = path.read_text()
    people = tmp_path / "people.toml"

    def with_command(command: str) -> None:
        path.write_text(
            f'{said}\n[second_channel]\npeople = "people.toml"\ncommand = ["{command}"]'
        )

    with_command("/bin/true")
    assert failing(path) == {"second channel"}
    people.write_text('[anna] number = "+49"')
    assert failing(path) == {"second channel"}
    people.write_text('[anna]\nnumber = "+49"\n')
    assert failing(path) == set()
    with_command("/no/such/gateway")
    assert failing(path) == {"second channel"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def _tomorrow(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        (record,) = db.execute("SELECT record FROM tail WHERE id = 1").fetchone()
        values = records.unseal_values("tail", 1, record)
        values[-2] = time.time_ns() // 1_000_000 + 24 * 3600 * 1000
        sealed = records.seal_values("tail", 1, *values)
        db.execute("UPDATE tail SET record = ? WHERE id = 1", (sealed,))
        db.commit()


FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "files are their owner's alone": ("secrets.db", lambda path: path.chmod(0o644)),
    "logs": ("relay.db", _cut),
    "clock and store agree": ("relay.db", _tomorrow),
    "secrets": ("secrets.db", _flip),
    "TLS": ("tls.pem", lambda path: path.write_bytes(ending_soon())),
}


def ending_soon() -> bytes:
    past_ms = time.time_ns() // 1_000_000 - (VALIDITY_DAYS - 7) * 24 * 3600 * 1000
    return create_tls_identity("x", at_ms=past_ms).certificate


@pytest.mark.parametrize("name", FAULTS)
def test_check_finds_each_fault_and_signs_what_it_found(tmp_path: Path, name: str) -> None:
    path = installed(tmp_path)
    assert run(path, "init") == 0
    assert failing(path) == set()
    file, spoil = FAULTS[name]
    spoil(tmp_path / "data" / file)
    target = tmp_path / "report"
    assert run(path, "check", "--report", str(target)) == 1
    key = checking.read_key(tmp_path / "data" / "report.key").verifier
    report = verify_report(Note.decode(target.read_bytes()), key)
    assert report.program == "wardline-relay"
    assert name in {check.name for check in report.failed}


def test_check_looks_at_a_relay_that_is_serving(tmp_path: Path) -> None:
    path = installed(tmp_path)
    assert run(path, "init") == 0
    process, _ = started(path)
    try:
        assert failing(path) == set()
    finally:
        process.kill()
        process.communicate()


async def test_what_the_relay_looks_at_now_and_then_is_looked_at_again_whatever_failed(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        looks: list[int] = []
        again = asyncio.Event()

        def look() -> None:
            looks.append(len(looks))
            if len(looks) == 1:
                raise StoreFailedError
            if len(looks) == 2:
                raise RuntimeError
            again.set()

        task = asyncio.create_task(program.repeat(site.relay, look, every_s=0.001))
        async with asyncio.timeout(WITHIN_S):
            await again.wait()
        task.cancel()
        counted = site.relay.counters
        assert (counted["upkeep_failures"], counted["faults"]) == (1, 1)
