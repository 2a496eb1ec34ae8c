"""The first-party tools."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

from alignzoo import Tool, UserError, hookimpl

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}

THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


class Calculator(Tool):
    """Works out sums of numbers: + - * / // % ** and parentheses, nothing else."""

    name = "calculator"

    def __init__(self, characters: int = 100, digits: int = 30) -> None:
        for key, value in (("characters", characters), ("digits", digits)):
            if value < 1:
                raise UserError(f"tools.calculator.{key}={value} must be at least 1.")
        self.characters, self.digits = characters, digits

    def __call__(self, expression: str) -> str:
        """
        Work out a sum.

        Args:
            expression: The sum, such as (3 + 4) * 12.5
        """
        text = THOUSANDS.sub("", str(expression)).strip()
        if len(text) > self.characters:
            raise ValueError(f"the sum has more than {self.characters} characters")
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, MemoryError):
            raise ValueError("this is not a sum") from None
        return self._write(self._work_out(tree.body))

    def _work_out(self, node: ast.AST) -> int | float:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return self._bound(node.value)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            return self._bound(OPERATORS[type(node.op)](self._work_out(node.operand)))
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = self._work_out(node.left), self._work_out(node.right)
            if isinstance(node.op, ast.Pow) and abs(right) > self.digits:
                raise ValueError(f"the power {self._write(right)} is too large")
            return self._bound(OPERATORS[type(node.op)](left, right))
        raise ValueError("only numbers, + - * / // % ** and parentheses are known")

    def _bound(self, value: Any) -> int | float:
        """Refuse what is not a real number, or has too many digits, before it is computed with again."""
        if not isinstance(value, int | float) or value != value or abs(value) >= 10**self.digits:
            raise ValueError(f"the result is not a number of at most {self.digits} digits")
        return value

    def _write(self, value: int | float) -> str:
        """Write a whole number without a point, and others with ten significant digits."""
        return str(int(value)) if value == int(value) else f"{value:.10g}"


@hookimpl
def alignzoo_tools() -> Iterable[type[Tool]]:
    """Return the first-party tools."""
    return [Calculator]
