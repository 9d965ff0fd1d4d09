"""The archive's second machine, with real processes: receipts wait for it; it makes it anew."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner

from archive import configuration, founding, mirror_program, program
from archive.record import RecordType
from protocol.archived import Archived
from tests.scenarios.blackbox import PROGRAM, BlackBox, hospital_with_archive
from tests.scenarios.process import Program
from tests.scenarios.test_archive import Device, gathered, hashes_of
from tests.waiting import comes_true


def said(app: Typer, *arguments: str | Path) -> str:
    """Run a command in this process, which is quicker than one of its own; it must succeed."""
    ended = CliRunner().invoke(app, [str(word) for word in arguments])
    assert ended.exit_code == 0, ended.output
    return ended.output


class SecondMachine(Program):
    """The mirror's process on its files."""

    def __init__(self, folder: Path, log_key: str) -> None:
        super().__init__(folder / "mirror.log")
        folder.mkdir()
        self.folder = folder
        # Bound, and not listening: nobody else gets the port, and nobody answers before `start`.
        self.reserved = socket.socket()
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{self.reserved.getsockname()[1]}"
        self.told = self.command("init", "--log-key", log_key, "--listen", listen)

    def command(self, *arguments: str) -> str:
        """Run one of the program's commands, and return what it prints."""
        return said(mirror_program.app, *arguments, "--config", self.folder / "mirror.toml")

    def start(self) -> None:
        """Start the process."""
        self.spawn(PROGRAM, "mirror", "run", "--config", self.folder / "mirror.toml")

    def close(self) -> None:
        """Let go of process and port."""
        self.reserved.close()
        if self.process is not None:
            self.kill()


def pair(box: BlackBox, second: SecondMachine) -> None:
    """Do on the archive's host what `mirror init` says."""
    shutil.move(second.folder / "archive.token", box.file.parent)
    box.file.write_text(box.file.read_text() + second.told.partition("moved beside it:\n")[2])


def alarms(box: BlackBox) -> set[str]:
    path = box.file.parent / "data" / "status.json"
    return set(json.loads(path.read_text())["alarms"])


def told(device: Device) -> int:
    return sum(len(one.messages) for one in device.archived if isinstance(one, Archived))


async def test_receipts_wait_for_the_second_machine_and_it_brings_the_archive_back_without_its_host(
    tmp_path: Path,
) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (_, at, box):
        (ann,), conversation = await gathered(at, "ann/phone")
        sent = [await ann.told(conversation, b"before %d" % n) for n in range(3)]
        await ann.until(lambda: told(ann) == 3)
        await box.stop()
        second = SecondMachine(tmp_path / "second", founding.log_key(box.file).encode())
        back = None
        try:
            pair(box, second)
            box.start()
            # It is away: what is said is recorded, nobody is told so, and an alarm rises.
            sent += [await ann.told(conversation, b"while it is away %d" % n) for n in range(3)]
            await box.until_it_holds(hashes_of(sent))
            await comes_true(lambda: "MIRROR" in alarms(box))
            assert told(ann) == 3
            assert all(any(m in f for f in at.files().values()) for m in sent[3:])
            second.start()
            await ann.until(lambda: told(ann) == 6)
            await comes_true(lambda: not any(m in f for m in sent for f in at.files().values()))
            await comes_true(lambda: "MIRROR" not in alarms(box))
            found = CliRunner().invoke(program.app, ["check", "--config", str(box.file)]).output
            (line,) = [one for one in found.splitlines() if "mirror's machine" in one]
            assert "WRONG" not in line
            second.kill()
            assert "confirmed " in second.command("status")
            assert "FINDING" not in said(
                program.app, "verify", second.folder / "data", "--config", box.file
            )
            # The archive's host is lost. What is left of it is the key, from the safe.
            box.kill()
            key = (box.file.parent / founding.KEY_FILE).read_bytes()
            shutil.rmtree(box.file.parent)
            back = BlackBox(tmp_path / "new" / "archive.toml", at)
            revive(back, second.folder / "data", key)
            said(program.app, "restore", second.folder / "data", "--config", back.file)
            back.start()
            await back.until_it_holds(hashes_of(sent))
            after = await ann.told(conversation, b"after")
            await back.until_it_holds(hashes_of([after]))
            (gap,) = [r for r in back.records() if r.type is RecordType.RESTORE_OR_GAP]
            assert gap.index == 0
            assert "FINDING" not in said(program.app, "verify", "--config", back.file)
        finally:
            second.close()
            for one in (box, back):
                if one is not None and one.process is not None:
                    one.kill()


def revive(box: BlackBox, data: Path, key: bytes) -> None:
    """Do on the second machine what operations.md says, before `restore`."""
    box.file.parent.mkdir()
    settings = (data / "archive.toml").read_text()
    box.file.write_text(settings.partition("[mirror_host]")[0])
    assert configuration.read(box.file).mirror_host is None
    path = box.file.parent / founding.KEY_FILE
    path.touch(mode=0o600)
    path.write_bytes(key)
