"""An answer on the command line stays the text that was typed, also with `<<` in it. Named in cookiecutter.json.

Without it, such an answer ends in a traceback of Jinja, or is silently changed, before a hook could name the rule.
"""

from __future__ import annotations

import re

from jinja2.ext import Extension


class LiteralAnswers(Extension):
    """Tags are text, unless they are in a file or speak of `cookiecutter`, as all of the template's own do."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """What Jinja reads instead of a text. name: of a file; an answer has none."""
        if name or "cookiecutter" in source:
            return source
        return re.sub("<[<%#]", lambda tag: f'<< "{tag[0]}" >>', source)
