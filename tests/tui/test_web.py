"""`view --web`: the same view in a real browser, and nothing for anybody else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.synthetic import write_synthetic
from tracer import cli

pytest.importorskip("textual_serve", reason="the extra web is not installed")
from tests.tui.browser import CHROMIUM, page

ROOT = Path(__file__).parent.parent.parent
ODD = "we ird'; touch pwned #$(x)"
"""A folder's name that a shell would make something of."""
_BOX = "(box => [box.left, box.top, box.width, box.height])"
_BOX += "(document.querySelector('.xterm-screen').getBoundingClientRect())"


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address at which `view --web` serves in `folder`, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tracer", "view", "--web", "--port", str(port), "--", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}" in process.stderr.readline()
        address = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                continue
        yield address, process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of an odd name with a trace of an odd name."""
    (tmp_path / ODD).mkdir()
    write_synthetic(tmp_path / ODD / "-a b.dltrace", layers=2)
    return tmp_path / ODD


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_view_and_steers_it(folder: Path, tmp_path: Path) -> None:
    async def story(address: str) -> None:
        async with page(tmp_path / "profile") as browser:
            await browser.call("Page.navigate", url=address)
            await browser.until(lambda: "Do not read these attributions" in browser.text, "the verdict")
            await browser.until(lambda: "softmax_1" in browser.text, "the worst call")
            await browser.evaluate("document.querySelector('textarea').focus()")
            first = await browser.picture()
            browser.received = ""
            await browser.type("3")
            await browser.until(lambda: "Tokens" in browser.text and "amazing" in browser.text, "the screen Tokens")
            await asyncio.sleep(0.3)
            assert await browser.picture() != first, "the browser has painted it"
            left, top, width, height = await browser.evaluate(_BOX)
            footer = browser.text[browser.text.index(" c next method") :]
            columns, rows = browser.size
            browser.received = ""
            await browser.click(
                left + (footer.index("? help") + 0.5) * width / columns, top + (rows - 0.5) * height / rows
            )
            await browser.until(lambda: "Esc closes" in browser.text, "the help that was clicked")
            await browser.type("q")
            assert not [url for url in browser.requests.values() if not url.startswith((address, "data:", "about:"))]
            await browser.type("q")
            for _ in range(100):
                if await browser.evaluate("document.body.classList.contains('-closed')"):
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("q does not end the session")

    with served(folder, "-a b.dltrace") as (address, process):
        asyncio.run(story(address))
    assert process.returncode == 0, "Ctrl-C ends it"
    assert sorted(path.name for path in folder.parent.iterdir() if path.name.startswith("pwned")) == []
    assert not (folder / "pwned").exists()


def test_only_its_own_pages_are_served(folder: Path) -> None:
    def code(path: str = "/", **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(address + path, headers=headers), timeout=10) as answer:
                assert "default-src" in answer.headers["Content-Security-Policy"]
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    with served(folder, "-a b.dltrace") as (address, _):
        assert code() == 200
        assert code(Host="evil.example") == 403, "a name that leads here"
        assert code("/ws", Origin="http://evil.example") == 403, "a page of somebody else's"
        port = address.rpartition(":")[2]
        assert cli.main(["view", "--web", "--port", port, str(folder / "-a b.dltrace")]) == 2


def test_a_mistake_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(folder / "-a b.dltrace")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["view", "--web", "--port", port, file]) == 2
    told = capsys.readouterr().err
    assert told == f"deeplift-tracer: port {port} is taken by another program: give another one with --port\n"
    assert cli.main(["view", "--port", "8000", file]) == 2
    assert capsys.readouterr().err.startswith("deeplift-tracer: --port goes with --web")
    assert cli.main(["view", "--web", str(folder / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    assert cli.main(["view", "--web", file]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pip install 'deeplift-tracer[web]'" in told


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "८"])
def test_a_port_is_a_number(port: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["view", "--web", f"--port={port}", str(folder)])
    assert "is not a port" in capsys.readouterr().err
