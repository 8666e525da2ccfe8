"""``prepare`` from a command line."""

from collections.abc import Sequence
from pathlib import Path

# Imported so that configs find their classes by short names.
import remit_lit.data.datatrove_reader
import remit_lit.data.indexed_tokens
import remit_lit.data.lab_documents  # noqa: F401
from remit_lit.cli.launching import add_launcher, launched
from remit_lit.cli.parser import parse, settings_of, verb_parser
from remit_lit.data.forecast import forecast
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.storage import require_local
from remit_lit.runs.lock import held


def run_prepare(verb: str, arguments: Sequence[str]) -> None:
    """Pack text into rows, and print what they hold."""
    parser = verb_parser(verb)
    parser.add_argument("--output", type=str, required=True, help="directory to write the rows to")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace the directory if it exists")
    parser.add_argument(
        "--dry_run", type=bool, default=False, help="say which tokens, disk and time it will take, and write nothing"
    )
    parser.add_class_arguments(PrepareSettings)
    add_launcher(parser, "it")
    values = parser.instantiate_classes(parse(parser, arguments))
    settings = settings_of(PrepareSettings, values)
    if values.dry_run:
        print("\n".join(forecast(settings)))
        return
    require_local("output", values.output, "give a directory, and copy it to the storage when it is whole")
    if launched(verb, arguments, values):
        return
    with held("output", values.output):
        rows = prepare(Path(values.output), settings, overwrite=values.overwrite)
    print("\n".join([*read_manifest(rows).summary(), f"rows: {rows}"]))
