"""Command lines to be copied: they do what they say in any shell, whatever the names are."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def command_line(verb: str, *arguments: str, options: Sequence[str] = ()) -> str:
    """`apixo VERB ARGUMENT... OPTION...`; the options come first where an argument looks like one.

    Words in capitals, such as KEY, stand for what the reader has to put in.
    """
    words = [*arguments, *options]
    if any(argument.startswith("-") for argument in arguments):
        words = [*options, "--", *arguments]
    return " ".join(["apixo", verb, *map(quoted, words)])


def file_word(path: Path) -> str:
    """A path as an argument: never taken for an option, also behind none."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def quoted(word: str) -> str:
    """One word of a shell; what cannot be printed is written as bash and zsh read it."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
