"""The rules that udocker.py is built by: each is a function from source text to complaints, with a sample that it
must catch."""
import ast
import functools
import re
import subprocess
import sys

import pytest

from messages import messages
from program import CHECKOUT

SOURCE = (CHECKOUT / "udocker.py").read_text(encoding="utf-8")
BANNER = re.compile(r"^# =+\n# (\d+)  (.+)\n# =+$", re.MULTILINE)
START_MODULES = {"errno", "os", "stat", "sys"}
# What a section may use, besides itself: its errors and words come from 1
MAY_USE = {
    1: {1}, 2: {1}, 3: {1}, 4: {1, 3}, 5: {1, 3}, 6: {1, 3, 4, 5}, 7: {1, 3, 4}, 8: {1, 3, 4}, 9: {1, 3, 4, 5, 6, 7, 8},
    10: {1, 3, 4}, 11: {1, 3, 4, 7, 9, 10}, 12: set(range(1, 12)), 13: {1}, 14: {1, 2, 4, 11, 12, 13, 3},
    15: {1, 2, 12, 13, 14},
}
# Names that only some sections may mention
DOORS = {
    "subprocess": {3, 5}, "fcntl": {3, 7}, "tempfile": {3, 7, 8}, "shutil": {3, 7, 8}, "pycurl": {5}, "tarfile": {8},
    "os.environ": {15}, "sys.exit": {15}, "sys.argv": {15}, "print": set(), "sys.stdout": {1}, "sys.stderr": {1},
    "sys.stdin": {1}, "settings": {12, 15},
}
MAX_FUNCTION, MAX_CLASS = 50, 250


@functools.lru_cache(maxsize=None)
def parsed(source):
    """The tree of a text, which nobody changes."""
    return ast.parse(source)


def sections(source):
    """{number: (title, first line)} by the banners."""
    return {int(match.group(1)): (match.group(2), source.count("\n", 0, match.start()) + 1)
            for match in BANNER.finditer(source)}


def section_of(source):
    """A function from line to number of section, 0 for the prologue."""
    starts = sorted((line, number) for number, (_, line) in sections(source).items())

    def find(line):
        return max([(start, number) for start, number in starts if start <= line], default=(0, 0))[1]
    return find


def definitions(tree):
    """{name: line} of what the module defines: classes, functions and values."""
    places = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            places.setdefault(node.name, node.lineno)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    places.setdefault(target.id, node.lineno)
    return places


def mentions(tree):
    """Each (name, line) that is mentioned, with attributes of modules as os.environ."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name):
                yield "%s.%s" % (node.value.id, node.attr), node.lineno
            yield node.attr, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno


def last_line(node):
    return max(getattr(inner, "lineno", 0) for inner in ast.walk(node))


def contents_differ(source):
    """The contents list of the docstring and the banners are the same list."""
    docstring = ast.get_docstring(parsed(source), clean=False) or ""
    listed = re.findall(r"^    (\d+)\s+(.+?)  ", docstring, re.MULTILINE)
    banners = [(str(number), title) for number, (title, _) in sorted(sections(source).items())]
    return [] if listed == banners else ["contents %s, banners %s" % (listed, banners)]


def runs_down(source):
    """A name is used only below its definition."""
    tree = parsed(source)
    places = definitions(tree)
    return ["line %d uses %s of line %d" % (line, name, places[name])
            for node, last in ((node, last_line(node)) for node in tree.body
                               if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
            for name, line in ((name.id, name.lineno) for name in ast.walk(node) if isinstance(name, ast.Name))
            if places.get(name, 0) > last]


def crosses_layers(source):
    """A section uses only the sections that it may."""
    tree, find = parsed(source), section_of(source)
    places = definitions(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in places:
            own, other = find(node.lineno), find(places[node.id])
            if own and other and own != other and other not in MAY_USE[own]:
                found.append("line %d: section %d uses %s of section %d" % (node.lineno, own, node.id, other))
    return found


def opens_doors(source):
    """Processes, files, the environment and the streams are each touched in their own sections alone."""
    find = section_of(source)
    found = ["line %d: %s" % (line, name) for name, line in mentions(parsed(source))
             if name in DOORS and find(line) not in DOORS[name] | {2 if name == "settings" else 0}]
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            # By the names of the classes: Str is gone from newer Pythons, and 3.6 writes no Constant
            modes = [ast.literal_eval(word) for word in node.args[1:2] if type(word).__name__ in ("Str", "Constant")]
            if any(set("wax+") & set(str(mode)) for mode in modes) and find(node.lineno) not in (3, 7, 8):
                found.append("line %d: open for writing" % node.lineno)
    return found


def imports_at_start(source):
    """Nothing but the quick modules is imported before it is needed."""
    names = [alias.name for node in parsed(source).body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in parsed(source).body if isinstance(node, ast.ImportFrom)]
    return sorted(set(names) - START_MODULES)


def grows_too_long(source):
    """Functions and classes stay short enough to be read."""
    found = []
    for node in ast.walk(parsed(source)):
        limit = {ast.FunctionDef: MAX_FUNCTION, ast.ClassDef: MAX_CLASS}.get(type(node))
        if limit and last_line(node) - node.lineno + 1 > limit:
            found.append("%s: %d lines" % (node.name, last_line(node) - node.lineno + 1))
    return found


def answers_without_being_asked(source):
    """True and False come only from functions whose name asks."""
    found = []
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef) and not re.match(r"_?(is|has|can|needs|accepts)_|__", node.name):
            values = [getattr(inner.value, "value", None) for inner in ast.walk(node) if isinstance(inner, ast.Return)]
            if any(value is True or value is False for value in values):
                found.append("line %d: %s" % (node.lineno, node.name))
    return found


def lacks_docstring(source):
    """What is public says what it is for."""
    tree = parsed(source)
    return [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and not node.name.startswith("_") and not ast.get_docstring(node)]


def leaves_its_reader_alone(source):
    """An error that the user can do something about says what; a mere OSError's own words speak for themselves."""
    return ["line %d: %s(%r)" % (line, kind, message) for line, kind, message, hint in messages(source)
            if kind in ("EngineError", "EngineRefusedError", "ConflictError", "ProtectedError", "AuthError")
            and not hint and not message.startswith("...") and not message.endswith(": %s")]


def speaks_otherwise(source):
    """A message is no sentence: no capital at its beginning, unless it is a name, and no full stop."""
    return ["line %d: %s" % (line, text) for line, kind, message, hint in messages(source) if kind != "ValueError"
            for text in (message, hint) if text.endswith(".") and not text.endswith("...")
            or re.match(r"[A-Z][a-z]+ ", text)]


def banner(number, title):
    return "# ====\n# %d  %s\n# ====\n" % (number, title)


RULES = {
    contents_differ: '"""Contents:\n\n    1   Errors and messages        words\n"""\n' + banner(1, "Something else"),
    runs_down: "def first():\n    return second()\n\n\ndef second():\n    return 1\n",
    crosses_layers: (banner(5, "Transport") + "class Thing:\n    pass\n"
                     + banner(13, "Command line") + "thing = Thing()\n"),
    opens_doors: banner(6, "Registry") + "import subprocess\nprint(1)\nopen('x', 'w')\n",
    imports_at_start: "import os\nimport json\n",
    grows_too_long: "def long():\n" + "    pass\n" * MAX_FUNCTION,
    answers_without_being_asked: "def remove():\n    return True\n",
    lacks_docstring: "def public():\n    pass\n",
    leaves_its_reader_alone: "raise ConflictError('%s is taken' % name)\n",
    speaks_otherwise: "raise ToolError('The tool is missing.')\n",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_program_follows(rule):
    assert rule(SOURCE) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_catches_its_sample(rule):
    assert rule(RULES[rule])


def test_modules_after_import():
    """What importing udocker brings in, besides what a bare Python has."""
    code = "import sys; bare = set(sys.modules); import udocker; print(sorted(set(sys.modules) - bare))"
    out = subprocess.check_output([sys.executable, "-c", code], cwd=str(CHECKOUT)).decode()
    assert set(ast.literal_eval(out)) <= START_MODULES | {"udocker"}


@pytest.mark.skipif(sys.version_info < (3, 8), reason="this Python's parser knows one grammar only")
def test_grammar_of_python_3_6():
    ast.parse(SOURCE, feature_version=(3, 6))


def test_readme_tables_are_those_of_the_declarations():
    import runpy
    generator = runpy.run_path(str(CHECKOUT / "tests" / "update-readme"))
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert generator["updated"](text) == text


def test_every_setting_and_error_is_used():
    """No declaration without a reader."""
    import udocker
    names = {name for name, _ in mentions(parsed(SOURCE))} | set(re.findall(r'"([a-z_]+)"', SOURCE))
    assert set(udocker.SETTINGS) <= names
