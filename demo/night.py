"""The night itself, scene by scene; each ends with claims that were measured in it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demo.dialogues import Source
from demo.hospital import QUORUM, Console, Hospital
from demo.programs import Device, run
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
SPEAKERS = tuple(dict.fromkeys((*WARD_PEOPLE, *itertools.chain(*PAIRS))))

PRIVATE_MESSAGE = bytes.fromhex("00010002")
"""How an encrypted message begins: MLS 1.0 and its wire format (RFC 9420, section 6)."""

GROUP_TURNS = 24
PAIR_TURNS = 6
KILL_TURNS = 10
"""Turns of dialogue in the group, in each pair, and around the relay's death."""

STEP_S = 15
"""Seconds that each step of a page waits: the least that a policy may say."""
LATE_S = 10.0
"""Seconds that a step may come late on a machine that runs all of this."""

DELIVERED_S = 2.0
"""Longest median, in seconds, from sending to being shown; eighteen devices share this machine."""

ARCHIVED_S = 20.0
GONE_S = 20.0
"""Seconds until the archive has proved a message, and until the relay let go of what all have."""

WORDS = 12
"""Letters from which on a text is looked for: a shorter one stands anywhere by chance."""

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
        page: Number of the STAT page's conversation.
        paged_s: When it was made.
    """

    hospital: Hospital
    stage: Stage
    source: Source
    words: Iterator[str] = field(init=False)
    ward: str = ""
    sent: list[tuple[str, str]] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    page: str = ""
    paged_s: float = 0.0

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
    async with hospital.console("ada") as console:
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
            for user in SPEAKERS
        )
    )
    took_s = time.monotonic() - began_s
    threads, proved = await _proved(night)
    stage.claim(
        "every sender has the archive's proof of every message",
        found=f"{proved} of {len(night.sent)} messages, the last {took_s:.1f} s after it was shown",
        holds=proved == len(night.sent),
    )
    left = await _until_forgotten(night.hospital, {bytes.fromhex(one) for one in threads})
    then = copy_of_relay(night.hospital)
    stage.claim(
        "no message that everybody has is left on the relay's disk",
        found=f"{left} of {len(night.sent)} messages in {len(threads)} conversations",
        holds=left == 0,
    )
    texts = [text.encode() for text, _ in night.sent if len(text) >= WORDS]
    files = [path.read_bytes() for path in then.rglob("*") if path.is_file()]
    seen = sum(text in content for content in files for text in texts)
    stage.claim(
        f"no text of {WORDS} letters or more is in the relay's files or log",
        found=f"{len(texts)} texts looked for in {len(files)} files, "
        f"{sum(map(len, files)):,} bytes: {seen} found",
        holds=seen == 0,
    )


async def _proved(night: Night) -> tuple[set[str], int]:
    """Return the conversations, and how many of their messages the senders have a proof of."""
    threads: set[str] = set()
    proved: set[str] = set()
    for user in SPEAKERS:
        listed = (await night.device(user).ask("list"))["conversations"]
        for thread in (one["id"] for one in listed):
            shown = await night.device(user).ask("show", **{"in": thread}, limit=100)
            proved |= {one["key"] for one in shown["messages"] if one["own"] and one["archived"]}
            threads.add(thread)
    return threads, sum(message in proved for _, message in night.sent)


def copy_of_relay(hospital: Hospital) -> Path:
    """Copy the relay's files and log as they are now, and return the copy's folder."""
    then = hospital.folder / "relay-then"
    with contextlib.closing(_readable(hospital.relay_data)) as db:
        # What a reader still sees is not overwritten: the copies of file and journal fit.
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM entry").fetchone()
        shutil.copytree(hospital.relay_data, then, copy_function=_copy_if_there)
    shutil.copyfile(hospital.relay.log, then / hospital.relay.log.name)
    return then


def _copy_if_there(file: str, to: str) -> None:
    # The relay works on: a file may have gone since the folder was listed.
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(file, to)


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
    with contextlib.closing(_readable(relay_data)) as db:
        rows = db.execute("SELECT id, record FROM entry").fetchall()
    bodies = [open_entry(row, record)[1] for row, record in rows]
    return sum(body.startswith(begins) for body in bodies)


def _readable(relay_data: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{(relay_data / 'relay.db').as_uri()}?mode=ro", uri=True)


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
        "what is sent around the relay's death arrives once and in order",
        found=f"{len(sent)} messages on {len(readers)} devices, "
        f"the last {back_s:.1f} s after the relay started",
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
    before = _bytes_in(hospital, home)
    async with hospital.console("ada") as console:
        await console.do("admin wipe clara/phone --reason stolen --yes", code=True)
        stage.tell("ada orders the wipe of clara/phone")
        wipe = await _wiped(console)
    left = _bytes_in(hospital, home)
    took_s = (wipe.get("confirmed_ms", 0) - wipe["ordered_ms"]) / 1000
    stage.claim(
        "a stolen phone destroys what it holds, and its last key signs that",
        found=f"{wipe['stage']} {took_s:.1f} s after the signed order; "
        f"{before:,} bytes before, {left:,} after",
        holds=wipe["stage"] == "confirmed" and left == 0,
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
    left_in = "clara" in {one["user"] for one in members}
    stage.claim(
        "the conversation goes on without it",
        found=f"{len(members)} members, clara {'' if left_in else 'not '}among them; "
        f"the next message shown on {len(readers)} devices",
        holds=not left_in,
    )


def _bytes_in(hospital: Hospital, home: Path) -> int:
    sizes = {path: path.stat().st_size for path in home.rglob("*") if path.is_file()}
    files = [[str(path.relative_to(hospital.folder)), size] for path, size in sizes.items()]
    hospital.record.add("demo", files=files)
    return sum(sizes.values())


async def _wiped(console: Console) -> dict[str, Any]:
    """Return how the last wipe stands, once it is confirmed or has taken too long."""
    for _ in range(int(GONE_S / LOOK_S)):
        wipe = dict((await console.do("admin wipes"))["wipes"][-1])
        if wipe["stage"] == "confirmed":
            break
        await asyncio.sleep(LOOK_S)
    return wipe


async def _opens(hospital: Hospital) -> str:
    try:
        options = hospital.people["clara"].options
        return await run("wardline", *options, "unlock", record=hospital.record)
    except Exception as error:
        return str(error)


async def page(night: Night) -> None:
    """A STAT page that nobody takes goes to the next step; who is off duty hears nothing."""
    hospital, stage = night.hospital, night.stage
    stage.scene("A STAT page escalates, and somebody off duty is left in peace")
    plan = hospital.folder / "oncall.toml"
    plan.write_text(_plan(datetime.now(UTC).hour))
    async with hospital.console("boris") as console:
        await console.do(f"admin oncall apply {plan}", code=True)
    stage.tell("boris applies the plan: david is the registrar on call, then farid, then luis")
    began_s = time.monotonic()
    asked = await night.device("elif").ask(
        "page", role="registrar", text="Bed 3, no pulse.", priority="stat"
    )
    night.page, night.paged_s = str(asked["conversation"]), began_s
    david_s = await _rung(night, "david") - began_s
    stage.tell(f"david's device rings after {david_s:.1f} s; he does not answer")
    farid_s = await _rung(night, "farid") - began_s
    stage.claim(
        "a STAT page rings who is on call, and the next if nobody answers",
        found=f"rang after {david_s:.1f} s, the next after {farid_s:.1f} s; {STEP_S} s were given",
        holds=david_s < STEP_S < farid_s < STEP_S + LATE_S,
    )
    await night.device("farid").ask("answer", page=night.page, **{"with": "accept"})
    await night.device("elif").until(
        lambda event: _is_page(event, night.page) and event["page"]["status"] != "open"
    )
    stage.tell("farid accepts; elif's device says so")
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
        "a routine message to somebody off duty waits and rings nothing",
        found=f"{held} held on henry's device, which rang {len(alerts)} times",
        holds=held == 1 and not alerts,
    )


async def silence(night: Night) -> None:
    """Who was not asked yet when the page was taken is not asked later either."""
    stage = night.stage
    stage.scene("The page was taken: nobody else is asked")
    await asyncio.sleep(night.paged_s + 2 * STEP_S + LATE_S - time.monotonic())
    rang = [user for user in night.hospital.devices if _was_rung(night.device(user), night.page)]
    others = [user for user in rang if user not in ("david", "farid")]
    looked_s = time.monotonic() - night.paged_s
    stage.claim(
        "a STAT page that was taken rings nobody else",
        found=f"{', '.join(others) or 'nobody'} else rang in {looked_s:.1f} s; "
        f"luis's turn would have come after {2 * STEP_S} s",
        holds=not others,
    )


def _is_page(event: dict[str, Any], conversation: str) -> bool:
    return bool(event["event"] == "page" and event["page"]["conversation"] == conversation)


def _was_rung(device: Device, conversation: str) -> bool:
    return any(
        _is_page(event, conversation) and event["page"]["alerting"] for event in device.events
    )


async def _rung(night: Night, user: str) -> float:
    event = await night.device(user).until(
        lambda event: _is_page(event, night.page) and event["page"]["alerting"]
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
        registrar(second=f"{STEP_S}s")
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
