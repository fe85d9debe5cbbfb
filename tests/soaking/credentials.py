"""Passwords and tokens: where they must not be seen."""
import os
import re
import shutil
import subprocess

from faulty_registry import (OCI_LAYER, Answer, BasicGate, BearerGate, FaultyRegistry, Layer, Site, TokenDesk, basic,
                             cut_after, json_bytes, redirect, text_layer)
from layers import zstd
from program import TIMEOUT, Program, Result
from proxies import Proxy
from pulling import encoded, write_private
from soaking.laboratory import FAKECHROOT, remove
from soaking.watching import Watch

USER, PASSWORD, IDENTITY = "green", "pass-%s-word", "identity-%s-token"
PROXY_PASSWORD = "proxy-%s-word"
HELPER = """#!/bin/sh
read server
echo '{"ServerURL": "", "Username": "%s", "Secret": "%s"}'
"""
# What a command of a container sees of itself, and of where it comes from
INSIDE = "for process in self $$; do cat /proc/$process/cmdline /proc/$process/environ; done; true"
# Files whose purpose it is to hold credentials, one of them while it has its temporary name; and the user's own
KEYSTORE = r"/\.udocker/(keystore|\.new-[0-9a-f]{16})$"
GIVEN = r"/\.docker/config\.json$|/\.udocker/udocker\.conf$"


class Secrets:
    """Logins, pulls and runs of all kinds, with all that is said aloud, from registries that go wrong, redirect or
    refuse: passwords and tokens go to their own host alone, no process is given them on its command line or in its
    environment, and they are written to nothing but the files that hold credentials, not for a moment."""

    total = None

    def __init__(self, laboratory):
        self.laboratory = laboratory
        self.home = laboratory.directory / "secretive"
        self.vault = laboratory.directory / "vault"         # what is here the user put there
        self.modes = ["N1", "P1", "R1"] + (["F1", "F2", "F3", "F4"] if FAKECHROOT else [])

    def round(self, number, random):
        for directory in self.home, self.vault:
            remove(directory)
        (self.home / "tmp").mkdir(parents=True)
        self.vault.mkdir()
        token = "%06d" % random.randrange(10 ** 6)
        self.password, self.identity, proxy_password = [text % token for text in (PASSWORD, IDENTITY, PROXY_PASSWORD)]
        proxy_user = "%s:%s" % (USER, proxy_password)
        self.watch = Watch(self.vault / "seen")
        with FaultyRegistry() as registry, Site() as elsewhere, Proxy(proxy_user) as proxy:
            image = registry.add_image([Layer(self.laboratory.base), self.second_layer(random)])
            desk = self.guard(registry, elsewhere, random)
            self.disturb(registry, elsewhere, image, random)
            mode = random.choice(self.modes)
            program = self.program(mode, random)
            self.give_credentials(registry, random)
            if random.random() < 0.3:
                write_private(self.home / ".udocker/udocker.conf", {})
                (self.home / ".udocker/udocker.conf").write_text("httpproxy = http://%s@%s\n" % (
                    proxy_user, proxy.host))
            results = [self.run(program, *words) for words in self.commands(registry, image, mode, random)]
            tokens = list(desk._scopes) if desk else []
            secrets = [self.password, encoded(USER, self.password), self.identity, "query-secret"] + tokens
            for_proxy = [proxy_password, encoded(USER, proxy_password)]
            return ([repr(result) for result in results if "this is a bug" in result.err]
                    + self.seen_in_outputs(results, secrets + for_proxy)
                    + self.watch.leaks(secrets + for_proxy, KEYSTORE) + self.seen_in_files(secrets + for_proxy)
                    + self.seen_by(elsewhere, [secret for secret in secrets if secret != "query-secret"] + for_proxy)
                    + self.seen_by(registry, for_proxy))

    def commands(self, registry, image, mode, random):
        """(words, input) of each command."""
        login = ["login", "-u", USER]
        found = [(login + ["--password-stdin", registry.host], password)
                 for password in random.choice(((self.password,), (self.password + "x", self.password), (), ()))]
        if random.random() < 0.3:
            found.append((login + ["-p", self.password, registry.host], ""))
        others = [["pull", image.reference], ["manifest", "inspect", image.reference], ["pull", image.reference],
                  ["create", "--name=one", image.reference], ["setup", "--execmode=" + mode, "one"],
                  ["run", "--pull=never", random.choice(("--hostenv", "--hostauth")), "one", "/bin/sh", "-c", INSIDE],
                  [random.choice(("logout", "prune", "doctor", "showconf"))]]
        return found + [(words, "") for words in others]

    @staticmethod
    def run(program, words, text):
        """The Result of a command with -D, which may show tracebacks."""
        with program.start("-D", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE) as process:
            out, err = process.communicate(text.encode(), TIMEOUT)
        return Result(words, process.returncode, out, err)

    @staticmethod
    def second_layer(random):
        """A layer that some Pythons have to start a program for."""
        if shutil.which("zstd") and random.random() < 0.5:
            return text_layer("more", "etc/more", compress=zstd, media_type=OCI_LAYER + "+zstd")
        return text_layer("more", "etc/more")

    def guard(self, registry, elsewhere, random):
        """Put a gate before the registry; the TokenDesk where there is one. Now and then it is, over http, on a host to
        which no credentials may go."""
        users = {USER: self.password}
        if random.random() < 0.3:
            registry.gate = BasicGate(users)
            return None
        desk = TokenDesk(users=users, identity_tokens=[self.identity])
        registry.always("/token", desk)
        realm = registry.url if random.random() < 0.85 else elsewhere.url.replace("127.0.0.1", "localhost")
        registry.gate = BearerGate(desk, 'Bearer realm="%s/token",service="registry.test"' % realm)
        return desk

    def disturb(self, registry, elsewhere, image, random):
        """Let some things go wrong, most of them once."""
        blob, target = image.layer_path(), elsewhere.url + "/place?X-Amz-Signature=query-secret"
        elsewhere.always("/place", Answer(200, registry.blobs[blob.rpartition("/")[2]]))
        for path in random.sample([blob, "/v2/", "/token", image.tag_path], random.randint(0, 3)):
            registry.once(path, *(random.randint(1, 4) * [random.choice((
                Answer(500), Answer(401), Answer(403), redirect(target), cut_after(3), Answer(200, b"<html>"),
                Answer(429, b"", {"Retry-After": "0"}), redirect(target, 301), self.echo))]))
        if random.random() < 0.5:
            registry.always(blob, redirect(target))

    def echo(self, request, good):
        """An answer that tells what it was shown."""
        shown = "%s %s %s" % (request.authorization, request.body.decode(), self.password)
        is_basic = request.authorization == basic(USER, self.password)
        told = "you sent " + (shown if is_basic else shown.rpartition(" ")[0])
        return Answer(400, json_bytes({"errors": [{"code": "DENIED", "message": told}]}), {
            "Content-Type": "application/json", "Warning": '299 - "%s"' % told})

    def program(self, mode, random):
        """The program, watched, with one of the two transports and one of the engines."""
        env = {"UDOCKER_RETRY_DELAY": "0.01", "UDOCKER_TMPDIR": str(self.home / "tmp"), "UDOCKER_RETRIES": "2",
               "PATH": "%s:%s" % (self.vault, os.environ["PATH"])}
        if random.random() < 0.5 and shutil.which("curl"):
            env["UDOCKER_USE_CURL_EXECUTABLE"] = shutil.which("curl")
        if FAKECHROOT:
            env["UDOCKER_FAKECHROOT_SO"] = str(FAKECHROOT[0])
        runtimes = [path for path in map(shutil.which, ("crun", "runc")) if path]
        if mode == "R1" and runtimes:
            env["UDOCKER_USE_RUNC_EXECUTABLE"] = random.choice(runtimes)
        if mode != "P1":
            program = Program(self.home, env=env)
            program.entry = self.watch.entry(program.entry)
            return program
        for name in "proot", "curl":
            if shutil.which(name) and (name == "proot" or "UDOCKER_USE_CURL_EXECUTABLE" in env):
                env["UDOCKER_USE_%s_EXECUTABLE" % name.upper()] = str(self.watch.wrapper(self.vault / name, name))
        return Program(self.home, env=env)

    def give_credentials(self, registry, random):
        """Let docker have some, in a file of mode 0600 or in a program that is asked for them."""
        entry = random.choice(({}, {"auth": encoded(USER, self.password)}, {"identitytoken": self.identity}, None))
        document = {"auths": {registry.host: entry}} if entry else {}
        if entry is None:
            path = self.vault / "docker-credential-vault"
            path.write_text(HELPER % random.choice(((USER, self.password), ("<token>", self.identity))))
            path.chmod(0o755)
            document = random.choice(({"credsStore": "vault"}, {"credHelpers": {registry.host: "vault"}}))
        if document:
            write_private(self.home / ".docker/config.json", document)

    @staticmethod
    def seen_by(site, secrets):
        """Complaints about requests that tell a host what is not for it."""
        return ["%r went to %s: %s" % (secret, site.host, request) for request in site.requests for secret in secrets
                if secret in "%s %s %s" % (request.target, request.fields, request.body.decode("latin-1"))]

    @staticmethod
    def seen_in_outputs(results, secrets):
        return ["%r is told: %r" % (secret, result) for result in results for secret in secrets
                if secret in result.out + result.err]

    def seen_in_files(self, secrets):
        """Complaints about files that hold a secret, or about those for secrets that others can read."""
        found = []
        for parent, _, names in os.walk(str(self.home)):
            for path in filter(os.path.isfile, (os.path.join(parent, name) for name in names)):
                with open(path, "rb") as file:
                    data = file.read()
                if not re.search(KEYSTORE + "|" + GIVEN, path):
                    found += ["%r is in %s" % (secret, path) for secret in secrets if secret.encode() in data]
                elif os.stat(path).st_mode & 0o077:
                    found.append("others can read %s" % path)
        return found
