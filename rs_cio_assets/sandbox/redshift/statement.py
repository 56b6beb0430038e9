"""UNLOAD and COPY as text: tokens in order, and the error that Redshift would give. What the words mean stands elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

_TOKEN = re.compile(
    r"(?P<space>(?:\s|--[^\n]*|/\*.*?\*/)+)"
    r"|(?P<string>'(?:[^'\\]|''|\\.)*'|\$\$.*?\$\$)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r'|(?P<word>(?:\w|"(?:[^"]|"")*")(?:[\w.$]|"(?:[^"]|"")*")*)'
    r"|(?P<other>.)",
    re.DOTALL,
)
_ESCAPED = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Refusal(Exception):
    """What the stand-in answers in place of a result: SQLSTATE and text. It aborts the transaction."""

    def __init__(self, text: str, code: str = "XX000") -> None:
        """XX000, internal error, is what the driver reports for most errors of UNLOAD and COPY."""
        super().__init__(text)
        self.text, self.code = text, code


@dataclass(frozen=True)
class Token:
    """*kind* is string, number, word or other; *start* and *end* are positions in the statement."""

    kind: str
    text: str
    start: int
    end: int


class Statement:
    """Reads a statement from left to right. Methods that ask for something raise Refusal where it does not come next."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._tokens = list(_tokens(sql))
        while self._tokens and self._tokens[-1].text == ";":
            self._tokens.pop()
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """True when nothing but the closing semicolon is left."""
        return self._at == len(self._tokens)

    @property
    def position(self) -> int:
        """Where the next token begins."""
        return len(self.sql) if self.is_at_end else self._tokens[self._at].start

    @property
    def previous_end(self) -> int:
        """Where the token before ends."""
        return self._tokens[self._at - 1].end if self._at else 0

    def has(self, *words: str) -> bool:
        """True, and they are passed, when these words or signs come next."""
        following = self._tokens[self._at : self._at + len(words)]
        if [token.text.upper() for token in following if token.kind != "string"] != list(words):
            return False
        self._at += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Pass these words or signs."""
        for word in words:
            if not self.has(word):
                raise self.error()

    def string(self) -> str:
        """The value of the literal that comes next. Backslashes escape in it, as in every literal of Redshift."""
        token = self._take("string")
        if token.text.startswith("$$"):
            return token.text[2:-2]
        return _ESCAPED.sub(lambda m: _ESCAPES.get(m[1], m[1]) if m[1] else "'", token.text[1:-1])

    def number(self) -> float:
        """The number that comes next."""
        return float(self._take("number").text)

    def word(self) -> str:
        """The word or name that comes next, as written."""
        return self._take("word").text

    def error(self) -> Refusal:
        """A syntax error at what comes next."""
        if self.is_at_end:
            return Refusal("syntax error at end of input", "42601")
        return Refusal(f'syntax error at or near "{self._tokens[self._at].text[:80]}"', "42601")

    def _take(self, kind: str) -> Token:
        if self.is_at_end or self._tokens[self._at].kind != kind:
            raise self.error()
        self._at += 1
        return self._tokens[self._at - 1]


def place(url: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. Raises: Refusal."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise Refusal("The S3 path is not s3://bucket/prefix", "22023")
    return parts.netloc, url.removeprefix(f"s3://{parts.netloc}").removeprefix("/")


def role_of(statement: Statement) -> str:
    """The role after IAM_ROLE: `default`, an ARN, or a chain of them."""
    return "default" if statement.has("DEFAULT") else statement.string()


def not_emulated(verb: str, statement: Statement) -> Refusal:
    """For a word that Redshift may know and this stand-in does not."""
    rest = statement.sql[statement.position :].split()
    return Refusal(f"{verb} with {' '.join(rest[:2])[:80]} is not supported by the Redshift stand-in", "0A000")


def _tokens(sql: str) -> Iterator[Token]:
    for found in _TOKEN.finditer(sql):
        if found.lastgroup != "space":
            yield Token(str(found.lastgroup), found[0], found.start(), found.end())
