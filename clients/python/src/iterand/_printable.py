"""Text for people: what comes from elsewhere, safe for a terminal or a log; short numbers."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with everything escaped that could end a line, command a terminal, or hide the text beside it.

    That is what `str.isprintable` refuses: control, format and separator characters, such as newline, ESC and U+202E.
    They become the escapes of JSON, as in the C++ programs.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def short(number: float) -> str:
    """1234567 as 1.23 M."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + ((code - 0x10000) >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
