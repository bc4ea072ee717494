"""Read conditions on the numeric columns of a catalog.

An example is ``tail > 0.5 and mag < 17``. A condition has comparisons, ``and``, ``or``, ``not``, ``+ - * /``,
parentheses, numbers and columns. Backticks enclose a column name that has other characters than letters, digits and
underscores. Python parses the text into a tree, and only the nodes listed here are computed. Nothing is executed.

A comparison with a missing value is neither true nor false, as in SQL.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pandas.arrays import BooleanArray

from tidalkin.errors import TidalkinError

Numbers = npt.NDArray[np.float64]
Value = Numbers | BooleanArray

LONGEST = 500
ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
LANGUAGE = (
    "use comparisons, and, or, not, + - * /, parentheses, numbers and column names, in backticks if they have other "
    "characters than letters, digits and underscores"
)


def matches(condition: str, column: Callable[[str], Numbers]) -> npt.NDArray[np.bool_]:
    """Tell which rows fulfil a condition.

    Parameters
    ----------
    condition : str
        The condition.
    column : callable
        Returns the numbers (row,) of a column by its name, NaN where missing.

    Returns
    -------
    (row,) ndarray of bool
        False also where missing values leave the condition open.

    Raises
    ------
    TidalkinError
        If the text is not a condition. The message has the position, counted from 1.

    Examples
    --------
    >>> table = {"tail": np.array([0.7, 0.2, np.nan]), "S/N": np.array([5.0, 9.0, 7.0])}
    >>> matches("tail > 0.5 or `S/N` > 8", table.__getitem__)
    array([ True,  True, False])
    >>> matches("not tail > 0.5", table.__getitem__)
    array([False,  True, False])
    """
    condition = condition.strip()
    text, quoted = _with_plain_names(condition)
    found = _Reader(condition, quoted, column).read(_parsed(condition, text))
    if not isinstance(found, BooleanArray):
        raise _fault(condition, 0, "is a number, not a condition")
    return np.asarray(found.fillna(False), dtype=bool)


def _with_plain_names(condition: str) -> tuple[str, dict[int, str]]:
    """Replace each name in backticks by underscores; return the names by their offset in bytes."""
    quoted: dict[int, str] = {}

    def plain(match: re.Match[str]) -> str:
        quoted[len(condition[: match.start()].encode())] = match[1]
        return "_" * len(match[0].encode())

    return re.sub(r"`([^`]+)`", plain, condition.replace("\n", " ")), quoted


def _parsed(condition: str, text: str) -> ast.expr:
    if len(condition) > LONGEST:
        raise TidalkinError(f"the condition `{condition[:40]}…` is longer than {LONGEST} characters: shorten it")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = (getattr(error, "offset", None) or 1) - 1
        raise _fault(condition, offset, "cannot be read") from None


def _fault(condition: str, offset: int, fault: str) -> TidalkinError:
    return TidalkinError(f"the condition `{condition}` {fault} at position {offset + 1}: {LANGUAGE}")


class _Reader:
    """Compute the tree of a condition."""

    def __init__(self, condition: str, quoted: dict[int, str], column: Callable[[str], Numbers]) -> None:
        self._condition, self._quoted, self._column = condition, quoted, column

    def read(self, node: ast.expr) -> Value:
        """Compute a node: numbers or truth values of each row."""
        match node:
            case ast.BoolOp(op, values):
                return self._joined(op, [self._truth(value) for value in values])
            case ast.UnaryOp(ast.Not(), operand):
                return ~self._truth(operand)
            case ast.UnaryOp(ast.USub(), operand):
                return -self._numbers(operand)
            case ast.UnaryOp(ast.UAdd(), operand):
                return self._numbers(operand)
            case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
                with np.errstate(all="ignore"):
                    result = ARITHMETIC[type(op)](self._numbers(left), self._numbers(right))
                return np.where(np.isfinite(result), result, np.nan)  # what cannot be computed is missing
            case ast.Compare(first, ops, others) if all(type(op) in COMPARISONS for op in ops):
                return self._compared(ops, [self._numbers(value) for value in (first, *others)])
            case ast.Constant(value) if isinstance(value, int | float) and not isinstance(value, bool):
                return np.array(float(value))
            case ast.Name():
                return self._column(self._quoted.get(node.col_offset, node.id))
        raise self._refused(node, "has something else")

    def _compared(self, ops: list[ast.cmpop], values: list[Numbers]) -> BooleanArray:
        pairs = zip(values[:-1], ops, values[1:], strict=True)
        return self._joined(ast.And(), [_comparison(COMPARISONS[type(op)], left, right) for left, op, right in pairs])

    def _joined(self, op: ast.boolop, parts: list[BooleanArray]) -> BooleanArray:
        result: Any = parts[0]  # the stubs of pandas lack `|`
        for part in parts[1:]:
            result = result & part if isinstance(op, ast.And) else result | part
        return cast("BooleanArray", result)

    def _numbers(self, node: ast.expr) -> Numbers:
        value = self.read(node)
        if isinstance(value, BooleanArray):
            raise self._refused(node, "has a condition in place of a number")
        return value

    def _truth(self, node: ast.expr) -> BooleanArray:
        value = self.read(node)
        if not isinstance(value, BooleanArray):
            raise self._refused(node, "has a number in place of a condition")
        return value

    def _refused(self, node: ast.expr, fault: str) -> TidalkinError:
        before = self._condition.encode()[: node.col_offset].decode()
        return _fault(self._condition, len(before), fault)


def _comparison(compare: Callable[[Any, Any], Any], left: Numbers, right: Numbers) -> BooleanArray:
    left, right = np.broadcast_arrays(np.atleast_1d(left), np.atleast_1d(right))
    return BooleanArray(np.asarray(compare(left, right)), np.isnan(left) | np.isnan(right))
