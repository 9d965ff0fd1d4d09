"""Which test answers which attack on a device: the published ones by their number, and the relay.

Each row is an attack with the tests that would fail if it worked; that they are there is tested.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIES, FOLLOWS = "tests/adversary/test_lying_relay.py", "tests/client/test_follow.py"
MLS, NONCES = "tests/crypto/mls/test_attacks.py", "tests/client/test_nonces.py"
SPEAKING, GOSSIP = "tests/client/crash/test_speaking.py", "tests/client/test_gossip.py"
ARCHIVE, RESTORE = "tests/scenarios/test_archive.py", "tests/scenarios/test_restore.py"
MADE_UP = "tests/adversary/test_made_up_frames.py"
WORD = "tests/adversary/test_relays_word.py"
FLOODS = "tests/server/test_conversations.py"
FORGETTING = "tests/scenarios/test_forgetting.py"

ROWS: dict[str, tuple[str, ...]] = {
    "1 the relay adds a member": (
        f"{MLS}::test_the_relay_cannot_add_a_member_by_anything_that_it_can_make",
        f"{MLS}::test_no_mutation_of_a_commit_changes_the_roster",
        f"{LIES}::test_an_invented_commit_or_verdict_changes_nothing",
        f"{LIES}::test_a_group_that_an_insider_made_up_never_takes_a_conversations_place",
    ),
    "2 the relay, or one administrator, adds a device to a person": (
        "tests/crypto/test_statement.py::test_no_type_of_statement_passes_for_another",
        f"{FOLLOWS}::test_a_second_first_device_of_a_person_is_refused_by_all",
        f"{LIES}::test_no_device_that_the_relay_slips_into_the_directory_is_let_in",
        "tests/client/test_trusted.py::test_a_second_first_device_is_never_learned",
    ),
    "3 one kind of message for another": (
        f"{MLS}::test_no_message_passes_where_another_kind_is_wanted",
        f"{MLS}::test_a_body_under_another_wire_format_is_refused",
        f"{FOLLOWS}::test_what_only_looks_like_a_commit_is_a_fault",
        f"{FOLLOWS}::test_a_commit_that_claims_to_be_a_message_keeps_its_key",
    ),
    "4 replay": (
        f"{MLS}::test_a_replayed_message_is_refused_however_often_and_also_after_a_restart",
        f"{LIES}::test_replays_are_shown_once",
        f"{LIES}::test_a_replay_under_a_new_number_is_never_shown",
        f"{LIES}::test_an_own_message_that_is_given_back_is_not_shown_twice",
    ),
    "5 reorder, drop, hold back": (
        f"{LIES}::test_what_comes_in_another_order_is_shown_in_the_logs",
        f"{LIES}::test_what_was_dropped_is_read_again",
        f"{LIES}::test_what_stays_dropped_is_told_and_stops_nothing",
        f"{FOLLOWS}::test_a_hole_in_a_senders_messages_is_named",
    ),
    "6 the relay forks a group": (
        f"{FOLLOWS}::test_two_commits_in_one_epoch_are_told_apart_by_the_receipt",
        f"{FOLLOWS}::test_a_fork_is_noticed_with_the_receipt",
        f"{LIES}::test_a_forked_log_is_noticed_and_left",
        "tests/scenarios/test_races.py::test_members_race_through_the_real_process_and_never_fork",
    ),
    # No directory is believed: the authority certifies, and a relay can only leave devices out.
    "7 two views of the directory": (
        f"{LIES}::test_no_device_that_the_relay_slips_into_the_directory_is_let_in",
        "tests/client/test_trusted.py::test_devices_are_learned_in_any_order_and_signers_are_named",
        "tests/client/test_trusted.py::test_revocation_lists_never_go_back",
    ),
    "8 two views of the archive": (
        "tests/crypto/test_witness.py::test_a_fork_at_any_size_is_refused",
        f"{GOSSIP}::test_two_roots_for_one_size_are_an_alarm_whoever_tells_first",
        "tests/server/test_witness.py::test_of_two_histories_at_once_one_is_cosigned",
    ),
    "9 a key twice after a crash or from a copy": (
        f"{NONCES}::test_no_key_and_nonce_seal_twice_through_crashes_and_old_copies",
        f"{SPEAKING}::test_a_device_that_is_killed_at_any_write_loses_and_repeats_nothing",
        f"{SPEAKING}::test_an_old_copy_of_a_store_that_is_started_sends_nothing_with_its_old_keys",
        f"{MLS}::test_two_copies_of_a_state_never_use_a_key_with_the_same_nonce",
    ),
    "12 a garbage Commit": (
        f"{MLS}::test_a_path_that_is_garbage_for_some_is_staged_by_the_rest_and_drops_alike",
        f"{FOLLOWS}::test_a_garbage_commit_is_staged_and_voided",
        "tests/client/test_device.py::test_a_garbage_commit_stops_nobody",
        f"{ARCHIVE}::test_an_insiders_garbage_commit_is_voided_kept_and_stops_nobody",
    ),
    "13 a flood of Commits": (
        f"{FLOODS}::test_a_flood_of_commits_is_slowed_and_the_others_messages_pass",
        "tests/crypto/mls/test_pitfalls_messages.py::test_no_more_proposals_wait_than_the_limit",
        "tests/adversary/test_floods.py::test_a_flood_from_one_device_leaves_the_others_logs_alone",
        "tests/adversary/test_floods.py::test_requests_in_haste_are_refused_and_the_disk_stays_small",
    ),
    "17 content in what rings, sizes that tell": (
        "tests/client/test_ringing.py::test_a_locked_device_rings_reports_it_and_accepts",
        f"{FORGETTING}::test_the_search_finds_what_is_queued_and_nothing_once_all_have_it",
        "tests/crypto/mls/test_epoch_life.py::test_what_is_sent_has_one_of_a_few_sizes",
        "tests/crypto/test_attachment.py::test_a_relay_sees_one_of_eight_sizes",
    ),
    "22 a page in a browser connects": (
        "tests/adversary/test_silent_sockets.py::test_only_a_listed_page_or_a_program_connects",
        "tests/adversary/test_silent_sockets.py::test_two_origins_are_none",
    ),
    "a Welcome is withheld": (f"{LIES}::test_a_withheld_welcome_is_asked_for_again",),
    "a receipt or a Commit is withheld": (
        f"{LIES}::test_a_withheld_verdict_or_commit_is_missed_with_the_next_entry",
    ),
    "a void is withheld": (f"{LIES}::test_a_withheld_void_is_missed_with_the_next_entry",),
    "the relay goes back": (
        f"{LIES}::test_what_a_rolled_back_relay_gives_a_used_number_is_missed_and_read_again",
        f"{LIES}::test_a_relay_that_says_it_is_ahead_costs_a_new_start_and_loses_nothing_silently",
        f"{RESTORE}::test_a_restored_relay_asks_the_archive_and_then_loses_forks_and_revives_nothing",
    ),
    "the relay makes frames up, of every kind": (
        f"{MADE_UP}::test_after_whatever_a_relay_made_up_all_that_is_honest_is_shown_once_in_order",
        f"{WORD}::test_a_device_that_is_not_let_in_says_so_and_asks_again",
        f"{WORD}::test_a_place_that_is_said_to_have_lapsed_is_there_again_where_nobody_says_so",
        f"{WORD}::test_a_message_that_is_said_to_be_stale_goes_out_on_another_connection",
        f"{WORD}::test_what_comes_under_a_number_that_something_made_up_had_is_not_lost",
    ),
    "a byte is altered": (f"{LIES}::test_no_altered_byte_is_shown_and_the_device_comes_back",),
}


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("row", ROWS)
def test_what_answers_an_attack_is_there(row: str) -> None:
    for named in ROWS[row]:
        path, _, name = named.partition("::")
        assert name in names_in(path), named
