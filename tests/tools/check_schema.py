#!/usr/bin/env python3
"""Asks a validator that shares no code with ours what it thinks of the schemas.

    check_schema.py KINFOLD

The schemas are schemas of draft-07; every valid project of the repository fits them; of the broken projects in
tests/diagnostics exactly those files do not fit whose shape `expected.txt` calls wrong.
"""
import pathlib
import re
import sys
import tempfile

import jsonschema
import yaml

from common import ROOT, Kinfold, check, equal, main

# Codes of shape that a schema must see, as in tests/it/schema.rs.
SEEN = {"K0102", "K0103", "K0104", "K0105", "K0108", "K0109", "K0110", "K0113", "K0201", "K0603", "K0901"}
# Codes that it sees in part.
SEEN_IN_PART = {"K0010", "K0112", "K0114", "K0115", "K0703", "K0801"}
# Codes of text that is no YAML, or that only Kinfold's own reader refuses.
NOT_YAML = {"K0003", "K0004", "K0101", "K0106", "K0107", "K0117"}
FINDING = re.compile(r"^(error|warning)\[(K\d{4})\]: (.*)\n *--> ([^:\n]+):", re.M)


class Loader(yaml.SafeLoader):
    """YAML 1.2 as Kinfold and editors read it: `yes` and dates are text."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in [
    ("bool", r"^(true|false)$", "tf"),
    ("null", r"^(~|null|)$", ["~", "n", ""]),
    ("int", r"^[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$", "-+0123456789."),
]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


def kind_of(path):
    name = path.as_posix()
    if name.startswith("models/"):
        return "models"
    return name.removesuffix(".yaml") if name in ("kinfold.yaml", "sources.yaml", "destinations.yaml") else None


def files(project):
    """The YAML files of a project with the kind of their schema."""
    for path in sorted(project.rglob("*.y*ml")):
        relative = path.relative_to(project)
        if kind := kind_of(relative):
            yield relative, kind, path


def documents(path):
    return list(yaml.load_all(path.read_bytes().decode("utf-8-sig"), Loader))


def codes(case):
    """Codes of the errors in each file that `expected.txt` names."""
    found = {}
    for severity, code, _, path in FINDING.findall((case / "expected.txt").read_text()):
        if severity == "error":
            found.setdefault(path, set()).add(code)
    return found


def refused(validator, path):
    """Why the first document that does not fit does not; none if all fit."""
    errors = (error for document in documents(path) for error in validator.iter_errors(document))
    error = next(errors, None)
    return error and f"/{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def valid_projects(validators, kinfold):
    with tempfile.TemporaryDirectory() as temporary:
        started = pathlib.Path(temporary) / "shop"
        kinfold("init", str(started))
        seen = 0
        bench = [ROOT / "bench/clinic", ROOT / "bench/clinic-guarded"]
        for project in [ROOT, *bench, ROOT / "tests/schema/every_key", started]:
            for relative, kind, path in files(project):
                equal(refused(validators[kind], path), None, f"{project}/{relative}")
                seen += 1
    check(seen > 30, f"only {seen} files")
    return seen


def broken_projects(validators):
    seen = wrong = unread = 0
    for case in sorted(p for p in (ROOT / "tests/diagnostics").iterdir() if p.is_dir()):
        said = codes(case)
        for relative, kind, path in files(case):
            of_file = said.get(relative.as_posix(), set())
            if of_file & NOT_YAML:
                continue
            try:
                why = refused(validators[kind], path)
            except (yaml.YAMLError, RecursionError, ValueError):
                # YAML that this reader cannot take, such as an anchor that is set twice
                unread += 1
                continue
            place = f"{case.name}/{relative}: check says {sorted(of_file)}"
            # what a variable holds is not known to an editor
            known = "${" not in path.read_text()
            check(why is not None or not (known and of_file & SEEN), f"{place}, the schema accepts it")
            check(why is None or of_file & (SEEN | SEEN_IN_PART), f"{place}, the schema refuses it: {why}")
            seen, wrong = seen + 1, wrong + (why is not None)
    check(unread < 10, f"{unread} files of broken projects cannot be read")
    check(wrong > 20 and seen - wrong > 20, f"{wrong} of {seen} files are refused")
    return seen, wrong


def run():
    kinfold = Kinfold(pathlib.Path(sys.argv[1]).resolve(), ROOT)
    validators = {}
    for kind in ("kinfold", "sources", "destinations", "models"):
        schema = yaml.load(kinfold("schema", kind), Loader)
        jsonschema.Draft7Validator.check_schema(schema)
        validators[kind] = jsonschema.Draft7Validator(schema)
    seen = valid_projects(validators, kinfold)
    print(f"{seen} valid files fit")
    print("of {} files of broken projects {} do not fit, as expected".format(*broken_projects(validators)))


if __name__ == "__main__":
    main(run)
