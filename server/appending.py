"""How an entry enters a log: every check first, then every effect, in one piece.

A request that is refused has changed nothing, so one bad request in a batch takes nothing from the
others. The order of the checks is the order of what the sender can do about them: a repeat gets its
answer before anything else is asked, also where the epoch has moved on since.

Source: the architecture, sections 2 and 4.
"""

from __future__ import annotations

from protocol.identifiers import DeviceId, OrganisationId, inbox_log
from server import records
from server.ledger import Batch, Device, Ledger, Log, Staged
from server.store import (
    BODY_BYTES_MAX,
    ID_BYTES_MAX,
    INBOX,
    NUMBER_MAX,
    PRIORITY_MAX,
    READERS_MAX,
    Append,
    Appended,
    Commit,
    EntryState,
    Fact,
    LimitError,
    LogKey,
    MessageIdError,
    NotStagedError,
    Reader,
    Receipt,
    StaleEpochError,
    UnknownLogError,
    Void,
)

EFFECTIVE = int(EntryState.EFFECTIVE)
VOIDED = int(EntryState.VOIDED)


def append(ledger: Ledger, request: Append, batch: Batch) -> Appended:
    """Append one entry with all its effects, or answer a repeat.

    Raises:
        RefusedError: As ``Store.submit`` lists them; nothing has changed.
        DamagedError: The log's own state is damaged.
        AwaitingArchiveError: The archive must be asked first.
    """
    log = ledger.log(request.log)
    _check_limits(request)
    name = (request.log.organisation, request.sender)
    device = ledger.devices.get(name)
    if request.message_id and device is not None:
        answer = _answer(log, device, request.message_id)
        if answer is not None:
            return answer
    _check_epoch(log, request, floor=ledger.floor)
    if request.effect is not None:
        _check_effect(ledger, log, request.effect)
    # From here on nothing is refused.
    appended = _enter(ledger, log, request, device or ledger.device(name, batch), batch)
    if request.effect is not None:
        appended = _apply(ledger, log, request, appended, batch)
    own = log.cursors.get(request.sender)
    if own is not None and own.appended(appended.seq, after=appended.prev):
        ledger.passed[own] = None
    return appended


def _answer(log: Log, device: Device, message_id: int) -> Appended | None:
    answer = device.answered(message_id)
    if answer is None:
        return None
    if answer[0] != log.no:
        raise MessageIdError(message_id + 1)
    return Appended(seq=answer[1], prev=answer[2], repeat=True)


def _enter(ledger: Ledger, log: Log, request: Append, device: Device, batch: Batch) -> Appended:
    row = ledger.next_row
    ledger.next_row = row + 1
    prev = log.head
    seq = ledger.after(prev)
    body, epoch = request.body, request.epoch
    record = records.seal_entry(
        body,
        row,
        request.kind,
        EFFECTIVE,
        not request.expires,
        request.priority,
        log.no,
        seq,
        prev,
        0 if epoch is None else epoch + 1,
        request.message_id,
        request.at_ms,
        0,
        device.no,
    )
    batch.entries.append((row, None, record))
    ledger.entries += 1
    log.hold(row, seq, size=len(body), priority=request.priority)
    if not request.expires:
        log.pinned.add(seq)
    if request.message_id:
        _remember(ledger, log, device, (request.message_id, seq, prev, row), batch)
    if request.facts:
        change_facts(request.log.organisation, request.facts, batch)
    return Appended(seq=seq, prev=prev)


def _remember(
    ledger: Ledger, log: Log, device: Device, answer: tuple[int, int, int, int], batch: Batch
) -> None:
    """Keep an answer (message number, seq, prev, row) for repeats, in place of an older one."""
    message_id, seq, prev, row = answer
    pushed = device.remember(message_id, log.no, seq, prev, row)
    sent = records.seal(records.SENT, b"s", row, device.no, message_id, log.no, seq, prev)
    batch.sent.append((row, sent))
    if pushed:
        batch.drop("sent", (pushed,))
    else:
        ledger.sent += 1


def _check_limits(request: Append) -> None:
    if len(request.body) > BODY_BYTES_MAX:
        raise LimitError("body")
    if not 0 <= request.message_id <= NUMBER_MAX or not (request.message_id or not request.sender):
        raise LimitError("message_id")
    if not 0 <= request.priority <= PRIORITY_MAX:
        raise LimitError("priority")
    if not 0 <= request.kind <= 255:
        raise LimitError("kind")
    if not 0 <= request.at_ms <= NUMBER_MAX:
        raise LimitError("at_ms")
    if len(request.sender) > ID_BYTES_MAX:
        raise LimitError("sender")
    if not (request.expires or request.log.id[0] == INBOX):
        raise LimitError("expires")
    if request.facts:
        check_facts(request.facts)


def check_facts(facts: tuple[Fact, ...]) -> None:
    """Check what is to be written beside the logs.

    Raises:
        LimitError: A key or value is out of range.
    """
    for fact in facts:
        if not 0 < len(fact.key) <= ID_BYTES_MAX:
            raise LimitError("facts")
        if fact.value is not None and len(fact.value) > BODY_BYTES_MAX:
            raise LimitError("facts")


def change_facts(organisation: OrganisationId, facts: tuple[Fact, ...], batch: Batch) -> None:
    """Put changes of facts into the batch, under names that keep organisations apart."""
    prefix = fact_prefix(organisation)
    batch.facts.extend((prefix + fact.key, fact.value) for fact in facts)


def fact_prefix(organisation: OrganisationId) -> bytes:
    """Give what every name of the organisation's facts begins with, and no other's does."""
    return len(organisation).to_bytes(1, "big") + organisation


def _check_epoch(log: Log, request: Append, *, floor: int) -> None:
    epoch = request.epoch
    is_commit = type(request.effect) is Commit
    if epoch is None:
        if is_commit:
            raise LimitError("epoch")
        return
    # The store and the archive may both have been set back, and no message waits for ever for an
    # epoch that nobody else knows: its members' next Commit says which it is, if it is confirmed.
    later = is_commit and epoch > log.epoch and log.may_be_behind(floor)
    # A staged Commit has taken the epoch from other Commits, and from nobody else.
    if (epoch != log.epoch and not later) or (is_commit and log.staged):
        raise StaleEpochError(log.epoch, log.winner_of(epoch))
    if epoch >= NUMBER_MAX:
        raise LimitError("epoch")


def check_readers(readers: tuple[Reader, ...]) -> None:
    """Check readers that are to be added.

    Raises:
        LimitError: There are too many, or a name is out of range.
    """
    if len(readers) > READERS_MAX:
        raise LimitError("readers")
    for reader in readers:
        if len(reader.device) > ID_BYTES_MAX or not 0 <= (reader.after or 0) <= NUMBER_MAX:
            raise LimitError("readers")


def _check_effect(ledger: Ledger, log: Log, effect: Commit | Receipt | Void) -> None:
    if not isinstance(effect, Commit):
        staged = log.staged.seq if log.staged else None
        if effect.commit != staged:
            raise NotStagedError(staged)
        return
    check_readers(effect.joins)
    if len(effect.leaves) > READERS_MAX:
        raise LimitError("leaves")
    if effect.welcome is None:
        return
    if len(effect.welcome) > BODY_BYTES_MAX:
        raise LimitError("welcome")
    if not (0 <= effect.welcome_kind <= 255 and 0 <= effect.welcome_priority <= PRIORITY_MAX):
        raise LimitError("welcome")
    for reader in effect.joins:
        inbox = _inbox(log, reader.device)
        if ledger.log(inbox) is log:
            raise UnknownLogError


def _inbox(log: Log, device: DeviceId) -> LogKey:
    return LogKey(log.key.organisation, inbox_log(device))


def _apply(ledger: Ledger, log: Log, request: Append, appended: Appended, batch: Batch) -> Appended:
    effect = request.effect
    batch.logs[log] = None
    if isinstance(effect, Commit):
        return _stage(ledger, log, request, appended, batch)
    staged = ledger.unstage(log, batch)
    if isinstance(effect, Receipt):
        _confirm(ledger, log, staged, appended, batch)
    else:
        _void(ledger, log, staged, batch)
    return appended


def _stage(ledger: Ledger, log: Log, request: Append, appended: Appended, batch: Batch) -> Appended:
    commit = request.effect
    assert isinstance(commit, Commit)  # noqa: S101 - the caller has looked
    organisation = log.key.organisation
    welcome = 0
    inboxes: list[tuple[DeviceId, int]] = []
    if commit.welcome is not None and commit.joins:
        welcome = ledger.row()
        batch.put("welcome", welcome, records.seal_welcome(welcome, commit.welcome))
        ledger.references[welcome] = len(commit.joins)
        ledger.staged_welcomes.add(welcome)
        for reader in commit.joins:
            inbox = ledger.log(_inbox(log, reader.device))
            inboxes.append((reader.device, _refer(ledger, inbox, request, welcome, batch)))
    joins = [
        (ledger.device((organisation, reader.device), batch).no, reader.expires)
        for reader in commit.joins
    ]
    leaves = [ledger.device((organisation, device), batch).no for device in commit.leaves]
    references = [(joins[i][0], seq) for i, (_, seq) in enumerate(inboxes)]
    assert request.epoch is not None  # noqa: S101 - it was checked
    log.staged = Staged(
        appended.seq,
        epoch=request.epoch,
        welcome=welcome,
        joins=joins,
        leaves=leaves,
        references=references,
    )
    batch.put("staged", log.no, log.staged.record(log.no))
    return Appended(seq=appended.seq, prev=appended.prev, inboxes=tuple(inboxes))


def _refer(ledger: Ledger, inbox: Log, request: Append, welcome: int, batch: Batch) -> int:
    """Append a reference to the Welcome of ``request`` and give its number."""
    commit = request.effect
    assert isinstance(commit, Commit)  # noqa: S101 - the caller has looked
    assert commit.welcome is not None  # noqa: S101 - the caller has looked
    row = ledger.row()
    prev = inbox.head
    seq = ledger.after(prev)
    sender = ledger.device((request.log.organisation, request.sender), batch)
    record = records.seal_entry(
        b"",
        row,
        commit.welcome_kind,
        EFFECTIVE,
        0,
        commit.welcome_priority,
        inbox.no,
        seq,
        prev,
        0 if request.epoch is None else request.epoch + 1,
        request.message_id,
        request.at_ms,
        welcome,
        sender.no,
    )
    batch.entries.append((row, welcome, record))
    ledger.entries += 1
    inbox.hold(row, seq, size=len(commit.welcome), priority=commit.welcome_priority)
    inbox.welcomes[seq] = welcome
    return seq


def _confirm(ledger: Ledger, log: Log, staged: Staged, receipt: Appended, batch: Batch) -> None:
    """Open the next epoch, and change the cursors as the Commit said."""
    log.epoch = staged.epoch + 1
    log.winner = staged.seq
    for number in staged.leaves:
        _end_at(ledger, log, ledger.device_numbers[number].key[1], staged.seq, batch)
    for number, expires in staged.joins:
        reader = Reader(device=ledger.device_numbers[number].key[1], expires=expires)
        ledger.readmit(log, reader, commit=staged.seq, after=receipt.prev, batch=batch)
    ledger.readers_changed(log, batch)


def _end_at(ledger: Ledger, log: Log, device: DeviceId, last: int, batch: Batch) -> None:
    """Let a reader read up to the Commit that removed it, and no further."""
    cursor = log.cursors.get(device)
    if cursor is None:
        return
    if cursor.lapsed or cursor.acked >= last:
        ledger.end_reader(log, device, batch)
    else:
        # Removed again before it has read up to its first removal: it gets what lies between rather
        # than lose what was its own.
        cursor.until, cursor.resumes = last, 0
        batch.cursors[cursor] = None


def _void(ledger: Ledger, log: Log, staged: Staged, batch: Batch) -> None:
    """Discard the Commit and its Welcome; the epoch was never left."""
    ledger.empty(log, staged.seq, state=VOIDED, batch=batch)
    for number, seq in staged.references:
        inbox = ledger.logs.get(_inbox(log, ledger.device_numbers[number].key[1]))
        if inbox is not None:
            ledger.empty(inbox, seq, state=VOIDED, batch=batch)
