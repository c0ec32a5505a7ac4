"""Before anything is written: refuse what SageMaker, S3 or Python would refuse, with the rule and what passes.

What ends in config.yaml has the same rules in src/scarcegan/pipeline/config.py of the project; a test compares both.
"""

import json
import keyword
import os
import re
import shlex
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Doubly JSON-encoded, so that no quote or backslash in an answer can break out of these strings.
CONTEXT = "<< (cookiecutter | jsonify | jsonify)[1:-1] >>"
TYPED = "<< (_cookiecutter | default({}) | jsonify | jsonify)[1:-1] >>"  # the answers before cookiecutter rendered them

REGION = re.compile(
    "((us|eu|ap|sa|ca|me|af|il|mx|cn)-(central|(north|south)(east|west)?|east|west)"
    "|(us-gov|us-iso[bf]?|eu-isoe|eusc-de)-(central|north|south|east|west))-[1-9]"
)
SLUG = re.compile(r"[a-z](-?[a-z0-9])*")
GROUP = re.compile(
    r"(arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:model-package-group/)?([a-zA-Z0-9](-*[a-zA-Z0-9])*)"
)
CLASS = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = ("unknown", "unlabelled", "generated", *keyword.kwlist)
KEPT_BY_AWS = ("aws", "ssm", "amzn-s3-demo-", "sthree-")
TAGS = ("<" + "<", "<" + "%", "<" + "#")  # in pieces, because this file is rendered too
TAG_BEGINS = "<(?=[<" + "%" + "#])"
JOINERS = "\u200c\u200d"  # join Persian letters and emoji
LONGEST = {
    "project_name": 256,  # a tag
    "project_slug": 32,  # a SageMaker project; every name that derives from it and a region fits
    "description": 1024,  # of a model package group
    "team": 256,  # a tag
    "model_package_group": 63,
    "class name": 40,
}

# What the project installs, and what installs it: a project of the same name would take the library's place.
LIBRARIES = """
    absl-py aiohappyeyeballs aiohttp aiosignal alembic annotated-doc annotated-types anyio appnope ast-serialize
    asttokens astunparse attrs bcrypt beautifulsoup4 blinker boto3 botocore cachebox cachetools certifi cffi cfgv
    cfn-lint charset-normalizer click cloudpickle colorama comm contourpy cryptography cycler databricks-sdk debugpy
    deepdiff distlib docker duckdb execnet executing fastapi fastjsonschema filelock flask flask-cors flatbuffers
    fonttools frozenlist fsspec gast gevent gitdb gitpython google-auth google-pasta graphene graphql-core graphql-relay
    greenlet grpcio gunicorn h11 h5py httpcore httptools httpx huey identify idna importlib-metadata iniconfig
    inotify-simple invoke ipykernel ipython ipython-pygments-lexers itsdangerous jedi jinja2 jmespath joblib json5
    jsonpatch jsonpath-ng jsonpointer jsonschema jsonschema-specifications jupyter-client jupyter-core keras kiwisolver
    libclang librt mako markdown-it-py markupsafe matplotlib matplotlib-inline mdurl ml-dtypes mlflow mlflow-skinny
    mlflow-tracing mmh3 mock moto mpmath multidict mypy mypy-extensions namex narwhals nbclient nbformat nest-asyncio
    nest-asyncio2 networkx nodeenv numpy omegaconf opentelemetry-api opentelemetry-proto opentelemetry-sdk opt-einsum
    optree orderly-set orjson packaging pandas paramiko parso pathspec pexpect pillow pip platformdirs pluggy
    policy-sentry pre-commit prettytable prompt-toolkit propcache protobuf psutil ptyprocess pure-eval py-partiql-parser
    pyarrow pyasn1 pyasn1-modules pycparser pydantic pydantic-core pygments pyiceberg pynacl pyparsing pyroaring pytest
    pytest-xdist python-dateutil python-discovery python-dotenv pytz pywin32 pyyaml pyzmq referencing regex requests
    responses retrying rich rpds-py ruff s3fs s3transfer sagemaker sagemaker-core sagemaker-mlflow sagemaker-mlops
    sagemaker-serve sagemaker-train sagemaker-training schema scikit-learn scipy setuptools shellingham six skops
    smdebug-rulesconfig smmap soupsieve sqlalchemy sqlparse stack-data starlette strictyaml sympy tblib tenacity
    tensorflow tensorflow-cpu termcolor threadpoolctl tornado tqdm traitlets typer types-pyyaml typing-extensions
    typing-inspection tzdata urllib3 uv uvicorn virtualenv waitress wcwidth werkzeug wheel wrapt xmltodict yarl zipp
    zope-event zope-interface zstandard
"""


def refusals(answers: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each answer that would be refused later."""
    yield from refused_tags(answers)
    yield from refused_text(answers)
    yield from refused_team(answers["team"])
    yield from refused_names(answers)
    yield from refused_classes(answers["rare_class"], answers["negative_classes"])


def refused_tags(answers: Mapping[str, str]) -> Iterator[str]:
    """Private answers too: one that a record from an older template lacks would stay a tag in the project."""
    found = [
        (question, tag)
        for question in answers
        for tag in TAGS
        if not question.startswith("_") and tag in answers[question]
    ]
    for question, tag in found:
        yield f"{question} holds {tag}, which the template reads as its own tag. For example: Rare Players"
    for question, text in answers.items():
        if not found and question.startswith("__") and any(tag in text for tag in TAGS):
            yield f"{question} is missing from the recorded answers. Answer the questions again, without --replay."


def refused_text(answers: Mapping[str, str]) -> Iterator[str]:
    """Quotes, accents and emoji pass; what is no single line of text, or longer than AWS takes, does not."""
    for question in ("project_name", "description", "team"):
        text = answers[question]
        if not text.strip() and question != "description":
            yield f"{question} is empty. Write a few words, for example: Rare Players"
        if one_line(text) != text:
            yield f"{question} holds a line break or a control character: {short(text)}. For example: Rare Players"
        if len(text) > LONGEST[question]:
            yield f"{question} has {len(text)} characters, AWS takes {LONGEST[question]}. For example: Rare Players"


def one_line(text: str) -> str:
    """The text with a space for each line break, control character and character that does not exist."""
    return "".join(" " if is_control(letter) else letter for letter in text)


def is_control(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return (kind[0] == "C" or kind in ("Zl", "Zp")) and letter not in JOINERS


def refused_team(team: str) -> Iterator[str]:
    """The team becomes a tag on everything in AWS."""
    odd = sorted(set(team) - set(as_tag(team)))
    if odd:
        yield (
            f"team {short(team)} becomes a tag in AWS, which takes letters, digits, spaces and _ . : / = + - @ but not "
            f"{' '.join(short(letter)[1:-1] for letter in odd[:20])}. Write it otherwise, for example: R and D"
        )


def as_tag(text: str) -> str:
    """The text with a space for each character that a tag does not take:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
    """
    return "".join(c if unicodedata.category(c)[0] in "LZN" or c in "_.:/=+-@" else " " for c in text)


def refused_names(answers: Mapping[str, str]) -> Iterator[str]:
    slug, region, group = answers["project_slug"], answers["aws_region"], answers["model_package_group"]
    yield from refused_slug(slug)
    if region and not REGION.fullmatch(region):
        yield f"aws_region {short(region)} is no AWS region. For example: eu-west-1"
    if group != slug and not is_group(group):  # nobody typed a group that equals the slug
        yield (
            f"model_package_group {short(group)} is refused by SageMaker: letters, digits and hyphens, at most "
            f"{LONGEST['model_package_group']} (found: {len(group)}), none but a letter or digit first and last. "
            "For example: rare-players"
        )


def refused_slug(slug: str) -> Iterator[str]:
    """The slug names a folder, a Python package, a SageMaker project, an S3 bucket."""
    if len(slug) > LONGEST["project_slug"]:
        yield (
            f"project_slug {short(slug)} is {len(slug)} characters long, AWS takes {LONGEST['project_slug']} for a "
            "SageMaker project. For example: rare-players"
        )
    elif not SLUG.fullmatch(slug):
        yield (
            f"project_slug {short(slug)} is refused by S3 and SageMaker: lower-case letters, digits and single "
            "hyphens, a letter first, no hyphen last. For example: rare-players"
        )
    elif slug.startswith(KEPT_BY_AWS):
        yield (
            f"project_slug '{slug}': AWS keeps names that begin with {', '.join(KEPT_BY_AWS)} for itself. "
            "For example: rare-players"
        )
    elif slug in LIBRARIES.split():
        yield (
            f"project_slug '{slug}' is the name of a library that the project needs, and installing the project would "
            f"remove that library. For example: {slug}-players"
        )


def is_group(group: str) -> bool:
    """A name, or the ARN of a group that another account shares."""
    parts = GROUP.fullmatch(group)
    return parts is not None and len(parts[2]) <= LONGEST["model_package_group"]


def refused_classes(rare: str, negatives: str) -> Iterator[str]:
    names = negative_names(negatives)
    if names == [""]:
        yield "negative_classes is empty: the rare class needs at least one to be told from. For example: normal"
        return
    for name in [rare, *names]:
        if not CLASS.fullmatch(name) or len(name) > LONGEST["class name"]:
            yield (
                f"class name {short(name)} is refused, because it becomes a column: lower-case letters, digits and "
                f"underscores, a letter first, at most {LONGEST['class name']}. For example: high_roller"
            )
        elif name in RESERVED:
            yield f"class name '{name}' is reserved. Choose another, for example: {name}_users"
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        yield f"class name {short(repeated[0])} occurs twice in negative_classes. Name each once: dormant, normal"
    if rare in names:
        yield (
            f"rare_class {short(rare)} is one of the negative_classes too. Rename one of them, for example: "
            f"{corrected_class(rare)[:30]}_users"
        )


def negative_names(negatives: str) -> list[str]:
    return [name.strip(" ") for name in negatives.split(",")]  # config.yaml leaves out spaces, no other blanks


def short(text: str) -> str:
    """A refused text in quotes, cut where it is long: the rule stands behind it."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def corrected(answers: Mapping[str, str]) -> dict[str, str]:
    """Answers that pass: each is the given one where that passes, and otherwise near to it."""
    better = {question: text for question, text in answers.items() if not question.startswith("_")}
    slug, group, region = better["project_slug"], better["model_package_group"], better["aws_region"]
    for question, default in {"project_name": "Rare Players", "description": "", "team": "data-science"}.items():
        text = one_line(re.sub(TAG_BEGINS, "< ", better[question]))[: LONGEST[question]]
        text = as_tag(text.replace("&", "and"))[: LONGEST["team"]] if question == "team" else text
        text = text if text == better[question] else text.strip()
        better[question] = text if text.strip() or question == "description" else default
    better["project_slug"] = corrected_slug(slug)
    if group == slug:
        better["model_package_group"] = better["project_slug"]
    elif not is_group(group):
        better["model_package_group"] = near_name(group)[: LONGEST["model_package_group"]].rstrip("-") or "rare-players"
    if region and not REGION.fullmatch(region):
        near = REGION.search(region.lower().replace("_", "-"))
        better["aws_region"] = near[0] if near else "eu-west-1"
    if any(refused_classes(better["rare_class"], better["negative_classes"])):
        rare = better["rare_class"] = corrected_class(better["rare_class"]) or "risky"
        names = dict.fromkeys(corrected_class(name) for name in negative_names(better["negative_classes"]))
        others = [name for name in names if name not in ("", rare)]
        better["negative_classes"] = ", ".join(others) or ("normal" if rare != "normal" else "other")
    return better


def plain(text: str) -> str:
    """The letters without accents, and nothing for those that are not Latin."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def near_name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", plain(text)).strip("-")


def corrected_slug(slug: str) -> str:
    name = near_name(slug).lower().lstrip("-0123456789")
    name = f"our-{name}" if name.startswith(KEPT_BY_AWS) else name
    name = f"{name}-players" if name in LIBRARIES.split() else name
    return name[: LONGEST["project_slug"]].rstrip("-") or "rare-players"


def corrected_class(name: str) -> str:
    """Nothing for a name without a Latin letter."""
    if not any(refused_classes(name, "other" if name != "other" else "normal")):
        return name
    near = re.sub("[^a-z0-9]+", "_", plain(name).lower()).lstrip("_0123456789")[: LONGEST["class name"]].rstrip("_")
    return f"{near}_users" if near in RESERVED else near


def command(answers: Mapping[str, str], context: Mapping[str, Any]) -> str:
    """What to type for the same project with the corrected answers."""
    better = corrected(answers)
    shell, out = os.environ.get("PWD", ""), os.environ.get("BAKED_INTO", context.get("_output_dir"))
    template = os.environ.get("BAKED_FROM", context.get("_template", ""))
    if "_commit" not in context:
        words = ["cookiecutter", template, "--no-input"]
        words += ["--checkout", context["_checkout"]] if context.get("_checkout") else []
        words += ["--output-dir", out] if out != shell else []
        return " \\\n        ".join(
            [shlex.join(words), *(shlex.quote(f"{question}={text}") for question, text in better.items())]
        )
    out = Path.cwd().parent
    if out.parent == Path(tempfile.gettempdir()).resolve() and out.name.startswith("tmp"):
        changed = {question: text for question, text in better.items() if text != answers[question]}
        update = ["cruft", "update", "--refresh-private-variables", "--variables-to-update"]
        return shlex.join([*update, json.dumps(changed, ensure_ascii=False)])
    words = ["cruft", "create", template, "--no-input", "--extra-context", json.dumps(better, ensure_ascii=False)]
    return shlex.join(words + (["--output-dir", str(out)] if str(out) != shell else []))


def as_typed(answers: Mapping[str, str], context: Mapping[str, Any]) -> dict[str, str]:
    """The answers, with the text before rendering where somebody typed a tag: cookiecutter has carried it out."""
    questions = Path(os.environ.get("PWD", ""), context.get("_repo_dir", ""), "cookiecutter.json")
    typed = json.loads(TYPED)
    unanswered = json.loads(questions.read_text(encoding="utf-8")) if questions.is_file() else typed
    changed = {
        question: text
        for question, text in typed.items()
        if text != unanswered.get(question, text) and any(tag in str(text) for tag in TAGS)
    }
    return {**answers, **changed}


def main() -> None:
    if not CONTEXT.startswith("{"):
        sys.exit("This template needs cookiecutter 2.6 or newer. Type: pip install -U cookiecutter")
    context = json.loads(CONTEXT)
    answers = {question: text for question, text in context.items() if isinstance(text, str)}
    if answers["project_slug"].startswith("refused-"):  # cookiecutter.json puts a name of a new folder there
        answers["project_slug"] = answers.get("__slug_as_given", "")
    answers = as_typed(answers, context)
    problems = list(refusals(answers))
    if problems:
        refused = "\n".join(["Nothing was written:", *(f"  - {problem}" for problem in problems)])
        passing = f"These answers pass:\n\n    {command(answers, context)}"
        said = f"{refused}\n{passing}\n\nWhat follows is cookiecutter's own report of the same.\n"
        if sys.stderr:  # as bytes, whatever the terminal can show
            os.write(sys.stderr.fileno(), said.encode("utf-8", "surrogateescape"))
        sys.exit(1)


if __name__ == "__main__":
    main()
