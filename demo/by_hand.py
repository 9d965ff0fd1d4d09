"""The night's table once more, taken from the files that the night has left, by other means.

``python3 demo/by_hand.py FOLDER`` reads ``record.jsonl``, the copy of the relay's files, the export
and the devices' folders, and compares with ``table.txt``. It ends with 1 where a line is not so, or
where it has another figure. It needs nothing of Wardline: Python, and PyNaCl for the export's
``verify.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Line: TypeAlias = dict[str, Any]

NEAR_S = 0.2
NEAR_MS = 10.0
NEAR_SHARE = 0.05
"""How far two clock readings may lie apart: seconds, milliseconds, and share of the figure."""

LEAST_LETTERS = 12
PRIVATE_MESSAGE = bytes.fromhex("00010002")
"""How an encrypted message begins: MLS 1.0 and its wire format (RFC 9420, section 6)."""


class NotSoError(Exception):
    """A line of the table does not hold; the text says what was found instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message, from what its sender's program was given and answered."""

    who: str
    at_ms: float
    to: str
    text: str
    key: str
    conversation: str


class Files:
    """What a night has left."""

    def __init__(self, folder: Path) -> None:
        """Read the record."""
        self.folder = folder
        with (folder / "record.jsonl").open(encoding="utf-8") as file:
            self.lines: list[Line] = [json.loads(line) for line in file]

    def scene(self, name: str) -> list[Line]:
        """Return the lines of one scene."""
        here = False
        found: list[Line] = []
        for line in self.lines:
            if line.get("did") == "scene":
                here = line["name"] == name
            if here:
                found.append(line)
        return found

    def events(self, kind: str) -> Iterator[Line]:
        """Yield the lines in which a device tells of something."""
        for line in self.lines:
            if line.get("heard", {}).get("event") == kind:
                yield line

    def shown(self) -> dict[tuple[str, str], float]:
        """Return when each person's device first showed each message."""
        first: dict[tuple[str, str], float] = {}
        for line in self.events("message"):
            first.setdefault((line["who"], line["heard"]["message"]["key"]), line["at_ms"])
        return first

    def ringing(self) -> dict[str, list[Line]]:
        """Return the lines in which each device rings for the page that was made."""
        (asked,) = asked_to(self.lines, "page")
        made = answer_to(self.lines, asked)["conversation"]
        rang: dict[str, list[Line]] = {}
        for line in self.events("page"):
            page = line["heard"]["page"]
            if page["conversation"] == made and page["alerting"]:
                rang.setdefault(line["who"], []).append(line)
        return rang


def need(holds: object, otherwise: str) -> None:
    """Go on where it holds.

    Raises:
        NotSoError: It does not.
    """
    if not holds:
        raise NotSoError(otherwise)


def asked_to(lines: list[Line], do: str, who: str = "") -> list[Line]:
    """Return the lines in which a device was asked to do something."""
    return [
        line
        for line in lines
        if isinstance(line.get("gave"), dict)
        and line["gave"]["do"] == do
        and who in ("", line["who"])
    ]


def answer_line(lines: list[Line], asked: Line) -> Line:
    """Return the line in which a device answered."""
    for line in lines:
        heard = line.get("heard", {})
        if line["who"] == asked["who"] and heard.get("answer") == asked["gave"]["id"]:
            return line
    raise NotSoError(f"{asked['who']} never answered {asked['gave']['do']}")


def answer_to(lines: list[Line], asked: Line) -> Line:
    """Return what a device answered."""
    return dict(answer_line(lines, asked)["heard"])


def sent_in(lines: list[Line]) -> list[Sent]:
    """Return the messages that people sent."""
    found = []
    for asked in asked_to(lines, "send"):
        message = answer_to(lines, asked)["message"]
        given = asked["gave"]
        found.append(
            Sent(
                who=asked["who"],
                at_ms=asked["at_ms"],
                to=given["to"],
                text=given["text"],
                key=message["key"],
                conversation=message["conversation"],
            )
        )
    return found


def readers(files: Files, sent: Sent) -> set[str]:
    """Return for whom a message is: the group as it was begun, or one person."""
    for begun in asked_to(files.lines, "start"):
        if begun["gave"]["title"] == sent.to:
            return {begun["who"], *begun["gave"]["users"]} - {sent.who}
    return {sent.to}


# Each takes one line of the table from the files: its figures in the order in which the table has
# them. What the table gives in whole numbers is a whole number here, and has to be the same.


def delivered(files: Files) -> list[float]:
    """From each ``send`` to the first ``message`` event on each reader's device."""
    sent, shown = sent_in(files.scene("talk")), files.shown()
    delays = []
    for one in sent:
        for reader in readers(files, one):
            need((reader, one.key) in shown, f"{reader} was never shown {one.key}")
            delays.append(shown[reader, one.key] - one.at_ms)
    delays.sort()
    median, late = delays[len(delays) // 2], delays[int(len(delays) * 0.95)]
    return [len(sent), len(delays), float(median), 95, 100, float(late)]


def proved(files: Files) -> list[float]:
    """Each sender's ``show``: own messages with ``archived``; each ``wait`` for that."""
    sent, lines = sent_in(files.scene("talk")), files.scene("forget")
    have = {
        message["key"]
        for asked in asked_to(lines, "show")
        for message in answer_to(lines, asked)["messages"]
        if message["own"] and message["archived"] and message["sender"].startswith(asked["who"])
    }
    need({one.key for one in sent} <= have, "a message has no proof on its sender's device")
    waits = [answer_line(lines, asked) for asked in asked_to(lines, "wait")]
    need(all(line["heard"]["ok"] for line in waits), "a device waited in vain")
    last_ms = max(line["at_ms"] for line in waits)
    return [len(sent), len(sent), (last_ms - lines[0]["at_ms"]) / 1000]


def forgotten(files: Files) -> list[float]:
    """Rows of the copied ``relay.db`` in which an encrypted message of a conversation begins."""
    sent = sent_in(files.scene("talk"))
    ids = {bytes.fromhex(one.conversation) for one in sent}
    with tempfile.TemporaryDirectory() as scratch:
        for file in (files.folder / "relay-then").glob("relay.db*"):
            shutil.copy(file, scratch)
        with closing(sqlite3.connect(Path(scratch) / "relay.db")) as db:
            (rows,) = db.execute("SELECT count(*) FROM entry").fetchone()
            left = [
                db.execute(
                    "SELECT count(*) FROM entry WHERE instr(record, ?) > 0",
                    (PRIVATE_MESSAGE + bytes([len(one)]) + one,),
                ).fetchone()[0]
                for one in ids
            ]
    need(rows, "the copy has no entry at all")
    need(not any(left), f"{sum(left)} messages are left")
    return [0, len(sent), len(ids)]


def unread(files: Files) -> list[float]:
    """Every text that was sent, looked for in every byte of the copied files and the log."""
    texts = [one.text for one in sent_in(files.scene("talk")) if len(one.text) >= LEAST_LETTERS]
    copied = [path for path in (files.folder / "relay-then").rglob("*") if path.is_file()]
    held = [path.read_bytes() for path in copied]
    found = [text for text in texts if any(text.encode() in content for content in held)]
    need(not found, f"{len(found)} texts are there")
    return [len(texts), len(held), sum(len(content) for content in held), 0]


def _step_s(files: Files) -> int:
    plan = tomllib.loads((files.folder / "oncall.toml").read_text())
    waits = {step["wait"] for step in plan["role"]["registrar"]["escalation"]["steps"]}
    (wait,) = waits
    return int(wait.removesuffix("s"))


def escalated(files: Files) -> list[float]:
    """From ``page`` to the first event on each device that rings."""
    (asked,) = asked_to(files.lines, "page")
    rang, step_s = files.ringing(), _step_s(files)
    need({"david", "farid"} <= set(rang), f"only {', '.join(rang)} rang")
    first, second = ((rang[one][0]["at_ms"] - asked["at_ms"]) / 1000 for one in ("david", "farid"))
    need(first < step_s < second, f"rang after {first:.1f} s and {second:.1f} s")
    return [first, second, step_s]


def nobody_else(files: Files) -> list[float]:
    """Every device's ``page`` events, to the end of the night."""
    (asked,) = asked_to(files.lines, "page")
    (taken,) = asked_to(files.lines, "answer", "farid")
    need(taken["gave"]["with"] == "accept", "farid did not accept")
    others = set(files.ringing()) - {"david", "farid"}
    need(not others, f"{', '.join(others)} rang")
    until_s = (files.lines[-1]["at_ms"] - asked["at_ms"]) / 1000
    need(until_s > 2 * _step_s(files), "the night ended before the last step's turn")
    return [until_s, 2 * _step_s(files)]


def held(files: Files) -> list[float]:
    """Henry's last ``list``, and everything that his device told of itself."""
    asked = asked_to(files.scene("page"), "list", "henry")[-1]
    counts = [one["held"] for one in answer_to(files.lines, asked)["conversations"]]
    rang = [line for kind in ("page", "alert") for line in files.events(kind)]
    times = sum(line["who"] == "henry" for line in rang)
    need(sum(counts) == 1 and times == 0, f"{sum(counts)} held, rang {times} times")
    return [1, 0]


def survived(files: Files) -> list[float]:
    """What anna sent around ``killed``, in each reader's ``show``, in that order."""
    lines, shown = files.scene("death"), files.shown()
    keys = [one.key for one in sent_in(lines)]
    order = [line.get("did") or "send" for line in lines if "did" in line or _sends(line)]
    half = ["send"] * (len(keys) // 2)
    need(order == ["scene", *half, "killed", *half, "started"], f"the order was {order}")
    who = []
    for asked in asked_to(lines, "show"):
        thread = [one["key"] for one in answer_to(lines, asked)["messages"]]
        need([one for one in thread if one in keys] == keys, f"{asked['who']} has others")
        who.append(asked["who"])
    began_ms = next(line["at_ms"] for line in lines if line.get("did") == "started")
    last_ms = max(shown[reader, key] for reader in who for key in keys)
    return [len(keys), len(who), (last_ms - began_ms) / 1000]


def _sends(line: Line) -> bool:
    return isinstance(line.get("gave"), dict) and line["gave"]["do"] == "send"


def refused(files: Files) -> list[float]:
    """How ``review open`` ended while one officer had approved."""
    approved: set[str] = set()
    for line in files.scene("opening"):
        if str(line.get("gave", "")).startswith("officer approve"):
            approved.add(line["who"])
        if line.get("ran", [])[:2] == ["review", "open"]:
            need(len(approved) == 1, f"{len(approved)} had approved")
            need(line["exit"] and "refused: " in line["err"], "it was opened")
            return []
    raise NotSoError("nobody tried")


def opened(files: Files) -> list[float]:
    """The export's transcript beside what people's devices were given to send."""
    before = files.lines[: files.lines.index(files.scene("opening")[0])]
    said = Counter((one.who, one.text) for one in sent_in(before) if one.to == _ward(files))
    export = files.folder / "export" / "wardline-export" / "transcript.jsonl"
    told = [json.loads(line) for line in export.read_text().splitlines()]
    read = Counter(
        (one["sender"].partition("/")[0], one["text"]) for one in told if one["kind"] == "text"
    )
    need(said == read, f"{(said - read).total()} are missing, {(read - said).total()} are others")
    return [said.total(), read.total(), 0]


def _ward(files: Files) -> str:
    (begun,) = asked_to(files.lines, "start")
    return str(begun["gave"]["title"])


def _verdict(export: Path) -> str:
    done = subprocess.run(
        [sys.executable, "verify.py"], cwd=export, capture_output=True, text=True, check=False
    )
    return (done.stdout.strip() or "nothing").splitlines()[-1]


def verified(files: Files) -> list[float]:
    """``verify.py``, as whoever gets the export runs it."""
    verdict = _verdict(files.folder / "export" / "wardline-export")
    need(verdict == "VERIFIED", verdict)
    return [(files.folder / "case.age").stat().st_size]


def noticed(files: Files) -> list[float]:
    """``verify.py`` once more, over a copy with another last letter."""
    with tempfile.TemporaryDirectory() as scratch:
        export = Path(scratch) / "export"
        shutil.copytree(files.folder / "export" / "wardline-export", export)
        text = (export / "transcript.txt").read_text().rstrip()
        (export / "transcript.txt").write_text(text[:-1] + ("x" if text[-1] != "x" else "y") + "\n")
        verdict = _verdict(export)
    need(verdict.startswith("REFUSED"), verdict)
    return []


def wiped(files: Files) -> list[float]:
    """The administrator's ``admin wipes``, and the phone's folder before, after, and now."""
    lines = files.scene("theft")
    orders = [line["heard"]["wipes"][-1] for line in lines if "wipes" in line.get("heard", {})]
    need(orders and orders[-1]["stage"] == "confirmed", "it is not confirmed")
    before, after = (
        sum(size for _, size in line["files"]) for line in lines if line.get("files") is not None
    )
    home = files.folder / "people" / "clara" / "home"
    now = [path for path in home.rglob("*") if path.is_file()]
    need(not after and not now, f"{after} bytes after it, {len(now)} files now")
    took_s = (orders[-1]["confirmed_ms"] - orders[-1]["ordered_ms"]) / 1000
    return [took_s, before, after]


def ended(files: Files) -> list[float]:
    """The end of the stolen phone's program, after the order."""
    did = [line.get("did") for line in files.scene("theft") if line["who"] == "clara"]
    need("ended" in did, "it has not ended")
    return []


def locked_out(files: Files) -> list[float]:
    """How ``wardline unlock`` with her PIN ended."""
    (line,) = (line for line in files.scene("theft") if line.get("ran", [""])[-1] == "unlock")
    need(line["exit"] and "no_profile" in line["out"] + line["err"], "it opened something")
    return [line["exit"]]


def goes_on(files: Files) -> list[float]:
    """Anna's ``members``, and who was shown what she said next."""
    lines, shown = files.scene("theft"), files.shown()
    (asked,) = asked_to(lines, "members")
    members = {one["user"] for one in answer_to(lines, asked)["members"]}
    (said,) = sent_in(lines)
    saw = {reader for reader, key in shown if key == said.key} - {said.who}
    need("clara" not in members | saw, "clara is still in it")
    need(saw == readers(files, said) - {"clara"}, f"only {', '.join(sorted(saw))} saw it")
    return [len(answer_to(lines, asked)["members"]), len(saw)]


def lasted(files: Files) -> list[float]:
    """From the first scene of the night to the end of the last."""
    took_s = (files.lines[-1]["at_ms"] - files.scene("talk")[0]["at_ms"]) / 1000
    need(took_s < 120, f"{took_s:.0f} s")
    return [took_s]


CHECKS: dict[str, Callable[[Files], list[float]]] = {
    "a message is shown at once to everybody it is for": delivered,
    "every sender has the archive's proof of every message": proved,
    "no message that everybody has is left on the relay's disk": forgotten,
    "no text of 12 letters or more is in the relay's files or log": unread,
    "a STAT page rings who is on call, and the next if nobody answers": escalated,
    "a routine message to somebody off duty waits and rings nothing": held,
    "what is sent around the relay's death arrives once and in order": survived,
    "one officer's approval opens nothing, at the archive's machine too": refused,
    "they open every message of that conversation, as it was sent": opened,
    "the export proves itself to whoever gets it, by one file of Python": verified,
    "one letter changed in it is found": noticed,
    "a stolen phone destroys what it holds, and its last key signs that": wiped,
    "the stolen phone's program has ended": ended,
    "its PIN opens nothing any more": locked_out,
    "the conversation goes on without it": goes_on,
    "a STAT page that was taken rings nobody else": nobody_else,
    "the night itself takes under two minutes": lasted,
}


def table(folder: Path) -> dict[str, tuple[bool, str]]:
    """Return each line of the table: whether it says yes, and with which figures."""
    lines: dict[str, tuple[bool, str]] = {}
    for claim in re.finditer(r"^(yes|NO ) {2}(.+)\n((?: {5}.+\n)*)", _text(folder), re.MULTILINE):
        lines[claim[2]] = claim[1] == "yes", " ".join(claim[3].split())
    return lines


def _text(folder: Path) -> str:
    return (folder / "table.txt").read_text()


def compare(printed: str, taken: list[float]) -> None:
    """Hold the numbers of a line against those from the files.

    Raises:
        NotSoError: They are others.
    """
    numbers = [one.replace(",", "") for one in re.findall(r"\d[\d,]*(?:\.\d+)?", printed)]
    need(len(numbers) == len(taken), f"{len(taken)} figures, not {len(numbers)}")
    for number, figure in zip(numbers, taken, strict=True):
        near = 0.0
        if isinstance(figure, float):
            near = (NEAR_S if "." in number else NEAR_MS) + NEAR_SHARE * figure
        need(abs(float(number) - figure) <= near, f"{figure:g}, where the table has {number}")


def judge(files: Files, claim: str, line: tuple[bool, str]) -> str:
    """Return what is wrong with a line of the table; nothing where it is so."""
    says, printed = line
    try:
        need(says, "the table itself says no")
        need(claim in CHECKS, "there is no way to take it from the files")
        compare(printed, CHECKS[claim](files))
    except NotSoError as wrong:
        return str(wrong)
    except (LookupError, ValueError, TypeError, OSError, sqlite3.Error) as error:
        return f"the files do not tell ({type(error).__name__}: {error})"
    return ""


def main() -> int:
    """Take every line again; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what `make demo KEEP=1` has left")
    parser.add_argument("--show", action="store_true", help="say for each line from what")
    arguments = parser.parse_args()
    files, lines = Files(arguments.folder), table(arguments.folder)
    for claim in CHECKS.keys() - lines.keys():
        lines[claim] = False, ""
    wrong = {claim: judge(files, claim, line) for claim, line in lines.items()}
    for claim, why in wrong.items():
        if why or arguments.show:
            sys.stdout.write(f"{'NOT SO' if why else 'so'}: {claim}\n")
            sys.stdout.write(f"     {why or CHECKS[claim].__doc__}\n")
    so = sum(not why for why in wrong.values())
    sys.stdout.write(f"Taken again from the files alone: {so} of {len(wrong)} lines are so.\n")
    return 0 if so == len(wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
