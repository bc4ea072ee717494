"""Check the prose of docstrings, comments, messages and pages: ``python tests/prose.py [FILE ...]``.

Only rules that a program can decide are here. Spelling is codespell's, the layout of docstrings is ruff's.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FIRST_LINE = 15
# A few words that look like plurals, participles or gerunds, and are imperatives.
IMPERATIVES = frozenset({"bring", "discuss", "embed", "express", "feed", "focus", "guess", "pass", "process", "seed"})
NO_IMPERATIVES = re.compile(
    "a|all|an|another|any|as|at|both|by|each|every|few|for|from|half|how|if|in|is|it|its|many|more|most|no|none|not|of"
    "|on|one|only|or|same|several|some|such|that|the|their|these|this|those|to|two|up|what|whatever|when|where|whether"
    "|which|who|whole|whose|why|with|without"
)
QUESTION_TITLE = re.compile(r"(what|which|where)\b", re.IGNORECASE)
QUESTION_LINE = re.compile(r"(what|which|where|how)\b", re.IGNORECASE)
PHRASES = re.compile(
    r"\b(so (?:many|much)|that (?:is|are|was) no|is no \w+ but|h[a]d better|as (?:do|does|did) (?:the|a|an|its|all))\b",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\[*_(])")


class Fault(NamedTuple):
    """A breach of one rule."""

    line: int
    rule: str
    text: str


def check_python(source: str) -> list[Fault]:
    """Check a Python file."""
    tree = ast.parse(source)
    faults = list(_first_lines(tree))
    for line, text in _docstrings(tree):
        faults += _colons(text, line)
    for line, text in [*_strings(tree), *_comments(source)]:
        faults += _phrases(text, line)
    return sorted(set(faults))


def check_markdown(source: str) -> list[Fault]:
    """Check a page, without its code."""
    prose = re.sub(r"^(`{3,}|~{3,}|:{3,}).*?^\1$", _only_newlines, source, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"`[^`\n]*`", "`code`", prose)
    faults = [*_phrases(prose, 1), *_titles(prose)]
    for match in re.finditer(r"(?:^(?!\s*$).*\n?)+", prose, flags=re.MULTILINE):
        faults += _colons(match[0], _line(prose, match.start()))
    return sorted(set(faults))


def _only_newlines(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _documented(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int]]:
    """Yield what has a docstring, with it and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node, text, node.body[0].lineno


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for _, text, line in _documented(tree):
        yield line, text


def _first_lines(tree: ast.AST) -> Iterator[Fault]:
    for node, text, line in _documented(tree):
        first = text.split("\n\n")[0].replace("\n", " ").strip()
        words = first.split()
        if len(words) > LONGEST_FIRST_LINE:
            yield Fault(line, f"first line of {len(words)} words, at most {LONGEST_FIRST_LINE}", first)
        if not first.endswith((".", ":")) and not isinstance(node, ast.Module):
            yield Fault(line, "first line without a period", first)
        if QUESTION_LINE.match(first):
            yield Fault(line, "first line that begins as a question", first)
        elif _is_function(node) and not _may_be_imperative(words[0]):
            yield Fault(line, "first line of a function that is not an imperative", first)


def _is_function(node: ast.AST) -> bool:
    """Tell whether the node is a function, and neither a property nor a fixture."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return not any(re.search(r"property|fixture", ast.unparse(decorator)) for decorator in node.decorator_list)


def _may_be_imperative(word: str) -> bool:
    word = word.lower().strip("`*,:;.")
    if word in IMPERATIVES:
        return True
    if NO_IMPERATIVES.fullmatch(word) or not word.isalpha():
        return False
    return not re.search(r"(?<!s)s$|ing$|(?<!e)ed$", word)


def _titles(prose: str) -> Iterator[Fault]:
    for match in re.finditer(r"^#+ +(.*)$", prose, flags=re.MULTILINE):
        if QUESTION_TITLE.match(match[1]):
            yield Fault(_line(prose, match.start()), "title that begins as a question", match[1])


def _phrases(text: str, line: int) -> Iterator[Fault]:
    for match in PHRASES.finditer(text):
        yield Fault(line + _line(text, match.start()) - 1, f"phrase {match[0]!r}", _around(text, match.start()))


def _around(text: str, offset: int) -> str:
    return text[max(0, offset - 40) : offset + 40].replace("\n", " ")


def _colons(text: str, line: int) -> Iterator[Fault]:
    """Find sentences of three clauses joined by colons.

    Tables, lists and the sections of a docstring are exempt.
    """
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#>]|>>>|\.\.\.|\d+\.) )|\n(?=[\w*, ]+ : )", text)
    at = 0
    for block in blocks:
        start = text.index(block, at)
        at = start + len(block)
        if block.lstrip().startswith(("|", ">>>", "...")) or re.match(r"[\w*, ]+ : ", block.lstrip()):
            continue
        for sentence in SENTENCE_END.split(block):
            if len(re.findall(r"\w\W?:\s", sentence)) > 1:
                where = line + _line(text, start + block.index(sentence)) - 1
                yield Fault(where, "three clauses joined by colons", " ".join(sentence.split())[:100])


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def files_of_the_repository() -> list[Path]:
    """List the Python files and pages that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(listed)) if (ROOT / name).exists()]


def main(names: list[str]) -> int:
    """Print every fault with its file, line and rule; return 1 if there is one."""
    faults = 0
    for path in [Path(name).resolve() for name in names] or files_of_the_repository():
        name = path.relative_to(ROOT).as_posix()
        if name == "tests/test_prose.py":  # its examples break the rules
            continue
        check = check_python if path.suffix == ".py" else check_markdown
        for fault in check(path.read_text()):
            print(f"{name}:{fault.line}: {fault.rule}: {fault.text}")
            faults += 1
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
