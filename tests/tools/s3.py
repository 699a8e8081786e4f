#!/usr/bin/env python3
"""The demo with raw data, warehouse and outbox in an object store: same project, same figures.

    s3.py KINFOLD

The store is moto's server, a process of its own that enforces conditional puts as S3 does.
"""
import http.client
import http.server
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import botocore.exceptions
import deltalake

from common import Kinfold, ROOT, check, copy_of_demo, equal, expected_figures, figures, main

BUCKET = "sunshine-health"
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}


class Server:
    """An S3 server on a free port, for as long as the block lasts."""

    def __init__(self, folder):
        self.log = open(f"{folder}/s3.log", "w+")

    def __enter__(self):
        for _ in range(5):      # the port may be taken between asking for it and using it
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            self.process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                                            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            if self.answers(port):
                self.url = f"http://127.0.0.1:{port}"
                return self
        raise RuntimeError(f"the S3 server does not start; see {self.log.name}")

    def answers(self, port):
        for _ in range(300):
            if self.process.poll() is not None:
                return False
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return True
            time.sleep(0.1)
        return False

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.log.close()


def prepare(client):
    """A bucket with the raw data; and proof that the server is as strict as the real one."""
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="probe", Body=b"1", IfNoneMatch="*")
    try:
        client.put_object(Bucket=BUCKET, Key="probe", Body=b"2", IfNoneMatch="*")
        check(False, "the S3 server does not enforce If-None-Match; this check would prove nothing")
    except botocore.exceptions.ClientError as refused:
        equal(refused.response["ResponseMetadata"]["HTTPStatusCode"], 412, "answer to a second put")
    data = ROOT / "examples/clinic/data"
    for file in sorted(data.rglob("*")):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"raw/clinic/{file.relative_to(data)}")


def listing(client, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {o["Key"]: o["ETag"] for page in pages for o in page.get("Contents", [])}


def first_and_second_run(kinfold, client):
    kinfold("run")
    equal(figures(kinfold), expected_figures(), "figures after the first run")
    sent, ids = listing(client, "outbox/"), kinfold.query("SELECT * FROM patient ORDER BY identifier_type, identifier")
    check(sent, "nothing was sent to the outbox")
    kinfold("run")
    equal(kinfold.query("SELECT count(*) AS built FROM kinfold.nodes WHERE run > 1 AND status = 'built'"),
          [{"built": 0}], "models that were built though nothing changed")
    kinfold("run", "--full")
    equal(figures(kinfold), expected_figures(), "figures after the second run")
    equal(listing(client, "outbox/"), sent, "outbox after the second run")
    equal(kinfold.query("SELECT * FROM patient ORDER BY identifier_type, identifier"), ids, "patients after the second run")
    changed = kinfold.query('SELECT sum(entered) AS entered, sum("left") AS gone FROM audience_sizes '
                            "WHERE run = (SELECT max(run) FROM audience_sizes)")
    equal(changed, [{"entered": 0, "gone": 0}], "members that entered or left in the second run")


def others_read_it(server):
    options = {**KEYS, "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
    table = deltalake.DeltaTable(f"s3://{BUCKET}/warehouse/patient", storage_options=options)
    equal(table.to_pyarrow_table().num_rows, expected_figures()["identity"]["identifiers"], "rows that delta-rs reads from the bucket")


def only_one_of_two(kinfold, client):
    """Two runs at once: the lease in the bucket lets one work, the other is told to come back."""
    before = len(listing(client, "warehouse/_kinfold/leases/"))
    working = threading.Thread(target=kinfold, args=("run", "--full"))
    working.start()
    deadline = time.monotonic() + 120
    while len(listing(client, "warehouse/_kinfold/leases/")) == before:
        check(time.monotonic() < deadline and working.is_alive(), "the first run took no lease")
        time.sleep(0.05)
    kinfold("run", exit_code=75)
    working.join()
    equal(figures(kinfold), expected_figures(), "figures after two runs at once")


class Front:
    """Stands before the server and answers some requests itself; as long as the block lasts."""

    def __init__(self, server, answer):
        host = server.url.split("//")[1]
        front = self
        self.requests, self.answered = 0, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                front.requests += 1
                own = answer(front.requests)
                front.answered += own is not None
                if own == "silence":
                    self.close_connection = True
                    self.connection.close()
                    return
                if own is None:
                    to = http.client.HTTPConnection(host, timeout=60)
                    to.request(self.command, self.path, body, {n: v for n, v in self.headers.items() if n.lower() != "host"})
                    got = to.getresponse()
                    status, headers, content = got.status, got.getheaders(), got.read()
                else:
                    status, code = own
                    headers = [("Content-Type", "application/xml")]
                    content = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                length = dict((n.lower(), v) for n, v in headers).get("content-length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def small_project(binary, folder, endpoint, warehouse):
    """A project whose warehouse lies in a bucket."""
    folder.mkdir(exist_ok=True)
    kinfold = Kinfold(binary, folder, **KEYS, AWS_ENDPOINT_URL=endpoint, AWS_ALLOW_HTTP="true")
    if not (folder / "kinfold.yaml").exists():
        kinfold("init", ".")
    settings = folder / "kinfold.yaml"
    settings.write_text(re.sub(r"^warehouse:.*$", f"warehouse: {warehouse}", settings.read_text(), flags=re.M))
    return kinfold


def said(kinfold, *arguments, exit_code):
    """What a command that must fail says, and how long it takes to."""
    started = time.monotonic()
    done = subprocess.run([kinfold.binary, *arguments], cwd=kinfold.project, env=kinfold.environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300)
    equal(done.returncode, exit_code, f"exit code of kinfold {' '.join(arguments)}: {done.stderr}")
    return done.stderr, time.monotonic() - started


def permanent(binary, server, temporary):
    """No right and no bucket are said at once, with the way out, and not tried again and again."""
    with Front(server, lambda _: (403, "AccessDenied")) as front:
        denied = small_project(binary, pathlib.Path(temporary) / "denied", front.url, f"s3://{BUCKET}/denied")
        text, seconds = said(denied, "run", exit_code=1)
        check("check who may read and write there" in text and seconds < 20, f"a store that denies: after {seconds} s: {text}")
        check(front.requests <= 5, f"a store that denies was asked {front.requests} times")
    nowhere = small_project(binary, pathlib.Path(temporary) / "nowhere", server.url, "s3://no-such-bucket-of-ours/w")
    text, seconds = said(nowhere, "run", exit_code=1)
    check("there is no such bucket" in text and seconds < 20, f"a bucket that is not there: after {seconds} s: {text}")


def passing(binary, server, temporary):
    """What passes is tried again: a store that is busy, broken or silent now and then changes nothing."""
    def moody(number):
        return {0: (503, "SlowDown"), 7: (500, "InternalError"), 14: "silence"}.get(number % 21)

    quiet = small_project(binary, pathlib.Path(temporary) / "quiet", server.url, f"s3://{BUCKET}/quiet")
    quiet("run")
    with Front(server, moody) as front:
        kinfold = small_project(binary, pathlib.Path(temporary) / "moody", front.url, f"s3://{BUCKET}/moody")
        kinfold("run")
        kinfold("run", "--full")
        check(front.answered > 20, f"only {front.answered} of {front.requests} requests went wrong")
    for table in ("person_profile", "came_back"):
        # ids are another in every warehouse
        sql = f"SELECT * EXCLUDE (person_id) FROM {table}"
        rows = [sorted(str(row) for row in k.query(sql)) for k in (quiet, at(kinfold, server))]
        equal(rows[1], rows[0], f"{table} through a moody store")


def at(kinfold, server):
    """The same project, past the front."""
    kinfold.environment["AWS_ENDPOINT_URL"] = server.url
    return kinfold


def unreachable(kinfold):
    """A store that does not answer is an error that names it, not a hang or a panic."""
    kinfold.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    kinfold("query", "SELECT count(*) FROM patient", exit_code=1)


def run():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary, Server(temporary) as server:
        client = boto3.client("s3", endpoint_url=server.url, region_name=KEYS["AWS_REGION"], aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                              aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"])
        prepare(client)
        project = copy_of_demo(f"{temporary}/project")
        kinfold = Kinfold(binary, project, **KEYS, AWS_ENDPOINT_URL=server.url, AWS_ALLOW_HTTP="true", CLINIC_DATA=f"s3://{BUCKET}/raw/clinic",
                          KINFOLD_WAREHOUSE=f"s3://{BUCKET}/warehouse", KINFOLD_OUTBOX=f"s3://{BUCKET}/outbox")
        try:
            first_and_second_run(kinfold, client)
            others_read_it(server)
            only_one_of_two(kinfold, client)
        except Exception:
            shutil.copy(f"{temporary}/s3.log", f"{tempfile.gettempdir()}/kinfold-s3.log")
            raise
        permanent(binary, server, temporary)
        passing(binary, server, temporary)
        unreachable(kinfold)
        objects = len(listing(client, "warehouse/"))
        print(f"the demo ran on {server.url.split('//')[0]}//… with raw data, warehouse ({objects} objects) and outbox in a bucket")


if __name__ == "__main__":
    main(run)
