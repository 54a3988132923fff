"""Tokens as a reader would write them: byte-level tokenizers spell every byte as a character of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable

PLAIN = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that stand for themselves; the others are numbered from U+0100 on, in order."""
BYTE_OF = {chr(b): b for b in PLAIN} | {
    chr(0x100 + i): b for i, b in enumerate(b for b in range(256) if b not in PLAIN)
}
SPECIAL = re.compile(r"<.*>|\[.*\]|\s+", re.DOTALL)
"""Tokens that are names or white space and say nothing about the spelling of the others."""
ONE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
CONTINUED = re.compile(r"##\w")


def byte_level(tokens: Iterable[str]) -> bool:
    """Whether tokens are spelled in bytes, as far as they show it.

    They are if all are made of the 256 signs for bytes, and one of them begins with the sign of a space or a line end
    or holds the bytes of a character beyond ASCII.

    Examples
    --------
    >>> byte_level(["The", "\u0120dog"]), byte_level(["\u2581The", "\u2581dog"]), byte_level(["caf", "##\u00e9"])
    (True, False, False)
    """
    evidence = False
    for token in tokens:
        if SPECIAL.fullmatch(token):
            continue
        if CONTINUED.match(token) or any(c not in BYTE_OF for c in token):
            return False
        evidence = evidence or token[:1] in ("\u0120", "\u010a") or _decodes(token)
    return evidence


def _decodes(token: str) -> bool:
    if token.isascii():
        return False
    try:
        bytes(BYTE_OF[c] for c in token).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def readable_token(token: str, *, in_bytes: bool) -> str:
    r"""A token as text, with the space or line end it begins with; bytes that are no whole character as numbers.

    Parameters
    ----------
    token : str
        As the tokenizer names it.
    in_bytes : bool
        Whether its tokenizer is :func:`byte_level`.

    Examples
    --------
    >>> readable_token("ĠcafÃ©", in_bytes=True), readable_token("âĢ", in_bytes=True)
    (' café', '⟨0xE2⟩⟨0x80⟩')
    >>> readable_token("▁dog", in_bytes=False), readable_token("<0x0A>", in_bytes=False)
    (' dog', '\n')
    """
    if not in_bytes or SPECIAL.fullmatch(token) or any(c not in BYTE_OF for c in token):
        one = ONE_BYTE.fullmatch(token)
        if one:
            return _text(bytes([int(one[1], 16)]))
        return token.replace("\u0120", " ").replace("\u2581", " ").replace("\u010a", "\n") if not in_bytes else token
    return _text(bytes(BYTE_OF[c] for c in token))


def _text(data: bytes) -> str:
    shown = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"\u27e80x{ord(c) - 0xDC00:02X}\u27e9" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in shown)
