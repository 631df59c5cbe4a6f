#!/usr/bin/env python3
"""The floors of the house hold: no folder sees one that it may not include.

1. No `..` in any #include or schema import.
2. Schemas import only from folders that theirs may see.
3. For every folder and every other folder, a source of the first that includes a header of the second compiles with the
   include paths that CMake gives it exactly where the second is one of the folders that it links.

The paths are those of the build's compile_commands.json, so that what is tried is what is built.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["runtime", "kernels", "transport", "model", "cluster", "actors", "cli"]
# What the sources of a folder may include beside their own folder; the picture in docs/architecture.md.
MAY_SEE = {
    "runtime": set(),
    "kernels": {"runtime"},
    "transport": {"runtime"},
    "model": {"runtime", "kernels"},
    "cluster": {"runtime", "transport"},
    "actors": {"runtime", "model", "cluster"},
    # cli itself: the commands. cli/house is the one place that sees every floor, and is checked apart.
    "cli": {"runtime", "model", "cluster", "actors"},
    "cli/house": {"runtime", "kernels", "transport", "model", "cluster", "actors"},
}
# Climbs that would hurt most; checked by name, whether or not such a header exists.
NAMED_CLIMBS = [
    ("runtime", "model/x.hpp"),
    ("runtime", "kernels/gemm.hpp"),
    ("kernels", "transport/x.hpp"),
    ("transport", "cluster/x.hpp"),
    ("model", "transport/x.hpp"),
    ("actors", "kernels/gemm.hpp"),
    ("actors", "transport/x.hpp"),
]
SOURCES = {".cpp", ".hpp", ".h", ".cc"}


def files_of(folder):
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix in SOURCES | {".capnp"}:
            yield path


def check_climbing_paths():
    problems = []
    for folder in FOLDERS + ["tests", "examples", "bench"]:
        for path in files_of(folder):
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                include = re.match(r"\s*#\s*include\s*[<\"]([^>\"]+)[>\"]", line)
                imported = re.search(r"\bimport\s+\"([^\"]+)\"", line) if path.suffix == ".capnp" else None
                target = include or imported
                if target and ".." in target.group(1).split("/"):
                    problems.append(f"{path.relative_to(ROOT)}:{number}: '..' in {target.group(1)}")
                if imported and folder in MAY_SEE:
                    seen = imported.group(1).strip("/").split("/")[0]
                    if seen in FOLDERS and seen != folder and seen not in MAY_SEE[folder]:
                        problems.append(f"{path.relative_to(ROOT)}:{number}: a schema of {folder} imports {seen}")
    return problems


def include_flags(build):
    """The -I and -isystem flags of one source per folder, as CMake wrote them."""
    flags = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        words = entry["arguments"] if "arguments" in entry else shlex.split(entry["command"])
        output = words[words.index("-o") + 1] if "-o" in words else ""
        found = re.search(r"CMakeFiles/(consort(?:_\w+)?)\.dir/", output)
        target = found.group(1) if found else ""
        folder = {"consort_house": "cli/house", "consort": "cli"}.get(target, target.removeprefix("consort_"))
        if folder not in MAY_SEE or folder in flags or path.suffix != ".cpp":
            continue
        wanted = []
        for at, word in enumerate(words):
            if word == "-isystem":
                wanted += [word, words[at + 1]]
            elif word.startswith("-I"):
                wanted.append(word)
        flags[folder] = (wanted, entry["directory"])
    return flags


def finds(cxx, flags, directory, header):
    """Whether the preprocessor finds the header; what stands in it does not matter here."""
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
        source.write(f'#if !__has_include("{header}")\n#error absent\n#endif\n')
        source.flush()
        command = [cxx, "-std=c++20", "-E", "-o", "/dev/null", *flags, source.name]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if result.returncode != 0 and "absent" not in result.stderr:
        sys.exit(f"the compiler failed for another reason: {result.stderr}")
    return result.returncode == 0


def check_views(build, cxx):
    problems = []
    tried = 0
    flags = include_flags(build)
    for folder, allowed in MAY_SEE.items():
        if folder not in flags:
            print(f"not tried: the build has no source of {folder}")
            continue
        wanted, directory = flags[folder]
        own = folder.split("/")[0]
        for other in FOLDERS:
            headers = sorted((ROOT / other).rglob("*.hpp"))
            if other == own or not headers:
                continue
            header = headers[0].relative_to(ROOT)
            tried += 1
            if finds(cxx, wanted, directory, header) != (other in allowed):
                word = "cannot see" if other in allowed else "sees"
                problems.append(f"{folder} {word} {header}")
        for where, header in NAMED_CLIMBS:
            if where == folder:
                tried += 1
                if finds(cxx, wanted, directory, header):
                    problems.append(f"{folder} sees {header}")
    # The check itself: a header of one's own is found, or nothing above means anything.
    if "runtime" in flags and not finds(cxx, *flags["runtime"], "runtime/ids.hpp"):
        problems.append("runtime does not find its own headers: the check is broken")
    print(f"{tried} includes tried over {len(flags)} folders")
    if not tried:
        problems.append("nothing was tried: no compile_commands.json entry is ours")
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--cxx", required=True)
    options = parser.parse_args()
    problems = check_climbing_paths() + check_views(options.build, options.cxx)
    for problem in problems:
        print(problem)
    print("the floors hold" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
