"""What a bake makes, from ordinary and from hostile answers, and what it refuses."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, ROOT
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from tree import tree

from bake import PARTS, copy_template
from bake import bake as bake_checkout
from bake import main as bake_from_the_command_line

RENDERED = {"README.md", "pyproject.toml", "Makefile", "config.yaml", ".github/CODEOWNERS"}
RECORD = ".template.yaml"
BAKE = [sys.executable, "-B", str(ROOT / "bake.py")]
TAG = re.compile(r"<<\s*cookiecutter|<%|%>|<#|#>|\{\{\s*cookiecutter")


def test_a_project_is_made_of_exactly_these_files(project):
    expected = (ROOT / "tests" / "tree.txt").read_text(encoding="utf-8").splitlines()
    assert tree(project) == expected, "the tree has changed; if it was meant to, type: make tree"


def test_no_tag_is_left_over_in_any_file_or_name(project):
    left = [
        name for name in tree(project) if TAG.search(name) or TAG.search((project / name).read_text(encoding="utf-8"))
    ]
    assert left == []


def test_only_five_files_are_rendered_and_all_others_are_the_templates_own_bytes(project, template):
    source = template / PROJECT
    files = set(tree(project)) - {RECORD}
    changed = {name for name in files if (project / name).read_bytes() != (source / name).read_bytes()}
    assert changed == RENDERED


def test_rendered_files_hold_nothing_the_delimiters_would_swallow():
    for name in RENDERED:
        text = (ROOT / PROJECT / name).read_text(encoding="utf-8")
        text = re.sub(r"<< ?cookiecutter\.\w+( \| slugify)? ?>>", "", text)
        assert not re.search(r"<<|>>|#%|<%|<#", text), name


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted" and \\ slashed',
        "naïve 日本語 😀 👩\u200d🔬",
        "colon: hash # percent % dollar $HOME `id` $(id)",
        "{{ braces }} ${{ secrets.X }} {{resolve:ssm:x}}",
        "yes",
        "#% for 1 > 0",
    ],
)
def test_any_printable_text_survives_into_yaml_and_toml(bake, text):
    project = bake(project_name=text, project_slug="odd", description=text)
    config = yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8"))
    assert config["project"]["description"] == text
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"] == text
    assert (project / "README.md").read_text(encoding="utf-8").startswith(f"# {text}\n")


def test_config_yaml_shows_every_key_with_its_default(project):
    """In the order of the settings, so that a reader finds a key in both."""
    told = yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8"))
    code = "from scarcegan.pipeline.config import Config; print(Config().model_dump_json())"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=os.environ | {"PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    defaults = json.loads(done.stdout)
    for section in ("project", "labels"):  # the answers; a fork has defaults of its own
        defaults[section] = dict(zip(defaults[section], told[section].values(), strict=True))
    named = defaults["business_definitions"].items()
    defaults["business_definitions"] = {name: {k: v for k, v in d.items() if v is not None} for name, d in named}
    assert told == defaults
    assert {name: list(section) for name, section in told.items() if isinstance(section, dict)} == {
        name: list(section) for name, section in defaults.items() if isinstance(section, dict)
    }


def test_comments_of_config_yaml_stand_above_values_so_that_updates_merge(project):
    lines = (project / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if " #" in line and not line.lstrip().startswith("#")] == []


def test_a_team_survives_into_yaml(bake):
    for team in ("Équipe Jeu 2 @ R+D", "日本 チーム"):
        told = yaml.safe_load((bake(team=team) / "config.yaml").read_text(encoding="utf-8"))
        assert told["project"]["team"] == team


def test_the_team_owns_the_code(bake):
    owners = (bake(team="Équipe Jeu 2 @ R+D") / ".github/CODEOWNERS").read_text(encoding="utf-8")
    assert owners.splitlines()[-1] == "* @ORG/equipe-jeu-2-r-d"


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
        ({"project_slug": "."}, "project_slug '.' is refused by S3 and SageMaker: lower-case letters"),
        ({"project_slug": ".."}, "project_slug '..' is refused by S3 and SageMaker: lower-case letters"),
        ({"project_slug": "a" * 300}, "300 characters long, AWS takes 32"),
        ({"project_slug": ""}, "project_slug '' is refused"),
        ({"project_slug": "numpy"}, "installing the project would remove that library. For example: numpy-players"),
        ({"project_slug": "one/two"}, "lower-case letters"),
        ({"project_slug": "aws-players"}, "AWS keeps names"),
        ({"team": "R&D"}, "a tag in AWS, which takes letters, digits, spaces and _ . : / = + - @ but not &"),
        ({"model_package_group": "-x"}, "model_package_group '-x'"),
        ({"model_package_group": "g" * 64}, "at most 63"),
        ({"aws_region": "mars"}, "no AWS region"),
        ({"description": "two\nlines"}, "line break"),
        ({"description": "a << 1 >> b"}, "description holds <<, which the template reads as its own tag"),
        ({"description": "a << b"}, "description holds <<, which the template reads as its own tag"),
        ({"team": "<# ours"}, "team holds <#, which"),
        ({"rare_class": "<% if %>"}, "rare_class holds <%, which"),
        ({"rare_class": "<< cookiecutter.team >>"}, "rare_class holds <<, which"),
        ({"team": "ours\n"}, "team holds a line break"),
        ({"project_name": ""}, "project_name is empty"),
        ({"team": ""}, "team is empty"),
        ({"description": "d" * 1025}, "AWS takes 1024"),
        ({"description": "a <% raw %><< b >><% endraw %> tag"}, "its own tag"),
        ({"rare_class": "class"}, "reserved"),
        ({"rare_class": "unknown"}, "reserved"),
        ({"rare_class": "Risky Player"}, "lower-case letters, digits and underscores"),
        ({"rare_class": "normal", "negative_classes": "normal, heavy"}, "one of the negative_classes too"),
        ({"negative_classes": ""}, "negative_classes is empty"),
        ({"negative_classes": "normal, normal"}, "occurs twice"),
        ({"negative_classes": 'it\'s "so" \\'}, "is refused"),
    ],
)
def test_a_refused_answer_names_the_rule_and_leaves_nothing(template, tmp_path, capfd, answers, words):
    """Not even where the folder did not stand yet: a slug .. once took what was beside it along."""
    (tmp_path / "mine").touch()
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), no_input=True, output_dir=str(tmp_path / "new"), extra_context=answers)
    said = capfd.readouterr().err
    assert said.startswith("Nothing was written:\n  - ") and words in said
    assert "Traceback" not in said and len(said.splitlines()) < 20
    assert [path.name for path in tmp_path.rglob("*")] in (["mine"], ["mine", "new"], ["new", "mine"])


def test_a_refused_answer_comes_back_as_a_command_that_passes_when_pasted(template, tmp_path):
    answers = ["project_slug=Bad_Slug", "team=R&D's", "description=1 << 2 >> 'é'"]
    answers += ["rare_class=normal", "negative_classes=dormant, normal, heavy"]
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input", "-o", "out", *answers]
    environment = os.environ | {"PWD": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    pasted = refused.stderr.decode().partition("These answers pass:\n\n    ")[2].partition("\n\n")[0]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["bash", "-c", pasted], cwd=tmp_path, env=environment | {"PATH": path}, check=True)
    told = yaml.safe_load((tmp_path / "out/bad-slug/config.yaml").read_text(encoding="utf-8"))
    assert told["project"]["description"] == "1 < < 2 >> 'é'" and told["project"]["team"] == "RandD s"
    assert told["labels"] == {"rare_class": "normal", "negative_classes": ["dormant", "heavy"]}


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_that_knows_ascii_only_gets_its_project(template, tmp_path, locale):
    folder = tmp_path / "für alle"
    folder.mkdir()
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input"]
    environment = os.environ | {"PWD": str(tmp_path), "PYTHONCOERCECLOCALE": "0", **locale}
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True).stdout
    project = next(folder.glob("*/config.yaml")).parent
    assert f"    cd 'für alle/{project.name}'\n".encode() in said


def test_a_reader_who_closed_the_pipe_gets_the_project(template, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input", "-o", tmp_path]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert len(list(tmp_path.glob("*/config.yaml"))) == 1 and done.stderr == ""


def test_a_refused_answer_leaves_no_copy_of_the_template_in_the_temporary_folder(template, tmp_path, monkeypatch):
    """A pre_prompt hook would make cookiecutter copy the whole checkout there first, a demo of gigabytes included."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), no_input=True, output_dir=str(tmp_path), extra_context={"project_slug": "Bad"})
    assert [path for path in temporary.iterdir() if path.is_dir()] == []


def test_a_recorded_bake_can_be_replayed(template, tmp_path):
    command = [sys.executable, "-m", "cookiecutter", str(template)]
    one, other = tmp_path / "one", tmp_path / "other"
    subprocess.run([*command, "--no-input", "-o", one, "project_name=Fraud Rings"], check=True, capture_output=True)
    subprocess.run([*command, "--replay", "-o", other], check=True, capture_output=True)
    assert tree(one) == tree(other)
    assert (one / "fraud-rings/config.yaml").read_bytes() == (other / "fraud-rings/config.yaml").read_bytes()


def test_a_record_that_lacks_a_derived_answer_is_refused_rather_than_half_rendered(template, tmp_path, capfd):
    """cookiecutter puts the bare template text where a --replay-file has no value."""
    answers = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    recorded = {name: value for name, value in answers.items() if name.startswith("_")}
    recorded |= dict.fromkeys((name for name in answers if not name.startswith("_")), "risky")
    recorded |= {"aws_region": "eu-west-1", "negative_classes": "normal"}
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"cookiecutter": recorded}), encoding="utf-8")
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), replay=str(record), output_dir=str(tmp_path / "out"))
    assert "__description_escaped is missing from the recorded answers" in capfd.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_the_folder_that_a_project_is_baked_into_may_be_named_like_a_tag(bake, tmp_path):
    assert (bake(tmp_path / ("a << b")) / "src/scarcegan/__init__.py").is_file()


def test_caches_and_environments_in_the_checkout_are_not_baked(tmp_path):
    copy = copy_template(tmp_path, PARTS)
    found = {part for path in copy.rglob("*") for part in path.relative_to(copy).parts}
    assert not found & {"__pycache__", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", "runs"}
    assert not [name for name in found if name.endswith(".pyc")]


def test_a_bake_of_the_checkout_says_where_the_project_stands(project, tmp_path):
    environment = os.environ | {"PWD": str(tmp_path)}
    said = subprocess.run([*BAKE, "my projects"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f"    cd 'my projects/{project.name}'\n" in said.stdout
    assert (
        said.stdout.endswith(f"\nmy projects/{project.name}\n") and (tmp_path / "my projects" / project.name).is_dir()
    )


def test_a_bake_of_the_checkout_takes_answers_and_no_cache_of_a_tool(tmp_path, monkeypatch):
    """The cache is no text, so a bake that rendered it would fail."""
    checkout = copy_template(tmp_path / "checkout")
    cache = checkout / "<<cookiecutter.project_slug>>" / ".mypy_cache"
    cache.mkdir()
    (cache / "state").write_bytes(b"<< \x91 >>")
    monkeypatch.setattr("bake.ROOT", checkout)
    project = bake_checkout(tmp_path / "out", {"project_slug": "fraud", "rare_class": "fraudster"})
    assert project == tmp_path / "out/fraud" and 'rare_class: "fraudster"' in (project / "config.yaml").read_text()
    assert not (project / ".mypy_cache").exists()


@pytest.mark.parametrize("words", [[], ["--help"], ["one", "two"]])
def test_a_bake_of_the_checkout_into_no_folder_is_refused(tmp_path, words):
    said = subprocess.run([*BAKE, *words], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode and said.stderr.startswith("usage: python bake.py FOLDER") and not list(tmp_path.iterdir())


def test_a_bake_of_the_checkout_needs_no_git_no_home_and_no_locale_and_a_second_one_is_refused(project, tmp_path):
    """HOME is no folder here, so that it can be written to by nobody, not even by root."""
    folder = tmp_path / "für alle"
    folder.mkdir()
    poor = {"PATH": "", "HOME": "/dev/null", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    first, second = (
        subprocess.run([*BAKE, "ü"], cwd=folder, env=poor, capture_output=True, encoding="utf-8") for _ in range(2)
    )
    assert first.returncode == 0 and first.stdout.endswith(f"\nü/{project.name}\n") and first.stderr == ""
    in_an_archive = re.findall('(?m)^ARCHIVED = "([0-9a-f]{40})"', (ROOT / "hooks/post_gen_project.py").read_text())
    record = yaml.safe_load((folder / "ü" / project.name / RECORD).read_text(encoding="utf-8"))
    assert [record["commit"]] == (in_an_archive or [""])
    assert second.returncode == 1
    assert second.stderr == f"ü/{project.name} is there already. Remove it, or name another folder than ü.\n"
    assert [path.name for path in (folder / "ü").iterdir()] == [project.name]


def test_a_bake_of_the_checkout_into_a_file_is_refused(tmp_path, capfd):
    (tmp_path / "taken").touch()
    assert bake_from_the_command_line([str(tmp_path / "taken")]) == 1
    assert capfd.readouterr().err == f"{tmp_path}/taken: File exists. Name another folder.\n"


def test_default_answers_that_a_fork_broke_are_refused_by_the_rule_alone(tmp_path, monkeypatch, capfd):
    checkout = copy_template(tmp_path / "fork")
    questions = checkout / "cookiecutter.json"
    broken = re.sub('"team": ".*",', '"team": "R&D",', questions.read_text(encoding="utf-8"), count=1)
    questions.write_text(broken, encoding="utf-8")
    monkeypatch.setattr("bake.ROOT", checkout)
    assert bake_from_the_command_line([str(tmp_path / "out")]) == 1
    said = capfd.readouterr().err
    assert "team 'R&D' becomes a tag" in said and "Traceback" not in said and ".baking" not in said
    assert f"    cookiecutter {checkout} --no-input --output-dir {tmp_path}/out " in said


def test_a_project_records_where_it_came_from_and_its_answers(project, template):
    told = yaml.safe_load((project / RECORD).read_text(encoding="utf-8"))
    assert told["template"] == str(template) and told["commit"] == "" and told["uncommitted_changes"] is False
    assert told["version"] == (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    questions = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    assert set(told["answers"]) == {name for name in questions if not name.startswith("_")}
    assert told["answers"]["project_slug"] == project.name


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
    ("name", "slug"),
    [
        ("Fraud Rings", "fraud-rings"),
        ("日本", "ri-ben"),
        ("Players who play far too much at night", "players-who-play-far-too-much-at"),
    ],
)
def test_every_project_name_has_a_slug(bake, name, slug):
    assert bake(project_name=name).name == slug


def test_a_project_name_without_a_letter_gets_the_slug_at_the_end_of_the_rule(bake, template):
    rule = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))["project_slug"]
    assert bake(project_name="!!!").name == re.findall(r"'([^']+)'", rule)[-1]
