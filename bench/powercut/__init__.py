"""Power cuts: a disk that writes down what it is sent, and what a volume on it is like after any subset of what was not yet flushed.

The disk is a file of a FUSE file system of our own, with a loop device and a real file system (ext4, XFS) on it. So what is replayed is what
the kernel really sent: file data, the file system's journal, flushes, in their order.
"""
