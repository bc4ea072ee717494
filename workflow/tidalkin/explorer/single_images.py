"""Read single images from the store, and decode no others.

Zarr decodes a whole chunk, some tens of galaxies, to give one image. The galaxies of a search lie in as many chunks as
there are galaxies, so that a page of thumbnails would take seconds. Two formats make it possible to decode less. The
index of a shard says where each chunk is (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/), and
a Blosc frame is a list of blocks, each compressed by itself
(https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import decompress

from tidalkin.errors import TidalkinError, first_line
from tidalkin.images.store import ImageStore

Floats = npt.NDArray[np.float32]

EMPTY = np.iinfo(np.uint64).max
"""Offset and length of a chunk that was never written."""
CHECKSUM_BYTES = 4
OPEN_SHARDS = 128
HEADER_BYTES = 16
NOT_COMPRESSED = 0x2
"""Flag of a Blosc frame that holds its content as it is."""


class SingleImages:
    """The images of a store, one at a time.

    Parameters
    ----------
    store : ImageStore
        A store that `ImageStore.create` laid out.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._shape = store.flux.shape[1:]
        self._chunk_rows = store.flux.chunks[0]
        shards = store.flux.shards
        assert shards is not None
        self._shard_rows = shards[0]
        self._open = lru_cache(OPEN_SHARDS)(self._open_shard)

    def read(self, row: int) -> Floats:
        """Read the image (band, y, x) of one row, nanojansky.

        Unlike a read of the store, this does not compare checksums.

        Raises
        ------
        TidalkinError
            If the file of its shard is lost or damaged.
        """
        shard, place = divmod(row, self._shard_rows)
        chunk, number = divmod(place, self._chunk_rows)
        try:
            content, index = self._open(shard)
            offset, length = (int(value) for value in index[chunk])
            if offset == EMPTY:
                return np.full(self._shape, np.nan, np.float32)
            encoded = content[offset : offset + length - CHECKSUM_BYTES]
            size = 4 * int(np.prod(self._shape))
            decoded = _decode_part(encoded, number * size, (number + 1) * size)
        except (OSError, ValueError, RuntimeError, LookupError, ArithmeticError) as error:
            raise TidalkinError(
                f"{self._store.files_of(shard)[0]}: is lost or damaged ({first_line(error)}): make the store again "
                "with `snakemake --forcerun convert`"
            ) from None
        image: Floats = np.frombuffer(decoded, "<f4").reshape(self._shape)
        return image

    def _open_shard(self, shard: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
        """Map a shard's file, and read its index: offset and length of each chunk."""
        content = np.memmap(self._store.files_of(shard)[0], np.uint8, "r")
        n_chunks = self._shard_rows // self._chunk_rows
        size = 16 * n_chunks + CHECKSUM_BYTES
        index = np.frombuffer(content[-size:-CHECKSUM_BYTES].tobytes(), "<u8").reshape(n_chunks, 2)
        return content, index


def _decode_part(frame: npt.NDArray[np.uint8], start: int, stop: int) -> bytes:
    """Decode bytes ``start`` to ``stop`` of the content of a Blosc frame.

    A smaller frame is made of the blocks that hold these bytes.
    """
    n_bytes, block_size, n_encoded = (int(value) for value in np.frombuffer(frame[4:HEADER_BYTES].tobytes(), "<u4"))
    if frame[2] & NOT_COMPRESSED:
        return frame[HEADER_BYTES + start : HEADER_BYTES + stop].tobytes()
    n_blocks = -(-n_bytes // block_size)
    starts = np.frombuffer(frame[HEADER_BYTES : HEADER_BYTES + 4 * n_blocks].tobytes(), "<u4").astype(np.int64)
    ends = np.append(np.sort(starts), n_encoded)
    last = -(-stop // block_size) - 1
    # A frame is refused if it is shorter than a block, as the last block of all may be.
    first = min(start // block_size, max(n_blocks - 2, 0))
    bodies = [
        frame[starts[block] : ends[np.searchsorted(ends, starts[block], side="right")]].tobytes()
        for block in range(first, last + 1)
    ]
    lengths = np.array([HEADER_BYTES + 4 * len(bodies), *map(len, bodies)])
    size = min((last + 1) * block_size, n_bytes) - first * block_size
    header = np.array([size, block_size, lengths.sum(), *np.cumsum(lengths)[:-1]], "<u4")
    decoded = decompress(b"".join([frame[:4].tobytes(), header.tobytes(), *bodies]))
    return bytes(memoryview(decoded)[start - first * block_size : stop - first * block_size])
