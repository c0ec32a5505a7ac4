"""Before anything is written: refuse what SageMaker, S3 or Python would refuse, naming the rule and what passes."""

import json
import keyword
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping

# Doubly JSON-encoded, so that no quote or backslash in an answer can break out of this string.
ANSWERS = "<< (cookiecutter | jsonify | jsonify)[1:-1] >>"

PARTITIONS = "us|eu|ap|sa|ca|me|af|il|mx|cn|us-gov|us-iso[bf]?|eu-isoe|eusc-de"
DIRECTIONS = "central|north|south|east|west|northeast|northwest|southeast|southwest"
REGION = re.compile(rf"({PARTITIONS})-({DIRECTIONS})-[1-9]")
SLUG = re.compile(r"[a-z](-?[a-z0-9])*")
GROUP = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
CLASS = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = ("unknown", "unlabelled", "generated")
KEPT_BY_AWS = ("aws", "ssm", "amzn-s3-demo-", "sthree-")
TAGS = ("<" + "<", "<" + "%", "<" + "#", "#" + "%")  # in pieces, because this file is rendered too
JOINERS = "\u00a0\u202f\u200c\u200d"  # hard spaces, and what joins emoji and Persian letters
LONGEST = {"project_name": 256, "description": 1024, "team": 256}  # a tag, a SageMaker description, a tag

# Every physical name that derives from the slug, and how long AWS lets it be. {account} has 12 digits.
DERIVED_NAMES = {
    "SageMaker project": ("{slug}", 32),
    "S3 bucket": ("{slug}-{account}-{region}", 63),
    "endpoint": ("{slug}-staging-endpoint", 63),
    "Lambda function": ("{slug}-register-model-set", 64),
    "EventBridge rule": ("{slug}-model-package-approved", 64),
}


def refusals(answers: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each answer that would be refused later."""
    yield from refused_tags(answers)
    yield from refused_text(answers)
    yield from refused_team(answers["team"])
    yield from refused_names(answers)
    yield from refused_classes(answers["rare_class"], answers["negative_classes"])


def refused_tags(answers: Mapping[str, str]) -> Iterator[str]:
    """Private answers too: one that a record from an older template lacks would stay a tag in the project."""
    for question, text in answers.items():
        derived = question.startswith("__")
        found = [tag for tag in TAGS if tag in str(text)] if derived or not question.startswith("_") else []
        if found and derived:
            yield f"{question} is missing from the recorded answers. Answer the questions again, without --replay."
        elif found:
            yield f"{question} holds {found[0]}, which the template reads as its own tag. For example: Rare Players"


def refused_text(answers: Mapping[str, str]) -> Iterator[str]:
    """Quotes, accents and emoji pass; what is no single line of text, or longer than AWS takes, does not."""
    for question, longest in LONGEST.items():
        text = answers[question]
        if not text.strip():
            yield f"{question} is empty. Write a few words, for example: Rare Players"
        if any(not (letter.isprintable() or letter in JOINERS) for letter in text):
            yield f"{question} holds a line break or a control character: {text!r}. For example: Rare Players"
        if len(text) > longest:
            yield f"{question} has {len(text)} characters, AWS takes {longest}. For example: Rare Players"


def refused_team(team: str) -> Iterator[str]:
    """The team becomes a tag on everything in AWS. What a tag takes:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
    """
    odd = sorted(
        {letter for letter in team if unicodedata.category(letter)[0] not in "LZN" and letter not in "_.:/=+-@"}
    )
    if odd:
        yield (
            f"team '{team}' becomes a tag in AWS, which takes letters, digits, spaces and _ . : / = + - @ but not "
            f"{' '.join(odd)}. Write it otherwise, for example: R and D"
        )


def refused_names(answers: Mapping[str, str]) -> Iterator[str]:
    slug, region, group = answers["project_slug"], answers["aws_region"], answers["model_package_group"]
    if not SLUG.fullmatch(slug):
        yield (
            f"project_slug '{slug}' is refused by S3 and SageMaker: lower-case letters, digits and single hyphens, "
            "a letter first, no hyphen last. For example: rare-players"
        )
    elif slug.startswith(KEPT_BY_AWS):
        yield (
            f"project_slug '{slug}': AWS keeps names that begin with {', '.join(KEPT_BY_AWS)} for itself. "
            "For example: rare-players"
        )
    for kind, (pattern, longest) in DERIVED_NAMES.items():
        name = pattern.format(slug=slug, account="0" * 12, region=region)
        if len(name) > longest:
            yield (
                f"project_slug '{slug}' makes the name of the {kind} {len(name)} characters long, AWS takes {longest}. "
                f"Shorten the slug by {len(name) - longest}, for example: rare-players"
            )
            break
    if not REGION.fullmatch(region):
        yield f"aws_region '{region}' is no AWS region. For example: eu-west-1"
    if not GROUP.fullmatch(group) or len(group) > 63:
        yield (
            f"model_package_group '{group}' is refused by SageMaker: letters, digits and hyphens, at most 63 (found: "
            f"{len(group)}), none but a letter or digit first and last. For example: rare-players"
        )


def refused_classes(rare: str, negatives: str) -> Iterator[str]:
    names = [name.strip(" ") for name in negatives.split(",")]  # config.yaml leaves out spaces, no other blanks
    if names == [""]:
        yield "negative_classes is empty: the rare class needs at least one to be told from. For example: normal"
        return
    for name in [rare, *names]:
        if not CLASS.fullmatch(name) or len(name) > 40:
            yield (
                f"class name '{name}' is refused, because it becomes a column: lower-case letters, digits and "
                "underscores, a letter first, at most 40. For example: high_roller"
            )
        elif keyword.iskeyword(name) or name in RESERVED:
            yield f"class name '{name}' is reserved. Choose another, for example: {name}_users"
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        yield f"class name '{repeated[0]}' occurs twice in negative_classes. Name each once: dormant, normal"
    if rare in names:
        yield f"rare_class '{rare}' is one of the negative_classes too. Rename one of them, for example: {rare}_users"


def main() -> None:
    if not ANSWERS.startswith("{"):
        sys.exit("This template needs cookiecutter 2.6 or newer. Type: pip install -U cookiecutter")
    problems = list(refusals(json.loads(ANSWERS)))
    if problems:
        sys.exit("\n".join(["Nothing was written:", *(f"  - {problem}" for problem in problems)]))


if __name__ == "__main__":
    main()
