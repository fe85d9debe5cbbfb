"""A proxy of every kind that udocker can use, from http to socks5h, on one loopback port."""
import base64
import collections
import re
import socket
import threading

from loopback import LoopbackServer, send_at_once

# What a client asked of the proxy. kind: GET and the like, CONNECT, socks4, socks4a, socks5 (by address),
# socks5h (by name). user: None, the name alone (socks4), or "name:password".
Asked = collections.namedtuple("Asked", "kind host port user")

WHO_ARE_YOU = (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n"
               b"Content-Length: 0\r\nConnection: close\r\n\r\n")


class Refused(OSError):
    """The proxy has told the client no, or the client has gone."""


class Proxy(LoopbackServer):
    """Passes on to servers of 127.0.0.1 alone; `asked` records who wanted what.

    credential: "name:password" that must be shown. routes: {"registry.example": port} gives a name, which
    need not exist, a port of 127.0.0.1; "*" is for all other names.
    """

    def __init__(self, credential=None, routes=None):
        super().__init__()
        self.credential = credential
        self.routes = routes or {}
        self.asked = []

    def converse(self, connection):
        """Finds out the client's protocol by its first byte."""
        first = connection.recv(1, socket.MSG_PEEK)
        speak = {b"\x04": self._socks4, b"\x05": self._socks5, b"": None}.get(first, self._http)
        if speak:
            speak(connection)

    def _reach(self, asked):
        self.asked.append(asked)
        here = asked.port if asked.host in ("127.0.0.1", "localhost") else None
        port = self.routes.get(asked.host, here or self.routes.get("*"))
        if not port:
            raise Refused(asked.host)
        server = socket.create_connection(("127.0.0.1", port))
        send_at_once(server)
        return server

    # http

    def _http(self, connection):
        head = _read_until(connection, b"\r\n\r\n").decode("latin-1")
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        shown = re.search(r"(?im)^proxy-authorization: *basic +(\S+)", head)
        user = base64.b64decode(shown.group(1)).decode() if shown else None
        if self.credential not in (None, user):
            connection.sendall(WHO_ARE_YOU)
        elif method == "CONNECT":
            self._http_tunnel(connection, target, user)
        else:
            self._http_forward(connection, head, user)

    def _http_tunnel(self, connection, target, user):
        host, port = target.rsplit(":", 1)
        with self._reach(Asked("CONNECT", host, int(port), user)) as server:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Proxy: here\r\n\r\n")
            _relay(connection, server)

    def _http_forward(self, connection, head, user):
        method, host, port, path = re.match(r"(\S+) http://([^/:\s]+):?(\d*)(\S*)", head).groups()
        rest = re.sub(r"(?im)^(proxy-[\w-]*|connection):.*\r\n", "", head.split("\r\n", 1)[1])
        with self._reach(Asked(method, host, int(port or 80), user)) as server:
            head = "%s %s HTTP/1.1\r\nConnection: close\r\n%s" % (method, path or "/", rest)
            server.sendall(head.encode("latin-1"))
            _relay(connection, server)

    # socks

    def _socks4(self, connection):
        head = _read(connection, 8)
        user = _read_until(connection, b"\0")[:-1].decode() or None
        host, kind = socket.inet_ntoa(head[4:]), "socks4"
        if head[4:7] == b"\0\0\0":
            host, kind = _read_until(connection, b"\0")[:-1].decode(), "socks4a"
        if self.credential and (user or "") != self.credential.split(":")[0]:
            connection.sendall(b"\0\x5d" + head[2:])
            raise Refused(user)
        with self._reach(Asked(kind, host, int.from_bytes(head[2:4], "big"), user)) as server:
            connection.sendall(b"\0\x5a" + head[2:])
            _relay(connection, server)

    def _socks5(self, connection):
        methods = _read(connection, _read(connection, 2)[1])
        user = self._socks5_user(connection, methods)
        kind = _read(connection, 4)[3]
        if kind == 1:
            host = socket.inet_ntoa(_read(connection, 4))
        elif kind == 4:
            host = socket.inet_ntop(socket.AF_INET6, _read(connection, 16))
        else:
            host = _read(connection, _read(connection, 1)[0]).decode()
        port = int.from_bytes(_read(connection, 2), "big")
        with self._reach(Asked("socks5h" if kind == 3 else "socks5", host, port, user)) as server:
            connection.sendall(b"\x05\0\0\x01" + bytes(6))
            _relay(connection, server)

    def _socks5_user(self, connection, methods):
        nobody, by_password, none_acceptable = 0, 2, 255
        if self.credential is None and nobody in methods:
            connection.sendall(bytes([5, nobody]))
            return None
        if by_password not in methods:
            connection.sendall(bytes([5, none_acceptable]))
            raise Refused("no password")
        connection.sendall(bytes([5, by_password]))
        _, length = _read(connection, 2)
        name = _read(connection, length).decode()
        user = name + ":" + _read(connection, _read(connection, 1)[0]).decode()
        good = self.credential in (None, user)
        connection.sendall(bytes([1, not good]))
        if not good:
            raise Refused(user)
        return user


def _read(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise Refused("the client left")
        data += piece
    return data


def _read_until(connection, end):
    data = b""
    while not data.endswith(end):
        data += _read(connection, 1)
    return data


def _copy(source, destination):
    try:
        for piece in iter(lambda: source.recv(65536), b""):
            destination.sendall(piece)
    except OSError:
        pass        # either side may leave when it likes
    try:
        destination.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _relay(client, server):
    """Carries bytes both ways until both sides have ended."""
    upwards = threading.Thread(target=_copy, args=(client, server))
    upwards.start()
    _copy(server, client)
    upwards.join()
