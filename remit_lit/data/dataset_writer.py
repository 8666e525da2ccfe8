"""A ``datasets`` dataset on disk from a generator, in parallel, with the user's errors intact."""

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError

from remit_lit.errors import DataError


def generate(
    generator: Callable[..., Iterator[dict[str, Any]]],
    arguments: dict[str, Any],
    features: datasets.Features,
    num_workers: int,
    directory: Path,
) -> datasets.Dataset:
    """Write what ``generator(**arguments)`` yields; its order does not depend on the number of workers.

    Args:
        generator: yields records; each list among its arguments is shared out among the workers.
        arguments: of the generator.
        features: of a record.
        num_workers: processes.
        directory: to write to; must not exist.

    Raises:
        DataError: raised by the generator, in whichever process.
    """
    complaint = directory / "complaint.txt"
    directory.mkdir(parents=True)
    try:
        dataset = datasets.Dataset.from_generator(
            functools.partial(_complaining, generator, complaint),
            features=features,
            cache_dir=str(directory),
            split=datasets.NamedSplit(re.sub(r"\W", "_", directory.name)),  # what the progress bar shows
            gen_kwargs=arguments,
            num_proc=num_workers if num_workers > 1 else None,
            fingerprint="generated",  # else all arguments are pickled and hashed for a cache that is never reused
        )
    except DatasetGenerationError:
        if complaint.exists():
            raise DataError(complaint.read_text()) from None
        raise
    except ValueError as error:
        if "corresponds to no data" in str(error):  # what `datasets` says of a generator that yields nothing
            raise DataError("no document with text in it") from None
        raise
    assert isinstance(dataset, datasets.Dataset)
    return dataset


def _complaining(generator: Any, complaint: Path, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Leave the message of a DataError in a file: `datasets` drops the cause of an error in a worker process."""
    try:
        yield from generator(**arguments)
    except DataError as error:
        complaint.write_text(str(error))
        raise
