"""Real images, made as a plain user by umoci around Debian's static busybox and pushed by skopeo."""
import platform
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

from registries import descriptor

TOOLS = ("docker-registry", "skopeo", "umoci", "busybox")
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
FOREIGN = "arm64" if NATIVE == "amd64" else "amd64"
DEBIAN_LAYOUT = Path("/var/cache/udocker-tests/debian")

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

DIRECTORIES = "bin dev etc home/green opt proc root srv sys tmp usr/bin var/tmp".split()
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ngreen:x:1000:1001:Green:/home/green:/bin/sh\n",
    "etc/group": "root:x:0:\ngreens:x:1001:green\n",
    "etc/marker": "inside\n",
    "etc/not-executable": "echo never\n",
}
PROGRAMS = {        # scripts that say what they were given
    "usr/bin/describe": 'printf "<%s>" "$@"; echo; id -u; id -g; pwd; echo "$HOME $LAB"',
}
SYSTEM_FILES = {    # what the manual's examples touch in fedora and ubuntu
    "etc/redhat-release": "Fedora release 25 (Twenty Five)\n",
    "etc/motd": "Welcome\n",
    "etc/lsb-release": "DISTRIB_ID=Ubuntu\n",
}
SYSTEM_PROGRAMS = {
    "bin/bash": 'exec sh "$@"',
    "usr/bin/yum": 'echo "yum $* by $(id -u)"',
    "usr/bin/firefox": 'echo "firefox in $(pwd) of $HOME"',
}

# tag in the layout, the tag it starts from, what umoci changes in its config, the names it is pushed under
Recipe = namedtuple("Recipe", "tag base options names")
ENVIRONMENT = ["--config.env=PATH=/usr/local/bin:/usr/bin:/bin:/sbin", "--config.env=LAB=lab value"]
RECIPES = [
    Recipe("busybox", "base", ENVIRONMENT + ["--config.cmd=sh"],
           ["lab/busybox:latest", "lab/busybox:1.0", "library/busybox:latest", "busybox:latest"]),
    Recipe("entry", "busybox", ["--config.entrypoint=/usr/bin/describe", "--config.cmd=first",
                                "--config.cmd=two words", "--config.workingdir=/srv", "--config.user=green"],
           ["lab/entry:latest"]),
    Recipe("user-id", "busybox", ["--config.user=1000"], ["lab/user:id"]),
    Recipe("user-and-group", "busybox", ["--config.user=4321:1001"], ["lab/user:id-and-group"]),
    Recipe("native", "busybox", ["--architecture=" + NATIVE], ["lab/multi:native", "lab/nested:native"]),
    Recipe("foreign", "busybox", ["--architecture=" + FOREIGN], ["lab/multi:foreign", "lab/nested:foreign"]),
    Recipe("system", "base-system", ENVIRONMENT + ["--config.cmd=/bin/bash"],
           ["library/fedora:latest", "fedora:latest", "library/rhel7:latest", "rhel7:latest",
            "library/ubuntu:latest", "ubuntu:latest", "indigodatacloudapps/disvis:latest",
            "indigodatacloud/disvis:latest", "indigodatacloud/powerfit:latest",
            "indigodatacloud/ambertools_app:latest"]),
]


def build(directory):
    """An OCI layout with every recipe, made in directory."""
    layout, bundle = directory / "layout", directory / "bundle"
    _umoci("init", "--layout", layout)
    _umoci("new", "--image", "%s:empty" % layout)
    _umoci("unpack", "--rootless", "--image", "%s:empty" % layout, bundle)
    _install_busybox(bundle / "rootfs")
    _umoci("repack", "--refresh-bundle", "--image", "%s:base" % layout, bundle)
    _write(bundle / "rootfs", SYSTEM_FILES, SYSTEM_PROGRAMS)
    _umoci("repack", "--image", "%s:base-system" % layout, bundle)
    for recipe in RECIPES:
        _umoci("config", "--image", "%s:%s" % (layout, recipe.base), "--tag", recipe.tag, *recipe.options)
    return layout


def push_all(layout, registry):
    """Push every recipe under its names, one in Docker's own format, and the indexes."""
    for recipe in RECIPES:
        for name in recipe.names:
            push(layout, recipe.tag, registry, name)
    push(layout, "busybox", registry, "lab/busybox:schema2", "--format=v2s2")
    _push_indexes(registry)


def push(layout, tag, registry, name, *options):
    """Copy one image of a layout to a registry with skopeo."""
    credential = ["--dest-creds", ":".join(registry.credential)] if registry.credential else []
    _run("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *credential, *options,
         "oci:%s:%s" % (layout, tag), "docker://%s/%s" % (registry.host, name))


def _run(*command):
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)


def _umoci(*arguments):
    _run("umoci", "--log=error", *arguments)


def _install_busybox(root):
    """A root file system with a link of each applet's name to one static executable, all of them absolute."""
    for directory in DIRECTORIES:
        (root / directory).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(shutil.which("busybox"), str(root / "bin/busybox"))
    for applet in subprocess.check_output(["busybox", "--list"]).decode().split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("/bin/busybox")
    _write(root, FILES, PROGRAMS)


def _write(root, files, programs):
    for name, text in files.items():
        (root / name).write_text(text)
    for name, text in programs.items():
        (root / name).write_text("#!/bin/sh\n%s\n" % text)
        (root / name).chmod(0o755)


def _push_indexes(registry):
    """lab/multi: an index whose first entries are wrong here; lab/nested: one that holds such an index."""
    registry.put_manifest("lab/multi", "latest", _index(registry, "lab/multi"))
    inner = registry.put_manifest("lab/nested", None, _index(registry, "lab/nested"))
    registry.put_manifest("lab/nested", "latest", _index_of([inner]))


def _index(registry, repository):
    entries = [_attestation_entry(registry, repository)]
    for tag, architecture in ("foreign", FOREIGN), ("native", NATIVE):
        described = descriptor(MANIFEST, registry.manifest(repository, tag)[0])
        entries.append(dict(described, platform={"os": "linux", "architecture": architecture}))
    return _index_of(entries)


def _index_of(descriptors):
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}


def _attestation_entry(registry, repository):
    """What image builders add beside each platform: a manifest that is no image, of platform unknown."""
    config = registry.put_blob(repository, "application/vnd.oci.image.config.v1+json", b"{}")
    statement = registry.put_blob(repository, "application/vnd.in-toto+json", b'{"_type": "statement"}')
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement]}
    return dict(registry.put_manifest(repository, None, manifest),
                platform={"os": "unknown", "architecture": "unknown"},
                annotations={"vnd.docker.reference.type": "attestation-manifest"})
