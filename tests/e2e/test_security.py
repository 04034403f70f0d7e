"""docs/SECURITY.md is a list of promises: each has a number, and names tests that exist."""

import re

import pytest

from harness import TREE

TEXT = (TREE / "docs/SECURITY.md").read_text()
ITEMS = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^## |\Z)", TEXT, re.M | re.S)


def named_tests(item):
    """What stands behind "Tests:" at the end of a promise."""
    found = re.search(r"\*Tests:\* (.*?)(?:\n\n|\Z)", item, re.S)
    return re.findall(r"`([^`]+)`", found.group(1)) if found else []


def exists(name):
    if name.endswith(".txt"):
        return any((TREE / "tests/dialogue").glob(name))
    if name.endswith(".sh"):
        return (TREE / "tests" / name).is_file()
    file, _, test = name.partition("::")
    path = TREE / ("tests/unit" if file.endswith(".c") else "tests/e2e") / file
    if not path.is_file():
        return False
    form = rf"^static void {test}\(" if file.endswith(".c") else rf"^def {test}\("
    return not test or re.search(form, path.read_text(), re.M) is not None


def test_numbers_ascend():
    assert [int(number) for number, _ in ITEMS] == list(range(1, len(ITEMS) + 1)) and len(ITEMS) > 50


@pytest.mark.parametrize("number, item", ITEMS, ids=[number for number, _ in ITEMS])
def test_promise_names_its_tests(number, item):
    names = named_tests(item)
    assert names, f"promise {number} names no test"
    missing = [name for name in names if not exists(name)]
    assert not missing, f"promise {number} names tests that do not exist: {missing}"


def test_a_wrong_name_would_be_seen():
    assert not exists("test_security.py::test_that_is_not_there")
    assert not exists("test_io.c::test_that_is_not_there") and not exists("nothing-*.txt")
