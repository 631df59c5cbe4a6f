#!/usr/bin/env python3
"""Runs the tests of a build folder one after the other and ends with "N passed, M failed, K skipped".

  run_tests.py BUILD [--only NAME ...] [--without NAME ...]

A test binary reports its own counts in its last line; any other command counts as one test by its exit code.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")
DEFAULT_TIMEOUT_SECONDS = 1500
LAST_WORDS_SECONDS = 20


def listed(build):
    listing = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, check=True, capture_output=True, text=True)
    for test in json.loads(listing.stdout)["tests"]:
        if "command" in test:
            properties = {p["name"]: p["value"] for p in test.get("properties", [])}
            yield test["name"], test["command"], properties.get("WORKING_DIRECTORY", build)


def end(process):
    """First asks: a test that has a cluster up takes it down."""
    process.terminate()
    try:
        process.wait(LAST_WORDS_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(name, command, folder, log_folder):
    """Returns (passed, failed, skipped) and the lines worth showing."""
    log = os.path.join(log_folder, name + ".log")
    with open(log, "w+", errors="replace") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            code = process.wait(DEFAULT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            code = f"no end after {DEFAULT_TIMEOUT_SECONDS} s"
            end(process)
        out.seek(0)
        lines = out.read().splitlines()
    counts = next((m for line in reversed(lines) if (m := SUMMARY.match(line))), None)
    skipped = [line for line in lines if line.startswith("skipped: ")]
    if counts is None:
        counts = (1, 0, 0) if code == 0 else (0, 1, 0)
    else:
        counts = tuple(int(c) for c in counts.groups())
        if code != 0 and counts[1] == 0:  # died after or beside its checks
            counts = (counts[0], 1, counts[2])
    if code != 0:
        return counts, skipped + lines[-80:] + [f"{name}: exit {code}; whole output in {log}"]
    return counts, skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[])
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    logs = os.path.join(build, "test-logs")
    os.makedirs(logs, exist_ok=True)
    total = [0, 0, 0]
    for name, command, folder in listed(build):
        if (args.only and name not in args.only) or name in args.without:
            continue
        started = time.monotonic()
        counts, lines = run(name, command, folder, logs)
        print(f"{name:24} {counts[0]:4} passed {counts[1]:3} failed {counts[2]:3} skipped  "
              f"{time.monotonic() - started:6.1f} s", flush=True)
        for line in lines:
            print("    " + line, flush=True)
        total = [a + b for a, b in zip(total, counts)]
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
