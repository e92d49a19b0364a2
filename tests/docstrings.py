"""What the docstrings of public names have to say, and what is missing from one.

A reader sees the signature; a docstring adds what it cannot say. So every public name has one,
every field and parameter is explained, numbers have a unit, errors stand under `Raises:`, and what
the API's documents rule names the page and the section of it.
"""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

import attrs

import apixo_async
from apixo_async.durable import Rows

# Names that are reached by an attribute or an argument of those in the tables of contents.
BESIDE: Final = {
    "apixo_async.batch.spending": ["Prices"],
    "apixo_async.client": ["SaveObserver"],
    "apixo_async.limits": ["GateStatistics"],
    "apixo_async.webhooks": ["ReceiverStatistics"],
}
# Modules whose names users write.
TABLES_OF_CONTENTS: Final = [
    "apixo_async",
    "apixo_async.batch",
    "apixo_async.batch.report",
    "apixo_async.durable",
    "apixo_async.emulator",
    "apixo_async.integrations.dbos",
    "apixo_async.integrations.otel",
    "apixo_async.integrations.postgres",
    "apixo_async.integrations.redis",
    "apixo_async.integrations.sqlite",
    "apixo_async.testing",
]
EVENTS: Final = ["apixo_async.batch.events", "apixo_async.events"]

# The pages of the API's documents that docstrings name, with the sections of each.
PAGES: Final[Mapping[str, set[str]]] = {
    "Veo 3.1": {
        "authentication",
        "endpoints",
        "error codes",
        "fail codes",
        "generation types",
        "parameters",
        "rate limits",
        "request body",
        "response",
        "status fields",
        "tips",
    },
    "Veo 3.1 Extend": {"", "endpoints", "parameters"},
    "generate-task": {"path", "request body"},
    "status-task": {"path"},
    "system": {"current balance"},
    "errors": {""},
    "webhooks": {""},
}
SOURCE: Final = re.compile(
    r"((?:Veo 3\.1(?: Extend)?)|[a-z]+(?:-[a-z]+)?)\s+page(?:,\s+([a-z\s]+))?"
)
# Classes whose methods are explained by a protocol; they say what is special about them.
IMPLEMENTS: Final[Mapping[str, type]] = {"apixo_async.durable.MemoryRows": Rows}
MADE_FOR_YOU: Final = {"OutcomeStream", "SaveObserver"}
# Made by users and passed on: these methods are for them, the others for whom it is passed to.
PASSED_ON: Final[Mapping[str, set[str]]] = {"Gate": {"statistics"}}
OF_PYTEST: Final = {"config", "monkeypatch", "request"}
FLOATS: Final = re.compile(r"\b(seconds|US\s+dollars|part|how\s+many|ratio)\b", re.IGNORECASE)
SECTION: Final = re.compile(r"^(Args|Attributes|Raises):\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
ENTRY: Final = re.compile(r"^ {4}(\w+): (.*\n(?:(?: {8}.*)?\n)*)", re.MULTILINE)


def public() -> Iterator[tuple[str, object]]:
    """Every public name, with the module it is taken from before it, and what it stands for."""
    for table in TABLES_OF_CONTENTS:
        module = import_module(table)
        for name in module.__all__:
            yield f"{table}.{name}", getattr(module, name)
    for home in EVENTS:
        for name, value in vars(import_module(home)).items():
            is_event = attrs.has(value) and value.__module__ == home and not name.startswith("_")
            if is_event or name in {"ClientEvent", "Event", "JobEvent"}:
                yield f"{home}.{name}", value
    for home, names in BESIDE.items():
        for name in names:
            yield f"{home}.{name}", getattr(import_module(home), name)


def sections(text: str) -> dict[str, dict[str, str]]:
    """The sections of a docstring in Google's style, each with its entries."""
    clean = inspect.cleandoc(text) + "\n"
    return {name: dict(ENTRY.findall(body)) for name, body in SECTION.findall(clean)}


def assigned(body: list[ast.stmt]) -> Iterator[tuple[str, str | None]]:
    """What is assigned in a body, with the string below it, which documents it."""
    for here, below in pairwise([*body, ast.Pass()]):
        match here:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield name, _text(below)
            case _:
                pass


def _text(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
        case _:
            return None


def source(value: type | ModuleType | Callable[..., object]) -> ast.Module:
    """What a class, a function or a module is made of."""
    return ast.parse(textwrap.dedent(inspect.getsource(value)))


def field_docs(cls: type) -> dict[str, str | None]:
    """The docstrings of a class's fields and members, those of its bases included."""
    found: dict[str, str | None] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] in {"apixo_async", "tests"}:
            (definition,) = source(base).body
            assert isinstance(definition, ast.ClassDef)
            found.update(assigned(definition.body))
    return found


def raised(function: Callable[..., object]) -> set[str]:
    """The errors that a function raises itself, by the names of their classes.

    They are raised where they are made, by a variable that they were given to before, or by a
    private function of its module that it calls.
    """
    nodes = [*ast.walk(source(function))]
    beside = getattr(function, "__globals__", {})
    thrown = [node.exc for node in nodes if isinstance(node, ast.Raise) and node.exc is not None]
    found: set[str] = set()
    kept = {expression.id for expression in thrown if isinstance(expression, ast.Name)}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=made) if name in kept:
                thrown.append(made)
            case ast.Call(func=ast.Name(id=name)) if name.startswith("_"):
                called = beside.get(name)
                if inspect.isfunction(called) and called.__module__ == function.__module__:
                    found |= raised(called)
            case _:
                pass
    return found | {name for expression in thrown for name in _classes(expression)}


def _classes(expression: ast.expr) -> Iterator[str]:
    """The class that an expression names or makes an instance of; other names are in small."""
    match expression:
        case ast.Call(func=made):
            yield from _classes(made)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name[0].isupper():
            yield name
        case _:
            pass


def faults_of(name: str, value: object) -> list[str]:
    """What is missing from the docstrings of a public name, one line for each."""
    if isinstance(value, type):
        found = [*_of_class(name, value)]
    elif inspect.isroutine(value):
        found = [*_of_function(name, value, value.__doc__ or "")]
    else:
        found = [*_of_constant(name)]
    return found


def _of_constant(name: str) -> Iterator[str]:
    """A mapping or an alias is documented by a string below it, in the module that makes it."""
    home, _, own = name.rpartition(".")
    homes = [home, *(f"{home}.{module}" for module in ("veo", "faults"))]
    for place in homes:
        try:
            module = import_module(place)
        except ImportError:
            continue
        if dict(assigned(source(module).body)).get(own):
            return
    if not callable(getattr(import_module(home), own)):  # a fixture is an object
        yield f"{name}: no docstring"


def _of_class(name: str, cls: type) -> Iterator[str]:
    text = cls.__doc__ or ""
    if not text or text.startswith(f"{cls.__name__}("):
        yield f"{name}: no docstring"
    yield from _sources(name, text)
    yield from _known_errors(name, text)
    if issubclass(cls, enum.Enum):
        docs = field_docs(cls)
        yield from (f"{name}.{own}: no docstring" for own in cls.__members__ if not docs.get(own))
    elif attrs.has(cls):
        yield from _of_fields(name, cls)
    elif issubclass(cls, apixo_async.ApixoError):
        yield from _of_error(name, cls)
    elif is_made_by_users(cls):
        yield from _of_function(name, vars(cls)["__init__"], text)
    explained = vars(IMPLEMENTS[name]) if name in IMPLEMENTS else {}
    for own, member in vars(cls).items():
        is_for_others = own not in PASSED_ON.get(cls.__name__, {own})
        if own.startswith("_") or is_for_others or (own in explained and member.__doc__):
            continue
        if isinstance(member, property):
            yield from _of_property(f"{name}.{own}", member)
        elif inspect.isroutine(member):
            function = getattr(member, "__func__", member)
            yield from _of_function(f"{name}.{own}", function, function.__doc__ or "")


def is_made_by_users(cls: type) -> bool:
    """Whether somebody calls it, so that its parameters have to be explained."""
    is_protocol = getattr(cls, "_is_protocol", False)
    has_parameters = inspect.isfunction(vars(cls).get("__init__"))
    return has_parameters and not is_protocol and cls.__name__ not in MADE_FOR_YOU


def _of_fields(name: str, cls: type) -> Iterator[str]:
    docs = field_docs(cls)
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)
    for field in fields:
        if field.name.startswith("_"):
            continue
        text, place = docs.get(field.name) or "", f"{name}.{field.name}"
        if not text:
            yield f"{place}: no docstring"
        yield from _units(place, field.type, text)
        yield from _sources(place, text)
        if "apixo_rule" in field.metadata and not SOURCE.search(text):
            yield f"{place}: no page of the API's documents"
    is_checked = any(field.validator or "apixo_rule" in field.metadata for field in fields)
    if is_checked and not sections(cls.__doc__ or "").get("Raises"):
        yield f"{name}: its values are checked, and no error under Raises"


def _of_error(name: str, cls: type) -> Iterator[str]:
    """Its attributes are those that it sets; an error of many says where its fields are told."""
    if "__init__" not in vars(cls):
        return
    told = {
        entry
        for base in cls.__mro__
        for entry in sections(base.__doc__ or "").get("Attributes", {})
    }
    for node in ast.walk(source(vars(cls)["__init__"])):
        match node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=own)]):
                if own not in told:
                    yield f"{name}.{own}: not under Attributes"
            case _:
                pass


def _of_property(place: str, member: property) -> Iterator[str]:
    text = member.__doc__ or ""
    if not text:
        yield f"{place}: no docstring"
    yield from _units(place, inspect.signature(member.fget or _nothing).return_annotation, text)
    yield from _sources(place, text)


def _nothing() -> None: ...


def _of_function(place: str, function: Callable[..., object], text: str) -> Iterator[str]:
    if not text:
        yield f"{place}: no docstring"
    told = sections(text).get("Args", {})
    signature = inspect.signature(inspect.unwrap(function))
    for own, parameter in signature.parameters.items():
        if own in {"self", "cls"} or (own in OF_PYTEST and "apixo_async.testing." in place):
            continue
        if own not in told:
            yield f"{place}({own}): not under Args"
        yield from _units(f"{place}({own})", parameter.annotation, told.get(own, ""))
    if "float" in str(signature.return_annotation):
        yield from _units(place, signature.return_annotation, text)
    missing = raised(function) - {*sections(text).get("Raises", {})}
    yield from (f"{place}: raises {error}, which is not under Raises" for error in sorted(missing))
    yield from _known_errors(place, text)
    yield from _sources(place, text)


def _units(place: str, annotation: object, text: str) -> Iterator[str]:
    kinds = set(re.findall(r"\w+", getattr(annotation, "__name__", None) or str(annotation)))
    if "float" in kinds and "Mapping" not in kinds and not FLOATS.search(text):
        yield f"{place}: a number without a unit"
    if (
        "int" in kinds
        and re.search(r"size|bytes", place.rpartition(".")[2])
        and "bytes" not in text
    ):
        yield f"{place}: a size without a unit"


def _known_errors(place: str, text: str) -> Iterator[str]:
    for error in sections(text).get("Raises", {}):
        if error not in apixo_async.__all__ and not hasattr(builtins, error):
            yield f"{place}: no error is called {error}"


def _sources(place: str, text: str) -> Iterator[str]:
    for page, section in SOURCE.findall(text):
        if page in PAGES and " ".join(section.split()) not in PAGES[page]:
            yield f"{place}: the {page} page has no section {' '.join(section.split())!r}"
