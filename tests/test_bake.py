"""What a bake makes, from ordinary and from hostile answers, and what it refuses."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import PROJECT, ROOT
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from tree import tree

RENDERED = {"README.md", "pyproject.toml", "Makefile", "config.yaml"}
TAG = re.compile(r"<<\s*cookiecutter|<%|%>|<#|#>|\{\{\s*cookiecutter")


def test_a_project_is_made_of_exactly_these_files(project):
    expected = (ROOT / "tests" / "tree.txt").read_text(encoding="utf-8").splitlines()
    assert tree(project) == expected, "the tree has changed; if it was meant to, type: make tree"


def test_no_tag_is_left_over_in_any_file_or_name(project):
    left = [
        name for name in tree(project) if TAG.search(name) or TAG.search((project / name).read_text(encoding="utf-8"))
    ]
    assert left == []


def test_only_four_files_are_rendered_and_all_others_are_the_templates_own_bytes(project, template):
    source = template / PROJECT
    changed = {name for name in tree(project) if (project / name).read_bytes() != (source / name).read_bytes()}
    assert changed == RENDERED


def test_rendered_files_hold_nothing_the_delimiters_would_swallow():
    for name in RENDERED:
        text = re.sub(r"<< ?cookiecutter\.\w+ ?>>", "", (ROOT / PROJECT / name).read_text(encoding="utf-8"))
        assert not re.search(r"<<|>>|#%|<%|<#", text), name


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted" and \\ slashed',
        "naïve 日本語 😀",
        "colon: hash # percent % dollar $HOME `id` $(id)",
        "{{ braces }} ${{ secrets.X }} {{resolve:ssm:x}}",
        "yes",
    ],
)
def test_any_printable_text_survives_into_yaml_and_toml(bake, text):
    project = bake(project_name=text, project_slug="odd", description=text, team=text)
    config = yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8"))
    assert config["project"]["description"] == text
    assert config["project"]["team"] == text
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"] == text
    assert (project / "README.md").read_text(encoding="utf-8").startswith(f"# {text}\n")


def test_words_that_yaml_reads_as_something_else_stay_names(bake):
    project = bake(project_slug="on", model_package_group="1e3", rare_class="yes", negative_classes="no, null,true")
    config = yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8"))
    assert config["project"]["name"] == "on"
    assert config["project"]["model_package_group"] == "1e3"
    assert config["labels"] == {"rare_class": "yes", "negative_classes": ["no", "null", "true"]}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"project_slug": "Bad_Slug"}, "lower-case letters, digits and single hyphens"),
        ({"project_slug": "a" * 33}, "33 characters long, AWS takes 32"),
        ({"project_slug": "../escape"}, "lower-case letters"),
        ({"model_package_group": "-x"}, "model_package_group '-x'"),
        ({"model_package_group": "g" * 64}, "at most 63"),
        ({"aws_region": "mars"}, "no AWS region"),
        ({"description": "two\nlines"}, "line break"),
        ({"description": " "}, "description is empty"),
        ({"rare_class": "class"}, "reserved"),
        ({"rare_class": "unknown"}, "reserved"),
        ({"rare_class": "Risky Player"}, "lower-case letters, digits and underscores"),
        ({"rare_class": "normal"}, "one of the negative_classes too"),
        ({"negative_classes": ""}, "negative_classes is empty"),
        ({"negative_classes": "normal, normal"}, "stands twice"),
        ({"negative_classes": 'it\'s "so" \\'}, "is refused"),
    ],
)
def test_a_refused_answer_names_the_rule_and_leaves_nothing(template, tmp_path, capfd, answers, words):
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), no_input=True, output_dir=str(tmp_path), extra_context=answers)
    said = capfd.readouterr().err
    assert words in said
    assert "Traceback" not in said.split("Nothing was written")[1].split("\n")[1]
    assert list(tmp_path.iterdir()) == []


def test_a_recorded_bake_can_be_replayed(template, tmp_path):
    command = [sys.executable, "-m", "cookiecutter", str(template)]
    one, other = tmp_path / "one", tmp_path / "other"
    subprocess.run([*command, "--no-input", "-o", one, "project_name=Fraud Rings"], check=True, capture_output=True)
    subprocess.run([*command, "--replay", "-o", other], check=True, capture_output=True)
    assert tree(one) == tree(other)
    assert (one / "fraud-rings/config.yaml").read_bytes() == (other / "fraud-rings/config.yaml").read_bytes()


def test_two_projects_live_side_by_side_in_one_folder(bake, tmp_path):
    one = bake(tmp_path, project_name="Fraud Rings")
    before = {name: (one / name).read_bytes() for name in tree(one)}
    other = bake(tmp_path, project_name="Intrusions", rare_class="intrusion", negative_classes="normal")
    assert {path.name for path in tmp_path.iterdir()} == {"fraud-rings", "intrusions"}
    assert {name: (one / name).read_bytes() for name in tree(one)} == before
    assert tree(one) == tree(other)


def test_a_project_that_stands_already_is_not_written_over(template, tmp_path, bake):
    project = bake(tmp_path)
    (project / "config.yaml").write_text("mine\n", encoding="utf-8")
    with pytest.raises(Exception, match="already exists"):
        bake(tmp_path)
    assert (project / "config.yaml").read_text(encoding="utf-8") == "mine\n"


def test_eight_questions_each_with_words_for_people(template):
    context = yaml.safe_load((template / "cookiecutter.json").read_text(encoding="utf-8"))
    questions = [name for name in context if not name.startswith("_")]
    assert len(questions) == 8
    assert set(context["__prompts__"]) == set(questions)


@pytest.mark.parametrize(
    ("name", "slug"), [("Fraud Rings", "fraud-rings"), ("日本", "ri-ben"), ("!!!", "rare-players")]
)
def test_every_project_name_has_a_slug(bake, name, slug):
    assert bake(project_name=name).name == slug
