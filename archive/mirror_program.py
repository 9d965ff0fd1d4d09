"""``wardline-archive mirror``: the program of the machine that keeps the archive's second copy."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import signal
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from archive import events
from archive.configuration import ConfigurationError, Hash
from archive.explaining import explaining
from archive.mirror_frames import TOKEN_BYTES
from archive.mirror_machine import HELLO_S, Machine, Pairing, tls_context
from archive.mirror_store import COPY_FILE, Copy, create_copy
from client.clocks import now_ms
from crypto.note import VerifierKey
from crypto.tls_certificate import create_tls_identity, tls_pin
from storage.files import sync_directory, write_private

PROGRAM = "wardline-archive mirror"

app = typer.Typer(
    help="The archive's second copy, on a machine of its own: it opens and signs nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT = Path("/etc/wardline/mirror/mirror.toml")
TLS_FILE, TLS_KEY_FILE, TOKEN_FILE = "tls.pem", "tls.key", "archive.token"

SILENT_MS = 5 * 60_000
"""Age, in ms, of the last confirmation from which the archive is away: it records a heartbeat each
minute."""

ConfigFile = Annotated[
    Path, typer.Option("--config", envvar="WARDLINE_MIRROR", help="The mirror's TOML file.")
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mirror's configuration; unknown keys and values out of range stop the start.

    Attributes:
        data: Directory of the copy; from the file's folder where it is relative.
        host: Address to listen on: one that only the archive's network reaches.
        port: TCP port, default 8444.
        log_key: Verifier key of the one log that is mirrored. Who changes it has the mirror follow
            another log; what it has of this one does not verify under it.
        token_hash: SHA-256 of the archive's token, hexadecimal. Who sets it can fill the disk.
    """

    data: str
    host: str
    port: int = 8444
    log_key: str
    token_hash: Hash


def say(line: str) -> None:
    """Print a line for whoever runs the command."""
    sys.stdout.write(line + "\n")


def read(file: Path) -> Settings:
    """Return the configuration in a file.

    Raises:
        ConfigurationError: It cannot be read, has an unknown key or a value out of range.
    """
    try:
        return msgspec.convert(tomllib.loads(file.read_text()), Settings)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from None


@app.command()
def init(
    *,
    log_key: Annotated[str, typer.Option(help="The log's key, from the archive's log.vkey.")],
    listen: Annotated[str, typer.Option(help="Where to listen, address:port.")],
    name: Annotated[str, typer.Option(help="How the archive reaches it: host name.")] = "",
    config: ConfigFile = DEFAULT,
) -> None:
    """Make an empty mirror, and the token that its archive shows; prints what goes there."""
    with explaining(PROGRAM):
        host, _, port = listen.rpartition(":")
        if not port.isdecimal():
            raise ConfigurationError("--listen: address:port is wanted")
        token = secrets.token_bytes(TOKEN_BYTES)
        settings = Settings(
            data="data",
            host=host,
            port=int(port),
            log_key=VerifierKey.decode(log_key).encode(),
            token_hash=hashlib.sha256(token).hexdigest(),
        )
        pin = _make(config, settings, token)
    say(f"token {config.parent / TOKEN_FILE}")
    say("for archive.toml, the token's file moved beside it:")
    say(f'[mirror_host]\nhost = "{name or host}"\nport = {port}\npin = "{pin}"')
    say(f'token_file = "{TOKEN_FILE}"\nwait = true')


def _make(config: Path, settings: Settings, token: bytes) -> str:
    """Write all files; return the pin of the TLS key."""
    folder = config.parent
    data = folder / settings.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_copy(data / COPY_FILE)
    identity = create_tls_identity("wardline-mirror", at_ms=now_ms())
    write_private(folder / TLS_FILE, identity.certificate)
    write_private(folder / TLS_KEY_FILE, identity.key)
    write_private(folder / TOKEN_FILE, token.hex().encode() + b"\n")
    values = msgspec.to_builtins(settings).items()
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values)
    write_private(config, lines.encode())
    sync_directory(folder)
    return tls_pin(identity.certificate).hex()


@app.command()
def run(config: ConfigFile = DEFAULT) -> None:
    """Keep the copy until SIGTERM: listens for the archive, and connects to nobody."""
    with explaining(PROGRAM):
        settings = read(config)
        events.configure("INFO")
        with closing(_opened(config, settings)) as copy:
            asyncio.run(_run(config, settings, copy))


def _opened(config: Path, settings: Settings) -> Copy:
    return Copy(config.parent / settings.data / COPY_FILE, VerifierKey.decode(settings.log_key))


async def _run(config: Path, settings: Settings, copy: Copy) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pairing = Pairing(
        token_hash=bytes.fromhex(settings.token_hash),
        log_key=VerifierKey.decode(settings.log_key),
    )
    machine = Machine(config.parent / settings.data, copy, pairing)
    context = tls_context(config.parent / TLS_FILE, config.parent / TLS_KEY_FILE)
    server = await asyncio.start_server(
        machine.serve, settings.host, settings.port, ssl=context, ssl_handshake_timeout=HELLO_S
    )
    port = server.sockets[0].getsockname()[1]
    events.tell("listening", size=copy.size, count=port)
    await stop.wait()
    server.close()
    await machine.close()


@app.command()
def status(config: ConfigFile = DEFAULT) -> None:
    """Show how far the copy is; exits 2 where the archive has not confirmed for five minutes."""
    with explaining(PROGRAM), closing(_opened(config, read(config))) as copy:
        last, size = copy.last(), copy.size
    if last is None:
        say("nothing was confirmed yet")
        raise typer.Exit(2)
    checkpoint, at_ms = last
    age_ms = now_ms() - at_ms
    say(f"records {size}")
    say(f"confirmed {checkpoint.size}")
    say(f"root {checkpoint.root.hex()}")
    say(f"confirmed_ms {at_ms}")
    if age_ms > SILENT_MS:
        say(f"SILENT: nothing was confirmed for {age_ms // 1000} s")
        raise typer.Exit(2)


def main() -> None:
    """Run the program."""
    app(args=sys.argv[2:], prog_name=PROGRAM)
