"""Containers' trees of dynamically linked programs, made of the host's own."""
import os
import shutil
import subprocess
from pathlib import Path

PROGRAMS = "cat chown env head id ln ls mkdir mv pwd readlink rm sh sort tr uname unshare".split()
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ngreen:x:1000:1001:Green:/home/green:/bin/sh\n",
    "etc/group": "root:x:0:\ngreens:x:1001:green\n",
    "etc/marker": "inside\n",
    "etc/os-release": "ID=debian\nVERSION_ID=12\n",
}
SCRIPTS = {
    "bin/describe": "#!/bin/sh -e\nprintf '<%s>' \"$0\" \"$@\"\necho\n",
    "bin/lost": "#!/no/such/shell\n",
}
LINKS = {"srv/absolute": "/etc/marker", "srv/over": "../../../../../../etc/marker", "srv/directory": "/etc"}
# A program that does what shells cannot; each of its words is one thing to be done
CALLS = r"""
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void *second(void *text) { puts(text); return NULL; }

static void start_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, second, "thread");
    pthread_join(thread, NULL);
}

static void speak_through_a_socket(void)
{
    char text[8] = "";
    struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "/tmp/socket" };
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(server, (void *)&name, sizeof name) || listen(server, 1) || connect(client, (void *)&name, sizeof name))
        perror("socket");
    else if (write(client, "socket", 6) == 6 && read(accept(server, NULL, NULL), text, 7) == 6)
        puts(text);
    unlink("/tmp/socket");
}

static void fork_often(void)
{
    int status, ended = 0;
    for (int count = 0; count < 50; count++)
        if (!fork())
            _exit(1);
    while (wait(&status) > 0)
        ended += WEXITSTATUS(status);
    printf("%d children\n", ended);
}

static void find_the_libraries(void)
{
    char line[4096];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        count += strstr(line, ".so") && !strstr(line, "/ROOT/") && !strstr(line, "fakechroot");
    puts(count ? "elsewhere" : "below the tree's path");
}

static void start_with_an_empty_environment(void)
{
    char *words[] = {"cat", "/etc/marker", NULL}, *nothing[] = {NULL};
    fflush(stdout);
    if (!fork())
        execve("/bin/cat", words, nothing);
    wait(NULL);
}

static void execute_at(void)
{
    char *words[] = {"/etc/marker", NULL};
    syscall(SYS_execveat, AT_FDCWD, "/etc/marker", words, words + 1, 0);
    puts(errno == ENOSYS || errno == EACCES ? "as inside" : "elsewhere");
}

static void set_up_io_uring(void)
{
    long parameters[64] = {0};
    if (syscall(425, 1, parameters) < 0 && errno == ENOSYS)
        puts("there is none");
}

static void grow_after_a_spawn(void)
{
    static char *pieces[20000];
    for (int round = 0; round < 2; round++) {
        pclose(popen("exit 0", "r"));
        for (int count = 0; count < 20000; count++)
            pieces[count] = memset(malloc(1000), count, 1000);
    }
    puts(pieces[19999][999] == (char)19999 ? "grown" : "spoilt");
}

int main(int count, char **words)
{
    for (int place = 1; place < count; place++) {
        if (!strcmp(words[place], "thread")) start_thread();
        if (!strcmp(words[place], "socket")) speak_through_a_socket();
        if (!strcmp(words[place], "fork")) fork_often();
        if (!strcmp(words[place], "spawn")) grow_after_a_spawn();
        if (!strcmp(words[place], "execveat")) execute_at();
        if (!strcmp(words[place], "io_uring")) set_up_io_uring();
        if (!strcmp(words[place], "maps")) find_the_libraries();
        if (!strcmp(words[place], "bare")) start_with_an_empty_environment();
    }
    return count > 1 ? 0 : 3;
}
"""


def compile_calls(directory, *options):
    """The path of the program of CALLS, made in directory."""
    (directory / "calls.c").write_text(CALLS)
    path = directory / ("calls" + "".join(options))
    subprocess.check_call(["gcc", "-pthread", *options, "-o", str(path), str(directory / "calls.c")])
    return path


def libraries_of(program):
    """The paths of the libraries, and of the loader, that a program of the host starts with."""
    output = subprocess.check_output(["ldd", str(program)]).decode()
    return [word for line in output.splitlines() for word in line.split() if word.startswith("/")]


def loader():
    """The path of the loader that starts the host's programs."""
    return next(path for path in libraries_of("/bin/sh") if os.path.basename(path).startswith("ld"))


def install(tree, programs):
    """Copy programs of the host, by their paths, with what they need. Their C library becomes one that loads with its
    own loader alone, as that of another system: what the host's loader starts in such a tree ends at once. An absolute
    link leads to the loader, as in Debian."""
    libraries = {path for program in programs for path in libraries_of(program)}
    for path in sorted(set(programs) | libraries):
        target = tree / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        data = Path(os.path.realpath(str(path))).read_bytes()
        target.write_bytes(data.replace(b"GLIBC_PRIVATE", b"GLIBC_PRIVATX"))
        shutil.copystat(os.path.realpath(str(path)), str(target))
    link, target = tree / loader().lstrip("/"), tree / "usr/lib/loader" / os.path.basename(loader())
    if not link.is_symlink():
        target.parent.mkdir(parents=True)
        link.rename(target)
        link.symlink_to("/" + str(target.relative_to(tree)))


def build(tree, workshop):
    """A tree of PROGRAMS, FILES, SCRIPTS, LINKS and the programs of CALLS, which are made in `workshop`."""
    for name in "etc", "home/green", "root", "srv", "tmp":
        (tree / name).mkdir(parents=True)
    install(tree, ["/bin/" + name for name in PROGRAMS])
    for name, options in ("calls", []), ("static", ["-static"]):
        shutil.copy(str(compile_calls(workshop, *options)), str(tree / "bin" / name))
    for name, text in dict(FILES, **SCRIPTS).items():
        (tree / name).write_text(text)
    for name in SCRIPTS:
        (tree / name).chmod(0o755)
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    return tree
