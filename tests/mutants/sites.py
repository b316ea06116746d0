"""Where a fault may be put: a reader of the kernels' C++, just good enough for what clang-format leaves.

It leans on the format: a binary operator has blanks on both sides, the bracket of a template argument on neither. What it
finds are expressions: maximal runs of tokens in a function's body between brackets, commas, semicolons, assignments and
the two signs of `c ? a : b`. One of them with one edit is a fault that can stand beside the original,
`(is(17) ? (faulty) : (original))`, whatever surrounds the two. Constant expressions, template arguments, declared names
and what lies between #if and its #endif are never among them.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<skipped>//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:\\\n|[^\n])*|\s+)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign><<=|>>=|\.\.\.|->|::|\+\+|--|<<|(?<=\s)>>(?=\s)|[<>=!]=|&&|\|\||[-+*/%&|^]=|\S)""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}

# What no fault is put into: constant expressions, declarations of types, and checks of what a caller promised, most of
# them limits of 2^31 elements that no test can reach.
SKIPPED_STATEMENTS = {"struct", "using", "typedef", "static", "constexpr", "static_assert", "break"} | {
    "continue", "check"
}  # fmt: skip
SKIPPED_CALLS = {"sizeof", "alignof", "decltype", "static_assert", "check"}

FLOATING = {"float", "auto", "Vec4", "Run", "Sums", "Moments", "Normalizer", "PhiloxWords", "ThreadSums", "ExpSum"}
SAME_PLACE = {"min", "max", "ceil_div", "float", "int", "unsigned", "int64_t", "uint32_t", "uint64_t", "size_t"} | {
    "expf", "logf", "sqrtf", "rsqrtf", "powf", "tanhf", "fabsf"
}  # fmt: skip
GEOMETRY = {"grid", "block", "shared_bytes"}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Function:
    name: str
    returns: str
    parameters: str
    text: str


@dataclass(frozen=True)
class Expression:
    """Tokens [first, last) of a source. `place` says what the expression is for:

    value      data: an initialiser, a right side or a result in floating point
    integer    the same in integers, and arguments of calls
    subscript  within []
    condition  of an `if` or of `c ? a : b`, or a bool
    loop       the condition of a loop; `step` what a loop does after each pass
    geometry   a field of a launch's configuration
    """

    first: int
    last: int
    place: str
    function: Function
    is_statement: bool = False  # its value is not used


@dataclass
class Source:
    """A file as tokens, with the partner of every bracket."""

    name: str
    text: str
    tokens: list[Token] = field(default_factory=list)
    partner: dict[int, int] = field(default_factory=dict)

    def __post_init__(self):
        self.lines = [match.start() for match in re.finditer("\n", self.text)]
        for match in TOKEN.finditer(without_conditionals(self.text)):
            if match.lastgroup != "skipped":
                self.tokens.append(Token(match.lastgroup, match.group(), match.start(), match.end()))
        opened = []
        for i, token in enumerate(self.tokens):
            if token.text in ("(", "[", "{") or (token.text == "<" and self.opens_template(i)):
                opened.append(i)
            elif opened and token.text == CLOSING[self.tokens[opened[-1]].text] and not self.is_greater(i):
                self.partner[opened[-1]] = i
                self.partner[i] = opened.pop()
        if opened:
            raise ValueError(f"{self.name}:{self.line(opened[-1])}: a bracket that nothing closes")

    def is_greater(self, i: int) -> bool:
        return self.tokens[i].text == ">" and self.is_binary(i)

    def is_binary(self, i: int) -> bool:
        token = self.tokens[i]
        return self.text[token.start - 1].isspace() and self.text[token.end].isspace()

    def opens_template(self, i: int) -> bool:
        before = self.tokens[i - 1]
        return before.text == "template" or (before.kind == "name" and before.end == self.tokens[i].start)

    def line(self, i: int) -> int:
        return bisect.bisect_left(self.lines, self.tokens[i].start) + 1

    def outermost(self, first: int, last: int) -> Iterator[int]:
        """The tokens of [first, last) that stand in none of its brackets; of a bracket the opening sign."""
        i = first
        while i < last:
            yield i
            i = self.partner[i] + 1 if self.partner.get(i, -1) > i else i + 1

    @cached_property
    def members(self) -> dict[str, set[tuple[str, int]]]:
        """What the file names behind a dot, by what stands before it, each with its count of arguments."""
        found = defaultdict(set)
        for i in range(2, len(self.tokens)):
            if self.tokens[i - 1].text == ".":
                found[self.tokens[i - 2].text].add((self.tokens[i].text, self.arguments(i)))
        return found

    def arguments(self, i: int) -> int:
        """How many arguments the name at i is called with; -1: it is not called."""
        if i + 1 == len(self.tokens) or self.tokens[i + 1].text != "(":
            return -1
        begin, end = i + 2, self.partner[i + 1]
        return sum(self.tokens[j].text == "," for j in self.outermost(begin, end)) + (begin < end)

    def words(self, first: int, last: int, edit: tuple[int, int, str] | None = None) -> str:
        """Tokens [first, last) on one line without comments; edit (begin, end, text) replaces some of them."""
        words, i = [], first
        while i < last:
            blank = i > first and self.tokens[i - 1].end < self.tokens[i].start
            if edit and i == edit[0]:
                words.append(" " * blank + edit[2])
                i = max(edit[1], i + 1)
            else:
                words.append(" " * blank + self.tokens[i].text)
                i += 1
        return "".join(words) + (edit[2] if edit and edit[0] == last else "")


def without_conditionals(text: str) -> str:
    """The text with blanks for what stands between an #if and its own #endif: the emulation compiles only some of it."""
    depth, lines = 0, []
    for line in text.splitlines(keepends=True):
        depth += bool(re.match(r"[ \t]*#[ \t]*if", line))
        lines.append(re.sub(r"[^\n]", " ", line) if depth else line)
        depth -= bool(re.match(r"[ \t]*#[ \t]*endif", line))
    return "".join(lines)


def read(path: Path, root: Path) -> Source:
    return Source(str(path.relative_to(root)), path.read_text())


def declared_type(text: str, name: str) -> str:
    """The type with which a name is first declared in a text: "float *"; "auto" where it is not."""
    found = re.search(rf"\b(?!return|const)(\w+)(?:<[^<>]*>)?([&*]*) (?:const )?{re.escape(name)}\b", text)
    return f"{found[1]} {found[2]}" if found else "auto"


def expressions(source: Source) -> list[Expression]:
    """All expressions of all functions that are no constant ones, outer before inner."""
    reader = Reader(source)
    reader.declarations(0, len(source.tokens))
    return reader.found


class Reader:
    """Walks declarations, statements and expressions, and collects the expressions."""

    def __init__(self, source: Source):
        self.source, self.tokens, self.partner = source, source.tokens, source.partner
        self.found: list[Expression] = []
        self.function = Function("", "", "", "")

    def find(self, texts: set[str], first: int, last: int) -> int:
        """The first outermost token of [first, last) that is one of `texts`, else `last`."""
        return next((i for i in self.source.outermost(first, last) if self.tokens[i].text in texts), last)

    def declarations(self, first: int, last: int) -> None:
        """Of a namespace, a struct or a class."""
        while first < last:
            end = self.find({";", "{"}, first, last)
            if end < last and self.tokens[end].text == "{":
                self.declaration(first, end)
                end = self.partner[end]
            first = end + 1

    def declaration(self, first: int, brace: int) -> None:
        words = [self.tokens[i].text for i in self.source.outermost(first, brace)]
        inside = (brace + 1, self.partner[brace])
        parameters = next((i for i in self.source.outermost(first, brace) if self.opens_parameters(i)), None)
        if parameters is None:
            if not {"=", "enum"} & set(words):
                self.declarations(*inside)
        elif "constexpr" not in words:
            name = parameters - 1
            if self.tokens[name].text == ")":  # operator()
                name = self.partner[name] - 1
            self.function = Function(
                self.tokens[name].text,
                self.source.words(first, name),
                self.source.words(parameters + 1, self.partner[parameters]),
                self.source.words(first, inside[1]),
            )
            for i in self.source.outermost(self.partner[parameters] + 1, brace):  # a constructor's initialisers
                self.bracket(i, i, "integer")
            self.statements(*inside)

    def opens_parameters(self, i: int) -> bool:
        before = self.tokens[i - 1]
        if self.tokens[i].text != "(" or before.text in ("__launch_bounds__", "alignas", "operator"):
            return False
        return before.kind == "name" or before.text == ")"

    def statements(self, first: int, last: int) -> None:
        while first < last:
            word = self.tokens[first].text
            if word == "{":
                self.statements(first + 1, self.partner[first])
                first = self.partner[first] + 1
            elif word in ("if", "while", "for"):
                first = self.control(first)
            elif word in ("else", "do"):
                first += 1
            else:
                end = self.find({";"}, first, last)
                if word == "return":
                    self.expression(first + 1, end, self.place_of(self.function.returns))
                elif word not in SKIPPED_STATEMENTS:
                    self.simple_statement(first, end)
                first = end + 1

    def control(self, first: int) -> int:
        """if (...), while (...), for (...): returns what follows."""
        if self.tokens[first + 1].text == "constexpr":
            return self.partner[first + 2] + 1
        begin, end = first + 2, self.partner[first + 1]
        if self.tokens[first].text != "for":
            self.expression(begin, end, "condition" if self.tokens[first].text == "if" else "loop")
            return end + 1
        stop = self.find({";"}, begin, end)
        if stop < end:
            self.simple_statement(begin, stop)
            second_stop = self.find({";"}, stop + 1, end)
            self.expression(stop + 1, second_stop, "loop")
            self.expression(second_stop + 1, end, "step", is_statement=True)
        else:
            self.expression(self.find({":"}, begin, end) + 1, end, "integer")
        return end + 1

    def simple_statement(self, first: int, last: int) -> None:
        name = self.declared_name(first, last)
        if name is None:
            self.expression(first, last, "value", is_statement=True)
            return
        place = self.place_of(self.source.words(first, name))
        i = self.find({"=", "(", "{"}, name, last)
        if i < last and self.tokens[i].text != "=":
            self.expression(i + 1, self.partner[i], "integer")
        while i < last and self.tokens[i].text == "=":
            end = self.find({","}, i, last)
            self.expression(i + 1, end, place)
            i = self.find({"="}, end, last)

    def declared_name(self, first: int, last: int) -> int | None:
        """The name that a statement declares, where it is a declaration: what follows a type and a blank."""
        i = first
        while i < last and self.tokens[i].text in ("const", "typename"):
            i += 1
        if self.tokens[i].kind != "name":
            return None
        i += 1
        while i < last and self.tokens[i].text in ("::", "<", "*", "&", "const"):
            i = 1 + (i + 1 if self.tokens[i].text == "::" else self.partner.get(i, i))
        if i < last and self.tokens[i - 1].end < self.tokens[i].start:
            return i if self.tokens[i].kind == "name" or self.tokens[i].text == "[" else None
        return None

    def place_of(self, kind: str) -> str:
        """The place of an expression that becomes a value of this type."""
        words = re.findall(r"\w+", kind)
        if "*" in kind:
            return "integer"
        if "bool" in words:
            return "condition"
        return "value" if FLOATING & set(words) else "integer"

    def expression(self, first: int, last: int, place: str, is_statement: bool = False) -> None:
        """Records [first, last) and all expressions within."""
        if is_statement and first < last:
            self.add(first, last, place, is_statement)
        begin = first
        for i in [*self.source.outermost(first, last), last]:
            word = self.tokens[i].text if i < last else ","
            if word in ASSIGNMENTS or word in (",", ";", "?", ":"):
                self.run(
                    begin, i, "condition" if word == "?" else place, is_whole=is_statement and i - begin == last - first
                )
                if word in ASSIGNMENTS:
                    place = self.place_after(begin, i, place)
                begin = i + 1

    def place_after(self, first: int, assignment: int, place: str) -> str:
        """The place of what is assigned to [first, assignment)."""
        target = self.tokens[assignment - 1].text
        if target in GEOMETRY:
            return "geometry"
        names = [i for i in self.source.outermost(first, assignment) if self.tokens[i].kind == "name"]
        if place == "step" or not names:
            return "integer"
        return self.place_of(declared_type(self.function.text, target)) if len(names) == 1 else place

    def run(self, first: int, last: int, place: str, is_whole: bool = False) -> None:
        """An expression without commas, assignments and choices, which may be all of a statement that stands already."""
        if first >= last:
            return
        if not is_whole:
            self.add(first, last, place)
        for i in self.source.outermost(first, last):
            self.bracket(i, first, place)

    def add(self, first: int, last: int, place: str, is_statement: bool = False) -> None:
        tokens = self.tokens[first:last]
        is_designator = tokens[0].text == "."
        has_lambda = any(self.opens_lambda(i) for i in range(first, last))
        if not is_designator and not has_lambda and tokens[0].text != "{":
            self.found.append(Expression(first, last, place, self.function, is_statement))

    def opens_lambda(self, i: int) -> bool:
        before = self.tokens[i - 1]
        return self.tokens[i].text == "[" and before.kind != "name" and before.text not in (")", "]")

    def bracket(self, i: int, first: int, place: str) -> None:
        """What stands in the bracket that opens at i, if one does."""
        word, begin, end = self.tokens[i].text, i + 1, self.partner.get(i, -1)
        before = self.tokens[i - 1].text
        if end < i or word == "<" or self.opens_lambda(i):
            return
        if word == "[":
            self.expression(begin, end, "subscript")
        elif word == "{" and (before == ")" or (before == "]" and self.opens_lambda(self.partner[i - 1]))):
            self.lambda_body(i)
        elif word == "{":
            self.expression(begin, end, place)
        elif before == "]" and self.opens_lambda(self.partner[i - 1]):  # its parameters
            return
        elif i == first or before not in SKIPPED_CALLS:
            self.expression(begin, end, self.place_of_arguments(i, first, place))

    def lambda_body(self, brace: int) -> None:
        """A lambda knows its function's parameters where it captures all."""
        captures = self.partner[brace - 1]
        if self.tokens[brace - 1].text == ")":
            captures = self.partner[captures - 1]
        outer = self.function
        if self.tokens[captures + 1].text != "&" or self.tokens[captures + 2].text != "]":
            self.function = replace(outer, parameters="")
        self.statements(brace + 1, self.partner[brace])
        self.function = outer

    def place_of_arguments(self, i: int, first: int, place: str) -> str:
        before = self.tokens[i - 1]
        is_call = i > first and (before.kind == "name" or before.text == ">")
        return "integer" if is_call and before.text not in SAME_PLACE and place != "geometry" else place
