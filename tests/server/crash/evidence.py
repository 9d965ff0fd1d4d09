"""What must hold of the files that a crash leaves behind, given what was answered before it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from server import records, secrets
from server.appending import fact_prefix
from server.ledger import Ledger, Log
from server.sqlite_load import load, read_tally, tally_facts
from server.sqlite_schema import connect
from tests.server.crash.driver import KEY, READERS, SECRETS, STORE, body_of, welcome_of
from tests.server.stores import ANN, CAT, ORGANISATION, WARD, inbox

Line = dict[str, Any]


def read_lines(output: bytes) -> list[Line]:
    """The lines that were told whole."""
    return [json.loads(line) for line in output.split(b"\n")[:-1]]


class Told:
    """What the driver had asked for and been answered when it died."""

    def __init__(self) -> None:
        self.opened = False
        self.appended: dict[int, tuple[int, int]] = {}
        self.commits: dict[int, Line] = {}
        self.acknowledged: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.decided: list[Line] = []
        self.deciding: Line | None = None
        self.fact = (0, 0)
        self.wiped: set[str] = set()
        self.wiping: set[str] = set()
        self.shares: set[str] = set()

    def take(self, lines: Iterable[Line]) -> Told:
        for line in lines:
            answered = line["sign"] == "!"
            what = line["what"]
            if what == "open":
                self.opened = True
            elif what == "append":
                self.appended[line["number"]] = (line["seq"], line["prev"])
            elif what == "commit":
                self.commits[line["seq"]] = line
            elif what == "acknowledge":
                (self.acknowledged if answered else self.asked)[line["device"]] = line["seq"]
            elif what in ("void", "receipt"):
                if answered:
                    self.decided.append(line)
                self.deciding = None if answered else line
            elif what == "fact":
                self.fact = (line["value"] if answered else self.fact[0], line["value"])
            elif what == "wipe":
                (self.wiped if answered else self.wiping).add(line["device"])
            elif what == "share":
                self.shares.add(line["device"])
        return self


def examine(directory: Path, told: Told) -> list[str]:
    """What was lost, forked or revived; empty where every answer still holds."""
    with closing(connect(directory / STORE)) as db:
        ledger = load(db)
        found = _examine_store(db, ledger, told)
        facts_whole = read_tally(db) == tally_facts(db)
        if not facts_whole or ledger.awaiting or ledger.unreadable:
            found.append("the store does not trust itself")
    return found + _examine_secrets(directory, told)


def _examine_store(db: sqlite3.Connection, ledger: Ledger, told: Told) -> list[str]:
    if not told.opened:
        return []
    log = ledger.logs.get(WARD)
    if log is None:
        return ["the log is lost"]
    bodies = _bodies(db, log)
    return [
        *_lost_appends(ledger, log, bodies, told),
        *_wrong_cursors(log, told),
        *_wrong_epochs(db, ledger, log, told),
        *_lost_fact(db, told),
    ]


def _bodies(db: sqlite3.Connection, log: Log) -> dict[int, tuple[records.EntryHead, bytes]]:
    opened = {}
    for row, record in db.execute("SELECT id, record FROM entry"):
        head, body = records.open_entry(row, record)
        if head.log == log.no:
            opened[head.seq] = (head, body)
    return opened


def _lost_appends(
    ledger: Ledger,
    log: Log,
    bodies: dict[int, tuple[records.EntryHead, bytes]],
    told: Told,
) -> list[str]:
    found = []
    sender = ledger.devices.get((ORGANISATION, ANN))
    passed = min(told.asked.get(device, 0) for device in READERS)
    undecided = told.deciding["seq"] if told.deciding else 0
    voided = {line["seq"] for line in told.decided if line["what"] == "void"}
    for number, (seq, prev) in told.appended.items():
        if sender is None or sender.answered(number) != (log.no, seq, prev):
            found.append(f"a repeat of {number} would not get its answer")
        if seq > log.head:
            found.append(f"number {seq} would be given again")
        if seq <= passed or (seq in bodies and seq == undecided):
            continue
        expected = b"" if seq in voided else body_of(number)
        if seq not in bodies or bodies[seq][1] != expected or bodies[seq][0].prev != prev:
            found.append(f"entry {seq} is lost")
    numbers = [head.message_id for head, _ in bodies.values() if head.message_id]
    if len(set(numbers)) != len(numbers):
        found.append("a message is there twice")
    return found


def _wrong_cursors(log: Log, told: Told) -> list[str]:
    found = []
    for device in READERS:
        cursor = log.cursors.get(device)
        low, high = told.acknowledged.get(device, 0), told.asked.get(device, 0)
        if cursor is None or not low <= cursor.acked <= high:
            found.append(f"a cursor is not between {low} and {high}")
    return found


def _wrong_epochs(db: sqlite3.Connection, ledger: Ledger, log: Log, told: Told) -> list[str]:
    receipts = [line for line in told.decided if line["what"] == "receipt"]
    epoch = max((line["epoch"] + 1 for line in receipts), default=0)
    deciding = told.deciding
    if log.epoch not in (epoch, epoch + 1) or (log.epoch == epoch + 1 and deciding is None):
        return [f"epoch {log.epoch} instead of {epoch}"]
    if receipts and log.epoch == epoch and log.winner != receipts[-1]["seq"]:
        return ["the winner of the epoch is another"]
    open_commits = set(told.commits) - {line["seq"] for line in told.decided}
    for seq in open_commits:
        if deciding and deciding["seq"] == seq and (log.staged is None):
            continue
        if log.staged is None or log.staged.seq != seq:
            return [f"the staged commit {seq} is lost"]
        return _lost_welcome(db, ledger, log.staged.welcome, told.commits[seq]["number"])
    return []


def _lost_welcome(db: sqlite3.Connection, ledger: Ledger, welcome: int, number: int) -> list[str]:
    row = db.execute("SELECT record FROM welcome WHERE id = ?", (welcome,)).fetchone()
    references = ledger.logs[inbox(CAT)].welcomes.values()
    if row is None or welcome not in references:
        return ["a welcome is lost"]
    if records.open_welcome(welcome, row[0]) != welcome_of(number):
        return ["a welcome is another"]
    return []


def _lost_fact(db: sqlite3.Connection, told: Told) -> list[str]:
    name = fact_prefix(ORGANISATION) + b"round"
    row = db.execute("SELECT record FROM fact WHERE name = ?", (name,)).fetchone()
    value = int(records.open_fact(name, row[0])) if row else 0
    return [] if value in told.fact else [f"fact {value} instead of {told.fact}"]


def _examine_secrets(directory: Path, told: Told) -> list[str]:
    found = []
    with closing(secrets._open(directory / SECRETS, directory / KEY)) as db:
        for device in told.shares:
            share = secrets._share(db, ORGANISATION, device)
            if device in told.wiped and share is not None:
                found.append("an unlock share is revived")
            if device not in told.wiping and share is None:
                found.append("an unlock share is lost")
        known = {row[0] for row in db.execute("SELECT device FROM wipe")}
        found += ["a wipe is forgotten" for device in told.wiped - known]
    return found
