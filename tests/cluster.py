"""A SLURM cluster of a user's own on this machine: munged, slurmctld and a slurmd for each node, without root.

    with SlurmCluster(directory, nodes=2) as cluster:
        cluster.run("srun", "-n", "4", "true")
"""
import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time

from program import PATH

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
StateSaveLocation={directory}/slurmctld
SlurmdSpoolDir={directory}/slurmd.%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
KillWait=1
InactiveLimit=0
PropagateResourceLimits=NONE
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName=node{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=1000\n"
PATIENCE = 120      # seconds until the cluster must be up, or a command have ended


def free_ports(count):
    """So many ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_running(pid):
    """Whether a process has not ended; init may take seconds to take notice of one that has."""
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


class NoEnd(AssertionError):
    """A command that hangs; its job is cancelled, so that nothing of it stands in the way of others."""


class SlurmCluster:
    """A cluster with nodes node1, node2 ... of 16 processors each, whatever the machine has."""

    def __init__(self, directory, nodes=2):
        self.directory = str(directory)
        self.nodes = ["node%d" % number for number in range(1, nodes + 1)]
        self.environment = {"PATH": PATH, "HOME": self.directory, "LANG": "C.UTF-8",
                            "SLURM_CONF": os.path.join(self.directory, "slurm.conf")}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        self._write_configuration()
        # It dislikes directories that not everybody can enter, as the tests' are
        self._call("munged", "--force", *["--%s=%s/%s" % (option, self.directory, name) for option, name in (
            ("key-file", "munge.key"), ("socket", "munge.socket"), ("pid-file", "munged.pid"),
            ("log-file", "munged.log"), ("seed-file", "munged.seed"))])
        self._call("slurmctld")
        for node in self.nodes:
            self._call("slurmd", "-N", node)
        deadline = time.monotonic() + PATIENCE
        while self._call("sinfo", "-h", "-N", "-o", "%T").split() != ["idle"] * len(self.nodes):
            assert time.monotonic() < deadline, "the nodes do not come up"
            time.sleep(0.1)

    def _write_configuration(self):
        with open(os.path.join(self.directory, "munge.key"), "wb") as key:
            os.fchmod(key.fileno(), 0o400)
            key.write(os.urandom(1024))
        os.mkdir(os.path.join(self.directory, "slurmctld"))
        host, ports = socket.gethostname().partition(".")[0], free_ports(len(self.nodes) + 1)
        text = CONFIGURATION.format(host=host, ports=ports, user=getpass.getuser(), directory=self.directory)
        for number, port in enumerate(ports[1:], 1):
            os.mkdir(os.path.join(self.directory, "slurmd.node%d" % number))
            text += NODE.format(number=number, host=host, port=port)
        with open(self.environment["SLURM_CONF"], "w") as file:
            file.write(text)

    def _call(self, *command):
        process = subprocess.run(command, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        out = process.stdout.decode(errors="replace")
        assert process.returncode == 0, "%s: %s" % (" ".join(command), out)
        return out

    def run(self, *command, env=None, cwd=None, patience=PATIENCE):
        """(exit status, all that it printed) of a command that may talk to the cluster; NoEnd after so many seconds."""
        with subprocess.Popen(list(map(str, command)), cwd=str(cwd or self.directory), stdin=subprocess.DEVNULL,
                              env=dict(self.environment, **(env or {})), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, start_new_session=True) as process:
            try:
                out = process.communicate(timeout=patience)[0]
            except subprocess.TimeoutExpired:
                self._call("scancel", "--user=" + getpass.getuser(), "--signal=KILL", "--full")
                os.killpg(process.pid, signal.SIGKILL)
                raise NoEnd("%s\n%s" % (command, process.communicate()[0]))
        return process.returncode, out.decode(errors="replace")

    def submit(self, script, out, env, cwd):
        """(exit status, what it printed) of a batch script; `out` is a path for the latter."""
        status, said = self.run("sbatch", "--parsable", "--output=%s" % out, script, env=env, cwd=cwd)
        assert status == 0, said
        job, deadline = said.split()[0], time.monotonic() + PATIENCE
        while self._call("squeue", "-h", "-j", job, "-o", "%T"):
            if time.monotonic() > deadline:
                self._call("scancel", job)          # it would be in the way of what comes next
                raise AssertionError("no end of %s:\n%s" % (script, out.read_text() if out.exists() else ""))
            time.sleep(0.1)
        shown = self._call("scontrol", "show", "job", job)
        return int(shown.partition("ExitCode=")[2].partition(":")[0]), out.read_text()

    def __exit__(self, *_):
        names = ["slurmd.%s.pid" % node for node in self.nodes] + ["slurmctld.pid", "munged.pid"]
        for path in (os.path.join(self.directory, name) for name in names):
            with contextlib.suppress(OSError, ValueError):
                with open(path) as file:
                    pid = int(file.read())
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + PATIENCE
                while is_running(pid) and time.monotonic() < deadline:
                    time.sleep(0.05)
