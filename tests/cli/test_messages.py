"""What a command says of errors that reach it in a roundabout way."""

import pytest
from torch._utils import ExceptionWrapper

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
