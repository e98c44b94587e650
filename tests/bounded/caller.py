"""A program that works in a mount and says how long each system call took: `caller.py JOB FOLDER UNTIL`.

`UNTIL` is a time of CLOCK_MONOTONIC. Each call is a line when it begins (`B name time`) and one when it ends
(`E name seconds errno`), so that whoever reads them knows of calls that never end. Standard library only.
"""

import fcntl
import mmap
import os
import sys
import time

PAUSE = 0.1


def call(name, function, *arguments):
    print("B", name.replace(" ", "_"), time.monotonic(), flush=True)
    began = time.monotonic()
    number, result = 0, None
    try:
        result = function(*arguments)
    except OSError as error:
        number = error.errno or -1
    print("E", name.replace(" ", "_"), time.monotonic() - began, number, flush=True)
    return result


def read(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def warm(root, _):
    for folder in (
        "known",
        "unread",
        "mapped",
        "new",
        "renamed",
        "removed",
        "written",
        "folders",
        "emptied",
        "cut",
        "",
    ):
        for entry in os.scandir(os.path.join(root, folder)):
            entry.stat()
    for name in os.listdir(os.path.join(root, "known")):
        read(os.path.join(root, "known", name))
    os.statvfs(root)


def known(root, number):
    folder = os.path.join(root, "known")
    path = os.path.join(folder, f"{number % 20:04}")
    call("stat known", os.stat, path)
    call("access known", os.access, path, os.R_OK)
    call("readdir known", os.listdir, folder)
    call("read known", read, path)


def new(root, number):
    """Of the first some hundreds the mount has listed ahead what is in them."""
    call("stat new", os.stat, os.path.join(root, "new", f"{number + 2000:04}", "a"))
    call("readdir new", os.listdir, os.path.join(root, "new", f"{number + 1000:04}"))


def unread(root, number):
    call("read new", read, os.path.join(root, "unread", f"{number:04}"))


def mapped(root, number):
    call("mmap new", map_and_read, os.path.join(root, "mapped", f"{number:04}"))


def map_and_read(path):
    child = os.fork()  # what cannot be read is SIGBUS
    if child == 0:
        descriptor = os.open(path, os.O_RDONLY)
        os._exit(0 if len(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)[:1]) else 1)
    if os.waitpid(child, 0)[1]:
        raise OSError(5, "it cannot be mapped")


def others(root, number):
    folder = os.path.join(root, "known")
    path = os.path.join(folder, f"{number % 20:04}")
    call("chmod", os.chmod, path, 0o644)
    call("chown", os.chown, path, os.getuid(), -1)
    call("listxattr", os.listxattr, path)
    call("symlink", os.symlink, "0000", os.path.join(folder, f"symlink {number}"))
    call("link", os.link, path, os.path.join(folder, f"link {number}"))
    call("mknod", os.mkfifo, os.path.join(folder, f"fifo {number}"))
    call("flock", with_descriptor, path, lock)
    call("fsync folder", with_descriptor, folder, os.fsync)


def with_descriptor(path, function):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        function(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor):
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def space(root, _):
    call("statfs", os.statvfs, root)


def save(root, number, *, sync):
    path = os.path.join(root, "written", f"{number:04} {sync}")
    descriptor = call("creat", os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    if descriptor is not None:
        call("write", os.write, descriptor, b"x" * 4096)
        if sync:
            call("fsync", os.fsync, descriptor)
        call("close", os.close, descriptor)


def rename(root, number):
    path = os.path.join(root, "renamed", f"{number:04}")
    call("rename", os.rename, path, path + " new")


def remove(root, number):
    call("unlink", os.unlink, os.path.join(root, "removed", f"{number:04}"))


def folders(root, number):
    call("mkdir", os.mkdir, os.path.join(root, "folders", f"{number:04}"))
    call("rmdir", os.rmdir, os.path.join(root, "emptied", f"{number:04}"))


def cut(root, number):
    path = os.path.join(root, "cut", f"{number:04}")
    call("truncate", os.truncate, path, 100)
    call("utimens", os.utime, path, (1_600_000_000, 1_600_000_000))


JOBS = {
    "warm": warm,
    "known": known,
    "new": new,
    "unread": unread,
    "mapped": mapped,
    "others": others,
    "space": space,
    "fsync": lambda root, number: save(root, number, sync=True),
    "close": lambda root, number: save(root, number, sync=False),
    "rename": rename,
    "remove": remove,
    "folders": folders,
    "cut": cut,
}


def main():
    job, root, until = JOBS[sys.argv[1]], sys.argv[2], float(sys.argv[3])
    number = 0
    while True:
        job(root, number)
        number += 1
        if time.monotonic() >= until or number >= 1000:
            return
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
