"""Changes of what services call of each other, told before they are deployed."""
# Without postponed annotations: operations are local to their making, and so are their types.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tenfold import App, Request, Service, Tx, injected, public
from tenfold.cli import main
from tenfold.errors import ConfigError
from tenfold.rpc import schema


class Found(msgspec.Struct):
    sku: str
    price: int


class Wider(msgspec.Struct):
    sku: str
    price: int
    note: str = ""


class Narrower(msgspec.Struct):
    sku: str


class Other(msgspec.Struct):
    sku: str
    price: str


async def find(sku: str, limit: int = 3, tx: Tx = injected()) -> Found: ...


def schema_of(fn: Callable[..., Any], calls: Any = ("stock.find",)) -> schema.ServicesSchema:
    stock, orders = Service("stock", auth=public), Service("orders", auth=public, calls=calls)
    fn.__name__ = "find"
    stock.get("/find")(fn)

    @stock.internal
    async def count() -> int: ...

    @stock.get("/raw")
    async def raw(request: Request) -> None: ...

    return schema.called(App("test", [orders, stock]))


def changed(fn: Callable[..., Any]) -> list[str]:
    return schema.broken(schema_of(find), schema_of(fn))


def test_what_is_declared_to_be_called_is_stored_and_read_again(tmp_path: Path) -> None:
    found = schema_of(find)
    assert list(found.operations) == ["stock.find"]
    assert found.operations["stock.find"].callers == ["orders"]
    assert list(found.operations["stock.find"].arguments["$defs"]["find_arguments"]["properties"]) == [
        "sku",
        "limit",
    ]
    (tmp_path / "calls.json").write_bytes(found.encode())
    assert schema.read(tmp_path / "calls.json") == found


def test_where_nobody_declares_calls_everything_that_can_be_called_counts() -> None:
    assert list(schema_of(find, None).operations) == ["stock.count", "stock.find"]


def test_changes_that_both_sides_understand_are_silent() -> None:
    async def more(sku: str, limit: int = 5, wide: bool = False) -> Wider: ...

    async def less(sku: str) -> Found: ...

    assert changed(find) == changed(more) == changed(less) == []


def test_changes_that_one_side_does_not_understand_are_sentences_with_the_way_out() -> None:
    async def demanding(sku: str, limit: int, colour: str) -> Found: ...

    async def without() -> Found: ...

    async def narrower(sku: str) -> Narrower: ...

    async def other(sku: int) -> Other: ...

    assert changed(demanding) == [
        "stock.find: argument limit may be missing when sent by old callers, and new services require it. Give it a default.",
        "stock.find: argument colour may be missing when sent by old callers, and new services require it. "
        "Give it a default.",
    ]
    assert changed(without) == [
        "stock.find: argument sku may be missing when sent by new callers, and old services require it. Give it a default."
    ]
    assert changed(narrower) == [
        "stock.find: result price may be missing when answered by new services, and old callers require it. "
        "Give it a default."
    ]
    assert [" ".join(sentence.split()[1:3]) for sentence in changed(other)] == ["argument sku"] * 2 + [
        "result price"
    ] * 2


def test_an_operation_that_is_gone_is_named_with_the_nearest_one() -> None:
    old = schema_of(find)
    new = schema.ServicesSchema("test", {"stock.fined": old.operations["stock.find"]})
    (sentence,) = schema.broken(old, new)
    assert "orders of the other version may. Did you mean 'stock.fined'? Keep it" in sentence


@pytest.mark.parametrize("content", [None, b"{", b'{"app": 5, "operations": {}}', b"\xff"])
def test_a_file_that_is_no_schema_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "calls.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="it is no stored schema of services"):
        schema.read(file)


APP = """
from tenfold import App, Service, public
stock, orders = Service("stock", auth=public), Service("orders", auth=public, calls=["stock.find"])
@stock.internal
async def find({}) -> int: ...
app = App("test", [orders, stock])
"""


def test_the_command_writes_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, parameters in [("calls_old", "sku: str"), ("calls_new", "sku: str, limit: int")]:
        (tmp_path / f"{name}.py").write_text(APP.format(parameters))

    def told(*command: str) -> tuple[int, str]:
        code = main(["check", *command])
        got = capsys.readouterr()
        return code, got.out + got.err

    code, said = told("calls_old:app", "--schema", "calls.json")
    assert (code, "1 operation → calls.json" in said) == (0, True)
    assert told("calls_old:app", "--against", "calls.json")[0] == 0
    code, said = told("calls_new:app", "--against", "calls.json")
    assert (code, "argument limit may be missing when sent by old callers" in said) == (1, True)
