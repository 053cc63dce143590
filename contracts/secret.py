"""Text that must not be shown."""


class Secret:
    """A password, token, or address that holds one. No message, log or repr shows it: only `reveal` does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for whoever it is meant for."""
        return self._text

    def __repr__(self) -> str:
        """Say that there is one, or that it is empty."""
        return "Secret(set)" if self._text else "Secret(empty)"
