"""Passwords and tokens: where they must not be seen."""
import os
import shutil
import subprocess

from faulty_registry import (Answer, BasicGate, BearerGate, FaultyRegistry, Site, TokenDesk, cut_after, redirect,
                             text_layer)
from program import TIMEOUT, Program, Result
from pulling import encoded, write_private
from soaking.laboratory import remove

USER, PASSWORD, IDENTITY = "green", "pass-%s-word", "identity-%s-token"
# Writes down what others can see of it in /proc, and is curl
CURL = """#!/bin/sh
cat /proc/$$/cmdline /proc/$$/environ >>"%s"
exec %s "$@"
"""


class Secrets:
    """Logins and pulls of all kinds, with all that is said aloud, from registries that go wrong, redirect or refuse:
    user and password go to their own registry alone, and are nowhere but in the files that hold credentials."""

    total = None

    def __init__(self, laboratory):
        self.directory = laboratory.directory
        self.home = self.directory / "secretive"

    def round(self, number, random):
        remove(self.home)
        (self.home / "tmp").mkdir(parents=True)
        token = "%06d" % random.randrange(10 ** 6)
        self.password, self.identity = PASSWORD % token, IDENTITY % token
        with FaultyRegistry() as registry, Site() as elsewhere:
            image = registry.add_image([text_layer(), text_layer("more", "etc/more")])
            desk = self.guard(registry, random)
            self.disturb(registry, elsewhere, image, random)
            program = self.program(random)
            self.give_credentials(registry, random)
            results = [self.run(program, password, "login", "-u", USER, "--password-stdin", registry.host)
                       for password in random.choice(((self.password,), (self.password + "x", self.password), ()))]
            results += [self.run(program, "", "pull", image.reference),
                        self.run(program, "", "manifest", "inspect", image.reference)]
            tokens = list(desk._scopes) if desk else []
            secrets = [self.password, encoded(USER, self.password), self.identity, "query-secret"] + tokens
            return ([repr(result) for result in results if "this is a bug" in result.err]
                    + self.seen_in_outputs(results, secrets) + self.seen_in_files(secrets)
                    + ["%s went elsewhere: %s" % (request.authorization, request) for request in elsewhere.requests
                       if request.authorization or self.password in request.target])

    @staticmethod
    def run(program, password, *words):
        """The Result of a command with -D, which may show tracebacks."""
        with program.start("-D", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE) as process:
            out, err = process.communicate(password.encode(), TIMEOUT)
        return Result(words, process.returncode, out, err)

    def guard(self, registry, random):
        """Put a gate before the registry; the TokenDesk where there is one."""
        users = {USER: self.password}
        if random.random() < 0.3:
            registry.gate = BasicGate(users)
            return None
        desk = TokenDesk(users=users, identity_tokens=[self.identity])
        registry.always("/token", desk)
        registry.gate = BearerGate(desk, 'Bearer realm="%s/token",service="registry.test"' % registry.url)
        return desk

    @staticmethod
    def disturb(registry, elsewhere, image, random):
        """Let some things go wrong, most of them once."""
        blob, target = image.layer_path(), elsewhere.url + "/place?X-Amz-Signature=query-secret"
        elsewhere.always("/place", Answer(200, registry.blobs[blob.rpartition("/")[2]]))
        for path in random.sample([blob, "/v2/", "/token", "/v2/lab/app/manifests/*"], random.randint(0, 3)):
            registry.once(path, random.choice((
                Answer(500), Answer(401), Answer(403), redirect(target), cut_after(3), Answer(200, b"<html>"),
                Answer(429, b"", {"Retry-After": "0"}), redirect(target, 301),
                lambda request, good: Answer(400, ("you sent %s" % request.authorization).encode()))))
        if random.random() < 0.5:
            registry.always(blob, redirect(target))

    def program(self, random):
        """The program with one of the two transports."""
        env = {"UDOCKER_RETRY_DELAY": "0.01", "UDOCKER_TMPDIR": str(self.home / "tmp"), "UDOCKER_RETRIES": "2"}
        self.seen = self.home / "seen"
        if random.random() < 0.5 and shutil.which("curl"):
            path = self.home / "curl"
            path.write_text(CURL % (self.seen, shutil.which("curl")))
            path.chmod(0o755)
            env["UDOCKER_USE_CURL_EXECUTABLE"] = str(path)
        return Program(self.home, env=env)

    def give_credentials(self, registry, random):
        """Let docker have some, as a password or an identity token, in a file of mode 0600."""
        entry = random.choice(({}, {"auth": encoded(USER, self.password)}, {"identitytoken": self.identity}))
        if entry:
            write_private(self.home / ".docker/config.json", {"auths": {registry.host: entry}})

    @staticmethod
    def seen_in_outputs(results, secrets):
        return ["%r is told: %r" % (secret, result) for result in results for secret in secrets
                if secret in result.out + result.err]

    def seen_in_files(self, secrets):
        """Complaints about files that hold a secret, or about keystores that others can read."""
        found = []
        for parent, _, names in os.walk(str(self.home)):
            for path in filter(os.path.isfile, (os.path.join(parent, name) for name in names)):
                with open(path, "rb") as file:
                    data = file.read()
                if not path.endswith(("/.udocker/keystore", "/.docker/config.json")):
                    found += ["%r is in %s" % (secret, path) for secret in secrets if secret.encode() in data]
                elif os.stat(path).st_mode & 0o077:
                    found.append("others can read %s" % path)
        return found
