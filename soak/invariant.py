"""What must hold after every fault.

Nothing that a device has taken from its person is lost, everybody has it, once, in one order and
unchanged; its sender has the archive's proof of it; the archive's log is whole and witnessed; the
relay has let it go; no word of it lies outside of a device; nobody is stuck in an old epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A message as a device shows it.

    Attributes:
        tag: By which it is known.
        text: All of it.
        own: Whether this device's person wrote it.
        archived: Whether its sender has the archive's proof.
    """

    tag: str
    text: str = field(repr=False)
    own: bool
    archived: bool


def seen_in(shown: Iterable[Mapping[str, object]], canary: str) -> list[Seen]:
    """Return the messages of an answer to ``show`` that have a tag, in the order shown."""
    tagged = re.compile(re.escape(canary) + r"-\d+\.")
    found = []
    for message in shown:
        text = str(message["text"])
        if match := tagged.search(text):
            own, archived = bool(message["own"]), bool(message["archived"])
            found.append(Seen(tag=match[0], text=text, own=own, archived=archived))
    return found


def judge(
    threads: Mapping[str, Sequence[Seen]],
    *,
    sure: Iterable[str],
    unsure: Iterable[str],
    stays: Iterable[str],
) -> list[str]:
    """Return what is wrong with a conversation, in words.

    Args:
        threads: What each person's device shows, by user name.
        sure: Tags of what was taken, all of which everybody must have who stays.
        unsure: Tags of what may have been taken.
        stays: Who was in it all the time.
    """
    sure, either = set(sure), set(sure) | set(unsure)
    recent = {
        user: [one for one in thread if one.tag in either] for user, thread in threads.items()
    }
    staying = set(stays)
    wanted = sure.union(*({one.tag for one in recent[user]} for user in staying & set(recent)))
    wrong = []
    for user, thread in recent.items():
        tags = [one.tag for one in thread]
        if len(set(tags)) < len(tags):
            wrong.append(f"{user}: {len(tags) - len(set(tags))} shown twice")
        if user in staying and wanted - set(tags):
            wrong.append(f"{user}: {len(wanted - set(tags))} missing")
        unproved = sum(one.own and not one.archived for one in thread)
        if unproved:
            wrong.append(f"{user}: {unproved} without the archive's proof")
    return [*wrong, *_disagreements(recent)]


def _disagreements(threads: Mapping[str, Sequence[Seen]]) -> list[str]:
    """Return who shows another order, or other words, than the first who has the most."""
    if not threads:
        return []
    reference = max(threads, key=lambda user: len(threads[user]))
    order = {one.tag: place for place, one in enumerate(threads[reference])}
    words = {one.tag: one.text for one in threads[reference]}
    wrong = []
    for user, thread in threads.items():
        common = [one for one in thread if one.tag in order]
        places = [order[one.tag] for one in common]
        if places != sorted(places):
            wrong.append(f"{user}: another order than {reference}")
        if len(common) < len(thread):
            wrong.append(f"{user}: {len(thread) - len(common)} that {reference} lacks")
        changed = sum(words[one.tag] != one.text for one in common)
        if changed:
            wrong.append(f"{user}: {changed} in other words than {reference}")
    return wrong


def files_with(folder: Path, canary: str) -> list[str]:
    """Return the files beneath a folder in which the canary lies."""
    sought = canary.encode()
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and sought in path.read_bytes()
    ]


def is_in_memory(pid: int, canary: str) -> bool:
    """Tell whether the canary lies in a process's memory."""
    sought = canary.encode()
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            extent, rights = line.split()[:2]
            if "r" not in rights or "w" not in rights:
                continue
            begin, end = (int(part, 16) for part in extent.split("-"))
            memory.seek(begin)
            try:
                if sought in memory.read(end - begin):
                    return True
            except OSError:
                continue
    return False
