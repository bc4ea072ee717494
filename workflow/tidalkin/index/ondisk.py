"""Inverted lists in a file of their own, which is mapped and not read.

FAISS's own `faiss.contrib.ondisk.merge_ondisk` is not enough here. It joins only lists of plain codes. The packed lists
of a fast-scan index (4-bit codes in blocks of 32 vectors) are not a sequence of codes, and FAISS keeps them in memory.
Here the parts are plain. They are joined list by list in one pass, with one list in memory at a time. For a fast-scan
index, the joined lists are packed. FAISS searches the file as its own `OnDiskInvertedLists`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import faiss
import numpy as np
import numpy.typing as npt

from tidalkin.atomic import atomic_path
from tidalkin.errors import first_line

CAPACITY = 32
"""Vectors in a block that FAISS packs together. The room of a list is a multiple of it, which also aligns the lists."""

Codes = npt.NDArray[np.uint8]


def inverted_file(index: faiss.Index) -> faiss.IndexIVF | None:
    """Return the inverted file inside an index, if there is one.

    Examples
    --------
    >>> index = faiss.index_factory(32, "PCA16,IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    >>> type(inverted_file(index)).__name__, inverted_file(faiss.IndexFlatIP(32))
    ('IndexIVFFlat', None)
    """
    inverted = faiss.try_extract_index_ivf(index)
    return None if inverted is None else cast(faiss.IndexIVF, faiss.downcast_index(inverted))


def can_be_joined(index: faiss.Index) -> bool:
    """Tell whether `write_lists` can join the lists of an index.

    Examples
    --------
    >>> kinds = ("Flat", "IVF4,Flat", "HNSW16")
    >>> {kind: can_be_joined(faiss.index_factory(32, kind, faiss.METRIC_INNER_PRODUCT)) for kind in kinds}
    {'Flat': False, 'IVF4,Flat': True, 'HNSW16': False}
    """
    return isinstance(_inverted_lists(index), faiss.ArrayInvertedLists)


def write_lists(index: faiss.Index, parts: Sequence[faiss.Index], path: str | Path) -> None:
    """Join the lists of the parts of an index in one file, and attach it.

    Parameters
    ----------
    index : faiss.Index
        A trained inverted file, empty; of a kind that is packed for the fast scan, or not.
    parts : sequence of faiss.Index
        The same index with vectors, not packed: the rows of each follow on those of the parts before it.
    path : path
        The file to write: for each list its codes, then its rows as int64.

    Examples
    --------
    >>> vectors = np.eye(32, dtype=np.float32)
    >>> index = faiss.index_factory(32, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    >>> index.train(vectors)
    >>> part = faiss.clone_index(index)
    >>> part.add(vectors)
    >>> write_lists(index, [part, part], "lists.bin")
    >>> index.ntotal
    64
    """
    inverted = inverted_file(index)
    assert inverted is not None
    packer = inverted.get_CodePacker() if isinstance(inverted, faiss.IndexIVFPQFastScan) else None
    sources = [lists for part in parts if (lists := _inverted_lists(part)) is not None]
    first_rows = np.cumsum([0, *(part.ntotal for part in parts)])
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size = inverted.nlist, inverted.code_size
    lists.lists.clear()
    with atomic_path(path) as partial, partial.open("wb") as file:
        for number in range(inverted.nlist):
            codes, rows = _join_list(sources, first_rows, number, inverted.code_size)
            place = faiss.OnDiskOneList()
            place.size, place.capacity, place.offset = len(rows), -(-len(rows) // CAPACITY) * CAPACITY, file.tell()
            lists.lists.push_back(place)  # type: ignore[attr-defined]
            room = place.capacity - place.size
            codes = np.pad(codes, ((0, room), (0, 0)))
            file.write((codes if packer is None else _pack_blocks(codes, packer)).tobytes())
            file.write(np.pad(rows, (0, room)).tobytes())
        lists.totsize = file.tell()
    inverted.replace_invlists(lists, True)
    lists.this.disown()  # type: ignore[attr-defined]  # the index frees them
    index.ntotal = inverted.ntotal = int(first_rows[-1])
    map_lists(index, path)


def map_lists(index: faiss.Index, path: str | Path) -> None:
    """Let an index read its lists from where their file is now.

    Parameters
    ----------
    index : faiss.Index
        An index that was written with `write_faiss_index`.
    path : path
        What `write_lists` wrote.

    Raises
    ------
    ValueError
        If the file is of another index, or damaged.

    Examples
    --------
    >>> map_lists(faiss.IndexFlatIP(4), "lists.ivfdata")
    Traceback (most recent call last):
        ...
    ValueError: the index has no lists in a file
    """
    lists = _inverted_lists(index)
    if not isinstance(lists, faiss.OnDiskInvertedLists):
        raise ValueError("the index has no lists in a file")
    if (size := Path(path).stat().st_size) != lists.totsize:  # to read beyond its end would kill the process
        raise ValueError(f"it has {size} bytes, but the index's lists have {lists.totsize}")
    lists.filename, lists.read_only = str(path), True
    lists.prefetch_nthread = 0  # to start threads for each query takes longer than to answer it
    lists.do_mmap()


def write_faiss_index(index: faiss.Index, path: str | Path) -> None:
    """Write an index whole, without the lists that have a file of their own.

    Of that file, the name alone is written, so that the folder can move. The bytes pass through Python: FAISS's own
    writer ignores an error when it closes the file, and a full disk would leave an index that is cut off.

    Raises
    ------
    TidalkinError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> index = faiss.IndexFlatIP(4)
    >>> index.add(np.eye(4, dtype=np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_faiss_index(index, Path(folder) / "index.faiss")
    ...     faiss.read_index(f"{folder}/index.faiss").ntotal
    4
    """
    lists = _inverted_lists(index)
    place = lists.filename if isinstance(lists, faiss.OnDiskInvertedLists) else ""
    with atomic_path(path) as partial, partial.open("wb") as file:
        if isinstance(lists, faiss.OnDiskInvertedLists):
            lists.filename = Path(place).name
        try:
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]
            faiss.write_index(index, writer)
        finally:
            if isinstance(lists, faiss.OnDiskInvertedLists):
                lists.filename = place


def faiss_reason(error: BaseException) -> str:
    """Return the reason in an error message of FAISS.

    Examples
    --------
    >>> faiss_reason(RuntimeError("Error in read at io.cpp:67: Error: 'f' failed: could not open a.faiss"))
    "'f' failed: could not open a.faiss"
    >>> faiss_reason(RuntimeError("Error in index_factory_sub(int) at index_factory.cpp:9: could not parse Flt"))
    'could not parse Flt'
    """
    text = str(error).strip()
    if not text:
        return first_line(error)
    # FAISS names the function, file and line of its source before the reason.
    return re.split(r"Error: |\.cpp:\d+: ", text.splitlines()[-1])[-1]


def _inverted_lists(index: faiss.Index) -> faiss.InvertedLists | None:
    """Return the lists of an inverted file, if there are any."""
    inverted = inverted_file(index)
    if inverted is None or inverted.invlists is None:
        return None
    return faiss.downcast_InvertedLists(inverted.invlists)


def _join_list(
    sources: Sequence[faiss.InvertedLists], first_rows: npt.NDArray[np.int64], number: int, code_size: int
) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Return codes (vector, byte) and rows (vector,) of one list of all parts."""
    codes, rows = [np.empty((0, code_size), np.uint8)], [np.empty(0, np.int64)]
    for lists, first_row in zip(sources, first_rows[:-1], strict=True):
        if size := lists.list_size(number):
            codes.append(faiss.rev_swig_ptr(lists.get_codes(number), size * code_size).reshape(size, code_size))
            rows.append(faiss.rev_swig_ptr(lists.get_ids(number), size) + first_row)
    return np.concatenate(codes), np.concatenate(rows)


def _pack_blocks(codes: Codes, packer: faiss.CodePacker) -> Codes:
    """Pack codes (vector, byte) of whole blocks as FAISS does, (byte,)."""
    blocks = np.zeros((len(codes) // packer.nvec, packer.block_size), np.uint8)  # FAISS sets bits in this array
    for number, block in enumerate(blocks):
        first = number * packer.nvec
        packer.pack_all(faiss.swig_ptr(codes[first : first + packer.nvec]), faiss.swig_ptr(block))
    return blocks.reshape(-1)
