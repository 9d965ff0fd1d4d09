"""The real programs: commands run to their end, services that run on, devices to talk to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.record import Record

COMMAND_S = 60.0
"""Seconds that a command may take on a machine that is busy."""

START_S = 30.0
STOP_S = 20.0

ANSWER_S = 45.0
"""Seconds within which a device answers a line."""

LINE_BYTES = 16 << 20
"""Longest line that a program prints, in bytes: a long conversation is one."""

BIN = Path(sys.executable).parent


class DemoError(Exception):
    """A program did not do what it was started for; the text is its own."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a program, without what the operator's shell has set."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**kept, "COLUMNS": "200", **(more or {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where programs run; for the demo, this machine as it is.

    Attributes:
        prefix: What stands before a program's path.
        settings: What its environment has beside ours.
    """

    prefix: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    async def start(self, program: str, *arguments: str | Path, **pipes: Any) -> Process:
        """Start a program there."""
        argv = [*self.prefix, str(BIN / program), *map(str, arguments)]
        return await asyncio.create_subprocess_exec(*argv, env=environment(self.settings), **pipes)


HERE = Host()


async def run(
    program: str,
    *arguments: str | Path,
    stdin: str | None = None,
    host: Host = HERE,
    record: Record | None = None,
) -> str:
    """Run a command to its end, and return what it printed.

    Raises:
        DemoError: It failed, or took too long.
    """
    reads = PIPE if stdin is not None else DEVNULL
    process = await host.start(program, *arguments, stdin=reads, stdout=PIPE, stderr=PIPE)
    given = None if stdin is None else stdin.encode()
    try:
        async with asyncio.timeout(COMMAND_S):
            out, err = await process.communicate(given)
    except TimeoutError:
        process.kill()
        raise DemoError(f"{program} {arguments[0]}: no end in {COMMAND_S:.0f} s") from None
    if record is not None:
        outcome = {"out": out.decode(errors="replace"), "err": err.decode(errors="replace")}
        record.add(program, ran=arguments, exit=process.returncode, **outcome)
    if process.returncode:
        said = (err or out).decode(errors="replace").strip()
        raise DemoError(f"{program} {' '.join(map(str, arguments[:3]))}: {said[-600:]}")
    return out.decode()


class Service:
    """A program that runs until it is stopped or killed; its log is a file.

    Attributes:
        log: What it has said.
    """

    def __init__(
        self,
        program: str,
        *arguments: str | Path,
        log: Path,
        host: Host = HERE,
        record: Record | None = None,
    ) -> None:
        self.log = log
        self._host = host
        self._record = record or Record()
        self._program = program
        self._arguments = arguments
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """Process id of the program that runs."""
        if self._process is None:
            raise DemoError("it does not run")
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended since."""
        return self._process is not None and self._process.returncode is None

    async def start(self, ready: Callable[[str], bool]) -> None:
        """Start it, and return once what it has said since then is ``ready``.

        Raises:
            DemoError: It ended, or was not ready in time.
        """
        with self.log.open("ab") as log:
            said = log.tell()
            self._process = await self._host.start(
                self._program, *self._arguments, stdin=DEVNULL, stdout=log, stderr=log
            )
        self._record.add(self._program, did="started", process=self.pid)
        ends_s = time.monotonic() + START_S
        while time.monotonic() < ends_s and self._process.returncode is None:
            if ready(self.log.read_bytes()[said:].decode(errors="replace")):
                return
            await asyncio.sleep(0.05)
        raise DemoError(f"{self._program}: {self.log.read_text()[said:][-600:]}")

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._record.add(self._program, did="killed", process=self.pid)
            self._process = None

    async def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            return -signal.SIGKILL


class Device:
    """A person's device: ``wardline line --json``, spoken to a line at a time.

    Attributes:
        user: Whose.
        events: Everything that it told of itself, in order, each with ``heard_s``.
        arrivals: When each message was first shown, by its id, on this process's clock.
    """

    def __init__(
        self,
        user: str,
        home: Path,
        pin_file: Path,
        *,
        log: Path,
        host: Host = HERE,
        record: Record | None = None,
    ) -> None:
        self.user = user
        self.home = home
        self.pin_file = pin_file
        self.log = log
        self.host = host
        self.record = record or Record()
        self.events: list[dict[str, Any]] = []
        self.arrivals: dict[str, float] = {}
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._moved = asyncio.Condition()
        self._next = 0

    async def start(self) -> None:
        """Start the program and wait until it is online.

        Raises:
            DemoError: It is not.
        """
        with self.log.open("ab") as log:
            options = ("--home", self.home, "--pin-file", self.pin_file, "--json")
            self._process = await self.host.start(
                *("wardline", *options, "line"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                limit=LINE_BYTES,
            )
        self._reader = asyncio.create_task(self._read(self._process))
        await self.ask("wait", **{"for": "online"}, timeout_s=START_S)

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Have the device do something, and return its answer.

        Raises:
            DemoError: It did not, or has ended.
        """
        answer = await self.try_to(do, **fields)
        if not answer.get("ok"):
            raise DemoError(f"{self.user}: {do}: {answer.get('kind')}: {answer.get('error')}")
        return answer

    async def try_to(self, do: str, **fields: Any) -> dict[str, Any]:
        """Have the device do something that it may refuse, and return its answer.

        Raises:
            DemoError: It has ended, or does not answer.
        """
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise DemoError(f"{self.user}: the program does not run")
        self._next += 1
        number = self._next
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        try:
            given = {"do": do, "id": number, **fields}
            self.record.add(self.user, gave=given)
            process.stdin.write(json.dumps(given).encode() + b"\n")
            await process.stdin.drain()
            async with asyncio.timeout(ANSWER_S):
                return await future
        except (ConnectionError, TimeoutError) as error:
            raise DemoError(f"{self.user}: {do}: {type(error).__name__}") from None
        finally:
            self._answers.pop(number, None)

    async def until(
        self, wanted: Callable[[dict[str, Any]], bool], *, timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        """Return the first event, also of those that came before, that is ``wanted``.

        Raises:
            DemoError: None came in time.
        """
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                while True:
                    for event in self.events:
                        if wanted(event):
                            return event
                    await self._moved.wait()
        except TimeoutError:
            raise DemoError(f"{self.user}: waited {timeout_s:.0f} s for nothing") from None

    async def has(self, message: str, *, timeout_s: float = ANSWER_S) -> float:
        """Return when a message was shown, on this process's clock.

        Raises:
            DemoError: It was not, in time.
        """
        await self.until(lambda _event: message in self.arrivals, timeout_s=timeout_s)
        return self.arrivals[message]

    async def ended(self, *, within_s: float) -> bool:
        """Return whether its program has ended by itself, or does so in time."""
        if self._process is None:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Let the program end."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None and process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(b'{"do": "quit", "id": 0}\n')
                await process.stdin.drain()
                process.stdin.close()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, process: Process) -> None:
        if process.stdout is None:
            return
        async for line in process.stdout:
            heard = json.loads(line)
            self.record.add(self.user, heard=heard)
            if "answer" in heard:
                waiting = self._answers.get(heard["answer"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(heard)
            else:
                async with self._moved:
                    self._take(heard)
                    self._moved.notify_all()
        self.record.add(self.user, did="ended", exit=await process.wait())
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result({"ok": False, "kind": "ended", "error": self._last_words()})

    def _take(self, heard: dict[str, Any]) -> None:
        now_s = time.monotonic()
        self.events.append({**heard, "heard_s": now_s})
        if heard.get("event") == "message":
            self.arrivals.setdefault(heard["message"]["key"], now_s)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace").strip()[-300:] or "the program has ended"
