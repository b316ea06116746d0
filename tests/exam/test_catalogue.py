"""The exam as its sources hold it: the counts that README.md states, and that no pattern outweighs the others."""

import re
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
QUESTION = re.compile(r'^(RACY|RACE_FREE)\((\w+), \w+, (?:\w+|dim3\([^)]*\)),\s+"([^"]+)"\)', re.MULTILINE)
BY_HAND = re.compile(r'add\(\{FAMILY, "(\w+)", (true|false), "([^"]+)"')  # a question of more than one kernel


def families():
    """{family: [(racy, name, why), ...]}"""
    found = {}
    for path in sorted(FOLDER.glob("*.cu")):
        source = path.read_text()
        found[path.stem] = [(kind == "RACY", name, why) for kind, name, why in QUESTION.findall(source)]
        found[path.stem] += [(racy == "true", name, why) for name, racy, why in BY_HAND.findall(source)]
    return found


def stated():
    """{family: (racy, race-free)} from the table of README.md"""
    rows = re.findall(r"^\| `?(\w+)`? \|.*\| (\d+) \| (\d+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    return {family: (int(racy), int(free)) for family, racy, free in rows}


def test_readme_states_the_counts():
    counts = {family: Counter(racy for racy, _, _ in questions) for family, questions in families().items()}
    expected = {family: (count[True], count[False]) for family, count in counts.items()}
    expected["total"] = tuple(map(sum, zip(*expected.values(), strict=True)))
    assert stated() == expected


def test_weights():
    sizes = {family: len(questions) for family, questions in families().items()}
    assert len(sizes) >= 12
    assert max(sizes.values()) <= 0.15 * sum(sizes.values())
    assert stated()["total"][0] >= 120
    assert stated()["total"][1] >= 80


@pytest.mark.parametrize("family", families())
def test_family(family):
    source = (FOLDER / f"{family}.cu").read_text()
    assert f'FAMILY[] = "{family}"' in source
    questions = families()[family]
    assert len(questions) == len(re.findall(r"^RAC\w+\(|add\(\{", source, re.MULTILINE))  # none escapes the pattern
    assert {racy for racy, _, _ in questions} == {True, False}
    names = [name for _, name, _ in questions]
    assert len(set(names)) == len(names)
