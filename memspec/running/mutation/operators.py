"""One change in the source of a module: mutmut's operators, and those that code on tensors needs besides.

From mutmut (kept, written on libcst, usable one node at a time) come numbers, booleans, negations, keywords, arithmetic and
comparison operators, augmented assignments, branches and left-out arguments. Not taken are its operators on strings, on
lambdas and ``x = None``: they change messages, or crash at once. Ours are steps down by one, turned comparisons and
conditions, dropped statements, guards and terms, swapped arguments, calls and transpositions left away, bounds of slices and
ranges, and functions that have an opposite. A number behind a minus sign (``dim=-1``) counts as an axis.

What is never changed: declarations (``spec``), the defaults of parameters, annotations, decorators, docstrings, asserts, and
what is raised or shown; such a change makes another setting or another message, and no defect.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from memspec.errors import MemspecError

try:
    import libcst as cst
    from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
    from mutmut.mutation import mutators as mutmut
except ModuleNotFoundError as error:
    raise MemspecError(
        f"mutants are made with mutmut, and {error.name} is not installed: pip install 'memspec[mutate]'"
    ) from error

OPPOSITES = [
    ("min", "max"),
    ("amin", "amax"),
    ("argmin", "argmax"),
    ("minimum", "maximum"),
    ("clamp_min", "clamp_max"),
    ("any", "all"),
    ("sum", "mean"),
    ("tril", "triu"),
    ("zeros", "ones"),
    ("new_zeros", "new_ones"),
    ("zeros_like", "ones_like"),
    ("floor", "ceil"),
    ("sin", "cos"),
    ("sigmoid", "tanh"),
]
OPPOSITE = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}
"""Functions and methods that are taken for one another."""

_LEFT_AWAY = """
clone detach contiguous to long float double clamp clamp_min clamp_max abs neg sqrt square exp log sigmoid tanh relu softmax
tril triu mT T mH transpose flatten flip roll sort cumsum cumprod nan_to_num
"""
LEFT_AWAY = frozenset(_LEFT_AWAY.split())
"""Methods and properties whose object can stand in their place."""

SHOWN = frozenset({"extra_repr", "__repr__", "__str__"})
TURNED = {
    "LessThan": "GreaterThanEqual",
    "LessThanEqual": "GreaterThan",
    "GreaterThan": "LessThanEqual",
    "GreaterThanEqual": "LessThan",
}


@dataclass(frozen=True)
class Change:
    """One possible change.

    Attributes:
        operator: its kind.
        lines: first and last line of the statement it is in; (0, 0) where that is run at import.
    """

    operator: str
    lines: tuple[int, int]
    tree: Any
    old: Any
    new: Any

    def source(self) -> str:
        """The module with this change."""
        return str(self.tree.deep_replace(self.old, self.new).code)

    def diff(self, path: str) -> str:
        """The change as a unified diff."""
        old, new = (text.splitlines(keepends=True) for text in (self.tree.code, self.source()))
        return "".join(difflib.unified_diff(old, new, path, path, n=2))


def changes(source: str) -> list[Change]:
    """Every change the operators make in a module, each once, in the order of the source."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    parents, places = wrapper.resolve(ParentNodeProvider), wrapper.resolve(PositionProvider)
    found: dict[tuple[Any, ...], Change] = {}
    for node, lines in _open_to_change(wrapper.module, places):
        for kind, operator in OPERATORS:
            for new in operator(node, parents):
                place = places[node]
                key = (place.start.line, place.start.column, place.end.line, place.end.column, _code(new))
                if _code(new) != _code(node):
                    found.setdefault(key, Change(_named(kind, node, parents), lines, wrapper.module, node, new))
    return list(found.values())


# ---- where ----------------------------------------------------------------------------------------------------


def _open_to_change(module: cst.Module, places: Any) -> Iterator[tuple[cst.CSTNode, tuple[int, int]]]:
    """The nodes that may be changed, each with the lines that run when it is reached."""

    def span(node: cst.CSTNode) -> tuple[int, int]:
        return places[node].start.line, places[node].end.line

    def walk(node: cst.CSTNode, lines: tuple[int, int], inside: bool) -> Iterator[tuple[cst.CSTNode, tuple[int, int]]]:
        if isinstance(node, cst.FunctionDef):
            if node.name.value not in SHOWN:
                yield from walk(node.body, lines, True)
            return
        if isinstance(node, cst.ClassDef):  # methods alone: what else a class body holds are declarations
            for part in node.body.body:
                if isinstance(part, cst.FunctionDef):
                    yield from walk(part, lines, False)
            return
        if isinstance(node, cst.SimpleStatementLine):
            if all(_is_fixed(part) for part in node.body) or not (inside or _is_number(node)):
                return
            lines = span(node) if inside else (0, 0)
        elif isinstance(node, (cst.If, cst.While)):
            lines = span(node.test)
        elif isinstance(node, cst.For):
            lines = span(node.iter)
        elif isinstance(node, cst.With):
            lines = span(node.items[0])
        elif isinstance(node, (cst.Annotation, cst.FormattedString, cst.Decorator)):
            return
        yield node, lines
        for child in node.children:
            yield from walk(child, lines, inside)

    for part in module.body:
        yield from walk(part, (0, 0), False)


def _is_fixed(part: cst.CSTNode) -> bool:
    """Whether a statement is a docstring, an import, a declaration, an assertion, or raises."""
    if isinstance(part, (cst.Import, cst.ImportFrom, cst.Raise, cst.Assert, cst.Pass, cst.Global)):
        return True
    if isinstance(part, cst.Expr):
        return isinstance(part.value, (cst.SimpleString, cst.ConcatenatedString))
    if isinstance(part, cst.Assign):
        text = _code(part.targets[0].target)
        return text in ("spec", "self.spec", "__all__")
    return isinstance(part, cst.AnnAssign) and _code(part.target) in ("spec", "overwrite")


def _is_number(line: cst.SimpleStatementLine) -> bool:
    """Whether a statement of the module itself names a number, such as the size of a block."""
    part = line.body[0]
    return isinstance(part, cst.Assign) and isinstance(
        part.value, (cst.BaseNumber, cst.UnaryOperation, cst.BinaryOperation)
    )


def _code(node: Any) -> str:
    if isinstance(node, cst.CSTNode):
        return str(cst.Module([]).code_for_node(node))
    return repr(node)


def _named(kind: str, node: cst.CSTNode, parents: Any) -> str:
    """``kind``, or ``axis`` where the number is one behind a minus sign."""
    sign = node if isinstance(node, cst.UnaryOperation) else parents.get(node)
    number = isinstance(sign, cst.UnaryOperation) and isinstance(sign.expression, cst.Integer)
    return "axis" if number and isinstance(sign.operator, cst.Minus) else kind


# ---- mutmut's operators -----------------------------------------------------------------------------------------

Operator = Callable[[Any, Any], Iterable[Any]]


def _theirs(kind: type | tuple[type, ...], operator: Callable[[Any], Iterable[Any]]) -> Operator:
    return lambda node, parents: operator(node) if isinstance(node, kind) else ()


def _left_out_arguments(node: cst.Call) -> Iterator[cst.CSTNode]:
    for new in mutmut.operator_arg_removal(node):
        if len(new.args) < len(node.args):
            yield new


# ---- ours -------------------------------------------------------------------------------------------------------


def _one_less(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Integer) and node.evaluated_value > 0:
        yield cst.Integer(str(node.evaluated_value - 1))


def _turned(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    new = TURNED.get(type(node).__name__)
    if new:
        yield getattr(cst, new)()


def _negated(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, (cst.If, cst.While, cst.IfExp)):
        test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))


def _dropped(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    """A statement, or a guard with all it does, replaced by ``pass``; not where a name would then be missing."""
    nothing = cst.SimpleStatementLine([cst.Pass()])
    if isinstance(node, cst.If) and node.orelse is None and not isinstance(parents.get(node), cst.If):
        yield nothing.with_changes(leading_lines=node.leading_lines)
    elif isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1:
        part = node.body[0]
        names: set[str] = set()
        if isinstance(part, cst.Assign):
            names = {_code(name) for target in part.targets for name in _bound(target.target)}
        if isinstance(part, (cst.Expr, cst.AugAssign)) or (
            isinstance(part, cst.Assign) and names <= _known_before(node, parents)
        ):
            yield nothing.with_changes(leading_lines=node.leading_lines)


def _bound(target: Any) -> Iterator[cst.CSTNode]:
    """The plain names that a target binds."""
    if isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from _bound(element.value)
    elif isinstance(target, cst.Name):
        yield target


def _known_before(node: Any, parents: Any) -> set[str]:
    """Parameters of the function around a statement, and what earlier statements beside or above it bind."""
    known: set[str] = set()
    inner = node
    while inner in parents:
        outer = parents[inner]
        if isinstance(outer, cst.FunctionDef):
            every = outer.params
            known |= {p.name.value for p in (*every.params, *every.kwonly_params, *every.posonly_params)}
            break
        if isinstance(outer, cst.For):
            known |= {_code(name) for name in _bound(outer.target)}
        if isinstance(outer, cst.IndentedBlock):
            for earlier in outer.body:
                if earlier is inner:
                    break
                for part in earlier.body if isinstance(earlier, cst.SimpleStatementLine) else ():
                    if isinstance(part, cst.Assign):
                        known |= {_code(name) for target in part.targets for name in _bound(target.target)}
        inner = outer
    return known


def _dropped_term(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.BinaryOperation) and isinstance(
        node.operator, (cst.Add, cst.Subtract, cst.BitAnd, cst.BitOr)
    ):
        yield node.left
        if not isinstance(node.operator, cst.Subtract):
            yield node.right
    elif isinstance(node, cst.BooleanOperation):
        yield from (node.left, node.right)


def _swapped(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Call):
        for i, (one, two) in enumerate(zip(node.args, node.args[1:])):
            if one.keyword is None and two.keyword is None and not (one.star or two.star):
                pair = (one.with_changes(value=two.value), two.with_changes(value=one.value))
                yield node.with_changes(args=[*node.args[:i], *pair, *node.args[i + 2 :]])


def _left_away(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Call):
        if isinstance(node.func, cst.Attribute) and node.func.attr.value in LEFT_AWAY:
            yield node.func.value
        elif isinstance(node.func, cst.Name) and node.args and not node.args[0].star and "_" in node.func.value:
            yield node.args[0].value  # a function of the project's own, such as unit_rows(keys)
        elif _code(node.func).startswith("self._") and node.args and not node.args[0].star:
            yield node.args[0].value
    elif isinstance(node, cst.Attribute) and node.attr.value in LEFT_AWAY:
        call = parents.get(node)
        if not (isinstance(call, cst.Call) and call.func is node):
            yield node.value


def _bounds(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Slice):
        for field in ("lower", "upper"):
            if getattr(node, field) is not None:
                for operator in (cst.Add(), cst.Subtract()):
                    yield node.with_changes(**{field: _by_one(getattr(node, field), operator)})
    elif isinstance(node, cst.Call) and _code(node.func) in ("range", "torch.arange"):
        stop = 0 if len([a for a in node.args if a.keyword is None]) == 1 else 1
        for i in range(stop + 1):
            operator = cst.Subtract() if i == stop else cst.Add()
            moved = node.args[i].with_changes(value=_by_one(node.args[i].value, operator))
            yield node.with_changes(args=[*node.args[:i], moved, *node.args[i + 1 :]])


def _by_one(value: Any, operator: Any) -> cst.CSTNode:
    kept = value if isinstance(value, (cst.Name, cst.Integer, cst.Attribute, cst.Call)) else None
    kept = kept or value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.BinaryOperation(kept, operator, cst.Integer("1"))


def _opposite(node: Any, parents: Any) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Call):
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        new = OPPOSITE.get(name.value) if isinstance(name, cst.Name) else None
        if new:
            yield node.with_deep_changes(name, value=new)


OPERATORS: list[tuple[str, Operator]] = [
    ("constant", _theirs(cst.BaseNumber, mutmut.operator_number)),
    ("constant", _one_less),
    ("boolean", _theirs(cst.Name, mutmut.operator_name)),
    ("negation", _theirs(cst.UnaryOperation, mutmut.operator_remove_unary_ops)),
    ("negation", _negated),
    ("keyword", _theirs(cst.CSTNode, mutmut.operator_keywords)),
    ("comparison", _theirs(cst.ComparisonTarget, mutmut.operator_swap_op)),
    ("comparison", _turned),
    (
        "operator",
        _theirs(
            (cst.BinaryOperation, cst.UnaryOperation, cst.BooleanOperation, cst.AugAssign), mutmut.operator_swap_op
        ),
    ),
    ("operator", _theirs(cst.AugAssign, mutmut.operator_augmented_assignment)),
    ("branch", _theirs(cst.IfExp, mutmut.operator_if_exp)),
    ("argument left out", _theirs(cst.Call, _left_out_arguments)),
    ("arguments swapped", _swapped),
    ("statement dropped", _dropped),
    ("term dropped", _dropped_term),
    ("call left away", _left_away),
    ("bound by one", _bounds),
    ("opposite", _opposite),
]
"""Kinds and what they make of a node (given the map of parents)."""
