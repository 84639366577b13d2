"""The calls that were visited, in order: back and forward as in a browser."""

from __future__ import annotations


class History:
    """Calls before and after the present one; going somewhere new forgets what lay after."""

    def __init__(self, longest: int = 200) -> None:
        self._longest = longest
        self._before: list[int] = []
        self._after: list[int] = []

    def leave(self, node: int) -> None:
        """Remember a call that is left by a jump."""
        if node < 0:
            return
        self._after.clear()
        if not self._before or self._before[-1] != node:
            self._before.append(node)
            del self._before[: -self._longest]

    def back(self, present: int) -> int | None:
        """The call that was visited before `present`, None if there is none."""
        return self._turn(self._before, self._after, present)

    def forward(self, present: int) -> int | None:
        """The call that was left by going back to `present`, None if there is none."""
        return self._turn(self._after, self._before, present)

    @staticmethod
    def _turn(source: list[int], target: list[int], present: int) -> int | None:
        while source:
            node = source.pop()
            if node != present:
                target.append(present)
                return node
        return None
