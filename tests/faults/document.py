"""Writes docs/faults.md from the marks of the tests: `python -m tests.faults.document`.

A row is shown by a test here (`@pytest.mark.fault`), by one of a member's own tests, or it is said not to be.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STORE, _MAILER, _ROTATOR = "libs/shared_store/tests", "services/mailer/tests", "services/key-rotator/tests"
_HTTP = "services/auth-api/tests/http"

# The rows of the table, with the tests of the members' own that show one.
ROWS: dict[str, tuple[str, ...]] = {
    "Redis down at start": (),
    "Redis dies, comes back": ((f"{_MAILER}/test_whole_mailers.py::"
                               "test_redis_killed_and_restarted_under_load_loses_no_mail"),),
    "Redis restarts empty": (f"{_ROTATOR}/test_rotator.py::test_rotation_that_a_failover_forgot_comes_back",),
    "connection hangs (SIGSTOP)": ((f"{_STORE}/test_outage.py::"
        "test_server_that_hangs_costs_the_first_callers_its_time_out_and_the_others_nothing"),),
    "full (`OOM`) with `noeviction`": (f"{_MAILER}/test_whole_mailers.py::test_full_redis_is_drained",),
    "eviction of sessions": (),
    "snapshot failure (`MISCONF`)": (f"{_STORE}/test_errors.py::test_failed_snapshot_is_told_with_advice",),
    "read-only replica after failover": ((f"{_STORE}/test_failover.py::"
        "test_sentinels_promote_a_replica_and_calls_and_notices_follow"),),
    "wrong password / ACL denies a command": ((
        "tests/acl/test_services_under_their_users.py::test_service_with_anothers_user_says_what_it_may_not_do"),),
    "TLS: unknown CA, wrong name, expired": (
        f"{_STORE}/test_tls.py::test_authority_that_is_not_ours_is_refused_and_told",
        f"{_STORE}/test_tls.py::test_certificate_of_another_name_is_refused_and_told",
        f"{_STORE}/test_tls.py::test_certificate_out_of_its_time_is_refused_and_told",
        f"{_STORE}/test_tls.py::test_client_certificate_that_the_server_does_not_accept_is_told"),
    "Cluster: slot moved, node lost": (
        f"{_STORE}/test_cluster.py::test_many_at_once_reach_a_node_that_imports_its_first_slot",
        f"{_STORE}/test_failover.py::test_calls_follow_a_slot_that_is_handed_over",
        f"{_STORE}/test_failover.py::test_cluster_that_loses_a_master_is_told_then_whole_again",
        f"{_STORE}/test_outage.py::test_cluster_that_lost_one_node_goes_on_being_asked"),
    "SIGKILL": ((f"{_ROTATOR}/test_rotator_processes.py::"
        "test_rotators_killed_at_random_never_leave_a_token_that_does_not_verify"),),
    "SIGTERM": (f"{_MAILER}/test_whole_mailers.py::test_sigterm_drains_and_exits_0",),
    "clock of one host 10 min off": (),
    "two rotators split-brained": (
        f"{_ROTATOR}/test_key_policy.py::test_rotation_that_a_failover_forgot_is_written_again_above_both_versions",
        (f"{_ROTATOR}/test_key_policy.py::"
        "test_of_two_sides_of_a_split_the_one_that_revoked_wins_though_the_other_is_newer")),
    "slow SMTP (30 s)": (
        f"{_MAILER}/test_smtp.py::test_silence_at_any_stage_ends_with_the_bound",
        f"{_MAILER}/test_smtp.py::test_answer_to_the_content_may_take_longer_than_all_before",
        f"{_MAILER}/test_worker.py::test_mails_that_wait_for_a_silent_servers_answer_keep_no_other_waiting"),
    "SMTP down for minutes": (
        (f"{_MAILER}/test_failover.py::"
        "test_mails_go_by_the_second_server_while_the_first_is_killed_and_return_with_it"),
        f"{_MAILER}/test_failover.py::test_server_that_is_stopped_holds_one_mail_of_a_stream_up_and_duplicates_none",
        f"{_MAILER}/test_failover.py::test_server_that_packets_do_not_reach_holds_one_mail_of_a_stream_up"),
    "SMTP closes after DATA without a reply": (
        f"{_MAILER}/test_worker.py::test_transient_failure_is_tried_again_with_the_same_message_id",
    ),
    "provider answers 429": (
        f"{_MAILER}/test_mail_apis.py::test_wait_that_a_provider_asks_for_is_read",
        f"{_MAILER}/test_worker.py::test_mail_waits_for_its_deadline_though_the_provider_asks_for_longer"),
    "10,000 logins in a minute": (
        f"{_HTTP}/test_authorize.py::test_limit_exceeded_answers_429_with_retry_after_and_counts_per_address",
        f"{_HTTP}/test_authorize.py::test_full_queue_answers_503_with_retry_after"),
    "SMTP: wrong password, no STARTTLS, wrong certificate": (
        f"{_MAILER}/test_smtp.py::test_bad_certificate_is_refused_and_said",
        f"{_MAILER}/test_smtp.py::test_credentials_are_shown_and_their_refusal_is_the_transports_fault"),
    "recipient refused for good": ((f"{_MAILER}/test_worker.py::"
        "test_rejected_recipient_is_told_and_leaves_a_letter_without_personal_data"),),
    "mailbox full (452)": (),
    "malformed job in the queue": ((f"{_MAILER}/test_worker.py::"
        "test_malformed_job_is_buried_and_the_next_delivered"),),
    "a newer job version after a rolling update": ((f"{_MAILER}/test_worker.py::"
        "test_newer_job_is_left_for_a_newer_mailer"),),
    "pub/sub message lost": (f"{_HTTP}/test_revocation.py::test_change_whose_notice_was_lost_is_found_by_looking",),
    "script cache flushed": (f"{_STORE}/test_store.py::test_scripts_that_the_server_forgot_are_loaded_again",),
    "huge values, binary junk under our keys": (),
}  # fmt: skip


def marks() -> Iterator[tuple[str, dict[str, str]]]:
    """Give each test of a fault: where it is, and what its mark says."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
                    told = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
                    yield f"{path.relative_to(ROOT)}::{getattr(node, 'name', '')}", told


def page() -> str:
    """Write the page."""
    lines = [
        "# What happens when …",
        "",
        "Made by `make docs` from the tests. Those of `tests/faults` cause the fault for real, to two auth-apis, two",
        "mailers and two key-rotators that run as processes: `make test-faults`. The others lie with the member they",
        "test. *Not shown* means that no test causes it yet.",
    ]
    for row, elsewhere in ROWS.items():
        lines += ["", f"## {row}", ""]
        for test, told in marks():
            if told["row"] == row:
                seen = [("auth-api", "auth_api"), ("mailer", "mailer"), ("key-rotator", "key_rotator")]
                lines += [f"`{test}`", "", f"- caused: {told['cause']}"]
                lines += [f"- {name}: {told[key]}" for name, key in seen if told[key] != "-"]
                lines += [""] if elsewhere else []
        lines += [f"`{test}`" + ("  " if test != elsewhere[-1] else "") for test in elsewhere]
        if lines[-1] == "":
            lines.append("*Not shown.*")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
