"""Names as one line of text that a terminal shows and does not obey. Opens no file."""

from __future__ import annotations


def one_line(text: str) -> str:
    r"""The text with every character that is not printable escaped: a newline becomes `\n`.

    So a file's name can neither colour, move nor turn around what is written after it.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
