import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from remit_lit.files import build_once


def test_builds_once_and_again_when_the_recipe_changes(tmp_path):
    built = []

    def build(folder):
        built.append(folder)
        (folder / f"file-{len(built)}").touch()

    for seed in (0, 0, 1):
        folder = build_once(tmp_path / "out", {"seed": seed}, build)
    assert len(built) == 2
    assert sorted(p.name for p in folder.iterdir()) == ["file-2", "recipe.json"]


def test_an_interrupted_build_is_not_taken_for_a_finished_one(tmp_path):
    def broken(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "out", {}, broken)
    assert not (tmp_path / "out").exists()
    folder = build_once(tmp_path / "out", {}, lambda folder: (folder / "whole").touch())
    assert sorted(p.name for p in folder.iterdir()) == ["recipe.json", "whole"]


def test_who_asks_meanwhile_waits_for_the_build(tmp_path):
    built = []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)
        (folder / "whole").touch()

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: build_once(tmp_path / "out", {}, build), range(4)))
    assert len(built) == 1 and all((folder / "whole").exists() for folder in folders)
