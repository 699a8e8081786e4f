#!/usr/bin/env python3
"""Writes docs/errors.md from what `kinfold explain` says about every code.

    errors_doc.py KINFOLD            # writes docs/errors.md
    errors_doc.py KINFOLD --check    # exit 1 if docs/errors.md says something else

Codes are those of src/diagnostic/code.rs. Their texts are changed there, never in docs/errors.md.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CODES = ROOT / "src/diagnostic/code.rs"
DOCUMENT = ROOT / "docs/errors.md"

GROUPS = {
    "K00": "Project and files",
    "K01": "Shape of YAML",
    "K02": "Names and references",
    "K03": "SQL",
    "K04": "Graph",
    "K05": "Data and sources",
    "K06": "Identity",
    "K07": "Profile and audience",
    "K08": "Sync",
    "K09": "Not in this version",
    "K10": "Privacy",
}

HEAD = """\
# Errors

<!-- Made by scripts/errors_doc.py from src/diagnostic/code.rs. Change the texts there. -->

What is wrong in a project's files, or in the data that they name, is said with a code, a place and, where one is
known, a next step. A code never changes its meaning. `kinfold explain K0102` prints what stands here.

`kinfold check` says everything that it finds at once. Errors stop a run before it begins, and the tables that were
committed last stay as they are. Warnings stop nothing.
"""

EXPLAINED = re.compile(r"(?P<code>K\d{4}): (?P<title>[^\n]*)\n\n(?P<cause>.*?)\n\nexample:\n(?P<example>.*?)\n\nfix: (?P<fix>.*)\n", re.S)


def codes():
    """Every code, in the order of the table."""
    return re.findall(r'^    \w+ "(K\d{4})" \{', CODES.read_text(), re.M)


def explain(kinfold, code):
    done = subprocess.run([kinfold, "explain", code], capture_output=True, text=True, check=True)
    found = EXPLAINED.fullmatch(done.stdout)
    if not found:
        raise SystemExit(f"`kinfold explain {code}` has another shape than this script knows:\n{done.stdout}")
    return found


def sentence(text):
    """The texts are short lines without a full stop; here they stand between sentences."""
    first = text if text.startswith("`") else text[:1].upper() + text[1:]
    return f"{first}."


def section(text):
    example = "\n".join(line.removeprefix("    ") for line in text["example"].splitlines())
    parts = [
        f"### {text['code']}: {text['title']}",
        sentence(text["cause"]),
        f"```text\n{example}\n```",
        f"Way out: {text['fix']}.",
    ]
    return "\n\n".join(parts)


def document(kinfold):
    parts, group = [HEAD.rstrip()], None
    for code in codes():
        if code[:3] != group:
            group = code[:3]
            parts.append(f"## {GROUPS[group]}")
        parts.append(section(explain(kinfold, code)))
    return "\n\n".join(parts) + "\n"


def main():
    arguments = sys.argv[1:]
    if not arguments or len(arguments) > 2 or arguments[1:] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    text = document(arguments[0])
    if arguments[1:]:
        if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
            raise SystemExit("docs/errors.md is not what `kinfold explain` says: run scripts/errors_doc.py")
        return
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text)
    print(f"{DOCUMENT.relative_to(ROOT)}: {len(codes())} codes")


if __name__ == "__main__":
    main()
