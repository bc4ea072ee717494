"""Convert a survey as a program of its own: ``convert.py ARGUMENTS``, where ARGUMENTS is JSON."""

import json
import logging
import resource
import sys

from tidalkin.config import Dask, Images
from tidalkin.errors import TidalkinError
from tidalkin.images.convert import convert

if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    if limit := arguments.pop("largest_file", None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    arguments["images"], arguments["dask"] = Images(**arguments["images"]), Dask(**arguments["dask"])
    try:
        convert(**arguments)
    except TidalkinError as error:
        sys.exit(str(error))
