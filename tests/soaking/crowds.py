"""Many commands at once on one store."""
import os
import shutil
import subprocess
import time

from program import TIMEOUT, Result
from soaking.laboratory import LATER, tree_of
from soaking.mishaps import works


def without_times(tree):
    """A listing without the times of directories, which are those of now where an archive does not name them."""
    return {name: facts if facts[2] else facts[0] for name, facts in tree.items()}


class Crowds:
    """A crowd of commands that begin at the same moment, or nearly; each round is one kind of crowd, by its number."""

    total = None

    def __init__(self, laboratory, size=32):
        self.laboratory = laboratory
        self.size = size
        self.kinds = (self.pulls, self.runs_of_an_absent_image, self.creates, self.creates_of_one_name,
                      self.removal_of_the_image, self.prunes_against_pulls, self.pulls_without_locks,
                      self.successors_of_the_dead, self.chaos)
        self.works = works(laboratory)

    def round(self, number, random):
        self.laboratory.renew()
        (self.laboratory.directory / "output").mkdir(exist_ok=True)
        shutil.copy(str(self.laboratory.directory / "tree.tar"), str(self.laboratory.home / "tmp/source.tar"))
        del self.laboratory.registry.requests[:]
        kind = self.kinds[number % len(self.kinds)]
        found = kind(random) + self.laboratory.unsound_images() + self.laboratory.unsound_containers()
        for words in ["prune"], ["rm", "gone"]:         # rm sweeps
            self.laboratory.run(words, later=LATER)
        return ["%s: %s" % (kind.__name__, complaint) for complaint in found + self.laboratory.strange_names()]

    def crowd(self, commands, program=None):
        """Start these commands; their Results. A command is words, or (words, seconds to wait before, input)."""
        running, program = [], program or self.laboratory.program
        for command in commands:
            words, delay, data = command if isinstance(command, tuple) else (command, 0, None)
            time.sleep(delay)
            process = program.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdin.write(data or b"")
            process.stdin.close()
            process.stdin = None
            running.append((words, process))
        return [Result(words, process.returncode, *process_output) for words, process, process_output in [
            (words, process, process.communicate(timeout=TIMEOUT)) for words, process in running]]

    @staticmethod
    def failed(results, *allowed):
        """Complaints about commands that failed, but for those that say one of the allowed things."""
        return [repr(result) for result in results if "bug" in result.err or "Traceback" in result.err or (
            result.status and not any(words in result.err for words in allowed))]

    def downloads(self, repository="lab/app"):
        """Complaints about blobs that came more than once."""
        paths = self.laboratory.registry.paths("GET", "/v2/%s/blobs/*" % repository)
        return ["%s was downloaded %d times" % (path, paths.count(path))
                for path in set(paths) if paths.count(path) > 1]

    def pulls(self, _):
        results = self.crowd([["pull", self.laboratory.host + "/lab/app"]] * self.size)
        return self.failed(results) + self.downloads()

    def runs_of_an_absent_image(self, _):
        words = ["run", self.laboratory.host + "/lab/app", "/bin/cat", "/etc/os-release"]
        results = self.crowd([words] * (2 * self.size))
        return self.failed(results) + self.downloads() + [repr(result) for result in results if "ID=" not in result.out]

    def creates(self, _):
        results = self.crowd([["create", "lab/kept:1"]] * self.size)
        kept = without_times(self.laboratory.new_tree)
        return self.failed(results) + [
            "the tree of %s is another one" % result.out for result in results
            if result.status == 0 and without_times(tree_of(self.laboratory.root(result.out.strip()))) != kept]

    def creates_of_one_name(self, _):
        before = len(self.laboratory.containers())
        results = self.crowd([["create", "--name=new", "lab/kept:1"]] * self.size)
        winners = [result for result in results if result.status == 0]
        found = self.failed(results, "is taken")
        if len(winners) != 1 or len(self.laboratory.containers()) != before + 1:
            found.append("%d won, and there are %d containers more" % (
                len(winners), len(self.laboratory.containers()) - before))
        hidden = [name for name in os.listdir(str(self.laboratory.program.store / "containers")) if name[0] == "."]
        return found + hidden

    def removal_of_the_image(self, random):
        commands = [["create", "lab/gone:1"] for _ in range(self.size)]
        commands.insert(random.randrange(self.size), (["rmi", "lab/gone:1"], random.random() / 2, None))
        return self.failed(self.crowd(commands), "no such image", "not in the store", "No such file")

    def prunes_against_pulls(self, random):
        commands = [["pull", self.laboratory.host + "/lab/app"]] * 4
        commands += [["load", "-i", self.laboratory.directory / "app.tar"]] * 2
        commands += [(["prune"], random.random() / 10, None) for _ in range(self.size // 2)]
        random.shuffle(commands)
        return self.failed(self.crowd(commands), "another udocker is at work")

    def pulls_without_locks(self, _):
        """Where locks do not work, each downloads for itself."""
        program = self.laboratory.faulty(no_locks=1)
        return self.failed(self.crowd([["pull", self.laboratory.host + "/lab/app"]] * (self.size // 4), program))

    def successors_of_the_dead(self, random):
        """Whatever a command that was killed had locked, the next one does not wait for it."""
        chosen = random.choice(self.works)
        with self.laboratory.program.start(*chosen.words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL) as first:
            first.stdin.write(chosen.input or b"")
            first.stdin.close()
            second = [(chosen.words, random.random() / 5, chosen.input)]
            results = self.crowd(second)
            first.kill()
        return self.failed(results, *self.refusals())

    @staticmethod
    def refusals():
        """What one of several commands may say that meet."""
        return ("is taken", "no such container", "no such image", "not in the store", "another udocker is at work",
                "was removed while", "was just removed", "just removed it", "is protected",
                "a link in a place where", "converted for", "not converted", "No such file", "no such file")

    def chaos(self, random):
        """Commands of all kinds, but not two at once that write the same output."""
        chosen = [random.choice([work for work in self.works if work.words[0] not in ("save", "export")])
                  for _ in range(self.size // 2)]
        results = self.crowd([(work.words, random.random() / 20, work.input) for work in chosen])
        return self.failed(results, *self.refusals())
