#!/usr/bin/env python3
"""Runs what the documents tell people to type, in order, in a copy of the project.

    check_docs.py KINFOLD [FILE...]        # default: README.md and docs/**/*.md

In blocks marked ```console or ```sh, lines that call Kinfold (`kinfold ...`, `cargo run -- ...`, with or without
variables before it) or change the folder are run, each of the others is left out. A comment before a block says more:

    <!-- exit: 2 -->          its last command must exit so, instead of 0
    <!-- file: models/x.sql --> the block is the text of that file, which the reader is told to write
    <!-- skip: reason -->     the block is not run
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from common import AWS, ROOT, Failure, check, copy_of_demo, main

CALL = re.compile(r"^((?:[A-Z_]+=\S*\s+)*)(?:cargo run(?:\s+--release)?(?:\s+--quiet|\s+-q)?\s+--|kinfold)(?=\s|$)(.*)$")
BLOCK = re.compile(r"(?P<marks>(?:<!--[^>]*-->\s*\n)*)^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.M | re.S)
MARK = re.compile(r"<!--\s*(exit|file|skip):\s*(.*?)\s*-->")


def logical_lines(body):
    """Lines without prompts, joined where they end with a backslash."""
    joined = re.sub(r"\\\n\s*", " ", body)
    return [line.strip().removeprefix("$ ") for line in joined.splitlines()]


def blocks(text):
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("body"))
        yield line, found["language"], dict(MARK.findall(found["marks"])), found["body"]


class Reader:
    """Somebody who follows the documents to the letter."""

    def __init__(self, binary, project):
        self.project, self.ran = project, 0
        # `kinfold` is found on the PATH, as after an installation
        tools = project.parent / "bin"
        tools.mkdir()
        (tools / "kinfold").symlink_to(binary)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(AWS)}
        self.environment = {**kept, "PATH": f"{tools}{os.pathsep}{kept['PATH']}", "NO_COLOR": "1"}

    def follow(self, document):
        folder = self.project
        for line, language, marks, body in blocks(document.read_text()):
            place = f"{document.relative_to(ROOT)}:{line}"
            if "skip" in marks:
                check(len(marks["skip"]) > 5, f"{place}: say why the block is skipped")
            elif "file" in marks:
                self.write(folder / marks["file"], body, place)
            elif language in ("console", "sh"):
                folder = self.type(folder, body, int(marks.get("exit", 0)), place)

    def write(self, file, body, place):
        check(file.resolve().is_relative_to(self.project), f"{place}: {file} is outside the project")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body)

    def type(self, folder, body, exit_code, place):
        lines = [line for line in logical_lines(body) if CALL.match(line) or line.startswith("cd ")]
        for number, line in enumerate(lines):
            if line.startswith("cd "):
                folder = (folder / shlex.split(line, comments=True)[1]).resolve()
                check(folder.is_relative_to(self.project) and folder.is_dir(), f"{place}: `{line}` leads nowhere")
            else:
                self.call(folder, line, exit_code if number == len(lines) - 1 else 0, place)
        return folder

    def call(self, folder, line, exit_code, place):
        variables, arguments = CALL.match(line).groups()
        done = subprocess.run(["bash", "-c", f"{variables}kinfold{arguments}"], cwd=folder, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=900)
        self.ran += 1
        told = f"{place}: `{line}`\n{done.stdout}{done.stderr}"
        check("panicked" not in done.stderr, f"panic: {told}")
        check(done.returncode == exit_code, f"exit {done.returncode} instead of {exit_code}: {told}")


def run():
    binary = pathlib.Path(sys.argv[1]).resolve()
    documents = [pathlib.Path(p).resolve() for p in sys.argv[2:]] or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    with tempfile.TemporaryDirectory() as temporary:
        reader = Reader(binary, copy_of_demo(f"{temporary}/project", whole=True).resolve())
        for document in documents:
            before = reader.ran
            reader.follow(document)
            print(f"{document.relative_to(ROOT)}: {reader.ran - before} commands")
        if reader.ran == 0:
            raise Failure("no document has a command")


if __name__ == "__main__":
    main(run)
