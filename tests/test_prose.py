"""The prose check finds what the style forbids, and lets plain English pass."""

from __future__ import annotations

import pytest

from prose import check_markdown, check_python


def rules_of_docstring(docstring: str, definition: str = "def f():") -> list[str]:
    return [fault.rule for fault in check_python(f'{definition}\n    """{docstring}"""\n')]


@pytest.mark.parametrize(
    "docstring",
    [
        "Compute encoder features before whitening.",
        "Embed one shard.",
        "Pass the vectors on.",
        "Read it.\n\n    Parameters\n    ----------\n    path : Path\n        CSV: one row each; FITS: one table.",
    ],
)
def test_plain_docstrings_pass(docstring):
    assert rules_of_docstring(docstring) == []


@pytest.mark.parametrize(
    ("docstring", "rule"),
    [
        ("The direction of the search.", "first line of a function that is not an imperative"),
        ("Directions of the search.", "first line of a function that is not an imperative"),
        ("Returns the direction.", "first line of a function that is not an imperative"),
        ("What the encoder says.", "first line that begins as a question"),
        ("How shards are read.", "first line that begins as a question"),
        ("Read a shard", "first line without a period"),
        ("Read " + "very " * 13 + "long lines.", "first line of 16 words, at most 15"),
        ("Read so many rows.", "phrase 'so many'"),
        ("Read it.\n\n    One: two: three.", "three clauses joined by colons"),
    ],
)
def test_each_rule_of_docstrings_finds_its_fault(docstring, rule):
    assert rules_of_docstring(docstring) == [rule]


def test_classes_and_properties_may_begin_with_a_noun():
    assert rules_of_docstring("Directions of the search.", "class Directions:") == []
    source = 'class A:\n    """A galaxy."""\n\n    @property\n    def size(self):\n        """Pixels of a side."""\n'
    assert check_python(source) == []


def test_comments_and_messages_are_checked_for_phrases():
    source = "# sorted, since rows had better be\nmessage = 'a table that is no catalog'\n"
    assert [(fault.line, fault.rule) for fault in check_python(source)] == [
        (1, "phrase 'had better'"),
        (2, "phrase 'that is no'"),
    ]


@pytest.mark.parametrize("title", ["What a run leaves", "Which machine", "Where the limit is"])
def test_titles_of_pages_are_no_questions(title):
    assert [fault.rule for fault in check_markdown(f"# {title}\n")] == ["title that begins as a question"]


def test_code_tables_and_lists_of_a_page_are_not_sentences():
    page = "# Files\n\n```\na: b: so many\n```\n\n| a: b: c |\n| --- |\n\n- one: 1\n- two: 2\n- three: `x: y: z`\n"
    assert check_markdown(page) == []


def test_a_fault_is_reported_at_its_line():
    page = "# Files\n\n```\ncode\n```\n\nPlain.\n\nOne: two: three\nfour.\n"
    assert [fault.line for fault in check_markdown(page)] == [9]
