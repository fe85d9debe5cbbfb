"""Real registries on the loopback: Debian's docker-registry on a free port, stopped by its process id."""
import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from urllib.parse import quote

STARTING = 20       # seconds until a registry must answer
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIGURATION = """\
version: 0.1
storage: {filesystem: {rootdirectory: "%(storage)s"}}
http: {addr: "%(host)s"}
"""
PASSWORDS = """\
auth: {htpasswd: {realm: "private laboratory", path: "%s"}}
"""


def free_port():
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class DockerRegistry:
    """One docker-registry with its storage in directory; a credential is (user, password)."""

    executable = shutil.which("docker-registry")

    def __init__(self, directory, credential=None):
        self.directory = directory
        self.credential = credential
        self.host = "127.0.0.1:%d" % free_port()
        self.url = "http://" + self.host
        self._process = None

    def __enter__(self):
        settings = self.directory / "registry.yml"
        settings.write_text(self._configuration())
        with (self.directory / "registry.log").open("wb") as log:
            self._process = subprocess.Popen([self.executable, "serve", str(settings)], env={},
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until_it_answers()
        return self

    def __exit__(self, *exception):
        self._process.terminate()
        self._process.wait()

    def _configuration(self):
        text = CONFIGURATION % {"storage": self.directory / "storage", "host": self.host}
        if self.credential:
            passwords = self.directory / "passwords"
            subprocess.run(["htpasswd", "-Bbc", str(passwords)] + list(self.credential), check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            text += PASSWORDS % passwords
        return text

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + STARTING
        while True:
            try:
                return self.request("GET", "/v2/")
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.directory / "registry.log").read_text())
            time.sleep(0.02)

    def request(self, method, path, body=None, **fields):
        """One HTTP request; the answer, read to its end."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer
        finally:
            connection.close()

    def blob_path(self, digest):
        """Where the blob's bytes lie in the storage, for tests that damage one."""
        algorithm, hexadecimal = digest.split(":")
        return (self.directory / "storage/docker/registry/v2/blobs" / algorithm / hexadecimal[:2]
                / hexadecimal / "data")

    def manifest(self, repository, reference):
        """The manifest that the registry serves, as (bytes, document)."""
        path = "/v2/%s/manifests/%s" % (repository, reference)
        answer = self.request("GET", path, Accept=", ".join(MANIFEST_TYPES))
        assert answer.status == 200, answer.body
        return answer.body, json.loads(answer.body.decode())

    def put_blob(self, repository, media_type, data):
        """Upload a blob by the distribution API; its descriptor."""
        described = descriptor(media_type, data)
        upload = self.request("POST", "/v2/%s/blobs/uploads/" % repository)
        place = upload.getheader("Location").split(self.host, 1)[-1]
        answer = self.request("PUT", "%s&digest=%s" % (place, quote(described["digest"])), data)
        assert answer.status == 201, answer.body
        return described

    def put_manifest(self, repository, reference, document):
        """Upload a manifest or index of its own mediaType, by digest without a reference; its descriptor."""
        data = json.dumps(document).encode()
        described = descriptor(document["mediaType"], data)
        path = "/v2/%s/manifests/%s" % (repository, reference or described["digest"])
        answer = self.request("PUT", path, data, **{"Content-Type": document["mediaType"]})
        assert answer.status == 201, answer.body
        return described


def descriptor(media_type, data):
    """The OCI content descriptor of data."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return {"mediaType": media_type, "size": len(data), "digest": digest}
