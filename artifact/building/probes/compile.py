"""Compile Python files to hash-based pycs whose bytes depend on the files alone.

`marshal` writes an object's reference flag by its reference count, and a count depends on whatever
the process did before (https://bugs.python.org/issue34093). So each job is compiled in a process
forked from one state: this one's, which never looks into a job.

Arguments: "checked" or "unchecked", and how many jobs to run at once. Standard input: jobs, each
a run of records, ended by an empty record; a record is three fields (the file to read, the name
to compile it under, the pyc to write), each ended by NUL; "{size}" in the pyc's name becomes its
size. Standard error: "compiled N" now and then. Standard output: one JSON list of name and reason
for each file that is no Python of this version.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import sys
import traceback

_FIELDS = 3
_REPORT_EVERY = 64


def pyc(source: bytes, shown: str, flags: int) -> bytes:
    """Return the bytes of a hash-based pyc (PEP 552)."""
    code = compile(source, shown, "exec", dont_inherit=True, optimize=0)
    head = importlib.util.MAGIC_NUMBER + flags.to_bytes(4, "little")
    return head + importlib.util.source_hash(source) + marshal.dumps(code)


def write(path: str, data: bytes) -> None:
    """Write a file under its name when it is whole."""
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    beside = os.path.join(directory, f".{os.getpid()}.new")
    try:
        with open(beside, "wb") as stream:
            stream.write(data)
        os.replace(beside, path.replace("{size}", str(len(data))))
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def do(job: bytes, flags: int) -> None:
    """Compile the files of one job, in order."""
    fields = [os.fsdecode(field) for field in job.split(b"\0")[:-1]]
    done = 0
    for i in range(0, len(fields), _FIELDS):
        source, shown, target = fields[i : i + _FIELDS]
        with open(source, "rb") as stream:
            content = stream.read()
        try:
            data = pyc(content, shown, flags)
        except (SyntaxError, ValueError, RecursionError, OverflowError, MemoryError) as error:
            reason = getattr(error, "msg", None) or str(error)
            say(1, json.dumps([shown, f"{type(error).__name__}: {reason}"]))
        else:
            write(target, data)
        done += 1
        if done == _REPORT_EVERY:
            say(2, f"compiled {done}")
            done = 0
    if done:
        say(2, f"compiled {done}")


def say(descriptor: int, line: str) -> None:
    """Write one line at once, so that those of several processes never mix."""
    os.write(descriptor, line.encode() + b"\n")


def start(job: bytes, flags: int) -> int:
    """Do a job in a fork of this process; return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        do(job, flags)
        status = 0
    except BaseException:  # the fork must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> int:
    """Do all jobs, so many at once; return 1 when one failed."""
    flags = 0b11 if sys.argv[1] == "checked" else 0b01
    most = int(sys.argv[2])
    jobs = sys.stdin.buffer.read().split(b"\0\0")[:-1]
    running: set[int] = set()
    failed = False
    for job in jobs:
        if len(running) == most:
            pid, status = os.wait()
            running.discard(pid)
            failed = failed or status != 0
        if failed:
            break
        running.add(start(job + b"\0", flags))
    while running:
        pid, status = os.wait()
        running.discard(pid)
        failed = failed or status != 0
    return int(failed)


sys.exit(main())
