"""What takes up space and what can go: df and prune; listings with docker's options; history, inspect, info, version,
completion."""
import fcntl
import json
import os
import re
import shutil
import subprocess
import time

import pytest

import udocker as program_under_test
from faulty_registry import FaultyRegistry, image_config, text_layer
from images import FOREIGN, NATIVE
from pulling import Puller
from test_login import converse


@pytest.fixture
def busybox(images):
    return images.host + "/lab/busybox"


@pytest.fixture
def stocked(udocker, busybox, stock):
    """The program with an image under two names and one container."""
    stock(udocker, "busy")
    udocker.ok("tag", busybox, "lab/mine:1")
    return udocker.with_env(UDOCKER_TMPDIR=str(udocker.home))       # others leave something in /tmp


def disk_usage(path):
    """Bytes on disk, as du counts them."""
    return int(subprocess.check_output(["du", "-s", "-B1", str(path)]).split()[0])


def listing(directory):
    """All that is in a directory, without the locks, which stay."""
    return sorted(str(path) for path in directory.rglob("*") if path.name not in (".use", ".lock"))


# df and prune

def test_df_of_an_empty_store(udocker):
    assert udocker.ok("df").out.split()[:5] == ["IMAGES", "0", "B", "0", "CONTAINERS"]
    assert udocker.ok("prune").out == "0 B freed\n"
    assert not udocker.store.exists()


def test_df_counts_what_du_counts(stocked):
    human = program_under_test.human_size
    container = os.readlink(str(stocked.store / "containers/busy"))
    lines = [line.split() for line in stocked.ok("df").out.splitlines() if line]
    assert stocked.ok("system", "df", "-v").out == stocked.ok("df").out
    blobs = sum(disk_usage(path) for path in (stocked.store / "layers").iterdir())
    assert lines[0] == ["IMAGES"] + human(blobs).split() + ["2"]
    assert lines[1] == ["CONTAINERS"] + human(disk_usage(stocked.store / "containers" / container)).split() + ["1"]
    assert [line for line in lines if line[-1] == "lab/mine:1"] == [human(blobs).split() + ["0", "B", "lab/mine:1"]]
    assert lines[-1][-2:] == [container, "busy"]


def test_directories_that_can_be_listed_and_not_searched(stocked):
    root = stocked.store / "containers" / os.readlink(str(stocked.store / "containers/busy")) / "ROOT"
    (root / "closed").mkdir()
    (root / "closed/file").write_text("")
    (root / "closed").chmod(0o444)
    try:
        stocked.ok("df")
        stocked.ok("ps", "-s")
        assert os.getuid() == 0 or "closed/file: Permission denied" in stocked.fails(
            1, "export", "-o", stocked.home / "x", "busy").err
    finally:
        (root / "closed").chmod(0o755)


def test_df_counts_hard_links_once(stocked):
    root = stocked.store / "containers" / os.readlink(str(stocked.store / "containers/busy")) / "ROOT"
    (root / "big").write_bytes(b"x" * (1 << 20))
    before = disk_usage(root)
    for number in range(20):
        os.link(str(root / "big"), str(root / ("link%d" % number)))
    assert program_under_test.allocated_size(str(root)) == disk_usage(root) < before + (1 << 20)


def test_prune_leaves_what_is_used(stocked, busybox):
    before = listing(stocked.store)
    assert stocked.ok("prune").out == "0 B freed\n"
    assert listing(stocked.store) == before
    stocked.ok("rmi", busybox)
    stocked.ok("prune")
    stocked.ok("verify", "lab/mine:1")


def make_rubbish(store):
    """What kills leave behind; the paths that must go."""
    digest = "sha256:" + "1" * 64
    names = digest, ".part-" + "2" * 64, ".new-0123456789abcdef", ".part-" + "3" * 64 + "+0123456789abcdef"
    made = [store / "layers" / name for name in names]
    for path in made:
        path.write_bytes(b"x" * 5000)
    unfinished = store / "repos/lab/unfinished/latest"
    unfinished.mkdir(parents=True)
    (unfinished / digest).symlink_to("../../../../layers/" + digest)
    tree = store / "containers/.removed-0123456789abcdef"
    (tree / "ROOT").mkdir(parents=True)
    area = store / "containers/udocker-0123456789abcdef"        # of a cp from standard input
    area.mkdir()
    (area / "lock").write_text("")
    note = store / ".proofs/00000000"
    note.parent.mkdir(exist_ok=True)
    note.write_text("old")
    os.utime(str(note), (1, 1))
    return made + [unfinished, area, note]


def test_prune_leaves_what_is_not_udockers(udocker, busybox, tmp_path):
    """Settings may name directories that hold other things too."""
    program = udocker.with_env(UDOCKER_LAYERS=tmp_path / "scratch", UDOCKER_REPOS=tmp_path / "docs",
                               UDOCKER_TMPDIR=str(udocker.home))
    for name in ("scratch/thesis/text", "scratch/results.csv", "docs/a/b/paper.tex", "docs/a/index", "docs/d/manifest",
                 "docs/c/TAG/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "docs/a/link").symlink_to("b")
    program.ok("pull", busybox)
    before = listing(tmp_path)
    assert program.ok("prune").out == "0 B freed\n"
    assert listing(tmp_path) == before
    program.ok("rmi", busybox)
    assert {name for name in map(str, tmp_path.rglob("*")) if "mine" not in name} >= {
        str(tmp_path / "scratch/thesis/text"), str(tmp_path / "docs/a/b/paper.tex")}


def test_stores_that_share_their_layers(udocker, busybox, tmp_path):
    one, two = (udocker.with_env(UDOCKER_DIR=tmp_path / name, UDOCKER_LAYERS=tmp_path / "layers",
                                 UDOCKER_TMPDIR=str(udocker.home)) for name in ("one", "two"))
    for program in one, two:
        program.ok("pull", busybox)
    one.ok("rmi", busybox)
    one.ok("prune")
    two.ok("verify", busybox)
    two.ok("rmi", busybox)
    assert not [name for name in os.listdir(str(tmp_path / "layers")) if name.startswith("sha256")]


def test_a_store_that_cannot_be_seen_keeps_its_blobs(udocker, busybox, tmp_path):
    """Its home is not mounted here for the moment."""
    one, two = (udocker.with_env(UDOCKER_DIR=tmp_path / name, UDOCKER_LAYERS=tmp_path / "layers",
                                 UDOCKER_TMPDIR=str(udocker.home)) for name in ("one", "two"))
    for program in one, two:
        program.ok("pull", busybox)
    (tmp_path / "two").rename(tmp_path / "away")
    assert "cannot be seen" in one.fails(1, "prune").err
    assert "no blob is removed" in one.ok("rmi", busybox).err
    (tmp_path / "away").rename(tmp_path / "two")
    two.ok("verify", busybox)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_layers_that_can_only_be_read(udocker, busybox, tmp_path):
    program = udocker.with_env(UDOCKER_LAYERS=tmp_path / "layers", UDOCKER_TMPDIR=str(udocker.home))
    program.ok("pull", busybox)
    (tmp_path / "layers").chmod(0o555)
    try:
        program.ok("tag", busybox, "lab/two")
        program.ok("create", "--name=c", "lab/two")
        assert program.ok("prune").out == "0 B freed\n"
    finally:
        (tmp_path / "layers").chmod(0o755)


def test_prune_removes_rubbish(stocked):
    before = set(listing(stocked.store))
    rubbish = make_rubbish(stocked.store)
    shown = stocked.ok("prune", "--dry-run").out
    assert all(str(path) in shown for path in rubbish) and "would be freed" in shown
    assert all(os.path.lexists(str(path)) for path in rubbish)
    assert stocked.ok("df").out.splitlines()[2].split()[1:3] == shown.splitlines()[-1].split()[:2]
    assert stocked.ok("prune").out.splitlines()[:-1] == shown.splitlines()[:-1]
    # The tree that was being removed is left for its first minute: its lock may be just about to be taken
    assert {name for name in set(listing(stocked.store)) - before if "/.removed-" not in name} <= {
        str(stocked.store / ".proofs")}
    stocked.ok("verify", "lab/mine:1")
    stocked.ok("run", "busy", "true")


def test_prune_waits_for_nobody_who_brings_blobs(stocked):
    rubbish = make_rubbish(stocked.store)
    with open(str(stocked.store / ".use"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        stocked.fails(1, "prune")
    assert all(os.path.lexists(str(path)) for path in rubbish)
    stocked.ok("prune")


def test_prune_against_pull(udocker):
    """A pull whose last layer is slow keeps what it has."""
    layers = [text_layer(str(number)) for number in range(4)]
    with FaultyRegistry() as registry:
        image = registry.add_image(layers)

        def slow(request, good):
            time.sleep(1)
            return good

        registry.always(image.layer_path(3), slow)
        with udocker.start("-q", "pull", image.reference) as pull:
            refusals = []
            while pull.poll() is None:
                refusals.append(udocker("prune").status)
        assert pull.returncode == 0 and 1 in refusals
        udocker.ok("verify", image.reference)
        assert Puller(udocker).unsound_blobs() == []


def test_prune_against_load(udocker, stocked, tmp_path):
    """An archive that comes slowly through a pipe."""
    stocked.ok("save", "-o", tmp_path / "a.tar", "lab/mine:1")
    stocked.ok("rm", "busy")
    stocked.ok("rmi", "lab/mine:1")
    data = (tmp_path / "a.tar").read_bytes()
    with udocker.start("load", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
        load.stdin.write(data[:len(data) // 2])
        load.stdin.flush()
        while not [name for name in os.listdir(str(udocker.store / "layers")) if name.startswith(".new-")]:
            time.sleep(0.01)
        udocker.fails(1, "prune")
        load.communicate(data[len(data) // 2:])
    assert load.returncode == 0
    udocker.ok("verify", "lab/mine:1")


# Listings

@pytest.mark.parametrize("line, out", [
    ("images", "REPOSITORY\n{host}/lab/busybox:latest    .\nlab/mine:1    .\n"),
    ("images --all --no-trunc", "REPOSITORY\n{host}/lab/busybox:latest    .\nlab/mine:1    .\n"),
    ("image ls", "REPOSITORY\n{host}/lab/busybox:latest    .\nlab/mine:1    .\n"),
    ("images -q", "{host}/lab/busybox:latest\nlab/mine:1\n"),
    ("images -q --filter reference=lab/mine", "lab/mine:1\n"),
    ("images -q --filter reference=*busy*", "{host}/lab/busybox:latest\n"),
    ("images -q --filter reference=lab/* -f dangling=true", ""),
    ("images -p", "REPOSITORY\nlinux/{native} . {host}/lab/busybox:latest\nlinux/{native} . lab/mine:1\n"),
    ("images --format=table", "REPOSITORY\n{host}/lab/busybox:latest .\nlab/mine:1 .\n"),
    ("ps -q", "{id}\n"), ("ps -q -a", "{id}\n"), ("container ls -q", "{id}\n"), ("ps -q --filter name=bus", "{id}\n"),
    ("ps -q --filter name=^/?bus.$", "{id}\n"), ("ps -q -f name=^us", ""), ("ps -q -f status=running", ""),
    ("ps -q --filter name=other", ""), ("ps -q -f id={id}", "{id}\n"),
    ("ps -q -f label=none", ""), ("images -q -f label=none=", ""),
    ("ps --format={{{{.Labels}}}}", "\n"), ("inspect -f {{{{.Config.Labels.none}}}} busy", "<no value>\n"),
    ("inspect -f {{{{len.RootFS.Layers}}}} lab/mine:1", None),
    ("ps -q -f ancestor={host}/lab/busybox", "{id}\n"),
    ("ps -p", "CONTAINER ID                         P M PLATFORM           NAMES              IMAGE\n"
              "{id} . W linux/{native} ['busy'] {host}/lab/busybox:latest\n"),
    ("completion images", "{host}/lab/busybox:latest\nlab/mine:1\n"), ("completion containers", "busy\n"),
    ("inspect --format={{{{.Config.Env}}}} busy", "[PATH=/usr/local/bin:/usr/bin:/bin:/sbin LAB=lab value]\n"),
    ("inspect -f {{{{.Id}}}}|{{{{.Name}}}}|{{{{.Image}}}} busy", "{id}|busy|{host}/lab/busybox:latest\n"),
    ("inspect -f {{{{json.Config.Cmd}}}} busy", None), ("inspect -f {{{{range.Config.Env}}}} busy", None),
    ("inspect -f {{{{.config.cmd}}}}{{{{.Os}}}} lab/mine:1", "[sh]linux\n"),
    ("inspect -f {{{{.RepoTags}}}} lab/mine:1", "[lab/mine:1]\n"),
    ("inspect -f {{{{.Id}}}} --type=container busy busy", "{id}\n{id}\n"),
    ("container inspect -f {{{{.Name}}}} busy", "busy\n"),
    ("image inspect -f {{{{.RepoTags}}}} lab/mine:1 {host}/lab/busybox", "[lab/mine:1]\n[{host}/lab/busybox:latest]\n"),
])
def test_what_scripts_read(stocked, images, line, out):
    known = {"host": images.host, "native": NATIVE, "id": os.readlink(str(stocked.store / "containers/busy"))}
    words = line.format(**known).split()
    if out is None:
        stocked.fails(2, *words)
        return
    squeezed = [" ".join(row.split()) for row in out.format(**known).splitlines()]
    assert [" ".join(row.split()) for row in stocked.ok(*words).out.splitlines()] == squeezed


@pytest.mark.parametrize("words, expected", [
    (["images", "-f", "reference=lab/*", "--format", r"table {{.Tag}}\t{{.Repository}}\t{{.CreatedAt}}|{{.ID}}"],
     "TAG       REPOSITORY   CREATED AT|IMAGE ID\n1         lab/mine     {created}|{digest}\n"),
    (["ps", "--format", "table {{.Names}}\t{{.Image}}\t{{.ID}}"],
     "NAMES     {heading}CONTAINER ID\nbusy      {image}   {id}\n"),
    (["ps", "-f", "name=none", "--format", r"table {{.Mode}}\t{{.Size}}"], "MODE      SIZE\n"),
    (["images", "-f", "reference=none", "--format=table{{.Digest}}"], "DIGEST\n"),
])
def test_tables_of_a_template(stocked, busybox, words, expected):
    def inspected(name, key):
        return stocked.ok("inspect", "--format={{.%s}}" % key, name).out.strip()

    image = busybox + ":latest"
    assert stocked.ok(*words).out == expected.format(
        id=inspected("busy", "Id"), image=image, heading="IMAGE".ljust(len(image) + 3),
        created=inspected("lab/mine:1", "Created"), digest=inspected("lab/mine:1", "Id"))


@pytest.mark.parametrize("template, text", [
    ("{{.Yes}} {{ .No }} {{.Number}}", "true false 1"), ("{{.Null}}", "<no value>"),
    ("{{.List}}", "[1 b [<no value>]]"), ("{{.Map}}", "map[a:map[x:false] z:1]"), ("{{.map.A.x}}", "false"),
    ("{{json .Null}}", "null"), ("{{json .Map.z}}{{json .Number}}", "11"), (r"{{.Yes}}\t{{.No}}\n", "true\tfalse\n"),
    ("no value", "no value"), ("{{range .List}}<{{.}}>{{end}}", "<1><b><[<no value>]>"), ("{{len .List}}", "3"),
    ('{{index .Map "z"}}{{index .List 1}}', "1b"), ("{{range .Map.a}}{{println .}}{{end}}", "false\n"),
    ('{{join .List ", "}}{{.List | json}}', '1, b, [<no value>][1,"b",[null]]'),
    ("{{.Map.a | json | upper}}", '{"X":FALSE}'),
    ("{{if .No}}a{{else}}{{if .Yes}}b{{end}}c{{end}}", "bc"), ("{{range .Null}}a{{else}}none{{end}}", "none"),
    ('{{"a | b"}}', "a | b"),
])
def test_values_as_go_prints_them(template, text):
    document = {"Yes": True, "No": False, "Number": 1, "Null": None, "List": [1, "b", [None]],
                "Map": {"z": 1, "a": {"x": False}}}
    assert program_under_test.renderer(template)(document) == text


@pytest.mark.parametrize("template", [
    "{{range", "{{end}}", "{{if .Yes}}", "{{else}}", "{{foo .Yes}}", "{{json}}", "{{json .Yes .No}}", "{{}}",
    "{{.Yes | foo}}", "{{range $k := .Map}}{{end}}", '{{index .Map "a}}', "{{.Yes .No}}", "{{| json}}", "{{if}}{{end}}",
    "{{range .List}}", "{{index .List -1}}", "{{if .Yes}}" * 3000])
def test_templates_that_are_none(template):
    with pytest.raises(program_under_test.UsageError):
        program_under_test.renderer(template)


@pytest.mark.parametrize("template", [
    "{{.Absent}}", "{{.Yes.Deep}}", "{{index .List 0}}", "{{index .Yes 0}}", "{{len .Yes}}", "{{join .Yes .Yes}}",
    "{{upper .Map}}", "{{range .Yes}}{{end}}"])
def test_templates_that_ask_for_what_is_not_there(template):
    with pytest.raises(program_under_test.NotFoundError):
        program_under_test.renderer(template)({"Yes": True, "Map": {}, "List": []})


def test_every_value_of_a_record_has_a_heading(stocked):
    for line, headings in (("images", program_under_test.IMAGE_HEADINGS),
                           ("ps --size", program_under_test.CONTAINER_HEADINGS)):
        record = stocked.ok(*(line + " --format=json").split()).out.splitlines()[0]
        assert set(json.loads(record)) == set(headings)
    assert "no .Colour" in stocked.fails(1, "ps", "-f", "name=none", "--format=table {{.Colour}}").err


@pytest.mark.parametrize("line", ["images --filter size=1", "ps --filter health=none", "ps -f name", "ps -f name=[",
                                  "completion tcsh", "inspect --type=volume busy", "image inspect -p lab/mine:1",
                                  "container prune", "container prune -f"])
def test_what_is_refused(stocked, line):
    """It changes nothing."""
    before = listing(stocked.store)
    stocked.fails(2, *line.split())
    stocked.fails(1, "inspect", "--format={{.No.Such}}", "busy")
    assert listing(stocked.store) == before


def test_inspect_of_several_and_of_one_type(stocked):
    one = json.loads(stocked.ok("inspect", "busy").out)
    assert json.loads(stocked.ok("inspect", "busy", "lab/mine:1").out) == [one, one]
    for line in ("inspect busy absent", "inspect --type=image busy", "container inspect lab/mine:1",
                 "inspect -p lab/mine:1"):
        assert "no such" in stocked.fails(1, *line.split()).err


def test_json_of_inspect(stocked):
    assert json.loads(stocked.ok("inspect", "--format={{json .Config.Cmd}}", "busy").out) == ["sh"]
    digest = stocked.ok("inspect", "--format={{.Id}}", "lab/mine:1").out.strip()
    assert (stocked.store / "layers" / digest).exists()
    assert digest not in stocked.ok("images", "--digests").out and "sha256:" in stocked.ok("images", "--digests").out


def test_history(udocker):
    layers = [text_layer("one"), text_layer("two" * 1000)]
    history = [{"created": "2020-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file in / "},
               {"created": "2020-01-02T00:00:00Z", "created_by": "ENV A=1 \x1b[31m", "empty_layer": True},
               {"created_by": "RUN " + "x" * 500}, "rubbish", {"created": 5, "comment": "more steps than layers"}]
    with FaultyRegistry() as registry:
        image = registry.add_image(layers, config=image_config(layers, NATIVE, history=history))
        udocker.ok("pull", image.reference)
    lines = udocker.ok("history", image.reference).out.splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= 80 and "\x1b" not in "".join(lines)
    assert lines[-1].split()[:2] == ["2020-01-01T00:00:00", str(len(layers[0].blob))] and "ADD file" in lines[-1]
    assert lines[-2].split()[1:3] == ["0", "B"]
    assert "x" * 500 in udocker.ok("history", "--no-trunc", image.reference).out
    template = "{{.ID}}|{{.CreatedAt}}|{{.CreatedSince}}|{{.Size}}|{{.Comment}}"
    newest, *others, oldest = udocker.ok("history", "--format=" + template, image.reference).out.splitlines()
    sizes = [len(layer.blob) for layer in layers]
    assert newest == "%s|5||0 B|more steps than layers" % image.document["config"]["digest"]
    assert others == ["<missing>|||%d B|" % sizes[1], "<missing>|2020-01-02T00:00:00Z|%s|0 B|" % (
        oldest.split("|")[2])]
    assert re.fullmatch(r"<missing>\|2020-01-01T00:00:00Z\|\d+ years ago\|%d B\|" % sizes[0], oldest)
    head = udocker.ok("history", "--format=table {{.CreatedBy}}\\t{{.Size}}", image.reference).out.splitlines()[0]
    assert head.split() == ["CREATED", "BY", "SIZE"]


@pytest.mark.parametrize("columns", [200, 100, 80, 60])
@pytest.mark.parametrize("options", [[], ["-m", "-s"]])
def test_ps_fits_the_terminal(stocked, busybox, columns, options):
    """What it shows still names container and image."""
    stocked.ok("create", "--name=" + "b" * 10, "lab/mine:1")
    status, screen = converse(stocked, "ps", *options, columns=columns)
    head, *lines = screen.splitlines()
    assert status == 0 and len(lines) == 2 and max(map(len, screen.splitlines())) <= columns
    for line in lines:
        root = stocked.ok("inspect", "-p", line.split()[0]).out
        assert line.split()[0] in root and line.endswith(("busybox:latest", "mine:1"))
        assert head.index("NAMES") == line.index("[") and head.index("P M ") == line.index(". W ")
    assert screen.replace("\r", "") == stocked.ok("ps", *options).out or columns < 200
    status, screen = converse(stocked, "ps", "--no-trunc", *options, columns=columns)
    assert screen.replace("\r", "") == stocked.ok("ps", *options).out


@pytest.mark.parametrize("columns", [200, 80])
def test_showconf_fits_the_terminal(udocker, columns):
    screen = converse(udocker, "showconf", columns=columns)[1]
    assert max(map(len, screen.splitlines())) <= columns and "retry_delay" in screen
    assert ("UDOCKER_RETRY_DELAY" in screen) == (columns == 200)
    assert "UDOCKER_RETRY_DELAY" in udocker.ok("showconf").out


def test_showconf_shows_values_and_where_they_came_from(udocker):
    rows = [line.split() for line in udocker.ok("showconf", env={"UDOCKER_TIMEOUT": "7"}).out.splitlines()]
    assert ["timeout", "7", "environment", "UDOCKER_TIMEOUT", "UDOCKER_TIMEOUT"] in rows
    assert ["retries", "4", "default", "UDOCKER_RETRIES"] in rows and ["bin", "-", "default", "UDOCKER_BIN"] in rows


@pytest.mark.parametrize("age, told", [
    (1, "seconds ago"), (2, "2 seconds ago"), (119, "119 seconds ago"), (120, "2 minutes ago"),
    (7199, "119 minutes ago"), (7200, "2 hours ago"), (2 * 86400, "2 days ago"), (14 * 86400, "2 weeks ago"),
    (60 * 86400, "2 months ago"), (730 * 86400, "2 years ago")])
def test_how_long_ago(age, told):
    later = re.sub(r"\d+", lambda match: str(int(match.group()) + 1), told)        # the clock goes on
    for zone, east in ("Z", 0), (".123456789Z", 0), ("+05:30", 5.5), (".5-08:00", -8):
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - age + east * 3600)) + zone
        assert program_under_test.time_ago(moment) in (told, later)


@pytest.mark.parametrize("text, lines", [
    ("", [""]), ("a " * 40, ["a" + " a" * 39]), ("a " * 39 + "aa", ["a" + " a" * 38, "> aa"]),
    ("a" * 90, ["", "> " + "a" * 90]),
])
def test_text_without_a_terminal_is_of_79_columns(text, lines):
    assert program_under_test.wrapped(text, "", "> ") == lines


@pytest.mark.parametrize("columns, used", [(60, 59), (75, 74), (200, 79)])
def test_help_fits_the_terminal(udocker, columns, used):
    """But for words that are longer than there is room for, and what is to be typed as it stands."""
    status, screen = converse(udocker, "create", "--help", columns=columns)
    lines = screen.partition("Examples:")[0].splitlines()
    assert status == 0 and all(len(line) <= used or " " not in line.strip() for line in lines)
    assert max(map(len, lines)) > used - 6, "room is left"
    assert " ".join(screen.split()) == " ".join(udocker.ok("create", "--help").out.split())


def test_the_containers_made_last(stocked, busybox):
    made = [os.readlink(str(stocked.store / "containers/busy"))]
    made += [stocked.ok("create", busybox).out.strip() for _ in range(3)]
    for age, name in enumerate(reversed(made)):
        os.utime(str(stocked.store / "containers" / name / "container.json"), (10 ** 9 - age, 10 ** 9 - age))
    newest = made[::-1]
    for line, expected in (("-l", newest[:1]), ("--latest", newest[:1]), ("-n 2", newest[:2]), ("--last=9", newest),
                           ("-n3 -f name=bus", newest[3:])):
        assert stocked.ok("ps", "-q", *line.split()).out.split() == expected
    (stocked.store / "containers" / newest[0] / "container.json").unlink()
    assert stocked.ok("ps", "-lq").out.split() == newest[1:2]
    for text in "0", "-1", "", "x", "\u00b2", "9" * 20:
        assert "1 or more" in stocked.fails(2, "ps", "-n", text).err


@pytest.mark.parametrize("line", ["rm -v busy", "container rm --volumes -f busy"])
def test_rm_as_docker_has_it(stocked, line):
    stocked.ok(*line.split())
    assert stocked.ok("ps", "-q").out == ""


@pytest.mark.parametrize("line", ["prune -f", "system prune --force --volumes", "image prune -f"])
def test_prune_as_docker_has_it(stocked, line):
    """Nothing is asked, and nothing of an image or a container goes."""
    kept, rubbish = listing(stocked.store), make_rubbish(stocked.store)
    stocked.ok(*line.split())
    assert not any(os.path.lexists(str(path)) for path in rubbish) and set(kept) <= set(listing(stocked.store))


def test_formats_of_info_and_version(stocked):
    version = program_under_test.__version__
    assert stocked.ok("version", "--format", "{{.Client.Version}} {{.Version}}").out == "%s %s\n" % (version, version)
    assert json.loads(stocked.ok("version", "-f", "json").out)["Client"]["Os"] == "linux"
    assert stocked.ok("version", "-f", "{{.Server.Version}}").out == version + "\n"        # clients ask for it
    assert "no .Colour" in stocked.fails(1, "version", "-f", "{{.Colour}}").err
    assert stocked.ok("info", "-f", "{{.Images}} {{.Containers}}").out == "2 1\n"


def test_info_and_version(stocked):
    info = dict(line.split(": ", 1) for line in stocked.ok("info").out.splitlines())
    assert info["images"].strip() == "2" and info["containers"].strip() == "1" and str(stocked.store) in info["store"]
    lines = stocked.ok("version").out.splitlines()
    assert lines[0].startswith("udocker ") and lines[1].startswith("transport: ") and lines[2].startswith("PRoot: ")
    proot = shutil.which("proot")
    if proot:
        digest = subprocess.check_output(["sha256sum", proot]).decode().split()[0]
        assert "PRoot: %s sha256:%s" % (proot, digest) in lines[2]
    assert stocked.ok("--version").out == lines[0] + "\n"


def test_version_where_things_are_missing(udocker):
    env = {"UDOCKER_USE_CURL_EXECUTABLE": "/no/curl", "UDOCKER_USE_PROOT_EXECUTABLE": "/no/proot"}
    assert "/no/proot is no executable file" in udocker.ok("version", env=env).out


# Completion

COMPLETED = [
    ("udocker pu", {"pull", "push"}), ("udocker run --hoste", {"--hostenv"}), ("udocker rm b", {"busy"}),
    ("udocker run lab/m", {"lab/mine:1"}), ("udocker -q rmi lab/m", {"lab/mine:1"}),
    ("udocker inspect bu", {"busy"}), ("udocker --re", {"--repo="}),
    ("udocker contai", {"container"}), ("udocker system d", {"df"}), ("udocker -q image l", {"list", "load", "ls"}),
    ("udocker image rm lab/m", {"lab/mine:1"}), ("udocker container rm ", {"busy"}),
    ("udocker image ls --dig", {"--digests"}), ("udocker rm ", {"busy"}), ("udocker help pu", {"pull", "push"}),
    ("udocker cp bu", {"busy"}),
]


@pytest.fixture
def on_path(stocked, tmp_path):
    """A directory with the program under its own name, for shells that complete."""
    words = " ".join("'%s'" % word for word in stocked.command())
    (tmp_path / "udocker").write_text("#!/bin/sh\nexec %s \"$@\"\n" % words)
    (tmp_path / "udocker").chmod(0o755)
    return stocked.with_env(PATH="%s:%s" % (tmp_path, os.environ.get("PATH", "/usr/bin:/bin")))


@pytest.mark.parametrize("typed, found", COMPLETED + [
    ("udocker rmi lab/mine:", {"1"}), ("udocker setup --execmode=F", {"F1", "F2", "F3", "F4"}),
    ("udocker run --pull=al", {"always"}), ("udocker run --volume=/etc/pass", {"/etc/passwd", "/etc/passwd-"}),
    ("udocker run -v /etc/host:/etc/hostn", {"/etc/hostname"})])
def test_completion_in_bash(on_path, typed, found):
    script = ('source <(udocker completion bash); COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); '
              'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; _udocker; printf "%s\\n" "${COMPREPLY[@]}"')
    out = subprocess.check_output(["bash", "-c", script, "bash", typed], env=on_path.environment())
    assert set(out.decode().split()) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_of_the_shells_grammar(stocked, shell, tmp_path):
    if not shutil.which(shell):
        pytest.skip("%s is not installed" % shell)
    (tmp_path / "script").write_text(stocked.ok("completion", shell).out)
    subprocess.check_call([shell, "-n", str(tmp_path / "script")])


@pytest.mark.parametrize("typed, found", [(typed, {word.rstrip("=") for word in words}) for typed, words in COMPLETED])
def test_completion_in_fish(on_path, typed, found):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    script = "udocker completion fish | source; complete -C '%s'" % typed
    out = subprocess.check_output(["fish", "--no-config", "-c", script], env=on_path.environment())
    assert {line.split("\t")[0] for line in out.decode().splitlines()} == found


def test_the_script_for_fish_has_every_command_and_option(udocker):
    """Read without a fish, which few machines have."""
    script = udocker.ok("completion", "fish").out
    of_commands = re.findall(r"\(__udocker_command\) '(\w+)'[^\"]*\"((?: -[ls] \S+)+)( -r)? -d '", script)
    assert {(name, ("--" if kind == "l" else "-") + word, bool(has_value)) for name, words, has_value in of_commands
            for kind, word in re.findall(r"-([ls]) (\S+)", words)} == {
                (name, spelling, bool(option.value)) for name, declared in program_under_test.COMMANDS.items()
                for option in declared.options for spelling in option.spellings}
    of_none = re.findall(r"\(__udocker_command\) ''\" -a (\S+) -d '(.{20})", script)
    assert of_none[len(program_under_test.GROUPS):] == [
        (name, declared.meaning[0][:20]) for name, declared in program_under_test.COMMANDS.items()]
    assert {name for name, _ in of_none[:len(program_under_test.GROUPS)]} == set(program_under_test.GROUPS)


def test_the_scripts_for_bash_and_zsh_know_the_same(udocker):
    of_bash, of_zsh = ([line for line in udocker.ok("completion", shell).out.splitlines() if ") options=" in line]
                       for shell in ("bash", "zsh"))
    assert of_bash == of_zsh and len(of_bash) == len(program_under_test.COMMANDS) + 1


def test_names_that_a_shell_would_execute_are_not_completed(stocked):
    evil = stocked.store / "repos/lab/$(touch owned)/latest"
    evil.mkdir(parents=True)
    (evil / "TAG").write_text("")
    assert "touch" in stocked.ok("images").out and "touch" not in stocked.ok("completion", "images").out


def test_foreign_images_are_listed_with_their_platform(udocker, images):
    udocker.ok("pull", "--platform=linux/" + FOREIGN, images.host + "/lab/multi")
    assert udocker.ok("images", "-p").out.splitlines()[1].split()[0] == "linux/" + FOREIGN
