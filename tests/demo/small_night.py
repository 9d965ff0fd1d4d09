"""The files of a night that never was: a message here and there, of which every claim is so."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

WARD = "Ward"
GROUP = bytes(range(32))
PAIR = bytes(range(32, 64))

TABLE = """\
Measured in this run
yes  a message is shown at once to everybody it is for
     2 messages, shown 5 times; median 40 ms, 95 of 100 within 200 ms
yes  every sender has the archive's proof of every message
     2 of 2 messages, the last 0.3 s after it was shown
yes  no message that everybody has is left on the relay's disk
     0 of 2 messages in 2 conversations
yes  no text of 12 letters or more is in the relay's files or log
     1 texts looked for in 2 files, {bytes:,} bytes: 0 found
yes  a STAT page rings who is on call, and the next if nobody answers
     rang after 0.2 s, the next after 15.2 s; 15 s were given
yes  a routine message to somebody off duty waits and rings nothing
     1 held on henry's device, which rang 0 times
yes  what is sent around the relay's death arrives once and in order
     2 messages on 2 devices, the last 1.5 s after the relay started
yes  one officer's approval opens nothing, at the archive's machine too
     refused: shares are released for an approved request within its
     time
yes  they open every message of that conversation, as it was sent
     3 messages sent, 3 of them opened, 0 that nobody sent
yes  the export proves itself to whoever gets it, by one file of Python
     1,200 bytes; verify.py: VERIFIED
yes  one letter changed in it is found
     verify.py: REFUSED: transcript.txt was changed
yes  a stolen phone destroys what it holds, and its last key signs that
     confirmed 0.2 s after the signed order; 3,000 bytes before, 0 after
yes  the stolen phone's program has ended
     its process is gone
yes  its PIN opens nothing any more
     {{"error": "no_profile", "exit": 7}}
yes  the conversation goes on without it
     5 members, clara not among them; the next message shown on 3 devices
yes  a STAT page that was taken rings nobody else
     nobody else rang in 45.0 s; luis's turn would have come after 30 s
yes  the night itself takes under two minutes
     56.0 s
"""

VERIFY = """\
import pathlib
so = pathlib.Path("transcript.txt").read_text() == "as it was said\\n"
print("VERIFIED" if so else "REFUSED: transcript.txt was changed")
"""

PLAN = """\
[role.registrar.escalation]
steps = [{ ask = ["role:registrar"], wait = "15s" }, { ask = ["user:farid"], wait = "15s" }]
"""


class Recorded:
    """Lines of a record, as the programs of a night leave them."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._asked = 0

    def add(self, at_s: float, who: str, **what: Any) -> None:
        self.lines.append({"at_ms": 1_000_000 + at_s * 1000, "who": who, **what})

    def scene(self, at_s: float, name: str) -> None:
        self.add(at_s, "demo", did="scene", name=name)

    def ask(self, at_s: float, who: str, do: str, answer: dict[str, Any], **fields: Any) -> None:
        self._asked += 1
        self.add(at_s, who, gave={"do": do, "id": self._asked, **fields})
        self.add(at_s + 0.01, who, heard={"answer": self._asked, "ok": True, **answer})

    def send(self, at_s: float, who: str, key: str, *, shown: dict[str, float], **to: str) -> None:
        thread = GROUP if to["to"] == WARD else PAIR
        message = {"key": key, "conversation": thread.hex()}
        self.ask(at_s, who, "send", {"message": message}, **to)
        for reader, after_s in shown.items():
            self.add(at_s + after_s, reader, heard={"event": "message", "message": {"key": key}})

    def page(self, at_s: float, who: str, *, alerting: bool) -> None:
        page = {"conversation": "p1", "alerting": alerting}
        self.add(at_s, who, heard={"event": "page", "page": page})

    def wipes(self, at_s: float, stage: str) -> None:
        wipe = {"stage": stage, "ordered_ms": 52_000, "confirmed_ms": 52_200}
        self.add(at_s, "ada", heard={"wipes": [wipe]})


def own(key: str, who: str) -> dict[str, Any]:
    return {"key": key, "own": True, "archived": True, "sender": f"{who}/phone"}


def record() -> list[dict[str, Any]]:
    """Return what the programs of the night were given and answered."""
    made = Recorded()
    _talk(made)
    _page(made)
    _death(made)
    _opening(made)
    _theft(made)
    made.scene(56, "silence")
    made.scene(56, "end")
    return made.lines


def _talk(made: Recorded) -> None:
    made.scene(0, "talk")
    users = ["ben", "clara", "david", "farid"]
    made.ask(0, "anna", "start", {"conversation": GROUP.hex()}, title=WARD, users=users)
    shown = {"ben": 0.03, "clara": 0.03, "david": 0.04, "farid": 0.2}
    made.send(1, "anna", "g:1", shown=shown, to=WARD, text="The scan of bed 7 is back.")
    made.send(2, "ben", "p:1", shown={"anna": 0.05}, to="anna", text="Thanks.")
    made.scene(3, "forget")
    for who, key in (("anna", "g:1"), ("ben", "p:1")):
        made.ask(3.3, who, "wait", {}, **{"for": "archived"})
        made.ask(3.4, who, "show", {"messages": [own(key, who)]}, **{"in": "any"})


def _page(made: Recorded) -> None:
    made.scene(10, "page")
    made.ask(11, "elif", "page", {"conversation": "p1"}, role="registrar")
    made.page(11.1, "luis", alerting=False)
    made.page(11.2, "david", alerting=True)
    made.page(26.2, "farid", alerting=True)
    made.ask(26.3, "farid", "answer", {}, page="p1", **{"with": "accept"})
    made.ask(27, "henry", "list", {"conversations": [{"held": 1}, {"held": 0}]})


def _death(made: Recorded) -> None:
    made.scene(30, "death")
    shown = {"ben": 2.0, "clara": 2.5, "david": 2.5, "farid": 2.5}
    made.send(30, "anna", "g:2", shown=shown, to=WARD, text="Still here?")
    made.add(30.5, "wardline-relay", did="killed", process=7)
    made.send(30.6, "anna", "g:3", shown=shown, to=WARD, text="Now?")
    made.add(31.6, "wardline-relay", did="started", process=8)
    thread = {"messages": [{"key": key} for key in ("g:1", "g:2", "g:3")]}
    for who in ("ben", "clara"):
        made.ask(33.2, who, "show", thread, **{"in": WARD})


def _opening(made: Recorded) -> None:
    made.scene(40, "opening")
    made.add(41, "olga", gave="officer approve r1")
    err = "wardline-archive review: refused: shares are released for an approved request"
    made.add(42, "wardline-archive", ran=["review", "open", "r1"], exit=1, out="", err=err)
    made.add(43, "omar", gave="officer approve r1")
    made.add(44, "wardline-archive", ran=["review", "open", "r1"], exit=0, out="[]", err="")


def _theft(made: Recorded) -> None:
    made.scene(51, "theft")
    made.add(51, "demo", files=[["people/clara/home/store.db", 2000], ["header", 1000]])
    made.add(52, "ada", gave="admin wipe clara/phone --reason stolen --yes")
    made.wipes(52.1, "cryptographic")
    made.add(52.2, "clara", did="ended", exit=4)
    made.wipes(52.3, "confirmed")
    made.add(53, "demo", files=[])
    error = '{"error": "no_profile", "exit": 7}\n'
    made.add(54, "wardline", ran=["--json", "unlock"], exit=7, out="", err=error)
    shown = {"ben": 0.1, "david": 0.1, "farid": 0.1}
    made.send(55, "anna", "g:4", shown=shown, to=WARD, text="Clara's phone is gone.")
    users = ["anna", "ben", "david", "farid", "archive"]
    made.ask(55.5, "anna", "members", {"members": [{"user": user} for user in users]})


def leave(folder: Path) -> None:
    """Write the files of the night into an empty folder."""
    write_record(folder, record())
    _relay(folder / "relay-then")
    export = folder / "export" / "wardline-export"
    export.mkdir(parents=True)
    (export / "verify.py").write_text(VERIFY)
    (export / "transcript.txt").write_text("as it was said\n")
    texts = ["The scan of bed 7 is back.", "Still here?", "Now?"]
    told = [{"kind": "card", "sender": "anna/phone", "text": WARD}]
    told += [{"kind": "text", "sender": "anna/phone", "text": text} for text in texts]
    (export / "transcript.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    (folder / "case.age").write_bytes(bytes(1200))
    (folder / "oncall.toml").write_text(PLAN)
    (folder / "people" / "clara" / "home").mkdir(parents=True)
    size = sum(path.stat().st_size for path in (folder / "relay-then").iterdir())
    (folder / "table.txt").write_text(TABLE.format(bytes=size))


def write_record(folder: Path, lines: list[dict[str, Any]]) -> None:
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _relay(folder: Path) -> None:
    folder.mkdir()
    (folder / "relay.log").write_text('{"level": "INFO", "event": "listening"}\n')
    with closing(sqlite3.connect(folder / "relay.db")) as db:
        db.execute("CREATE TABLE entry(id INTEGER PRIMARY KEY, record BLOB)")
        db.execute("INSERT INTO entry VALUES(1, x'65')")
        db.commit()


def keep_on_relay(folder: Path, entry: bytes) -> None:
    """Have an entry lie in the copy of the relay's file."""
    with closing(sqlite3.connect(folder / "relay-then" / "relay.db")) as db:
        db.execute("INSERT INTO entry(record) VALUES(?)", (entry,))
        db.commit()
