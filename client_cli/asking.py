"""Last questions of commands: beside the output, which a program may read, and answered by hand.

Where a device lives meanwhile, it goes on living while the person thinks.
"""

from __future__ import annotations

import asyncio
import sys

from client_cli.output import CommandError, Exit
from client_cli.shell import Current

YES = ("y", "yes")


def must_agree(question: str, *, yes: bool) -> None:
    """Ask, where nobody has said yes already.

    Raises:
        CommandError: The answer is another one, or there is nobody to give one.
    """
    if not yes:
        _ask(question)
        _judge(sys.stdin.readline())


async def must_agree_meanwhile(question: str, *, yes: bool, instead: str = "--yes") -> None:
    """Ask as ``must_agree`` does, while the device goes on.

    Args:
        question: What is asked.
        yes: Whether it was answered before.
        instead: What answers it before, where nobody can be asked.

    Raises:
        CommandError: The answer is another one, or there is nobody to give one.
    """
    if not yes:
        _ask(question, instead=instead)
        _judge(await typed_line())


async def typed_line() -> str:
    """Return the next line of standard input; empty at its end."""
    if not sys.stdin.isatty():
        return await asyncio.to_thread(sys.stdin.readline)
    # No thread waits for a keyboard: Ctrl-C would then wait for a line.
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()


def _ask(question: str, *, instead: str = "--yes") -> None:
    if Current.shared is not None and not sys.stdin.isatty():
        # What stands on the next line is a command and no answer.
        text = f"That asks first, and nobody is there to answer. Nothing was done; say {instead}"
        raise CommandError(Exit.DECLINED, "nobody_to_ask", text)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()


def _judge(answer: str) -> None:
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    if answer.strip().casefold() not in YES:
        raise CommandError(Exit.DECLINED, "declined", "You did not say yes. Nothing was done.")
