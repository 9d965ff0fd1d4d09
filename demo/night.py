"""The night itself, scene by scene; each ends with claims that were measured in it."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import sqlite3
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage

from demo.dialogues import Source
from demo.hospital import QUORUM, Console, Hospital
from demo.programs import DemoError, Device, run
from demo.stage import Stage
from server.records import open_entry

ADMINISTRATORS = ("ada", "boris")
OFFICERS = ("olga", "omar", "otto", "oona")
STAFF = (
    ("anna", "Anna Arendt, RN", "Ward 4", "clinician"),
    ("ben", "Ben Brandt, RN", "Ward 4", "clinician"),
    ("clara", "Dr. Clara Cho", "Ward 4", "clinician"),
    ("david", "Dr. David Diaz", "Ward 4", "clinician"),
    ("elif", "Elif Ersoy, RN", "ICU", "clinician"),
    ("farid", "Dr. Farid Faruk", "ICU", "clinician"),
    ("grace", "Dr. Grace Gao", "Cardiology", "clinician"),
    ("henry", "Dr. Henry Hall", "Cardiology", "clinician"),
    ("ines", "Ines Ito, Pharmacist", "Pharmacy", "clinician"),
    ("jonas", "Jonas Jung, Porter", "Logistics", "affiliate"),
    ("kira", "Dr. Kira Klein", "Radiology", "clinician"),
    ("luis", "Dr. Luis Lopez", "Ward 4", "clinician"),
)
WARD = "Ward 4, tonight"
WARD_PEOPLE = ("anna", "ben", "clara", "david", "elif", "farid", "ines", "luis")
PAIRS = (("anna", "clara"), ("ben", "david"), ("elif", "farid"), ("grace", "kira"))

PRIVATE_MESSAGE = bytes.fromhex("00010002")
"""How an encrypted message begins: MLS 1.0 and its wire format (RFC 9420, section 6)."""

GROUP_TURNS = 24
PAIR_TURNS = 6
KILL_TURNS = 10
"""Turns of dialogue in the group, in each pair, and around the relay's death."""

STEP_S = 15
"""Seconds that the first step of a page waits: the least that a policy may say."""
LATE_S = 10.0
"""Seconds that a step may come late on a machine that runs all of this."""

DELIVERED_S = 2.0
"""Longest median, in seconds, from sending to being shown; eighteen devices share this machine."""

ARCHIVED_S = 20.0
GONE_S = 20.0
"""Seconds until the archive has proved a message, and until the relay let go of what all have."""

LOOK_S = 0.25
"""How often what is awaited is looked at, in seconds."""

BACK_S = 20.0
"""Seconds until what was sent while the relay was dead is shown everywhere."""


@dataclass(kw_only=True)
class Night:
    """What the scenes share.

    Attributes:
        words: What people say, turn by turn.
        ward: Number of the ward's conversation.
        sent: Text and id of everything that was sent.
        delays_s: From sending to being shown, for each message and reader.
    """

    hospital: Hospital
    stage: Stage
    source: Source
    words: Iterator[str] = field(init=False)
    ward: str = ""
    sent: list[tuple[str, str]] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open the dialogues at their beginning."""
        self.words = self.source.turns()

    def device(self, user: str) -> Device:
        """Return somebody's running device."""
        return self.hospital.devices[user]

    async def say(self, user: str, to: str, text: str, *, readers: Sequence[str]) -> str:
        """Send a message, wait until every reader was shown it, and return its id."""
        began_s = time.monotonic()
        answer = await self.device(user).ask("send", to=to, text=text)
        message = str(answer["message"]["key"])
        self.sent.append((text, message))
        shown = await asyncio.gather(*(self.device(reader).has(message) for reader in readers))
        self.delays_s += [at_s - began_s for at_s in shown]
        return message


async def found(night: Night) -> None:
    """Relay, archive, authority; administrators and officers by the authority's invitations."""
    hospital, stage = night.hospital, night.stage
    stage.scene("The hospital is founded")
    await hospital.found(administrators=list(ADMINISTRATORS), officers=list(OFFICERS))
    await hospital.serve()
    stage.tell(f"relay (process {hospital.relay.pid}) and archive ({hospital.archive.pid}) serve")
    for user in (*ADMINISTRATORS, *OFFICERS):
        hospital.person(user)
    await hospital.enrol(*ADMINISTRATORS, *OFFICERS)
    stage.tell(f"enrolled: {', '.join((*ADMINISTRATORS, *OFFICERS))}")
    for officer in OFFICERS:
        others = ",".join(one for one in OFFICERS if one != officer)
        last = ("--with", others) if officer == OFFICERS[-1] else ()
        await run(
            "wardline",
            *hospital.people[officer].options,
            *("officer", "begin", "--quorum", str(QUORUM), "--officers", str(len(OFFICERS))),
            *last,
            host=hospital.people[officer].host,
        )
    stage.tell(f"every officer has made keys; {QUORUM} of {len(OFFICERS)} open what is recorded")


async def staff(night: Night) -> None:
    """An administrator imports the ward from a file; everybody enrols by the printed page."""
    hospital, stage = night.hospital, night.stage
    stage.scene("The ward is imported, and everybody enrols")
    file, pages = hospital.folder / "ward.csv", hospital.folder / "invitations.html"
    rows = [",".join(f'"{part}"' for part in row) for row in STAFF]
    file.write_text("\n".join(["user,name,ward,roles", *rows]) + "\n")
    async with Console(hospital.people["ada"]) as console:
        plan = await console.do(f"admin users import {file} --pages {pages}", code=True)
    stage.tell(f"{len(plan['people'])} people invited from {file.name}; pages in {pages.name}")
    links = re.findall(r"<code>(WARDLINE:[A-Z2-7]+)</code>", pages.read_text())
    hospital.invitations |= {row[0]: link for row, link in zip(STAFF, links, strict=True)}
    for user, name, ward, _ in STAFF:
        hospital.person(user, name=name, ward=ward)
    began_s = time.monotonic()
    await hospital.enrol(*(row[0] for row in STAFF))
    stage.tell(f"enrolled in {time.monotonic() - began_s:.1f} s: {', '.join(r[0] for r in STAFF)}")
    await hospital.turn_on(*(row[0] for row in STAFF))
    stage.tell("every device is on")


async def talk(night: Night) -> None:
    """A group and direct conversations, with real dialogues."""
    stage = night.stage
    stage.scene(f"The ward talks ({night.source.name})")
    anna = night.device("anna")
    made = await anna.ask("start", kind="group", title=WARD, users=list(WARD_PEOPLE[1:]))
    night.ward = str(made["conversation"])
    speakers = itertools.cycle(WARD_PEOPLE)
    for user, text in zip(speakers, itertools.islice(night.words, GROUP_TURNS), strict=False):
        await night.say(user, WARD, text, readers=[one for one in WARD_PEOPLE if one != user])
    stage.tell(f"{GROUP_TURNS} messages in {WARD!r}, each shown on {len(WARD_PEOPLE) - 1} devices")
    await asyncio.gather(*(_pair(night, *pair) for pair in PAIRS))
    stage.tell(f"{PAIR_TURNS * len(PAIRS)} messages between {len(PAIRS)} pairs")
    delays = sorted(night.delays_s)
    median, late = delays[len(delays) // 2], delays[int(len(delays) * 0.95)]
    stage.claim(
        "a message is shown at once to everybody it is for",
        found=f"{len(night.sent)} messages, shown {len(delays)} times; median "
        f"{median * 1000:.0f} ms, 95 of 100 within {late * 1000:.0f} ms",
        holds=median < DELIVERED_S,
    )


async def _pair(night: Night, first: str, second: str) -> None:
    for speaker, other in itertools.islice(
        itertools.cycle(((first, second), (second, first))), PAIR_TURNS
    ):
        await night.say(speaker, other, next(night.words), readers=[other])


async def forget(night: Night) -> None:
    """What all have, and the archive has proved, is gone from the relay's disk."""
    stage = night.stage
    stage.scene("The relay forgets, the archive keeps")
    began_s = time.monotonic()
    await asyncio.gather(
        *(
            night.device(user).ask("wait", **{"for": "archived"}, timeout_s=ARCHIVED_S)
            for user in WARD_PEOPLE
        )
    )
    stage.claim(
        "every sender has the archive's proof of every message",
        found=f"the last after {time.monotonic() - began_s:.1f} s",
        holds=True,
    )
    listed = [await night.device(user).ask("list") for user in (*WARD_PEOPLE, "grace")]
    ids = {one["id"] for answer in listed for one in answer["conversations"]}
    left = await _until_forgotten(night.hospital, {bytes.fromhex(one) for one in ids})
    stage.claim(
        "no message that everybody has is left on the relay's disk",
        found=f"{left} of {len(night.sent)} messages in {len(ids)} conversations",
        holds=left == 0,
    )
    texts = [text.encode() for text, _ in night.sent if len(text) >= 12]
    files = _files(night.hospital.relay_data, night.hospital.relay.log)
    seen = sum(text in content for content in files.values() for text in texts)
    size = sum(len(content) for content in files.values())
    stage.claim(
        "no word of any message is in the relay's files or log",
        found=f"{len(texts)} texts looked for in {len(files)} files, {size:,} bytes: {seen} found",
        holds=seen == 0,
    )


async def _until_forgotten(hospital: Hospital, conversations: set[bytes]) -> int:
    left = messages_kept(hospital.relay_data, conversations)
    for _ in range(int(GONE_S / LOOK_S)):
        if left == 0:
            break
        await asyncio.sleep(LOOK_S)
        left = messages_kept(hospital.relay_data, conversations)
    return left


def messages_kept(relay_data: Path, conversations: Iterable[bytes]) -> int:
    """Return how many messages of these conversations lie on the relay's disk."""
    begins = tuple(PRIVATE_MESSAGE + bytes([len(one)]) + one for one in conversations)
    with closing(sqlite3.connect(f"{(relay_data / 'relay.db').as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT id, record FROM entry").fetchall()
    bodies = [open_entry(row, record)[1] for row, record in rows]
    return sum(body.startswith(begins) for body in bodies)


def _files(folder: Path, *more: Path) -> dict[Path, bytes]:
    paths = [*(path for path in folder.rglob("*") if path.is_file()), *more]
    return {path: path.read_bytes() for path in paths}


async def death(night: Night) -> None:
    """The relay is killed in the middle of a conversation, and comes back."""
    hospital, stage = night.hospital, night.stage
    stage.scene("The relay is killed, and comes back")
    readers = ("ben", "clara", "david")
    anna = night.device("anna")
    texts = list(itertools.islice(night.words, KILL_TURNS))
    sent: list[str] = []
    for number, text in enumerate(texts):
        if number == KILL_TURNS // 2:
            await hospital.relay.kill()
            stage.tell("kill -9")
        answer = await anna.ask("send", to=WARD, text=text)
        sent.append(str(answer["message"]["key"]))
    began_s = time.monotonic()
    await hospital.relay.start(lambda said: '"listening"' in said)
    stage.tell(f"the relay serves again after {time.monotonic() - began_s:.1f} s")
    await asyncio.gather(
        *(
            night.device(reader).has(message, timeout_s=BACK_S)
            for reader in readers
            for message in sent
        )
    )
    back_s = time.monotonic() - began_s
    night.sent += zip(texts, sent, strict=True)
    shown = [await _thread(night.device(reader), sent) for reader in readers]
    stage.claim(
        "nothing that was sent around the relay's death is lost, doubled or out of order",
        found=f"{len(sent)} messages on {len(readers)} devices, all within {back_s:.1f} s",
        holds=all(thread == sent for thread in shown),
    )


async def _thread(device: Device, ids: Sequence[str]) -> list[str]:
    answer = await device.ask("show", **{"in": WARD}, limit=100)
    return [one["key"] for one in answer["messages"] if one["key"] in set(ids)]


async def theft(night: Night) -> None:
    """A phone is stolen: its owner reports it, an administrator wipes it."""
    hospital, stage = night.hospital, night.stage
    stage.scene("A phone is stolen")
    clara = night.device("clara")
    home = hospital.people["clara"].home
    before = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    began_s = time.monotonic()
    async with Console(hospital.people["ada"]) as console:
        await console.do("admin wipe clara/phone --reason stolen --yes", code=True)
        stage.tell(f"ada orders the wipe of clara/phone ({time.monotonic() - began_s:.1f} s)")
        stages = await _until_confirmed(console)
    took_s = time.monotonic() - began_s
    left = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    stage.claim(
        "a stolen phone destroys what it holds, and proves it with its last key",
        found=f"{' -> '.join(stages)} in {took_s:.1f} s; {before:,} bytes before, {left:,} after",
        holds=stages[-1] == "confirmed" and left == 0,
    )
    gone = await clara.ended(within_s=GONE_S)
    stage.claim(
        "the stolen phone's program has ended",
        found="its process is gone" if gone else "its process is there",
        holds=gone,
    )
    opened = await _opens(hospital)
    stage.claim(
        "its PIN opens nothing any more",
        found=opened[opened.find("{") :],
        holds="no_profile" in opened,
    )
    readers = [one for one in WARD_PEOPLE if one not in ("anna", "clara")]
    await night.say("anna", WARD, "Clara's phone is gone; reach her at 4711.", readers=readers)
    members = (await night.device("anna").ask("members", **{"in": WARD}))["members"]
    stage.claim(
        "the conversation goes on without it",
        found=f"{len(members)} members",
        holds="clara" not in {one["user"] for one in members},
    )


async def _until_confirmed(console: Console) -> list[str]:
    stages: list[str] = []
    for _ in range(int(GONE_S / LOOK_S)):
        wipes = (await console.do("admin wipes"))["wipes"]
        now = wipes[-1]["stage"]
        if stages[-1:] != [now]:
            stages.append(now)
        if now == "confirmed":
            break
        await asyncio.sleep(LOOK_S)
    return stages


async def _opens(hospital: Hospital) -> str:
    try:
        return await run("wardline", *hospital.people["clara"].options, "unlock")
    except Exception as error:
        return str(error)


async def page(night: Night) -> None:
    """A STAT page that nobody takes goes to the next step; who is off duty hears nothing."""
    hospital, stage = night.hospital, night.stage
    stage.scene("A STAT page escalates, and somebody off duty is left in peace")
    plan = hospital.folder / "oncall.toml"
    plan.write_text(_plan(datetime.now(UTC).hour))
    async with Console(hospital.people["boris"]) as console:
        await console.do(f"admin oncall apply {plan}", code=True)
    stage.tell("boris applies the plan: david is the registrar on call, then farid, then luis")
    began_s = time.monotonic()
    asked = await night.device("elif").ask(
        "page", role="registrar", text="Bed 3, no pulse.", priority="stat"
    )
    made = str(asked["conversation"])
    david_s = await _rung(night, "david", made) - began_s
    stage.tell(f"david's device rings after {david_s:.1f} s; he does not answer")
    farid_s = await _rung(night, "farid", made) - began_s
    stage.claim(
        "a STAT page rings whoever is on call, and the next when nobody answers in time",
        found=f"rang after {david_s:.1f} s, the next after {farid_s:.1f} s; {STEP_S} s were given",
        holds=david_s < STEP_S < farid_s < STEP_S + LATE_S,
    )
    await night.device("farid").ask("answer", page=made, **{"with": "accept"})
    await night.device("elif").until(
        lambda event: _page_is(event, made) and event["page"]["status"] != "open"
    )
    silent = [user for user in ("luis", "henry", "anna") if _was_rung(night.device(user), made)]
    stage.claim(
        "it rings nobody else once it is taken, the last step's people neither",
        found=f"farid accepts; {', '.join(silent) or 'nobody'} else rang",
        holds=not silent,
    )
    await _off_duty(night)


async def _off_duty(night: Night) -> None:
    """A routine message to somebody off duty waits for the shift, silently."""
    henry, stage = night.device("henry"), night.stage
    await night.device("anna").ask("send", to="henry", text="The letter can wait until morning.")
    for _ in range(int(GONE_S / LOOK_S)):
        held = sum(one["held"] for one in (await henry.ask("list"))["conversations"])
        if held:
            break
        await asyncio.sleep(LOOK_S)
    alerts = [event for event in henry.events if event["event"] in ("page", "alert")]
    stage.claim(
        "a routine message to somebody off duty is held until the shift, and rings nothing",
        found=f"{held} held on henry's device, which rang {len(alerts)} times",
        holds=held == 1 and not alerts,
    )


def _page_is(event: dict[str, Any], conversation: str) -> bool:
    return bool(event["event"] == "page" and event["page"]["conversation"] == conversation)


def _was_rung(device: Device, conversation: str) -> bool:
    return any(
        _page_is(event, conversation) and event["page"]["alerting"] for event in device.events
    )


async def _rung(night: Night, user: str, conversation: str) -> float:
    event = await night.device(user).until(
        lambda event: _page_is(event, conversation) and event["page"]["alerting"]
    )
    return float(event["heard_s"])


def registrar(*, second: str) -> str:
    """Return the plan of the registrar: david, after him farid, and after him luis.

    Args:
        second: How long farid's step waits, as a plan writes it.
    """
    return f"""
[role.registrar]
zone = "UTC"
holders = ["david", "farid", "luis"]
fallback = ["luis"]

[[role.registrar.layer]]
name = "always"
hours = ["every 00:00-24:00"]
users = ["david"]

[role.registrar.escalation]
steps = [
  {{ ask = ["role:registrar"], wait = "{STEP_S}s" }},
  {{ ask = ["user:farid"], wait = "{second}" }},
]
last = {{ ask = ["user:luis"], wait = "1h" }}
"""


def _plan(hour: int) -> str:
    """Return who is on call, as an administrator writes it down; the hour is UTC's."""
    on, off = (f"{(hour + shift) % 24:02}:00" for shift in (6, 8))
    return (
        registrar(second="1 min")
        + f"""
[role.cardiologist]
zone = "UTC"
holders = ["grace", "henry"]
fallback = ["grace"]

[[role.cardiologist.layer]]
name = "days"
hours = ["every {on}-{off}"]
users = ["henry"]

[[role.cardiologist.layer]]
name = "nights"
hours = ["every {off}-{on}"]
users = ["grace"]
"""
    )


async def opening(night: Night) -> None:
    """Two officers of four open one conversation, and an export leaves that proves itself."""
    hospital, stage = night.hospital, night.stage
    stage.scene("Two officers of four open one conversation")
    first, second = OFFICERS[:QUORUM]
    await _review(hospital, "begin")
    async with Console(hospital.people[first]) as one, Console(hospital.people[second]) as two:
        asked = await one.do(
            f"officer request {night.ward} --case 2026-118 --reason 'A complaint about the night'"
        )
        request = str(asked["request"])
        stage.tell(f"{first} asks for {asked['records']} records, with a reason")
        await _agree(one, request)
        refused = await _review_fails(hospital, "open", request)
        stage.claim(
            "one officer alone opens nothing, also at the archive's own machine",
            found=refused,
            holds=bool(refused),
        )
        await _agree(two, request)
        for console in (one, two):
            await _case(console, request, lambda case: case["has_shares"])
            await console.do(f"officer release {request}")
    stage.tell(f"{first} and {second} have approved, and released their shares for it")
    await _await_released(hospital)
    told = await _opened(hospital, request)
    lines = [line for part in told for line in part.get("timeline", ())]
    said = {text for text, message in night.sent if message.startswith(night.ward[:8])}
    read = {str(line.get("text", "")) for line in lines}
    stage.claim(
        "what they open is every message of that conversation, as it was sent",
        found=f"{len(said)} texts sent, {len(said & read)} of them opened",
        holds=said <= read,
    )
    await _export(night, request)


async def _review(hospital: Hospital, *arguments: str | Path) -> list[Any]:
    said = await run(
        "wardline-archive",
        "review",
        *arguments,
        *("--config", hospital.archive_file, "--json"),
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
        return str(error).strip().splitlines()[-1].rpartition(": ")[2]
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


SCENES = (found, staff, talk, forget, page, death, opening, theft)
