"""Every resource in AWS has the project's tags and the team's, or is of a kind that takes none.

Statically, over the templates and the schemas of CloudFormation's resource types that cfn-lint carries. Jobs and
pipelines are in tests/sagemaker/test_compile.py and test_executions.py.
"""

import re

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

import authorization
import every_template
import pages
import stacks
from pipelines_in_moto import NAMES
from scarcegan.aws import accounts, toolchain, watch
from scarcegan.aws.names import project_tags
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import bundle, upsert

TEMPLATES = sorted(path.name for path in stacks.INFRA.glob("*.yaml"))
BY_HAND = ("budget.yaml", "registry-forward.yaml")  # by a command of the AWS CLI that people copy
BY_PIPELINES = ("pipeline.yaml", "endpoint.yaml")  # deployed with a role of the toolchain, the others by a person
# Types that AWS has no tags for: parts of a resource that has them, or, of a schedule, of its group.
WITHOUT_TAGS = {
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Events::EventBusPolicy",
    "AWS::IAM::Policy",
    "AWS::KMS::Alias",
    "AWS::Lambda::Permission",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
}
ROOT = stacks.INFRA.parent
CONFIG = Config.model_validate({"project": {"name": NAMES.project, "region": NAMES.region, "team": "care"}})
TAGS = {"sagemaker:project-name": NAMES.project, "team": "care"}


def types_of(*templates):
    return sorted({about["Type"] for name in templates for about in stacks.body_of(name)["Resources"].values()})


def schema_of(kind):
    return PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-west-1", kind).schema


@pytest.mark.parametrize("kind", types_of(*TEMPLATES))
def test_a_type_of_resource_takes_the_tags_of_its_stack_or_aws_has_none_for_it(kind):
    """A schema without `tagging` that has the property Tags is of an older type, which takes them too."""
    schema = schema_of(kind)
    takes = schema.get("tagging", {}).get("taggable", "Tags" in schema["properties"])
    assert takes != (kind in WITHOUT_TAGS)


@pytest.mark.parametrize("kind", [kind for kind in types_of(*BY_PIPELINES) if kind not in WITHOUT_TAGS])
def test_the_roles_of_the_stacks_may_tag_what_they_create(kind):
    """Without the permission CloudFormation leaves the tags out of some resources, and fails at others."""
    roles = every_template.everything("everything on").roles
    actions = {
        action
        for actor in roles.properties
        if actor.startswith("stack-")
        for action in authorization.allowed_actions(roles.statements(actor))
    }
    assert set(schema_of(kind).get("tagging", {}).get("permissions", ())) <= actions


def test_every_stack_gets_the_tags_of_the_project_and_the_team():
    assert TAGS.items() <= project_tags(CONFIG).items()
    plan = toolchain.plan_toolchain(ROOT, CONFIG, {"Repository": "rare"}, bundle.function_code(ROOT))
    assert plan.tags == project_tags(CONFIG)
    assert upsert.template_configuration(project_tags(CONFIG))["Tags"] == project_tags(CONFIG)


@pytest.mark.parametrize("template", BY_HAND)
def test_a_command_that_people_copy_gives_the_stack_the_tags_of_the_project_and_the_team(template):
    texts = [(stacks.INFRA / template).read_text("utf-8"), *map(pages.text_of, pages.PAGES)]
    joined = [re.sub(r"\\\n#? *", " ", text) for text in texts]
    commands = [line for text in joined for line in text.splitlines() if f"--template-file infra/{template}" in line]
    assert len(commands) == 1 and re.search(r"--tags sagemaker:project-name=\S+ .*team=", commands[0])


def test_every_other_template_is_deployed_with_the_tags_of_the_plan():
    planned = {stack.template.name for stack in accounts.plan_target(ROOT, CONFIG, "staging", {}).stacks}
    assert accounts.plan_target(ROOT, CONFIG, "staging", {}).tags == project_tags(CONFIG)
    command = watch.forward_command(NAMES, project_tags(CONFIG), "")
    assert "--template-file infra/home-region.yaml" in command
    assert all(f"{key}={value}" in command for key, value in TAGS.items())
    assert {*stacks.TOOLCHAIN, *BY_PIPELINES, *planned, *BY_HAND, "home-region.yaml"} == set(TEMPLATES)


def test_a_template_that_tags_a_resource_itself_gives_it_the_name_of_the_project():
    """The stack's tags come on top, so that the team's is there too."""
    for template in TEMPLATES:
        for name, about in stacks.body_of(template)["Resources"].items():
            given = about.get("Properties", {})
            tags = given.get("Tags", given.get("ResourceTags", []))
            keys = {tag["Key"] for tag in tags} if isinstance(tags, list) else set(tags)
            assert not keys or "sagemaker:project-name" in keys, (template, name)
