"""A cluster on two machines: brought up, looked at and taken down over a real ssh.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import real  # noqa: E402
import two_hosts  # noqa: E402

MISSING = two_hosts.missing()
IDS = "3,5,7,9"
TOKENS = 40
CUT_SECONDS = 4  # twice as long as it takes to be declared dead
CONNECT_SECONDS = 10  # that ssh is given


@unittest.skipIf(MISSING, MISSING)
class Ssh(unittest.TestCase):
    def setUp(self):
        folder = real.temporary(self.id().split(".")[-1])
        os.makedirs(folder)
        self.hosts = two_hosts.TwoHosts(folder, real.Program.path, real.ADDER)
        self.hosts.__enter__()
        self.addCleanup(self.hosts.__exit__)
        self.file = os.path.join(folder, "lab.toml")
        self.write()
        self.addCleanup(self.kill_all)

    def write(self, gateway="", **more):
        host = dict(address=self.hosts.far_address, ssh="root@" + self.hosts.far_address, program=self.hosts.far_program,
                    model=self.hosts.far_model, state=self.hosts.far_state) | more
        lines = ["[cluster]", 'name = "lab"', f'model = "{real.ADDER}"', "replicas = 2", "[[host]]",
                 *(f"{k} = {json.dumps(v)}" for k, v in host.items() if v)]
        for name, address, roles in (("desk", self.hosts.near_address, ["coordinator", "batcher", "trunk", "experts"]),
                                     ("attic", self.hosts.far_address, ["trunk", "experts"] + ["gateway"] * bool(gateway))):
            lines += ["[[node]]", f'name = "{name}"', f'host = "{address}"', f"roles = {json.dumps(roles)}",
                      'memory = "256MiB"']
        with open(self.file, "w") as out:
            out.write("\n".join(lines) + "\n" + gateway)

    def run_near(self, *arguments, timeout=real.COMMAND_SECONDS):
        return subprocess.run(self.hosts.on_near(real.Program.path, *arguments), capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL, env=self.hosts.environment)

    def up(self):
        done = self.run_near("up", self.file, "--detach")
        self.assertEqual(done.returncode, 0, done.stderr)

    def refused(self, *says, code=2):
        done = self.run_near("up", self.file, "--detach")
        self.assertEqual(done.returncode, code, done.stderr)
        for text in says:
            self.assertIn(text, done.stderr)
        self.assertEqual(self.processes(), [], "something was left running")
        return done.stderr

    def generate(self, *where, timeout=real.COMMAND_SECONDS):
        done = self.run_near("generate", *where, "--ids", IDS, "--ignore-eos", "--max-new-tokens", str(TOKENS), "--json",
                             timeout=timeout)
        self.assertEqual(done.returncode, 0, done.stderr)
        return real.token_lines(done.stdout)[0]

    def states(self):
        return [self.hosts.far_state, os.path.join(self.hosts.environment["XDG_STATE_HOME"], "consort", "lab")]

    def processes(self, states=None):
        """Pids whose command line names one of the state folders."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(state in words for state in states or self.states()):
                found.append((int(entry), words))
        return found

    def kill_all(self):
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def kill_far(self):
        for _ in range(2):  # an agent may have started one meanwhile
            for pid, _ in self.processes([self.hosts.far_state]):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)

    def test_two_hosts(self):
        """two hosts give the local bits, also when one of them dies, and nothing is left when they are taken down"""
        self.up()
        far = self.processes([self.hosts.far_state])
        self.assertEqual(sorted(words[words.index("--name") + 1] for _, words in far), ["agent-1", "attic"])
        for pid, _ in far:
            self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/net"), os.readlink("/proc/self/ns/net"))
        plan = os.path.join(self.hosts.folder, "plan.json")
        done = self.run_near("status", self.file, "--json", "--numeric-plan", plan)
        nodes = {n["name"]: n for n in json.loads(done.stdout)["nodes"]}
        self.assertEqual({n["state"] for n in nodes.values()}, {"ready"})
        self.assertGreater(nodes["attic"]["parts"], 0)
        local = self.generate("--model", real.ADDER, "--numeric-plan", plan)
        self.assertEqual(len(local), TOKENS)
        self.assertEqual(self.generate("--cluster", self.file), local)
        self.refused_up_again()
        # A worker alone is started again by its host's agent.
        worker = next(pid for pid, words in far if "attic" in words)
        os.kill(worker, signal.SIGKILL)
        self.assertEqual(self.generate("--cluster", self.file), local)
        self.wait_node("attic", "ready", nodes["attic"]["incarnation"])
        # The whole host is gone.
        self.kill_far()
        self.assertEqual(self.generate("--cluster", self.file), local)
        done = self.run_near("down", self.file)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("is down", done.stderr)
        self.assertEqual(self.processes(), [])
        self.assertIn("is not up", self.run_near("down", self.file).stderr)
        self.up()  # once more, with the keys that are there
        self.assertEqual(self.generate("--cluster", self.file), local)
        self.assertIn("is down", self.run_near("down", self.file).stderr)
        self.assertEqual(self.processes(), [])

    def refused_up_again(self):
        done = self.run_near("up", self.file, "--detach")
        self.assertEqual(done.returncode, 2)
        self.assertIn("is up already", done.stderr)

    def wait_node(self, name, state, after_incarnation, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            nodes = {n["name"]: n for n in json.loads(self.run_near("status", self.file, "--json").stdout)["nodes"]}
            if nodes[name]["state"] == state and nodes[name]["incarnation"] > after_incarnation:
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} is not {state} after {seconds} s")

    def test_cable_cut(self):
        """while the machines do not hear each other one goes on alone, and the other joins again afterwards"""
        self.up()
        local = self.generate("--cluster", self.file)
        life = {n["name"]: n for n in json.loads(self.run_near("status", self.file, "--json").stdout)["nodes"]}["attic"]
        self.hosts.cut(True)
        time.sleep(CUT_SECONDS)
        self.assertEqual(self.generate("--cluster", self.file), local)
        self.hosts.cut(False)
        self.wait_node("attic", "ready", life["incarnation"])
        self.assertEqual(self.generate("--cluster", self.file), local)
        self.run_near("down", self.file)
        self.assertEqual(self.processes(), [])

    def test_secrets(self):
        """the other host gets its own keys only, in files of mode 0600, and no command line shows one"""
        self.up()
        keys = {name: open(os.path.join(self.hosts.far_state, "keys", name)).read()
                for name in os.listdir(os.path.join(self.hosts.far_state, "keys"))}
        self.assertEqual(sorted(keys), ["agent-1.key", "allowed", "attic.key"])
        for folder, _, files in os.walk(self.hosts.far_state):
            self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)
            for name in files:
                self.assertEqual(stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode), 0o600, name)
        secrets = [word for name, text in keys.items() if name.endswith(".key") for word in re.findall(r"\S{40}", text)]
        self.assertGreater(len(secrets), 1)
        for _, words in self.processes():
            for secret in secrets:
                self.assertNotIn(secret, " ".join(words))

    def test_gateway_elsewhere(self):
        """the HTTP service may be on the other host"""
        self.write(gateway="[gateway]\nport = 0\n")
        self.up()
        with open(os.path.join(self.states()[1], "run", "gateway.address")) as file:
            url = file.read().strip()
        ask = f"import urllib.request; print(urllib.request.urlopen('{url}/v1/models').read().decode())"
        done = subprocess.run(self.hosts.on_far(sys.executable, "-c", ask), capture_output=True, text=True, timeout=30)
        self.assertIn('"adder"', done.stdout, done.stderr)
        self.run_near("down", self.file)
        self.assertEqual(self.processes(), [])

    def test_agent_ends(self):
        """`up` in the foreground tells that another host's agent has ended, and takes down what is left"""
        process = subprocess.Popen(self.hosts.on_near(real.Program.path, "up", self.file), stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True, env=self.hosts.environment)
        said = ""
        for line in process.stderr:
            said += line
            if "Ctrl-C" in line:
                self.kill_far()
            if "has ended" in line:
                break
        self.assertIn(f"agent-1 on {self.hosts.far_address} has ended", said)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(self.processes(), [])

    def test_not_reached(self):
        """a host that is not reached is told in words, with the command to try, within ssh's time"""
        self.hosts.stop_sshd()
        self.refused("ssh root@10.77.0.2 fails", "refused", "try: ssh -o BatchMode=yes root@10.77.0.2 true")
        self.hosts.cut(True)
        begun = time.monotonic()
        self.refused("ssh root@10.77.0.2 fails", "try: ssh -o BatchMode=yes root@10.77.0.2 true")
        self.assertLess(time.monotonic() - begun, CONNECT_SECONDS + 20)
        self.hosts.cut(False)
        self.hosts.start_sshd()
        with open(os.path.join(self.hosts.folder, "known-hosts"), "w") as out:
            out.write("")
        self.refused("Host key verification failed")

    def test_not_the_same(self):
        """another build, another model, no program: words that say what to do"""
        with open(self.hosts.far_program, "ab") as out:
            out.write(b"another")
        self.refused("has another build of consort", "copy this program there")
        os.remove(self.hosts.far_program)
        self.refused("there is no program", self.hosts.far_program)
        shutil.copy(real.Program.path, self.hosts.far_program)
        os.remove(os.path.join(self.hosts.far_model, "config.json"))
        self.refused("cannot run its nodes", "config.json")

    def test_doctor(self):
        """doctor looks at every host, and gives the command that mends what is missing"""
        done = self.run_near("doctor", self.file, "--json")
        report = json.loads(done.stdout)
        bad = [f for h in report["hosts"] for f in h["findings"] if not f["good"]]
        self.assertEqual((done.returncode, bad), (0, []))
        self.assertEqual([h["host"] for h in report["hosts"]], ["this machine", "root@10.77.0.2"])
        subjects = {f["subject"] for f in report["hosts"][1]["findings"]}
        self.assertEqual(subjects, {"ssh", "machine", "program", "instructions", "model", "memory", "ports", "limits",
                                    "clock", "state"})
        os.remove(os.path.join(self.hosts.far_model, "config.json"))
        with open(self.hosts.far_program, "ab") as out:
            out.write(b"another")
        done = self.run_near("doctor", self.file)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"BAD +model .*config\.json")
        self.assertIn(f"-> rsync -a {real.ADDER}/ root@10.77.0.2:{self.hosts.far_model}/", done.stdout)
        self.assertIn(f"-> scp {real.Program.path} root@10.77.0.2:{self.hosts.far_program}", done.stdout)
        os.remove(self.hosts.far_program)
        self.assertRegex(self.run_near("doctor", self.file).stdout, r"BAD +program .*there is no program")
        self.hosts.stop_sshd()
        done = self.run_near("doctor", self.file)
        self.assertRegex(done.stdout, r"BAD +ssh ")
        self.assertIn("-> ssh -o BatchMode=yes root@10.77.0.2 true", done.stdout)


if __name__ == "__main__":
    real.main()
