"""Small changes to a module, each of which some test should notice."""

from __future__ import annotations

import ast
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

# One change for each operator, or two where a bound may be off by one and may point the wrong way.
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
OTHER_ERROR = "ZeroDivisionError"
"""What is raised or caught instead: nothing else has to do with it."""

_UNSEEN_FIELDS = {"annotation", "returns", "decorator_list", "type_comment", "format_spec", "cause"}
_UNSEEN_NAMES = {"__all__", "__slots__"}
_UNSEEN_CALLS = {"NewType", "TypeVar", "assert_never"}


@attrs.frozen(eq=False)
class Mutant:
    """One change; `apply` makes it in the tree that all mutants of a module share."""

    module: str
    line: int
    kind: str
    number: int
    change: str
    lines: frozenset[int]
    """Where it is: its own line and those of its statement."""
    function: int | None
    """Where the outermost function begins whose body it is in; `None` outside of functions."""
    _parent: ast.AST
    _field: str
    _index: int | None
    _new: ast.AST

    @property
    def id(self) -> str:
        """The same for the same text of the module."""
        return f"{self.module}:{self.line}:{self.kind}:{self.number}"

    def apply(self) -> None:
        """Changes the tree, for good."""
        if self._index is None:
            setattr(self._parent, self._field, self._new)
        else:
            getattr(self._parent, self._field)[self._index] = self._new


def mutants_of(path: Path, module: str) -> tuple[ast.Module, list[Mutant]]:
    """The tree of a module and all its mutants, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    unseen = {n for n, line in enumerate(text.splitlines(), 1) if "pragma: no cover" in line}
    numbers = Counter[tuple[int, str]]()
    found: list[Mutant] = []
    for parent, field, index, old, kind, new, statement, function in _walk(tree, tree, None):
        line = getattr(old, "lineno", statement.lineno)
        if line in unseen:
            continue
        ast.fix_missing_locations(ast.copy_location(new, old))
        numbers[line, kind] += 1
        change = f"{_shown(old)} -> {_shown(new)}"
        lines = frozenset((line, *_lines(statement)))
        place = (line, kind, numbers[line, kind], change, lines, function)
        found.append(Mutant(module, *place, parent, field, index, new))
    return tree, found


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _lines(statement: ast.stmt) -> range:
    """Of a statement that holds others only its head."""
    body: list[ast.AST] = getattr(statement, "body", None) or getattr(statement, "cases", [])
    end = getattr(body[0], "lineno", 0) - 1 if body else statement.end_lineno or 0
    return range(statement.lineno, max(end, statement.lineno) + 1)


_Found = tuple[ast.AST, str, int | None, ast.AST, str, ast.AST, ast.stmt, int | None]


def _walk(node: ast.AST, statement: ast.AST, function: int | None) -> Iterator[_Found]:
    for field, value in ast.iter_fields(node):
        if field in _UNSEEN_FIELDS or (field == "body" and _is_elsewhere(node)):
            continue
        is_body = field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        inside = node.lineno if is_body and function is None else function  # type: ignore[attr-defined]  # it has
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if not isinstance(child, ast.AST) or _is_left_out(child, node):
                continue
            own = child if isinstance(child, ast.stmt) else statement
            assert isinstance(own, ast.stmt)
            for kind, new in _changes(child, node, field, own):
                yield node, field, index, child, kind, new, own, inside
            yield from _walk(child, own, inside)


def _is_elsewhere(node: ast.AST) -> bool:
    """Whether a body is for the type checker or for another system."""
    if not isinstance(node, ast.If):
        return False
    test = ast.unparse(node.test)
    return test == "TYPE_CHECKING" or (
        "sys.platform == 'win32'" in test and sys.platform != "win32"
    )


def _is_left_out(node: ast.AST, parent: ast.AST) -> bool:  # noqa: PLR0911  # a table
    match node:
        case ast.FunctionDef(name="__repr__") | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring, or the dots of a protocol
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) if name in _UNSEEN_NAMES:
            return True
        case ast.Expr(value=value) | ast.Await(value=value) if _is_log(value):
            return True
        case ast.Call(func=ast.Name(id=name)) if name in _UNSEEN_CALLS:
            return True
        case ast.Constant(value=str()):
            # The words of messages; what is filled into them is seen.
            in_message = isinstance(parent, ast.JoinedStr) or _is_error(parent)
            return in_message or _is_cast(parent)
        case _:
            test = ast.unparse(node) if isinstance(parent, ast.If) and node is parent.test else ""
            return test == "TYPE_CHECKING" or "sys.platform" in test


def _is_log(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("LOGGER.")


def _is_error(node: ast.AST) -> bool:
    """Whether a string here is a message: of an exception, or one that is put together for it."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in {"msg", "rule"}
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error")


def _is_cast(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "cast"


def _changes(  # noqa: C901, PLR0912  # a table
    node: ast.AST, parent: ast.AST, field: str, statement: ast.stmt
) -> Iterator[tuple[str, ast.AST]]:
    """What may stand instead of this node."""
    yield from _condition_changes(node, parent, field)
    match node:
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                for kind in COMPARISONS[type(op)]:
                    yield "compare", _with(node, ops=[*ops[:at], kind(), *ops[at + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield "arithmetic", _with(node, op=OPERATORS[type(op)]())
        case ast.BoolOp(op=op):
            yield "boolean", _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "boolean" if isinstance(node.op, ast.Not) else "arithmetic", operand
        case ast.Constant(value=value):
            for other in _other_values(value):
                yield "constant", ast.Constant(other)
        case ast.MatchOr(patterns=patterns):
            for at in range(len(patterns)):
                left = [*patterns[:at], *patterns[at + 1 :]]
                yield "case", _with(node, patterns=left) if len(left) > 1 else left[0]
        case ast.Break() | ast.Continue():
            yield "jump", ast.Continue() if isinstance(node, ast.Break) else ast.Break()
        case ast.Return(value=ast.expr() as value) if not _is_false(value):
            yield "return", ast.Return(ast.Constant(None))
        case _:
            pass
    yield from _error_changes(node, parent, field)
    if node is statement and _is_removable(statement):
        yield "removal", ast.Pass()


def _condition_changes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Constant):
        return
    if field == "test" and isinstance(parent, ast.If | ast.IfExp | ast.While):
        if not isinstance(parent, ast.While):  # that one would only hang
            yield "condition", ast.Constant(True)  # noqa: FBT003  # a value, not an option
        yield "condition", ast.Constant(False)  # noqa: FBT003  # as above
    if (field == "ifs" and isinstance(parent, ast.comprehension)) or field == "guard":
        yield "condition", ast.Constant(True)  # noqa: FBT003  # as above


def _error_changes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[tuple[str, ast.AST]]:
    is_caught = (isinstance(parent, ast.ExceptHandler) and field == "type") or (
        isinstance(parent, ast.Call) and ast.unparse(parent.func).endswith("suppress")
    )
    if is_caught and isinstance(node, ast.Tuple):
        for at in range(len(node.elts)):
            yield "error", _with(node, elts=[*node.elts[:at], *node.elts[at + 1 :]])
    elif is_caught and field != "func":
        yield "error", ast.Name(OTHER_ERROR, ast.Load())
    if isinstance(parent, ast.Raise) and field == "exc" and isinstance(node, ast.Call):
        yield "error", ast.Call(ast.Name(OTHER_ERROR, ast.Load()), [], [])


def _other_values(value: object) -> tuple[str | bytes | float, ...]:
    match value:
        case bool():
            return (not value,)
        case int():
            return value + 1, value - 1
        case float():
            return (value * 1.5, value * 0.5) if value else (1.0,)
        case str():
            half = len(value) // 2
            return (value[:half] + "XX" + value[half:],)
        case bytes():
            return (value + b"XX",)
        case _:
            return ()


def _is_removable(node: ast.stmt) -> bool:
    """Statements that act; a name that is not bound any more would only be an error."""
    match node:
        case (
            ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.AugAssign() | ast.Delete()
        ):
            return True
        case ast.Assign(targets=[target]) | ast.AnnAssign(target=target, value=ast.expr()):
            return isinstance(target, ast.Attribute | ast.Subscript)
        case _:
            return False


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
