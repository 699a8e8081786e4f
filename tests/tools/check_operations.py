#!/usr/bin/env python3
"""Checks what docs/operations.md tells operators to write and to type.

    check_operations.py KINFOLD

Definitions (`<!-- definition: NAME -->`) are read by what reads them in life where it is there, or compared with the published
shape; every call of Kinfold in them is parsed by Kinfold. Blocks marked `<!-- run: WHAT -->` are run whole, in the order of
the page, in a small project, and what they promise is looked at.
"""
import ast
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import yaml

from check_docs import BLOCK
from common import ROOT, Kinfold, check, equal, main

PAGE = ROOT / "docs/operations.md"
MARK = re.compile(r"<!--\s*(definition|run):\s*(.*?)\s*-->")
CALL = re.compile(r"(?<![\w/.-])(?:/usr/local/bin/)?kinfold(?= )((?: +(?!\d+>)[\w./:=-]+)+)")
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))

# What a CronJob may have, after the reference of the Kubernetes API (batch/v1), as far as the page uses it; other keys are refused.
def shape(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT, WHOLE, TEXTS = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "array", "items": {"type": "string"}}
QUANTITIES = {"type": "object", "propertyNames": {"enum": ["cpu", "memory"]}, "additionalProperties": {"type": "string", "pattern": r"^[0-9.]+(m|[KMGT]i?)?$"}}
CONTAINER = shape(["name", "image"], name=TEXT, image=TEXT, workingDir=TEXT, command=TEXTS, args=TEXTS,
                  envFrom={"type": "array", "items": shape([], secretRef=shape(["name"], name=TEXT))},
                  resources=shape([], requests=QUANTITIES, limits=QUANTITIES))
EXIT_CODES = shape(["operator", "values"], containerName=TEXT, operator={"enum": ["In", "NotIn"]},
                   values={"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 255}, "uniqueItems": True})
CONDITION = shape(["type", "status"], type=TEXT, status={"enum": ["True", "False", "Unknown"]})
RULE = shape(["action"], action={"enum": ["FailJob", "Ignore", "Count", "FailIndex"]}, onExitCodes=EXIT_CODES,
             onPodConditions={"type": "array", "items": CONDITION})
POD = shape(["containers", "restartPolicy"], restartPolicy={"enum": ["Never", "OnFailure"]}, terminationGracePeriodSeconds=WHOLE,
            containers={"type": "array", "minItems": 1, "items": CONTAINER})
JOB = shape(["template"], backoffLimit=WHOLE, activeDeadlineSeconds=WHOLE, podFailurePolicy=shape(["rules"], rules={"type": "array", "items": RULE}),
            template=shape(["spec"], spec=POD))
CRONJOB = shape(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "batch/v1"}, kind={"const": "CronJob"},
                metadata=shape(["name"], name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 52}),
                spec=shape(["schedule", "jobTemplate"], schedule=TEXT, timeZone=TEXT, startingDeadlineSeconds=WHOLE,
                           concurrencyPolicy={"enum": ["Allow", "Forbid", "Replace"]}, successfulJobsHistoryLimit=WHOLE,
                           failedJobsHistoryLimit=WHOLE, jobTemplate=shape(["spec"], spec=JOB)))


def marked_blocks():
    definitions, runs = {}, {}
    for found in BLOCK.finditer(PAGE.read_text()):
        for sort, name in MARK.findall(found["marks"]):
            {"definition": definitions, "run": runs}[sort][name] = found["body"]
    return definitions, runs


def schedule(text, place):
    """Five fields of cron, each in its range."""
    fields = text.split()
    equal(len(fields), 5, f"{place}: fields of `{text}`")
    for field, (low, high) in zip(fields, RANGES):
        for part in field.split(","):
            found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
            numbers = [int(n) for n in (found[1], found[2]) if n] if found else []
            check(found and all(low <= n <= high for n in numbers) and found[3] != "0", f"{place}: `{part}` of `{text}` is no time")


def crontab(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    jobs = [line for line in lines if not re.match(r"[A-Z]+=", line)]
    check(len(jobs) >= 2, "crontab: no jobs")
    for job in jobs:
        *times, command = job.split(maxsplit=5)
        schedule(" ".join(times), "crontab")
        check("%" not in command, f"crontab: cron makes a line break of % in `{command}`")
        subprocess.run(["bash", "-n", "-c", command], check=True)


def units(definitions, folder, binary):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        print("systemd-analyze is not here: the units are not checked")
        return
    for name in ("kinfold-clinic.service", "kinfold-clinic.timer"):
        text = definitions[name].replace("/usr/local/bin/kinfold", str(binary)).replace("/srv/clinic", str(folder))
        (folder / name).write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", *(str(folder / n) for n in ("kinfold-clinic.service", "kinfold-clinic.timer"))],
                          capture_output=True, text=True, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"})
    told = [line for line in (done.stdout + done.stderr).splitlines() if "kinfold" in line]
    check(done.returncode == 0 and not told, f"systemd-analyze: {done.returncode} {told}")
    calendar = re.search(r"OnCalendar=(.*)", definitions["kinfold-clinic.timer"])[1]
    subprocess.run([analyze, "calendar", calendar], check=True, stdout=subprocess.DEVNULL)


def cronjob(text):
    document = yaml.safe_load(text)
    jsonschema.Draft202012Validator(CRONJOB).validate(document)
    schedule(document["spec"]["schedule"], "cronjob.yaml")
    job = document["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    check("podFailurePolicy" not in job or pod["restartPolicy"] == "Never", "a podFailurePolicy needs restartPolicy: Never")
    return [container["command"][1:] for container in pod["containers"]]


def python(name, text):
    """Compiles, and finds the calls that are lists of words."""
    tree = ast.parse(text, name)
    compile(tree, name, "exec")
    for text in re.findall(r'(?:schedule|cron_schedule)="([^"]+)"', text):
        schedule(text, name)
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List) and node.elts and getattr(node.elts[0], "value", None) == "kinfold"]
    return [[word.value for word in node.elts[1:]] for node in lists]


def check_definitions(kinfold, folder):
    definitions, runs = marked_blocks()
    crontab(definitions.pop("crontab"))
    units(definitions, folder, kinfold.binary)
    calls = cronjob(definitions["cronjob.yaml"])
    for name in [n for n in definitions if n.endswith(".py")]:
        calls += python(name, definitions[name])
    for text in [*marked_blocks()[0].values(), *runs.values()]:
        calls += [shlex.split(words) for words in CALL.findall(text)]
    check(len(calls) >= 8, f"only {len(calls)} calls of kinfold")
    for words in calls:
        kinfold(*words, "--help")
    return definitions, runs


def bash(kinfold, text, *arguments, exit_code=0):
    path = f"{pathlib.Path(kinfold.binary).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text, "bash", *arguments], cwd=kinfold.project,
                          env={**kinfold.environment, "PATH": path}, capture_output=True, text=True, timeout=300)
    equal(done.returncode, exit_code, f"exit code of\n{text}\n{done.stdout}{done.stderr}")
    return done.stdout


def report(kinfold):
    return json.loads((kinfold.project / "target/run.json").read_text())


def small_project(kinfold):
    kinfold("init", ".")
    settings = kinfold.project / "kinfold.yaml"
    settings.write_text(re.sub(r"^warehouse:.*$", 'warehouse: "${KINFOLD_WAREHOUSE:-target/warehouse}"', settings.read_text(), flags=re.M))
    check("KINFOLD_WAREHOUSE" in settings.read_text(), "the small project names no warehouse")


def state_files(kinfold, folder):
    return sorted((kinfold.project / "target/warehouse/_kinfold" / folder).glob("*.json"))


def busy_warehouse(kinfold, when_free):
    """The script waits as long as it is told to, and gives the code of the command."""
    lease = state_files(kinfold, "leases")[-1]
    held = {**json.loads(lease.read_text()), "released": False, "expires_at": "2999-01-01T00:00:00Z"}
    before = lease.read_text()
    lease.write_text(json.dumps(held))
    bash(kinfold, when_free.replace("set -e", ""), "0", "run", exit_code=75)
    lease.write_text(before)
    bash(kinfold, when_free, "1", "run")


def comes_twice(kinfold, name):
    """Somebody new, who is in the audience for it."""
    with open(kinfold.project / "data/visits/visits.csv", "a") as visits:
        visits.writelines(f"c-{name},{name}@example.com,prices,2026-03-30T{hour}:00:00Z\n" for hour in (18, 19))


def backup_and_restore(kinfold, runs):
    bash(kinfold, runs["backup"])
    ids = kinfold.query("SELECT identifier, person_id FROM person ORDER BY 1, 2")
    comes_twice(kinfold, "eve")
    kinfold("run")
    bash(kinfold, runs["restore"])
    restored = report(kinfold)["syncs"][0]
    equal((restored["result"], restored["sent"]), ("success", restored["read"]), "the sync after a restore")
    now = kinfold.query("SELECT identifier, person_id FROM person ORDER BY 1, 2")
    check([row for row in now if row in ids] == ids and len(now) > len(ids), "ids changed by a backup")

    # without the leases a destination of files refuses rather than writes over something
    comes_twice(kinfold, "fay")
    shutil.rmtree(kinfold.project / "target/warehouse")
    shutil.copytree(kinfold.project / "target/backup", kinfold.project / "target/warehouse")
    kinfold("run", exit_code=1)
    check("is there already with other rows" in report(kinfold)["syncs"][0]["error"], "no word about files that are there")
    (kinfold.project / "target/outbox").rename(kinfold.project / "target/outbox-before")
    kinfold("run")


def power_cut(kinfold):
    for folder in ("runs", "staged"):
        comes_twice(kinfold, folder)
        kinfold("run", "--select", "person")
        torn = [state_files(kinfold, folder)[-1]]
        if folder == "staged":
            # its record was never written
            state_files(kinfold, "runs")[-1].unlink()
        for file in torn:
            file.write_text('{\n  "format": 1,\n  "ru')
        kinfold("run", exit_code=1)
        for file in torn:
            file.unlink()
        kinfold("run")
        equal(kinfold.query(f"SELECT count(*) AS n FROM person WHERE identifier = '{folder}@example.com'"), [{"n": 1}], f"rows after torn {folder}")


def moved(kinfold, runs):
    bash(kinfold, runs["move"])
    moved = report(kinfold)
    equal((moved["warehouse"], moved["nodes"], moved["syncs"][0]["sent"]), ("target/moved", [], 0), "a run over a moved warehouse")


def run():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "project").mkdir()
        kinfold = Kinfold(binary, folder / "project")
        definitions, runs = check_definitions(kinfold, folder)
        small_project(kinfold)
        kinfold("run")
        bash(kinfold, runs["after a run"])
        busy_warehouse(kinfold, definitions["kinfold-when-free"])
        backup_and_restore(kinfold, runs)
        power_cut(kinfold)
        moved(kinfold, runs)
        # somebody sees it when a sync fails
        shutil.rmtree(kinfold.project / "target/outbox")
        (kinfold.project / "target/outbox").write_text("no folder")
        kinfold("run", "--full", exit_code=0)
        kinfold("sync", "--full", exit_code=1)
        bash(kinfold, runs["after a run"], exit_code=1)
        print(f"{len(definitions) + 1} definitions and {len(runs)} scripts of {PAGE.name} are right")


if __name__ == "__main__":
    main(run)
