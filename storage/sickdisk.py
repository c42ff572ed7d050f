"""Errors that are the disk's: what was asked for may be there, but it cannot be read."""

import errno

# ENOTCONN is a FUSE file system whose server has gone, EUCLEAN and EBADMSG what ext4 and XFS say of their own damaged structures
DISK_ERRORS = frozenset((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EUCLEAN,
                         errno.EBADMSG))


def sick(error: OSError) -> bool:
    """True if the error tells of a disk that cannot be read, not of a file that is not there or not ours."""
    return error.errno in DISK_ERRORS
