#!/usr/bin/env python3
"""Reads the OpenLineage events of runs with the classes that OpenLineage makes from its published schema.

    openlineage_events.py KINFOLD

Every key must be one that the schema knows, and what the schema demands must be there.
"""
import json
import pathlib
import sys
import tempfile
import uuid

from openlineage.client import event_v2
from openlineage.client.generated import base, column_lineage_dataset, error_message_run, job_type_job
from openlineage.client.generated import nominal_time_run, output_statistics_output_dataset, parent_run, schema_dataset

from common import Kinfold, check, equal, main

FACETS = {
    "run": {
        "nominalTime": nominal_time_run.NominalTimeRunFacet,
        "parent": parent_run.ParentRunFacet,
        "errorMessage": error_message_run.ErrorMessageRunFacet,
    },
    "job": {"jobType": job_type_job.JobTypeJobFacet},
    "dataset": {"schema": schema_dataset.SchemaDatasetFacet, "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet},
    "output": {"outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet},
}



def facets(where, content):
    made = {}
    for name, facet in (content or {}).items():
        check(name in FACETS[where], f"{where} has the unknown facet {name}")
        kind = FACETS[where][name]
        facet = dict(facet)
        producer, schema = facet.pop("_producer"), facet.pop("_schemaURL")
        check(producer.startswith("urn:kinfold:"), producer)
        made[name] = kind(producer=producer, **facet)
        # the class knows the newest version of its schema; ours may be older, and must be of the same facet
        equal(schema.split("/")[-1], made[name]._get_schema().split("/")[-1], f"schema of {name}")
    return made


def dataset(kind, content):
    content = dict(content)
    content["facets"] = facets("dataset", content.get("facets"))
    if "outputFacets" in content:
        content["outputFacets"] = facets("output", content["outputFacets"])
    return kind(**content)


def read(text):
    content = json.loads(text)
    equal(content.pop("schemaURL"), "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent", "schemaURL")
    run, job = content["run"], content["job"]
    uuid.UUID(run["runId"])
    return event_v2.RunEvent(
        eventType=event_v2.RunState[content.pop("eventType")],
        eventTime=content.pop("eventTime"),
        producer=content.pop("producer"),
        run=event_v2.Run(runId=run["runId"], facets=facets("run", run["facets"])),
        job=event_v2.Job(namespace=job["namespace"], name=job["name"], facets=facets("job", job["facets"])),
        inputs=[dataset(event_v2.InputDataset, d) for d in content.pop("inputs")],
        outputs=[dataset(event_v2.OutputDataset, d) for d in content.pop("outputs")],
    )


def events(project):
    return [read(line) for line in (project / "target/openlineage.ndjson").read_text().splitlines()]


def states(found):
    """For each job its states, in order."""
    by_job = {}
    for event in found:
        by_job.setdefault(event.job.name, []).append(event.eventType.name)
    return by_job


def good_run(project):
    found = events(project)
    whole = ["START", "COMPLETE"]
    jobs = ["first_project", "person", "person_profile", "came_back", "came_back_to_outbox", "daily_visits"]
    equal(states(found), {job: whole for job in states(found)}, "states of every job")
    equal(sorted(states(found)), sorted(jobs), "jobs")
    equal((found[0].job.name, found[-1].job.name), ("first_project", "first_project"), "the run is around its models")
    root = found[0].run.runId
    for event in found[1:-1]:
        parent = event.run.facets["parent"]
        equal((parent.run["runId"], parent.job["name"]), (root, "first_project"), "parent")
    done = {e.job.name: e for e in found if e.eventType.name == "COMPLETE"}
    profile = done["person_profile"]
    names = {d.name.rsplit("/", 1)[-1] or d.name for d in profile.inputs}
    check({"person", "visits", "customers"} <= {n.strip("/") for n in names}, f"inputs of the profile: {names}")
    main_table = next(d for d in profile.outputs if d.name.endswith("/person_profile"))
    equal(main_table.outputFacets["outputStatistics"].rowCount, 3, "rows of the profile")
    columns = {f["name"] for f in main_table.facets["schema"].fields}
    check({"person_id", "email", "visits_7d", "persona"} <= columns, f"columns: {columns}")
    origin = main_table.facets["columnLineage"].fields["email"]["inputFields"]
    found = {(f["name"].strip("/").rsplit("/", 1)[-1], f["field"]) for f in origin}
    check({("visits", "email"), ("customers", "email")} <= found, f"columns behind the e-mail: {found}")
    # one table is one dataset, whoever reads or writes it
    read_as = next(d for d in done["came_back"].inputs if d.name.endswith("/person_profile"))
    equal((read_as.namespace, read_as.name), (main_table.namespace, main_table.name), "the profile as it is read")


def failed_run(kinfold, project):
    (project / "models/broken.sql").write_text("SELECT 1 / (count(*) - 8) AS boom FROM shop.visits\n")
    kinfold("run", exit_code=1)
    found = events(project)
    last = {e.job.name: e for e in found}
    equal(last["broken"].eventType.name, "FAIL", "the broken model")
    equal(last["first_project"].eventType.name, "FAIL", "the run")
    check("broken" in last["broken"].run.facets["errorMessage"].message, "the message names the model")


def withheld_run(kinfold, project):
    """A model that its data tests withhold is not complete, and what reads it does not begin."""
    profile = project / "models/person_profile.yaml"
    (project / "models/broken.sql").unlink()
    profile.write_text(profile.read_text() + "\ntests: [{row_count: {min: 99}}]\n")
    kinfold("run", "--full", exit_code=1)
    found = states(events(project))
    equal(found["person_profile"], ["START", "FAIL"], "states of the profile")
    equal(found["person"], ["START", "COMPLETE"], "states of the identity")
    equal(found["first_project"], ["START", "FAIL"], "states of the run")
    check("came_back" not in found, f"the audience began: {found}")


def run():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        project = pathlib.Path(folder) / "shop"
        Kinfold(binary, pathlib.Path(folder))("init", "shop")
        kinfold = Kinfold(binary, project)
        kinfold("run")
        good_run(project)
        failed_run(kinfold, project)
        withheld_run(kinfold, project)


if __name__ == "__main__":
    main(run)
