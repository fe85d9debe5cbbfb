"""Who may pull: challenges, tokens and credentials of all the kinds of registries, against a scripted one."""
import json
import stat
from urllib.parse import parse_qs

import pytest

from faulty_registry import (Answer, BasicGate, BearerGate, FaultyRegistry, Site, TokenDesk, basic, denied,
                             redirect, text_layer, with_field, with_type)
from loopback import make_certificate
from program import PATH
from proxies import Proxy
from pulling import Puller, encoded, transports, write_private

BEARER = 'Bearer realm="%s/token",service="registry.test"'
SCOPE = "repository:lab/app:pull"
USER, PASSWORD = "robot$lab+app", "pass:word of the laboratory"


@pytest.fixture
def faulty():
    """A registry with one image, lab/app."""
    with FaultyRegistry() as registry:
        registry.image = registry.add_image([text_layer()])
        yield registry


@pytest.fixture
def elsewhere():
    """Another web server: same address, another port."""
    with Site() as site:
        yield site


@pytest.fixture
def puller(udocker):
    """The program."""
    return Puller(udocker)


@pytest.fixture(params=sorted(transports()))
def each_puller(request, udocker):
    """The program with each of its ways of speaking HTTP."""
    return Puller(udocker, **transports()[request.param])


def guard(registry, *challenges, elsewhere=None, **desk):
    """Lets nobody in without a token of the desk at /token; %s in a challenge is the registry's URL."""
    token_desk = TokenDesk(**desk)
    registry.always("/token", token_desk)
    challenges = [text.replace("%s", registry.url) for text in challenges or (BEARER,)]
    registry.gate = BearerGate(token_desk, *challenges, elsewhere=elsewhere)
    return token_desk


# Tokens

def test_a_token_is_asked_for_as_the_challenge_says(each_puller, faulty):
    desk = guard(faulty)
    each_puller.pull(faulty.image.reference)
    [request] = desk.requests
    assert request.method == "GET"
    assert request.query == {"service": ["registry.test"], "scope": [SCOPE]}
    assert request.authorization is None
    assert each_puller.text(faulty.image.reference) == "hello"


@pytest.mark.parametrize("member", ["token", "access_token"])
def test_a_token_has_one_of_two_names(puller, faulty, member):
    guard(faulty, token_member=member)
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("body", [
    b"", b"{}", b"[]", b"<html>", b'{"token": 5}', b'{"token": ""}', b'{"token": null, "access_token": []}',
    b'{"token": "a\\r\\nX-Evil: 1"}', b'{"token": "\\u00e9\\u0000"}', b'{"token": "\\u00e9"}',
    b"[" * 100000,
], ids=lambda body: body[:20].decode())
def test_an_answer_without_a_token_is_refused(puller, faulty, body):
    guard(faulty)
    faulty.always("/token", Answer(200, body, {"Content-Type": "application/json"}))
    puller.refused(faulty.image.reference)
    assert not [request for request in faulty.requests if "X-Evil" in request.fields]


@pytest.mark.parametrize("seconds", [0, 1, -5, None, "300", 300.5, True, 10 ** 30])
def test_a_token_is_used_for_a_minute_whatever_its_life(puller, faulty, seconds):
    desk = guard(faulty, expires_in=seconds)
    puller.pull(faulty.image.reference)
    assert len(desk.requests) == 1


@pytest.mark.parametrize("media_type", ["text/plain", "text/html; charset=utf-8", None])
def test_the_type_of_a_tokens_answer_does_not_matter(puller, faulty, media_type):
    desk = guard(faulty)
    faulty.always("/token", lambda request, good: with_type(media_type)(request, desk(request, good)))
    puller.pull(faulty.image.reference)


def test_the_token_server_may_dislike_a_narrow_accept(puller, faulty):
    desk = guard(faulty)

    def fussy(request, good):
        return desk(request, good) if "*/*" in request.fields.get("Accept", "*/*") else Answer(406)

    faulty.always("/token", fussy)
    puller.pull(faulty.image.reference)


def test_a_token_server_in_trouble_is_asked_again(puller, faulty):
    desk = guard(faulty)
    faulty.once("/token", Answer(503), Answer(429, b"", {"Retry-After": "1"}), Answer(200, b"x" * 99, cut=5))
    puller.pull(faulty.image.reference)
    assert len(desk.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_who_gets_no_token_is_told_to_log_in_or_why(puller, faulty, status):
    guard(faulty)
    faulty.always("/token", denied(status=status, code="DENIED"))
    puller.refused(faulty.image.reference, told=["authentication required"])


# Challenges

def test_a_401_without_challenge_after_a_ping_with_one(puller, faulty):
    """Google"""
    guard(faulty, BEARER, elsewhere=())
    puller.pull(faulty.image.reference)


def test_a_challenge_after_an_open_ping(puller, faulty):
    """Artipie"""
    guard(faulty)
    faulty.always("/v2/", Answer(200, b"{}"))
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("placeholder", ["repository:user/image:pull", "repository:user/image:pull,push", ""])
def test_a_placeholder_scope_is_never_used(puller, faulty, placeholder):
    """GitHub, where asking for push is refused"""
    desk = guard(faulty, BEARER + ',scope="%s"' % placeholder)
    puller.pull(faulty.image.reference)
    scopes = [scope for request in desk.requests for scope in request.query["scope"]]
    assert SCOPE in scopes and not [scope for scope in scopes if "user/image" in scope]


def test_a_scope_that_is_no_repository(puller, faulty):
    """Amazon, public"""
    desk = TokenDesk()
    faulty.always("/token/", desk)
    challenge = 'Bearer realm="%s/token/",service="public.test",scope="aws"' % faulty.url
    faulty.gate = lambda request: None if desk.is_good(request.authorization, None) else denied(challenge)
    puller.pull(faulty.image.reference)


def test_a_challenge_without_service(puller, faulty):
    """NVIDIA"""
    desk = guard(faulty, 'Bearer realm="%s/token",scope="repository:lab/app:pull"')
    puller.pull(faulty.image.reference)
    assert "service" not in desk.requests[0].query


CHALLENGES = {
    "unquoted": ['Bearer realm="%s/token",service=registry.test,scope=repository:lab/app:pull'],
    "any case": ['bEARER Realm="%s/token",SERVICE="registry.test"'],
    "spaces": ['Bearer  realm = "%s/token" ,  service\t=\t"registry.test" , '],
    "empty elements": ['Bearer realm="%s/token",,service="registry.test",'],
    "commas in a scope": ['Bearer scope="repository:x:pull,push",realm="%s/token",service="registry.test"'],
    "escapes": ['Bearer realm="%s/token",error="say \\"no\\", Basic realm=\\"x\\"",service="registry.test"'],
    "Negotiate first": ["Negotiate", BEARER],
    "Negotiate with a token": ["Negotiate YII=, " + BEARER],
    "NTLM last": [BEARER, "NTLM"],
    "Basic first": ['Basic realm="Registry Realm"', BEARER],
    "Basic before, in one field": ['Basic realm="Registry Realm", ' + BEARER],
    "Basic after, in one field": [BEARER + ', Basic realm="Registry Realm"'],
    "Bearer in a free text": ['Basic realm="Bearer realm=\\"ftp://127.0.0.1/\\", x"', BEARER],
    "relative": ['Bearer realm="/token",service="registry.test"'],
    "without scheme": ['Bearer realm="//HOST/token",service="registry.test"'],
    "a query in the realm": ['Bearer realm="%s/token?a=b",service="registry.test"'],
}


@pytest.mark.parametrize("kind", sorted(CHALLENGES))
def test_challenges_in_all_their_forms(puller, faulty, kind):
    desk = guard(faulty, *[text.replace("HOST", faulty.host) for text in CHALLENGES[kind]])
    puller.pull(faulty.image.reference)
    assert desk.requests[0].query["service"] == ["registry.test"]
    assert desk.requests[0].query.get("a", ["b"]) == ["b"]


@pytest.mark.parametrize("challenge", [
    'Bearer realm="file:///etc/passwd"', 'Bearer realm="ftp://127.0.0.1/x"', 'Bearer realm="javascript:x"',
    'Bearer realm="http://"', 'Bearer realm="http://[::1"', 'Bearer realm="http://127.0.0.1:99999999/"',
    'Bearer realm=""', 'Bearer realm="', "Bearer", "Bearer " + "a" * 50000, 'Digest realm="x"',
    "", ",,,", "=", '"',
], ids=lambda text: text[:40] or "empty")
def test_a_challenge_that_leads_nowhere_is_refused(puller, faulty, challenge):
    faulty.gate = lambda request: denied(challenge)
    puller.refused(faulty.image.reference)


def test_401_for_ever_ends(puller, faulty):
    guard(faulty)
    good_gate = faulty.gate
    faulty.gate = lambda request: denied(*good_gate.challenges)
    puller.refused(faulty.image.reference, told=["docker login"])
    assert len(faulty.requests) < 20


def test_401_for_ever_with_credentials_ends(puller, faulty):
    puller.keep_credentials({faulty.host: (USER, "wrong")})
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.refused(faulty.image.reference, told=["login"])
    assert len(faulty.requests) < 20


def test_insufficient_scope_is_cured_once(puller, faulty):
    desk = guard(faulty)
    more = "repository:lab/app:pull,metadata"
    challenge = 'Bearer realm="%s/token",error="insufficient_scope",scope="%s"' % (faulty.url, more)

    def wants_more(request, good):
        return good.but(status=200) if desk.is_good(request.authorization, more) else denied(challenge)

    gate, faulty.gate = faulty.gate, lambda request: None if request.path != "/v2/" else gate(request)
    faulty.always("/v2/lab/app/manifests/*", wants_more)
    puller.pull(faulty.image.reference)
    assert [more] in [request.query["scope"] for request in desk.requests]


def test_insufficient_scope_for_ever_ends(puller, faulty):
    guard(faulty)
    challenge = BEARER % faulty.url + ',error="insufficient_scope",scope="repository:lab/app:pull,metadata"'
    faulty.always("/v2/lab/app/manifests/*", denied(challenge))
    puller.refused(faulty.image.reference, told=["docker login"])
    assert len(faulty.requests) < 20


def test_an_expired_token_is_replaced_from_the_ping_on(puller, faulty):
    """NVIDIA: the 401 after expiry names another realm, where nothing is to be had"""
    dead = 'Bearer realm="%s/dead",service="registry",error="invalid_token"' % faulty.url
    desk = guard(faulty, BEARER, elsewhere=(dead,))

    def expire(request, good):
        desk.forget()
        return faulty.gate(request)

    faulty.once(faulty.image.layer_path(), expire)
    puller.pull(faulty.image.reference)
    assert "/dead" not in faulty.paths()
    assert [request.authorization for request in faulty.asked(path="/v2/")][-1] is None
    assert len(desk.requests) == 2


# Credentials, and to whom they are shown

def test_user_and_password_go_to_the_token_server_alone(each_puller, faulty):
    """Harbor wants Bearer, though there is a password"""
    desk = guard(faulty, users={USER: PASSWORD})
    each_puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    each_puller.pull(faulty.image.reference)
    assert [request.authorization for request in desk.requests] == [basic(USER, PASSWORD)]
    assert desk.requests[0].query.get("account", [USER]) == [USER]
    assert not [request for request in faulty.asked(path="/v2/*") if "Basic" in (request.authorization or "")]


def test_user_and_password_go_to_a_registry_that_wants_basic(each_puller, faulty, elsewhere):
    """Amazon: manifests without a digest field, blobs on a server that must not see the password"""
    each_puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    faulty.gate = BasicGate({USER: PASSWORD}, realm=elsewhere.url)
    blob = faulty.image.layer_path()
    faulty.always("/v2/lab/app/manifests/*", with_field("Docker-Content-Digest", None), method="GET")
    faulty.always(blob, lambda request, good: redirect(elsewhere.url + "/s3?X-Amz-Signature=a%2Fb"))
    elsewhere.always("/s3", Answer(200, faulty.blobs[blob.rpartition("/")[2]]))
    each_puller.pull(faulty.image.reference)
    assert [(request.authorization, request.target) for request in elsewhere.requests] == [
        (None, "/s3?X-Amz-Signature=a%2Fb")]


def test_who_has_no_credentials_is_told_to_log_in(puller, faulty):
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.refused(faulty.image.reference, told=["docker login"])


def test_credentials_go_to_their_own_host_alone(puller, faulty):
    with FaultyRegistry() as other:
        other.add_image([text_layer("other")])
        puller.keep_credentials({faulty.host: (USER, PASSWORD), other.host: ("other", "secret"),
                                 "127.0.0.1": ("third", "secret")})
        faulty.gate, other.gate = BasicGate({USER: PASSWORD}), BasicGate({"other": "secret"})
        puller.pull(faulty.image.reference)
        puller.pull(other.host + "/lab/app")
        assert {request.authorization for request in faulty.requests} == {None, basic(USER, PASSWORD)}
        assert {request.authorization for request in other.requests} == {None, basic("other", "secret")}


@pytest.mark.parametrize("method, path", [("GET", "/token"), ("GET", "/v2/lab/app/manifests/*"),
                                          ("HEAD", "/v2/lab/app/manifests/*"), ("POST", "/token")])
def test_what_a_server_was_shown_and_says_again_is_not_told(puller, faulty, method, path):
    """Neither in its error nor in its warning."""
    desk = guard(faulty, users={USER: PASSWORD}, identity_tokens=["identity-token"])
    auth = {"identitytoken": "identity-token"} if method == "POST" else {"auth": encoded(USER, PASSWORD)}
    puller.keep_docker_config({"auths": {faulty.host: auth}})

    def answer(request, _):
        told = "%s %s %s" % (request.authorization, request.body.decode(), "" if method == "POST" else PASSWORD)
        body = json.dumps({"errors": [{"code": "DENIED", "message": "you sent " + told}]}).encode()
        return Answer(400, body, {"Warning": '299 - "you sent %s"' % told})

    faulty.always(path, answer, method=method)
    err = puller.udocker("pull", faulty.image.reference).err
    secrets = ["identity-token", encoded(USER, PASSWORD)] + [PASSWORD] * (path == "/token") + list(desk._scopes)
    assert "you sent" in err and [secret for secret in secrets if secret in err] == []


def test_an_open_registry_is_not_shown_credentials(puller, faulty):
    puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    puller.pull(faulty.image.reference)
    assert {request.authorization for request in faulty.requests} == {None}


def test_a_realm_on_another_host_without_tls_is_shown_no_credentials(puller, faulty, elsewhere):
    puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    desk = TokenDesk()
    elsewhere.always("/token", desk)
    faulty.gate = BearerGate(desk, 'Bearer realm="http://localhost:%d/token"' % elsewhere.port)
    puller.pull(faulty.image.reference)
    assert [request.authorization for request in desk.requests] == [None]
    assert "account" not in desk.requests[0].query


def test_a_realm_on_another_port_of_the_host_is_shown_credentials(puller, faulty, elsewhere):
    """GitLab on one's own machine"""
    puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    desk = TokenDesk({USER: PASSWORD})
    elsewhere.always("/jwt/auth", desk)
    faulty.gate = BearerGate(desk, 'Bearer realm="%s/jwt/auth",service="container_registry"' % elsewhere.url)
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433"])
def test_a_registry_elsewhere_may_not_name_a_realm_on_this_machine(puller, faulty, elsewhere, host):
    faulty.gate = lambda request: denied('Bearer realm="http://%s:%d/token"' % (host, elsewhere.port))
    with Proxy(routes={"registry.example": faulty.port}) as proxy:
        insecure = puller.with_env(UDOCKER_INSECURE="1")
        insecure.refused("registry.example/lab/app", "--httpproxy=http://" + proxy.host)
    assert {asked.host for asked in proxy.asked} == {"registry.example"} and not elsewhere.requests


@pytest.fixture
def certificate(tmp_path):
    """A certificate of our own."""
    return make_certificate(tmp_path)


@pytest.fixture(params=sorted(transports()))
def trusting(request, puller, certificate):
    """The program that trusts this certificate, with each transport."""
    return puller.with_env(CURL_CA_BUNDLE=certificate, **transports()[request.param])


def test_a_realm_on_another_host_with_tls_is_shown_credentials_and_named(trusting, certificate):
    desk = TokenDesk({USER: PASSWORD})
    with FaultyRegistry(certificate) as registry, Site(certificate) as other:
        image = registry.add_image([text_layer()])
        other.always("/token", desk)
        registry.gate = BearerGate(desk, 'Bearer realm="https://localhost:%d/token"' % other.port)
        trusting.keep_credentials({registry.host: (USER, PASSWORD)})
        talk = trusting.pull(image.reference).err
    assert talk.count("localhost:%d" % other.port) == 1


def test_a_registry_with_tls_may_not_name_a_realm_without(trusting, certificate, elsewhere):
    desk = TokenDesk()
    elsewhere.always("/token", desk)
    with FaultyRegistry(certificate) as registry:
        image = registry.add_image([text_layer()])
        registry.gate = BearerGate(desk, 'Bearer realm="%s/token"' % elsewhere.url)
        trusting.keep_credentials({registry.host: (USER, PASSWORD)})
        trusting.refused(image.reference, told=["https"])
    assert not elsewhere.requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_server_that_redirects_takes_no_credentials_along(puller, faulty, elsewhere, status):
    puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    guard(faulty)
    faulty.always("/token", redirect(elsewhere.url + "/token", status))
    elsewhere.always("/token", Answer(200, b'{"token": "stolen"}'))
    puller.refused(faulty.image.reference)
    assert {request.authorization for request in elsewhere.requests} <= {None}


def test_an_identity_token_is_exchanged_by_post(each_puller, faulty):
    """Azure"""
    desk = guard(faulty, identity_tokens=["refresh/me+now"], token_member="access_token", users={})
    entry = {"auth": encoded("0" * 8, ""), "identitytoken": "refresh/me+now"}
    each_puller.keep_docker_config({"auths": {faulty.host: entry}})
    each_puller.pull(faulty.image.reference)
    [request] = desk.requests
    assert request.method == "POST" and request.authorization is None and not request.query
    assert request.fields["Content-Type"] == "application/x-www-form-urlencoded"
    form = parse_qs(request.body.decode())
    assert form.pop("client_id")
    assert form == {"grant_type": ["refresh_token"], "refresh_token": ["refresh/me+now"],
                    "service": ["registry.test"], "scope": [SCOPE]}


@pytest.mark.parametrize("status", [404, 405])
def test_a_token_server_without_post_is_asked_by_get(puller, faulty, status):
    desk = guard(faulty)
    faulty.always("/token", Answer(status), method="POST")
    puller.keep_docker_config({"auths": {faulty.host: {"identitytoken": "refresh"}}})
    puller.pull(faulty.image.reference)
    assert [request.method for request in desk.requests] == ["GET"]


def test_an_identity_token_is_not_posted_after_a_redirect(puller, faulty, elsewhere):
    guard(faulty)
    faulty.always("/token", redirect(elsewhere.url + "/token"), method="POST")
    elsewhere.always("/token", Answer(200, b'{"token": "stolen"}'))
    puller.keep_docker_config({"auths": {faulty.host: {"identitytoken": "refresh-me"}}})
    puller.refused(faulty.image.reference)
    assert not [request for request in elsewhere.requests if b"refresh-me" in request.body]


def test_a_registry_token_is_shown_as_it_is(puller, faulty):
    challenge = BEARER % faulty.url
    faulty.gate = lambda request: None if request.authorization == "Bearer as-it-is" else denied(challenge)
    puller.keep_docker_config({"auths": {faulty.host: {"registrytoken": "as-it-is"}}})
    puller.pull(faulty.image.reference)


# Where credentials are found

def auths(*keys):
    """A document of docker with the good credentials under these keys."""
    return {"auths": {key: {"auth": encoded(USER, PASSWORD)} for key in keys}}


@pytest.mark.parametrize("key", ["%s", "http://%s", "https://%s/v2/", "%s/lab", "%s/lab/app"])
def test_keys_of_credential_files(puller, faulty, key):
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.keep_docker_config(auths(key % faulty.host))
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("key", ["%s0", "x%s", "%s/lab/other", "%s/la", "127.0.0.1"])
def test_keys_that_are_for_others(puller, faulty, key):
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.keep_docker_config(auths(key.replace("%s", faulty.host)))
    puller.refused(faulty.image.reference)
    assert {request.authorization for request in faulty.requests} == {None}


def test_the_most_specific_key_counts(puller, faulty):
    faulty.gate = BasicGate({USER: PASSWORD})
    document = auths(faulty.host + "/lab/app")
    for key in faulty.host, faulty.host + "/lab":
        document["auths"][key] = {"auth": encoded("other", "wrong")}
    puller.keep_docker_config(document)
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("variable,name", [
    ("REGISTRY_AUTH_FILE", "auth.json"), ("DOCKER_CONFIG", "config.json"),
    ("XDG_RUNTIME_DIR", "containers/auth.json"), ("XDG_CONFIG_HOME", "containers/auth.json"),
])
def test_places_of_credential_files(puller, faulty, tmp_path, variable, name):
    faulty.gate = BasicGate({USER: PASSWORD})
    path = tmp_path / "somewhere" / name
    write_private(path, auths(faulty.host))
    value = path if variable == "REGISTRY_AUTH_FILE" else tmp_path / "somewhere"
    puller.with_env(**{variable: str(value)}).pull(faulty.image.reference)


def test_the_oldest_file_of_docker(puller, faulty):
    faulty.gate = BasicGate({USER: PASSWORD})
    write_private(puller.udocker.home / ".dockercfg", auths(faulty.host)["auths"])
    puller.pull(faulty.image.reference)


def test_credentials_may_end_in_nothing(puller, faulty):
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.keep_docker_config({"auths": {faulty.host: {"auth": encoded(USER, PASSWORD + "\0\0")}}})
    puller.pull(faulty.image.reference)


def test_the_keystore_comes_first(puller, faulty):
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    puller.keep_docker_config({"auths": {faulty.host: {"auth": encoded("other", "wrong")}}})
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"auths": []}', '{"auths": {"HOST": 5}}', '{"auths": {"HOST": {"auth": "%"}}}',
    '{"auths": {"HOST": {"auth": 5}}}', '{"credHelpers": 5}', '{"credsStore": 7}',
])
def test_a_strange_file_of_docker_does_not_disturb(puller, faulty, text):
    path = puller.udocker.home / ".docker" / "config.json"
    path.parent.mkdir()
    path.write_text(text.replace("HOST", faulty.host))
    guard(faulty)
    puller.pull(faulty.image.reference)


@pytest.fixture
def helper(puller, tmp_path):
    """Makes a docker-credential-lab that says this; returns the program that finds it."""
    def make(script):
        path = tmp_path / "helpers" / "docker-credential-lab"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return puller.with_env(PATH="%s:%s" % (path.parent, PATH))
    return make


@pytest.mark.parametrize("document", [
    {"credHelpers": {"HOST": "lab"}},
    {"credsStore": "lab"},
    {"credHelpers": {"HOST": "lab"}, "credsStore": "missing"},
    {"credsStore": "lab", "auths": {"HOST": {}}},
    {"credHelpers": {"HOST": "lab"}, "auths": {"HOST": {"auth": encoded("other", "wrong")}}},
], ids=lambda document: " ".join(sorted(document)))
def test_a_credential_helper_is_asked(helper, faulty, document):
    answer = json.dumps({"ServerURL": faulty.host, "Username": USER, "Secret": PASSWORD})
    puller = helper("[ \"$1 $(cat)\" = 'get %s' ] || exit 1\ncat <<'END'\n%s\nEND\n" % (faulty.host, answer))
    faulty.gate = BasicGate({USER: PASSWORD})
    puller.keep_docker_config(json.loads(json.dumps(document).replace("HOST", faulty.host)))
    puller.pull(faulty.image.reference)


def test_a_credential_helper_may_hold_an_identity_token(helper, faulty):
    puller = helper("""echo '{"Username": "<token>", "Secret": "refresh"}'""")
    guard(faulty, identity_tokens=["refresh"], users={})
    puller.keep_docker_config({"credHelpers": {faulty.host: "lab"}})
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("script", [
    "echo 'credentials not found in native keychain'; exit 1", "echo '<html>'", "", "kill $$", "echo '[]'",
    "yes | head -c 100000",
])
def test_a_credential_helper_without_help_does_not_disturb(helper, faulty, script):
    puller = helper(script)
    guard(faulty)
    puller.keep_docker_config({"credHelpers": {faulty.host: "lab"}})
    puller.pull(faulty.image.reference)


def test_a_missing_credential_helper_does_not_disturb(puller, faulty):
    guard(faulty)
    puller.keep_docker_config({"credsStore": "desktop"})
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("text", ["{", "[]", '{"https://HOST": 5}', '{"https://HOST": {"auth": "!"}}'])
def test_a_strange_keystore_is_told_or_passed_over(puller, faulty, text):
    guard(faulty)
    path = puller.udocker.store / "keystore"
    path.parent.mkdir()
    path.write_text(text.replace("HOST", faulty.host))
    path.chmod(0o600)
    result = puller.udocker("-q", "pull", faulty.image.reference)
    assert result.status == 0 or "keystore" in result.err


# What is said aloud

def test_no_secret_is_in_what_debugging_shows(each_puller, faulty, elsewhere):
    desk = guard(faulty, users={USER: PASSWORD})
    each_puller.keep_credentials({faulty.host: (USER, PASSWORD)})
    blob = faulty.image.layer_path()
    faulty.always(blob, redirect(elsewhere.url + "/s3?X-Amz-Signature=secret-signature"))
    elsewhere.always("/s3", Answer(200, faulty.blobs[blob.rpartition("/")[2]]))
    result = each_puller.udocker.ok("-D", "pull", faulty.image.reference)
    secrets = [PASSWORD, encoded(USER, PASSWORD), "secret-signature"]
    secrets += [request.authorization.split()[1] for request in faulty.requests if request.authorization]
    assert len(secrets) > 4 and desk.requests
    assert not [secret for secret in secrets if secret in result.out + result.err]
