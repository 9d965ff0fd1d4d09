"""Two officers of four open what was recorded of one conversation, and an export leaves."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage

from demo.hospital import QUORUM, Console, Hospital
from demo.night import GONE_S, LOOK_S, OFFICERS, Night
from demo.programs import DemoError, run


async def opening(night: Night) -> None:
    """Two officers of four open one conversation, and an export leaves that proves itself."""
    hospital, stage = night.hospital, night.stage
    stage.scene("Two officers of four open one conversation")
    first, second = OFFICERS[:QUORUM]
    await _review(hospital, "begin")
    async with hospital.console(first) as one, hospital.console(second) as two:
        asked = await one.do(
            f"officer request {night.ward} --case 2026-118 --reason 'A complaint about the night'"
        )
        request = str(asked["request"])
        stage.tell(f"{first} asks for {asked['records']} records, with a reason")
        await _agree(one, request)
        refused = await _review_fails(hospital, "open", request)
        stage.claim(
            "one officer's approval opens nothing, at the archive's machine too",
            found=refused or "it was opened",
            holds=refused.startswith("refused: "),
        )
        await _agree(two, request)
        for console in (one, two):
            await _case(console, request, lambda case: case["has_shares"])
            await console.do(f"officer release {request}")
    stage.tell(f"{first} and {second} have approved, and released their shares for it")
    await _await_released(hospital)
    told = await _opened(hospital, request)
    lines = [line for part in told for line in part.get("timeline", ())]
    said = Counter(
        (message.split(":")[1], text)
        for text, message in night.sent
        if message.startswith(night.ward[:8])
    )
    read = Counter((line["sender"], line["text"]) for line in lines if line["kind"] == "text")
    stage.claim(
        "they open every message of that conversation, as it was sent",
        found=f"{said.total()} messages sent, {(said & read).total()} of them opened, "
        f"{(read - said).total()} that nobody sent",
        holds=said == read,
    )
    await _export(night, request)


async def _review(hospital: Hospital, *arguments: str | Path) -> list[Any]:
    said = await run(
        "wardline-archive",
        "review",
        *arguments,
        *("--config", hospital.archive_file, "--json"),
        record=hospital.record,
    )
    return [json.loads(line) for line in said.splitlines()]


async def _opened(hospital: Hospital, request: str) -> list[Any]:
    """Open what was released, once the archive has the release under a witnessed checkpoint."""
    for _ in range(int(GONE_S / LOOK_S)):
        try:
            return await _review(hospital, "open", request, "--timeline")
        except DemoError:
            await asyncio.sleep(LOOK_S)
    return await _review(hospital, "open", request, "--timeline")


async def _review_fails(hospital: Hospital, *arguments: str) -> str:
    try:
        await _review(hospital, *arguments)
    except DemoError as error:
        return str(error).strip().splitlines()[-1].rpartition("review: ")[2]
    return ""


async def _case(
    console: Console, request: str, wanted: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Return an officer's view of a request, once it is as wanted."""
    for _ in range(int(GONE_S / LOOK_S)):
        cases = (await console.do("officer requests"))["requests"]
        for case in cases:
            if case["request"] == request and wanted(case):
                return dict(case)
        await asyncio.sleep(LOOK_S)
    raise DemoError("an officer's device waits in vain for the archive")


async def _agree(console: Console, request: str) -> None:
    await _case(console, request, lambda case: case["witnessed"])
    await console.do(f"officer approve {request}")


async def _await_released(hospital: Hospital) -> None:
    for _ in range(int(GONE_S / LOOK_S)):
        cases = (await _review(hospital, "cases"))[0]
        if len(cases[-1]["released"]) >= QUORUM:
            return
        await asyncio.sleep(LOOK_S)
    raise DemoError("the archive waits in vain for the officers' shares")


async def _export(night: Night, request: str) -> None:
    """Export what was opened, sealed to a recipient, and verify it without relay and archive."""
    hospital, stage = night.hospital, night.stage
    recipient = pyrage.x25519.Identity.generate()
    sealed, folder = hospital.folder / "case.age", hospital.folder / "export"
    await _review(hospital, "export", request, "--to", str(recipient.to_public()), "--out", sealed)
    packed = pyrage.decrypt(sealed.read_bytes(), [recipient])
    unpack(packed, folder)
    (export,) = folder.iterdir()
    verdict = await _verify(export)
    stage.claim(
        "the export proves itself to whoever gets it, by one file of Python",
        found=f"{sealed.stat().st_size:,} bytes; verify.py: {verdict}",
        holds=verdict == "VERIFIED",
    )
    transcript = export / "transcript.txt"
    text = transcript.read_text()
    transcript.write_text(text.replace("a", "e", 1))
    verdict = await _verify(export)
    transcript.write_text(text)
    stage.claim(
        "one letter changed in it is found",
        found=f"verify.py: {verdict}",
        holds=verdict != "VERIFIED",
    )


def unpack(packed: bytes, folder: Path) -> None:
    """Write the files of a tar, and nothing beside ``folder``.

    Raises:
        DemoError: It has something else than files in folders of its own.
    """
    # Debian 12's Python has no filter for this yet.
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in tar:
            to = folder / member.name
            content = tar.extractfile(member) if member.isfile() else None
            if not to.resolve().is_relative_to(folder.resolve()):
                raise DemoError("the export leads out of its folder")
            if content is not None:
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(content.read())


async def _verify(export: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "verify.py", cwd=export, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().strip().splitlines()[-1]
