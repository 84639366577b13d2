"""Config and state: read, remembered, and never in the way when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui import actions
from tui.model.settings import Settings, load, read_config, read_state, write_state


def places(folder: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}


def write_config(folder: Path, text: str) -> None:
    file = folder / "config" / "deeplift-tracer" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_the_first_start_is_the_first_only(tmp_path: Path) -> None:
    settings = load(places(tmp_path))
    assert settings.first_start and settings.theme == "dark" and settings.columns is None and not settings.problems
    assert not settings.started().first_start
    assert not load(places(tmp_path)).first_start


def test_what_was_chosen_is_remembered_and_goes_before_the_config_file(tmp_path: Path) -> None:
    write_config(tmp_path, 'theme = "high-contrast"')
    settings = load(places(tmp_path))
    assert settings.theme == "high-contrast"
    settings.with_theme("light").with_columns(("self", "time"))
    again = load(places(tmp_path))
    assert again.theme == "light" and again.columns == ("self", "time")
    again.with_columns(None)
    assert load(places(tmp_path)).columns is None


def test_keys_are_texts_or_lists_for_all_screens_or_one(tmp_path: Path) -> None:
    write_config(tmp_path, '[keys]\nworst = "W"\nnext = ["n", "f3"]\n[keys.flow]\nnext = "x"')
    settings = load(places(tmp_path))
    assert settings.keys == {"worst": ("W",), "next": ("n", "f3"), "flow.next": ("x",)}
    assert not settings.problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = [", "cannot be read"),
        ("theme = 3", "theme is not a text"),
        ("keys = 3", "keys is not a table"),
        ("[keys]\nworst = 3", "the keys of worst"),
        ("[keys]\nworst = []", "the keys of worst"),
        ("[keys.flow]\nnext = [1]", "the keys of flow.next"),
        ('them = "light"', "unknown entry 'them'"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_bad_config_file_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    write_config(tmp_path, text)
    settings = load(places(tmp_path))
    (problem,) = settings.problems
    assert said in problem and "config.toml" in problem and "\n" not in problem
    assert settings.theme == "dark" and not settings.keys


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"{", b'{"theme": 3, "columns": [1]}', b"[" * 100_000])
def test_a_broken_state_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "state" / "deeplift-tracer" / "state.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    settings = load(places(tmp_path))
    assert settings.theme == "dark" and settings.columns is None and not settings.problems


def test_a_state_folder_that_cannot_be_written_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, no folder", encoding="utf-8")
    settings = load(places(tmp_path))
    assert settings.first_start
    assert settings.with_theme("light").theme == "light"
    assert settings.started().with_columns(("gain",)).columns == ("gain",)
    assert (tmp_path / "state").read_text(encoding="utf-8") == "a file, no folder"


def test_a_state_that_cannot_be_replaced_leaves_no_rest_behind(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    write_state(tmp_path / "state.json", {"theme": "light"})
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@given(st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.text(max_size=5), max_size=3))
def test_what_is_written_is_read(state: dict[str, object]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "deep" / "state.json"
        write_state(file, state)
        assert read_state(file) == state


def test_a_relative_folder_in_the_environment_is_not_taken(tmp_path: Path) -> None:
    settings = load({"XDG_STATE_HOME": "somewhere", "HOME": str(tmp_path)})
    assert settings.state_file == tmp_path / ".local" / "state" / "deeplift-tracer" / "state.json"


def test_there_need_not_be_a_config_file(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml") == ({}, [])
    assert read_config(tmp_path)[1], "a folder is not a file"


def test_a_key_of_ones_own_takes_the_place_of_the_tables() -> None:
    keymap, problems = actions.keymap_of({"worst": ("W",), "layers.search": ("f3", "?x")})
    assert keymap["layers.worst"] == ("W",) and keymap["layers.search"] == ("f3", "?x")
    assert {name.partition(".")[2] for name in keymap} == {"worst", "search"}
    assert not problems


def test_a_wish_that_cannot_be_granted_is_one_line() -> None:
    keymap, problems = actions.keymap_of({"wrost": ("W",), "layers.worst": ("n",), "layers.search": ("f3",)})
    assert set(keymap) == {"layers.search"}
    assert any("'wrost'" in problem for problem in problems)
    assert any("'n' of layers.worst is a key of layers.next" in problem for problem in problems)


def test_two_actions_can_change_places() -> None:
    keymap, problems = actions.keymap_of({"layers.worst": ("n",), "layers.next": ("w",)})
    assert keymap == {"layers.worst": ("n",), "layers.next": ("w",)} and not problems


def test_every_action_has_an_id_of_its_own() -> None:
    ids = [action.id for action in actions.ACTIONS]
    assert len(ids) == len(set(ids))


def test_settings_without_a_file_keep_nothing() -> None:
    assert Settings().with_theme("light") == Settings(theme="light")
