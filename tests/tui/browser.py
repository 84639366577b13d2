"""A headless Chromium that a test drives by its DevTools protocol, with nothing but aiohttp."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page. `received` is what its web sockets were sent, as text."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.received = ""
        self.requests: dict[str, str] = {}
        """What the page asked for, but for what its own policy forbids."""
        self.size = 0, 0
        """Columns and rows that the page asked for."""

    async def listen(self) -> None:
        """Take what the browser says until it goes."""
        async for message in self._socket:
            data = message.json()
            if "id" in data:
                self._answers[data["id"]].set_result(data)
                continue
            parameters = data["params"]
            if data["method"] == "Network.webSocketFrameReceived":
                frame = parameters["response"]
                raw = base64.b64decode(frame["payloadData"]) if frame["opcode"] == 2 else b""
                self.received += raw.decode(errors="replace")
            elif data["method"] == "Network.webSocketCreated":
                asked = dict(re.findall(r"(width|height)=(\d+)", parameters["url"]))
                self.size = int(asked["width"]), int(asked["height"])
            elif data["method"] == "Network.requestWillBeSent":
                self.requests[parameters["requestId"]] = parameters["request"]["url"]
            elif data["method"] == "Network.loadingFailed" and parameters.get("blockedReason") == "csp":
                del self.requests[parameters["requestId"]]

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        number = len(self._answers) + 1
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], 15)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=code, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
        """Wait for something that the page is sent."""
        for _ in range(int(seconds * 20)):
            if condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{what} did not come; received: {self.text[-500:]!r}")

    @property
    def text(self) -> str:
        """What was received without its control sequences."""
        return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", self.received)

    async def type(self, key: str) -> None:
        """Press a key that is a letter or figure."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=ord(key.upper()), **text
            )

    async def click(self, x: float, y: float) -> None:
        """Click at a place of the page, in pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def picture(self) -> bytes:
        """What is to be seen, as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def page(folder: Path, width: int = 1200, height: int = 800) -> AsyncIterator[Page]:
    """A page of a new browser; its profile lies in `folder`."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}",
            f"--window-size={width},{height}", "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = await _port_of(folder)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                targets = await answer.json(content_type=None)
            address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                shown = Page(socket)
                listening = asyncio.create_task(shown.listen())
                for domain in ("Page", "Runtime", "Network"):
                    await shown.call(f"{domain}.enable")
                yield shown
                listening.cancel()
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _port_of(folder: Path) -> int:
    """The port on which the browser listens, once it has written it down."""
    for _ in range(600):
        written = folder / "DevToolsActivePort"
        lines = written.read_text().splitlines() if written.exists() else []
        if len(lines) > 1:
            return int(lines[0])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser does not listen")
