"""The program as one that pulls from scripted registries: with short waits, and questions about what came."""
import base64
import hashlib
import json
import os
import shutil


class Puller:
    """Pulls, says how it was refused, and looks into the store. `env` goes with every command."""

    def __init__(self, udocker, **env):
        self.udocker = udocker.with_env(UDOCKER_RETRY_DELAY="0.01", **env)

    def with_env(self, **env):
        """The same store with more variables in the environment."""
        return Puller(self.udocker, **env)

    def pull(self, reference, *options, **start):
        """Pulls what must be there; returns the Result."""
        return self.udocker.ok("pull", *(options + (reference,)), **start)

    def refused(self, reference, *options, told=()):
        """Pulls what must not work: one line with these words on standard error, and no image, whole or half.

        Returns standard error.
        """
        result = self.udocker.fails(1, "-q", "pull", *(options + (reference,)))
        for word in told:
            assert word.lower() in result.err.lower(), result
        assert "this is a bug" not in result.err, result
        assert self.images() == []
        assert self.unsound_blobs() == []
        return result.err

    def images(self):
        """The names of the images in the store."""
        return [line.split()[0] for line in self.udocker.ok("images").out.splitlines()[1:]]

    def unsound_blobs(self):
        """The names of blobs of which the content is not what the name says."""
        layers = self.udocker.store / "layers"
        blobs = [path for path in layers.iterdir() if is_digest(path.name)] if layers.is_dir() else []
        return [path.name for path in blobs
                if "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() != path.name]

    def tree(self, reference):
        """The directory tree of a new container of an image that is there."""
        container = self.udocker.ok("create", reference).out.strip()
        return self.udocker.store / "containers" / container / "ROOT"

    def text(self, reference, name="etc/motd"):
        """What a file of an image holds."""
        return (self.tree(reference) / name).read_text()

    def config(self, reference):
        """The image's config document."""
        return json.loads(self.udocker.ok("inspect", reference).out)

    def keep_credentials(self, credentials):
        """Puts {host: (user, password)} into the keystore, as `login` does."""
        entries = {"https://" + host: {"auth": encoded(*pair), "email": ""}
                   for host, pair in credentials.items()}
        write_private(self.udocker.store / "keystore", entries)

    def keep_docker_config(self, document):
        """Puts a document where docker keeps its credentials."""
        write_private(self.udocker.home / ".docker" / "config.json", document)


def is_digest(name):
    """True for the name of a finished blob."""
    return name.startswith("sha256:") and len(name) == len("sha256:") + 64


def encoded(user, password):
    """User and password as credential files hold them."""
    return base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


def write_private(path, document):
    """Writes JSON that only the owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    path.chmod(0o600)


def transports():
    """{name: the variables that select this way of speaking HTTP}, those that this machine has."""
    curl = shutil.which("curl", path=os.defpath)
    return dict({"default": {}}, **({"curl": {"UDOCKER_USE_CURL_EXECUTABLE": curl}} if curl else {}))
