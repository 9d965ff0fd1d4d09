"""Keys that change, staged groups, exported secrets, padding and suites."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto.errors import InvalidError, UsageError
from crypto.mls import Group
from crypto.mls.cipher_suite import X25519_AES128GCM_SHA256_ED25519, cipher_suite
from crypto.mls.framing import PrivateMessage, decode_message
from crypto.mls.key_schedule import exported_secret
from crypto.mls.leaf_node import Extension
from crypto.mls.proposal import (
    GroupContextExtensions,
)
from crypto.mls.protection import PADDING_BUCKETS_BYTES, padded_length
from tests.crypto.mls.ward import (
    SUITE,
    advance,
    assemble,
    breaks,
    by_roster,
    everyone_understands,
    external_senders_extension,
    hear,
    key_package,
    pair,
    said_of,
    saved,
    trio,
)

# -- keys and names that change --------------------------------------------------------------------


def test_a_member_changes_its_signature_key_by_update_or_commit() -> None:
    groups = list(trio())
    fresh = SUITE.signature.generate()
    groups[1], update = groups[1].propose_update(signer=fresh)
    groups = [g if at == 1 else hear(g, update) for at, g in enumerate(groups)]
    groups = advance(groups, by=0)
    assert groups[1].current.signer == fresh
    groups = everyone_understands(groups)
    newest = SUITE.signature.generate()
    groups = advance(groups, by=1, signer=newest, with_path=False)
    assert groups[1].current.signer == newest
    leaf = groups[0].current.tree.leaf(1)
    assert leaf is not None
    assert leaf.signature_key == newest.public_key
    everyone_understands([Group.load(saved(group)) for group in groups])


def test_a_member_changes_what_its_leaf_says() -> None:
    groups = list(trio())
    extension = Extension(0xF00D, b"on call")
    content = said_of("Osei", extensions=[0xF00D], leaf_extensions=(extension,))
    groups = advance(groups, by=0, content=content)
    leaf = groups[2].current.tree.leaf(0)
    assert leaf is not None
    assert leaf.extensions == (extension,)
    groups[0], update = groups[0].propose_update(said_of("Osei"))
    groups = [groups[0], *(hear(group, update) for group in groups[1:])]
    groups = advance(groups, by=2)
    leaf = groups[1].current.tree.leaf(0)
    assert leaf is not None
    assert leaf.extensions == ()


def test_group_extensions_change_for_all() -> None:
    groups = list(trio())
    extension = external_senders_extension(SUITE.signature.generate(), "Weber")
    groups[0], staged = groups[0].commit(
        [GroupContextExtensions((extension,))], authenticate=by_roster
    )
    assert staged.group is not None
    after = [groups[0].merge(staged.group), *(hear(g, staged.message) for g in groups[1:])]
    assert {group.context.extensions for group in after} == {(extension,)}
    everyone_understands(after)


def test_an_update_is_made_by_the_group_and_by_nobody_else() -> None:
    osei, _ = pair()
    update = next(iter(osei.propose_update()[0].pending.values())).sent.proposal
    with pytest.raises(UsageError):
        osei.propose(update)


def test_a_commit_leaves_ones_own_update_for_others() -> None:
    osei, lindqvist = pair()
    osei, update = osei.propose_update()
    lindqvist = hear(lindqvist, update)
    assert osei.commit(authenticate=by_roster)[1].proposals == ()
    assert len(lindqvist.commit(authenticate=by_roster)[1].proposals) == 1


def test_a_staged_group_is_merged_only_where_it_follows() -> None:
    groups = advance(assemble(3))
    _, staged = groups[0].commit(authenticate=by_roster)
    assert staged.group is not None
    for group in (staged.group, pair()[0], advance(groups, by=1)[0]):
        with pytest.raises(UsageError):
            group.merge(staged.group)


# -- what leaves the group -------------------------------------------------------------------------


def test_exported_secrets_are_the_same_for_all_members_and_for_nothing_else() -> None:
    osei, lindqvist, marchetti = trio()
    made = {group.export("attachment", b"file 7", 32) for group in (osei, lindqvist, marchetti)}
    assert len(made) == 1
    others = {
        osei.export("attachments", b"file 7", 32),
        osei.export("attachment", b"file 8", 32),
        osei.export("attachment", b"", 32),
        osei.export("attachment", b"file 7", 31),
        advance([osei, lindqvist])[0].export("attachment", b"file 7", 32),
        pair()[0].export("attachment", b"file 7", 32),
    }
    assert len(others) == 6
    assert not others & made
    assert osei.export("attachment", b"file 7", 31) not in next(iter(made))


def test_the_exporter_hashes_its_context() -> None:
    # RFC 9420, section 8.5: ExpandWithLabel(DeriveSecret(...), "exported", Hash(Context), Length)
    osei, _ = pair()
    secret = osei.current.secrets.exporter_secret
    derived = SUITE.derive_secret(secret, "label")
    expected = SUITE.expand_with_label(derived, "exported", SUITE.hash(b"context"), 32)
    assert osei.export("label", b"context", 32) == expected
    assert expected != SUITE.expand_with_label(derived, "exported", b"context", 32)
    assert expected == exported_secret(SUITE, secret, label="label", context=b"context", length=32)


def test_members_of_an_epoch_share_its_authenticator() -> None:
    groups = twice = list(trio())
    assert len({group.epoch_authenticator for group in groups}) == 1
    twice = advance(groups)
    assert len({group.epoch_authenticator for group in (*groups, *twice)}) == 2


def test_what_is_sent_has_one_of_a_few_sizes() -> None:
    osei, _ = pair()
    sizes = {}
    for length in (0, 1, 50, 180, 190, 400, 1000, 4000, 16000, 60000, 66000, 140000):
        body = decode_message(osei.encrypt(bytes(length))[1])
        assert isinstance(body, PrivateMessage)
        sizes[length] = len(body.ciphertext) - 16
    assert set(sizes.values()) <= {*PADDING_BUCKETS_BYTES, 2 * 65536, 3 * 65536}
    assert len(set(list(sizes.values())[:4])) == 1
    assert list(sizes.values()) == sorted(sizes.values())


def test_padding_goes_to_the_next_bucket_and_then_to_multiples_of_the_largest() -> None:
    largest = PADDING_BUCKETS_BYTES[-1]
    assert [padded_length(size) for size in (0, 1, 256, 257, largest)] == [
        256,
        256,
        256,
        512,
        largest,
    ]
    assert padded_length(largest + 1) == 2 * largest
    assert padded_length(3 * largest) == 3 * largest


# -- suites ----------------------------------------------------------------------------------------


def test_the_mandatory_suite_is_spoken_too() -> None:
    suite = X25519_AES128GCM_SHA256_ED25519
    groups = assemble(3, suite=suite)
    groups = everyone_understands(advance(everyone_understands(groups), by=1))
    assert {group.context.cipher_suite for group in groups} == {1}
    loaded = [Group.load(saved(group)) for group in groups]
    everyone_understands(loaded)


def test_a_suite_that_is_not_spoken_is_refused_by_its_number() -> None:
    for value in (0, 2, 4, 5, 6, 7, 0xFFFF):
        with breaks("17.1"):
            cipher_suite(value)
    assert cipher_suite(3) is SUITE


def test_private_keys_of_another_package_are_refused() -> None:
    own, other = key_package("Tanaka"), key_package("Ueda")
    for changes in (
        {"init_key": other.init_key},
        {"encryption_key": other.encryption_key},
        {"signer": other.signer},
        {"init_key": b"short"},
    ):
        with pytest.raises(InvalidError):
            type(own).decode(replace(own, **changes).encode())


def test_nothing_secret_is_printed() -> None:
    own = key_package("Tanaka")
    group, other = advance(assemble(2))
    sender, message = group.encrypt(b"potassium 6.8")
    _, received = other.process(message, authenticate=by_roster)
    secrets = [
        own.init_key,
        own.encryption_key,
        own.signer.seed,
        group.current.secrets.init_secret,
        group.current.signer.seed,
        *group.current.private_keys.values(),
        b"potassium",
    ]
    printed = " ".join(map(repr, (own, group, sender, received, group.current, group.secret_tree)))
    for secret in secrets:
        assert secret.hex() not in printed
        assert repr(secret)[2:-1] not in printed
