"""What a command says of errors that reach it in a roundabout way."""

from pathlib import Path

import pytest
from torch._utils import ExceptionWrapper

from remit_lit.cli.given import located, merged, read_sources
from remit_lit.cli.messages import explain
from remit_lit.errors import DataError


def test_an_error_of_a_loader_process_is_its_message_alone() -> None:
    try:
        raise DataError("rows: row 3 of a: b differs from its checksum; prepare the rows again")
    except DataError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DataError) as raised:
        wrapped.reraise()
    assert "Traceback" in str(raised.value)
    message = explain(raised.value, "", [])
    assert message == "rows: row 3 of a: b differs from its checksum; prepare the rows again"


def test_the_place_of_a_field_is_found_by_what_a_class_says_of_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model:\n  weighting:\n    class_path: ReMiT\n    init_args:\n      center: segment\n")
    second.write_text("data: {rows: here}\nmodel: {weighting: {init_args: {center: segment, epsilon: 0.1}}}\n")
    sources = read_sources([f"--config={first}", "--config", str(second), "--data.seed", "3"])
    said = located("ReMiT.center: 'segment' needs documents\nsecond line", sources).splitlines()
    assert said == [
        "model.weighting.init_args.center: 'segment' needs documents",
        f"  set in {second}:2, over {first}:5",
        "second line",
    ]
    assert located("data.seed: got 3", sources) == "data.seed: got 3\n  set on the command line"
    for unplaced in ("model.reference: got none", "rows: there are none", "no field at all", "trainer.devices: got 3"):
        assert located(unplaced, sources) == unplaced


def test_a_class_that_another_file_replaces_leaves_no_arguments(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("a: {class_path: X, init_args: {x: 1}}\nitems: [1]\n")
    second.write_text("extends: nowhere\na: {class_path: Y}\n")
    given = merged(read_sources([f"--config={first}", f"--config={second}", "--items+=2", "--a.y=3"]))
    assert given["a"] == {"class_path": "Y", "y": "3"} and given["items"] == [1, "2"]
