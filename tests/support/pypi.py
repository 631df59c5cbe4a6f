"""Packages that only tests need, each in a folder of its own, fetched from PyPI once.

SPDX-License-Identifier: Apache-2.0
"""
import os
import shutil
import subprocess
import sys

REQUIREMENTS = {
    "openai": "openai>=1.40,<4",  # the newest major version that the tests were written against is 3
    "prometheus_client": "prometheus-client>=0.17,<1",
    "selenium": "selenium>=4.10,<5",
}
FETCH_SECONDS = 900  # a busy machine, a slow line


def folder(build, package):
    """A folder for sys.path; None, with the reason printed, where the package cannot be had."""
    target = os.path.join(build, f"{package}-client")
    if os.path.isdir(target):
        return target
    partial = f"{target}.{os.getpid()}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check",
               "--target", partial, REQUIREMENTS[package]]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
        os.rename(partial, target)
        return target
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        said = getattr(error, "stderr", None) or str(error)
        print(f"the {package} package could not be fetched:", said.strip().splitlines()[-1], flush=True)
        return None
