"""Output folders of the steps, which may hold files of an earlier call when a step is run by hand."""

import shutil
from pathlib import Path


def remove_earlier(folder: Path, *patterns: str) -> None:
    """Delete what an earlier call of the step left in its output folder, so that it is not taken for something new.

    - folder: may be missing.
    - patterns: such as "part-*.parquet" for files; "*/model.json" deletes each folder that holds a model.json.
    """
    for pattern in patterns:
        for path in list(folder.glob(pattern)):
            if "/" in pattern:
                shutil.rmtree(path.parent)
            else:
                path.unlink()
