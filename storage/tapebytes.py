"""A tape's bytes out of its chunk files, for whoever settles what the tape is: recovery and salvage."""

import os

from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, read_head
from storage.disk import read_at
from storage.layout import PAGE, track_path
from storage.replay import Found
from storage.volume import Volume


class TapeBytes:
    """Reads a tape's bytes out of its chunk files, heads checked; files stay open until `close`."""

    def __init__(self, volume: Volume, found: Found) -> None:
        self._volume, self._found = volume, found
        self._open: dict[int, tuple[int, ChunkHead] | None] = {}

    def head(self, chunk: int) -> ChunkHead | None:
        """The head of chunk `chunk`, None if the file is not there or is not this chunk."""
        have = self._file(chunk)
        return have[1] if have is not None else None

    def read(self, offset: int, count: int) -> bytes:
        """Tape bytes; b"" if they are not all there."""
        size = self._found.chunk_class.tape_bytes
        have = self._file(offset // size)
        if have is None or offset % size + count > size:
            return b""
        return read_at(have[0], count, PAGE + offset % size)

    def _file(self, chunk: int) -> tuple[int, ChunkHead] | None:
        if chunk not in self._open:
            self._open[chunk] = self._try(chunk)
        return self._open[chunk]

    def _try(self, chunk: int) -> tuple[int, ChunkHead] | None:
        ident = self._found.ident
        path = f"{track_path(ident.camera, ident.name)}/c/{chunk}"
        try:
            fd = self._volume.open_file(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            head = read_head(fd, path)
        except FormatError:
            head = None
        if head is None or (head.camera, head.track, head.chunk) != (ident.camera, ident.name, chunk):
            os.close(fd)
            return None
        return fd, head

    def close(self) -> None:
        """Close the files."""
        for have in self._open.values():
            if have is not None:
                os.close(have[0])
        self._open.clear()
