"""Ways in and out, and keys from elsewhere: PSKs, external senders, joining, exporting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto.errors import EpochError, VerificationError
from crypto.mls import Add, Group, ReceivedProposal, StagedCommit
from crypto.mls.commit import Committed
from crypto.mls.external import (
    join_by_external_commit,
    propose_as_external_sender,
    propose_own_add,
)
from crypto.mls.framing import SenderType
from crypto.mls.group import PSKs
from crypto.mls.proposal import (
    ExternalInit,
    ExternalPSK,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
    ReInit,
    ResumptionPSK,
    ResumptionPSKUsage,
    Update,
)
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.ward import (
    SUITE,
    advance,
    anyone,
    assemble,
    breaks,
    by_roster,
    enter,
    everyone_understands,
    evict,
    external_senders_extension,
    found,
    hear,
    key_package,
    pair,
    saved,
    stage,
    trio,
    welcome_anyway,
)

NONCE = bytes(SUITE.hash_bytes)
CUPBOARD = PreSharedKey(ExternalPSK(psk_id=b"drug cupboard", psk_nonce=NONCE))
KEYS = {b"drug cupboard": b"a shared secret"}


def _resumption(group: Group, epoch: int) -> PreSharedKey:
    return PreSharedKey(
        ResumptionPSK(
            usage=ResumptionPSKUsage.APPLICATION,
            psk_group_id=group.group_id,
            psk_epoch=epoch,
            psk_nonce=NONCE,
        )
    )


def _commit_with(
    committer: Group, reader: Group, proposal: Proposal, *, psks: tuple[PSKs, PSKs] = ({}, {})
) -> list[Group]:
    committer, staged = committer.commit([proposal], authenticate=by_roster, psks=psks[0])
    assert staged.group is not None
    reader, received = reader.process(staged.message, authenticate=by_roster, psks=psks[1])
    assert isinstance(received, StagedCommit)
    assert received.group is not None
    return [committer.merge(staged.group), reader.merge(received.group)]


# -- pre-shared keys -------------------------------------------------------------------------------


def test_an_external_psk_enters_the_epoch() -> None:
    osei, lindqvist = pair()
    everyone_understands(_commit_with(osei, lindqvist, CUPBOARD, psks=(KEYS, KEYS)))


def test_another_psk_under_the_same_name_does_not_serve() -> None:
    osei, lindqvist = pair()
    with pytest.raises(VerificationError):
        _commit_with(osei, lindqvist, CUPBOARD, psks=(KEYS, {b"drug cupboard": b"another"}))


def test_an_unknown_psk_is_refused_and_never_made_from_its_name() -> None:
    osei, lindqvist = pair()
    before = saved(lindqvist)
    with breaks("8.4"):
        osei.commit([CUPBOARD], authenticate=by_roster)
    with breaks("8.4"):
        _commit_with(osei, lindqvist, CUPBOARD, psks=(KEYS, {}))
    with breaks("8.4"):
        _commit_with(osei, lindqvist, CUPBOARD, psks=(KEYS, {b"drug": b"a shared secret"}))
    assert saved(lindqvist) == before
    # A committer that took the name, or nothing, for the key is not followed.
    for guess in (b"drug cupboard", b"", NONCE):
        with pytest.raises(VerificationError):
            _commit_with(osei, lindqvist, CUPBOARD, psks=({b"drug cupboard": guess}, KEYS))


def test_a_psk_makes_another_epoch_than_none() -> None:
    osei, _ = pair()
    without = osei.commit(authenticate=by_roster, with_path=True)[1].group
    with_key = osei.commit([CUPBOARD], authenticate=by_roster, psks=KEYS)[1].group
    assert without is not None
    assert with_key is not None
    assert without.epoch_authenticator != with_key.epoch_authenticator


def test_a_resumption_psk_of_the_present_or_a_past_epoch_serves() -> None:
    groups = list(advance(advance(assemble(2)), by=1))
    for back in (0, 1, 2):
        psk = _resumption(groups[0], groups[0].epoch - back)
        if groups[0].epoch - back < 1:
            continue  # Lindqvist was not there
        everyone_understands(_commit_with(groups[0], groups[1], psk))


def test_a_resumption_psk_from_before_one_came_or_of_another_group_is_unknown() -> None:
    osei, lindqvist = pair()
    with breaks("8.4"):
        _commit_with(osei, lindqvist, _resumption(osei, 0))
    other = found("Weber")
    with breaks("8.4"):
        osei.commit([_resumption(other, 0)], authenticate=by_roster)
    with breaks("8.4"):
        osei.commit([_resumption(osei, osei.epoch + 1)], authenticate=by_roster)


def test_a_resumption_psk_older_than_five_epochs_is_unknown() -> None:
    groups = assemble(2)
    first = groups[0].epoch
    for _ in range(6):
        groups = advance(groups)
    everyone_understands(_commit_with(groups[0], groups[1], _resumption(groups[0], first + 1)))
    with breaks("8.4"):
        groups[0].commit([_resumption(groups[0], first)], authenticate=by_roster)


def test_a_psk_that_waits_by_reference_is_committed_once() -> None:
    osei, lindqvist = pair()
    lindqvist, first = lindqvist.propose(CUPBOARD)
    lindqvist, second = lindqvist.propose(CUPBOARD)
    osei = hear(hear(osei, first), second)
    osei, staged = osei.commit(authenticate=by_roster, psks=KEYS)
    assert [item.proposal for item in staged.proposals] == [CUPBOARD]
    lindqvist, received = lindqvist.process(staged.message, authenticate=by_roster, psks=KEYS)
    assert isinstance(received, StagedCommit)


def test_a_joiner_needs_the_psk_of_the_commit_that_adds_it() -> None:
    osei, _ = pair()
    own = key_package("Weber")
    changes: list[Proposal] = [Add(own.key_package), CUPBOARD]
    osei, staged = osei.commit(changes, authenticate=by_roster, psks=KEYS)
    welcome = staged.welcome or b""
    with breaks("8.4"):
        Group.join(welcome, own, authenticate=by_roster)
    with pytest.raises(VerificationError):
        Group.join(welcome, own, authenticate=by_roster, psks={b"drug cupboard": b"another"})
    joined = Group.join(welcome, own, authenticate=by_roster, psks=KEYS)
    assert staged.group is not None
    everyone_understands([osei.merge(staged.group), joined])


@pytest.mark.parametrize("usage", [ResumptionPSKUsage.BRANCH, ResumptionPSKUsage.REINIT])
def test_a_welcome_to_a_branch_or_a_successor_group_is_refused(usage: ResumptionPSKUsage) -> None:
    own = key_package("Weber")
    psk = ResumptionPSK(usage=usage, psk_group_id=b"ward", psk_epoch=0, psk_nonce=NONCE)
    with breaks("11.2"):
        Group.join(_welcome_with(own, psk), own, authenticate=by_roster)


def test_a_welcome_with_a_psk_twice_is_refused() -> None:
    own = key_package("Weber")
    psk = ExternalPSK(psk_id=b"drug cupboard", psk_nonce=NONCE)
    with breaks("12.2"):
        Group.join(_welcome_with(own, psk, psk), own, authenticate=by_roster, psks=KEYS)


def test_a_welcome_with_a_resumption_psk_that_a_joiner_cannot_have_is_refused() -> None:
    own = key_package("Weber")
    psk = _resumption(pair()[0], 1).psk
    with breaks("8.4"):
        Group.join(_welcome_with(own, psk), own, authenticate=by_roster, psks=KEYS)


def _welcome_with(own: object, *psks: PreSharedKeyID) -> bytes:
    def alter(committed: Committed) -> Committed:
        return replace(committed, applied=replace(committed.applied, psks=psks))

    return welcome_anyway(pair()[0], [own], alter=alter)  # type: ignore[list-item]  # a key package


# -- senders from outside --------------------------------------------------------------------------


def _from_outside(
    group: Group, signer: object, proposal: Proposal, *, at: int = 0, epoch: int | None = None
) -> bytes:
    return propose_as_external_sender(
        SUITE,
        signer,  # type: ignore[arg-type]  # a Signer
        proposal,
        sender_index=at,
        group_id=group.group_id,
        epoch=group.epoch if epoch is None else epoch,
    )


def _with_registrar() -> tuple[list[Group], object]:
    signer = SUITE.signature.generate()
    groups = assemble(3, extensions=(external_senders_extension(signer, "Weber"),))
    return groups, signer


def test_an_external_sender_proposes_and_a_member_commits() -> None:
    groups, signer = _with_registrar()
    newcomer = key_package("Tanaka")
    for proposal in (Add(newcomer.key_package), evict(2)):
        message = _from_outside(groups[0], signer, proposal)
        for at, group in enumerate(groups):
            groups[at], received = group.process(message, authenticate=by_roster)
            assert isinstance(received, ReceivedProposal)
            assert received.sender.sender_type is SenderType.EXTERNAL
    groups[0], staged = groups[0].commit(authenticate=by_roster)
    assert (staged.added, staged.removed) == ((LeafIndex(2),), (LeafIndex(2),))
    assert staged.group is not None
    joined = Group.join(staged.welcome or b"", newcomer, authenticate=by_roster)
    everyone_understands([groups[0].merge(staged.group), hear(groups[1], staged.message), joined])


@pytest.mark.parametrize("kind", ["update", "external_init", "reinit"])
def test_what_an_external_sender_may_not_propose_is_refused(kind: str) -> None:
    groups, signer = _with_registrar()
    update = next(iter(groups[0].propose_update()[0].pending.values())).sent.proposal
    forbidden: dict[str, Proposal] = {
        "update": update,
        "external_init": ExternalInit(bytes(32)),
        "reinit": ReInit(group_id=b"next", version=1, cipher_suite=3, extensions=()),
    }
    with breaks("11.2" if kind == "reinit" else "12.1.8"):
        groups[1].process(_from_outside(groups[0], signer, forbidden[kind]), authenticate=by_roster)
    assert isinstance(update, Update)


def test_a_sender_that_the_group_does_not_name_is_refused() -> None:
    groups, signer = _with_registrar()
    with breaks("6.1"):
        groups[0].process(_from_outside(groups[0], signer, evict(2), at=1), authenticate=by_roster)
    stranger = SUITE.signature.generate()
    with pytest.raises(VerificationError):
        groups[0].process(_from_outside(groups[0], stranger, evict(2)), authenticate=by_roster)
    with pytest.raises(EpochError):
        groups[0].process(
            _from_outside(groups[0], signer, evict(2), epoch=groups[0].epoch + 1),
            authenticate=by_roster,
        )


def test_an_external_sender_can_be_dismissed() -> None:
    groups, signer = _with_registrar()
    groups[0], staged = groups[0].commit([GroupContextExtensions(())], authenticate=by_roster)
    assert staged.group is not None
    after = hear(groups[1], staged.message)
    assert after.context.extensions == ()
    with breaks("6.1"):
        after.process(_from_outside(after, signer, evict(2)), authenticate=by_roster)


def test_a_client_proposes_to_be_added_itself() -> None:
    osei, lindqvist, _ = trio()
    own = key_package("Tanaka")
    message = propose_own_add(own, group_id=osei.group_id, epoch=osei.epoch)
    osei, lindqvist = hear(osei, message), hear(lindqvist, message)
    osei, staged = osei.commit(authenticate=by_roster)
    assert staged.group is not None
    joined = Group.join(staged.welcome or b"", own, authenticate=by_roster)
    everyone_understands([osei.merge(staged.group), hear(lindqvist, staged.message), joined])


# -- external commits ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_tree", [True, False])
def test_a_client_lets_itself_in(with_tree: bool) -> None:
    groups = list(trio())
    info = groups[0].group_info(external_join=True, with_tree=with_tree)
    staged = join_by_external_commit(
        info,
        key_package("Tanaka"),
        authenticate=by_roster,
        ratchet_tree=None if with_tree else groups[0].ratchet_tree,
        authenticated_data=b"hello",
    )
    assert staged.group is not None
    received = stage(groups[1], staged.message)
    assert received.external
    assert received.authenticated_data == b"hello"
    assert received.committer == staged.committer == LeafIndex(3)
    everyone_understands([staged.group, *(hear(group, staged.message) for group in groups)])


def test_a_device_that_lost_its_state_takes_its_own_place_again() -> None:
    groups = list(trio())
    staged = join_by_external_commit(
        groups[0].group_info(external_join=True),
        key_package("Marchetti"),
        authenticate=by_roster,
        proposals=[evict(2)],
    )
    assert staged.group is not None
    assert staged.committer == LeafIndex(2)
    assert staged.removed == (LeafIndex(2),)
    assert stage(groups[2], staged.message).group is None
    everyone_understands([staged.group, *(hear(group, staged.message) for group in groups[:2])])


def test_nobody_takes_anothers_place_by_an_external_commit() -> None:
    osei, lindqvist, _ = trio()
    info = osei.group_info(external_join=True)
    with pytest.raises(VerificationError):
        join_by_external_commit(
            info, key_package("Weber"), authenticate=by_roster, proposals=[evict(2)]
        )
    staged = join_by_external_commit(
        info, key_package("Weber"), authenticate=anyone, proposals=[evict(2)]
    )
    with pytest.raises(VerificationError):
        lindqvist.process(staged.message, authenticate=by_roster)


def test_an_external_commit_may_bring_a_psk() -> None:
    groups = list(trio())
    info = groups[0].group_info(external_join=True)
    own = key_package("Tanaka")
    staged = join_by_external_commit(
        info, own, authenticate=by_roster, proposals=[CUPBOARD], psks=KEYS
    )
    assert staged.group is not None
    _, received = groups[0].process(staged.message, authenticate=by_roster, psks=KEYS)
    assert isinstance(received, StagedCommit)
    with breaks("8.4"):
        groups[0].process(staged.message, authenticate=by_roster)
    with breaks("8.4"):
        join_by_external_commit(info, own, authenticate=by_roster, proposals=[CUPBOARD])


def test_a_group_that_does_not_invite_cannot_be_entered() -> None:
    osei, _ = pair()
    with breaks("12.4.3.2"):
        enter(osei.group_info())
    with breaks("6"):
        enter(osei.encrypt(b"no info")[1])


def test_a_group_info_signed_by_nobody_in_the_group_is_refused() -> None:
    osei, _ = pair()
    for leaf in (2, 1 << 24):
        posing = replace(osei, current=replace(osei.current, own_leaf=LeafIndex(leaf)))
        with breaks("12.4.3.1"):
            enter(posing.group_info(external_join=True))
    posing = replace(osei, current=replace(osei.current, own_leaf=LeafIndex(1)))
    with pytest.raises(VerificationError):
        enter(posing.group_info(external_join=True))


# -- joining ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_path", [True, False])
@pytest.mark.parametrize("with_tree", [True, False])
def test_a_joiner_comes_with_the_tree_inside_or_beside_and_with_or_without_a_path(
    with_path: bool, with_tree: bool
) -> None:
    groups = list(trio())
    own = [key_package(name) for name in ("Tanaka", "Ueda")]
    groups[1], staged = groups[1].commit(
        [Add(package.key_package) for package in own],
        authenticate=by_roster,
        with_path=with_path,
        with_tree=with_tree,
    )
    assert staged.group is not None
    tree = None if with_tree else staged.group.ratchet_tree
    joined = [
        Group.join(staged.welcome or b"", package, authenticate=by_roster, ratchet_tree=tree)
        for package in own
    ]
    assert {group.own_leaf for group in joined} == {3, 4}
    after = [
        hear(groups[0], staged.message),
        groups[1].merge(staged.group),
        hear(groups[2], staged.message),
        *joined,
    ]
    everyone_understands(advance(everyone_understands(after), by=4))
    if not with_tree:
        with breaks("12.4.3.3"):
            Group.join(staged.welcome or b"", own[0], authenticate=by_roster)


def test_a_welcome_is_for_those_whom_it_names() -> None:
    osei, _ = pair()
    _, staged = osei.commit([Add(key_package("Tanaka").key_package)], authenticate=by_roster)
    with breaks("12.4.3.1"):
        Group.join(staged.welcome or b"", key_package("Tanaka"), authenticate=by_roster)


def test_a_joiner_that_is_not_in_the_tree_is_refused() -> None:
    own, other = key_package("Tanaka"), key_package("Ueda")

    def alter(committed: Committed) -> Committed:
        ((leaf, _),) = committed.applied.added
        added = ((leaf, own.key_package),)
        return replace(committed, applied=replace(committed.applied, added=added))

    with breaks("12.4.3.1"):
        Group.join(welcome_anyway(pair()[0], [other], alter=alter), own, authenticate=by_roster)


@pytest.mark.parametrize("secret", [None, bytes(32)])
def test_a_joiner_that_is_told_no_or_another_path_secret_is_refused(secret: bytes | None) -> None:
    own = key_package("Tanaka")

    def alter(committed: Committed) -> Committed:
        assert committed.path is not None
        if secret is None:
            return replace(committed, path=None)
        secrets = tuple(secret for _ in committed.path.path_secrets)
        return replace(committed, path=replace(committed.path, path_secrets=secrets))

    with breaks("7.5" if secret is None else "12.4.2"):
        Group.join(welcome_anyway(pair()[0], [own], alter=alter), own, authenticate=by_roster)


def test_a_path_secret_for_a_blank_node_is_refused() -> None:
    own = key_package("Tanaka")

    def alter(committed: Committed) -> Committed:
        tree = committed.epoch.tree.copy()
        for index in (1, 3, 5):
            tree.set(index, None)  # type: ignore[arg-type]  # a NodeIndex
        context = replace(committed.epoch.context, tree_hash=tree.tree_hash())
        epoch = replace(committed.epoch, tree=tree, context=context)
        return replace(committed, epoch=epoch)

    with breaks("12.4.3.1"):
        Group.join(welcome_anyway(pair()[0], [own], alter=alter), own, authenticate=by_roster)


def test_a_path_secret_from_the_joiner_itself_is_refused() -> None:
    own = key_package("Tanaka")

    def alter(committed: Committed) -> Committed:
        ((leaf, _),) = committed.applied.added
        epoch = replace(committed.epoch, own_leaf=leaf, signer=own.signer)
        return replace(committed, epoch=epoch)

    with breaks("12.4.3.1"):
        Group.join(welcome_anyway(pair()[0], [own], alter=alter), own, authenticate=by_roster)


def test_a_commit_that_adds_nobody_has_no_welcome() -> None:
    osei, _ = pair()
    assert osei.commit(authenticate=by_roster)[1].welcome is None
    assert osei.commit([evict(1)], authenticate=by_roster)[1].welcome is None
