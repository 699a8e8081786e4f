"""What the end-to-end checks share: running Kinfold, reading what it prints, and saying what is wrong."""
import csv
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
AWS = ("AWS_", "KINFOLD_", "CLINIC_")


class Failure(Exception):
    """A check that did not hold; the text is for people."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def equal(found, wanted, what):
    check(found == wanted, f"{what}: found {found!r}, expected {wanted!r}")


def copy_of_demo(folder, whole=False):
    """The demo project in a folder of its own, so that nothing of the checkout is written to."""
    left_out = shutil.ignore_patterns("target", ".git", ".ci", "__pycache__", *([] if whole else ["src", "tests", "examples", "bench", "docs"]))
    shutil.copytree(ROOT, folder, ignore=left_out)
    return pathlib.Path(folder)


class Kinfold:
    """The binary in a project, with an environment of its own."""

    def __init__(self, binary, project, **environment):
        self.binary, self.project = str(binary), project
        kept = {k: v for k, v in os.environ.items() if not k.startswith(AWS)}
        self.environment = {**kept, "CLINIC_DATA": str(ROOT / "examples/clinic/data"), "NO_COLOR": "1", **environment}

    def __call__(self, *arguments, exit_code=0):
        done = subprocess.run([self.binary, *arguments], cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=900)
        told = f"kinfold {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        check("panicked" not in done.stderr, f"it panicked: {told}")
        check(done.returncode == exit_code, f"exit {done.returncode} instead of {exit_code}: {told}")
        return done.stdout

    def query(self, sql):
        """Rows as dictionaries."""
        return json.loads(self("query", sql, "--output", "json"))

    def query_csv(self, sql):
        """Rows as texts; null is the empty text."""
        return list(csv.DictReader(io.StringIO(self("query", sql, "--output", "csv"))))


def expected():
    return json.loads((ROOT / "examples/clinic/expected.json").read_text())


def figures(kinfold):
    """The figures of `expected.json` that one query each can give, in its shape."""
    identity = kinfold.query("""
        SELECT (SELECT count(*) FROM patient) AS identifiers, (SELECT count(DISTINCT patient_id) FROM patient) AS entities,
               (SELECT count(*) FROM patient_links) AS links""")[0]
    identity["hubs"] = sorted(f"{h['identifier_type']}:{h['identifier']}" for h in kinfold.query("SELECT * FROM patient_hubs"))
    audiences = sorted(expected()["audiences"])
    sizes = kinfold.query(" UNION ALL ".join(f"SELECT '{a}' AS name, count(*) AS members FROM {a}" for a in audiences))
    sums = [c for c, wanted in expected()["profile"]["columns"].items() if "sum" in wanted]
    totals = kinfold.query(f"SELECT {', '.join(f'sum(CAST({c} AS DOUBLE)) AS {c}' for c in sums)} FROM patient_profile")[0]
    return {"identity": identity, "audiences": {row["name"]: row["members"] for row in sizes}, "sums": totals}


def expected_figures():
    e = expected()
    return {"identity": {key: e["identity"][key] for key in ("identifiers", "entities", "links", "hubs")}, "audiences": e["audiences"],
            "sums": {c: float(wanted["sum"]) for c, wanted in e["profile"]["columns"].items() if "sum" in wanted}}


def main(run):
    """Runs a check; its exit code says whether it held."""
    try:
        run()
    except Failure as failure:
        print(f"{pathlib.Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
