#!/usr/bin/env python3
"""Plants known bugs, one at a time, in a copy of the project, and sees that the checks find them.

  mutants.py [--only NAME ...] [--build FOLDER]

A mutant is tests/mutants/NAME.patch: a unified diff whose first lines say, as "Key: value",
  Bug: what is planted        Target: what to build       Run: the command, from the build folder
  Checker: words that the failing run must print
A patch that no longer applies, a copy that no longer builds, and a bug that is not found by its checker are failures.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import glob
import os
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUN_SECONDS = 900


def read_header(path):
    header = {}
    with open(path) as file:
        for line in file:
            if line.startswith(("---", "diff ")):
                break
            key, separator, value = line.partition(":")
            if separator:
                header[key.strip()] = value.strip()
    missing = {"Bug", "Target", "Run", "Checker"} - set(header)
    if missing:
        raise SystemExit(f"{path}: the header lacks {', '.join(sorted(missing))}")
    return header


def command(arguments, folder, log, timeout=None):
    with open(log, "w") as out:
        try:
            return subprocess.run(arguments, cwd=folder, stdout=out, stderr=subprocess.STDOUT, timeout=timeout,
                                  stdin=subprocess.DEVNULL).returncode
        except subprocess.TimeoutExpired:
            return "timeout"


def fresh_copy(copy):
    """Tracked and new files, into the same folder each time, so that only what changed is built again."""
    os.makedirs(copy, exist_ok=True)
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    copy_files(files.stdout.decode().splitlines(), copy)


def copy_files(files, copy):
    for name in files:
        source, target = os.path.join(ROOT, name), os.path.join(copy, name)
        if not os.path.isfile(source):
            continue
        with open(source, "rb") as file:
            content = file.read()
        if os.path.exists(target):
            with open(target, "rb") as file:
                if file.read() == content:
                    continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
        os.chmod(target, os.stat(source).st_mode & 0o777)


def try_mutant(patch, copy, log_folder):
    """Returns None when the bug was found, else what went wrong."""
    name = os.path.splitext(os.path.basename(patch))[0]
    header = read_header(patch)
    log = os.path.join(log_folder, name + ".log")
    if command(["patch", "-p1", "--no-backup-if-mismatch", "-i", patch], copy, log) != 0:
        return f"the patch no longer applies ({log})"
    build = os.path.join(copy, "build", "release")
    if command(["cmake", "--build", build, "--target", *header["Target"].split()], copy, log) != 0:
        return f"the copy no longer builds ({log})"
    arguments = shlex.split(header["Run"])
    arguments[0] = os.path.join(build, arguments[0])
    code = command(arguments, build, log, RUN_SECONDS)
    with open(log, errors="replace") as file:
        text = file.read()
    if code == 0:
        return f"not found: {header['Run']} passed"
    if header["Checker"] not in text:
        return f"failed, but not by the checker \"{header['Checker']}\" ({log})"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "mutants"))
    args = parser.parse_args()
    copy = os.path.join(args.build, "copy")
    logs = os.path.join(args.build, "logs")
    os.makedirs(logs, exist_ok=True)
    passed = failed = 0
    for patch in sorted(glob.glob(os.path.join(ROOT, "tests", "mutants", "*.patch"))):
        name = os.path.splitext(os.path.basename(patch))[0]
        if args.only and name not in args.only:
            continue
        fresh_copy(copy)
        if not os.path.exists(os.path.join(copy, "build", "release", "build.ninja")):
            if command(["cmake", "--preset", "release"], copy, os.path.join(logs, "configure.log")) != 0:
                raise SystemExit(f"the copy does not configure: {logs}/configure.log")
        problem = try_mutant(patch, copy, logs)
        print(f"{name:40} {'found' if problem is None else problem}", flush=True)
        passed, failed = passed + (problem is None), failed + (problem is not None)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
