"""The faults: a table of rules, each an edit of an expression and the class that the fault belongs to.

A rule is asked about every expression that tests/mutants/sites.py finds and answers with edits (first token, last token,
replacement). Where an edit stands decides its class, where the rule does not say it.

What no rule makes, because it would be an equivalent mutant wherever it is put: blocks that have nothing to do (each
kernel's guard makes them harmless), a fast path not taken, another of several right schedules (how many threads or
blocks share the work), and faults in the checks of limits that no test can reach (NO_FAULTS, sites.SKIPPED_CALLS). The
kernels have no atomics to put faults in.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .sites import Expression, Source, declared_type, expressions

CLASSES = (
    "arithmetic_and_comparison",
    "indices",
    "synchronisation",
    "tails_and_masks",
    "gradient_terms",
    "accumulate_against_overwrite",
    "launch_geometry",
    "atomics_and_memory_space",
)
ARITHMETIC, INDICES, SYNCHRONISATION, TAILS, GRADIENT, ACCUMULATE, GEOMETRY, MEMORY = CLASSES

OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "/", "^": "|", ">>": "<<"}
COMPARISONS = {"==": "!=", "!=": "==", "&&": "||", "||": "&&", "<": ">", ">": "<", "<=": ">", ">=": "<"}
FUNCTIONS = {"min": "max", "max": "min", "sqrtf": "fabsf", "rsqrtf": "sqrtf", "expf": "fabsf", "logf": "fabsf"}
ASSIGNMENTS = {"-=": "+=", "*=": "/=", "/=": "*="}
WIDER = {"<": "<=", "<=": "- 1 <=", ">": ">=", ">=": "+ 1 >="}
NARROWER = {"<": "+ 1 <", "<=": "<", ">": "- 1 >", ">=": ">"}

# Names that are mistaken for each other, as a member (`tap.r`) and as neighbours in a call (`at(p, q)`).
TWINS = (
    ("row", "column"), ("rows", "columns"), ("h", "w"), ("p", "q"), ("r", "s"), ("m", "n"), ("a", "b"),
    ("lda", "ldb"), ("begin", "end"), ("stride_h", "stride_w"), ("a_strides", "b_strides"), ("p_tiles", "q_tiles"),
    ("p_extent", "q_extent"), ("below", "above"), ("inputs", "outputs"), ("reduced", "inner"), ("outer", "inner"),
    ("a_adjacent", "b_adjacent"), ("chunk", "chunks"), ("mean", "squares"), ("dy", "dy_z"),
    ("first_row", "first_column"), ("row_windows", "column_windows"), ("extents", "a_strides"), ("step", "row"),
    ("lr_multiplier", "decay_multiplier"), ("lr", "grad_scale"), ("momentum", "weight_decay"),
)  # fmt: skip
PARTNERS = {name: [b if name == a else a for a, b in TWINS if name in (a, b)] for pair in TWINS for name in pair}

BUILT_INS = {"threadIdx", "blockIdx", "blockDim", "gridDim"}

IS_GRADIENT = re.compile("backward|gradient|Gradient|ratio|update|col2im|follow|write_gradient")
IS_GEOMETRY = re.compile(
    "blocks|grid|config|spots|tiling|plan|pixels_of_runs|launch_pass|forward_shape|backward_\\w*shape"
)
NO_FAULTS = re.compile(
    "count_(?:parts|tiles|chunk_rows|quads|threads|lanes|blocks)|choose_schedule|transposed_axis|next_power_of_two|check_\\w+"
)
FAST_PATH = re.compile("fours|quads|adjacent|aligned|whole|in_one_row|turned|has_runs_of|access_of|uintptr_t")
SYNCHRONISERS = re.compile(r"__sync\w+|\w*(?:wait|arrive|fence|commit)\w*")
STORES = re.compile(r"(?:store|write)_\w+|stage")

Edit = tuple[int, int, str]


@dataclass(frozen=True)
class Mutant:
    """A fault that stands beside the original expression, tokens [first, last) of a source."""

    kind: str  # one of CLASSES
    rule: str
    file: str
    line: int
    function: str
    original: str
    faulty: str
    at: Expression


# What a rule says for "by where it stands".
BY_PLACE = ""


def class_by_place(at: Expression) -> str:
    if at.place == "geometry" or IS_GEOMETRY.search(at.function.name):
        return GEOMETRY
    if at.place in ("integer", "subscript", "step"):
        return INDICES
    return ARITHMETIC


def signs(source: Source, at: Expression, table: dict[str, str]) -> Iterator[Edit]:
    """The binary operators of a table, each replaced."""
    for i in source.outermost(at.first, at.last):
        if source.tokens[i].text in table and source.is_binary(i) and i > at.first:
            yield i, i + 1, table[source.tokens[i].text]


def operator(source: Source, at: Expression) -> Iterator[Edit]:
    if is_gradient(source, at) or is_fast_path(source, at):
        return
    for edit in signs(source, at, OPERATORS):
        if edit[2] != "+" or not has_address(source, at):  # two addresses have a distance, but no sum
            yield edit


def comparison(source: Source, at: Expression) -> Iterator[Edit]:
    if not is_accumulate(source, at):
        yield from signs(source, at, COMPARISONS)


def other_function(source: Source, at: Expression) -> Iterator[Edit]:
    for i in source.outermost(at.first, at.last - 1):
        if source.tokens[i].text in FUNCTIONS and source.tokens[i + 1].text == "(":
            yield i, i + 1, FUNCTIONS[source.tokens[i].text]


def other_assignment(source: Source, at: Expression) -> Iterator[Edit]:
    yield from signs(source, at, ASSIGNMENTS)


def negated(source: Source, at: Expression) -> Iterator[Edit]:
    if source.tokens[at.first].text == "-" and at.place == "value" and not is_gradient(source, at):
        yield at.first, at.first + 1, ""


def number(source: Source, at: Expression) -> Iterator[Edit]:
    """0.0f for 1.0f, 1.0f for any other."""
    for i in source.outermost(at.first, at.last):
        if source.tokens[i].kind == "number" and source.tokens[i].text.endswith("f"):
            yield i, i + 1, "0.0f" if source.tokens[i].text == "1.0f" else "1.0f"


def off_by_one(source: Source, at: Expression) -> Iterator[Edit]:
    """In a subscript, and in an integer that something is computed for."""
    has_operator = any(source.is_binary(i) for i in source.outermost(at.first, at.last) if i > at.first)
    if at.place == "subscript" or (at.place == "integer" and has_operator and not has_address(source, at)):
        yield at.last, at.last, " + 1"


def other_member(source: Source, at: Expression) -> Iterator[Edit]:
    """threadIdx.y for threadIdx.x, shape.w for shape.h, .b_strides for .a_strides, .columns(i) for .rows(i)."""
    for i in source.outermost(at.first, at.last):
        if i < at.first + 2:
            continue
        base, dot, member = (token.text for token in source.tokens[i - 2 : i + 1])
        if dot == "." and base in BUILT_INS:
            yield i, i + 1, "y" if member == "x" else "x"
        elif dot == ".":
            for partner in PARTNERS.get(member, ()):
                is_seen = (partner, source.arguments(i)) in source.members[base]
                if is_seen and not (i + 1 == at.last and differ_in_type(source, member, partner)):
                    yield i, i + 1, partner


def swapped_arguments(source: Source, at: Expression) -> Iterator[Edit]:
    """f(q, p) for f(p, q), but for arrays of different lengths, which the compiler would refuse."""
    lengths = dict(re.findall(r"\(&(\w+)\)\[(\w+)\]", at.function.parameters))
    for opening in source.outermost(at.first, at.last):
        for i in range(opening, source.partner.get(opening, 0) - 3):
            before, first, comma, second, behind = (token.text for token in source.tokens[i : i + 5])
            is_pair = before in "(,{" and comma == "," and behind in "),}" and second in PARTNERS.get(first, ())
            if is_pair and lengths.get(first) == lengths.get(second):
                yield i + 1, i + 4, f"{second}, {first}"


def barrier(source: Source, at: Expression) -> Iterator[Edit]:
    """A barrier, wait, arrival or fence dropped, for a warp alone, and without the first thread."""
    if not SYNCHRONISERS.fullmatch(source.tokens[at.first].text):
        return
    yield at.first, at.last, "void(0)"
    if source.tokens[at.first].text == "__syncthreads":
        yield at.first, at.last, "__syncwarp()"
        yield at.first, at.last, "threadIdx.x + threadIdx.y > 0 ? __syncthreads() : void(0)"


def shuffle(source: Source, at: Expression) -> Iterator[Edit]:
    """A shuffle dropped, of half the warp, over half the distance, in one direction."""
    for i in source.outermost(at.first, at.last):
        if source.tokens[i].text == "__shfl_xor_sync":
            mask = i + 2
            value = source.partner[i + 1] - 3
            yield i, source.partner[i + 1] + 1, source.tokens[value].text
            yield i, i + 1, "__shfl_down_sync"
            yield mask, mask + 1, source.tokens[mask].text + " >> 16"
            yield value + 2, value + 3, source.tokens[value + 2].text + " / 2"


def phase(source: Source, at: Expression) -> Iterator[Edit]:
    """The stage of a double buffer that does not change."""
    if source.tokens[at.first].text in ("stage", "phase", "parity") and source.tokens[at.first + 1].text == "=":
        yield at.first, at.last, "void(0)"


def wider_bound(source: Source, at: Expression) -> Iterator[Edit]:
    if is_bound(source, at):
        yield from signs(source, at, WIDER)


def narrower_bound(source: Source, at: Expression) -> Iterator[Edit]:
    """A loop that steps by four stops one step, not one, too early."""
    if is_bound(source, at) and not is_fast_path(source, at):
        yield from signs(source, at, NARROWER | {"<": f"+ {step_of(source, at)} <"})


def dropped_guard(source: Source, at: Expression) -> Iterator[Edit]:
    """A guard that lets all pass, one that lets none pass, and one without one of its parts."""
    if at.place == "loop" or not is_bound(source, at):
        return
    if not (is_fast_path(source, at) and "!=" in source.words(at.first, at.last)):
        yield at.first, at.last, "true"
    if not (is_fast_path(source, at) and "!=" not in source.words(at.first, at.last)):
        yield at.first, at.last, "false"
    for i in source.outermost(at.first, at.last):
        if source.tokens[i].text in ("&&", "||"):
            yield i, at.last, ""
            yield at.first, i + 1, ""


def inverted_mask(source: Source, at: Expression) -> Iterator[Edit]:
    if at.place == "condition" and is_bound(source, at):
        yield at.first, at.last, f"!({source.words(at.first, at.last)})"


def term(source: Source, at: Expression) -> Iterator[Edit]:
    """A summand of a gradient dropped, or, where it has one alone, a factor or the sign."""
    if not is_gradient(source, at):
        return
    tokens = list(source.outermost(at.first, at.last))
    for table in ({"+", "-"}, {"*", "/"}):
        cuts = [i for i in tokens if source.tokens[i].text in table and source.is_binary(i) and i > at.first]
        for cut, end in itertools.pairwise([*cuts, at.last]):
            yield cut, end, ""
        if cuts:
            yield (
                at.first,
                cuts[0] + (source.tokens[cuts[0]].text in "+*"),
                "1.0f" * (source.tokens[cuts[0]].text == "/"),
            )
            return
    if source.tokens[at.first].text == "-":
        yield at.first, at.first + 1, ""


def accumulated(source: Source, at: Expression) -> Iterator[Edit]:
    """What should be added overwrites, what should overwrite is added."""
    if is_accumulate(source, at):
        yield at.first, at.last, "true"
        yield at.first, at.last, "false"
    elif source.words(at.first, at.last) in ("Accumulate::add", "Accumulate::overwrite"):
        yield at.last - 1, at.last, "overwrite" if source.tokens[at.last - 1].text == "add" else "add"


def overwritten_sum(source: Source, at: Expression) -> Iterator[Edit]:
    """sum = x for sum += x, but for what the function compares with nullptr: an address is not a number."""
    is_pointer = f"{source.words(at.first, at.first + 3)} != nullptr" in at.function.text
    if at.place != "step" and not is_pointer and not has_address(source, at):
        yield from signs(source, at, {"+=": "="})


def grid(source: Source, at: Expression) -> Iterator[Edit]:
    """A block too few, the first block alone, half the threads; where a block has a row of its own, one too many."""
    if at.place != "geometry" or source.tokens[at.first].text == "sizeof":
        return
    field = enclosing_field(source, at)
    words = source.words(at.first, at.last)
    if source.tokens[at.first].text == "dim3" or "tile" in words or words in ("grid", "0"):
        return
    if field == "grid":
        yield at.first, at.last, f"unsigned({words}) - 1"
        if words in ("unsigned(rows)", "1"):
            yield at.first, at.last, f"unsigned({words}) + 1"
        else:
            yield at.first, at.last, "1u"
    if field == "block":
        yield at.first, at.last, f"unsigned({words}) / 2"


def shared_bytes(source: Source, at: Expression) -> Iterator[Edit]:
    if at.place == "geometry" and enclosing_field(source, at) == "shared_bytes":
        yield at.first, at.last, f"size_t({source.words(at.first, at.last)}) - 4"


def swapped_dimensions(source: Source, at: Expression) -> Iterator[Edit]:
    """dim3(b, a) for dim3(a, b)."""
    for i in source.outermost(at.first, at.last - 1):
        if source.tokens[i].text == "dim3" and source.tokens[i + 1].text == "(":
            begin, end = i + 2, source.partner[i + 1]
            commas = [j for j in source.outermost(begin, end) if source.tokens[j].text == ","]
            if commas:
                stop = commas[1] if len(commas) > 1 else end
                first, second = source.words(begin, commas[0]), source.words(commas[0] + 1, stop)
                yield begin, stop, f"{second}, {first}"


def floor_division(source: Source, at: Expression) -> Iterator[Edit]:
    """The last, incomplete block forgotten."""
    for i in source.outermost(at.first, at.last - 1):
        opening = source.partner.get(i + 1, i) + 1 if source.tokens[i + 1].text == "<" else i + 1
        if source.tokens[i].text == "ceil_div" and source.tokens[opening].text == "(":
            end = source.partner[opening]
            comma = next(j for j in source.outermost(opening + 1, end) if source.tokens[j].text == ",")
            a, b = source.words(opening + 1, comma), source.words(comma + 1, end)
            yield i, end + 1, f"(({a}) / ({b}))"


def empty_launch(source: Source, at: Expression) -> Iterator[Edit]:
    """The early return where there is nothing to do, dropped."""
    behind = [token.text for token in source.tokens[at.last : at.last + 3]]
    if re.search(r" == 0$", source.words(at.first, at.last)) and behind == [")", "return", ";"]:
        yield at.first, at.last, "false"


def private_memory(source: Source, at: Expression) -> Iterator[Edit]:
    """Memory of each thread's own where the block should share it."""
    for i in source.outermost(at.first, at.last):
        if source.tokens[i].text == "shared_memory":
            yield i, i + 1, "mutants::private_memory"


def other_buffer(source: Source, at: Expression) -> Iterator[Edit]:
    """The next array of the same type among the function's parameters."""
    arrays = re.findall(r"(const \w+\*|Vec4&?|float\*) (\w+)", at.function.parameters)
    for i in source.outermost(at.first, at.last):
        token, before = source.tokens[i], source.tokens[i - 1].text
        kind = next((kind for kind, name in arrays if name == token.text), None)
        others = [name for other, name in arrays if other == kind]
        if len(others) > 1 and before not in (".", "->") and not is_assigned(source, i):
            yield i, i + 1, others[(others.index(token.text) + 1) % len(others)]


def dropped_store(source: Source, at: Expression) -> Iterator[Edit]:
    if STORES.fullmatch(source.tokens[at.first].text):
        yield at.first, at.last, "void(0)"


OF_EXPRESSIONS = (
    (operator, BY_PLACE),
    (comparison, BY_PLACE),
    (other_function, BY_PLACE),
    (negated, ARITHMETIC),
    (number, ARITHMETIC),
    (off_by_one, INDICES),
    (other_member, INDICES),
    (swapped_arguments, INDICES),
    (shuffle, SYNCHRONISATION),
    (wider_bound, TAILS),
    (narrower_bound, TAILS),
    (dropped_guard, TAILS),
    (inverted_mask, TAILS),
    (term, GRADIENT),
    (accumulated, ACCUMULATE),
    (grid, GEOMETRY),
    (shared_bytes, GEOMETRY),
    (swapped_dimensions, GEOMETRY),
    (floor_division, BY_PLACE),
    (empty_launch, GEOMETRY),
    (private_memory, MEMORY),
    (other_buffer, MEMORY),
)
OF_STATEMENTS = (
    (other_assignment, BY_PLACE),
    (swapped_arguments, INDICES),
    (barrier, SYNCHRONISATION),
    (phase, SYNCHRONISATION),
    (overwritten_sum, ACCUMULATE),
    (dropped_store, MEMORY),
)


def is_gradient(source: Source, at: Expression) -> bool:
    return at.place == "value" and bool(IS_GRADIENT.search(at.function.name))


def is_accumulate(source: Source, at: Expression) -> bool:
    return source.words(at.first, at.last).endswith(" == Accumulate::add")


def is_bound(source: Source, at: Expression) -> bool:
    """Whether a condition is one of extents and indices, not of data or null pointers."""
    words = source.words(at.first, at.last)
    is_of_data = re.search(r"\d\.\d|values\[|[ab]\.value|_nan\b|\ba [<>] b", words)
    is_equality = re.fullmatch(r"[^<>]* [!=]= [^<>]*", words) or has_address(source, at)
    return at.place in ("condition", "loop") and not is_of_data and not is_equality


def is_fast_path(source: Source, at: Expression) -> bool:
    """Whether a condition only chooses the faster of two ways to one result: not to take it is no fault."""
    words = f"{source.words(at.first, at.last)} {at.function.name}"
    return at.place == "condition" and bool(FAST_PATH.search(words))


def has_address(source: Source, at: Expression) -> bool:
    """Whether an expression computes with a pointer."""
    first = source.tokens[at.first].text
    return first in ("&", "*") or first.endswith("_") or "*" in declared_type(at.function.text, first)


def differ_in_type(source: Source, member: str, other: str) -> bool:
    """Whether a file declares two members with different template types: `Slice<A::along> a; Slice<B::along> b;`."""
    types = [re.findall(rf"^ +(\w+<.*>) {name};", source.text, re.MULTILINE) for name in (member, other)]
    return types[0] != types[1]


def step_of(source: Source, at: Expression) -> str:
    """How far a loop steps whose condition this is, where it steps by a number; else 1."""
    behind = [token.text for token in source.tokens[at.last : at.last + 5]]
    by_a_number = re.fullmatch(r"; \w+ \+= (\d+) \)", " ".join(behind))
    return by_a_number[1] if by_a_number else "1"


def is_assigned(source: Source, i: int) -> bool:
    return source.tokens[i + 1].text in ("=", "+=")


def enclosing_field(source: Source, at: Expression) -> str:
    """The field of a launch's configuration that an expression is the value of: "grid" in {.grid = ...}."""
    return source.tokens[at.first - 2].text if source.tokens[at.first - 1].text == "=" else ""


def mutants(source: Source) -> Iterator[Mutant]:
    """Every fault that the rules make of a file; no two of them with the same text at the same place."""
    seen = set()
    for at in expressions(source):
        if NO_FAULTS.search(at.function.name):
            continue
        original = source.words(at.first, at.last)
        for rule, kind in OF_STATEMENTS if at.is_statement else OF_EXPRESSIONS:
            for edit in rule(source, at):
                faulty = source.words(at.first, at.last, edit).strip()
                if faulty != original and (at.first, at.last, faulty) not in seen:
                    seen.add((at.first, at.last, faulty))
                    line = source.line(min(edit[0], at.last - 1))
                    yield Mutant(
                        kind or class_by_place(at),
                        rule.__name__,
                        source.name,
                        line,
                        at.function.name,
                        original,
                        faulty,
                        at,
                    )
