"""What every server of the tests is: on 127.0.0.1, a thread for each connection, all ended by `stop`."""
import contextlib
import os
import socket
import ssl
import subprocess
import threading


def make_certificate(directory):
    """Makes a self-signed certificate for 127.0.0.1 and localhost, which no client has a reason to trust.

    Returns the path of the one file that holds key and certificate.
    """
    path = os.path.join(str(directory), "server.pem")
    key = path + ".key"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", path],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, "a") as certificate, open(key) as private:
        certificate.write(private.read())
    return path


def close_by_reset(connection):
    """Ends a connection with RST: the peer loses even what it has not read yet."""
    linger_no_time = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
    connection.close()


def send_at_once(connection):
    """Else the second half of what is written in two waits until the peer's kernel acknowledges the first: 40 ms."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class LoopbackServer:
    """A TCP server on a free port of 127.0.0.1, to be used as a context; with `certificate`, it speaks TLS.

    Subclasses define `converse(connection)`. A client that leaves early is no error; any other exception is
    kept and raised again by `stop`, so that a mistake in a test's own script is seen in that test.
    """

    def __init__(self, certificate=None):
        self.certificate = certificate
        self.stopping = threading.Event()
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._rest = 0
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.host = "127.0.0.1:%d" % self.port
        self._lock = threading.Lock()
        self._connections = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._failures = []

    @property
    def url(self):
        """Where the server is, without a slash at the end."""
        return "%s://%s" % ("https" if self._tls else "http", self.host)

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def stop(self):
        """Ends all connections and threads, then raises what went wrong in one of them."""
        self.stopping.set()
        self._hang_up(self._listener)
        self._threads[0].join()
        self._listener.close()
        self._hang_up_all()
        for thread in self._threads[1:]:
            thread.join()
        for failure in self._failures:
            raise failure

    def rest(self, seconds):
        """Hangs up every connection, and takes none for so long."""
        self._rest = seconds
        self._hang_up(self._listener)
        self._hang_up_all()

    def converse(self, connection):
        """Serves one client until it or the server has had enough."""
        raise NotImplementedError

    @staticmethod
    def _listen(port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        return listener

    def _hang_up_all(self):
        with self._lock:
            for connection in self._connections:
                self._hang_up(connection)

    @staticmethod
    def _hang_up(connection):
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass            # the peer was quicker

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:         # stop() or rest() has shut the listener down
                self._listener.close()
                if self.stopping.wait(self._rest):
                    return
                self._listener = self._listen(self.port)
                continue
            send_at_once(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        try:
            with self._wrapped(connection) as connection, self._remembered(connection):
                if self._tls:
                    connection.do_handshake()
                self.converse(connection)
        except OSError:
            pass            # the client left, or refused the certificate
        except Exception as failure:
            self._failures.append(failure)

    def _wrapped(self, connection):
        if not self._tls:
            return connection
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    @contextlib.contextmanager
    def _remembered(self, connection):
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)
