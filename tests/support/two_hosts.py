"""Two 'machines' on this one: network namespaces with a cable between them, and a real sshd in the second.

They share processor, file system and process numbers; what a cluster keeps is in a folder of its own for each.
SPDX-License-Identifier: Apache-2.0
"""
import os
import shutil
import signal
import subprocess
import time

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
STEP_SECONDS = 30


def missing():
    """Why this cannot be tried here; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in (SSHD, "ssh", "ssh-keygen", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not there: apt-get install openssh-server openssh-client iproute2"
    done = subprocess.run(["ip", "netns", "add", f"consort-try-{os.getpid()}"], capture_output=True, text=True)
    if done.returncode != 0:
        return "no network namespace can be made here: " + done.stderr.strip()
    subprocess.run(["ip", "netns", "del", f"consort-try-{os.getpid()}"], check=True)
    return None


class TwoHosts:
    def __init__(self, folder, program, model):
        self.folder = folder
        self.near = f"consort-near-{os.getpid()}"  # namespaces
        self.far = f"consort-far-{os.getpid()}"
        self.near_address, self.far_address = "10.77.0.1", "10.77.0.2"
        self.far_program = os.path.join(folder, "far", "consort")
        self.far_model = os.path.join(folder, "far", "model")
        self.far_state = os.path.join(folder, "far", "state")
        self.bin = os.path.join(folder, "bin")
        self.sshd = None
        os.makedirs(os.path.join(folder, "far"))
        os.makedirs(self.bin)
        shutil.copy(program, self.far_program)
        shutil.copytree(model, self.far_model)
        self.environment = dict(os.environ, XDG_STATE_HOME=os.path.join(folder, "near-state"),
                                PATH=self.bin + ":" + os.environ["PATH"])

    def __enter__(self):
        try:
            self._cable()
            self._keys()
            self.start_sshd()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop_sshd()
        for namespace in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)

    def _ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=STEP_SECONDS)

    def _cable(self):
        self._ip("netns", "add", self.near)
        self._ip("netns", "add", self.far)
        self._ip("link", "add", "cable0", "netns", self.near, "type", "veth", "peer", "name", "cable1", "netns", self.far)
        for namespace, address, end in ((self.near, self.near_address, "cable0"), (self.far, self.far_address, "cable1")):
            self._ip("-n", namespace, "addr", "add", address + "/24", "dev", end)
            self._ip("-n", namespace, "link", "set", "lo", "up")
            self._ip("-n", namespace, "link", "set", end, "up")

    def cut(self, is_cut):
        """The cable between them."""
        self._ip("-n", self.far, "link", "set", "cable1", "down" if is_cut else "up")

    def _keys(self):
        path = lambda name: os.path.join(self.folder, name)  # noqa: E731
        for name in ("host-key", "user-key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path(name)], check=True)
        shutil.copy(path("user-key.pub"), path("authorized"))
        with open(path("host-key.pub")) as file:
            kind, key = file.read().split()[:2]
        with open(path("known-hosts"), "w") as out:
            out.write(f"{self.far_address} {kind} {key}\n")
        with open(path("sshd-config"), "w") as out:
            out.write(f"ListenAddress {self.far_address}\nPort 22\nHostKey {path('host-key')}\nPidFile {path('sshd.pid')}\n"
                      f"UsePAM no\nStrictModes no\nAuthorizedKeysFile {path('authorized')}\nPasswordAuthentication no\n")
        with open(path("ssh-config"), "w") as out:
            out.write(f"Host *\n  User root\n  IdentityFile {path('user-key')}\n  IdentitiesOnly yes\n"
                      f"  UserKnownHostsFile {path('known-hosts')}\n  StrictHostKeyChecking yes\n")
        wrapper = os.path.join(self.bin, "ssh")  # the user's ssh config, without touching the user's
        with open(wrapper, "w") as out:
            out.write(f"#!/bin/sh\nexec {shutil.which('ssh')} -F {path('ssh-config')} \"$@\"\n")
        os.chmod(wrapper, 0o755)

    def start_sshd(self):
        os.makedirs("/run/sshd", exist_ok=True)  # where it leaves its rights, on Debian
        self.sshd = subprocess.Popen(
            ["ip", "netns", "exec", self.far, SSHD, "-D", "-e", "-f", os.path.join(self.folder, "sshd-config")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + STEP_SECONDS
        while subprocess.run(self.on_near(os.path.join(self.bin, "ssh"), "-o", "BatchMode=yes", self.far_address, "true"),
                             capture_output=True).returncode != 0:
            if time.monotonic() > end:
                raise RuntimeError("sshd does not answer")
            time.sleep(0.1)

    def stop_sshd(self):
        if self.sshd is not None:
            self.sshd.send_signal(signal.SIGTERM)
            self.sshd.wait(STEP_SECONDS)
            self.sshd = None

    def on_near(self, *command):
        return ["ip", "netns", "exec", self.near, *command]

    def on_far(self, *command):
        return ["ip", "netns", "exec", self.far, *command]
