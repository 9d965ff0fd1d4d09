"""What the recorder reaches: from entries as the relay delivers them to witnessed receipts.

python -m bench.recorder [directory]     QUICK=1 ends within a minute

Every message is opened once and its signature verified, recorded with its group's next key in one
synced transaction, signed and witnessed, and its receipt made; the witness is in this process, so
its network is not in it. The wanted value holds for a second of one core's time.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from archive import configuration, founding, installation
from archive.configuration import RelaySettings
from archive.connection import ENTRIES
from archive.founding import RECORDER, Plan, found
from archive.installation import Installation, record_certificates
from archive.recorder import Recorder
from bench.archive import Witness
from bench.report import Figure, Spent, report
from client.clocks import now_ms
from client.judging import Leaves
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.mls import Add, Capabilities, Credential, Group, KeyPackageSecrets, LeafContent
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.leaf_node import Extension
from crypto.names import Role
from crypto.proof import bind_invitation
from crypto.xwing import XWingKey
from protocol.authenticated_data import AuthenticatedData, CommitData
from protocol.content import kinds
from protocol.content.talk import Text
from protocol.frames import Deliver, EntryKind
from protocol.group_context import EXTENSION_TYPE, ConversationType, WardlineContext
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    OrganisationId,
    UserName,
    conversation_log,
    inbox_log,
)
from protocol.retention import Bucket

QUICK = bool(os.environ.get("QUICK"))
SENDERS = 20
CONVERSATIONS = 10
MESSAGES = 2_000 if QUICK else 20_000
WANTED = 3_000
WORDS = "blood pressure 120 over 80, all is well " * 5
OFFICERS = ("o1", "o2", "o3", "o4")


@dataclass(kw_only=True)
class Device:
    """A sender: its keys, and its groups."""

    keys: DeviceKeys
    certificate: bytes

    def package(self) -> KeyPackageSecrets:
        content = LeafContent(
            credential=Credential.x509([self.certificate]),
            capabilities=Capabilities.of(SUITE, extensions=(EXTENSION_TYPE,), credentials=(2,)),
        )
        return KeyPackageSecrets.generate(
            SUITE,
            content,
            signer=self.keys.signature_key,
            not_before_s=now_ms() // 1000 - 60,
            not_after_s=now_ms() // 1000 + 86_400,
        )


def certified(archive: Installation, name: str, role: Role = Role.CLINICIAN) -> Device:
    """Return a device that the authority certified."""
    keys, request = asking(archive, name, role)
    return Device(keys=keys, certificate=archive.authority.certify(request, now_ms=now_ms()))


def asking(archive: Installation, name: str, role: Role) -> tuple[DeviceKeys, bytes]:
    """Return the keys of a device that is invited, and its request for a certificate."""
    user, device = name.split("/")
    keys = DeviceKeys(
        user=user,
        device=device,
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )
    at = configuration.address(archive.settings.relay)
    invited = archive.authority.invite(user, [role], at=at, now_ms=now_ms())
    binding = bind_invitation(invited.statement, claim=keys.claim, key=invited.link.key)
    request = create_request(
        keys,
        organisation=archive.organisation,
        statement=invited.statement,
        binding=binding,
        at_ms=now_ms(),
    )
    return keys, request


class Conversation:
    """A conversation of all senders and the recorder, in its first epoch."""

    def __init__(
        self, archive: Installation, recorder: Recorder, devices: Sequence[Device]
    ) -> None:
        self.id = ConversationId(secrets.token_bytes(32))
        self.sequence = 0
        self.groups: list[Group] = []
        self._begin(archive, recorder, devices)

    def _begin(self, archive: Installation, recorder: Recorder, devices: Sequence[Device]) -> None:
        context = WardlineContext(
            organisation=OrganisationId(archive.organisation),
            conversation_type=ConversationType.GROUP,
            owners=(UserName(devices[0].keys.user),),
            recorder=DeviceId(RECORDER),
            retention_class="clinical",
        )
        extension = Extension(extension_type=EXTENSION_TYPE, extension_data=context.encode())
        own = Device(keys=archive.keys, certificate=archive.certificate()).package()
        with recorder.log.store.transaction():
            recorder.live.add_packages([own], last_resort=own_last(archive), now_s=now_ms() // 1000)
        packages = [device.package() for device in devices]
        group = Group.create(packages[0], group_id=self.id, extensions=(extension,))
        names = [f"{device.keys.user}/{device.keys.device}" for device in devices[1:]]
        data = AuthenticatedData(
            message_id=1,
            commit=CommitData(
                added=tuple(sorted(map(DeviceId, [RECORDER, *names]))), context=context
            ),
        )
        leaves = Leaves(archive.authority.trust, entering_at_ms=now_ms())
        adds = [Add(one.key_package) for one in (own, *packages[1:])]
        group, staged = group.commit(adds, authenticate=leaves, authenticated_data=data.encode())
        assert staged.group is not None
        assert staged.welcome is not None
        self.groups = [group.merge(staged.group)] + [
            Group.join(staged.welcome, one, authenticate=Leaves(leaves.trust, entering_at_ms=None))
            for one in packages[1:]
        ]
        commit = self.entry(staged.message, EntryKind.COMMIT)
        recorder.take([commit], now_ms=now_ms())
        welcome = Deliver(
            log=inbox_log(DeviceId(RECORDER)),
            sequence=int.from_bytes(self.id[:4], "big")
            + recorder.position(inbox_log(DeviceId(RECORDER))),
            predecessor=recorder.position(inbox_log(DeviceId(RECORDER))),
            at_ms=now_ms(),
            kind=EntryKind.WELCOME,
            body=staged.welcome,
        )
        recorder.take([welcome], now_ms=now_ms())
        (verdict,) = [
            one for one in recorder.live.verdicts(below=1 << 60) if one.conversation == self.id
        ]
        recorder.take([self.entry(verdict.statement, EntryKind.RECEIPT)], now_ms=now_ms())

    def entry(self, body: bytes, kind: EntryKind = EntryKind.MESSAGE) -> Deliver:
        self.sequence += 1
        return Deliver(
            log=conversation_log(self.id),
            sequence=self.sequence,
            predecessor=self.sequence - 1,
            at_ms=now_ms(),
            kind=kind,
            body=body,
        )

    def renew(self) -> tuple[bytes, Group]:
        """Return a Commit of the first device's that changes nobody, and where it leads to."""
        data = AuthenticatedData(message_id=1 << 32, commit=CommitData(added=(), removed=()))
        _, staged = self.groups[0].commit(
            [], authenticate=lambda *_: None, authenticated_data=data.encode()
        )
        assert staged.group is not None
        return staged.message, staged.group

    def said(self, number: int) -> bytes:
        return AuthenticatedData(message_id=number + 2).encode()

    def say(self, number: int) -> Deliver:
        who = number % len(self.groups)
        text = kinds.encode(Text(text=WORDS))
        self.groups[who], message = self.groups[who].encrypt(
            text, authenticated_data=self.said(number)
        )
        return self.entry(message)


def own_last(archive: Installation) -> KeyPackageSecrets:
    return Device(keys=archive.keys, certificate=archive.certificate()).package()


def figures(directory: Path) -> Iterator[Figure]:
    file = directory / "archive.toml"
    plan = Plan(
        name="Bench",
        relay=RelaySettings(host="relay.example", port=8443, pin="00" * 32),
        administrators=["ada", "bo"],
        officers=OFFICERS,
        k=2,
    )
    found(file, plan, now_ms=now_ms() - 2000)
    with installation.opened(file) as archive:
        yield from recording(archive)


def recording(archive: Installation) -> Iterator[Figure]:
    witness = Witness(founding.log_signer(archive.store))
    log = archive.open_log(witness.key.verifier)
    recorder = archive.recorder(log)
    devices = [certified(archive, f"user-{number}/phone") for number in range(SENDERS)]
    recorder.me = archive.identity()
    record_certificates(recorder, now_ms=now_ms())
    bucket = Bucket.at("clinical", now_ms()).name
    with log.store.transaction():
        for officer in OFFICERS:
            key = XWingKey.generate().public_key
            recorder.index.add_officer_key(officer, bucket, key, issued_ms=1)
    talks = [Conversation(archive, recorder, devices) for _ in range(CONVERSATIONS)]
    wall = cpu = 0.0
    done = 0
    while done < MESSAGES:
        batch = [talks[n % CONVERSATIONS].say(n) for n in range(done, done + ENTRIES)]
        done += len(batch)
        started, used = time.perf_counter(), time.process_time()
        recorder.take(batch, now_ms=now_ms())
        request = log.request()
        note = log.accept(request.note, witness(request))
        untold = recorder.live.untold(below=log.size, most=ENTRIES)
        log.receipts([one.index for one in untold], note)
        with log.store.transaction():
            recorder.live.told(untold)
        wall += time.perf_counter() - started
        cpu += time.process_time() - used
    last = hashlib.sha256(batch[-1].body).digest()
    assert log.index_of(last) is not None
    spent = Spent(done=done, wall_s=wall, cpu_s=cpu)
    name = "messages opened, verified, recorded with their keys, witnessed, receipts made"
    yield from spent.rates(name, of="CPU", wanted=WANTED)
    log.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        sys.exit(report(figures(Path(name))))
