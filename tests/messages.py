#!/usr/bin/env python3
"""Prints every error that udocker can end with, by section: kind, message, hint; to be read in one go.

Placeholders stand as they do in the source.
"""
import ast
import re
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "udocker.py"


def text_of(node):
    """A string expression as its reader sees it, with an ellipsis for what is only known when it happens."""
    if node is None:
        return ""
    if type(node).__name__ in ("Str", "Constant"):
        return str(ast.literal_eval(node))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
        right = text_of(node.right) if isinstance(node.op, ast.Add) else ""
        return text_of(node.left) + right
    if isinstance(node, ast.BoolOp):
        return " | ".join(filter(None, map(text_of, node.values)))
    if isinstance(node, ast.IfExp):
        return "%s | %s" % (text_of(node.body), text_of(node.orelse))
    if isinstance(node, ast.Name):
        return node.id if node.id.isupper() else "..."
    return "..."


def messages(source):
    """(line, kind, message, hint) of each Error that is made."""
    found = []
    for node in ast.walk(ast.parse(source)):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and bool(node.args)
        if is_call and node.func.id.endswith("Error"):
            hints = node.args[1:] + [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
            found.append((node.lineno, node.func.id, text_of(node.args[0]), text_of(hints[0] if hints else None)))
    return sorted(found)


def main():
    source = SOURCE.read_text(encoding="utf-8")
    banners = {source.count("\n", 0, match.start()): match.group(1)
               for match in re.finditer(r"^# \d+  (.+)$", source, re.MULTILINE)}
    for line, kind, message, hint in messages(source):
        for place in [place for place in banners if place < line]:
            print("\n%s\n" % banners.pop(place))
        print("%6d  %-20s %s%s" % (line, kind, message, "\n%s-> %s" % (" " * 29, hint) if hint else ""))


if __name__ == "__main__":
    sys.exit(main())
