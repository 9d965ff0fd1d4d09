"""Proposals and leaves that others let in: each is refused, by the rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from crypto.codec import u16, vector
from crypto.errors import DecodeError, EpochError, VerificationError
from crypto.mls import Add, Capabilities, Credential, Group, LeafContent, Remove
from crypto.mls.framing import PublicMessage, Sender, SenderType, decode_message, encode_message
from crypto.mls.group_info import GroupInfo
from crypto.mls.leaf_node import (
    CredentialType,
    Extension,
    Extensions,
    ExtensionType,
    LeafNode,
    Lifetime,
    sign_leaf_node,
)
from crypto.mls.proposal import (
    Commit,
    ExternalInit,
    ExternalPSK,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    ResumptionPSK,
    ResumptionPSKUsage,
    Update,
    UpdatePath,
)
from crypto.mls.tree_math import LeafIndex
from crypto.mls.validation import SentProposal, check_proposal
from tests.crypto.mls.ward import (
    STAFF,
    SUITE,
    advance,
    anyone,
    breaks,
    by_roster,
    commit_anyway,
    enter,
    everyone_understands,
    evict,
    found,
    hear,
    key_package,
    list_anyway,
    pair,
    propose_anyway,
    repackage,
    said_of,
    saved,
    send_bare,
    send_public,
    sign_as,
    stage,
    trio,
)

PRIVATE_USE = 0xF123
"""An extension type for private use (RFC 9420, section 17.3)."""


def _own_leaf(group: Group) -> LeafNode:
    leaf = group.current.tree.leaf(group.own_leaf)
    assert leaf is not None
    return leaf


def _leaf(
    group: Group,
    *,
    content: LeafContent | None = None,
    source: Lifetime | bytes | None = None,
    encryption_key: bytes | None = None,
    position: tuple[bytes, LeafIndex] | None = None,
) -> LeafNode:
    """Return a leaf for the member's place, right but for what is asked."""
    return sign_leaf_node(
        SUITE,
        content or said_of(STAFF[group.own_leaf]),
        signer=group.current.signer,
        encryption_key=encryption_key or SUITE.hpke.generate_key_pair()[1],
        source=source,
        position=position or (group.group_id, group.own_leaf),
    )


def _psk(psk_nonce: bytes = bytes(SUITE.hash_bytes)) -> PreSharedKey:
    return PreSharedKey(ExternalPSK(psk_id=b"drug cupboard", psk_nonce=psk_nonce))


def _resumption(usage: ResumptionPSKUsage) -> PreSharedKey:
    nonce = bytes(SUITE.hash_bytes)
    return PreSharedKey(
        ResumptionPSK(usage=usage, psk_group_id=b"ward", psk_epoch=0, psk_nonce=nonce)
    )


def _reinit() -> ReInit:
    return ReInit(group_id=b"new", version=1, cipher_suite=3, extensions=())


def _with_capabilities(**lists: tuple[int, ...]) -> LeafContent:
    content = said_of("Osei")
    return replace(content, capabilities=replace(content.capabilities, **lists))


def _package(content: LeafContent, extensions: Extensions = ()) -> Add:
    return Add(key_package("Osei", content=content, extensions=extensions).key_package)


TWICE = (Extension(PRIVATE_USE, b"a"), Extension(PRIVATE_USE, b"b"))

SINGLE: dict[str, tuple[str, Callable[[Group], Proposal]]] = {
    "remove_of_a_blank_leaf": ("12.1.3", lambda _: Remove(LeafIndex(2))),
    "remove_beyond_the_tree": ("12.1.3", lambda _: Remove(LeafIndex(1 << 24))),
    "remove_of_the_largest_index": ("12.1.3", lambda _: Remove(LeafIndex(0xFFFFFFFF))),
    "reinit": ("11.2", lambda _: _reinit()),
    "external_init_of_a_member": ("12.2", lambda _: ExternalInit(bytes(32))),
    "psk_nonce_too_short": ("12.1.4", lambda _: _psk(psk_nonce=bytes(31))),
    "psk_nonce_too_long": ("12.1.4", lambda _: _psk(psk_nonce=bytes(33))),
    "psk_for_a_branch": ("12.1.4", lambda _: _resumption(ResumptionPSKUsage.BRANCH)),
    "psk_for_a_reinit": ("12.1.4", lambda _: _resumption(ResumptionPSKUsage.REINIT)),
    "group_extension_twice": ("13.4", lambda _: GroupContextExtensions(TWICE)),
    "update_with_a_leaf_from_a_key_package": (
        "7.3",
        lambda g: Update(_leaf(g, source=Lifetime(not_before=0, not_after=1))),
    ),
    "update_with_a_leaf_from_a_commit": ("7.3", lambda g: Update(_leaf(g, source=b""))),
    "add_with_a_leaf_from_an_update": (
        "7.3",
        lambda g: Add(repackage(key_package("Weber"), _leaf(g))),
    ),
    "add_without_the_groups_suite": (
        "7.2",
        lambda _: _package(_with_capabilities(cipher_suites=(1,))),
    ),
    "add_without_mls_1": ("7.2", lambda _: _package(_with_capabilities(versions=(2,)))),
    "add_without_its_own_credential_type": (
        "7.3",
        lambda _: _package(_with_capabilities(credentials=(CredentialType.X509,))),
    ),
    "add_without_its_own_extension": (
        "7.3",
        lambda _: _package(said_of("Osei", leaf_extensions=TWICE[:1])),
    ),
    "add_with_a_leaf_extension_twice": (
        "13.4",
        lambda _: _package(
            said_of("Osei", extensions=[PRIVATE_USE], leaf_extensions=TWICE),
        ),
    ),
    "add_with_a_package_extension_twice": (
        "13.4",
        lambda _: _package(said_of("Osei"), extensions=TWICE),
    ),
}

NOT_UPDATES = [name for name in SINGLE if not name.startswith("update")]
"""An Update by value is refused as such, and the group makes its own."""


@pytest.mark.parametrize("name", SINGLE)
def test_a_proposal_that_breaks_a_rule_is_refused_on_arrival(name: str) -> None:
    osei, lindqvist = pair()
    section, make = SINGLE[name]
    before = saved(lindqvist)
    proposal = make(osei)
    with breaks(section):
        lindqvist.process(propose_anyway(osei, proposal), authenticate=anyone)
    assert saved(lindqvist) == before


@pytest.mark.parametrize("name", NOT_UPDATES)
def test_a_commit_of_a_proposal_that_breaks_a_rule_is_refused(name: str) -> None:
    osei, lindqvist = pair()
    section, make = SINGLE[name]
    message = list_anyway(osei, make(osei), path=_some_path(osei))
    before = saved(lindqvist)
    with breaks(section):
        lindqvist.process(message, authenticate=anyone)
    assert saved(lindqvist) == before


@pytest.mark.parametrize("name", NOT_UPDATES)
def test_a_proposal_that_breaks_a_rule_is_not_even_made(name: str) -> None:
    osei, _ = pair()
    section, make = SINGLE[name]
    proposal = make(osei)
    with breaks(section):
        osei.propose(proposal)
    with breaks(section):
        osei.commit([proposal], authenticate=anyone)


def _some_path(group: Group) -> UpdatePath:
    """Return a path of the member's, for Commits that are refused before it is looked at."""
    commit = _commit_of(group.commit(authenticate=anyone, public=True)[1].message)
    assert commit.path is not None
    return commit.path


def _commit_of(message: bytes) -> Commit:
    body = decode_message(message)
    content = body.message.content.content  # type: ignore[union-attr]  # a PublicMessage
    assert isinstance(content, Commit)
    return content


LISTS: dict[str, tuple[str, Callable[[Group], list[Proposal]]]] = {
    "two_removes_of_one_leaf": ("12.2", lambda _: [evict(2), evict(2)]),
    "the_committers_own_removal": ("12.2", lambda g: [evict(g.own_leaf)]),
    "the_committers_own_update": ("12.2", lambda g: [Update(_leaf(g))]),
    "one_psk_twice": ("12.2", lambda _: [_psk(), _psk()]),
    "two_group_context_extensions": (
        "12.2",
        lambda _: [GroupContextExtensions(()), GroupContextExtensions(())],
    ),
    "an_external_init": ("12.2", lambda _: [ExternalInit(bytes(32))]),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_commit_of_a_list_that_breaks_a_rule_is_refused(name: str) -> None:
    osei, lindqvist, _ = trio()
    section, make = LISTS[name]
    before = saved(lindqvist)
    with breaks(section):
        lindqvist.process(
            list_anyway(osei, *make(osei), path=_some_path(osei)), authenticate=anyone
        )
    assert saved(lindqvist) == before


def test_two_members_cannot_share_a_signature_key() -> None:
    osei, lindqvist = pair()
    twin = Add(key_package("Weber", signer=osei.current.signer).key_package)
    with breaks("7.3"):
        osei.commit([twin], authenticate=anyone)
    with breaks("7.3"):
        lindqvist.process(commit_anyway(osei, [twin]), authenticate=anyone)


def test_two_members_cannot_share_an_encryption_key() -> None:
    osei, lindqvist = pair()
    own = key_package("Weber")
    other = _own_leaf(lindqvist).encryption_key
    leaf = sign_leaf_node(
        SUITE,
        said_of("Weber"),
        signer=own.signer,
        encryption_key=other,
        source=Lifetime(not_before=0, not_after=1),
        position=(b"", LeafIndex(0)),
    )
    package = repackage(own, leaf)
    package.verify(SUITE)
    with breaks("7.3"):
        osei.commit([Add(package)], authenticate=anyone)
    with breaks("7.3"):
        lindqvist.process(commit_anyway(osei, [Add(package)]), authenticate=anyone)


def test_a_commit_without_a_path_is_refused_where_one_is_needed() -> None:
    osei, lindqvist, _ = trio()
    for items in ([], [evict(2)], [GroupContextExtensions(())]):
        with breaks("12.4"):
            lindqvist.process(list_anyway(osei, *items), authenticate=anyone)


def test_a_commit_that_names_an_unknown_proposal_is_refused() -> None:
    osei, lindqvist = pair()
    message = list_anyway(osei, bytes(32), path=_some_path(osei))
    with breaks("12.4.2"):
        lindqvist.process(message, authenticate=anyone)


def test_a_leaf_must_support_what_the_group_requires_and_uses() -> None:
    required = vector([]) + vector([u16(0x00FF)]) + vector([])
    credentials = vector([]) + vector([]) + vector([u16(CredentialType.X509)])
    extension_list = vector([u16(PRIVATE_USE)]) + vector([]) + vector([])
    for data in (required, credentials, extension_list):
        extension = Extension(ExtensionType.REQUIRED_CAPABILITIES, data)
        with breaks("7.3"):
            found("Osei", extensions=(extension,))
    with breaks("7.3"):
        found("Osei", extensions=TWICE[:1])


def test_group_extensions_that_a_member_lacks_are_not_committed() -> None:
    osei, lindqvist = pair()
    change = GroupContextExtensions(TWICE[:1])
    with breaks("7.3"):
        osei.commit([change], authenticate=anyone)
    with breaks("7.3"):
        lindqvist.process(commit_anyway(osei, [change]), authenticate=anyone)


def test_default_types_need_not_stand_in_anybodys_capabilities() -> None:
    # RFC 9420, section 7.2: default extension and proposal types are not listed.
    required = (
        vector(u16(kind) for kind in ExtensionType)
        + vector(u16(kind) for kind in range(1, 8))
        + vector([u16(CredentialType.BASIC)])
    )
    group = found("Osei", extensions=(Extension(ExtensionType.REQUIRED_CAPABILITIES, required),))
    leaf = said_of("Weber", leaf_extensions=(Extension(ExtensionType.APPLICATION_ID, b"bleep"),))
    package = key_package("Weber", content=leaf)
    _, staged = group.commit([Add(package.key_package)], authenticate=by_roster)
    assert staged.welcome is not None
    joined = Group.join(staged.welcome, package, authenticate=by_roster)
    assert joined.epoch_authenticator == staged.group.epoch_authenticator  # type: ignore[union-attr]  # not removed


def test_an_extension_type_twice_is_refused_wherever_a_list_stands() -> None:
    with breaks("13.4"):
        found("Osei", extensions=TWICE)
    osei, _ = pair()
    body = decode_message(osei.group_info(external_join=True))
    assert isinstance(body, GroupInfo)
    doubled = replace(body, extensions=(*body.extensions, body.extensions[0]), signature=b"")
    signature = SUITE.sign_with_label(osei.current.signer, "GroupInfoTBS", doubled.to_be_signed())
    with breaks("13.4"):
        enter(encode_message(replace(doubled, signature=signature)))


@pytest.mark.parametrize(
    "extension_type", [ExtensionType.REQUIRED_CAPABILITIES, ExtensionType.EXTERNAL_SENDERS]
)
def test_trailing_bytes_inside_a_group_extension_are_refused(extension_type: int) -> None:
    data = {
        ExtensionType.REQUIRED_CAPABILITIES: vector([]) * 3,
        ExtensionType.EXTERNAL_SENDERS: vector([]),
    }[ExtensionType(extension_type)]
    found("Osei", extensions=(Extension(extension_type, data),))
    osei, lindqvist = pair()
    trailing = (Extension(extension_type, data + b"\0"),)
    with pytest.raises(DecodeError):
        found("Osei", extensions=trailing)
    with pytest.raises(DecodeError):
        lindqvist.process(
            propose_anyway(osei, GroupContextExtensions(trailing)), authenticate=anyone
        )


def test_a_proposal_of_the_wrong_sender_is_refused() -> None:
    osei, _ = pair()
    stranger = SUITE.signature.generate()
    for sender in (
        Sender(SenderType.EXTERNAL, 0),  # the group names none
        Sender(SenderType.NEW_MEMBER_PROPOSAL),  # may add itself only
        Sender(SenderType.NEW_MEMBER_COMMIT),  # may not propose
    ):
        message = send_bare(sign_as(osei, evict(1), sender=sender, signer=stranger))
        with breaks("6.1"):
            osei.process(message, authenticate=anyone)


def test_application_data_in_the_open_are_refused() -> None:
    osei, lindqvist = pair()
    with breaks("6"):
        lindqvist.process(send_public(osei, sign_as(osei, b"in the open")), authenticate=anyone)


def test_a_sender_outside_the_tree_is_refused_whatever_its_index() -> None:
    osei, lindqvist = pair()
    for index in (2, 3, 1 << 24, 0xFFFFFFFF):
        message = sign_as(osei, evict(1), sender=Sender(SenderType.MEMBER, index))
        with breaks("6.1"):
            lindqvist.process(send_public(osei, message), authenticate=anyone)


def test_an_empty_signature_is_refused() -> None:
    osei, lindqvist = pair()
    for content in (evict(1), Commit((), _some_path(osei))):
        message = sign_as(osei, content, tag=bytes(32) if isinstance(content, Commit) else None)
        empty = replace(message, signature=b"")
        with pytest.raises(VerificationError):
            lindqvist.process(send_public(osei, empty), authenticate=anyone)
    package = key_package("Weber").key_package
    with pytest.raises(VerificationError):
        replace(package, signature=b"").verify(SUITE)
    unsigned = replace(package, leaf_node=replace(package.leaf_node, signature=b""))
    with pytest.raises(VerificationError):
        unsigned.verify(SUITE)


def test_an_update_is_dropped_where_its_sender_is_removed() -> None:
    osei, lindqvist, marchetti = trio()
    marchetti, update = marchetti.propose_update()
    osei, lindqvist = hear(osei, update), hear(lindqvist, update)
    lindqvist, removal = lindqvist.propose(evict(2))
    osei = hear(osei, removal)
    osei, staged = osei.commit(authenticate=by_roster)
    assert (staged.updated, staged.removed) == ((), (LeafIndex(2),))
    assert staged.group is not None
    heard = stage(lindqvist, staged.message)
    assert (heard.updated, heard.removed) == ((), (LeafIndex(2),))
    everyone_understands([osei.merge(staged.group), lindqvist.merge(heard.group)])  # type: ignore[arg-type]  # not removed


def test_an_update_and_a_removal_of_one_leaf_are_refused_together() -> None:
    osei, lindqvist, marchetti = trio()
    marchetti, update = marchetti.propose_update()
    lindqvist, received = lindqvist.process(update, authenticate=anyone)
    message = list_anyway(
        osei,
        received.reference,  # type: ignore[union-attr]  # a proposal
        evict(2),
        path=_some_path(osei),
    )
    with breaks("12.2"):
        lindqvist.process(message, authenticate=anyone)


def test_an_update_that_keeps_its_encryption_key_is_refused() -> None:
    osei, lindqvist, _ = trio()
    stale = Update(_leaf(osei, encryption_key=_own_leaf(osei).encryption_key))
    with breaks("7.3"):
        lindqvist.process(propose_anyway(osei, stale), authenticate=anyone)


@pytest.mark.parametrize("wrong", ["another place", "another group", "no signature"])
def test_an_update_with_a_leaf_signed_for_elsewhere_is_refused_on_arrival(wrong: str) -> None:
    # Were it kept until the Commit, it would stop every honest committer.
    osei, lindqvist = pair()
    leaf = {
        "another place": _leaf(osei, position=(osei.group_id, LeafIndex(1))),
        "another group": _leaf(osei, position=(b"another ward", osei.own_leaf)),
        "no signature": replace(_leaf(osei), signature=b""),
    }[wrong]
    before = saved(lindqvist)
    with pytest.raises(VerificationError):
        lindqvist.process(propose_anyway(osei, Update(leaf)), authenticate=anyone)
    assert saved(lindqvist) == before


def test_an_external_committer_is_judged_by_its_own_new_leaf() -> None:
    # Leaf 1 is blank, so that the joiner's place is not behind the last member's.
    osei, _, marchetti = trio()
    osei, staged = osei.commit([evict(1)], authenticate=by_roster)
    assert staged.group is not None
    osei, marchetti = osei.merge(staged.group), hear(marchetti, staged.message)
    entered = enter(osei.group_info(external_join=True))
    heard = stage(osei, entered.message)
    assert heard.external
    assert heard.committer == entered.committer == LeafIndex(1)
    assert heard.group is not None
    assert entered.group is not None
    everyone_understands([osei.merge(heard.group), entered.group, hear(marchetti, entered.message)])


def test_external_pub_is_that_of_the_epoch_which_it_stands_in() -> None:
    osei, lindqvist = pair()
    old = osei.group_info(external_join=True)
    osei, lindqvist = advance([osei, lindqvist])
    fresh = osei.group_info(external_join=True)
    entered = enter(fresh)
    assert entered.group is not None
    everyone_understands(
        [hear(osei, entered.message), hear(lindqvist, entered.message), entered.group]
    )
    with pytest.raises(EpochError) as refused:
        osei.process(enter(old).message, authenticate=anyone)
    assert (refused.value.have, refused.value.got) == (osei.epoch, osei.epoch - 1)


@pytest.mark.parametrize("kind", ["no_init", "two_inits", "two_removes", "add", "by_reference"])
def test_an_external_commit_with_another_list_is_refused(kind: str) -> None:
    osei, lindqvist, _ = trio()
    own = key_package("Dubois")
    path = _commit_of(enter(osei.group_info(external_join=True)).message).path
    assert path is not None
    init = ExternalInit(SUITE.hpke.generate_key_pair()[1])
    lists: dict[str, tuple[Proposal | bytes, ...]] = {
        "no_init": (evict(2),),
        "two_inits": (init, init),
        "two_removes": (init, evict(1), evict(2)),
        "add": (init, Add(own.key_package)),
        "by_reference": (init, bytes(32)),
    }
    leaf = sign_leaf_node(
        SUITE,
        said_of("Dubois"),
        signer=own.signer,
        encryption_key=own.key_package.leaf_node.encryption_key,
        source=b"",
        position=(osei.group_id, LeafIndex(3)),
    )
    message = sign_as(
        osei,
        Commit(lists[kind], UpdatePath(leaf, path.nodes)),
        sender=Sender(SenderType.NEW_MEMBER_COMMIT),
        signer=own.signer,
        tag=bytes(32),
    )
    with breaks("12.4.3.2" if kind == "by_reference" else "12.2"):
        lindqvist.process(send_bare(message), authenticate=anyone)


def test_an_external_commit_without_a_path_is_refused() -> None:
    osei, _ = pair()
    message = sign_as(
        osei,
        Commit((ExternalInit(bytes(32)),), None),
        sender=Sender(SenderType.NEW_MEMBER_COMMIT),
        signer=SUITE.signature.generate(),
        tag=bytes(32),
    )
    with breaks("6.1"):
        osei.process(send_bare(message), authenticate=anyone)


def test_what_a_credential_type_outside_the_registry_says_is_refused() -> None:
    content = said_of("Osei")
    unknown = content.credential.encode().replace(b"\x00\x01", b"\x00\x07", 1)
    data = key_package("Osei").key_package.encode().replace(content.credential.encode(), unknown)
    with pytest.raises(DecodeError):
        decode_message(b"\x00\x01\x00\x05" + data)
    assert isinstance(Credential.x509([b"der"]), Credential)
    assert Capabilities.of(SUITE, credentials=[CredentialType.X509]).credentials == (2,)


def test_a_proposal_is_checked_against_its_sender_however_it_came() -> None:
    # No message reaches this: the frame's own checks refuse it before.
    osei, _ = pair()
    for proposal, sender, section in (
        (Update(_leaf(osei)), Sender(SenderType.MEMBER, 2), "12.1.2"),
        (evict(1), Sender(SenderType.NEW_MEMBER_PROPOSAL), "12.1.8"),
    ):
        with breaks(section):
            check_proposal(osei.context, osei.current.tree, SentProposal(proposal, sender))


def test_a_message_from_outside_carries_no_membership_tag() -> None:
    osei, _ = pair()
    sender = Sender(SenderType.EXTERNAL, 0)
    body = decode_message(send_public(osei, sign_as(osei, evict(1), sender=sender)))
    assert isinstance(body, PublicMessage)
    assert body.membership_tag is None
