#!/usr/bin/env python3
"""What a wrong use of an actor must cost: a compiler error that names the mistake, not a bug at night.

Compiles tests/runtime/must_not_compile/good.cpp as it is (must work) and with each mistake defined (must not).
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests/runtime/must_not_compile/good.cpp"
# The mistake, and what the compiler's words must contain.
MISTAKES = {
    "NO_DEADLINE": r"no matching (member )?function for call to .*ask",
    "NO_HANDLER": r"no handler on\(M\) for a Tell<M>",
    "REPLY_OF_ANOTHER_TYPE": r"no handler on\(M, ReplyTo<M::Reply>\) for an Ask<M>",
    "WRONG_ANSWER_EXPECTED": r"no matching (member )?function for call to .*then",
    "NOT_IN_THE_PROTOCOL": r"the receiver's protocol has no Tell<M>",
}


def compile_with(cxx, build, mistake):
    command = [cxx, "-std=c++20", "-fsyntax-only", "-I", str(build / "view/runtime"), str(SOURCE)]
    if mistake:
        command.insert(1, f"-D{mistake}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode == 0, result.stderr.replace("\u2018", "'").replace("\u2019", "'")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--cxx", required=True)
    options = parser.parse_args()
    failures = 0
    compiled, words = compile_with(options.cxx, options.build, None)
    if not compiled:
        print(f"the right use does not compile:\n{words}")
        failures += 1
    for mistake, expected in MISTAKES.items():
        compiled, words = compile_with(options.cxx, options.build, mistake)
        if compiled:
            print(f"{mistake}: compiles, and must not")
            failures += 1
        elif not re.search(expected, words):
            print(f"{mistake}: fails for another reason than /{expected}/:\n{words[:2000]}")
            failures += 1
        else:
            print(f"{mistake}: refused")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
