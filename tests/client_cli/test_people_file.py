"""The list of people that is imported: read whole, and every problem told with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_cli.people_file import DEFAULT_ROLES, end_of_day_ms, read_people

GOOD = "user,name,ward,roles,ends\nann,Ann Ames,Ward 4,clinician,2027-01-31\nbob,Bob,,,\n"


def test_a_person_is_read_with_everything_that_the_line_says() -> None:
    found = read_people(GOOD)
    assert found.problems == ()
    ann, bob = found.entries
    assert (ann.line, ann.user, ann.name, ann.ward) == (2, "ann", "Ann Ames", "Ward 4")
    assert (ann.roles, ann.ends_ms) == (("clinician",), end_of_day_ms("2027-01-31"))
    assert (bob.ward, bob.roles, bob.ends_ms) == ("", DEFAULT_ROLES, None)


def test_the_end_is_the_last_moment_of_its_day() -> None:
    assert end_of_day_ms("1970-01-01") == 24 * 3600 * 1000 - 1
    assert end_of_day_ms("2027-12-31") + 1 == end_of_day_ms("2028-01-01") + 1 - 24 * 3600 * 1000


def test_semicolons_are_read_as_spreadsheets_write_them() -> None:
    assert read_people(GOOD.replace(",", ";")).entries == read_people(GOOD).entries


def test_several_roles_stand_apart_by_blank_or_plus() -> None:
    for between in (" ", "+"):
        (one,) = read_people(f"user,name,roles\nann,Ann,clinician{between}officer\n").entries
        assert one.roles == ("clinician", "officer")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("name\nAnn\n", 1),
        ("user,name,salary\nann,Ann,1\n", 1),
        ("user,name\nann\n", 2),
        ("user,name\nann,Ann,more\n", 2),
        ("user,name\n,Ann\n", 2),
        ("user,name\nann,\n", 2),
        ("user,name,ends\nann,Ann,31.01.2027\n", 2),
        ("user,name,ends\nann,Ann,9999-12-31\n", 2),
        ("user,name\nann,Ann\nann,Anna\n", 3),
        ('user,name\nann,"Ann\n', 1),
        ('"', 1),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int) -> None:
    problems = read_people(text).problems
    assert problems[0].line == line
    assert len(problems) >= 1


def test_every_problem_is_told_and_not_the_first_alone() -> None:
    text = "user,name,ends\n,Ann,\nbob,Bob,soon\ncarl,Carl,\n"
    found = read_people(text)
    assert [problem.line for problem in found.problems] == [2, 3]
    assert [entry.user for entry in found.entries] == ["carl"]


@given(st.text(max_size=200))
def test_any_text_gives_people_or_problems(text: str) -> None:
    for given_text in (text, f"user,name\n{text}"):
        found = read_people(given_text)
        assert found.problems or all(one.user and one.name for one in found.entries)


def test_no_name_of_a_person_stands_in_a_repr() -> None:
    assert "Ames" not in repr(read_people(GOOD))
