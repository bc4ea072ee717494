"""The report of an index, and reports that are refused."""

import json

import pytest

from tidalkin.errors import TidalkinError
from tidalkin.index.query import open_index


def test_a_report_with_the_keys_of_an_older_version_is_refused_with_the_command_that_helps(built):
    path = built / "index" / "report.json"
    older = json.loads(path.read_text())
    older["breadth"], older["candidates"] = older.pop("search_depth"), older.pop("n_rerank")
    path.write_text(json.dumps(older))
    with pytest.raises(TidalkinError, match=r"report\.json: is damaged or of another version.*--forcerun index"):
        open_index(built / "index", built / "embeddings")
