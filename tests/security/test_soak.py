"""A small part of what ``python -m tests.soak`` does about strangers: recipes, and both under an audit hook."""

from __future__ import annotations

from tests.soak import audited, recipes


def test_recipes_are_answered_in_one_message():
    assert recipes.check(60, 0) == []


def test_no_import_code_process_connection_or_foreign_file_comes_of_them():
    assert audited.check(24, 0) == []


def test_the_hook_hears_what_it_is_for(tmp_path):
    watch = audited.Watch(str(tmp_path), audited.allowed())
    heard = {
        "import": ("evil", None, None, None, None),
        "compile": (f"print('{recipes.MARK}')", "<string>"),
        "subprocess.Popen": ("touch", [], None, None),
        "socket.connect": (None, ("127.0.0.1", 9)),
        "pickle.find_class": ("os", "system"),
        "open": (str(tmp_path.parent / "elsewhere"), "w", 0o1101),
        "os.remove": (str(tmp_path.parent / "elsewhere"), -1),
    }
    for event, given in heard.items():
        assert watch.wrong(event, given), event
    assert watch.wrong("open", ("/etc/passwd", "r", 0))
    assert not watch.wrong("import", ("torch.nn", None, None, None, None))
    assert not watch.wrong("open", (str(tmp_path / "within"), "w", 0o1101))
