"""Search at an index (scripted, as only the Hub has one) and in a registry's catalogue; lists of tags; manifests."""
import json
import subprocess

import pytest

from faulty_registry import Answer, BasicGate, FaultyRegistry, Site, text_layer
from pulling import Puller
from test_login import converse

RESULTS = [
    {"name": "busybox", "description": "Busybox base image.", "star_count": 3000, "is_official": True},
    {"name": "lab/busybox", "description": "two\nlines \u00e9 and a very long " + "text " * 60, "star_count": 7},
    {"name": "evil/\x1b[2Jbusybox", "description": "\x1b]0;owned\x07", "star_count": "many", "is_official": "yes"},
    {"description": "no name"}, "no object", {"name": 5},
]


def page_of(results, number=1, pages=1):
    document = {"num_pages": pages, "num_results": 500, "page": number, "page_size": 100, "results": results}
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def index():
    """An index of pages; `index.results` are what it finds, a hundred a page."""
    with Site() as site:
        site.results = RESULTS

        def search(request, good):
            number, size = int(request.query["page"][0]), int(request.query["n"][0])
            pages = -(-len(site.results) // size)
            return page_of(site.results[(number - 1) * size:number * size], number, pages)

        site.always("/v1/search", search)
        yield site


@pytest.fixture
def faulty():
    with FaultyRegistry() as registry:
        registry.image = registry.add_image([text_layer()])
        yield registry


def searched(program, *arguments, **options):
    """The lines below the head."""
    out = program.ok("search", *arguments, **options).out
    assert out.startswith("NAME ")
    return out.splitlines()[1:]


@pytest.mark.parametrize("line, names", [
    ("--limit=1", ["busybox"]), ("--limit 2", ["busybox", "lab/busybox"]), ("--filter=stars=8", ["busybox"]),
    ("-f stars=7", ["busybox", "lab/busybox"]), ("-f is-official=true", ["busybox"]),
    ("-f is-official=false --limit=1", ["lab/busybox"]), ("--filter=stars=4000", None),
])
def test_search_for_some(udocker, index, line, names):
    words = ["--index=" + index.url] + line.split() + ["busybox"]
    if names is None:
        assert "nothing was found" in udocker.ok("search", *words).err
    else:
        assert [row.split()[0] for row in searched(udocker, *words)] == names


def test_a_search_with_a_limit_asks_for_no_more_pages(udocker, index):
    index.results = [{"name": "lab/busybox%d" % number} for number in range(250)]
    assert len(searched(udocker, "--index=" + index.url, "--limit=100", "busybox")) == 100
    assert [request.query["page"] for request in index.requests if request.path == "/v1/search"] == [["1"]]


@pytest.mark.parametrize("line", ["--limit=0", "--limit=x", "-f stars=x", "-f is-official=maybe",
                                  "-f is-automated=true", "-f stars"])
def test_searches_that_cannot_be(udocker, index, line):
    udocker.fails(2, "search", "--index=" + index.url, *line.split() + ["busybox"])
    assert not index.requests


@pytest.mark.parametrize("words", [["--index=URL"], ["--index=URL/v1"], ["--index=URL/v1/"], ["--registry=URL"],
                                   ["-a", "--index", "URL"]])
def test_search(udocker, index, words):
    lines = searched(udocker, *[word.replace("URL", index.url) for word in words] + ["busybox"])
    assert [line.split()[0] for line in lines] == ["busybox", "lab/busybox", "evil/\\x1b[2Jbusybox"]
    assert lines[0].split()[1:3] == ["[OK]", "3000"] and lines[0].endswith("Busybox base image.")
    assert "two lines \u00e9 and" in lines[1] and "\x1b" not in "".join(lines)


@pytest.mark.parametrize("expression, asked", [
    ("busybox", "busybox"), ("library/busybox", "busybox"), ("lab/app:latest", "lab/app"),
    ("docker.io/lab/app", "lab/app"),
    ("two words & more", "two words & more"), ("\u00e9", "\u00e9"),
])
def test_what_is_asked_for(udocker, index, expression, asked):
    udocker.ok("search", expression, env={"UDOCKER_INDEX": index.url})
    assert {request.query["q"][0] for request in index.requests if "q" in request.query} == {asked}


def test_all_pages_are_shown_where_nobody_watches(udocker, index):
    index.results = [{"name": "lab/app%d" % number, "star_count": number} for number in range(250)]
    assert len(searched(udocker, "app", env={"UDOCKER_INDEX": index.url})) == 250


def test_a_pause_after_each_screen(udocker, index):
    index.results = [{"name": "lab/app%d" % number, "star_count": number} for number in range(250)]
    program = udocker.with_env(UDOCKER_INDEX=index.url)
    status, screen = converse(program, "search", "app", answers=[(b"q to quit]", b"\n"), (b"lab/app30", b"q\n")])
    assert status == 0 and "lab/app0 " in screen and "lab/app30 " in screen and "lab/app100 " not in screen
    status, screen = converse(program, "search", "-a", "app", answers=[])
    assert status == 0 and "lab/app249" in screen and "quit" not in screen
    assert max(len(line) for line in screen.splitlines()) <= 80


def test_nothing_is_found(udocker, index):
    index.results = []
    result = udocker.ok("search", "--index=" + index.url, "nothing")
    assert result.out == "" and "nothing was found" in result.err


@pytest.mark.parametrize("answer", [
    Answer(200, b"<html>"), Answer(200, b"[]"), Answer(200, b'{"results": 5}'), Answer(200, b'{"results": [1, null]}'),
    Answer(500), Answer(200, b"x", cut=0), Answer(302, b"", {"Location": "file:///etc/passwd"}), Answer(404),
    Answer(200, b"[" * 100000),
])
def test_an_index_that_answers_rubbish(udocker, index, answer):
    index.always("/v1/search", answer)
    program = udocker.with_env(UDOCKER_RETRY_DELAY="0.01", UDOCKER_RETRIES="1")
    result = program("search", "--index=" + index.url, "busybox")
    assert result.status in (0, 1) and not result.out and len(result.err.splitlines()) <= 3
    assert "bug" not in result.err


def test_an_index_without_end(udocker, index):
    """One that says that there is always one more page ends when a page is empty."""
    pages = [page_of([{"name": "lab/app"}], number, 10 ** 9) for number in range(1, 4)]
    index.always("/v1/search", page_of([], 4, 10 ** 9))
    index.once("/v1/search", *pages)
    assert searched(udocker, "--index=" + index.url, "app") == ["%-40s -            -" % "lab/app"] * 3


# Registries

@pytest.mark.parametrize("expression, found", [
    ("{host}/busy", ["busybox", "lab/busybox", "library/busybox"]), ("{host}/USER", ["lab/user"]),
])
def test_a_catalogue(udocker, images, expression, found):
    lines = searched(udocker, expression.format(host=images.host))
    assert [line.split()[0] for line in lines] == ["%s/%s" % (images.host, name) for name in found]
    udocker.ok("pull", "-q", lines[-1].split()[0] + (":id" if "user" in found[-1] else ""))


def test_a_catalogue_where_a_search_brings_a_page_for_people(udocker, faulty):
    faulty.always("/v1/search", Answer(200, b"<html>"))
    faulty.always("/v2/_catalog", Answer(200, b'{"repositories": ["lab/app", "lab/other"]}'))
    assert [line.split()[0] for line in searched(udocker, faulty.host + "/app")] == [faulty.host + "/lab/app"]


def test_a_catalogue_for_which_a_password_is_needed(udocker, private_registry):
    udocker.fails(1, "search", private_registry.host + "/busy")
    udocker.ok("login", "-u", "green", "--password-stdin", private_registry.host, input=b"secret:word")
    assert len(searched(udocker, private_registry.host + "/busy")) == 1


def paged(key, names, size=2):
    """A behaviour that gives names by pages, with a relative Link to the next."""
    def answer(request, good):
        start = int(request.query.get("last", ["0"])[0])
        more = start + size < len(names)
        fields = {"Link": '<%s?last=%d&n=%d>; rel="next"' % (request.path, start + size, size)} if more else {}
        return Answer(200, json.dumps({key: names[start:start + size]}).encode(), fields)
    return answer


def test_a_catalogue_of_pages(udocker, faulty):
    names = ["lab/app%d" % number for number in range(5)] + ["other"]
    faulty.always("/v2/_catalog", paged("repositories", names))
    assert [line.split()[0].partition("/")[2] for line in searched(udocker, faulty.host + "/app")] == names[:5]


def test_tags(udocker, images):
    out = udocker.ok("search", "--list-tags", images.host + "/lab/busybox").out
    assert sorted(out.splitlines()) == ["1.0", "latest", "schema2"]
    out = udocker.ok("search", "--list-tags", "--registry=" + images.url, "busybox").out
    assert out == "latest\n"
    udocker.fails(1, "search", "--list-tags", images.host + "/lab/absent")


def test_tags_of_pages(udocker, faulty):
    tags = ["t%d" % number for number in range(7)]
    faulty.always("/v2/lab/app/tags/list", paged("tags", tags))
    assert udocker.ok("search", "--list-tags", faulty.host + "/lab/app").out.split() == tags


@pytest.mark.parametrize("link", [
    '<http://127.0.0.1:1/v2/lab/app/tags/list>; rel="next"', '</v2/lab/app/tags/list?n=100>; rel="next"',
    "<>; rel=next", "nonsense",
    '<http://[>; rel="next"', '<file:///etc/passwd>; rel="next"', '<//evil.example/v2/>; rel="next"',
])
def test_a_link_that_leads_nowhere_good(udocker, faulty, link):
    """In a circle, or to another host, which would see the credentials."""
    faulty.always("/v2/lab/app/tags/list", Answer(200, b'{"tags": ["only"]}', {"Link": link}))
    out = udocker.ok("search", "--list-tags", faulty.host + "/lab/app").out
    assert set(out.split()) == {"only"} and len(faulty.paths("GET", "/v2/lab/app/tags/list")) <= 2


@pytest.mark.parametrize("tags", ["null", "5", '[1, "good", null]', '["good", "\\u001b[2J"]'])
def test_odd_tags(udocker, faulty, tags):
    faulty.always("/v2/lab/app/tags/list", Answer(200, ('{"tags": %s}' % tags).encode()))
    out = udocker.ok("search", "--list-tags", faulty.host + "/lab/app").out
    assert "\x1b" not in out and (out == "" or out.split()[0] == "good")


def test_a_manifest_is_shown_and_nothing_is_stored(udocker, images):
    document = json.loads(udocker.ok("manifest", "inspect", images.host + "/lab/multi").out)
    assert len(document["manifests"]) == 3
    document = json.loads(udocker.ok("manifest", "inspect", "--platform=linux/arm64", images.host + "/lab/multi").out)
    assert len(document["layers"]) == 1
    assert not udocker.store.exists()
    udocker.fails(1, "manifest", "inspect", images.host + "/lab/absent")
    udocker.fails(2, "manifest", "create", images.host + "/lab/multi")


def test_who_reads_no_further_is_no_error(udocker, index):
    index.results = [{"name": "lab/app%d" % number} for number in range(20000)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with udocker.start("search", "--index=" + index.url, "app", **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() in (0, 141)


def test_credentials_of_the_registry_are_not_for_the_index(udocker, faulty):
    """The search of an index is open to all, and nothing is shown to it."""
    faulty.gate = BasicGate({"green": "secret:word"})
    Puller(udocker).keep_credentials({faulty.host: ("green", "secret:word")})
    faulty.always("/v1/search", page_of([{"name": "lab/app"}]))
    assert len(searched(udocker, "--registry=" + faulty.url, "app")) == 1
    assert [request.authorization for request in faulty.asked("GET", "/v1/search")] == [None]
