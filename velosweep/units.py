"""Amounts in words, alike wherever they are shown."""


def bytes_words(count: int) -> str:
    """`8.5 GB`, `39 MB`: bytes in powers of ten, as files are sold and listed."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def plural(count: int, noun: str) -> str:
    """`1 job`, `3 jobs`, `2 launches`."""
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "s")) else "s"
    return f"{count} {noun}{ending}"
