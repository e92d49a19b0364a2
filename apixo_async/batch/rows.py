"""The text of an input file to rows: JSONL, CSV or one prompt a line, one row at a time."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TextIO, TypeAlias, TypeGuard

import attrs

from apixo_async._narrow import is_nested_too_deeply
from apixo_async._wire import ROW_FIELDS

Format: TypeAlias = Literal["jsonl", "csv", "text"]
Rules: TypeAlias = list[tuple[str, str]]
"""Broken rules as (field, rule); the field is empty where the line as a whole is meant."""

COLUMNS: Final = ROW_FIELDS | {"key", "metadata", "model", "input"}
_JSON_COLUMNS: Final = frozenset({"metadata", "input", "extra_input"})


@attrs.frozen
class Row:
    """What one line holds: fields, or the rules that it breaks as a line, or both."""

    line: int
    fields: Mapping[str, Any] | None
    rules: Rules = attrs.field(factory=list[tuple[str, str]])


_NOT_UTF8: Final = ("", "is not UTF-8; save the file as UTF-8")


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\udc80" <= character <= "\udcff" for character in text)


def _text_rows(file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        prompt = line.strip()
        if not _is_utf8(prompt):
            yield Row(number, None, [_NOT_UTF8])
        elif prompt:
            yield Row(number, {"prompt": prompt})


def _jsonl_rows(file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not _is_utf8(line):
            yield Row(number, None, [_NOT_UTF8])
        elif line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    twice: list[str] = []
    try:
        value = _read_json(line, twice)
    except ValueError as error:
        hint = "; write one object a line" if line.lstrip()[:1] in {"[", "{"} else ""
        return Row(number, None, [("", f"is not JSON: {error}{hint}")])
    if not is_object(value):
        rule = f"must be a JSON object with a prompt, got {type(value).__name__}"
        return Row(number, None, [("", rule)])
    return Row(number, value, [(name, "is given twice") for name in twice])


def _read_json(text: str, twice: list[str]) -> Any:  # noqa: ANN401  # a value of JSON
    """The value; `twice` gets the names that an object has more than once. Raises `ValueError`."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            names = [name for name, _ in pairs]
            twice.extend(sorted({name for name in names if names.count(name) > 1}))
        return built

    try:
        value = json.loads(text, object_pairs_hook=build, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        # Its own text counts lines, and here there is only one.
        msg = f"{error.msg} (character {error.pos + 1})"
        raise ValueError(msg) from None
    except RecursionError:
        pass
    else:
        if not is_nested_too_deeply(value):
            return value
    msg = "it is nested too deeply"
    raise ValueError(msg)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value of JSON is an object."""
    return isinstance(value, dict)


def _refuse_constant(name: str) -> None:
    msg = f"{name} does not exist in JSON"
    raise ValueError(msg)


def _csv_rows(file: TextIO) -> Iterator[Row]:
    table = csv.reader(file, strict=True)
    header: list[str] = []
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, None, [("", f"is not CSV: {error}")])
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header:
            yield _csv_row(line, header, cells)
            continue
        header = [cell.strip() for cell in cells]
        if rules := _header_rules(header):
            yield Row(line, None, rules)
        if not {"prompt", "input"} & set(header):
            return  # every row would only repeat what is wrong with the header


def _header_rules(header: list[str]) -> Rules:
    rules: Rules = []
    if not {"prompt", "input"} & set(header):
        hint = " (columns are separated by commas)" if len(header) == 1 else ""
        rules.append(("", f"the header must have a column 'prompt'{hint}"))
    columns = ", ".join(sorted(COLUMNS))
    for name in sorted(set(header) - COLUMNS):
        rules.append((name or "header", f"is no column of this format; these are: {columns}"))
    twice = {name for name in header if header.count(name) > 1}
    return [*rules, *((name, "is a column twice") for name in sorted(twice))]


def _csv_row(line: int, header: list[str], cells: list[str]) -> Row:
    if not all(map(_is_utf8, cells)):
        return Row(line, None, [_NOT_UTF8])
    if len(cells) != len(header):
        rule = f"has {len(cells)} cells, but the header has {len(header)}"
        return Row(line, None, [("", rule)])
    rules: Rules = []
    fields: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        # Unknown columns were named once, at the header.
        if name in COLUMNS and cell.strip():
            fields[name] = _cell_value(name, cell, rules)
    return Row(line, fields, rules)


def _cell_value(name: str, cell: str, rules: Rules) -> Any:  # noqa: ANN401  # a value of JSON
    """What a cell means in its column; a cell that cannot be read adds to `rules`."""
    if name == "prompt":
        return cell
    text = cell.strip()
    if name == "seed" and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if name == "image_urls" and not text.startswith("["):
        return text.split()
    if name not in _JSON_COLUMNS and name != "image_urls":
        return text
    try:
        return _read_json(text, [])
    except ValueError as error:
        rules.append((name, f"is not JSON: {error}"))
        return None


READERS: Final[Mapping[Format, Callable[[TextIO], Iterator[Row]]]] = {
    "jsonl": _jsonl_rows,
    "csv": _csv_rows,
    "text": _text_rows,
}
