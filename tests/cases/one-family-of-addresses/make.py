"""Some text."""

from pathlib import Path

Path("text.txt").write_text("\n".join(f"line {number} says that {number} times {number} is {number * number}." for number in range(2000)))
