"""The store under crowds and time: what is under way is left alone, what is published is whole."""
import errno
import os
import threading
import time

import pytest

import udocker as program_under_test

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


@pytest.fixture
def layout(tmp_path):
    layout = program_under_test.Layout(str(tmp_path / "store"))
    layout.make()
    return layout


@pytest.fixture
def images(layout):
    return program_under_test.ImageStore(layout, program_under_test.BlobStore(layout))


def reference(text="lab/app:latest"):
    return program_under_test.Reference.parse(text)


def add_blob(layout, digest):
    with open(layout.blob(digest), "wb") as file:
        file.write(b"content")


def publish(layout, images, name, digests):
    for digest in digests:
        add_blob(layout, digest)
    path = images.claim(reference(name), digests)
    return images.publish(reference(name), path, b"{}", b"", digests)


def test_blobs_go_with_the_last_image_that_needs_them(layout, images):
    first = publish(layout, images, "lab/first", [DIGEST])
    second = publish(layout, images, "lab/second", [DIGEST, OTHER])
    images.remove(second)
    assert os.listdir(layout.layers) == [DIGEST] and [str(image) for image in images.list()] == ["lab/first:latest"]
    images.remove(first)
    assert os.listdir(layout.layers) == os.listdir(layout.repos) == []


def test_a_new_manifest_drops_what_only_the_old_one_needed(layout, images):
    publish(layout, images, "lab/app", [DIGEST])
    image = publish(layout, images, "lab/app", [OTHER])
    assert set(image.links()) == {OTHER} and os.listdir(layout.layers) == [OTHER]


def test_a_claim_keeps_blobs(layout, images):
    image = publish(layout, images, "lab/app", [DIGEST])
    images.claim(reference("lab/other"), [DIGEST])
    images.remove(image)
    assert os.listdir(layout.layers) == [DIGEST] and images.list() == []


def test_an_image_removed_while_it_is_pulled_is_never_hollow(layout, images):
    publish(layout, images, "lab/app", [DIGEST])
    path = images.claim(reference(), [DIGEST, OTHER])
    images.remove(images.find(reference()))
    add_blob(layout, OTHER)
    with pytest.raises(program_under_test.ConflictError):
        images.publish(reference(), path, b"{}", b"", [DIGEST, OTHER])
    assert images.list() == []


def test_what_a_failed_pull_left_can_be_removed(layout, images):
    images.claim(reference(), [DIGEST])
    add_blob(layout, DIGEST)
    assert images.find(reference()) is None
    images.remove(images.find(reference(), is_finished=False))
    assert os.listdir(layout.layers) == os.listdir(layout.repos) == []


def test_names_within_names(layout, images):
    """lab:app and lab/app:latest lie in one another."""
    outer, inner = publish(layout, images, "lab:app", [DIGEST]), publish(layout, images, "lab/app", [DIGEST])
    assert [str(image) for image in images.list()] == ["lab/app:latest", "lab:app"]
    images.remove(outer)
    assert [str(image) for image in images.list()] == ["lab/app:latest"]
    images.remove(inner)
    assert os.listdir(layout.repos) == os.listdir(layout.layers) == []


# Containers

def hidden(layout):
    return [name for name in os.listdir(layout.containers) if name.startswith(".")]


@pytest.mark.parametrize("hours", [0, 2, 48])
def test_a_container_in_the_making_is_not_swept(layout, monkeypatch, hours):
    containers = program_under_test.ContainerStore(layout)
    with program_under_test.NewContainer(layout) as new:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3600 * hours)
        containers.sweep()
        assert os.path.isdir(new.root)


def test_what_a_killed_create_left_is_swept(layout, monkeypatch):
    containers = program_under_test.ContainerStore(layout)
    new = program_under_test.NewContainer(layout)
    new.__enter__()
    new.lock.release()
    containers.sweep()
    assert hidden(layout)           # it might have been made just now
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100)
    containers.sweep()
    assert not hidden(layout)


def test_one_name_has_one_winner(layout):
    containers, outcomes = program_under_test.ContainerStore(layout), []

    def create():
        try:
            with program_under_test.NewContainer(layout) as new:
                outcomes.append(new.publish(program_under_test.ImageConfig({}), "lab/app:latest", "mine"))
        except program_under_test.ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, program_under_test.Container)]
    assert len(outcomes) == 8 and len(winners) == 1
    assert [container.id for container in containers.list()] == [winners[0].id] and not hidden(layout)


def test_a_name_of_a_container_that_is_gone_is_free(layout):
    containers = program_under_test.ContainerStore(layout)
    os.symlink("00000000-0000-4000-8000-000000000000", layout.container("old"))
    assert containers.find("old") is None and containers.list() == []
    with program_under_test.NewContainer(layout) as new:
        container = new.publish(program_under_test.ImageConfig({}), "lab/app:latest", "old")
    assert containers.find("old").id == container.id


def test_a_tree_of_any_depth_is_removed(layout):
    """Deeper than paths can be long, with directories that their owner may not enter."""
    with program_under_test.NewContainer(layout) as new:
        container = new.publish(program_under_test.ImageConfig({}), "lab/app:latest")
    descriptor = os.open(container.root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("directory", dir_fd=descriptor)
        below = os.open("directory", os.O_RDONLY, dir_fd=descriptor)
        os.fchmod(descriptor, 0o555)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    program_under_test.ContainerStore(layout).remove(container)
    assert os.listdir(layout.containers) == []


# Small things of the system

@pytest.mark.parametrize("url,shown", [
    ("http://user:p@ss@host:1/x?token=1", "http://host:1/x"), ("user:secret@proxy:3128", "proxy:3128"),
    ("https://host/x@y", "https://host/x@y"), ("HTTP://u@h", "HTTP://h"),
])
def test_secrets_of_urls_are_not_shown(url, shown):
    assert program_under_test.shown_url(url) == shown


@pytest.mark.parametrize("text,shown", [
    ("plain", "plain"), ("\x1b[2J", "\\x1b[2J"), ("a\nb", "a\nb"), ("\x9b", "\\x9b"),
])
def test_escape_sequences_are_shown_and_not_obeyed(text, shown):
    assert program_under_test.printable(text) == shown


def test_a_lock_that_fails_is_let_go_once(layout, monkeypatch):
    """A file system may break while the lock is asked for: what it was for says so, or goes on without."""
    import fcntl

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    container = program_under_test.Container(layout.container("some"))
    os.makedirs(container.root)
    with program_under_test.Reading(container):
        pass
    with pytest.raises(OSError) as caught:
        program_under_test.RunMark(layout, "some").make(program_under_test.Host())
    assert caught.value.errno == errno.EIO


def test_a_journal_has_lines_of_any_length(tmp_path):
    """Also one that was cut short, as a kill or a full disk do it."""
    journal = program_under_test.Journal(str(tmp_path / "journal"))
    journal.begin({"state": "broken"})
    journal.add([{"path": "x" * 100000}])
    assert journal.ends() == ({"state": "broken"}, {})
    with open(journal.path, "ab") as file:
        file.write(b'{"path": "' + b"y" * 100000)
    assert journal.ends() == ({"state": "broken"}, {})
    journal.add([{"state": "whole"}])
    assert journal.ends() == ({"state": "broken"}, {"state": "whole"})
    assert [list(value) for value in journal.read()] == [["state"], ["path"], ["state"]]
