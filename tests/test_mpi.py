"""Jobs of many ranks under SLURM, mpiexec and srun: each launcher, each MPI and each mode with the batch scripts that
the README shows, and what ranks on one node have in common."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import udocker as program_under_test
from cluster import PATIENCE, PROGRAMS, NoEnd, SlurmCluster
from conftest import modes_to_test, need, working
from program import CHECKOUT, Program, in_main_thread
from test_processes import processes_with

TREE = "/var/cache/udocker-tests/mpi.tar"
OTHER_MPI = "/opt/udocker-tests"
SCRIPTS = sorted(os.listdir(str(CHECKOUT / "tests" / "batch")))
MODES = ("P1", "N1", "R1", "F3")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two nodes."""
    for name in PROGRAMS:
        need(name)
    with SlurmCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A home with a Debian container named mpi, in which are Open MPI, MPICH and what is to be run; and with a bin/ as
    a user of a cluster has it."""
    if not os.path.exists(TREE):
        pytest.skip("there is no Debian tree with MPI: tests/run makes it when it is run by root")
    program = Program(tmp_path_factory.mktemp("site"))
    program.ok("import", "--tocontainer", "--name=mpi", TREE)
    commands = program.home / "bin"
    commands.mkdir()
    for name in "openmpi", "mpich":
        built = commands / ("ranks." + name)
        subprocess.run([need("mpicc." + name), "-o", str(built), str(CHECKOUT / "tests" / "ranks.c")], check=True)
        program.ok("cp", built, "mpi:/usr/local/bin/")
    (commands / "mpiexec").symlink_to(need("mpiexec.openmpi"))
    (commands / "udocker").symlink_to(CHECKOUT / "udocker")
    # More ranks than processors, as Open MPI up to 4 is told, and since
    program.env = {"PATH": "%s:%s" % (commands, os.environ["PATH"]), "OMPI_MCA_rmaps_base_oversubscribe": "1",
                   "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
                   "PRTE_MCA_hwloc_default_binding_policy": "none"}
    return program


@pytest.fixture
def place(site, mode_of_mpi):
    """The variables for a job in each mode."""
    return dict(site.environment(), UDOCKER_DEFAULT_EXECUTION_MODE=mode_of_mpi)


def call(*command):
    subprocess.run(list(map(str, command)), check=True)


@pytest.fixture(params=MODES)
def mode_of_mpi(request, site, broken_modes):
    """Each mode that works here, the container converted for it."""
    if request.param not in modes_to_test(request.config, MODES) + ["F3"]:
        pytest.skip("not among the modes that are asked for")
    working("P1" if request.param == "F3" else request.param, broken_modes)
    if request.param != "F3":
        yield request.param
        return
    if not glob.glob("/usr/lib/*/fakechroot/libfakechroot.so"):
        pytest.skip("libfakechroot is not installed")
    site.ok("setup", "--execmode=F3", "mpi")
    yield "F3"
    site.ok("setup", "--execmode=P1", "mpi")
    (site.store / "containers" / "mpi" / "execmode").unlink()


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_batch_scripts(cluster, site, place, script):
    status, out = cluster.submit(CHECKOUT / "tests" / "batch" / script, site.home / "out", place, site.home)
    assert status == 0 and "all right" in out and "user-namespace" not in out, out


@pytest.mark.parametrize("script", ["mpiexec-openmpi", "srun-pmix"])
def test_the_readme_shows_batch_scripts_that_were_run(script):
    text = (CHECKOUT / "tests" / "batch" / script).read_text()
    assert script in SCRIPTS and "```\n%s```" % text in (CHECKOUT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("program, launcher", [
    ("ranks.mpich", ["srun", "--mpi=pmi2", "-N", "2", "-n", "2"]),
    ("ranks.openmpi", ["salloc", "-N", "2", "-n", "4", "mpiexec", "-np", "4"])])
def test_two_nodes(cluster, site, place, program, launcher):
    """Over TCP: the nodes are one machine, where both would give their shared memory the same names.

    MPICH 4.0 then hangs once in a hundred runs, on the host alone too: in MPI_Finalize a rank waits for another one
    that is at PMI's barrier already. And Open MPI's launcher, a program of the host's, may wait for ever for a daemon
    of its own that has ended before it was told so.
    """
    command = launcher + ["udocker", "run", "--hostenv", "mpi", program]
    options = {"env": dict(place, OMPI_MCA_btl="tcp,self", OMPI_MCA_reachable="weighted", UCX_TLS="tcp,self"),
               "cwd": site.home}
    try:
        status, out = cluster.run(*command, patience=40, **options)
    except NoEnd as hanging:
        if program != "ranks.mpich" and "ORTE has lost communication" not in str(hanging):
            raise
        status, out = cluster.run(*command, **options)
    assert status == 0 and "ranks, all right" in out, out


@pytest.mark.parametrize("launcher", [["srun", "--mpi=pmix", "-n", "2"], ["mpiexec", "-np", "2"]])
def test_the_exit_status_of_a_rank(cluster, site, place, launcher):
    status, out = cluster.run(*launcher + ["udocker", "run", "--hostenv", "mpi", "ranks.openmpi", "1"],
                              env=place, cwd=site.home)
    assert status == 5, out


def test_a_real_code(cluster, site, place, tmp_path):
    """The HPC Challenge benchmark: HPL, transposition, Fourier transforms, all of which check themselves."""
    shutil.copy(str(CHECKOUT / "tests" / "hpccinf.txt"), str(tmp_path))
    status, out = cluster.run("mpiexec", "-np", "2", "udocker", "run", "--hostenv", "-v", tmp_path,
                              "--workdir=%s" % tmp_path, "mpi", "hpcc", env=place, cwd=site.home)
    report = (tmp_path / "hpccoutf.txt").read_text()
    assert status == 0 and "Success=1" in report and "FAILED" not in report, out
    assert re.search(r"Ax-b.*PASSED", report), report


@pytest.mark.parametrize("mode_of_mpi", ["P1", "N1", "R1"], indirect=True)
def test_many_ranks_of_an_image_that_is_absent(cluster, images, tmp_path, place):
    """Each node's ranks start at one moment, and the image is fetched once for all."""
    home = tmp_path / "home"
    home.mkdir()
    status, out = cluster.run("srun", "-N", "2", "-n", "16", "udocker", "run", "--rm",
                              "%s/lab/busybox" % images.host, "sh", "-c", "echo rank $0", "here",
                              env=dict(place, HOME=str(home)), cwd=tmp_path)
    assert status == 0 and out.count("rank here") == 16, out
    fetched = re.findall(r"udocker: ([0-9a-f]{12}): ", out)
    assert fetched and len(set(fetched)) == len(fetched), out
    assert not list((home / ".udocker" / "containers").iterdir()), out


@pytest.mark.parametrize("mode_of_mpi", ["P1", "N1", "R1"], indirect=True)
def test_ranks_whose_home_cannot_be_written_to(cluster, containers, place, tmp_path):
    """As on nodes that mount homes read-only: what is found out need not be noted."""
    home = tmp_path / "home"
    call("cp", "-a", containers.home, home)
    shutil.rmtree(str(home / ".udocker" / ".proofs"), ignore_errors=True)
    call("chmod", "-R", "a-w", home)
    try:
        status, out = cluster.run("srun", "-n", "8", "udocker", "run", "busybox", "echo", "rank", "here",
                                  env=dict(place, HOME=str(home)), cwd=tmp_path)
        assert status == 0 and out.count("rank here") == 8, out
    finally:
        call("chmod", "-R", "u+w", home)


def test_a_batch_job_beyond_its_limit_leaves_nothing(cluster, site, place, tmp_path):
    """What a time limit does, scancel does at once: SIGTERM, and SIGKILL to what does not listen."""
    token = "2%09d" % os.getpid()
    script, out = tmp_path / "script", tmp_path / "out"
    script.write_text("#!/bin/bash\nmpiexec -np 2 udocker run --hostenv mpi sh -c "
                      "'trap \"\" TERM; echo ready; while :; do sleep %s; done'\n" % token)
    _, job = cluster.run("sbatch", "--parsable", "-n", "2", "--output=%s" % out, script, env=place, cwd=site.home)
    deadline = time.monotonic() + PATIENCE
    while not out.exists() or out.read_text().count("ready") < 2:
        assert time.monotonic() < deadline, out.read_text() if out.exists() else job
        time.sleep(0.05)
    cluster.run("scancel", job.strip())
    while processes_with(token):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_that_is_cancelled_leaves_nothing(cluster, site, place):
    token = "1%09d" % os.getpid()
    with subprocess.Popen(["srun", "-n", "4", "udocker", "run", "--hostenv", "mpi", "sh", "-c",
                           "echo ready; exec sleep " + token], env=dict(cluster.environment, **place),
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        for _ in range(4):
            assert job.stdout.readline() == b"ready\n"
        job.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    while processes_with(token):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# The host's MPI in the container: that of PyPI's packages stands for what a site's module brings

def variables_of_module(site, name):
    """What loading the module of an MPI sets, which is newer than the container's."""
    prefix = os.path.join(OTHER_MPI, name)
    if not os.path.exists(prefix + "/bin/mpiexec"):
        pytest.skip("there is no %s of PyPI: tests/run installs it when it is run by root" % name)
    variables = {"LD_LIBRARY_PATH": prefix + "/lib", "PATH": "%s/bin:%s" % (prefix, site.env["PATH"])}
    if name == "intel":         # the network alone: what it needs for that it opens by name and by variables
        variables.update(I_MPI_ROOT=prefix, FI_PROVIDER_PATH=prefix + "/lib", I_MPI_FABRICS="ofi")
    return variables


@pytest.mark.parametrize("module, program, library", [
    ("mpich", "ranks.mpich", "MPICH Version:      5"), ("openmpi", "ranks.openmpi", "Open MPI v5"),
    ("intel", "ranks.mpich", "Intel(R) MPI Library 2021")])
@pytest.mark.parametrize("mode_of_mpi", ["P1", "N1", "R1"], indirect=True)
def test_the_hosts_mpi_stands_in_for_the_containers(cluster, site, place, module, program, library):
    status, out = cluster.run("mpiexec", "-n", "2", "udocker", "run", "--mpi", "mpi", program,
                              env=dict(place, **variables_of_module(site, module)), cwd=site.home)
    assert status == 0 and "2 ranks, all right" in out and library in out, out
    assert out.count("stands in for the container's") == 1, "the first rank alone says so"


@pytest.mark.parametrize("module, program, told", [
    ("openmpi", "ranks.openmpi", "mpiexec of Open MPI 5 starts the ranks"),
    ("openmpi", "ranks.mpich", "PMIx starts the ranks"), ("mpich", "ranks.openmpi", "PMI starts the ranks"),
    ("mpich", "ranks.mpich", ""), ("intel", "ranks.mpich", "")])
@pytest.mark.parametrize("mode_of_mpi", ["P1", "N1"], indirect=True)
def test_launchers_that_the_containers_mpi_does_not_understand_are_told(cluster, site, place, module, program, told):
    """Both kinds are in the container: what the program asks for decides. Lone ranks of Open MPI may fail besides, in
    one another's way where each makes the same directory."""
    is_new = site("run", "mpi", "sh", "-c", "ls /usr/lib/*/libopen-rte.so.*").status != 0
    if is_new and (module, program) == ("openmpi", "ranks.openmpi"):
        told = ""           # Open MPI 5 on both sides
    status, out = cluster.run("mpiexec", "-n", "2", "udocker", "run", "--hostenv", "mpi", program,
                              env=dict(place, **variables_of_module(site, module)), cwd=site.home)
    assert out.count("udocker: warning") == bool(told) and told in out, out
    assert ("2 ranks, all right" in out) == (not told) and (told or status == 0), out
    assert "help file" not in out, "it does not look for its parts where the host's are"


LIBRARY = "void %s(void) { }\n"
OPEN_MPI, MPICH, ANCIENT = "ompi_mpi_comm_world", "MPI_Init", 'x(void) { } const char has[] = "\\0GLIBC_2.3"; void y'


@pytest.mark.parametrize("files, expected", [
    ({}, "the container has no MPI library"),
    ({"libmpi.so.40": MPICH}, "the container has MPICH's libmpi.so.40 and the host"),
    ({"libmpi.so.12": OPEN_MPI}, "the container has Open MPI's libmpi.so.12 and the host"),
    ({"libmpi.so.40": OPEN_MPI}, "the container has no glibc"),
    ({"libmpi.so.40": OPEN_MPI, "libc.so.6": ANCIENT}, "and the container has 2.3"),
])
def test_a_container_that_the_hosts_mpi_does_not_suit(namespace_box, tmp_path, files, expected):
    need("mpiexec.openmpi")
    (tmp_path / "lib").mkdir()
    for name, symbol in files.items():
        built = tmp_path / "lib" / name
        subprocess.run([need("gcc"), "-shared", "-nostdlib", "-x", "c", "-", "-o", str(built)], check=True,
                       input=(LIBRARY % symbol).encode())
    result = namespace_box("run", "--mpi", "--location=%s" % tmp_path, "busybox", "true")
    assert result.status == 125 and expected in result.err, result.err


@pytest.mark.parametrize("data, expected", [
    (b"\0GLIBC_2.3\0GLIBC_2.34\0GLIBC_2.4.1\0", (2, 34)), (b"\0GLIBC_PRIVATE\0", (0, 0)),
    (b"\0GLIBC_2." + b"9" * 5000 + b"\0", (0, 0)), (b"\0GLIBC_" + b"9" * 5000 + b".1\0", (0, 0))],
    ids=["many", "private", "long minor", "long major"])
def test_the_newest_glibc_of_a_file_by_anybody(data, expected):
    assert program_under_test.newest_glibc(data) == expected


@pytest.fixture
def pair(namespace_box, tmp_path):
    """(a directory for the host's Open MPI, one for a tree's, a function that runs a command there with --mpi)."""
    host, tree = tmp_path / "a\tplace", tmp_path / "tree" / "lib"
    for directory in host, tree:
        directory.mkdir(parents=True)
        subprocess.run([need("gcc"), "-shared", "-x", "c", "-", "-Wl,--no-as-needed", "-lc",
                        "-o", str(directory / "libmpi.so.40")], check=True, input=(LIBRARY % OPEN_MPI).encode())
    shutil.copy(glob.glob("/lib/*/libc.so.6")[0], str(tree))
    shutil.copy(namespace_box.ok("inspect", "-p", "busybox").out.strip() + "/bin/busybox", str(tree.parent))

    def run(**env):
        return namespace_box("run", "--mpi", "--location=%s" % tree.parent, "x", "/busybox", "true",
                             env=dict(env, LD_LIBRARY_PATH=str(host)))
    return host, tree, run


def test_the_path_of_the_hosts_mpi_may_be_any(pair):
    """What is found out of it is noted, and read again."""
    _, _, run = pair
    for _ in range(2):
        result = run()
        assert result.status == 0, result


def test_variables_lead_the_hosts_mpi_to_its_parts(namespace_box, pair, tmp_path):
    """And neither the container's, nor to those of the image; what is given by hand counts."""
    host, tree, _ = pair
    provider = host / "prov" / "libours-fi.so"
    provider.parent.mkdir()
    shutil.copy(str(host / "libmpi.so.40"), str(provider))
    (tmp_path / "container.json").write_text(
        json.dumps({"config": {"Env": ["OPAL_PREFIX=/opt/own", "FI_PROVIDER_PATH=/x"]}}))
    variables = {"OPAL_PREFIX": str(host), "I_MPI_ROOT": "/opt/root", "I_MPI_PMI_LIBRARY": str(provider),
                 "I_MPI_OFI_LIBRARY": "/nowhere", "FI_PROVIDER_PATH": "%s:/nowhere" % provider.parent}

    def run(*options):
        out = namespace_box.ok("run", *options, "--location=%s" % tree.parent, "x", "/busybox", "sh", "-c",
                               "/busybox env; /busybox ls /usr/local/mpi/providers/libours-fi.so || :",
                               env=dict(variables, LD_LIBRARY_PATH=str(host))).out.splitlines()
        return {line for line in out if line.partition("=")[0] in variables or line.endswith("-fi.so")}
    assert run("--hostenv") == {"OPAL_PREFIX=/opt/own", "FI_PROVIDER_PATH=/x"}
    found = {"I_MPI_ROOT=/opt/root", "FI_PROVIDER_PATH=/usr/local/mpi/providers",
             "/usr/local/mpi/providers/libours-fi.so", "I_MPI_PMI_LIBRARY=/usr/local/mpi/lib64/libours-fi.so"}
    assert run("--mpi") == found | {"OPAL_PREFIX=%s" % host}
    assert run("--mpi", "-e", "OPAL_PREFIX=/by/hand") == found | {"OPAL_PREFIX=/by/hand"}


def test_libraries_of_a_container_that_are_links_in_a_circle(pair):
    _, tree, run = pair
    (tree / "libmpi_cxx.so.40").symlink_to("libmpi_cxx.so.40")
    (pair[0] / "libmpi_cxx.so.40").symlink_to("libmpi.so.40")
    result = run()
    assert result.status == 0, result


def test_a_directory_of_libraries_that_cannot_be_listed(pair):
    _, tree, run = pair
    tree.chmod(0o311)
    try:
        result = run()
    finally:
        tree.chmod(0o755)
    assert result.status == 0, result


@pytest.mark.parametrize("variables, is_passed, kinds, expected", [
    ({}, True, {"MPICH"}, "srun --mpi=pmix"),
    ({"PMIX_RANK": "0"}, False, {"Open MPI"}, "without --hostenv"),
    ({"PMIX_RANK": "0"}, True, {"Open MPI"}, ""),
    ({"PMIX_RANK": "0"}, True, {"MPICH"}, "PMIx starts"),
    ({"PMIX_RANK": "0"}, True, {"MPICH", "Open MPI"}, ""),
    ({"PMI_RANK": "0"}, True, {"Open MPI"}, "PMI starts"),
    ({"PMI_FD": "7"}, True, {"MPICH"}, ""),
    ({"PMI_RANK": "0", "PMIX_RANK": "0"}, True, {"MPICH"}, ""),
    ({"PMI_RANK": "0"}, True, {"Open MPI 4"}, "PMI starts"),
    ({"PMIX_RANK": "0"}, True, {"Open MPI 4"}, ""),
    ({"PMIX_RANK": "0", "PRTE_LAUNCHED": "1"}, True, {"Open MPI 4"}, "mpiexec of Open MPI 5"),
    ({"PMIX_RANK": "0", "PRTE_LAUNCHED": "1"}, True, {"Open MPI"}, ""),
    ({"PMIX_RANK": "0", "PRTE_LAUNCHED": "1", "SLURM_NODELIST": "n1"}, True, {"Open MPI 4"}, "mpiexec of Open MPI 5"),
    ({"PMIX_RANK": "0", "PRTE_LAUNCHED": "1", "SLURM_NODELIST": "n1", "SLURM_STEP_ID": "0"}, True, {"Open MPI 4"}, ""),
    ({"PMIX_RANK": "0", "PRTE_LAUNCHED": "1"}, True, {"Open MPI 4", "MPICH"}, ""),
])
def test_why_ranks_would_be_alone(variables, is_passed, kinds, expected):
    reason = program_under_test.lone_ranks_reason(variables, is_passed, kinds)
    assert expected in reason and bool(expected) == bool(reason)


@pytest.mark.parametrize("rank, told", [("0", 1), ("1", 0)])
def test_the_hosts_mpi_that_does_not_understand_the_launcher_either(pair, rank, told):
    result = pair[2](OMPI_COMM_WORLD_SIZE="2", PMI_RANK=rank)
    assert result.status == 0 and result.err.count("PMI starts the ranks") == told, result.err


@pytest.mark.parametrize("rank, told", [("0", 1), ("1", 0)])
def test_the_first_rank_alone_warns(site, rank, told):
    result = site("run", "mpi", "true", env={"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": rank})
    assert result.status == 0 and result.err.count("without --hostenv") == told, result.err


def test_the_directory_of_slurmd_for_a_step_is_inside(namespace_box, tmp_path):
    """What PMIx since 5 shares among the ranks is there."""
    directory = tmp_path / ("spmix_appdir_%d_7.0" % os.getuid())
    directory.mkdir()
    (directory / "shared").write_text("here")
    variables = {"PMIX_SYSTEM_TMPDIR": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    assert namespace_box.ok("run", "--hostenv", "busybox", "cat", directory / "shared", env=variables).out == "here"
    other = namespace_box("run", "--hostenv", "busybox", "cat", directory / "shared",
                          env=dict(variables, SLURM_STEP_ID="1"))
    assert other.status == 1 and not other.out, "of another step there is nothing"


@pytest.mark.parametrize("mode_of_mpi", ["R1"], indirect=True)
def test_ranks_that_share_no_memory_do_not_try_to(site, mode_of_mpi):
    """But for what the user has set. Without the one of TCP, one rank of MPICH in forty ended never under load."""
    lines = site.ok("run", "--hostenv", "mpi", "env", env={
        "UDOCKER_DEFAULT_EXECUTION_MODE": mode_of_mpi, "MPI_LOCALNRANKS": "2", "UCX_TLS": "tcp"}).out.splitlines()
    assert {"UCX_TLS=tcp", "UCX_TCP_PUT_ENABLE=n", "UCX_POSIX_USE_PROC_LINK=n", "OMPI_MCA_smsc=^cma",
            "OMPI_MCA_btl_vader_single_copy_mechanism=none", "MPIR_CVAR_CH4_CMA_ENABLE=0"} <= set(lines)


def test_a_launcher_inside(site, mode_of_mpi):
    """What PMIx 5 needs in PRoot is set where there is one, and nobody else has something to say of it."""
    program = site.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode_of_mpi)

    def told(*options, **env):
        out = program.ok("run", *options, "mpi", "/usr/bin/env", env=env).out
        return [line for line in out.splitlines() if line.startswith("PMIX_MCA")]
    assert told() == ["PMIX_MCA_gds=hash"] * mode_of_mpi.startswith("P")
    assert told("-e", "PMIX_MCA_gds=ds21") == ["PMIX_MCA_gds=ds21"]
    assert told("--hostenv", PMIX_RANK="0") == told("-e", "PATH=/nowhere:") == []


# Namespaces of ranks

SHOW = ["sh", "-c", "readlink /proc/self/ns/user; readlink /proc/self/ns/mnt; exec sleep 0.2"]


@pytest.fixture
def ranks(namespace_box, tmp_path):
    """Starts ranks as MPICH's launcher does: a function of options, of one rank each, that gives what each printed."""
    def start(options, command=SHOW, **env):
        processes = [namespace_box.start(
            "run", *option.split(), "busybox", *command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env=dict({"MPI_LOCALNRANKS": str(len(options)), "UDOCKER_TMPDIR": str(tmp_path)}, **env))
            for option in options]
        return [process.communicate(timeout=60)[0].decode() for process in processes]
    return start


def test_ranks_on_one_node_share_namespaces(ranks, tmp_path):
    shown = ranks(["--volume=/tmp"] * 8)
    assert len(set(shown)) == 1 and "user:[" in shown[0] and os.readlink("/proc/self/ns/user") not in shown[0]
    assert list(tmp_path.iterdir()) == [], "what held them has gone with the last one"


@pytest.mark.parametrize("option", ["--hostname=node", "--add-host=far:10.1.2.3"])
def test_ranks_share_their_hosts_file(ranks, tmp_path, option):
    """Each makes one, and that of the first, who may end early, is the one that all see."""
    meeting = tmp_path / "meeting"
    command = ["sh", "-c", "readlink /proc/self/ns/mnt; uname -n; tail -n 1 /etc/hosts; touch /meeting/$$; "
               "while test $(ls /meeting | wc -l) -lt 3; do sleep 0.02; done"]
    for others, count in ([option] * 2, 1), ([option, "--add-host=other:10.1.2.4"], 2):
        meeting.mkdir()
        shown = ranks(["%s --volume=%s:/meeting" % (words, meeting) for words in [option] + others], command)
        assert len(set(shown)) == count and ("\tfar" in shown[0] or "\nnode\n" in shown[0]), shown
        shutil.rmtree(str(meeting))


def test_ranks_with_other_volumes_are_apart(ranks, tmp_path):
    first, second, third = ranks(["--volume=/tmp", "--volume=/tmp:/data", "--volume=/tmp"])
    assert first == third != second
    again = ranks(["--volume=/tmp", "--volume=/tmp:/data", "--volume=/tmp:/data"])
    assert again == [first, second, second] and list(tmp_path.iterdir()) == []


def test_a_rank_cannot_look_into_what_holds_its_namespaces(namespace_box, tmp_path):
    """That was started by the user, with his environment, and waits for the second rank."""
    start = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": {
        "MPI_LOCALNRANKS": "2", "UDOCKER_TMPDIR": str(tmp_path), "SECRET": "of the host"}}
    look = "sleep 0.2; grep -l SECRET /proc/[0-9]*/environ; ls /proc/[0-9]*/fd >/dev/null; echo done"
    with namespace_box.start("run", "busybox", "sh", "-c", look, **start) as first:
        assert first.communicate(timeout=60)[0].decode() == "done\n"
    assert len(list(tmp_path.iterdir())) == 1
    with namespace_box.start("run", "busybox", "true", **start) as second:
        assert second.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


JOIN = """
import sys, udocker
def make():
    kernel = udocker.Kernel()
    kernel.unshare(kernel.NEW_USER)
kernel = udocker.Kernel()
before = kernel.libc.prctl(3, 0, 0, 0, 0)
udocker.SharedNamespaces(sys.argv[1], "key", 1).join(kernel, make)
print(before, kernel.libc.prctl(3, 0, 0, 0, 0))
"""


def test_nobody_looks_into_a_rank_that_joins(broken_modes, tmp_path):
    """It is still the host's on its way in. PR_GET_DUMPABLE"""
    working("N1", broken_modes)
    assert in_main_thread(JOIN, tmp_path) == "1 0\n"


def test_a_rank_does_not_enter_what_poses_as_its_job(namespace_box, tmp_path):
    """As what runs with a volume of the directory for temporary files can write there, and be asked."""
    def rank(container):
        start = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
                 "env": {"MPI_LOCALNRANKS": "2", "UDOCKER_TMPDIR": str(tmp_path)}}
        with namespace_box.start("run", container, "true", **start) as process:
            out = process.communicate(timeout=60)[0].decode()
        return process.returncode, out

    other = namespace_box.ok("clone", "busybox").out.strip()
    assert rank(other) == (0, "")
    hostile, = tmp_path.iterdir()
    assert rank("busybox") == (0, "")
    own, = set(tmp_path.iterdir()) - {hostile}
    own.write_bytes(hostile.read_bytes().partition(b" ")[0] + b" " + own.read_bytes().partition(b" ")[2])
    status, out = rank("busybox")
    assert status == 125 and "another container's root" in out
    namespace_box.ok("rm", other)


def test_a_single_rank_needs_nobody(ranks, tmp_path):
    assert "user:[" in ranks(["--volume=/tmp"])[0] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text, node, expected", [
    ("4", "0", 4), ("2(x3),1", "0", 2), ("2(x3),1", "2", 2), ("2(x3),1", "3", 1), ("2(x3),1", "4", 0), ("x", "0", 0),
    ("", "0", 0), ("3,1", "1", 1), ("16(x2)", "1", 16)])
def test_slurms_word_for_the_ranks_of_a_node(text, node, expected):
    step = program_under_test.JobStep.find({"SLURM_STEP_TASKS_PER_NODE": text, "SLURM_NODEID": node}, 1)
    assert (step.local_size if step else 0) == (expected if expected > 1 else 0)


@pytest.mark.skipif(os.getuid() == 0, reason="all devices are root's")
def test_a_lock_of_another_user_holds_nobody_up():
    """Who holds it may never end. A device that all may write to is such a file everywhere."""
    with program_under_test.Lock("/dev/null"), pytest.raises(OSError, match="another user's"):
        program_under_test.Lock("/dev/null", is_own=True).acquire()


def test_namespaces_that_are_never_made_hold_nobody_up(tmp_path):
    """As where what serves a file system in them goes round in a circle."""
    class Hasty(program_under_test.SharedNamespaces):
        PATIENCE = 1

    with pytest.raises(program_under_test.EngineError, match="could not be made"):
        Hasty(str(tmp_path), "key", 2).join(program_under_test.Kernel(), signal.pause)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", ["symlink_to", "link_to_it"])
def test_a_file_in_the_way_is_not_written_to(tmp_path, make):
    """As another user could leave one in a directory that all may write to."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    shared = program_under_test.SharedNamespaces(str(tmp_path), "key", 2)
    if make == "symlink_to":
        os.symlink(str(victim), shared.path)
    else:
        os.link(str(victim), shared.path)
    with pytest.raises(OSError):
        shared.join(program_under_test.Kernel(), lambda: None)
    assert victim.read_text() == "precious"
