"""A ``datasets`` dataset on disk from a generator, in parallel; the generator's errors reach the user."""

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
        generator: yields records; each list among its arguments is divided among the workers.
        arguments: of the generator.
        features: of a record.
        num_workers: processes.
        directory: to write to; must not exist.

    Raises:
        DataError: raised by the generator, in whichever process.
    """
    message_file = directory / "error.txt"
    directory.mkdir(parents=True)
    try:
        dataset = datasets.Dataset.from_generator(
            functools.partial(_keeping_message, generator, message_file),
            features=features,
            cache_dir=str(directory),
            split=datasets.NamedSplit(re.sub(r"\W", "_", directory.name)),  # what the progress bar shows
            gen_kwargs=arguments,
            num_proc=num_workers if num_workers > 1 else None,
            fingerprint="generated",  # else all arguments are pickled and hashed for a cache that is never reused
        )
    except DatasetGenerationError:
        if message_file.exists():
            raise DataError(message_file.read_text()) from None
        raise
    except ValueError as error:
        if "corresponds to no data" in str(error):  # what `datasets` says of a generator that yields nothing
            raise DataError("no document with text in it") from None
        raise
    assert isinstance(dataset, datasets.Dataset)
    return dataset


def _keeping_message(generator: Any, message_file: Path, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Leave the message of a DataError in a file: `datasets` drops the cause of an error in a worker process."""
    try:
        yield from generator(**arguments)
    except DataError as error:
        message_file.write_text(str(error))
        raise
