"""What tests with real processes share: the program, checkpoints made once, and the summary line of a test binary.

  python3 tests/flows/bits_test.py --consort build/release/consort
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(SOURCE, "tools"))
from local_cluster import LocalCluster, make_checkpoint  # noqa: E402,F401

ADDER = os.path.join(SOURCE, "examples", "models", "adder")
COMMAND_SECONDS = 120  # a command that takes longer hangs


class Program:
    """The program under test, and a folder that is gone when the tests end."""
    path = ""
    folder = ""


def run(*arguments, environment=None, timeout=COMMAND_SECONDS):
    return subprocess.run([Program.path, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, env=environment)


def is_sanitized():
    """A build that checks its memory holds far more of it, and takes longer."""
    with open(Program.path, "rb") as file:
        return b"__asan_init" in file.read()


def temporary(name):
    return os.path.join(Program.folder, name)


def token_lines(output):
    """(id, logits_crc) of every token, and the end line, of `consort generate --json`."""
    lines = [json.loads(line) for line in output.splitlines()]
    return [(line["id"], line["logits_crc"]) for line in lines if "id" in line], lines[-1]


def read_tensors(path):
    """name -> (dtype, shape, bytes) of a safetensors file."""
    with open(path, "rb") as file:
        data = file.read()
    header_bytes, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + header_bytes])
    body = data[8 + header_bytes:]
    return {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])])
            for name, t in header.items() if name != "__metadata__"}


class Result(unittest.TextTestResult):
    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"skipped: {test.shortDescription() or test.id()}: {reason}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--consort", required=True)
    args, rest = parser.parse_known_args()
    Program.path = os.path.abspath(args.consort)
    Program.folder = tempfile.mkdtemp(prefix="consort-test-")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # clusters are taken down on the way
    try:
        suite = unittest.main(module="__main__", argv=[sys.argv[0], *rest], exit=False, verbosity=2,
                              testRunner=unittest.TextTestRunner(resultclass=Result, verbosity=2, stream=sys.stdout))
    finally:
        shutil.rmtree(Program.folder, ignore_errors=True)
    result = suite.result
    failed = len(result.failures) + len(result.errors)
    passed = result.testsRun - failed - len(result.skipped)
    print(f"{passed} passed, {failed} failed, {len(result.skipped)} skipped")
    sys.exit(1 if failed or passed == 0 else 0)
