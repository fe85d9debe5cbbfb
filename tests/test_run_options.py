"""docker's options of run in every mode: what they do, who refuses them, and what is told and left out."""
import json
import grp
import os
import pwd
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import udocker as program_under_test
from conftest import need
from images import FOREIGN
from program import Program

LACKS = {mode.code: engine.lacks for engine in program_under_test.ENGINES for mode in engine.modes}


def able(box, mode, feature, *words):
    """What a command prints, or None where the mode says that it cannot do it, naming one that can."""
    if feature in LACKS[mode]:
        refusal = box.fails(125, "run", *words)
        assert feature in refusal.err and mode in refusal.err and "udocker setup --execmode=" in refusal.err
        return None
    return box.ok("run", *words).out


def test_every_refusal_is_of_a_feature():
    assert all(set(lacks) <= set(program_under_test.RunSpec.FEATURES) for lacks in LACKS.values())


def test_hostname(box):
    script = "uname -n; echo $HOSTNAME"
    assert box.ok("run", "--hostname=lab-17", "busybox", "sh", "-c", script).out == "lab-17\nlab-17\n"
    assert box.ok("run", "-h", "lab-18", "busybox", "uname", "-n").out == "lab-18\n"
    assert box.ok("run", "busybox", "uname", "-n").out == os.uname().nodename + "\n"


def test_a_read_only_tree(box, mode, containers):
    script = "touch /written; touch /scratch/x && echo only there"
    out = able(box, mode, "--read-only", "--read-only=true", "--tmpfs=/scratch", "busybox", "sh", "-c", script)
    assert out in (None, "only there\n")
    assert box("run", "busybox", "test", "-e", "/written").status == 1


@pytest.mark.parametrize("option", ["--tmpfs=/scratch", "--tmpfs=/scratch:rw,size=64k,mode=1777",
                                    "--mount=type=tmpfs,destination=/scratch"])
def test_tmpfs(box, mode, option, tmp_path):
    """runC gives it the mode of the directory that it covers."""
    script = "stat -c %a /scratch; ls -A /scratch; echo kept > /scratch/x; cat /scratch/x"
    for _ in range(2):
        out = box.ok("run", option, "busybox", "sh", "-c", script, env={"UDOCKER_TMPDIR": str(tmp_path)}).out
        assert out == "1777\nkept\n" or mode == "R1" and out == "755\nkept\n"
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"


def test_nothing_is_left_of_a_command_that_cannot_be_started(box, mode, tmp_path):
    """Its environment is longer than the kernel takes, which runC finds out when it has told that it started it."""
    (tmp_path / "variables").write_text("".join("LAB%d=%s\n" % (number, "x" * 100000) for number in range(60)))
    area = tmp_path / "area"
    area.mkdir()
    words = ["--env-file=%s" % (tmp_path / "variables"), "--tmpfs=/scratch", "busybox", "true"]
    assert box("run", *words, env={"UDOCKER_TMPDIR": str(area)}).status == (1 if mode == "R1" else 125)
    assert list(area.iterdir()) == []


def test_a_temporary_directory_that_proot_cannot_bind(box, tmp_path):
    """Another one is taken."""
    (tmp_path / "a:b").mkdir()
    own = box.with_env(TMPDIR=str(tmp_path / "a:b"))
    assert "10.0.0.1\tfar" in own.ok("run", "--add-host=far:10.0.0.1", "busybox", "cat", "/etc/hosts").out


def test_tmpfs_may_be_the_working_directory(box):
    assert box.ok("run", "--tmpfs=/scratch", "-w", "/scratch", "busybox", "pwd").out == "/scratch\n"


def test_ephemeral_changes_are_gone(box, mode):
    script = "touch /new; rm /bin/env; echo changed > /etc/passwd; cat /etc/passwd; pwd"
    out = able(box, mode, "--ephemeral", "--ephemeral", "-w", "/only/now", "busybox", "sh", "-c", script)
    assert out in (None, "changed\n/only/now\n")
    if out:
        script = "ls -d /new /only; test -e /bin/env && grep -c root /etc/passwd; true"
        assert box.ok("run", "busybox", "sh", "-c", script).out == "1\n"


@pytest.mark.parametrize("option", ["--ephemeral", "--read-only", "--volume={}:/etc/apt"])
def test_apts_setting_is_in_trees_that_may_change_alone(box, mode, tmp_path, option):
    """That apt shall stay root is in a file; where the directory for it is the host's, nothing is put there."""
    root, host = tmp_path / "tree", tmp_path / "host"
    shutil.copytree(box.ok("inspect", "-p", "busybox").out.strip(), str(root), symlinks=True,
                    ignore=shutil.ignore_patterns("tmp"))       # where other tests leave a FIFO
    for directory in root / "etc/apt", host:
        (directory / "apt.conf.d").mkdir(parents=True)
    show = ["--location=%s" % root, "x", "sh", "-c", "echo $APT_CONFIG; cat $APT_CONFIG </dev/null"]
    out = able(box, mode, option, option.format(host), *show)
    assert out in (None, "\n", '/etc/apt/udocker.conf\nAPT::Sandbox::User "root";\n')
    assert [len(list(path.iterdir())) for path in (root / "etc/apt", host)] == [1, 1]
    assert "root" in box.ok("run", *show).out or mode == "P1"


def test_ephemeral_changes_of_what_is_not_ones_own(namespace_box):
    """The kernel makes no copy of what belongs to ids that a namespace does not know; its words tell nobody why."""
    words = ["--location=/usr", "busybox", "/bin/sh", "-c", ">/share/new || echo no"]
    result = namespace_box.ok("run", "--ephemeral", *words)
    assert result.out == "no\n" and "another user's" in result.err
    own = namespace_box.ok("run", "--ephemeral", "busybox", "sh", "-c", ">/etc/new && echo yes")
    assert own.out == "yes\n" and not own.err


def test_many_ephemeral_commands_share_a_tree(namespace_box):
    script = "test ! -e /mine && echo %d > /mine && sleep 0.2 && cat /mine"
    crowd = [namespace_box.start("run", "--ephemeral", "busybox", "sh", "-c", script % number, stdout=-1)
             for number in range(8)]
    assert [process.communicate()[0] for process in crowd] == [b"%d\n" % number for number in range(8)]


@pytest.mark.parametrize("text", [
    "type=bind,source={0},target=/data", "type=bind,src={0},dst=/data", "source={0},type=bind,destination=/data",
    'type=bind,"source={0}","target=/data"', "type=bind,source={0},target=/data,readonly=false",
])
def test_mount(box, text, tmp_path):
    (tmp_path / "word").write_text("seen\n")
    assert box.ok("run", "--mount", text.format(tmp_path), "busybox", "cat", "/data/word").out == "seen\n"


def test_mount_with_a_comma_in_its_path(box, tmp_path):
    (tmp_path / "a,b").write_text("seen\n")
    option = '--mount=type=bind,"source=%s/a,b","target=/a,b"' % tmp_path
    assert box.ok("run", option, "busybox", "cat", "/a,b").out == "seen\n"


@pytest.mark.parametrize("suffix", ["readonly", "ro", "readonly=true", "readonly=1"])
def test_read_only_mounts(box, mode, suffix, tmp_path):
    option = "--mount=type=bind,source=%s,target=/data,%s" % (tmp_path, suffix)
    able(box, mode, "--volume=HOST:PATH:ro", option, "busybox", "sh", "-c", "touch /data/x; true")
    assert not (tmp_path / "x").exists()


def test_further_hosts(box, tmp_path):
    words = ["--add-host=node1:10.1.2.3", "--add-host=node2:[fe80::1]", "busybox", "tail", "-n2", "/etc/hosts"]
    out = box.ok("run", *words, env={"UDOCKER_TMPDIR": str(tmp_path)}).out
    assert out == "10.1.2.3\tnode1\nfe80::1\tnode2\n"
    assert list(tmp_path.iterdir()) == []


def test_the_gateway_and_the_own_name(box):
    words = ["--add-host=host.docker.internal:host-gateway", "busybox", "tail", "-n1", "/etc/hosts"]
    assert box.ok("run", *words).out == "127.0.0.1\thost.docker.internal\n"
    result = box("run", "-h", "odd.name", "busybox", "tail", "-n1", "/etc/hosts")
    assert result.out == "127.0.0.1\todd.name\n" or "host name" in result.err


def test_limits_that_cannot_be_had(box):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    result = box.ok("run", "--ulimit=nofile=%d" % (most + 1), "--ulimit=memlock=-1", "busybox", "sh", "-c", "ulimit -n")
    assert result.out == "%d\n" % most and "%d at most" % most in result.err


def test_relative_volumes(box, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("here")
    for option in "-v=./sub:/x", "-v=sub/../sub:/x", "--mount=type=bind,source=.,target=/x":
        result = box("run", option, "busybox", "sh", "-c", "cat /x/file /x/sub/file 2>/dev/null", cwd=tmp_path)
        assert result.out == ("" if option.startswith("-v=sub") else "here"), result
    assert box.ok("run", "-v", "..", "busybox", "ls", tmp_path, cwd=tmp_path / "sub").out == "sub\n"


def test_limits_and_processors(box):
    cpu = min(os.sched_getaffinity(0))
    script = "ulimit -n; ulimit -t; grep Cpus_allowed_list /proc/self/status"
    out = box.ok("run", "--ulimit=nofile=500:600", "--ulimit", "cpu=77", "--cpuset-cpus=%d" % cpu, "busybox",
                 "sh", "-c", script).out
    assert out.split() == ["500", "77", "Cpus_allowed_list:", str(cpu)]


def test_init_ends_what_the_command_leaves_behind(box):
    box.ok("run", "--init", "busybox", "sh", "-c", "sleep 4217 & echo started")
    assert "sleep 4217" not in subprocess.check_output(["ps", "-eo", "args"]).decode()
    assert box("run", "--init", "busybox", "sh", "-c", "exit 7").status == 7


def test_cidfile(udocker, images, mode, tmp_path):
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    reference, file = images.host + "/lab/busybox", tmp_path / "id"
    box.ok("run", "--cidfile=%s" % file, reference, "true")
    assert file.read_text() in box.ok("ps").out and len(file.read_text()) == 36
    refusal = box.fails(125, "run", "--cidfile=%s" % file, file.read_text(), "true")
    assert "is there already" in refusal.err


def test_a_cidfile_that_cannot_be_written_makes_no_container(udocker, images, tmp_path):
    (tmp_path / "taken").symlink_to("nowhere")
    for path, reason in (tmp_path / "taken", "is there already"), (tmp_path / "none/id", "directory is missing"):
        refusal = udocker.fails(125, "run", "--cidfile=%s" % path, images.host + "/lab/busybox", "true")
        assert reason in refusal.err
    assert udocker.ok("ps", "-q").out == udocker.ok("images", "-q").out == ""


def test_what_is_left_out_is_told_in_a_line(box):
    options = ["--privileged", "--memory=1g", "--cap-add", "SYS_ADMIN", "--label=a=b", "--net=bridge", "--shm-size=64m"]
    result = box.ok("run", *options + ["busybox", "echo", "here"])
    assert result.out == "here\n" and result.err.count("\n") == 1
    assert result.err.startswith("udocker: warning: left out")
    assert all(word in result.err for word in ("--privileged", "--memory", "--cap-add", "--label", "--network=bridge"))


def test_no_network(containers, mode):
    """But the container's own, where the mode can have it so."""
    result = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode).ok(
        "run", "--net=none", "busybox", "sh", "-c", "grep -c : /proc/self/net/dev; grep -q eth /proc/self/net/dev || "
        "{ httpd -f -p 8000 -h /etc & sleep 0.2; wget -q -O - http://127.0.0.1:8000/passwd | head -n 1; kill $!; }")
    if mode in ("N1", "R1"):
        assert (result.out, result.err) == ("1\nroot:x:0:0:root:/root:/bin/sh\n", "")
    else:
        assert result.err == ("udocker: warning: --network=none: mode %s does not cut off from the network; "
                              "mode N1 can\n" % mode)


# https://docs.docker.com/reference/cli/docker/container/run/
DOCKERS = """--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop
    --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period
    --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach --detach-keys --device
    --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops
    --disable-content-trust --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose
    --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period
    --health-timeout --help --hostname --init --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc
    --isolation --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address
    --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias
    --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish
    --publish-all --pull --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy
    --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --tty --ulimit --use-api-socket --user --userns
    --uts --volume --volume-driver --volumes-from --workdir -a -c -d -e -h -i -l -m -p -P -q -t -u -v -w""".split()


def spellings_of(options):
    return {spelling for option in options for spelling in option.spellings}


def test_every_option_of_dockers_run_is_known():
    known = spellings_of(program_under_test.COMMANDS["run"].options)
    refused = set(program_under_test.ABSENT_OPTIONS["run"])
    assert set(DOCKERS) <= known | refused and not known & refused
    words = [spelling for option in program_under_test.OMITTED_OPTIONS for spelling in option.spellings]
    assert len(words) == len(set(words)) and set(words) <= set(DOCKERS) | {"--dns-opt", "--net-alias"}


def test_help_lists_in_a_paragraph_what_is_left_out(containers):
    text = containers.ok("run", "--help").out
    paragraph = text.partition("Docker's options that are told, and left out: ")[2].partition(".\n\n")[0]
    assert set(paragraph.replace(",", "").split()) == spellings_of(program_under_test.OMITTED_OPTIONS)
    assert "  --cap-add" not in text and "  --user" in text


def test_all_that_is_left_out_is_told_in_a_line(containers):
    """Each option by name, in run and in exec; values of any form are taken."""
    words = [option.spellings[0] + ("=x" if option.value else "") for option in program_under_test.OMITTED_OPTIONS]
    result = containers.ok("run", *words + ["--runtime=runc", "--cgroupns=private", "busybox", "echo", "here"])
    told = result.err.strip().partition(" here: ")[2].split(", ")
    assert result.out == "here\n" and result.err.count("\n") == 1
    assert told == [word.partition("=")[0] for word in words] + ["--cgroupns=private", "--runtime=runc"]
    result = containers.ok("exec", "--privileged", "--detach-keys", "ctrl-p", "busybox", "echo", "here")
    assert result.out == "here\n" and result.err.endswith(" here: --privileged, --detach-keys\n")


def test_dockers_runtime_for_gpus(containers):
    """There is none here: so asking for it by either word fails alike."""
    results = [containers("run", word, "busybox", "echo", "here") for word in ("--nvidia", "--runtime=nvidia")]
    assert len({(result.status, result.out, result.err) for result in results}) == 1
    assert "left out" not in results[0].err


@pytest.mark.parametrize("option", ["--net=host", "--network=host", "--ipc=host", "--pid=host", "--uts=host",
                                    "--containerauth", "-a=stdin", "--sig-proxy=true", "--cgroupns=host",
                                    "--disable-content-trust=false"])
def test_what_is_so_anyway_is_not_told(box, option):
    result = box.ok("run", option, "busybox", "echo", "here")
    assert (result.out, result.err) == ("here\n", "")


@pytest.mark.parametrize("options,word", [
    (["--tmpfs=scratch"], "absolute"), (["--tmpfs=/"], "root"),
    (["--tmpfs=/x:size=lots"], "lots"), (["--tmpfs=/x:colour=red"], "colour"),
    (["--mount=type=bind,source=/tmp"], "target"),
    (["--mount=type=bind,target=/x"], "source"), (["--mount=type=volume,source=a,target=/x"], "type=bind"),
    (["--mount=type=bind,source=/tmp,target=/x,readonly=maybe"], "readonly"), (["--mount="], "target"),
    (["--mount=type=bind,source=/nowhere/at/all,target=/x"], "/nowhere/at/all"), (["--ulimit=nofile"], "nofile"),
    (["--ulimit=nonsense=1"], "nonsense"), (["--cpuset-cpus=a"], "--cpuset-cpus"), (["--cpuset-cpus=65000"], "cpuset"),
    (["--mount=type=bind,\nsource=/tmp"], "understood"), (["--ulimit=nofile=\u00b2"], "nofile"),
    (["--ulimit=nofile=" + "9" * 20], "nofile"), (["--ulimit=nofile=--5"], "nofile"),
    (["--tmpfs=/x:size=\u00b2"], "no number"), (["--tmpfs=/x:size=k1"], "no number"),
    (["--ulimit=nofile=9:5"], "--ulimit"), (["--cpuset-cpus=3-0"], "--cpuset-cpus"), (["--cpuset-cpus=\u0661"], "cpus"),
    (["--add-host=alone"], "alone"), (["--add-host=h\u00f4te:1.2.3.4"], "--add-host"),
    (["-v", "./absent:/x"], "absent"), (["-p", "80:80:80:80"], "--publish=80:80:80:80"), (["-p", "80:0"], "80:0"),
    (["-p", "65536"], "65536"), (["-p", "1-9:1-8"], "1-9:1-8"), (["-p", "9-1"], "9-1"),
    (["-p", "\u0661:80"], "publish"),
    (["-p", "80/sctp"], "80/sctp"), (["-p", "1.2.3:80:80"], "1.2.3"), (["-p", "[fe80::1]:80:80"], "fe80"),
    (["-p", "8001:80", "-p", "8002:80"], "exclude"),
    (["-p", "8001:80", "-p", "127.0.0.1:8001:81"], "exclude"), (["-p", "[::1]:80:80"], "IPv4"),
    (["-p", "192.0.2.1:8001:80"], "Cannot assign"),
    (["--hostauth", "--containerauth"], "exclude"),
    (["--platform=linux/" + FOREIGN], "is a container for linux/"),
])
def test_bad_values_end_in_a_line(containers, options, word):
    result = containers("run", *options + ["busybox", "true"])
    assert result.status in (1, 2, 125) and not result.out
    assert result.err.startswith("udocker: error: ") and word in result.err and result.err.count("\n") <= 2


def test_exec_is_one_more_command(box):
    result = box.ok("exec", "-w", "/etc", "-e", "A=b", "busybox", "/bin/sh", "-c", "pwd; echo $A; id -u")
    assert result.out == "/etc\nb\n0\n"
    assert box("exec", "busybox", "sh", "-c", "exit 5").status == 5


def test_exec_has_what_the_run_has_that_goes_on(udocker, stock, mode, tmp_path):
    """And what it is told itself; afterwards nothing of it."""
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    stock(box, "own")
    (tmp_path / "data").mkdir()
    show = ["sh", "-c", "pwd; echo $WORD; id -u; ls /data"]
    user = "0" if mode == "R1" else "1234"      # runC knows root alone in a container without unshare
    words = ["-v", "./data:/data", "-w", "/data", "-e", "WORD=of the run", "-u", user, "own", "sh", "-c",
             "echo ready; cat"]
    with box.start("run", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout.readline() == b"ready\n"
        box.ok("exec", "own", "touch", "dump")
        assert box.ok("exec", "own", *show).out == "/data\nof the run\n%s\ndump\n" % user
        assert box.ok("exec", "-w", "/etc", "-e", "WORD=new", "-u", "0", "own", *show).out == "/etc\nnew\n0\ndump\n"
        process.communicate()
    assert (tmp_path / "data/dump").exists()
    assert box.ok("exec", "own", *show).out == "/\n\n0\n"


def test_exec_believes_no_record_of_others(udocker, stock, namespace_box, tmp_path):
    """Of a run that is over, on another host, or of a process that runs elsewhere."""
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="N1")
    stock(box, "own")
    record = box.store / "containers" / os.readlink(str(box.store / "containers/own")) / "run.json"
    words = ["run", "-w", "/etc", "own", "sh", "-c", "echo ready; cat"]
    with box.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n" and box.ok("exec", "own", "pwd").out == "/etc\n"
        good = json.loads(record.read_text())
        for change in ({"boot": "another"}, {"started": "1"}, {"pid": os.getpid()}, {"pid": 1}, {"options": [1]},
                       {"pid": "x"}):
            record.write_text(json.dumps(dict(good, **change)))
            assert box.ok("exec", "own", "pwd").out == "/\n", change
        record.write_text("no record")
        assert box.ok("exec", "own", "pwd").out == "/\n"
        process.communicate()


def test_exec_is_told_otherwise(udocker, stock, namespace_box, tmp_path):
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="N1")
    stock(box, "own")
    (tmp_path / "gone").mkdir()
    words = ["--hostauth", "-v", "%s:/gone" % (tmp_path / "gone"), "--mount=type=tmpfs,target=/a:b", "own"]
    words += ["sh", "-c", "echo ready; cat"]
    with box.start("run", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        box.ok("exec", "own", "ls", "-d", "/gone")
        (tmp_path / "gone").rmdir()
        for option in "--containerauth", "--hostauth=false":
            assert "Green" in box.ok("exec", option, "own", "cat", "/etc/passwd").out
        process.communicate()


def test_an_own_hosts_file_stays(box, tmp_path):
    (tmp_path / "hosts").write_text("10.0.0.1\tmine\n")
    result = box("run", "-h", "odd.name", "-v", "%s:/etc/hosts" % (tmp_path / "hosts"), "busybox", "cat", "/etc/hosts")
    assert result.out == "10.0.0.1\tmine\n" or "host name" in result.err


def test_exec_leaves_the_entrypoint_out(box):
    assert box.ok("exec", "-u", "root", "entry", "/bin/echo", "alone").out == "alone\n"


def test_exec_wants_a_container_and_a_command(containers, images):
    assert "no such container" in containers.fails(125, "exec", images.host + "/lab/busybox", "true").err
    containers.fails(2, "exec", "busybox")
    containers.fails(127, "exec", "busybox", "missing")


# Programs of another machine

def arm64_program():
    """A program for 64-bit ARM that prints its machine and exits with status 7. System V ABI; Arm ARM, A64"""
    words = [0xd2800020, 0x100000e1, 0xd28000c2, 0xd2800808, 0xd4000001, 0xd28000e0, 0xd2800ba8, 0xd4000001]
    code = b"".join(word.to_bytes(4, "little") for word in words) + b"arm64\n"
    size, base = 64 + 56 + len(code), 0x400000
    header = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return b"\x7fELF\2\1\1" + bytes(9) + header + segment + code


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The program with a container for arm64, named foreign."""
    program, source = Program(tmp_path_factory.mktemp("foreign")), tmp_path_factory.mktemp("tree")
    (source / "hello").write_bytes(arm64_program())
    (source / "hello").chmod(0o755)
    subprocess.check_call(["tar", "-C", str(source), "-cf", str(source) + ".tar", "hello"])
    program.ok("import", "--tocontainer", "--platform=linux/arm64", "--name=foreign", "%s.tar" % source, "lab/arm")
    return program


def test_programs_of_another_machine(foreign, mode):
    need("qemu-aarch64-static")
    if os.uname().machine == "aarch64":
        pytest.skip("it is this machine")
    box = foreign.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    result = box("run", "foreign", "/hello")
    if mode in ("N1", "R1") and not os.path.exists("/proc/sys/fs/binfmt_misc/qemu-aarch64"):
        assert result.status == 125 and "another machine" in result.err and "qemu-aarch64-static" in result.err
    else:
        assert (result.status, result.out) == (7, "arm64\n")


def test_programs_of_another_machine_without_an_emulator(foreign, proot, tmp_path):
    env = {"PATH": str(tmp_path), "UDOCKER_USE_PROOT_EXECUTABLE": proot, "UDOCKER_DEFAULT_EXECUTION_MODE": "P1"}
    refusal = foreign.fails(125, "run", "foreign", "/hello", env=env)
    assert "another machine" in refusal.err and "qemu-user-static" in refusal.err


# setup

def test_fixperm(udocker, images):
    reference = images.host + "/lab/busybox"
    udocker.ok("pull", reference)
    root = udocker.store / "containers" / udocker.ok("create", "--name=box", reference).out.strip() / "ROOT"
    outside = udocker.home / "outside"
    outside.write_text("")
    (root / "link").symlink_to(outside)
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/file").write_text("")
    for path, mode in (outside, 0o400), (root / "deep/er/file", 0o040), (root / "deep/er", 0o055), (root / "deep", 0):
        path.chmod(mode)
    assert "3 files and directories mended" in udocker.ok("setup", "--fixperm", "box").err
    paths = root / "deep", root / "deep/er", root / "deep/er/file", outside
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o700, 0o755, 0o640, 0o400]
    assert "0 files" in udocker.ok("setup", "--fixperm", "box").err


def test_ones_own_account_has_its_name(debian_box):
    """Without --hostauth too; the files of the container stay as they are."""
    own, etc = pwd.getpwuid(os.getuid()), Path(debian_box.ok("inspect", "-p", "debian").out.strip()) / "etc"
    before = [(etc / name).read_text() for name in ("passwd", "group")]
    script = "id -un; id -gn; getent passwd $(id -u); echo ~%s" % own.pw_name
    for user in own.pw_name, str(os.getuid()):
        lines = debian_box.ok("run", "--user=" + user, "debian", "sh", "-c", script).out.splitlines()
        assert lines == [own.pw_name, grp.getgrgid(own.pw_gid).gr_name,
                         "%s:x:%d:%d::/:/bin/sh" % (own.pw_name, own.pw_uid, own.pw_gid), "/"]
    assert before == [(etc / name).read_text() for name in ("passwd", "group")]
    words = ["--user=%d" % own.pw_uid, "-v", "/etc/hostname:/etc/passwd", "debian", "cat", "/etc/passwd"]
    assert debian_box.ok("run", *words).out == Path("/etc/hostname").read_text()


@pytest.mark.parametrize("line, is_told", [
    ('exec gosu postgres "$BASH_SOURCE" "$@"', True), ("    exec su-exec redis:redis $0 $@", True),
    ('exec setpriv --reuid=lab --clear-groups -- "${BASH_SOURCE[0]}"', True), ("#exec gosu lab $0", False),
    ('exec gosu lab "$@"', False), ("exec /bin/echo gosu lab 0", False)])
def test_an_entrypoint_that_cannot_become_another_user_is_told(udocker, stock, mode, line, is_told):
    """In N1 and R1 it would start itself for ever; PRoot lets root become others."""
    stock(udocker, "own")
    script = Path(udocker.ok("inspect", "-p", "own").out.strip()) / "start"
    script.write_text("#!/bin/sh\necho started; exit 0\n%s\n" % line)
    script.chmod(0o755)
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    result = box.ok("run", "own", "/start")
    assert result.out == "started\n" and ("for ever" in result.err) == (is_told and mode in ("N1", "R1"))
    assert "for ever" not in box.ok("run", "--user=%d" % os.getuid(), "own", "/start").err


def test_who_is_not_root_changes_no_owner(debian_box):
    assert debian_box("run", "--user=5:5", "debian", "chown", "7:7", "/etc/passwd").status == 1


@pytest.mark.parametrize("user, expected", [("1000:1001", "1000 1001"), ("5", "5 60"), ("0:7", "0 7")])
def test_any_id_with_the_programs_of_debian(debian_box, user, expected, tmp_path):
    """runC makes root alone; the container's unshare makes the others of it."""
    script = "echo $(id -u) $(id -g); touch /data/made; stat -c '%u %g' /data/made; exit 3"
    result = debian_box("run", "--user=" + user, "-v", "%s:/data" % tmp_path, "debian", "sh", "-c", script)
    assert (result.status, result.out) == (3, "%s\n%s\n" % (expected, expected)), result
    assert (tmp_path / "made").stat().st_uid == os.getuid()
