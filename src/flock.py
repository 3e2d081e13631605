"""A lock on an open file, held as long as the file is open: flock(2), on file systems that may not have it."""

import errno
import fcntl

# Lustre and some FUSE mounts have no locks at all, NFS has none where its lock server is away.
MISSING = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class NoLocks(Exception):
    """The file system has no locks; holds its answer."""


def take(handle: int, shared: bool = False) -> bool:
    """Whether the lock was free and is held now; `shared` with others that take it so. Raises NoLocks, OSError."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # NFS may give the second
            return False
        if error.errno in MISSING:
            raise NoLocks(error.strerror) from None
        raise
    return True
