"""Cells of CSV files that people open in a spreadsheet: a text in, a cell that is no formula out.

https://owasp.org/www-community/attacks/CSV_Injection
"""

import re

FORMULA = re.compile(
    "[=+\\-@\t\r\n＝＋－＠]"
)  # the last four are full-width: some spreadsheets take them for the others
PLAIN_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def cell_of(text: str) -> str:
    """Return a text as a cell: with an apostrophe before it if it begins like a formula, or with an apostrophe.

    A number such as -5 stays a number. Without its first apostrophe, if it has one, a cell is the text again.
    """
    begins = FORMULA.match(text) and not PLAIN_NUMBER.fullmatch(text)
    return f"'{text}" if begins or text.startswith("'") else text
