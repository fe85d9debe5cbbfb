"""A scripted OCI registry and a token server on 127.0.0.1 that misbehave when a test says so, in a line each.

    with FaultyRegistry() as registry:
        image = registry.add_image(layers=[Layer(b"...")])
        registry.once(image.blob_path(0), Answer(503), cut_after(100))      # then all is well again
        registry.always("/v2/*/manifests/latest", Answer(404), method="GET")
        ...
        assert registry.paths("GET") == [...]

A behaviour is an Answer, or a function of (request, good answer) that returns one; paths may hold shell
wildcards. Behaviours declared later go first.
"""
import base64
import collections
import copy
import fnmatch
import gzip
import hashlib
import http.server
import json
import re
import socket
from urllib.parse import parse_qs, unquote, urlsplit

from layers import file, tar
from loopback import LoopbackServer, close_by_reset

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"

CHUNKED, UNTIL_CLOSE = "chunked", "until close"


def digest_of(data):
    """The digest of bytes, as OCI spells it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor_of(data, media_type, **more):
    """The OCI content descriptor of bytes."""
    return dict({"mediaType": media_type, "digest": digest_of(data), "size": len(data)}, **more)


def json_bytes(document):
    """The document as bytes, in a form that no second dump by a client would hit upon by chance."""
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def basic(user, password):
    """The value of an Authorization field."""
    return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


class Request:
    """What a client asked; `fields` are the message's header fields, looked up in any case."""

    def __init__(self, method, target, fields, body):
        parts = urlsplit(target)
        self.method = method
        self.target = target            # as it came
        self.path = unquote(parts.path)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.fields = fields
        self.body = body

    def __repr__(self):
        return "%s %s" % (self.method, self.target)

    @property
    def authorization(self):
        """The value of the Authorization field, or None."""
        return self.fields.get("Authorization")

    def matches(self, method, path):
        """True when the request has this method and path, which may hold wildcards."""
        return fnmatch.fnmatchcase(self.method, method) and fnmatch.fnmatchcase(self.path, path)


class Answer:
    """One HTTP answer.

    framing: None for the right Content-Length, a number for that one instead, CHUNKED, or UNTIL_CLOSE.
    cut: so many bytes of the body are sent, then the connection ends; by RST with reset.
    pause: seconds to wait after each `piece` bytes of the body.
    raw: these bytes are sent instead of everything else, then the connection ends.
    """

    def __init__(self, status=200, body=b"", fields=(), framing=None, cut=None, reset=False, pause=0,
                 piece=65536, raw=None):
        self.status = status
        self.body = body
        self.fields = list(fields.items() if isinstance(fields, dict) else fields)
        self.framing = framing
        self.cut = cut
        self.reset = reset
        self.pause = pause
        self.piece = piece
        self.raw = raw

    def but(self, **changes):
        """A copy in which these attributes are different."""
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def with_field(self, name, value):
        """A copy in which the header field has this value, or is absent for None."""
        fields = [field for field in self.fields if field[0].lower() != name.lower()]
        return self.but(fields=fields + ([(name, value)] if value is not None else []))

    @property
    def ends_connection(self):
        """True when no further answer can follow on the connection."""
        return (self.raw is not None or self.cut is not None or self.framing == UNTIL_CLOSE
                or isinstance(self.framing, int))


# Behaviours: functions of (request, good answer), or makers of them

def cut_after(count, reset=False):
    """The right answer, but its body ends after so many bytes."""
    return lambda request, good: good.but(cut=count, reset=reset)


def framed(framing):
    """The right answer with another framing of its body."""
    return lambda request, good: good.but(framing=framing)


def with_field(name, value):
    """The right answer with another value of one header field, or, for None, without it."""
    return lambda request, good: good.with_field(name, value)


def with_type(media_type):
    """The right answer under another Content-Type."""
    return with_field("Content-Type", media_type)


def slowly(piece, pause):
    """The right answer, its body in pieces with a pause in seconds after each."""
    return lambda request, good: good.but(piece=piece, pause=pause)


def changed_body(change):
    """The right answer with its body put through a function; length and digest field as before."""
    return lambda request, good: good.but(body=change(good.body))


def redirect(location, status=307):
    """An answer that sends the client elsewhere."""
    return Answer(status, b"moved", {"Location": location})


def too_many(body=b"Too Many Requests", **fields):
    """A 429; name its fields as in Retry_After="1"."""
    return Answer(429, body, [(name.replace("_", "-"), value) for name, value in fields.items()])


def hub_limit(**fields):
    """The 429 of Docker Hub when the pulls of six hours are used up."""
    message = "You have reached your pull rate limit. You may increase the limit by authenticating"
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": message}]}).encode()
    answer = too_many(body, **fields)
    return answer.but(fields=answer.fields + [
        ("Content-Type", "application/json"), ("ratelimit-limit", "100;w=21600"),
        ("ratelimit-remaining", "0;w=21600"), ("docker-ratelimit-source", "192.0.2.17")])


def denied(*challenges, status=401, code="UNAUTHORIZED"):
    """A refusal with any number of WWW-Authenticate fields."""
    body = json.dumps({"errors": [{"code": code, "message": "authentication required"}]}).encode()
    fields = [("Content-Type", "application/json")] + [("WWW-Authenticate", text) for text in challenges]
    return Answer(status, body, fields)


def content(data, wanted=None, **fields):
    """The answer with these bytes, or with those that the Range field wanted names."""
    fields["Content-Type"] = "application/octet-stream"
    if not wanted:
        return Answer(200, data, fields)
    start = int(re.match(r"bytes=(\d+)-", wanted).group(1))
    if start >= len(data):
        return Answer(416, b"", {"Content-Range": "bytes */%d" % len(data)})
    fields["Content-Range"] = "bytes %d-%d/%d" % (start, len(data) - 1, len(data))
    return Answer(206, data[start:], fields)


class _Handler(http.server.BaseHTTPRequestHandler):
    """The HTTP side of one connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        """Says nothing: what came is in the site's `requests`."""

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, self.headers, body)
        answer = self.server.respond(request)
        if answer.raw is not None:
            self.wfile.write(answer.raw)
        else:
            self._write_head(answer)
            if request.method != "HEAD":
                self._write_body(answer)
        if answer.ends_connection:
            self.close_connection = True
        if answer.reset:
            self.wfile.flush()
            close_by_reset(self.connection)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _write_head(self, answer):
        self.send_response(answer.status)
        for name, value in answer.fields:
            self.send_header(name, value)
        if answer.framing == CHUNKED:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.framing != UNTIL_CLOSE:
            length = len(answer.body) if answer.framing is None else answer.framing
            self.send_header("Content-Length", str(length))
        if answer.ends_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _write_body(self, answer):
        sent = answer.body[:answer.cut]
        for start in range(0, len(sent), answer.piece):
            piece = sent[start:start + answer.piece]
            if answer.framing == CHUNKED:
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(piece)
            if answer.pause and self.server.stopping.wait(answer.pause):
                return
        if answer.framing == CHUNKED and answer.cut is None:
            self.wfile.write(b"0\r\n\r\n")


class Site(LoopbackServer):
    """A web server without content of its own: it answers 404 except where behaviours were declared."""

    def __init__(self, certificate=None):
        super().__init__(certificate)
        self.requests = []              # every Request, in the order of arrival
        self._rules = []                # (method, path, behaviours left or None, the one for ever)

    def once(self, path, *behaviours, method="*"):
        """Each of these behaviours serves for one request, in this order."""
        self._rules.insert(0, (method, path, collections.deque(behaviours), None))

    def always(self, path, behaviour, method="*"):
        """This behaviour serves for every request."""
        self._rules.insert(0, (method, path, None, behaviour))

    def asked(self, method="*", path="*"):
        """The requests with this method and path that have come, both with wildcards."""
        return [request for request in list(self.requests) if request.matches(method, path)]

    def paths(self, method="*", path="*"):
        """As `asked`, the paths alone."""
        return [request.path for request in self.asked(method, path)]

    def answer(self, request):
        """The right answer to a request."""
        return Answer(404, b"404 page not found\n", {"Content-Type": "text/plain"})

    def respond(self, request):
        """The scripted answer to a request where there is one, else the right one."""
        with self._lock:
            self.requests.append(request)
            behaviour = self._scripted(request)
        if isinstance(behaviour, Answer):
            return behaviour
        good = self.answer(request)
        return behaviour(request, good) if behaviour else good

    def _scripted(self, request):
        for method, path, behaviours, behaviour in self._rules:
            if request.matches(method, path):
                if behaviours is None:
                    return behaviour
                if behaviours:
                    return behaviours.popleft()
        return None

    def converse(self, connection):
        """Speaks HTTP; who wants to speak TLS where there is none hears what a Go server says to that."""
        first_of_tls_hello = b"\x16"
        if not self._tls and connection.recv(1, socket.MSG_PEEK) == first_of_tls_hello:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
        else:
            _Handler(connection, connection.getpeername(), self)


class Layer:
    """A layer as a registry serves it: `blob` is what travels, `diff_id` the digest of the tar in it."""

    def __init__(self, tar, compress=gzip.compress, media_type=OCI_LAYER + "+gzip", **more):
        self.blob = compress(tar)
        self.diff_id = digest_of(tar)
        self.descriptor = descriptor_of(self.blob, media_type, **more)


def text_layer(text="hello", name="etc/motd", **packing):
    """A Layer of one file."""
    return Layer(tar(file(name, text.encode())), **packing)


def image_config(layers, architecture="amd64", **members):
    """The config document of an image with these layers; members replace or add to its top level."""
    return dict({"architecture": architecture, "os": "linux",
                 "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
                 "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}}, **members)


class Image:
    """What `add_image` made: where its parts are, as paths of the registry, and its manifest."""

    def __init__(self, host, repository, tag, document, descriptor):
        self.document = document
        self.descriptor = descriptor
        self.digest = descriptor["digest"]
        self.reference = "%s/%s:%s" % (host, repository, tag)
        self.pinned = "%s/%s@%s" % (host, repository, self.digest)
        self.tag_path = "/v2/%s/manifests/%s" % (repository, tag)
        self.digest_path = "/v2/%s/manifests/%s" % (repository, self.digest)
        self.blobs = "/v2/%s/blobs/" % repository

    @property
    def config_path(self):
        """The path of the config blob."""
        return self.blobs + self.document["config"]["digest"]

    def layer_path(self, number=0):
        """The path of a layer's blob, counted from the lowest."""
        return self.blobs + self.document["layers"][number]["digest"]


class FaultyRegistry(Site):
    """A registry in memory. `gate` is None, or says no to a request that is not authorised: see BasicGate."""

    def __init__(self, certificate=None):
        super().__init__(certificate)
        self.blobs = {}             # digest: bytes
        self.manifests = {}         # (repository, tag or digest): (bytes, media type)
        self.gate = None

    def add_blob(self, data, media_type="application/octet-stream"):
        """Serves these bytes in every repository; returns their descriptor."""
        self.blobs[digest_of(data)] = data
        return descriptor_of(data, media_type)

    def add_manifest(self, document, media_type, tag="latest", repository="lab/app"):
        """Serves a manifest, given as bytes or as a document, by tag and digest; returns an Image."""
        data = document if isinstance(document, bytes) else json_bytes(document)
        descriptor = descriptor_of(data, media_type)
        for reference in (tag, descriptor["digest"]):
            self.manifests[repository, reference] = (data, media_type)
        return Image(self.host, repository, tag, document, descriptor)

    def add_image(self, layers, tag="latest", repository="lab/app", config=None, media_type=OCI_MANIFEST,
                  **members):
        """Serves an image of these Layers; members replace or add to the top level of its manifest."""
        for layer in layers:
            self.blobs[digest_of(layer.blob)] = layer.blob
        config_blob = self.add_blob(json_bytes(config or image_config(layers)), OCI_CONFIG)
        document = dict({"schemaVersion": 2, "mediaType": media_type, "config": config_blob,
                         "layers": [layer.descriptor for layer in layers]}, **members)
        return self.add_manifest(document, media_type, tag, repository)

    def add_index(self, entries, media_type=OCI_INDEX, **place):
        """Serves an index of these descriptors; place is tag and repository."""
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        return self.add_manifest(document, media_type, **place)

    def answer(self, request):
        """What a right registry answers."""
        refusal = self.gate(request) if self.gate else None
        if refusal:
            return refusal
        if request.path == "/v2/":
            return Answer(200, b"{}", {"Content-Type": "application/json",
                                       "Docker-Distribution-Api-Version": "registry/2.0"})
        if request.method in ("POST", "PUT"):
            return self._push(request)
        place = re.match("/v2/(.+)/(manifests|blobs)/([^/]+)$", request.path)
        if not place:
            return super().answer(request)
        repository, kind, reference = place.groups()
        if kind == "manifests":
            return self._manifest(repository, reference)
        return self._blob(reference, request.fields.get("Range"))

    def _push(self, request):
        """OCI distribution-spec, Pushing blobs and Pushing manifests; it never mounts what another repository has."""
        place = re.match("/v2/(.+)/(blobs/uploads|manifests)/([^/]*)$", request.path)
        repository, kind, reference = place.groups()
        if request.method == "POST":
            return Answer(202, b"", {"Location": "/v2/%s/blobs/uploads/session?_state=s" % repository})
        if kind == "manifests":
            self.add_manifest(request.body, request.fields.get("Content-Type"), reference, repository)
        elif request.query.get("digest") != [self.add_blob(request.body)["digest"]]:
            return Answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "not the digest"}]}')
        return Answer(201, b"", {"Docker-Content-Digest": digest_of(request.body)})

    def _manifest(self, repository, reference):
        if (repository, reference) not in self.manifests:
            return self._unknown("MANIFEST_UNKNOWN")
        data, media_type = self.manifests[repository, reference]
        return Answer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)})

    def _blob(self, digest, wanted):
        if digest not in self.blobs:
            return self._unknown("BLOB_UNKNOWN")
        return content(self.blobs[digest], wanted, **{"Docker-Content-Digest": digest})

    @staticmethod
    def _unknown(code):
        body = json.dumps({"errors": [{"code": code, "message": "unknown", "detail": {}}]}).encode()
        return Answer(404, body, {"Content-Type": "application/json"})


class BasicGate:
    """Admits users who show name and password with each request."""

    def __init__(self, users, realm="Registry Realm"):
        self.admitted = {basic(name, password) for name, password in users.items()}
        self.realm = realm

    def __call__(self, request):
        return None if request.authorization in self.admitted else denied('Basic realm="%s"' % self.realm)


class BearerGate:
    """Admits who shows a token of the desk that is good for what he asks.

    Others get these challenges; on real requests other ones where `elsewhere` is given.
    """

    def __init__(self, desk, *challenges, elsewhere=None):
        self.desk = desk
        self.challenges = challenges
        self.elsewhere = challenges if elsewhere is None else elsewhere

    def __call__(self, request):
        repository = re.match("/v2/(.+)/(?:manifests|blobs)/", request.path)
        is_push = self.desk.lets_push and request.method != "GET"
        scope = "repository:%s:pull%s" % (repository.group(1), ",push" * is_push) if repository else None
        if self.desk.is_good(request.authorization, scope):
            return None
        return denied(*(self.elsewhere if repository else self.challenges))


class TokenDesk:
    """A behaviour for the path of a realm: it gives out tokens and knows later what each is good for.

    users: {name: password}; with users nobody else gets a token. identity_tokens: those that a POST may show. Who asks
    to push is refused, where `lets_push` does not let him.
    Members replace or add to what the answer holds beside the token.
    """

    def __init__(self, users=None, identity_tokens=(), token_member="token", lets_push=False, **members):
        self.users = users
        self.lets_push = lets_push
        self.identity_tokens = identity_tokens
        self.token_member = token_member
        self.members = members
        self.requests = []
        self._scopes = {}           # token: the scopes it is good for

    def __call__(self, request, good):
        self.requests.append(request)
        form = parse_qs(request.body.decode())
        scopes = form["scope"][0].split() if "scope" in form else request.query.get("scope", [])
        if not self._knows(request, form):
            return denied('Basic realm="token desk"')
        if any("push" in scope for scope in scopes) and not self.lets_push:
            return denied(status=403, code="DENIED")
        token = "token-%d-%d" % (id(self), len(self._scopes))
        self._scopes[token] = scopes
        body = dict({"expires_in": 300}, **self.members)
        body[self.token_member] = token
        return Answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _knows(self, request, form):
        if request.method == "POST" and form.get("grant_type") == ["refresh_token"]:
            return form["refresh_token"][0] in self.identity_tokens
        allowed = [basic(name, password) for name, password in (self.users or {}).items()]
        return self.users is None or request.authorization in allowed

    def is_good(self, authorization, scope):
        """True when the Authorization field shows a token for this scope, or any token for scope None."""
        kind, _, token = (authorization or "").partition(" ")
        return kind == "Bearer" and token in self._scopes and (scope is None or scope in self._scopes[token])

    def forget(self):
        """From now on no token is good that was given before."""
        self._scopes = {token: [] for token in self._scopes}
