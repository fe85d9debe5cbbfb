#!/usr/bin/env python3
"""udocker: pull, create and run Docker containers as a plain user, without root.

This one file is the whole program: copy it anywhere, make it executable, use it.

Contents (the banners below carry the same titles, in the same order):

    1   Errors and messages        the Error tree; everything that is printed
    2   Settings                   defaults, files, environment
    3   System                     the host, processes, locks and files, directories and trees
    4   OCI documents              references, digests, platforms, manifests, configs; Dockerfiles
    5   Transport                  HTTP by pycurl or by the curl executable
    6   Registry                   credentials, authorisation, manifests and blobs, search
    7   Stores                     where everything lies on disk
    8   Layers and archives        tar layers to a tree; archives of images and of trees
    9   Tools                      the helper executables, pinned by digest
    10  Run specification          what to run: mounts, libraries, devices, MPI, account, environment
    11  Engines                    how to run it: PRoot, Fakechroot with its conversions, namespaces, runC
    12  Operations                 one function per use case
    13  Command line               options, parser, help texts
    14  Commands                   one function per command
    15  Main                       the one try, the one exit

The layering rule: a name is used only below its definition, so the file reads from top to bottom and
nothing calls back up. Only os, sys, stat and errno are imported at start, because a start costs the
user of a thousand jobs more than anything else; every other module is imported where it is needed.

To add a command, decorate a function in section 14: its help, usage errors and README row follow from the
declaration. To add an engine, write a class with its `modes` in section 11, add it to ENGINES there, and have
find_engine() of section 12 tell where what it executes comes from. To add a setting, add one line to SETTINGS, and
read it in section 12. `path` is always absolute on the host, `guest` is a path inside the container.
"""
import errno
import os
import stat
import sys

__version__ = "2.0.0"


# ======================================================================================================
# 1  Errors and messages
# ======================================================================================================

class Error(Exception):
    """A failure that the user can understand: what happened, to what, and what to do next.

    It is raised deep and printed once, by main(). `exit_status` None stands for the status with which the
    command at hand says that it failed: 1, and 125 for `run`, as docker has it.
    """

    exit_status = None

    def __init__(self, message, hint=""):
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(Error):
    """The command line is wrong; nothing was touched."""

    exit_status = 2


class SettingError(Error):
    """A setting has a name or a value that cannot be."""


class NotFoundError(Error):
    """No such image, container or file."""


class ConflictError(Error):
    """The name is taken, or the thing is in use."""


class ProtectedError(Error):
    """The image or container is protected against removal."""


class DocumentError(Error):
    """A manifest, index or config is not what its specification asks for."""


class ArchiveError(Error):
    """A layer or archive is damaged, or asks for what must not be done."""


class ToolError(Error):
    """A helper executable is missing or is not the one that was pinned."""


class EngineError(Error):
    """The engine cannot run this container here."""


class EngineRefusedError(EngineError):
    """What a mode needs is refused or missing on this host, whatever the container."""


class CommandNotFoundError(EngineError):
    """The command does not exist in the container."""

    exit_status = 127


class InterpreterNotFoundError(CommandNotFoundError):
    """The command exists in the container, and what shall execute it does not."""


class CommandNotExecutableError(EngineError):
    """The command exists in the container and cannot be executed."""

    exit_status = 126


class TransferError(Error):
    """An exchange that brought no complete answer; `code` is libcurl's number for the reason."""

    # https://curl.se/libcurl/c/libcurl-errors.html: what a second attempt may cure
    PASSING = (16, 18, 52, 55, 56, 92, 95)
    UNREACHED = (6, 7, 28, 35)
    retry_after = 0
    was_reached = False         # the server, earlier

    def __init__(self, code, url, reason, hint=""):
        super().__init__("%s: %s" % (url, reason), hint)
        self.code = code

    @property
    def is_passing(self):
        """Whether it may go well the next time: not where a server could not be reached in all the time allowed for it,
        and never before."""
        return (self.code in self.PASSING or self.code in self.UNREACHED and self.was_reached
                or self.code == 28 and "too slow" in self.message)


class RegistryError(TransferError):
    """An HTTP answer that says no; `retry_after` is in seconds where the server named a time.

    Whether a second attempt may help is told by the status, unless `is_passing` does.
    """

    def __init__(self, status, url, reason, hint="", retry_after=0, is_passing=None):
        super().__init__(22, url, "HTTP %d%s" % (status, reason and ", " + reason), hint)
        self.status = status
        self.retry_after = retry_after
        self._is_passing = is_passing

    @property
    def is_passing(self):
        if self._is_passing is not None:
            return self._is_passing
        return self.status in (408, 425, 429, 500, 502, 503, 504)


class AuthError(RegistryError):
    """The registry wants other credentials than it was shown."""


class DigestError(Error):
    """Bytes that are not the ones their digest names."""


class Interruption(KeyboardInterrupt):
    """A signal that ends the program, on its way up to main()."""

    def __init__(self, number):
        super().__init__()
        self.number = number


def printable(text):
    """`text` for a terminal: control characters, which may be a stranger's, are shown and not obeyed."""
    if text.isprintable():
        return text
    import re
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\udc80-\udc9f]",
                  lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def human_size(count):
    """A number of bytes for people: at most four digits and a unit, powers of 1000 as docker has them."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            break
        size /= 1000.0
    else:
        unit = "TB"
    return "%d %s" % (size, unit) if unit == "B" else "%.3g %s" % (size, unit)


def similar(word, choices):
    """The beginning of a hint: the choice that `word` may be a slip of, "" where none is near."""
    import difflib
    found = [choice for choice in choices if sorted(choice) == sorted(word)]        # as in rnu
    found = found or difflib.get_close_matches(word, choices, 1, 0.75)
    return "did you mean %s? " % found[0] if found else ""


class Say:
    """Everything that udocker prints: results on standard output, all talk on standard error."""

    ERROR, WARNING, INFO, DEBUG = 1, 2, 3, 5
    OUTPUT = "standard output"
    COLOURS = {"error": 31, "warning": 33, "hint": 36}      # ECMA-48, Select Graphic Rendition

    def __init__(self):
        self.level = self.INFO
        self.has_colours = False
        self.progress = None        # the Progress, once there is one
        self.work = None            # the Work that is under way
        self._warnings = set()

    @staticmethod
    def _write(stream, text):
        # File names are bytes: what is no UTF-8 goes out as it came in, whatever the locale says.
        if stream is None:          # closed by who started us
            return
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            data = text.encode("utf-8", "backslashreplace")
        try:
            stream.flush()
            stream.buffer.write(data)
            stream.flush()
        except OSError as error:
            error.filename = Say.OUTPUT if stream is sys.stdout else None
            raise

    def result(self, text):
        """One line, or several, of what was asked for; what a terminal would obey is shown there."""
        self._write(sys.stdout, (printable(text) if os.isatty(1) else text) + "\n")

    def draw(self, text):
        """Raw text on standard error. What cannot be told there, as a disk is full or nobody listens, stops no work."""
        try:
            self._write(sys.stderr, text)
        except OSError:
            pass

    def choose_colours(self, environment):
        """Colours are for a terminal that knows some, and for who did not refuse them. https://no-color.org"""
        self.has_colours = (self.is_terminal() and not environment.get("NO_COLOR")
                            and environment.get("TERM", "dumb") != "dumb")

    def _talk(self, level, text, label=""):
        if self.level < level:
            return
        colour = self.COLOURS.get(label) if self.has_colours else None
        head = "\x1b[%dm%s:\x1b[0m " % (colour, label) if colour else label and label + ": "
        line = "udocker: %s%s\n" % (head, printable(text).replace("\n", " "))
        if self.progress and self.progress.drawn_rows:
            self.progress.show_above(line)
        else:
            self.draw(line)

    def error(self, error):
        """The one line of an Error, and the line of its hint."""
        self._talk(self.ERROR, error.message, "error")
        if error.hint:
            self._talk(self.ERROR, error.hint, "hint")

    def warning(self, text):
        """Once: what one command comes upon twice is told the first time."""
        if text not in self._warnings:
            self._warnings.add(text)
            self._talk(self.WARNING, text, "warning")

    def info(self, text):
        self._talk(self.INFO, text)

    def debug(self, text):
        self._talk(self.DEBUG, text, "debug")

    def traceback(self):
        """The traceback of the exception at hand, for -D alone."""
        if self.level >= self.DEBUG:
            import traceback
            self.draw(printable(traceback.format_exc()))

    def is_terminal(self):
        """Whether a person watches standard error."""
        return sys.stderr is not None and sys.stderr.isatty()

    @staticmethod
    def result_size():
        """(columns, lines) of the terminal that results are shown on; None where they go elsewhere."""
        if not os.isatty(1):
            return None
        columns, lines = os.get_terminal_size(1)        # some terminals do not know their size
        return columns or 80, lines or 24

    def can_ask(self):
        """Whether a person sits at a terminal to answer."""
        return os.isatty(0) and self.is_terminal()

    def paged(self, head, lines, has_pauses):
        """Show lines below a head; with pauses, to a person at a terminal, a screen at a time until he has enough.

        Returns how many lines were shown.
        """
        size = self.result_size()
        screen = size[1] - 2 if size and has_pauses and self.can_ask() else 0
        count = 0
        for line in lines:
            is_new_screen = count == 0 or screen > 0 and count % screen == 0
            if is_new_screen and count and self.ask("[return, or q to quit] ")[:1].lower() in ("q", "e"):
                break
            self.result(head + "\n" + line if is_new_screen else line)
            count += 1
        return count

    def ask(self, question, is_secret=False):
        """The line that a person types; a secret is not shown."""
        if is_secret:
            import getpass
            try:
                return getpass.getpass(question)
            except EOFError:
                return ""
        self.draw(question)
        line = sys.stdin.readline()
        if not line:
            self.draw("\n")
        return line.rstrip("\r\n")

    def advance(self, count):
        """So many bytes more of the Work under way are done."""
        if self.work:
            self.work.advance(count)


say = Say()


class ProgressRow:
    """One transfer of a Progress."""

    def __init__(self, progress, label, total, done):
        self.progress = progress
        self.label = label
        self.total = total
        self.done = self.began_with = done
        self.started_at = progress.clock()

    def set(self, done):
        """`done` bytes, of the total where that is known, are there."""
        self.done = done
        self.progress.changed()

    def finish(self, note=""):
        self.progress.finished(self, note or human_size(self.done))

    def text(self, now, width):
        """The row as drawn on a terminal of `width` columns."""
        rate = (self.done - self.began_with) / max(now - self.started_at, 0.001)
        sizes = human_size(self.done)
        if self.total:
            sizes += "/" + human_size(self.total)
        tail = " %s %s/s" % (sizes, human_size(rate))
        if self.total and rate > 0:
            tail += " %ds" % (max(self.total - self.done, 0) / rate)
        room = width - len(self.label) - len(tail) - 3
        if not self.total or room < 5:
            return (self.label + tail)[:width]
        filled = min(room, room * self.done // self.total)
        return "%s [%s%s]%s" % (self.label, "#" * filled, "-" * (room - filled), tail)


class Progress:
    """The transfers under way: a bar each on a terminal, a line each in a log, nothing when quiet.

    Several threads may call it; what is drawn is drawn whole.
    """

    INTERVAL = 0.1      # seconds between two drawings: quick for the eye, cheap for the network

    def __init__(self):
        import threading
        import time
        self.lock = threading.Lock()
        self.clock = time.monotonic
        self.rows = []
        self.drawn_rows = 0
        self.drawn_at = 0.0
        self.is_shown = say.level >= Say.INFO
        self.is_drawn = self.is_shown and say.is_terminal()

    @staticmethod
    def shared():
        """The one of this process: what two of them draw would cover each other."""
        say.progress = say.progress or Progress()
        return say.progress

    def start(self, label, total, done=0):
        """A new row for `total` bytes (None where unknown), `done` of them there already."""
        row = ProgressRow(self, label, total, done)
        with self.lock:
            self.rows.append(row)
            self._draw()
        return row

    def changed(self):
        with self.lock:
            if self.is_drawn and self.clock() - self.drawn_at >= self.INTERVAL:
                self._draw()

    def show_above(self, text):
        """A line of text that stays, above the bars."""
        with self.lock:
            self._draw(text)

    def remove(self, row):
        """A row goes without a word."""
        with self.lock:
            self.rows.remove(row)
            self._draw()

    def finished(self, row, note):
        with self.lock:
            self.rows.remove(row)
            if self.is_drawn:
                self._draw(printable("%s: %s" % (row.label, note)) + "\n")
            elif self.is_shown:
                say.info("%s: %s" % (row.label, note))

    def _draw(self, above=""):
        if not self.is_drawn:
            return
        try:
            width = os.get_terminal_size(2).columns or 80
        except OSError:
            width = 80
        erase = "\x1b[%dA" % self.drawn_rows if self.drawn_rows else ""
        lines = "".join(row.text(self.clock(), width - 1) + "\n" for row in self.rows)
        say.draw(erase + "\r\x1b[J" + above + lines)
        self.drawn_rows = len(self.rows)
        self.drawn_at = self.clock()


class Work:
    """What is done to files in a `with` block: a person at a terminal sees how far it is, once it lasts a while.

    Whoever reads or walks through files calls say.advance(); of works within works the outermost is shown.
    """

    PATIENCE = 1.0      # seconds

    def __init__(self, label, total=None):
        """`total` is the number of bytes, None where it is not known beforehand."""
        import time
        self.clock = time.monotonic
        self.label = printable(label)
        self.total = total
        self.done = 0
        self.row = None

    def __enter__(self):
        self.started_at = self.clock()
        if say.work is None and say.level >= Say.INFO and say.is_terminal():
            say.work = self
        return self

    def advance(self, count):
        """`count` bytes more are done."""
        self.done += count
        if self.row:
            self.row.set(self.done)
        elif self.clock() - self.started_at > self.PATIENCE:
            self.row = Progress.shared().start(self.label, self.total, self.done)

    def __exit__(self, *_):
        if say.work is self:
            say.work = None
        if self.row:
            self.row.progress.remove(self.row)


# ======================================================================================================
# 2  Settings
# ======================================================================================================

class Setting:
    """One thing that can be set: its default (whose type is its type), variable and meaning; a number is at most
    `most`."""

    TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")

    def __init__(self, default, variable, meaning, most=10 ** 9 - 1):
        self.default = default
        self.variable = variable
        self.meaning = meaning
        self.most = most

    def parse(self, text):
        """The value that `text` stands for; ValueError says what was expected."""
        if "\0" in text:
            raise ValueError("text without a NUL")
        if isinstance(self.default, bool):
            if text.lower() not in self.TRUE + self.FALSE:
                raise ValueError("true or false")
            return text.lower() in self.TRUE
        if isinstance(self.default, (int, float)):
            try:
                value = type(self.default)(text)
            except ValueError:
                raise ValueError("a number")
            if not 0 <= value <= self.most:
                raise ValueError("a number from 0 to %d" % self.most)
            return value
        return text


SETTINGS = {
    "dir": Setting("~/.udocker", "UDOCKER_DIR", "the store: images, containers, tools"),
    "bin": Setting("", "UDOCKER_BIN", "executables of the engines (default: bin in the store)"),
    "lib": Setting("", "UDOCKER_LIB", "libraries of the engines (default: lib in the store)"),
    "doc": Setting("", "UDOCKER_DOC", "licences of the engines (default: doc in the store)"),
    "repos": Setting("", "UDOCKER_REPOS", "images by name (default: repos in the store)"),
    "layers": Setting("", "UDOCKER_LAYERS", "blobs by digest (default: layers in the store)"),
    "containers": Setting("", "UDOCKER_CONTAINERS", "containers (default: containers in the store)"),
    "keystore": Setting("~/.udocker/keystore", "UDOCKER_KEYSTORE", "credentials, a user's own"),
    "tmpdir": Setting("", "UDOCKER_TMPDIR", "short-lived files (default: TMPDIR, else /tmp)"),
    "registry": Setting("https://registry-1.docker.io", "UDOCKER_REGISTRY",
                        "registry of image names that carry no host"),
    "index": Setting("", "UDOCKER_INDEX", "index in whose place the registry is asked, when that is not set"),
    "httpproxy": Setting("", "UDOCKER_HTTPPROXY", "proxy for all transfers: http, socks4, socks4a, socks5, socks5h"),
    "insecure": Setting(False, "UDOCKER_INSECURE", "allow http and unverified certificates"),
    "downloads": Setting(3, "UDOCKER_DOWNLOADS", "layers downloaded at a time"),
    "retries": Setting(4, "UDOCKER_RETRIES", "further attempts after a transfer that broke off"),
    "retry_delay": Setting(2.0, "UDOCKER_RETRY_DELAY", "seconds before the second attempt, doubled for each more"),
    "timeout": Setting(30, "UDOCKER_TIMEOUT", "seconds to wait for a connection, and for a stalled one"),
    "use_curl_executable": Setting("", "UDOCKER_USE_CURL_EXECUTABLE", "this curl, instead of pycurl"),
    "use_proot_executable": Setting("", "UDOCKER_USE_PROOT_EXECUTABLE", "this PRoot, and no other"),
    "use_runc_executable": Setting("", "UDOCKER_USE_RUNC_EXECUTABLE", "this runC or crun, and no other"),
    "fakechroot_so": Setting("", "UDOCKER_FAKECHROOT_SO", "this libfakechroot, and no other (modes Fn)"),
    "fakechroot_libc": Setting("", "UDOCKER_FAKECHROOT_LIBC", "path of the C library in the container (modes Fn)"),
    "fakechroot_expand_symlinks": Setting("", "UDOCKER_FAKECHROOT_EXPAND_SYMLINKS",
                                          "false: links are left to the kernel (modes Fn with udocker's library)"),
    "tarball": Setting("", "UDOCKER_TARBALL", "tarball of the engines' executables, file or URL"),
    "default_execution_mode": Setting("P1", "UDOCKER_DEFAULT_EXECUTION_MODE", "mode of containers without setup"),
    "keep_trees": Setting(False, "UDOCKER_KEEP_TREES",
                          "run --rm IMAGE keeps the tree for the next one; what each changes is kept apart (mode N1)"),
    "loglevel": Setting(Say.INFO, "UDOCKER_LOGLEVEL",
                        "0 nothing, 1 errors, 2 and warnings, 3 and information, 5 and debugging", most=Say.DEBUG),
}


class Settings:
    """The values in force, each with where it came from.

    Later sources win: default, system file, user file, --config file, environment, command line.
    """

    SYSTEM_FILE = "/etc/udocker.conf"
    USER_FILE = "~/.udocker/udocker.conf"

    def __init__(self):
        self._values = {name: (setting.default, "default") for name, setting in SETTINGS.items()}

    def __getitem__(self, name):
        return self._values[name][0]

    def origin(self, name):
        return self._values[name][1]

    def set(self, name, text, origin):
        """Set from text; SettingError names `origin`, the place where the text stands."""
        if name not in SETTINGS:
            raise SettingError("%s: unknown setting %r" % (origin, name), "udocker showconf lists the settings")
        try:
            self._values[name] = (SETTINGS[name].parse(text), origin)
        except ValueError as expected:
            raise SettingError("%s: %s must be %s, not %r" % (origin, name, expected, text))

    def read_environment(self, environment):
        for name, setting in SETTINGS.items():
            text = environment.get(setting.variable)
            if text or text == "" and not setting.default:      # an empty one takes away what a file says, no default
                self.set(name, text, "environment " + setting.variable)

    def read_file(self, path, is_optional=True):
        """Read lines of `key = value`; empty ones, # comments and [section] headers are passed over."""
        try:
            with open(path, encoding="utf-8") as lines:
                text = lines.read(1 << 20)
        except OSError as error:
            if is_optional:
                return
            raise SettingError("%s: %s" % (path, error.strerror))
        except UnicodeDecodeError:
            raise SettingError("%s: not a text file" % path)
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith(("#", ";", "[")):
                continue
            key, separator, value = line.partition("=")
            place = "%s:%d" % (path, number)
            if not separator:
                raise SettingError("%s: expected key = value" % place)
            self.set(key.strip(), value.strip().strip("'\""), place)


# ======================================================================================================
# 3  System
# ======================================================================================================

# --- the host -----------------------------------------------------------------------------------------

class found_once:
    """A property whose value is found out when it is first asked for, and kept."""

    def __init__(self, find):
        self.find = find
        self.__doc__ = find.__doc__

    def __get__(self, owner, _=None):
        value = owner.__dict__[self.find.__name__] = self.find(owner)
        return value


def system_text(path):
    """The text of a file of the kernel's or the host's, "" where it is missing or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def process_words(pid):
    """What is told of a process behind its name, none where it is gone. proc(5), /proc/pid/stat"""
    return system_text("/proc/%s/stat" % pid).rpartition(")")[2].split()


def process_start(pid):
    """When a process was started, which tells it from a later one of the same id; "" where it is gone."""
    return "".join(process_words(pid)[19:20])


def process_age(pid):
    """What sorts processes by their age, the oldest first."""
    return int(process_start(pid) or 0), pid


class Host:
    """Facts about the machine and the caller."""

    # uname's machine: architecture and variant, https://go.dev/doc/install/source#environment
    ARCHITECTURES = {
        "x86_64": ("amd64", ""), "aarch64": ("arm64", ""), "armv8l": ("arm", "v7"), "armv7l": ("arm", "v7"),
        "armv6l": ("arm", "v6"), "i386": ("386", ""), "i686": ("386", ""), "ppc64le": ("ppc64le", ""),
        "riscv64": ("riscv64", ""), "s390x": ("s390x", ""),
    }

    # e_machine of ELF files: what QEMU calls it; and which of them a machine executes
    EMULATORS = {3: "i386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
    EXECUTES = {"x86_64": (62, 3), "i686": (3,), "i386": (3,), "aarch64": (183, 40), "armv8l": (40,), "armv7l": (40,),
                "armv6l": (40,), "ppc64le": (21,), "riscv64": (243,), "s390x": (22,)}

    def __init__(self):
        system = os.uname()
        self.name = system.nodename
        self.kernel = system.release
        self.machine = system.machine
        if system.machine == "x86_64" and sys.maxsize < 1 << 32:
            self.machine = "i686"
        self.uid = os.getuid()
        self.gid = os.getgid()

    @property
    def architecture(self):
        """Architecture and variant in Go's words, as OCI documents spell them."""
        return self.ARCHITECTURES.get(self.machine, (self.machine, ""))

    @property
    def kernel_version(self):
        """The first two numbers of the kernel's release."""
        digits = "".join(letter if letter.isdigit() else " " for letter in self.kernel)
        return tuple(int(number) for number in digits.split()[:2])

    @found_once
    def account(self):
        """The caller's entry in the host's user database, None where there is none."""
        import pwd
        try:
            return pwd.getpwuid(self.uid)
        except KeyError:
            return None

    @staticmethod
    def confinement():
        """What tells whether this process is in a sandbox, as words: its user namespace, filters, and a tracer."""
        try:
            words = [os.readlink("/proc/self/ns/user")]
        except OSError:
            words = []
        for line in system_text("/proc/self/status").splitlines():
            name, _, value = line.partition(":")
            if name in ("NoNewPrivs", "Seccomp"):
                words.append(value.strip())
            elif name == "TracerPid":
                words.append(str(value.strip() != "0"))
        return tuple(words)

    def emulator(self, head):
        """The name of QEMU's emulator for a program, by the beginning of its file (bytes); "" where this machine
        executes it itself, or nothing is known of it. System V ABI, e_machine"""
        if len(head) < 20 or not head.startswith(b"\x7fELF"):
            return ""
        number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
        if self.machine not in self.EXECUTES or number in self.EXECUTES[self.machine]:
            return ""
        return "qemu-" + self.EMULATORS[number] if number in self.EMULATORS else ""

    @staticmethod
    def has_handler(emulator):
        """Whether the kernel starts this emulator by itself, also in another root. binfmt_misc, flag F"""
        lines = system_text("/proc/sys/fs/binfmt_misc/" + emulator).split("\n")
        return "enabled" in lines and any(line.startswith("flags:") and "F" in line for line in lines)

    @staticmethod
    def find_executable(name, search_path=None):
        """The path of an executable file in `search_path`, by default the caller's; None where there is none."""
        for directory in os.get_exec_path() if search_path is None else search_path.split(":"):
            path = os.path.join(directory, name)
            if directory.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        return None

    @staticmethod
    def sysctl(name):
        """The text of a kernel switch, "" where the kernel has none of that name."""
        return system_text("/proc/sys/" + name.replace(".", "/")).strip()

    @staticmethod
    def _mounted():
        """(path, type, options) of each file system that is mounted. proc(5), /proc/pid/mountinfo"""
        for line in filter(None, system_text("/proc/self/mountinfo").split("\n")):
            left, _, right = line.partition(" - ")
            words = left.split()
            for character in " \t\n\\":
                words[4] = words[4].replace("\\%03o" % ord(character), character)
            yield words[4], right.split()[0], words[5]

    @classmethod
    def file_system(cls, path):
        """(type, options) of the file system that `path` is on; ("", "") where unknown."""
        best, path = ("", "", ""), os.path.realpath(path) + "/"
        for mounted in cls._mounted():
            if path.startswith(mounted[0].rstrip("/") + "/") and len(mounted[0]) >= len(best[0]):
                best = mounted
        return best[1:]

    @classmethod
    def mounted_below(cls, path):
        """A path at or below `path`, which is free of links, where a file system is mounted; "" where none is."""
        return next((point for point, _, _ in cls._mounted() if (point + "/").startswith(path + "/")), "")

    @staticmethod
    def children(pid):
        """The process ids of the children of `pid`, oldest first."""
        try:
            with open("/proc/%d/task/%d/children" % (pid, pid), "rb") as file:
                return [int(word) for word in file.read().split()]
        except OSError:
            pass
        # Kernels without CONFIG_PROC_CHILDREN
        return sorted(int(name) for name in filter(str.isdigit, os.listdir("/proc"))
                      if process_words(name)[1:2] == [str(pid)])


def current_umask():
    """The mode bits that files which this process makes do not get. umask(2)"""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


class Umask:
    """In a `with` block, the mode bits that files which this process makes do not get. umask(2)"""

    def __init__(self, bits):
        self.bits = bits

    def __enter__(self):
        self.previous = os.umask(self.bits)
        return self

    def __exit__(self, *_):
        os.umask(self.previous)


def new_token():
    """A name part that nobody else has: 16 hexadecimal digits."""
    return "%016x" % int.from_bytes(os.urandom(8), "big")


def new_path(directory):
    """A path for what is being made in a directory, and gets its own name when it is whole; left_behind() knows it."""
    return "%s/.new-%s" % (directory, new_token())


class Undoing:
    """Where a `with` block fails, for whatever reason, undo(*arguments) is called."""

    def __init__(self, undo, *arguments):
        self.undo = undo
        self.arguments = arguments

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure is not None:
            self.undo(*self.arguments)


class SystemCalls:
    """The numbers of the system calls that udocker names, by architecture, and filters made of them.

    Numbers: the kernel's arch/*/entry/syscalls tables and include/uapi/asm-generic/unistd.h;
    architecture words: AUDIT_ARCH_* of include/uapi/linux/audit.h.
    """

    NEW = {         # the same everywhere since Linux 5.1
        "io_uring_setup": 425, "open_tree": 428, "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
        "faccessat2": 439, "mount_setattr": 442,
        "fchmodat2": 452, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466,
        "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
    }
    GENERIC = dict(NEW, **{
        "mknodat": 33, "pivot_root": 41, "fchownat": 54, "fchown": 55, "capset": 91, "setregid": 143, "setgid": 144,
        "setreuid": 145, "setuid": 146, "setresuid": 147, "setresgid": 149, "setfsuid": 151, "setfsgid": 152,
        "setgroups": 159, "prctl": 167, "seccomp": 277, "execveat": 281, "statx": 291, "ioctl": 29, "bind": 200,
        "connect": 203,
    })
    OLD_32_BIT = dict(NEW, **{
        "mknod": 14, "lchown": 16, "setuid": 23, "setgid": 46, "setreuid": 70, "setregid": 71, "setgroups": 81,
        "fchown": 95, "setfsuid": 138, "setfsgid": 139, "setresuid": 164, "setresgid": 170, "chown": 182, "ioctl": 54,
        "capset": 185, "lchown32": 198, "setreuid32": 203, "setregid32": 204, "setgroups32": 206, "fchown32": 207,
        "setresuid32": 208, "setresgid32": 210, "chown32": 212, "setuid32": 213, "setgid32": 214,
        "setfsuid32": 215, "setfsgid32": 216, "prctl": 172,
    })
    X86_64 = dict(NEW, **{
        "chown": 92, "fchown": 93, "lchown": 94, "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114,
        "setgroups": 116, "setresuid": 117, "setresgid": 119, "setfsuid": 122, "setfsgid": 123, "capset": 126,
        "mknod": 133, "pivot_root": 155, "mknodat": 259, "fchownat": 260, "execveat": 322, "statx": 332,
        "ioctl": 16, "prctl": 157, "seccomp": 317, "connect": 42, "bind": 49,
    })
    I386 = dict(OLD_32_BIT, pivot_root=217, mknodat=297, fchownat=298, seccomp=354, execveat=358, bind=361, connect=362,
                statx=383)
    ARM = dict(OLD_32_BIT, pivot_root=218, bind=282, connect=283, mknodat=324, fchownat=325, seccomp=383, execveat=387,
               statx=397)
    PPC64 = dict(NEW, **{
        "mknod": 14, "lchown": 16, "setuid": 23, "setgid": 46, "setreuid": 70, "setregid": 71, "setgroups": 81,
        "fchown": 95, "setfsuid": 138, "setfsgid": 139, "setresuid": 164, "setresgid": 169, "chown": 181,
        "capset": 184, "pivot_root": 203, "mknodat": 288, "fchownat": 289, "execveat": 362, "statx": 383,
        "ioctl": 54, "prctl": 171, "seccomp": 358, "bind": 327, "connect": 328,
    })
    # By e_machine of ELF files
    TABLES = {3: (0x40000003, I386), 21: (0xC0000015, PPC64), 40: (0x40000028, ARM), 62: (0xC000003E, X86_64),
              183: (0xC00000B7, GENERIC), 243: (0xC00000F3, GENERIC)}
    TYPING = ("ioctl",)
    # Calls that are answered only where this argument, in these of its bits, is one of two values: a mode for devices,
    # and requests to type what whoever reads the terminal next will read, TIOCSTI and TIOCLINUX. ioctl_tty(2)
    ARGUMENTS = {"mknod": (1, stat.S_IFMT(0xFFFF), (stat.S_IFCHR, stat.S_IFBLK)),
                 "mknodat": (2, stat.S_IFMT(0xFFFF), (stat.S_IFCHR, stat.S_IFBLK)),
                 "ioctl": (1, 0xFFFFFFFF, (0x5412, 0x541C)),
                 "prctl": (0, 0xFFFFFFFF, (4, 4))}      # PR_SET_DUMPABLE
    # SECCOMP_RET_ERRNO, _USER_NOTIF and _ALLOW of include/uapi/linux/seccomp.h
    ANSWER, TELL, ALLOW = 0x00050000, 0x7FC00000, 0x7FFF0000

    def __init__(self, machine):
        """`machine` is uname's; its own table comes first, then those of the programs that it also runs."""
        self.tables = [self.TABLES[number] for number in Host.EXECUTES.get(machine, ()) if number in self.TABLES]

    def number(self, name):
        """The number of a call on this machine, None where it is not known."""
        return self.tables[0][1].get(name) if self.tables else None

    def filter(self, names, answer, told=()):
        """A classic BPF program that answers the named calls with errno `answer`, 0 meaning success, but those that are
        `told` to who listens.

        Some are answered for certain ARGUMENTS alone; everything else is allowed. Returns bytes, empty where the
        machine is not known. https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html
        """
        verdicts = [(name, self.TELL if name in told else self.ANSWER | answer) for name in names]
        program = b"".join(self._block(arch, numbers, verdicts) for arch, numbers in self.tables)
        return program and program + self._instruction(0x06, 0, 0, self.ALLOW)

    @staticmethod
    def _instruction(code, if_true, if_false, value):
        return code.to_bytes(2, sys.byteorder) + bytes((if_true, if_false)) + value.to_bytes(4, sys.byteorder)

    def _block(self, arch, numbers, verdicts):
        """The instructions for one architecture; they fall through where none of the (name, verdict) matches."""
        step = self._instruction
        word, equal, both, give = 0x20, 0x15, 0x54, 0x06
        tests = b""
        for name, verdict in verdicts:
            if name not in numbers:
                continue
            if name in self.ARGUMENTS:
                index, bits, (first, second) = self.ARGUMENTS[name]
                low_half = 16 + 8 * index + (4 if sys.byteorder == "big" else 0)
                tests += (step(equal, 0, 6, numbers[name]) + step(word, 0, 0, low_half) + step(both, 0, 0, bits)
                          + step(equal, 1, 0, first) + step(equal, 0, 1, second) + step(give, 0, 0, verdict)
                          + step(word, 0, 0, 0))
            else:
                tests += step(equal, 0, 1, numbers[name]) + step(give, 0, 0, verdict)
        body = step(word, 0, 0, 0) + tests
        return step(word, 0, 0, 4) + step(equal, 0, len(body) // 8, arch) + body


class Kernel:
    """System calls that Python does not offer, each checked: OSError names the call that failed."""

    NEW_MOUNTS, NEW_NAMES, NEW_USER, NEW_NETWORK = 0x20000, 0x4000000, 0x10000000, 0x40000000
    READ_ONLY, NO_SETUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
    DETACH = 2      # umount2(2)
    NO_MOUNTS, IN_ROOT = 0x01, 0x10     # openat2(2): nothing of other mounts; links and ".." lead nowhere outside

    def __init__(self):
        import ctypes
        self.ctypes = ctypes
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.calls = SystemCalls(Host().machine)

    def _check(self, result, what):
        if result < 0:
            number = self.ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return result

    def _syscall(self, name, *arguments):
        number = self.calls.number(name)
        if number is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
        return self._check(self.libc.syscall(self.ctypes.c_long(number), *arguments), name)

    def unshare(self, flags):
        """unshare(2); EINVAL where this process has threads."""
        self._check(self.libc.unshare(self.ctypes.c_int(flags)), "unshare")

    def join(self, namespace):
        """setns(2) into what a descriptor of /proc/PID/ns stands for."""
        self._check(self.libc.setns(self.ctypes.c_int(namespace), self.ctypes.c_int(0)), "setns")

    def mount(self, source, target, flags, kind=None, options=None):
        """mount(2): binds, remounts and propagation, or a new file system of this kind."""
        words = [word and os.fsencode(word) for word in (source, target, kind, options)]
        self._check(self.libc.mount(*words[:3], self.ctypes.c_ulong(flags), words[3]),
                    "%s on %s" % (kind or "mount", target))

    def mount_memory(self, target, options="mode=755"):
        """A new, empty file system in memory."""
        self.mount("tmpfs", target, self.NO_SETUID | self.NO_DEVICES, "tmpfs", options)

    def mount_overlay(self, lower, target):
        """The directory `lower` appears at `target`; changes go to upper and work in the working directory."""
        self.mount("overlay", target, 0, "overlay", "lowerdir=%s,upperdir=upper,workdir=work,userxattr" % lower)

    def mount_fuse(self, target, device):
        """A read-only file system at `target`, of whoever answers at the descriptor `device` of /dev/fuse. fuse(4)"""
        self.mount("udocker", target, self.READ_ONLY | self.NO_SETUID | self.NO_DEVICES, "fuse",
                   "fd=%d,rootmode=40000,user_id=%d,group_id=%d" % (device, os.getuid(), os.getgid()))

    def _unmount(self, target):
        """What is mounted at `target` is gone for this namespace, also while it is in use. umount2(2)"""
        self._check(self.libc.umount2(os.fsencode(target), self.ctypes.c_int(self.DETACH)), "umount2")

    def leave_mount(self, target):
        """This process has mounts of its own from now on, without what is mounted at `target`, and so does not keep
        that alive."""
        self.unshare(self.NEW_MOUNTS)
        self._unmount(target)

    def set_host_name(self, name):
        """sethostname(2)"""
        data = os.fsencode(name)
        self._check(self.libc.sethostname(data, self.ctypes.c_size_t(len(data))), "sethostname")

    def make_read_only(self, target, is_recursive=True):
        """The mounts at and below `target` become read-only; before Linux 5.12 the one at `target` alone."""
        attributes = self.READ_ONLY.to_bytes(8, sys.byteorder) + bytes(24)      # struct mount_attr
        try:
            self._syscall("mount_setattr", self.ctypes.c_int(-100), os.fsencode(target),
                          self.ctypes.c_uint(0x8000 if is_recursive else 0), attributes,
                          self.ctypes.c_size_t(len(attributes)))
            return
        except OSError:
            pass
        # Flags that the host has locked must be repeated; all of these but the last have the values of MS_*
        present = os.statvfs(target).f_flag
        locked = present & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME)
        if present & os.ST_RELATIME:
            locked |= 1 << 21
        self.mount(None, target, self.BIND | self.REMOUNT | self.READ_ONLY | locked)

    def pivot_root(self):
        """The working directory becomes the root; what was the root is gone."""
        self._syscall("pivot_root", b".", b".")
        self._unmount(".")

    def _prctl(self, what, option, *arguments):
        numbers = [self.ctypes.c_ulong(number) for number in (arguments + (0, 0, 0, 0))[:4]]
        self._check(self.libc.prctl(self.ctypes.c_int(option), *numbers), what)

    def open_at(self, directory, path, flags, resolve):
        """openat2(2), before Linux 5.6 openat(2)"""
        how = flags.to_bytes(8, sys.byteorder) + bytes(8) + resolve.to_bytes(8, sys.byteorder)      # struct open_how
        try:
            return self._syscall("openat2", self.ctypes.c_int(directory), path, how, self.ctypes.c_size_t(len(how)))
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        return os.open(path, flags, dir_fd=directory)

    def descriptor_of(self, pid, number):
        """A descriptor of our own of what is open in another process of the caller, since Linux 5.6. pidfd_getfd(2)"""
        process = self._syscall("pidfd_open", self.ctypes.c_int(pid), self.ctypes.c_uint(0))
        try:
            return self._syscall("pidfd_getfd", self.ctypes.c_int(process), self.ctypes.c_int(number),
                                 self.ctypes.c_uint(0))
        finally:
            os.close(process)

    def read_memory(self, pid, address, size):
        """Bytes of another process of the caller. process_vm_readv(2)"""
        buffer, word = self.ctypes.create_string_buffer(max(size, 1)), self.ctypes.c_size_t
        own, other = (word * 2)(self.ctypes.addressof(buffer), size), (word * 2)(address, size)      # struct iovec
        one = self.ctypes.c_ulong(1)
        count = self._check(self.libc.process_vm_readv(self.ctypes.c_int(pid), own, one, other, one,
                                                       self.ctypes.c_ulong(0)), "process_vm_readv")
        return buffer.raw[:count]

    def bind(self, descriptor, name):
        """bind(2) to a struct sockaddr, as bytes."""
        self._check(self.libc.bind(self.ctypes.c_int(descriptor), name, self.ctypes.c_uint(len(name))), "bind")

    def connect(self, descriptor, name):
        """connect(2) to a struct sockaddr, as bytes."""
        self._check(self.libc.connect(self.ctypes.c_int(descriptor), name, self.ctypes.c_uint(len(name))), "connect")

    def socket_option(self, descriptor, level, name):
        """The number that getsockopt(2) gives."""
        value, size = self.ctypes.c_int(), self.ctypes.c_uint(4)
        self._check(self.libc.getsockopt(self.ctypes.c_int(descriptor), self.ctypes.c_int(level),
                                         self.ctypes.c_int(name), self.ctypes.byref(value),
                                         self.ctypes.byref(size)), "getsockopt")
        return value.value

    def birth_time(self, descriptor):
        """When an open file was made, in nanoseconds; 0 where that is not known. statx(2), STATX_BTIME"""
        buffer = self.ctypes.create_string_buffer(256)
        try:
            self._syscall("statx", self.ctypes.c_int(descriptor), b"", self.ctypes.c_int(0x1000),      # AT_EMPTY_PATH
                          self.ctypes.c_uint(0x800), buffer)
        except OSError:
            return 0
        mask, seconds, rest = (int.from_bytes(buffer.raw[begin:end], sys.byteorder)
                               for begin, end in ((0, 4), (80, 88), (88, 92)))
        return seconds * 10 ** 9 + rest if mask & 0x800 else 0

    def let_look(self, may_look):
        """Whether other processes of the caller may look into this one, and through it at its root and what it has
        open; execve(2) allows it again. PR_SET_DUMPABLE(2const)"""
        self._prctl("PR_SET_DUMPABLE", 4, int(may_look))

    def adopt_orphans(self):
        """Processes below this one whose parent ends become its children."""
        self._prctl("PR_SET_CHILD_SUBREAPER", 36, 1)

    def end_with_parent(self, parent, number):
        """This process gets signal `number` when its parent ends; it ends at once where `parent` ended already."""
        self._prctl("PR_SET_PDEATHSIG", 1, number)
        if os.getppid() != parent:
            os._exit(125)

    def answer_calls(self, names, answer, told=()):
        """From now on the named system calls answer `answer`, in this process and all that come from it. Those `told`
        wait for who listens at the descriptor that is returned then, since Linux 5.0."""
        program = self.calls.filter(names, answer, told)
        if not program:
            say.debug("system calls of this machine are not known, none is filtered")
            return None
        ctypes, width = self.ctypes, self.ctypes.sizeof(self.ctypes.c_void_p)
        buffer = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog, by hand: for a Structure Python 3.14 imports a module, which a container's root hides
        words = (len(program) // 8).to_bytes(2, sys.byteorder) + bytes(width - 2)
        words += ctypes.addressof(buffer).to_bytes(width, sys.byteorder)
        structure = ctypes.create_string_buffer(words, len(words))
        self._prctl("PR_SET_NO_NEW_PRIVS", 38, 1)
        if not told:
            self._prctl("PR_SET_SECCOMP", 22, 2, ctypes.addressof(structure))
            return None
        try:        # since Linux 5.19 no signal interrupts what is being answered
            return self._listen(0x28, structure)
        except OSError:
            return self._listen(0x08, structure)

    def _listen(self, flags, structure):
        """seccomp(2), SECCOMP_SET_MODE_FILTER"""
        return self._syscall("seccomp", self.ctypes.c_uint(1), self.ctypes.c_uint(flags), structure)

    def refuse_typing(self):
        """Nothing from here on types what the user's shell, on the same terminal, would read after the command; kernels
        without filters are gone on with."""
        try:
            self.answer_calls(SystemCalls.TYPING, errno.EPERM)
        except OSError as error:
            say.debug("what types for others is not refused: %s" % error)


# --- processes ----------------------------------------------------------------------------------------

def quick_module(name):
    """The module signal or socket, by preference the part of it that does the work: wrapping its numbers in
    enumerations costs a start as long as importing this whole file."""
    try:
        return __import__("_" + name)
    except ImportError:         # not CPython
        return __import__(name)


def start_loopback():
    """The one interface of a new network namespace, lo, is up. netdevice(7)"""
    import fcntl
    socket = quick_module("socket")
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:        # SIOCSIFFLAGS, with a struct ifreq: IFF_UP and IFF_RUNNING
        fcntl.ioctl(door.fileno(), 0x8914, b"lo".ljust(16, b"\0") + (0x41).to_bytes(2, sys.byteorder) + bytes(22))
    finally:
        door.close()


def raise_on_signals(is_guarded=False):
    """From now on SIGTERM and SIGHUP unwind this process as Ctrl-C does, so that nothing half-made stays behind. So
    does SIGINT, and only the first one, where a Guardian may pass on what has come here too.

    A program executed later gets the default behaviour back: handlers do not outlive execve(2).
    """
    signal = quick_module("signal")
    ending = (signal.SIGTERM, signal.SIGHUP) + (signal.SIGINT,) * is_guarded

    def unwind(number, _):
        for other in ending:        # the tidying up is not interrupted: timeout(1) sends one signal twice
            signal.signal(other, lambda *_: None)
        raise Interruption(number)

    for number in ending:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, unwind)


class HeldSignals:
    """In a `with` block of the main thread, the signals for which this program has handlers are only noted; at its end
    they are handled. For code that calls back into Python, and must not see what a handler raises."""

    def __enter__(self):
        import threading
        signal = quick_module("signal")
        self.received, self.handlers = [], {}
        if threading.current_thread() is threading.main_thread():       # no other one handles signals
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if callable(signal.getsignal(number)):
                    self.handlers[number] = signal.signal(number, lambda *received: self.received.append(received))
        return self

    def __exit__(self, *_):
        for number, handler in self.handlers.items():
            quick_module("signal").signal(number, handler)
        for number, frame in self.received:
            self.handlers[number](number, frame)


def send_signal(pid, number):
    """kill(2), which has nothing to do where the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# Of programs that are there and cannot be started, the commonest disappointment with images of musl
LOADER_HINT = "it was made for another system than the container's: take an image that has it, or install it there"


def inherited_descriptors():
    """Those above standard error that a program started now would have."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if number > 2 and os.get_inheritable(number):
                yield number
        except OSError:         # the one that listed them
            pass


def keep_directories():
    """Pass on no directory that is open, of those that a caller passed to udocker: through one of the host's, whatever
    runs in another root sees all of the host."""
    for number in list(inherited_descriptors()):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            os.set_inheritable(number, False)


class Invocation:
    """What is to be executed, as values: a program, and what this process does to itself before.

    `enter` (None, or a function of no arguments) runs in the very process that then executes `path`.
    With `is_tracer` the program ignores signals, and traces the command, which a Starter makes a child of ours, so that
    its exit status is ours to see. A WorkArea (or None) is there while it runs; then `conclude` (None, or a function of
    the exit status) gives the exit status to tell. `find_process` (None, or a function that gives a process id, or
    None) tells which process of another session must end with this one. With `is_detached` the program ends at once
    and leaves that process to be waited for. The program may pass on every descriptor up to `last_descriptor`.
    """

    def __init__(self, path, argv, environment, enter=None, is_tracer=False, area=None, conclude=None,
                 find_process=None, is_detached=False, last_descriptor=2, has_witness=False):
        self.path = path
        self.argv = argv
        self.environment = environment
        self.enter = enter
        self.is_tracer = is_tracer
        self.area = area
        self.conclude = conclude
        self.find_process = find_process
        self.is_detached = is_detached
        self.last_descriptor = last_descriptor
        self.has_witness = has_witness      # a CallWitness, which ends with who waits for the program

    @property
    def needs_supervisor(self):
        """Whether something remains to be done while the program runs or afterwards."""
        return self.is_tracer or self.has_witness or self.area is not None

    def execute(self, before=None):
        """Become the program. Descriptors that the caller passed to udocker stay open, as PMI_FD needs."""
        signal = quick_module("signal")
        if self.enter:
            self.enter()
        if before:
            before()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):      # Python ignores them, and exec would pass that on
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execve(self.path, self.argv, self.environment)
        except OSError as error:
            raise self._refusal(error)

    def _refusal(self, error):
        if error.errno == errno.ENOENT:
            return CommandNotFoundError("%s: its interpreter or loader is missing" % self.path, LOADER_HINT)
        if error.errno == errno.E2BIG:
            return EngineError("%s: the command line and the environment are too long" % self.path,
                               "leave out --hostenv, or hand long lists over in a file")
        return CommandNotExecutableError("%s: %s" % (self.path, error.strerror))


def open_places():
    """Descriptors of /proc and /dev/null, which another root may lack."""
    return (os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))


def leave_session(*kept, places=None):
    """Be in a session of its own, with no descriptor of those so far but `kept`, and those of open_places(): whoever
    waits for the end of our output does not wait for this process, and nothing that a terminal sends reaches it."""
    os.setsid()
    places = places or open_places()
    listing = os.open("self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=places[0])
    for number in map(int, os.listdir(listing)):
        if number not in kept + places:
            try:
                os.close(number)
            except OSError:         # the copy of it that listed them
                pass
    for _ in range(3):          # the standard ones, but where they are kept
        os.dup(places[1])


def exit_code(status):
    """What shells say of a status of wait(2): 128+n where signal n ended the process."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class Guard:
    """A process that, while a `with` block lasts, waits for the end of this one, and then kills another one: who is
    killed has no time to do so."""

    PATIENCE = 5        # seconds in which a process that is being started is waited for

    def __init__(self, find):
        """`find()` gives the id of the process to be killed, with its group; None where there is none."""
        self.find = find

    def __enter__(self):
        reader, self.writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal = quick_module("signal")    # what ends a job tells everybody at once, and this must come last
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                                                          signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM])
                leave_session(reader)
                os.read(reader, 1)
                self._kill()
            finally:
                os._exit(0)
        os.close(reader)
        return self

    def _kill(self):
        import time
        limit = time.monotonic() + self.PATIENCE
        while not self.find() and time.monotonic() < limit:
            time.sleep(0.05)
        pid = self.find()
        if pid:
            os.kill(-pid if os.getpgid(pid) == pid else pid, 9)

    def __exit__(self, *_):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.writer)


class CallWitness:
    """A process beside this one and all that comes from it, which answers some of their system calls.
    seccomp_unotify(2)"""

    RECEIVE, SEND, CHECK = 0xC0502100, 0xC0182101, 0x40082102       # SECCOMP_IOCTL_NOTIF_RECV, _SEND, _ID_VALID

    def __init__(self, kernel, answer, *kept):
        """answer(proc, pid, arch, number, words) gives the errno that a call fails with, 0 for none, and None where
        the kernel shall go on with it (since Linux 5.5): `proc` is a descriptor of /proc, `words` are its arguments.
        `kept` are others that it needs. This comes before a container's root hides what it needs besides."""
        import fcntl
        import select
        self.ioctl, self.poll = fcntl.ioctl, select.poll
        self.socket = quick_module("socket")
        self.kernel = kernel
        self.answer = answer
        self.kept = kept
        self.places = open_places()
        self.call = None        # (the listener, what tells the call at hand from others)

    def check(self):
        """OSError where who has made the call at hand has ended: another process may have its id."""
        self.ioctl(self.call[0], self.CHECK, self.call[1])

    def begin(self, names, told):
        """From now on the named calls of this process, which is about to become a program, answer 0, or what the
        witness says to those `told`; OSError where nobody can be told."""
        ours, theirs = self.socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            error.filename = "a process beside it"
            raise
        if pid == 0:
            try:
                if os.fork() == 0:          # the program must have no child that it does not know
                    self._watch(theirs)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        theirs.close()
        try:
            if not ours.recv(1):
                raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), "a process beside it")
            listener = self.kernel.answer_calls(tuple(names) + tuple(set(told).difference(names)), 0, told)
            if listener is not None:
                ours.sendmsg([b"."], [(self.socket.SOL_SOCKET, self.socket.SCM_RIGHTS,
                                       listener.to_bytes(4, sys.byteorder))])
                os.close(listener)
        finally:
            ours.close()

    def _watch(self, starter):
        """The life of the witness, which ends with the last process that it answers. What runs there is a stranger's,
        and could otherwise look into it, at the environment of the host."""
        self.kernel.let_look(False)
        leave_session(starter.fileno(), *self.kept, places=self.places)
        starter.sendall(b".")
        rights = starter.recvmsg(1, self.socket.CMSG_SPACE(4))[1]
        starter.close()
        if not rights:
            return
        self.kernel.end_with_parent(os.getppid(), 9)        # of who adopted us: before Linux 5.9 no end is told below
        listener, poll = int.from_bytes(rights[0][2], sys.byteorder), self.poll()
        poll.register(listener, 1)          # POLLIN
        while poll.poll()[0][1] & 1:
            try:
                self._answer_one(listener)
            except FileNotFoundError:       # who called has been killed meanwhile
                pass

    def _answer_one(self, listener):
        call = bytearray(80)            # struct seccomp_notif
        self.ioctl(listener, self.RECEIVE, call)
        self.call = listener, bytes(call[:8])
        pid, number, arch = (int.from_bytes(call[place:place + 4], sys.byteorder) for place in (8, 16, 20))
        words = [int.from_bytes(call[place:place + 8], sys.byteorder) for place in range(32, 80, 8)]
        error = self.answer(self.places[0], pid, arch, number, words)
        flags = int(error is None)          # SECCOMP_USER_NOTIF_FLAG_CONTINUE
        self.ioctl(listener, self.SEND, bytes(call[:8]) + bytes(8) + (-(error or 0)).to_bytes(
            4, sys.byteorder, signed=True) + flags.to_bytes(4, sys.byteorder))


class Supervisor:
    """Executes an Invocation as a child, passes signals on to it, waits for its end and ends what it left behind.

    Used where something remains to be done after the command, or where the program ignores signals.
    """

    SWEEP_AFTER = 0.5       # seconds that what a command leaves behind has for its own end
    LOOK_AFTER = 0.01       # seconds between two looks for the command
    NO_PROCESS = 125        # the status of a Starter that could make none for the command
    NO_WORD = 255           # what PRoot ends with where a Starter was killed before PRoot had heard of it

    def __init__(self, invocation, timeout=0, guardian=0, tell_start=None):
        """With a `timeout`, in seconds, the command is killed when it has not ended by then. When the process
        `guardian` that started this one has gone, it is killed where the signal that tells so does not end it.
        `tell_start()` is called once, when the command is there, or has ended."""
        import time
        self.signal = signal = quick_module("signal")
        self.clock = time.monotonic
        self.kernel = Kernel()
        self.invocation = invocation
        self.guardian = guardian
        self.tell_start = tell_start
        self.deadline = self.clock() + timeout if timeout else 0
        self.ending_signal = 0
        self.command = 0        # the process that the program traces
        self.successor = None
        self.held = []          # signals that came before command or successor was known
        self.watched = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                        signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}
        if invocation.is_detached:
            self.watched.add(signal.SIGTSTP)

    def run(self):
        """The exit status of the command, 128+n when signal n ended it."""
        self.signal.signal(self.signal.SIGCHLD, self.signal.SIG_DFL)       # who ignores it gets no exit status
        if not self.invocation.find_process:
            return self._run()
        with Guard(self.invocation.find_process):
            return self._run()

    def _run(self):
        self.strangers = set(Host.children(os.getpid()))    # a shell that became udocker by exec may have had some
        self.kernel.adopt_orphans()
        previous = self.signal.pthread_sigmask(self.signal.SIG_BLOCK, self.watched)
        try:
            if not self.invocation.area:
                return self._outcome(previous)
            with self.invocation.area:
                return self._outcome(previous)
        finally:
            self.signal.pthread_sigmask(self.signal.SIG_SETMASK, previous)

    def _outcome(self, mask):
        try:
            status = self._wait(self._start(mask))
            status = self.invocation.conclude(status) if self.invocation.conclude else status
            self._tell_start(True)
            return status
        finally:
            self._end_orphans()     # before the area goes, which they may still write to

    def _tell_start(self, is_started):
        if self.tell_start and is_started:
            self.tell_start()
            self.tell_start = None

    def _has_command(self):
        """Whether the program has started the command."""
        if self.invocation.find_process:
            return bool(self.invocation.find_process())
        return bool(self.command or not self.invocation.is_tracer)

    def _adopt_command(self, pid):
        """Know the command when it has become our child: the first that came, when the one that started it has gone."""
        if self.invocation.is_tracer and not self.command and not Host.children(pid):
            oldest = process_age(pid)[0]        # the ids of processes begin anew, now and then
            younger = [one for one in self._children() - {pid} if process_age(one)[0] >= oldest]
            self.command = min(younger, key=process_age, default=0)
            if self.command:
                self._deliver_held(pid)

    def _deliver_held(self, pid):
        """Pass on the signals that came too early."""
        held, self.held = self.held, []
        for received in held:
            self._received(pid, received)

    def _start(self, mask):
        reader, writer = self._pipe()       # closed by a successful exec, else it carries the reason
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(mask, parent, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            report = pipe.read().decode("utf-8", "surrogateescape")
        if report:
            os.waitpid(pid, 0)
            kind, message, hint = report.split("\0")
            raise {"CommandNotFoundError": CommandNotFoundError,
                   "CommandNotExecutableError": CommandNotExecutableError}.get(kind, EngineError)(message, hint)
        return pid

    def _pipe(self):
        """A pipe whose ends no program gets, whatever it passes on."""
        import fcntl
        ends = []
        for low in os.pipe():
            try:
                ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, self.invocation.last_descriptor + 1))
            except OSError:
                raise EngineError("descriptor %d is open, and there can be none above it" % (
                    self.invocation.last_descriptor), "close it, or raise the limit: ulimit -n")
            os.close(low)
        return ends

    def _become(self, mask, parent, writer):
        """The life of the child: it executes or reports, and never returns into the caller's code."""
        def last_steps():
            # SIGQUIT is PRoot's word for "kill all tracees": if it died by SIGKILL they would run on uncontained
            ending = self.signal.SIGKILL
            if self.invocation.is_tracer:
                ending = self.signal.SIGQUIT
            elif self.invocation.conclude:      # runC and crun pass it on to the command, and end with it
                ending = self.signal.SIGTERM
            self.kernel.end_with_parent(parent, ending)
            for number in self.watched:     # what has come meanwhile ends the command, and is no reason to tell
                if callable(self.signal.getsignal(number)):
                    self.signal.signal(number, self.signal.SIG_DFL)
            self.signal.pthread_sigmask(self.signal.SIG_SETMASK, mask)

        try:
            self.invocation.execute(last_steps)
        except BaseException as error:
            failure = error if isinstance(error, Error) else EngineError("cannot start: %s" % error)
            report = "\0".join((type(failure).__name__, failure.message, failure.hint))
            os.write(writer, report.encode("utf-8", "surrogateescape"))
        finally:
            os._exit(125)

    def _wait(self, pid):
        status = self._wait_for(pid)
        self.successor = self.invocation.find_process() if self.invocation.is_detached else None
        if not self.successor:
            return status
        self._deliver_held(self.successor)
        return self._wait_for(self.successor)

    def _wait_for(self, pid):
        while True:
            has_ended = self._has_ended(pid)        # before the look for the command, of which it has seen the end then
            self._adopt_command(pid)
            self._tell_start(self.tell_start and self._has_command())
            if self.command and self._has_ended(self.command):
                return self._end_of_command(pid)
            if has_ended:
                return self._status(os.waitpid(pid, 0)[1])
            self._reap(pid)
            is_impatient = self.tell_start or self.held
            is_watchful = self.ending_signal or self.deadline or self._is_early()
            patience = self.LOOK_AFTER if is_impatient else self.SWEEP_AFTER if is_watchful else 3600
            received = self.signal.sigtimedwait(self.watched, patience)
            if self.deadline and self.clock() > self.deadline:
                os.kill(pid, self.signal.SIGKILL)
            if received is None:
                if self.guardian and os.getppid() != self.guardian:
                    self._end(pid)      # nobody is left who would wait for the command
            elif received.si_signo != self.signal.SIGCHLD:
                self._received(pid, received)

    @staticmethod
    def _has_ended(pid):
        return bool(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def _end_of_command(self, tracer):
        """The exit status of the command, when its tracer has ended what that left behind."""
        limit = self.clock() + self.SWEEP_AFTER
        while not os.waitpid(tracer, os.WNOHANG)[0]:
            if self.clock() > limit:
                self._end(tracer)       # and again: what is just being forked escapes it
            self.signal.sigtimedwait({self.signal.SIGCHLD}, self.LOOK_AFTER)
        code = exit_code(os.waitpid(self.command, 0)[1])
        # What Ctrl-\ sends is for PRoot, which hears it too, the word to kill all
        is_quit = code == 128 + self.signal.SIGKILL and self.ending_signal == self.signal.SIGQUIT
        return 128 + self.signal.SIGQUIT if is_quit else code

    def _is_early(self):
        """Whether the process that signals are for is not known yet."""
        return (self.invocation.is_tracer and not self.command
                or self.invocation.is_detached and not self.successor)

    def _reap(self, pid):
        """Let go of those that the command left behind and that have ended: a service leaves more and more."""
        for orphan in () if self._is_early() else self._children() - {pid, self.command, self.successor}:
            os.waitpid(orphan, os.WNOHANG)

    def _received(self, pid, received):
        # A signal that the terminal sends goes to its whole foreground group, the command included
        # (si_code above 0: from the kernel): only what was sent to us alone is passed on, unless the command has left.
        if self._is_early():
            self.held.append(received)
        elif received.si_signo == self.signal.SIGTSTP:
            self._pause()
            return
        elif self.successor and received.si_code > 0:       # to the group that it has become the leader of
            send_signal(-self.successor, received.si_signo)
        elif received.si_code <= 0:
            send_signal(self.command or pid, received.si_signo)
        if received.si_signo not in (self.signal.SIGUSR1, self.signal.SIGUSR2):
            self.ending_signal = received.si_signo

    def _pause(self):
        """Ctrl-Z, which does not reach the command: its group stops with us, and goes on when we do. We do not stop
        where the kernel or the caller has it so, as nobody would be there to let us go on."""
        send_signal(-self.successor, self.signal.SIGSTOP)
        os.kill(os.getpid(), self.signal.SIGTSTP)
        self.signal.pthread_sigmask(self.signal.SIG_UNBLOCK, [self.signal.SIGTSTP])
        self.signal.pthread_sigmask(self.signal.SIG_BLOCK, [self.signal.SIGTSTP])
        send_signal(-self.successor, self.signal.SIGCONT)

    def _end(self, pid):
        """End the program, a tracer with all that it traces."""
        os.kill(pid, self.signal.SIGQUIT if self.invocation.is_tracer else self.signal.SIGKILL)

    def _children(self):
        return set(Host.children(os.getpid())) - self.strangers

    def _end_orphans(self):
        """End what the command left behind, as docker does; once their tracer is gone they would run uncontained."""
        orphans = self._children()
        while orphans:
            for pid in orphans:
                os.kill(pid, self.signal.SIGKILL)
                os.waitpid(pid, 0)
            orphans = self._children()

    def _status(self, status):
        code, has_none = exit_code(status), self.invocation.is_tracer and not self.command
        if has_none and self.ending_signal:         # which the tracer got in its place
            return 128 + self.ending_signal
        if has_none and code == self.NO_PROCESS:
            raise EngineError("the command cannot be started: there can be no more processes", "see ulimit -u")
        return 128 + self.signal.SIGKILL if has_none and code == self.NO_WORD else code


class Guardian(Supervisor):
    """Keeps the place of this program, which goes on as a child: a SIGKILL ends the guardian alone, and what it
    guards then ends its command, and all that this left behind, and takes away what is to be taken away."""

    def __init__(self, is_apart=False):
        """With `is_apart` it is in a session of its own, and has nothing open."""
        super().__init__(Invocation("", [], {}))
        self.is_apart = is_apart

    def fork(self):
        """In the child None, at once; in the guardian the exit status of the child, at its end."""
        self.signal.signal(self.signal.SIGCHLD, self.signal.SIG_DFL)
        previous = self.signal.pthread_sigmask(self.signal.SIG_BLOCK, self.watched)
        guardian = os.getpid()
        try:
            self.strangers = set(Host.children(guardian))
            self.kernel.adopt_orphans()
            pid = os.fork()
            if pid:
                if self.is_apart:
                    leave_session()
                return self._wait_for(pid)
            self.kernel.end_with_parent(guardian, self.signal.SIGTERM)
        finally:
            if os.getpid() == guardian:
                self._end_orphans()
            self.signal.pthread_sigmask(self.signal.SIG_SETMASK, previous)


def run_program(argv, environment=None, text="", timeout=60, before=None, kept=()):
    """Run a helper program: (exit status, standard output, standard error), both text.

    It calls `before` first, and gets the descriptors `kept`. Raises ToolError when it cannot be started or outlasts
    `timeout` seconds.
    """
    import subprocess
    try:
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, preexec_fn=before, pass_fds=kept)
    except OSError as error:
        raise ToolError("%s: %s" % (argv[0], error.strerror))
    with process:
        try:
            out, err = process.communicate(text.encode("utf-8"), timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ToolError("%s: no end after %d seconds" % (argv[0], timeout))
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def program_output(argv, pieces):
    """Pieces of what a program writes when it reads these pieces; ToolError when it fails."""
    import subprocess
    import threading
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    failures = []

    def feed():
        try:
            with process.stdin:
                for piece in pieces:
                    process.stdin.write(piece)
        except BrokenPipeError:         # it ended early, and says why
            pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    with process:
        try:
            with Undoing(process.kill):
                yield from iter(lambda: process.stdout.read(1 << 20), b"")
        finally:
            thread.join()
        reason = process.stderr.read(1000).decode("utf-8", "replace").strip()
    if failures:
        raise failures[0]
    if process.returncode:
        raise ToolError("%s: %s" % (argv[0], reason or "status %d" % process.returncode))


def feed_program(argv, write):
    """write(file) to the standard input of a program; ToolError with its last words when it fails. It is killed where
    anything else does."""
    import contextlib
    import subprocess
    import tempfile
    with tempfile.TemporaryFile() as talk:      # a pipe that nobody reads meanwhile would fill
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=talk, stderr=talk) as process:
            with Undoing(process.kill):
                with contextlib.suppress(BrokenPipeError), process.stdin:       # it ended early, and says why
                    write(process.stdin)
                process.wait()
        talk.seek(0)
        # What is indented are lists of what it knows
        lines = [line for line in talk.read().decode("utf-8", "replace").split("\n") if line[:1].strip()]
    if process.returncode:
        raise ToolError("%s: %s" % (argv[0], printable("; ".join(lines[-2:])) or "status %d" % process.returncode))


# --- locks and files ----------------------------------------------------------------------------------

def size_of(path):
    """The bytes of a file; None for what is none."""
    return os.path.getsize(path) if os.path.isfile(path) else None


INPUT_PIECE = 256 << 10     # bytes read at a time


def watched(pieces):
    """The pieces, each counted as work that is done."""
    for piece in pieces:
        say.advance(len(piece))
        yield piece


def file_pieces(path):
    """Pieces of the file's content, counted as they are read."""
    with open(path, "rb", buffering=0) as file:
        yield from watched(iter(lambda: file.read(INPUT_PIECE), b""))


def hashed(pieces, digest):
    """The pieces, each added to a hash."""
    for piece in pieces:
        digest.update(piece)
        yield piece


# Seconds: Python sees a signal that comes right before it waits when the waiting ends, however long that takes
WAKEFUL = 0.5


def standard_input():
    """Pieces of what comes on standard input; UsageError where that is a person's terminal."""
    if os.isatty(0):
        raise UsageError("standard input is a terminal, and an archive was expected there",
                         "name a file, or redirect one: < FILE")
    import select

    def read():
        while not select.select([0], [], [], WAKEFUL)[0]:
            pass
        return os.read(0, INPUT_PIECE)

    yield from watched(iter(read, b""))


class Lock:
    """An advisory lock on a file, held in a `with` block; file systems without locks are gone on without, and full ones
    too, for what is there must be removable.

    Any number of processes hold a shared one at a time, and nobody holds an exclusive one meanwhile.
    """

    def __init__(self, path, is_shared=False, is_patient=True, needs_file=False, is_own=False, waiting=""):
        """Without `is_patient`, ConflictError where others hold it; with `needs_file`, OSError where there is no room
        for one; with `is_own`, where it is another user's, who might hold it for ever. `waiting` is told the user who
        has to wait."""
        self.path = path
        self.waiting = waiting
        self.needs_file = needs_file
        self.is_own = is_own
        self.is_shared = is_shared
        self.is_patient = is_patient
        self.descriptor = -1
        self.is_held = True

    def acquire(self):
        """Wait for the lock and hold it."""
        try:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if self.needs_file or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.is_held = False
            say.debug("%s: no room for a lock, going on without" % self.path)
            return
        with Undoing(self.release):
            if self.is_own and os.fstat(self.descriptor).st_uid != os.getuid():
                raise OSError(errno.EPERM, "another user's file is in the way", self.path)
            try:
                self._lock()
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self.is_held = False
                say.debug("%s: no locks here, going on without" % self.path)

    def _lock(self):
        import fcntl
        kind = fcntl.LOCK_SH if self.is_shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self.is_patient:
                raise ConflictError("another udocker is at work in this store", "try again when it has ended")
            say.debug("waiting for the lock %s" % self.path)
            if self.waiting:
                say.info(self.waiting)
            fcntl.flock(self.descriptor, kind)

    def release(self):
        """Let others have it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()

    @staticmethod
    def is_free(path):
        """Whether the lock file is there and nobody holds it: where locks do not work, after a day."""
        import fcntl
        import time
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - os.fstat(descriptor).st_mtime > 86400
        finally:
            os.close(descriptor)


def parse_integer(text):
    """The number that digits (text or bytes) spell; ValueError for more of them than any has that means something: the
    time that int() takes grows with their square."""
    if len(text) > 100:
        raise ValueError("a number of %d digits" % len(text))
    return int(text)


class _Decoding:
    """What json's scanner wants to know of its decoder: all is as JSON has it."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, staticmethod(parse_integer), None


# The module json with what it imports costs a start as long as this whole file does: what does its work in CPython
# is asked by preference, and json where that is not there, does not answer to this, or dislikes what it gets.

def load_json(text):
    """json.loads(text); ValueError, or RecursionError, where the text is no JSON."""
    try:
        from _json import make_scanner
        text = text.strip(" \t\r\n")
        value, end = make_scanner(_Decoding)(text, 0)
        if end == len(text):
            return value
    except (ImportError, AttributeError, TypeError, ValueError, StopIteration, RecursionError, SystemError):
        pass            # older ones have no words for what is wrong, where json is not there to say them: SystemError
    import json
    return json.loads(text, parse_int=parse_integer)


def line_of_json(value):
    """json.dumps(value): JSON in one line, ASCII alone."""
    try:
        from _json import encode_basestring_ascii, make_encoder
        encode = make_encoder(None, None, encode_basestring_ascii, None, ": ", ", ", False, False, True)
        return "".join(encode(value, 0))
    except (ImportError, TypeError):
        import json
        return json.dumps(value)


# How a file is opened that must be what its status said, and one that must not be there yet
OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Closing:
    """A descriptor that is closed at the end of a `with` block, which gets it."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def __enter__(self):
        return self.descriptor

    def __exit__(self, *_):
        os.close(self.descriptor)


def write_all(descriptor, data, offset=None):
    """Write every byte of `data`, at a place of the file where one is told; write(2) may take fewer at a time."""
    if offset is not None:
        os.lseek(descriptor, offset, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]


def remove_file(path):
    """Remove a file or link that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def write_atomic(path, data, mode=0o644):
    """The file holds `data` or what it held before, whatever happens meanwhile."""
    temporary = new_path(os.path.dirname(path))
    with Undoing(remove_file, temporary):
        with Closing(os.open(temporary, NEW_FILE, mode)) as descriptor:
            write_all(descriptor, data)
        os.rename(temporary, path)


class Journal:
    """What is about to be done to a tree, on disk before it is done: values, one line of JSON each.

    A line that a kill cut short tells of nothing that was begun, and counts for nothing.
    """

    DAMAGE = (KeyError, IndexError, TypeError, ValueError)      # what values lead to that nobody added

    def __init__(self, path):
        self.path = path

    @property
    def exists(self):
        return os.path.lexists(self.path)

    def begin(self, first):
        """Start anew with this value."""
        write_atomic(self.path, self._line(first))

    def add(self, values):
        """Append values; they are on disk when this returns."""
        with Closing(os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)) as descriptor:
            size = os.fstat(descriptor).st_size
            tail = b""
            while size and b"\n" not in tail:           # a line that was cut short goes
                size = max(size - (1 << 16), 0)
                tail = os.pread(descriptor, 1 << 16, size)
            size += tail.rfind(b"\n") + 1
            os.ftruncate(descriptor, size)
            write_all(descriptor, b"".join(map(self._line, values)), size)
            os.fsync(descriptor)

    def read(self):
        """All values, one at a time; ConflictError where something else was written over it."""
        with open(self.path, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield self._value(line)

    def ends(self):
        """The first value and the last one, {} where its line is very long or was cut short; quick, however much lies
        between."""
        with open(self.path, "rb") as file:
            first = file.readline(1 << 16)
            skipped = file.seek(max(os.fstat(file.fileno()).st_size - (1 << 16), 0))
            last = ([b""] + file.read().splitlines(True)[1 if skipped else 0:])[-1]
        return self._value(first), self._value(last) if last.endswith(b"\n") else {}

    def _value(self, line):
        try:
            value = load_json(line.decode("ascii"))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self.damaged()
        return value

    def damaged(self):
        """The error for values that are not those that were added."""
        return ConflictError("%s: damaged, so what was done cannot be undone" % self.path, "make the container anew")

    def remove(self):
        remove_file(self.path)

    @staticmethod
    def _line(value):
        return line_of_json(value).encode("ascii") + b"\n"


class Naming:
    """Errors of the system that name no file, as those of write(2), or one that nobody knows, as those of rename(2) and
    symlink(2), name `path` when they leave the `with` block."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        if isinstance(error, OSError) and error.errno:
            names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
            if not any(names) or any(os.path.basename(name).startswith(".new-") for name in names):
                error.filename = self.path
                del error.filename2


class NewFile:
    """A file that is there whole at the end of the `with` block, or as it was before; the block gets it, open to write.

    Where the file system can, it has no name until then, so that nothing is left of it whatever ends us. A FIFO or a
    device is no file to be replaced, and is written to as it is.
    """

    def __init__(self, path):
        if os.path.islink(path):        # the kernel refuses those that others put into /tmp, and realpath() would not
            try:
                os.stat(path)
            except FileNotFoundError:
                pass
        self.is_replaced = not os.path.exists(path) or os.path.isfile(path)
        self.path = os.path.realpath(path) if self.is_replaced else path    # /dev/stdout may lead to no path at all
        self.temporary = new_path(os.path.dirname(self.path))

    def __enter__(self):
        self.has_name = True
        if self.is_replaced and os.path.isdir("/proc/self/fd"):
            try:
                nameless = os.open(os.path.dirname(self.path), os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
                self.has_name, self.file = False, os.fdopen(nameless, "wb")
                return self.file
            except OSError:         # NFS, and others, cannot; what else is wrong is told by the next attempt
                pass
        with Naming(self.path), Undoing(self._forget):
            self.file = open(self.temporary if self.is_replaced else self.path, "wb")
        return self.file

    def __exit__(self, failure, *_):
        is_good = self.is_replaced and failure is None
        try:
            with self.file:
                if is_good:
                    self.file.flush()
                    self._give_name()
            if is_good and self.has_name:
                os.rename(self.temporary, self.path)
        finally:
            self._forget()

    def _give_name(self):
        if self.has_name:
            return
        descriptor = self.file.fileno()     # given as a directory, it makes this linkat(2), which follows links
        link = "/proc/self/fd/%d" % descriptor
        try:
            os.link(link, self.path, src_dir_fd=descriptor)
        except FileExistsError:
            os.link(link, self.temporary, src_dir_fd=descriptor)
            self.has_name = True

    def _forget(self):
        if self.is_replaced:
            remove_file(self.temporary)


def open_output(path):
    """A file to write to in a `with` block: a NewFile, or standard output for "-", which must be no terminal."""
    if path != "-":
        return NewFile(path)
    if os.isatty(1):
        raise UsageError("standard output is a terminal, which cannot show an archive",
                         "redirect it, > FILE, or pipe it")
    return os.fdopen(os.dup(1), "wb")


def process_path(descriptor):
    """A path at which the programs that this process starts find what it has open."""
    return "/proc/%d/fd/%d" % (os.getpid(), descriptor)


def unnamed_program(pieces, directory):
    """A descriptor of a program of these (offset, bytes), to be executed at its process_path() as long as it is open.
    It is made in `directory` and has no name there any more."""
    path = new_path(directory)
    with Closing(os.open(path, NEW_FILE, 0o700)) as descriptor:
        try:
            for offset, data in pieces:
                write_all(descriptor, data, offset)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.unlink(path)


def unnamed_file(data):
    """An open file that holds `data` and has no name."""
    import tempfile
    file = tempfile.TemporaryFile()
    file.write(data)
    file.flush()
    return file


def output_name(path):
    """What messages call an output."""
    return Say.OUTPUT if path == "-" else path


def read_file(path, limit=16 << 20):
    """The bytes of a regular file, b"" where there is none; never more than `limit`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)      # a FIFO must not hold us up
    except (FileNotFoundError, NotADirectoryError):
        return b""
    with Closing(descriptor):
        status = os.fstat(descriptor)
        size = min(limit, status.st_size)       # 0 of what the kernel makes up
        pieces, missing = [], (size or limit) if stat.S_ISREG(status.st_mode) else 0
        while missing and (not pieces or pieces[-1]):
            pieces.append(os.read(descriptor, min(missing, size or 1 << 16)))
            missing -= len(pieces[-1])
        return b"".join(pieces)


def file_digest(path):
    """The digest of a file's content, in OCI's spelling."""
    import hashlib
    total = hashlib.sha256()
    for data in file_pieces(path):
        total.update(data)
    return "sha256:" + total.hexdigest()


def has_size(path, size):
    """Whether there is a file of `size` bytes at `path`; of any size where `size` is None."""
    try:
        return os.path.isfile(path) and size in (None, os.stat(path).st_size)
    except OSError:
        return False


def make_directory(path, mode=0o755):
    """Make a directory and those above it, where missing: all of them with this mode, which a umask can only narrow."""
    missing = [path]
    while os.path.dirname(missing[-1]) and not os.path.exists(os.path.dirname(missing[-1])):
        missing.append(os.path.dirname(missing[-1]))
    for path in reversed(missing):
        try:
            os.mkdir(path, mode)
        except FileExistsError:         # it was there, or another process was faster
            if not os.path.isdir(path):
                raise


def make_below(top, names, is_directory):
    """Make a directory, or an empty file, to which `names` lead from the directory `top`, and those above it; OSError
    where one of them is a link, which somebody may put there meanwhile."""
    place = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names if is_directory else names[:-1]:
            try:
                below = os.open(name, place, dir_fd=directory)
            except FileNotFoundError:
                try:
                    os.mkdir(name, 0o755, dir_fd=directory)
                except FileExistsError:         # another process was faster
                    pass
                below = os.open(name, place, dir_fd=directory)
            os.close(directory)
            directory = below
        if not is_directory:
            file = os.open(names[-1], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644, dir_fd=directory)
            os.close(file)
    finally:
        os.close(directory)


def open_directory(name, parent=None):
    """A descriptor of a directory that is no link, made accessible to its owner: one that can be emptied."""
    with Closing(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as anchor:
        mode = stat.S_IMODE(os.fstat(anchor).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod("/proc/self/fd/%d" % anchor, mode | stat.S_IRWXU)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=anchor)


def exposed_directory(path, gid):
    """The directory at `path`, or above it, in which others than the caller, of group `gid`, may put something else in
    its place; "" where there is none. A sticky one, as /tmp is, keeps what is everybody's own."""
    path = os.path.realpath(path)
    while True:
        status = os.stat(path)
        is_open = status.st_mode & stat.S_IWOTH or status.st_mode & stat.S_IWGRP and status.st_gid != gid
        if is_open and not status.st_mode & stat.S_ISVTX:
            return path
        if path == "/":
            return ""
        path = os.path.dirname(path)


# --- directories and trees ----------------------------------------------------------------------------

def entries_of(directory):
    """The sorted names in a directory; none where it cannot be listed."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def own_entries(directory, pattern):
    """(path, status) of the caller's own entries in a directory that others may write to too, by their names."""
    import re
    found = []
    for path in (os.path.join(directory, name) for name in entries_of(directory) if re.match(pattern, name)):
        try:
            status = os.lstat(path)
        except FileNotFoundError:       # its owner has ended meanwhile
            continue
        if status.st_uid == os.getuid():
            found.append((path, status))
    return found


def left_behind(directory, pattern="^[.]new-"):
    """Paths of what killed commands were about to rename in a directory: nobody has touched it for a minute."""
    import time
    limit = time.time() - 60
    return [path for path, status in own_entries(directory, pattern) if status.st_ctime < limit]


def path_in(directory, name):
    """The path of a name in an open directory, for messages."""
    return os.path.join(os.readlink("/proc/self/fd/%d" % directory), name)


def _mount_of(descriptor):
    """What tells the mount that an open file is on. proc(5), /proc/pid/fdinfo"""
    return [line for line in system_text("/proc/self/fdinfo/%d" % descriptor).split("\n") if line.startswith("mnt_id:")]


def check_device(directory, above):
    """OSError where an open directory is on another mount than the one above it: somebody mounted that there, by sshfs
    say, and what is in it belongs to no tree of ours. Subvolumes of btrfs have a device each, and one mount."""
    if os.fstat(directory).st_dev != os.fstat(above).st_dev and _mount_of(directory) != _mount_of(above):
        raise OSError(errno.EBUSY, "a file system is mounted here", os.readlink("/proc/self/fd/%d" % directory))


def _empty_directory(name, parent, top):
    """Empty a directory of `parent`: the directories in it go to `top`, under the new names that are returned.

    Where a disk or a quota is full there may be no room for a name at the top, and directories of the lower layer of an
    overlay cannot be renamed: those are emptied where they are.
    """
    moved = []
    with Closing(open_directory(name, parent)) as inner:
        check_device(inner, top)
        for child in os.listdir(inner):
            try:
                os.unlink(child, dir_fd=inner)
            except IsADirectoryError:
                os.close(open_directory(child, inner))      # moving it writes its "..": it must be writable
                new = ".removed-" + new_token()
                try:
                    os.rename(child, new, src_dir_fd=inner, dst_dir_fd=top)
                    moved.append(new)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EXDEV):
                        raise
                    moved += _empty_directory(child, inner, top)
                    os.rmdir(child, dir_fd=inner)
            except OSError as error:
                error.filename = path_in(inner, child)
                raise
    return moved


def remove_tree(path):
    """Remove whatever is at `path`, and nothing outside it: links are removed, not followed.

    Directories below the top are moved to the top and emptied there, one level at a time, so that neither
    the depth of the tree nor the length of its paths has a limit.
    """
    try:
        os.unlink(path)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:       # as Linux has it; POSIX also knows EPERM
        pass
    with Closing(open_directory(path)) as top, Closing(os.open(os.path.dirname(path), os.O_PATH)) as above:
        check_device(top, above)
        pending = os.listdir(top)
        while pending:
            name = pending.pop()
            try:
                os.unlink(name, dir_fd=top)
            except IsADirectoryError:
                pending += _empty_directory(name, top, top)
                os.rmdir(name, dir_fd=top)
            except OSError as error:
                error.filename = path_in(top, name)
                raise
    os.rmdir(path)


STILL_OPEN = (errno.ENOTEMPTY, errno.EBUSY)     # what NFS answers where something in a directory is


def sweep_away(paths):
    """Remove trees that nobody needs, as far as they can be now."""
    for path in paths:
        try:
            remove_tree(path)
        except OSError as error:
            say.debug("%s: %s" % (path, error))


def remove_locked(path, lock):
    """Remove a directory in which its own lock lies, a Lock that is held: it goes last, and is let go before, as NFS
    keeps what is removed and still open under another name. OSError where something else in it is kept so."""
    import time
    for name in os.listdir(path):
        if name != os.path.basename(lock.path):
            remove_tree(path + "/" + name)
    lock.release()
    deadline = time.monotonic() + 1         # file systems in user space hear of it a moment later
    while os.path.lexists(path):
        try:
            remove_tree(path)
        except OSError as error:
            if error.errno not in STILL_OPEN or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class WorkArea:
    """A directory for what is needed while one run lasts, in a `with` block or from make() to remove().

    What a killed udocker leaves behind is known by its lock, which nobody holds any more.
    """

    NAME = r"^udocker-[0-9a-f]{16}(-new)?$"

    def __init__(self, parent):
        """Nothing is made yet; `parent` is a directory for such."""
        self.path = "%s/udocker-%s" % (parent, new_token())
        self.lock = Lock(self.path + "-new/lock")

    def make(self):
        new = self.path + "-new"        # until it is locked, so that nobody takes it for one that was left behind
        with Undoing(self.remove), Undoing(remove_tree, new), Undoing(self.lock.release):
            os.mkdir(new, 0o700)
            self.lock.acquire()
            os.rename(new, self.path)

    def remove(self):
        try:
            if os.path.lexists(self.path):
                remove_locked(self.path, self.lock)
        except OSError as error:
            if error.errno not in STILL_OPEN:
                raise
            say.debug("%s: %s" % (self.path, error.strerror))       # prune takes it
        finally:
            self.lock.release()

    def __enter__(self):
        self.make()
        return self

    def __exit__(self, *_):
        self.remove()

    @classmethod
    def abandoned(cls, parent):
        """Paths of the caller's own areas in `parent` that nobody uses, nor makes or removes for a minute."""
        import time
        limit = time.time() - 60
        return [path for path, status in own_entries(parent, cls.NAME) if (
            status.st_ctime < limit if path.endswith("-new") or not os.path.lexists(path + "/lock")
            else Lock.is_free(path + "/lock"))]


def make_link(target, path):
    """symlink(2) in a store; Error where there can be none."""
    try:
        os.symlink(target, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            error.filename, error.filename2 = path, None
            raise
        raise Error("%s: no symbolic link can be made here" % os.fsdecode(path),
                    "a store needs a file system that has some: UDOCKER_DIR or --repo=DIR takes one elsewhere")


def set_mode(target, mode, directory=None):
    """chmod(2) of a descriptor, or of a path or name in a directory. File systems that have access control lists alone,
    as filesets of GPFS may, refuse every mode, and give what is made there one of their own."""
    try:
        os.chmod(target, mode, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        say.debug("%s: its mode is not set: %s" % (target, error.strerror))


def set_directory_mode(descriptor, mode):
    """Set the mode of an open directory, which stays set-group-id where it came to be so in such a one: a project's,
    whose quota counts what belongs to a group."""
    set_mode(descriptor, mode & 0o1777 | os.fstat(descriptor).st_mode & stat.S_ISGID)


def set_time(target, mtime, directory=None):
    """Set the time of a descriptor, or of a link or FIFO by its path or name in a directory, where the file system can:
    by SFTP it would be that of the file the link leads to. `mtime` is in nanoseconds."""
    mtime = min(max(mtime, -1 << 60), 1 << 62)      # what 64 bits of nanoseconds can say
    if isinstance(target, int):
        os.utime(target, ns=(mtime, mtime))
        return
    try:
        os.utime(target, ns=(mtime, mtime), dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        say.debug("%s: its time is not set: %s" % (os.fsdecode(target), error.strerror))


def _copy_data(reader, writer, size):
    """Copy `size` bytes from one file to another: at once where the file system shares blocks, and holes as holes."""
    if size <= 1 << 16:         # what is said below costs more than it saves
        for data in iter(lambda: os.read(reader, 1 << 16), b""):
            write_all(writer, data)
        return
    import fcntl
    try:
        fcntl.ioctl(writer, 0x40049409, reader)         # FICLONE, ioctl_ficlone(2)
        return
    except OSError:
        pass
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(reader, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:      # ENXIO: only a hole is left
                raise
            break
        end = os.lseek(reader, offset, os.SEEK_HOLE)
        while offset < end:
            data = os.pread(reader, min(end - offset, 1 << 20), offset)
            if not data:
                break
            write_all(writer, data, offset)
            offset += len(data)
        offset = max(offset, end)
    os.ftruncate(writer, size)


def open_source(name, directory):
    """A descriptor of a file to be read; OSError gives its path, also where `name` is one in an open directory."""
    try:
        return os.open(name, OLD_FILE, dir_fd=directory)
    except OSError as error:
        if directory is not None:
            error.filename = path_in(directory, name)
        raise


# What file systems say that have no hard links, or too many to this file already: a copy reads the same
NO_HARD_LINK = (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)


def copy_file(source, path, status, source_directory=None, directory=None):
    """Make `path` a copy of a file or link of which `status` is known; both may be names in open directories."""
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source, dir_fd=source_directory), path, dir_fd=directory)
        set_time(path, status.st_mtime_ns, directory)
        return
    with Closing(open_source(source, source_directory)) as reader, \
            Closing(os.open(path, NEW_FILE, status.st_mode & 0o777 | 0o600, dir_fd=directory)) as writer:
        with Undoing(lambda: os.unlink(path, dir_fd=directory)):
            _copy_data(reader, writer, status.st_size)
            set_mode(writer, status.st_mode & 0o777)
            set_time(writer, status.st_mtime_ns)


class OpenTree:
    """The directories at and below `path`, opened by relative name ("" is the top) and never over a link, whoever
    changes the tree meanwhile."""

    def __init__(self, path):
        self.path = os.path.realpath(path)

    def open(self, relative):
        """A descriptor of a directory; OSError where a link stands in the way."""
        path = self.path.rstrip("/") + "/" + relative if relative else self.path
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.readlink("/proc/self/fd/%d" % descriptor) != path:
            os.close(descriptor)
            raise OSError(errno.ELOOP, "a link in a place where a directory was", path)
        return descriptor

    def walk(self, start="", on_error=None):
        """(relative name, status, descriptor of its directory, name in it) of the entry `start` and of all below it,
        directories before what is in them. What cannot be read goes to `on_error`, as OSError, where that is given."""
        parent, _, base = start.rpartition("/")
        with Closing(self.open(parent)) as directory:
            status = os.lstat(base or ".", dir_fd=directory)
            yield start, status, directory, base or "."
        pending = [start] if stat.S_ISDIR(status.st_mode) else []
        while pending:
            place = pending.pop()
            try:
                directory = self.open(place)
            except FileNotFoundError:       # a running container goes on meanwhile
                continue
            except OSError as error:
                if not on_error:
                    raise
                on_error(error)
                continue
            with Closing(directory):
                for name, status in self._entries(directory, place, on_error):
                    relative = place + "/" + name if place else name
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(relative)
                    say.advance(status.st_size)
                    yield relative, status, directory, name

    def named(self, names):
        """The same of the entries of these names, in their order, that are still there."""
        from itertools import groupby
        for place, group in groupby(names, os.path.dirname):
            try:
                directory = self.open(place)
            except FileNotFoundError:       # a running container goes on meanwhile
                continue
            with Closing(directory):
                for name, status in self._statuses(map(os.path.basename, group), directory, place, None):
                    yield os.path.join(place, name), status, directory, name

    def _entries(self, directory, place, on_error):
        return self._statuses(sorted(os.listdir(directory)), directory, place, on_error)

    def _statuses(self, names, directory, place, on_error):
        for name in names:
            try:
                yield name, os.lstat(name, dir_fd=directory)
            except FileNotFoundError:
                pass
            except OSError as error:        # its directory can be listed, and not searched
                error.filename = os.path.join(self.path, place, name)
                if not on_error:
                    raise
                on_error(error)


def allocated_size(path):
    """Bytes that a file, or a tree with each hard link counted once, takes up on disk."""
    total, seen = 0, set()
    try:
        for _, status, _, _ in OpenTree(os.path.dirname(path)).walk(
                os.path.basename(path), lambda error: say.debug(str(error))):
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    except FileNotFoundError:
        pass
    return total


def name_below(place, name):
    """A name below a place of a tree; either of them may be "", the top."""
    return "/".join(filter(None, (place, name)))


def copied_name(relative, start, place):
    """The name that an entry gets when `start`, which is the entry or a directory above it, becomes `place`."""
    return name_below(place, relative[len(start):].lstrip("/"))


REPLACE_HINT = "remove it first, or choose another target"


class TreeCopy:
    """Copies entries of one OpenTree into another, which has none of them: links as links, hard links among them kept,
    sockets and devices left out."""

    def __init__(self, source, target):
        self.source = source
        self.target = target
        self.first_names = {}       # (device, inode) of a file with several names: where the first one went
        self.directories = []       # (place, status), whose mode and time are set last

    def copy(self, start, place):
        """The entry `start` of the source, and what is below it, becomes `place` of the target."""
        from itertools import groupby
        for head, entries in groupby(self.source.walk(start), lambda entry: os.path.dirname(
                copied_name(entry[0], start, place))):
            with Closing(self.target.open(head)) as descriptor:
                for relative, status, directory, name in entries:
                    where = copied_name(relative, start, place)
                    self._place(name, status, directory, where, os.path.basename(where) or ".", descriptor)
        for where, status in reversed(self.directories):
            with Closing(self.target.open(where)) as descriptor:
                set_directory_mode(descriptor, status.st_mode)
                set_time(descriptor, status.st_mtime_ns)

    def _place(self, name, status, source, where, base, target):
        if not stat.S_ISDIR(status.st_mode):
            self._make(name, status, source, where, base, target)
            return
        if base != ".":         # the top becomes the copy of a top
            os.mkdir(base, status.st_mode & 0o777 | stat.S_IRWXU, dir_fd=target)
        self.directories.append((where, status))

    def _make(self, name, status, source, where, base, target):
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            self._make_file(name, status, source, where, base, target)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(base, status.st_mode & 0o777, dir_fd=target)
            set_mode(base, status.st_mode & 0o777, target)
            set_time(base, status.st_mtime_ns, target)

    def _make_file(self, name, status, source, where, base, target):
        key = (status.st_dev, status.st_ino)
        if key not in self.first_names:
            copy_file(name, base, status, source, target)
            if status.st_nlink > 1:
                self.first_names[key] = where
            return
        head, _, first = self.first_names[key].rpartition("/")
        try:
            with Closing(self.target.open(head)) as directory:
                os.link(first, base, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_HARD_LINK:
                raise
            copy_file(name, base, status, source, target)


class TreeMerge(TreeCopy):
    """The same where some of the entries may be already: a file replaces a file, and gets its name when it is whole; a
    directory is put over a directory."""

    TEMPORARY = "^[.]new-[0-9a-f]{16}$"     # strict, as it is looked for among the user's own files

    def __init__(self, source, target, beside="", mend=None, is_by_root=False):
        """Files are made in the directory `beside`, on the same file system, which prune() sweeps; where there is none,
        in their own, where the next copy sweeps. `mend`, called with the name that a copy will get in the target and
        the path where it lies now, makes it what it shall be. `is_by_root`: the caller's directories are written to
        whatever their modes say."""
        super().__init__(source, target)
        self.beside = beside
        self.mend = mend
        self.is_by_root = is_by_root
        self.swept = set()          # directories of the target

    def _place(self, name, status, source, where, base, target):
        path, mode = os.path.join(self.target.path, where), self._open_up(target)
        try:
            if stat.S_ISDIR(status.st_mode):
                if base != ".":         # a root stays as it is
                    super()._place(name, status, source, where, base, target)
            else:
                self._put(name, status, source, path, where, base, target)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(base, dir_fd=target).st_mode):
                raise ConflictError("%s: a directory cannot replace what is there" % path, REPLACE_HINT)
        except IsADirectoryError:
            raise ConflictError("%s: a file cannot replace a directory" % path, REPLACE_HINT)
        except OSError as error:
            if error.filename == base:
                error.filename = path
            raise
        finally:
            if mode is not None:
                os.fchmod(target, mode)

    def _open_up(self, directory):
        """Make an open directory one that may be written to; returns the mode that it had, None where it needs nothing
        or cannot be."""
        if not self.is_by_root:
            return None
        status = os.fstat(directory)
        mode = stat.S_IMODE(status.st_mode)
        if mode & stat.S_IWUSR or status.st_uid != os.geteuid():
            return None
        os.fchmod(directory, mode | stat.S_IWUSR)
        return mode

    def _put(self, name, status, source, path, where, base, target):
        place = self.beside or "/proc/self/fd/%d" % target
        temporary = new_path(place)
        if not self.beside and os.path.dirname(where) not in self.swept:
            self.swept.add(os.path.dirname(where))
            for left in left_behind(place, self.TEMPORARY):
                remove_file(left)
        with Undoing(remove_file, temporary), Naming(path):
            self._make(name, status, source, where, temporary, None)
            if os.path.lexists(temporary):      # what is no socket and no device
                if self.mend:
                    self.mend(where, temporary)
                os.rename(temporary, base, dst_dir_fd=target)


class GuestTree:
    """Paths inside a container's tree, with links followed as a process inside would see them.

    Everything that looks into a tree goes through here: a container is a stranger's work, and a link of
    its own must lead back into it, never out to the host.
    """

    MAX_LINKS = 40      # as the kernel has it, path_resolution(7)

    def __init__(self, root, mounts=(), published_root=""):
        """`published_root` is the path that the tree will have, where that is another one."""
        self.root = root
        self.mounts = mounts        # (guest, host path) pairs that lie over the tree, outermost first
        self.published_root = published_root

    @found_once
    def inside(self):
        """How links begin that Fakechroot modes converted."""
        return (self.published_root or os.path.realpath(self.root)) + "/" if self.root else "\0"

    def _placed(self, guest):
        """(host path of the volume or tree that a guest path is in, what follows there)."""
        for target, source in reversed(self.mounts):
            if guest == target or guest.startswith(target.rstrip("/") + "/"):
                return source, guest[len(target.rstrip("/")):]
        return self.root, guest

    def _host_path(self, guest):
        return "".join(self._placed(guest))

    def resolve(self, guest):
        """The guest path without links that `guest` leads to; components that do not exist are kept."""
        pending = [part for part in reversed(guest.split("/")) if part]
        reached, links = "", 0
        while pending:
            part = pending.pop()
            if part == ".":
                continue
            if part == "..":
                reached = reached.rpartition("/")[0]
                continue
            try:
                target = os.readlink(self._host_path(reached + "/" + part))
            except OSError:         # no link, or not there
                reached += "/" + part
                continue
            links += 1
            if links > self.MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), guest)
            if (target + "/").startswith(self.inside):
                target = target[len(self.inside) - 1:] or "/"
            if target.startswith("/"):
                reached = ""
            pending += [part for part in reversed(target.split("/")) if part]
        return reached or "/"

    def path(self, guest):
        """The host path of what `guest` leads to, links followed inside the tree; it need not exist."""
        return self._host_path(self.resolve(guest))

    def has_directory(self, guest):
        """Whether `guest` leads to a directory that is there."""
        try:
            return os.path.isdir(self.path(guest))
        except OSError:         # links in a circle
            return False

    def entries(self, guest):
        """The sorted names in a directory of the container; none where it cannot be listed."""
        try:
            return entries_of(self.path(guest))
        except OSError:         # links in a circle
            return []

    def read(self, guest):
        """The text of a file of the container, "" where it is missing or cannot be read."""
        try:
            path = self.path(guest)
            # What the kernel makes up, as /proc/self/environ, is about who reads it: nothing of it is the container's
            return read_file(path).decode("utf-8", "surrogateescape") if os.stat(path).st_size else ""
        except OSError:
            return ""

    def can_have(self, guest):
        """Whether something is at `guest`, or the caller could make it."""
        try:
            path = self.path(guest)
        except OSError:         # links in a circle
            return False
        if os.path.lexists(path):
            return True
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return os.access(path, os.W_OK)

    def make_mount_point(self, guest, is_directory):
        """The host path of a directory or file at `guest`, made where it is missing.

        Many processes may do so at once in one tree: what is there already is fine.
        """
        place, names = self._placed(self.resolve(guest))
        path = place + names
        if not os.path.lexists(path):
            make_below(place or "/", list(filter(None, names.split("/"))), is_directory)
        return path


# --- namespaces that several processes share ----------------------------------------------------------

class SharedNamespaces:
    """Namespaces that several processes on this machine have in common, whichever of them comes first.

    That one starts a holder, which makes them, hands descriptors of them to each of the others, and ends when all have
    come, as members keep namespaces alive, or when patience ends. A file of the caller, in a directory of this machine,
    tells where the holder is asked and how many have come; its lock is held meanwhile.

    What runs in them is a stranger's, and could look into any process there that is the caller's: so nobody can look
    into the holder, nor into one that joins until it has become the command.
    """

    NAME = r"^udocker-job-[0-9a-f]{8}$"
    PATIENCE = 60       # seconds for the last of them to come
    KINDS = ("user", "mnt", "uts")      # in the order in which they can be joined

    def __init__(self, directory, key, count):
        """`key` (text) is what those have in common who shall be together, and `count` how many they are."""
        import zlib
        self.path = "%s/udocker-job-%08x" % (directory, zlib.crc32(os.fsencode(key)))
        self.key = os.fsencode(key)
        self.count = count

    @classmethod
    def abandoned(cls, parent):
        """Paths of the caller's own files in `parent` that nobody comes to any more."""
        import time
        limit = time.time() - 2 * cls.PATIENCE
        return [path for path, status in own_entries(parent, cls.NAME) if status.st_mtime < limit]

    def join(self, kernel, make):
        """Enter them, made by `make()` where nobody has so far; OSError where that cannot be, Error from `make`."""
        with Naming("namespaces"):
            namespaces = self._find(make)
            while namespaces is None:
                namespaces = self._find(make)
            kernel.let_look(False)      # between the first and the last of them our root is the host's
            try:
                with Undoing(kernel.let_look, True):
                    for namespace in namespaces:
                        kernel.join(namespace)
            finally:
                for namespace in namespaces:
                    os.close(namespace)

    def _find(self, make):
        """Descriptors of the namespaces; None where the last one came while we waited, so that others begin anew."""
        with Lock(self.path, is_own=True) as lock:
            status = os.fstat(lock.descriptor) if lock.is_held else None
            if status and status.st_nlink == 0:
                return None
            if not status or status.st_nlink != 1:
                raise OSError(errno.ENOLCK, "no lock of our own", self.path)
            holder, joined = self._read(lock.descriptor)
            namespaces = self._ask(holder) if holder else []
            if not namespaces:
                with Undoing(remove_file, self.path):
                    holder, joined = self._start(make), 0
                namespaces = self._ask(holder)
            if not namespaces:
                raise OSError(errno.ESRCH, "the process that holds the namespaces has ended", self.path)
            if joined + 1 >= self.count:
                remove_file(self.path)
            else:
                os.ftruncate(lock.descriptor, 0)
                os.pwrite(lock.descriptor, b"%s %d\n%s" % (holder, joined + 1, self.key), 0)
        return namespaces

    def _read(self, descriptor):
        """(address of the holder, how many have come); nothing where there is none of ours."""
        head, _, key = os.pread(descriptor, 1 << 20, 0).partition(b"\n")
        words = head.split()
        return (words[0], int(words[1])) if key == self.key and len(words) == 2 else (b"", 0)

    @staticmethod
    def _is_own(socket, connection):
        """Whether the caller is at the other end. unix(7), SO_PEERCRED: pid, uid, gid"""
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(peer[4:8], sys.byteorder) == os.getuid()

    def _ask(self, holder):
        """Descriptors of the namespaces, from the holder at this address; none where it has ended. unix(7), SCM_RIGHTS
        """
        socket = quick_module("socket")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.PATIENCE)
            connection.connect(b"\0" + holder)
            if not self._is_own(socket, connection):
                return []
            _, parts, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4 * len(self.KINDS)), socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return []
        finally:
            connection.close()
        data = b"".join(data for _, kind, data in parts if kind == socket.SCM_RIGHTS)
        return [int.from_bytes(data[place:place + 4], sys.byteorder) for place in range(0, len(data), 4)]

    def _start(self, make):
        """The address of a new holder. It is nobody's child, as a command may wait for all of its own."""
        socket = quick_module("socket")
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()       # OSError in a sandbox that knows none
        reader, writer = os.pipe()
        holder = b"udocker-" + new_token().encode("ascii")
        pid = os.fork()
        if pid == 0:
            try:
                if os.fork() == 0:
                    self._hold(holder, make, writer)
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        with os.fdopen(reader, "rb") as pipe:
            report = pipe.read()
        if report != holder:
            raise EngineError(report.decode("utf-8", "surrogateescape") or "the namespaces could not be made")
        return holder

    def _hold(self, holder, make, writer):
        """The life of the holder."""
        import signal
        report = holder
        try:
            leave_session(writer)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(self.PATIENCE)     # file systems in user space may never answer
            kernel, socket = Kernel(), quick_module("socket")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(b"\0" + holder)
            listener.listen(64)
            namespaces = self._made_by(make)
            kernel.let_look(False)
            signal.alarm(self.PATIENCE)
        except BaseException as error:
            report = (error.message if isinstance(error, Error) else "namespaces: %s" % (
                getattr(error, "strerror", None) or error)).encode("utf-8", "surrogateescape")
        os.write(writer, report)
        os.close(writer)
        if report == holder:
            self._hand_out(socket, listener, namespaces)

    def _made_by(self, make):
        """Descriptors of the namespaces that are others than before make()."""
        with Closing(os.open("/proc/self/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
            before = [os.readlink(kind, dir_fd=directory) for kind in self.KINDS]
            make()
            return [os.open(kind, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                    for kind, link in zip(self.KINDS, before) if os.readlink(kind, dir_fd=directory) != link]

    def _hand_out(self, socket, listener, namespaces):
        data = b"".join(namespace.to_bytes(4, sys.byteorder) for namespace in namespaces)
        come = 0
        while come < self.count:
            connection = socket.socket(fileno=listener._accept()[0])
            try:
                if self._is_own(socket, connection):        # anybody on this machine may connect
                    connection.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)])
                    come += 1
            except OSError:         # gone already
                pass
            finally:
                connection.close()


# ======================================================================================================
# 4  OCI documents
# ======================================================================================================

def _check_texts(value):
    """ValueError where a text in a JSON value holds a NUL, as no name or path can, or half a surrogate pair."""
    if isinstance(value, str):
        if b"\0" in value.encode("utf-8"):
            raise ValueError("a NUL")
    elif isinstance(value, (list, dict)):
        for part in value:
            _check_texts(part)
        for part in value.values() if isinstance(value, dict) else ():
            _check_texts(part)


def parse_json(data, what, kind=dict):
    """The JSON value in `data` (bytes), which must be of type `kind`; DocumentError names `what`."""
    try:
        value = load_json(data.decode("utf-8"))
        if b"\\u" in data:
            _check_texts(value)
    except (ValueError, RecursionError):
        raise DocumentError("%s: not valid JSON" % what)
    if not isinstance(value, kind):
        raise DocumentError("%s: not a JSON %s" % (what, "object" if kind is dict else "list"))
    return value


def strings_of(value):
    """The strings in a list of a document; none where it is no list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def object_of(value):
    """An object of a document; an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def objects_of(value):
    """The objects in a list of a document; none where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def dump_json(value):
    """Indented JSON, for people and files."""
    import json
    return json.dumps(value, indent=4)


def sha256_digest(data):
    """The digest of bytes, in OCI's spelling."""
    import hashlib
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_digest(text):
    """Whether `text` is a sha256 digest. OCI image-spec, descriptor.md, Digests."""
    return (isinstance(text, str) and len(text) == 71 and text.startswith("sha256:")
            and not text[7:].strip("0123456789abcdef"))


class Reference:
    """The name of an image: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST].

    `host` is "" for Docker Hub, whose repositories go by their familiar names: without docker.io/ and
    without library/. https://github.com/distribution/reference (grammar and familiar names)
    """

    HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
    COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

    def __init__(self, host, repository, tag="", digest=""):
        self.host = host
        self.repository = repository
        self.tag = tag
        self.digest = digest

    @classmethod
    def parse(cls, text):
        """The reference that `text` spells; UsageError where it spells none."""
        import re

        def refuse(reason, hint="write [HOST[:PORT]/]NAME[:TAG] or NAME@sha256:HEX, for instance busybox:latest"):
            raise UsageError("%r is not an image name: %s" % (text, reason), hint)

        name, at, digest = text.partition("@")
        if at and not is_digest(digest):
            refuse("the digest must be sha256: and 64 hexadecimal digits")
        head, slash, rest = name.partition("/")
        host = ""
        if slash and (re.search(r"[.:\[A-Z]", head) or head == "localhost"):
            host, name = head, rest
            if not re.fullmatch(cls.HOST, host):
                refuse("%r is no host name" % host)
        repository, colon, tag = name.partition(":")
        if colon and not re.fullmatch(cls.TAG, tag):
            refuse("%r is no tag" % tag)
        if not re.fullmatch(r"%s(?:/%s)*" % (cls.COMPONENT, cls.COMPONENT), repository):
            refuse("names are lower case" if repository != repository.lower() else "%r is no name" % repository)
        if len(repository) > 255:
            refuse("longer than 255 characters")
        if re.fullmatch("(sha256:)?[0-9a-f]{64}", name) and not host:       # as docker does
            refuse("it is an id, which no registry knows")
        if host in cls.HUB_HOSTS:
            host = ""
        if not host and repository.startswith("library/") and repository.count("/") == 1:
            repository = repository[len("library/"):]
        return cls(host, repository, tag or ("" if digest else "latest"), digest)

    @property
    def name(self):
        """Host and repository, as listed."""
        return (self.host + "/" if self.host else "") + self.repository

    @property
    def version(self):
        """The digest where one is given, else the tag: what a registry is asked for, and the store's last part."""
        return self.digest or self.tag

    @property
    def hub_repository(self):
        """The repository's name at Docker Hub, where the familiar name of an official image is short."""
        return self.repository if "/" in self.repository else "library/" + self.repository

    def spellings(self):
        """Every name under which a program may have stored this image, the familiar one first."""
        yield self.name
        if not self.host:
            names = [self.repository] if "/" in self.repository else [self.repository, self.hub_repository]
            for name in names:
                for host in self.HUB_HOSTS:
                    yield host + "/" + name
            yield names[-1]

    @property
    def suffix(self):
        """What follows the name: a colon and the tag, or an @ and the digest."""
        return "@" + self.digest if self.digest else ":" + self.tag

    def __str__(self):
        return self.name + self.suffix


class Platform:
    """OS, architecture and variant. OCI image-spec, image-index.md, Image Index Property Descriptions."""

    def __init__(self, system, architecture, variant=""):
        self.system = system
        self.architecture = architecture
        self.variant = "" if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")) else variant

    @classmethod
    def parse(cls, text):
        """From OS/ARCH[/VARIANT] or ARCH alone; the machine names of uname are understood too."""
        import re
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux"] + parts
        if len(parts) > 3 or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
            raise UsageError("%r is not a platform" % text, "write OS/ARCH[/VARIANT], for instance linux/arm64")
        architecture, variant = Host.ARCHITECTURES.get(parts[1], (parts[1], ""))
        return cls(parts[0], architecture, parts[2] if len(parts) == 3 else variant)

    @classmethod
    def of_document(cls, document):
        """From the platform object of a descriptor, or from a config; None where it names no architecture."""
        words = [document.get(key) or "" for key in ("os", "architecture", "variant")]
        if not all(isinstance(word, str) for word in words) or not words[1]:
            return None
        return cls(*words)

    def rank(self, wanted):
        """How well this serves `wanted`: 0 best, None not at all. A lower variant of arm and amd64 will do."""
        import re
        if (self.system, self.architecture) != (wanted.system, wanted.architecture):
            return None
        if self.variant == wanted.variant:
            return 0
        if self.architecture not in ("arm", "amd64"):
            return 1 if not self.variant or not wanted.variant else None
        own, limit = (re.sub(r"\D", "", variant)[:4] for variant in (self.variant, wanted.variant))
        if not limit:
            limit = "1" if self.architecture == "amd64" else "7"
        return int(limit) - int(own or 0) if int(own or 0) <= int(limit) else None

    def __str__(self):
        return "/".join(part for part in (self.system, self.architecture, self.variant) if part)


class Descriptor:
    """What names a blob: digest, size (None where unknown), media type. OCI image-spec, descriptor.md."""

    def __init__(self, digest, size=None, media_type="", urls=(), document=None):
        self.digest = digest
        self.size = size
        self.media_type = media_type
        self.urls = urls
        self.document = document or {}

    @classmethod
    def parse(cls, document, what):
        if not isinstance(document, dict) or not is_digest(document.get("digest")):
            raise DocumentError("%s: an entry has no sha256 digest" % what)
        size = document.get("size")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 62):
            raise DocumentError("%s: an entry has no sensible size" % what)
        media_type = document.get("mediaType")
        urls = strings_of(document.get("urls"))
        return cls(document["digest"], size, media_type if isinstance(media_type, str) else "", urls, document)

    @property
    def platform(self):
        return Platform.of_document(object_of(self.document.get("platform")))

    @property
    def is_attestation(self):
        """Provenance and signatures, which BuildKit and others list beside images."""
        import re
        platform = self.platform
        return ("vnd.docker.reference.type" in self.annotations or bool(self.document.get("artifactType"))
                or platform is not None and platform.architecture == "unknown"
                or not re.match(r"$|.*[.+](manifest|index)\b", self.media_type))

    @property
    def annotations(self):
        return object_of(self.document.get("annotations"))


class ImageIndex:
    """A list of manifests for several platforms. OCI image-spec, image-index.md; docker's manifest list."""

    def __init__(self, document, what):
        entries = document.get("manifests")
        if not isinstance(entries, list):
            raise DocumentError("%s: the index has no list of manifests" % what)
        self.manifests = [Descriptor.parse(entry, what) for entry in entries]

    def choose(self, wanted, what, prefers_zstd=False):
        """The descriptor that serves the platform best: of equal ones the first, or one whose layers are zstd."""
        images = [entry for entry in self.manifests if not entry.is_attestation]
        ranked = []
        for position, entry in enumerate(images):
            rank = 100 if entry.platform is None else entry.platform.rank(wanted)
            if rank is not None:
                is_zstd = "io.github.containers.compression.zstd" in entry.annotations
                ranked.append((rank, is_zstd != prefers_zstd, position))
        if not ranked:
            offered = ", ".join(sorted({str(entry.platform) for entry in images})) or "none"
            raise NotFoundError("%s: no image for %s" % (what, wanted),
                                "there are: %s; choose with --platform=" % offered)
        return images[min(ranked)[2]]


LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


class Manifest:
    """Config and layers of one image: OCI image-spec manifest.md, docker's schema 2 and schema 1.

    Schema 1 has no config blob: `config` is None and the config stands in `embedded_config` (bytes).
    """

    LAYER_TYPES = (r"$|application/(octet-stream|x-tar|x-gzip|gzip"
                   r"|vnd\.(oci|docker)\..*(layer|diff)\..*)")
    CONFIG_TYPES = ("", "application/vnd.oci.image.config.v1+json",
                    "application/vnd.docker.container.image.v1+json", "application/octet-stream")

    def __init__(self, document, what):
        import re
        self.embedded_config = b""
        if "fsLayers" in document:
            self._read_schema_1(document, what)
            return
        layers = document.get("layers")
        if not isinstance(layers, list):
            raise DocumentError("%s: the manifest has no list of layers" % what)
        self.config = Descriptor.parse(document.get("config"), what)
        kinds = [kind for kind in (MANIFEST_TYPE, DOCKER_MANIFEST_TYPE) if kind == document.get("mediaType")]
        is_docker = self.config.media_type.startswith("application/vnd.docker.")
        self.media_type = (kinds + [DOCKER_MANIFEST_TYPE if is_docker else MANIFEST_TYPE])[0]
        self.layers = [Descriptor.parse(entry, what) for entry in layers]
        strange = [entry.media_type for entry in self.layers if not re.match(self.LAYER_TYPES, entry.media_type)]
        if self.config.media_type not in self.CONFIG_TYPES or document.get("artifactType") or strange:
            kind = document.get("artifactType") or (strange or [self.config.media_type])[0]
            raise DocumentError("%s: not a container image but %s" % (what, kind))

    def _read_schema_1(self, document, what):
        """https://distribution.github.io/distribution/spec/deprecated-schema-v1/ : newest layer first."""
        layers, history = document.get("fsLayers"), document.get("history")
        if not isinstance(layers, list) or not isinstance(history, list) or len(layers) != len(history) or not layers:
            raise DocumentError("%s: fsLayers and history of the schema 1 manifest do not match" % what)
        steps = [parse_json(str(object_of(entry).get("v1Compatibility")).encode("utf-8"), what + ": history")
                 for entry in history]
        pairs = zip(reversed(layers), reversed(steps))
        self.layers = [Descriptor.parse({"digest": object_of(layer).get("blobSum")}, what)
                       for layer, step in pairs if not step.get("throwaway")]
        self.config = None
        self.embedded_config = dump_json(steps[0]).encode("utf-8")

    @property
    def blobs(self):
        """The descriptors to be fetched, each digest once, config first."""
        unique = {}
        for descriptor in ([self.config] if self.config else []) + self.layers:
            unique.setdefault(descriptor.digest, descriptor)
        return list(unique.values())


def parse_manifest(data, what):
    """A Manifest or an ImageIndex: told by what is in the document, since media types lie or are missing."""
    document = parse_json(data, what)
    if isinstance(document.get("manifests"), list):
        return ImageIndex(document, what)
    return Manifest(document, what)


def new_manifest(config, layers):
    """The bytes of a manifest: `config` is the config's bytes, `layers` are (digest, size, compression), bottom first.

    OCI image-spec, manifest.md; of compressions it knows gzip and zstd, and no word for others.
    """
    def entry(media_type, digest, size):
        return {"mediaType": media_type, "digest": digest, "size": size}

    return dump_json({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": entry(CONFIG_TYPE, sha256_digest(config), len(config)),
        "layers": [entry(LAYER_TYPE + ("+" + compression if compression in ("gzip", "zstd") else ""), digest, size)
                   for digest, size, compression in layers],
    }).encode("utf-8")


def timestamp(seconds=None):
    """A time, by default the present, as documents tell it. RFC 3339"""
    import time
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def new_config(document, diff_ids, created, created_by):
    """The bytes of a config like `document`, which has no say in the layers. OCI image-spec, config.md, Properties."""
    known = ("created", "author", "architecture", "os", "os.version", "variant")
    config = {key: document[key] for key in known if document.get(key)}
    config.setdefault("created", created)
    config["config"] = document.get("config") or {}         # the older udocker wants to see one
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    config["history"] = [{"created": config["created"], "created_by": created_by} for _ in diff_ids]
    return dump_json(config).encode("utf-8")


def _signed_payload(data):
    """What was signed: the document without its signatures (a JSON web signature's protected header tells). ValueError
    where the document, which is what will be used, says anything else."""
    import base64

    def decode(text):
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    document = parse_json(data, "manifest")
    protected = parse_json(decode(document.pop("signatures")[0]["protected"]), "signature")
    payload = data[:protected["formatLength"]] + decode(protected["formatTail"])
    if parse_json(payload, "payload") != document:
        raise ValueError("what was signed is another document")
    return payload


def manifest_digest(data):
    """The digest of a manifest's bytes as received; of the payload where it is a signed schema 1."""
    if b'"signatures"' in data and b'"fsLayers"' in data:
        try:
            return sha256_digest(_signed_payload(data))
        except (ValueError, KeyError, IndexError, TypeError, DocumentError):
            pass
    return sha256_digest(data)


class ImageConfig:
    """What an image says about running it. OCI image-spec, config.md, Properties; null counts as absent."""

    def __init__(self, document):
        self.document = document
        self._run = object_of(document.get("config"))

    @classmethod
    def parse(cls, data, what):
        return cls(parse_json(data, what))

    def _words(self, key):
        """A list of strings; a single string, as very old builders wrote, is one for the shell."""
        value = self._run.get(key)
        if isinstance(value, str):
            return ["/bin/sh", "-c", value] if value else []
        return strings_of(value)

    def _text(self, key):
        value = self._run.get(key)
        return value if isinstance(value, str) else ""

    def changeable(self):
        """A copy of what it says, in which what is to be a list or an object is one."""
        copy = {key: value for key, value in self._run.items() if value is not None}
        copy["Env"], copy["WorkingDir"] = list(self._words("Env")), self.working_directory
        copy.update((key, dict(object_of(copy.get(key)))) for key in ("ExposedPorts", "Labels", "Volumes"))
        return copy

    @property
    def environment(self):
        """Pairs of name and value, in order."""
        return [tuple(entry.split("=", 1)) for entry in self._words("Env") if entry.find("=") > 0]

    @property
    def entrypoint(self):
        return self._words("Entrypoint")

    @property
    def command(self):
        return self._words("Cmd")

    @property
    def working_directory(self):
        return self._text("WorkingDir")

    @property
    def volumes(self):
        """The directories that are to be there, whatever the layers hold."""
        return sorted(path for path in object_of(self._run.get("Volumes")) if path.startswith("/"))

    @property
    def user(self):
        return self._text("User")

    @property
    def exposed_ports(self):
        """Texts, as in 80/tcp."""
        return sorted(object_of(self._run.get("ExposedPorts")))

    @property
    def stop_signal(self):
        return self._text("StopSignal")

    @property
    def labels(self):
        """{name: value}"""
        return {name: str(value) for name, value in object_of(self._run.get("Labels")).items()}

    @property
    def platform(self):
        return Platform.of_document(self.document)

    @property
    def history(self):
        """The objects that say how each layer came about, bottom first."""
        return objects_of(self.document.get("history"))

    @property
    def diff_ids(self):
        """Digests of the uncompressed layers, bottom first; empty in images of schema 1."""
        found = strings_of(object_of(self.document.get("rootfs")).get("diff_ids"))
        return [digest for digest in found if is_digest(digest)]


class Challenge:
    """One way in that a server offers: scheme in lower case and parameters. RFC 9110, section 11."""

    # A quoted string, or a bare one that goes on over commas while no other key=value begins
    PARAMETER = (r'[\s,]*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*(?:,(?!\s*[A-Za-z_-]+\s*=)'
                 r'[^\s",=]+(?=,|$|\s))*))\s*,?')
    SCHEME = r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)(?!\s*=)"

    def __init__(self, scheme, parameters):
        self.scheme = scheme
        self.parameters = parameters

    @classmethod
    def parse_all(cls, fields):
        """The challenges of all WWW-Authenticate fields, each of which may hold several."""
        import re
        scheme_at, parameter_at = re.compile(cls.SCHEME).match, re.compile(cls.PARAMETER).match
        found = []
        for text in fields:
            position = 0
            while True:
                scheme = scheme_at(text, position)
                if not scheme:
                    break
                position, parameters = scheme.end(), {}
                while not scheme_at(text, position):
                    pair = parameter_at(text, position)
                    if not pair:
                        break
                    value = pair.group(3) if pair.group(2) is None else re.sub(r"\\(.)", r"\1", pair.group(2))
                    parameters[pair.group(1).lower()] = value
                    position = pair.end()
                found.append(cls(scheme.group(1).lower(), parameters))
                # What is neither parameter nor scheme (a Negotiate token, say) is passed over to the next comma
                if not scheme_at(text, position) and text[position:].strip():
                    comma = text.find(",", position)
                    position = len(text) if comma < 0 else comma
        return found


# --- Dockerfiles --------------------------------------------------------------------------------------
# As https://docs.docker.com/reference/dockerfile has them

def listed_words(text):
    """The words of a JSON list of texts, as a Dockerfile has one; None where the text is none."""
    try:
        found = parse_json(os.fsencode(text), "list", list)
    except DocumentError:
        return None
    return found if len(strings_of(found)) == len(found) else None


def edited_value(value, operator, text):
    """What ${NAME#PATTERN} and its like, the text being what follows the operator, make of the value of a variable."""
    import re
    known, tokens = {"*": ".*", "?": "."}, r"\\.|."

    def expression(pattern):
        found = [known.get(token) or re.escape(token[-1]) for token in re.findall(tokens, pattern, re.DOTALL)]
        return re.compile("".join(found), re.DOTALL)

    if operator[0] == "/":
        pattern, new = re.fullmatch(r"((?:\\.|[^\\/])*)/?(.*)", text, re.DOTALL).groups()
        new = re.sub(r"\\(.)", r"\1", new, flags=re.DOTALL)

        def replaced(match):        # nothing behind what * has taken is one more
            return new if match.group() or not value else ""

        return expression(pattern).sub(replaced, value, count=len(operator) % 2) if pattern else value
    is_end, matches, places = operator[0] == "%", expression(text).fullmatch, range(len(value) + 1)
    if is_end == (len(operator) == 1):      # the shortest end, or the longest beginning, is the last one
        places = reversed(places)
    for place in places:
        if matches(value, place) if is_end else matches(value, 0, place):
            return value[:place] if is_end else value[place:]
    return value


class DockerfileText:
    """A text of a Dockerfile, with the values of the variables in it. DocumentError where a quote or a variable has no
    end."""

    def __init__(self, text, values, quotes="'\"", escaped="\"\\$"):
        """Where something is quoted, and where there are no `quotes`, a backslash is one only before what can be
        `escaped`."""
        self.text = text
        self.values = values
        self.quotes = quotes
        self.escaped = escaped
        self.place = 0

    def whole(self):
        """All of it, without quotes and backslashes."""
        return "".join(self.words(is_split=False))

    def words(self, is_split=True):
        """Its words, what is quoted being part of one; or all of it as one."""
        words, word, quote = [], None, ""
        while self.place < len(self.text):
            mark = self._next()
            if mark == "$" and quote != "'":
                word = (word or "") + self._variable()
            elif mark == "\\" and quote != "'" and self._is_escape(quote):
                word = (word or "") + self._next()
            elif mark in self.quotes and quote in ("", mark):
                quote = "" if quote else mark
                word = word or ""
            elif mark.isspace() and not quote and is_split:
                words += [] if word is None else [word]
                word = None
            else:
                word = (word or "") + mark
        if quote:
            raise DocumentError("%s: a quote has no end" % self.text)
        return words + ([] if word is None else [word])

    def _next(self):
        self.place += 1
        return self.text[self.place - 1]

    def _is_escape(self, quote):
        following = self.text[self.place:self.place + 1]
        return bool(following) and (self.quotes and not quote or following in self.escaped)

    def _variable(self):
        """The value of what follows a dollar sign: that itself where no variable does."""
        import re
        plain = re.compile(r"[A-Za-z_]\w*", re.ASCII).match(self.text, self.place)
        if plain:
            self.place = plain.end()
            return self.values.get(plain.group(), "")
        braced = re.compile(r"\{(\w+)(:?[-+?]|##?|%%?|//?|)", re.ASCII).match(self.text, self.place)
        if not braced:
            return "$"
        (name, operator), start, self.place, depth = braced.groups(), braced.end(), braced.end(), 1
        while self.place < len(self.text) and depth:
            depth += {"{": 1, "}": -1}.get(self._next(), 0)
        word = self.text[start:self.place - 1]
        if depth or word and not operator:
            raise DocumentError("$%s: a variable that cannot be understood" % self.text[braced.start():self.place],
                                "there are ${NAME}, and with :-WORD, :+WORD, :?WORD, #PATTERN, %PATTERN or "
                                "/PATTERN/WORD behind NAME")
        return self._substituted(name, operator, word)

    def _substituted(self, name, operator, word):
        value, kind = self.values.get(name), operator[-1:]
        if kind and kind in "#%/":
            return edited_value(value or "", operator, DockerfileText(word, self.values, "", "$").whole())
        is_set = bool(value) if operator[:1] == ":" else value is not None
        if kind and is_set == (kind == "+"):
            value = DockerfileText(word, self.values, self.quotes, self.escaped).whole()
            if kind == "?":
                raise DocumentError("%s: %s" % (name, value or "this variable is missing"))
            return value
        return "" if kind == "+" else value or ""


def listed_text(text, values):
    """The words of a text of a Dockerfile, which may be a JSON list, with the values of variables."""
    listed = listed_words(text)
    if listed is None:
        return DockerfileText(text, values).words()
    return [DockerfileText(word, values).whole() for word in listed]


def take_flags(text):
    """({name: [value]}, what follows) of the flags --name=value with which the text of an instruction begins."""
    import re
    flags = {}
    while True:
        match = re.match(r"""--([a-z][a-z-]*)(?:=((?:"[^"]*"|'[^']*'|[^\s"'])*))?(?:\s+|$)""", text)
        if not match:
            return flags, text
        flags.setdefault(match.group(1), []).append(match.group(2) or "")
        text = text[match.end():]


def command_words(config, text):
    """The words that execute what follows CMD, ENTRYPOINT and RUN: a list, or else a line for the shell of a "config".
    """
    listed = listed_words(text)
    return (config.get("Shell") or ["/bin/sh", "-c"]) + [text] if listed is None else listed


def variables_of(config):
    """{name: value} of the variables that a "config" has."""
    return dict(item.partition("=")[::2] for item in config.get("Env", []))


def named_values(name, text, values):
    """{name: value} of what follows ENV and LABEL; DocumentError where something is none."""
    words = DockerfileText(text, values).words()
    if "=" not in words[0]:         # the old way: ENV NAME VALUE
        words = ["%s=%s" % (words[0], DockerfileText(text.split(None, 1)[1], values).whole())] if words[1:] else words
    pairs = [word.partition("=") for word in words]
    if not all(key and equals for key, equals, _ in pairs):
        raise DocumentError("%s %s: cannot be understood" % (name, text), "write %s NAME=VALUE" % name)
    return {key: value for key, _, value in pairs}


def change_config(config, name, text, values):
    """Do to the "config" of an image what an instruction of a Dockerfile does, `text` being what follows its name, with
    the values of variables. DocumentError where it cannot be understood."""
    if not text:
        raise DocumentError("%s: nothing follows it" % name)
    if name in ("CMD", "ENTRYPOINT"):           # whose shell has the variables when it is run
        config[name.capitalize()] = command_words(config, text)
    elif name == "ENV":
        changed = named_values(name, text, values)
        kept = [item for item in config.get("Env", []) if item.partition("=")[0] not in changed]
        config["Env"] = kept + ["%s=%s" % pair for pair in changed.items()]
    elif name == "LABEL":
        config.setdefault("Labels", {}).update(named_values(name, text, values))
    elif name == "EXPOSE":
        import re
        ports = [word if "/" in word else word + "/tcp" for word in DockerfileText(text, values).words()]
        if not all(re.fullmatch("[0-9]{1,5}(-[0-9]{1,5})?/(tcp|udp|sctp)", port) for port in ports):
            raise DocumentError("EXPOSE %s: no port" % text, "write a number, or a number and a protocol, as in 53/udp")
        config.setdefault("ExposedPorts", {}).update((port, {}) for port in ports)
    elif name == "VOLUME":
        config.setdefault("Volumes", {}).update((path, {}) for path in listed_text(text, values))
    elif name in ("STOPSIGNAL", "USER"):
        config[{"STOPSIGNAL": "StopSignal", "USER": "User"}[name]] = DockerfileText(text, values).whole()
    elif name == "WORKDIR":
        place = os.path.join(config.get("WorkingDir") or "/", DockerfileText(text, values).whole())
        config["WorkingDir"] = os.path.normpath(place)
    elif name == "SHELL":
        config["Shell"] = listed_words(text) or []
        if not config["Shell"]:
            raise DocumentError("SHELL %s: cannot be understood" % text,
                                'write a list, as in SHELL ["/bin/bash", "-c"]')
    elif name == "ONBUILD":
        config["OnBuild"] = strings_of(config.get("OnBuild")) + [text]
    else:
        raise DocumentError("%s: unknown instruction" % name, "there are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, "
                            "SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR, as in ENV A=1")


class Located:
    """A `with` block whose Errors tell the place that they are about."""

    def __init__(self, place):
        self.place = place

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        if isinstance(error, Error) and not hasattr(error, "place"):        # the innermost one tells most
            error.place, error.exit_status = self.place, None       # nothing is wrong with the command line
            error.message = "%s: %s" % (self.place, error.message)


class HereDocument:
    """A text in a Dockerfile that an instruction names by <<NAME."""

    WORD = r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+"""           # of a shell
    NAME = r"""[0-9]*<<(-?)(["']?)([A-Za-z_][\w.-]*)\2"""

    @classmethod
    def names(cls, text):
        """What matches NAME of each word of a text, None where it is no here-document's."""
        import re
        return [re.fullmatch(cls.NAME, word) for word in re.findall(cls.WORD, text)]

    def __init__(self, name, is_quoted, is_indented, lines):
        self.name = name
        self.is_quoted = is_quoted          # variables in it are none
        self.lines = lines                  # as they are in the file
        self.text = "".join((line.lstrip("\t") if is_indented else line) + "\n" for line in lines)


class Instruction:
    """One instruction of a Dockerfile: its name, its flags {name: [value]}, what follows, and HereDocuments."""

    NAMES = ("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
             "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
    FLAGS = {"FROM": {"platform"}, "RUN": {"mount", "network", "security"},
             "COPY": {"from", "chown", "chmod", "link"}, "ADD": {"chown", "chmod", "link", "checksum"}}

    def __init__(self, text, line=0):
        """`line` is its number in the file."""
        self.line = line
        name, rest = (text.split(None, 1) + [""])[:2]
        self.name = name.upper()
        self.flags, rest = take_flags(rest) if self.name in self.FLAGS else ({}, rest)
        self.text = rest.strip()
        self.documents = []

    def __str__(self):
        import re
        flags = ["--%s=%s" % (name, value) for name, values in self.flags.items() for value in values]
        return re.sub(r"(https?://)[^/@\s]*@", r"\1", " ".join([self.name] + flags + [self.text]))     # no passwords

    def check(self):
        """DocumentError where there is no such instruction, or flag, or what no image can hold."""
        if str(self).encode("utf-8", "replace") != str(self).encode("utf-8", "surrogateescape"):
            raise DocumentError("%s: not in UTF-8" % self.name)
        if self.name == "ONBUILD":
            trigger = Instruction(self.text)
            trigger.check()
            if trigger.name in ("ONBUILD", "FROM", "MAINTAINER"):
                raise DocumentError("ONBUILD %s: cannot be" % trigger.name)
        if self.name not in self.NAMES:
            raise DocumentError("%s: unknown instruction" % self.name,
                                similar(self.name, self.NAMES) + "there are " + ", ".join(self.NAMES))
        for flag in self.flags:
            if flag not in self.FLAGS[self.name]:
                known = ", ".join("--" + name for name in sorted(self.FLAGS[self.name]))
                raise DocumentError("%s --%s: this flag is not known here" % (self.name, flag), "there are " + known)

    def flag(self, name, values):
        """The value of a flag, the last one, with those of variables; "" where there is none."""
        return DockerfileText(self.flags.get(name, [""])[-1], values).whole()

    @property
    def shell_text(self):
        """What RUN gives to the shell: with here-documents as a shell has them."""
        lines = [self.text]
        for document in self.documents:
            lines += document.lines + [document.name]
        return "\n".join(lines)


class DockerfileStage:
    """What a Dockerfile says of one stage: FROM, and the Instructions that follow."""

    def __init__(self, start):
        words = start.text.split()
        if len(words) not in (1, 3) or words[2:] and words[1].upper() != "AS":
            raise DocumentError("FROM %s: cannot be understood" % start.text, "write FROM IMAGE [AS NAME]")
        self.start = start
        self.base = words[0]
        self.name = words[2].lower() if words[2:] else ""
        self.instructions = []


class Dockerfile:
    """The DockerfileStages of a Dockerfile, and the ARG instructions before them; DocumentError tells the line at
    fault."""

    def __init__(self, data, name):
        import re
        self.name = name
        self.lines = [line.rstrip("\r") for line in data.decode("utf-8-sig", "surrogateescape").split("\n")]
        self.number = 0
        # Directives come first, and one of them is about a backslash at the end of a line
        directives = re.match(r"(?:#[ \t]*\w+[ \t]*=.*\n)*", "\n".join(self.lines)).group()
        escape = re.search(r"(?i)^#[ \t]*escape[ \t]*=[ \t]*`[ \t]*$", directives, re.MULTILINE)
        self.continuation = re.compile(r"(.*)%s[ \t]*$" % ("`" if escape else r"\\"))
        self.arguments, self.stages = [], []
        for instruction in self._instructions():
            with self.at(instruction):
                self._add(instruction)
        if not self.stages:
            raise DocumentError("%s: there is no FROM in it" % name)

    def at(self, instruction):
        """A `with` block whose Errors tell the instruction."""
        return Located("%s, line %d" % (self.name, instruction.line))

    def _add(self, instruction):
        instruction.check()
        if instruction.name == "FROM":
            self.stages.append(DockerfileStage(instruction))
        elif self.stages:
            self.stages[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            self.arguments.append(instruction)
        else:
            raise DocumentError("%s: comes before FROM" % instruction.name)

    def _instructions(self):
        line = self._next()
        while line is not None:
            number, text = self.number, ""
            match = self.continuation.match(line)
            while match:
                text += match.group(1)
                line = self._next() or ""
                match = self.continuation.match(line)
            instruction = Instruction(text + line, number)
            with self.at(instruction):
                if instruction.name in ("RUN", "COPY", "ADD") and listed_words(instruction.text) is None:
                    instruction.documents = self._documents(instruction.text)
            yield instruction
            line = self._next()

    def _next(self):
        """The next line that is neither empty nor a comment; None at the end."""
        while self.number < len(self.lines):
            line = self.lines[self.number]
            self.number += 1
            if line.strip() and not line.lstrip().startswith("#"):
                return line
        return None

    def _documents(self, text):
        import re
        found = []
        for dash, quote, name in [match.groups() for match in HereDocument.names(text) if match]:
            first, end = self.number, "\t*" * bool(dash) + re.escape(name)
            while self.number < len(self.lines) and not re.fullmatch(end, self.lines[self.number]):
                self.number += 1
            if self.number == len(self.lines):
                raise DocumentError("the here-document %s has no end" % name, "its last line is %s alone" % name)
            found.append(HereDocument(name, bool(quote), bool(dash), self.lines[first:self.number]))
            self.number += 1
        return found


def mode_change(text):
    """A function that gives, of a mode and whether it is a directory's, what --chmod makes of it: octal digits, or what
    chmod(1) knows. DocumentError where it is neither."""
    import re
    if re.fullmatch("[0-7]{1,4}", text):
        return lambda mode, is_directory: int(text, 8)
    clauses = [re.fullmatch("([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)", clause) for clause in text.split(",")]
    if not all(clauses):
        raise DocumentError("--chmod=%s: no mode" % text, "write it as in 755, or u=rwX,go=rX")
    actions = [(clause.group(1),) + action for clause in clauses
               for action in re.findall("([-+=])([rwxXstugo]*)", clause.group(2))]
    masks = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
    bits = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}

    def changed(mode, is_directory):
        for who, operator, letters in actions:
            mask = sum(masks[letter] for letter in ("ugo" if who in ("", "a") or "a" in who else set(who)))
            copied = {"u": mode >> 6 & 7, "g": mode >> 3 & 7, "o": mode & 7,
                      "X": 1 if is_directory or mode & 0o111 else 0}
            value = 0
            for letter in letters:
                value |= mask & (bits[letter] if letter in bits else copied[letter] * 0o111)
            mode = {"+": mode | value, "-": mode & ~value, "=": mode & ~mask | value}[operator]
        return mode

    return changed


def path_pattern(text):
    """What matches the paths that a pattern of a Dockerfile does, as a regular expression: those of filepath.Match in
    Go, and ** for any number of directories. DocumentError where it is none."""
    import re
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(match):
        token = match.group()
        if token in known or token.startswith("[") and len(token) > 1:
            return known.get(token, token)
        return re.escape(token[1:] if token[0] == "\\" and token[1:] else token)

    pattern = re.sub(r"\*\*/|\*\*|\*|\?|\[\^?(?:\\.|[^\]\\])+\]|\\.|.", translated, text)
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error:
        raise DocumentError("%s: no pattern of file names" % text)


class IgnoreRules:
    """What the lines of a .dockerignore leave out of a directory. The last one that matches counts."""

    def __init__(self, lines=()):
        import re
        self.rules = []         # (pattern, whether it is an exception)
        for line in lines:
            line = line.strip()
            is_exception, text = line.startswith("!"), line.lstrip("!").strip()
            text = os.path.normpath(text).lstrip("/") if text else ""
            if text and not line.startswith("#"):
                self.rules.append((re.compile(path_pattern(text).pattern + "(?:/.*)?", re.DOTALL), is_exception))

    @property
    def has_exceptions(self):
        return any(is_exception for _, is_exception in self.rules)

    def is_left_out(self, relative):
        """Whether a name in the directory is not to be seen."""
        matching = [is_exception for pattern, is_exception in self.rules if pattern.fullmatch(relative)]
        return bool(matching) and not matching[-1]


# ======================================================================================================
# 5  Transport
# ======================================================================================================

def without_password(url):
    """A URL, of a proxy also HOST:PORT alone, without its user and password."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


def shown_url(url):
    """A URL for messages: without the user, password and query that may hold secrets."""
    return without_password(url.partition("?")[0])


def split_url(url):
    """(scheme, host, port) of an http URL in lower case; ValueError where it is none."""
    from urllib.parse import urlsplit
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http URL")
    return parts.scheme.lower(), parts.hostname.lower(), parts.port or (443 if parts.scheme.lower() == "https" else 80)


def is_loopback(host):
    """Whether a host name or address literal is this machine: 127.0.0.0/8, localhost, ::1."""
    import re
    return host == "localhost" or host.strip("[]") == "::1" or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def is_private(host):
    """Whether a host is an address literal that only means something nearby. RFC 1918, 4193, 3927."""
    import ipaddress
    import socket
    try:
        # inet_aton knows the spellings that resolvers accept and ipaddress does not, as 127.1
        address = ipaddress.ip_address(host.strip("[]") if ":" in host else socket.inet_aton(host))
    except (ValueError, OSError):
        return host == "localhost"
    return address.is_private       # as are those of the loopback and of a link


class Upload:
    """A file (by its path), or bytes, as the body of a request, in a `with` block; `watch` is told how many bytes have
    been read."""

    def __init__(self, content, watch=lambda count: None):
        self.content = content
        self.watch = watch

    def __enter__(self):
        self.file = unnamed_file(self.content) if isinstance(self.content, bytes) else open(self.content, "rb")
        self.path = process_path(self.file.fileno())
        self.size = os.fstat(self.file.fileno()).st_size
        return self

    def read(self, size):
        """The next bytes, so many at most."""
        data = self.file.read(size)
        self.watch(self.file.tell())
        return data

    def __exit__(self, *_):
        self.file.close()


class Transfer:
    """One HTTP exchange: what is asked, and what came back. `body` is the text of a POST, or the Upload of a PUT.

    `deliver(status, fields)` is called once, where the status tells success, before the first byte of the body (or at
    the end, where there is none), and returns the function that takes the body's bytes; without it, or where it
    returns None, the body is kept in `body`, up to MAX_BODY.
    Afterwards `status` is the HTTP status and `fields` the header, {name in lower case: [values]}.
    """

    MAX_BODY = 4 << 20      # bytes: what docker's distribution allows a manifest
    MAX_HEAD = 1 << 20      # bytes of all headers and trailers

    def __init__(self, url, method="GET", fields=(), body=None, proxy=None, insecure=False, deliver=None):
        import re
        from urllib.parse import quote
        for text in [url, method, proxy or ""] + [word for field in fields for word in field]:
            if re.search(r"[\x00-\x1f\x7f]", text):
                raise TransferError(3, shown_url(printable(url)), "control characters in the request")
        if any(ord(letter) > 126 for field in fields for letter in "".join(field)):
            raise TransferError(3, shown_url(url), "a field of the request is not ASCII")
        self.url = "".join(letter if ord(letter) < 127 else quote(letter.encode("utf-8", "replace")) for letter in url)
        self.method = method
        self.request_fields = fields
        self.request_body = body
        self.proxy = proxy
        self.insecure = insecure
        self.deliver = deliver
        self.status = 0
        self.fields = {}
        self.body = b""
        self._kept, self._kept_size = [], 0
        self._write = None
        self._head, self._head_size = [], 0

    @property
    def patience(self):
        """How many times longer than usually nothing may come: of what is sent the server looks through all first."""
        return 10 if isinstance(self.request_body, Upload) else 1

    def take_header(self, line):
        """One line of a header. Those of answers of status 1xx and of a proxy's to CONNECT precede the real one: the
        last header before the body counts."""
        self._head_size += len(line)
        if self._head_size > self.MAX_HEAD:         # libcurl has no limit for what may come behind a body
            raise TransferError(27, shown_url(self.url), "the header of the answer has no end")
        line = line.rstrip(b"\r\n")
        if line.startswith(b"HTTP/") or not self._head:
            self._head = [line]
        elif line:
            self._head.append(line)

    def _begin(self):
        words = self._head[0].split() if self._head else []
        self.status = int(words[1][:3]) if len(words) > 1 and words[1].isdigit() else 0
        for field in self._head[1:]:
            name, _, value = field.decode("latin-1").partition(":")
            self.fields.setdefault(name.strip().lower(), []).append(value.strip())
        self._write = self.deliver(self.status, self.fields) if self.deliver and 200 <= self.status < 300 else None

    def take_body(self, data):
        """Some bytes of the body."""
        if not self.status:
            self._begin()
        if self._write:
            self._write(data)
        elif self._kept_size + len(data) > self.MAX_BODY:
            raise TransferError(63, shown_url(self.url), "the answer is longer than %s" % human_size(self.MAX_BODY))
        else:
            self._kept.append(data)
            self._kept_size += len(data)

    def finish(self):
        """The exchange ended well; an answer without a body is delivered now."""
        if not self.status:
            self._begin()
        if not self.status:
            raise TransferError(8, shown_url(self.url), "the answer is not HTTP")
        self.body = b"".join(self._kept)

    def field(self, name):
        """The first value of a header field of the answer, "" where there is none."""
        return self.fields.get(name, [""])[0]


# Hints by libcurl's number
TRANSFER_HINTS = {
    5: "the proxy's name is not known: check --httpproxy= and the variables http_proxy and https_proxy",
    6: "the host's name is not known here: check its spelling, the network, and --httpproxy= where one is needed",
    7: "nobody answers there: check host and port, the network, and --httpproxy= where one is needed",
    28: "the network or the server is slow; UDOCKER_TIMEOUT= gives it more time",
    35: "the server does not speak TLS as expected; --insecure also tries http",
    51: "its certificate is for another host; --insecure accepts it all the same",
    60: "its certificate is not trusted here: CURL_CA_BUNDLE names a file of those that are; --insecure accepts any",
    97: "the proxy refused: check the user and password in --httpproxy=",
}


SLOWEST = 100       # bytes per second: what comes slower for the time of the setting timeout has stalled


class PycurlTransport:
    """Transfers by libcurl, through pycurl. Each thread keeps a handle, and with it its connections."""

    def __init__(self, timeout=30, certificates="", certificate_directory=""):
        """`certificates` is a file of those that are trusted in place of the system's."""
        import pycurl
        import threading
        self.pycurl = pycurl
        self.description = " ".join(pycurl.version.split()[:3])
        self.timeout = timeout
        self.certificates = [(option, os.fsencode(path)) for option, path in (
            (pycurl.CAINFO, certificates), (pycurl.CAPATH, certificate_directory)) if path]
        self.handles = threading.local()

    def perform(self, transfer):
        """Make the exchange; TransferError where no complete answer came."""
        handle = getattr(self.handles, "handle", None) or self.pycurl.Curl()
        self.handles.handle = None      # a handle that met an error is not used again: libcurl does not promise it
        handle.reset()
        failures = []
        try:
            self._configure(handle, transfer)
            self._set_body(handle, transfer, failures)
            handle.setopt(self.pycurl.HEADERFUNCTION, self._guarded(transfer.take_header, failures))
            handle.setopt(self.pycurl.WRITEFUNCTION, self._guarded(transfer.take_body, failures))
            with HeldSignals() as held:
                # libcurl asks at least once a second, also while nothing comes
                handle.setopt(self.pycurl.XFERINFOFUNCTION, lambda *_: len(held.received))
                handle.perform()
        except self.pycurl.error as error:
            handle.close()
            if not failures:
                code, reason = error.args[0], error.args[1]
                raise TransferError(code, shown_url(transfer.url), reason or "failed", TRANSFER_HINTS.get(code, ""))
        if failures:
            raise failures[0]
        self.handles.handle = handle
        transfer.finish()

    @staticmethod
    def _guarded(function, failures, failed=0):
        # pycurl would print a traceback of what a callback raises: keep it, and stop the transfer
        def callback(argument):
            try:
                return function(argument)       # None where all is taken
            except BaseException as error:
                failures.append(error)
                return failed
        return callback

    def _configure(self, handle, transfer):
        curl = self.pycurl
        handle.setopt(curl.URL, transfer.url)
        handle.setopt(curl.NOSIGNAL, 1)
        handle.setopt(curl.NOPROGRESS, 0)
        handle.setopt(curl.PROTOCOLS, curl.PROTO_HTTP | curl.PROTO_HTTPS)
        handle.setopt(curl.HTTPHEADER, ["%s: %s" % field for field in transfer.request_fields])
        handle.setopt(curl.CONNECTTIMEOUT, self.timeout)
        handle.setopt(curl.LOW_SPEED_LIMIT, SLOWEST)
        handle.setopt(curl.LOW_SPEED_TIME, self.timeout * transfer.patience)
        handle.setopt(curl.USERAGENT, "udocker/" + __version__)
        handle.setopt(curl.BUFFERSIZE, 256 << 10)
        if transfer.method == "HEAD":
            handle.setopt(curl.NOBODY, 1)
        if transfer.proxy:
            handle.setopt(curl.PROXY, transfer.proxy.encode("utf-8", "surrogateescape"))
            handle.setopt(curl.NOPROXY, "")
        for option, path in self.certificates:
            handle.setopt(option, path)
        if transfer.insecure:
            handle.setopt(curl.SSL_VERIFYPEER, 0)
            handle.setopt(curl.SSL_VERIFYHOST, 0)

    def _set_body(self, handle, transfer, failures):
        curl, body = self.pycurl, transfer.request_body
        if isinstance(body, Upload):
            body.file.seek(0)
            handle.setopt(curl.UPLOAD, 1)
            handle.setopt(curl.INFILESIZE_LARGE, body.size)
            handle.setopt(curl.READFUNCTION, self._guarded(body.read, failures, curl.READFUNC_ABORT))
            handle.setopt(curl.SEEKFUNCTION, body.file.seek)        # to 0, which it returns: SEEKFUNC_OK
        elif body is not None:
            handle.setopt(curl.POSTFIELDS, body)


class CurlTransport:
    """Transfers by the curl executable, which reads all its options, secrets among them, from a pipe."""

    ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}     # of curl(1), --config

    def __init__(self, executable, timeout=30):
        self.executable = executable
        self.description = executable
        self.timeout = timeout

    def perform(self, transfer):
        """Make the exchange; TransferError where no complete answer came."""
        import re
        import subprocess
        try:
            process = subprocess.Popen([self.executable, "-q", "-K", "-"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise ToolError("%s: %s" % (self.executable, error.strerror))
        with process:
            try:
                process.stdin.write(self._options(transfer).encode("utf-8", "surrogateescape"))
                process.stdin.close()
                self._receive(process.stdout, transfer)
            except BrokenPipeError:
                pass                # curl ended before it read its options: its status tells why
            except BaseException:
                process.kill()
                raise
            talk = process.stderr.read(4096).decode("utf-8", "replace")
        if process.returncode != 0:
            reason = re.sub(r"^curl: \(\d+\) ", "", talk.strip().partition("\n")[0]) or "failed"
            raise TransferError(process.returncode, shown_url(transfer.url), reason,
                                TRANSFER_HINTS.get(process.returncode, ""))
        transfer.finish()

    @staticmethod
    def _receive(stream, transfer):
        # Answers of status 1xx and, to https, a proxy's to CONNECT stand before the real one
        import re
        is_tunnelled = transfer.url.lower().startswith("https:")
        is_interim = True
        while is_interim:
            line = status_line = stream.readline(1 << 20)
            while line.strip():
                transfer.take_header(line)
                line = stream.readline(1 << 20)
            is_interim = bool(line) and (re.match(br"HTTP/\S+ 1", status_line)
                                         or is_tunnelled and stream.peek(5)[:5] == b"HTTP/")
        for data in iter(lambda: stream.read1(256 << 10), b""):
            transfer.take_body(data)

    def _options(self, transfer):
        import re
        options = [("url", transfer.url), ("silent", None), ("show-error", None), ("include", None),
                   ("globoff", None), ("proto", "=http,https"), ("user-agent", "udocker/" + __version__),
                   ("connect-timeout", str(self.timeout)), ("speed-limit", str(SLOWEST)),
                   ("speed-time", str(self.timeout * transfer.patience))]
        options += [("header", "%s: %s" % field) for field in transfer.request_fields]
        if transfer.method == "HEAD":
            options.append(("head", None))
        options += self._body_options(transfer)
        if transfer.proxy:
            options += [("proxy", transfer.proxy), ("noproxy", "")]
        if transfer.insecure:
            options.append(("insecure", None))
        return "".join(name + "\n" if value is None else '%s = "%s"\n' % (
            name, re.sub(r'["\\\n\r\t]', lambda match: self.ESCAPES[match.group()], value)) for name, value in options)

    @staticmethod
    def _body_options(transfer):
        body = transfer.request_body
        if isinstance(body, Upload):
            if transfer.url.partition("?")[0].endswith("/"):
                raise TransferError(1, shown_url(transfer.url), "curl would put the name of a file behind this address")
            return [("upload-file", body.path)]
        if body is None:
            return []
        # data-raw is newer than the curl of RHEL 7, and differs for this first letter alone
        return [("data-raw" if body.startswith("@") else "data", body)]


def choose_transport(curl_executable, timeout, environment):
    """The curl executable that was asked for, else pycurl, else curl in the search path. `environment` may name, as for
    curl, the certificates to be trusted. curl(1)"""
    if curl_executable:
        return CurlTransport(curl_executable, timeout)
    try:
        return PycurlTransport(timeout, environment.get("CURL_CA_BUNDLE") or environment.get("SSL_CERT_FILE", ""),
                               environment.get("SSL_CERT_DIR", ""))
    except Exception as error:      # it is missing, or for another Python
        say.debug("pycurl: %s" % error)
        found = Host.find_executable("curl")
        if not found:
            raise ToolError("neither pycurl nor the curl executable is there, so nothing can be downloaded",
                            "install one of them, or name a curl in UDOCKER_USE_CURL_EXECUTABLE")
        return CurlTransport(found, timeout)


class HttpClient:
    """Exchanges with redirects followed and failures retried; one object for a whole command."""

    MAX_REDIRECTS = 10
    MAX_WAIT = 120          # seconds: a server that asks for more is not waited for

    def __init__(self, transport, proxy="", insecure=False, retries=4, delay=2.0):
        import random
        import time
        self.transport = transport
        self.proxy = proxy
        self.insecure = insecure
        self.retries = retries
        self.delay = delay
        self.reached = set()        # beginnings of URLs, up to the path: servers that have answered
        self.sleep = time.sleep
        self.random = random.random

    def exchange(self, url, method="GET", fields=(), body=None, deliver=None):
        """One answer, of whatever status, at the end of its redirects.

        Credentials are for the server they were meant for: the Authorization field is dropped at the first
        redirect to another scheme, host or port, and does not come back.
        """
        for _ in range(self.MAX_REDIRECTS + 1):
            transfer = Transfer(url, method, fields, body, self.proxy or None, self.insecure, deliver)
            say.debug("%s %s" % (method, shown_url(url)))
            server = "/".join(transfer.url.split("/", 3)[:3])
            try:
                self.transport.perform(transfer)
            except TransferError as error:
                error.was_reached = server in self.reached
                raise
            self.reached.add(server)
            say.debug("%d from %s" % (transfer.status, shown_url(url)))
            if transfer.status not in (301, 302, 303, 307, 308) or "location" not in transfer.fields:
                return transfer
            target, fields = self.follow(url, transfer.field("location"), fields)
            # A secret or a blob is meant for one server, and to be sent again only where that says so
            if body is not None and (split_url(target) != split_url(url) or transfer.status not in (307, 308)):
                raise TransferError(1, shown_url(url), "a request with a body was redirected")
            url = target
        raise TransferError(47, shown_url(url), "redirected in a circle")

    def follow(self, url, location, fields=()):
        """(URL, header fields) of the place where an answer from `url` sends what was asked with these fields."""
        from urllib.parse import urljoin
        try:
            target = urljoin(url, location)
            here, there = split_url(url), split_url(target)
        except ValueError:
            raise TransferError(1, shown_url(url), "redirected to %r, which is no http address" % location[:200])
        if (here[0], there[0]) == ("https", "http") and not self.insecure:
            raise TransferError(1, shown_url(url), "redirected from https to http", "--insecure follows it")
        if here != there:
            fields = [field for field in fields if field[0].lower() != "authorization"]
        return target, fields

    def persist(self, attempt, progress=lambda: 0):
        """The result of `attempt()`, tried again while what fails may pass.

        `progress` counts bytes: an attempt that brought the work forward starts the count of failures anew.
        """
        failures, best = 0, progress()
        while True:
            try:
                return attempt()
            except TransferError as error:
                if progress() > best:
                    failures, best = 0, progress()
                delay = self.delay * 2 ** min(failures, 20) * (1 + self.random() / 4)
                delay = error.retry_after or min(delay, self.MAX_WAIT)
                if not error.is_passing or failures >= self.retries or delay > self.MAX_WAIT:
                    raise
                failures += 1
                say.info("%s; again in %.0f s" % (error.message, delay))
                self.sleep(delay)


# ======================================================================================================
# 6  Registry
# ======================================================================================================

class Credential:
    """What a user can show to a registry: a name and password, or a token got from it earlier."""

    def __init__(self, user="", password="", identity_token="", registry_token=""):
        self.user = user
        self.password = password
        self.identity_token = identity_token
        self.registry_token = registry_token

    @classmethod
    def decode(cls, auth):
        """From base64 of user:password; None where it is something else. Passwords may hold colons."""
        import base64
        try:
            text = base64.b64decode(auth).decode("utf-8").rstrip("\0")
        except (ValueError, TypeError, AttributeError):
            return None
        user, colon, password = text.partition(":")
        return cls(user, password) if colon and user else None

    def encode(self):
        """base64 of user:password."""
        import base64
        pair = "%s:%s" % (self.user, self.password)
        return base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode("ascii")

    def basic(self):
        """The Authorization field of the Basic scheme. RFC 7617."""
        return ("Authorization", "Basic " + self.encode())


class Keystore:
    """Credentials by registry host: udocker's own file, then the files that docker and podman write.

    Only the first is ever written. Order of the others: containers-auth.json(5).
    """

    HUB_KEY = "https://registry-1.docker.io"        # as the older udocker spells it

    def __init__(self, path, environment, home):
        self.path = path
        runtime = environment.get("XDG_RUNTIME_DIR", "")
        self.foreign = [path for path in (
            environment.get("REGISTRY_AUTH_FILE", ""),
            runtime and runtime + "/containers/auth.json",
            (environment.get("XDG_CONFIG_HOME") or home + "/.config") + "/containers/auth.json",
            (environment.get("DOCKER_CONFIG") or home + "/.docker") + "/config.json", home + "/.dockercfg") if path]
        self.environment = environment

    @staticmethod
    def host_of(key):
        """The host that a key stands for: a host, or a URL as old docker and udocker write; one for all of the Hub."""
        import re
        host = re.sub(r"^https?://", "", key).partition("/")[0].lower()
        return "docker.io" if host in Reference.HUB_HOSTS else host

    @classmethod
    def is_key_of(cls, key, host):
        """Whether a key stands for all of a host: docker's old keys are URLs, others with a path are podman's."""
        import re
        return cls.host_of(key) == host and ("://" in key or re.search(r"^[^/]*(/v[12]/?)?$", key) is not None)

    def credential(self, url, repository):
        """The Credential for a repository at a registry, None where there is none."""
        host = self.host_of(url)
        for key, entry in self._own().items():
            if self.is_key_of(key, host) and isinstance(entry, dict):
                found = Credential.decode(entry.get("auth"))
                if found:
                    return found
        for path in self.foreign:
            found = self._from_foreign(path, host, repository)
            if found:
                return found
        return None

    def _own(self):
        data = read_file(self.path)
        if not data:
            return {}
        if os.stat(self.path).st_mode & 0o077:
            raise SettingError("%s: others can read the credentials in it" % self.path, "chmod 600 " + self.path)
        try:
            return parse_json(data, self.path)
        except DocumentError as error:
            raise SettingError(error.message, "remove it with udocker logout -a, and log in again")

    def put(self, url, credential):
        """Keep a credential for the registry at a URL, in place of what is kept for it."""
        host = self.host_of(url)
        key = self.HUB_KEY if host == "docker.io" else "https://" + host if url.startswith("https:") else host
        with self._locked():
            entries = {name: entry for name, entry in self._own().items() if not self.is_key_of(name, host)}
            entries[key] = {"auth": credential.encode(), "email": ""}
            self._write(entries)

    def remove(self, url):
        """Forget what is kept for a registry; NotFoundError where that is nothing."""
        host = self.host_of(url)
        with self._locked():
            entries = self._own()
            kept = {name: entry for name, entry in entries.items() if not self.is_key_of(name, host)}
            if len(kept) == len(entries):
                raise NotFoundError("no credentials are kept for %s" % host, "udocker login stores them")
            self._write(kept)

    def clear(self):
        """Forget everything."""
        if os.path.lexists(self.path):
            with self._locked():
                remove_file(self.path)

    def _locked(self):
        directory = os.path.dirname(os.path.abspath(self.path))
        make_directory(directory, 0o700)
        return Lock(directory + "/.keystore-lock")

    def _write(self, entries):
        write_atomic(os.path.realpath(self.path), dump_json(entries).encode("utf-8"), 0o600)

    def _from_foreign(self, path, host, repository):
        try:
            data = read_file(path)
            document = parse_json(data, path) if data else {}
        except (OSError, DocumentError) as error:
            say.debug("credentials: %s" % error)
            return None
        helpers, entries = object_of(document.get("credHelpers")), object_of(document.get("auths", document))
        helper = next((name for key, name in helpers.items() if self.is_key_of(key, host)), None)
        if helper:
            return self._ask_helper(helper, host)
        for entry in self._matching(entries, host, repository):
            found = self._from_entry(entry)
            if found:
                return found
        return self._ask_helper(document["credsStore"], host) if document.get("credsStore") else None

    def _matching(self, entries, host, repository):
        """The entries for a repository: podman also has keys of host/namespace/repository, of which the most specific
        one counts."""
        wanted = (host + "/" + repository).split("/")
        for match in ["/".join(wanted[:length]) for length in range(len(wanted), 0, -1)]:
            for key, entry in entries.items():
                if isinstance(entry, dict) and (key == match or match == host and self.is_key_of(key, host)):
                    yield entry

    @staticmethod
    def _from_entry(entry):
        identity, token = entry.get("identitytoken"), entry.get("registrytoken")
        if identity or token:
            return Credential(identity_token=str(identity or ""), registry_token=str(token or ""))
        return Credential.decode(entry.get("auth"))

    def _ask_helper(self, name, host):
        """https://github.com/docker/docker-credential-helpers : the program may have nothing, or be missing."""
        server = "https://index.docker.io/v1/" if host == "docker.io" else host
        program = Host.find_executable("docker-credential-%s" % name)
        if not program:
            return None
        try:
            status, out, _ = run_program([program, "get"], self.environment, server)
            answer = parse_json(out.encode("utf-8"), program) if status == 0 else {}
        except (ToolError, DocumentError) as error:
            say.debug("credentials: %s" % error)
            return None
        user, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
        if user == "<token>":
            return Credential(identity_token=secret)
        return Credential(user, secret) if user else None


def _retry_after(text):
    """Seconds to wait, from seconds or an HTTP date; 0 where the text is neither. RFC 9110, 10.2.3."""
    import re
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    import email.utils
    import time
    try:
        moment = email.utils.parsedate_tz(text) if text else None
        return max(email.utils.mktime_tz(moment) - time.time(), 0) if moment else 0
    except (ValueError, OverflowError, IndexError, TypeError):      # the last two: Python before 3.10
        return 0


def without_secrets(text, transfer):
    """What a server says without what it was shown: some repeat tokens, and so would tell them to every log."""
    from urllib.parse import parse_qs
    form = transfer.request_body if isinstance(transfer.request_body, str) else ""
    shown = parse_qs(form).get("refresh_token", [])
    for name, value in transfer.request_fields:
        if name == "Authorization":
            word = value.partition(" ")[2]
            credential = Credential.decode(word)
            shown += [word] + ([credential.password] if credential else [])
    for secret in filter(None, shown):
        text = text.replace(secret, "***")
    return text


MOST_ERRORS = 5         # of one answer that are told


def error_from(transfer, what):
    """The RegistryError that an answer of status 400 or above means. OCI distribution-spec, Error Codes."""
    try:
        entries = objects_of(parse_json(transfer.body, what).get("errors"))
    except DocumentError:
        entries = []
    reason = "; ".join(without_secrets(str(entry.get("message") or entry.get("code")), transfer)[:300]
                       for entry in entries[:MOST_ERRORS])
    if transfer.status in (401, 403):
        return AuthError(transfer.status, what, reason or "access denied",
                         "the name may be misspelt, or the image private: udocker login keeps credentials for it")
    if transfer.status == 413:
        return RegistryError(413, what, reason, "the registry, or a proxy before it, takes nothing of this size")
    limit, remaining = transfer.field("ratelimit-limit"), transfer.field("ratelimit-remaining")
    if transfer.status == 429 and (remaining.startswith("0") or "pull rate limit" in reason.lower()
                                   or "pull limit" in reason.lower()):
        reason = reason or "pull limit reached"
        if limit:
            reason += " (limit %s, remaining %s)" % (limit.partition(";")[0], remaining.partition(";")[0])
        hint = "the limit counts %s: wait, log in with udocker login, or use a mirror with --registry=" % (
            transfer.field("docker-ratelimit-source") or "all users behind this network address")
        return RegistryError(429, what, reason, hint, is_passing=False)
    hint = "" if transfer.status < 500 else "the registry is in trouble: try again later"
    return RegistryError(transfer.status, what, reason, hint, _retry_after(transfer.field("retry-after")))


def download(client, url, path):
    """Write what lies at a URL into a new file."""
    say.info("fetching %s" % shown_url(url))

    def attempt():
        with NewFile(path) as file:
            answer = client.exchange(url, deliver=lambda status, _: file.write if status == 200 else None)
        if answer.status != 200:
            raise error_from(answer, shown_url(url))

    client.persist(attempt)


class NoAuthorization:
    """The first step of the ladder: an open registry."""

    def fields(self, scope):
        """The header fields that a request for `scope` must carry."""
        return []

    def forget(self, scope):
        """What was shown for `scope` was refused: do not show it again."""


class BasicAuthorization(NoAuthorization):
    """User and password with each request. RFC 7617."""

    def __init__(self, credential):
        self.credential = credential

    def fields(self, scope):
        return [self.credential.basic()]


class BearerAuthorization(NoAuthorization):
    """A token for each scope, from the server that the challenge names.

    https://distribution.github.io/distribution/spec/auth/token/ and .../auth/oauth/
    """

    MIN_LIFE = 60       # seconds: what a token lives where nothing is said, and what docker always trusts it

    def __init__(self, client, registry_url, parameters, credential):
        import threading
        import time
        self.client = client
        self.registry_url = registry_url
        self.service = parameters.get("service", "")
        # A challenge of /v2/ can only hold a placeholder for a repository; other scopes (ECR's "aws") are meant
        scope = parameters.get("scope", "")
        self.fixed_scope = "" if scope.startswith("repository:") else scope
        self.credential = credential
        self.realm = self._realm(parameters.get("realm", ""))
        self.tokens = {}
        self.lock = threading.Lock()
        self.clock = time.monotonic

    def _realm(self, text):
        from urllib.parse import urljoin
        shown = shown_url(self.registry_url)
        try:
            realm = urljoin(self.registry_url, text)
            here, there = split_url(self.registry_url), split_url(realm)
        except ValueError:
            raise RegistryError(401, shown, "the token server %r is no http address" % text[:200])
        if here[0] == "https" and there[0] == "http" and not self.client.insecure:
            raise RegistryError(401, shown, "its token server is not on https: " + shown_url(realm))
        if here != there and is_private(there[1]) and not is_private(here[1]):
            raise RegistryError(401, shown, "its token server is the private address " + there[1])
        self.is_trusted = here[1] == there[1] or there[0] == "https"
        if self.credential and here[1] != there[1]:
            say.info("%s for %s is on another host, %s" % (
                "the token server" if self.is_trusted else "no credentials are shown: the token server",
                here[1], shown_url(realm)))
        return realm

    def fields(self, scope):
        with self.lock:
            token, deadline = self.tokens.get(scope, ("", 0))
            if not token or self.clock() > deadline:
                token, life = self.client.persist(lambda: self._fetch(scope))
                self.tokens[scope] = token, self.clock() + 0.8 * max(life, self.MIN_LIFE)
        return [("Authorization", "Bearer " + token)]

    def forget(self, scope):
        with self.lock:
            self.tokens.pop(scope, None)

    def _fetch(self, scope):
        credential = self.credential if self.is_trusted else None
        scope = self.fixed_scope or scope
        if credential and credential.registry_token:
            return credential.registry_token, self.MIN_LIFE
        answer = None
        if credential and credential.identity_token:
            answer = self._post(credential, scope)
        if answer is None or answer.status in (404, 405):
            answer = self._get(credential, scope)
        if answer.status != 200:
            raise error_from(answer, shown_url(self.realm))
        return self._read(answer.body)

    def _query(self, pairs):
        from urllib.parse import urlencode
        return urlencode([(name, value) for name, value in pairs if value])

    def _get(self, credential, scope):
        user = credential.user if credential else ""
        scopes = [("scope", word) for word in scope.split()]
        query = self._query([("account", user)] + scopes + [("service", self.service)])
        url = self.realm + ("&" if "?" in self.realm else "?") + query
        return self.client.exchange(url, fields=[credential.basic()] if user else [])

    def _post(self, credential, scope):
        body = self._query([("grant_type", "refresh_token"), ("refresh_token", credential.identity_token),
                            ("service", self.service), ("scope", scope), ("client_id", "udocker")])
        return self.client.exchange(self.realm, "POST", body=body)

    def _read(self, body):
        document = parse_json(body, shown_url(self.realm))
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token:
            raise RegistryError(401, shown_url(self.realm), "the token server gave no token")
        life = document.get("expires_in")
        return token, min(life, 86400) if isinstance(life, int) else 0


def pull_scope(repository):
    """What a token must allow for a pull. https://distribution.github.io/distribution/spec/auth/scope/"""
    return "repository:%s:pull" % repository


def push_scope(repository):
    """The same for a push."""
    return "repository:%s:pull,push" % repository


class Registry:
    """One registry: manifests and blobs, with whatever authorisation it asks for.

    OCI distribution-spec, Pulling manifests, Pulling blobs and Pushing manifests.
    """

    MANIFEST_TYPES = (INDEX_TYPE, MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json",
                      DOCKER_MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v1+prettyjws",
                      "application/vnd.docker.distribution.manifest.v1+json")

    def __init__(self, client, address, find_credential):
        """`address` is a URL, or HOST[:PORT]; `find_credential(url)` gives a Credential or None."""
        import threading
        self.client = client
        self.find_credential = find_credential
        self.candidates = self._candidates(address.rstrip("/"))
        self.url = self.candidates[0]
        self.host = split_url(self.url)[1]
        self.name = shown_url(self.url).partition("://")[2]
        self.authorization = None
        self.lock = threading.Lock()
        self.warnings = set()

    def _candidates(self, address):
        """Base URLs to be tried in order: http only where it was asked for and may be, or on this machine."""
        text = address if "://" in address else "https://" + address
        try:
            scheme, host, _ = split_url(text)
        except ValueError:
            raise UsageError("%r is not the address of a registry" % address,
                             "write https://HOST[:PORT] or HOST[:PORT]")
        may_be_plain = self.client.insecure or is_loopback(host)
        if scheme == "http" and not may_be_plain:
            raise UsageError("%s: a registry is spoken to over http only with --insecure" % shown_url(address))
        if "://" in address or not may_be_plain:
            return [text]
        return [text, "http://" + address]

    def connect(self):
        """Find how the registry is spoken to, and what authorisation it wants; once."""
        with self.lock:
            if self.authorization is None:
                self.authorization = self._ladder(self._ping())

    def _ping(self):
        """The challenges of /v2/, which every registry answers first."""
        for url in self.candidates:
            self.url = url
            try:
                answer = self.client.persist(lambda: self.client.exchange(self.url + "/v2/"))
                break
            except TransferError as error:
                if url == self.candidates[-1] or error.code not in (7, 28, 35, 52, 56):
                    raise
                say.debug("%s: %s; trying http" % (url, error.message))
        if split_url(answer.url)[1:] not in (split_url(self.url)[1:], (self.host, 443)):
            say.debug("%s/v2/ is redirected to another host, which is shown no credentials" % self.url)
            return []
        return Challenge.parse_all(answer.fields.get("www-authenticate", ())) if answer.status == 401 else []

    def _ladder(self, challenges):
        """The authorisation for these challenges: Bearer before Basic before none."""
        credential = self.find_credential(self.url)
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return BearerAuthorization(self.client, self.url, challenge.parameters, credential)
        if credential and credential.user and any(challenge.scheme == "basic" for challenge in challenges):
            return BasicAuthorization(credential)
        return NoAuthorization()

    def check(self):
        """RegistryError unless the registry accepts the credential that it is shown."""
        self.connect()
        if isinstance(self.authorization, BearerAuthorization) and not self.authorization.is_trusted:
            raise RegistryError(401, self.name, "its token server is on another host and not on https")
        answer = self.client.exchange(self.url + "/v2/", fields=self.authorization.fields(""))
        if answer.status >= 400:
            raise error_from(answer, self.name)

    def ask(self, path, scope, method="GET", fields=(), deliver=None, body=None):
        """One answer of status below 400, authorised; what the server refuses becomes the error that it means."""
        self.connect()
        return self.ask_at(self.url + path, scope, method, fields, deliver, body)

    def ask_at(self, url, scope, method="GET", fields=(), deliver=None, body=None):
        """The same at an address that the registry gave: another server's is shown no credentials."""
        is_own = split_url(url) == split_url(self.url)
        for attempt in range(3):
            authorization = self.authorization if is_own else NoAuthorization()
            answer = self.client.exchange(url, method, list(fields) + authorization.fields(scope), body, deliver)
            if answer.status >= 400 and (not is_own or split_url(answer.url) != split_url(url)):
                # A storage server's word on a signed address, which expires: the registry gives a new one
                raise RegistryError(answer.status, shown_url(answer.url), "from a server that the registry named",
                                    is_passing=body is None or answer.status == 403 or answer.status >= 500)
            if answer.status != 401:
                break
            scope = self._answer_refusal(authorization, answer, scope)
        self._show_warnings(answer)
        if answer.status >= 400:
            raise error_from(answer, shown_url(url).partition("://")[2])
        return answer

    def _answer_refusal(self, authorization, answer, scope):
        """After a 401: forget what was shown and climb the ladder anew; returns the scope to ask for."""
        authorization.forget(scope)
        challenges = Challenge.parse_all(answer.fields.get("www-authenticate", ()))
        for challenge in challenges:
            if challenge.parameters.get("error") == "insufficient_scope" and challenge.parameters.get("scope"):
                return challenge.parameters["scope"]
        with self.lock:
            if self.authorization is authorization:
                was_open = type(authorization) is NoAuthorization
                self.authorization = self._ladder(challenges if was_open and challenges else self._ping())
        return scope

    def _show_warnings(self, answer):
        """Warning: 299 - "text". OCI distribution-spec, Warnings."""
        import re
        for value in answer.fields.get("warning", ()):
            match = re.match(r'299 - "((?:[^"\\]|\\.)*)"', value)
            if match and match.group(1) not in self.warnings:
                self.warnings.add(match.group(1))
                say.warning("%s says: %s" % (self.name, without_secrets(match.group(1), answer)))

    def manifest_digest(self, repository, version):
        """The digest behind a tag by HEAD, which counts against no limit; "" where the registry does not say."""
        if is_digest(version):
            return version
        path, scope = "/v2/%s/manifests/%s" % (repository, version), pull_scope(repository)
        try:
            answer = self.client.persist(lambda: self.ask(path, scope, "HEAD", self._accept()))
        except RegistryError as error:
            if error.status in (400, 404, 405, 406, 501):       # there are some that know no HEAD: GET will tell
                return ""
            raise
        digest = answer.field("docker-content-digest")
        return digest if is_digest(digest) else ""

    def manifest(self, repository, version):
        """The bytes of a manifest or index; checked against `version` where that is a digest."""
        path, scope = "/v2/%s/manifests/%s" % (repository, version), pull_scope(repository)
        answer = self.client.persist(lambda: self.ask(path, scope, "GET", self._accept()))
        digest = manifest_digest(answer.body)
        claimed = version if is_digest(version) else answer.field("docker-content-digest")
        if is_digest(claimed) and digest != claimed and sha256_digest(answer.body) != claimed:
            raise DigestError("%s%s: the manifest does not have the digest %s" % (self.name, path, claimed),
                              "the registry or a proxy on the way is broken: try again, or another mirror")
        return answer.body

    def _accept(self):
        return [("Accept", ", ".join(self.MANIFEST_TYPES)), ("Accept-Encoding", "identity")]

    def put_manifest(self, repository, tag, content, digest, media_type):
        """Publish a manifest, an Upload of this digest, under a tag; its blobs must be there."""
        path, fields = "/v2/%s/manifests/%s" % (repository, tag), [("Content-Type", media_type)]
        answer = self.client.persist(lambda: self.ask(path, push_scope(repository), "PUT", fields, body=content))
        told = answer.field("docker-content-digest")
        if told not in ("", digest):
            raise DigestError("%s%s: it took the manifest for another one, %s" % (self.name, path, printable(told)),
                              "the registry or a proxy on the way is broken: try again")


class BlobFetch:
    """Brings one blob of a registry into a part, from where an earlier attempt stopped. OCI distribution-spec, Pulling
    blobs.

    The part has `size` (bytes there), `restart()`, `write(data)` and `verify()`, which raises DigestError.
    """

    MAX_FOREIGN_URLS = 3
    # A gzip'ed tar of nothing, which schema 1 names often and some registries do not even have
    EMPTY_LAYER = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"
    EMPTY_LAYER_BYTES = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")

    def __init__(self, registry, repository, descriptor, part):
        self.registry = registry
        self.client = registry.client
        self.scope = pull_scope(repository)
        self.path = "/v2/%s/blobs/%s" % (repository, descriptor.digest)
        self.shown = registry.name + self.path
        self.descriptor = descriptor
        self.part = part
        self.was_resumed = part.size > 0

    def run(self):
        """Fetch it whole and verified; TransferError or DigestError where nobody has it."""
        if self.descriptor.digest == self.EMPTY_LAYER:
            self.part.restart()
            self.part.write(self.EMPTY_LAYER_BYTES)
            self.part.verify()
            return
        for url in self._foreign_urls():
            try:
                self._fetch(lambda: self._attempt_elsewhere(url))
                return
            except (TransferError, DigestError) as error:
                say.debug("%s; asking the registry" % error.message)
        self._fetch(lambda: self.client.persist(self._attempt, lambda: self.part.size))

    def _foreign_urls(self):
        """Where a layer that its maker distributes himself may be had: a few addresses, no more private or less safe
        than the registry. OCI image-spec, layer.md, Non-Distributable Layers."""
        kind = self.descriptor.media_type
        found, is_near = [], is_private(self.registry.host)
        for url in self.descriptor.urls if "foreign" in kind or "nondistributable" in kind else ():
            try:
                scheme, host, _ = split_url(url)
            except ValueError:
                continue
            if (scheme == "https" or self.client.insecure or is_near) and (is_near or not is_private(host)):
                found.append(url)
        return found[:self.MAX_FOREIGN_URLS]

    def _fetch(self, fetch):
        """fetch(), and look; where what an earlier command left was bad, once more from the beginning."""
        fetch()
        try:
            self.part.verify()
        except DigestError:
            if not self.was_resumed:
                raise
            fetch()
            self.part.verify()

    def _attempt_elsewhere(self, url):
        """One attempt from a foreign layer's own URL, without any credential."""
        def ask(fields):
            answer = self.client.exchange(url, fields=fields, deliver=self._deliver)
            if answer.status >= 400:
                raise error_from(answer, shown_url(url))
            return answer

        self._receive(ask)

    def _attempt(self):
        """One attempt from the registry."""
        self._receive(lambda fields: self.registry.ask(self.path, self.scope, "GET", fields, self._deliver))

    def _receive(self, ask):
        """Take what ask(header fields) answers, from where the part ends."""
        size, wanted = self.part.size, self.descriptor.size
        fields = [("Accept-Encoding", "identity")] + [("Range", "bytes=%d-" % size)] * (size > 0)
        try:
            answer = ask(fields)
        except RegistryError as error:
            if error.status != 416 or not size:
                raise
            if size != wanted:
                self.part.restart()
                raise RegistryError(416, self.shown, "it cannot go on where the last download stopped", is_passing=True)
            return
        if answer.status not in (200, 206):
            raise RegistryError(answer.status, self.shown, "no answer to a request for a blob")
        if wanted is not None and self.part.size < wanted:
            raise TransferError(18, self.shown, "%d of %d bytes came" % (self.part.size, wanted))

    def _deliver(self, status, header):
        """The function that takes the bytes of an answer; None where it holds none of the blob."""
        if status == 206 and self._continues(header, self.part.size):
            return self.part.write
        if status not in (200, 206):
            return None
        self.part.restart()
        if status == 206:
            raise RegistryError(206, self.shown, "it sent another part than was asked for", is_passing=True)
        return self.part.write

    @staticmethod
    def _continues(header, offset):
        """Whether an answer of status 206 begins at `offset` and goes on to the end."""
        import re
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", header.get("content-range", [""])[0].strip())
        return bool(match) and int(match.group(1)) == offset and (
            match.group(3) == "*" or int(match.group(2)) + 1 == int(match.group(3)))


class BlobPush:
    """Brings one blob, an Upload, into a repository of a registry, unless it is there. OCI distribution-spec, Pushing
    blobs: POST then PUT, and Mounting a blob from another repository."""

    FIELDS = [("Content-Type", "application/octet-stream")]

    def __init__(self, registry, repository, digest, content, source=""):
        """`source` is another repository of the registry that may have it."""
        self.registry = registry
        self.digest = digest
        self.content = content
        self.source = source
        self.path = "/v2/%s/blobs/" % repository
        self.scope = push_scope(repository)
        self.was_sent = False

    def run(self):
        """See to it that it is there; `was_sent` tells whether it had to be sent for that."""
        if self._is_there():
            return
        mounting = self._ask_to_mount() if self.source else None
        if mounting and mounting.status == 201:
            return
        starts = [mounting] if mounting else []     # what cannot be mounted may be sent at once
        self.registry.client.persist(lambda: self._send(starts.pop() if starts else self._start()))
        self.was_sent = True

    def _is_there(self):
        """As far as the registry tells: there are some that know no HEAD."""
        try:
            self.registry.client.persist(lambda: self.registry.ask(self.path + self.digest, self.scope, "HEAD"))
        except RegistryError as error:
            if isinstance(error, AuthError) or error.is_passing:
                raise
            return False
        return True

    def _start(self, query="", scope=""):
        return self.registry.ask(self.path + "uploads/" + query, scope or self.scope, "POST", self.FIELDS, body="")

    def _ask_to_mount(self):
        """The answer of a registry that can, or else begins to take it; None where it does neither."""
        from urllib.parse import quote
        query = "?mount=%s&from=%s" % (self.digest, quote(self.source, safe=""))
        try:
            return self._start(query, "%s %s" % (self.scope, pull_scope(self.source)))
        except TransferError as error:
            say.debug("%s: not mounted: %s" % (self.digest, error.message))
            return None

    def _send(self, start):
        if start.status != 202 or not start.field("location"):
            raise RegistryError(start.status, self.registry.name + self.path, "no place to send the blob to")
        url = self.registry.client.follow(start.url, start.field("location"))[0]
        if is_private(split_url(url)[1]) and not is_private(self.registry.host):
            raise RegistryError(start.status, self.registry.name, "it wants the blob sent to a private address")
        url += ("&" if "?" in url else "?") + "digest=" + self.digest
        self.registry.ask_at(url, self.scope, "PUT", self.FIELDS, body=self.content)


def next_page(registry, answer):
    """The path of the page that follows an answer, "" at the end. RFC 8288; only the registry itself is followed."""
    import re
    from urllib.parse import urljoin
    for value in answer.fields.get("link", ()):
        match = re.match(r'\s*<([^>]*)>\s*;.*\brel="?next\b', value)
        if match:
            try:
                target = urljoin(answer.url, match.group(1))
            except ValueError:
                continue
            if target.startswith(registry.url + "/"):
                return target[len(registry.url):]
            say.debug("the next page is elsewhere, and not followed: %s" % shown_url(target))
    return ""


MOST_PAGES = 10000


def listed_pages(registry, path, key, scope):
    """Lists of strings, a page each, of a list that a registry has. OCI distribution-spec, Content Discovery"""
    seen = set()
    while path and path not in seen:
        if len(seen) >= MOST_PAGES:
            raise DocumentError("%s: a list of more than %d pages" % (registry.name, MOST_PAGES))
        seen.add(path)
        answer = registry.client.persist(lambda: registry.ask(path, scope))
        yield strings_of(parse_json(answer.body, registry.name + path).get(key))
        path = next_page(registry, answer)


class SearchResult:
    """One repository that a search found; `stars` is None where nobody counts them."""

    def __init__(self, name, description="", stars=None, is_official=False):
        self.name = name
        self.description = description
        self.stars = stars
        self.is_official = is_official

    @classmethod
    def parse(cls, entry):
        """From an entry of version 1 of the protocol, https://docs.docker.com/reference/cli/docker/search/"""
        words = [value if isinstance(value, str) else "" for value in (entry.get("name"), entry.get("description"))]
        stars = entry.get("star_count")
        return cls(words[0], words[1], stars if isinstance(stars, int) else None, entry.get("is_official") is True)


SEARCH_PAGE_SIZE, MOST_SEARCH_PAGES = 100, 1000
# What a registry answers that has no such search
NO_SEARCH = (400, 401, 403, 404, 405, 406, 410, 501)


def indexed_pages(registry, term):
    """Lists of SearchResult, a page each, by the search of docker's index."""
    from urllib.parse import urlencode

    def attempt():
        answer = registry.client.exchange(url)
        if answer.status >= 300:
            raise error_from(answer, shown_url(url))
        return parse_json(answer.body, shown_url(url))

    for number in range(1, MOST_SEARCH_PAGES):
        url = registry.url + "/v1/search?" + urlencode(
            [("q", os.fsencode(term)), ("n", SEARCH_PAGE_SIZE), ("page", number)])
        page = registry.client.persist(attempt)
        found = [SearchResult.parse(entry) for entry in objects_of(page.get("results"))]
        yield [result for result in found if result.name]
        pages = page.get("num_pages")
        if not found or not isinstance(pages, int) or number >= pages:
            return


def found_pages(registry, term):
    """The same by that search where the registry has it, else through its catalogue."""
    pages = indexed_pages(registry, term)
    try:
        yield next(pages)
    except (RegistryError, DocumentError) as error:
        if getattr(error, "status", 404) not in NO_SEARCH:
            raise
        say.debug("%s; looking into the catalogue" % error)
        for names in listed_pages(registry, "/v2/_catalog?n=%d" % SEARCH_PAGE_SIZE, "repositories",
                                  "registry:catalog:*"):
            yield [SearchResult(name) for name in names if term.lower() in name.lower()]
    yield from pages


# ======================================================================================================
# 7  Stores
# ======================================================================================================

class Layout:
    """Every path of a store; the same as the older udocker's, so that both programs share one."""

    NEW, REMOVED = ".new-", ".removed-"         # rubbish, unless the process that made it still lives
    RUN = ".run-"                               # before the id of a container that is there for one run alone
    TREE = ".tree-"                             # before the digest of an image, a container that its runs share
    REPOS = ".repos-"                           # links to the images of the stores that share layers/

    def __init__(self, home, **places):
        self.home = os.path.abspath(os.path.expanduser(home))
        for name in ("bin", "lib", "doc", "repos", "layers", "containers"):
            place = places.get(name)
            setattr(self, name, os.path.abspath(os.path.expanduser(place)) if place else self.home + "/" + name)
        self.is_apart = self.layers != self.home + "/layers"        # other stores may have the same blobs then

    def make(self):
        """Make the directories that are missing."""
        for path in (self.home, self.bin, self.lib, self.doc, self.repos, self.layers, self.containers):
            make_directory(path)
        if self.is_apart:
            import zlib
            try:
                os.symlink(self.repos, "%s/%s%08x" % (self.layers, self.REPOS, zlib.crc32(os.fsencode(self.repos))))
            except OSError as error:        # it is there, or these blobs can only be read
                say.debug("%s: %s" % (self.layers, error))

    def all_repos(self):
        """The directories of the images that may have links to these blobs: other stores' too where they share them.
        ConflictError where one of them cannot be seen."""
        links = [self.blob(name) for name in entries_of(self.layers) if name.startswith(self.REPOS)]
        for path in links:
            if not os.access(path, os.R_OK | os.X_OK):
                raise ConflictError("%s: the images of another store, which shares these blobs, cannot be seen" % path,
                                    "look there for what is wrong; remove the link where that store is gone")
        return sorted(set(map(os.path.realpath, [self.repos] + links)))

    @property
    def common(self):
        """Where the locks are: with the blobs where other stores may share them, and they are the caller's own."""
        is_own = self.is_apart and os.access(self.layers, os.W_OK) and os.stat(self.layers).st_uid == os.getuid()
        return self.layers if is_own else self.home

    @staticmethod
    def is_own_name(name):
        """Whether udocker, or the older one, gives files in layers/ such a name: other people's are left alone."""
        import re
        return bool(re.fullmatch(r"(sha256:)?[0-9a-f]{64}([.](layer|json))?|"
                                 r"[.](part|new)-[0-9a-f]+([+][0-9a-f]+)?", name))

    def has(self, path):
        """Whether a path is in the store."""
        return any((path + "/").startswith(place + "/") for place in (
            self.home, self.bin, self.lib, self.doc, self.repos, self.layers, self.containers))

    def blob(self, digest):
        return self.layers + "/" + digest

    def part(self, digest):
        """The file that a download of the blob grows in."""
        return "%s/.part-%s" % (self.layers, digest.partition(":")[2])

    def image(self, name, version):
        """The directory of an image; a tag or a digest is its last component."""
        return "%s/%s/%s" % (self.repos, name, version)

    def container(self, name_or_id):
        return self.containers + "/" + name_or_id

    @property
    def lock(self):
        """Held while blobs are claimed by an image or removed with one."""
        return self.common + "/.lock"

    @property
    def use(self):
        """Held, shared, by who brings blobs, which nothing claims at first; prune only works where it has it alone."""
        return self.common + "/.use"

    @property
    def proofs(self):
        """What was found out about engines on this and other hosts."""
        return self.home + "/.proofs"


def boot_of(host):
    """What tells this machine, as long as it is up, from all others."""
    return host.name + "\n" + host.sysctl("kernel.random.boot_id")


class Findings:
    """What was found out about this host, one small file each: proofs of engines, downloads that failed.

    They are hints and never needed: where they cannot be written, things are found out anew. They lie in the store,
    or in `home` where the store is another user's.
    """

    FAILURE_AGE = 60                # seconds for which a bad finding is believed, where nothing else is said
    STALE_AGE = 30 * 86400          # seconds after which prune takes one away
    RENEWAL_AGE = 86400             # seconds after which a use counts as a new one: a job of many ranks writes once

    def __init__(self, layout, host, home):
        is_own = not os.path.exists(layout.home) or os.stat(layout.home).st_uid == host.uid
        self.directory = layout.proofs if is_own else home + "/.udocker/" + os.path.basename(layout.proofs)
        self.scope = "\n".join((boot_of(host), host.kernel, str(host.uid), __version__) + host.confinement())

    def _key(self, subject):
        return subject + "\n" + self.scope + "\n\n"

    def _path(self, subject):
        import zlib         # a checksum will do, the file holds the key as well: hashlib would cost each run 3 ms
        return "%s/%08x" % (self.directory, zlib.crc32(os.fsencode(self._key(subject))))

    def recall(self, subject, failure_age=FAILURE_AGE):
        """The finding about `subject`, "" being a good one; None where there is none, or it is too old."""
        import time
        path, key = self._path(subject), self._key(subject)
        try:
            text, written_at = os.fsdecode(read_file(path)), os.stat(path).st_mtime
        except OSError:
            return None
        if not text.startswith(key):
            return None
        finding = text[len(key):]
        return finding if not finding or 0 <= time.time() - written_at < failure_age else None

    def stale(self):
        """Paths of the findings that nobody wrote or renewed for long: of hosts, kernels and programs that are gone."""
        import time
        limit = time.time() - self.STALE_AGE
        return [path for path, status in own_entries(self.directory, "") if status.st_mtime < limit]

    def remember(self, subject, finding):
        """Keep a finding about `subject`."""
        try:
            self._make_directory()
            write_atomic(self._path(subject), os.fsencode(self._key(subject) + finding))
        except OSError as error:
            say.debug("%s: %s" % (self.directory, error))

    def _make_directory(self):
        make_directory(os.path.dirname(self.directory))
        make_directory(self.directory, 0o700)

    def _renew(self, path):
        """Let what is used not become stale."""
        import time
        if time.time() - os.stat(path).st_mtime > self.RENEWAL_AGE:
            os.utime(path)

    def keep_file(self, data, owner):
        """The path of a file that holds `data` (bytes), the same in all runs of one container, `owner`, which may write
        to it; OSError where none can be kept."""
        import zlib
        path = "%s/%s%08x-%d" % (self.directory, self._file_prefix(owner), zlib.crc32(data), len(data))
        if read_file(path) != data:
            self._make_directory()
            write_atomic(path, data, 0o600)
        self._renew(path)
        return path

    @staticmethod
    def _file_prefix(owner):
        import zlib
        return "file-%08x-" % zlib.crc32(os.fsencode(owner))

    def drop_files(self, owner):
        """Forget the files that were kept for a container, which has gone."""
        prefix = self._file_prefix(owner)
        for name in entries_of(self.directory):
            if name.startswith(prefix):
                remove_file(self.directory + "/" + name)

    def keep_links(self, links):
        """The path of a directory that holds these symbolic links, {name: target}, and no others.

        The same links are the same directory, which is there whole or not at all: many processes may ask at once.
        """
        text = "\n".join("%s %s" % link for link in sorted(links.items()))
        path = "%s/links-%s" % (self.directory, sha256_digest(os.fsencode(text))[-32:])
        if os.path.isdir(path):
            self._renew(path)
            return path
        new = new_path(self.directory)
        self._make_directory()
        try:
            for name, target in links.items():
                make_directory(os.path.dirname("%s/%s" % (new, name)))
                os.symlink(target, "%s/%s" % (new, name))
            os.rename(new, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):      # another process was faster
                raise
        finally:
            remove_tree(new)
        return path


class BlobPart:
    """A blob on its way into the store: grows across attempts and processes, is checked, then published.

    Use in a `with` block, which holds the lock on it: a second process that wants the same blob waits, then
    finds it there.
    """

    def __init__(self, layout, descriptor, watch=lambda done: None):
        import hashlib
        self.digest = descriptor.digest
        self.expected_size = descriptor.size
        self.blob_path = layout.blob(descriptor.digest)
        self.path = layout.part(descriptor.digest)
        self.watch = watch
        self.new_hash = hashlib.sha256
        self.size = 0

    def __enter__(self):
        self.file = self._open()
        self.hash = self.new_hash()
        for data in iter(lambda: os.read(self.file.descriptor, 1 << 20), b""):
            self.hash.update(data)
            self.size += len(data)
        if self.is_there or self._is_too_long:
            self.restart()
        return self

    def _open(self):
        """The locked file; where it was published or removed while we waited for the lock, a new one."""
        while True:
            lock = Lock(self.path, needs_file=True)
            lock.acquire()
            if not lock.is_held and "+" not in self.path:       # without locks each process has a part of its own
                if not os.fstat(lock.descriptor).st_size:
                    remove_file(self.path)
                lock.release()
                self.path += "+" + new_token()
                continue
            try:
                if os.stat(self.path).st_ino == os.fstat(lock.descriptor).st_ino:
                    return lock
            except FileNotFoundError:
                pass
            lock.release()

    @property
    def is_there(self):
        """Whether the whole blob is in the store, by now or already."""
        return has_size(self.blob_path, self.expected_size)

    @property
    def _is_too_long(self):
        return self.expected_size is not None and self.size > self.expected_size

    def restart(self):
        """Throw away what is there."""
        os.ftruncate(self.file.descriptor, 0)
        os.lseek(self.file.descriptor, 0, os.SEEK_SET)
        self.hash = self.new_hash()
        self.size = 0

    def write(self, data):
        """Append; DigestError when more comes than the descriptor promised."""
        self.size += len(data)
        if self._is_too_long:
            self.restart()
            raise DigestError("%s: longer than the %d bytes that it should have" % (self.digest, self.expected_size))
        self.hash.update(data)
        write_all(self.file.descriptor, data)
        self.watch(self.size)

    def verify(self):
        """DigestError unless what is there is the blob that the digest names."""
        found = "sha256:" + self.hash.hexdigest()
        if found != self.digest:
            size = self.size
            self.restart()
            raise DigestError("%s: wrong content: %d bytes came, of digest %s" % (self.digest, size, found),
                              "the registry or a proxy on the way is broken: try again, or another mirror")

    def commit(self):
        """Publish the verified blob."""
        set_mode(self.file.descriptor, 0o644)
        os.rename(self.path, self.blob_path)

    def __exit__(self, *_):
        if not self.size or self.is_there or not self.file.is_held:
            remove_file(self.path)
        self.file.release()


class NewBlob:
    """A blob whose digest is known when it is written: hashed on its way, published under its digest at the end.

    Where `expected` names a blob that the store has, in the size that it comes in, it is hashed only. close() drops
    what was not published.
    """

    def __init__(self, layout, expected="", size=None):
        import hashlib
        self.layout = layout
        self.expected = expected
        self.size = 0
        self.hash = hashlib.sha256()
        self.path = ""
        self.descriptor = -1
        if not expected or not has_size(layout.blob(expected), size):
            self.path = new_path(layout.layers)
            with Undoing(self.close):       # a signal, and nobody has this object yet
                self.descriptor = os.open(self.path, NEW_FILE, 0o644)

    def write(self, data):
        """Append bytes."""
        self.hash.update(data)
        self.size += len(data)
        if self.descriptor >= 0:
            with Naming(self.layout.layers):
                write_all(self.descriptor, data)

    def take(self, path):
        """Have the content of a file that is to go: where the file system can do that, as another name of it."""
        linked = new_path(self.layout.layers)
        try:
            with Undoing(remove_file, linked):
                os.link(path, linked)
                os.rename(linked, self.path)
        except OSError as error:
            say.debug("%s: %s, so it is copied" % (path, error.strerror))
            for piece in file_pieces(path):
                self.write(piece)
            return
        self.size = sum(map(len, hashed(file_pieces(self.path), self.hash)))

    @property
    def digest(self):
        return "sha256:" + self.hash.hexdigest()

    def finish(self):
        """No more comes; DigestError where it is not what was expected."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.expected and self.digest != self.expected:
            raise DigestError("%s: the archive holds something else under this digest" % self.expected,
                              "the archive is damaged: make it anew")

    @property
    def file(self):
        """Where its bytes are now."""
        return self.path or self.layout.blob(self.digest)

    def read(self):
        """Its bytes, where it is small; ConflictError where the store had it, and an `rmi` took it away meanwhile."""
        data = read_file(self.file)
        if self.size and not data:
            raise ConflictError("%s was removed while it was brought" % self.digest, "do it again")
        return data

    def publish(self):
        """Put it into the store, where an image has claimed it; returns the digest."""
        target = self.layout.blob(self.digest)
        if self.path and has_size(target, self.size):
            self.close()
        elif self.path:
            set_mode(self.path, 0o644)
            os.rename(self.path, target)
            self.path = ""
        return self.digest

    def close(self):
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.path:
            remove_file(self.path)
            self.path = ""


class BlobStore:
    """Blobs by digest, as plain files."""

    def __init__(self, layout):
        self.layout = layout

    def new(self, expected="", size=None):
        """A NewBlob of this store."""
        return NewBlob(self.layout, expected, size)

    def path(self, digest):
        """The file of a blob; NotFoundError where the store lacks it."""
        path = self.layout.blob(digest)
        if not os.path.isfile(path):
            raise NotFoundError("%s: not in the store" % digest, "udocker pull fetches what is missing")
        return path

    def has(self, descriptor):
        """Whether a blob is there, and of the size that its descriptor tells."""
        return has_size(self.layout.blob(descriptor.digest), descriptor.size)

    def read(self, digest):
        """The bytes of a small blob, a config; DigestError when they are not what the digest names."""
        data = read_file(self.path(digest))
        if sha256_digest(data) != digest:
            raise DigestError("%s: the blob in the store is damaged" % digest,
                              "udocker verify tells what is damaged, and udocker pull mends it")
        return data

    def check(self, digest):
        """DigestError unless the blob's content is what its digest says."""
        if file_digest(self.path(digest)) != digest:
            raise DigestError("%s: the blob in the store is damaged" % digest)

    def remove(self, file_name):
        remove_file(self.layout.blob(file_name))


class Mark:
    """A property that is true where its owner, an image or a container, has a file of this name in its directory."""

    def __init__(self, file_name, content=b""):
        self.file_name = file_name
        self.content = content

    def __get__(self, owner, _=None):
        return os.path.isfile("%s/%s" % (owner.path, self.file_name))

    def __set__(self, owner, is_set):
        path = "%s/%s" % (owner.path, self.file_name)
        with Naming(owner.path):
            if is_set:
                write_atomic(path, self.content)
            else:
                remove_file(path)


class Image:
    """One image of the store.

    Those that the older udocker loaded or imported are of its version 1: no manifest, but a list of layer ids
    (ancestry, newest first) with ID.layer and ID.json beside it.
    """

    MENDING = "udocker rmi it, and pull or load it again"
    FILES = ("TAG", "manifest", "index", "v1", "v2", "ancestry", "container.json", "PROTECT", ".steps")
    is_protected = Mark("PROTECT")          # against removal
    is_finished = Mark("TAG")
    is_version_1 = Mark("v1")

    def __init__(self, name, version, path, blobs):
        self.name = name
        self.version = version
        self.path = path
        self.blobs = blobs

    def __str__(self):
        return self.name + ("@" if is_digest(self.version) else ":") + self.version

    def read(self, file_name):
        """The bytes of the image's "manifest" or "index", b"" where there is none."""
        return read_file(self.path + "/" + file_name)

    def manifest(self):
        data = self.read("manifest")
        if not data:        # an rmi that goes on at the same time has come that far
            raise NotFoundError("%s: its manifest is not in the store" % self, "udocker pull fetches what is missing")
        found = parse_manifest(data, str(self))
        if isinstance(found, ImageIndex):
            raise DocumentError("%s: an index where a manifest was expected" % self)
        return found

    @property
    def digest(self):
        """The digest of the manifest, "" in version 1."""
        return "" if self.is_version_1 else manifest_digest(self.read("manifest"))

    def config_data(self):
        """The bytes of the config: a blob, in schema 1 part of the manifest, in version 1 a file of its own."""
        if self.is_version_1:
            return self.read("container.json") or self.read(self._ancestry()[0] + ".json")
        manifest = self.manifest()
        return self.blobs.read(manifest.config.digest) if manifest.config else manifest.embedded_config

    def config(self):
        return ImageConfig.parse(self.config_data(), str(self))

    def _ancestry(self):
        ids = strings_of(parse_json(self.read("ancestry"), str(self), list))
        if not ids or any("/" in word or word.startswith(".") for word in ids):
            raise DocumentError("%s: its list of layers is damaged" % self, self.MENDING)
        return ids

    def layers(self):
        """(path, Descriptor) of each layer, bottom first; those of version 1 have no digest."""
        if not self.is_version_1:
            return [(self.blobs.layout.blob(layer.digest), layer) for layer in self.manifest().layers]
        files = self.links()
        names = [word + ".layer" for word in reversed(self._ancestry())]
        missing = [name for name in names if name not in files]
        if missing:
            raise DocumentError("%s: its layer %s is missing" % (self, missing[0]), self.MENDING)
        return [(self.blobs.layout.blob(files[name]), Descriptor("")) for name in names]

    def checked_layers(self):
        """(path, digest of the blob, diff_id) of each layer, bottom first, either of them "" where nothing is said;
        DocumentError where config and manifest do not agree."""
        layers, diff_ids = self.layers(), [] if self.is_version_1 else self.config().diff_ids
        if diff_ids and len(diff_ids) != len(layers):
            raise DocumentError("%s: its config names %d layers and its manifest %d" % (
                self, len(diff_ids), len(layers)), "udocker pull %s may bring a better one" % self)
        return [(path, layer.digest, diff_id) for (path, layer), diff_id in zip(layers, diff_ids or [""] * len(layers))]

    def links(self):
        """{name: name of the file in layers/} of the links in the image's directory."""
        return {entry.name: os.path.basename(os.readlink(entry.path)) for entry in self.entries() if entry.is_symlink()}

    def entries(self):
        """What lies in the image's directory, as os.DirEntry."""
        with os.scandir(self.path) as entries:
            return list(entries)


class ImageStore:
    """Images by name. One exists when its directory holds the file TAG, which is written last, removed first."""

    def __init__(self, layout, blobs):
        self.layout = layout
        self.blobs = blobs

    def list(self):
        """All images, by name."""
        return sorted((image for image in self._all() if image.is_finished), key=str)

    def _all(self, top=None, is_strict=False):
        """Images below `top`, finished or not: the directories with files in them. One may lie in another, as those of
        lab:app and lab/app:latest do. Those that cannot be seen are left out or, with `is_strict`, a ConflictError."""
        top = top or self.layout.repos
        pending = [top]
        while pending:
            path = pending.pop()
            try:
                with os.scandir(path) as entries:
                    has_files = False
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        else:
                            has_files = True
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError:
                if is_strict:
                    raise ConflictError("%s: what is in it cannot be seen, and may need any blob" % path,
                                        "its owner lets others see it with: chmod -R go+rX")
                say.warning("%s: left out, as you may not look into it" % path)
                continue
            if has_files and path != top:
                parent, version = os.path.split(path)
                yield Image(os.path.relpath(parent, top), version, path, self.blobs)

    def find(self, reference, is_finished=True):
        """The Image, under whichever of its spellings it is stored; None where it is not.

        One that is not finished is what a pull left that did not come to its end.
        """
        for name in reference.spellings():
            image = Image(name, reference.version, self.layout.image(name, reference.version), self.blobs)
            if image.is_finished if is_finished else os.path.isdir(image.path):
                return image
        return None

    def get(self, reference):
        image = self.find(reference)
        if not image:
            names = set(reference.spellings())
            others = [str(other) for other in self.list() if other.name in names]
            raise NotFoundError("%s: no such image here" % reference, "%s; udocker pull %s fetches it" % (
                "there is " + ", ".join(others) if others else "udocker images lists those there are", reference))
        return image

    def claim(self, reference, digests):
        """Make the image's directory and its links to the blobs: from now on no other image's end takes them away."""
        with Lock(self.layout.lock):
            image = self.find(reference)
            path = image.path if image else self.layout.image(reference.name, reference.version)
            self._link(path, zip(digests, digests))
        return path

    def _link(self, path, links):
        """Make an image's directory, and in it links: (name, name of the file in layers/)."""
        in_the_way = [path + "/" + name for name in Image.FILES if os.path.isdir(path + "/" + name)]
        try:
            make_directory(path)
        except (FileExistsError, NotADirectoryError):
            in_the_way.append(path)
        if in_the_way:
            raise ConflictError("%s: another image is in the way of this name" % in_the_way[0],
                                "udocker rmi that one, or udocker tag it, and remove it under its old name")
        is_inside = not self.layout.is_apart and path.startswith(self.layout.home + "/")
        for name, file in links:
            target = self.layout.blob(file)
            try:        # a store in one place can be moved
                make_link(os.path.relpath(target, path) if is_inside else target, path + "/" + name)
            except FileExistsError:
                pass

    def record(self, image, change):
        """Keep blobs with an image that is none, and never gets finished; what else was with it goes. change() gives
        their digests, and bytes that tell what they are."""
        with Lock(self.layout.lock):
            digests, steps = change()
            self._link(image.path, zip(digests, digests))
            write_atomic(image.path + "/.steps", steps)
            self._release(image, {name: file for name, file in image.links().items() if name not in digests})

    def publish(self, reference, path, manifest, index, digests):
        """The image at `path` is now this manifest (bytes), chosen from this index (bytes, may be empty).

        ConflictError where an `rmi` took away meanwhile what was to be published.
        """
        with Lock(self.layout.lock):
            self._link(path, zip(digests, digests))
            if not all(os.path.isfile(self.layout.blob(digest)) for digest in digests):
                raise ConflictError("%s was removed while it was brought" % reference, "do it again")
            for name in ("v1", "ancestry", "container.json"):       # it may have been the older udocker's
                remove_file(path + "/" + name)
            if index:
                write_atomic(path + "/index", index)
            else:
                remove_file(path + "/index")
            write_atomic(path + "/manifest", manifest)
            write_atomic(path + "/v2", b"")
            tag = "%s/%s:%s" % (self.layout.repos, reference.name, reference.version)
            write_atomic(path + "/TAG", os.fsencode(tag))
            image = Image(reference.name, reference.version, path, self.blobs)
            self._release(image, {name: file for name, file in image.links().items() if name not in digests})
        return image

    def _release(self, image, links):
        """Remove links of an image, and the blobs (or what came of them) that no image has a link to any more."""
        for name in links:
            remove_file(image.path + "/" + name)
        try:
            in_use = self.files_in_use() if links else set()
        except ConflictError as error:
            say.warning("%s: no blob is removed" % error.message)
            return
        for file in set(links.values()) - in_use:
            self.blobs.remove(file)
            if Lock.is_free(self.layout.part(file)):
                remove_file(self.layout.part(file))

    def files_in_use(self):
        """The names of the files in layers/ that images have links to, also those that are not finished."""
        return {file for top in self.layout.all_repos() for image in self._all(top, is_strict=True)
                for file in image.links().values()}

    def unused_files(self):
        """Paths of what udocker put into layers/ and no image has a link to."""
        in_use = self.files_in_use()
        return [self.layout.blob(name) for name in entries_of(self.layout.layers)
                if name not in in_use and self.layout.is_own_name(name)]

    def unfinished(self):
        """The images whose pull did not come to its end; they keep what came for the next one."""
        return [image for image in self._all() if not image.is_finished and self._is_own(image.entries())]

    def _is_own(self, entries):
        """Whether these, of a directory in which no image is finished, were made for one: it has links or its mark, and
        nothing of other people's."""
        return any(entry.is_symlink() or entry.name in ("v1", "v2") for entry in entries) and all(
            entry.is_dir(follow_symlinks=False) or entry.name in Image.FILES or self.layout.is_own_name(entry.name)
            for entry in entries)

    def copy(self, image, reference):
        """Another name for an image of version 1, whose files keep their names; ConflictError where it is taken."""
        with Lock(self.layout.lock):
            if self.find(reference, is_finished=False):
                raise ConflictError("%s is there already" % reference, "udocker rmi %s" % reference)
            path = self.layout.image(reference.name, reference.version)
            self._link(path, image.links().items())
            for name in ("ancestry", "v1", "TAG"):
                write_atomic(path + "/" + name, image.read(name))
        return Image(reference.name, reference.version, path, self.blobs)

    def remove(self, image):
        """Remove an image, and the blobs that only it had."""
        with Lock(self.layout.lock):
            remove_file(image.path + "/TAG")
            self._release(image, image.links())
            for entry in image.entries():
                if not entry.is_dir(follow_symlinks=False):
                    remove_file(entry.path)
            path = image.path
            while path != self.layout.repos:    # and the directories of the name that hold no other image
                try:
                    os.rmdir(path)
                except OSError:
                    break
                path = os.path.dirname(path)


class BuildCache:
    """What the steps of builds of one image have made, beside that image, for the next build: also where it failed. It
    goes with the image, and with prune, as what a pull leaves that fails."""

    PREFIX = ".build-"          # of the version; no reference has such a one
    DAYS = 7                    # that something is kept for which no build has used

    def __init__(self, images, name, version):
        version = self.PREFIX + version
        self.images = images
        self.image = Image(name, version, images.layout.image(name, version), images.blobs)

    @found_once
    def _others(self):
        """{key: row} of all other images."""
        caches = [image for image in self.images.unfinished() if image.version.startswith(self.PREFIX)]
        return {key: row for image in caches for key, row in self._rows(image).items()}

    def _rows(self, image):
        """{key: row}"""
        try:
            rows = parse_json(image.read(".steps") or b"{}", str(image))
        except DocumentError as error:
            say.debug(error.message)
            return {}
        return {key: row for key, row in rows.items() if self._is_row(row)}

    @staticmethod
    def _is_row(row):
        return isinstance(row, dict) and isinstance(row.get("created"), str) and isinstance(row.get("day"), int) and (
            "digest" not in row or is_digest(row["digest"]) and is_digest(row.get("diff_id"))
            and isinstance(row.get("size"), int))

    @staticmethod
    def _today():
        import time
        return int(time.time() / 86400)

    def find(self, key):
        """What a step has made, for this image or another: {"created": time} and, where that is a layer, its "digest",
        "size" and "diff_id". None where nobody knows, or it is gone."""
        own = self._rows(self.image).get(key)
        row = own or self._others.get(key)
        if not row or "digest" in row and not has_size(self.images.layout.blob(row["digest"]), row["size"]):
            return None
        if not own or own["day"] != self._today():
            self.add(key, row)
        return row

    def add(self, key, row):
        """Keep the row of a step; its blob is to be published now, where it is not there. What was not used for a while
        goes."""
        today = self._today()

        def change():
            rows = dict(self._rows(self.image), **{key: dict(row, day=today)})
            rows = {key: row for key, row in rows.items() if row["day"] >= today - self.DAYS}
            return [row["digest"] for row in rows.values() if "digest" in row], dump_json(rows).encode("utf-8")

        self.images.record(self.image, change)

    @property
    def is_there(self):
        return os.path.isdir(self.image.path)

    def remove(self):
        if self.is_there:
            self.images.remove(self.image)


class Container:
    """One container of the store: its tree and the files about it."""

    NOTES = ("container.json", "imagerepo.name", "execmode", "nvidia")        # what a copy of it needs
    is_protected = Mark("PROTECT")          # against removal
    needs_gpus = Mark("nvidia", b"all")     # setup said that every run gets the host's NVIDIA GPUs

    def __init__(self, path, names=()):
        self.path = path
        self.id = os.path.basename(path)
        self.names = list(names)

    @property
    def root(self):
        return self.path + "/ROOT"

    def _note(self, file_name):
        try:
            return read_file(self.path + "/" + file_name).decode("utf-8", "replace").strip()
        except PermissionError:         # somebody else's
            return ""

    @property
    def image_name(self):
        return self._note("imagerepo.name")

    @property
    def mode(self):
        """The execution mode that setup chose, "" where it is the default one."""
        return printable(self._note("execmode")).replace("\n", " ")

    @mode.setter
    def mode(self, mode):
        with Naming(self.path):
            write_atomic(self.path + "/execmode", mode.encode("ascii"))

    @property
    def access(self):
        """W writable, R only readable, N not there."""
        if os.access(self.root, os.W_OK):
            return "W"
        return "R" if os.path.isdir(self.root) else "N"

    def config(self):
        data = read_file(self.path + "/container.json")
        return ImageConfig.parse(data or b"{}", self.id)

    @property
    def made_at(self):
        """When it was made, in seconds; 0 where nobody knows."""
        try:
            return os.stat(self.path + "/container.json").st_mtime
        except OSError:
            return 0

    def is_own(self):
        """Whether directory and tree are the caller's, and no links."""
        try:
            found = [os.lstat(path) for path in (self.path, self.root)]
        except OSError:
            return False
        return all(status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode) for status in found)

    def is_unused(self):
        """Whether nobody holds its lock."""
        path = self.path + "/lock"
        return Lock.is_free(path) or not os.path.lexists(path)

    def lock(self, is_patient=True):
        """The Lock for who removes or converts it."""
        return Lock(self.path + "/lock", is_patient=is_patient,
                    waiting="waiting for another udocker, which reads or converts %s" % self.id)


class Reading:
    """In a `with` block a container's tree is read: rm and setup wait for its end, where locks work. NotFoundError at
    its end where the container was removed all the same, and so was not read as a whole."""

    def __init__(self, container):
        self.container = container
        self.lock = Lock(container.path + "/lock", is_shared=True)

    def __enter__(self):
        try:
            self.lock.acquire()
        except OSError as error:        # somebody else's, or gone
            say.debug("%s: %s" % (self.lock.path, error.strerror))
        return self

    def check(self):
        """NotFoundError where the container is gone: what was read so far is not all of it."""
        if not os.path.lexists(self.container.root):
            raise NotFoundError("%s: another command removed this container while it was read" % self.container.id)

    def __exit__(self, failure, *_):
        try:
            if failure is None:
                self.check()
        finally:
            self.lock.release()


class ContainerStore:
    """Containers by id; their names are links to them."""

    NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")

    @staticmethod
    def is_id(word):
        """Whether `word` has the form of a UUID, as ids do."""
        return len(word) == 36 and word.count("-") == 4 and not word.replace("-", "").strip("0123456789abcdef")

    @classmethod
    def is_name(cls, word):
        """Whether a container may have this name."""
        return (0 < len(word) <= 128 and word[0] not in ".-" and cls.NAME_CHARACTERS.issuperset(word)
                and not cls.is_id(word))

    def __init__(self, layout):
        self.layout = layout

    def list(self):
        """All containers, each with its names, in the order of their ids."""
        names, ids = {}, []
        try:
            with os.scandir(self.layout.containers) as entries:
                for entry in entries:
                    if entry.name.startswith((Layout.NEW, Layout.REMOVED)):
                        continue
                    if entry.is_symlink():
                        names.setdefault(self._named(entry.name), []).append(entry.name)
                    elif self.is_id(entry.name):
                        ids.append(entry.name)
        except FileNotFoundError:
            pass
        return [Container(self.layout.container(id_), sorted(names.get(id_, ()))) for id_ in sorted(ids)]

    def find(self, word):
        """The Container of an id, of the unique beginning of one, or of a name; None where there is none."""
        if self.is_id(word):
            path = self.layout.container(word)
            return Container(path) if os.path.isdir(path) else None
        if self.is_name(word):
            named = self._named(word)
            if self.is_id(named) and os.path.isdir(self.layout.container(named)):
                return Container(self.layout.container(named), [word])
        if 4 <= len(word) < 36 and not word.strip("0123456789abcdef-"):
            matches = [container for container in self.list() if container.id.startswith(word)]
            if len(matches) == 1:
                return matches[0]
        return None

    def _named(self, name):
        """The id of the container that a name stands for, "" where it is none; the link may be absolute, and older
        than a move of the store."""
        try:
            return os.path.basename(os.readlink(self.layout.container(name)).rstrip("/"))
        except OSError:
            return ""

    def _is_dangling(self, name):
        """Whether this is the name of a container that is gone."""
        named = self._named(name)
        return self.is_id(named) and not os.path.lexists(self.layout.container(named))

    def get(self, word):
        container = self.find(word)
        if not container:
            raise NotFoundError("%r: no such container" % word, "udocker ps lists those there are")
        return container

    def check_name(self, name, takes_over=False):
        """UsageError where `name` cannot be one, ConflictError where it is taken and is not to be taken over."""
        if not self.is_name(name):
            raise UsageError("%r cannot be the name of a container" % name,
                             "use letters, digits, '_', '.' and '-', and no '.' or '-' at the beginning")
        path = self.layout.container(name)
        if self._is_dangling(name):
            remove_file(path)
        if os.path.lexists(path) and not (takes_over and os.path.islink(path)):
            raise self._taken(name)

    @staticmethod
    def _taken(name):
        return ConflictError("the name %r is taken" % name,
                             "choose another one, or free it with udocker rmname %s or udocker rm %s" % (name, name))

    def add_name(self, container, name, takes_over=False):
        """Name a container, which may have the name; one that is taken over is another's no longer."""
        if self._named(name) == container.id:
            return
        self.check_name(name, takes_over)
        link = self.layout.container(Layout.NEW + new_token() if takes_over else name)
        try:
            os.symlink(container.id, link)
        except FileExistsError:
            raise self._taken(name)
        except OSError as error:
            error.filename, error.filename2 = link, None
            raise
        if takes_over:
            with Undoing(remove_file, link):
                os.rename(link, self.layout.container(name))

    def remove_name(self, name):
        path = self.layout.container(name)
        if not self.is_name(name) or not os.path.islink(path):
            raise NotFoundError("%r: no container has this name" % name, "udocker ps lists the names there are")
        os.unlink(path)

    def remove(self, container, is_patient=True):
        """Remove a container with its names and its tree; at no moment is half of one listed. ConflictError where it is
        a link to elsewhere, or the user has mounted something in it, which is not the container's; without `is_patient`
        also where it is read."""
        if os.path.islink(container.path):
            raise ConflictError("%s is a link, and what it leads to is not removed" % container.path,
                                "remove both by hand, where nobody needs them")
        mounted = Host.mounted_below(os.path.realpath(container.path))
        if mounted:
            raise ConflictError("%s: a file system is mounted there" % mounted,
                                "fusermount -u %s lets go of it" % mounted)
        names = [name for listed in self.list() if listed.id == container.id for name in listed.names]
        hidden = self.layout.container(Layout.REMOVED + new_token())
        lock = container.lock(is_patient)       # keeps another command's sweep() away
        try:
            lock.acquire()
            os.rename(container.path, hidden)
        except FileNotFoundError:
            raise NotFoundError("%s: no such container: another command just removed it" % container.id)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            hidden = container.path         # of the lower layer of an overlay, which cannot be renamed
        try:
            for name in names:
                remove_file(self.layout.container(name))
            remove_locked(hidden, lock)
        except OSError as error:
            if error.errno not in STILL_OPEN:
                raise
            say.warning("%s: something in it is still open; a later udocker prune removes the rest" % container.id)
        finally:
            lock.release()

    def kept_trees(self):
        """The Containers, the caller's own, that runs of an image share."""
        trees = [Container(self.layout.container(name)) for name in entries_of(self.layout.containers)
                 if name.startswith(Layout.TREE)]
        return [tree for tree in trees if tree.is_own()]

    def rubbish(self):
        """Paths of what killed commands left behind: hidden directories that no living command holds."""
        paths = [self.layout.container(name) for name in entries_of(self.layout.containers)
                 if name.startswith((Layout.REMOVED, Layout.NEW))]
        return [path for path in paths if self._is_rubbish(path)]

    def dangling_names(self):
        """Paths of the names of containers that are gone; harmless, as whoever wants one has it."""
        return [self.layout.container(name) for name in entries_of(self.layout.containers) if self._is_dangling(name)]

    def sweep(self):
        """Remove the rubbish."""
        sweep_away(self.rubbish())

    @staticmethod
    def _is_rubbish(path):
        """Whether nobody holds the lock inside, which is made and locked within the first minute; a name has none."""
        import time
        try:
            age = time.time() - os.lstat(path).st_ctime
        except FileNotFoundError:
            return False
        lock = path + "/lock"
        return age > 60 and (os.path.islink(path) or Lock.is_free(lock) or age > 3600 and not os.path.lexists(lock))


def new_container_id():
    """RFC 4122, section 4.4: a random UUID (the uuid module costs more than all the rest of this)."""
    digits = "%032x" % (int.from_bytes(os.urandom(16), "big") & ~(0xF << 76) & ~(3 << 62) | 4 << 76 | 2 << 62)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class RunMark:
    """Beside a container that is there for one run alone, and locked as long as that lasts: what a killed udocker
    leaves is known by it. Only on the same machine, as locks may count for no other."""

    def __init__(self, layout, id_):
        """Nothing is made yet."""
        self.id = id_
        self.path = layout.container(Layout.RUN + id_)
        self.lock = Lock(self.path)

    def make(self, host):
        """Where locks do not work there is none."""
        self.lock.acquire()
        if self.lock.is_held:
            write_all(self.lock.descriptor, os.fsencode(boot_of(host)))
        else:
            self.remove()

    def remove(self):
        remove_file(self.path)
        self.lock.release()

    def end(self, container):
        """The run is over. Where a disk that fails has kept its container the mark stays, for the next sweep; but not
        where somebody has protected that meanwhile."""
        with HeldSignals():
            if container.is_protected or not os.path.lexists(container.path):
                remove_file(self.path)
            self.lock.release()

    def drop(self):
        """Take away what a run left that was killed: the container is used again."""
        if Lock.is_free(self.path):
            remove_file(self.path)

    @staticmethod
    def abandoned(layout, host):
        """The RunMarks of those whose run on this machine was killed; an empty one, before there was a container."""
        ids = [name[len(Layout.RUN):] for name in entries_of(layout.containers) if name.startswith(Layout.RUN)]
        marks = [RunMark(layout, id_) for id_ in ids if ContainerStore.is_id(id_)]
        return [mark for mark in marks if Lock.is_free(mark.path)
                and read_file(mark.path) in (b"", os.fsencode(boot_of(host)))]


class NewContainer:
    """A container in the making, in a hidden directory; it appears whole with publish(), or not at all."""

    def __init__(self, layout, id_=""):
        self.id = id_ or new_container_id()
        self.layout = layout
        self.path = layout.container(Layout.NEW + self.id)
        self.root = self.path + "/ROOT"
        self.published_root = layout.container(self.id) + "/ROOT"
        self.is_made = False

    def __enter__(self):
        self.lock = Lock(self.path + "/lock")
        with Undoing(self.__exit__):
            with HeldSignals():
                os.mkdir(self.path, 0o755)
                self.is_made = True         # one that was there is another's, who makes the same
            self.lock.acquire()
            os.mkdir(self.root, 0o755)
        return self

    def scratch(self):
        """A directory beside the tree, for a container with all about it, as export --clone wrote it."""
        os.mkdir(self.path + "/scratch")
        return self.path + "/scratch"

    def take_scratch(self):
        """What is in the scratch directory, as a Container whose tree is now that of this one. The notes may be
        anything: they are moved away from what is no file."""
        scratch = Container(self.path + "/scratch")
        for name in Container.NOTES:
            path = scratch.path + "/" + name
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
                remove_tree(path)
        if not os.path.isdir(scratch.root) or os.path.islink(scratch.root):
            raise ArchiveError("the archive has no ROOT directory: export --clone did not write it",
                               "udocker import without --clone takes a mere tree")
        os.rmdir(self.root)
        os.rename(scratch.root, self.root)
        return scratch

    def publish(self, config, image_name, name=None, mode="", takes_over=False):
        """The Container, with its metadata and, where given, its name; ConflictError where that is taken, and not to
        be taken over."""
        write_atomic(self.path + "/container.json", dump_json(config.document).encode("utf-8"))
        write_atomic(self.path + "/imagerepo.name", image_name.encode("utf-8"))
        if mode:
            write_atomic(self.path + "/execmode", mode.encode("ascii"))
        remove_tree(self.path + "/scratch")
        remove_file(self.path + "/lock")
        container = Container(self.layout.container(self.id))
        os.rename(self.path, container.path)
        if name is not None:
            with Undoing(os.rename, container.path, self.path):
                ContainerStore(self.layout).add_name(container, name, takes_over)
        return container

    def __exit__(self, *_):
        with HeldSignals():         # what was not published, or was for a moment alone, goes as a whole
            if self.is_made and os.path.lexists(self.path):
                remove_locked(self.path, self.lock)
            self.lock.release()


# ======================================================================================================
# 8  Layers and archives
# ======================================================================================================

OUTPUT_PIECE = 1 << 20      # bytes inflated at a time, at most: what bounds the memory whatever a layer holds


class ByteStream:
    """Bytes from an iterator of pieces, taken, skipped or copied to a file without joining the pieces."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)
        self.piece = memoryview(b"")
        self.offset = 0         # bytes consumed so far

    def take(self, count):
        """The next `count` bytes; fewer at the end."""
        head = self.piece[:count]
        if len(head) == count:          # as mostly for the headers of a layer: quicker by a third
            self.piece = self.piece[count:]
            self.offset += count
            return bytes(head)
        parts = []
        self.feed(count, parts.append)
        return b"".join(parts)

    read = take         # as whoever takes a file calls it

    def skip(self, count):
        """Pass over `count` bytes; returns how many there were."""
        return self.feed(count, len)

    def copy(self, count, descriptor):
        """Write the next `count` bytes to a file; returns how many there were."""
        return self.feed(count, lambda part: write_all(descriptor, part))

    def feed(self, count, write):
        """Call write(bytes) until it has the next `count` bytes; returns how many there were."""
        missing = count
        while missing:
            self.piece = self.piece or memoryview(next(self.pieces, b""))
            if not self.piece:
                break
            part = self.piece[:missing]
            write(part)
            self.piece = self.piece[missing:]
            missing -= len(part)
        self.offset += count - missing
        return count - missing


def inflating_module():
    """The module that inflates: Python's zlib, or of those that do the same faster one that the user has."""
    from importlib import import_module
    for name in "isal.isal_zlib", "zlib_ng.zlib_ng":
        try:
            module = import_module(name)
            module.decompressobj        # what is only called so has none
            return module
        except ImportError:
            pass
        except Exception as error:      # one for another Python, say
            say.debug("%s: %s" % (name, error))
    return import_module("zlib")


def _expanded(pieces, kind, new_decoder, failure):
    """Any number of streams, and zeros between and behind them. What a decoder had no room for it keeps, and tells so,
    except zlib's, which hands it back."""
    decoder = new_decoder()
    try:
        for data in pieces:
            while data or not (decoder.eof or getattr(decoder, "needs_input", True)):
                if decoder.eof:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    decoder = new_decoder()
                output = decoder.decompress(data, OUTPUT_PIECE)
                if output:
                    yield output
                data = decoder.unused_data if decoder.eof else getattr(decoder, "unconsumed_tail", b"")
    except (failure, EOFError) as error:
        raise ArchiveError("damaged %s data: %s" % (kind, error))
    if not decoder.eof:
        raise ArchiveError("the %s data ends too early" % kind)


def can_read_zstd():
    """Whether layers compressed with zstd can be read here."""
    import importlib.util
    return (sys.version_info >= (3, 14) or importlib.util.find_spec("zstandard") is not None
            or Host.find_executable("zstd") is not None)


def _unpacked_zstd(pieces):
    """zstd, RFC 8878: Python's own from 3.14 on, else the zstandard package, else the zstd program."""
    try:
        from compression import zstd        # pylint: disable=import-error
        yield from _expanded(pieces, "zstd", zstd.ZstdDecompressor, zstd.ZstdError)
        return
    except ImportError:
        pass
    try:
        import zstandard
    except Exception:           # it is missing, or for another Python
        program = Host.find_executable("zstd")
        if not program:
            raise ToolError("this is compressed with zstd, which this machine cannot read",
                            "pip install zstandard, or have the zstd program installed")
        try:
            yield from program_output([program, "-d", "-q", "-c"], pieces)
        except ToolError as error:
            raise ArchiveError("damaged zstd data: %s" % error.message)
        return
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(ByteStream(pieces), read_across_frames=True)
        yield from iter(lambda: reader.read(OUTPUT_PIECE), b"")
    except zstandard.ZstdError as error:
        raise ArchiveError("damaged zstd data: %s" % error)


def compression_of(head):
    """"gzip", "bzip2", "xz", "zstd" or "": told by the first six bytes, since names and types lie."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:3] == b"BZh":
        return "bzip2"
    if head[:6] == b"\xfd7zXZ\0":
        return "xz"
    if head[:4] == b"\x28\xb5\x2f\xfd" or head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return "zstd"
    return ""


def file_compression(path):
    """How the file is compressed, see compression_of()."""
    return compression_of(read_file(path, 6))


def decompressed(pieces):
    """The content of pieces of a file, a generator's, decompressed where it is compressed."""
    import itertools
    pieces, head = iter(pieces), b""
    for piece in pieces:
        head += piece
        if len(head) >= 6:
            break
    kind, joined = compression_of(head), itertools.chain([head], pieces)
    try:
        if kind == "gzip":
            zlib = inflating_module()
            yield from _expanded(joined, kind, lambda: zlib.decompressobj(31), zlib.error)     # RFC 1952
        elif kind == "bzip2":
            import bz2
            yield from _expanded(joined, kind, bz2.BZ2Decompressor, OSError)
        elif kind == "xz":
            import lzma
            yield from _expanded(joined, kind, lzma.LZMADecompressor, lzma.LZMAError)
        elif kind == "zstd":
            yield from _unpacked_zstd(joined)
        else:
            yield from joined
    finally:
        pieces.close()


class ReadAhead:
    """Iterates over pieces that a thread of its own makes, a few ahead: inflating and writing overlap.

    Use in a `with` block: at its end the thread is gone, which engines that unshare rely on.
    """

    DEPTH = 4

    def __init__(self, pieces):
        import queue
        import threading
        self.pieces = pieces
        self.queue = queue.Queue(self.DEPTH)
        self.is_stopped = False
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self):
        try:
            for piece in self.pieces:
                self.queue.put(piece)
                if self.is_stopped:
                    return
            self.queue.put(None)
        except BaseException as error:      # whatever it is, the reader shall have it
            self.queue.put(error)

    def __enter__(self):
        self.thread.start()
        return self

    def __iter__(self):
        from queue import Empty
        while True:
            try:
                piece = self.queue.get(timeout=WAKEFUL)
            except Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def __exit__(self, _, error, __):
        from queue import Empty
        self.is_stopped = True
        if isinstance(error, KeyboardInterrupt):    # the program ends, and what the thread reads may never come
            return
        while self.thread.is_alive():
            try:
                self.queue.get(timeout=0.01)
            except Empty:
                pass
        self.thread.join()
        self.pieces.close()


class TarEntry:
    """One member of a tar archive. `name` and `link` are bytes; `mtime` is in nanoseconds.

    What the header says of its owners is in `owner_fields`, for TarReader.owners().
    `size` counts the bytes of data in the archive, `segments` (sparse files alone) where they belong in a
    file of `full_size` bytes: pairs of offset and length.
    """

    __slots__ = ("kind", "name", "link", "size", "mode", "mtime", "segments", "full_size", "owner_fields")

    FILE, HARD_LINK, SYMBOLIC_LINK, DIRECTORY, FIFO, DEVICE, OTHER = "flsdpo?"


def printable_name(name):
    """A file name of an archive (bytes), for messages."""
    return printable(name.decode("utf-8", "replace"))[:200]


def decimal(text):
    """The number that digits (bytes) spell; ValueError for the other things that int() would take."""
    if not text.isdigit():
        raise ValueError("not a number")
    return parse_integer(text)


def nanoseconds(text):
    """The time that decimal seconds (bytes) tell; ValueError where they do not. POSIX, pax Extended Header"""
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    if not whole.isdigit() or not (fraction or b"0").isdigit():
        return int(float(text) * 1000000000)        # Python's tarfile also writes 1e-05
    value = decimal(whole) * 1000000000 + (decimal(fraction[:9].ljust(9, b"0")) if fraction else 0)
    return -value if text.startswith(b"-") else value


class TarReader:
    """The members of a tar stream: POSIX ustar and pax, GNU long names, numbers and sparse files.

    https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html and GNU tar's manual, Tar Internals.
    """

    BLOCK = 512
    ZEROS = bytes(512)
    PAX_KEYS = frozenset((b"path", b"linkpath", b"mtime", b"size", b"GNU.sparse.major", b"GNU.sparse.name",
                          b"GNU.sparse.realsize", b"GNU.sparse.size", b"GNU.sparse.map"))
    MAX_EXTENSION = 1 << 20         # bytes of a long name or pax header
    KINDS = {b"0": TarEntry.FILE, b"\0": TarEntry.FILE, b"7": TarEntry.FILE, b"S": TarEntry.FILE,
             b"1": TarEntry.HARD_LINK, b"2": TarEntry.SYMBOLIC_LINK, b"3": TarEntry.DEVICE, b"4": TarEntry.DEVICE,
             b"5": TarEntry.DIRECTORY, b"6": TarEntry.FIFO}

    def __init__(self, stream):
        self.stream = stream

    def __iter__(self):
        """Each TarEntry; the caller may read its data from the stream, up to `size` bytes, or leave it."""
        extensions = {}
        while True:
            header = self._header()
            if not header:
                for _ in self.stream.pieces:        # what stands behind an archive is still part of its digest
                    pass
                return
            kind = header[156:157]
            size = self._size(header[124:136])
            if kind in (b"x", b"g", b"L", b"K"):
                data = self._extension(size)
                records = {}                # global pax headers hold nothing that a layer needs
                if kind == b"x":
                    records = self._pax_records(data)
                elif kind != b"g":
                    records[b"path" if kind == b"L" else b"linkpath"] = data.split(b"\0", 1)[0]
                extensions.update(records)
                continue
            entry = self._entry(header, kind, size, extensions)
            extensions = {}
            end = self.stream.offset + entry.size
            yield entry
            missing = end - self.stream.offset
            if self.stream.skip(missing) < missing:
                raise ArchiveError("the archive ends within the data of %s" % printable_name(entry.name))
            self.stream.skip(-end % self.BLOCK)     # some writers leave out the last padding

    def _header(self):
        """The next header block, b"" at the end of the archive."""
        is_first = self.stream.offset == 0
        block = self.stream.take(self.BLOCK)
        try:
            return self._checked(block)
        except ArchiveError:
            if is_first:
                raise ArchiveError("this is no tar archive, or a damaged one")
            raise

    def _checked(self, block):
        if not block:
            return b""
        if block == self.ZEROS:
            if self.stream.take(self.BLOCK).strip(b"\0"):
                raise ArchiveError("a lone block of zeros in the middle of the archive")
            return b""
        if len(block) < self.BLOCK:
            raise ArchiveError("the archive ends within a header")
        stored = self._number(block[148:156])
        if sum(block) - sum(block[148:156]) + 256 != stored:
            signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
            if signed != stored:
                raise ArchiveError("a header has a wrong checksum")
        return block

    @staticmethod
    def _number(field):
        """An octal number, or GNU's base 256."""
        if field[0] & 0x80:
            number = int.from_bytes(field, "big") & (1 << (8 * len(field) - 1)) - 1
            return number - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else number
        text = field.strip(b" \0").split(b"\0", 1)[0].rstrip()
        if text.strip(b"01234567"):
            raise ArchiveError("a header has a number that is none")
        return int(text, 8) if text else 0

    @classmethod
    def owners(cls, entry):
        """The ids of an entry's user and group; root's where they are no such numbers."""
        try:
            return tuple(max(0, cls._number(field)) for field in (entry.owner_fields[:8], entry.owner_fields[8:]))
        except ArchiveError:
            return 0, 0

    def _size(self, field):
        size = self._number(field)
        if not 0 <= size < 1 << 62:
            raise ArchiveError("a header has an impossible size")
        return size

    def _extension(self, size):
        if size > self.MAX_EXTENSION:
            raise ArchiveError("a header extension of %s" % human_size(size))
        data = self.stream.take(size)
        self.stream.skip(-size % self.BLOCK)
        if len(data) < size:
            raise ArchiveError("the archive ends within a header extension")
        return data

    @staticmethod
    def _pax_records(data):
        """{key: value} of LENGTH KEY=VALUE lines; the offsets and lengths of GNU's sparse 0.0 are collected."""
        records, sparse = {}, []
        start, end = 0, len(data.rstrip(b"\0"))
        while start < end:
            length = data[start:start + 8].partition(b" ")[0]
            size = int(length) if length.isdigit() else 0
            last = start + size - 1     # where a length that is wrong finds no end of a line, or no key before it
            key, equals, value = data[start + len(length) + 1:last].partition(b"=")
            if (data[last:last + 1] != b"\n" or not equals or b"\0" in key
                    or key in (b"path", b"linkpath", b"GNU.sparse.name") and b"\0" in value):
                raise ArchiveError("a damaged pax header")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                sparse.append(value)
            elif key in TarReader.PAX_KEYS:         # others are not kept: there may be any number of them
                records[key] = value
            start += size
        if sparse:
            records[b"GNU.sparse.map"] = b",".join(sparse)
        return records

    def _entry(self, header, kind, size, pax):
        entry = TarEntry()
        entry.kind = self.KINDS.get(kind, TarEntry.OTHER)
        entry.name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and header[345]:
            entry.name = header[345:500].split(b"\0", 1)[0] + b"/" + entry.name
        entry.link = header[157:257].split(b"\0", 1)[0]
        entry.mode = self._number(header[100:108]) & 0o7777
        entry.owner_fields = header[108:124]
        entry.mtime = self._number(header[136:148]) * 1000000000
        entry.segments = None
        if pax:
            size = self._apply_pax(entry, size, pax)
        if kind == b"\0" and entry.name.endswith(b"/"):         # before ustar there was no type for directories
            entry.kind = TarEntry.DIRECTORY
        if entry.kind not in (TarEntry.FILE, TarEntry.OTHER):
            size = 0        # links and directories have no data, whatever their size says
        entry.size = size
        if kind == b"S":
            self._read_old_sparse(entry, header)
        elif pax and entry.kind == TarEntry.FILE:
            self._read_pax_sparse(entry, pax)
        return entry

    @staticmethod
    def _apply_pax(entry, size, pax):
        """Overwrite what the pax header says better; returns the size of the data."""
        entry.name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or entry.name
        entry.link = pax.get(b"linkpath", entry.link)
        try:
            if b"mtime" in pax:
                entry.mtime = nanoseconds(pax[b"mtime"])
            if b"size" in pax:
                size = decimal(pax[b"size"])
        except (ValueError, OverflowError):
            raise ArchiveError("a pax header has a number that is none")
        if not 0 <= size < 1 << 62:
            raise ArchiveError("a header has an impossible size")
        return size

    def _read_old_sparse(self, entry, header):
        """GNU tar's manual, Old GNU Format: the map is in the header and in blocks behind it."""
        entry.full_size = self._size(header[483:495])
        fields, more = header[386:482], header[482]
        while more:
            block = self.stream.take(self.BLOCK)
            if len(block) < self.BLOCK or len(fields) > self.MAX_EXTENSION:
                raise ArchiveError("a damaged map of a sparse file")
            fields, more = fields + block[:504], block[504]
        numbers = [self._size(fields[start:start + 12]) for start in range(0, len(fields), 12)
                   if fields[start:start + 12].strip(b"\0")]
        self._set_segments(entry, numbers)

    def _read_pax_sparse(self, entry, pax):
        """GNU tar's manual, PAX Format, versions 0.0, 0.1 and 1.0; in the last the map precedes the data."""
        if b"GNU.sparse.map" not in pax and pax.get(b"GNU.sparse.major") != b"1":
            return
        try:
            entry.full_size = decimal(pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"")
            if b"GNU.sparse.map" in pax:
                numbers = [decimal(word) for word in pax[b"GNU.sparse.map"].split(b",")]
            else:
                numbers = self._leading_numbers(entry)
        except ValueError:
            raise ArchiveError("a damaged map of a sparse file")
        self._set_segments(entry, numbers)

    def _leading_numbers(self, entry):
        """The count, offsets and lengths in decimal lines, padded to whole blocks, taken from the entry's data."""
        text, count = b"", 0
        while text.count(b"\n") <= 2 * count:
            if len(text) > self.MAX_EXTENSION or entry.size < self.BLOCK:
                raise ValueError
            text += self.stream.take(self.BLOCK)
            entry.size -= self.BLOCK
            count = decimal(text.partition(b"\n")[0]) if b"\n" in text else self.MAX_EXTENSION
        return [decimal(line) for line in text.split(b"\n")[1:2 * count + 1]]

    @staticmethod
    def _set_segments(entry, numbers):
        entry.segments = list(zip(numbers[::2], numbers[1::2]))
        end = 0
        for offset, length in entry.segments:
            if offset < end:
                raise ArchiveError("a damaged map of a sparse file")
            end = offset + length
        if len(numbers) % 2 or not end <= entry.full_size < 1 << 62 or sum(numbers[1::2]) != entry.size:
            raise ArchiveError("a damaged map of a sparse file")


def clean_name(name):
    """A name of an archive (bytes) without "/" around, "." and ".."; it cannot lead out of the root."""
    if name[:2] == b"./":
        name = name[2:]
    name = name.strip(b"/")
    if b"/." in name or b"//" in name or name[:1] == b".":
        parts = []
        for part in name.split(b"/"):
            if part == b"..":
                del parts[-1:]
            elif part not in (b"", b"."):
                parts.append(part)
        name = b"/".join(parts)
    return name


class LayerUnpacker:
    """Applies layers to an empty directory, bottom to top. OCI image-spec, layer.md.

    A layer is a stranger's: nothing outside the tree is read, written, linked or changed. The parent of an
    entry may lead over links, which are followed inside the tree; the entry itself replaces what is there and
    is never followed. What a plain user cannot have is left out: owners, devices, set-id bits. So is the permission for
    all others of this machine to write, but to directories like /tmp, and for a group where the umask forbids it: what
    they changed would run as the user.
    """

    WHITEOUT, OPAQUE, AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
    MAX_LINKS = 40
    # What a strange name or link can cause; other errors are the disk's
    REFUSALS = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT,
                errno.EEXIST, errno.EILSEQ, errno.EFBIG)

    def __init__(self, root, has_whiteouts=True, origins=None, is_closed=False):
        """Without `has_whiteouts` it is the archive of a tree, in which a file may have any name. A dict `origins` gets
        {name: (mode, user, group)} of what a plain user cannot have so. With `is_closed` nobody else gets to the
        tree, and all may write to what it says."""
        self.root = os.fsencode(root)
        self.has_whiteouts = has_whiteouts
        self.origins = origins
        self.withheld = 0 if is_closed else current_umask() & stat.S_IWGRP | stat.S_IWOTH
        self.is_first = True
        # Final mode and time of directories, by host path; some may be gone by the end, or something else
        self.directories = {}
        # Host path, free of links, of each directory that an entry of this layer named as its parent
        self.known = {}
        # Host paths that this layer made or passed through: what its whiteouts do not hide
        self.current = set()

    def apply(self, path, diff_id=None):
        """Apply a layer's file, compressed or not; DigestError unless it is `diff_id` uncompressed."""
        try:
            self.apply_pieces(file_pieces(path), diff_id, os.path.getsize(path) > OUTPUT_PIECE)
        except (ArchiveError, DigestError) as error:
            raise type(error)("%s: %s" % (os.path.basename(path), error.message), error.hint)

    def apply_pieces(self, pieces, diff_id=None, is_large=True):
        """The same for a layer that comes in pieces; a large one is inflated by a thread of its own."""
        import contextlib
        import hashlib
        digest = hashlib.sha256()
        self.known, self.current = {b"": self.root}, set()
        content = decompressed(pieces)
        with Umask(self.withheld), ReadAhead(content) if is_large else contextlib.closing(content) as content:
            self._apply(ByteStream(hashed(content, digest)))      # in this thread: the other one inflates
        if diff_id and diff_id != "sha256:" + digest.hexdigest():
            raise DigestError("its content is not the layer %s that the image names" % diff_id,
                              "remove the image and pull it again")
        self.is_first = False

    def _apply(self, stream):
        for entry in TarReader(stream):
            try:
                self._place(entry, stream)
            except OSError as error:
                if error.errno not in self.REFUSALS:
                    raise
                raise ArchiveError("%s: %s" % (printable_name(entry.name), error.strerror))

    def _place(self, entry, stream):
        parent, _, base = clean_name(entry.name).rpartition(b"/")
        directory = self.known.get(parent) or self._enter(parent)
        path = directory + b"/" + base
        if self.has_whiteouts and base.startswith(self.WHITEOUT):
            self._apply_whiteout(directory, base)
        elif not base:
            if entry.kind != TarEntry.DIRECTORY:
                raise ArchiveError("%r: an entry in place of the root" % printable_name(entry.name))
            self.directories[self.root] = entry.mode, entry.mtime
        elif entry.kind == TarEntry.FILE:
            self._place_file(path, entry, stream)
        elif entry.kind == TarEntry.DIRECTORY:
            self._place_directory(path, entry)
        elif entry.kind == TarEntry.SYMBOLIC_LINK:
            self._replace(path, make_link, entry.link, path)
            set_time(path, entry.mtime)
        elif entry.kind == TarEntry.HARD_LINK:
            self._place_hard_link(path, entry)
        elif entry.kind == TarEntry.FIFO:
            self._replace(path, os.mkfifo, path, entry.mode & 0o777 | 0o400)
            set_time(path, entry.mtime)
        else:
            say.debug("%s: left out, a device or of unknown type" % printable_name(entry.name))
            if entry.kind == TarEntry.DEVICE and os.path.lexists(path):
                self._clear(path)
            return
        if not self.is_first:
            self.current.add(path)
        if self.origins is not None:
            self._note_origin(os.fsdecode(path[len(self.root) + 1:]), entry)

    def _note_origin(self, name, entry):
        owners, needed = TarReader.owners(entry), 0o700 if entry.kind == TarEntry.DIRECTORY else 0o400
        if owners != (0, 0) or entry.mode & 0o7022 or needed & ~entry.mode:
            self.origins[name] = (entry.mode,) + owners
        else:
            self.origins.pop(name, None)

    def _enter(self, guest):
        """The host path of a directory of the tree: links are followed inside it, what is missing is made."""
        parent, _, base = guest.rpartition(b"/")
        reached, pending, links = self.root, guest.split(b"/")[::-1], 0
        if parent in self.known:
            reached, pending = self.known[parent], [base]
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                reached = reached if reached == self.root else os.path.dirname(reached)
                continue
            path = reached + b"/" + part
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                os.mkdir(path, 0o755)
                self.directories.pop(path, None)        # what was said of one that is gone
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                links += 1
                if links > self.MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(path)
                pending += target.split(b"/")[::-1]
                reached = self.root if target[:1] == b"/" else reached
            elif stat.S_ISDIR(mode):
                reached = path
                self.current.add(path)
            else:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self.known[guest] = reached
        return reached

    def _clear(self, path):
        """Remove what is at `path`, and what is remembered of ways over it."""
        mode = os.lstat(path).st_mode
        remove_tree(path)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self.known = {b"": self.root}

    def _replace(self, path, make, *arguments):
        """What make(*arguments) gives, which makes `path` in place of what is there."""
        try:
            return make(*arguments)
        except FileExistsError:
            self._clear(path)
            return make(*arguments)

    def _place_file(self, path, entry, stream):
        with Closing(self._replace(path, os.open, path, NEW_FILE, entry.mode & 0o777 | 0o400)) as descriptor:
            if entry.segments is None:
                stream.copy(entry.size, descriptor)         # where the data ends early, TarReader says so
            else:
                os.ftruncate(descriptor, entry.full_size)
                for offset, length in entry.segments:
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    stream.copy(length, descriptor)
            set_time(descriptor, entry.mtime)

    def _place_directory(self, path, entry):
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                self._clear(path)
                os.mkdir(path, 0o755)
        self.directories[path] = entry.mode, entry.mtime

    def _place_hard_link(self, path, entry):
        parent, _, base = clean_name(entry.link).rpartition(b"/")
        source = (self.known.get(parent) or self._enter(parent)) + b"/" + base
        status = os.lstat(source)
        if not base or stat.S_ISDIR(status.st_mode):
            raise ArchiveError("%s: a hard link to a directory" % printable_name(entry.name))
        if os.path.lexists(path) and os.path.samestat(status, os.lstat(path)):
            return
        try:
            self._replace(path, lambda: os.link(source, path, follow_symlinks=False))
        except OSError as error:
            if error.errno not in NO_HARD_LINK:
                raise
            copy_file(source, path, status)

    def _apply_whiteout(self, directory, base):
        """OCI image-spec, layer.md, Whiteouts: they hide what lower layers brought, and nothing of their own."""
        if base == self.OPAQUE:
            for name in [] if self.is_first else os.listdir(directory):
                self._hide(directory + b"/" + name)
        elif not base.startswith(self.AUFS):        # aufs' own records, which docker leaves out too
            name = base[len(self.WHITEOUT):]
            if name in (b"", b".", b".."):
                raise ArchiveError("%s: a whiteout of what is no name" % printable_name(base))
            path = directory + b"/" + name
            if not self.is_first and os.path.lexists(path):
                self._hide(path)

    def _hide(self, path):
        pending = [path]
        while pending:
            path = pending.pop()
            if path not in self.current:
                self._clear(path)
            elif stat.S_ISDIR(os.lstat(path).st_mode):
                pending += [path + b"/" + name for name in os.listdir(path)]

    def finish(self):
        """Give directories their modes and times, after the last layer: deepest first, as each write changes them."""
        is_real = {self.root: True}
        for path in sorted(self.directories, key=len):
            self._check_real(path, is_real)
        for path in sorted(filter(is_real.get, self.directories), key=len, reverse=True):
            mode, mtime = self.directories[path]
            with Closing(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as descriptor:
                withheld = 0 if mode & stat.S_ISVTX else self.withheld
                set_directory_mode(descriptor, mode & ~withheld | stat.S_IRWXU)
                set_time(descriptor, mtime)

    @staticmethod
    def _check_real(path, is_real):
        """Note in `is_real` whether `path` and each directory above it are directories of the tree, and no links."""
        unknown = []
        while path not in is_real:
            unknown.append(path)
            path = os.path.dirname(path)
        for path in reversed(unknown):
            try:
                is_real[path] = is_real[os.path.dirname(path)] and stat.S_ISDIR(os.lstat(path).st_mode)
            except OSError:
                is_real[path] = False


def uncompressed_digest(path):
    """The digest of a tar's content without its compression, its diff_id; ArchiveError where it is no whole tar."""
    import hashlib
    total = hashlib.sha256()
    with ReadAhead(decompressed(file_pieces(path))) as pieces:
        for _ in TarReader(ByteStream(hashed(pieces, total))):
            pass
    return "sha256:" + total.hexdigest()


def blob_digest(name):
    """The digest that the name of a blob in an archive claims, "" for other names. OCI image-spec, image-layout.md"""
    digest = name.replace("blobs/sha256/", "sha256:", 1)
    return digest if is_digest(digest) else ""


def blob_name(digest):
    """The name of a blob in an archive."""
    return "blobs/" + digest.replace(":", "/", 1)


class Members:
    """What an archive of images holds: small documents by name, all else as new blobs.

    document(name) gives the bytes of one, b"" where there is none; blob(name) a new blob, None where there is none.
    """

    def __init__(self, new_blob):
        """`new_blob` makes one of a digest that is expected, or "", and a size."""
        self.new_blob = new_blob
        self.blobs = {}

    def close(self):
        """Drop what was not published."""
        for blob in self.blobs.values():
            blob.close()


class TarMembers(Members):
    """Those of a tar stream, in whatever order they come."""

    MAX_MEMBERS = 20000
    MAX_DOCUMENT = 16 << 20         # bytes
    DOCUMENTS = ("manifest.json", "index.json", "oci-layout")
    # Each layer's own, in archives of docker before version 25; nobody needs them
    PASSED_OVER = ("json", "VERSION", "repositories")

    def __init__(self, new_blob):
        super().__init__(new_blob)
        self.documents, self.links = {}, {}

    def read(self, pieces):
        """Take everything; ArchiveError or DigestError where it is damaged."""
        with ReadAhead(decompressed(pieces)) as ahead:
            stream = ByteStream(ahead)
            for number, entry in enumerate(TarReader(stream)):
                if number > self.MAX_MEMBERS:
                    raise ArchiveError("the archive has more than %d members" % self.MAX_MEMBERS)
                self._take(entry, clean_name(entry.name).decode("utf-8", "replace"), stream)

    def _take(self, entry, name, stream):
        directory, _, base = name.rpartition("/")
        if entry.kind == TarEntry.HARD_LINK:
            self.links[name] = clean_name(entry.link).decode("utf-8", "replace")
        elif entry.kind == TarEntry.SYMBOLIC_LINK:
            self.links[name] = os.path.normpath(os.path.join(directory, entry.link.decode("utf-8", "replace")))
        elif entry.kind != TarEntry.FILE or base in self.PASSED_OVER:
            return
        elif name in self.DOCUMENTS:
            if entry.size > self.MAX_DOCUMENT:
                raise ArchiveError("%s of %s" % (name, human_size(entry.size)))
            self.documents[name] = stream.take(entry.size)
        else:
            self._take_blob(entry, name, stream)

    def _take_blob(self, entry, name, stream):
        if name in self.blobs:
            raise ArchiveError("%s is there twice" % printable(name))
        blob = self.blobs[name] = self.new_blob(blob_digest(name), entry.size)
        if entry.segments is not None or stream.feed(entry.size, blob.write) < entry.size:
            raise ArchiveError("the archive ends within the data of %s" % printable(name))
        blob.finish()

    def document(self, name):
        return self.documents.get(name, b"")

    def blob(self, name):
        for _ in range(16):         # links, which are not followed for ever
            if name not in self.links:
                break
            name = self.links[name]
        return self.blobs.get(name)


class DirectoryMembers(Members):
    """Those of a directory, in which only what is asked for is read."""

    def __init__(self, new_blob, path):
        super().__init__(new_blob)
        self.path = path

    def _place(self, name):
        """The path of what has this name; ArchiveError where a stranger's name or link leads out of the directory.
        Blobs may be links to where others keep them too, as git-annex has it: they are what their digest says."""
        path = os.path.realpath(self.path + "/" + name)
        if not blob_digest(name) and not path.startswith(os.path.realpath(self.path).rstrip("/") + "/"):
            raise ArchiveError("%s: leads out of the directory" % printable(name)[:200])
        return path

    def document(self, name):
        return read_file(self._place(name))

    def blob(self, name):
        path = self._place(name)
        if name not in self.blobs and os.path.isfile(path):
            blob = self.blobs[name] = self.new_blob(blob_digest(name), os.path.getsize(path))
            for piece in file_pieces(path):
                blob.write(piece)
            blob.finish()
        return self.blobs.get(name)


class ArchivedImage:
    """One image of an archive: its full names (any number), a mere tag or "", manifest (bytes), blobs by digest."""

    def __init__(self, names, tag, manifest, blobs):
        self.names = names
        self.tag = tag
        self.manifest = manifest
        self.blobs = blobs

    def config_data(self):
        """The bytes of the config."""
        manifest = parse_manifest(self.manifest, "manifest")
        return self.blobs[manifest.config.digest].read() if manifest.config else manifest.embedded_config

    @property
    def config_digest(self):
        """The digest of the config, "" where the manifest is one of schema 1."""
        config = parse_manifest(self.manifest, "manifest").config
        return config.digest if config else ""


class ImageArchive:
    """Reads what docker save, podman save, skopeo, BuildKit and others write: docker's archive and the OCI layout.

    manifest.json counts where there is one: docker 25 and later write both, and the other part may be hollow.
    """

    MAX_NAMES = 1000
    NAME, REF_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"

    def __init__(self, members, platform):
        self.members = members
        self.platform = platform
        self.inner_digests = {}         # of compressed layers, what they unpack to

    def images(self):
        """The ArchivedImages; DocumentError, ArchiveError or DigestError where something does not fit."""
        if self.members.document("manifest.json"):
            found = self._docker_images()
        elif self.members.document("index.json"):
            found = self._indexed_images()
        else:
            raise ArchiveError("this is no archive of images: it has neither manifest.json nor index.json",
                               "udocker import takes the tree of a container, as docker export writes it")
        if sum(len(image.names) for image in found) > self.MAX_NAMES:
            raise ArchiveError("the archive has more than %d names of images" % self.MAX_NAMES)
        return found

    def _needed(self, name):
        blob = self.members.blob(name)
        if not blob:
            raise ArchiveError("the archive lacks %s, which it names itself" % printable(name)[:200])
        return blob

    def _docker_images(self):
        """https://github.com/moby/docker-image-spec : manifest.json"""
        others, found, known = self._other_images(), [], {}
        for entry in parse_json(self.members.document("manifest.json"), "manifest.json", list):
            if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
                raise DocumentError("manifest.json: an entry names no config")
            config = self._needed(entry["Config"])
            # The older udocker names the layers of an image that it saves under two names once
            names = known.setdefault(entry["Config"], strings_of(entry.get("Layers")))
            layers = [self._needed(name) for name in strings_of(entry.get("Layers")) or names]
            blobs = {blob.digest: blob for blob in [config] + layers}
            made = self._checked_manifest(entry["Config"], config, layers)
            names_of = {}
            for name in strings_of(entry.get("RepoTags")) or [""]:
                names_of.setdefault(self._original(name, config.digest, blobs, others) or made, []).append(name)
            found += [ArchivedImage(list(filter(None, names)), "", manifest, blobs)
                      for manifest, names in names_of.items()]
        return found

    @staticmethod
    def _original(name, config_digest, blobs, others):
        """The manifest that the image's builder made, and knows the digest of, where index.json has it; else b""."""
        same = [image for image in others if image.config_digest == config_digest and set(image.blobs) == set(blobs)]
        named = [image for image in same if any(("/" + other).endswith("/" + name) for other in image.names)]
        return (named or same)[0].manifest if same else b""

    def _other_images(self):
        """The images of index.json beside manifest.json, which is there for other programs, and may be anything."""
        try:
            return self._indexed_images() if self.members.document("index.json") else []
        except (DocumentError, ArchiveError, NotFoundError) as error:
            say.debug("index.json: %s" % error)
            return []

    def _checked_manifest(self, name, config, layers):
        """A manifest for these blobs, once every digest that is claimed of them is checked."""
        claimed = os.path.basename(name).partition(".")[0]
        if len(claimed) == 64 and config.digest != "sha256:" + claimed:
            raise DigestError("%s: its content is not what its name says" % printable(name))
        data = config.read()
        diff_ids = ImageConfig.parse(data, name).diff_ids
        if len(diff_ids) != len(layers):
            raise DocumentError("%s: it names %d layers, and there are %d" % (name, len(diff_ids), len(layers)))
        compressions = [file_compression(layer.file) for layer in layers]
        for layer, compression, diff_id in zip(layers, compressions, diff_ids):
            if compression and layer.digest not in self.inner_digests:      # images may share it
                self.inner_digests[layer.digest] = uncompressed_digest(layer.file)
            if diff_id != self.inner_digests.get(layer.digest, layer.digest):
                raise DigestError("%s: a layer is not the one that the config names" % diff_id,
                                  "the archive is damaged: make it anew")
        return new_manifest(data, [(layer.digest, layer.size, compression)
                                   for layer, compression in zip(layers, compressions)])

    def _indexed_images(self):
        """OCI image-spec, image-layout.md: entries of one name are one image for several platforms."""
        index = ImageIndex(parse_json(self.members.document("index.json"), "index.json"), "index.json")
        groups = {}
        for position, entry in enumerate(index.manifests):
            name = entry.annotations.get(self.NAME) or entry.annotations.get(self.REF_NAME) or ""
            if not entry.is_attestation:
                groups.setdefault(str(name) or (position if entry.platform is None else ""), []).append(entry)
        found = []
        for name, entries in groups.items():
            manifest, blobs = self._resolve(entries, name or "index.json")
            full = [name] if isinstance(name, str) and ("/" in name or ":" in name) else []
            found.append(ArchivedImage(full, "" if full or not isinstance(name, str) else name, manifest, blobs))
        if not found:
            raise ArchiveError("index.json: there is no image in it")
        return found

    def _resolve(self, entries, what):
        """(manifest, blobs) behind descriptors, of those that are here the one that serves the platform best."""
        for _ in range(4):          # an index may name an index, but not for ever
            present = [entry for entry in entries if self.members.blob(blob_name(entry.digest))]
            if not present:
                raise ArchiveError("%s: the archive does not hold what its index names" % what)
            chosen = present[0]
            if len(entries) > 1:
                chosen = ImageIndex({"manifests": [entry.document for entry in present]}, "index").choose(
                    self.platform, str(what), can_read_zstd())
            data = self.members.blob(blob_name(chosen.digest)).read()
            manifest = parse_manifest(data, str(what))
            if isinstance(manifest, Manifest):
                blobs = {descriptor.digest: self._needed(blob_name(descriptor.digest)) for descriptor in manifest.blobs}
                return data, blobs
            entries = manifest.manifests
        raise DocumentError("%s: indexes within indexes without end" % what)


class Output:
    """A file that is only written to, and may be a pipe, with the one question that tarfile has about it."""

    def __init__(self, file):
        self.write = file.write

    @staticmethod
    def tell():
        return 0


class FullReader:
    """Reads as many bytes as a tar header promises: what a file lacks, which somebody shortens meanwhile, are zeros."""

    def __init__(self, file, header):
        self.file = file
        self.header = header
        self.is_short = False

    def read(self, size):
        data = self.file.read(size)
        if len(data) < size and not self.is_short:
            self.is_short = True
            say.warning("%s: became shorter while it was read; zeros stand for the rest" % self.header.name)
        return data.ljust(size, b"\0")


class TarWriter:
    """Writes a tar archive to an open file, member by member. POSIX.1-2001, pax"""

    def __init__(self, file):
        import tarfile
        self.tarfile = tarfile
        self.archive = tarfile.TarFile(fileobj=Output(file), mode="w", format=tarfile.PAX_FORMAT,
                                       encoding="utf-8", errors="surrogateescape")
        self.archive.copybufsize = OUTPUT_PIECE
        self.first_names = {}       # (device, inode) of a file with several names: the first one

    def _add(self, header, file=None):
        self.archive.addfile(header, file)
        del self.archive.members[:]         # it would remember them all

    def add_data(self, name, data):
        """A file that holds `data`, of the time 0, so that equal content makes equal archives."""
        import io
        self._add(self._header(name, len(data), 0o644), io.BytesIO(data))

    def add_directory(self, name):
        """A directory, of the time 0 as well."""
        header = self._header(name, 0, 0o755)
        header.type = self.tarfile.DIRTYPE
        self._add(header)

    def add_blob(self, name, path, digest):
        """A file of the store; DigestError where it is not what its digest says."""
        import hashlib
        total = hashlib.sha256()
        self._add(self._header(name, os.path.getsize(path), 0o644), ByteStream(hashed(file_pieces(path), total)))
        if "sha256:" + total.hexdigest() != digest:
            raise DigestError("%s: the blob in the store is damaged" % digest, "udocker verify, then pull, mends it")

    def _header(self, name, size, mode):
        header = self.tarfile.TarInfo(name)
        header.size = size
        header.mode = mode
        return header

    def add_tree(self, tree, prefix="", start="", describe=lambda inside, mode: (mode, 0, 0), names=None):
        """Everything below `start` of an OpenTree, or the entries of these names alone, with (mode, user, group) as
        `describe` gives it for the name there and its mode, or None where it is left out. By default all is root's, as
        inside a container. Sockets and devices are left out, and what directories inherited from that of a project."""
        inherited = os.stat(tree.path).st_mode & stat.S_ISGID
        for relative, status, directory, name in tree.walk(start) if names is None else tree.named(names):
            inside = relative[len(start):].lstrip("/")
            mode = status.st_mode & ~(inherited if stat.S_ISDIR(status.st_mode) else 0)
            described = describe(inside, mode) if inside or prefix else None
            if described:
                self._add_entry(name_below(prefix, inside), described, status, directory, name)

    def _add_entry(self, place, described, status, directory, name):
        mode, user, group = described
        header = self._header(place, 0, stat.S_IMODE(mode))
        header.uid, header.gid = user, group
        header.mtime = status.st_mtime_ns // 1000000000
        if status.st_mtime_ns % 1000000000:
            sign, parts = "-" if status.st_mtime_ns < 0 else "", divmod(abs(status.st_mtime_ns), 1000000000)
            header.pax_headers = {"mtime": "%s%d.%09d" % ((sign,) + parts)}
        key = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            header.type = self.tarfile.DIRTYPE
        elif stat.S_ISLNK(status.st_mode):
            header.type, header.linkname = self.tarfile.SYMTYPE, os.readlink(name, dir_fd=directory)
        elif stat.S_ISFIFO(status.st_mode):
            header.type = self.tarfile.FIFOTYPE
        elif key in self.first_names:
            header.type, header.linkname = self.tarfile.LNKTYPE, self.first_names[key]
        elif stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1:
                self.first_names[key] = place
            self._add_content(header, directory, name)
            return
        else:
            say.debug("%s: left out, a socket or a device" % place)
            return
        self._add(header)

    def _add_content(self, header, directory, name):
        descriptor = open_source(name, directory)
        with os.fdopen(descriptor, "rb") as file:
            header.size = os.fstat(descriptor).st_size
            self._add(header, FullReader(file, header))

    def close(self):
        """The end of the archive."""
        self.archive.close()


# What the umask takes away when a tree is unpacked, which may have been another one for another tree
WITHHELD = stat.S_IWGRP | stat.S_IWOTH


def open_up(status, directory, name, of_files):
    """Give the caller what a plain user needs of an entry that OpenTree.walk() gave: a directory that can be entered
    and written to, a file with the permissions `of_files`. Its new status; None where it has all that."""
    wanted = 0o700 if stat.S_ISDIR(status.st_mode) else of_files if stat.S_ISREG(status.st_mode) else 0
    if not wanted & ~status.st_mode:
        return None
    with Closing(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)) as descriptor:
        present = os.fstat(descriptor).st_mode
        if stat.S_IFMT(present) != stat.S_IFMT(status.st_mode):         # somebody put a link there meanwhile
            return None
        os.chmod("/proc/self/fd/%d" % descriptor, stat.S_IMODE(present) | wanted)
        return os.fstat(descriptor)


def tree_entries(tree, mended=None):
    """{name: a tuple that tells what it is} of an OpenTree, to be compared with that of another one. As rsync does it,
    files are the same that have one size and one time. Directories have no time, and no permissions of others to write
    count.

    With a dict `mended` it is to be compared with that of the same tree at another time. What cannot be read is made
    readable, and the dict gets {name: mode that it had}.
    """
    found, counting = {}, ~WITHHELD if mended is None else ~0
    for relative, status, directory, name in tree.walk():
        new = open_up(status, directory, name, 0o400) if mended is not None else None
        if new:
            mended[relative], status = stat.S_IMODE(status.st_mode), new
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            found[relative] = status.st_mode & counting, 0, 0, ""
        elif kind == stat.S_IFLNK:
            found[relative] = kind, 0, status.st_mtime_ns, os.readlink(name, dir_fd=directory)
        elif kind in (stat.S_IFREG, stat.S_IFIFO):      # no layer has others
            time = status.st_mtime_ns if mended is None else status.st_ctime_ns        # which nobody can set
            found[relative] = status.st_mode & counting, status.st_size, time, ""
    return found


def changes_between(before, after, is_passed_over=lambda name, size: False):
    """{name: "A" where it was added, "C" changed, "D" removed} of what differs in two results of tree_entries(), with
    the directories above; of what was removed, or replaced by what is no directory, the top alone. What was added is
    passed over where is_passed_over(name, size) says so."""
    before, found, directories = dict(before), {}, set()
    for relative, entry in after.items():
        known = before.pop(relative, None)
        if stat.S_ISDIR(entry[0]):
            directories.add(relative)
        if known != entry and (known or not is_passed_over(relative, entry[1])):
            found[relative] = "C" if known else "A"
    found.update((relative, "D") for relative in before if relative.rpartition("/")[0] in directories)
    for relative in list(found):
        while relative:
            relative = relative.rpartition("/")[0]
            found.setdefault(relative, "C")
    found.pop("", None)
    return found


class NewLayer:
    """A layer that is written as a tar to a NewBlob, which gets it gzip'ed; close() drops what was not published."""

    LEVEL = 6       # gzip's own

    def __init__(self, blob):
        import hashlib
        import zlib
        self.blob = blob
        self.hash = hashlib.sha256()
        self.deflater = zlib.compressobj(self.LEVEL, zlib.DEFLATED, 31)       # RFC 1952
        self.close = blob.close

    def write(self, data):
        """Some bytes of the tar."""
        self.hash.update(data)
        self.blob.write(self.deflater.compress(data))

    def finish(self):
        """No more comes."""
        self.blob.write(self.deflater.flush())
        self.blob.finish()

    @property
    def diff_id(self):
        return "sha256:" + self.hash.hexdigest()


def original_mode(origin, mode, withheld):
    """The mode of what has `mode` in a tree where a plain user could not have that of its `origin` in an image: the
    latter, unless it was changed since. The tree may lack the bits that were `withheld`."""
    given = origin | (0o700 if stat.S_ISDIR(mode) else 0o400)
    is_same = not (mode ^ given) & 0o777 & ~withheld and not mode & ~given & withheld
    return stat.S_IFMT(mode) | origin if is_same else mode


def write_layer(file, root, changes, origins, withheld=WITHHELD):
    """Write a layer of the tree at `root`: of changes_between() two times, or of all where they are None.
    `origins` are as LayerUnpacker gives them: what the image had keeps its owners. OCI image-spec, layer.md"""
    writer, whiteout = TarWriter(file), os.fsdecode(LayerUnpacker.WHITEOUT)

    def describe(inside, mode):
        if "/" + whiteout in "/" + inside:
            say.warning("%s: left out, as in a layer such a name removes a file" % printable(inside))
            return None
        if inside not in origins:
            return mode, 0, 0
        origin, user, group = origins[inside]
        return original_mode(origin, mode, withheld), user, group

    kept = None if changes is None else sorted(name for name in changes if changes[name] != "D")
    writer.add_tree(OpenTree(root), describe=describe, names=kept)
    for name in sorted(name for name, change in (changes or {}).items() if change == "D"):
        parent, _, base = name.rpartition("/")
        writer.add_data(name_below(parent, whiteout + base), b"")
    writer.close()


def forget_origins(origins, changes):
    """Of what is new, or gone, an image says nothing, whatever had its name once."""
    for name, change in changes.items():
        if change != "C":
            origins.pop(name, None)


def write_image_archive(file, images):
    """Write images into one tar that docker, podman, skopeo, umoci and udocker load: an OCI layout with docker's
    manifest.json. `images` are (names, manifest, config, [path of a layer]), documents as bytes."""
    writer, written = TarWriter(file), set()

    def add_once(digest, add, *arguments):
        if digest not in written:
            written.add(digest)
            add(blob_name(digest), *arguments)

    entries, docker_entries = [], {}
    writer.add_data("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    for name in ("blobs", "blobs/sha256"):      # without them, skopeo tries to give directories to root
        writer.add_directory(name)
    for names, manifest, config, paths in images:
        layers = parse_manifest(manifest, "manifest").layers
        add_once(sha256_digest(manifest), writer.add_data, manifest)
        add_once(sha256_digest(config), writer.add_data, config)
        for layer, path in zip(layers, paths):
            add_once(layer.digest, writer.add_blob, path, layer.digest)
        for name in names or [""]:
            entry = {"mediaType": MANIFEST_TYPE, "digest": sha256_digest(manifest), "size": len(manifest)}
            if name:
                entry["annotations"] = {ImageArchive.NAME: name, ImageArchive.REF_NAME: name.rpartition(":")[2]}
            entries.append(entry)
        layer_names = [blob_name(layer.digest) for layer in layers]
        entry = docker_entries.setdefault((config, tuple(layer_names)), {
            "Config": blob_name(sha256_digest(config)), "RepoTags": [], "Layers": layer_names})
        entry["RepoTags"] += names
    writer.add_data("index.json", dump_json(
        {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).encode("utf-8"))
    writer.add_data("manifest.json", dump_json(list(docker_entries.values())).encode("utf-8"))
    writer.close()


class TreeFile:
    """A file that holds the tree of a container: a squashfs, which may be the primary partition of a SIF.

    It stays open: what is put in its place meanwhile is another one. The kernel's fs/squashfs/squashfs_fs.h;
    https://github.com/sylabs/sif, pkg/sif/sif.go and descriptor.go
    """

    SQUASHFS, SIF = b"hsqs", b"SIF_MAGIC\0"
    DESCRIPTOR = 585                # bytes of one
    MANY = 4096                     # descriptors: writers make room for 48
    PARTITION, PRIMARY = 0x4004, 2
    KINDS = {2: "ext3", 3: "an archive", 4: "raw data", 5: "an encrypted squashfs"}
    UNPACKER = "unsquashfs"

    def __init__(self, path):
        """ArchiveError where it is damaged, or holds what cannot be used."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.status = os.fstat(self.descriptor)
        self.offset = self._primary_partition() if os.pread(self.descriptor, 10, 32) == self.SIF else 0
        self._check_squashfs()

    @classmethod
    def is_at(cls, path):
        """Whether there is one, by its first bytes."""
        with Naming(path):
            head = read_file(path, 42) if os.path.isfile(path) else b""
        return head.startswith(cls.SQUASHFS) or head[32:] == cls.SIF

    def _number(self, place, size=8):
        """The unsigned number of `size` bytes at a place in the file."""
        data = os.pread(self.descriptor, size, place) if place < self.status.st_size else b""
        if len(data) < size:
            raise self._truncated()
        return int.from_bytes(data, "little")

    def _truncated(self):
        return ArchiveError("%s: the end of it is missing" % self.path, "copy it anew from where it comes")

    def _primary_partition(self):
        """Where the tree begins that a SIF is for."""
        count, table = min(self._number(88), self.MANY), self._number(96)
        for place in range(table, table + count * self.DESCRIPTOR, self.DESCRIPTOR):
            if self._number(place, 5) == 1 << 32 | self.PARTITION and self._number(place + 205, 4) == self.PRIMARY:
                kind = self._number(place + 201, 4)
                if kind != 1:
                    raise ArchiveError("%s: its tree is %s, and not a squashfs" % (
                        self.path, self.KINDS.get(kind, "of an unknown kind")))
                return self._number(place + 17)
        raise ArchiveError("%s: a SIF without the tree of a container" % self.path)

    def _check_squashfs(self):
        magic, version = self._number(self.offset, 4), self._number(self.offset + 28, 2)
        if magic != int.from_bytes(self.SQUASHFS, "little") or version != 4:
            raise ArchiveError("%s: no squashfs of version 4, or a damaged one" % self.path)
        if self.offset + self._number(self.offset + 40) > self.status.st_size:
            raise self._truncated()

    @property
    def identity(self):
        """Text that another file does not have."""
        return "%s %d %d %d" % (self.path, self.status.st_dev, self.status.st_ino, self.status.st_mtime_ns)

    @classmethod
    def unpacker(cls):
        """The path of what unpacks such files, None where there is nothing."""
        return Host.find_executable(cls.UNPACKER)

    def unpack(self, directory):
        """Write the tree into an empty directory; ArchiveError where it is damaged."""
        program, words = self.unpacker(), ["-force", "-no-progress", "-no-xattrs", "-dest", directory]
        words += ["-offset", str(self.offset)] if self.offset else []       # since unsquashfs 4.4
        words.append(process_path(self.descriptor))
        try:
            try:        # what a plain user cannot make, as devices, is no error
                feed_program([program, "-quiet", "-no-exit-code"] + words, lambda file: None)
            except ToolError as error:
                if not error.message.startswith(program + ": SYNTAX"):
                    raise
                feed_program([program] + words, lambda file: None)      # before 4.5, where it never is one
        except ToolError as error:
            raise ArchiveError("%s: %s" % (self.path, error.message))


# ======================================================================================================
# 9  Tools
# ======================================================================================================

class Tool:
    """One released file or set of files, and what it is checked by.

    An executable has a digest of its own, which holds whichever tarball it comes in; where that is not known, the
    tarball must be the released one. Libraries come as a set, in a tarball. `kernels` are the first version that an
    executable is for and the first that it is no more for.
    """

    SOURCES = ("https://download.ncg.ingrid.pt/webdav/udocker/engines/tarballs/",
               "https://github.com/LIP-Computing/udocker_tools/raw/main/tarballs/")

    def __init__(self, file_name, tarball_sha256, sha256="", kernels=((0,), (1 << 30,)), is_library=False):
        self.file_name = file_name
        self.tarball_digest = "sha256:" + tarball_sha256
        self.digest = sha256 and "sha256:" + sha256
        self.kernels = kernels
        self.is_library = is_library

    @property
    def tarball(self):
        return self.file_name + ".tgz"

    @property
    def urls(self):
        return [source + self.tarball for source in self.SOURCES]

    def contains(self, member):
        """Whether a member of a tarball, by its name, is of this tool."""
        name = os.path.basename(member)
        if self.is_library:
            return os.path.basename(os.path.dirname(member)) == "lib" and name.endswith(".so")
        return name == self.file_name


class ToolKind:
    """Tools that do the same: how they are called in general, in messages and in a search path, how one is named by
    hand, and those that were released, the best first, by machine."""

    def __init__(self, title, programs, variable, released):
        self.title = title
        self.programs = programs
        self.variable = variable
        self.released = released


BEFORE_4_8, SINCE_4_8 = ((0,), (4, 8)), ((4, 8), (1 << 30,))

# Releases of udocker's tools: PRoot 5.1.1, crun 1.6, runC 1.1.4, libfakechroot 2.18
TOOL_KINDS = {
    "proot": ToolKind("PRoot", ("proot",), "UDOCKER_USE_PROOT_EXECUTABLE", {
        "x86_64": (Tool("proot-x86_64-4_8_0", "1a926182aa16cc7ba77e278851a62f33995e2515e01c7a99932bb6e7f853b0a9",
                        "a9a3161b733b7114c87fd81e0d50381b5ec2cccad7f2b981257a834b8220cc34", SINCE_4_8),
                   Tool("proot-x86_64", "ec5c76d97b7262e75edf11706924fdf0d050514f163ea6b624f6b73d967304a8",
                        "c98f47857afc865cd6ad491d7938388a114865e0dac78a5b77c92236a682bd67", BEFORE_4_8)),
        "i686": (Tool("proot-x86-4_8_0", "a48dd05df9d8c291b510a337722ebc7e0bb636f4b019df27efc8161f4d3c82c4",
                      "cc714900651728b786a51921c3ad739bf1ec206067a9d9f9efc821057e6ed57f", SINCE_4_8),
                 Tool("proot-x86", "b5f08867f3dca309482e2c4e8524291480799632af97e3fdb69050017b617d1b",
                      "76b0d381df5d0df53f87f9166f5376435a044a481a01218e5bf0a10aee826ff9", BEFORE_4_8)),
        "aarch64": (Tool("proot-arm64-4_8_0", "d4206ae2a6577936a71ba41b473634ea34fc538bf315cee09ca25f6123d9c967",
                         "5075dca91bad4e616b91a3a735610e40e8eac81adc32e3dff835134ef2944faf"),),
        "armv7l": (Tool("proot-armhf", "aba7fbcd3ce5220440214241c43ddabbf3f7680f7ff1229b171473432c1b8776",
                        "3dcb9891422830c276dec96f709396697f71bb06d6a06ea142626a48febc5425"),),
        "armv6l": (Tool("proot-armel", "3929bbf5227337228b0d4941bdc42ed9f9845c13f1d17cddc9da902a25ac83f0",
                        "84166a5cba21741fe1e8da5fb13fd8ba7185b774d0ba747ed3cd278d54aa1f77"),),
    }),
    "runc": ToolKind("runC or crun", ("crun", "runc"), "UDOCKER_USE_RUNC_EXECUTABLE", {
        "x86_64": (Tool("crun-x86_64", "4907b4005436686e453297f7e011ddb655c410429f711d787546f5ecceb03048",
                        "5f6207fb3166aa630c86e5b3d9527bbe7ec53052c7a59a032508f944488cfeb4"),
                   Tool("runc-x86_64", "074fc12378af8006c5356bedb3a9973b5964feacc79ff60a58be70176367ab3f")),
        "aarch64": (Tool("runc-arm64", "def28c08d79f66dea5c05e0fa420d1e91bd7edc9ed13cda1279f836a4651369b"),),
        "ppc64le": (Tool("runc-ppc64le", "301551f345829e6bd3ad28d9d9e808a576b070df82697094a68e181d2d41cb15"),),
    }),
    "fakechroot": ToolKind("libfakechroot", (), "UDOCKER_FAKECHROOT_SO", {
        "x86_64": (Tool("libfakechroot-x86_64", "c4280e0e3b3fa5ba6d94be0d43a2379d9d4390f08c96adc83cf4ba6be939d757",
                        is_library=True),),
        "aarch64": (Tool("libfakechroot-arm64", "534353dcaac2618e1cf45145115fcdc4e22096fc880f8abf6975bab948b4b1c0",
                         is_library=True),),
        "ppc64le": (Tool("libfakechroot-ppc64le", "74fb8d69ff38848b9bbd353a73579f62f03e5f1be35cc889cfb8b5816b2fd5a3",
                         is_library=True),),
    }),
}
# The release of all of them in one tarball
ALL_TOOLS_DIGEST = "sha256:03b4032b62775a020e8f1daf2c655dae5dd6a798e61c5ad913724460581c39b9"


def all_tools():
    """Every released Tool, for whatever machine."""
    return [tool for kind in TOOL_KINDS.values() for tools in kind.released.values() for tool in tools]


class Toolbox:
    """Finds the tools that the engines need, and fetches those that this machine lacks.

    The order: the one that a setting names (then no other), the store's bin/, UDOCKER_TARBALL, the search path, the
    internet. What is put into the store is checked against its pinned digest before.
    """

    MAX_TOOL = 64 << 20         # bytes, of an executable, of all libraries, and of a tarball
    FAILURE_AGE = 3600          # seconds for which what could not be fetched is not asked for again
    SYSTEM_DIRECTORIES = ":/usr/sbin:/sbin"         # of runC, which the search path of plain users may lack

    def __init__(self, layout, host, findings, named, tarball, client, search_path):
        """`named` holds the path that a setting names, by kind; `client()` gives an HttpClient, and is not called
        while nothing is to be fetched."""
        self.layout = layout
        self.findings = findings
        self.host = host
        self.named = named
        self.tarball = tarball
        self.client = client
        self.search_path = search_path
        self._downloads = {}        # URL of a tarball: descriptor

    def builds(self, kind):
        """The released Tools of a kind for this machine and kernel, the best first."""
        return [tool for tool in TOOL_KINDS[kind].released.get(self.host.machine, ())
                if tool.kernels[0] <= self.host.kernel_version < tool.kernels[1]]

    def executables(self, kind):
        """Paths of executables of a kind in the order of preference; the later ones cost more to get.

        ToolError where one that was asked for cannot be had.
        """
        here = self.executables_here(kind)
        missing = [] if self.named.get(kind) else [tool for tool in self.builds(kind) if self.path(tool) not in here]
        if self.tarball:
            yield from self._obtained(missing)
        yield from here
        if not self.tarball:
            yield from self._obtained(missing)

    def executables_here(self, kind):
        """Paths of those that need not be fetched."""
        if self.named.get(kind):
            return [self._named_path(kind, os.X_OK, "executable file")]
        installed = [path for path in map(self.path, self.builds(kind)) if os.path.exists(path)]
        found = [Host.find_executable(name, self.search_path + self.SYSTEM_DIRECTORIES)
                 for name in TOOL_KINDS[kind].programs]
        return installed + [path for path in found if path]

    def _named_path(self, kind, access, wanted):
        """The path that a setting names; ToolError where that is nothing to be used."""
        path = os.path.abspath(os.path.expanduser(self.named[kind]))
        if not os.path.isfile(path) or not os.access(path, access):
            raise ToolError("%s: %s is no %s" % (TOOL_KINDS[kind].variable, path, wanted))
        return path

    @staticmethod
    def is_released(digest):
        """Whether an executable of this digest is one of the pinned ones."""
        return any(digest == tool.digest for tool in all_tools())

    def path(self, tool):
        """Where a tool's executable lies, or the mark that all its libraries are there."""
        return self.layout.lib + "/." + tool.file_name if tool.is_library else self.layout.bin + "/" + tool.file_name

    def _obtained(self, tools):
        """Paths of those that can be had; ToolError where none can."""
        failure = None
        for tool in tools:
            try:
                path = self._fetch(tool)
            except ToolError as error:
                failure = failure or error
                continue
            yield path
        if failure:
            raise failure

    def _fetch(self, tool):
        """Install from UDOCKER_TARBALL, else from the internet; where that failed within the hour, every start must not
        wait for it again. Returns the path."""
        if self.tarball:
            return self._install(tool, [self.tarball])
        failure = self.findings.recall(tool.file_name, self.FAILURE_AGE)
        if failure:
            raise ToolError(failure)
        try:
            return self._install(tool, tool.urls)
        except ToolError as error:
            self.findings.remember(tool.file_name, error.message)
            raise

    def _install(self, tool, sources):
        """Put a tool into the store from the first source, file or URL, that has it; returns its path."""
        reasons = []
        for source in sources:
            try:
                members = self._obtain(tool, source)
            except (TransferError, ToolError) as error:
                reasons.append(error.message)
                continue
            return self._put(tool, members)
        for reason in reasons[:-1]:
            say.debug(reason)
        raise ToolError("%s cannot be had: %s" % (tool.file_name, reasons[-1]),
                        "without internet, bring %s here and say udocker install --from=%s; udocker install --list "
                        "tells all that is needed" % (tool.tarball, tool.tarball))

    def _put(self, tool, members):
        directory = self.layout.lib if tool.is_library else self.layout.bin
        make_directory(directory)
        for name, data in sorted(members.items()):
            write_atomic(directory + "/" + name, data, 0o755)
        if tool.is_library:         # last, so that whoever sees it finds all of them
            write_atomic(self.path(tool), tool.tarball_digest.encode("ascii") + b"\n")
        say.info("%s installed in %s" % (tool.file_name, directory))
        return self.path(tool)

    def _tarball(self, source):
        """The path of a tarball. One from a URL is downloaded once, into a file that goes with this process."""
        if "://" not in source:
            return os.path.abspath(os.path.expanduser(source))
        if source not in self._downloads:
            make_directory(self.layout.bin)
            path = new_path(self.layout.bin)
            try:
                with Naming(self.layout.bin):
                    download(self.client(), source, path)
                self._downloads[source] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                remove_file(path)
        return "/proc/self/fd/%d" % self._downloads[source]

    def _obtain(self, tool, source):
        """{name: verified bytes} of a tool out of a tarball, file or URL."""
        shown, path = shown_url(source), self._tarball(source)
        try:
            members = self._members(tool, path)
            if not members:
                raise ToolError("%s: has no %s" % (shown, tool.file_name))
            if tool.digest:
                is_good = all(sha256_digest(data) == tool.digest for data in members.values())
            else:
                is_good = file_digest(path) in (tool.tarball_digest, ALL_TOOLS_DIGEST)
        except OSError as error:
            raise ToolError("%s: %s" % (shown, error.strerror))
        except ArchiveError as error:
            raise ToolError("%s: %s" % (shown, error.message))
        if not is_good:
            raise ToolError("%s: its %s is not the one that was released" % (shown, tool.file_name))
        return members

    def _members(self, tool, path):
        """{name: bytes} of the members of a tarball that are the tool's."""
        stream, members, total = ByteStream(decompressed(file_pieces(path))), {}, 0
        for entry in TarReader(stream):
            name = os.fsdecode(entry.name)
            if entry.kind == TarEntry.FILE and tool.contains(name):
                total += entry.size
                if total > self.MAX_TOOL:
                    raise ToolError("%s: is larger than any tool" % path)
                members[os.path.basename(name)] = stream.take(entry.size)
        return members

    def libraries(self):
        """Paths of the libraries for Fakechroot; the released ones are fetched where none is here, or a tarball is
        named."""
        missing = [] if self.named.get("fakechroot") else [
            tool for tool in self.builds("fakechroot") if not os.path.exists(self.path(tool))]
        for tool in missing:
            try:
                if self.tarball or not self.libraries_here():
                    self._fetch(tool)
            except ToolError as error:
                say.debug(error.message)
        return self.libraries_here()

    def libraries_here(self):
        """Paths of the libraries for Fakechroot that need not be fetched: the store's, then those of host packages."""
        if self.named.get("fakechroot"):
            return [self._named_path("fakechroot", os.R_OK, "file that can be read")]
        directories = ["/usr/lib/" + name for name in entries_of("/usr/lib") if "-linux-" in name]
        packaged = [path + "/fakechroot/libfakechroot.so" for path in directories + ["/usr/lib64", "/usr/lib"]]
        return self._own_libraries() + [path for path in packaged if os.path.exists(path)]

    def _own_libraries(self):
        """Paths of the libraries in the store."""
        return ["%s/%s" % (self.layout.lib, name) for name in entries_of(self.layout.lib)
                if name.startswith("libfakechroot-") and name.endswith(".so")]

    def install(self, kind, source="", is_forced=False):
        """Put the released tools of a kind into the store where they are missing, or anyway; returns the paths of new
        ones.

        They come from `source`, a file or URL, else from UDOCKER_TARBALL, else from the internet. ToolError where
        none of the kind is in the store afterwards, or none is new that should be.
        """
        source, builds, paths, failures = source or self.tarball, self.builds(kind), [], []
        for tool in builds:
            if is_forced or not os.path.exists(self.path(tool)):
                try:
                    paths.append(self._install(tool, [source] if source else tool.urls))
                except ToolError as error:
                    failures.append(error)
        if not builds:
            raise ToolError("no %s was released for a machine of type %s" % (
                TOOL_KINDS[kind].title, self.host.machine), "one of the host's own, in the search path, is used")
        if failures and not paths and (is_forced or not any(os.path.exists(self.path(tool)) for tool in builds)):
            raise failures[0]
        for error in failures:
            say.warning(error.message)
        return paths

    def installed(self):
        """Paths of what released tools have put into the store."""
        paths = [self.path(tool) for tool in all_tools()] + self._own_libraries()
        return sorted(path for path in paths if os.path.lexists(path))


# ======================================================================================================
# 10  Run specification
# ======================================================================================================

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# --- mounts -------------------------------------------------------------------------------------------

class Mount:
    """A host file or directory that appears inside; what is not required is left out where it cannot be. Of a file that
    a run makes for itself, `content` tells those that are the same."""

    # Besides ro and rw docker knows labels, propagation and consistency, none of which means anything here
    OPTIONS = {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "private", "rprivate", "shared",
               "rshared", "slave", "rslave"}

    def __init__(self, source, guest, is_read_only=False, is_required=True, content=""):
        self.source = source
        self.content = content
        self.guest = "/" + os.path.normpath(guest).lstrip("/")      # normpath() leaves two slashes as they are
        if self.guest == "/":
            raise UsageError("'%s:%s': nothing can be put over the container's root" % (source, guest),
                             "--location=DIR runs a tree that lies elsewhere")
        self.is_read_only = is_read_only
        self.is_required = is_required

    @classmethod
    def parse(cls, text):
        """From HOST[:GUEST][:ro|rw]; UsageError where it is none, NotFoundError where HOST is missing."""
        source, *rest = text.split(":")
        options = rest.pop().split(",") if rest and not rest[-1].startswith("/") else []
        guest = rest[0] if rest else source
        if not source.startswith(("/", ".")) or not guest.startswith("/") and rest or len(rest) > 1:
            raise UsageError("%r is not a volume" % text, "write HOST-PATH[:CONTAINER-PATH][:ro], for instance "
                             "$HOME/data:/data or ./data:/data; the path in the container is absolute")
        unknown = set(options) - cls.OPTIONS
        if unknown:
            raise UsageError("%r: unknown option %r of a volume" % (text, sorted(unknown)[0]),
                             "there are ro (read-only) and rw")
        source = cls.find_source(source)
        return cls(source, guest if rest else source, "ro" in options)

    @staticmethod
    def find_source(path):
        """The absolute host path of a volume; NotFoundError where nothing is there."""
        if not os.path.exists(path):
            raise NotFoundError("%s: no such file or directory, so it cannot be a volume" % path)
        return path if path.startswith("/") else os.path.abspath(path)

    @classmethod
    def same(cls, paths):
        """Mounts of host paths at the same paths inside, of those that are there."""
        return [cls(path, path, is_required=False) for path in paths]

    @property
    def is_directory(self):
        return os.path.isdir(self.source)

    @found_once
    def real_source(self):
        """The host path without links."""
        return os.path.realpath(self.source)

    @property
    def place(self):
        """(guest path, host path without links), as a GuestTree has it."""
        return self.guest, self.real_source


class MemoryMount:
    """A directory of the container that is empty, in memory, and gone afterwards. tmpfs(5)"""

    # Those that a plain user cannot choose, or that mean nothing here
    IGNORED = {"rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "noatime", "relatime"}

    def __init__(self, guest, options=()):
        import re
        self.guest = Mount("/", guest).guest        # refuses the root, as a Mount does
        if not guest.startswith("/"):
            raise UsageError("--tmpfs=%s: an absolute path is needed" % guest)
        given = dict(option.partition("=")[::2] for option in options)
        unknown = set(given) - self.IGNORED - {"size", "mode", "uid", "gid", "nr_inodes"}
        if unknown:
            raise UsageError("--tmpfs=%s: unknown option %r" % (guest, sorted(unknown)[0]),
                             "there are size=BYTES and mode=OCTAL")
        kept = dict({"mode": "1777"}, **{name: given[name] for name in ("size", "mode", "nr_inodes") if name in given})
        if not all(re.fullmatch("[0-9]+[kmgKMG%]?", value) for value in kept.values()):
            raise UsageError("--tmpfs=%s: %s is no number" % (guest, ",".join("%s=%s" % pair for pair in kept.items())))
        self.options = ",".join("%s=%s" % pair for pair in sorted(kept.items()))

    @classmethod
    def parse(cls, text):
        """From PATH[:OPTION,...], as docker's --tmpfs has it."""
        guest, _, options = text.partition(":")
        return cls(guest, options.split(",") if options else ())


def parse_fields(option, text):
    """{name: value} of KEY=VALUE with commas between, as docker has them; a key alone is true."""
    import csv
    aliases = {"src": "source", "destination": "target", "dst": "target", "ro": "readonly"}
    try:
        fields = [field.partition("=") for field in next(csv.reader([text]), [])]
    except csv.Error:
        raise UsageError("%s=%s: it cannot be understood" % (option, text), "write KEY=VALUE with commas between")
    return {aliases.get(name, name): value if equals else "true" for name, equals, value in fields}


MOUNT_HINT = "write type=bind,source=/HOST,target=/PATH[,readonly]"


def parse_mount(text):
    """The Mount or MemoryMount that docker's --mount describes."""
    given = parse_fields("--mount", text)
    kind, source, target, is_read_only = [given.pop(name, default) for name, default in (
        ("type", "volume"), ("source", ""), ("target", ""), ("readonly", ""))]
    if not target.startswith("/"):
        raise UsageError("--mount=%s: it has no absolute target" % text, MOUNT_HINT)
    if is_read_only not in ("", "true", "false", "0", "1"):
        raise UsageError("--mount=%s: readonly is true or false" % text)
    if kind == "tmpfs":
        return MemoryMount(target, ["%s=%s" % (name, given["tmpfs-" + name]) for name in ("size", "mode")
                                    if "tmpfs-" + name in given])
    if kind != "bind" or set(given) - {"bind-propagation", "consistency", "bind-nonrecursive", "bind-recursive"}:
        raise UsageError("--mount=%s: only type=bind and type=tmpfs with their usual keys are known here" % text)
    if not source.startswith(("/", ".")):
        raise UsageError("--mount=%s: it has no source, an absolute path or one that begins with a dot" % text,
                         MOUNT_HINT)
    return Mount(Mount.find_source(source), target, is_read_only in ("true", "1"))


def system_mounts():
    """What of the host every container sees: devices, the kernel's file systems, name resolution."""
    return Mount.same(("/dev", "/proc", "/sys", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf"))


def outer_first(mounts):
    """Mounts and MemoryMounts in an order in which none hides another that lies below it."""
    return sorted(mounts, key=lambda mount: mount.guest.count("/"))


def arrange_mounts(mounts):
    """The mounts whose source exists, outer ones first; of two on one place the later."""
    return outer_first({mount.guest: mount for mount in mounts if os.path.exists(mount.source)}.values())


def launcher_mounts(environment):
    """The directories in which PMIx, of slurmd or of Open MPI's mpiexec, meets the ranks that it starts.

    Where it can be, a place is the same from job to job, as one that the container's tree lacks is made in it.
    """
    paths = [os.path.normpath(environment[name]) for name in ("PMIX_SERVER_TMPDIR", "OMPI_MCA_orte_top_session_dir")
             if environment.get(name, "").startswith("/")]
    places = ["/".join(path.split("/")[:3]) if path.startswith("/tmp/") else os.path.dirname(path) for path in paths]
    step = "%s.%s" % (environment.get("SLURM_JOB_ID"), environment.get("SLURM_STEP_ID"))
    # slurmd's own for a step, in which PMIx since 5 keeps what the ranks share
    places.append("%s/spmix_appdir_%d_%s" % (environment.get("PMIX_SYSTEM_TMPDIR", ""), os.getuid(), step))
    return Mount.same(place for place in places if place.strip("/"))


# --- programs and libraries ---------------------------------------------------------------------------

class LoaderCache:
    """Where the host's dynamic loader finds libraries: ld.so(8), /etc/ld.so.cache, as far as it can be read.

    Both headers that it may begin with are in glibc's sysdeps/generic/dl-cache.h.
    """

    PATH = "/etc/ld.so.cache"
    OLD, NEW = b"ld.so-1.7.0", b"glibc-ld.so.cache1.1"
    # What an entry's flags say of the ABI of programs of 64 bits, and of those of 32 bits that may run beside them
    ABI_BITS = 0xFF00
    ABIS = {"x86_64": 0x0300, "s390x": 0x0400, "ppc64le": 0x0500, "aarch64": 0x0A00, "riscv64": 0x1000}
    ABIS_OF_32_BITS = {"x86_64": 0x0000, "aarch64": 0x0900}

    def __init__(self, machine):
        self.machine = machine
        try:
            self.data = read_file(self.PATH)
        except OSError as error:
            say.debug("%s: %s" % (self.PATH, error.strerror))
            self.data = b""

    def find(self, name, is_32_bit=False):
        """Paths of the library of this name, in the loader's order."""
        wanted, abi = os.fsencode(name), (self.ABIS_OF_32_BITS if is_32_bit else self.ABIS).get(self.machine)
        if wanted + b"\0" not in self.data or is_32_bit and abi is None:
            return []
        return [os.fsdecode(path) for flags, key, path in self._entries()
                if key == wanted and path.startswith(b"/") and abi in (None, flags & self.ABI_BITS)]

    def _entries(self):
        """(flags, name, path) of each entry that can be read."""
        import struct
        layout, strings, first, count = self._table()
        size = struct.calcsize(layout)
        for place in range(first, min(first + count * size, len(self.data) - size + 1), size):
            flags, key, value = struct.unpack_from(layout, self.data, place)[:3]
            yield flags, self._text(strings + key), self._text(strings + value)

    def _table(self):
        """(layout of an entry, where its offsets count from, offset of the first, number of entries)."""
        data, start = self.data, 0
        if data.startswith(self.OLD):
            count = int.from_bytes(data[12:16], sys.byteorder)
            start = (16 + 12 * count + 7) // 8 * 8          # the new one may follow, aligned as its entries are
            if data[start:start + len(self.NEW)] != self.NEW:
                return "=iII", 16 + 12 * count, 16, count
        if data[start:start + len(self.NEW)] != self.NEW:
            return "=iII", 0, 0, 0
        return "=iIIIQ", start, start + 48, int.from_bytes(data[start + 20:start + 24], sys.byteorder)

    def _text(self, offset):
        end = self.data.find(b"\0", offset, offset + 4096)
        return self.data[offset:max(end, offset)]


def elf_machine(head):
    """Class, byte order and e_machine in the first bytes of an ELF file: what is loaded together has the same."""
    return head[4:6] + head[18:20]


class ElfFile:
    """What the kernel and the dynamic loader read of an ELF file; ValueError where it is none, or a malformed one.

    Nothing is read but what lies in the file and is no larger than an honest one's. System V ABI, chapters 4 and 5
    """

    LOAD, DYNAMIC, INTERPRETER, NOTE, PROTECTED = 1, 2, 3, 4, 0x6474E552        # p_type, the last one PT_GNU_RELRO
    NEEDED, STRING_TABLE, STRING_SIZE, RPATH, RUNPATH = 1, 5, 10, 15, 29        # d_tag
    COUNTS = 0x6FFFFFF9, 0x6FFFFFFA                                             # DT_RELACOUNT, DT_RELCOUNT
    MAX_TABLE, MAX_STRINGS, MAX_STRING = 1 << 16, 4 << 20, 1 << 16              # bytes

    def __init__(self, descriptor, size, start=0):
        """`start` is where in the open file it begins, of `size` bytes at most."""
        import struct
        self.descriptor, self.size, self.start = descriptor, size, start
        head = os.pread(descriptor, 64, start)
        if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
            raise ValueError("no ELF file")
        self.order, self.is_64 = "<" if head[5] == 1 else ">", head[4] == 2
        self.machine = elf_machine(head)
        if not self.is_64 and size > 1 << 31:
            raise ValueError("too large")
        wide = "Q" if self.is_64 else "I"
        self.word = struct.Struct(self.order + wide)
        self.segment = struct.Struct(self.order + ("IIQQQQQQ" if self.is_64 else "8I"))
        self.entry = struct.Struct(self.order + wide * 2)
        self.section = struct.Struct(self.order + ("IIQQQQIIQQ" if self.is_64 else "10I"))
        place, counts = (32, 54) if self.is_64 else (28, 42)
        self.segment_table, self.section_table = struct.unpack_from(self.order + wide * 2, head, place)
        segment_size, count, section_size, self.section_count = struct.unpack_from(self.order + "4H", head, counts)
        if segment_size != self.segment.size or section_size not in (0, self.section.size):
            raise ValueError("entries of an unknown size")
        self.segments = self._table(self.segment, self.segment_table, count)
        if not self.is_64:      # in the order that they have in files of 64 bits
            self.segments = [row[:1] + row[6:7] + row[1:6] + row[7:] for row in self.segments]
        self.dynamic_place, self.dynamic = 0, []
        for place in self.positions(self.DYNAMIC):
            self.dynamic_place, length = self.extent(place)
            self.dynamic = self._table(self.entry, self.dynamic_place, length // self.entry.size)

    def read(self, offset, length, limit):
        """Bytes of the file; ValueError where it has fewer, or they are more than `limit`."""
        if length > limit or offset + length > self.size:
            raise ValueError("a part lies outside of the file")
        data = os.pread(self.descriptor, length, self.start + offset)
        if len(data) != length:
            raise ValueError("truncated")
        return data

    def _table(self, entry, offset, count):
        return list(entry.iter_unpack(self.read(offset, entry.size * count, self.MAX_TABLE)))

    def positions(self, kind):
        """The places in the table of segments of this kind."""
        return [place for place, segment in enumerate(self.segments) if segment[0] == kind]

    def extent(self, place):
        """(offset, size) of a segment in the file."""
        return self.segments[place][2], self.segments[place][5]

    def memory(self, place):
        """(address, size, alignment) of a segment in memory."""
        return self.segments[place][3], self.segments[place][6], self.segments[place][7]

    def pack(self, segment):
        """The bytes of a segment's entry in the table."""
        kind, flags, *places, alignment = segment
        return self.segment.pack(*(segment if self.is_64 else (kind, *places, flags, alignment)))

    @property
    def interpreter(self):
        """The loader that the file asks for, b"" where it asks for none."""
        for place in self.positions(self.INTERPRETER):
            offset, length = self.extent(place)
            return self.read(offset, length, 1 << 12).partition(b"\0")[0]
        return b""

    @property
    def go_notes(self):
        """The places in the table of segments of notes that Go's linker left, which are of Go's programs alone."""
        return [place for place in self.positions(self.NOTE)
                if b"Go\0\0" in self.read(*self.extent(place), self.MAX_TABLE)]

    def entries(self, *tags):
        """(place in the table, tag, value) of the dynamic entries with these tags, up to the end mark."""
        found = []
        for place, (tag, value) in enumerate(self.dynamic):
            if tag == 0:
                break
            if tag in tags:
                found.append((place, tag, value))
        return found

    @property
    def strings(self):
        """(offset in the file, address, size) of the strings of the dynamic section."""
        values = {tag: value for _, tag, value in self.entries(self.STRING_TABLE, self.STRING_SIZE)}
        if len(values) != 2:
            raise ValueError("no dynamic strings")
        address, length = values[self.STRING_TABLE], values[self.STRING_SIZE]
        for place in self.positions(self.LOAD):
            offset, size = self.extent(place)
            start, _, _ = self.memory(place)
            if start <= address and address + length <= start + size:
                return offset + address - start, address, length
        raise ValueError("dynamic strings that are not in the file")

    @found_once
    def string_data(self):
        """The bytes of all dynamic strings."""
        offset, _, length = self.strings
        return self.read(offset, length, self.MAX_STRINGS)

    def string(self, value):
        """The dynamic string that starts at `value`."""
        end = self.string_data.find(b"\0", value)
        if not value <= end <= value + self.MAX_STRING:
            raise ValueError("a string without an end")
        return self.string_data[value:end]

    def string_section(self, address):
        """The place in the file of the section header of the strings at `address`; None where there is none."""
        try:
            sections = self._table(self.section, self.section_table, self.section_count)
        except ValueError:
            return None
        for place, section in enumerate(sections):
            if section[1] == 3 and section[3] == address:       # SHT_STRTAB
                return self.section_table + place * self.section.size
        return None


def elf_magic(descriptor):
    """The mark of an ELF file, b"" where a file has none."""
    try:
        head = os.pread(descriptor, 4, 0)
    except OSError:
        return b""
    return head if head == b"\x7fELF" else b""


def read_elf(path, read):
    """What `read` makes of an ElfFile; OSError, ValueError."""
    with Closing(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as descriptor:
        return read(ElfFile(descriptor, os.fstat(descriptor).st_size))


class Starter:
    """A program of a few bytes that executes, in a new process, what its operands say, and ends at once: so the command
    becomes a child of the next process above that adopts orphans. The status of that is 127 where there is no such
    program, 126 where it cannot be executed, and its own 125 where there can be no process for it. elf(5), prctl(2):
    PR_SET_CHILD_SUBREAPER"""

    ADDRESS = 0x400000
    # e_machine, e_flags, and what tests/starters/ has as text, by uname's machine
    X86_64 = (62, 0, "488b0c24488d742410488d54cc10488b3e5657b8390000000f055f5e85c07517b83b0000000f0583f8fe400f"
                     "94c7400fb6ff83c77eeb08c1f81f83e07d89c7b8e70000000f05")
    I386 = (3, 0, "8b0c248d7424088d548c08b802000000cd8085c075188b1e89f1b80b000000cd8031db83f8fe0f94c383c37e"
                  "eb08c1f81f83e07d89c3b8fc000000cd80")
    AARCH64 = (183, 0, "f30340f9f4430091950e138b200280d2010080d2020080d2030080d2040080d2881b80d2010000d4400100b5"
                       "800240f9e10314aae20315aaa81b80d2010000d41f0800b1c00f80d20014809a03000014a10f80d220fc808a"
                       "c80b80d2010000d4")
    ARM = (40, 0x5000000, "00409de508508de2046185e00270a0e3000000ef000050e30800001a000095e50510a0e10620a0e1"
                          "0b70a0e3000000ef020070e37e00a0e301008002010000eac00fa0e17d0000e2f870a0e3000000ef")
    MACHINES = {"x86_64": X86_64, "i386": I386, "i686": I386, "aarch64": AARCH64, "armv6l": ARM, "armv7l": ARM,
                "armv8l": ARM}

    @classmethod
    def program(cls, machine):
        """Its bytes; EngineError where it is not known for a machine."""
        import struct
        if machine not in cls.MACHINES:
            raise EngineRefusedError("a command cannot be started below PRoot on a machine of type %s" % machine,
                                     "mode N1 can")
        number, flags, code = cls.MACHINES[machine]
        is_64 = machine in ("x86_64", "aarch64")
        word, sizes = ("Q", (64, 56)) if is_64 else ("I", (52, 32))
        place, size = sum(sizes), sum(sizes) + len(code) // 2
        header = struct.pack("<7s9xHHI3%sI6H" % word, b"\x7fELF%c\1\1" % (2 if is_64 else 1), 2, number, 1,
                             cls.ADDRESS + place, sizes[0], 0, flags, sizes[0], sizes[1], 1, 0, 0, 0)
        # p_flags, to be read and executed, has another place in each
        fields = (0, cls.ADDRESS, cls.ADDRESS, size, size)
        segment = struct.pack("<II6Q", 1, 5, *fields + (0x1000,)) if is_64 else struct.pack(
            "<8I", 1, *fields + (5, 0x1000))
        return header + segment + bytes.fromhex(code)


def embedded_program(path):
    """[(offset, bytes)] of what is loaded of a program for the same machine that lies in the one at `path`. elf(5)"""
    with open(path, "rb") as file:
        content = file.read()
        place = content.find(content[:6], 1)
        while place > 0 and content[place + 16:place + 20] != b"\2\0" + content[18:20]:        # ET_EXEC, e_machine
            place = content.find(content[:6], place + 1)
        try:
            elf = ElfFile(file.fileno(), len(content) - place, place)
            extents = [elf.extent(number) for number in elf.positions(elf.LOAD)]
            return [(offset, elf.read(offset, length, len(content))) for offset, length in [(0, 4096)] + extents]
        except (OSError, ValueError):       # no other program in it
            return []


def elf_interpreter(path):
    """The loader (bytes) that a program asks for; b"" where it asks for none, or cannot be read."""
    try:
        return read_elf(path, lambda elf: elf.interpreter)
    except (OSError, ValueError):
        return b""


class GuestLibraries:
    """Where the dynamic loader of a container looks for libraries. ld.so(8)"""

    MAX_FILES, MAX_DIRECTORIES = 100, 200       # of configuration, and what they name

    def __init__(self, tree):
        self.tree = tree

    @found_once
    def directories(self):
        """The guest paths, without links, of the directories that exist: those configured, then the usual ones."""
        import itertools
        wanted = list(itertools.islice(self._configured("/etc/ld.so.conf", [self.MAX_FILES]), self.MAX_DIRECTORIES))
        for start in ("/lib", "/usr/lib"):
            wanted += ["%s/%s" % (start, name) for name in self.tree.entries(start) if "-linux-" in name]
        wanted += ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib64", "/usr/local/lib"]
        found = []
        for guest in wanted:
            try:
                guest = self.tree.resolve(guest)
            except OSError:
                continue
            if guest not in found and ":" not in guest and os.path.isdir(self.tree.root + guest):
                found.append(guest)
        return found

    def find(self, name, machine):
        """The guest path, without links, of the first library of that name for an ElfFile's machine, "" for none."""
        for directory in self.directories:
            try:
                guest = self.tree.resolve(directory + "/" + name)
                head = read_file(self.tree.root + guest, 64)
            except OSError:
                continue
            if head[:4] == b"\x7fELF" and elf_machine(head) == machine:
                return guest
        return ""

    def _configured(self, guest, allowance):
        """Directories that a file of ld.so.conf's kind names, those that it includes with it."""
        allowance[0] -= 1
        if allowance[0] < 0:
            return
        for line in self.tree.read(guest).splitlines():
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[0] == "include":
                directory, _, pattern = os.path.join(os.path.dirname(guest), words[1]).rpartition("/")
                for name in self.tree.entries(directory):
                    if self._is_match(name, pattern):
                        yield from self._configured(directory + "/" + name, allowance)
            elif words and words[0].startswith("/"):
                yield words[0]

    @staticmethod
    def _is_match(name, pattern):
        """Whether a pattern of the shell's, nearly always *.conf, has the name."""
        if pattern[:1] == "*" and not set("*?[") & set(pattern[1:]):
            return name.endswith(pattern[1:])
        import fnmatch
        return fnmatch.fnmatchcase(name, pattern)

    def loader(self, interpreter):
        """The guest path, without links, of the loader that a program asks for; "" where there is none."""
        name = os.fsdecode(interpreter)
        if name.startswith(self.tree.inside):       # of a program that is converted
            name = name[len(self.tree.inside) - 1:]
        try:
            guest = self.tree.resolve(name)
        except OSError:
            return ""
        return guest if os.path.isfile(self.tree.root + guest) else ""

    def shell_loader(self):
        """The guest path of the loader of the container's shell; "" where it has none."""
        try:
            return self.loader(elf_interpreter(self.tree.path("/bin/sh")))
        except OSError:         # links in a circle
            return ""


def newest_glibc(data):
    """The newest version of glibc's symbols that a library (bytes) names: what it needs, or, of libc itself, has."""
    import re
    # A stranger's number may have any length, and would take long to be one
    version = re.compile(rb"\0GLIBC_([0-9]{1,3})\.([0-9]{1,3})(?:\.[0-9]{1,3})?(?=\0)")
    found = (match.group(1, 2) for match in version.finditer(data))
    return max(((int(major), int(minor)) for major, minor in found), default=(0, 0))


# --- devices and MPI ----------------------------------------------------------------------------------

def graphics_mounts(machine):
    """The host's direct rendering drivers, which lie beside its OpenGL libraries, and the socket of its display."""
    import glob
    cache = LoaderCache(machine)
    found = [path for name in ("libGL.so.1", "libEGL.so.1", "libdrm.so.2") for path in cache.find(name)]
    patterns = ["/usr/lib/dri", "/usr/lib64/dri", "/lib/dri", "/lib64/dri", "/usr/lib/*/dri", "/tmp/.X11-unix"]
    patterns += [glob.escape(os.path.dirname(path)) + "/dri" for path in found]
    return Mount.same(path for pattern in patterns for path in glob.glob(pattern))


def graphics_nodes():
    """The device nodes of GPUs of other makers: for rendering, and for AMD's ROCm, whose libraries are the image's."""
    return Mount.same(("/dev/dri", "/dev/kfd"))


class ContainerEdits:
    """What devices bring into a container, in CDI's word: files of the host, mounts, device nodes, variables.

    Libraries and programs appear as links in one directory, so that they cost one mount and leave no empty files
    in the container's tree; the directories of the host that the links lead to are mounted beside it.
    """

    LIBRARIES, LIBRARIES_OF_32_BITS, PROGRAMS = "lib64/", "lib/", "bin/"

    def __init__(self, place="/usr/local/nvidia"):
        self.place, self.host_place = place, place + "-host"
        self.files = {}             # name below the place: path
        self.mounts = []
        self.devices = []           # Mounts, needed where the container does not see the host's /dev
        self.environment = {}
        self.first_library_directory = ""       # of the container, searched before ours; the others after them
        self.library_directories = []

    def merge(self, other):
        """Take over what `other` holds."""
        self.files.update(other.files)
        self.mounts += other.mounts
        self.devices += other.devices
        self.environment.update(other.environment)
        self.library_directories += other.library_directories

    def _directories(self):
        return sorted({os.path.dirname(os.path.realpath(path)) for path in self.files.values()})

    def links(self):
        """{name: target} of the symbolic links: relative ones, which lead to the same files here and inside."""
        directories = self._directories()
        found = {"%s/%d" % (os.path.basename(self.host_place), number): path
                 for number, path in enumerate(directories)}
        for name, path in self.files.items():
            directory, base = os.path.split(os.path.realpath(path))
            found["%s/%s" % (os.path.basename(self.place), name)] = "../../%s/%d/%s" % (
                os.path.basename(self.host_place), directories.index(directory), base)
        return found

    def link_mounts(self, directory):
        """The Mounts that make the links appear, which are in `directory`."""
        return [Mount("%s/%s" % (directory, os.path.basename(self.place)), self.place)] + [
            Mount(path, "%s/%d" % (self.host_place, number)) for number, path in enumerate(self._directories())]

    def extend_search_paths(self, environment):
        """The loader looks among our libraries first, the shell among our programs last."""
        own = ["%s/%s" % (self.place, part.rstrip("/")) for part in (self.LIBRARIES, self.LIBRARIES_OF_32_BITS)
               if any(name.startswith(part) for name in self.files)]
        words = [self.first_library_directory] + own + self.library_directories
        words.append(environment.get("LD_LIBRARY_PATH", ""))
        if any(words):
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, words))
        if any(name.startswith(self.PROGRAMS) for name in self.files):
            environment["PATH"] = "%s:%s/bin" % (environment.get("PATH", DEFAULT_PATH), self.place)


def version_numbers(text):
    """"550.54.14" as numbers, to compare."""
    return tuple(int(word[:9]) for word in text.split(".") if word.isdecimal())     # a stranger's may have any length


class GpuRequest:
    """Which of the host's NVIDIA GPUs a command is to have, and what for.

    `devices` holds indices and UUIDs, ["all"], or ["none"] for the driver alone; `count`, where it is not 0, stands for
    so many of them. `capabilities` is None where nothing is said. With `is_explicit` the user asked for it.
    """

    CAPABILITIES = frozenset(("compute", "compat32", "graphics", "utility", "video", "display", "ngx"))
    DEFAULT_CAPABILITIES = frozenset(("compute", "utility"))
    KIND = "nvidia.com/gpu"         # in CDI files

    def __init__(self, devices=("all",), count=0, capabilities=None, is_explicit=True):
        self.devices = list(devices)
        self.count = count
        self.capabilities = capabilities
        self.is_explicit = is_explicit

    @classmethod
    def parse(cls, text):
        """From docker's --gpus: all, N, or a CSV record of count=, device=, capabilities= and driver=."""
        fields = cls._fields(text)
        counts, devices = fields.get("count", []), fields.get("device", [])
        if len(counts) + bool(devices) > 1:
            raise UsageError("--gpus=%s: it asks for a number of GPUs and for certain ones" % text
                             if devices else "--gpus=%s: it says twice how many" % text)
        for device in devices:
            cls.check_device(device)
        if fields.get("driver", ["nvidia"]) != ["nvidia"]:
            raise UsageError("--gpus=%s: there is the driver nvidia alone" % text, "--dri is for other makers' GPUs")
        capabilities = set(fields.get("capabilities", ())) - {"gpu", "nvidia"}
        unknown = sorted(capabilities - cls.CAPABILITIES - {"all"})
        if unknown:
            raise UsageError("--gpus=%s: unknown capability %r" % (text, unknown[0]),
                             "there are all, " + ", ".join(sorted(cls.CAPABILITIES)))
        return cls(devices or ["all"], cls._count(text, (counts or ["all"])[0]),
                   cls._expanded(capabilities) if capabilities else None)

    @staticmethod
    def _fields(text):
        """{key: words} of the CSV record; words without a key go on with the list before them, else are a count."""
        import csv
        try:
            record = next(csv.reader([text], strict=True), [])
        except csv.Error:
            record = []
        fields, key = {}, "count"
        for field in record:
            name, equals, value = field.partition("=")
            if equals and (name not in ("count", "device", "capabilities", "driver") or name in fields):
                record = []
                break
            if equals or key not in ("device", "capabilities"):
                key = name if equals else "count"
            fields.setdefault(key, []).extend((value if equals else field).split(","))
        if not record or not all(word for words in fields.values() for word in words):
            raise UsageError("--gpus=%s: it cannot be understood" % text,
                             "write all, a number, device=0,1 or all,capabilities=utility")
        return fields

    @staticmethod
    def _count(text, word):
        if word in ("all", "-1"):
            return 0
        if not word.isdecimal() or not 0 < int(word[:9]) < 1000:
            raise UsageError("--gpus=%s: %r is no number of GPUs" % (text, word),
                             "write all, a number from 1 on, or device=INDEX or UUID")
        return int(word)

    @staticmethod
    def check_device(word):
        """UsageError unless `word` names a GPU as NVIDIA_VISIBLE_DEVICES does."""
        import re
        if re.fullmatch(r"[0-9]+:[0-9]+", word):
            raise UsageError("%s: CUDA knows parts of a GPU by their UUID alone" % word, "nvidia-smi -L shows it")
        if not re.fullmatch(r"[0-9]{1,4}|all|none|(GPU|MIG)-[\w/-]+", word):
            raise UsageError("%r is no GPU" % word, "write an index, or a UUID as nvidia-smi -L shows it")

    @classmethod
    def _expanded(cls, words):
        return cls.CAPABILITIES if "all" in words else frozenset(words) & cls.CAPABILITIES

    @classmethod
    def of_variables(cls, environment, is_explicit):
        """From NVIDIA_VISIBLE_DEVICES, or of an image from before that was invented; None where none is asked for."""
        text = environment.get("NVIDIA_VISIBLE_DEVICES")
        if text is None and "CUDA_VERSION" in environment and "NVIDIA_REQUIRE_CUDA" not in environment:
            text = "all"
        words = [word.strip() for word in (text or "void").split(",")]
        prefix = cls.KIND + "="
        words = [word[len(prefix):] if word.startswith(prefix) else word for word in words if word]
        if not words or words == ["void"]:
            return None
        request = cls(["all"] if "all" in words else words, is_explicit=is_explicit)
        try:
            for word in words:
                cls.check_device(word)
        except UsageError as error:
            if is_explicit:
                raise UsageError("NVIDIA_VISIBLE_DEVICES=%s: %s" % (text, error.message), error.hint)
            say.debug("NVIDIA_VISIBLE_DEVICES=%s: %s" % (text, error.message))
            request.devices = ["all"]
        return request

    def needed_capabilities(self, environment):
        """What was asked for, else what NVIDIA_DRIVER_CAPABILITIES says, else compute and utility."""
        if self.capabilities is not None:
            return self.capabilities
        words = {word.strip() for word in environment.get("NVIDIA_DRIVER_CAPABILITIES", "").split(",")}
        return self._expanded(words) or self.DEFAULT_CAPABILITIES

    def choose(self, allowed, gpus):
        """The indices and UUIDs that CUDA shall see, None for all there are; never more than `allowed`, which is the
        batch system's CUDA_VISIBLE_DEVICES (None where it says nothing). `gpus` are those of the host."""
        pool = None
        if allowed is not None:         # the words of it that stand for GPUs
            pool = [word for word in map(str.strip, allowed.split(",")) if word not in ("", "-1", "NoDevFiles")]
        if self.count:
            return self._first(pool, allowed, gpus)
        if "all" in self.devices or not self.is_explicit and self.devices != ["none"] and pool is not None:
            return pool
        wanted = [word for word in self.devices if word != "none"]
        for word in wanted:
            self._check_choice(word, pool, allowed, gpus)
        return wanted

    def _first(self, pool, allowed, gpus):
        """The first of those there are, as many as are asked for."""
        known = pool
        if pool is None:
            known = [gpu.index for gpu in gpus] or [str(number) for number in range(self.count)]
        if self.count > len(known):
            raise EngineError("%d GPUs are asked for, and there are %d" % (self.count, len(known)),
                              "CUDA_VISIBLE_DEVICES=%s is what the batch system gave" % allowed if allowed else "")
        return known[:self.count]

    def _check_choice(self, word, pool, allowed, gpus):
        """EngineError where an index or UUID is of none that may be had."""
        # The UUID of an index, the index of a UUID; "" where the host has no such GPU
        other_name = next((gpu.uuid if word == gpu.index else gpu.index
                           for gpu in gpus if word in (gpu.index, gpu.uuid)), "")
        if pool is not None and not {word, other_name} & set(pool):
            raise EngineError("GPU %s is not among those that the batch system gave" % word,
                              "CUDA_VISIBLE_DEVICES=%s there" % allowed)
        if self.is_explicit and gpus and not word.startswith("MIG-") and not other_name:
            raise EngineError("GPU %s: there is none of that name" % word, "there are " + ", ".join(
                "%s (%s)" % (gpu.index, gpu.uuid) for gpu in gpus))


class Gpu:
    """One NVIDIA GPU of the host, as the driver's /proc/driver/nvidia/gpus/PCI-ADDRESS/information describes it."""

    def __init__(self, index, address, facts):
        self.index = index
        self.address = address
        self.uuid = facts.get("GPU UUID", "")
        self.minor = facts.get("Device Minor", index)
        self.model = facts.get("Model", "")

    @classmethod
    def list(cls):
        """All of them, in the order of nvidia-smi: that of their places on the bus."""
        directory, found = "/proc/driver/nvidia/gpus", []
        for address in entries_of(directory):
            lines = system_text("%s/%s/information" % (directory, address)).splitlines()
            pairs = [line.partition(":") for line in lines]
            found.append(cls(str(len(found)), address, {name.strip(): value.strip() for name, _, value in pairs}))
        return found

    def nodes(self):
        """Paths of its device nodes, those for rendering among them."""
        names = entries_of("/sys/bus/pci/devices/%s/drm" % self.address)     # none without the driver's module for it
        return ["/dev/nvidia" + self.minor] + ["/dev/dri/" + name for name in names
                                               if name.startswith(("card", "renderD"))]


class NvidiaDriver:
    """The NVIDIA driver of this host: its version, and which of its files a container needs for what.

    Which files are for which capability is libnvidia-container's src/nvc_info.c; the libraries are found by their
    version, so that new ones need no new list, and only known ones are left out where they are not asked for.
    """

    NAME = "libcuda.so.1"
    # Where loaders without a cache look, and systems that keep the driver out of it
    DIRECTORIES = ("/usr/lib64", "/usr/lib", "/lib64", "/lib", "/run/opengl-driver/lib", "/usr/local/nvidia/lib64")
    LIBRARIES = {
        "utility": ("libnvidia-ml", "libnvidia-cfg"),
        "compute": ("libcuda", "libcudadebugger", "libnvidia-nvvm", "libnvidia-nvvm70", "libnvidia-ptxjitcompiler",
                    "libnvidia-opencl", "libnvidia-compiler", "libnvidia-fatbinaryloader"),
        "video": ("libnvcuvid", "libnvidia-encode", "libnvidia-opticalflow", "libvdpau_nvidia"),
        "graphics": ("libGLX_nvidia", "libEGL_nvidia", "libGLESv1_CM_nvidia", "libGLESv2_nvidia", "libnvidia-eglcore",
                     "libnvidia-glcore", "libnvidia-tls", "libnvidia-glsi", "libnvidia-fbc", "libnvidia-ifr",
                     "libnvidia-rtcore", "libnvoptix", "libnvidia-glvkspirv", "libnvidia-egl-gbm",
                     "libnvidia-egl-wayland", "libnvidia-egl-wayland2", "libnvidia-egl-xcb", "libnvidia-egl-xlib"),
        "ngx": ("libnvidia-ngx",),
    }
    # The vendor-neutral front ends are the container's own affair: a newer host's need a newer C library
    FRONT_ENDS = ("libGL", "libGLX", "libEGL", "libOpenGL", "libGLdispatch", "libGLESv1_CM", "libGLESv2")
    ALIASES = (("libcuda.so", "libcuda.so.1"), ("libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1"),
               ("libGLX_indirect.so.0", "libGLX_nvidia.so.0"))
    PROGRAMS = {"utility": ("nvidia-smi", "nvidia-debugdump", "nvidia-persistenced"),
                "compute": ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server", "nvidia-imex", "nvidia-imex-ctl")}
    FILES = {"compute": ("OpenCL/vendors/nvidia.icd",),
             "graphics": ("glvnd/egl_vendor.d/10_nvidia.json", "vulkan/icd.d/nvidia_*.json",
                          "vulkan/implicit_layer.d/nvidia_*.json", "egl/egl_external_platform.d/*nvidia*.json",
                          "nvidia/nvoptix.bin")}
    SOCKETS = {"utility": ("/run/nvidia-persistenced",), "compute": ("/run/nvidia-fabricmanager", "/tmp/nvidia-mps")}
    CONTROL_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps",
                     "nvidia-caps-imex-channels", "gdrdrv", "nvidia-fs*", "nvidia-nvswitch*")

    def __init__(self, machine):
        self.cache = LoaderCache(machine)
        self.machine = machine
        self.version = self._version_of(self.library) or self.module_version

    @found_once
    def library(self):
        """The path of libcuda.so.1, else of the library that only tells about GPUs; "" where there is none. Of several
        the kernel's: CUDA's packages bring newer ones for older drivers, and the loader may know them as well."""
        directories = self.DIRECTORIES + ("/usr/lib/%s-linux-gnu" % self.machine,)
        found = [path for name in (self.NAME, "libnvidia-ml.so.1")
                 for path in self.cache.find(name) + ["%s/%s" % (directory, name) for directory in directories]
                 if os.path.exists(path)]
        fitting = [path for path in found if self._version_of(path) == self.module_version]
        return (fitting + found + [""])[0]

    @staticmethod
    def _version_of(library):
        """The version in a library's full name; "" where the system gave it none."""
        suffix = os.path.realpath(library).partition(".so.")[2]
        return suffix if len(version_numbers(suffix)) > 1 else ""

    @found_once
    def module_version(self):
        """The version of the kernel's part; "" where it is not loaded."""
        import re
        found = re.search(r"Module.*?\s(\d+\.\d+(\.\d+)?)\s", system_text("/proc/driver/nvidia/version"))
        return found.group(1) if found else ""

    @staticmethod
    def _of(table, capabilities):
        wanted = capabilities | ({"graphics"} if "display" in capabilities else set())
        return {name for capability, names in table.items() if capability in wanted for name in names}

    def _is_own(self, name):
        """Whether a file name is a library's of this driver: by its version, but two families have their own."""
        import re
        stem, _, suffix = name.partition(".so.")
        if re.fullmatch(r"libnvidia-nvvm70|libnvidia-egl-(gbm|wayland2?|xcb|xlib)", stem):
            return bool(suffix)
        return suffix == self.version if self.version else bool(suffix) and stem.startswith(("libcuda", "libnvidia-"))

    def _libraries(self, library, capabilities):
        """{name: path} of the libraries beside `library`, under all names that they have there."""
        known = {name for names in self.LIBRARIES.values() for name in names}
        left_out, listed = known - self._of(self.LIBRARIES, capabilities) | set(self.FRONT_ENDS), {}
        for directory in (os.path.dirname(library), os.path.dirname(os.path.realpath(library))):
            for path in (directory, directory + "/vdpau"):
                for name in entries_of(path):
                    if name.startswith("lib") and name.partition(".so")[0] not in left_out:
                        listed.setdefault(name, path + "/" + name)
        found = {name: path for name, path in listed.items() if self._is_own(name)}
        stems = {name.partition(".so")[0] for name in found}
        real_paths = {os.path.realpath(path) for path in found.values()}
        for name, path in listed.items():
            if name.partition(".so")[0] in stems and os.path.realpath(path) in real_paths:
                found[name] = path
        for alias, name in self.ALIASES:
            if name in found:
                found.setdefault(alias, found[name])
        return {name: path for name, path in found.items() if os.path.exists(path)}

    def edits(self, capabilities, chosen, gpus, environment):
        """The ContainerEdits for `capabilities` and the chosen GPUs, None for all. `environment` is the host's."""
        import glob
        edits = ContainerEdits()
        for name, path in self._libraries(self.library, capabilities).items():
            edits.files[edits.LIBRARIES + name] = path
        small = self.cache.find(self.NAME, is_32_bit=True) if "compat32" in capabilities else []
        for name, path in self._libraries(small[0], capabilities).items() if small else ():
            edits.files[edits.LIBRARIES_OF_32_BITS + name] = path
        for name in self._of(self.PROGRAMS, capabilities):
            path = Host.find_executable(name, DEFAULT_PATH)
            if path:
                edits.files[edits.PROGRAMS + name] = path
        paths = [path for name in self._of(self.FILES, capabilities) for directory in ("/etc", "/usr/share")
                 for path in glob.glob("%s/%s" % (directory, name))]
        paths += self._of(self.SOCKETS, capabilities)
        pipes = environment.get("CUDA_MPS_PIPE_DIRECTORY", "")
        if pipes.startswith("/") and os.path.normpath(pipes).strip("/") and "compute" in capabilities:
            paths.append(pipes)
        if self.version:
            paths.append("/lib/firmware/nvidia/" + self.version)
        edits.mounts = Mount.same(sorted(paths))
        # In a cgroup of its own a batch system counts from 0 again: then the cgroup decides, and no number of ours
        nodes = self._nodes(None if chosen and "CUDA_VISIBLE_DEVICES" in environment else chosen, gpus)
        edits.devices = Mount.same(nodes)
        return edits

    def _nodes(self, chosen, gpus):
        """Paths of the device nodes: those that all share, and those of the chosen GPUs."""
        import glob
        found = [path for name in self.CONTROL_NODES for path in sorted(glob.glob("/dev/" + name))]
        own = [gpu for gpu in gpus if chosen is None or {gpu.index, gpu.uuid} & set(chosen)]
        if not own and chosen != []:        # nothing tells which nodes are whose
            return found + sorted(glob.glob("/dev/nvidia[0-9]*"))
        return found + [path for gpu in own for path in gpu.nodes()] + ["/proc/driver/nvidia"]

    def complaints(self, capabilities):
        """Lines about what will keep GPUs from working."""
        if self.module_version and self.module_version != self.version:
            yield "the NVIDIA driver's libraries are of version %s and its kernel module of %s" % (
                self.version, self.module_version)
        if not os.path.exists("/dev/nvidiactl"):
            yield "there is no /dev/nvidiactl: no NVIDIA GPU can be used on this host"
        elif "compute" in capabilities and not os.path.exists("/dev/nvidia-uvm"):
            yield ("there is no /dev/nvidia-uvm, which CUDA needs: a CUDA program that runs outside of a container, or "
                   "nvidia-modprobe -u, makes it")

    def forward_compatibility(self, tree):
        """The guest directory of a newer CUDA library that the image brings for drivers older than itself, "" where
        there is none or it is not for GPUs of this kind. CUDA Compatibility, Forward Compatibility"""
        guest = "/usr/local/cuda/compat"
        versions = [version_numbers(name.partition(".so.")[2]) for name in tree.entries(guest)
                    if name.startswith("libcuda.so.")]
        if not self.version or max(versions, default=())[:1] <= version_numbers(self.version)[:1]:
            return ""
        return "" if any("GeForce" in gpu.model or "TITAN" in gpu.model for gpu in Gpu.list()) else guest

    # CUDA version: the first branch of the driver that has it. CUDA Toolkit release notes, table 3
    BRANCHES = {(8, 0): 375, (9, 0): 384, (9, 1): 390, (9, 2): 396, (10, 0): 410, (10, 1): 418, (10, 2): 440,
                (11, 0): 450, (11, 1): 455, (11, 2): 460, (11, 3): 465, (11, 4): 470, (11, 5): 495, (11, 6): 510,
                (11, 7): 515, (11, 8): 520, (12, 0): 525, (12, 1): 530, (12, 2): 535, (12, 3): 545, (12, 4): 550,
                (12, 5): 555, (12, 6): 560, (12, 7): 565, (12, 8): 570, (12, 9): 575, (13, 0): 580}

    def _facts(self):
        """{name: version} of what conditions of an image may speak of, as far as it is known."""
        driver = version_numbers(self.version)
        cuda = [version for version, branch in self.BRANCHES.items() if driver and branch <= driver[0]]
        facts = {"driver": driver} if driver else {}
        if cuda and driver[0] < max(self.BRANCHES.values()) + 10:        # later ones may be of a later CUDA
            facts["cuda"] = max(cuda)
        return facts

    def _is_contradicted(self, condition):
        """Whether a condition as cuda>=12.4 is certainly false here."""
        import re
        match = re.fullmatch(r"(\w+)(>=|<=|!=|=|>|<)([\d.]+)", condition)
        own = self._facts().get(match.group(1)) if match else None
        if own is None:
            return False
        wanted = version_numbers(match.group(3))
        width = max(len(own), len(wanted))
        own, wanted = own + (0,) * (width - len(own)), wanted + (0,) * (width - len(wanted))
        return not {">=": own >= wanted, "<=": own <= wanted, "!=": own != wanted, "=": own == wanted,
                    ">": own > wanted, "<": own < wanted}[match.group(2)]

    def unmet_requirement(self, environment):
        """The first variable NVIDIA_REQUIRE_X, as NAME=CONDITIONS, that this driver does not meet, "" where it meets
        all: a space means or, a comma and."""
        if environment.get("NVIDIA_DISABLE_REQUIRE", "").lower() in ("1", "true", "yes", "on"):
            return ""
        for name, text in sorted(environment.items()):
            alternatives = text.split() if name.startswith("NVIDIA_REQUIRE_") else []
            if alternatives and all(any(map(self._is_contradicted, words.split(","))) for words in alternatives):
                return "%s=%s" % (name, text)
        return ""


class DeviceSpecs:
    """The host's CDI files, which say what each named device brings into a container.

    https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
    """

    DIRECTORIES = ("/etc/cdi", "/var/run/cdi")      # of two devices of one name the later one counts
    MAX_SIZE = 1 << 20
    NAME = r"([A-Za-z][\w.-]*/[A-Za-z][\w-]*)=([A-Za-z0-9][\w.:-]*)"
    LIBRARY_DIRECTORY = r"(/usr)?/lib(32|64)?(/[^/]+-linux-gnu[^/]*)?"
    PROGRAM_DIRECTORIES = frozenset(DEFAULT_PATH.split(":"))

    def __init__(self):
        self.devices = {}           # (kind, name): (path of the file, its common edits, those of the device)
        unread = []
        for directory in self.DIRECTORIES:
            for name in entries_of(directory):
                try:
                    if name.endswith((".json", ".yaml", ".yml")):
                        self._take_file(directory + "/" + name)
                except ImportError:
                    unread.append(directory + "/" + name)
        if unread:
            say.warning("%s: passed over, as Python's yaml module is not here; JSON needs none" % ", ".join(unread))

    @classmethod
    def parse_name(cls, text):
        """(kind, name) of VENDOR/CLASS=NAME; UsageError where it is none."""
        import re
        match = re.fullmatch(cls.NAME, text)
        if not match:
            raise UsageError("--device=%s: no device" % text,
                             "write /dev/NAME[:PATH][:rwm], or VENDOR/CLASS=NAME as in nvidia.com/gpu=all")
        return match.groups()

    def _take_file(self, path):
        try:
            document = self._document(path, read_file(path, self.MAX_SIZE))
            kind, devices = document.get("kind"), document.get("devices")
            common = self._object(document, "containerEdits")
            if not isinstance(kind, str) or not isinstance(devices, list):
                raise DocumentError("no kind, or no devices")
            for device in devices:
                if not isinstance(device, dict) or not isinstance(device.get("name"), (str, int)):
                    raise DocumentError("a device without a name")
                self.devices[kind, str(device["name"])] = path, common, self._object(device, "containerEdits")
        except DocumentError as error:
            say.warning("%s: passed over, as it is no CDI file: %s" % (path, error.message))
        except OSError as error:
            say.warning("%s: passed over: %s" % (path, error.strerror))

    @staticmethod
    def _document(path, data):
        if path.endswith(".json"):
            return parse_json(data, "the file")
        import yaml         # pylint: disable=import-error
        try:
            document = yaml.safe_load(data)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise DocumentError("not valid YAML")
        if not isinstance(document, dict):
            raise DocumentError("not a YAML object")
        return document

    @staticmethod
    def _object(document, key):
        value = document.get(key) or {}
        if not isinstance(value, dict):
            raise DocumentError("%s is no object" % key)
        return value

    @staticmethod
    def _objects(document, key):
        value = document.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DocumentError("%s is no list of objects" % key)
        return value

    @staticmethod
    def _path(document, *keys):
        """The first of the paths that the object has under these keys."""
        path = next((document[key] for key in keys if document.get(key)), None)
        is_path = isinstance(path, str) and path.startswith("/") and "\0" not in path
        if not is_path or not os.path.normpath(path).strip("/"):
            raise DocumentError("%s is no absolute path" % keys[0])
        return os.path.normpath(path)

    def names(self, kind):
        """The names of the devices of a kind."""
        return sorted(name for known, name in self.devices if known == kind)

    def find(self, kind, name):
        """The ContainerEdits of a device, None where no file names it; "all" stands for all of its kind."""
        names = [name] if (kind, name) in self.devices else self.names(kind) if name == "all" else []
        edits, done = ContainerEdits(), []
        for one in names:
            path, common, own = self.devices[kind, one]
            try:
                for part in (own,) if path in done else (common, own):
                    self._apply(edits, part)
            except DocumentError as error:
                raise DocumentError("%s: %s" % (path, error.message), "nvidia-ctk cdi generate writes it anew"
                                    if kind == GpuRequest.KIND else "")
            done.append(path)
        missing = [mount.source for mount in edits.mounts + edits.devices if not os.path.exists(mount.source)]
        missing += [path for path in edits.files.values() if not os.path.exists(path)]
        if missing:
            say.warning("%s names %d paths that do not exist, such as %s: it may be older than the driver" % (
                done[0], len(missing), missing[0]))
        edits.files = {name: path for name, path in edits.files.items() if os.path.exists(path)}
        return edits if names else None

    def _apply(self, edits, part):
        for node in self._objects(part, "deviceNodes"):
            path = self._path(node, "path")
            edits.devices.append(Mount(self._path(node, "hostPath", "path"), path, is_required=False))
        for mount in self._objects(part, "mounts"):
            self._take_mount(edits, self._path(mount, "hostPath"), self._path(mount, "containerPath"),
                             "ro" in strings_of(mount.get("options")))
        for text in strings_of(part.get("env")):
            name, equals, value = text.partition("=")
            if name and equals and "\0" not in text:
                edits.environment[name] = value
        for hook in self._objects(part, "hooks"):
            words = strings_of(hook.get("args"))
            if "create-symlinks" in words:
                self._take_links(edits, self._values(words, "--link"))
            elif "update-ldcache" in words:
                self._take_directories(edits, self._values(words, "--folder"))
            else:
                say.debug("a hook of a CDI file is passed over: %s" % " ".join(words or [str(hook.get("path"))]))

    @staticmethod
    def _values(words, option):
        """The values of an option, --option VALUE or --option=VALUE."""
        following = [word for before, word in zip(words, words[1:]) if before == option]
        return following + [word.partition("=")[2] for word in words if word.startswith(option + "=")]

    def _place(self, guest):
        """The name in ContainerEdits of what is to lie where systems keep libraries and programs, "" for others."""
        import re
        directory, name = os.path.split(guest)
        if re.fullmatch(self.LIBRARY_DIRECTORY, directory) and ".so" in name:
            is_32_bit = "32" in directory or "i386" in directory
            return (ContainerEdits.LIBRARIES_OF_32_BITS if is_32_bit else ContainerEdits.LIBRARIES) + name
        return ContainerEdits.PROGRAMS + name if directory in self.PROGRAM_DIRECTORIES else ""

    def _take_mount(self, edits, source, guest, is_read_only):
        place = self._place(guest)
        if place and not os.path.isdir(source):
            edits.files[place] = source
        else:           # what the caller cannot write to anyway needs no read-only mount, which not all modes can make
            edits.mounts.append(Mount(source, guest, is_read_only and os.access(source, os.W_OK), is_required=False))

    def _take_links(self, edits, values):
        """Links TARGET::PATH: what the target leads to appears at the path as well."""
        pairs = [value.split("::") for value in values if value.count("::") == 1]
        for target, guest in pairs + pairs:         # a link may lead to a later one
            if not guest.startswith("/"):
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(guest), target))
            path = edits.files.get(self._place(target))
            if path and self._place(guest):
                edits.files[self._place(guest)] = path
            elif path and guest not in [mount.guest for mount in edits.mounts]:
                edits.mounts.append(Mount(path, guest, is_required=False))

    def _take_directories(self, edits, values):
        """Directories of libraries, but for those that the loader of the container looks into anyway."""
        import re
        for guest in values:
            if guest.startswith("/") and ":" not in guest and not re.fullmatch(self.LIBRARY_DIRECTORY, guest):
                edits.library_directories.append(guest)


def device_mount(text):
    """The Mount of docker's --device=PATH[:GUEST][:rwm]; None for the standard streams, which every command has.

    The permissions are checked and bind nobody: without cgroups of one's own the device's mode decides.
    """
    source, *rest = text.split(":")
    permissions = rest.pop() if rest and not rest[-1].startswith("/") else "rwm"
    guest = rest[0] if rest else source
    if len(rest) > 1 or not guest.startswith("/") or not permissions or set(permissions) - set("rwm"):
        raise UsageError("--device=%s: no device" % text, "write /dev/NAME[:PATH][:rwm]")
    source = os.path.normpath(source)
    if source in ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd") or source.startswith(("/dev/fd/", "/proc/")):
        if os.path.normpath(guest) != source:
            raise UsageError("--device=%s: it is another one for each process, and keeps its name" % text)
        return None
    if not os.path.exists(source):
        raise NotFoundError("--device=%s: no such device" % source)
    mode = os.stat(source).st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
        raise UsageError("--device=%s: it is no device" % source, "-v makes files and directories appear")
    return Mount(source, guest)


class MpiLibrary:
    """An MPI library, of the host or of a container, and the binary interface that programs know it by.

    Libraries of one interface stand in for one another: MPICH ABI Compatibility Initiative (MPICH since 3.1, Intel MPI,
    MVAPICH2, Cray MPICH), Open MPI since 3.0, and MPI 5.0's own.
    """

    NAMES = ("libmpi.so.40", "libmpi.so.20", "libmpi.so.12", "libmpich.so.12", "libmpi_abi.so.1", "libmpi_abi.so.0")
    PLACE = "/usr/local/mpi"        # in the container
    LAUNCHERS = ("mpiexec", "mpirun")
    RUNTIME = ("libopen-rte.so", "libopen-pal.so", "libpmix.so", "libprrte.so")
    # What they and the network libraries below them load and read by its path: beside a library, and below a prefix
    PLUGINS = ("openmpi", "pmix", "pmix2", "prte", "mpich", "ucx", "libfabric", "libibverbs")
    FILES = ("openmpi", "pmix", "prte", "ucx", "libibverbs.d", "openmpi-mca-params.conf", "pmix-mca-params.conf")
    # What Intel's reads below its root, and the library that it opens by name once it runs
    INTEL_SETTINGS = ("opt/mpi/etc", "intel64/etc")
    OPENED = "libfabric.so.1"
    # Variables that lead an MPI to its own parts, and another one astray: where it lies, and what has other places here
    PREFIXES = ("OPAL_PREFIX", "PMIX_PREFIX", "PRTE_PREFIX", "I_MPI_ROOT")
    VARIABLES = PREFIXES + ("FI_PROVIDER_PATH", "I_MPI_OFI_LIBRARY", "I_MPI_PMI_LIBRARY")
    # The C library is the container's, whatever comes
    C_LIBRARY = ("ld-linux", "ld64", "libc.", "libm.", "libmvec.", "libpthread.", "libdl.", "librt.", "libutil.",
                 "libresolv.", "libanl.", "libnsl.", "libnss_", "libthread_db.")

    def __init__(self, directory, name, path):
        self.directory = directory      # as its own side sees it
        self.name = name
        self.path = path                # on the host
        self.machine, strings = read_elf(path, lambda elf: (elf.machine, elf.string_data))
        # By a symbol: Open MPI 1.10 had the name that is MPICH's
        self.maker = "Open MPI" if b"\0ompi_mpi_comm_world\0" in strings else "MPICH"
        # Open MPI up to 4 knows the ranks that its own launcher or srun has started, and no other launcher's of PMIx
        self.kind = "Open MPI 4" if b"\0libopen-rte.so" in strings else self.maker
        self.interface = "%s's %s" % (self.maker, self.common_name(name))

    @staticmethod
    def common_name(name):
        """The name in the interface: Debian's MPICH has others."""
        return "libmpi" + name[len("libmpich"):] if name.startswith("libmpich") else name

    @staticmethod
    def is_older(path, other):
        """Whether a library is older, by the end of full names; one that says no more than its interface is not."""
        versions = [version_numbers(os.path.realpath(each).partition(".so.")[2]) for each in (path, other)]
        return min(map(len, versions)) > 1 and versions[0] < versions[1]

    @classmethod
    def list(cls, directories, place):
        """{interface: MpiLibrary}, the first in `directories` of one side; `place` gives the host path of a path."""
        found = {}
        for directory in directories:
            for name in cls.NAMES:
                try:
                    library = cls(directory, name, place(directory + "/" + name))
                except (OSError, ValueError):       # not there, or no library
                    continue
                found.setdefault(library.interface, library)
        return found

    @classmethod
    def _directories(cls, environment, place):
        """Where one side's variables lead to: to libraries, or to a launcher, beside which they are."""
        found = [part for part in environment.get("LD_LIBRARY_PATH", "").split(":") if part.startswith("/")]
        for part in environment.get("PATH", DEFAULT_PATH).split(":"):
            try:
                is_there = any(os.path.exists(place("%s/%s" % (part, name))) for name in cls.LAUNCHERS)
            except OSError:         # links in a circle
                continue
            if is_there and part.startswith("/"):
                found += [os.path.dirname(part.rstrip("/")) + name for name in ("/lib", "/lib64")]
        return found

    @classmethod
    def of_host(cls, environment, machine):
        """{interface: MpiLibrary} of those that a job of the caller's would find."""
        cache = LoaderCache(machine)
        known = [os.path.dirname(path) for name in cls.NAMES for path in cache.find(name)]
        return cls.list(cls._directories(environment, os.path.abspath) + known, os.path.abspath)

    @classmethod
    def of_container(cls, tree, environment):
        """{interface: MpiLibrary} of those that programs in a GuestTree would find."""
        return cls.list(cls._directories(environment, tree.path) + GuestLibraries(tree).directories, tree.path)

    def is_kin(self, name):
        """Whether a name is one of its own: the library for another language, or a part of its runtime."""
        number = self.name.partition(".so.")[2]
        return (name.startswith("libmpi") and name.endswith(".so." + number)
                or ".so." in name and name.startswith(self.RUNTIME))

    def survey(self, environment, machine):
        """What a container needs of the host to use it: {name: path} of "libraries" and of "providers" of the network,
        "places" that are read by their path, {name: value} of "variables", and the version of "glibc" that they need.
        ToolError where ldd cannot tell. ldd(1)"""
        own = [self.directory + "/" + name for name in entries_of(self.directory) if self.is_kin(name)]
        own += self._opened(environment, machine)
        pmi = environment.get("I_MPI_PMI_LIBRARY", "")          # SLURM's, that Intel's is told to open
        own += [pmi] * os.path.isfile(pmi)
        libraries = {os.path.basename(path): path for path in own}
        libraries.update(self._needs(own, environment))
        places = self._places({os.path.dirname(path) for path in libraries.values()}, environment)
        providers = self._providers(environment)
        plugins = list(providers.values()) + [
            os.path.join(top, name) for place in places if os.path.isdir(place)
            for top, _, names in os.walk(place) for name in sorted(names) if name.endswith(".so")]
        libraries = dict(self._needs(plugins, environment), **libraries)
        # Plugins of others may need an MPI of this interface too: whatever its name is, there is one
        kin = {self.common_name(os.path.basename(path)): path for path in own if self.is_kin(os.path.basename(path))}
        libraries = {name: kin.get(self.common_name(name), path) for name, path in libraries.items()}
        needed = max(newest_glibc(read_file(path, 1 << 28)) for path in plugins + list(libraries.values()))
        variables = {name: environment[name] for name in self.PREFIXES if name in environment}
        if pmi in own:
            variables["I_MPI_PMI_LIBRARY"] = "%s/%s%s" % (self.PLACE, ContainerEdits.LIBRARIES, os.path.basename(pmi))
        return {"libraries": libraries, "providers": providers, "places": places, "variables": variables,
                "glibc": needed}

    def _needs(self, paths, environment):
        """{name: path} of the libraries that the host's loader finds for these, but for the C library's."""
        import re
        if not paths:
            return {}
        _, out, err = run_program(["ldd"] + paths, environment)
        found = re.findall(r"^\t(\S+) => (/.*) \(0x", out, re.MULTILINE)
        if not found:
            raise ToolError("ldd says nothing of %s: %s" % (self.path, err.strip()))
        return {name: path for name, path in found if not name.startswith(self.C_LIBRARY)}

    def _opened(self, environment, machine):
        """[the path of the library that it opens by name], [] where it opens none or the host has none."""
        if os.fsencode(self.OPENED) not in read_file(self.path, 1 << 28):
            return []
        paths = ["%s/%s" % (directory, self.OPENED) for directory in self._directories(environment, os.path.abspath)]
        paths = [environment.get("I_MPI_OFI_LIBRARY", "")] + paths + LoaderCache(machine).find(self.OPENED)
        return [path for path in paths if os.path.isfile(path)][:1]

    @staticmethod
    def _providers(environment):
        """{file name: path} of libfabric's providers where the variable leads, the first one of each. fi_provider(3)"""
        found = {}
        for directory in environment.get("FI_PROVIDER_PATH", "").split(":"):
            for name in entries_of(directory) if directory.startswith("/") else ():
                if name.endswith("-fi.so"):
                    found.setdefault(name, directory + "/" + name)
        return found

    def _places(self, directories, environment):
        """The paths that exist of plugins and settings that belong to libraries in these directories."""
        wanted = set()
        for directory in directories:
            prefix = directory = os.path.realpath(directory)
            while os.path.basename(prefix) in ("lib", "lib64") or prefix.endswith("-linux-gnu"):
                prefix = os.path.dirname(prefix)
            wanted |= {"%s/%s" % (directory, name) for name in self.PLUGINS}
            wanted |= {"%s/%s/%s" % (prefix, part, name) for part in ("etc", "share") for name in self.FILES}
        wanted |= {"/etc/" + name for name in self.FILES}
        if environment.get("I_MPI_ROOT", "").startswith("/"):
            wanted |= {"%s/%s" % (environment["I_MPI_ROOT"], name) for name in self.INTEL_SETTINGS}
        return sorted(path for path in wanted if os.path.exists(path))

    def edits(self, replaced, tree, survey):
        """The ContainerEdits that put it into the place of `replaced`, the MpiLibrary in a GuestTree; `survey` is its
        own. Of each library that both sides have the newer one is used."""
        edits, names = ContainerEdits(self.PLACE), {}
        edits.mounts += Mount.same(survey["places"])
        edits.environment.update(survey["variables"])
        for name, path in survey["providers"].items():
            edits.files["providers/" + name] = path
            edits.environment["FI_PROVIDER_PATH"] = self.PLACE + "/providers"
        own = self._guest_files(tree, [replaced.directory] + GuestLibraries(tree).directories)
        for name, path in sorted(survey["libraries"].items()):
            is_own = self.is_kin(name)
            if is_own or name not in own or not self.is_older(path, tree.path(own[name])):
                edits.files[edits.LIBRARIES + name] = path
                names[self.common_name(name)] = path if is_own else ""
        # Over the container's own files too: a program may know their path
        for name, guest in self._guest_files(tree, [replaced.directory]).items():
            path = names.get(self.common_name(name))
            if path:
                edits.mounts.append(Mount(path, guest))
        return edits

    @staticmethod
    def _guest_files(tree, directories):
        """{name: guest path, without links} of the libraries in these directories of a container, the first ones."""
        found = {}
        for directory in directories:
            for name in tree.entries(directory):
                if ".so" in name and name not in found:
                    try:
                        found[name] = tree.resolve(directory + "/" + name)
                    except OSError:         # links in a circle
                        continue
        return found


class JobStep:
    """The ranks of a parallel job that a launcher started on this node: how many, and what tells them from others."""

    # The variable that tells how many, and those that tell which: where none does, the parent process
    LAUNCHERS = (
        ("OMPI_COMM_WORLD_LOCAL_SIZE", ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "OMPI_MCA_orte_hnp_uri")),
        ("MPI_LOCALNRANKS", ()),        # Hydra, of MPICH, Intel MPI and MVAPICH2
        ("SLURM_STEP_TASKS_PER_NODE", ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NODEID")),
    )
    # For ranks that have user namespaces of their own, which keep them out of each other's memory: user_namespaces(7).
    # UCX then puts large messages by TCP, and may wait without end for the answer of a rank that has finished
    CAREFUL = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_smsc": "^cma",
               "UCX_POSIX_USE_PROC_LINK": "n", "UCX_TLS": "^cma", "UCX_TCP_PUT_ENABLE": "n",
               "MPIR_CVAR_CH4_CMA_ENABLE": "0"}

    def __init__(self, local_size, key):
        self.local_size = local_size
        self.key = key

    @classmethod
    def find(cls, environment, parent):
        """The JobStep of a process by its environment and the id of its parent; None where it is alone on its node."""
        for size_name, names in cls.LAUNCHERS:
            if size_name in environment:
                words = [name + "=" + environment[name] for name in names if name in environment]
                size = cls._size(environment[size_name], environment.get("SLURM_NODEID", "0"))
                return cls(size, " ".join(words) or "parent=%d" % parent) if size > 1 else None
        return None

    @staticmethod
    def _size(text, node):
        """The ranks on a node: a number, or as SLURM has it for all nodes, 2(x3),1; 0 where it is none."""
        import re
        sizes = []
        for match in re.finditer(r"(\d{1,6})(?:\(x(\d{1,6})\))?(?:,|$)", text):
            sizes += [int(match.group(1))] * int(match.group(2) or 1)
        place = int(node) if node.isdigit() and len(sizes) > 1 else 0
        return sizes[place] if place < len(sizes) else 0


def is_first_rank(environment):
    """Whether a process is the first one of a parallel job, or alone: what concerns all is told once."""
    names = ("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
    return all(environment.get(name, "0") == "0" for name in names)


# --- account, environment, limits and command ---------------------------------------------------------

class Account:
    """Who the command is inside: ids, and name and home where a passwd entry tells them."""

    def __init__(self, uid, gid, name="", home=""):
        self.uid = uid
        self.gid = gid
        self.name = name
        self.home = home

    @classmethod
    def find(cls, text, tree, host):
        """The account of NAME|UID[:GROUP|GID], "" meaning root, as docker looks it up: in the container.

        The caller's own name stands for the caller, and so does his id where the container does not know it.
        NotFoundError where a name is in no file.
        """
        user, _, group = (text or "0").partition(":")
        entries = cls._entries(tree.read("/etc/passwd"), 7)
        own, is_known = host.account, any(entry[2] == user for entry in entries)
        if own and (user == own.pw_name or user == str(own.pw_uid) and not is_known):
            listed = [entry for entry in entries if entry[0] == own.pw_name or entry[2] == str(own.pw_uid)]
            account = cls(own.pw_uid, own.pw_gid, own.pw_name, listed[0][5] if listed else "")
        else:
            account = cls._listed(user, entries, host)
        if group:
            account.gid = cls._group(group, tree)
        return account

    @classmethod
    def _listed(cls, user, entries, host):
        for name, _, uid, gid, _, home, _ in entries:
            if user in (name, uid) and cls._is_id(uid) and cls._is_id(gid):
                return cls(int(uid), int(gid), name, home)
        if not cls._is_id(user):
            raise NotFoundError("%r: no such user in the /etc/passwd that the container sees" % user,
                                "--hostauth shows it the host's; a number UID[:GID] needs no entry")
        uid = int(user)
        return cls(uid, host.gid if uid == host.uid else 0, "root" if uid == 0 else "", "/root" if uid == 0 else "")

    @classmethod
    def _group(cls, group, tree):
        for name, _, gid, _ in cls._entries(tree.read("/etc/group"), 4):
            if group in (name, gid) and cls._is_id(gid):
                return int(gid)
        if not cls._is_id(group):
            raise NotFoundError("%r: no such group in the /etc/group that the container sees" % group,
                                "--hostauth shows it the host's; a number UID:GID needs no entry")
        return int(group)

    def missing_lines(self, tree, host):
        """[(guest path, line)] of what passwd and group in a GuestTree, where they are, lack of this account, if it is
        the caller's own; names are the host's. passwd(5), group(5)"""
        import grp
        if self.uid != host.uid or self.uid == 0 or not host.account:
            return []
        try:
            group = grp.getgrgid(self.gid).gr_name
        except KeyError:
            group = self.name
        line = "%s:x:%d:%d::%s:/bin/sh" % (self.name or host.account.pw_name, self.uid, self.gid, self.home or "/")
        return [(guest, line) for guest, width, number, line in (
            ("/etc/passwd", 7, self.uid, line), ("/etc/group", 4, self.gid, "%s:x:%d:" % (group, self.gid)))
            if tree.read(guest) and str(number) not in [entry[2] for entry in self._entries(tree.read(guest), width)]]

    @staticmethod
    def _is_id(text):
        return 0 < len(text) <= 10 and not text.strip("0123456789") and int(text) < 0xFFFFFFFF

    @staticmethod
    def _entries(text, width):
        rows = (line.split(":", width) for line in text.split("\n") if "\0" not in line)
        return [row for row in rows if len(row) == width]


def host_environment(environment, keeps_home, tree):
    """What of the host's environment may go inside: not what leads to programs and libraries of the host, nor to a
    directory for temporary files that the GuestTree has not."""
    kept_out = {"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH", "PERL5LIB",
                "BASH_ENV", "ENV", "OLDPWD", "PWD", "SHLVL", "_"}.union(MpiLibrary.VARIABLES)
    if not keeps_home:
        kept_out |= {"HOME", "SHELL"}
    kept_out.update(name for name in ("TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR")
                    if not tree.has_directory(environment.get(name, "/")))
    return {name: value for name, value in environment.items()
            if name not in kept_out and not name.startswith("BASH_FUNC_")}


def parse_variable(text, environment):
    """(name, value) of NAME=VALUE, or of NAME alone with the host's value; None where the host has none."""
    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise UsageError("%r is not a variable" % text, "write NAME=VALUE, or NAME for the host's value")
    if equals:
        return name, value
    return (name, environment[name]) if name in environment else None


def read_variables(path, environment):
    """The variables of a file, as docker reads --env-file: lines as they are, without quotes or expansion."""
    import re
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = [line.rstrip("\r") for line in file.read().split("\n")]
    except OSError as error:
        raise NotFoundError("%s: %s" % (path, error.strerror))
    entries = [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for entry in entries:
        if re.search(r"^=|\s", entry.partition("=")[0] or "="):
            raise UsageError("%s: %r is not a variable" % (path, entry), "write NAME=VALUE, one a line")
    return [variable for variable in (parse_variable(entry, environment) for entry in entries) if variable]


def parse_processors(text):
    """The processors of --cpuset-cpus, as in 0-3,8, as a set of numbers."""
    import re
    found = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        numbers = range(int(match.group(1)), int(match.group(2) or match.group(1)) + 1) if match else ()
        if not numbers:
            raise UsageError("--cpuset-cpus=%s: write numbers and ranges, as in 0-3,8" % text)
        found.update(numbers)
    return found


def parse_limit(text):
    """(number of the limit, soft, hard) of --ulimit=NAME=SOFT[:HARD], -1 being none. getrlimit(2)"""
    import re
    import resource
    name, _, values = text.partition("=")
    number = getattr(resource, "RLIMIT_" + name.upper(), None)
    words = values.split(":") if values else []
    if number is None or len(words) not in (1, 2) or not all(re.fullmatch("-?[0-9]{1,18}", word) for word in words):
        raise UsageError("--ulimit=%s: write NAME=SOFT[:HARD], for instance nofile=1024:4096" % text)
    return number, int(words[0]), int(words[-1])


class PublishedPort:
    """A port of the container, and what it is on the host. https://docs.docker.com/engine/network/port-publishing/"""

    FORM = r"(?:(?:(\[::\]|[0-9.]*):)?([0-9-]*):)?([0-9-]+)(?:/(tcp|udp))?"
    EVERYWHERE = ("", "0.0.0.0", "[::]")

    def __init__(self, guest, host, address, protocol):
        self.guest = guest
        self.host = host            # 0 for one that is to be found
        self.address = address      # "" for all
        self.protocol = protocol

    @classmethod
    def parse_all(cls, text):
        """Those of [[ADDRESS:][HOST-PORT]:]PORT[/PROTOCOL], of which there are many where ports are ranges; UsageError
        where it is none."""
        import re
        match = re.fullmatch(cls.FORM, text.lower())
        try:
            address, host, guest, protocol = match.groups()
            address = "" if address in cls.EVERYWHERE else address or ""
            if address:
                socket = quick_module("socket")
                socket.inet_pton(socket.AF_INET, address)
            guests = cls._range(guest)
            hosts = cls._range(host) if (host or "").strip("0") else [0] * len(guests)
            if len(hosts) != len(guests):
                raise ValueError
        except (AttributeError, OSError, ValueError):
            raise UsageError("--publish=%s: write [ADDRESS:]HOST-PORT:PORT[/udp]" % text, "as in 8080:80, "
                             "127.0.0.1:8080:80 or 8000-8009:80-89; addresses are those of IPv4")
        return [cls(*pair, address, protocol or "tcp") for pair in zip(guests, hosts)]

    @staticmethod
    def _range(text):
        first, _, last = text.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[0] < 1 or numbers[-1] > 65535:
            raise ValueError
        return list(numbers)

    def __str__(self):
        address = self.address and self.address + ":"
        return "%s%s:%d/%s" % (address, self.host or "", self.guest, self.protocol)

    @property
    def place(self):
        """Where it is on the host."""
        return "%s:%d" % (self.address or "0.0.0.0", self.host)

    def is_at_odds(self, other):
        """Whether only one of them can be had."""
        if self.protocol != other.protocol:
            return False
        is_one_place = self.host == other.host != 0 and (
            self.address == other.address or not self.address or not other.address)
        return self.guest == other.guest or is_one_place

    @property
    def is_same(self):
        """Whether it is on the host what it is in the container, as without doing anything."""
        return self.host == self.guest and not self.address

    def find(self, others):
        """Have a port of the host's, which is none of `others`: the same, or else one that is free."""
        taken = {other.host for other in others if other.protocol == self.protocol}
        try:
            self.host = 0 if self.guest in taken else self._bind(self.guest)
        except OSError:
            pass
        while not self.host or self.host in taken:
            self.host = self._bind(0)

    def check(self):
        """EngineError where another program has it. That nobody but root may have it is told alone, as what is run may
        not want it."""
        try:
            self._bind(self.host)
        except PermissionError:
            lowest = Host.sysctl("net.ipv4.ip_unprivileged_port_start") or "1024"
            say.warning("--publish=%s: a plain user has the host's ports from %s on, as in --publish=%d:%d" % (
                self, lowest, 8000 + self.host % 1000, self.guest))
        except OSError as error:
            raise EngineError("--publish=%s: port %d of the host: %s" % (self, self.host, error.strerror), "ss -l%snp "
                              "shows what listens there, ip address which addresses the host has" % self.protocol[0])

    def _bind(self, number):
        """The port, which is this process's own for a moment; 0 is any that is free."""
        socket = quick_module("socket")
        kind = socket.SOCK_DGRAM if self.protocol == "udp" else socket.SOCK_STREAM
        attempt = socket.socket(socket.AF_INET, kind)
        try:
            if kind == socket.SOCK_STREAM:      # as servers have it: what has just ended is in nobody's way
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((self.address or "0.0.0.0", number))
            return attempt.getsockname()[1]
        finally:
            attempt.close()


HOST_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def parse_host(text):
    """The line for /etc/hosts of --add-host=NAME:ADDRESS."""
    import re
    match = re.match(r"^([%s]+)[:=](?:\[?([0-9a-fA-F.:]+)\]?|host-gateway)$" % HOST_NAME_CHARACTERS, text)
    if not match:
        raise UsageError("--add-host=%s: write NAME:ADDRESS" % text)
    return "%s\t%s\n" % (match.group(2) or "127.0.0.1", match.group(1))         # the network is the host's own


def script_interpreter(head):
    """(interpreter, its argument or "") that the first line of a script (bytes) names. execve(2)"""
    interpreter, _, argument = os.fsdecode(head[2:].split(b"\n")[0]).replace("\t", " ").strip().partition(" ")
    return interpreter, argument.strip()


class RunSpec:
    """What is to be run, complete and free of engines and of images."""

    # What not every engine can do, as the user asks for it
    FEATURES = {
        "--kernel": lambda spec: spec.kernel,
        "--hostname": lambda spec: spec.host_name,
        "--read-only": lambda spec: spec.is_read_only,
        "--ephemeral": lambda spec: spec.is_ephemeral,
        "--tmpfs": lambda spec: spec.memory_mounts,
        "--volume=HOST:PATH:ro": lambda spec: any(mount.is_read_only for mount in spec.mounts),
    }

    def __init__(self, root, argv, environment, account, mounts=(), kernel=""):
        self.root = root
        self.argv = argv
        self.environment = environment
        self.account = account
        self.mounts = list(mounts)
        self.directory = "/"
        self.kernel = kernel
        self.host_name = ""
        self.is_read_only = False
        self.is_ephemeral = False
        self.changes = ""               # the host's directory that they are kept in then, "" for memory
        self.memory_mounts = []
        self.step = None            # the JobStep that it is a rank of
        self.is_in_background = False
        self.owner_notes = None     # OwnerNotes, where it counts to whom the command gives files
        self.ports = []             # PublishedPorts that are not as the command knows them
        self.has_no_network = False

    @property
    def view(self):
        """Text that is the same for those that see the same files under the same ids."""
        mounts = ["%s:%s:%d" % (mount.content or mount.real_source, mount.guest, mount.is_read_only)
                  for mount in self.mounts]
        mounts += ["%s:%s" % (mount.guest, mount.options) for mount in self.memory_mounts]
        return "\n".join([os.path.realpath(self.root), "%d:%d" % (self.account.uid, self.account.gid), self.host_name,
                          "%d%d" % (self.is_read_only, self.is_ephemeral)] + mounts)

    @property
    def tree(self):
        """The tree with its mounts, as the command will see it."""
        return GuestTree(self.root, [mount.place for mount in self.mounts])

    def find_command(self):
        """The guest path of the program to start, by PATH where its name has no slash.

        CommandNotFoundError and CommandNotExecutableError are as docker's 127 and 126.
        """
        name = self.argv[0]
        if not name:
            raise CommandNotFoundError("the command is an empty word")
        search_path = "" if "/" in name else self.environment.get("PATH", DEFAULT_PATH)
        tree, obstacles = self.tree, []
        for part in search_path.split(":"):     # an empty part is the working directory
            guest = os.path.join(self.directory, part, name)
            obstacle = self._obstacle(tree, guest)
            if obstacle is None:
                return guest
            obstacles.append(obstacle)
        refusals = [obstacle for obstacle in obstacles
                    if isinstance(obstacle, (CommandNotExecutableError, InterpreterNotFoundError))]
        if not refusals and "/" not in name:
            raise CommandNotFoundError("%s: no such command in the container" % name, "PATH there is " + search_path)
        if not refusals:
            obstacles[0].hint = self._host_hint(name)
        raise (refusals or obstacles)[0]

    def _host_hint(self, name):
        """How a program that is not in the container appears there, "" where the host has none of that path either."""
        directory = os.path.dirname(os.path.abspath(name))
        if not os.path.isfile(name) or name.startswith("/") and (
                directory in DEFAULT_PATH.split(":") or self.tree.has_directory(directory)):
            return ""
        option = "" if name.startswith("/") else " --workdir=" + directory
        return "it is the host's: --volume=%s%s brings it in" % (directory, option)

    def emulator(self, host, program):
        """The name of QEMU's emulator that a program (guest path) needs on a Host, "" where it needs none."""
        return host.emulator(self._executed(program)[1])

    def _executed(self, program):
        """(host path, beginning) of the file that is executed for a program (guest path): of a script, its interpreter;
        ("", b"") where that cannot be read."""
        tree = self.tree
        try:
            path = tree.path(program)
            head = read_file(path, 4096)
            if head.startswith(b"#!"):
                path = tree.path(os.path.join("/", script_interpreter(head)[0]))
                head = read_file(path, 4096)
            return path, head
        except OSError:         # executable and not readable is fine
            return "", b""

    def needed_libraries(self):
        """The names of the libraries that the program to start asks for; none where that cannot be told."""
        try:
            return read_elf(self._executed(self.find_command())[0], lambda elf: [
                os.path.basename(os.fsdecode(elf.string(name))) for _, _, name in elf.entries(elf.NEEDED)])
        except (EngineError, OSError, ValueError):      # that it cannot be started is told when it is
            return []

    def needs_pretence(self):
        """Whether it shows another kernel or host name to a program that a dynamic loader starts."""
        if not (self.kernel or self.host_name):
            return False
        try:
            return bool(elf_interpreter(self._executed(self.find_command())[0]))
        except EngineError:         # that is told when it is started
            return False

    def find_program(self, name, search_path=DEFAULT_PATH):
        """The guest path of a program, of helpers in the usual directories of the container; None where it has none."""
        tree = self.tree
        found = (part + "/" + name for part in search_path.split(":"))
        return next((guest for guest in found if self._obstacle(tree, guest) is None), None)

    @staticmethod
    def _obstacle(tree, guest):
        """The error that starting `guest` would meet, None where nothing stands in the way."""
        try:
            path = tree.path(guest)
            mode = os.stat(path).st_mode
        except OSError as error:
            return CommandNotFoundError("%s: %s in the container" % (guest, error.strerror.lower()))
        if stat.S_ISDIR(mode):
            return CommandNotExecutableError("%s: is a directory" % guest)
        if not mode & 0o111:
            return CommandNotExecutableError("%s: is not executable" % guest, "chmod +x there makes it so")
        try:
            head = read_file(path, 4096)
        except PermissionError:         # executable and not readable is fine
            return None
        if head.startswith(b"#!"):
            interpreter, _ = script_interpreter(head)
        elif head.startswith(b"\x7fELF"):
            interpreter = os.fsdecode(elf_interpreter(path))
        else:
            return CommandNotExecutableError("%s: exec format error, neither a program nor a script with #!" % guest,
                                             "sh %s runs it if it is a script" % guest)
        try:
            is_there = not interpreter or interpreter.startswith(tree.inside) or os.path.exists(
                tree.path(os.path.join("/", interpreter)))
        except OSError:             # links in a circle
            is_there = False
        if is_there:
            return None
        return InterpreterNotFoundError("%s: its interpreter %s does not exist in the container" % (guest, interpreter),
                                        LOADER_HINT)


# ======================================================================================================
# 11  Engines
# ======================================================================================================

# --- conversions --------------------------------------------------------------------------------------

class ElfPatcher:
    """Makes an ELF file start and load from a tree: bytes appended to the file, and a few that are overwritten.

    The strings that ld.so reads are appended as a whole, in a segment of their own that takes the place of one which a
    program can do without: a note, or what says which pages become read-only once it is loaded.
    """

    def __init__(self, elf):
        self.elf = elf
        self.segments = list(elf.segments)
        self._edits = []
        self.tail = b""

    @property
    def edits(self):
        """[(offset, bytes to write there)]."""
        elf = self.elf
        return self._edits + [(elf.segment_table + place * elf.segment.size, elf.pack(segment))
                              for place, segment in enumerate(self.segments) if segment != elf.segments[place]]

    def _next_place(self):
        end = self.elf.size + len(self.tail)
        return end + -end % 16

    def _append(self, data):
        """Put data at the end; its offset in the file."""
        place = self._next_place()
        self.tail += b"\0" * (place - self.elf.size - len(self.tail)) + data
        return place

    def set_interpreter(self, path):
        """The kernel starts the loader at `path`; the address stays, where ld.so reads its own name."""
        elf = self.elf
        place = elf.positions(elf.INTERPRETER)[0]
        kind, flags, _, address, physical, _, size, alignment = elf.segments[place]
        offset = self._append(path + b"\0")
        self.segments[place] = kind, flags, offset, address, physical, len(path) + 1, size, alignment

    def set_strings(self, changes):
        """Dynamic entries get new strings: `changes` are (place, tag, string). ValueError where there is no room."""
        elf = self.elf
        _, address, length = elf.strings
        place, spare = self._next_place(), self._spare_segment()
        new_address, alignment = self._free_address(place)
        strings, values = elf.string_data, {}
        for entry, tag, text in changes:
            values[entry] = (tag, len(strings))
            strings += text + b"\0"
        for entry, tag, _ in elf.entries(elf.STRING_TABLE, elf.STRING_SIZE):
            values[entry] = (tag, new_address if tag == elf.STRING_TABLE else len(strings))
        self._edits += [(elf.dynamic_place + entry * elf.entry.size, elf.entry.pack(*pair))
                        for entry, pair in values.items()]
        del self.segments[spare]        # what is loaded must be in the order of its addresses
        self.segments.insert(max(spare, elf.positions(elf.LOAD)[-1]), (
            elf.LOAD, 6, place, new_address, new_address, len(strings), len(strings), alignment))
        section = elf.string_section(address)
        if section is not None:         # gcc and readelf find the strings by it: sh_addr, sh_offset, sh_size
            where = section + 8 + elf.word.size
            self._edits.append((where, b"".join(map(elf.word.pack, (new_address, place, len(strings))))))
        self._append(strings)

    def patched(self):
        """The bytes of the file with what was set."""
        data = bytearray(os.pread(self.elf.descriptor, self.elf.size, 0))
        for offset, text in self.edits:
            data[offset:offset + len(text)] = text
        return bytes(data) + self.tail

    def _spare_segment(self):
        """The place of a segment that can go, but no note by which a program of Go is known."""
        elf = self.elf
        spare = [place for place in elf.positions(elf.NOTE) if place not in elf.go_notes] + elf.positions(elf.PROTECTED)
        if not spare:
            raise ValueError("no segment to spare")
        return spare[0]

    def _free_address(self, offset):
        """(address, alignment) for what is at `offset` in the file, behind all that is loaded."""
        elf = self.elf
        extents = [elf.memory(place) for place in elf.positions(elf.LOAD)]
        alignment = max([alignment for _, _, alignment in extents] + [0x1000])
        end = max(address + size for address, size, _ in extents)
        if alignment & (alignment - 1) or alignment > 1 << 24 or end > 1 << (47 if elf.is_64 else 31):
            raise ValueError("odd addresses")
        return end + -end % alignment + offset % alignment, alignment

    def spare_entry(self):
        """The place of a dynamic entry that is free, an end mark remaining, or only saves time; else ValueError."""
        tags = [tag for tag, _ in self.elf.dynamic]
        place = tags.index(0)
        if tags[place + 1:place + 2] == [0]:
            return place
        counts = self.elf.entries(*self.elf.COUNTS)
        if not counts:
            raise ValueError("no dynamic entry to spare")
        return counts[0][0]


class ConversionStep:
    """One kind of change of a container's tree, and the way back to every byte, link and time.

    A journal beside the tree tells each change before it is made. So a step that was killed can be undone, and undoing
    one that was killed can be done again. What the user changed afterwards stays as the user left it, but for what
    still points into the tree.
    """

    name = ""
    BATCH, BATCH_BYTES = 256, 16 << 20      # changes between two waits for the disk

    def __init__(self, directory, root):
        """`directory` is the container's, `root` the path that its tree has when it is run."""
        self.directory = directory
        self.root = root
        self.journal = Journal("%s/conversion-%s" % (directory, self.name))
        self.changed = []           # what was not as the journal says

    @found_once
    def tree(self):
        """The tree to be changed, as it lies on disk."""
        return OpenTree(self.directory + "/ROOT")

    @found_once
    def guest(self):
        """The same as its own programs see it."""
        return GuestTree(self.tree.path, published_root=self.root)

    def state(self):
        """"whole" where the step is done, "moved" where it is for another path, or "broken"."""
        first, last = self.journal.ends()
        if last.get("state") != "whole":
            return "broken"
        return "whole" if first.get("root") == self.root else "moved"

    def apply(self):
        """Change the tree."""
        self.journal.begin({"root": self.root, "state": "broken"})
        self.extend(0)

    def extend(self, since):
        """Make the changes that became due at that time (in nanoseconds) and later."""
        self.journal.add([{"state": "broken"}])
        batch, size = [], 0
        for record, data in self.plan(since):
            batch.append((record, data))
            size += len(data)
            if len(batch) >= self.BATCH or size > self.BATCH_BYTES:
                self._carry_out(batch)
                batch, size = [], 0
        self._carry_out(batch)
        self.journal.add([{"state": "whole"}])

    def _carry_out(self, batch):
        if batch:
            self.journal.add(record for record, _ in batch)
        for record, data in batch:
            self.convert(record, data)

    def undo(self):
        """Give the tree back as it was."""
        records = list(self.journal.read())
        is_whole = bool(records) and records[-1].get("state") == "whole"
        self.journal.add([{"state": "broken"}])
        try:
            for record in {record["path"]: record for record in records if "path" in record}.values():
                if "kept" not in record:        # of several the last: then the file was another one
                    self.revert(record, is_whole)
            self.mend(os.fsencode(records[0]["root"]), {record["path"] for record in records if "kept" in record})
            for record in records:
                if "directory" in record and not is_whole:
                    self.set_directory(record["directory"], record["mode"], record["mtime"])
        except self.journal.DAMAGE:
            raise self.journal.damaged()
        self.journal.remove()

    def plan(self, since):
        """(record, bytes to append) of each change to be made, of what was changed at `since` or later."""
        raise NotImplementedError

    def convert(self, record, data):
        """Make one change."""
        raise NotImplementedError

    def revert(self, record, is_whole):
        """Take one change back; while not `is_whole` nobody else changed anything."""
        raise NotImplementedError

    def revert_copy(self, record, path):
        """Take one change back in a copy of what was changed, which lies at `path` of the host."""
        self.tree = OpenTree(os.path.dirname(path))
        self.revert(dict(record, path=os.path.basename(path)), True)

    def mend(self, root, kept):
        """Let what still points into the tree at `root` (bytes) point to where it would without a conversion."""

    def walk(self):
        return self.tree.walk("", lambda error: say.debug(str(error)))

    def set_directory(self, path, mode, mtime):
        """Give a directory of the tree its mode and its time."""
        try:
            descriptor = self.tree.open(path)
        except OSError as error:
            say.debug("%s: %s" % (path, error.strerror))
            return
        with Closing(descriptor):
            set_time(descriptor, mtime)
            set_directory_mode(descriptor, mode)

    def open_parent(self, path):
        """(descriptor of the directory, name in it) of a path in the tree; None where it is gone."""
        parent, _, name = path.rpartition("/")
        try:
            return self.tree.open(parent), name
        except OSError as error:
            say.debug("%s: %s" % (path, error.strerror))
            return None


class LinkStep(ConversionStep):
    """Symbolic links that lead out of the tree, as absolute ones do, get the tree's path before them."""

    name = "links"
    HOST_TREES = ("/proc/", "/dev/", "/sys/")       # the host's own in every container

    def plan(self, since):
        noted, shared = set(), {}
        for relative, status, directory, name in self.walk():
            if not stat.S_ISLNK(status.st_mode):
                continue
            old = os.readlink(name, dir_fd=directory)
            new = self._target(relative, old)
            if new is None:
                continue
            record = {"path": relative, "old": old, "new": new, "mtime": status.st_mtime_ns}
            if new == old:
                yield {"path": relative, "kept": 1}, b""
                continue
            parent = relative.rpartition("/")[0]
            if parent not in noted:
                noted.add(parent)
                above = os.fstat(directory)
                yield {"directory": parent, "mtime": above.st_mtime_ns, "mode": stat.S_IMODE(above.st_mode)}, b""
            if status.st_nlink == 1:
                yield record, b""
            else:           # the names of one link stand in one record, so that it can be made one again
                shared.setdefault(status.st_ino, dict(record, also=[]))["also"].append(relative)
        yield from ((record, b"") for record in shared.values())

    def _target(self, relative, target):
        """What a link shall say; None where it may stay, and what it says where it leads into the tree already."""
        if (target + "/").startswith(self.root + "/"):
            return target
        is_absolute = target.startswith("/")
        place, depth = ("", 0) if is_absolute else (os.path.dirname(relative), relative.count("/"))
        path = "/" + os.path.normpath("/%s/%s" % (place, target)).lstrip("/")
        if is_absolute and (path + "/").startswith(self.HOST_TREES):
            return None
        for part in target.split("/"):
            depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
            if depth < 0:               # over the top, where a container's root would stop it
                return self._within(path)
        return self._within(target) if is_absolute else None

    def _within(self, guest):
        path = self.root + "/" + guest.lstrip("/")
        return path if len(os.fsencode(path)) < 4096 else None

    def convert(self, record, data):
        for path in record.get("also", [record["path"]]) if "new" in record else ():
            self._replace(path, record["new"], record["mtime"], record["path"])

    def revert(self, record, is_whole):
        for path in record.get("also", [record["path"]]):
            self._revert_name(path, record, is_whole)

    def revert_copy(self, record, path):
        if os.path.islink(path) and os.readlink(path) == record["new"]:
            mtime = os.lstat(path).st_mtime_ns
            os.unlink(path)
            os.symlink(record["old"], path)
            set_time(path, mtime)

    def _revert_name(self, path, record, is_whole):
        place = self.open_parent(path)
        if not place:
            return
        directory, name = place
        try:
            target = os.readlink(name, dir_fd=directory)
            mtime = os.lstat(name, dir_fd=directory).st_mtime_ns
        except OSError:         # gone, or no link any more
            return
        finally:
            os.close(directory)
        if target == record["new"] or not is_whole and target == record["old"]:
            self._replace(path, record["old"], mtime if is_whole else record["mtime"], record["path"])

    def mend(self, root, kept):
        root = os.fsdecode(root)
        for relative, status, directory, name in self.walk():
            if stat.S_ISLNK(status.st_mode) and relative not in kept:
                target = os.readlink(name, dir_fd=directory)
                if (target + "/").startswith(root + "/"):
                    self._replace(relative, target[len(root):] or "/", status.st_mtime_ns, relative)

    def _replace(self, path, target, mtime, first):
        """Put a link in the place of one; it becomes another name of the link `first` where it had been that."""
        place = self.open_parent(path)
        if not place:
            return
        directory, name = place
        new = "%s/%slink" % (self.directory, Layout.NEW)
        above = os.fstat(directory)
        try:
            set_mode(directory, stat.S_IMODE(above.st_mode) | stat.S_IRWXU)
            remove_file(new)
            if first == path or not self._has_become(first, target, new):
                os.symlink(target, new)
                set_time(new, mtime)
            os.rename(new, name, dst_dir_fd=directory)
            set_time(directory, above.st_mtime_ns)
        except BaseException:
            remove_file(new)
            raise
        finally:
            set_mode(directory, stat.S_IMODE(above.st_mode))
            os.close(directory)

    def _has_become(self, first, target, new):
        """Whether `new` is now one more name of the link `first`, which says `target`."""
        place = self.open_parent(first)
        if not place:
            return False
        directory, name = place
        try:
            if os.readlink(name, dir_fd=directory) == target:
                os.link(name, new, src_dir_fd=directory, follow_symlinks=False)
                return True
        except OSError as error:
            say.debug("%s: %s" % (first, error.strerror))
        finally:
            os.close(directory)
        return False


class FileStep(ConversionStep):
    """Files that are overwritten in places, and appended to. Of each one plan_file() gives the record and the bytes to
    append, or (None, b"") where it needs nothing."""

    def plan(self, since):
        shared = {}
        for relative, status, descriptor in self.regular_files(since):
            if status.st_ino in shared:         # another name of a file that is changed already
                yield dict(shared[status.st_ino], path=relative, shared=1), b""
                continue
            record, tail = self.plan_file(relative, status, descriptor)
            if record and not (since and "kept" in record):
                if status.st_nlink > 1 and "edits" in record:
                    shared[status.st_ino] = record
                yield record, tail

    def record(self, path, status, descriptor, edits, tail):
        """What the journal says of a change; ValueError where the edits lie over one another or outside of the file."""
        end, values = 0, []
        for offset, new in sorted(edits):
            old = os.pread(descriptor, len(new), offset)
            if offset < end or len(old) != len(new):
                raise ValueError("parts that lie over one another")
            end = offset + len(new)
            values.append([offset, old.hex(), new.hex()])
        return {"path": path, "mode": stat.S_IMODE(status.st_mode), "mtime": status.st_mtime_ns,
                "size": status.st_size, "tail": len(tail), "edits": values}

    def open_file(self, path):
        """(descriptor, status) of a regular file, open whatever its mode, which write() restores; None if gone."""
        place = self.open_parent(path)
        if not place:
            return None
        directory, name = place
        try:
            anchor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return None
        finally:
            os.close(directory)
        try:
            status = os.fstat(anchor)
            if not stat.S_ISREG(status.st_mode):
                return None
            link, mode = "/proc/self/fd/%d" % anchor, stat.S_IMODE(status.st_mode)
            if mode & 0o600 != 0o600:
                os.chmod(link, mode | 0o600)
            return os.open(link, os.O_RDWR | os.O_CLOEXEC), status
        except OSError as error:
            if error.errno == errno.ETXTBSY:
                raise ConflictError("%s is being executed" % path, "setup works when nothing runs in the container")
            error.filename = path
            raise
        finally:
            os.close(anchor)

    @staticmethod
    def write(descriptor, edits, mtime, mode):
        """Overwrite parts of an open file, which keeps its mode and time."""
        for offset, data in edits:
            write_all(descriptor, data, offset)
        set_mode(descriptor, mode)
        set_time(descriptor, mtime)

    def convert(self, record, data):
        if "edits" not in record or "shared" in record:
            return
        opened = self.open_file(record["path"])
        if not opened:
            return
        descriptor, status = opened
        with Closing(descriptor):
            edits = [(offset, bytes.fromhex(new)) for offset, _, new in record["edits"]]
            appended = [(record["size"], data)] if data else []
            self.write(descriptor, appended + edits, record["mtime"], record["mode"])

    def revert(self, record, is_whole):
        opened = self.open_file(record["path"])
        if not opened:
            return
        descriptor, status = opened
        mtime, mode, old = status.st_mtime_ns, stat.S_IMODE(status.st_mode), []
        with Closing(descriptor):
            if self._is_converted(descriptor, status, record, is_whole):
                old = [(offset, bytes.fromhex(before)) for offset, before, _ in record["edits"]]
                os.ftruncate(descriptor, record["size"])
                if not is_whole:    # in the copy of somebody else's container, his journal makes no program set-user-id
                    mtime, mode = record["mtime"], record["mode"] & 0o777 | mode & 0o7000
            self.write(descriptor, old, mtime, mode)

    @staticmethod
    def _is_converted(descriptor, status, record, is_whole):
        """Whether a file is as the conversion left it, or while that goes on somewhere between."""
        end = record["size"] + record["tail"]
        if not (end if is_whole else record["size"]) <= status.st_size <= end:
            return False
        return all(os.pread(descriptor, len(new) // 2, offset).hex() in ((new,) if is_whole else (old, new))
                   for offset, old, new in record["edits"])

    def regular_files(self, since=0):
        """(relative name, status, descriptor) of every regular file that can be read and was changed since."""
        for relative, status, directory, name in self.walk():
            if not stat.S_ISREG(status.st_mode) or status.st_size < 64 or status.st_ctime_ns < since:
                continue
            try:
                descriptor = os.open(name, OLD_FILE, dir_fd=directory)
            except OSError as error:
                say.debug("%s: %s" % (relative, error.strerror))
                continue
            with Closing(descriptor):
                yield relative, status, descriptor


class LoaderStep(FileStep):
    """The dynamic loaders of the tree find nothing of the host's: the directories and files that are built into them
    get names that do not exist, and LD_LIBRARY_PATH, which programs set to guest paths, another name."""

    name = "loader"
    BUILT_IN = rb"(?<![\x21-\x7e])/(?:(?P<lib>lib)|(?P<usr>usr)|etc/(?P<etc>ld)\.so\.)"
    NEW = {"lib": b"nil", "usr": b"nsr", "etc": b"nd"}
    # As a string, and as x86 compares it: eight bytes as a constant, then these four at displacement 8
    VARIABLE = rb"\0(?:LD_)?LIBRARY_(?P<name>%s)\0|\x81[\x78-\x7f]\x08(?P<code>%s)"
    MAX_LOADER = 16 << 20       # bytes

    @staticmethod
    def is_loader(path):
        """Whether a file has the name of glibc's loader."""
        import re
        return bool(re.search(r"(?:^|/)ld(?:-linux[^/]*|-[0-9.]+|64)?\.so(?:\.[0-9]+)*$", path))

    @staticmethod
    def has_known_variable(data):
        """Whether it is certain that a loader (bytes), once it is changed, obeys LD_LIBRARY_REAL instead."""
        for word in b"PATH", b"REAL":       # as VARIABLE has it, without the module re: every run asks
            if b"\0LIBRARY_" + word + b"\0" in data:
                return True
            place = data.find(b"\x08" + word)
            while place >= 0:
                if data[place - 2:place - 1] == b"\x81" and b"\x78" <= data[place - 1:place] <= b"\x7f":
                    return True
                place = data.find(b"\x08" + word, place + 1)
        return False

    @classmethod
    def edits(cls, data, is_back=False):
        """[(offset, bytes)] that change a loader; with `is_back` the variable gets its old name back."""
        import re
        found = [(match.start(match.lastgroup), cls.NEW[match.lastgroup]) for match in re.finditer(cls.BUILT_IN, data)]
        old, new = (b"REAL", b"PATH") if is_back else (b"PATH", b"REAL")
        return found + [(match.start(match.lastgroup), new)
                        for match in re.finditer(cls.VARIABLE.replace(b"%s", old), data)]

    def plan_file(self, relative, status, descriptor):
        if not self.is_loader(relative) or status.st_size > self.MAX_LOADER or not elf_magic(descriptor):
            return None, b""
        data = os.pread(descriptor, status.st_size, 0)
        return self.record(relative, status, descriptor, self.edits(data), b""), b""


class ElfStep(FileStep):
    """Programs start the loader of the tree, and programs and libraries find the libraries of the tree."""

    name = "elf"

    def plan(self, since):
        libraries, loaders = GuestLibraries(self.guest), {}
        self.search_path = [os.fsencode(self.root + guest) for guest in libraries.directories]
        self.library_names = {os.fsencode(name) for directory in libraries.directories
                              for name in self.guest.entries(directory)}
        self.find_loader = lambda name: loaders[name] if name in loaders else loaders.setdefault(
            name, libraries.loader(name))
        return super().plan(since)

    def converted_at(self):
        """When the last conversion ended, in nanoseconds, by the clock of the file system."""
        return os.stat(self.journal.path).st_mtime_ns

    def has_work(self):
        """Whether something was added since."""
        return next(self.plan(self.converted_at()), None) is not None

    def plan_file(self, relative, status, descriptor):
        try:
            elf = ElfFile(descriptor, status.st_size)
            if self._pointers(elf, os.fsencode(self.root)):
                return {"path": relative, "kept": 1}, b""
            patcher = ElfPatcher(elf)
            loader = self.find_loader(elf.interpreter) if elf.interpreter.startswith(b"/") else ""
            if loader:
                patcher.set_interpreter(os.fsencode(self.root + loader))
            try:
                changes = [] if LoaderStep.is_loader(relative) else self._string_changes(elf, patcher)
                if changes:
                    patcher.set_strings(changes)
            except ValueError as error:
                say.debug("%s: it finds libraries by LD_LIBRARY_REAL alone: %s" % (relative, error))
            if patcher.edits:
                return self.record(relative, status, descriptor, patcher.edits, patcher.tail), patcher.tail
        except (ValueError, OSError) as error:
            if elf_magic(descriptor):
                say.debug("%s: left alone: %s" % (relative, error))
        return None, b""

    def _string_changes(self, elf, patcher):
        """[(place, tag, string)] of the dynamic entries that must say something else."""
        root, needed = os.fsencode(self.root), elf.entries(elf.NEEDED)
        names = [(place, tag, elf.string(value)) for place, tag, value in needed]
        changes = [(place, tag, root + name) for place, tag, name in names if name.startswith(b"/")]
        entries = elf.entries(elf.RUNPATH) or elf.entries(elf.RPATH)       # with both, ld.so obeys the first
        has_all = all(name in self.library_names or name.startswith(b"/") for _, _, name in names)
        if not entries and (not needed or not elf.interpreter and not has_all):
            return changes      # it finds libraries by the DT_RPATH of what loads it, unless it has a DT_RUNPATH
        place, tag, value = entries[0] if entries else (patcher.spare_entry(), elf.RUNPATH, None)
        old = elf.string(value) if entries else b""
        parts = [root + part if part.startswith(b"/") else part for part in old.split(b":") if part]
        if elf.interpreter or tag == elf.RUNPATH:       # a library's DT_RPATH comes before LD_LIBRARY_REAL
            parts += [part for part in self.search_path if part not in parts]
        return changes + [(place, tag, b":".join(parts))] * (b":".join(parts) != old)

    @staticmethod
    def _pointers(elf, root):
        """[(offset, string)] of what in a file names something below `root`."""
        found = []
        if (elf.interpreter + b"/").startswith(root + b"/"):
            place = elf.positions(elf.INTERPRETER)[0]
            found.append((elf.extent(place)[0], elf.interpreter))
        for _, _, value in elf.entries(elf.NEEDED, elf.RPATH, elf.RUNPATH):
            text = elf.string(value)
            if any((part + b"/").startswith(root + b"/") for part in text.split(b":")):
                found.append((elf.strings[0] + value, text))
        return found

    def mend(self, root, kept):
        for relative, status, descriptor in self.regular_files():
            if relative in kept:
                continue
            try:
                pointers = self._pointers(ElfFile(descriptor, status.st_size), root)
            except (ValueError, OSError):
                continue
            if pointers:
                self._mend_file(relative, pointers, root)

    def _mend_file(self, relative, pointers, root):
        """Take the root away in place: what remains is shorter, and ends with NUL."""
        opened = self.open_file(relative)
        if not opened:
            return
        descriptor, status = opened
        with Closing(descriptor):
            edits = []
            for offset, text in pointers:
                parts = [part[len(root):] or b"/" if (part + b"/").startswith(root + b"/") else part
                         for part in text.split(b":")]
                edits.append((offset, b":".join(parts).ljust(len(text), b"\0")))
            self.write(descriptor, edits, status.st_mtime_ns, stat.S_IMODE(status.st_mode))
        self.changed.append(relative)


STEPS = {step.name: step for step in (LinkStep, LoaderStep, ElfStep)}


class Conversion:
    """The changes that an execution mode needs in a container's tree: steps, made and undone in one order."""

    NOTES = ("root.path", "ld.lib.dirs", "ld.so.path")      # of the older udocker, which so can run the container too

    ENV, PATCHER, LOADER = "fakechroot-env", "fakechroot-patch", "fakechroot-ld.so"     # beside the tree
    SHELL, NOTHING = "fakechroot-sh", "fakechroot-true"
    # The stock library rewrites nothing in a program without its variables, so `env -i` must leave them. It starts
    # this in the place of env, loaded into the shell, but without the root: that is FAKECHROOT_BASE_ORIG.
    KEEPING_ENV = r"""
# env of a container in a Fakechroot mode: no option of it takes away what makes the container one.
program=$FAKECHROOT_BASE_ORIG$FAKECHROOT_CMD_ORIG
export FAKECHROOT_BASE="$FAKECHROOT_BASE_ORIG"
unset FAKECHROOT_BASE_ORIG FAKECHROOT_CMD_ORIG
left=$# reads_options=yes
while [ "$left" -gt 0 ]; do
    word=$1 left=$((left - 1))
    shift
    if [ "$reads_options" ]; then
        case $word in
        -u | -C | -S | --unset | --chdir | --split-string)
            if [ "$left" -gt 0 ]; then
                set -- "$@" "$word"
                word=$1 left=$((left - 1))
                shift
            fi ;;
        -*) ;;
        *)
            reads_options=
            for name in FAKECHROOT_BASE FAKECHROOT_CMD_SUBST FAKECHROOT_ELFLOADER FAKECHROOT_EXCLUDE_PATH \
                FAKECHROOT_AF_UNIX_PATH LD_PRELOAD LD_LIBRARY_PATH LD_LIBRARY_REAL; do
                eval "value=\$$name"
                set -- "$@" ${value:+"$name=$value"}
            done ;;
        esac
    fi
    set -- "$@" "$word"
done
exec "$program" "$@"
"""
    UPDATE = """import importlib.machinery as machinery, importlib.util as util, sys
specification = util.spec_from_loader("udocker", machinery.SourceFileLoader("udocker", sys.argv[1]))
udocker = util.module_from_spec(specification)
specification.loader.exec_module(udocker)
udocker.Conversion(sys.argv[2]).update()"""

    def __init__(self, directory, root=""):
        """`directory` is the container's; `root` is the path that its tree will have, where that is another one."""
        self.directory = directory
        self.root = os.path.realpath(root or directory + "/ROOT")
        self.beside = os.path.dirname(self.root) + "/"      # where the files beside the tree will be

    def _steps(self):
        return [step(self.directory, self.root) for step in STEPS.values()]

    def states(self):
        """{name of a step that is done: its state}."""
        return {step.name: step.state() for step in self._steps() if step.journal.exists}

    def is_done(self, names):
        """Whether these steps, and no others, are done, for whatever path; also where the older udocker did it."""
        states = self.states()
        is_own = states or not os.path.exists(self.directory + "/" + self.NOTES[0])
        return not is_own or set(states) == set(names) and "broken" not in states.values()

    def check_own(self):
        """EngineError where, as its notes say, the older udocker converted the tree; for containers in an Fn mode."""
        if not self.states() and os.path.exists(self.directory + "/" + self.NOTES[0]):
            raise EngineError("an older udocker converted the container, which this one cannot undo",
                              "convert it back with the udocker that did it: udocker setup --execmode=P1")

    def check(self, names):
        """EngineError unless the tree is converted by the steps of these names, for the place where it is."""
        states = self.states()
        if set(states) == set(names) and set(states.values()) <= {"whole"}:
            return
        if names:
            self.check_own()
        hint = "udocker setup --execmode=MODE CONTAINER converts it, or gives the tree back as it was"
        if "moved" in states.values():
            raise EngineError("the container was converted for another path than %s" % self.root, hint)
        raise EngineError("the container is not converted for this mode" if not states else
                          "the container is not wholly converted, or not wholly converted back", hint)

    def change(self, names, is_forced=False):
        """Make the steps of these names, and undo all others; with `is_forced` all are made anew."""
        steps = self._steps()
        stale = [step for step in reversed(steps) if step.journal.exists and (
            is_forced or step.name not in names or step.state() != "whole")]
        missing = [step for step in steps if step.name in names and (step in stale or not step.journal.exists)]
        # First: with the notes and without a journal the older udocker did it
        for note in self.NOTES + (self.ENV, self.PATCHER, self.LOADER, self.SHELL, self.NOTHING):
            remove_file(self.directory + "/" + note)
        for step in stale:
            say.debug("undoing the conversion of the " + step.name)
            step.undo()
            if step.changed:
                say.warning("changed after the conversion, so that only what pointed into the tree is mended: %s" % (
                    ", ".join(step.changed[:3] + ["..."] * (len(step.changed) > 3))))
        for step in missing:
            say.debug("converting the " + step.name)
            step.apply()
        if names:
            self._write_notes(names)

    def update(self):
        """Convert the ELF files that were added to the tree since it was converted; where there are none, nothing is
        written, and no other process of the container is waited for."""
        step = ElfStep(self.directory, self.root)
        if not step.has_work():
            return
        with Lock(self.directory + "/lock"):
            if step.has_work():
                step.extend(step.converted_at())

    def reverter(self, start, place):
        """The `mend` of a TreeMerge in which `start` becomes `place`: it takes back what was changed."""
        found = []
        for step in reversed(self._steps()):
            records = {}
            for record in step.journal.read() if step.journal.exists else ():
                for name in strings_of(record.get("also", [record.get("path")])):
                    if not start or (name + "/").startswith(start + "/"):
                        records[copied_name(name, start, place)] = record       # of several the last
            found.append((step, records))

        def revert(where, path):
            for step, records in found:
                record = records.get(where)
                try:
                    if record and "kept" not in record:
                        step.revert_copy(record, path)
                except step.journal.DAMAGE:
                    raise step.journal.damaged()

        return revert

    def copy_journals(self, directory):
        """Take over the journals of another container's directory, the tree being a copy of that one's."""
        for name in STEPS:
            path = "%s/conversion-%s" % (directory, name)
            if os.path.exists(path):
                copy_file(path, "%s/conversion-%s" % (self.directory, name), os.stat(path))

    def _write_notes(self, names):
        """What the older udocker wants to know."""
        libraries = GuestLibraries(GuestTree(os.path.realpath(self.directory + "/ROOT"), published_root=self.root))
        paths = [self.root + guest for guest in libraries.directories]
        for note, text in zip(self.NOTES, (self.root, ":".join(paths), libraries.shell_loader())):
            write_atomic(self.directory + "/" + note, os.fsencode(text))
        if not libraries.shell_loader():
            return
        self._write_loader(libraries, "loader" in names)
        if "elf" not in names:
            self._write_shell(libraries, "loader" in names)
        for name, text in self._scripts(libraries, "elf" in names):
            write_atomic(self.directory + "/" + name, os.fsencode(text), 0o755)

    def _scripts(self, libraries, has_direct_programs):
        """(name, text) of the programs beside the tree that the libraries start on the host."""
        import shlex
        words = map(shlex.quote, (sys.executable, "-I", "-c", self.UPDATE, os.path.realpath(__file__)))
        yield self.PATCHER, "#!/bin/sh\nexec %s \"${0%%/*}\"\n" % " ".join(words)
        line = self._first_line(libraries, has_direct_programs)
        if line:
            yield self.ENV, line + self.KEEPING_ENV
            yield self.NOTHING, line + "\n"
        else:
            say.warning("%s: so long a path that env and ldconfig cannot be run with the stock library" % self.root)

    def _first_line(self, libraries, has_direct_programs):
        """What lets a kernel start a script by the container's shell; "" where that line would be too long."""
        shell = self.root + libraries.tree.resolve("/bin/sh") if has_direct_programs else self.beside + self.SHELL
        line = "#!" + shell
        limit = 255 if Host().kernel_version >= (5, 1) else 127       # bytes, execve(2)
        if " " not in shell and len(os.fsencode(line)) < limit:
            return line
        return "#!/bin/sh" if has_direct_programs else ""       # the host's finds its own libraries in those modes

    def _write_shell(self, libraries, has_renamed_variable):
        """The container's shell with a loader that obeys LD_LIBRARY_PATH: the kernel would start the host's for it, and
        that is for another C library."""
        loader = self.beside + self.LOADER if has_renamed_variable else self.root + libraries.shell_loader()

        def patched(elf):
            patcher = ElfPatcher(elf)
            patcher.set_interpreter(os.fsencode(loader))
            return patcher.patched()

        write_atomic(self.directory + "/" + self.SHELL, read_elf(libraries.tree.path("/bin/sh"), patched), 0o755)

    def _write_loader(self, libraries, has_renamed_variable):
        """A loader beside the tree that finds nothing of the host's; it obeys the variable that the tree's does not."""
        data = bytearray(read_file(libraries.tree.root + libraries.shell_loader(), LoaderStep.MAX_LOADER))
        for offset, text in LoaderStep.edits(bytes(data), is_back=has_renamed_variable):
            data[offset:offset + len(text)] = text
        write_atomic(self.directory + "/" + self.LOADER, data, 0o755)


# --- engines ------------------------------------------------------------------------------------------

class Mode:
    """An execution mode: code, what it is, and the steps that convert a tree for it, as help and README show them."""

    def __init__(self, code, description, steps=()):
        self.code = code
        self.description = description
        self.steps = steps


SETUP_HINT = "udocker setup --execmode=%s CONTAINER"


class Engine:
    """A way of running a RunSpec; `modes` lists the modes that it offers."""

    modes = ()
    tool_kind = ""      # of TOOL_KINDS what it needs
    shown_kernel = ""   # what the proof shows programs in the place of the host's kernel
    is_ephemeral = False        # whether the proof is to see that changes can be kept in memory
    flaw = ""           # what goes wrong in it now and then, whatever the proof says
    always_shown = ()   # guest paths of the host's that appear whether they are asked for or not
    maps_ports = False          # whether ports of the command can be others of the host's
    lack_of_ports = ""          # what goes wrong with those, in words
    can_cut_off = False         # whether a command can be without network
    lacks = {}          # those of RunSpec.FEATURES that it cannot do: why, and what can

    def __init__(self, mode, host, temporary):
        """`temporary` is a directory of this machine from which programs may be executed."""
        self.mode = mode
        self.host = host
        self.temporary = temporary

    def check(self, spec):
        """EngineError where `spec` asks for what this engine cannot do."""
        for feature, is_asked in spec.FEATURES.items():
            if feature in self.lacks and is_asked(spec):
                reason, hint = self.lacks[feature]
                raise EngineError("%s: mode %s %s" % (feature, self.mode, reason), hint)

    def check_machine(self, spec, program):
        """EngineError where a program (guest path) is for another machine and the kernel starts no emulator for it."""
        emulator = spec.emulator(self.host, program)
        if emulator and not self.host.has_handler(emulator):
            raise EngineError("the container's programs are for another machine than %s" % self.host.machine,
                              "mode P1 runs them with %s-static of Debian's qemu-user-static, where that is in the "
                              "search path" % emulator)

    @staticmethod
    def warn_of_restart(spec, program):
        """Tell of a script (guest path) that as root starts itself again as somebody else, as the entrypoints of many
        images do: where root is all that there is it stays root, and so does it for ever."""
        try:
            data = read_file(spec.tree.path(program), 1 << 16) if spec.account.uid == 0 else b""
        except OSError:         # it may only be executed
            return
        if not data.startswith(b"#!"):
            return
        import re
        restart = re.compile(rb'[^#]*\b(?:gosu|su-exec|setpriv .*--reuid[= ]) *"?([\w.-]+)[\w.:-]*"? .*'
                             rb'"?\$\{?(?:0|BASH_SOURCE)\b')
        lines = [line for line in data.splitlines() if len(line) < 400]
        for found in filter(None, map(restart.match, lines)):
            user = found.group(1).decode("ascii")
            say.warning("%s may start itself for ever, as it wants to become %s, which nobody can here: --user=%s "
                        "starts it as that one, and mode P1 as docker does" % (program, user, user))
            return

    def invocation(self, spec):
        """The Invocation that runs `spec`; EngineError where this engine cannot."""
        raise NotImplementedError

    def identity(self):
        """What a proof of this engine is valid for, besides host and kernel."""
        return self.mode + " ephemeral" * self.is_ephemeral

    def explain(self, report):
        """(reason, hint) for a failed proof, from what the attempt said."""
        return report, ""

    def probe(self, area, token):
        """The RunSpec of a proof that this engine has of its own, None where it has none. Like the usual one it ends
        with 42, with `token` in linked in the directory volume of `area`, where it could not see more of the host."""


class ExecutableEngine(Engine):
    """An engine that is an executable of its own."""

    def __init__(self, mode, host, executable, temporary):
        super().__init__(mode, host, temporary)
        self.executable = executable

    def identity(self):
        status = os.stat(self.executable)
        return "%s %s %d %d" % (self.mode, os.path.realpath(self.executable), status.st_size, status.st_mtime_ns)

    @classmethod
    def candidates(cls, mode, host, executable, temporary):
        """The engines of a mode that this executable may be, in the order in which they are to be tried."""
        return [cls(mode, host, executable, temporary)]


# Where Debian's and Ubuntu's coreutils of uutils are, which 26.04 has for its own: one program that is all of them, and
# asks the kernel by which path it was started. Where the kernel starts a loader in the place of everything that must be
# a path in /proc, as it is with fexecve(3): then the program heeds its first word
UUTILS = "/usr/lib/cargo/bin/coreutils"


class PRootEngine(ExecutableEngine):
    """PRoot: every system call with a path is caught by ptrace and rewritten. https://proot-me.github.io"""

    tool_kind = "proot"
    modes = (Mode("P1", "PRoot, accelerated by seccomp: works nearly everywhere, the default"),
             Mode("P2", "PRoot without seccomp: slower"))
    # What the dynamic loader, the C library and PRoot itself obey: ld.so(8), Secure-execution mode
    HOST_VARIABLES = ("LD_", "PROOT_", "GLIBC_", "MALLOC_", "GCONV_PATH", "LOCPATH", "NLSPATH", "TALLOC_")
    lacks = {
        "--volume=HOST:PATH:ro": ("knows no read-only volumes", "modes N1 and R1 do: " + SETUP_HINT % "N1"),
        "--read-only": ("cannot make the container's tree read-only", "modes N1 and R1 can: " + SETUP_HINT % "N1"),
        "--ephemeral": ("cannot keep changes away from the container's tree", "mode N1 can: " + SETUP_HINT % "N1"),
    }
    # Newer than the PRoots in use, which would let them through untranslated, to the host's files: without them
    # programs fall back to calls that every PRoot knows. udocker's own 5.1.1 knows statx, and aborts under a new apt
    NEWER_CALLS = ("statx", "openat2", "faccessat2", "fchmodat2", "execveat", "io_uring_setup", "open_tree",
                   "open_tree_attr", "setxattrat", "getxattrat", "listxattrat", "removexattrat", "file_getattr",
                   "file_setattr")
    # In PRoots since 5.2, and udocker's 5.1.1: what one says that gives a program started by clone(CLONE_VM), as
    # posix_spawn(3) has it, a heap of its own. Others empty the heap of the parent, which then dies; they get it right
    # with clone3, which they do not know, but then threads do not share one
    SPAWN_MARK = b"can't allocate heap"

    START = "udocker-start"     # the name of the Starter inside, among what is the host's where there is such a place

    # Since Linux 4.8 filters are asked after the tracer. In RHEL 7.8 and 7.9 too, whose release tells nothing of it: by
    # this variable newer PRoots are told
    ORDER_VARIABLE = "PROOT_NEW_SECCOMP"
    has_new_order = False

    def identity(self):
        return super().identity() + (self.shown_kernel and " another kernel") + " new order" * self.has_new_order

    @classmethod
    def candidates(cls, mode, host, executable, temporary):
        engines = [cls(mode, host, executable, temporary)]
        if mode == "P1" and host.kernel_version < (4, 8) and cls.ORDER_VARIABLE.encode("ascii") in engines[0].content:
            engines.append(cls(mode, host, executable, temporary))
            engines[1].has_new_order = True
        return engines

    @found_once
    def content(self):
        """The bytes of the executable."""
        return read_file(self.executable, 1 << 28)

    @property
    def flaw(self):
        return "" if self.SPAWN_MARK in self.content else (
            "this PRoot is older than 5.2 and mixes up the memory of some programs that start others or have many "
            "threads, which then die or go wrong")

    lack_of_ports = "which of other machines are mapped too, and of all addresses"

    @property
    def maps_ports(self):
        return b"--netcoop" in self.content     # Debian's knows nothing of ports

    def check(self, spec):
        super().check(spec)
        for mount in spec.mounts:
            if ":" in mount.source + mount.guest or mount.guest.endswith("!"):
                raise EngineError("%s: PRoot cannot bind a path with a colon" % mount.guest,
                                  "mode N1 can: " + SETUP_HINT % "N1")

    def invocation(self, spec):
        self.check(spec)
        program = spec.find_command()
        words = [program] + spec.argv[1:]
        environment, set_inside = self._split_environment(dict(spec.environment, **self._variables_of_mpi(spec)))
        if set_inside:
            setter = spec.find_program("env")
            if "=" in words[0]:
                raise EngineError("%s: env, which sets %s inside, takes this for a variable" % (
                    words[0], ", ".join(set_inside)), "mode N1 needs no env: " + SETUP_HINT % "N1")
            if setter:
                words = [setter] + ["%s=%s" % pair for pair in sorted(set_inside.items())] + words
            else:
                say.warning("%s: left out, as the container has no env program to set it" % ", ".join(set_inside))
        area, starter = WorkArea(self.temporary), Starter.program(self.host.machine)
        spec = self._with_directories(spec, area)
        environment.update(self._program_names(spec))
        argv = [self.executable, "-v", "-1"] + self._emulation(spec, program)
        start = "/%s/%s" % ("proc" if "/proc" in [mount.guest for mount in spec.mounts] else "", self.START)
        argv += ["-b", "%s/start:%s" % (area.path, start), "-r", os.path.realpath(spec.root), "-w", spec.directory]
        for mount in spec.mounts:
            argv += ["-b", mount.source + ":" + mount.guest]
        ids = (spec.account.uid, spec.account.gid)
        if ids != (self.host.uid, self.host.gid):
            argv += ["-i", "%d:%d" % ids]
        if spec.kernel or spec.host_name:
            argv += ["-k", self._kernel(spec)]
        for port in spec.ports:
            argv += ["-p", "%d:%d" % (port.guest, port.host)]
        return Invocation(self.executable, argv + [start] + words, environment,
                          lambda: self._enter(spec, area, starter), is_tracer=True, area=area)

    @staticmethod
    def _variables_of_mpi(spec):
        """What Open MPI needs with PMIx since 5, where it is started inside: what its ranks have in common is to lie
        where /proc/self/maps shows room for it, and that is another picture with PRoot's loader."""
        wanted = spec.environment
        is_asked = "PMIX_RANK" in wanted or "PMIX_MCA_gds" in wanted        # by the host's launcher, or the user
        has_launcher = not is_asked and spec.find_program("mpirun", wanted.get("PATH", DEFAULT_PATH))
        return {"PMIX_MCA_gds": "hash"} if has_launcher else {}

    def _emulation(self, spec, program):
        """PRoot's option for a program of another machine."""
        emulator = spec.emulator(self.host, program)
        if not emulator:
            return []
        path = Host.find_executable(emulator + "-static") or Host.find_executable(emulator)
        if not path:
            raise EngineError("the container's programs are for another machine than %s" % self.host.machine,
                              "%s-static, of Debian's qemu-user-static, in the search path runs them" % emulator)
        return ["-q", path]

    @staticmethod
    def _with_directories(spec, area):
        """The RunSpec with directories of the host, empty and in `area`, for those that would be in memory."""
        if not spec.memory_mounts:
            return spec
        import copy
        places = [Mount("%s/%d" % (area.path, number), mount.guest) for number, mount in enumerate(spec.memory_mounts)]
        changed = copy.copy(spec)
        changed.mounts = outer_first(spec.mounts + places)
        return changed

    @staticmethod
    def _kernel(spec):
        """The kernel to pretend, as PRoot's option -k takes it: a release, or all that uname(2) tells."""
        if not spec.host_name:
            return spec.kernel
        system = os.uname()
        words = (system.sysname, spec.host_name, spec.kernel or system.release, system.version, system.machine)
        return "\\".join(("",) + words + ("(none)", "0", ""))

    def _program_names(self, spec):
        """The variable by which a container's UUTILS find out which of them they are, and by which an old PRoot finds
        its loader where it cannot be told another directory than /tmp."""
        is_lost = self.temporary != "/tmp" and b"PROOT_TMP_DIR" not in self.content
        pieces = (is_lost or spec.tree.has_directory(UUTILS)) and embedded_program(self.executable)
        return {"PROOT_LOADER": process_path(unnamed_program(pieces, self.temporary))} if pieces else {}

    def _split_environment(self, wanted):
        """(what PRoot is started with, what must be set inside): PRoot runs on the host, and variables that an image
        chose must neither load libraries into it nor change what it does."""
        environment = {name: value for name, value in wanted.items() if not name.startswith(self.HOST_VARIABLES)}
        set_inside = {name: value for name, value in wanted.items()
                      if name not in environment and not name.startswith("PROOT_")}
        if self.temporary != "/tmp":
            environment["PROOT_TMP_DIR"] = self.temporary
        if self.mode == "P2":
            environment["PROOT_NO_SECCOMP"] = "1"
        if self.has_new_order:
            environment[self.ORDER_VARIABLE] = "1"
        return environment, set_inside

    def _enter(self, spec, area, starter):
        with Closing(os.open(area.path + "/start", NEW_FILE, 0o700)) as descriptor:
            write_all(descriptor, starter)
        for mount in spec.mounts:
            if mount.source.startswith(area.path + "/"):
                os.mkdir(mount.source)
                os.chmod(mount.source, 0o1777)
        # PRoot makes the places that the tree lacks too, and takes them away at its end from its neighbours
        for position, mount in enumerate(spec.mounts):
            try:
                outer = [other.place for other in spec.mounts[:position]]
                GuestTree(spec.root, outer).make_mount_point(mount.guest, mount.is_directory)
            except OSError as error:
                say.debug("%s: %s" % (mount.guest, error.strerror))
        # Before Linux 3.18 who traces all calls is told once, and not twice, of those that a filter answers, and takes
        # all that follow for what they are not; and there are none of the newer calls
        if self.host.kernel_version >= (3, 18):
            kernel = Kernel()
            kernel.refuse_typing()
            kernel.answer_calls(self.NEWER_CALLS + (() if self.flaw else ("clone3",)), errno.ENOSYS)
            # Since Linux 4.10 PRoot cannot read the names in the memory of who has made itself undumpable. prctl(2)
            kernel.answer_calls(("prctl",), 0)

    def explain(self, report):
        if self.shown_kernel:       # Debian's 5.1.0 does not let glibc since 2.33 ask for the size of a library
            return ("%s shows no other kernel or host name to programs with a loader" % self.executable,
                    "udocker install %s brings one that can" % self.mode)
        scope = Host.sysctl("kernel.yama.ptrace_scope")
        if scope in ("2", "3"):
            return "kernel.yama.ptrace_scope is %s, which forbids ptrace" % scope, ""
        return report, ""


# What root inside expects to be able to do and only needs to seem done: a plain user owns everything.
# The same calls as Charliecloud's root emulation answers.
EMULATED_CALLS = ("chown", "fchown", "lchown", "fchownat", "setuid", "setgid", "setreuid", "setregid", "setresuid",
                  "setresgid", "setfsuid", "setfsgid", "setgroups", "capset", "chown32", "fchown32", "lchown32",
                  "setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setfsuid32",
                  "setfsgid32", "setgroups32", "mknod", "mknodat")


APT_CONFIG = "/etc/apt/udocker.conf"


def variables_of_emulation(spec, tree):
    """Variables that a command needs besides its own where root is emulated in a GuestTree.

    apt downloads as another user and sees that it did not become that one: a file that only APT_CONFIG leads to
    tells it to stay root. apt.conf(5)
    """
    if spec.account.uid != 0 or spec.is_read_only or "APT_CONFIG" in spec.environment:
        return {}
    content = b'APT::Sandbox::User "root";\n'
    try:
        if not tree.has_directory("/etc/apt/apt.conf.d"):
            return {}
        guest, path = tree.resolve(APT_CONFIG), tree.path(APT_CONFIG)
        if any(guest.startswith(mount.guest + "/") for mount in spec.mounts):
            return {}       # the directory is the host's
        if not os.path.exists(path) or read_file(path, 1000) != content:
            write_atomic(path, content, 0o644)
    except OSError as error:
        say.debug("%s: %s" % (APT_CONFIG, error.strerror))
        return {}
    return {"APT_CONFIG": APT_CONFIG}


def map_ids(proc, user, group):
    """Give this process one id inside for one outside; `proc` is a descriptor of /proc. user_namespaces(7): since Linux
    3.19 groups must be given up first."""
    for name, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % user), ("gid_map", "%d %d 1" % group)):
        with Naming(name):
            try:
                descriptor = os.open("self/" + name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
            except FileNotFoundError:
                if name == "setgroups":
                    continue
                raise
            with Closing(descriptor):
                os.write(descriptor, text.encode("ascii"))


MERGED = "merged"       # where, below a tree, its view appears


def make_ephemeral(kernel, root, place):
    """The host path of a view of the tree `root` whose changes are kept in the empty directory `place`, or in memory
    where that is "". Needs Linux 5.11."""
    with Closing(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as lower:
        if not place:
            kernel.mount_memory(root)
        os.chdir(place or root)
        for name in "upper", "work", MERGED:
            os.mkdir(name)
        os.chmod("upper", stat.S_IMODE(os.fstat(lower).st_mode))
        try:
            kernel.mount_overlay("/proc/self/fd/%d" % lower, MERGED)
        except OSError as error:
            if place:           # file systems of the network, and overlays themselves, can take no changes
                say.warning("--ephemeral: changes are kept in memory, and not in %s: %s" % (place, error.strerror))
                os.chdir("/")
                return make_ephemeral(kernel, root, "")
            if Host().kernel_version >= (5, 11):
                raise
            raise EngineError("changes can be kept in memory since Linux 5.11, and this is %s (%s: %s)" % (
                Host().kernel, error.filename, error.strerror), "--tmpfs=PATH gives one directory")
    return os.path.join(place or root, MERGED)


class OwnerNotes:
    """To whom a command gives what by chown(2), where that is emulated and changes nothing, in a `with` block: in a
    file, a line for each call. At its end origins() tells to whom all belongs.

    As everything seems to be root's, who gives a new file to root may just do to it as to the one in whose place it
    comes, as sed -i does: that then keeps the owner that it has in the image.
    """

    SAME = 0xFFFFFFFF       # an id that is left as it is
    SET_IDS = stat.S_ISUID | stat.S_ISGID
    PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

    def __init__(self, path, root, before):
        """`path` is where the file is to be made; `before` are origins, see LayerUnpacker, of what is in the tree at
        `root`, on the same file system."""
        self.path = path
        self.root = root
        self.before = before
        self.is_told = False        # whether there is a line for each call

    def __enter__(self):
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.file = os.fdopen(descriptor, "r+b")
        self.began = os.fstat(descriptor).st_ctime_ns
        # Those with an origin that counts, and what tells their files: a name each, of hard links one of them
        self.known = {name for name, (mode, user, group) in self.before.items()
                      if user or group or mode & 0o7000 or not mode & 0o400}
        self.names, kernel = {}, Kernel()
        for name in self.known:
            try:
                with Closing(os.open(os.path.join(self.root, name), self.PLACE)) as file:
                    self.names[self._identity(kernel, file, os.fstat(file))] = name
            except OSError:         # it has gone
                pass
        return self

    def __exit__(self, *_):
        self.file.close()

    @staticmethod
    def _identity(kernel, descriptor, status):
        """What tells an open file from all others: inodes are used again, and then have another time of birth."""
        return status.st_dev, status.st_ino, kernel.birth_time(descriptor)

    def add(self, kernel, descriptor, user, group):
        """An open file is given to a user and a group, which takes its set-id bits away. chown(2)"""
        status, target = os.fstat(descriptor), self.file.fileno()
        if stat.S_ISREG(status.st_mode) and status.st_mode & self.SET_IDS:
            set_mode("/proc/self/fd/%d" % descriptor, stat.S_IMODE(status.st_mode) & ~self.SET_IDS)
        identity = self._identity(kernel, descriptor, status)
        is_new = (identity[2] or status.st_ctime_ns) >= self.began
        with Undoing(os.ftruncate, target, os.lseek(target, 0, os.SEEK_END)):
            write_all(target, b"%d %d %d %d %d %d\n" % (identity + (is_new, user, group)))

    def _calls(self):
        """{what tells a file: (user, group, whether it is new and was given to root, as another may have seemed to be)}
        """
        found = {}
        self.file.seek(0)
        for *identity, is_new, user, group in (map(int, line.split()) for line in self.file):
            known = found.get(tuple(identity), (self.SAME, self.SAME, False))
            as_seen = [is_new and new == 0 and old == self.SAME for old, new in zip(known, (user, group))]
            owner = [old if new == self.SAME or is_seen else new
                     for old, new, is_seen in zip(known, (user, group), as_seen)]
            found[tuple(identity)] = tuple(owner) + (known[2] or any(as_seen),)
        return found

    def origins(self, mended, entries, changes):
        """Origins of what in the tree has others than before; `mended` are modes, {name: mode}, that are others now.
        Where nothing was given away, of the `entries` those that are known or among the `changes` alone can have some:
        a directory in the place of another one is no change."""
        kernel, calls, found, tree = Kernel(), self._calls(), {}, OpenTree(self.root)
        inodes = {identity[:2] for identity in list(calls) + list(self.names)}
        for relative, status, directory, name in tree.walk() if calls else tree.named(
                name for name in entries if name in self.known or name in changes):
            if (status.st_dev, status.st_ino) in inodes or relative in self.known:
                with Closing(os.open(name, self.PLACE, dir_fd=directory)) as descriptor:
                    identity = self._identity(kernel, descriptor, status)
                mode = stat.S_IFMT(status.st_mode) | mended.get(relative, stat.S_IMODE(status.st_mode))
                origin = self._origin(relative, mode, identity, calls.get(identity))
                if origin != self.before.get(relative, (stat.S_IMODE(mode), 0, 0)):
                    found[relative] = origin
        return found

    def _origin(self, relative, mode, identity, call):
        user, group, is_as_seen = call or (self.SAME, self.SAME, False)
        name = self.names.get(identity)
        if name is not None and (identity[2] or name == relative):      # it may have another name now
            origin = self.before[name]
        elif relative in self.known:        # something else is in its place
            is_kept = is_as_seen or not self.is_told
            origin = (stat.S_IMODE(mode),) + (self.before[relative][1:] if is_kept else (0, 0))
        else:
            origin = self.before.get(relative, (stat.S_IMODE(mode), 0, 0))
        owner = tuple(old if new == self.SAME else new for old, new in zip(origin[1:], (user, group)))
        if owner != origin[1:] and stat.S_ISREG(mode):
            return (origin[0] & ~self.SET_IDS | mode & self.SET_IDS,) + owner
        return origin[:1] + owner


class OwnerWitness(CallWitness):
    """The witness of chown(2) and the like, by a command whose root is emulated: it notes what is given to whom."""

    CALLS = tuple(name for name in EMULATED_CALLS if "chown" in name)
    HERE, IS_LINK, IS_ITSELF = -100, 0x100, 0x1000      # AT_FDCWD, AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH
    LONGEST = 4096      # bytes of a path, and of a command line

    def __init__(self, kernel, notes):
        super().__init__(kernel, self._note, notes.file.fileno())
        self.notes = notes
        # The kind of each call, and the bits of its ids: the older ones of machines of 32 bits have few
        self.kinds = {(arch, numbers[name]): (name.replace("32", ""), 0xFFFF if name + "32" in numbers else 0xFFFFFFFF)
                      for arch, numbers in kernel.calls.tables for name in self.CALLS if name in numbers}

    def _note(self, proc, pid, arch, number, words):
        """Note one call, but of who cannot be looked into; the errno where there is no such file, else 0."""
        kind, bits = self.kinds[arch, number]
        place, path, flags = self.HERE, b"", {"fchown": self.IS_ITSELF, "lchown": self.IS_LINK}.get(kind, 0)
        if kind in ("fchown", "fchownat"):
            place = (words.pop(0) + (1 << 31)) % (1 << 32) - (1 << 31)      # an int
        try:
            if kind != "fchown":
                path = self._text(proc, pid, words.pop(0))
            start, path, resolve = self._start(proc, pid, place, path)
        except (OSError, OverflowError):        # it has ended, or lets nobody look, or the address is none
            return 0
        flags = words[2] if kind == "fchownat" else flags
        owner = [self.notes.SAME if word & bits == bits else word & bits for word in words[:2]]
        with Closing(start):
            try:
                self.check()
                if not path and flags & self.IS_ITSELF:
                    self.notes.add(self.kernel, start, *self._meant(proc, pid, *owner))
                else:
                    how = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if flags & self.IS_LINK else 0)
                    with Closing(self.kernel.open_at(start, path, how, resolve)) as file:
                        self.notes.add(self.kernel, file, *self._meant(proc, pid, *owner))
            except OSError as error:        # other mounts are in no layer, and /dev/stdout would be the witness's own
                return error.errno if error.errno != errno.EXDEV else 0
        return 0

    def _text(self, proc, pid, address):
        """What is at an address of a process, to the first NUL."""
        with Closing(os.open("%d/mem" % pid, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)) as memory:
            return os.pread(memory, self.LONGEST, address).partition(b"\0")[0]

    def _start(self, proc, pid, place, path):
        """(a descriptor, the path from there, how it is to be resolved) for a path of a process, which begins at a
        descriptor of that."""
        if path.startswith((b"/proc/self/", b"/proc/thread-self/")):
            return os.dup(proc), b"%d/%s" % (pid, path.split(b"/", 3)[3]), 0
        word = "cwd" if place == self.HERE else "fd/%d" % place
        if not path:
            return os.open("%d/%s" % (pid, word), os.O_PATH | os.O_CLOEXEC, dir_fd=proc), path, 0
        if not path.startswith(b"/"):       # from its own root, so that no link leads out of it
            begin, root = (os.readlink(os.fsencode("%d/%s" % (pid, name)), dir_fd=proc) for name in (word, "root"))
            path = b"/".join((begin[len(root.rstrip(b"/")):], path))
        start = os.open("%d/root" % pid, os.O_PATH | os.O_CLOEXEC, dir_fd=proc)
        return start, path.lstrip(b"/") or b".", Kernel.IN_ROOT | Kernel.NO_MOUNTS

    def _meant(self, proc, pid, user, group):
        """(user, group) that a call means: busybox passes on what it sees, root, where others leave an id as it is."""
        try:
            if os.path.basename(os.readlink("%d/exe" % pid, dir_fd=proc)) != "busybox":
                return user, group
            applet, words = (self._read(proc, "%d/%s" % (pid, name)) for name in ("comm", "cmdline"))
        except OSError:
            return user, group
        applet = applet.strip()
        names = [os.path.basename(word) for word in words.split(b"\0") if word and word[:1] != b"-"]
        if applet == b"busybox":
            names = names[1:]
            applet = names[0] if names else b""
        if applet == b"chgrp":
            return self.notes.SAME, group
        given = names[1] if names[:1] == [applet] and names[1:] else b""
        if applet != b"chown" or b":" in given[1:]:
            return user, group
        # Of what its shell does without executing a program the words are not known: root alone is seldom meant there
        return user or (self.notes.SAME if group else 0), group or (self.notes.SAME if user else 0)

    def _read(self, proc, name):
        with Closing(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)) as file:
            return os.read(file, self.LONGEST)


class PortWitness(CallWitness):
    """The witness of bind(2) and connect(2), by a command whose ports are others of the host's: it makes these calls on
    the sockets of who called, with the addresses that are meant. Connections to others than the command's own machine
    are let alone."""

    CALLS = ("bind", "connect")
    LONGEST = 28        # bytes of a struct sockaddr_in6
    VERSION_4 = bytes(10) + b"\xff\xff"         # what comes before an address of IPv4 in one of IPv6. RFC 4291
    LOOPBACK = bytes(15) + b"\x01"
    UNSEEN = (errno.EPERM, errno.EACCES, errno.ESRCH, errno.ENOSYS, errno.EMFILE, errno.ENFILE)

    def __init__(self, kernel, ports):
        super().__init__(kernel, self._direct)
        kinds = {"tcp": self.socket.SOCK_STREAM, "udp": self.socket.SOCK_DGRAM}
        self.ports = {(kinds[port.protocol], port.guest): port for port in ports}
        self.numbers = {port.guest for port in ports}
        self.binds = {(arch, numbers["bind"]) for arch, numbers in kernel.calls.tables if "bind" in numbers}
        self.hosts = {self.socket.AF_INET: (4, 8), self.socket.AF_INET6: (8, 24)}       # in ip(7) and ipv6(7)
        self.local = set()      # ports that were bound to the command's own machine alone

    def _direct(self, proc, pid, arch, number, words):
        try:
            name = self.kernel.read_memory(pid, words[1], min(words[2] & 0xFFFFFFFF, self.LONGEST))
            begin, end = self.hosts.get(int.from_bytes(name[:2], sys.byteorder), (0, 0))
            if not 0 < end <= len(name) or int.from_bytes(name[2:4], "big") not in self.numbers:
                return None
            leader = self._leader(proc, pid)
            self.check()
            with Closing(self.kernel.descriptor_of(leader, words[0] & 0xFFFFFFFF)) as file:
                kind = self.kernel.socket_option(file, self.socket.SOL_SOCKET, self.socket.SO_TYPE)
                port = self.ports.get((kind, int.from_bytes(name[2:4], "big")))
                act = self._bind if (arch, number) in self.binds else self._connect
                return act(port, file, name, begin, end) if port else None
        except OSError as error:        # of what cannot be seen nothing is to be reached that was not to be
            is_limited = any(port.address for port in self.ports.values())
            return errno.EACCES if is_limited and error.errno in self.UNSEEN else None

    @staticmethod
    def _leader(proc, pid):
        """The process of a thread."""
        with Closing(os.open("%d/status" % pid, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)) as status:
            return int(os.read(status, 4096).partition(b"\nTgid:")[2].split()[0])

    def _bind(self, port, file, name, begin, end):
        is_local = self._is_local(name[begin:end])
        host = self._address(port, file, end - begin) if port.address and not is_local else name[begin:end]
        try:
            self.kernel.bind(file, name[:2] + port.host.to_bytes(2, "big") + name[4:begin] + host + name[end:])
        except OSError as error:
            return error.errno
        (self.local.add if is_local else self.local.discard)(port)
        return 0

    def _connect(self, port, file, name, begin, end):
        host = name[begin:end]
        if any(host) and not self._is_local(host):
            return None
        if port.address and port not in self.local:
            host = self._address(port, file, end - begin)
        is_patient = os.get_blocking(file)
        os.set_blocking(file, False)
        try:
            self.kernel.connect(file, name[:2] + port.host.to_bytes(2, "big") + name[4:begin] + host + name[end:])
        except OSError as error:        # what is under way the caller waits for, with an address that counts no more
            return None if is_patient and error.errno in (errno.EINPROGRESS, errno.EALREADY) else error.errno
        finally:
            os.set_blocking(file, is_patient)
        return 0

    def _is_local(self, host):
        """Whether nobody from outside comes to an address, as its bytes are."""
        inner = host[12:] if host.startswith(self.VERSION_4) else host
        return len(inner) == 4 and inner[0] == 127 or host == self.LOOPBACK

    def _address(self, port, file, size):
        """The address that a port is published at, as a socket has it, in as many bytes."""
        packed = self.socket.inet_pton(self.socket.AF_INET, port.address)
        if size == 4:
            return packed
        if self.kernel.socket_option(file, self.socket.IPPROTO_IPV6, self.socket.IPV6_V6ONLY):
            return self.LOOPBACK        # where nobody comes
        return self.VERSION_4 + packed


class NamespaceEngine(Engine):
    """User and mount namespaces made by this program itself. user_namespaces(7), pivot_root(2)"""

    modes = (Mode("N1", "user and mount namespaces, made by udocker itself: fastest, nothing to download"),)
    can_cut_off = True
    lacks = {"--kernel": ("cannot emulate another kernel", "modes P1 and P2 can: " + SETUP_HINT % "P1")}

    @property
    def maps_ports(self):
        return self.host.kernel_version >= (5, 6)

    def invocation(self, spec):
        self.check(spec)
        program = spec.find_command()
        self.check_machine(spec, program)
        self.warn_of_restart(spec, program)
        environment = dict(spec.environment)
        return Invocation(program, spec.argv, environment, lambda: self._enter(spec, environment),
                          has_witness=bool(spec.ports or spec.owner_notes))

    def _enter(self, spec, environment):
        """Move this process into the container; every step is checked, so it arrives or fails."""
        keep_directories()
        kernel = Kernel()
        witness = self._witness(kernel, spec)
        try:
            if spec.step and not spec.has_no_network:
                self._join(kernel, spec, environment)
            else:
                self._make(kernel, spec)
            if spec.is_ephemeral or spec.memory_mounts:
                make_directory(spec.directory)
            os.chdir(spec.directory)
            environment.update(variables_of_emulation(spec, GuestTree("")))
            kernel.refuse_typing()
            self._answer_calls(kernel, spec, witness)
        except OSError as error:
            raise EngineError("%s: %s" % (error.filename, error.strerror))

    @staticmethod
    def _witness(kernel, spec):
        """The CallWitness that is needed, None for none; the kernel takes one alone."""
        if spec.ports:
            return PortWitness(kernel, spec.ports)
        return OwnerWitness(kernel, spec.owner_notes) if spec.owner_notes and spec.account.uid == 0 else None

    @staticmethod
    def _answer_calls(kernel, spec, witness):
        emulated = EMULATED_CALLS if spec.account.uid == 0 else ()
        if spec.ports:          # it would bind and connect without these calls
            kernel.answer_calls(("io_uring_setup",), errno.ENOSYS)
        try:
            if witness:
                witness.begin(emulated, witness.CALLS)
                return
        except OSError as error:
            tell, loss = (say.warning, "no port is mapped") if spec.ports else (say.debug, "owners are forgotten")
            tell("%s: %s: %s" % (loss, error.filename, error.strerror))
        if emulated:
            kernel.answer_calls(emulated, 0)

    def _join(self, kernel, spec, environment):
        """The ranks of a job on this node are in the same namespaces; one that cannot be is warned, and alone."""
        key, root = "%s\n%s" % (spec.step.key, spec.view), os.stat(spec.root)
        try:
            if str(spec.account.uid) == Host.sysctl("kernel.overflowuid"):
                raise OSError(errno.EPERM, "inside, all other users of this machine are this one too", "user")
            SharedNamespaces(self.temporary, key, spec.step.local_size).join(kernel, lambda: self._make(Kernel(), spec))
        except OSError as error:
            say.warning("this rank has namespaces of its own, so the others cannot copy from its memory: %s: %s" % (
                error.filename, error.strerror))
            environment.update({name: value for name, value in JobStep.CAREFUL.items() if name not in environment})
            self._make(kernel, spec)
        if not spec.is_ephemeral and not os.path.samestat(root, os.stat("/")):
            raise EngineError("the namespaces of this job have another container's root", "what runs with a volume of "
                              "%s can pretend to be one of its ranks" % self.temporary)

    def _make(self, kernel, spec):
        """Make the namespaces, in which the working directory is the root."""
        account = spec.account
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)      # the container may show none
        try:
            kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNTS | (kernel.NEW_NAMES if spec.host_name else 0)
                           | (kernel.NEW_NETWORK if spec.has_no_network else 0))
            map_ids(proc, (account.uid, self.host.uid), (account.gid, self.host.gid))
            if spec.has_no_network:
                start_loopback()
            kernel.mount(None, "/", kernel.SLAVE | kernel.RECURSIVE)    # nothing of ours reaches the host
            kernel.mount(spec.root, spec.root, kernel.BIND | kernel.RECURSIVE)
            root = make_ephemeral(kernel, spec.root, spec.changes) if spec.is_ephemeral else spec.root
            self._mount_all(kernel, GuestTree(root), spec)
            os.chdir(root)
            if spec.is_read_only:
                kernel.make_read_only(root, is_recursive=False)
            if spec.host_name:
                kernel.set_host_name(spec.host_name)
            kernel.pivot_root()
            if spec.is_read_only or any(mount.is_read_only for mount in spec.mounts):
                # Mounts of another namespace are locked: root inside cannot make them writable again
                kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNTS)
                map_ids(proc, (account.uid, account.uid), (account.gid, account.gid))
        except OSError as error:
            raise EngineError("%s: %s" % (error.filename, error.strerror))
        finally:
            os.close(proc)

    @classmethod
    def _mount_all(cls, kernel, tree, spec):
        """Volumes and directories in memory, outer ones first."""
        for mount in outer_first(spec.mounts + spec.memory_mounts):
            if isinstance(mount, MemoryMount):
                try:
                    kernel.mount_memory(tree.make_mount_point(mount.guest, True), mount.options)
                except OSError as error:
                    raise EngineError("--tmpfs=%s: %s" % (mount.guest, error.strerror))
            else:
                cls._mount(kernel, tree, mount)

    @classmethod
    def _mount(cls, kernel, tree, mount):
        try:
            target = cls._mount_point(kernel, tree, mount)
            if os.path.isdir(target) != mount.is_directory:
                raise OSError(errno.ENOTDIR, "one is a directory and the other is not", mount.guest)
            kernel.mount(mount.real_source, target, kernel.BIND | kernel.RECURSIVE)
            if mount.is_read_only:
                kernel.make_read_only(target)
        except OSError as error:
            if mount.is_required:
                raise EngineError("%s cannot appear as %s: %s" % (mount.source, mount.guest, error.strerror))
            say.debug("%s is left out: %s" % (mount.guest, error.strerror))

    @classmethod
    def _mount_point(cls, kernel, tree, mount):
        """The host path to mount on; where it is missing and the tree cannot be written to, it is made in memory."""
        try:
            return tree.make_mount_point(mount.guest, mount.is_directory)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM) or not mount.is_required:
                raise
        parent = os.path.dirname(tree.path(mount.guest))
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        cls._cover(kernel, parent)
        return tree.make_mount_point(mount.guest, mount.is_directory)

    @staticmethod
    def _cover(kernel, path):
        """Put a directory in memory over one that cannot be written to; what is in that appears in it."""
        with Closing(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as covered:
            kernel.mount_memory(path)
            for name in os.listdir("/proc/self/fd/%d" % covered):
                source, place = "/proc/self/fd/%d/%s" % (covered, name), path + "/" + name
                mode = os.lstat(source).st_mode
                if stat.S_ISLNK(mode):
                    os.symlink(os.readlink(source), place)
                    continue
                if stat.S_ISDIR(mode):
                    os.mkdir(place)
                else:
                    os.close(os.open(place, NEW_FILE, 0o600))
                kernel.mount(source, place, kernel.BIND | kernel.RECURSIVE)

    SWITCHES = (("kernel.unprivileged_userns_clone", "0", "1"), ("user.max_user_namespaces", "0", "15000"),
                ("user.max_mnt_namespaces", "0", "15000"),
                ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"))

    def explain(self, report):
        for name, refusing, allowing in self.SWITCHES:
            if Host.sysctl(name) == refusing:
                return ("user namespaces are refused: %s is %s" % (name, refusing),
                        "the administrator allows them with: sysctl -w %s=%s" % (name, allowing))
        hint = "inside another container or sandbox that is usual"
        if report.startswith(("pivot_root", "umount2")):
            return "a namespace could be had, and no container in it (%s)" % report, hint
        return "user namespaces are refused here (%s)" % report, hint


class TreeMount:
    """The tree of a TreeFile, mounted by squashfuse in namespaces of our own, where N1 finds it. fuse(4)

    squashfuse itself is not in them: when their last process ends, the mount goes, and that ends squashfuse.
    """

    PROGRAMS = ("squashfuse_ll", "squashfuse")      # the first is faster, and only newer ones take the option uid
    DEVICE = "/dev/fuse"

    def __init__(self, file, point):
        """`point` is a directory."""
        self.point = point
        self.path = process_path(file.descriptor)
        self.options = "uid=%d,gid=%d,offset=%d" % (os.getuid(), os.getgid(), file.offset)

    @classmethod
    def programs(cls):
        """The paths of what can mount here; EngineRefusedError where there is nothing."""
        if not os.access(cls.DEVICE, os.R_OK | os.W_OK):
            raise EngineRefusedError("%s cannot be opened" % cls.DEVICE, "the administrator allows it with: "
                                     "modprobe fuse; chmod 666 %s" % cls.DEVICE)
        found = list(filter(None, map(Host.find_executable, cls.PROGRAMS)))
        if not found:
            raise EngineRefusedError("there is no squashfuse", "install the package squashfuse")
        able = [path for path in found if b"libfuse.so.2" not in read_file(path)]
        if not able:
            raise EngineRefusedError("%s is made for FUSE 2, which takes no device that is open already" % found[0],
                                     "newer ones, as of Debian 12 and Ubuntu 24.04, are made for FUSE 3")
        return able

    def make(self):
        """Make the namespaces, in which ids are as outside, and the mount; OSError and EngineError."""
        kernel, uid, gid = Kernel(), os.getuid(), os.getgid()
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)       # who is in namespaces cannot look into /proc of us
        with Closing(os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as proc:
            kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNTS)
            map_ids(proc, (uid, uid), (gid, gid))
        kernel.mount(None, "/", kernel.SLAVE | kernel.RECURSIVE)
        # In the end squashfuse alone has the device: who waits for one that has died would otherwise wait for ever
        with Closing(file), Closing(os.open(self.DEVICE, os.O_RDWR | os.O_CLOEXEC)) as device:
            kernel.mount_fuse(self.point, device)
            self._serve(kernel, file, device)
        os.stat(self.point + "/.")      # one that has died at once is told here

    def _serve(self, kernel, file, device):
        """Start what answers at the device; EngineError where nothing can."""
        for program in self.programs():
            # libfuse 3.3 and newer take a descriptor in the place of a directory
            argv = [program, "-o", self.options] + ["/dev/fd/%d" % number for number in (file, device)]
            status, _, talk = run_program(argv, kept=(file, device), before=lambda: kernel.leave_mount(self.point))
            if status == 0:
                return
        raise EngineError("%s: %s" % (program, talk.strip() or "status %d" % status))


class RuncEngine(ExecutableEngine):
    """runC or crun: the container is described to them in OCI's words. OCI runtime-spec, config.md

    They run one command and go; what they keep meanwhile is in a directory of this run alone.
    """

    tool_kind = "runc"
    modes = (Mode("R1", "runC or crun: rootless user and mount namespaces"),)
    lacks = dict(NamespaceEngine.lacks, **{"--ephemeral": PRootEngine.lacks["--ephemeral"]})
    always_shown = ("/proc", "/dev")        # neither runC nor crun does without
    can_cut_off = True
    # What docker gives by default: without CAP_SYS_ADMIN nobody inside makes a read-only volume writable
    CAPABILITIES = ["CAP_" + name for name in (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")]
    ARCHITECTURES = {"x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "i686": ["SCMP_ARCH_X86"],
                     "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], "armv7l": ["SCMP_ARCH_ARM"],
                     "ppc64le": ["SCMP_ARCH_PPC64LE"]}

    # statvfs(3), as options of mount(8)
    LOCKED_FLAGS = ((os.ST_NOSUID, "nosuid"), (os.ST_NODEV, "nodev"), (os.ST_NOEXEC, "noexec"),
                    (os.ST_NOATIME, "noatime"), (os.ST_NODIRATIME, "nodiratime"), (os.ST_RELATIME, "relatime"))
    # What runC says where it was ended before it was the command
    STOPPED = ("container process is already dead", "error during container init: %!w(<nil>)", "signal: terminated",
               "signal: killed", "signal: interrupt", "read init-p: connection reset by peer")
    KILLER = b"libcontainer/cgroups/rootless."      # of what is in runC 1.0.0-rc3 and -rc4 alone

    def probe(self, area, token):
        """None, as the usual proof is good for it; EngineError for one that must not even be tried."""
        if self.KILLER in read_file(self.executable, 1 << 28):
            raise EngineError("%s is older than 1.0.0-rc5, and may kill all that you run here" % self.executable,
                              "N1 needs none: " + SETUP_HINT % "N1")

    @property
    def is_crun(self):
        """Whether it is crun, which knows ids besides 0 and can leave cgroups alone."""
        return "crun" in os.path.basename(self.executable)

    def check(self, spec):
        super().check(spec)
        for mount in spec.mounts:       # with the host's /proc what is at its own place there appears anyway
            if mount.guest.startswith("/proc/") and mount.source != mount.guest:
                raise EngineError("%s: mode R1 mounts nothing inside /proc" % mount.guest,
                                  "mode N1 does: " + SETUP_HINT % "N1")

    def _words(self, spec):
        """The words to execute: runC only makes root, whom the container's unshare gives other ids. unshare(1)"""
        account = spec.account
        if self.is_crun or (account.uid, account.gid) == (0, 0):
            return spec.argv
        program = spec.find_program("unshare")
        if not program or b"map-user\0" not in read_file(spec.tree.path(program)):
            raise EngineError("runC can only run commands as root inside, and the container has no unshare program "
                              "that would give them the ids %d:%d" % (account.uid, account.gid),
                              "crun in the search path can, and mode N1: " + SETUP_HINT % "N1")
        return [program, "--map-user=%d" % account.uid, "--map-group=%d" % account.gid, "--"] + spec.argv

    def invocation(self, spec):
        self.check(spec)
        program = spec.find_command()           # both answer with status 1 where there is none
        self.check_machine(spec, program)
        self.warn_of_restart(spec, program)
        area = WorkArea(self.temporary)
        bundle = area.path
        keep_directories()
        inherited = max(inherited_descriptors(), default=2)
        has_terminal = all(map(os.isatty, range(3))) and not spec.is_in_background
        document = self._document(spec, bundle, has_terminal)
        argv = [self.executable, "--root", bundle + "/state", "--log", bundle + "/log", "--log-format", "json"]
        argv += ["--cgroup-manager", "disabled"] if self.is_crun else []
        argv += ["run", "--bundle", bundle, "--pid-file", bundle + "/pid"]
        argv += ["--preserve-fds", str(inherited - 2)] if inherited > 2 else []
        is_detached = not has_terminal and not self.is_crun
        argv += ["--detach"] * is_detached      # else runC would copy all that is read and written, and read ahead
        environment = {"PATH": DEFAULT_PATH, "HOME": bundle, "XDG_RUNTIME_DIR": bundle}
        return Invocation(self.executable, argv + [os.path.basename(bundle)], environment,
                          lambda: self._prepare(bundle, document, inherited), area=area,
                          conclude=lambda status: self._conclude(bundle, status),
                          find_process=lambda: self._process(bundle), is_detached=is_detached,
                          last_descriptor=inherited)

    @staticmethod
    def _prepare(bundle, document, inherited):
        os.mkdir(bundle + "/state", 0o700)
        os.close(os.open(bundle + "/console", NEW_FILE, 0o600))
        write_atomic(bundle + "/config.json", line_of_json(document).encode("ascii"))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(3, inherited + 1):          # there must be no gaps
            try:
                is_passed = os.get_inheritable(number)
            except OSError:
                is_passed = False
            if number == null:
                os.set_inheritable(number, True)
            elif not is_passed:
                os.dup2(null, number)

    @staticmethod
    def _process(bundle):
        """The id of the process that runs the command, None where it was not started."""
        try:
            return int(read_file(bundle + "/pid", 32) or b"0") or None
        except ValueError:
            return None

    def _conclude(self, bundle, status):
        """The status of the command; EngineError where it was never started, which the log tells."""
        log = read_file(bundle + "/log").decode("utf-8", "replace").splitlines()
        failures = [line for line in log if '"level":"error"' in line.replace(" ", "")]
        if not status or not failures:
            return status
        try:
            message = str(parse_json(failures[-1].encode("utf-8"), "log").get("msg"))
        except DocumentError:
            message = failures[-1]
        if message.endswith(self.STOPPED):
            return 128 + 9      # by which signal is not told
        raise EngineError("%s: %s" % (os.path.basename(self.executable), printable(message)[:300]))

    def _document(self, spec, bundle, has_terminal):
        """config.json of the run."""
        words = self._words(spec)
        account = spec.account if words is spec.argv else Account(0, 0)
        document = {"ociVersion": "1.0.0", "process": self._command(spec, account, words, has_terminal),
                    "mounts": self._mounts(spec, bundle, has_terminal),
                    "root": {"path": os.path.realpath(spec.root), "readonly": spec.is_read_only}}
        linux = document["linux"] = {
            "namespaces": [{"type": "user"}, {"type": "mount"}],
            "uidMappings": [{"containerID": account.uid, "hostID": self.host.uid, "size": 1}],
            "gidMappings": [{"containerID": account.gid, "hostID": self.host.gid, "size": 1}]}
        shares_terminal = not has_terminal and any(map(os.isatty, range(3)))
        if self.host.machine in self.ARCHITECTURES and (spec.account.uid == 0 or shares_terminal):
            linux["seccomp"] = self._filter(spec.account.uid == 0)
        if spec.host_name:
            linux["namespaces"].append({"type": "uts"})
            document["hostname"] = spec.host_name
        if spec.has_no_network:
            linux["namespaces"].append({"type": "network"})
        taskset = Host.find_executable("taskset")
        if taskset and not self.is_crun and len(os.sched_getaffinity(0)) < os.cpu_count():
            document["hooks"] = {"createRuntime": [self._hook_for_processors(taskset)]}
        return document

    @staticmethod
    def _hook_for_processors(taskset):
        """runC since 1.2 gives the command all processors that there are. A hook, which gets the state of the container
        as JSON, takes those back that its caller may not use, as of a batch system or an MPI that binds its ranks."""
        import shlex
        script = 'read -r state; pid=${state#*\'"pid":\'}; %s -cp %s ${pid%%%%[!0-9]*} >/dev/null 2>&1 || :' % (
            shlex.quote(taskset), ",".join(map(str, sorted(os.sched_getaffinity(0)))))
        return {"path": "/bin/sh", "args": ["sh", "-c", script]}

    def _command(self, spec, account, words, has_terminal):
        """The process of config.json."""
        import resource
        environment = dict(spec.environment, **variables_of_emulation(spec, GuestTree(spec.root)))
        if spec.step:
            environment = dict(JobStep.CAREFUL, **environment)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        user = {"uid": account.uid, "gid": account.gid, "umask": current_umask()}
        process = {"terminal": has_terminal, "user": user, "args": words,
                   "env": ["%s=%s" % pair for pair in environment.items()], "cwd": spec.directory,
                   "noNewPrivileges": True,
                   # runC, being a Go program, raises the soft limit for itself
                   "rlimits": [{"type": "RLIMIT_NOFILE", "soft": soft % (1 << 64), "hard": hard % (1 << 64)}]}
        if has_terminal:
            size = os.get_terminal_size(0)
            process["consoleSize"] = {"width": size.columns, "height": size.lines}
        if account.uid == 0:
            process["capabilities"] = {kind: self.CAPABILITIES for kind in (
                "bounding", "effective", "permitted", "inheritable")}
        return process

    @staticmethod
    def _possible_mounts(spec):
        """The mounts, outer ones first, whose place is there or can be made in the tree, as runC does; EngineError for
        one that is required and cannot be."""
        tree, found = GuestTree(spec.root), []
        for mount in outer_first(spec.mounts + spec.memory_mounts):
            is_inner = any(mount.guest.startswith(outer.guest + "/") for outer in found)
            if is_inner or tree.can_have(mount.guest):
                found.append(mount)
            elif isinstance(mount, MemoryMount) or mount.is_required:
                raise EngineError("%s: there is no such place in the container, whose tree you may not write to" % (
                    mount.guest), "mode N1 makes one for itself: " + SETUP_HINT % "N1")
        return found

    def _mounts(self, spec, bundle, has_terminal):
        """The mounts of config.json."""
        mounts = [self._mount(mount) for mount in self._possible_mounts(spec) if not mount.guest.startswith("/proc/")]
        for path in self.always_shown:
            if not any(mount.guest == path for mount in spec.mounts):
                mounts.insert(0, self._mount(Mount(path, path)))
        if has_terminal:
            # They put the terminal over /dev/console, which on the host is root's
            position = [mount["destination"] for mount in mounts].index("/dev") + 1
            mounts.insert(position, self._mount(Mount(bundle + "/console", "/dev/console")))
        return mounts

    @staticmethod
    def _mount(mount):
        if isinstance(mount, MemoryMount):
            return {"destination": mount.guest, "source": "tmpfs", "type": "tmpfs",
                    "options": ["nosuid", "nodev"] + mount.options.split(",")}
        options = ["rbind", "rprivate"]
        if mount.is_read_only:          # flags that the host has locked, as those of home directories, must be repeated
            present = os.statvfs(mount.real_source).f_flag
            options += ["ro"] + [name for flag, name in RuncEngine.LOCKED_FLAGS if present & flag]
        return {"destination": mount.guest, "source": mount.real_source, "type": "bind", "options": options}

    def _filter(self, emulates_root):
        """Calls that are answered as in mode N1. OCI runtime-spec, config-linux.md, Seccomp"""
        rules = self._rules(SystemCalls.TYPING, errno.EPERM)
        if emulates_root:
            rules += self._rules(EMULATED_CALLS, 0)
        return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": self.ARCHITECTURES[self.host.machine],
                "syscalls": rules}

    @staticmethod
    def _rules(names, answer):
        rule = {"names": [name for name in names if name not in SystemCalls.ARGUMENTS],
                "action": "SCMP_ACT_ERRNO", "errnoRet": answer}
        rules = [rule] if rule["names"] else []
        for name in set(names).intersection(SystemCalls.ARGUMENTS):
            index, bits, values = SystemCalls.ARGUMENTS[name]
            rules += [dict(rule, names=[name], args=[
                {"index": index, "value": bits, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]) for value in values]
        return rules

    def explain(self, report):
        for name, refusing, allowing in NamespaceEngine.SWITCHES:
            if Host.sysctl(name) == refusing:
                return "%s needs user namespaces, and %s is %s" % (
                    os.path.basename(self.executable), name, refusing), ""
        is_old_crun = self.is_crun and "gid_map" in report      # it asks newgidmap first, and spoils the map itself
        return report, "the package uidmap has newgidmap, without which this crun does nothing" * is_old_crun


class FakechrootLibrary:
    """A libfakechroot: a library that is loaded into every program and rewrites the paths it names.

    https://github.com/dex4er/fakechroot; udocker's own family is derived from it and knows volumes at other paths.
    """

    MAX_SIZE = 16 << 20
    FAMILIES = (("centos", "rhel", "rocky", "almalinux", "scientific", "ol", "fedora"),
                ("debian", "ubuntu", "linuxmint"), ("alpine",))

    def __init__(self, path):
        self.path = os.path.realpath(path)

    @found_once
    def data(self):
        """The bytes of the library."""
        return read_file(self.path, self.MAX_SIZE)

    @found_once
    def is_udockers(self):
        """Whether it is of udocker's family, which has volumes at other paths."""
        return b"FAKECHROOT_DIR_MAP" in self.data

    def check(self, guest):
        """EngineError where it cannot be loaded by a GuestSystem."""
        obstacle = self._obstacle(guest)
        if obstacle:
            raise EngineError("%s: %s" % (self.path, obstacle), "udocker install F1 fetches udocker's own; modes N1 "
                              "and P1 need none: " + SETUP_HINT % "P1")

    def _obstacle(self, guest):
        if not self.data.startswith(b"\x7fELF"):
            return "no library"
        if elf_machine(self.data) != guest.machine:
            return "made for another machine than the container's"
        if (b"libc.musl-" in self.data) != guest.is_musl:
            return "made for another C library than the container's, which is %s" % (
                "musl" if guest.is_musl else "glibc")
        needed = newest_glibc(self.data)
        if needed > guest.glibc:
            return "it needs the symbols of glibc %d.%d, and the container's has none after %d.%d" % (
                needed + guest.glibc)
        return ""

    @staticmethod
    def parse_name(name):
        """(system, version) out of libfakechroot-SYSTEM-VERSION-MACHINE.so; ("", ()) where it says neither."""
        words = name.partition("libfakechroot-")[2].split("-")[:-1]
        system = words[0].lower() if words and words[0].isalpha() else ""
        return {"red": "rhel"}.get(system, system), version_numbers("".join(words[1:2])) if system else ()

    @classmethod
    def rank(cls, name, system, version):
        """What to sort file names by for a guest's system and version, the best first; None where one is no choice.

        The same system and version, the nearest older one, one that names no version, then the same in the family,
        then those that say nothing, as the host's own.
        """
        own_system, own_version = cls.parse_name(name)
        if not own_system:
            return (9, ())
        is_kin = any({system, own_system} <= set(family) for family in cls.FAMILIES)
        if own_system != system and not is_kin:
            return None
        is_newer = own_version > version[:len(own_version)]
        if own_system == system and is_newer:
            return None
        order = (0 if own_system == system else 3) + (2 if is_newer else 0 if own_version else 1)
        return (order, tuple(-number for number in own_version))


class GuestSystem:
    """What a library has to suit: the system in a tree, its loader and its C library."""

    def __init__(self, tree):
        self.tree = tree
        self.libraries = GuestLibraries(tree)
        release = dict(line.partition("=")[::2] for line in tree.read("/etc/os-release").splitlines())
        self.system = release.get("ID", "").strip("'\" ").lower()
        self.version = version_numbers(release.get("VERSION_ID", "").strip("'\" "))
        self.loader = self.libraries.shell_loader()
        data = read_file(tree.root + self.loader, LoaderStep.MAX_LOADER) if self.loader else b""
        self.machine = elf_machine(data)
        self.is_musl = "musl" in self.loader
        self.has_name_option = b"--argv0" in data
        self.has_known_variable = LoaderStep.has_known_variable(data)
        self.libc = self.loader if self.is_musl else self.libraries.find("libc.so.6", self.machine)

    @found_once
    def glibc(self):
        """The version of its C library."""
        return newest_glibc(read_file(self.tree.path(self.libc), FakechrootLibrary.MAX_SIZE))


class FakechrootEngine(Engine):
    """A library loaded into every program rewrites paths; what bypasses the C library sees the host."""

    modes = (Mode("F1", "Fakechroot: a library rewrites paths in each program, which its loader starts", ("links",)),
             Mode("F2", "as F1, with a loader that finds no library of the host", ("links", "loader")),
             Mode("F3", "as F2, with programs that find loader and libraries themselves", ("links", "loader", "elf")),
             Mode("F4", "as F3, for programs that are added later too", ("links", "loader", "elf")))
    tool_kind = "fakechroot"
    lacks = dict(PRootEngine.lacks, **{
        "--kernel": NamespaceEngine.lacks["--kernel"],
        "--hostname": ("cannot give another host name", "modes N1, P1 and R1 can: " + SETUP_HINT % "N1"),
        "--tmpfs": ("cannot give a directory in memory", "modes N1, P1 and R1 can: " + SETUP_HINT % "N1"),
    })
    HINT = "modes N1 and P1 have no such limits: " + SETUP_HINT % "P1"
    # Programs that something else is started for, on the host: what has no use here, and for a stock library env
    USELESS, ENV = ("/sbin/ldconfig", "/usr/sbin/ldconfig"), ("/usr/bin/env", "/bin/env")
    MAX_SOCKET = 80         # bytes of the tree's path with which most sockets' names still fit, unix(7)
    SCRIPT = ('[ ! -e "$2/root" ] || exit 1; cd "$2/volume" && read word <word && [ "$word" = "$1" ] &&'
              ' /bin/sh -c \'[ ! -e "$2/root" ] && echo "$1" >linked\' sh "$1" "$2" && exit 42')

    def __init__(self, mode, host, library, guest, libc, expands_links, temporary):
        """`libc` and `expands_links`, where they are not "", are told to udocker's family in the place of its own."""
        super().__init__(mode, host, temporary)
        self.steps = next(known.steps for known in self.modes if known.code == mode)
        self.library = library
        self.guest = guest
        self.root = guest.tree.root
        self.beside = os.path.dirname(self.root) + "/"      # where a Conversion has its files
        self.libc = libc or guest.libc
        self.expands_links = expands_links or "true"

    @property
    def has_own_loader(self):
        """Whether programs are started by the loader beside the tree, which obeys the variable that the tree's does
        not: to a program with an empty environment a library passes LD_LIBRARY_REAL on, the stock one LD_LIBRARY_PATH.
        """
        return "elf" not in self.steps and self.library.is_udockers != ("loader" in self.steps)

    @property
    def loader(self):
        """The host path of the loader that starts programs in F1 and F2."""
        path = self.beside + Conversion.LOADER if self.has_own_loader else self.root + self.guest.loader
        return "/proc/self/root" + path if GuestTree(self.root).has_directory(UUTILS) else path

    @found_once
    def short_root(self):
        """The path of a link to the tree, the same in all runs of the container; "" where names of sockets that begin
        with the tree's own path are short enough."""
        if len(os.fsencode(self.root)) <= self.MAX_SOCKET:
            return ""
        import hashlib
        return "%s/udocker-tree-%s" % (self.temporary, hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16])

    @staticmethod
    def abandoned(directory):
        """Paths of the caller's own links in a directory that lead to no tree any more."""
        return [path for path, _ in own_entries(directory, r"^udocker-tree-[0-9a-f]{16}$") if not os.path.exists(path)]

    def identity(self):
        library, libc = os.stat(self.library.path), os.stat(self.guest.tree.path(self.guest.libc))
        return "%s %s %d %d %s %d %d %d" % (
            self.mode, self.library.path, library.st_size, library.st_mtime_ns,
            self.root, libc.st_size, libc.st_mtime_ns, libc.st_ino)

    def check(self, spec):
        for path, separators in (self.root, ":;"), (self.library.path, ":; "):      # ld.so(8), LD_PRELOAD
            if set(separators) & set(path):
                raise EngineError("%s: the dynamic loader would take this for several paths" % path, self.HINT)
        super().check(spec)
        for mount in spec.mounts:
            if set(":!") & set(mount.source + mount.guest):
                raise EngineError("%s: Fakechroot cannot have a path with ':' or '!' as a volume" % mount.guest,
                                  self.HINT)
            if mount.source != mount.guest and not self.library.is_udockers:
                raise EngineError("%s cannot appear as %s: %s has volumes at their own path only" % (
                    mount.source, mount.guest, self.library.path),
                    "udocker's own libraries can, and modes N1 and P1: " + SETUP_HINT % "P1")
        limit = 64 if self.library.is_udockers else 100
        if len(spec.mounts) > limit:
            raise EngineError("%s knows no more than %d volumes" % (self.library.path, limit), self.HINT)

    def invocation(self, spec):
        self.check(spec)
        program = spec.find_command()
        account = spec.account
        if account.uid == 0 != self.host.uid:
            say.debug("mode %s cannot change ids: the command runs under your own" % self.mode)
        elif (account.uid, account.gid) != (self.host.uid, self.host.gid) and account.uid:
            say.warning("mode %s cannot change ids: the command runs as %d:%d" % (
                self.mode, self.host.uid, self.host.gid))
        tree = GuestTree(self.root, [mount.place for mount in spec.mounts])
        program, words = self._interpreted(spec, tree, program)
        environment = self._environment(spec, tree)
        substitute = dict(self._substitutes()).get(program)
        if substitute:
            if not os.path.exists(substitute):
                raise EngineError("%s: the container's path is too long for it to be kept in the container" % program,
                                  self.HINT)
            environment.update(FAKECHROOT_BASE_ORIG=environment.pop("FAKECHROOT_BASE"), FAKECHROOT_CMD_ORIG=program)
            return Invocation(substitute, words, environment, lambda: self._enter(spec, tree))
        path, words = self._started(tree, program, words)
        return Invocation(path, words, environment, lambda: self._enter(spec, tree))

    @staticmethod
    def _interpreted(spec, tree, program):
        """(guest path of the program, words) with which what may be a script is executed. execve(2)"""
        words = list(spec.argv)
        for _ in range(5):
            head = read_file(tree.path(program), 4096)
            if not head.startswith(b"#!"):
                return program, words
            interpreter, argument = script_interpreter(head)
            words = [interpreter] + [argument] * bool(argument) + [program] + words[1:]
            program = os.path.join(spec.directory, interpreter)
        raise CommandNotExecutableError("%s: too many interpreters of interpreters" % program)

    def _started(self, tree, program, words):
        """(host path to execute, words): through the loader, or directly where the program names the tree's."""
        path = tree.path(program)
        try:
            interpreter, obstacle = read_elf(path, lambda elf: (elf.interpreter, self._obstacle(elf)))
        except (OSError, ValueError) as error:
            raise EngineError("%s: Fakechroot cannot tell how it is started: %s" % (program, error), self.HINT)
        if obstacle:
            raise EngineError("%s: a %s" % (program, obstacle), self.HINT)
        loader = self.guest.libraries.loader(interpreter)
        if not loader:
            raise InterpreterNotFoundError("%s: its loader %s does not exist in the container" % (
                program, os.fsdecode(interpreter)))
        if ("musl" in loader) != self.guest.is_musl:
            raise EngineError("%s: a program with another C library than the container's shell" % program, self.HINT)
        if "elf" in self.steps and os.fsdecode(interpreter).startswith(self.root + "/"):
            return path, words
        loader = self.loader if loader == self.guest.loader else self.root + loader
        name = ["--argv0", words[0]] if self.guest.has_name_option else []
        return loader, [loader] + name + [path] + words[1:]

    def _obstacle(self, elf):
        """What a program is that the library has no hold on; "" where it has."""
        if not elf.interpreter:
            return "static program, into which no library can be loaded"
        status = os.fstat(elf.descriptor)
        if status.st_mode & stat.S_ISUID and status.st_uid != self.host.uid or (
                status.st_mode & stat.S_ISGID and status.st_gid != self.host.gid):
            return "set-id program, into which no library can be loaded"
        if elf.machine != self.guest.machine:
            return "program for another machine than the container's shell, for which the library is"
        return "program made by Go, which does without the C library" if elf.go_notes else ""

    def _environment(self, spec, tree):
        """The variables for the command: its own, but for those of the loader, and the library's."""
        environment = {name: value for name, value in spec.environment.items()
                       if not name.startswith("FAKECHROOT") and name not in ("LD_AUDIT", "LD_LIBRARY_REAL")}
        loaded = environment.pop("LD_PRELOAD", "").replace(":", " ").split()
        environment["LD_PRELOAD"] = ":".join([self.library.path] + [
            tree.path(name) if name.startswith("/") else name for name in loaded])
        wanted = [part for part in environment.pop("LD_LIBRARY_PATH", "").split(":") if part.startswith("/")]
        own = ":".join(self.root + guest for guest in self.guest.libraries.directories)
        search_path = ":".join([tree.path(part) for part in wanted] + [own])
        # Whether it is certain that the loader obeys LD_LIBRARY_REAL in the place of LD_LIBRARY_PATH
        obeys_own = self.guest.has_known_variable and self.has_own_loader != ("loader" in self.steps)
        if not obeys_own:
            environment["LD_LIBRARY_PATH"] = search_path
        elif wanted:
            environment["LD_LIBRARY_PATH"] = ":".join(wanted)
        if self.has_own_loader or "loader" in self.steps:
            environment["LD_LIBRARY_REAL"] = search_path
        if "elf" not in self.steps:     # without FAKECHROOT_ELFLOADER_OPT_ARGV0, with which scripts lose their words
            environment["FAKECHROOT_ELFLOADER"] = self.loader
        environment["FAKECHROOT_BASE"] = self.root
        environment["FAKECHROOT_CMD_SUBST"] = ":".join("%s=%s" % pair for pair in self._substitutes())
        if self.short_root:
            environment["FAKECHROOT_AF_UNIX_PATH"] = self.short_root
        environment.update(self._volume_variables(spec))
        if self.library.is_udockers:
            environment.update(FAKECHROOT_DISALLOW_ENV_CHANGES="true", FAKECHROOT_LIBRARY_ORIG=own,
                               FAKECHROOT_EXPAND_SYMLINKS=self.expands_links, FAKECHROOT_LIBC=self.libc)
            if self.mode == "F4":       # it starts the patcher for each file that is newer
                last = ElfStep(self.beside, self.root).converted_at() // 10 ** 9       # seconds
                environment.update(FAKECHROOT_PATCH_PATCHELF=self.beside + Conversion.PATCHER,
                                   FAKECHROOT_PATCH_ELFLOADER=self.root + self.guest.loader,
                                   FAKECHROOT_PATCH_LAST_TIME=str(last))
        return environment

    def _substitutes(self):
        """(guest path of a program, host path of what is started in its place)."""
        if self.library.is_udockers:
            return [(guest, "/bin/true") for guest in self.USELESS]
        return [(guest, self.beside + Conversion.NOTHING) for guest in self.USELESS] + [
            (guest, self.beside + Conversion.ENV) for guest in self.ENV]

    @staticmethod
    def _volume_variables(spec):
        """Volumes at their own path are left out of the rewriting, unless another one lies below; the others, and
        those, are told as pairs, the innermost first."""
        moved = [mount for mount in spec.mounts if mount.source != mount.guest]
        outer = [mount for mount in spec.mounts if mount not in moved and any(
            other.guest.startswith(mount.guest + "/") for other in moved)]
        excluded = [mount.guest for mount in spec.mounts if mount not in moved + outer]
        pairs = sorted(moved + outer, key=lambda mount: -len(mount.guest))
        variables = {"FAKECHROOT_EXCLUDE_PATH": ":".join(excluded)} if excluded else {}
        if pairs:
            variables["FAKECHROOT_DIR_MAP"] = ":".join(mount.real_source + "!" + mount.guest for mount in pairs)
        return variables

    def _enter(self, spec, tree):
        if self.short_root:
            self._make_short_root()
        for mount in (mount for mount in spec.mounts if mount.is_required):
            try:        # only to be seen in listings: what is in it is found without
                GuestTree(tree.root).make_mount_point(mount.guest, mount.is_directory)
            except OSError as error:
                say.debug("%s: %s" % (mount.guest, error.strerror))
        try:
            os.chdir(tree.path(spec.directory))
        except OSError as error:
            raise EngineError("%s: cannot be the working directory: %s" % (spec.directory, error.strerror),
                              "--workdir= names another one")

    def _make_short_root(self):
        """EngineError where somebody else has made it: the container's sockets would be theirs."""
        path = self.short_root
        try:
            os.symlink(self.root, path)
        except FileExistsError:
            if os.lstat(path).st_uid != self.host.uid or not os.path.samefile(path, self.root):
                raise EngineError("%s: is not udocker's own link to the container" % path,
                                  "UDOCKER_TMPDIR names another directory for temporary files")

    def probe(self, area, token):
        paths = [path for path in ("/dev", "/proc", area + "/volume") if not area.startswith(path + "/")]
        return RunSpec(self.root, ["/bin/sh", "-c", self.SCRIPT, "sh", token, area], {"PATH": DEFAULT_PATH},
                       Account(0, 0), Mount.same(paths))

    def explain(self, report):
        return "%s (with %s)" % (report, self.library.path), self.HINT


ENGINES = (PRootEngine, FakechrootEngine, NamespaceEngine, RuncEngine)
MODES = {mode.code: mode for engine in ENGINES for mode in engine.modes}
ENGINE_OF_MODE = {mode.code: engine for engine in ENGINES for mode in engine.modes}


def steps_of(code):
    """The names of the steps that trees are converted by for a mode; none where it is not known here."""
    return MODES[code].steps if code in MODES else ()


# --- what works, and what runs ------------------------------------------------------------------------

class Prover:
    """Sees with its own eyes whether an engine contains commands on this host, and remembers.

    The proof: a command runs, finds the root and a volume of ours and nothing of the host's, and creates,
    renames, links and lists a file there.
    """

    TIMEOUT = 20        # seconds: an engine that hangs is no engine
    # What says nothing of the engine, and what to do about it
    FULL = (errno.ENOSPC, errno.EDQUOT)
    LIMITS = dict.fromkeys(FULL, "UDOCKER_TMPDIR= names another directory for what is short-lived")
    LIMITS.update({errno.EAGAIN: "there can be no more processes: see ulimit -u", errno.EMFILE: "see ulimit -n",
                   errno.ENFILE: "too many files are open on this host", errno.ENOMEM: "see ulimit -v",
                   errno.EFBIG: "see ulimit -f"})
    # The programs of the proof are the host's own
    PROGRAM_DIRECTORIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", "/nix", "/gnu")
    HIDDEN = "/etc"     # what every host has and the proof does not show
    SCRIPT = ('[ -f /probe-root ] && [ ! -e "$2" ] || { echo "a command did not stay in its root"; exit 1; };'
              ' cd /probe-volume && read word < word && [ "$word" = "$1" ] &&'
              ' echo "$1" > made && mv made moved && ln moved linked && ls -l linked && exit 42')

    def __init__(self, findings, temporary):
        self.findings = findings
        self.temporary = temporary

    def check(self, engine):
        """EngineRefusedError unless the engine is proved here, now or earlier."""
        refusal = self.refusal(engine)
        if refusal:
            reason, hint = refusal
            raise EngineRefusedError("mode %s does not work on this host: %s" % (engine.mode, reason), hint)

    def is_proved(self, engine):
        """Whether that was found out already."""
        return self.findings.recall(engine.identity()) == ""

    def refusal(self, engine):
        """(reason, hint) where the engine does not work here, None where that is proved, now or earlier."""
        subject = engine.identity()
        report = self.findings.recall(subject)
        if report is None:
            say.debug("proving mode %s" % engine.mode)
            try:
                report = self._prove(engine)
            except OSError as error:        # of this moment, and no finding
                place = " in " + self.temporary if error.errno in self.FULL else ""
                return "it cannot be tried%s: %s" % (place, error.strerror), self.LIMITS[error.errno]
            self.findings.remember(subject, report)
        return engine.explain(report) if report else None

    def _prove(self, engine):
        """"" when it is proved, else what the attempt said; OSError where one of the LIMITS is in its way."""
        try:
            with WorkArea(self.temporary) as area:
                return self._try(engine, area.path)
        except (Error, OSError) as error:
            if getattr(error, "errno", None) in self.LIMITS:
                raise
            return str(error)

    def _try(self, engine, area):
        token = new_token()
        for directory in (area + "/root", area + "/volume"):
            os.mkdir(directory, 0o700)
        write_atomic(area + "/root/probe-root", b"")
        write_atomic(area + "/volume/word", token.encode("ascii") + b"\n")
        log = area + "/log"
        status = self._attempt(engine, area, token, log)
        made = read_file(area + "/volume/linked").decode("ascii", "replace").strip()
        if status == 42 and made == token:
            return ""
        talk = read_file(log, 1000).decode("utf-8", "replace").strip().splitlines()
        # PRoot's first line says what, and its last only where to read about it
        told = [line for line in talk if "error" in line and "fatal" not in line] + talk[-1:]
        return printable(told[0]) if told else "a command did not stay in its root (status %d)" % status

    def _attempt(self, engine, area, token, log):
        mounts = [Mount(path, path) for path in self.PROGRAM_DIRECTORIES if os.path.isdir(path)]
        mounts.append(Mount(area + "/volume", "/probe-volume"))
        spec = engine.probe(area, token) or RunSpec(
            area + "/root", ["/bin/sh", "-c", self.SCRIPT, "sh", token, self.HIDDEN], {"PATH": DEFAULT_PATH},
            Account(0, 0), mounts, kernel=engine.shown_kernel)
        spec.is_ephemeral = engine.is_ephemeral
        invocation = engine.invocation(spec)
        enter = invocation.enter

        def enter_silently():
            quiet = os.open("/dev/null", os.O_RDONLY)
            noise = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
            for source, target in ((quiet, 0), (noise, 1), (noise, 2)):
                os.dup2(source, target)
            if enter:
                enter()

        invocation.enter = enter_silently
        return Supervisor(invocation, self.TIMEOUT).run()


def own_processes():
    """[(id, status of its root, words, variables, id of its tracer)] of the caller's processes on this host. proc(5)"""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            root = os.stat("/proc/%d/root" % pid)       # refused of somebody else's, whose words are shown
            words, variables, status = (read_file("/proc/%d/%s" % (pid, name)) for name in (
                "cmdline", "environ", "status"))
            tracer = status.partition(b"\nTracerPid:")[2].split()
            found.append((pid, root, words, b"\0" + variables, int(tracer[0]) if tracer else 0))
        except OSError:         # it has ended, or is somebody else's
            pass
    return found


class TreeProcesses:
    """The processes of this host that run in the tree of a container, by what each engine shows of it.

    In N1 and R1 the tree is their root; the library of Fakechroot finds it in their environment. PRoot has it among
    its words, as others may, and traces: it is of `tracers`, and the oldest that it traces the command.
    """

    def __init__(self, root, processes=None):
        """`processes` are own_processes() where those of several trees are wanted."""
        self.tracers, self.members, self.traced = [], [], []
        try:
            word, own = os.fsencode(os.path.realpath(root)), os.stat(root)
        except FileNotFoundError:
            return
        processes = own_processes() if processes is None else processes
        tracing = {tracer for _, _, _, _, tracer in processes}
        for pid, root, words, variables, _ in processes:
            if b"\0-r\0" + word + b"\0" in words:
                self.tracers += [pid] * (pid in tracing)
            elif os.path.samestat(root, own) or b"\0FAKECHROOT_BASE=" + word + b"\0" in variables:
                self.members.append(pid)
        for one in self.tracers:
            self.traced += sorted((pid for pid, _, _, _, tracer in processes if tracer == one), key=process_age)[:1]

    def is_empty(self):
        """Whether nothing runs."""
        return not self.tracers + self.members

    def commands(self):
        """Those of them that udocker started."""
        started = {child for pid in self.members for child in Host.children(pid)}
        return self.traced + [pid for pid in self.members if pid not in started]

    def kill(self):
        """End all of them. Without a tracer its commands would run on uncontained: SIGQUIT makes PRoot end them."""
        signal = quick_module("signal")
        for pids, number in (self.tracers, signal.SIGQUIT), (self.members, signal.SIGKILL):
            for pid in pids:
                send_signal(pid, number)


# ======================================================================================================
# 12  Operations
# ======================================================================================================

class Context:
    """The collaborators, made from the settings when first needed; it does nothing itself."""

    def __init__(self, settings, environment):
        self.settings = settings
        self.environment = environment
        self.host = Host()
        self.layout = Layout(settings["dir"], **{name: settings[name] for name in (
            "bin", "lib", "doc", "repos", "layers", "containers")})
        self.blobs = BlobStore(self.layout)
        self.images = ImageStore(self.layout, self.blobs)
        self.containers = ContainerStore(self.layout)

    @property
    def home(self):
        """The caller's home directory on the host."""
        account, home = self.host.account, self.environment.get("HOME", "")
        return home if home.startswith("/") else account.pw_dir if account else "/"

    @found_once
    def client(self):
        """The HttpClient of this command."""
        settings = self.settings
        return HttpClient(self.transport(), settings["httpproxy"], settings["insecure"], settings["retries"],
                          settings["retry_delay"])

    def transport(self):
        """What transfers; ToolError where there is nothing for it."""
        return choose_transport(self.settings["use_curl_executable"], self.settings["timeout"], self.environment)

    @found_once
    def keystore(self):
        return Keystore(os.path.expanduser(self.settings["keystore"]), self.environment, self.home)

    @found_once
    def findings(self):
        """The Findings of this host, also when this process has gone into namespaces."""
        return Findings(self.layout, self.host, self.home)

    @property
    def default_mode(self):
        """The mode of containers that setup was not used on."""
        return self.settings["default_execution_mode"]

    def settings_table(self):
        """(name, value, origin, variable) of every setting, secrets of URLs left out."""
        return [(name, without_password(str(self.settings[name])), self.settings.origin(name), SETTINGS[name].variable)
                for name in SETTINGS]

    @found_once
    def toolbox(self):
        named = {"proot": self.settings["use_proot_executable"], "runc": self.settings["use_runc_executable"],
                 "fakechroot": self.settings["fakechroot_so"]}
        return Toolbox(self.layout, self.host, self.findings, named, self.settings["tarball"], lambda: self.client,
                       self.environment.get("PATH", os.defpath))

    @found_once
    def temporary(self):
        """A directory for short-lived files from which programs may be executed, and which PRoot can bind."""
        wanted = self.settings["tmpdir"] or self.environment.get("TMPDIR", "")
        for path in (wanted, "/tmp", self.layout.home):
            try:
                if path and ":" not in path and os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_NOEXEC:
                    return os.path.abspath(path)
            except OSError:
                pass
        return "/tmp"

    @found_once
    def prover(self):
        return Prover(self.findings, self.temporary)


# --- images -------------------------------------------------------------------------------------------

def make_store(directory):
    """Make the directories of a store where they are missing."""
    if not directory:
        raise UsageError("the name of the directory is empty")
    Layout(directory).make()


def open_registry(context, address, repository=""):
    """The Registry at an address, which may be one of Docker Hub's names; with the credentials for a repository, or
    for all of it."""
    if Keystore.host_of(address) == "docker.io":
        address = SETTINGS["registry"].default
    return Registry(context.client, address, lambda url: context.keystore.credential(url, repository))


def find_registry(context, reference, address=""):
    """(Registry, repository names to try): the host in the name, else `address`, else what the settings say."""
    if reference.host and address:
        raise UsageError("%s already names its registry" % reference, "leave out the host, or --registry=")
    settings = context.settings
    if not address and settings["index"] and settings.origin("registry") == "default":
        address = settings["index"]
    repository = reference.repository
    registry = open_registry(context, reference.host or address or settings["registry"], repository)
    if registry.host in Reference.HUB_HOSTS:
        return registry, [reference.hub_repository]
    return registry, [repository] + ([] if reference.host or "/" in repository else [reference.hub_repository])


def login(context, address, user, password):
    """Keep a credential that the registry accepts, by default of the registry that is set; AuthError where it does
    not. Returns the registry's name, and whether it asks for one at all."""
    raise_on_signals()
    credential = Credential(user, password)
    registry = open_registry(context, address or context.settings["registry"])
    registry.find_credential = lambda url: credential
    try:
        registry.check()
    except AuthError as error:
        raise AuthError(error.status, registry.name, "it does not accept this user and password",
                        "check both; many registries want a token in place of the password")
    context.keystore.put(registry.url, credential)
    return registry.name, type(registry.authorization) is not NoAuthorization


def logout(context, address):
    """Forget the credential for a registry, by default the one that is set."""
    context.keystore.remove(address or context.settings["registry"])


DOCKER_INDEX = "https://index.docker.io"


def split_expression(expression, address):
    """(host or "", term, address) of [HOST/]TERM[:TAG], and of the address that an option names."""
    import re
    head, slash, rest = expression.partition("/")
    host = head if slash and (re.search(r"[.:]", head) or head == "localhost") else ""
    if host and address:
        raise UsageError("%s already names its registry" % expression, "leave out the host, or --registry=")
    term = (rest if host else expression).partition("@")[0].partition(":")[0]
    if term.startswith("library/"):
        term = term[len("library/"):]
    return host, term, host or address


def search_images(context, expression, address=""):
    """Lists of SearchResult, a page each, for [HOST/]TERM[:TAG]."""
    import re
    settings = context.settings
    host, term, address = split_expression(expression, address)
    if Keystore.host_of(address) == "docker.io":
        address = ""
    if not address and not settings["index"] and settings.origin("registry") != "default":
        address = settings["registry"]
    address = re.sub(r"/v1/?$", "", address or settings["index"] or DOCKER_INDEX)
    registry = open_registry(context, address) if address != DOCKER_INDEX else Registry(
        context.client, address, lambda url: None)
    if len(registry.candidates) > 1:
        registry.connect()
    for page in found_pages(registry, term):
        for result in page:
            result.name = host + "/" + result.name if host else result.name
        yield page


def fetch_manifest(registry, repository, version, platform, known):
    """(manifest, index) as bytes, the index b"" where there is none; `known` maps digests to bytes at hand."""
    data, index = None, b""
    digest = registry.manifest_digest(repository, version)
    for _ in range(4):          # an index may name an index, but not for ever
        data = known.get(digest) or registry.manifest(repository, digest or version)
        found = parse_manifest(data, "%s/%s" % (registry.name, repository))
        if isinstance(found, Manifest):
            return data, index
        index = index or data
        digest = found.choose(platform, "%s/%s" % (registry.name, repository), can_read_zstd()).digest
    raise DocumentError("%s/%s: indexes within indexes without end" % (registry.name, repository))


def first_that_exists(registry, repositories, ask, suffix=""):
    """(repository, ask(repository)) for the first repository that the registry has; errors name it with the suffix."""
    for repository in repositories:
        try:
            return repository, ask(repository)
        except RegistryError as error:
            if repository != repositories[-1] and error.status in (401, 403, 404):
                continue
            if error.status == 404:
                raise NotFoundError("%s/%s%s: %s" % (
                    registry.name, repository, suffix, error.message.partition(": ")[2]), "check the name and the tag")
            raise


def list_tags(context, reference, address=""):
    """Lists of tags, a page each, of a repository."""
    registry, repositories = find_registry(context, reference, address)

    def first_page(repository):
        pages = listed_pages(registry, "/v2/%s/tags/list?n=100" % repository, "tags", pull_scope(repository))
        return next(pages), pages

    _, (first, others) = first_that_exists(registry, repositories, first_page)
    yield first
    yield from others


def inspect_manifest(context, reference, platform=None, address=""):
    """The document that a registry has for a reference: of an index, the part for a platform where one is named."""
    registry, repositories = find_registry(context, reference, address)

    def ask(repository):
        if platform:
            return fetch_manifest(registry, repository, reference.version, platform, {})[0]
        return registry.manifest(repository, reference.version)

    return parse_json(first_that_exists(registry, repositories, ask, reference.suffix)[1], str(reference))


def fetch_blob(context, registry, repository, descriptor, failures=()):
    """Download one blob, unless another process just did."""
    def watch(done):
        row.set(done)
        if failures:
            raise failures[0]

    with BlobPart(context.layout, descriptor, watch) as part, Naming(context.layout.layers):
        if part.is_there:
            return
        row = Progress.shared().start(descriptor.digest[7:19], descriptor.size, part.size)
        with Undoing(row.finish, "failed"):
            BlobFetch(registry, repository, descriptor, part).run()
            part.commit()
        row.finish()


class Downloads:
    """Blobs on their way into the store, several at a time, in a `with` block that lasts until all are there; the first
    failure ends all."""

    def __init__(self, context, registry, repository, descriptors):
        import threading
        unique = {descriptor.digest: descriptor for descriptor in descriptors}
        self.pending = [descriptor for descriptor in unique.values() if not context.blobs.has(descriptor)]
        self.here = {descriptor.digest: threading.Event() for descriptor in self.pending}
        self.failures = []
        # One alone needs no other connection than the one that is open, which is this thread's
        count = min(max(1, context.settings["downloads"]), len(self.pending)) if len(self.pending) > 1 else 0
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        self.connect = registry.connect
        Progress.shared()       # here, as several threads would make several
        self.fetch = lambda descriptor: fetch_blob(context, registry, repository, descriptor, self.failures)

    def _work(self):
        while self.pending and not self.failures:
            try:
                descriptor = self.pending.pop(0)
            except IndexError:
                return
            try:
                self.fetch(descriptor)
                self.here[descriptor.digest].set()
            except BaseException as error:
                self._fail(error)

    def _fail(self, error):
        self.failures.append(error)
        for event in self.here.values():
            event.set()

    def wait(self, digest):
        """Until this blob is there; what went wrong with any of them is raised."""
        while digest in self.here and not self.here[digest].wait(WAKEFUL):
            pass
        if self.failures:
            raise self.failures[0]

    def __enter__(self):
        if self.threads:
            self.connect()
        for count, thread in enumerate(self.threads):
            try:
                thread.start()
            except RuntimeError:        # the user may have no more processes
                del self.threads[count:]
                break
        if not self.threads:
            self._work()
        return self

    def __exit__(self, _, error, __):
        if error:
            self._fail(error)       # the threads end when they hear of it
            return
        for thread in self.threads:
            while thread.is_alive():
                thread.join(WAKEFUL)
        if self.failures:
            raise self.failures[0]


class ArrivingImage(Image):
    """An image that is being pulled: its config is here, and each layer when checked_layers() comes to it."""

    is_version_1 = False

    def __init__(self, reference, path, blobs, manifest, downloads):
        super().__init__(reference.name, reference.version, path, blobs)
        self.manifest = lambda: manifest
        self.downloads = downloads

    def checked_layers(self):
        for layer in super().checked_layers():
            self.downloads.wait(layer[1])
            yield layer


def is_for(config, platform):
    """Whether what has this config is for a Platform; None stands for any."""
    return platform is None or config.platform is None or config.platform.rank(platform) is not None


def fetch_config(context, registry, repository, manifest, wanted, is_strict, reference):
    """Bring the config, and look before the layers come whether this is an image for here."""
    data = manifest.embedded_config
    if manifest.config:
        try:
            data = context.blobs.read(manifest.config.digest)
        except (NotFoundError, DigestError):        # what is damaged goes
            context.blobs.remove(manifest.config.digest)
            fetch_blob(context, registry, repository, manifest.config)
            data = context.blobs.read(manifest.config.digest)
    config = ImageConfig.parse(data, str(reference))
    if is_for(config, wanted):
        return
    message = "%s is an image for %s, not for %s" % (reference, config.platform, wanted)
    if is_strict:
        raise NotFoundError(message)
    say.warning(message)


def tell_once(context, tell, text):
    """tell(text), which not every run of a batch has to repeat."""
    if context.findings.recall(text) is None:
        context.findings.remember(text, "")
        tell(text)
    else:
        say.debug(text)


def is_store_absent(context):
    """Whether there is no store where the user says that one is: a slip in its path, or he begins it now."""
    return context.settings.origin("dir") != "default" and not os.path.isdir(context.layout.home)


def warn_of_absent_store(context):
    """An absent store looks like an empty one."""
    if is_store_absent(context):
        say.warning("%s: there is no store at %s" % (context.settings.origin("dir"), context.layout.home))


def begin_store(context):
    """Make what is missing of the store."""
    if is_store_absent(context):
        say.info("making a store at %s" % context.layout.home)
    context.layout.make()


def open_store(context):
    """Before something comes into the store: make it where it is missing, and say once where others can get at it."""
    raise_on_signals()
    begin_store(context)
    place = exposed_directory(context.layout.home, context.host.gid)
    if place:
        tell_once(context, say.warning, "%s can be written to by others, who so may change what is run from %s" % (
            place, context.layout.home))


def bringing_blobs(context):
    """A `with` block in which blobs come into the store: what nothing claims yet is safe from prune."""
    open_store(context)
    return Lock(context.layout.use, is_shared=True)


def pull_image(context, reference, platform=None, address="", use=None):
    """Bring an image into the store, or up to date; returns the Image. While its layers come use(image), where given,
    is called with the ArrivingImage."""
    with bringing_blobs(context):
        registry, repositories = find_registry(context, reference, address)
        wanted = platform or Platform("linux", *context.host.architecture)
        image = context.images.find(reference)
        known = {manifest_digest(data): data for data in (image.read("index"), image.read("manifest"))
                 if data} if image else {}
        repository, (data, index) = first_that_exists(registry, repositories, lambda repository: fetch_manifest(
            registry, repository, reference.version, wanted, known), reference.suffix)
        manifest = parse_manifest(data, str(reference))
        digests = [descriptor.digest for descriptor in manifest.blobs]
        fetch_config(context, registry, repository, manifest, wanted, platform is not None, reference)
        # A claim whose pull fails stays: it keeps the layers that came for the next attempt
        path = context.images.claim(reference, digests)
        with Downloads(context, registry, repository, manifest.layers) as downloads:
            if use:
                use(ArrivingImage(reference, path, context.blobs, manifest, downloads))
        return context.images.publish(reference, path, data, index, digests)


def damaged_blobs(image, descriptors):
    """A sentence for each blob that is not what its digest says; it is dropped, and the next pull brings a good one."""
    problems = []
    for descriptor in descriptors:
        try:
            image.blobs.check(descriptor.digest)
        except NotFoundError as error:
            problems.append(error.message)
        except DigestError as error:
            problems.append(error.message)
            image.blobs.remove(descriptor.digest)
    return problems


def damaged_layers(image):
    """A sentence for each layer whose content is not the diff_id that the config names, or is no whole tar."""
    problems = []
    for path, digest, diff_id in image.checked_layers():
        if digest and not file_compression(path):
            found = digest
        else:
            try:
                found = uncompressed_digest(path)
            except (ArchiveError, OSError) as error:
                problems.append("layer %s: %s" % (os.path.basename(path), error))
                continue
        if diff_id and found != diff_id:
            problems.append("layer %s: its content is not %s, which the config names" % (
                os.path.basename(path), diff_id))
    return problems


def verify_image(image, checks_content=True):
    """What is wrong with an image, one sentence each; empty where every blob and every layer's content is right."""
    try:
        with Work("checking %s" % image):
            problems = [] if image.is_version_1 else damaged_blobs(image, image.manifest().blobs)
            if not problems and checks_content:
                problems = damaged_layers(image)
    except DocumentError as error:
        problems = [error.message]
    return problems


def remove_container(context, container, is_patient=True):
    """Remove a container, and what was kept for its runs; ContainerStore.remove() tells what stands in its way."""
    root = os.path.realpath(container.root)
    context.containers.remove(container, is_patient)
    context.findings.drop_files(root)


def kept_tree_id(image):
    """The id of the Container, there or not, that runs of an Image share; "" where nothing tells it from others."""
    try:
        digest = image.digest
    except OSError:
        return ""
    return digest and Layout.TREE + digest.partition(":")[2]


def drop_kept_trees(context, trees):
    """Remove these of the trees that runs share, but those in use."""
    for tree in trees:
        try:
            if tree.is_unused():
                remove_container(context, tree, is_patient=False)
        except (ConflictError, NotFoundError, OSError) as error:
            say.debug("%s: %s" % (tree.path, error))


def has_remains(context, reference):
    """Whether there is something to remove: an image, one that is not finished, or what builds of it have kept."""
    cache = BuildCache(context.images, reference.name, reference.version)
    return bool(context.images.find(reference, is_finished=False)) or cache.is_there


def remove_image(context, reference, is_forced):
    """Remove an image that has_remains(), and what only it needs; ProtectedError where it is protected."""
    image = context.images.find(reference, is_finished=False)
    if not image:
        BuildCache(context.images, reference.name, reference.version).remove()      # of builds that failed
        return reference
    if image.is_protected:
        raise ProtectedError("%s is protected" % image, "udocker unprotect %s" % image)
    kept = kept_tree_id(image)
    drop_kept_trees(context, [tree for tree in context.containers.kept_trees() if tree.id == kept])
    try:
        context.images.remove(image)
        BuildCache(context.images, image.name, image.version).remove()
    except OSError as error:
        if not is_forced:
            raise
        say.warning("%s: %s" % (error.filename or image, error.strerror))
    return image


def has_image(context, word):
    """Whether a word names an image that is here, also one that is not finished."""
    try:
        return context.images.find(Reference.parse(word), is_finished=False) is not None
    except UsageError:
        return False


def image_id(image):
    """What docker calls the id of an image, the digest of its config; "" where that cannot be read."""
    try:
        return sha256_digest(image.config_data())
    except (Error, OSError):
        return ""


def images_of(context, word):
    """The References that a word stands for: of an image by its name or, as docker has it, of all that have an id, of
    which 12 digits are enough."""
    digits = word[len("sha256:"):] if is_digest(word) else word
    if not 12 <= len(digits) <= 64 or digits.strip("0123456789abcdef"):
        return [Reference.parse(word)]
    found = [] if has_image(context, digits) else [
        image for image in context.images.list() if image_id(image).startswith("sha256:" + digits)]
    if not found and len(digits) == 64:
        raise NotFoundError("%s: no image here has this id" % word, "udocker images --format={{.ID}} lists them")
    return [Reference.parse(str(image)) for image in found] or [Reference.parse(word)]


def find_image(context, word):
    """The Image that a name or an id stands for, NotFoundError where it is not here."""
    return context.images.get(images_of(context, word)[0])


# --- containers ---------------------------------------------------------------------------------------

def abandoned_runs(context):
    """[(RunMark, Container or None)] of what was there for one run alone, which was killed."""
    found = [(mark, context.containers.find(mark.id)) for mark in RunMark.abandoned(context.layout, context.host)]
    return [(mark, container) for mark, container in found if not (container and container.is_protected)]


def sweep_containers(context):
    """Remove what killed commands left behind among the containers."""
    for mark, container in abandoned_runs(context):
        try:
            if container:
                remove_container(context, container)
            mark.drop()
        except (OSError, NotFoundError, ConflictError) as error:
            say.debug("%s: %s" % (mark.path, error))
    context.containers.sweep()


def prepare_container(context, name, takes_over=False):
    """Before a container is made: tidy up, and refuse a name that cannot be had."""
    open_store(context)
    sweep_containers(context)
    if name is not None:
        context.containers.check_name(name, takes_over)


def unpack_layer(context, unpacker, image, path, digest, diff_id):
    """Apply one layer of an image; where its blob is damaged, drop it, so that the next pull brings a good one."""
    try:
        if digest and not diff_id:
            context.blobs.check(digest)
        unpacker.apply(context.blobs.path(os.path.basename(path)), diff_id)
    except (ArchiveError, DigestError) as error:
        problems = damaged_blobs(image, [Descriptor(digest)]) if digest else []
        if not problems:
            raise
        raise DigestError("%s (%s)" % (problems[0], error.message), "udocker pull %s mends it" % image)


def convert_new(context, new):
    """Convert a NewContainer for the default mode, where that needs it; returns that mode, else "" for the default."""
    code = context.default_mode
    if not steps_of(code):
        return ""
    Conversion(new.path, new.published_root).change(steps_of(code))
    return code


def make_volumes(root, config):
    """The directories that an image declares as volumes are there in its containers."""
    tree = GuestTree(root)
    for path in config.volumes:
        try:
            tree.make_mount_point(path, True)
        except OSError as error:
            say.warning("the volume %s of the image is not made: %s" % (printable(path), error.strerror))


def unpack_image(context, image, root, origins=None, is_closed=False):
    """Unpack an image, or one that arrives, into the empty directory `root`, every layer checked; make its volumes. For
    `origins` and `is_closed` see LayerUnpacker."""
    work = Work("unpacking %s" % image, sum(layer.size or size_of(path) or 0 for path, layer in image.layers()))
    with Naming(context.layout.containers), work:
        unpacker = LayerUnpacker(root, origins=origins, is_closed=is_closed)
        for path, digest, diff_id in image.checked_layers():
            say.debug("unpacking %s" % path)
            unpack_layer(context, unpacker, image, path, digest, diff_id)
        unpacker.finish()
    make_volumes(root, image.config())


PULL_POLICIES = ("missing", "never", "always")


class ImageWish:
    """An image that a container is to be made of, from where docker's --pull says: "never" from the store, "missing"
    pulled where it is not there (or is one for another platform than was asked for), "always" pulled."""

    def __init__(self, reference, policy, platform=None, address=""):
        if policy not in PULL_POLICIES:
            raise UsageError("--pull=%s: there are %s" % (policy, ", ".join(PULL_POLICIES)))
        self.reference = reference
        self.policy = policy
        self.platform = platform
        self.address = address

    def find(self, context):
        """The Image that is in the store and may be taken; None where it is to be pulled."""
        image = None if self.policy == "always" else context.images.find(self.reference)
        if image and is_for(image.config(), self.platform):
            return image
        if self.policy != "never":
            return None
        raise NotFoundError("%s: the image here is not for %s" % (context.images.get(self.reference), self.platform),
                            "udocker pull --platform=%s %s" % (self.platform, self.reference))

    def pull(self, context, use):
        """As pull_image() does; what is not here may only be misspelt, and the error says both."""
        try:
            return pull_image(context, self.reference, self.platform, self.address, use)
        except TransferError as error:
            if self.policy == "missing":
                names = [str(image) for image in context.images.list()]
                names += [name + ":latest" for container in context.containers.list() for name in container.names]
                error.message = "%s is not here, and cannot be pulled: %s" % (self.reference, error.message)
                error.hint = similar(str(self.reference), names).replace(":latest? ", "? ") + error.hint
            raise


def create_container(context, wish, name=None, takes_over=False, id_=""):
    """Unpack the image of an ImageWish into a new container, of one that is pulled each layer while the next ones come;
    returns the Container."""
    image = wish.find(context)          # what cannot be had is told before anything is made
    prepare_container(context, name, takes_over)
    with NewContainer(context.layout, id_) as new:
        if image:
            unpack_image(context, image, new.root)
        else:
            image = wish.pull(context, lambda arriving: unpack_image(context, arriving, new.root))
        with Naming(context.layout.containers):
            return new.publish(image.config(), str(image), name, convert_new(context, new), takes_over)


def end_commands(container):
    """End what runs in a container on this host, and wait for it; EngineError where something does not end."""
    import time
    processes, deadline = TreeProcesses(container.root), time.monotonic() + 10
    while not processes.is_empty():
        if time.monotonic() > deadline:
            raise EngineError("%s: not all that runs in this container ends" % container.id,
                              "what waits for a disk or another host cannot be killed: look at it with ps")
        processes.kill()
        time.sleep(0.01)
        processes = TreeProcesses(container.root)


def remove_containers(context, containers, is_forced=False):
    """Remove containers, with the commands that run in them on this host; where it is not forced none is, and
    ProtectedError or ConflictError tells it, if one is protected or has such commands."""
    unique = {container.id: container for container in containers}.values()
    processes = [] if is_forced else own_processes()
    for container in () if is_forced else unique:
        if container.is_protected:
            raise ProtectedError("%s is protected" % container.id, "udocker unprotect %s" % container.id)
        if not TreeProcesses(container.root, processes).is_empty():
            raise ConflictError("%s: a command runs in this container" % container.id,
                                "udocker kill %s ends it; udocker rm -f does both" % container.id)
    for container in unique:
        if is_forced:
            end_commands(container)
        remove_container(context, container)
    sweep_containers(context)


def seek_lines(file, count):
    """Go to where the last `count` lines of a file begin."""
    place = file.seek(0, os.SEEK_END) - 1       # the end of the last line is none before it
    while count and place > 0:
        size = min(place, INPUT_PIECE)
        file.seek(place - size)
        block = file.read(size)
        if block.count(b"\n") >= count:
            for _ in range(count):
                size = block.rindex(b"\n", 0, size)
            file.seek(place - len(block) + size + 1)
            return
        place, count = place - size, count - block.count(b"\n")
    if count:
        file.seek(0)


class BackgroundRun:
    """What a run in the background keeps beside the tree of its container: the output of its command, and a record,
    first of who runs it, then of how it ended. Both are new files for each run: who has them open, as in a `with`
    block, reads on though the container be removed."""

    LINE = 512              # bytes of each of the two lines of a record, which both have their place on disk at once
    LOST = 137              # the exit status where udocker was killed, and so the command
    PAUSE = 0.1             # seconds between two looks

    def __init__(self, host, container):
        self.host = host
        self.container = container
        self.paths = [container.path + name for name in ("/background.json", "/background.log")]
        self.record = self.output = -1

    def begin(self):
        """Make both, by the process that runs the command; ConflictError where that of another such run goes on."""
        pid, new = os.getpid(), [new_path(self.container.path) for _ in self.paths]
        with Lock(self.container.path + "/background.lock"):
            self.check_idle()
            with Undoing(remove_file, new[0]), Undoing(remove_file, new[1]):
                self.record, self.output = os.open(new[0], NEW_FILE, 0o600), os.open(
                    new[1], NEW_FILE | os.O_APPEND, 0o600)
                self._write(0, {"boot": boot_of(self.host), "pid": pid, "started": process_start(pid)})
                self._write(1, {})
                for source, target in reversed(list(zip(new, self.paths))):     # the record last: it tells of both
                    os.rename(source, target)

    def end(self, status):
        """Record how the command ended."""
        self._write(1, {"status": status})
        self.__exit__()         # NFS keeps what is open when it is removed

    def _write(self, number, document):
        os.pwrite(self.record, line_of_json(document).encode("ascii").ljust(self.LINE - 1) + b"\n", number * self.LINE)

    def __enter__(self):
        """NotFoundError where no command was started so."""
        try:
            self.record, self.output = [os.open(path, OLD_FILE) for path in self.paths]
        except FileNotFoundError:
            raise NotFoundError("%s: no command was started in this container in the background" % self.container.id,
                                "udocker run --detach %s starts one" % self.container.id)
        except PermissionError:
            raise EngineError("%s: what runs in this container in the background is another user's" % self.container.id,
                              "udocker clone makes a container of your own of it")
        return self

    def __exit__(self, *_):
        for descriptor in self.record, self.output:
            os.close(descriptor)

    def check_idle(self):
        """ConflictError where the command of another such run goes on in the container; EngineError where the caller
        may begin none."""
        if not os.access(self.container.path, os.W_OK):
            raise EngineError("%s: nothing can be kept in this container's directory, which the background needs" % (
                self.container.id), "run it without --detach")
        try:
            if self.is_going_on():
                raise ConflictError("%s: a command goes on in this container in the background" % self.container.id,
                                    "udocker stop ends it; udocker exec --detach runs one more")
        except EngineError as error:        # that another host alone knows
            say.warning("%s; %s" % (error.message, error.hint))

    def is_going_on(self):
        """Whether there is such a run that has not ended, though its command may be neither there nor told of yet."""
        try:
            with BackgroundRun(self.host, self.container) as run:
                return run.status() is None
        except NotFoundError:
            return False

    def status(self):
        """The exit status of the command, None while it goes on; EngineError where another host alone knows."""
        first = self._documents()[0]
        pid, boot = first.get("pid"), first.get("boot")
        goes_on = isinstance(pid, int) and process_start(pid) == first.get("started")
        status = self._documents()[-1].get("status")        # after that look: it is written before the end
        if isinstance(status, int):
            return status
        if boot == boot_of(self.host):
            return None if goes_on else self.LOST
        name = boot.partition("\n")[0] if isinstance(boot, str) else ""
        if name in ("", self.host.name):        # a crash left no record; or this host was started anew since
            return self.LOST
        raise EngineError("%s: a command was started in this container on %s" % (self.container.id, printable(name)),
                          "that host alone knows whether it goes on")

    def _documents(self):
        found = [{}]
        for line in os.pread(self.record, 2 * self.LINE, 0).splitlines():
            try:
                found.append(parse_json(line, self.paths[0]))
            except DocumentError:       # cut short, as the host crashed
                pass
        return found[1:] or found

    def wait(self):
        """The exit status of the command, when it has ended."""
        import time
        while self.status() is None:
            time.sleep(self.PAUSE)
        return self.status()

    def pieces(self, count=None, is_following=False):
        """Pieces of the output, or of its last `count` lines; of what follows too, until the command has ended."""
        import time
        with os.fdopen(os.dup(self.output), "rb") as file:
            if count is not None:
                seek_lines(file, count)
            yield from iter(lambda: file.read(INPUT_PIECE), b"")
            while is_following:
                is_following = self.status() is None        # before the last look
                yield from iter(lambda: file.read(INPUT_PIECE), b"")
                time.sleep(self.PAUSE if is_following else 0)


def container_state(container, processes=None):
    """What docker says of a container that runs or does not, on this host; own_processes() may be known already."""
    found = TreeProcesses(container.root, processes)
    return {"Status": "exited" if found.is_empty() else "running", "Running": not found.is_empty(),
            "Pid": (found.commands() or [0])[0]}


def parse_signal(text):
    """The number of a signal, by its name with or without SIG, or as a number; UsageError where it is none."""
    signal, name = quick_module("signal"), text.upper()
    name = name if name.startswith("SIG") else "SIG" + name
    if text and not text.strip("0123456789"):
        number = int(text.lstrip("0")[:9] or 0)
    else:
        number = getattr(signal, name, 0) if name.isalnum() else 0
    if not 0 < number < signal.NSIG:
        raise UsageError("--signal=%s: no signal" % text, "write for instance TERM, SIGTERM or 15")
    return number


def stop_signal(config):
    """The number of the signal by which an image wants to be ended, SIGTERM where it names none."""
    try:
        return parse_signal(config.stop_signal)
    except UsageError:
        return parse_signal("TERM")


def signal_container(container, number):
    """Send a signal to the commands that run in a container, on this host. SIGKILL ends all that they started too,
    and is waited for. NotFoundError where nothing runs, EngineError where something does not end."""
    processes = TreeProcesses(container.root)
    if processes.is_empty():
        raise NotFoundError("%s: nothing runs in this container on this host" % container.id,
                            "what was started on another host, or with --ephemeral, is ended where it was started")
    if number == quick_module("signal").SIGKILL:
        end_commands(container)
        return
    for pid in processes.commands():
        send_signal(pid, number)


def is_at_rest(context, container):
    """Whether nothing runs in a container, on this host, nor is to be done after a command."""
    return (TreeProcesses(container.root).is_empty()
            and not BackgroundRun(context.host, container).is_going_on())


def stop_container(context, container, number, patience):
    """Ask the commands that run in a container, on this host, to end; after so many seconds kill what is left."""
    import time
    told, deadline = set(), time.monotonic() + patience
    while not is_at_rest(context, container) and time.monotonic() < deadline:
        for pid in set(TreeProcesses(container.root).commands()) - told:        # one may be there only now
            send_signal(pid, number)
            told.add(pid)
        time.sleep(0.05)
    deadline = time.monotonic() + 10
    while not is_at_rest(context, container):
        if time.monotonic() > deadline:
            raise EngineError("%s: the run in the background does not end" % container.id, "look at it with ps")
        end_commands(container)
        time.sleep(0.05)


def check_mode(code):
    """UsageError where there is no such mode."""
    if code not in MODES:
        raise UsageError("%r is no execution mode" % code, "there are " + ", ".join(sorted(MODES)))


def change_mode(container, code, is_forced=False):
    """Choose the mode that a container runs in, and convert its tree for that; UsageError where there is no such mode.

    Where it is forced the tree is converted anew, and so what was added to it since.
    """
    raise_on_signals()
    check_mode(code)
    conversion = Conversion(container.path)
    if container.mode and container.mode not in MODES:
        raise EngineError("the container was converted to mode %s, which this udocker cannot undo" % container.mode,
                          "convert it back with the udocker that did it: udocker setup --execmode=P1")
    if container.mode and MODES[container.mode].steps:
        conversion.check_own()
    if not is_forced and not conversion.is_done(MODES[code].steps) and not TreeProcesses(container.root).is_empty():
        raise ConflictError("%s: a command runs in this container, and would lose its libraries" % container.id,
                            "udocker kill %s ends it; --force converts the container all the same" % container.id)
    with container.lock(), Naming(container.root), Work("converting to %s" % code):
        if MODES[code].steps or conversion.states():
            conversion.change(MODES[code].steps, is_forced)
        container.mode = code


def settle(container):
    """Let a container be again as its mode says, where a `setup` was cut short; one that is at work is waited for.

    EngineError where what is to be undone may not be written to.
    """
    conversion = Conversion(container.path)
    if container.mode and container.mode not in MODES or conversion.is_done(steps_of(container.mode)):
        return
    try:
        with container.lock() as lock, Naming(container.root):
            steps = steps_of(container.mode)
            if lock.is_held and not conversion.is_done(steps):      # without locks nobody knows who is at work
                say.warning("the last setup of %s was cut short, and is undone" % container.id)
                conversion.change(steps)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise EngineError("the last setup of %s was cut short, and you may not undo it: %s" % (
            container.id, error.strerror), "its owner ends it with any command that uses the container")


def fix_permissions(container):
    """Give the caller what a plain user needs in a container's tree: directories that can be entered and written to,
    files that can be read and written. Returns how many were mended."""
    return sum(1 for _, status, directory, name in OpenTree(container.root).walk()
               if open_up(status, directory, name, 0o600))


def copy_tree(source, new, steps=()):
    """Copy the tree of a Container into a NewContainer, converted by `steps`, whatever it was converted by."""
    if steps:
        Conversion(source.path).check_own()
    TreeCopy(OpenTree(source.root), OpenTree(new.root)).copy("", "")
    conversion = Conversion(new.path, new.published_root)
    conversion.copy_journals(source.path)
    conversion.change(steps)


def rename_container(context, word, name):
    """Give a container another name in place of the one it has; ConflictError where it has several."""
    container = context.containers.get(word)
    all_names = next((found.names for found in context.containers.list() if found.id == container.id), [])
    names = container.names or all_names
    if len(names) > 1:
        raise ConflictError("%s has several names: %s" % (word, ", ".join(names)), "say which one is to be changed")
    if name in names:
        raise ConflictError("%s is its name already" % name, "choose another one")
    context.containers.add_name(container, name)
    for old in names:
        context.containers.remove_name(old)


def set_protection(context, word, is_protected):
    """Protect a container, or else an image, against removal, or end that."""
    raise_on_signals()
    found = context.containers.find(word) or context.images.find(images_of(context, word)[0])
    if not found:
        raise NotFoundError("%s: no such container or image" % word,
                            "udocker ps and udocker images list those there are")
    found.is_protected = is_protected


def clone_container(context, word, name=None, takes_over=False):
    """A new Container that is a copy of another one, tree, config and mode."""
    source = context.containers.get(word)
    settle(source)
    prepare_container(context, name, takes_over)
    with NewContainer(context.layout) as new, Naming(context.layout.containers), Work("copying %s" % word):
        with Reading(source):
            copy_tree(source, new, steps_of(source.mode))
            Container(new.path).needs_gpus = source.needs_gpus
            config, image_name, mode = source.config(), source.image_name, source.mode
        return new.publish(config, image_name, name, mode, takes_over)


# --- quota --------------------------------------------------------------------------------------------

def image_sizes(context):
    """([(Image, bytes on disk, bytes that it shares with no other image)], by name; bytes of all of them)."""
    from collections import Counter
    found = [(image, set(image.links().values())) for image in context.images.list()]
    users = Counter(file for _, files in found for file in files)
    sizes = {file: allocated_size(context.layout.blob(file)) for file in users}
    return [(image, sum(sizes[file] for file in files), sum(sizes[file] for file in files if users[file] == 1))
            for image, files in found], sum(sizes.values())


def is_older(path, age):
    """Whether something is there that nobody changed for `age` seconds."""
    import time
    try:
        return time.time() - os.lstat(path).st_mtime >= age
    except FileNotFoundError:
        return False


def find_rubbish(context, age=0):
    """[(path, bytes on disk)] of what no image and no container needs, and nobody changed for `age` seconds."""
    unfinished = context.images.unfinished()
    paths = [image.path for image in unfinished] + context.images.unused_files()
    paths += context.containers.rubbish() + context.containers.dangling_names()
    paths += [tree.path for tree in context.containers.kept_trees() if tree.is_unused()]
    for mark, container in abandoned_runs(context):
        paths += [mark.path] + ([container.path] if container else [])
    layout, own = context.layout, context.home + "/.udocker"        # where the credentials are, whatever the store
    for place in [own, layout.home, layout.bin, layout.lib, layout.doc] + [
            one.path for one in context.images.list() + context.containers.list()]:
        paths += left_behind(place)
    # The blobs of images that are not finished count with them
    files = {file for image in context.images.list() for file in image.links().values()}
    for image in unfinished:
        paths += [context.layout.blob(file) for file in sorted(set(image.links().values()) - files)]
    found = [path for path in dict.fromkeys(paths) if is_older(path, age)] + context.findings.stale()
    for kind in WorkArea, SharedNamespaces, FakechrootEngine:
        found += kind.abandoned(context.temporary)
    found += WorkArea.abandoned(layout.containers)
    return [(path, allocated_size(path)) for path in found]


def listed_paths(context):
    """The paths of all containers, of their names, and of what tells that one is there for a run alone."""
    containers = context.containers.list()
    names = [name for container in containers for name in container.names + [Layout.RUN + container.id]]
    return {container.path for container in containers} | {context.layout.container(name) for name in names}


def prune(context, is_dry=False):
    """Remove the rubbish, and return what has gone; ConflictError while another udocker brings blobs into the store."""
    if not os.path.isdir(context.layout.home):
        return []
    if is_dry:
        return find_rubbish(context)
    with Lock(context.layout.use, is_patient=False) as lock:
        rubbish = find_rubbish(context, 0 if lock.is_held else 86400)       # without locks nobody knows who is at work
        paths = {path for path, _ in rubbish}
        for image in context.images.unfinished():
            if image.path in paths:
                context.images.remove(image)
        sweep_containers(context)
        trees = [tree for tree in context.containers.kept_trees() if tree.path in paths]
        drop_kept_trees(context, trees)
        for path in paths - listed_paths(context) - {tree.path for tree in trees}:      # looking took a while
            try:
                remove_tree(path)
            except OSError as error:
                say.warning("%s: %s" % (error.filename or path, error.strerror))
    return [(path, size) for path, size in rubbish if not os.path.lexists(path)]


# --- tools --------------------------------------------------------------------------------------------

def kinds_of_modes(codes):
    """The kinds of tools that these modes need, of all modes where none is named; UsageError for what is no mode."""
    for code in codes:
        check_mode(code)
    wanted = {ENGINE_OF_MODE[code] for code in codes or MODES}
    return [engine.tool_kind for engine in ENGINES if engine in wanted and engine.tool_kind]


def put_back(aside):
    """Give files that were set aside their names again, where no new ones have them."""
    for path, other in aside.items():
        if os.path.lexists(path):
            remove_file(other)
        else:
            os.rename(other, path)


def install_tools(context, codes, source="", is_forced=False, is_purged=False):
    """Bring what the modes need into the store, all that can be had; returns the paths of what is new.

    ToolError where something cannot; a `source` (file or URL) need not have all where no mode is named. With
    `is_purged` what was installed goes, but where it cannot be replaced.
    """
    raise_on_signals()
    box, failures, paths = context.toolbox, [], []
    begin_store(context)
    aside = {path: new_path(os.path.dirname(path)) for path in box.installed()} if is_purged else {}
    with Undoing(put_back, aside):
        for path, other in aside.items():
            os.rename(path, other)
        for kind in kinds_of_modes(codes):
            try:
                paths += box.install(kind, source, is_forced)
            except ToolError as error:
                failures.append(error)
        if failures and not (source and not codes and paths):
            raise ToolError("; ".join(error.message for error in failures), failures[0].hint)
    for other in aside.values():
        remove_file(other)
    return paths


def tools_wanted(context, codes):
    """[(tarball, its digest, where its content goes, addresses)] of what the modes need here."""
    tools = [tool for kind in kinds_of_modes(codes) for tool in context.toolbox.builds(kind)]
    return [(tool.tarball, tool.tarball_digest, os.path.dirname(context.toolbox.path(tool)), tool.urls)
            for tool in tools]


# --- what is here -------------------------------------------------------------------------------------

def installed_parts(context):
    """[(what, which)] of the means that this machine has: the transport, and the engines with their digests."""
    box = context.toolbox
    try:
        found = [("transport", context.transport().description)]
    except ToolError as error:
        found = [("transport", error.message)]
    try:
        paths = box.executables_here("proot")
    except ToolError as error:
        return found + [("PRoot", error.message)]
    for path in paths:
        digest = file_digest(path)
        origin = "the released one" if box.is_released(digest) else "not one of those released"
        found.append(("PRoot", "%s %s, %s" % (path, digest, origin)))
    return found if paths else found + [("PRoot", "none here")]


def store_facts(context):
    """[(what, which)] of the machine and the store."""
    host = context.host
    return [("kernel", host.kernel), ("machine", "%s (%s)" % (host.machine, Platform("linux", *host.architecture))),
            ("store", context.layout.home), ("images", str(len(context.images.list()))),
            ("containers", str(len(context.containers.list()))), ("default mode", context.default_mode),
            ("registry", without_password(context.settings["registry"]))]


class ModeReport:
    """Whether a mode works on this host, None where that depends on the container: with what, or why not, and what
    can be done."""

    def __init__(self, code, works, detail, hint=""):
        self.code = code
        self.works = works
        self.detail = detail
        self.hint = hint


def examine_fakechroot(context, code):
    """The ModeReport of a mode that depends on the container."""
    paths = context.toolbox.libraries_here()
    if paths:
        return ModeReport(code, None, "may work, with %s, as the container's system has it" % ", ".join(paths))
    return ModeReport(code, False, "no libfakechroot here", "udocker install %s fetches some" % code)


def engines_here(context, code):
    """[(Engine, what is said of it once it is proved)] of a mode, nothing being fetched; ToolError where what a setting
    names is not to be used."""
    engine_class, host, temporary = ENGINE_OF_MODE[code], context.host, context.temporary
    if not engine_class.tool_kind:
        return [(engine_class(code, host, temporary), "proved")]
    engines = [engine for path in context.toolbox.executables_here(engine_class.tool_kind)
               for engine in engine_class.candidates(code, host, path, temporary)]
    return [(engine, "proved with %s%s" % (engine.executable, engine.flaw and "; but " + engine.flaw))
            for engine in engines]


FLAW_HINT = "udocker install %s fetches one without that"


def examine_mode(context, code):
    """The ModeReport of a mode; nothing is fetched for it."""
    refusals = []
    try:
        if ENGINE_OF_MODE[code] is FakechrootEngine:
            return examine_fakechroot(context, code)
        engines = engines_here(context, code)
    except ToolError as error:
        return ModeReport(code, False, error.message, error.hint)
    for engine, detail in engines:
        refusal = context.prover.refusal(engine)
        if not refusal:
            return ModeReport(code, True, detail, engine.flaw and FLAW_HINT % code)
        refusals.append(refusal)
    if refusals:
        return ModeReport(code, False, "; ".join(sorted({reason for reason, _ in refusals})), refusals[0][1])
    return ModeReport(code, False, "no %s here" % TOOL_KINDS[ENGINE_OF_MODE[code].tool_kind].title,
                      "udocker install %s fetches one; --list tells what to bring where there is no internet" % code)


def working_modes(reports):
    """The modes that work, the fastest first."""
    working = [report.code for report in reports if report.works]
    return [code for code in ("N1", "R1", "P1", "P2") if code in working]


def are_some_open(reports):
    """Whether there are modes of which a container alone can tell whether they work, as those of Fakechroot."""
    return any(report.works is None for report in reports)


def store_condition(context):
    """What is to be known of the file system that the store is on, in a line."""
    place = context.layout.home
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    kind, options = Host.file_system(place)
    status = os.statvfs(place)
    words = ["%s, %s free" % (kind or "unknown file system", human_size(status.f_bavail * status.f_frsize))]
    if not os.access(place, os.W_OK):
        words.append("not writable by you")
    if "noexec" in options.split(","):
        words.append("mounted noexec: programs in containers cannot be executed")
    return "%s (%s)" % (context.layout.home, ", ".join(words))


INFLATING_HINT = ", which unpacks a sixth slower than isal or zlib-ng would: pip install isal"


def host_facts(context):
    """[(what, which)] of this machine as far as engines depend on it."""
    facts = [("program", "udocker %s, Python %s" % (__version__, sys.version.split()[0]))]
    try:
        transport = context.transport().description
    except ToolError as error:
        transport = "none: %s" % error.message
    inflating = inflating_module().__name__.partition(".")[0]
    facts += [("transport", transport), ("inflating", inflating + INFLATING_HINT * (inflating == "zlib")),
              ("kernel", "%s on %s" % (context.host.kernel, context.host.machine))]
    for name in [name for name, _, _ in NamespaceEngine.SWITCHES] + ["kernel.yama.ptrace_scope"]:
        value = Host.sysctl(name)
        if value:
            facts.append((name, value))
    return facts + [("store", store_condition(context)), ("temporary", context.temporary)]


# --- archives -----------------------------------------------------------------------------------------

def input_pieces(path):
    """Pieces of a file, or of standard input for "-"; NotFoundError where there is no such file."""
    if path != "-" and not os.path.exists(path):
        raise NotFoundError("%s: no such file" % path)
    if os.path.isdir(path):
        raise ArchiveError("%s: a directory, and an archive was expected" % path)
    if path != "-" and TreeFile.is_at(path):
        raise ArchiveError("%s: a squashfs or SIF file, and an archive was expected" % path,
                           "udocker run %s runs it as it is" % os.path.abspath(path))
    return standard_input() if path == "-" else file_pieces(path)


def tree_pieces(path):
    """The same for the archive of a tree, which is not empty: that is what a failed pipe leaves."""
    is_empty = True
    for piece in input_pieces(path):
        is_empty = False
        yield piece
    if is_empty:
        raise ArchiveError("%s: empty, and the archive of a tree was expected" % path)


def unpack_tree(source, directory):
    """Unpack the archive of a tree, which has no whiteouts, into a directory."""
    unpacker = LayerUnpacker(directory, has_whiteouts=False)
    unpacker.apply_pieces(tree_pieces(source))
    unpacker.finish()


def archived_reference(text):
    """The reference that an archive gives an image."""
    try:
        return Reference.parse(text)
    except UsageError as error:
        raise ArchiveError("the archive gives an image a name that is none: %s" % error.message,
                           "udocker load -i FILE NAME gives it another one")


def is_tagged(name):
    """Whether the name of an image has a tag or a digest, and so is that of one image."""
    return ":" in name.rpartition("/")[2]


def name_by_tags(images, own):
    """[(Reference, ArchivedImage)] under the name of a Reference, with the tags that the archive has."""
    found = {}
    for image in images:
        for tag in [archived_reference(text).tag for text in image.names] or [image.tag or own.tag]:
            if found.setdefault(tag, image) is not image:
                raise UsageError("%s: the archive holds several images with the tag %s" % (own.name, tag),
                                 "load them under their own names")
    return [(archived_reference("%s:%s" % (own.name, tag)), image) for tag, image in found.items()]


def name_archived(images, name):
    """[(Reference, ArchivedImage)]: under the names that the archive has, or under `name` with the archive's tags."""
    if not name:
        if not all(image.names for image in images):
            raise ArchiveError("the archive does not name its image", "udocker load -i FILE NAME gives it a name")
        return [(archived_reference(text), image) for image in images for text in image.names]
    own = Reference.parse(name)
    if not is_tagged(name):
        return name_by_tags(images, own)
    if len(images) > 1:
        raise UsageError("%s: the archive holds %d images" % (name, len(images)),
                         "leave out the tag: each image keeps its own")
    return [(own, images[0])]


def check_new_name(reference):
    """UsageError unless an image can be given this name, whatever it holds."""
    if reference.digest:
        raise UsageError("%s: a name with a digest cannot be given" % reference, "write NAME:TAG")


def store_image(context, reference, manifest, blobs, others=()):
    """Publish NewBlobs and the image that they are, with `others` by their digests, which are here; returns the Image.
    """
    if reference.digest not in ("", sha256_digest(manifest)):
        raise UsageError("%s: the image has another digest, %s" % (reference, sha256_digest(manifest)))
    digests = [blob.digest for blob in blobs] + list(others)
    path = context.images.claim(reference, digests)
    for blob in blobs:
        blob.publish()
    return context.images.publish(reference, path, manifest, b"", digests)


def store_made(context, reference, config, layers, new):
    """Publish the image of a config (bytes) and layers, as for new_manifest(), of which the NewBlobs `new` are not here
    yet; returns the Image."""
    from contextlib import closing
    with closing(context.blobs.new()) as document:
        document.write(config)
        document.finish()
        return store_image(context, reference, new_manifest(config, layers), [document] + new,
                           [digest for digest, _, _ in layers])


def load_images(context, source, name="", platform=None):
    """Bring the images of an archive (file, directory or "-") into the store; returns the Images."""
    from contextlib import closing
    wanted, is_directory = platform or Platform("linux", *context.host.architecture), os.path.isdir(source)
    members = DirectoryMembers(context.blobs.new, source) if is_directory else TarMembers(context.blobs.new)
    with bringing_blobs(context), Work("loading %s" % source, size_of(source)), closing(members):
        if not is_directory:
            members.read(input_pieces(source))
        named = name_archived(ImageArchive(members, wanted).images(), name)
        for reference, archived in named:
            config = ImageConfig.parse(archived.config_data(), str(reference))
            if not is_for(config, wanted):
                say.warning("%s is an image for %s, not for %s" % (reference, config.platform, wanted))
        return [store_image(context, reference, archived.manifest, archived.blobs.values())
                for reference, archived in named]


def plain_blob(context, blob):
    """A NewBlob with the content of another one, not compressed."""
    plain = context.blobs.new()
    with Undoing(plain.close):
        with ReadAhead(decompressed(file_pieces(blob.file))) as pieces:
            for piece in pieces:
                plain.write(piece)
        plain.finish()
    return plain


def import_blob(context, source, is_moved):
    """A NewBlob with the content of an archive of a tree, in a compression that OCI knows."""
    blob = context.blobs.new()
    with Undoing(blob.close):
        is_file = os.path.isfile(source) and not os.path.islink(source) and os.path.getsize(source) > 0
        if is_moved and is_file:
            blob.take(source)
        else:
            for piece in tree_pieces(source):
                blob.write(piece)
        blob.finish()
        if file_compression(blob.file) not in ("bzip2", "xz"):
            return blob
        plain = plain_blob(context, blob)
        blob.close()
        return plain


def check_texts(document, option):
    """UsageError where what an option gave for a document of an image cannot be part of one."""
    try:
        parse_json(dump_json(document).encode("utf-8"), option)
    except DocumentError:
        raise UsageError("%s: a text that no image can hold" % option, "UTF-8 without NULs is what an image can hold")


def config_of(changes, inherited=None):
    """The "config" of an image, by lines of a Dockerfile: it begins with that of an ImageConfig, or with nothing."""
    config = inherited.changeable() if inherited else {}
    if any(change.upper().split()[:1] == ["ENTRYPOINT"] for change in changes):     # what its arguments were
        config.pop("Cmd", None)
    for change in changes:
        name, text = (change.split(None, 1) + ["", ""])[:2]
        try:
            change_config(config, name.upper(), text.strip(), variables_of(config))
        except DocumentError as error:
            raise UsageError("--change=%s: %s" % (change, error.message), error.hint)
    check_texts(config, "--change")
    return config


def import_config(context, platform, config, diff_ids, source):
    """The document of what comes without one, but for its "config"."""
    system, machine = "linux", context.host.architecture
    if platform:
        system, machine = platform.system, (platform.architecture, platform.variant)
    known = {"os": system, "architecture": machine[0], "variant": machine[1], "config": config}
    return new_config(known, diff_ids, timestamp(),
                      "udocker import " + printable_name(os.fsencode(os.path.basename(source))))


def import_image(context, source, reference, platform, config, is_moved=False):
    """Make an image with this "config" of an archive of a tree, as docker export writes it; returns the Image.

    The source of a move goes when the image is there.
    """
    check_new_name(reference)
    if is_moved and source == "-":
        raise UsageError("--mv: standard input cannot be moved")
    from contextlib import closing
    with bringing_blobs(context), Work("importing %s" % source), \
            closing(import_blob(context, source, is_moved)) as layer:
        data = import_config(context, platform, config, [uncompressed_digest(layer.file)], source)
        image = store_made(context, reference, data, [(layer.digest, layer.size, file_compression(layer.file))],
                           [layer])
    if is_moved:
        remove_file(source)
    return image


NOTES_PLACE = ".udocker"        # in the tree of a squashfs: what udocker knows about the container
SQUASHFS_HINT = "install squashfs-tools, 4.5 or newer"


def import_container(context, source, image_name, name, platform, config):
    """Make a container with this "config" of an archive of a tree; returns the Container."""
    prepare_container(context, name)
    work = Work("importing %s" % source, size_of(source))
    with NewContainer(context.layout) as new, Naming(context.layout.containers), work:
        unpack_tree(source, new.root)
        document = ImageConfig.parse(import_config(context, platform, config, [], source), source)
        make_volumes(new.root, document)
        return new.publish(document, image_name, name, convert_new(context, new))


def import_clone(context, source, name=None):
    """Make a container of an archive that export --clone wrote; returns the Container."""
    prepare_container(context, name)
    work = Work("importing %s" % source, size_of(source))
    with NewContainer(context.layout) as new, Naming(context.layout.containers), work:
        unpack_tree(source, new.scratch())
        copy = new.take_scratch()
        mode = copy.mode if copy.mode in MODES else ""
        Conversion(new.path, new.published_root).change(steps_of(mode))
        Container(new.path).needs_gpus = copy.needs_gpus
        return new.publish(copy.config(), copy.image_name, name, mode)


def write_tree(file, root, notes=(), place="", prefix=""):
    """Write a tar of the tree at `root`, below `prefix`, and before it of `notes`: (name, bytes), in the `place` of
    what has that name in the tree."""
    writer = TarWriter(file)
    if notes and place:
        writer.add_directory(place)
    for name, data in notes:
        writer.add_data(name_below(place, name), data)
    writer.add_tree(OpenTree(root), prefix, describe=lambda inside, mode: (
        None if place and inside.partition("/")[0] == place else (mode, 0, 0)))
    writer.close()


def squash(destination, write):
    """Make a squashfs of the tar that write(file) writes; ToolError where there is nothing that makes one."""
    program = Host.find_executable("mksquashfs")
    if not program:
        raise ToolError("there is no mksquashfs, which makes a squashfs", SQUASHFS_HINT)
    with Naming(destination), NewFile(destination) as new:
        try:
            feed_program([program, "-", process_path(new.fileno()), "-tar", "-noappend", "-all-root", "-no-progress",
                          "-quiet", "-root-mode", "755", "-processors", str(len(os.sched_getaffinity(0)))], write)
        except ToolError as error:          # older ones end with another word
            raise ToolError("%s: %s" % (destination, error.message),
                            "" if "FATAL ERROR" in error.message else SQUASHFS_HINT)


def write_container(reading, root, destination, is_clone, is_squashfs):
    """Write the tree at `root` as that of a container, during its Reading."""
    path = reading.container.path
    notes = [(name, read_file(path + "/" + name)) for name in Container.NOTES]
    notes = [(name, data) for name, data in notes if data]

    def write(file):
        if is_squashfs:
            write_tree(file, root, notes, NOTES_PLACE)
        elif is_clone:
            write_tree(file, root, notes, prefix="ROOT")
        else:
            write_tree(file, root)
        reading.check()

    if is_squashfs:
        squash(destination, write)
        return
    with Naming(output_name(destination)), open_output(destination) as file:
        write(file)


def read_tree(context, container, use):
    """use(Reading, path of the tree), of a Container's tree as it was before conversions, which may be a copy; returns
    what that gives."""
    settle(container)
    try:
        with Reading(container) as reading:
            if not Conversion(container.path).states():
                return use(reading, container.root)
            with NewContainer(context.layout) as copy:
                copy_tree(container, copy)
                return use(reading, copy.root)
    except PermissionError as error:
        if not str(error.filename).startswith(os.path.realpath(container.path) + "/"):
            raise
        raise EngineError("%s: %s" % (printable(error.filename), error.strerror),
                          "udocker setup --fixperm %s lets you read it" % container.id)


def export_container(context, word, destination, is_clone=False, is_squashfs=False):
    """Write a container's tree to a tar archive, or a squashfs; that, and a clone, with what udocker knows about it."""
    if is_squashfs and (destination == "-" or os.path.exists(destination) and not os.path.isfile(destination)):
        raise UsageError("--squashfs cannot be written to %s, which is no file" % output_name(destination),
                         "name one with -o")
    raise_on_signals()
    with Work("exporting %s" % word):
        read_tree(context, context.containers.get(word), lambda reading, root: write_container(
            reading, root, destination, is_clone, is_squashfs))


# --- changes ------------------------------------------------------------------------------------------

class LowerImage(Image):
    """The lowest layers of an Image, those that a container with this ImageConfig was made of."""

    def __init__(self, image, config):
        super().__init__(image.name, image.version, image.path, image.blobs)
        self.container_config = config

    def config(self):
        return self.container_config

    def layers(self):
        return super().layers()[:len(self.config().diff_ids)]


def image_below(context, container):
    """The LowerImage that a Container was made of, out of whichever image has its layers; None where none here has."""
    config = container.config()
    layers = config.diff_ids
    for image in sorted(context.images.list(), key=lambda image: str(image) != container.image_name):
        try:
            if layers and not image.is_version_1 and image.config().diff_ids[:len(layers)] == layers:
                return LowerImage(image, config)
        except (Error, OSError) as error:
            say.debug("%s: %s" % (image, error))
    return None


def changes_since(context, image, root, origins=None):
    """What changes_between() tells of the tree at `root` beside that of an Image, which is unpacked once more for it;
    for `origins` see LayerUnpacker. What is there for udocker alone, as a place to bind something at, is passed over.
    """
    places = {mount.guest[1:] for mount in system_mounts()}
    with NewContainer(context.layout) as untouched:
        unpack_image(context, image, untouched.root, origins)
        return changes_between(tree_entries(OpenTree(untouched.root)), tree_entries(OpenTree(root)),
                               lambda name, size: "/" + name == APT_CONFIG or not size and name in places)


def container_changes(context, word):
    """The same of a container and its image; NotFoundError where that is not here."""
    with bringing_blobs(context):
        container = context.containers.get(word)
        image = image_below(context, container)
        if not image:
            raise NotFoundError("%s: no image here has the layers that it was made of" % word,
                                "it was made of %s: udocker pull may bring that" % (container.image_name or "no image"))
        with Work("comparing %s" % word):
            return read_tree(context, container, lambda reading, root: changes_since(context, image, root))


def committed_config(config, run, diff_ids, author, message):
    """The document of an image like that of an ImageConfig, with another "config", the layers of these digests above
    its own and a step in its history."""
    step = {"created": timestamp(), "created_by": "udocker commit", "author": author, "comment": message}
    step = {key: text for key, text in step.items() if text}
    document = dict(config.document, created=step["created"], author=author, config=run)
    if not author:          # that of another image
        del document["author"]
    document["rootfs"] = {"type": "layers", "diff_ids": config.diff_ids + diff_ids}
    document["history"] = config.history + [step if diff_ids else dict(step, empty_layer=True)]
    return dump_json(document).encode("utf-8")


def write_changes(context, container, below, layer):
    """Write what a container has otherwise than the Image `below` to a NewLayer, or all of its tree where that is None.
    Returns what changes_between() tells: nothing is written where nothing has changed."""
    def write(reading, root):
        origins = {}
        found = changes_since(context, below, root, origins) if below else None
        if found != {}:
            forget_origins(origins, found or {})
            write_layer(layer, root, found, origins)
            layer.finish()
            reading.check()
        return found

    return read_tree(context, container, write)


def commit_container(context, word, reference, lines=(), author="", message=""):
    """Make an image of a container: its layers are those of the image below it, where they are here, and one of what
    has changed since, or else one of all. `lines` of a Dockerfile change how it is run. Returns the Image."""
    from contextlib import closing
    check_new_name(reference)
    check_texts({"author": author, "comment": message}, "--author, --message")
    with bringing_blobs(context), Work("committing %s" % word), \
            closing(NewLayer(context.blobs.new())) as layer:
        container = context.containers.get(word)
        below, config = image_below(context, container), container.config()
        if not below:
            if config.diff_ids:
                say.warning("no image here has the layers that %s was made of: all of it is one layer" % word)
            config = ImageConfig.parse(new_config(config.document, [], timestamp(), ""), word)
        run = config_of(lines, config)          # what cannot be is told before the work
        added = [] if write_changes(context, container, below, layer) == {} else [layer]
        rows = [(lower.digest, size_of(path), file_compression(path))
                for path, lower in (below.layers() if below else [])]
        return store_made(
            context, reference, committed_config(config, run, [layer.diff_id for layer in added], author, message),
            rows + [(layer.blob.digest, layer.blob.size, "gzip") for layer in added], [layer.blob for layer in added])


def portable_image(image, is_docker_too=False):
    """(manifest, config, [path of a layer]) in OCI's form, or in docker's where that will do: as it is where it has
    that, else made anew."""
    layers, config = image.layers(), image.config_data()
    paths = [image.blobs.path(os.path.basename(path)) for path, _ in layers]
    manifest = None if image.is_version_1 else image.manifest()
    if manifest and manifest.config and (is_docker_too or manifest.config.media_type == CONFIG_TYPE):
        return image.read("manifest"), config, paths
    if not manifest or not manifest.config:
        document = ImageConfig.parse(config, str(image)).document
        config = new_config(document, [uncompressed_digest(path) for path in paths], "1970-01-01T00:00:00Z",
                            "udocker save")
    rows = []
    for path, (_, layer) in zip(paths, layers):
        rows.append((layer.digest or file_digest(path), os.stat(path).st_size, file_compression(path)))
    return new_manifest(config, rows), config, paths


def docker_name(reference):
    """The whole name of an image, as docker and containerd write it: docker.io/library/busybox:latest."""
    name = reference.name if reference.host else "docker.io/" + reference.hub_repository
    return name + ":" + reference.tag


def save_images(context, references, destination):
    """Write images to one archive, those that are the same once, under all their names."""
    raise_on_signals()
    unique = {}
    for reference in references:
        manifest, config, paths = portable_image(context.images.get(reference))
        names = unique.setdefault(manifest, ([], manifest, config, paths))[0]
        if reference.tag and docker_name(reference) not in names:
            names.append(docker_name(reference))
    layers = {path for _, _, _, paths in unique.values() for path in paths}
    work = Work("saving", sum(size_of(path) or 0 for path in layers))
    with Naming(output_name(destination)), open_output(destination) as file, work:
        write_image_archive(file, list(unique.values()))


def tag_image(context, source, target):
    """Give an image another name; returns the Image of that name."""
    check_new_name(target)
    image = context.images.get(source)
    with bringing_blobs(context):
        if image.is_version_1:
            return context.images.copy(image, target)
        digests = [descriptor.digest for descriptor in image.manifest().blobs]
        path = context.images.claim(target, digests)
        return context.images.publish(target, path, image.read("manifest"), image.read("index"), digests)


# --- push ---------------------------------------------------------------------------------------------

def other_repositories(context, host, repository):
    """{digest: repository} of what images here have that come from a registry, as Reference has its host, but from
    another repository there. A name alone may be one that Docker Hub never heard of: those that were pulled count."""
    found = {}
    for image in context.images.list():
        try:
            reference = Reference.parse(str(image))
            other = reference.repository if host else reference.hub_repository
            if reference.host == host and other != repository and (host or image.read("index")):
                found.update(dict.fromkeys(image.links(), other))
        except (UsageError, OSError) as error:      # a name of somebody else's making; or an rmi goes on
            say.debug("%s: %s" % (image, error))
    return found


def push_blob(registry, repository, digest, path, source):
    """Bring a file of the store into a repository, and tell it as pulls do."""
    row = Progress.shared().start(digest[7:19], size_of(path))
    with Undoing(row.finish, "failed"), Upload(path, row.set) as content:
        push = BlobPush(registry, repository, digest, content, source)
        push.run()
    row.finish(human_size(content.size) if push.was_sent else "there already")


def push_image(context, reference, address=""):
    """Bring an image of the store into a registry; returns the digest of its manifest there."""
    raise_on_signals()
    if reference.digest:
        raise UsageError("%s: a digest cannot be pushed to" % reference, "udocker tag gives the image another name")
    image = context.images.get(reference)
    data, config, paths = portable_image(image, is_docker_too=True)
    manifest, digest = parse_manifest(data, str(reference)), sha256_digest(data)
    if image.read("index"):
        say.info("of %s, which was pulled for one of several platforms, that one is pushed" % reference)
    registry, (repository, *_) = find_registry(context, reference, address)
    others = other_repositories(context, reference.host, repository)
    layers = {layer.digest: path for layer, path in zip(manifest.layers, paths)}
    try:
        for layer, path in layers.items():
            push_blob(registry, repository, layer, path, others.get(layer, ""))
        with Upload(config) as content:
            BlobPush(registry, repository, manifest.config.digest, content).run()
        with Upload(data) as content:
            registry.put_manifest(repository, reference.tag, content, digest, manifest.media_type)
    except AuthError as error:
        error.hint = "udocker login keeps credentials, and its user must be allowed to push to this name"
        raise
    return digest


# --- cp -----------------------------------------------------------------------------------------------

class CopyEnd:
    """One end of `cp`: PATH of the host, or CONTAINER:PATH; where its entry lies, found without leaving the tree.
    `reading` is to be a `with` block around what is done with it."""

    def __init__(self, context, text):
        import contextlib
        word, colon, guest = text.partition(":")
        self.text = text
        self.is_guest = bool(colon) and "/" not in word and word not in (".", "..")
        self.has_slash = text.endswith("/")
        self.is_content = text.endswith("/.") or guest == "."       # docker's way to say: what is in the directory
        self.reading = contextlib.ExitStack()           # nothing
        if self.is_guest:
            container = context.containers.get(word)
            settle(container)
            self.reading = Reading(container)
            self.tree = GuestTree(os.path.realpath(container.root))
            self.path = "/" + guest
        else:
            self.tree = GuestTree("")
            self.path = os.path.abspath(text)

    def place(self, is_followed):
        """(OpenTree, relative name) of the entry; a link at its end is followed only where that is asked for, as what
        must be a directory asks too."""
        is_followed = is_followed or self.has_slash or self.is_content
        if not self.is_guest:
            path = os.path.realpath(self.path) if is_followed else os.path.join(
                os.path.realpath(os.path.dirname(self.path)), os.path.basename(self.path))
            return OpenTree(os.path.dirname(path)), os.path.basename(path)
        path = os.path.normpath(self.path)
        parent, _, base = path.rpartition("/")
        resolved = self.tree.resolve(path) if is_followed else os.path.join(self.tree.resolve(parent), base)
        return OpenTree(self.tree.root), resolved.strip("/")

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        """Errors of files in the tree name them as the user does."""
        name = getattr(error, "filename", None)
        if self.is_guest and isinstance(name, str) and name.startswith(self.tree.root + "/"):
            error.filename = self.text.partition(":")[0] + ":" + name[len(self.tree.root):]

    @property
    def beside(self):
        """The directory of the container, on the file system of its tree; "" on the host, or where it is closed."""
        directory = os.path.dirname(self.tree.root)
        return directory if self.is_guest and os.access(directory, os.W_OK) else ""

    def kind(self, is_followed=True):
        """"directory", "other", or "" where there is nothing."""
        tree, relative = self.place(is_followed)
        try:
            _, status, _, _ = next(tree.walk(relative))
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return "directory" if stat.S_ISDIR(status.st_mode) else "other"


def copy_out(context, source_text, is_followed=False):
    """Write a file or tree of a container to standard output, as a tar archive."""
    source = CopyEnd(context, source_text)
    if not source.is_guest:
        raise UsageError("%r is not in a container" % source_text, "write CONTAINER:PATH")
    if not source.kind(is_followed):
        raise NotFoundError("%s: no such file or directory" % source_text)
    tree, start = source.place(is_followed)
    if Conversion(os.path.dirname(tree.path)).states():
        say.warning("programs and links are copied as they were converted; cp to a file gives them as they were")
    with Naming(Say.OUTPUT), open_output("-") as file, source.reading:
        writer = TarWriter(file)
        writer.add_tree(tree, "" if source.is_content else os.path.basename(start), start)
        writer.close()


def copy_in(context, target_text):
    """Unpack a tar archive from standard input into a directory of a container."""
    target = CopyEnd(context, target_text)
    if not target.is_guest:
        raise UsageError("%r is not in a container" % target_text, "write CONTAINER:PATH")
    if target.kind() != "directory":
        raise NotFoundError("%s: no such directory" % target_text)
    tree, place = target.place(True)
    # On the file system of the tree, where it can be, and where prune looks
    parent = context.layout.containers if os.access(context.layout.containers, os.W_OK) else context.temporary
    with Naming(target_text), WorkArea(parent) as area, target, target.reading:
        os.mkdir(area.path + "/content", 0o755)
        unpack_tree("-", area.path + "/content")
        TreeMerge(OpenTree(area.path + "/content"), tree, target.beside, None, True).copy("", place)


def check_kinds(source, source_kind, target, target_kind):
    """NotFoundError or ConflictError where something of this kind cannot be copied to a CopyEnd of that one."""
    if not source_kind:
        raise NotFoundError("%s: no such file or directory" % source.text)
    if source_kind != "directory" and (source.has_slash or source.is_content):
        raise NotFoundError("%s: not a directory" % source.text)
    if source_kind == "directory" and target_kind == "other":
        raise ConflictError("%s: a directory cannot be copied over a file" % target.text, REPLACE_HINT)
    if target.has_slash and (target_kind == "other" or not target_kind and source_kind != "directory"):
        raise NotFoundError("%s: no such directory" % target.text)


def copy_between(context, source_text, target_text, is_followed=False):
    """Copy a file or tree from a container to the host, back, or between containers; as docker cp has it."""
    raise_on_signals()
    if target_text == "-":
        copy_out(context, source_text, is_followed)
        return
    if source_text == "-":
        copy_in(context, target_text)
        return
    source, target = CopyEnd(context, source_text), CopyEnd(context, target_text)
    if not (source.is_guest or target.is_guest):
        raise UsageError("neither %r nor %r is in a container" % (source_text, target_text),
                         "write CONTAINER:PATH for the one that is")
    source_kind, target_kind = source.kind(is_followed), target.kind()
    check_kinds(source, source_kind, target, target_kind)
    source_tree, start = source.place(is_followed)
    target_tree, place = target.place(True)
    if target_kind == "directory" and not source.is_content:
        place = name_below(place, os.path.basename(os.path.normpath(source.path)).strip("/"))
    paths = [os.path.join(tree.path, name) for tree, name in ((source_tree, start), (target_tree, place))]
    if source_kind == "directory" and (paths[1] + "/").startswith(paths[0].rstrip("/") + "/"):
        raise ConflictError("%s: a directory cannot be copied into itself" % source_text,
                            "choose a target outside of it")
    with Naming(target_text), source, target, source.reading, target.reading:
        mend = Conversion(os.path.dirname(source_tree.path)).reverter(start, place) if source.is_guest else None
        TreeMerge(source_tree, target_tree, target.beside, mend, target.is_guest).copy(start, place)


# --- run ----------------------------------------------------------------------------------------------

def first_that_works(engines, check, reasons):
    """The first Engine that check(engine) does not refuse, None where it refuses all; the EngineErrors that it raises
    are added to `reasons`."""
    for engine in engines:
        try:
            check(engine)
            return engine
        except EngineError as error:
            reasons.append(error)
            say.debug("%s: %s" % (engine.identity(), error.message))
    return None


def find_with_executable(context, engine_class, code, spec):
    """A proved engine of mode `code` that is an executable; of P2 where P1 does not contain here."""
    prover, engine, reasons = context.prover, None, []

    def check(engine):
        prover.check(engine)
        if engine_class is PRootEngine and spec.needs_pretence():
            engine.shown_kernel = context.host.kernel       # another one, to what a dynamic loader starts
            refusal = prover.refusal(engine)
            if refusal:
                raise EngineError(*refusal)

    try:
        engine = first_that_works((
            engine for executable in context.toolbox.executables(engine_class.tool_kind)
            for tried in (("P1", "P2") if code == "P1" else (code,))
            for engine in engine_class.candidates(tried, context.host, executable, context.temporary)), check, reasons)
    except ToolError as error:          # where one that is here does not work, that is what counts
        if not reasons:
            raise
        say.debug(error.message)
    if not engine:
        raise reasons[-1 if code == "R1" else 0] if reasons else EngineRefusedError(        # runC's, after crun's
            "there is no %s for a machine of type %s" % (
                TOOL_KINDS[engine_class.tool_kind].title, context.host.machine), "put one into the search path")
    if engine.mode != code:
        say.warning("%s, so P2 is used, which is slower" % reasons[-1].message)
    return engine


def find_namespaces(context, spec=None):
    """A proved NamespaceEngine, for a RunSpec where one is given."""
    engine = NamespaceEngine("N1", context.host, context.temporary)
    context.prover.check(engine)
    if spec:
        engine.check(spec)
    return engine


def ranked_libraries(context, guest):
    """The FakechrootLibrary objects that a container could use, the best first."""
    paths = context.toolbox.libraries()
    if context.settings["fakechroot_so"]:
        return [FakechrootLibrary(path) for path in paths]
    ranks = {path: FakechrootLibrary.rank(os.path.basename(path), guest.system, guest.version) for path in paths}
    return [FakechrootLibrary(path) for path in sorted((path for path in paths if ranks[path] is not None),
                                                       key=ranks.get)]


def find_fakechroot(context, code, container):
    """A proved FakechrootEngine of mode `code` for a Container."""
    if not container:
        raise EngineError("mode %s is for containers of the store" % code, FakechrootEngine.HINT)
    conversion = Conversion(container.path)
    conversion.check(MODES[code].steps)
    if code == "F4":
        try:
            conversion.update()
        except OSError as error:        # the command runs without
            say.warning("what was added to the container is not converted: %s" % error)
    guest = GuestSystem(GuestTree(os.path.realpath(container.root)))
    if not guest.loader or not guest.libc:
        raise EngineError("the container has no shell with a C library, into which another could be loaded",
                          FakechrootEngine.HINT)
    prover, settings, reasons = context.prover, context.settings, []

    def check(engine):
        if not prover.is_proved(engine):
            engine.library.check(guest)
            prover.check(engine)

    engine = first_that_works((
        FakechrootEngine(code, context.host, library, guest, settings["fakechroot_libc"],
                         settings["fakechroot_expand_symlinks"], context.temporary)
        for library in ranked_libraries(context, guest)), check, reasons)
    if not engine:
        raise reasons[-1] if reasons else EngineError("there is no libfakechroot for the container's system here",
                                                      "udocker install F1 fetches some; " + FakechrootEngine.HINT)
    return engine


def find_engine(context, code, spec, container):
    """The proved engine of mode `code` for a RunSpec."""
    engine_class = ENGINE_OF_MODE[code]
    if engine_class is FakechrootEngine:
        return find_fakechroot(context, code, container)
    if engine_class is NamespaceEngine:
        return find_namespaces(context)
    return find_with_executable(context, engine_class, code, spec)


def stand_in(context, spec, refusal):
    """A proved engine for what PRoot, for the reason given, cannot run: of N1, else of R1 where its executable is here,
    as systems that refuse namespaces to others may let crun have some; an error that names both first reasons."""
    prover, reasons = context.prover, []

    def check(engine):
        prover.check(engine)
        engine.check(spec)

    engine = None
    try:
        engine = first_that_works((engine for code in ("N1", "R1") for engine, _ in engines_here(context, code)), check,
                                  reasons)
    except ToolError as error:          # a setting names no runC
        say.debug(error.message)
    if not engine:
        raise type(reasons[0])("neither mode P1 nor mode N1 can run this. P1: %s. N1: %s" % (
            refusal.message, reasons[0].message), reasons[0].hint or refusal.hint)
    tell_once(context, say.info, "mode %s is used: %s" % (engine.mode, refusal.message))
    return engine


def flaw_that_hits(engine, spec):
    """What of a PRoot is sure to kill programs of a container, in words; "" where nothing is known.

    Old ones: glibc spawns by clone(2) since 2.24, and by clone3(2) since 2.34. Newer ones die where the first brk(2) of
    a program is that of its child or thread, as with musl before 1.2, which calls it late.
    """
    tree = GuestTree(os.path.realpath(spec.root))
    if ("musl" in GuestLibraries(tree).shell_loader()) == bool(engine.flaw):        # every run asks: quickly, mostly
        return ""
    guest = GuestSystem(tree)
    data = read_file(tree.path(guest.libc)) if guest.libc else b""
    if guest.is_musl:
        return "this PRoot dies of some programs of musl before 1.2" if b"\0" + b"1.1." in data else ""
    return engine.flaw if b"\0GLIBC_2.24\0" in data and b"\0GLIBC_2.34\0" not in data else ""


def lack_of_network(engine, spec):
    """What an engine cannot do for the network that a RunSpec asks for, in words; "" where it can."""
    if spec.ports and not engine.maps_ports:
        return "--publish: mode %s maps no ports here, and what the command listens on are the host's own" % engine.mode
    if spec.ports and engine.lack_of_ports:
        return "--publish: mode %s maps ports, %s" % (engine.mode, engine.lack_of_ports)
    if spec.has_no_network and not engine.can_cut_off:
        return "--network=none: mode %s does not cut off from the network" % engine.mode
    return ""


def find_default_engine(context, spec, container):
    """The proved engine where nobody chose a mode: PRoot, or N1 for what that cannot run, or where it is missing."""
    try:
        engine = find_engine(context, context.default_mode, spec, container)
        engine.check(spec)
    except (EngineError, ToolError) as error:
        return stand_in(context, spec, error)
    flaw = flaw_that_hits(engine, spec) or lack_of_network(engine, spec)
    if flaw:
        try:
            better = find_namespaces(context, spec)
            say.debug("mode N1 is used: " + flaw)
            return better
        except EngineError as error:
            say.debug("%s, and mode N1 cannot run this: %s" % (flaw, error.message))
    return engine


def is_mode_free(context):
    """Whether nobody said in which mode containers shall run."""
    return context.default_mode == "P1" and context.settings.origin("default_execution_mode") == "default"


def advice_on_modes(context):
    """Which modes work on this host, for a hint."""
    reports = [examine_mode(context, code) for code in MODES]
    working = working_modes(reports)
    if not working and are_some_open(reports):
        return "mode F3 may work: " + SETUP_HINT % "F3"
    if not working:
        return "no mode works here: udocker doctor tells why"
    return "of the modes here %s work%s: %s" % (
        " and ".join(working), "s" * (len(working) == 1), SETUP_HINT % working[0])


def choose_engine(context, mode, spec, container=None):
    """The proved engine for a container's `mode`, "" being the default. What is refused on this host is told with the
    modes that work."""
    code = mode or context.default_mode
    if code not in MODES:
        raise EngineError("%r is no execution mode of this udocker" % code, "there are " + ", ".join(sorted(MODES)))
    if container and not MODES[code].steps:
        Conversion(container.path).check(())
    try:
        if not mode and is_mode_free(context):
            return find_default_engine(context, spec, container)
        return find_engine(context, code, spec, container)
    except (EngineRefusedError, ToolError) as error:
        error.hint = "; ".join(filter(None, (error.hint, advice_on_modes(context))))
        raise


def parse_devices(options):
    """(GpuRequest or None, Mounts of devices, (kind, name) of those that CDI files name) of --gpus and --device."""
    gpus = None if options.gpus is None else GpuRequest.parse(options.gpus)
    mounts = [device_mount(text) for text in options.device if text.startswith("/")]
    named = [DeviceSpecs.parse_name(text) for text in options.device if not text.startswith("/")]
    names = [name for kind, name in named if kind == GpuRequest.KIND]
    if gpus and names:
        raise UsageError("--gpus=%s and --device=%s=%s: one of them is enough" % (
            options.gpus, GpuRequest.KIND, names[0]))
    for name in names:
        GpuRequest.check_device(name)
    return GpuRequest(names) if names else gpus, [mount for mount in mounts if mount], named


class RunRequest:
    """What the user asked of `run`, checked before anything is touched; options as in the command's declaration, the
    platform parsed."""

    def __init__(self, context, options):
        self._check(options)
        self.options = options
        self.step = JobStep.find(context.environment, os.getppid())     # None where this is no rank of a job
        self.guardian = 0
        self.ending_signal = 0          # the last one that came while the command was running
        self.detachment = None          # Detachment of a run in the background
        self.record = None              # RunRecord that the run is to write
        self.mounts = [Mount.parse(text) for text in options.volume]
        self.excluded = {os.path.normpath(path) for path in options.novol}
        self.gpus, self.devices, self.named_devices = parse_devices(options)
        self.is_marked = False          # setup --nvidia was used on the container
        self.mark = None                # RunMark of a container that was made for this run alone
        self.is_sharing = False         # the container's tree is that of other runs too
        self.insists_on_gpus = bool(self.gpus or options.nvidia)
        self.memory_mounts = [MemoryMount.parse(text) for text in options.tmpfs]
        for mount in map(parse_mount, options.mount):
            (self.memory_mounts if isinstance(mount, MemoryMount) else self.mounts).append(mount)
        self.processors = parse_processors(options.cpuset_cpus) if options.cpuset_cpus else None
        self.limits = [parse_limit(text) for text in options.ulimit]
        self.ports = [port for text in options.publish for port in PublishedPort.parse_all(text)]
        for number, port in enumerate(self.ports):
            other = next(filter(port.is_at_odds, self.ports[:number]), None)
            if other:
                raise UsageError("--publish=%s and --publish=%s exclude one another" % (other, port),
                                 "a port of the command is one of the host's, which is no other's")
        self.host_lines = [parse_host(text) for text in options.add_host]
        if self._can_look_itself_up():
            self.host_lines.append(parse_host(options.hostname + ":host-gateway"))
        self.variables = [variable for path in options.env_file for variable in read_variables(
            path, context.environment)]
        self.variables += filter(None, (parse_variable(text, context.environment) for text in options.env))
        GpuRequest.of_variables(dict(self.variables), is_explicit=True)         # raises what it cannot understand

    @staticmethod
    def _check(options):
        """UsageError for what does not go together, or cannot be."""
        if options.pull not in PULL_POLICIES + (None,):
            raise UsageError("--pull=%s: there are %s" % (options.pull, ", ".join(PULL_POLICIES)))
        if options.location and (options.rm or options.detach or options.name is not None):
            raise UsageError("--location= runs a tree that is no container of the store",
                             "leave out --rm, --detach and --name=")
        if options.detach and options.ephemeral:
            raise UsageError("--detach and --ephemeral: what runs so could not be found again", "leave one of them out")
        if options.hostauth and options.containerauth:
            raise UsageError("--hostauth and --containerauth exclude one another")
        if options.workdir and not options.workdir.startswith("/"):
            raise UsageError("--workdir=%s: an absolute path is needed" % options.workdir)

    def _can_look_itself_up(self):
        """Whether there is a name of its own for /etc/hosts, which the user has no other plans for."""
        name, place = self.options.hostname, "/etc/hosts"
        return bool(name and not name.strip(HOST_NAME_CHARACTERS) and place not in self.excluded
                    and place not in [mount.guest for mount in self.mounts])

    @property
    def needs_host_environment(self):
        """Whether the command gets the host's environment."""
        return self.options.hostenv or self.options.mpi

    def all_mounts(self, context):
        """The user's mounts and those that come by themselves, without the excluded ones."""
        options = self.options
        own = [] if options.nosysdirs else system_mounts()
        if options.dri:
            own += graphics_mounts(context.host.machine)
        if options.bindhome and os.path.normpath(context.home).strip("/"):
            own.append(Mount(context.home, context.home))
        elif options.bindhome:
            say.warning("--bindhome: your home directory is %s, which cannot appear" % context.home)
        if self.needs_host_environment:
            own += [mount for mount in launcher_mounts(context.environment) if not any(
                (mount.guest + "/").startswith(volume.guest + "/") for volume in self.mounts)]
        if options.hostauth:
            own += [Mount(path, path) for path in ("/etc/passwd", "/etc/group")]
        own = [mount for mount in own if not {mount.source, mount.guest} & self.excluded]
        return arrange_mounts(own + self.mounts)


def guest_environment(context, request, config, account, tree):
    """The command's variables: the host's where wanted, then the image's, then what was given by hand."""
    options, host = request.options, context.environment
    environment = host_environment(host, options.bindhome, tree) if request.needs_host_environment else {}
    environment["HOSTNAME"] = options.hostname or environment.get("HOSTNAME") or context.host.name
    if "TERM" in host:
        environment["TERM"] = host["TERM"]
    environment["HOME"] = context.home if options.bindhome else account.home or "/"
    if account.name:
        environment["USER"] = environment["LOGNAME"] = account.name
    environment["PATH"] = DEFAULT_PATH
    environment.update(config.environment)
    environment.update(request.variables)
    return environment


def add_account(context, request, spec):
    """The command sees passwd and group with its own account: many programs end where they cannot tell who they are.
    They are files of our own, as those of the container belong to the image."""
    for guest, line in spec.account.missing_lines(spec.tree, context.host):
        taken = request.excluded.union(mount.guest for mount in spec.mounts)
        if taken & {guest, "/etc"}:
            continue
        text = spec.tree.read(guest)
        try:
            path = context.findings.keep_file(
                os.fsencode(text + "\n" * (not text.endswith("\n")) + line + "\n"), os.path.realpath(spec.root))
        except OSError as error:
            say.debug("%s: %s" % (guest, error))
            continue
        spec.mounts = arrange_mounts(spec.mounts + [Mount(path, guest, is_required=False)])


# What batch systems and users tell libraries for GPUs, which goes inside with the GPUs
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_MPS_PIPE_DIRECTORY", "ROCR_VISIBLE_DEVICES",
                 "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")


def wanted_gpus(request, environment):
    """The GpuRequest that options, setup or variables make, in this order; None where no GPU is asked for."""
    is_by_hand = "NVIDIA_VISIBLE_DEVICES" in dict(request.variables)
    if request.gpus or (request.options.nvidia or request.is_marked) and not is_by_hand:
        return request.gpus or GpuRequest()
    return GpuRequest.of_variables(environment, is_by_hand)


def named_edits(request):
    """(ContainerEdits of the devices that CDI files name, whether all NVIDIA GPUs of --device are among them)."""
    edits, specs = ContainerEdits(), DeviceSpecs() if request.named_devices else None
    names = [name for kind, name in request.named_devices if kind == GpuRequest.KIND]
    for kind, name in request.named_devices:
        found = specs.find(kind, name)
        if found:
            edits.merge(found)
            names = [other for other in names if (kind, other) != (GpuRequest.KIND, name)]
        elif kind != GpuRequest.KIND:
            known = ", ".join(specs.names(kind))
            raise NotFoundError("--device=%s=%s: no CDI file names this device" % (kind, name),
                                "there are %s" % known if known else "looked in " + " and ".join(specs.DIRECTORIES))
    return edits, GpuRequest.KIND in dict(request.named_devices) and not names


def find_driver(context, request, wanted, environment):
    """The host's NvidiaDriver, its shortcomings told; None where it has none and nobody insists."""
    driver = NvidiaDriver(context.host.machine)
    if not driver.library:
        what = "this host has no NVIDIA driver: its loader does not find %s" % driver.NAME
        if request.insists_on_gpus:
            raise EngineError(what, "run it on a node with GPUs; ldconfig -p shows what the loader finds")
        (say.warning if request.is_marked else say.debug)(what)
        return None
    unmet = driver.unmet_requirement(environment)
    if unmet:
        what = "the image asks for %s, and the host's NVIDIA driver is %s" % (unmet, driver.version)
        if wanted.is_explicit:
            raise EngineError(what, "-e NVIDIA_DISABLE_REQUIRE=1 runs it all the same")
        say.warning(what)
    for complaint in driver.complaints(wanted.needed_capabilities(environment)):
        (say.warning if wanted.is_explicit else say.debug)(complaint)
    return driver


def gpu_variables(host, wanted, chosen):
    """What the libraries inside are told of GPUs: what the batch system said (`host` is the host's environment), and
    which ones were chosen, None for all there are."""
    found = {name: host[name] for name in GPU_VARIABLES if name in host}
    if wanted:
        found["NVIDIA_VISIBLE_DEVICES"] = "all" if chosen is None else ",".join(chosen) or "none"
        if wanted.capabilities is not None:
            found["NVIDIA_DRIVER_CAPABILITIES"] = ",".join(sorted(wanted.capabilities))
    if chosen is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(chosen) or "-1"
        if "CUDA_VISIBLE_DEVICES" not in host:          # nvidia-smi counts along the bus, CUDA by speed
            found.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return found


def find_edits(context, request, spec):
    """(ContainerEdits, variables) of the devices that user, setup or image ask for; None where they ask for none."""
    host = context.environment
    edits, is_complete = named_edits(request)
    wanted, driver, chosen = wanted_gpus(request, spec.environment), None, None
    if wanted and not is_complete:
        driver = find_driver(context, request, wanted, spec.environment)
        wanted = wanted if driver else None
    if wanted:
        gpus = Gpu.list()
        chosen = wanted.choose(host.get("CUDA_VISIBLE_DEVICES"), gpus)
    if driver:
        edits.merge(driver.edits(wanted.needed_capabilities(spec.environment), chosen, gpus, host))
        edits.first_library_directory = driver.forward_compatibility(spec.tree)
    edits.devices += request.devices + (graphics_nodes() if request.options.dri else [])
    if not (wanted or request.named_devices or edits.devices):
        return None
    return edits, dict(gpu_variables(host, wanted, chosen), **edits.environment)


def link_mounts(context, edits, is_needed):
    """The Mounts of the host's libraries and programs; EngineError where they are needed and cannot be had."""
    if not edits.files:
        return []
    try:
        return edits.link_mounts(context.findings.keep_links(edits.links()))
    except OSError as error:
        what = "links to the host's files cannot be kept in %s: %s" % (context.findings.directory, error.strerror)
        if is_needed:
            raise EngineError(what, "UDOCKER_DIR names a store that can be written to")
        say.warning(what)
        return []


def add_devices(context, request, spec):
    """Add to a RunSpec the mounts and variables of the devices that are asked for."""
    found = find_edits(context, request, spec)
    if not found:
        return
    edits, variables = found
    by_hand = dict(request.variables)
    spec.environment.update({name: value for name, value in variables.items() if name not in by_hand})
    edits.extend_search_paths(spec.environment)
    mounts = edits.mounts + link_mounts(context, edits, request.insists_on_gpus)
    seen = {mount.guest for mount in spec.mounts if mount.guest == mount.source}
    mounts += [mount for mount in edits.devices
               if mount.guest != mount.source or "/" + mount.guest.split("/")[1] not in seen]
    mounts = [mount for mount in mounts if not {mount.source, mount.guest} & request.excluded]
    spec.mounts = arrange_mounts(mounts + spec.mounts)


MPI_HINT = "without --mpi the container's own is used, which must understand the host's launcher"
MPI_SURVEY_AGE = 86400      # seconds for which a survey of the host's MPI is believed


def survey_mpi(context, library):
    """The survey of a MpiLibrary of the host: the noted one, else a new one. JSON, as names may hold anything."""
    import json
    findings, status = context.findings, os.stat(library.path)
    variables = [context.environment.get(name, "") for name in ("LD_LIBRARY_PATH",) + library.VARIABLES]
    subject = "MPI %s %d %d %s" % (os.path.realpath(library.path), status.st_size, status.st_mtime_ns,
                                   " ".join(variables))
    text = findings.recall(subject, MPI_SURVEY_AGE)
    if not text:
        text = json.dumps(library.survey(context.environment, context.host.machine))
        findings.remember(subject, text)
    return json.loads(text)


def check_c_library(tree, replaced, survey):
    """EngineError where a container's C library is older than what the host's MPI needs."""
    guest = GuestLibraries(tree).find("libc.so.6", replaced.machine)
    if not guest:
        raise EngineError("--mpi: the container has no glibc, with which the host's MPI was made", MPI_HINT)
    needed = tuple(survey["glibc"])
    own = newest_glibc(read_file(tree.path(guest), 1 << 26))
    if needed > own:
        raise EngineError("--mpi: the host's MPI needs glibc %d.%d, and the container has %d.%d" % (needed + own),
                          MPI_HINT)


def match_mpi(context, spec):
    """(MpiLibrary of the host, the one of the container that it stands in for); EngineError where none can."""
    own = MpiLibrary.of_container(spec.tree, spec.environment)
    if not own:
        raise EngineError("--mpi: the container has no MPI library",
                          "looked for %s in its LD_LIBRARY_PATH, beside its mpiexec and where its loader looks" % (
                              ", ".join(MpiLibrary.NAMES)))
    found = MpiLibrary.of_host(context.environment, context.host.machine)
    if not found:
        raise EngineError("--mpi: this host has no MPI library", "load the module that sets LD_LIBRARY_PATH or PATH")
    pairs = [(library, own[name]) for name, library in found.items()
             if name in own and own[name].machine == library.machine]
    if not pairs:
        raise EngineError("--mpi: the container has %s and the host %s: neither can stand in for the other" % (
            " and ".join(own), " and ".join(found)), MPI_HINT)
    maker = "Open MPI" if "PMIX_RANK" in context.environment else "MPICH"
    return ([pair for pair in pairs if pair[0].maker == maker] or pairs)[0]


def add_mpi(context, request, spec):
    """Add to a RunSpec the host's MPI in place of the container's; returns its MpiLibrary."""
    library, replaced = match_mpi(context, spec)
    survey = survey_mpi(context, library)
    check_c_library(spec.tree, replaced, survey)
    edits = library.edits(replaced, spec.tree, survey)
    for name in set(library.VARIABLES).difference(dict(request.variables)):     # the image's lead to what is not used
        spec.environment.pop(name, None)
        if name in edits.environment:
            spec.environment[name] = edits.environment[name]
    edits.extend_search_paths(spec.environment)
    spec.mounts = arrange_mounts(edits.mounts + link_mounts(context, edits, True) + spec.mounts)
    if is_first_rank(context.environment):
        say.info("the host's %s stands in for the container's %s/%s" % (
            library.path, replaced.directory, replaced.name))
        if library.is_older(library.path, replaced.path):
            say.warning("the host's is older: a program that uses newer functions will not start")
    return library


def lone_ranks_reason(environment, is_passed, kinds):
    """Why the ranks that a launcher starts would each be alone, by the launcher's variables, whether the command gets
    them, and the kinds of MPI library that it may use; "" where nothing says so."""
    is_pmix, is_pmi = "PMIX_RANK" in environment, "PMI_RANK" in environment or "PMI_FD" in environment
    if not is_pmix and not is_pmi:
        return "srun hands on nothing by which MPI's ranks find each other: srun --mpi=pmix or --mpi=pmi2 does"
    if not is_passed:
        return "without --hostenv the ranks of an MPI program do not hear of each other"
    if is_pmix and not is_pmi and kinds == {"MPICH"}:
        return ("PMIx starts the ranks, which few builds of MPICH understand, and there is no other: start them with "
                "mpiexec of MPICH or srun --mpi=pmi2, or say run --mpi where the host's MPI understands it")
    if is_pmi and not is_pmix and "MPICH" not in kinds:
        return ("PMI starts the ranks, which few builds of Open MPI understand, and there is no other: start them with "
                "mpiexec of Open MPI or srun --mpi=pmix, or say run --mpi where the host's MPI understands it")
    is_step = "SLURM_STEP_ID" in environment and "SLURM_NODELIST" in environment    # which it takes for srun's
    if "PRTE_LAUNCHED" in environment and kinds == {"Open MPI 4"} and not is_step:
        return ("mpiexec of Open MPI 5 starts the ranks, which Open MPI 4 and older do not understand: say run --mpi, "
                "or start them with srun --mpi=pmix")
    return ""


def warn_of_lone_ranks(context, request, spec, standing_in):
    """Tell once for a job when the MPI in its containers, or the MpiLibrary (or None) that stands in for it, will not
    find the launcher."""
    environment = context.environment
    sizes = [environment.get(name, "") for name in ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")]
    if not is_first_rank(environment) or not set(sizes) - {"", "1"}:
        return
    libraries, needed = MpiLibrary.of_container(spec.tree, spec.environment), spec.needed_libraries()
    # A script may start a program of any of them
    wanted = set(map(MpiLibrary.common_name, needed))
    used = {interface: library for interface, library in libraries.items()
            if MpiLibrary.common_name(library.name) in wanted} or libraries
    if standing_in and standing_in.interface in used:
        used = {standing_in.interface: standing_in}
    kinds = {library.kind for library in used.values()}
    is_passed = request.needs_host_environment or bool({"PMI_RANK", "PMIX_RANK"} & set(dict(request.variables)))
    reason = lone_ranks_reason(environment, is_passed, kinds) if kinds else ""
    if reason:
        say.warning(reason)


def given_entrypoint(text, tree):
    """The words of --entrypoint: for docker the name of one program, for the older udocker a line of them."""
    if " " not in text or os.path.exists(tree.path(text)):
        return [text] if text else []
    import shlex
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError("--entrypoint=%s: %s" % (text, str(error).lower()))


def guest_command(request, config, argv, tree):
    """The words to execute: entrypoint and command as docker combines them, else a shell."""
    entrypoint = request.options.entrypoint
    if entrypoint is None:
        words = config.entrypoint + (argv or config.command)
    else:
        words = given_entrypoint(entrypoint, tree) + argv
    if not words:
        words = [shell for shell in ("/bin/bash", "/bin/sh") if os.path.exists(tree.path(shell))][:1]
    if not words:
        raise CommandNotFoundError("no command was given, and the image names none")
    return words


def default_user(context):
    """Who runs a command when neither the user nor the image says: root, as docker has it.

    Where PMIx starts the ranks of a job, as mpiexec of Open MPI and srun --mpi=pmix have it, it is the caller: PMIx
    compares the ids of both ends of its sockets.
    """
    if "PMIX_RANK" in context.environment:
        say.debug("a rank of PMIx: the command runs under your own id")
        return str(context.host.uid)
    return ""


def check_working_directory(spec):
    """Make it where it is missing and can be made now, which nothing is in a read-only volume; EngineError where it
    cannot be."""
    if any((spec.directory + "/").startswith(mount.guest + "/") for mount in spec.memory_mounts) or spec.is_ephemeral:
        return      # it comes to be inside
    tree = spec.tree
    try:
        guest = tree.resolve(spec.directory)
        covering = [mount for mount in spec.mounts if (guest + "/").startswith(mount.guest + "/")]
        if covering and covering[-1].is_read_only:
            path = tree.path(guest)
            os.stat(path)
        else:
            path = tree.make_mount_point(spec.directory, True)
    except OSError as error:
        raise EngineError("%s: cannot be the working directory: %s" % (spec.directory, error.strerror),
                          "--workdir= names another one")
    if not os.path.isdir(path):
        raise EngineError("%s: cannot be the working directory: it is a file" % spec.directory,
                          "--workdir= names another one")


def warn_of_foreign_tree(context, spec):
    """Ids that namespaces do not know can own nothing that an overlay changes: EOVERFLOW. user_namespaces(7)"""
    status = os.stat(spec.root)
    is_own = (status.st_uid, status.st_gid) == (context.host.uid, context.host.gid)
    if spec.is_ephemeral and not is_own and is_first_rank(context.environment):
        say.warning("--ephemeral: the container is another user's or group's, so nothing in it can be changed even so; "
                    "in a squashfs of it (udocker export --squashfs) all can, and --tmpfs=PATH gives one directory")


def build_spec(context, root, config, argv, request):
    """The RunSpec for a tree and what was asked."""
    config = ImageConfig({}) if request.options.nometa else config
    mounts = request.all_mounts(context)
    spec = RunSpec(root, [], {}, None, mounts, kernel=request.options.kernel or "")
    spec.host_name = request.options.hostname or ""
    spec.is_read_only, spec.is_ephemeral = bool(request.options.read_only), bool(request.options.ephemeral)
    spec.memory_mounts = request.memory_mounts
    spec.ports = [port for port in request.ports if not port.is_same]
    spec.has_no_network = request.options.network == "none"
    spec.step = request.step
    tree = spec.tree
    spec.account = Account.find(request.options.user or config.user or default_user(context), tree, context.host)
    spec.directory = os.path.normpath("/" + (request.options.workdir or config.working_directory or "/").lstrip("/"))
    spec.environment = guest_environment(context, request, config, spec.account, tree)
    spec.argv = guest_command(request, config, argv, tree)
    add_devices(context, request, spec)
    warn_of_lone_ranks(context, request, spec, add_mpi(context, request, spec) if request.options.mpi else None)
    check_working_directory(spec)
    warn_of_foreign_tree(context, spec)
    return spec


def known_config(context, word):
    """What the container or image of the store named `word` says of running it."""
    known = context.containers.find(word) or context.images.find(images_of(context, word)[0])
    return known.config() if known else ImageConfig({})


def locate_foreign_tree(context, word, directory):
    """(root, config) of --location: a tree, or the directory of a container.

    What is said of running it is taken from beside it, else from the container or image of the store named `word`.
    """
    root = os.path.abspath(directory)
    if not os.path.isdir(root):
        raise NotFoundError("%s: no such directory to run in, and no squashfs or SIF file" % root)
    home = os.path.dirname(root)
    if os.path.isdir(root + "/ROOT"):
        root, home = root + "/ROOT", root
    if Conversion(home).states():
        raise EngineError("%s: it is converted for a Fakechroot mode, and so runs as a container of its store" % root,
                          "udocker setup --execmode=P1 CONTAINER gives its tree back as it was")
    if os.path.exists(home + "/container.json"):
        return root, Container(home).config()
    return root, known_config(context, word)


def find_tree_file(word, location):
    """The TreeFile that `run` was given by its path, None where it was given something else."""
    path = location or word
    if (location or "/" in word) and TreeFile.is_at(path):
        return TreeFile(os.path.abspath(path))
    if not location and word.startswith(("/", "./", "../")):
        raise NotFoundError("%s: no squashfs or SIF file" % word, "--location= runs the tree in a directory")
    return None


def check_changes(context):
    """EngineRefusedError where mode N1 cannot keep changes apart from a tree here."""
    engine = NamespaceEngine("N1", context.host, context.temporary)
    engine.is_ephemeral = True
    context.prover.check(engine)


def check_mounting(context):
    """EngineError where the mode to be used, or this host, cannot mount a TreeFile."""
    if context.default_mode != "N1" and not is_mode_free(context):
        raise EngineRefusedError("mode %s mounts no files" % context.default_mode, "mode N1 does")
    check_changes(context)
    TreeMount.programs()


def fate_of_tree_files(context):
    """What becomes on this host of a squashfs or SIF file that is run, in words."""
    try:
        check_mounting(context)
        return "mounted by " + " or ".join(TreeMount.programs())
    except EngineError as error:
        unpacker = TreeFile.unpacker()
        fate = "unpacked for each run by %s" % unpacker if unpacker else "not run, as there is no unsquashfs either"
        return "%s: %s%s" % (fate, error.message, error.hint and " (%s)" % error.hint)


def mount_tree(context, file, step):
    """The path of a TreeFile's tree, in namespaces that this process is in from now on, with all ranks of a JobStep (or
    None); EngineError where that cannot be."""
    check_mounting(context)
    key = "%s\n%s" % (step.key if step else new_token(), file.identity)
    try:
        # What is in the directory keeps it from being replaced by that of another run
        mount = TreeMount(file, context.findings.keep_links({"squashfs": "mounted here"}))
        kernel = Kernel()
        SharedNamespaces(context.temporary, key, step.local_size if step else 1).join(kernel, mount.make)
        kernel.let_look(True)       # no container is in these
    except OSError as error:
        raise EngineError("%s: %s" % (error.filename, error.strerror))
    return mount.point


def prepare_tree_file(context, file, request):
    """The path at which the tree of a TreeFile is mounted; "" where it is to be unpacked for this one run."""
    options = request.options
    if options.name is not None or options.cidfile or options.detach:
        raise UsageError("%s is no container of the store, and gets neither name nor id" % file.path,
                         "leave out --name=, --cidfile= and --detach")
    if options.pull or options.registry or options.platform:
        say.warning("%s is a file: nothing is pulled for it" % file.path)
    try:
        root = mount_tree(context, file, request.step)
        options.rm, options.ephemeral = False, True
        return root
    except EngineError as error:
        if not TreeFile.unpacker():
            raise EngineError("%s can be neither mounted (%s) nor unpacked (there is no %s)" % (
                file.path, error.message, TreeFile.UNPACKER), "install squashfuse, or squashfs-tools")
        tell_once(context, say.info, "%s is unpacked for each run, and not mounted: %s" % (file.path, error.message))
        options.rm, options.ephemeral = True, False
        return ""


SIF_RUNSCRIPT = "/.singularity.d/runscript"


def sif_entrypoint(variables):
    """What apptainer does before it executes something in a SIF: variables (name, value) given by hand come last."""
    import re
    names = [name for name, _ in variables if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)]
    lines = ["udocker_kept_%s=$%s" % (name, name) for name in names]
    lines.append('for file in /.singularity.d/env/*.sh; do [ ! -f "$file" ] || . "$file"; done')
    # bash lets nobody set some of its own, which then are as they were
    lines += ['[ "$%s" = "$udocker_kept_%s" ] || export %s="$udocker_kept_%s"' % ((name,) * 4) for name in names]
    return ["/bin/sh", "-c", "\n".join(lines + ['exec "$@"']), "sh"]


def describe_tree(context, file, word, request, root):
    """What the tree of a TreeFile says itself of running it, else what the store says of `word` (with --location)."""
    tree, place = GuestTree(root), "/%s/container.json" % NOTES_PLACE
    note, gpus = tree.path(place), tree.path("/%s/nvidia" % NOTES_PLACE)
    if os.path.isfile(note):
        request.is_marked = os.path.exists(gpus)
        with Naming(file.path):         # what cannot be read is damaged in it
            return ImageConfig.parse(read_file(note), "%s: %s" % (file.path, place))
    if tree.has_directory(os.path.dirname(SIF_RUNSCRIPT)):
        script = SIF_RUNSCRIPT if os.path.exists(tree.path(SIF_RUNSCRIPT)) else "/bin/sh"
        return ImageConfig({"config": {"Entrypoint": sif_entrypoint(request.variables), "Cmd": [script]}})
    return known_config(context, word) if request.options.location else ImageConfig({})


def make_for_run(context, request, make):
    """make(id) gives a Container for this run alone: its mark tells where that was killed."""
    open_store(context)
    mark = request.mark = RunMark(context.layout, new_container_id())
    with Undoing(mark.end, Container(context.layout.container(mark.id))):
        mark.make(context.host)
        return make(mark.id)


def unpack_tree_file(context, file, word, request):
    """A Container of a TreeFile, there for this run alone."""
    sweep_containers(context)

    def make(id_):
        with NewContainer(context.layout, id_) as new, Naming(context.layout.containers), Work(
                "unpacking %s" % file.path):
            file.unpack(new.root)
            fix_permissions(new)
            config = describe_tree(context, file, word, request, new.root)
            return new.publish(config, file.path, mode=convert_new(context, new))

    return make_for_run(context, request, make)


def is_sharing_trees(context, options):
    """Whether a run may do with a tree that others have too, as keep_trees has it: no container of its own is asked
    for, and changes can be kept apart here."""
    is_wanted = context.settings["keep_trees"] and options.rm and not (
        options.name is not None or options.cidfile or options.kernel or options.detach
        or options.ephemeral is False)
    if not is_wanted or context.default_mode != "N1" and not is_mode_free(context):
        return False
    try:
        check_changes(context)
        return True
    except EngineRefusedError as error:
        tell_once(context, say.warning, "keep_trees: changes cannot be kept apart here: " + error.message)
        return False


def unpack_kept_tree(context, image, tree):
    """Make the Container that runs of an Image share, or wait for another run that makes it; those of images that have
    gone, or are newer here, go."""
    known = {kept_tree_id(other) for other in context.images.list()}
    drop_kept_trees(context, [old for old in context.containers.kept_trees() if old.id not in known
                              and is_older(old.path + "/lock", 86400)])      # locks may count on one machine alone
    prepare_container(context, None)
    new = NewContainer(context.layout, tree.id)
    try:
        with new:
            if not new.lock.is_held:
                tell_once(context, say.warning, "keep_trees: locks do not work in " + context.layout.containers)
                return
            unpack_image(context, image, new.root)
            if kept_tree_id(image) == tree.id:          # else its name is another one's by now
                new.publish(image.config(), str(image), mode="N1")
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        try:
            with Lock(new.lock.path, is_shared=True, is_own=True,
                      waiting="waiting for another udocker, which unpacks %s" % image):
                pass
        except (FileNotFoundError, PermissionError):    # it is done; or another user's
            pass


def hold_kept_tree(context, image):
    """The Container whose tree the runs of an Image share, unpacked by the first of them; this process holds it from
    now on. None where it cannot, or where it is another user's, who may have changed it."""
    id_ = kept_tree_id(image)
    if not id_:
        return None
    tree = Container(context.layout.container(id_))
    if not os.path.lexists(tree.path):
        unpack_kept_tree(context, image, tree)
    if not tree.is_own():
        return None
    hold = Lock(tree.path + "/lock", is_shared=True, is_own=True)
    try:
        hold.acquire()
        os.utime(hold.descriptor)
        is_same = os.path.samestat(os.fstat(hold.descriptor), os.lstat(hold.path))
    except OSError as error:            # gone already
        say.debug("%s: %s" % (tree.path, error.strerror))
        return None
    return tree if hold.is_held and is_same and tree.is_own() else None


def locate_container(context, word, request):
    """The Container that `run` shall run: by id or name, else a new one of an image, pulled where it is not here."""
    options = request.options
    container = context.containers.find(word)
    if container and options.platform and not is_for(container.config(), options.platform):
        raise ConflictError("%s is a container for %s, not for %s" % (
            word, container.config().platform, options.platform), "udocker run IMAGE makes one for the other")
    if container and options.name is not None:
        context.containers.add_name(container, options.name)
    if container:
        if options.rm and is_first_rank(context.environment):
            say.info("--rm: %s goes when its command has ended, with all that is in it" % word)
        if options.pull or options.registry:
            say.warning("%s is a container: nothing is pulled for it" % word)
        settle(container)
        RunMark(context.layout, container.id).drop()
        return container
    if TreeFile.is_at(word) and not has_image(context, word):
        raise NotFoundError("%s: no container or image of that name" % word, "udocker run ./%s runs the file" % word)
    wish = ImageWish(images_of(context, word)[0], options.pull or "missing", options.platform, options.registry)
    if not options.rm:
        return create_container(context, wish, options.name)
    if is_sharing_trees(context, options):
        tree = hold_kept_tree(context, wish.find(context) or wish.pull(context, None))
        if tree:
            options.ephemeral = request.is_sharing = True
            return tree
    return make_for_run(context, request, lambda id_: create_container(context, wish, options.name, id_=id_))


def remove_after_run(context, container, mark):
    """The end of --rm, with the RunMark where there is one; what stands in its way must not hide how the command
    ended."""
    try:
        try:
            if container.is_protected:
                raise ProtectedError("it is protected", "udocker unprotect %s" % container.id)
            remove_container(context, container)
            sweep_containers(context)
        finally:
            if mark:
                mark.end(container)
    except Error as error:
        say.warning("the container %s is not removed: %s" % (container.id, error))
    except OSError as error:
        say.warning("the container %s is not removed, udocker prune tries it again: %s: %s" % (
            container.id, error.filename, error.strerror))


def add_hosts(spec, lines, area):
    """Lines for /etc/hosts: the command sees a file in `area`, the host's with these behind it."""
    try:
        known = read_file("/etc/hosts")
    except OSError:
        known = b""
    path, content = area.path + "/hosts", known.rstrip(b"\n") + b"\n" + "".join(lines).encode("ascii")
    write_atomic(path, content, 0o644)
    own = Mount(path, "/etc/hosts", content=sha256_digest(content))
    spec.mounts = [mount for mount in spec.mounts if mount.guest != "/etc/hosts"] + [own]


def apply_limits(request):
    """Processors and limits, which this process has from now on and passes on to the command."""
    if request.processors:
        try:
            os.sched_setaffinity(0, request.processors)
        except OSError as error:
            raise EngineError("--cpuset-cpus: %s" % error.strerror, "here there are %s" % ", ".join(
                map(str, sorted(os.sched_getaffinity(0)))))
    for number, soft, hard in request.limits:
        import resource
        most = resource.getrlimit(number)[1]
        is_bound = most >= 0 and os.getuid() != 0
        bounded = [most if is_bound and not 0 <= value <= most else value for value in (soft, hard)]
        if bounded != [soft, hard]:
            say.warning("--ulimit: a plain user has %d at most of what %d:%d was asked for" % (most, soft, hard))
        try:
            resource.setrlimit(number, bounded)
        except (OSError, ValueError) as error:
            raise EngineError("--ulimit: %s" % error)


CIDFILE_HINT = "remove it where no run is using it any more"


def check_cidfile(path):
    """Raises where --cidfile names a file that is there, or a directory that is not: no container is made then."""
    if os.path.lexists(path):
        raise ConflictError("--cidfile=%s: is there already" % path, CIDFILE_HINT)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise NotFoundError("--cidfile=%s: the directory is missing" % path)


def write_container_id(path, container):
    """--cidfile: the id goes into a file that must not be there yet."""
    try:
        descriptor = os.open(path, NEW_FILE, 0o644)
    except FileExistsError:
        raise ConflictError("--cidfile=%s: is there already" % path, CIDFILE_HINT)
    with os.fdopen(descriptor, "wb") as file:
        file.write(container.id.encode())


def publish_ports(request, config):
    """Have a port of the host's for each that is to be published, those that the image names with --publish-all."""
    options = request.options
    if options.network == "none" and (request.ports or options.publish_all):
        say.warning("--publish: nobody comes to a command without network")
        request.ports = []
        return
    for text in config.exposed_ports + options.expose if options.publish_all else ():
        try:
            request.ports += [port for port in PublishedPort.parse_all(text)
                              if not any(map(port.is_at_odds, request.ports))]
        except UsageError:
            say.warning("%s: is exposed, and cannot be published" % text)
    for port in request.ports:
        if not port.host:
            port.find(request.ports)
            say.info("port %d/%s is the host's %d" % (port.guest, port.protocol, port.host))
        elif not request.step:          # a rank of a job has neighbours
            port.check()


def settle_network(request, engine, spec):
    """Tell what an engine cannot do for the network, and ask nothing of it that it cannot."""
    lack = lack_of_network(engine, spec)
    if lack:
        say.warning(lack + "; mode N1 can")
    if not engine.maps_ports:
        spec.ports, request.ports = [], [port for port in request.ports if port.is_same]


CRASHES = (134, 139)        # what shells say of SIGABRT and SIGSEGV


def check_executable(spec):
    """CommandNotExecutableError where the file system of the tree lets nothing be executed."""
    if os.statvfs(spec.root).f_flag & os.ST_NOEXEC and not spec.is_ephemeral:
        raise CommandNotExecutableError("%s: mounted noexec, so that no program in it can be executed" % spec.root,
                                        "UDOCKER_CONTAINERS= names another place; in mode N1 --ephemeral does without")


def is_changing_on_disk(context, spec):
    """Whether what an --ephemeral run changes is kept on disk: before Linux 6.6 memory has no user attributes, by which
    overlays know that a directory is gone. The ranks of a job, which share it, would leave it behind."""
    return spec.is_ephemeral and context.host.kernel_version < (6, 6) and not spec.step


def place_for_changes(context, area):
    """A directory in a WorkArea for the changes of an --ephemeral run; "" where it has no user attributes either."""
    path = area.path + "/changes"
    os.mkdir(path, 0o700)
    try:
        os.setxattr(path, "user.udocker", b"")
        return path
    except OSError as error:
        tell_once(context, say.warning, "--ephemeral: before Linux 6.6 a directory of the container cannot be removed, "
                  "but where short-lived files are on ext4, xfs or the like (UDOCKER_TMPDIR=), and %s is not: %s" % (
                      os.path.dirname(area.path), error.strerror))
        return ""


def run_in_tree(context, spec, mode, title, request, container):
    """Run a RunSpec in the engine for `mode`: returns its exit status, or becomes the command.

    `container` is None where the tree is no container of the store.
    """
    options = request.options
    is_on_disk = is_changing_on_disk(context, spec)
    area = WorkArea(context.temporary) if request.host_lines or is_on_disk else None
    try:
        if area:
            area.make()
        if request.host_lines:
            add_hosts(spec, request.host_lines, area)
        if is_on_disk:
            spec.changes = place_for_changes(context, area)
        check_executable(spec)
        if not steps_of(mode or context.default_mode):          # Fakechroot hardly knows volumes at other places
            add_account(context, request, spec)
        engine = choose_engine(context, mode, spec, container)
        apply_limits(request)
        shown = set(engine.always_shown) - {mount.guest for mount in spec.mounts}
        if shown:
            say.warning("mode %s shows %s all the same" % (engine.mode, " and ".join(sorted(shown))))
        if say.is_terminal() and not options.nobanner:
            say.info("running %s in mode %s" % (title, engine.mode))
        spec.is_in_background = bool(request.detachment)
        settle_network(request, engine, spec)
        if request.record:
            request.record.write(request)
        invocation = engine.invocation(spec)
        if request.detachment:
            request.detachment.redirect()
        if not (options.rm or options.init or options.detach or area or invocation.needs_supervisor):
            invocation.execute()
        supervisor = Supervisor(invocation, guardian=request.guardian,
                                tell_start=request.detachment and request.detachment.tell_start)
        status = supervisor.run()
        request.ending_signal = supervisor.ending_signal
        if engine.flaw and status in CRASHES:
            say.warning("it may be the engine that this died of: %s; %s" % (engine.flaw, FLAW_HINT % engine.mode))
        return status
    finally:
        if area:
            with HeldSignals():
                area.remove()


def locate_tree(context, word, file, mounted, request):
    """(path of the tree, ImageConfig, mode, Container or None) of what `run` shall run: a TreeFile or None, the path
    where that is mounted or "", else what `word` or --location names."""
    if mounted:
        return mounted, describe_tree(context, file, word, request, mounted), "N1", None
    if request.options.location and not file:
        return locate_foreign_tree(context, word, request.options.location) + ("", None)
    if file:
        container = unpack_tree_file(context, file, word, request)
    else:
        container = locate_container(context, word, request)
    request.is_marked = request.is_marked or container.needs_gpus
    return container.root, container.config(), container.mode, container


class RunRecord:
    """Beside a container's tree, what one more command in it has in common with the run that goes on, as docker has it:
    the options of that run, and the names of its variables, whose values its processes have."""

    OPTIONS = ("workdir", "user", "volume", "tmpfs", "novol", "hostauth", "containerauth", "hostenv", "mpi", "bindhome",
               "nosysdirs", "nometa", "kernel", "hostname", "add_host", "dri", "read_only", "gpus", "nvidia", "device",
               "publish", "network")
    MAX_SIZE = 1 << 20      # bytes

    def __init__(self, host, container):
        self.path = container.path + "/run.json"
        self.root = container.root
        self.host = host

    def write(self, request):
        """Nothing is written where the run asks for nothing special. The ranks of a job write none."""
        options = {name: getattr(request.options, name) for name in self.OPTIONS}
        options["volume"] = ["%s:%s%s" % (mount.source, mount.guest, ":ro" * mount.is_read_only)
                             for mount in request.mounts if ":" not in mount.source + mount.guest]
        options["publish"] = list(map(str, request.ports))
        options["tmpfs"] = ["%s:%s" % (mount.guest, mount.options) for mount in request.memory_mounts
                            if ":" not in mount.guest]
        options = {name: value for name, value in options.items() if value}
        names = [name for name, _ in request.variables]
        if not options and not names or request.step:
            return
        pid = os.getpid()
        document = {"boot": boot_of(self.host), "pid": pid, "started": process_start(pid),
                    "options": options, "variables": names}
        try:
            write_atomic(self.path, line_of_json(document).encode("ascii"), 0o600)
        except OSError as error:
            say.debug("%s: %s" % (self.path, error.strerror))

    def _read(self):
        """(process id of the command, options, names of variables) of the run that goes on; None where none does."""
        try:
            with Closing(os.open(self.path, OLD_FILE)) as descriptor:
                is_own = os.fstat(descriptor).st_uid == os.getuid()
                document = parse_json(os.read(descriptor, self.MAX_SIZE) if is_own else b"{}", self.path)
        except (Error, OSError):
            return None
        pid = self._command(document)
        return (pid, object_of(document.get("options")), strings_of(document.get("variables"))) if pid else None

    @property
    def ports(self):
        """The PublishedPorts of the run that goes on."""
        _, known, _ = self._read() or (0, {}, [])
        return [port for text in strings_of(known.get("publish")) for port in PublishedPort.parse_all(text)]

    def complete(self, options):
        """Give options that were not given the values of the run that goes on, where there is one."""
        found = self._read()
        if not found:
            return
        pid, known, variables = found
        for name in self.OPTIONS:
            given, value = getattr(options, name), known.get(name)
            if isinstance(given, list) and isinstance(value, list):
                value = [text for text in strings_of(value) if name != "volume" or os.path.exists(text.split(":")[0])]
                setattr(options, name, value + given)
            elif given is None and isinstance(value, (str, bool)) and not (
                    name in ("hostauth", "containerauth") and (options.hostauth or options.containerauth)):
                setattr(options, name, value)
        options.env = self._variables(pid, variables) + options.env

    def _command(self, document):
        """The id of the command that the run of a document has started in this container and that goes on; else 0."""
        pid = document.get("pid")
        if document.get("boot") != boot_of(self.host) or not isinstance(pid, int) or (
                process_start(pid) != document.get("started")):
            return 0
        below, pending = set(), [pid]
        while pending:
            below.add(pending[-1])
            pending += set(Host.children(pending.pop())) - below
        return next((found for found in TreeProcesses(self.root).commands() if found in below), 0)

    @staticmethod
    def _variables(pid, names):
        """NAME=VALUE of those of a process that have these names."""
        try:
            entries = read_file("/proc/%d/environ" % pid).split(b"\0")
        except OSError:
            return []
        return [entry for entry in map(os.fsdecode, entries) if entry.partition("=")[0] in names]


class Detachment:
    """The way of a run into the background, in a `with` block that only a new process enters: the first one waits until
    the command is started, so that whatever stands in its way is told there, and ends."""

    def __init__(self, run, is_input_open):
        """`run` is a BackgroundRun, or None where nothing is kept. With `is_input_open` the command's input is one that
        nothing comes from, else one that has ended."""
        self.run = run
        self.is_input_open = is_input_open
        self.is_started = False

    def __enter__(self):
        reader, self.writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(self.writer)
            self._leave(reader, pid)
        os.close(reader)
        self.guardian = os.getpid()
        status = Guardian(is_apart=True).fork()
        if status is not None:
            os._exit(status)
        self.talk = os.dup(2)
        if self.run:
            self.run.begin()
        return self

    def _leave(self, reader, pid):
        """The end of the first process, which has no more to do with the run. A Ctrl-C reaches the other one too, which
        ends and tells how."""
        signal, status = quick_module("signal"), 125
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            if os.read(reader, 1):
                status = 0
                if self.run:
                    say.result(self.run.container.id)
            else:
                status = exit_code(os.waitpid(pid, 0)[1])
        except OSError as error:
            status = 1
            say.error(Error("%s: %s" % (Say.OUTPUT, error.strerror)))
        finally:
            os._exit(status)

    def redirect(self):
        """From now on nothing comes from where udocker was typed, and nothing goes there."""
        os.setsid()
        for number in list(inherited_descriptors()):        # a lock would last, and the reader of a pipe wait
            os.close(number)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        source, self.spring = os.pipe() if self.is_input_open else (null, null)
        self._show(source, self.run.output if self.run else null)

    @staticmethod
    def _show(source, target):
        for number, descriptor in enumerate((source, target, target)):
            os.dup2(descriptor, number)

    def tell_start(self):
        """The command is started: the first process may end. Where it has ended, as it was killed, the run fails."""
        os.write(self.writer, b"1")
        self.is_started = True
        for descriptor in self.writer, self.talk:
            os.close(descriptor)

    def __exit__(self, _, error, __):
        """What kept the command from being started is told where udocker was typed. The output is left: NFS keeps what
        is open when it is removed."""
        if self.is_started and isinstance(error, Error):
            say.error(error)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._show(null, null)
        if not self.is_started:
            os.dup2(self.talk, 2)


def run_in_background(context, container, request, is_exec, run):
    """The exit status of run() in a process of its own, in the background. The first process ends in here."""
    kept = None if is_exec else BackgroundRun(context.host, container)
    with Detachment(kept, request.options.interactive or request.options.tty) as request.detachment:
        request.guardian, status = request.detachment.guardian, 125
        try:
            status = run()
            return status
        except Error as error:
            status = error.exit_status or status
            raise
        finally:
            if kept:
                kept.end(status)


def run_container(context, word, argv, options, is_exec=False):
    """Run a command in a container, image or tree: returns its exit status, or becomes the command. One more in a
    container, `is_exec`, has the options of a run that goes on."""
    if is_exec:
        RunRecord(context.host, context.containers.get(word)).complete(options)
    request = RunRequest(context, options)
    if options.cidfile:
        check_cidfile(options.cidfile)
    file = find_tree_file(word, options.location)
    mounted = prepare_tree_file(context, file, request) if file else ""
    if options.rm or options.detach:
        raise_on_signals()
    if (options.rm or options.init) and not options.detach:
        request.guardian = os.getpid()
        status = Guardian().fork()
        if status is not None:
            return status
    root, config, mode, container = locate_tree(context, word, file, mounted, request)
    try:
        if not os.path.isdir(root):
            raise NotFoundError("%s: the container has no tree" % root, "udocker rm it, and create it anew")
        if options.cidfile and container:
            write_container_id(options.cidfile, container)

        def run():
            if not is_exec:
                publish_ports(request, config)
            if container and not is_exec and not options.ephemeral:       # what is ephemeral cannot be found
                request.record = RunRecord(context.host, container)
            spec = build_spec(context, root, config, argv, request)
            return run_in_tree(context, spec, mode, word, request, container)

        return run_in_background(context, container, request, is_exec, run) if options.detach else run()
    finally:
        if options.rm and container and not request.is_sharing:
            with HeldSignals():
                remove_after_run(context, container, request.mark)


# --- build --------------------------------------------------------------------------------------------

class BuildContext(OpenTree):
    """The files of a directory that a build may have: without those that IgnoreRules leave out, and without a store in
    it, which grows meanwhile."""

    def __init__(self, path, rules, layout):
        super().__init__(path)
        self.rules = rules
        places = [os.path.realpath(place) for place in (layout.home, layout.layers, layout.containers, layout.repos)]
        self.store = {os.path.relpath(place, self.path) for place in places if place.startswith(self.path + "/")}

    @property
    def is_partial(self):
        """Whether something in the directory is not to be seen."""
        return bool(self.rules.rules or self.store)

    def has_entry(self, relative, is_directory):
        """Whether an entry of this name is to be seen. A directory is where something in it is."""
        if relative in self.store or not self.rules.is_left_out(relative):
            return relative not in self.store
        if not is_directory or not self.rules.has_exceptions:
            return False
        with Closing(self.open(relative)) as directory:
            return any(True for _ in self._entries(directory, relative, None))

    def _entries(self, directory, place, on_error):
        for name, status in super()._entries(directory, place, on_error):
            if self.has_entry(name_below(place, name), stat.S_ISDIR(status.st_mode)):
                yield name, status


class StageImage(Image):
    """What a stage of a build has come to: an image that no name leads to yet."""

    is_version_1 = False

    def __init__(self, name, blobs, document, rows):
        """`rows` are (digest, size, compression) of its layers."""
        super().__init__(name, "stage", "", blobs)
        self.document = document
        self.rows = rows

    def config(self):
        return ImageConfig(self.document)

    def layers(self):
        return [(self.blobs.layout.blob(digest), Descriptor(digest, size)) for digest, size, _ in self.rows]


class StageTree:
    """The tree of a stage, where something is to be done to it: from its layers so far."""

    def __init__(self, context, image, holder):
        """It goes with the ExitStack `holder`."""
        self.new = holder.enter_context(NewContainer(context.layout))
        self.root = self.new.root
        os.chmod(self.new.path, 0o700)
        holder.callback(context.findings.drop_files, os.path.realpath(self.root))
        self.origins = {}       # see LayerUnpacker
        if image.rows:
            unpack_image(context, image, self.root, self.origins, is_closed=True)
        self.guest = GuestTree(self.root)
        self.entries = tree_entries(OpenTree(self.root), {})
        self.changes = None     # what look() found
        self.mended = {}

    def make_directory(self, guest):
        """Make a directory, with those above it, where it is missing; ConflictError where something else is there."""
        try:
            path = self.guest.make_mount_point(guest, True)
        except OSError as error:
            if error.errno not in LayerUnpacker.REFUSALS:
                raise
            raise ConflictError("%s: no directory can be here: %s" % (guest, error.strerror), REPLACE_HINT)
        if not os.path.isdir(path):
            raise ConflictError("%s: no directory can be here, as a file is there" % guest, REPLACE_HINT)

    def remove_stubs(self, guests):
        """Remove what was made to bind something at, paths without links, and directories for it that are empty."""
        tree = OpenTree(self.root)
        for guest in guests:
            name = guest.strip("/")
            while name and name not in self.entries:
                name, base = os.path.split(name)
                try:
                    with Closing(tree.open(name)) as directory:
                        status = os.lstat(base, dir_fd=directory)
                        if stat.S_ISDIR(status.st_mode):
                            os.rmdir(base, dir_fd=directory)
                        elif not status.st_size or guest == APT_CONFIG:
                            os.unlink(base, dir_fd=directory)
                except OSError:         # it is not there, or holds something
                    break

    def look(self):
        """Find what has changed, and make readable what is not: `mended` is {name: mode that it had}."""
        self.mended = {}
        entries = tree_entries(OpenTree(self.root), self.mended)
        self.changes, self.entries = changes_between(self.entries, entries), entries

    def write_layer(self, context, given, owner):
        """Write what has changed to a NewLayer; None where nothing has. `given` are origins of what the step has made;
        what else is new belongs to the `owner` (user, group)."""
        if self.changes is None:
            self.look()
        changes, self.changes, mended, entries = self.changes, None, self.mended, self.entries
        forget_origins(self.origins, changes)
        for name, mode in mended.items():
            self.origins[name] = (mode,) + self.origins.get(name, (0, 0, 0))[1:]
        new = [name for name in changes if changes[name] == "A"] if any(owner) else []
        self.origins.update((name, (mended.get(name, stat.S_IMODE(entries[name][0])),) + owner) for name in new)
        self.origins.update(given)
        changes.update((name, "C") for name in given if name in entries and name not in changes)
        if not changes:
            return None
        layer = NewLayer(context.blobs.new())
        with Undoing(layer.close), Work("writing the layer"):
            write_layer(layer, self.root, changes, self.origins, withheld=0)
            layer.finish()
        return layer


class CopySource:
    """Something that COPY or ADD copies: the entry `start` of an OpenTree, as `name`. A directory stands for what is in
    it. `origins` are what an image, or an archive, says of what is there, see LayerUnpacker."""

    def __init__(self, tree, start, name, origins):
        """NotFoundError where nothing is there, or it is not to be seen."""
        self.tree = tree
        self.start = start
        self.name = name
        self.origins = origins
        try:
            _, status, _, _ = next(tree.walk(start))
        except (FileNotFoundError, NotADirectoryError):
            raise self.missing(name, tree)
        self.is_directory, self.is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
        if start and isinstance(tree, BuildContext) and not tree.has_entry(start, self.is_directory):
            raise self.missing(name, tree)

    @staticmethod
    def missing(name, tree=None):
        """The error where nothing has this name, in an OpenTree."""
        place = " in " + tree.path if isinstance(tree, BuildContext) else ""
        return NotFoundError("%s: nothing has this name%s" % (name, place), "names are those below the context, of "
                             "which a .dockerignore may hide some, or in a stage")

    def digest(self):
        """What tells it from others."""
        import hashlib
        total = hashlib.sha256(b"" if self.is_directory else os.fsencode(os.path.basename(self.name)))
        for relative, status, directory, name in self.tree.walk(self.start):
            content = ""
            if stat.S_ISREG(status.st_mode):
                with Closing(open_source(name, directory)) as descriptor:
                    content = file_digest(process_path(descriptor))
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(name, dir_fd=directory)
            total.update(os.fsencode(line_of_json([copied_name(relative, self.start, ""), status.st_mode, content])))
        return total.hexdigest()


def is_path_pattern(text):
    """Whether a name stands for all that match it, of which there may be none."""
    return bool(set(text) & set("*?[\\"))


def matching_paths(tree, pattern):
    """The guest paths in a GuestTree that a pattern of COPY matches; the one that it names where it is no pattern."""
    found = [""]
    for part in os.path.normpath("/" + pattern).strip("/").split("/"):
        if is_path_pattern(part):
            match = path_pattern(part).fullmatch
            found = [name_below(place, name) for place in found for name in tree.entries("/" + place) if match(name)]
        else:
            found = [name_below(place, part) for place in found]
    return found


def is_archive(path):
    """Whether a file is a tar archive, compressed or not."""
    try:
        return next(decompressed(file_pieces(path)), b"")[257:262] == b"ustar"
    except (Error, OSError):
        return False


def owner_of(text, tree, host):
    """(user, group) that --chown names in a GuestTree; of a number that stands alone the group is the same."""
    try:
        account = Account.find(text, tree, host)
    except NotFoundError as error:
        raise NotFoundError(error.message, "a number needs no entry there, as in 1000:1000")
    is_number = ":" not in text and not text.strip("0123456789")
    return account.uid, account.uid if is_number else account.gid


class BuildStage:
    """One stage of a build, as far as it has come."""

    def __init__(self, name, key, document, rows, is_new=False):
        self.name = name
        self.key = key              # tells all that has been done, and to what
        self.document = document    # of an ImageConfig
        self.rows = rows            # (digest, size, compression) of the layers
        self.is_new = is_new        # something was done that no earlier build has kept
        self.arguments = {}         # {name: value} of ARG
        self.tree = None            # StageTree, once there is one
        self.has_command = False    # a CMD of its own
        self.step = ""              # which instruction is at hand

    def copy(self, name):
        """A stage that begins where this one has ended."""
        import copy
        stage = BuildStage(name, self.key, copy.deepcopy(self.document), list(self.rows), self.is_new)
        stage.arguments = dict(self.arguments)
        return stage

    @property
    def run(self):
        """The "config" in its document."""
        return self.document["config"]

    @property
    def values(self):
        """{name: value} of all variables."""
        return dict(self.arguments, **variables_of(self.run))

    def image(self, blobs):
        return StageImage(self.name, blobs, self.document, self.rows)

    def add(self, instruction, row):
        """An instruction is done, with a row of the BuildCache."""
        step = {"created": row["created"], "created_by": str(instruction)}
        if "digest" in row:
            self.rows.append((row["digest"], row["size"], "gzip"))
            self.document["rootfs"]["diff_ids"].append(row["diff_id"])
        else:
            step["empty_layer"] = True
        self.document["history"].append(step)
        self.document["created"] = row["created"]


class StepOutput:
    """In a `with` block a command gets no input, and what it writes goes to standard error, or into a file."""

    def __init__(self, path=""):
        self.path = path

    def __enter__(self):
        self.kept = [os.dup(number) for number in range(3)]
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        target = os.open(self.path, NEW_FILE, 0o600) if self.path else os.dup(2)
        for number, descriptor in enumerate((null, target, target)):
            os.dup2(descriptor, number)
        os.close(null)
        os.close(target)
        return self

    def __exit__(self, *_):
        for number, descriptor in enumerate(self.kept):
            os.dup2(descriptor, number)
            os.close(descriptor)


def find_dockerfile(directory, path):
    """The path of a Dockerfile: that in a directory, where no other one is given; "-" is standard input."""
    names = [path] if path else [os.path.join(directory, name) for name in ("Dockerfile", "Containerfile")]
    for name in names if directory or path else ["-"]:
        if name == "-" or os.path.isfile(name):
            return name
    raise NotFoundError("%s: no such file" % names[0], "-f FILE names another one")


def read_dockerfile(path):
    """The Dockerfile at a path, "-" being standard input."""
    data = b"".join(standard_input()) if path == "-" else read_file(path)
    if compression_of(data[:6]) or data[257:262] == b"ustar":
        raise DocumentError("%s: an archive, and a Dockerfile was expected" % (
            "standard input" if path == "-" else path), "unpack it into a directory, and name that")
    return Dockerfile(data, "Dockerfile" if path == "-" else os.path.basename(path))


def read_ignore_rules(directory, path):
    """The IgnoreRules for a directory: those that lie beside the Dockerfile `path` count first."""
    for name in [path + ".dockerignore"] + [os.path.join(directory, name) for name in (
            ".dockerignore", ".containerignore")]:
        if os.path.isfile(name):
            with Located(name):
                return IgnoreRules(os.fsdecode(read_file(name)).splitlines())
    return IgnoreRules()


def read_secret(text, environment):
    """(id, bytes) of --secret: of a file, or of a variable."""
    given = parse_fields("--secret", text)
    name, path, variable = given.get("id", ""), given.get("source", ""), given.get("env", "")
    if not name or "/" in name or given.get("type", "file") not in ("file", "env"):
        raise UsageError("--secret=%s: it cannot be understood" % text,
                         "write id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if path and given.get("type") != "env":
        if not os.path.isfile(path):
            raise NotFoundError("--secret=%s: %s: no such file" % (text, path))
        return name, read_file(path)
    variable = variable or path or name
    if variable not in environment:
        raise NotFoundError("--secret=%s: there is no variable %s" % (text, variable))
    return name, os.fsencode(environment[variable])


def copy_into(tree, sources, guest, is_directory, change, owner):
    """Copy CopySources into a StageTree, to `guest` or, with `is_directory`, below it. Returns origins of what is new,
    see LayerUnpacker, with the modes that a mode_change() makes, and `owner` (user, group), where they are not None."""
    origins, target = {}, OpenTree(tree.root)
    for source in sources:
        place = tree.guest.resolve(guest).strip("/")
        if is_directory and not source.is_directory:
            place = name_below(place, os.path.basename(source.name))
        tree.make_directory("/" + (place if source.is_directory else os.path.dirname(place)))
        try:
            TreeMerge(source.tree, target, tree.new.path, None, True).copy(source.start, place)
        except ConflictError as error:          # which has the path on the host
            error.message = error.message.replace(target.path, "")
            raise
        for relative, status, _, _ in source.tree.walk(source.start):
            name = copied_name(relative, source.start, place)
            if stat.S_ISDIR(status.st_mode) and name in tree.entries:
                continue
            origin = source.origins.get(relative, (stat.S_IMODE(status.st_mode), 0, 0))
            if relative == source.start and source.is_directory:        # only what is in it is copied
                origin = (0o755, 0, 0)
            mode = origin[0]
            if change and not stat.S_ISLNK(status.st_mode):
                mode = change(mode, stat.S_ISDIR(status.st_mode))
                needed = 0o700 if stat.S_ISDIR(status.st_mode) else 0o400
                with Closing(target.open(os.path.dirname(name))) as directory:
                    set_mode(os.path.basename(name), mode & 0o777 | needed, directory)
            origins[name] = (mode,) + (owner or origin[1:])
    return origins


class BuildFiles:
    """What COPY, ADD and RUN --mount take from elsewhere than a stage."""

    def __init__(self, context, directory, rules):
        """`directory` is the context of the build, or "" where it has none."""
        self.context = context
        self.tree = BuildContext(directory, rules, context.layout) if directory else None
        self.area = WorkArea(context.layout.containers)     # to be made

    def new_place(self):
        """A new directory, which goes with the build."""
        path = self.area.path + "/" + new_token()
        os.mkdir(path)
        return path

    @staticmethod
    def matching(tree, pattern, origins):
        """The CopySources in an OpenTree that a pattern matches; NotFoundError where it is none, and nothing is there.
        """
        guest, found = GuestTree(tree.path), []
        for path in matching_paths(guest, pattern):
            try:
                found.append(CopySource(tree, guest.resolve("/" + path).strip("/"), path or "/", origins))
            except NotFoundError:
                if not is_path_pattern(pattern):
                    raise
        return found

    def sources(self, instruction, patterns, values):
        """The CopySources of COPY and ADD: files of the context, here-documents, and what ADD knows besides."""
        import re
        documents, found = iter(instruction.documents), []
        for pattern in patterns:
            if instruction.documents and re.match("[0-9]*<<", pattern):
                document = next(documents)
                text = document.text if document.is_quoted else DockerfileText(document.text, values, "", "\\$").whole()
                found.append(self._made(document.name, text.encode("utf-8", "surrogateescape")))
            elif instruction.name == "ADD" and re.match("(git@|git://|ssh://).|https?://.*[.]git(#|$)", pattern):
                raise DocumentError("%s: repositories are not fetched here" % pattern,
                                    "git clone it into the context, and COPY that")
            elif instruction.name == "ADD" and re.match("https?://", pattern):
                found.append(self._fetched(pattern, instruction.flag("checksum", values)))
            elif not self.tree:
                raise NotFoundError("%s: there is no context to copy from" % pattern, "name a directory in place of -")
            else:
                found += self.matching(self.tree, pattern, {})
        return found

    def _made(self, name, data):
        """A CopySource of a file that holds some bytes."""
        place = self.new_place()
        write_atomic(place + "/" + name, data, 0o644)
        os.utime(place + "/" + name, (0, 0))
        return CopySource(OpenTree(place), name, name, {})

    def _fetched(self, url, checksum):
        """A CopySource of what lies at a URL; DigestError where it is something else."""
        name = os.path.basename(url.partition("?")[0].partition("#")[0]).strip(".") or "index.html"
        place = self.new_place()
        path = place + "/" + name
        download(self.context.client, url, path)
        if checksum and file_digest(path) != checksum:
            raise DigestError("%s: its digest is %s, and not %s" % (shown_url(url), file_digest(path), checksum))
        os.chmod(path, 0o600)
        os.utime(path, (0, 0))
        return CopySource(OpenTree(place), name, name, {})

    def unpacked(self, source):
        """What ADD makes of a CopySource: one of what is in it, where it is an archive of the context."""
        path = os.path.join(source.tree.path, source.start)
        if source.tree is not self.tree or not source.is_file or not is_archive(path):
            return source
        place, origins = self.new_place(), {}
        unpacker = LayerUnpacker(place, has_whiteouts=False, origins=origins)
        unpacker.apply(path)
        unpacker.finish()
        return CopySource(OpenTree(place), "", source.name, origins)


class DirectoryStep:
    """WORKDIR makes the directory."""

    key = ""
    owner = (0, 0)

    def __init__(self, context, stage):
        self.context = context
        self.stage = stage

    def act(self, tree):
        """What it does to a StageTree; origins of what it has made, see LayerUnpacker."""
        run = self.stage.run
        guest = tree.guest.resolve(run["WorkingDir"])
        tree.make_directory(guest)
        owner, names = owner_of(run.get("User") or "0", tree.guest, self.context.host), guest.strip("/").split("/")
        made = ["/".join(names[:count]) for count in range(1, len(names) + 1)]
        return {name: (0o755,) + owner for name in made if name and name not in tree.entries}


class CopyStep:
    """COPY and ADD."""

    owner = (0, 0)      # of what is new beside the copies

    def __init__(self, build, stage, number, instruction):
        """`number` is that of the stage."""
        self.build = build
        self.stage = stage
        values = stage.values
        words = listed_text(instruction.text, values)
        if len(words) < 2:
            raise DocumentError("%s: cannot be understood" % instruction,
                                "write %s SOURCE... TARGET" % instruction.name)
        self.patterns, self.target = words[:-1], words[-1]
        self.mode, self.chown = instruction.flag("chmod", values), instruction.flag("chown", values)
        self.is_add = instruction.name == "ADD"
        self.change = mode_change(self.mode) if self.mode else None
        other = instruction.flag("from", values)
        self.other = build.other(other, number) if other else None
        self.sources = [] if other else build.files.sources(instruction, self.patterns, values)
        self.key = [words, self.mode, self.chown, self.other.key if other else [
            source.digest() for source in self.sources]]

    def _found(self):
        found = self.sources
        if self.other:
            tree = self.build.tree(self.other)
            origins = {name: (origin[0], 0, 0) for name, origin in tree.origins.items()}
            found = [source for pattern in self.patterns
                     for source in self.build.files.matching(OpenTree(tree.root), pattern, origins)]
        if not found:
            raise CopySource.missing(" ".join(self.patterns))
        return [self.build.files.unpacked(source) for source in found] if self.is_add else found

    def act(self, tree):
        """What it does to a StageTree; origins of what it has made, see LayerUnpacker."""
        found, host = self._found(), self.build.context.host
        guest = os.path.join(self.stage.run.get("WorkingDir") or "/", self.target)
        is_directory = (len(found) > 1 or os.path.basename(self.target) in ("", ".", "..")
                        or tree.guest.has_directory(guest))
        return copy_into(tree, found, guest, is_directory, self.change,
                         owner_of(self.chown, tree.guest, host) if self.chown else None)


class BuildMount:
    """What one --mount of RUN describes. Its `key` tells its content from others', where the layer depends on that."""

    KEYS = {"bind": {"source", "from", "rw", "readwrite", "readonly"}, "tmpfs": {"size"},
            "cache": {"sharing", "mode", "uid", "gid", "readonly"},     # for this one build it is the caller's own
            "secret": {"required", "env", "mode", "uid", "gid"}}

    def __init__(self, build, number, text):
        """`number` is that of the stage."""
        given = parse_fields("--mount", text)
        self.build = build
        self.text = text
        self.kind = given.get("type", "bind")
        unknown = set(given) - self.KEYS.get(self.kind, set(given)) - {"type", "target", "id"}
        if unknown:
            raise DocumentError("--mount=%s: %s is not known here" % (text, sorted(unknown)[0]))
        self.target, self.source = given.get("target", ""), given.get("source", "")
        self.id = given.get("id") or (os.path.basename(self.target) if self.kind == "secret" else self.target)
        self.is_required = given.get("required", "false") == "true"
        self.is_writable = "true" in (given.get("rw"), given.get("readwrite")) or given.get("readonly") == "false"
        self.variable = given.get("env", "")
        self.options = ["size=" + given["size"]] if given.get("size") else []
        if self.kind not in ("bind", "cache", "tmpfs", "secret"):
            raise DocumentError("--mount=%s: only bind, cache, tmpfs and secret are known here" % text)
        if not self.target and self.kind != "secret" or not self.id:
            raise DocumentError("--mount=%s: it has no target" % text)
        self.other = build.other(given["from"], number) if given.get("from") else None
        self.key = [text, self._content() if self.kind == "bind" else ""]

    def _content(self):
        return self.other.key if self.other else self._bound().digest()

    def _bound(self):
        """The CopySource that is bound."""
        tree = OpenTree(self.build.tree(self.other).root) if self.other else self.build.files.tree
        if not tree:
            raise NotFoundError("--mount=%s: there is no context" % self.text, "name a directory in place of -")
        start = GuestTree(tree.path).resolve("/" + self.source).strip("/")
        return CopySource(tree, start, self.source, {})

    def add(self, request, directory):
        """Add it to a RunRequest, for a command that runs in a directory."""
        target = os.path.normpath(os.path.join(directory, self.target))
        if not target.strip("/") and self.target:
            raise DocumentError("--mount=%s: nothing can be put over the root" % self.text, "WORKDIR, or target=/PATH, "
                                "takes another place")
        if self.kind == "tmpfs":
            request.memory_mounts.append(MemoryMount(target, self.options))
        elif self.kind == "cache":
            path = "%s/cache-%s" % (self.build.files.area.path, sha256_digest(os.fsencode(self.id))[7:])
            make_directory(path)
            request.mounts.append(Mount(path, target))
        elif self.kind == "bind":
            request.mounts.append(self._bind(target))
        else:
            self._add_secret(request, target if self.target else "/run/secrets/" + self.id)

    def _bind(self, target):
        """A Mount of what is there, where it can only be read so, else of a copy: also of what is partly left out."""
        source, can_protect = self._bound(), "--volume=HOST:PATH:ro" not in ENGINE_OF_MODE[self.build.mode].lacks
        if can_protect and not self.is_writable and (self.other or not self.build.files.tree.is_partial):
            return Mount(os.path.join(source.tree.path, source.start), target, True)
        place = self.build.files.new_place()
        TreeCopy(source.tree, OpenTree(place)).copy(source.start, "copy")
        return Mount(place + "/copy", target)

    def _add_secret(self, request, target):
        data = self.build.secrets.get(self.id)
        if data is None and self.is_required:
            raise NotFoundError("--mount=%s: there is no such secret" % self.text,
                                "build --secret=id=%s,src=FILE gives one" % self.id)
        if data is None:
            return
        if self.variable:
            request.variables.append((self.variable, os.fsdecode(data)))
        if self.target or not self.variable:
            path = self.build.files.new_place() + "/secret"
            write_atomic(path, data, 0o400)
            request.mounts.append(Mount(path, target))


class RunStep:
    """RUN."""

    SCRIPT = "/run/udocker-build"       # where it sees a here-document that it executes
    SHOWN = 1 << 16         # bytes of what it has written, where it has failed and nobody has seen them

    def __init__(self, build, stage, number, instruction):
        """`number` is that of the stage."""
        self.build = build
        self.stage = stage
        self.instruction = instruction
        if not instruction.text:
            raise DocumentError("RUN: nothing follows it")
        values = stage.values
        self.network = instruction.flag("network", values) or build.options.network
        for flag, usual in (("network", ("", "default", "host", "none")), ("security", ("", "sandbox"))):
            value = instruction.flag(flag, values)
            if value not in usual:
                say.warning("left out, as a plain user cannot have it: --%s=%s" % (flag, value))
        self.mounts = [BuildMount(build, number, DockerfileText(text, values).whole())
                       for text in instruction.flags.get("mount", ())]
        arguments = {name: value for name, value in stage.arguments.items() if name not in build.PROXIES}
        self.key = [instruction.shell_text, sorted(arguments.items()), [mount.key for mount in self.mounts],
                    build.is_told, self.network == "none"]

    def _words(self, request):
        """The words to execute. A here-document that is all of it is a script, which may say what reads it."""
        documents, run = self.instruction.documents, self.stage.run
        if not documents or not all(HereDocument.names(self.instruction.text)):
            return command_words(run, self.instruction.shell_text)
        if not documents[0].text.startswith("#!"):
            return command_words(run, "\n" + documents[0].text)
        path = self.build.files.new_place() + "/script"
        write_atomic(path, documents[0].text.encode("utf-8", "surrogateescape"), 0o755)
        request.mounts.append(Mount(path, self.SCRIPT))
        return [self.SCRIPT]

    def _request(self):
        import copy
        options, build = copy.copy(self.build.run_options), self.build
        variables = {name: value for name, value in build.given.items() if name in build.PROXIES}
        variables.update(self.stage.arguments)
        known = variables_of(self.stage.run)
        vars(options).update(
            rm=True, entrypoint="", nobanner=True, add_host=build.options.add_host, network=self.network,
            user=self.stage.run.get("User") or "0",     # also where the build is a rank of a job
            env=["%s=%s" % item for item in variables.items() if item[0] not in known])
        request = RunRequest(build.context, options)
        request.step, request.guardian = None, build.guardian
        for mount in self.mounts:
            mount.add(request, self.stage.run.get("WorkingDir") or "/")
        return request

    def act(self, tree):
        """What it does to a StageTree; origins of what it has given to others, see LayerUnpacker."""
        with OwnerNotes(self.build.files.new_place() + "/owners", tree.root, tree.origins) as notes:
            self._execute(tree, notes)
            tree.look()
            return notes.origins(tree.mended, tree.entries, tree.changes)

    def _execute(self, tree, notes):
        """Execute it as run does; EngineError where it fails."""
        context, container = self.build.context, Container(tree.new.path)
        log = self.build.files.new_place() + "/log" if say.level < Say.INFO else ""
        request = self._request()
        try:
            spec = build_spec(context, tree.root, ImageConfig(self.stage.document), self._words(request), request)
            stubs = [tree.guest.resolve(mount.guest) for mount in spec.mounts + spec.memory_mounts] + [APT_CONFIG]
            self.owner = spec.account.uid, spec.account.gid
            spec.owner_notes = notes
            notes.is_told = self.build.is_told and spec.account.uid == 0
            with StepOutput(log):
                status = run_in_tree(context, spec, self.build.mode, self.stage.name, request, container)
        except EngineError as error:        # its exit status is for run, and here is no CONTAINER
            raise EngineError(error.message, "" if "CONTAINER" in error.hint else error.hint)
        end_commands(container)
        tree.remove_stubs(stubs)
        if status and log:
            with open(log, "rb") as file:
                file.seek(max(0, os.path.getsize(log) - self.SHOWN))
                say.draw(file.read().decode("utf-8", "replace"))
        if status and request.ending_signal:
            raise Interruption(request.ending_signal)
        if status:
            raise EngineError("RUN ended with exit status %d" % status,
                              "what came before is kept: the next build goes on here")


class Build:
    """A build of an image by a Dockerfile, in a `with` block. `options` are those of the command, and `run_options`
    those of run, by default."""

    # They need no ARG, and what they are changes nothing. https://docs.docker.com/reference/dockerfile/#predefined-args
    PROXIES = {name for word in ("http", "https", "ftp", "no", "all") for name in (
        word + "_proxy", word.upper() + "_PROXY")}

    def __init__(self, context, reference, directory, options, run_options):
        import contextlib
        self.context = context
        self.reference = reference
        self.options = options
        self.run_options = run_options
        self.holder = contextlib.ExitStack()
        self.stages = {}            # BuildStage by its number
        self.images = {}            # the same of an image, by its name
        self.guardian = options.guardian
        self.given = dict(filter(None, (parse_variable(text, context.environment) for text in options.build_arg)))
        self.unused = set(self.given) - self.PROXIES
        self.secrets = dict(read_secret(text, context.environment) for text in options.secret)
        self.own_platform = Platform("linux", *context.host.architecture)
        self.platform = options.platform or self.own_platform
        path = find_dockerfile(directory, options.file or "")
        self.file = read_dockerfile(path)
        self.files = BuildFiles(context, directory, read_ignore_rules(directory, path))
        image = context.images.find(reference)
        self.cache = BuildCache(context.images, image.name if image else reference.name, reference.version)

    def __enter__(self):
        self.holder.enter_context(self.files.area)
        return self

    def __exit__(self, *failure):
        with HeldSignals():         # all goes, whenever one comes
            self.holder.__exit__(*failure)

    def run(self):
        """The Image, with the labels that the user gave."""
        stage = self._stage(self._target())
        if self.unused:
            say.warning("no ARG is there for --build-arg: " + ", ".join(sorted(self.unused)))
        for text in self.options.label:
            name, _, value = text.partition("=")
            stage.run.setdefault("Labels", {})[name] = value
        check_texts(stage.document, self.file.name)
        return store_made(self.context, self.reference, dump_json(stage.document).encode("utf-8"), stage.rows, [])

    # Stages

    def _target(self):
        if self.options.target is None:
            return len(self.file.stages) - 1
        number = self._number(self.options.target, len(self.file.stages))
        if number is None:
            raise NotFoundError("--target=%s: %s has no such stage" % (self.options.target, self.file.name))
        return number

    def _number(self, word, limit):
        """The number of the stage, one of the first `limit`, that a word names; None where it is none."""
        names = [stage.name for stage in self.file.stages[:limit]]
        if word.lower() in names:
            return len(names) - 1 - names[::-1].index(word.lower())
        is_number = word.strip("0123456789") == "" != word
        return int(word) if is_number and int(word) < limit else None

    def _stage(self, number):
        """The BuildStage of that number, with all that is said of it done."""
        if number not in self.stages:
            parsed = self.file.stages[number]
            with self.file.at(parsed.start):
                stage = self._begin(number, parsed)
                triggers = [Instruction(text, parsed.start.line) for text in strings_of(stage.run.pop("OnBuild", []))]
            instructions = triggers + parsed.instructions
            for index, instruction in enumerate(instructions, 1):
                stage.step = "%s%d/%d" % (parsed.name and parsed.name + " ", index, len(instructions))
                with self.file.at(instruction), Umask(0o022):       # whatever the caller's is
                    self._do(stage, number, instruction)
            self.stages[number] = stage
        return self.stages[number]

    def _begin(self, number, parsed):
        values = self.global_arguments
        base = DockerfileText(parsed.base, values).whole()
        platform = parsed.start.flag("platform", values)
        other = self._number(base, number)
        if other is not None:
            return self._stage(other).copy(parsed.name or base)
        if base == "scratch":
            return BuildStage(base, base, {
                "created": timestamp(0), "architecture": self.platform.architecture, "os": "linux",
                "config": {"Env": ["PATH=" + DEFAULT_PATH]}, "rootfs": {"type": "layers", "diff_ids": []},
                "history": []}, [])
        return self._image_stage(base, Platform.parse(platform) if platform else None)

    def _image_stage(self, name, platform=None):
        """A BuildStage of an image, which is pulled where it is not here."""
        wish = ImageWish(images_of(self.context, name)[0], "always" if self.options.pull else "missing",
                         platform or self.options.platform)
        image = wish.find(self.context) or wish.pull(self.context, None)
        if image.is_version_1:
            raise EngineError("%s: loaded by an older udocker, and nothing can be built on it" % image, Image.MENDING)
        config = ImageConfig.parse(portable_image(image, True)[1], str(image))
        document = dict(config.document, config=config.changeable(), history=config.history)
        document["rootfs"] = {"type": "layers", "diff_ids": config.diff_ids}
        document.setdefault("created", timestamp(0))
        rows = [(layer.digest, size_of(path), file_compression(path)) for path, layer in image.layers()]
        return BuildStage(str(image), image.digest, document, rows)

    @found_once
    def global_arguments(self):
        """{name: value} of what FROM knows, and ARG in a stage."""
        values = {side + name: value for side, platform in (("TARGET", self.platform), ("BUILD", self.own_platform))
                  for name, value in (("PLATFORM", str(platform)), ("OS", platform.system),
                                      ("ARCH", platform.architecture), ("VARIANT", platform.variant))}
        for instruction in self.file.arguments:
            with self.file.at(instruction):
                self._declare(instruction, values, values)
        return values

    def _declare(self, instruction, values, defaults):
        """What ARG does to {name: value}."""
        for word in DockerfileText(instruction.text, values).words():
            name, equals, default = word.partition("=")
            if not name.replace("_", "a").isalnum() or name[0].isdigit():
                raise DocumentError("ARG %s: no name of a variable" % name)
            self.unused.discard(name)
            value = self.given.get(name, default if equals else defaults.get(name))
            if value is not None:
                values[name] = value

    def other(self, word, number):
        """The BuildStage of a stage before that of a number, or of an image, as from= names them."""
        other = self._number(word, number)
        if other is not None:
            return self._stage(other)
        if word not in self.images:
            self.images[word] = self._image_stage(word)
        return self.images[word]

    def tree(self, stage):
        """The StageTree of a BuildStage."""
        if not stage.tree:
            stage.tree = StageTree(self.context, stage.image(self.context.blobs), self.holder)
        return stage.tree

    # Instructions

    def _do(self, stage, number, instruction):
        name = instruction.name
        if name == "RUN":
            step = RunStep(self, stage, number, instruction)
        elif name in ("COPY", "ADD"):
            step = CopyStep(self, stage, number, instruction)
        elif name == "WORKDIR":
            change_config(stage.run, name, instruction.text, stage.values)
            step = DirectoryStep(self.context, stage)
        else:
            self._change(stage, instruction)
            return
        self._take(stage, instruction, step)

    def _change(self, stage, instruction):
        """An instruction that makes no layer."""
        name = instruction.name
        self._tell(stage, instruction)
        if name == "ARG":
            values = stage.values
            self._declare(instruction, values, self.global_arguments)
            stage.arguments = {key: value for key, value in values.items() if key not in variables_of(stage.run)}
        elif name == "MAINTAINER":
            stage.document["author"] = instruction.text
        elif name == "HEALTHCHECK":
            say.warning("HEALTHCHECK: left out, as the images of OCI have none, and nothing here would look at it")
        else:
            change_config(stage.run, name, instruction.text, stage.values)
        if name == "CMD":
            stage.has_command = True
        elif name == "ENTRYPOINT" and not stage.has_command:        # what its arguments were
            stage.run.pop("Cmd", None)
        stage.add(instruction, {"created": stage.document["created"]})

    def _tell(self, stage, instruction, note=""):
        text = str(instruction)
        say.info("%s: %s%s" % (stage.step, text if len(text) < 200 else text[:200] + "...", note))

    def _take(self, stage, instruction, step):
        """An instruction that makes a layer: step.act(StageTree) gives origins of its own; it is kept from an earlier
        build where step.key, and all that came before, is the same."""
        run = [stage.run.get(name) for name in ("Env", "User", "WorkingDir", "Shell")]
        key = sha256_digest(line_of_json([stage.key, str(instruction), step.key, run]).encode("ascii"))
        row = None if stage.is_new or self.options.no_cache else self.cache.find(key)
        self._tell(stage, instruction, " (kept from an earlier build)" if row else "")
        if not row:
            stage.is_new = True
            tree = self.tree(stage)
            origins = step.act(tree)
            row = self._keep(key, tree.write_layer(self.context, origins, step.owner))
        stage.key = key
        stage.add(instruction, row)

    def _keep(self, key, layer):
        from contextlib import closing
        row = {"created": timestamp()}
        if not layer:
            self.cache.add(key, row)
            return row
        with closing(layer):
            row.update(digest=layer.blob.digest, size=layer.blob.size, diff_id=layer.diff_id)
            self.cache.add(key, row)
            layer.blob.publish()
        return row

    @property
    def is_told(self):
        """Whether it is known to whom RUN gives files."""
        return self.mode == "N1" and self.context.host.kernel_version >= (5, 0)

    @found_once
    def mode(self):
        """The mode for RUN: the user's, where the tree need not be converted for it, else N1, or P1."""
        context = self.context
        if not steps_of(context.default_mode) and not is_mode_free(context):
            return context.default_mode
        try:
            find_namespaces(context)
            return "N1"
        except EngineError as error:
            say.debug(error.message)
            return "P1"


def name_of_build(directory, path):
    """A name for an image that nobody gave one: always the same for a context and a Dockerfile."""
    place = os.path.abspath(directory or ".") + "\0" + path
    return "built:" + sha256_digest(os.fsencode(place))[len("sha256:"):][:12]


def build_image(context, references, directory, options, run_options):
    """Build an image by the Dockerfile in a directory, "" for none, and give it these names; returns the Image."""
    for reference in references:
        check_new_name(reference)
    if directory and not os.path.isdir(directory):
        raise NotFoundError("%s: no such directory" % directory,
                            "what is elsewhere is to be fetched first; - stands for none")
    with bringing_blobs(context):
        sweep_containers(context)
        sweep_away(WorkArea.abandoned(context.layout.containers))       # where secrets may be
        with Build(context, references[0], directory, options, run_options) as build:
            image = build.run()
        for other in references[1:]:
            tag_image(context, references[0], other)
    return image


# ======================================================================================================
# 13  Command line
# ======================================================================================================

class Option:
    """One option: its spellings, the name of its value (None for a flag), and its line of help.

    The words of the command line reach the command as an attribute named after the longest spelling.
    """

    OMITTED = "told, and left out"      # the meaning of an option of docker's that is known and does nothing here

    def __init__(self, *spellings, value=None, repeatable=False, meaning="", choices=()):
        """`choices` are the values that shells complete."""
        self.spellings = spellings
        self.value = value
        self.choices = choices
        self.repeatable = repeatable
        self.meaning = meaning
        self.attribute = max(spellings, key=len).lstrip("-").replace("-", "_")

    @property
    def usage(self):
        """The spellings as help shows them, --name=VALUE."""
        suffix = "=" + self.value if self.value else ""
        return ", ".join(spelling + suffix for spelling in self.spellings)


def spellings_of(options):
    """All spellings of options."""
    return [spelling for option in options for spelling in option.spellings]


class Arguments:
    """The options and operands of a command line, as attributes; the options have their defaults at first."""

    def __init__(self, options):
        for option in options:
            setattr(self, option.attribute, [] if option.repeatable else None)


def wrapped(text, head="", indent=""):
    """`text` as lines of at most 79 columns, fewer where the terminal has no more: the first one begins with `head`,
    the others with `indent`."""
    lines, size = [], say.result_size()
    width = min(79, size[0] - 1) if size else 79
    for word in text.split():
        if len(head) + len(word) > width:
            lines.append(head.rstrip())
            head = indent
        head += word + " "
    return lines + [head.rstrip()]


def option_lines(options):
    """The options as lines: spellings, then the meaning in a column of its own."""
    lines, margin = [], " " * 27
    for option in options:
        head = "  %-24s " % option.usage
        if len(head) > len(margin):
            lines.append(head.rstrip())
            head = margin
        lines += wrapped(option.meaning + (" (repeatable)" if option.repeatable else ""), head, margin)
    return lines


class Command:
    """The declaration of a command, which parser, help and documentation all read.

    `operands` are as shown to the user: X, [X], X..., [X...], or [-] for standard input or output; with `is_raw`, what
    follows the first operand belongs to it, options included. `failure_status` is the exit status of its errors, and
    `surplus_hint` what to do with more operands, which docker's command of that name takes.
    """

    def __init__(self, name, function, operands, options=(), examples=(), is_raw=False, failure_status=1,
                 surplus_hint=""):
        self.name = name
        self.function = function
        self.operands = operands
        spellings = [spelling for spelling in ("--help", "-h") if spelling not in spellings_of(options)]
        self.options = list(options) + [Option(*spellings, meaning="show this help")]
        self.examples = examples
        self.is_raw = is_raw
        self.failure_status = failure_status
        self.surplus_hint = surplus_hint

    @property
    def meaning(self):
        """The docstring's paragraphs, each a line."""
        return [" ".join(paragraph.split()) for paragraph in (self.function.__doc__ or "").split("\n\n")]

    @property
    def usage(self):
        return " ".join(["udocker", self.name, "[OPTIONS]"] + list(self.operands))

    @property
    def help_hint(self):
        return "usage: %s; see udocker %s --help" % (self.usage, self.name)

    def help(self):
        """The text of `udocker COMMAND --help`."""
        lines = ["Usage: " + self.usage]
        for paragraph in self.meaning:
            lines += [""] + wrapped(paragraph)
        lines += ["", "Options:"] + option_lines(
            [option for option in self.options if option.meaning != Option.OMITTED])
        left_out = spellings_of(option for option in self.options if option.meaning == Option.OMITTED)
        if left_out:
            lines += [""] + wrapped("Docker's options that are told, and left out: %s." % ", ".join(left_out))
        if self.examples:
            lines += ["", "Examples:"] + ["  " + example for example in self.examples]
        return "\n".join(lines)


class Completion:
    """Shell functions that complete a command line, made from the declarations. `groups` tells of docker's groups what
    stands for each of their commands; `kinds` for an operand's name which lists of `udocker completion` it is from:
    images, containers."""

    def __init__(self, commands, groups, global_options, kinds):
        self.commands = commands
        self.groups = {group: {name: words[0] for name, words in names.items() if words[0] in commands}
                       for group, names in groups.items()}
        self.global_options = global_options
        self.kinds = kinds

    def script(self, shell):
        """The text for "bash", "zsh" or "fish"."""
        return {"bash": self._bash, "zsh": self._zsh, "fish": self._fish}[shell]()

    @staticmethod
    def _spellings(options):
        return [spelling + (end if spelling.startswith("--") else "") for option in options
                for spelling in option.spellings
                for end in ["=" + choice for choice in option.choices] or ["=" if option.value else ""]]

    def _kinds_of(self, declared):
        found = set()
        for operand in declared.operands:
            word = operand.strip("[].")
            found.update(self.kinds.get((declared.name, word), self.kinds.get(word, ())))
        return sorted(found)

    def _names_of(self, declared):
        """Its name, and those that it has in groups, quoted."""
        return ["'%s'" % declared.name] + ["'%s %s'" % (group, name) for group, names in self.groups.items()
                                           for name, word in names.items() if word == declared.name]

    def _cases(self):
        """Lines of bash and zsh, in a loop over words: its end, and what may follow no command, a group, and each
        command."""
        yield "    name+=${name:+ }$word"
        yield "    case $name in %s) ;; *) break ;; esac" % "|".join(self.groups)
        yield "  done"
        yield "  case $name in"
        yield "    '') options='%s' names='%s' ;;" % (
            " ".join(self._spellings(self.global_options)), " ".join(list(self.commands) + list(self.groups)))
        for group, names in self.groups.items():
            yield "    %s) names='%s' ;;" % (group, " ".join(names))
        for declared in self.commands.values():
            yield "    %s) options='%s' kinds='%s' names='%s' ;;" % (
                "|".join(self._names_of(declared)), " ".join(self._spellings(declared.options)),
                " ".join(self._kinds_of(declared)), " ".join(self.commands) if "[COMMAND]" in declared.operands else "")
        yield "  esac"

    def _bash(self):
        return "\n".join([
            "# bash completion for udocker: eval \"$(udocker completion bash)\"",
            "_udocker() {",
            "  local current=${COMP_WORDS[COMP_CWORD]} line=${COMP_LINE:0:COMP_POINT}",
            "  local options names kinds kind name word",
            "  current=${line##*[[:space:]]}",
            "  for word in ${line% *}; do",
            "    case $word in udocker|*/udocker|-*) continue ;; esac"] + list(self._cases()) + [
            "  case $current in -*) names=$options kinds= ;; esac",
            "  for kind in $kinds; do names+=\" $(udocker completion $kind 2>/dev/null)\"; done",
            "  COMPREPLY=($(compgen -W \"$names\" -- \"$current\"))",
            "  # a colon or an equals sign begins a new word for bash, which keeps what is before it",
            "  word=${current##*[:=]}",
            "  COMPREPLY=(\"${COMPREPLY[@]#\"${current%\"$word\"}\"}\")",
            "  case $name in cp|*\\ cp) compopt -o nospace ;; esac",       # a colon and a path follow
            "  case ${COMPREPLY[0]} in",
            "    *=) compopt -o nospace ;;",
            "    '') case $current in",
            "        -*=*|[^-]*|'') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\") ;;",
            "      esac ;;",
            "  esac",
            "}",
            "complete -F _udocker udocker"])

    def _zsh(self):
        return "\n".join([
            "#compdef udocker",
            "# zsh completion for udocker: eval \"$(udocker completion zsh)\"",
            "_udocker() {",
            "  local options names kinds kind name word",
            "  for word in ${words[2,CURRENT-1]}; do",
            "    case $word in -*) continue ;; esac"] + list(self._cases()) + [
            "  for kind in ${=kinds}; do names+=\" $(udocker completion $kind 2>/dev/null)\"; done",
            "  [[ $PREFIX == -* ]] && names=$options",
            "  compadd -- ${=names}",
            "  [[ -n $name ]] && _files",
            "}",
            "compdef _udocker udocker"])

    def _fish(self):
        lines = [
            "# fish completion for udocker: udocker completion fish | source",
            "function __udocker_command",
            "  set -l words (string match --invert -- '-*' (commandline -opc)[2..-1])",
            "  contains -- \"$words[1]\" %s" % " ".join(self.groups),
            "    and echo \"$words[1..2]\"; or echo \"$words[1]\"",
            "end",
            "complete -c udocker -f"]
        for group, names in self.groups.items():
            lines += [self._fish_line("''", "-a %s -d %s" % (group, self._fish_text("docker's group of commands"))),
                      self._fish_line(group, "-a '%s'" % " ".join(names))]
        for declared in self.commands.values():
            names = " ".join(self._names_of(declared))
            lines.append(self._fish_line("''", "-a %s -d %s" % (declared.name, self._fish_text(declared.meaning[0]))))
            lines += self._fish_options(names, declared.options)
            lines += [self._fish_line(names, "-a '(udocker completion %s 2>/dev/null)'" % kind)
                      for kind in self._kinds_of(declared)]
        return "\n".join(lines + list(self._fish_options("''", self.global_options)))

    @staticmethod
    def _fish_text(text):
        return "'%s'" % text.replace("'", "\\'")

    @staticmethod
    def _fish_line(names, what):
        """That `what` may follow each of the names."""
        return "complete -c udocker -n \"contains -- (__udocker_command) %s\" %s" % (names, what)

    def _fish_options(self, names, options):
        for option in options:
            words = ["-l " + spelling[2:] if spelling.startswith("--") else "-s " + spelling[1:]
                     for spelling in option.spellings]
            yield self._fish_line(names, "%s%s -d %s" % (
                " ".join(words), " -r" if option.value else "", self._fish_text(option.meaning)))


class ByteCount(int):
    """A size that templates show as people read it; in JSON it is a number."""

    def __str__(self):
        return human_size(self)


def go_text(value):
    """A value of a document as Go's templates print it. https://pkg.go.dev/fmt"""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "<no value>"}[value]
    if isinstance(value, list):
        return "[%s]" % " ".join(map(go_text, value))
    if isinstance(value, dict):
        return "map[%s]" % " ".join("%s:%s" % (key, go_text(value[key])) for key in sorted(value))
    return str(value)


def compact_json(value):
    """JSON as docker writes it, in one line without spaces."""
    import json
    return json.dumps(value, separators=(",", ":"))


class Template:
    """docker's --format: of Go's templates paths, json, index, join, len, println, pipes, if and range.
    https://pkg.go.dev/text/template
    """

    MAPS = ("labels", "volumes", "exposedports")        # which may lack anything
    FUNCTIONS = {       # how many operands each has, and what it is
        "json": (1, compact_json), "len": (1, len), "lower": (1, str.lower), "upper": (1, str.upper),
        "println": (1, lambda value: go_text(value) + "\n"),
        "join": (2, lambda items, between: between.join(map(go_text, items))),
        "index": (2, lambda items, key: items.get(key, "") if isinstance(items, dict) else items[key]),
    }

    def __init__(self, text):
        """UsageError where it is none, or has more than that."""
        import re
        self.text = text
        # Literal text and actions in turn
        self.parts = re.split(r"\{\{(.*?)\}\}", text.replace("\\n", "\n").replace("\\t", "\t"), flags=re.DOTALL)
        try:
            self.tree, rest = self._block(0)
        except RecursionError:
            raise self._error()
        if rest < len(self.parts) or any("{{" in text for text in self.parts[::2]):
            raise self._error()

    def _error(self):
        return UsageError("--format=%s: it cannot be understood" % self.text, "of Go's templates udocker knows "
                          "{{.Path}}, if, range, and %s" % ", ".join(sorted(self.FUNCTIONS)))

    def _block(self, place):
        """([text, or (word, pipeline, block, block of else)] up to an end or else, place of that)."""
        found = [self.parts[place]]
        place += 1
        while place < len(self.parts):
            words = self._words(self.parts[place])
            if words in (["end"], ["else"]):
                break
            is_block = words[0] in ("if", "range")
            body, other = [], []
            if is_block:
                body, place = self._block(place + 1)
                if self.parts[place:place + 1] and self._words(self.parts[place]) == ["else"]:
                    other, place = self._block(place + 1)
                if place >= len(self.parts):
                    raise self._error()
            found.append((words[0] if is_block else "", self._pipeline(words[is_block:]), body, other))
            found.append(self.parts[place + 1])
            place += 2
        return found, place

    @staticmethod
    def _words(action):
        import re
        return re.findall(r'"[^"]*"|[^\s"|]+|\|', action) or [""]

    def _pipeline(self, words):
        """[words of a call, which gets what the one before gives]."""
        import re
        calls = [[]]
        for word in words:
            if word == "|":
                calls.append([])
            else:
                calls[-1].append(word)
        for number, call in enumerate(calls):
            is_value = len(call) == 1 and number == 0 and call[0].startswith((".", '"'))
            if not is_value and (not call or call[0] not in self.FUNCTIONS
                                 or len(call) - 1 + (number > 0) != self.FUNCTIONS[call[0]][0]):
                raise self._error()
            for word in call[not is_value:]:
                if not word.startswith((".", '"')) and not re.fullmatch("[0-9]{1,9}", word):
                    raise self._error()
        return calls

    def render(self, document):
        """The text for a document; NotFoundError where it lacks what is asked for."""
        return self._rendered(self.tree, document)

    def _rendered(self, block, dot):
        pieces = []
        for part in block:
            if isinstance(part, str):
                pieces.append(part)
                continue
            word, pipeline, body, other = part
            value = self._value(pipeline, dot)
            if word == "if":
                pieces.append(self._rendered(body if value else other, dot))
            elif word == "range":
                items = [value[key] for key in sorted(value)] if isinstance(value, dict) else value or []
                if not isinstance(items, list):
                    raise NotFoundError("--format: there is no range over %s" % go_text(value))
                pieces += [self._rendered(body, item) for item in items] or [self._rendered(other, dot)]
            else:
                pieces.append(go_text(value))
        return "".join(pieces)

    def _value(self, pipeline, dot):
        value = None
        for number, call in enumerate(pipeline):
            is_function = call[0] in self.FUNCTIONS
            operands = [self._operand(word, dot) for word in call[is_function:]] + [value] * (number > 0)
            try:
                value = self.FUNCTIONS[call[0]][1](*operands) if is_function else operands[0]
            except (TypeError, LookupError, AttributeError):
                raise NotFoundError("--format: there is no %s of %s" % (
                    call[0], " and ".join(map(go_text, operands))))
        return value

    def _operand(self, word, dot):
        if word.startswith('"'):
            return word[1:-1]
        if not word.startswith("."):
            return int(word)
        above = ""
        for key in filter(None, word.split(".")):
            keys = {name.lower(): name for name in dot} if isinstance(dot, dict) else {}
            above, is_of_map = key.lower(), above in self.MAPS
            if is_of_map and above not in keys:
                return None
            if key.lower() not in keys:
                hint = "--format=json shows all that there is; here there are: " + ", ".join(sorted(keys.values()))
                raise NotFoundError("--format: there is no %s" % word, hint if keys else "")
            dot = dot[keys[key.lower()]]
        return dot


def renderer(template):
    """The function that makes of a document what docker's --format, json or a Template, says."""
    return compact_json if template == "json" else Template(template).render


def aligned(lines):
    """Lines whose tabs end columns, laid out as docker does: each at least ten wide, three spaces between them."""
    rows, widths = [line.split("\t") for line in lines], {}
    for row in rows:
        for number, cell in enumerate(row[:-1]):
            widths[number] = max(widths.get(number, 10), len(cell) + 3)
    return ["".join(cell.ljust(widths[number]) for number, cell in enumerate(row[:-1])) + row[-1] for row in rows]


def formatted(template, records, headings):
    """The lines that docker's --format makes of records: one each, and above them, in columns, the headings (a record
    too) where the template begins with the word table."""
    if not template.startswith("table"):
        return list(map(renderer(template), records))
    return aligned(map(renderer(template[len("table"):].lstrip()), [headings] + records))


class Parser:
    """Turns words into Arguments by a list of options: --name=value, --name value, -n=value, -n value, -nvalue,
    combined flags -it, flags also --flag=true, -- as the end of options; the last of two wins. `absent` tells for
    spellings of options that there are not what to do instead."""

    def __init__(self, options, help_hint, absent=None):
        self.by_spelling = {spelling: option for option in options for spelling in option.spellings}
        self.options = options
        self.help_hint = help_hint
        self.absent = absent

    def parse(self, words, stops_at_operand):
        """(Arguments, operands); with `stops_at_operand` all from the first operand on is operands."""
        arguments, operands, words = Arguments(self.options), [], list(words)
        while words:
            word = words.pop(0)
            if word == "--":
                operands += words
                break
            if not word.startswith("-") or word == "-":
                operands.append(word)
                if stops_at_operand:
                    operands += words
                    break
                continue
            self._take(arguments, word, words)
        return arguments, operands

    def _take(self, arguments, word, words):
        name, equals, value = word.partition("=")
        option = self.by_spelling.get(name)
        if option:
            self._set(arguments, option, name, value if equals else None, words)
        elif word[:2] in self.by_spelling:
            self._take_short(arguments, word, words)
        else:
            raise self._unknown(name, name if name.startswith("--") else name[:2])

    def _unknown(self, name, spelling):
        """The error for an option that there is not."""
        hint = self.absent and self.absent(spelling) or similar(name, self.by_spelling) + self.help_hint
        return UsageError("unknown option %s" % name, hint)

    def _take_short(self, arguments, word, words):
        """Flags in one word, the last of which may take a value: the rest of the word, or the next one."""
        rest = word[1:]
        while rest:
            name = "-" + rest[0]
            option, rest = self.by_spelling.get(name), rest[1:]
            if not option:
                raise self._unknown("%s in %s" % (name, word), name)
            if option.value is not None:
                self._set(arguments, option, name, rest[1:] if rest[:1] == "=" else rest or None, words)
                return
            self._set(arguments, option, name, None, words)

    def _set(self, arguments, option, name, value, words):
        if option.value is None:
            if value not in (None, "true", "false"):
                raise UsageError("%s=%s: a flag, which is true or false" % (name, value), self.help_hint)
            value = value != "false"
        elif value is None:
            if not words:
                raise UsageError("%s needs a value" % name, self.help_hint)
            value = words.pop(0)
        if option.repeatable:
            getattr(arguments, option.attribute).append(value)
        else:
            setattr(arguments, option.attribute, value)


def bind_operands(declared, arguments, words):
    """Set the operands as attributes, in lower case; UsageError where there are too few or too many."""
    for operand in declared.operands:
        name = operand.strip("[].")
        if operand == "[-]":
            arguments.is_stream = words[:1] == ["-"]
            words = words[1:] if arguments.is_stream else words
            continue
        if operand.endswith(("...", "...]")):
            if not words and not operand.startswith("["):
                raise UsageError("%s is missing" % name, declared.help_hint)
            value, words = words, []
        elif words:
            value, words = words[0], words[1:]
        elif operand.startswith("["):
            value = None
        else:
            raise UsageError("%s is missing" % name, declared.help_hint)
        setattr(arguments, name.lower(), value)
    if words:
        raise UsageError("%r is too much" % words[0], declared.surplus_hint or declared.help_hint)


def parse_command(declared, words, absent=None):
    """The Arguments for a command; `help` set where help was asked for, whatever else is wrong."""
    parser = Parser(declared.options, declared.help_hint, absent)
    arguments, operands = parser.parse(words, declared.is_raw)
    if not arguments.help:
        bind_operands(declared, arguments, operands)
    return arguments


# ======================================================================================================
# 14  Commands
# ======================================================================================================

COMMANDS = {}

QUIET_OPTION = Option("--quiet", "-q", meaning="print errors only")

GLOBAL_OPTIONS = (
    Option("--help", "-h", meaning="show this help"),
    Option("--version", "-V", "-v", meaning="show the version"),
    Option("--debug", "-D", meaning="tell what is done, and show tracebacks"),
    QUIET_OPTION,
    Option("--insecure", meaning="allow http and unverified certificates"),
    Option("--repo", value="DIR", meaning="use the store in this directory"),
    Option("--config", value="FILE", meaning="read settings from this file too"),
    Option("--allow-root", meaning="run although you are root"),
)

PROXY_OPTION = Option("--httpproxy", value="URL", meaning="proxy: http, socks4, socks4a, socks5 or "
                                                          "socks5h://[USER:PASSWORD@]HOST:PORT")

LOOKUP_OPTIONS = (
    Option("--registry", value="URL", meaning="ask this registry, instead of registry-1.docker.io"),
    Option("--index", value="URL", meaning="ask this index, instead of index.docker.io"),
    PROXY_OPTION,
)

PLATFORM_OPTION = Option("--platform", value="OS/ARCH", meaning="image for this platform, for instance linux/arm64")

REGISTRY_OPTIONS = LOOKUP_OPTIONS + (PLATFORM_OPTION,)

TRUST_OPTION = Option("--disable-content-trust",
                      meaning="as docker has it: digests are always checked, signatures never")
FORCE_NAME_OPTION = Option("--force", meaning="take the name over from the container that has it")
PULL_OPTION = Option("--pull", value="WHEN", meaning="pull the image: missing, never or always", choices=PULL_POLICIES)
CHANGE_OPTION = Option("--change", "-c", value="LINE", repeatable=True, meaning="what running it needs, as a "
                       "Dockerfile has it: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR and the like")


def omitted(text, value=None):
    """Options of docker's that are known, told and left out; the spellings of one are joined by commas."""
    return tuple(Option(*spellings.split(","), value=value, repeatable=value is not None, meaning=Option.OMITTED)
                 for spellings in text.split())


def tell_left_out(arguments, options, others=()):
    """One line for what is left out: those of these options that were given, and others."""
    given = [option.spellings[0] for option in options if getattr(arguments, option.attribute)] + list(others)
    if given:
        say.warning("left out, as a plain user cannot have it or it changes nothing here: " + ", ".join(given))


def command(name, *operands, **declared):
    """Declare the decorated function, of a Context and Arguments, as a Command; its docstring is the help."""
    def register(function):
        COMMANDS[name] = Command(name, function, operands, **declared)
        return function
    return register


def given_platform(arguments):
    """The Platform of PLATFORM_OPTION, None where there is none."""
    return Platform.parse(arguments.platform) if arguments.platform else None


def given_address(arguments):
    """The address to ask at of LOOKUP_OPTIONS, "" where there is none."""
    return arguments.registry or arguments.index or ""


def shortened(text, width):
    """`text` in one line of at most `width` columns; None stands for any."""
    text = printable(" ".join(text.split()))
    return text if width is None or len(text) <= width else text[:max(width - 3, 0)] + "..."


def search_line(width, name, official, stars, description):
    """What a search found, or the head of that, in a line of at most `width` columns (None: of any length)."""
    name_width, rest = 40, None
    if width is not None:
        name_width = max(min(40, width // 2 - 8), 10)
        name, rest = shortened(name, name_width), max(width - name_width - 17, 0)
    return ("%-*s %-8s %5s %s" % (name_width, printable(name), official, stars, shortened(description, rest))).rstrip()


def stream_or_file(arguments, path):
    """The file that an option names, or "-"; UsageError where both were given."""
    if arguments.is_stream and path not in (None, "-"):
        raise UsageError("both - and %s were given" % path, "give one of them")
    return path or "-"


@command("pull", "IMAGE", options=REGISTRY_OPTIONS + (QUIET_OPTION, TRUST_OPTION), examples=(
    "udocker pull busybox", "udocker pull fedora:latest", "udocker pull quay.io/centos/centos:stream9",
    "udocker pull --registry=https://registry.access.redhat.com rhel7",
    "udocker pull --httpproxy=socks5://user:pass@host:port busybox"))
def command_pull(context, arguments):
    """Fetch an image from a registry, by default Docker Hub.

    IMAGE is [HOST[:PORT]/]NAME[:TAG] or NAME@sha256:HEX. Layers that are here already are not fetched again,
    and an interrupted pull goes on where it stopped.
    """
    reference = Reference.parse(arguments.image)
    known = context.images.find(reference)
    digest = known.digest if known else ""
    image = pull_image(context, reference, given_platform(arguments), given_address(arguments))
    say.info("%s is %s" % (image, "up to date" if image.digest == digest else "pulled"))


@command("push", "IMAGE", options=(
    Option("--all-tags", "-a", meaning="all images here of this name, whatever their tags"),) + LOOKUP_OPTIONS + (
        QUIET_OPTION, TRUST_OPTION), examples=("udocker push registry.example.org/lab/tools:1.1",
                                               "udocker push --all-tags registry.example.org/lab/tools"))
def command_push(context, arguments):
    """Bring an image into a registry, by default Docker Hub, under the name that it has here; udocker tag gives it
    others.

    What the registry has already is not sent. udocker login keeps the user and password that it asks for.
    """
    reference = Reference.parse(arguments.image)
    references = [reference]
    if arguments.all_tags:
        if is_tagged(arguments.image):
            raise UsageError("%s names a tag, and --all-tags wants all" % reference, "leave one of them out")
        references = [Reference.parse(str(image)) for image in context.images.list()
                      if image.name in reference.spellings() and not is_digest(image.version)] or references
    for reference in references:
        digest = push_image(context, reference, given_address(arguments))
        say.info("%s is pushed: %s" % (reference, digest))


def parse_filters(texts, known):
    """[(key, value)] of --filter=KEY=VALUE; UsageError where a key is not among those `known`."""
    pairs = [text.partition("=")[::2] for text in texts]
    for key, value in pairs:
        if key not in known or not value:
            raise UsageError("--filter=%s: unknown filter" % key, "there are: %s" % ", ".join(
                name + "=VALUE" for name in known))
    return pairs


def parse_count(option, text, least=1):
    """The number, `least` or more, that an option gives; UsageError where it is none."""
    if not 0 < len(text) < 10 or text.strip("0123456789") or int(text) < least:
        raise UsageError("%s=%s: write a number, %d or more" % (option, text, least))
    return int(text)


def search_filter(texts):
    """Whether a SearchResult is wanted, as a function: it has so many stars at least, and is official, or not."""
    filters = parse_filters(texts, ("stars", "is-official"))
    stars = max([0] + [parse_count("--filter=stars", value, 0) for key, value in filters if key == "stars"])
    wanted = [value for key, value in filters if key == "is-official"]
    if not {"true", "false"}.issuperset(wanted):
        raise UsageError("--filter=is-official=%s: write true or false" % wanted[-1])
    return lambda result: (result.stars or 0) >= stars and all(
        result.is_official == (value == "true") for value in wanted)


@command("search", "EXPRESSION", options=(
    Option("--all", "-a", meaning="do not pause after each page"),
    Option("--limit", value="NUMBER", meaning="show no more than so many"),
    Option("--filter", "-f", value="KEY=VALUE", repeatable=True,
           meaning="only images that match: stars=NUMBER, so many or more, or is-official=true"),
    Option("--list-tags", meaning="list the tags of the repository EXPRESSION"),
    Option("--no-trunc", meaning="do not shorten what does not fit into a line")) + LOOKUP_OPTIONS,
         examples=("udocker search busybox", "udocker search -a busybox", "udocker search iscampos/openqcd",
                   "udocker search quay.io/centos", "udocker search --list-tags ubuntu"))
def command_search(context, arguments):
    """Look for images: at Docker Hub, or in the registry that EXPRESSION begins with.

    On a terminal it pauses after each page.
    """
    address = given_address(arguments)
    if arguments.list_tags:
        for page in list_tags(context, Reference.parse(arguments.expression), address):
            for tag in page:
                say.result(shortened(tag, None))
        return
    from itertools import islice
    is_wanted = search_filter(arguments.filter)
    limit = parse_count("--limit", arguments.limit) if arguments.limit is not None else None
    size = say.result_size()
    width = None if arguments.no_trunc or not size else size[0]
    found = (result for page in search_images(context, arguments.expression, address) for result in page
             if is_wanted(result))
    lines = (search_line(width, result.name, "[OK]" if result.is_official else "-",
                         "-" if result.stars is None else result.stars, result.description)
             for result in islice(found, limit))
    if not say.paged(search_line(width, "NAME", "OFFICIAL", "STARS", "DESCRIPTION"), lines, not arguments.all):
        say.info("nothing was found")


@command("manifest", "ACTION", "IMAGE", options=REGISTRY_OPTIONS + (QUIET_OPTION,), examples=(
    "udocker manifest inspect busybox",
    "udocker manifest inspect --platform=linux/arm64 quay.io/centos/centos:stream9"))
def command_manifest(context, arguments):
    """Show the manifest, or index, that a registry has for an image; nothing is stored. ACTION is inspect."""
    if arguments.action != "inspect":
        raise UsageError("unknown action %r" % arguments.action, "there is: udocker manifest inspect IMAGE")
    say.result(dump_json(inspect_manifest(context, Reference.parse(arguments.image), given_platform(arguments),
                                          given_address(arguments))))


def given_user(arguments):
    """The user and the password for a login: from the command line, standard input, or the person at the terminal."""
    user, password = arguments.username, arguments.password
    if arguments.password_stdin:
        if user is None or password is not None:
            raise UsageError("--password-stdin goes with --username= and without --password=",
                             COMMANDS["login"].help_hint)
        password = b"".join(standard_input()).decode("utf-8", "surrogateescape").rstrip("\r\n")
    elif password is not None:
        say.warning("other users may have seen the password: --password-stdin hides it")
    elif not say.can_ask():
        raise UsageError("there is no terminal to ask for the password at",
                         "give --username=USER --password-stdin, and the password on standard input")
    if user is None:
        user = say.ask("username: ")
    if password is None:
        password = say.ask("password: ", is_secret=True)
    if not user or not password or ":" in user:
        raise UsageError("a user and a password are needed, and no user has a colon in his name")
    return user, password


def given_registry(arguments):
    """The registry's address, from the option or docker's operand."""
    if arguments.server and arguments.registry:
        raise UsageError("both %s and --registry= were given" % arguments.server, "give one of them")
    return arguments.server or arguments.registry or ""


@command("login", "[SERVER]", options=(
    Option("--username", "-u", value="USER", meaning="the user's name at the registry"),
    Option("--password", "-p", value="PASSWORD", meaning="the password, which other users of this machine may see"),
    Option("--password-stdin", meaning="read the password from standard input"),
    Option("--registry", value="URL", meaning="log in at this registry, instead of registry-1.docker.io")),
         examples=("udocker login --username=xxxx --password=yyyy", "udocker login --registry=https://hostname:5000",
                   "udocker login -u xxxx --password-stdin quay.io < password-file"))
def command_login(context, arguments):
    """Check user and password at a registry, and keep them for pulls and pushes.

    They are kept in ~/.udocker/keystore, readable for you alone, and are not encrypted. Logins of docker and podman
    are used too.
    """
    address = given_registry(arguments)
    user, password = given_user(arguments)
    name, is_asked_for = login(context, address, user, password)
    say.info(("logged in at %s as %s" if is_asked_for else
              "%s asks for no credentials: those of %s are kept, unchecked, for when it does") % (name, user))


@command("logout", "[SERVER]", options=(
    Option("--all", "-a", meaning="forget the credentials of all registries"),
    Option("--registry", value="URL", meaning="forget those of this registry, instead of registry-1.docker.io")),
         examples=("udocker logout", "udocker logout --registry=https://hostname:5000", "udocker logout -a"))
def command_logout(context, arguments):
    """Forget the user and password that login kept."""
    address = given_registry(arguments)
    if not arguments.all:
        logout(context, address)
    elif address:
        raise UsageError("--all is for all registries, and %s is one" % address)
    else:
        context.keystore.clear()


IMAGE_FILTERS, CONTAINER_FILTERS = ("reference", "dangling", "label"), ("name", "id", "ancestor", "status", "label")


def readable_config(thing):
    """The config of an image or container, an empty one where it cannot be read: udocker verify tells."""
    try:
        return thing.config()
    except (Error, OSError):
        return ImageConfig({})


def has_label(thing, text):
    """Whether an image or container has the label NAME, or NAME=VALUE."""
    name, equals, value = text.partition("=")
    labels = readable_config(thing).labels
    return name in labels and (not equals or labels[name] == value)


def is_listed_image(image, filters):
    """Whether an image passes all filters: a name or pattern, a label, or dangling, which none of ours is."""
    if not filters:
        return True
    from fnmatch import fnmatchcase
    passes = {
        "dangling": lambda value: value == "false", "label": lambda value: has_label(image, value),
        "reference": lambda value: any(fnmatchcase(name, value) for name in (str(image), image.name))}
    return all(passes[key](value) for key, value in filters)


def is_of_name(image, text):
    """Whether `text` names an image: with a tag or digest this very one, else any of its repository."""
    reference, has_version = Reference.parse(text), "@" in text or ":" in text.rpartition("/")[2]
    return image.name in reference.spellings() and (not has_version or image.version == reference.version)


def has_name_like(names, pattern):
    """Whether a regular expression fits one of the names, which for docker begin with a slash, or do not."""
    import re
    try:
        return any(re.search(pattern, name) or re.search(pattern, "/" + name) for name in names)
    except re.error as error:
        raise UsageError("--filter=name=%s: %s" % (pattern, error))


def is_listed_container(container, filters, processes):
    """Whether a container passes all filters: its name, the beginning of its id, its image, its status, a label."""
    passes = {
        "name": lambda value: has_name_like(container.names, value), "id": container.id.startswith,
        "ancestor": lambda value: container.image_name in (value, value + ":latest"),
        "label": lambda value: has_label(container, value),
        "status": lambda value: value == container_state(container, processes)["Status"]}
    return all(passes[key](value) for key, value in filters)


def platform_text(config):
    """The platform that a config names, as the older udocker spells what is not known."""
    return str(config.platform or "unknown/unknown")


FORMAT_OPTION = Option("--format", value="TEMPLATE", meaning="one line each, for scripts: json, or a template as in "
                       "{{.ID}} {{json .Names}}")


LIST_FORMAT_OPTION = Option("--format", value="TEMPLATE", meaning=FORMAT_OPTION.meaning + "; the word table before it "
                            "gives headings, and columns where \\t is")


def heading_record(names, **others):
    """The record that stands for the headings of a table: docker's names in capitals, or others."""
    return dict({name: name.upper() for name in names.split()}, **others)


IMAGE_HEADINGS = heading_record("Repository Tag Digest Size Platform Protected Path", ID="IMAGE ID",
                                CreatedAt="CREATED AT", CreatedSince="CREATED")
CONTAINER_HEADINGS = heading_record("Names Image Mode Platform Protected Path Size Command State Status Ports Labels",
                                    ID="CONTAINER ID", CreatedAt="CREATED AT", RunningFor="CREATED")


def time_ago(moment):
    """How long ago a time was, in words; "" where the text is none. RFC 3339"""
    import calendar
    import re
    import time
    text = str(moment)
    try:
        passed = time.time() - calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return ""
    zone = re.search(r"([+-])([0-9]{2}):([0-9]{2})$", text[19:])
    if zone:
        east = int(zone.group(2)) * 3600 + int(zone.group(3)) * 60
        passed += east if zone.group(1) == "+" else -east
    for unit, seconds in ("years", 365 * 86400), ("months", 30 * 86400), ("weeks", 7 * 86400), ("days", 86400), (
            "hours", 3600), ("minutes", 60), ("seconds", 1):
        if passed >= 2 * seconds:
            return "%d %s ago" % (passed // seconds, unit)
    return "seconds ago"


def image_record(image):
    """What --format shows of an image."""
    name, _, tag = str(image).rpartition("@" if "@" in str(image) else ":")
    config = readable_config(image)
    try:
        size = ByteCount(sum(os.stat(path).st_size for path, _ in image.layers()))
    except (Error, OSError):
        size = None
    created = config.document.get("created")
    return {"Repository": name, "Tag": tag, "Digest": image.digest, "ID": image_id(image), "Size": size,
            "CreatedAt": created, "CreatedSince": time_ago(created), "Platform": platform_text(config),
            "Protected": image.is_protected, "Path": image.path}


def container_record(context, container, has_size, processes):
    """What --format shows of a container, the own_processes() of this host being known; how large it is takes a walk
    through its tree."""
    config = readable_config(container)
    created = timestamp(container.made_at)
    record = {"ID": container.id, "Names": ",".join(container.names), "Image": container.image_name,
              "Mode": container.mode or context.default_mode, "Platform": platform_text(config),
              "Protected": container.is_protected, "Path": container.root, "Ports": "", "CreatedAt": created,
              "RunningFor": time_ago(created), "Command": " ".join(config.entrypoint + config.command),
              "Labels": ",".join("%s=%s" % pair for pair in config.labels.items())}
    record["State"] = record["Status"] = container_state(container, processes)["Status"]
    if record["State"] == "running":
        record["Ports"] = ", ".join("%s->%d/%s" % (port.place, port.guest, port.protocol)
                                    for port in RunRecord(context.host, container).ports)
    return dict(record, Size=ByteCount(allocated_size(container.root))) if has_size else record


def image_lines(image, arguments):
    """The lines of one image in the listing; what cannot be read is said in its place."""
    mark = "P" if image.is_protected else "."
    line = "%s    %s" % (image, mark)
    if arguments.platform:
        line = "%-18s %s %s" % (platform_text(readable_config(image)), mark, image)
    yield (line + ("    " + image.digest if arguments.digests else "")).rstrip()
    if not arguments.long:
        return
    yield "  " + image.path
    try:
        layers = image.layers()
    except Error as error:
        yield "    " + printable(error.message)
        return
    for path, _ in layers:
        size = human_size(os.stat(path).st_size) if os.path.exists(path) else "missing"
        yield "    %s (%s)" % (os.path.basename(path), size)


@command("images", "[IMAGE]", options=(
    Option("--long", "-l", meaning="also show where each image lies, and its layers"),
    Option("--platform", "-p", meaning="also show the platform"),
    Option("--digests", meaning="also show the digest of the manifest"),
    Option("--quiet", "-q", meaning="show names only"),
    Option("--filter", "-f", value="KEY=VALUE", repeatable=True,
           meaning="only images that match: reference=PATTERN or label=NAME[=VALUE]"),
    LIST_FORMAT_OPTION,
    Option("--all", "-a", meaning="as docker has it: all are always shown"),
    Option("--no-trunc", meaning="as docker has it: nothing is ever shortened")),
         examples=("udocker images", "udocker images -l", "udocker images ubuntu",
                   "udocker images --format='{{.Repository}} {{.Size}}'"))
def command_images(context, arguments):
    """List the images that are here, with P where one is protected.

    With IMAGE only this one; where it has no tag, all of that name.
    """
    warn_of_absent_store(context)
    filters = parse_filters(arguments.filter, IMAGE_FILTERS)
    found = [image for image in context.images.list() if is_listed_image(image, filters) and (
        not arguments.image or is_of_name(image, arguments.image))]
    if arguments.format not in (None, "table"):
        lines = formatted(arguments.format, [image_record(image) for image in found], IMAGE_HEADINGS)
    elif arguments.quiet:
        lines = [str(image) for image in found]
    else:
        lines = ["REPOSITORY"] + [line for image in found for line in image_lines(image, arguments)]
    if lines:
        say.result("\n".join(lines))


HISTORY_HEADINGS = heading_record("Size Comment", ID="IMAGE", CreatedAt="CREATED AT", CreatedSince="CREATED",
                                  CreatedBy="CREATED BY")


def history_records(image):
    """What --format shows of the steps that an image was built in, newest first."""
    sizes = [os.stat(path).st_size if os.path.exists(path) else 0 for path, _ in image.layers()]
    records = []
    steps = image.config().history
    layers = sum(not step.get("empty_layer") for step in steps)
    for step in steps + [{}] * (len(sizes) - layers):       # layers that nobody says anything about
        created, made_by, comment = [str(step.get(key) or "") for key in ("created", "created_by", "comment")]
        size = ByteCount(sizes.pop(0) if sizes and not step.get("empty_layer") else 0)
        records.append({"ID": "<missing>", "CreatedAt": created, "CreatedSince": time_ago(created),
                        "CreatedBy": made_by, "Size": size, "Comment": comment})
    for record in records[-1:]:         # as docker has it, which knows no images in between
        record["ID"] = image_id(image)
    return records[::-1]


@command("history", "IMAGE", options=(
    Option("--no-trunc", meaning="do not shorten what made a layer"), LIST_FORMAT_OPTION),
         examples=("udocker history busybox", "udocker history --format='{{.CreatedBy}}' busybox"))
def command_history(context, arguments):
    """Show the steps that an image was built in, newest first, with the size of the layer each brought."""
    records, size = history_records(find_image(context, arguments.image)), say.result_size()
    if arguments.format not in (None, "table"):
        lines = formatted(arguments.format, records, HISTORY_HEADINGS)
    else:
        width = None if arguments.no_trunc else max((size[0] if size else 80) - 32, 20)
        lines = ["%-20s %10s %s" % ("CREATED", "SIZE", "CREATED BY")] + ["%-20.19s %10s %s" % (
            shortened(record["CreatedAt"], None) or "-", record["Size"],
            shortened(record["CreatedBy"] or record["Comment"] or "-", width)) for record in records]
    if lines:
        say.result("\n".join(lines))


@command("create", "IMAGE", options=REGISTRY_OPTIONS + (
    Option("--name", value="NAME", meaning="name of the new container"), FORCE_NAME_OPTION, PULL_OPTION,
    QUIET_OPTION), examples=(
        "udocker create --name=mycontainer indigodatacloud/disvis:latest", "udocker create --pull=missing busybox"),
         surplus_hint="create only unpacks the image: give the command to udocker run, which takes the container")
def command_create(context, arguments):
    """Unpack an image into a new container and print the container's id.

    The image must be here already, unless --pull says otherwise: then a layer is unpacked while the next ones come.
    """
    policy = "never" if arguments.pull is None else arguments.pull
    wish = ImageWish(images_of(context, arguments.image)[0], policy, given_platform(arguments),
                     given_address(arguments))
    say.result(create_container(context, wish, arguments.name, arguments.force).id)


def container_row(context, container, arguments):
    """(id, marks and what else was asked for, names, image) of one container in the listing."""
    marks = "%s %s " % ("P" if container.is_protected else ".", container.access)
    if arguments.modes:
        marks += "%-3s " % (container.mode or context.default_mode)
    if arguments.size:
        marks += "%6d " % (allocated_size(container.root) / 1e6)
    if arguments.platform:
        marks += "%-18s " % platform_text(readable_config(container))
    return container.id, marks, str(container.names), shortened(container.image_name, None)


def container_table(rows, marks, width):
    """Lines of rows, below their head with `marks`. Where they are longer than `width` (None: as long as may be), names
    get no more room than they need, ids are shortened to what still tells them apart, and images lose their beginnings.
    """
    rows = [("CONTAINER ID", marks, "NAMES", "IMAGE")] + rows
    longest = max(len(names) for _, _, names, _ in rows)
    id_width, names_width = 36, max(longest, 18)
    room = len(max((image for _, _, _, image in rows), key=len))

    def has_room():
        return width is None or id_width + len(marks) + names_width + room + 2 <= width

    if not has_room():
        names_width = longest
    if not has_room() and len({id_[:12] for id_, _, _, _ in rows}) == len(rows):
        id_width = 12
    if not has_room():
        room = max(width - id_width - len(marks) - names_width - 2, 12)
    return ["%-*.*s %s%-*s %s" % (id_width, id_width, id_, extra, names_width, names,
                                  image if len(image) <= room else "..." + image[3 - room:])
            for id_, extra, names, image in rows]


def container_lines(context, containers, arguments):
    """The listing of containers."""
    marks = "P M " + ("MOD " if arguments.modes else "") + ("%6s " % "SIZE" if arguments.size else "") + (
        "%-18s " % "PLATFORM" if arguments.platform else "")
    rows, size = [container_row(context, container, arguments) for container in containers], say.result_size()
    return container_table(rows, marks, size[0] if size and not arguments.no_trunc else None)


@command("ps", options=(
    Option("--modes", "-m", meaning="also show the execution mode"),
    Option("--size", "-s", meaning="also show the size in MB"),
    Option("--platform", "-p", meaning="also show the platform"),
    Option("--quiet", "-q", meaning="show ids only"),
    Option("--filter", "-f", value="KEY=VALUE", repeatable=True,
           meaning="only containers that match: name=, id=, ancestor=, status= or label="),
    Option("--last", "-n", value="NUMBER", meaning="only so many, those made last, newest first"),
    Option("--latest", "-l", meaning="only the one made last"),
    LIST_FORMAT_OPTION,
    Option("--all", "-a", meaning="as docker has it: all are always shown"),
    Option("--no-trunc", meaning="do not shorten what does not fit into a line")),
         examples=("udocker ps", "udocker ps -m -s", "udocker ps --format='{{.ID}} {{.Mode}}'",
                   "udocker ps --format='table {{.Names}}\\t{{.Image}}'"))
def command_ps(context, arguments):
    """List the containers: these are trees that `run` can run, not processes.

    P is P for a protected one; M is W for a writable tree, R for a read-only one, N for none. On a terminal that is
    too narrow, ids and images are shortened; the beginning of an id serves as well as the whole.
    """
    warn_of_absent_store(context)
    filters = parse_filters(arguments.filter, CONTAINER_FILTERS)
    count = 1 if arguments.latest else None if arguments.last is None else parse_count("--last", arguments.last)
    has_status = arguments.format not in (None, "table") or "status" in dict(filters)
    processes = own_processes() if has_status else []
    found = [container for container in context.containers.list() if is_listed_container(container, filters, processes)]
    if count is not None:
        found = sorted(found, key=lambda container: container.made_at, reverse=True)[:count]
    if arguments.format not in (None, "table"):
        has_size = arguments.size or ".size" in arguments.format.lower()
        records = [container_record(context, container, has_size, processes) for container in found]
        lines = formatted(arguments.format, records, CONTAINER_HEADINGS)
    elif arguments.quiet:
        lines = [container.id for container in found]
    else:
        lines = container_lines(context, found, arguments)
    if lines:
        say.result("\n".join(lines))


@command("rm", "CONTAINER...", options=(
    Option("--force", "-f", meaning="those too that are protected or run, and be content where there is none"),
    Option("--volumes", "-v", meaning="as docker has it: there are no volumes to remove")),
         examples=("udocker rm 7b2d4456-9ee7-3138-ad01-63d1342d8545", "udocker rm mycontainer"))
def command_rm(context, arguments):
    """Remove containers: their trees, and all data in them, are lost. When one of them cannot be, none is."""
    containers = []
    for word in arguments.container:
        container = context.containers.find(word)
        if container:
            containers.append(container)
        elif has_image(context, word):
            raise NotFoundError("%r: no such container" % word, "it is an image: udocker rmi %s removes it" % word)
        elif arguments.force:
            say.warning("%r: no such container" % word)
        else:
            context.containers.get(word)
    remove_containers(context, containers, arguments.force)
    for container in containers:
        say.result(container.id)


def removable(context, word, is_forced):
    """images_of() a word for rmi; ConflictError where it is an id with several names, and it is not forced."""
    found = images_of(context, word)
    if found[1:] and not is_forced:
        raise ConflictError("%s has several names: %s" % (word, ", ".join(map(str, found))),
                            "name those that shall go, or udocker rmi -f removes all of them")
    return found


@command("rmi", "IMAGE...", options=(
    Option("--force", "-f", meaning="go on when parts cannot be removed, and be content where there is none"),),
         examples=("udocker rmi -f indigodatacloud/ambertools_app:latest",))
def command_rmi(context, arguments):
    """Remove images. Containers made of them stay and still run."""
    for word in arguments.image:
        if context.containers.find(word) and not has_image(context, word):
            raise NotFoundError("%s: no such image here" % word, "it is a container: udocker rm %s removes it" % word)
    references = []
    for reference in [reference for word in arguments.image for reference in removable(context, word, arguments.force)]:
        if has_remains(context, reference):
            references.append(reference)
        elif arguments.force:
            say.warning("%s: no such image here" % reference)
        else:
            context.images.get(reference)
    for reference in references:
        say.result(str(remove_image(context, reference, arguments.force)))


@command("name", "CONTAINER", "NAME", examples=("udocker name d2578feb-acfc-37e0-8561-47335f85e46d BLUE",))
def command_name(context, arguments):
    """Give a container a name, which serves wherever its id does. It may have several."""
    context.containers.add_name(context.containers.get(arguments.container), arguments.name)


@command("rmname", "NAME", examples=("udocker rmname BLUE",))
def command_rmname(context, arguments):
    """Take a name from a container, which itself stays."""
    context.containers.remove_name(arguments.name)


@command("rename", "NAME", "NEW", examples=("udocker rename mycontainer yourcontainer",))
def command_rename(context, arguments):
    """Give a container another name in place of the one it has."""
    rename_container(context, arguments.name, arguments.new)


@command("tag", "SOURCE", "TARGET", examples=("udocker tag busybox mybusybox:1.0",))
def command_tag(context, arguments):
    """Give an image another name. Both names share the layers."""
    tag_image(context, images_of(context, arguments.source)[0], Reference.parse(arguments.target))


@command("protect", "NAME...", examples=("udocker protect indigodatacloud/ambertools_app:latest",
                                         "udocker protect 3d528987-a51e-331a-94a0-d278bacf79d9"))
def command_protect(context, arguments):
    """Mark containers or images so that rm and rmi leave them alone."""
    for word in arguments.name:
        set_protection(context, word, True)


@command("unprotect", "NAME...", examples=("udocker unprotect indigodatacloud/ambertools_app:latest",))
def command_unprotect(context, arguments):
    """Take the mark of protect away."""
    for word in arguments.name:
        set_protection(context, word, False)


@command("clone", "CONTAINER", options=(
    Option("--name", value="NAME", meaning="name of the new container"), FORCE_NAME_OPTION),
         examples=("udocker clone --name=second mycontainer",))
def command_clone(context, arguments):
    """Copy a container, with its tree and mode, and print the id of the copy."""
    say.result(clone_container(context, arguments.container, arguments.name, arguments.force).id)


@command("cp", "SOURCE", "TARGET", options=(
    Option("--follow-link", "-L", meaning="follow a link that SOURCE is"),
    Option("--archive", "-a", meaning="as docker has it: modes and times are always kept"), QUIET_OPTION),
         examples=("udocker cp mycontainer:/etc/os-release .", "udocker cp data/ mycontainer:/srv",
                   "tar c src | udocker cp - mycontainer:/srv"))
def command_cp(context, arguments):
    """Copy a file or a directory out of a container, into one, or between two.

    One of them, or both, is CONTAINER:PATH. A directory is copied into a directory that is there, and is made where
    none is; SOURCE/. stands for what is in it. With - as TARGET a tar archive goes to standard output; with - as SOURCE
    one comes from standard input, and goes into a directory of a container.
    """
    copy_between(context, arguments.source, arguments.target, arguments.follow_link)


@command("diff", "CONTAINER", examples=("udocker diff mycontainer",))
def command_diff(context, arguments):
    """List what a container has otherwise than its image: A was added, C changed, D removed.

    The image is unpacked once more for it, for a moment, and must be here.
    """
    changes = container_changes(context, arguments.container)
    lines = ["%s /%s" % (change, printable(name)) for name, change in sorted(changes.items())]
    if lines:
        say.result("\n".join(lines))


@command("commit", "CONTAINER", "IMAGE", options=(
    Option("--author", "-a", value="TEXT", meaning="who made it"), CHANGE_OPTION,
    Option("--message", "-m", value="TEXT", meaning="what was done"),
    Option("--pause", "-p", meaning="as docker has it: what runs in the container is not held"), QUIET_OPTION),
         examples=("udocker commit mycontainer lab/tools:1.1",
                   "udocker commit -m 'with R' -c 'CMD [\"R\"]' -c 'ENV LANG=C.UTF-8' mycontainer lab/r"))
def command_commit(context, arguments):
    """Make an image of a container, and print its id.

    It has the layers of the image that the container was made of, where that is here, and one more of what has changed
    since; else one of all that is there. The image below is unpacked once more for it, for a moment.
    """
    image = commit_container(context, arguments.container, Reference.parse(arguments.image), arguments.change,
                             arguments.author or "", arguments.message or "")
    say.result(image_id(image))


NETWORK_OPTION = Option("--network", "--net", value="host|none",
                        meaning="the host's, or none but a loopback of its own (modes N1 and R1)")


def unknown_network(arguments):
    """What --network asks for that cannot be had, as a list."""
    return ["--network=" + arguments.network] if arguments.network not in (
        None, "", "default", "host", "none") else []


# Of these docker's build knows some that change nothing here
BUILD_OMISSIONS = omitted(
    "--compress --force-rm --rm --squash --load") + omitted(
    "--builder --cache-from --cache-to --cgroup-parent --cpu-period --cpu-quota --cpu-shares,-c "
    "--cpuset-cpus --cpuset-mems --isolation --memory,-m --memory-swap --progress --provenance --sbom "
    "--security-opt --shm-size --ssh --ulimit", "VALUE")


@command("build", "CONTEXT", options=(
    Option("--tag", "-t", value="IMAGE", repeatable=True, meaning="name of the image; without one it gets one"),
    Option("--file", "-f", value="FILE", meaning="the Dockerfile, - for standard input; without it, that in CONTEXT"),
    Option("--build-arg", value="NAME[=VALUE]", repeatable=True, meaning="value of an ARG; without one the host's"),
    Option("--target", value="STAGE", meaning="end with this stage"),
    Option("--label", value="NAME=VALUE", repeatable=True, meaning="label of the image"),
    Option("--secret", value="id=ID,src=FILE", repeatable=True, meaning="what RUN --mount=type=secret sees"),
    Option("--no-cache", meaning="take nothing from earlier builds"),
    Option("--pull", meaning="pull the images that it begins with, although they are here"),
    Option("--iidfile", value="FILE", meaning="write the image's id to this file"),
    Option("--add-host", value="NAME:ADDRESS", repeatable=True, meaning="one more line for /etc/hosts of RUN"),
    NETWORK_OPTION, PROXY_OPTION, PLATFORM_OPTION, QUIET_OPTION) + BUILD_OMISSIONS,
         examples=("udocker build -t lab/tools:1.2 .",
                   "udocker build -t lab/tools -f tools.dockerfile --build-arg=VERSION=1.2 --target=final src/"))
def command_build(context, arguments):
    """Build an image by a Dockerfile, and print its id.

    CONTEXT is the directory that COPY takes files from, or - where there is none, and the Dockerfile comes by standard
    input. Each RUN, COPY and ADD makes a layer, which later builds take again as long as nothing before it changes. RUN
    is run as by run, where no other mode is set in N1 or P1; a chown in it counts in N1 alone.
    """
    arguments.platform = given_platform(arguments)
    tell_left_out(arguments, BUILD_OMISSIONS, unknown_network(arguments))
    raise_on_signals(is_guarded=True)
    arguments.guardian, status = os.getpid(), Guardian().fork()
    if status is not None:
        return status
    directory = "" if arguments.context == "-" else arguments.context
    names = arguments.tag or [name_of_build(directory, arguments.file or "")]
    image = build_image(context, [Reference.parse(text) for text in names], directory, arguments,
                        Arguments(COMMANDS["run"].options))
    if arguments.iidfile:
        write_atomic(arguments.iidfile, image_id(image).encode("ascii"), 0o644)
    say.result(image_id(image))
    return 0


@command("load", "[-]", "[NAME]", options=(
    Option("--input", "-i", value="FILE", meaning="archive, or directory of an OCI layout; without it, standard input"),
    PLATFORM_OPTION, QUIET_OPTION), examples=("udocker load -i docker-image.tar", "docker save busybox | udocker load",
                                              "udocker load -i layout/ lab/app"))
def command_load(context, arguments):
    """Load images that docker save, podman save or skopeo wrote, and print their names.

    With NAME they are given this name, and keep their tags.
    """
    source = stream_or_file(arguments, arguments.input)
    if source == "-" and not arguments.is_stream and arguments.name and os.path.exists(arguments.name):
        raise UsageError("%s is a file, and a name was expected" % arguments.name, "udocker load -i " + arguments.name)
    for image in load_images(context, source, arguments.name or "", given_platform(arguments)):
        say.result(str(image))


@command("save", "[-]", "IMAGE...", options=(
    Option("--output", "-o", value="FILE", meaning="archive to write; without it, standard output"),),
         examples=("udocker save -o busybox.tar busybox", "udocker save busybox ubuntu:22.04 | gzip > images.tar.gz"))
def command_save(context, arguments):
    """Write images to an archive that docker, podman, skopeo and udocker can load."""
    references = [images_of(context, word)[0] for word in arguments.image]
    save_images(context, references, stream_or_file(arguments, arguments.output))


@command("import", "TARBALL", "[IMAGE]", options=(
    Option("--mv", meaning="move the archive instead of copying it"),
    Option("--tocontainer", meaning="make a container, no image, and print its id"),
    Option("--clone", meaning="make a container of what export --clone wrote, and print its id"),
    Option("--name", value="NAME", meaning="name of the new container"),
    CHANGE_OPTION, PLATFORM_OPTION, QUIET_OPTION),
         examples=("udocker import container.tar myrepo:latest", "udocker import --mv container.tar myrepo:latest",
                   "docker export NAME | udocker import - myrepo", "udocker import --tocontainer --name=mine c.tar",
                   "udocker export NAME | udocker import --change='CMD [\"sh\"]' --change='ENV A=1' - myrepo"))
def command_import(context, arguments):
    """Make an image, or a container, of an archive of a container's tree, as docker export writes it.

    The archive may be compressed; - is standard input.
    """
    platform = given_platform(arguments)
    source, is_container = arguments.tarball, arguments.tocontainer or arguments.clone
    if arguments.mv and is_container:
        raise UsageError("--mv is for images", COMMANDS["import"].help_hint)
    if arguments.name is not None and not is_container:
        raise UsageError("--name= is for containers", "with --tocontainer, or --clone, one is made; an image's name "
                         "comes after the archive's")
    if arguments.clone:
        if arguments.image or platform or arguments.tocontainer or arguments.change:
            raise UsageError("--clone: the archive says itself what it is", COMMANDS["import"].help_hint)
        say.result(import_clone(context, source, arguments.name).id)
        return
    if not arguments.image and not arguments.tocontainer:
        raise UsageError("IMAGE is missing", COMMANDS["import"].help_hint)
    reference = Reference.parse(arguments.image) if arguments.image else None
    config = config_of(arguments.change)
    if arguments.tocontainer:
        image_name = str(reference) if reference else "IMPORTED:unknown"
        say.result(import_container(context, source, image_name, arguments.name, platform, config).id)
        return
    say.info("%s is imported" % import_image(context, source, reference, platform, config, arguments.mv))


@command("export", "[-]", "CONTAINER", options=(
    Option("--output", "-o", value="FILE", meaning="archive to write; without it, standard output"),
    Option("--clone", meaning="with what udocker knows about it, for import --clone"),
    Option("--squashfs", meaning="a squashfs, with the same, which run runs as it is; needs -o and mksquashfs")),
         examples=("udocker export -o mycontainer.tar mycontainer", "udocker export mycontainer | gzip > c.tar.gz",
                   "udocker export --squashfs -o mycontainer.sqfs mycontainer"))
def command_export(context, arguments):
    """Write the tree of a container to a tar archive, which docker import and udocker import read; or to a squashfs."""
    export_container(context, arguments.container, stream_or_file(arguments, arguments.output), arguments.clone,
                     arguments.squashfs)


@command("mkrepo", "DIRECTORY", examples=("udocker mkrepo /tmp/myrepo", "udocker --repo=/tmp/myrepo pull busybox"))
def command_mkrepo(_, arguments):
    """Make a store in a directory, for use with --repo=DIRECTORY."""
    make_store(arguments.directory)


def last_status(context, container):
    """The exit status of the last command that ran in the background; 0 where there is none."""
    try:
        with BackgroundRun(context.host, container) as run:
            return run.status() or 0
    except (Error, OSError):
        return 0


def inspected(context, word, kind, has_state):
    """(Container or Image, what docker calls some of its properties); of one `kind` alone where one is given."""
    container = context.containers.find(word) if kind != "image" else None
    if container:
        properties = {"Id": container.id, "Name": (container.names or [""])[0], "Image": container.image_name}
        if has_state:
            state = container_state(container)
            properties["State"] = dict(state, ExitCode=0 if state["Running"] else last_status(context, container))
        return container, properties
    image = context.images.find(images_of(context, word)[0]) if kind != "container" else None
    if not image:
        raise NotFoundError("%s: no such %s" % (word, kind or "container or image"),
                            "udocker ps and udocker images list those there are")
    digests = ["%s@%s" % (image.name, image.digest)] if image.digest else []
    return image, {"Id": image_id(image), "RepoTags": [str(image)], "RepoDigests": digests,
                   "RootFS": {"Type": "layers", "Layers": image.config().diff_ids}}


# What an image does not say is empty for docker's templates, and no error
SILENT_CONFIG = {"Hostname": "", "Domainname": "", "User": "", "WorkingDir": "", "Image": "", "StopSignal": "",
                 "Env": [], "Cmd": [], "Entrypoint": [], "OnBuild": [], "Labels": {}, "Volumes": {}, "ExposedPorts": {}}


def template_document(thing, properties):
    """What --format of inspect shows of a Container or Image."""
    document = thing.config().document
    told = {name: value for name, value in object_of(document.get("config")).items() if value is not None}
    config = dict(SILENT_CONFIG, **told)
    return dict(document, config=config, **properties)


@command("inspect", "NAME...", options=(
    Option("-p", meaning="print the path of the container's tree"),
    Option("--type", value="TYPE", meaning="look for this alone: container or image"),
    Option("--format", "-f", value="TEMPLATE", meaning="print only this, as in {{.Config.Env}} or {{json .Config}}, "
           "or all in one line: json")),
         examples=("udocker inspect ubuntu:latest", "udocker inspect -p d2578feb-acfc-37e0-8561-47335f85e46d",
                   "udocker inspect --format='{{.Config.Env}}' ubuntu:latest"))
def command_inspect(context, arguments):
    """Print the config of a container, or of an image, as JSON: of several as a list."""
    kind = "container" if arguments.p and not arguments.type else arguments.type
    if kind not in (None, "container", "image"):
        raise UsageError("--type=%s: there are container and image" % kind)
    if arguments.p and kind == "image":
        raise UsageError("-p is for containers, which alone have a tree")
    found = [inspected(context, word, kind, bool(arguments.format)) for word in arguments.name]
    if arguments.p:
        lines = [container.root for container, _ in found]
    elif arguments.format:
        render = renderer(arguments.format)
        lines = [render(template_document(*pair)) for pair in found]
    else:
        documents = [thing.config().document for thing, _ in found]
        lines = [dump_json(documents if documents[1:] else documents[0])]
    say.result("\n".join(lines))


@command("verify", "IMAGE", options=(
    Option("--blobs", meaning="check the files as they are, not what they unpack to: several times as fast"),),
         examples=("udocker verify indigodatacloud/powerfit:latest",))
def command_verify(context, arguments):
    """Check every layer of an image: the file against its digest, and what it unpacks to against the config.

    A file that is damaged is dropped, and the next pull brings it anew.
    """
    image = find_image(context, arguments.image)
    problems = verify_image(image, not arguments.blobs)
    if problems:
        raise DigestError("%s is damaged: %s" % (image, "; ".join(problems)), "udocker pull %s mends it" % image)
    say.result("%s is intact" % image)


@command("setup", "CONTAINER", options=(Option("--execmode", value="XY", meaning="; ".join(
    "%s: %s" % (mode.code, mode.description) for mode in MODES.values()), choices=tuple(MODES)),
    Option("--force", meaning="convert the container anew, with what was added to it since"),
    Option("--fixperm", meaning="make all in the container readable and writable for you"),
    Option("--nvidia", meaning="every run of the container gets the host's NVIDIA GPUs, where it has some"),
    Option("--purge", meaning="take the mark of --nvidia away")),
         examples=("udocker setup --execmode=F3 mycontainer", "udocker setup mycontainer",
                   "udocker setup --nvidia mycontainer"))
def command_setup(context, arguments):
    """Choose the mode in which a container is run, or print the present one; give it the host's GPUs."""
    container = context.containers.get(arguments.container)
    if arguments.fixperm:
        say.info("%d files and directories mended" % fix_permissions(container))
    if arguments.nvidia or arguments.purge:
        container.needs_gpus = arguments.nvidia
    if arguments.execmode is not None or arguments.force:
        change_mode(container, arguments.execmode or container.mode or context.default_mode, arguments.force)
    elif not (arguments.fixperm or arguments.nvidia or arguments.purge):
        say.result(container.mode or context.default_mode)


# How a command runs in a container
EXECUTION_OPTIONS = (
    Option("--workdir", "-w", value="DIR", meaning="working directory in the container"),
    Option("--user", "-u", value="USER", meaning="user in the container: NAME or UID, with :GROUP or :GID"),
    Option("--volume", "-v", value="HOST[:PATH][:ro]", repeatable=True,
           meaning="host file or directory that appears in the container"),
    Option("--mount", value="type=bind,source=HOST,target=PATH[,readonly]", repeatable=True,
           meaning="the same in docker's other spelling; type=tmpfs too"),
    Option("--tmpfs", value="PATH", repeatable=True, meaning="an empty directory, gone afterwards"),
    Option("--novol", value="PATH", repeatable=True, meaning="leave this host file or directory out"),
    Option("--env", "-e", value="NAME[=VALUE]", repeatable=True,
           meaning="environment variable; without a value the host's"),
    Option("--env-file", value="FILE", repeatable=True, meaning="file of environment variables, one a line"),
    Option("--hostauth", meaning="the host's passwd and group appear in the container"),
    Option("--containerauth", meaning="the container's own passwd and group, as without --hostauth"),
    Option("--hostenv", meaning="pass the host's environment"),
    Option("--mpi", meaning="as --hostenv, and the host's MPI library stands in for the container's"),
    Option("--bindhome", meaning="your home directory appears in the container"),
    Option("--nosysdirs", meaning="/proc, /sys, /dev and the host's name resolution do not appear"),
    Option("--nometa", meaning="ignore what the image says of environment, user, directory and command"),
    Option("--kernel", value="RELEASE", meaning="kernel release that programs shall see (modes P1 and P2)"),
    Option("--hostname", "-h", value="NAME", meaning="host name that programs shall see"),
    Option("--add-host", value="NAME:ADDRESS", repeatable=True, meaning="one more line for /etc/hosts"),
    Option("--dri", meaning="the host's graphics drivers and display appear in the container"),
    Option("--read-only", meaning="the container's tree cannot be written to (modes N1 and R1)"),
    Option("--ephemeral", meaning="changes are kept apart, and gone afterwards (mode N1)"),
    Option("--cpuset-cpus", value="CPUS", meaning="processors to run on, as in 0-3,8"),
    Option("--ulimit", value="NAME=SOFT[:HARD]", repeatable=True,
           meaning="limit of the shell's ulimit, as in nofile=1024"),
    Option("--init", meaning="udocker stays, passes signals on, and ends what the command leaves behind"),
    Option("--gpus", value="GPUS", meaning="NVIDIA GPUs and the host's driver for them: all, a number, device=0,1 or "
           "all,capabilities=utility"),
    Option("--nvidia", meaning="the same as --gpus=all"),
    Option("--device", value="DEVICE", repeatable=True,
           meaning="device that appears: /dev/NAME[:PATH], or VENDOR/CLASS=NAME of a CDI file"),
    Option("--interactive", "-i", meaning="as docker has it: standard input is always passed on; with --detach it is "
           "one that nothing comes from, else it has ended"),
    Option("--tty", "-t", meaning="as docker has it: a terminal is always passed on; with --detach the same as -i"),
    Option("--attach", "-a", value="STREAM", repeatable=True, meaning="as docker has it: all streams always are"),
    Option("--sig-proxy", meaning="as docker has it: signals are always passed on"),
    Option("--detach", "-d", meaning="end when the command is started, and let it go on in the background; run prints "
           "the container's id, and keeps what logs and wait tell, exec nothing"),
    Option("--nobanner", meaning="do not tell on the terminal what is run"),
)


# What takes privileges, or means nothing where no daemon is
EXEC_OMISSIONS = omitted("--privileged") + omitted("--detach-keys", "VALUE")
OMITTED_OPTIONS = EXEC_OMISSIONS + omitted("--disable-content-trust --no-healthcheck --oom-kill-disable") + omitted(
    "--annotation --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cpu-count --cpu-percent "
    "--cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares,-c --cpus --cpuset-mems "
    "--device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns "
    "--dns-option,--dns-opt --dns-search --domainname --group-add --health-cmd --health-interval "
    "--health-retries --health-start-interval --health-start-period --health-timeout --io-maxbandwidth --io-maxiops "
    "--ip --ip6 --isolation --kernel-memory --label,-l --label-file --link-local-ip --log-driver --log-opt "
    "--mac-address --memory,-m --memory-reservation --memory-swap --memory-swappiness --network-alias,--net-alias "
    "--oom-score-adj --pids-limit --restart --security-opt --shm-size --stop-signal --stop-timeout --storage-opt "
    "--sysctl", "VALUE")

# Of these the host's are used: that is what the value host asks for
SHARED_OPTIONS = (NETWORK_OPTION,) + tuple(
    Option("--" + name, value="host", meaning="the host's, whatever else is asked for")
    for name in ("ipc", "pid", "uts", "userns", "cgroupns"))

RUN_OPTIONS = EXECUTION_OPTIONS + (
    Option("--rm", meaning="remove the container afterwards"),
    Option("--name", value="NAME", meaning="give the container this name"),
    Option("--entrypoint", value="PROGRAM", meaning="instead of the image's entrypoint; empty for none"),
    Option("--location", value="DIR", meaning="run the tree in this directory, or this squashfs or SIF file: "
           "CONTAINER then only tells how, where it names one that is here"),
    Option("--cidfile", value="FILE", meaning="write the container's id to this new file"),
    Option("--publish", "-p", value="[HOST-PORT:]PORT", repeatable=True,
           meaning="the host's port at which a port of the command is reached, as in 8080:80, 127.0.0.1:8080:80 or "
           "5353:53/udp (mode N1)"),
    Option("--publish-all", "-P", meaning="the same for all ports that the image names, and --expose"),
    Option("--expose", value="PORT", repeatable=True, meaning="one more port for --publish-all"),
    Option("--runtime", value="NAME", meaning="nvidia is the same as --nvidia; another is told, and left out"),
) + SHARED_OPTIONS + OMITTED_OPTIONS


def tell_omissions(arguments):
    """One line for what is left out."""
    left_out = unknown_network(arguments) + [
        "--%s=%s" % (option.attribute, getattr(arguments, option.attribute)) for option in SHARED_OPTIONS[1:]
        if getattr(arguments, option.attribute) not in (None, "", "host")]
    if arguments.runtime not in (None, "nvidia"):
        left_out.append("--runtime=" + arguments.runtime)
    tell_left_out(arguments, OMITTED_OPTIONS, left_out)


@command("run", "CONTAINER", "[ARGUMENT...]", options=RUN_OPTIONS + (PULL_OPTION,) + REGISTRY_OPTIONS + (QUIET_OPTION,),
         is_raw=True, failure_status=125, examples=(
             "udocker run myfed cat /etc/redhat-release", "udocker run --volume=/tmp myfed /bin/bash",
             "udocker run -v=$HOME:/home/user -w=/home/user myfed /bin/bash",
             "udocker run --user=1000:1001 myfed /bin/id", "udocker run --rm busybox echo hello",
             "udocker run ./mycontainer.sqfs /bin/ls -l /etc"))
def command_run(context, arguments):
    """Run a command in a container.

    CONTAINER is an id or a name, or an image, which is unpacked into a new container each time, and pulled when
    it is not here; or the path of a squashfs or SIF file, as in ./app.sqfs, which stays as it is. The exit status is
    the command's own; 125 where udocker could not start it, 126 where it cannot be executed, 127 where it does not
    exist, 128+n where signal n ended it.
    """
    arguments.registry, arguments.platform = given_address(arguments), given_platform(arguments)
    tell_omissions(arguments)
    arguments.nvidia = arguments.nvidia or arguments.runtime == "nvidia"
    return run_container(context, arguments.container, arguments.argument, arguments)


@command("exec", "CONTAINER", "COMMAND", "[ARGUMENT...]", options=EXECUTION_OPTIONS + EXEC_OMISSIONS, is_raw=True,
         failure_status=125, examples=(
             "udocker exec mycontainer ps", "udocker exec -w /srv -e LANG=C mycontainer sh -c 'ls | wc -l'"))
def command_exec(context, arguments):
    """Run one more command in a container, as run does, but without the image's entrypoint.

    A run need not be going on. Of one that is, on this host, it has the volumes, devices, variables, user, directory
    and the like, but where it is told otherwise.
    """
    options = Arguments(COMMANDS["run"].options)
    vars(options).update(vars(arguments), entrypoint="")
    tell_omissions(options)
    words = [arguments.command] + arguments.argument
    return run_container(context, arguments.container, words, options, is_exec=True)


@command("port", "CONTAINER", "[PORT]", examples=("udocker port mycontainer", "udocker port mycontainer 80"))
def command_port(context, arguments):
    """Print at which ports of the host the ports are reached that a run published.

    PORT is one of the container's, as in 80 or 53/udp.
    """
    container = context.containers.get(arguments.container)
    ports = RunRecord(context.host, container).ports
    if arguments.port is not None:
        number, _, protocol = arguments.port.partition("/")
        ports = [port for port in ports if (str(port.guest), port.protocol) == (number, protocol or "tcp")]
        if not ports:
            raise NotFoundError("%s: no run publishes port %s" % (arguments.container, arguments.port),
                                "udocker run --publish=HOST-PORT:PORT does it")
    for port in ports:
        text = "%s" if arguments.port is not None else "%d/%s -> %%s" % (port.guest, port.protocol)
        say.result(text % port.place)


@command("kill", "CONTAINER...", options=(
    Option("--signal", "-s", value="SIGNAL", meaning="send this signal instead of KILL, to the commands alone"),),
         examples=("udocker kill mycontainer", "udocker kill --signal=USR1 mycontainer"))
def command_kill(context, arguments):
    """End what runs in containers, on this host; or send the commands another signal.

    The udocker that runs a command then ends with its exit status, and removes the container where it was to.
    What runs with --ephemeral is not found. In P1 and P2 STOP holds nothing, as PRoot makes what stops go on.
    """
    number = parse_signal("KILL" if arguments.signal is None else arguments.signal)
    containers, failures = [context.containers.get(word) for word in arguments.container], []
    for container in containers:
        try:
            signal_container(container, number)
            say.result(container.id)
        except (NotFoundError, EngineError) as error:
            failures.append(error)
    if failures:
        raise EngineError("; ".join(error.message for error in failures), failures[0].hint)


@command("stop", "CONTAINER...", options=(
    Option("--time", "-t", "--timeout", value="SECONDS", meaning="until what is left is killed; 10 without it"),
    Option("--signal", "-s", value="SIGNAL", meaning="send this one; without it the image's, or TERM")),
         examples=("udocker stop mycontainer", "udocker stop --time=60 mycontainer"))
def command_stop(context, arguments):
    """Ask what runs in containers, on this host, to end, and kill what is left after a time."""
    patience = 10 if arguments.timeout is None else parse_count("--time", arguments.timeout, 0)
    for container in [context.containers.get(word) for word in arguments.container]:
        number = parse_signal(arguments.signal) if arguments.signal else stop_signal(readable_config(container))
        stop_container(context, container, number, patience)
        say.result(container.id)


@command("logs", "CONTAINER", options=(
    Option("--follow", "-f", meaning="and what follows, until the command has ended"),
    Option("--tail", "-n", value="LINES", meaning="only so many lines, the last ones; or all")),
         examples=("udocker logs mycontainer", "udocker logs --tail=10 -f mycontainer"))
def command_logs(context, arguments):
    """Show what the last command that run --detach started in a container has printed: both streams in one."""
    count = None if arguments.tail in (None, "all") else parse_count("--tail", arguments.tail, 0)
    with BackgroundRun(context.host, context.containers.get(arguments.container)) as run, Naming(Say.OUTPUT):
        for piece in run.pieces(count, arguments.follow):
            write_all(1, piece)


@command("wait", "CONTAINER...", examples=("udocker wait mycontainer",))
def command_wait(context, arguments):
    """Wait until what run --detach started in containers has ended, and print the exit status of each."""
    import contextlib
    with contextlib.ExitStack() as stack:       # all open: one may go with its container while others are waited for
        runs = [stack.enter_context(BackgroundRun(context.host, context.containers.get(word)))
                for word in arguments.container]
        for run in runs:
            say.result(str(run.wait()))


@command("df", options=(FORMAT_OPTION, Option("--verbose", "-v", meaning="as docker has it: all is always shown")),
         examples=("udocker df", "udocker df --format='{{.Total.Images}}'"))
def command_df(context, arguments):
    """Show what takes up space on disk: images, with what each shares with no other, containers, rubbish."""
    images, size_of_images = image_sizes(context)
    containers = [(container, allocated_size(container.path)) for container in context.containers.list()]
    rubbish = []
    try:
        rubbish = find_rubbish(context)
    except ConflictError as error:      # nobody knows what is rubbish
        say.warning(error.message)
    totals = {"Images": size_of_images, "Containers": sum(size for _, size in containers),
              "Rubbish": sum(size for _, size in rubbish)}
    if arguments.format is not None:
        say.result(renderer(arguments.format)({
            "Total": totals, "Images": [{"Image": str(image), "Size": size, "Own": own} for image, size, own in images],
            "Containers": [{"ID": container.id, "Names": ",".join(container.names), "Size": size}
                           for container, size in containers]}))
        return
    notes = {"Images": "%d" % len(images), "Containers": "%d" % len(containers), "Rubbish": "udocker prune removes it"}
    for title, total in totals.items():
        say.result("%-12s %10s  %s" % (title.upper(), human_size(total), notes[title]))
    if images:
        say.result("\n%-10s %10s  %s" % ("SIZE", "OWN", "IMAGE"))
    for image, size, own in images:
        say.result("%-10s %10s  %s" % (human_size(size), human_size(own), image))
    if containers:
        say.result("\n%-10s  %-36s  %s" % ("SIZE", "CONTAINER", "NAMES"))
    for container, size in containers:
        say.result("%-10s  %s  %s" % (human_size(size), container.id, " ".join(container.names)))


@command("prune", options=(
    Option("--dry-run", meaning="only show what would be removed"),
    Option("--force", "-f", meaning="as docker has it: nothing is ever asked"),
    Option("--volumes", meaning="as docker has it: there are no volumes to remove")),
         examples=("udocker prune --dry-run", "udocker prune"))
def command_prune(context, arguments):
    """Remove what no image and no container needs: what interrupted commands left, blobs without an image.

    Images and containers stay.
    """
    rubbish = prune(context, arguments.dry_run)
    for path, size in rubbish:
        say.result("%10s  %s" % (human_size(size), printable(path)))
    total = human_size(sum(size for _, size in rubbish))
    say.result("%s %s" % (total, "would be freed" if arguments.dry_run else "freed"))


def version_line():
    """The version of the program and of Python."""
    return "udocker %s (Python %s)" % (__version__, sys.version.split()[0])


SHORT_FORMAT_OPTION = Option("--format", "-f", value="TEMPLATE", meaning=FORMAT_OPTION.meaning)


@command("info", options=(SHORT_FORMAT_OPTION,), examples=("udocker info",))
def command_info(context, arguments):
    """Show the program, the machine and the store, for a first look."""
    pairs = [("version", version_line())] + installed_parts(context) + store_facts(context)
    if arguments.format is not None:
        known = {"ServerVersion": __version__, "OSType": "linux", "Architecture": context.host.machine,
                 "Name": context.host.name}
        known.update((name.replace(" ", "_"), value) for name, value in pairs)
        say.result(renderer(arguments.format)(known))
        return
    say.result("\n".join("%-14s %s" % (name + ":", value) for name, value in pairs))


@command("doctor", options=(Option("--json", meaning="print it as one JSON object"),),
         examples=("udocker doctor", "udocker doctor --json"))
def command_doctor(context, arguments):
    """Tell which modes work on this host, and why the others do not: the first thing to ask when something fails.

    Every engine that is here is tried. The exit status is 1 where no mode works.
    """
    facts = host_facts(context) + [("squashfs", fate_of_tree_files(context))]
    reports = [examine_mode(context, code) for code in MODES]
    advice = (working_modes(reports) or [""])[0]
    if arguments.json:
        modes = [{"mode": report.code, "works": report.works, "detail": report.detail, "hint": report.hint}
                 for report in reports]
        say.result(dump_json(dict(facts, modes=modes, default=context.default_mode, advice=advice)))
        return 0 if advice else 1
    rows = list(facts)
    for report in reports:
        verdict = {True: "works, ", False: "does not work: ", None: ""}[report.works]
        rows.append(("mode " + report.code, verdict + report.detail))
        if report.hint:
            rows.append(("", report.hint))
    rows.append(("advice", "%s is the best mode here: udocker setup --execmode=%s CONTAINER, "
                           "or UDOCKER_DEFAULT_EXECUTION_MODE=%s" % ((advice,) * 3)
                 if advice else "only the modes of Fakechroot may work: udocker setup --execmode=F3 CONTAINER"
                 if are_some_open(reports) else "no mode works on this host"))
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        say.result("\n".join(wrapped(value, name.ljust(width), " " * width)))
    return 0 if advice else 1


@command("install", "[MODE...]", options=(
    Option("--force", meaning="also what is there already"),
    Option("--purge", meaning="first remove what was installed"),
    Option("--from", value="FILE|URL", meaning="take it out of this tarball"),
    Option("--list", meaning="only print what is needed: tarball, digest, destination, addresses"), PROXY_OPTION),
         examples=("udocker install", "udocker install P1 R1", "udocker install --list",
                   "udocker install --from=udocker-englib-1.2.10.tar.gz"))
def command_install(context, arguments):
    """Fetch the tools that modes need, of all modes where none is named, for this machine, and check them.

    It is never needed where the internet is: what a mode needs is fetched when it is first used.
    """
    if arguments.list:
        for tarball, digest, directory, urls in tools_wanted(context, arguments.mode):
            say.result("%s %s into %s" % (tarball, digest, directory))
            for url in urls:
                say.result("    " + url)
        return
    source = getattr(arguments, "from") or ""
    for path in install_tools(context, arguments.mode, source, arguments.force, arguments.purge):
        say.result(path)


@command("showconf", examples=("udocker showconf",))
def command_showconf(context, _):
    """Print every setting: its value, where that came from, and its variable."""
    rows = [(name, value or "-", origin, variable) for name, value, origin, variable in context.settings_table()]
    lines, size = aligned(map("\t".join, rows)), say.result_size()
    if size and max(map(len, lines)) > size[0]:         # a variable is its setting's name, in capitals
        lines = aligned("\t".join(row[:3]) for row in rows)
    say.result("\n".join(lines))


@command("version", options=(SHORT_FORMAT_OPTION,),
         examples=("udocker version", "udocker version --format='{{.Client.Version}}'"))
def command_version(context, arguments):
    """Print the version, and what udocker works with here: how it transfers, and the engines with their digests."""
    if arguments.format is not None:
        client = {"Version": __version__, "Python": sys.version.split()[0], "Os": "linux", "Arch": context.host.machine}
        say.result(renderer(arguments.format)(dict(client, Client=client, Server=client)))
        return
    say.result("\n".join([version_line()] + ["%s: %s" % pair for pair in installed_parts(context)]))


def overview():
    """The text of `udocker --help`."""
    lines = ["Usage: udocker [GLOBAL-OPTIONS] COMMAND [OPTIONS] [OPERANDS]", "",
             "Run Docker containers without root.", "", "Commands:"]
    for name, declared in COMMANDS.items():
        lines += wrapped(declared.meaning[0], "  %-12s " % name, " " * 15)
    lines += ["", "Global options:"] + option_lines(GLOBAL_OPTIONS)
    return "\n".join(lines + ["", "udocker COMMAND --help explains a command. Docker's groups are known too, as in",
                              "udocker container ls."])


# docker's options that a command does not have, "" for all of them: what to do instead
ABSENT_OPTIONS = {name: {spelling: hint for spellings, hint in rows for spelling in spellings.split()}
                  for name, rows in {
    "": [("-H --host --context -c --tls --tlscacert --tlscert --tlskey --tlsverify",
          "there is no daemon to talk to: leave it out"),
         ("-l --log-level", "-q tells errors only, -D everything")],
    "build": [("--build-context", "what COPY takes has to be in CONTEXT, or in an image"),
              ("--push", "udocker push does that afterwards"),
              ("-o --output", "udocker save writes the image afterwards, and udocker export a tree")],
    "history": [("-q --quiet", "udocker images --long lists the layers"),
                ("-H --human", "sizes always are for people: leave it out")],
    "kill": [("-1 -2 -3 -6 -9 -H -I -K -Q -T -U", "write --signal=TERM, or -s 15")],
    "import": [("-m --message", "an image that is imported has no history: leave it out")],
    "inspect": [("-s --size", "udocker df and udocker ps --size show sizes")],
    "prune": [("-a --all", "images and containers stay: udocker rmi and udocker rm remove those that you name"),
              ("--filter", "it removes what nobody needs, whatever its age or label: leave it out")],
    "pull": [("-a --all-tags", "udocker search --list-tags NAME lists the tags: pull those that you need")],
    "rm": [("-l --link", "containers have no links: udocker rmname NAME takes a name away")],
    "rmi": [("--no-prune", "what another image needs always stays: leave it out")],
    "run": [("--link", "what listens in another container is reached at 127.0.0.1: --add-host=NAME:127.0.0.1 names it"),
            ("--volumes-from", "volumes are directories of the host: name each with --volume=HOST:PATH"),
            ("--volume-driver", "volumes are directories of the host, whatever is below them: leave it out"),
            ("--use-api-socket", "there is no daemon whose socket the container could have")],
}.items()}


# docker's commands that udocker does not have: what to do instead
ABSENT_COMMANDS = {name: hint for names, hint in (
    (("bake", "init"), "udocker build makes one image by a Dockerfile"),
    (("start", "restart"), "a container is a tree at rest: udocker run --detach CONTAINER runs its command in the "
                           "background, as often as you like"),
    (("pause",), "udocker kill --signal=STOP CONTAINER makes what runs in it wait, but in P1 and P2, where PRoot does "
                 "not let it"),
    (("unpause",), "udocker kill --signal=CONT CONTAINER lets it go on"),
    (("attach",),
     "udocker logs --follow CONTAINER shows what runs in the background; udocker exec CONTAINER COMMAND runs one more"),
    (("top", "stats"), "the processes in a container are your own: the host's ps and top show them"),
    (("checkpoint",), "processes cannot be frozen; udocker clone CONTAINER copies a tree"),
    (("volume",), "directories of the host are the volumes: udocker run --volume=HOST:PATH"),
    (("network",), "the network is the host's: what listens in one container is reached from another at 127.0.0.1"),
    (("compose", "stack", "service"), "udocker run starts one service; all of them share the host's network"),
    (("update",), "limits are those of the shell and of the batch system; udocker run --ulimit= and --cpuset-cpus= "
                  "set some for one command"),
    (("events", "context", "swarm", "node", "secret", "config", "plugin"), "there is no daemon and no swarm: "
     "all lies in the files of a store, and udocker info and udocker showconf tell where"),
    (("trust", "scout"), "nothing is signed or scanned; udocker verify IMAGE checks it against its digests"),
    (("container prune",), "all containers that nothing runs in would be lost: udocker rm CONTAINER removes those "
                           "that you name, and udocker prune what interrupted commands left"),
) for name in names}


def same_names(names, **others):
    """{name of a command in one of docker's groups: what udocker is to be told for it}."""
    return dict({name: [name] for name in names.split()}, **others)


# docker's groups of commands
GROUPS = {
    "container": same_names(
        "attach commit cp create diff exec export kill logs pause port ps rename restart rm run start stats stop top "
        "unpause update wait", inspect=["inspect", "--type=container"], ls=["ps"], list=["ps"], remove=["rm"],
        prune=["container prune"]),
    "image": same_names("build history import load prune pull push save tag", inspect=["inspect", "--type=image"],
                        ls=["images"], list=["images"], rm=["rmi"], remove=["rmi"]),
    "system": same_names("df events info prune"),
    "builder": same_names("build prune"),
    "buildx": same_names("bake build prune"),
}


def group_hint(group):
    """The commands of a group that udocker has."""
    names = [name for name, words in GROUPS[group].items() if words[0] in COMMANDS]
    return "there are: udocker %s %s" % (group, ", ".join(sorted(names)))


def group_help(group):
    """The text of `udocker GROUP --help`."""
    lines = ["Usage: udocker %s COMMAND [OPTIONS] [OPERANDS]" % group, "", "Commands:"]
    for name, words in sorted(GROUPS[group].items()):
        if words[0] in COMMANDS:
            lines += wrapped(COMMANDS[words[0]].meaning[0], "  %-12s " % name, " " * 15)
    return "\n".join(lines)


def ungrouped(words):
    """`image ls`, `container run` and the like as udocker's own commands; UsageError where it is none of docker's."""
    group = GROUPS.get(words[0])
    if not group or not words[1:]:
        return words
    if words[1] in ("--help", "-h"):
        return ["help", words[0]]
    if words[1] not in group:
        raise UsageError("unknown command %r" % " ".join(words[:2]),
                         similar(words[1], group) + group_hint(words[0]))
    return group[words[1]] + words[2:]


def find_command(name):
    """The Command of this name; UsageError with what to do instead, or the one it may be a slip of."""
    if name in COMMANDS:
        return COMMANDS[name]
    if name in ABSENT_COMMANDS:
        raise UsageError("udocker has no %s" % name, ABSENT_COMMANDS[name])
    if name in GROUPS:
        raise UsageError("%s is a group of commands" % name, group_hint(name))
    raise UsageError("unknown command %r" % name, similar(name, list(COMMANDS) + list(GROUPS)) + "see udocker --help")


# What the operands of commands are, for completion
OPERAND_KINDS = {"IMAGE": ("images",), "CONTAINER": ("containers",), "NAME": ("containers", "images"),
                 ("run", "CONTAINER"): ("containers", "images"), ("tag", "SOURCE"): ("images",),
                 ("load", "NAME"): (), ("name", "NAME"): (), ("rename", "NAME"): ("containers",),
                 ("rmname", "NAME"): ("containers",), ("cp", "SOURCE"): ("containers",),
                 ("cp", "TARGET"): ("containers",)}


def show_names(names):
    """Names, a line each, for shells: without those that hold what a shell would execute."""
    import re
    lines = [name for name in names if re.fullmatch(r"[\w.:/@\[\]-]+", name)]
    if lines:
        say.result("\n".join(lines))


@command("completion", "WHAT", examples=("eval \"$(udocker completion bash)\"", "udocker completion fish | source"))
def command_completion(context, arguments):
    """Print what makes a shell complete udocker's command lines: WHAT is bash, zsh or fish.

    WHAT may also be images or containers, which prints the names that are completed.
    """
    if arguments.what in ("bash", "zsh", "fish"):
        say.result(Completion(COMMANDS, GROUPS, GLOBAL_OPTIONS, OPERAND_KINDS).script(arguments.what))
    elif arguments.what == "images":
        show_names(str(image) for image in context.images.list())
    elif arguments.what == "containers":
        show_names(word for container in context.containers.list() for word in container.names or [container.id])
    else:
        raise UsageError("%r: there are bash, zsh, fish, images and containers" % arguments.what)


@command("help", "[COMMAND]", examples=("udocker help run",))
def command_help(_, arguments):
    """Explain udocker, one of its commands, or one of docker's groups of them."""
    if arguments.command in GROUPS:
        say.result(group_help(arguments.command))
    else:
        say.result(find_command(arguments.command).help() if arguments.command else overview())


# ======================================================================================================
# 15  Main
# ======================================================================================================

# What to do about the errors of the system that users meet
SYSTEM_HINTS = {number: hint for numbers, hint in (
    ((errno.ENOSPC, errno.EDQUOT),
     "remove what is not needed with udocker rm and rmi, or use a store on another file system with --repo=DIR"),
    ((errno.EFBIG,), "files may not become larger here: see ulimit -f, and what the batch system allows"),
) for number in numbers}


def load_settings(given, arguments, environment):
    """The Settings in force, from every source in its order: `given` are the global options."""
    settings = Settings()
    settings.read_file(Settings.SYSTEM_FILE)
    settings.read_file(os.path.expanduser(Settings.USER_FILE))
    named = given.config or environment.get("UDOCKER_CONFIG")
    if named:
        settings.read_file(named, is_optional=False)
    settings.read_environment(environment)
    if given.repo is not None:
        settings.set("dir", given.repo, "command line")
    if given.insecure:
        settings.set("insecure", "true", "command line")
    if getattr(arguments, "httpproxy", None):
        settings.set("httpproxy", arguments.httpproxy, "command line")
    if not settings["dir"]:
        raise SettingError("%s: the directory of the store is empty" % settings.origin("dir"))
    return settings


def is_refused_by_store(context, error):
    """Whether an error of the system says that the store may not be written to."""
    return (error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and isinstance(error.filename, str)
            and context.layout.has(error.filename) and not os.access(context.layout.home, os.W_OK))


def run_command(chosen, arguments, given, environment):
    """What the function of a command returns: its exit status, or None for success."""
    if os.geteuid() == 0 and not given.allow_root and chosen.name not in ("help", "version"):
        raise Error("udocker is not for root: containers are not isolated from who runs them",
                    "run it as an ordinary user, or with --allow-root if you mean it")
    settings = load_settings(given, arguments, environment)
    say.level = Say.DEBUG if given.debug else Say.ERROR if given.quiet else settings["loglevel"]
    if QUIET_OPTION in chosen.options and arguments.quiet:
        say.level = min(say.level, Say.ERROR)
    context = Context(settings, environment)
    try:
        return chosen.function(context, arguments)
    except OSError as error:
        if not is_refused_by_store(context, error):
            raise
        raise Error("%s: %s" % (error.filename, error.strerror),
                    "a store that you may not write to can only be looked at and run from; --repo= chooses another one")


def absent_hint(name, spelling):
    """What to do instead of an option of docker's, or of another place, that the command `name` does not have; "" where
    nobody knows."""
    if spelling in ABSENT_OPTIONS.get(name, ()):
        return ABSENT_OPTIONS[name][spelling]
    if name == "create" and spelling in spellings_of(RUN_OPTIONS):
        return "create only unpacks the image: give %s to udocker run, which takes the container" % spelling
    if name and spelling in spellings_of(GLOBAL_OPTIONS):
        return "it goes before the command: udocker %s %s" % (spelling, name)
    return ""


def dispatch(words, environment):
    """Parse everything, then run one command: (its Command, a function that runs it)."""
    parser = Parser(GLOBAL_OPTIONS, "see udocker --help", lambda spelling: absent_hint("", spelling))
    given, rest = parser.parse(words, True)
    if given.version:
        return COMMANDS["version"], lambda: say.result(version_line())
    if given.help or not rest:
        rest = ["help"]
    rest = ungrouped(rest)
    chosen = find_command(rest[0])
    arguments = parse_command(chosen, rest[1:], lambda spelling: absent_hint(chosen.name, spelling))
    if arguments.help:
        return chosen, lambda: say.result(chosen.help())
    return chosen, lambda: run_command(chosen, arguments, given, environment)


def run_main(words, environment):
    """The exit status of the program: this is the one place where errors end."""
    failure_status = 1
    try:
        chosen, run = dispatch(words, environment)
        failure_status = chosen.failure_status
        return run() or 0
    except Error as error:
        say.error(error)
        say.traceback()
        return error.exit_status or failure_status
    except Interruption as interruption:
        return 128 + interruption.number
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)        # nobody reads on: that is no error
        return 141
    except OSError as error:
        is_output = error.filename == Say.OUTPUT
        if is_output:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)    # Python would try once more at its end
        reason = error.strerror or str(error)
        name = error.filename if isinstance(error.filename, (str, bytes)) else ""       # newer Pythons: a descriptor
        say.error(Error("%s: %s" % (os.fsdecode(name), reason) if name else reason,
                        "" if is_output else SYSTEM_HINTS.get(error.errno, "")))
        say.traceback()
        return failure_status
    except MemoryError:
        say.error(Error("there is not enough memory", "see ulimit -v, and what the batch system allows"))
        return failure_status
    except Exception as error:      # a fault of this program: one line for the user, all of it with -D
        say.error(Error("%s: %s" % (type(error).__name__, error), "this is a bug; udocker -D shows where it is"))
        say.traceback()
        return failure_status


def leave_directory():
    """Import no module any more from where this program lies: a home may hold a random.py of its owner."""
    here = os.path.dirname(os.path.realpath(__file__))
    while sys.path and sys.path[0] == here:         # the launcher put it there, or Python for its script
        del sys.path[0]


def main():
    """The entry point."""
    import gc
    leave_directory()
    gc.set_threshold(100000)        # next to nothing here is in cycles: looking for them costs 4 % of unpacking
    for descriptor in range(3):         # where one is closed, no file of ours shall take its place
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    say.choose_colours(os.environ)
    status = run_main(sys.argv[1:], os.environ)
    os._exit(status)        # all is written and closed, and taking the interpreter apart would cost 3 ms


if __name__ == "__main__":
    main()
