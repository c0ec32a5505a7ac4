"""What each role needs, derived: from recorded calls, from the templates' resources, from AWS's documented policies.

Nothing here lists the rights of a role. What a role is used for is read off the templates: the verbs that its builds
run, the functions that it runs, the stacks that CloudFormation makes with it, the pipelines, rules and schedules that
it acts for. Only what AWS's services do by themselves with a role is a table, each line with its source.

No package carries CloudFormation's own lists (`handlers` of its resource schemas) for all types here: cfn-lint strips
them, and what others carry is of 2021 or lacks SageMaker. So the actions of a type are found by their names in the
authorization reference (AWS::SageMaker::Endpoint: CreateEndpoint, UpdateEndpoint, …), and `TYPES` adds the rest.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import authorization
import recording
from enforcement import arn, like
from every_template import BUCKET, GIVEN, OPTIONAL, PROJECT, VARIANTS, Everything
from scarcegan.aws.names import Names
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Step
from scarcegan.sagemaker import parameters
from stacks import ACCOUNT, INFRA, REGION, log_group

GUIDE = "https://docs.aws.amazon.com"
ARTIFACTS = GIVEN["ArtifactsBucketName"]
# An action, or an action and the S3 object, SSM parameter or ARN it is about; who says that it is needed.
Needs = dict[str, str]

# -- what AWS's services do with a role by themselves -----------------------------------------------------------------

STEP_TYPES = f"{GUIDE}/sagemaker/latest/dg/build-and-manage-steps-types.html"
ROLES_PAGE = f"{GUIDE}/sagemaker/latest/dg/sagemaker-roles.html"
IN_A_VPC = [
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
]
PULLING = [f"ecr:{each}" for each in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")]
LOGGING = [f"logs:{each}" for each in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")]
CONTAINER = ["ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"]  # beside its image and its log
JOB_VERBS = (
    "Create",
    "Describe",
    "Stop",
)  # SageMaker names the jobs of a pipeline: pipelines-<execution>-<step>-<random>
OF_EVERY_JOB = ["sagemaker:AddTags", "kms:CreateGrant"]
OF_THE_BUCKET = [f"s3:{each} arn:aws:s3:::{ARTIFACTS}" for each in ("GetBucketVersioning", "GetBucketLocation")]
OF_THE_KEY = ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"]
SERVICES = {  # what it does -> (actions, source)
    # A processing or training job. Encrypt: its outputs' key is given as an alias; CreateGrant: its volume has a key.
    "job": (
        [*CONTAINER, "s3:ListBucket .", "s3:GetBucketLocation .", "kms:CreateGrant", "kms:DescribeKey"],
        ROLES_PAGE,
    ),
    "job's output": (["kms:Encrypt"], f"{GUIDE}/sagemaker/latest/APIReference/API_OutputDataConfig.html"),
    "job in a VPC": ([*IN_A_VPC, "ec2:DeleteNetworkInterfacePermission"], ROLES_PAGE),
    "endpoint": (
        [*CONTAINER, "s3:GetObject packages/x", "s3:ListBucket .", "s3:GetBucketLocation .", "kms:Decrypt"],
        ROLES_PAGE,
    ),
    "endpoint that captures": (
        ["kms:GenerateDataKey"],
        f"{GUIDE}/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html",
    ),
    "function of a CodePipeline": (
        ["codepipeline:PutJobSuccessResult", "codepipeline:PutJobFailureResult"],
        f"{GUIDE}/codepipeline/latest/userguide/actions-invoke-lambda-function.html",
    ),
    "function in a VPC": (
        [
            *(f"ec2:{each}NetworkInterface{s}" for each, s in (("Create", ""), ("Delete", ""), ("Describe", "s"))),
            *("ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"),
        ],
        f"{GUIDE}/lambda/latest/dg/configuration-vpc.html",
    ),
    "function with a key": (["kms:Decrypt"], f"{GUIDE}/lambda/latest/dg/configuration-envvars-encryption.html"),
    "build": (
        ["kms:Decrypt"],
        f"{GUIDE}/codebuild/latest/userguide/setting-up-service-role.html",
    ),
    "build that hands over": (
        ["kms:GenerateDataKey", "kms:DescribeKey"],
        f"{GUIDE}/codebuild/latest/userguide/setting-up-service-role.html",
    ),
    "build in a VPC": (
        IN_A_VPC,
        f"{GUIDE}/codebuild/latest/userguide/auth-and-access-control-iam-identity-based-access-control.html",
    ),
    "pipeline of SageMaker": (
        ["s3:ListBucket .", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
        f"{GUIDE}/sagemaker/latest/dg/build-and-manage-access.html",
    ),
    "Gate": (["s3:GetObject runs/x/evaluate/x"], f"{GUIDE}/sagemaker/latest/dg/build-and-manage-propertyfile.html"),
    "Processing": (
        [f"sagemaker:{verb}ProcessingJob {arn('sagemaker', 'processing-job/pipelines-*')}" for verb in JOB_VERBS]
        + OF_EVERY_JOB,
        f"{GUIDE}/sagemaker/latest/dg/build-and-manage-access.html",
    ),
    "Training": (
        [f"sagemaker:{verb}TrainingJob {arn('sagemaker', 'training-job/pipelines-*')}" for verb in JOB_VERBS]
        + OF_EVERY_JOB,
        f"{GUIDE}/sagemaker/latest/dg/build-and-manage-access.html",
    ),
    "pipeline of builds": (
        [*OF_THE_BUCKET, *OF_THE_KEY],
        f"{GUIDE}/codepipeline/latest/userguide/how-to-custom-role.html",
    ),
    "schedule": (["kms:Decrypt"], f"{GUIDE}/scheduler/latest/UserGuide/encryption-rest.html"),
}
# Provider of a CodePipeline action -> what the pipeline's role needs for it.
# https://docs.aws.amazon.com/codepipeline/latest/userguide/how-to-custom-role.html and the reference of each action
PROVIDERS = {
    "CodeStarSourceConnection": ["codeconnections:UseConnection", "codestar-connections:UseConnection"],
    "CodeCommit": [
        "codecommit:GetBranch",
        "codecommit:GetCommit",
        "codecommit:GetRepository",
        "codecommit:UploadArchive",
        "codecommit:GetUploadArchiveStatus",
        "codecommit:CancelUploadArchive",
    ],
    "CodeBuild": ["codebuild:StartBuild", "codebuild:BatchGetBuilds"],
    "CloudFormation": [
        "cloudformation:CreateStack",
        "cloudformation:UpdateStack",
        "cloudformation:DescribeStacks",
        "cloudformation:DescribeStackEvents",
        "cloudformation:DescribeStackResources",
        "cloudformation:GetTemplate",
        "cloudformation:TagResource",
    ],
    "Manual": ["sns:Publish"],
    # https://github.com/aws/aws-cdk/blob/main/packages/aws-cdk-lib/aws-codepipeline-actions/lib/lambda/invoke-action.ts
    "Lambda": ["lambda:InvokeFunction", "lambda:ListFunctions"],
}
# Provider of the source -> what a build needs that clones it, and what one that pushes to it.
CLONE = {
    # https://docs.aws.amazon.com/codepipeline/latest/userguide/troubleshooting.html#codebuild-role-connections
    "CodeStarSourceConnection": ["codeconnections:UseConnection", "codestar-connections:UseConnection"],
    # https://docs.aws.amazon.com/codepipeline/latest/userguide/troubleshooting.html#codebuild-role-codecommitclone
    "CodeCommit": ["codecommit:GitPull"],
}
PUSH = {"CodeStarSourceConnection": CLONE["CodeStarSourceConnection"], "CodeCommit": ["codecommit:GitPush"]}
# Command of the AWS CLI in a script that a build runs -> what it needs: https://docs.aws.amazon.com/cli/latest/reference/
AWS_CLI = {
    "s3 cp": ["s3:GetObject"],
    # A topic with a key asks its publisher for it.
    # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    "sns publish": ["sns:Publish", "kms:GenerateDataKey", "kms:Decrypt"],
    "codecommit create-pull-request": ["codecommit:CreatePullRequest"],
}

# -- what CloudFormation does with a role, by type of resource --------------------------------------------------------

PREFIXES = {"ApplicationAutoScaling": "application-autoscaling"}
VERBS = ("Create", "Update", "Delete", "Describe", "Get")
TAGGING = """
    AddTags DeleteTags ListTags TagResource UntagResource ListTagsForResource TagQueue UntagQueue ListQueueTags
    AddTagsToResource RemoveTagsFromResource
"""
TYPES = {  # what a type needs beyond its names: of the service's API reference, where each operation stands
    "AWS::ApplicationAutoScaling::ScalableTarget": [
        "application-autoscaling:RegisterScalableTarget",
        "application-autoscaling:DeregisterScalableTarget",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScheduledActions",
        # https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-service-linked-roles.html
        "iam:CreateServiceLinkedRole",
        # https://docs.aws.amazon.com/autoscaling/application/userguide/security_iam_permission_validation.html
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
    ],
    "AWS::ApplicationAutoScaling::ScalingPolicy": [
        "application-autoscaling:PutScalingPolicy",
        "application-autoscaling:DescribeScalingPolicies",
        # https://docs.aws.amazon.com/autoscaling/application/userguide/security_iam_id-based-policy-examples.html
        "cloudwatch:PutMetricAlarm",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:DeleteAlarms",
    ],
    "AWS::CloudWatch::Alarm": ["cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"],
    "AWS::Events::Rule": [
        "events:PutRule",
        "events:PutTargets",
        "events:RemoveTargets",
        "events:ListTargetsByRule",
    ],
    "AWS::Lambda::Function": [
        "lambda:UpdateFunctionCode",
        "lambda:UpdateFunctionConfiguration",
        "lambda:GetFunctionCodeSigningConfig",
        "lambda:GetFunctionRecursionConfig",
        "lambda:GetRuntimeManagementConfig",
        # AWS's own schema of the type lists these for every function, as localstack-core carries it.
        "lambda:PutFunctionConcurrency",
        "lambda:DeleteFunctionConcurrency",
    ],
    "AWS::Lambda::Permission": ["lambda:AddPermission", "lambda:RemovePermission", "lambda:GetPolicy"],
    "AWS::Logs::LogGroup": [
        "logs:DescribeLogGroups",
        "logs:PutRetentionPolicy",
        "logs:DeleteRetentionPolicy",
    ],
    "AWS::SQS::Queue": ["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SetQueueAttributes"],
    "AWS::SQS::QueuePolicy": ["sqs:GetQueueAttributes", "sqs:SetQueueAttributes"],
    "AWS::SSM::Parameter": ["ssm:PutParameter", "ssm:GetParameters"],
}
# Property of a resource -> what whoever sets it needs.
PROPERTIES = {
    ("AWS::SageMaker::Model", "ExecutionRoleArn"): ["iam:PassRole {value}"],
    ("AWS::SageMaker::Model", "PrimaryContainer"): ["sagemaker:DescribeModelPackage"],
    ("AWS::SageMaker::EndpointConfig", "KmsKeyId"): ["kms:CreateGrant", "kms:DescribeKey"],
    ("AWS::Lambda::Function", "Role"): ["iam:PassRole {value}"],
    ("AWS::Lambda::Function", "Code"): ["s3:GetObject {S3Key}", "s3:GetObjectVersion {S3Key}", "kms:Decrypt"],
    # Target tracking makes, and with the policy deletes, alarms with names of its own.
    # https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
    ("AWS::ApplicationAutoScaling::ScalingPolicy", "TargetTrackingScalingPolicyConfiguration"): [
        f"cloudwatch:{each} arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:TargetTracking-endpoint/"
        f"{PROJECT}-{{stage}}/variant/*"
        for each in ("PutMetricAlarm", "DeleteAlarms")
    ],
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
    ("AWS::Lambda::Function", "KmsKeyArn"): ["kms:CreateGrant", "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"],
    ("AWS::Lambda::Function", "VpcConfig"): ["ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"],
    ("AWS::Logs::LogGroup", "KmsKeyId"): ["logs:AssociateKmsKey"],
    ("AWS::Scheduler::Schedule", "Target"): ["iam:PassRole"],
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/encryption-rest.html
    ("AWS::Scheduler::Schedule", "KmsKeyArn"): ["kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt"],
}
TAGGED_NEVER = {
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Lambda::Permission",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
}


def of_type(kind: str) -> set[str]:
    """What CloudFormation calls to make, change, read and delete a resource of a type, tags included."""
    _, service, name = kind.split("::")
    prefix = PREFIXES.get(service, service.lower())
    named = {f"{prefix}:{verb}{name}" for verb in VERBS} | set(TYPES.get(kind, ()))
    if kind not in TAGGED_NEVER:
        named |= {f"{prefix}:{tagging}" for tagging in TAGGING.split()}
    by_name = {each for each in named if authorization.action(each)}
    assert by_name >= set(TYPES.get(kind, ())), f"{kind}: {sorted(set(TYPES[kind]) - by_name)} are no actions"
    assert by_name, f"{kind}: no action is called like it. Add it to TYPES, with its source."
    return by_name


# Type -> what stands before the name in its ARN, property with the name; without one, CloudFormation draws the name.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-resource-name.html
NAMED = {
    "AWS::SageMaker::Endpoint": ("endpoint/", "EndpointName"),
    "AWS::SageMaker::EndpointConfig": ("endpoint-config/", ""),
    "AWS::SageMaker::Model": ("model/", ""),
    "AWS::CloudWatch::Alarm": ("alarm:", ""),
    "AWS::Lambda::Function": ("function:", "FunctionName"),
    "AWS::Lambda::Permission": ("function:", "FunctionName"),
    "AWS::Logs::LogGroup": ("log-group:", "LogGroupName"),
    "AWS::SQS::Queue": ("", "QueueName"),
    "AWS::Events::Rule": ("rule/", "Name"),
    "AWS::SSM::Parameter": ("parameter", "Name"),  # all below the folder of its stage: infra/endpoint.yaml says which
}
NO_STACK_IN_NAME = ("AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model")


def arn_in(stack: str, kind: str, properties: Mapping[str, Any]) -> str:
    """The ARN of a resource in a stack, with a star where CloudFormation draws it; "" for a type without a name."""
    if kind not in NAMED:
        return ""
    (before, key), service = NAMED[kind], kind.split("::")[1].lower()
    drawn = "*" if kind in NO_STACK_IN_NAME else f"{stack}-*"
    name = properties[key] if key else drawn
    if service == "ssm":
        name = f"{name.rsplit('/', 1)[0]}/*"
    return arn(service, f"{before}{name}{'*' if service == 'logs' else ''}")  # of a log also :*, which ends its ARN


def of_template(template: str, everything: Everything, named: str) -> Needs:
    """What CloudFormation's role needs for the stack of a template. named: the stack; it may end in a stage."""
    found: Needs = {}
    stage = named.rsplit("-", 1)[1]
    stack = everything.of_stage(template, stage)
    for name, properties in stack.resources.items():
        kind = stack.body["Resources"][name]["Type"]
        where = arn_in(named, kind, properties)
        for action in of_type(kind):
            its_own = action.partition(":")[0] == where.split(":")[2] if where else False
            found[f"{action} {where}" if its_own else action] = f"{template}, {kind}"
        for (other, key), actions in PROPERTIES.items():
            if other == kind and key in properties:
                value = properties[key]
                told = dict(value) if isinstance(value, dict) else {"value": value}
                if "S3Key" in told:  # of a function's code; what stands for its digest changes
                    told["S3Key"] = told["S3Key"].replace("0a1b.zip", "x")
                found |= {each.format(stage=stage, **told): f"{template}, {kind}, {key}" for each in actions}
    return found


# -- which role does what ---------------------------------------------------------------------------------------------


def actor(role: str) -> str:
    """The actor of a role's ARN."""
    return role.rsplit(f"{PROJECT}-{REGION}-", 1)[1]


def needs(everything: Everything) -> dict[str, Needs]:
    """Actor -> everything it needs, and why."""
    found: dict[str, Needs] = {name: {} for name in everything.roles.properties}
    for whose, actions, why in [
        *of_builds(everything),
        *of_functions(everything),
        *of_pipelines_of_builds(everything),
        *of_events(everything),
        *of_pipelines_of_sagemaker(everything),
        *of_endpoints(everything),
    ]:
        found[whose] |= actions if isinstance(actions, dict) else dict.fromkeys(actions, why)
    return found


Found = Iterator[tuple[str, Iterable[str], str]]


def service(whose: str, *what: str) -> Found:
    """The lines of SERVICES."""
    for each in what:
        yield whose, SERVICES[each][0], f"{each}: {SERVICES[each][1]}"


def recorded(verb: str) -> set[str]:
    """Everything that a verb was seen to need; one with an option that was never seen, what it needs without."""
    seen = {need for verbs in recording.recorded().values() for need in verbs.get(verb, ())}
    return seen or (recorded(verb.partition(" --")[0]) if " --" in verb else set())


def verbs_of(buildspec: Path) -> Iterator[str]:
    """The verbs that a buildspec runs, as recordings name them: `release smoke` without its stage, `start` alone."""
    for command in commands_of(buildspec):
        for words in re.findall(r"-m scarcegan ([a-z][a-z -]*[a-z])", command):
            kept = {"upsert": None, "release": 2}.get(words.split()[0], 1)
            yield " ".join(words.split()[:kept])


def commands_of(buildspec: Path) -> Iterator[str]:
    for phase in yaml.safe_load(buildspec.read_text(encoding="utf-8"))["phases"].values():
        yield from phase["commands"]


def builds(everything: Everything) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], Path]]:
    """(CodeBuild project, action that runs it, buildspec) of every action of a CodePipeline."""
    projects = {each["Name"]: each for each in everything.of_type("AWS::CodeBuild::Project").values()}
    for action in actions(everything):
        if action["ActionTypeId"]["Provider"] == "CodeBuild":
            project = projects[action["Configuration"]["ProjectName"]]
            spec = action["Configuration"].get("BuildspecOverride", project["Source"]["BuildSpec"])
            yield project, action, INFRA / Path(spec).name


def actions(everything: Everything) -> Iterator[Mapping[str, Any]]:
    for pipeline in everything.of_type("AWS::CodePipeline::Pipeline").values():
        for stage in pipeline["Stages"]:
            yield from stage["Actions"]


def log_of(group: str) -> list[str]:
    """What who writes to a log group needs."""
    return [f"logs:{verb} {arn('logs', f'log-group:{group}:*')}" for verb in ("CreateLogStream", "PutLogEvents")]


# Action -> what a verb does it to. stage: of the verb's build; pipeline: that the verb is about.
OF_VERBS = {
    "sagemaker:DescribeEndpoint": "endpoint/{project}-{stage}",
    "sagemaker:InvokeEndpoint": "endpoint/{project}-{stage}",
    "cloudformation:DescribeStacks": "stack/{project}-{stage}/*",
    **{f"sagemaker:{each}Pipeline": "pipeline/{project}-{pipeline}" for each in ("Create", "Update", "Describe")},
    "sagemaker:StartPipelineExecution": "pipeline/{project}-{pipeline}",
}


def of_verb(verb: str, stage: str) -> Iterator[str]:
    """Everything that a verb was seen to need, with what it is about where its name and its stage say it."""
    pipeline = "scoring" if verb.endswith("scoring") else "training"
    for need in recorded(verb):
        about = OF_VERBS.get(need, "").format(project=PROJECT, stage=stage, pipeline=pipeline)
        role = Names(PROJECT, ACCOUNT, REGION).pipeline_role_arn(pipeline)
        where = role if need == "iam:PassRole" else arn(need.partition(":")[0], about) if about else ""
        yield f"{need} {where}".strip()


def stage_of(action: Mapping[str, Any]) -> str:
    """The stage that a build is told. One that is told none looks at production: what it would change, or has."""
    told = json.loads(action["Configuration"].get("EnvironmentVariables", "[]"))
    return next((each["value"] for each in told if each["name"] == "STAGE"), "production")


def of_builds(everything: Everything) -> Found:
    for project, action, spec in builds(everything):
        whose, handed = actor(project["ServiceRole"]), "OutputArtifacts" in action
        yield from service(whose, "build", *(["build that hands over"] if handed else []))
        yield whose, log_of(log_group("AWS::CodeBuild::Project", project)), "its log"
        if "VpcConfig" in project:
            yield from service(whose, "build in a VPC")
        yield whose, artifacts(action), f"what {action['Name']} reads and hands over"
        for verb in verbs_of(spec):
            yield whose, of_verb(verb, stage_of(action)), f"recorded: {verb}"
    for pipeline in everything.of_type("AWS::CodePipeline::Pipeline").values():
        yield from of_clones(pipeline, everything)


def scripts_of(buildspec: Path) -> set[Path]:
    """The Python files of infra/ that a buildspec runs."""
    return {INFRA / name for command in commands_of(buildspec) for name in re.findall(r" infra/(\w+\.py)", command)}


def cli_of(script: Path, provider: str) -> Iterator[str]:
    """What the commands of the AWS CLI in a script need. A command that AWS_CLI does not know is an error.

    provider: of the repository; CodeCommit is asked for nothing where it is another's.
    """
    for words in re.findall(r'"aws", "([a-z0-9-]+)", "([a-z0-9-]+)"', script.read_text(encoding="utf-8")):
        if provider == "CodeCommit" or words[0] != "codecommit":
            yield from AWS_CLI[" ".join(words)]


def of_clones(pipeline: Mapping[str, Any], everything: Everything) -> Found:
    """What builds need whose source is a clone and not a zip file."""
    run = [action for stage in pipeline["Stages"] for action in stage["Actions"]]
    cloned = {
        artifact["Name"]: action["ActionTypeId"]["Provider"]
        for action in run
        if action["Configuration"].get("OutputArtifactFormat") == "CODEBUILD_CLONE_REF"
        for artifact in action["OutputArtifacts"]
    }
    for project, action, spec in builds(everything):
        for provider in (cloned[it["Name"]] for it in action.get("InputArtifacts", ()) if it["Name"] in cloned):
            whose = actor(project["ServiceRole"])
            yield whose, CLONE[provider], f"a clone by {provider}"
            for script in scripts_of(spec):
                yield whose, cli_of(script, provider), f"AWS CLI: {script.name}"
                if '"push"' in script.read_text(encoding="utf-8"):
                    yield whose, PUSH[provider], f"a push by {provider}"


def artifacts(action: Mapping[str, Any]) -> Iterator[str]:
    """What an action reads and writes in the bucket of its CodePipeline: <pipeline>/<artifact>/<random>.

    CodePipeline cuts the pipeline's name to 20 characters.

    https://docs.aws.amazon.com/codepipeline/latest/userguide/welcome-introducing-artifacts.html
    """
    for key, verbs in (("InputArtifacts", ("GetObject", "GetObjectVersion")), ("OutputArtifacts", ("PutObject",))):
        for artifact in action.get(key, ()):
            yield from (f"s3:{verb} arn:aws:s3:::{ARTIFACTS}/*/{artifact['Name']}/*" for verb in verbs)


# https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
def of_functions(everything: Everything) -> Found:
    for function in everything.of_both_stages("AWS::Lambda::Function"):
        whose, name = actor(function["Role"]), function["FunctionName"]
        module = function["Handler"].split(".")[-2].removesuffix("_function")
        yield whose, log_of(log_group("AWS::Lambda::Function", function)), "its log"
        yield whose, recorded(f"function {module.replace('_', '-')}"), "recorded"
        if module == "rare_share":
            yield (
                whose,
                [f"s3:GetObject capture/{whose.rsplit('-', 1)[1]}/x"],
                "DestinationS3Uri of infra/endpoint.yaml",
            )
        for pipeline in everything.of_type("AWS::CodePipeline::Pipeline").values():
            yield from of_called_function(whose, name, pipeline)
        if "DeadLetterConfig" in function:
            yield whose, [f"sqs:SendMessage {function['DeadLetterConfig']['TargetArn']}"], "its dead letter queue"
        optional = {"KmsKeyArn": "with a key", "VpcConfig": "in a VPC"}
        yield from service(whose, *(f"function {what}" for key, what in optional.items() if key in function))


def of_called_function(whose: str, name: str, pipeline: Mapping[str, Any]) -> Found:
    """What a function needs because a CodePipeline has an action that calls it."""
    for action in (action for stage in pipeline["Stages"] for action in stage["Actions"]):
        if action["Configuration"].get("FunctionName") == name:
            # what it reads, it is lent the credentials for
            yield whose, artifacts({"OutputArtifacts": action.get("OutputArtifacts", ())}), "what it hands over"
            yield from service(whose, "function of a CodePipeline")
            asked = ("GetPipelineExecution", "ListActionExecutions")
            about = arn("codepipeline", pipeline["Name"])
            yield whose, [f"codepipeline:{each} {about}" for each in asked], "infra/lambdas/check_approval.py"


def of_pipelines_of_builds(everything: Everything) -> Found:
    for pipeline in everything.of_type("AWS::CodePipeline::Pipeline").values():
        whose = actor(pipeline["RoleArn"])
        yield from service(whose, "pipeline of builds")
        for action in (action for stage in pipeline["Stages"] for action in stage["Actions"]):
            provider, asked = action["ActionTypeId"]["Provider"], action["Configuration"]
            where = at_provider(provider, asked)
            needed = [need if need in WITHOUT_RESOURCE else f"{need} {where}" for need in PROVIDERS[provider]]
            yield whose, needed, f"CodePipeline's action {provider}"
            if provider != "Lambda":  # which hands over by itself
                yield whose, artifacts(action), f"what {action['Name']} is given and hands over"
            if provider == "CloudFormation":
                yield whose, [f"iam:PassRole {asked['RoleArn']}"], f"CodePipeline's action {provider}"
                if asked["ActionMode"] != "CREATE_UPDATE":
                    yield whose, [f"cloudformation:DeleteStack {where}"], f"CodePipeline's mode {asked['ActionMode']}"
                if "TemplatePath" not in asked:
                    continue
                template = Path(asked["TemplatePath"].split("::")[1]).name
                yield (
                    actor(asked["RoleArn"]),
                    of_template(template, everything, asked["StackName"]),
                    f"CloudFormation, {template}",
                )


WITHOUT_RESOURCE = ("lambda:ListFunctions",)  # of PROVIDERS


def at_provider(provider: str, asked: Mapping[str, Any]) -> str:
    """The ARN of what an action of a CodePipeline is about. asked: its configuration."""
    match provider:
        case "CodeStarSourceConnection":
            return str(asked["ConnectionArn"])
        case "CodeCommit":
            return arn("codecommit", asked["RepositoryName"])
        case "CodeBuild":
            return arn("codebuild", f"project/{asked['ProjectName']}")
        case "CloudFormation":
            return arn("cloudformation", f"stack/{asked['StackName']}/*")
        case "Manual":
            return str(asked["NotificationArn"])
        case "Lambda":
            return arn("lambda", f"function:{asked['FunctionName']}")
    raise NotImplementedError(provider)


# Service of a rule's target -> what EventBridge does there with the role that it is given.
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html
DOES_AT_TARGET = {"codepipeline": "codepipeline:StartPipelineExecution", "events": "events:PutEvents"}


def of_events(everything: Everything) -> Found:
    for rule in everything.of_type("AWS::Events::Rule").values():
        for target in (target for target in rule["Targets"] if "RoleArn" in target):
            does = f"{DOES_AT_TARGET[target['Arn'].split(':')[2]]} {target['Arn']}"
            yield actor(target["RoleArn"]), [does], f"rule {rule['Name']}"
    for schedule in everything.of_type("AWS::Scheduler::Schedule").values():
        *_, name, operation = schedule["Target"]["Arn"].split(":")
        whose = actor(schedule["Target"]["RoleArn"])
        about = arn("sagemaker", f"pipeline/{json.loads(schedule['Target']['Input'])['PipelineName']}")
        yield whose, [f"{name}:{operation[0].upper()}{operation[1:]} {about}"], f"schedule {schedule['Name']}"
        if "KmsKeyArn" in schedule:
            yield from service(whose, "schedule")


def of_pipelines_of_sagemaker(everything: Everything) -> Found:
    """The role of each pipeline and of its jobs; one that scores may have roles of its own."""
    config, roles, names = Config(), everything.roles.properties, Names(PROJECT, ACCOUNT, REGION)
    for source in (definition.training(config), definition.scoring(config)):
        start = "scoring-" if source.name == "scoring" and "scoring-job" in roles else ""
        pipeline, job = f"{start}pipeline", f"{start}job"
        kinds = {step.kind.capitalize() if isinstance(step, Step) else "Gate" for step in source.steps} - {"Lambda"}
        yield from service(pipeline, "pipeline of SageMaker", *sorted(kinds))
        yield pipeline, [f"iam:PassRole {names.job_role_arn(source.name)}"], "RoleArn of its jobs"
        yield pipeline, [f"lambda:InvokeFunction {names.register_function_arn}"], STEP_TYPES  # each begins with `check`
        yield from service(job, "job", "job's output")
        for kind in sorted(kinds & {"Processing", "Training"}):
            logs = arn("logs", f"log-group:/aws/sagemaker/{kind}Jobs*")
            yield job, [f"{verb} {logs}" for verb in LOGGING], ROLES_PAGE
        yield job, [f"{verb} {image_arn('training')}" for verb in PULLING], ROLES_PAGE
        yield job, sorted(files_of_jobs(source)), f"what the {source.name} pipeline reads and writes"
        if any("VpcConfig" in project for project in everything.of_type("AWS::CodeBuild::Project").values()):
            yield from service(job, "job in a VPC")


def files_of_jobs(source: definition.Pipeline) -> Iterator[str]:
    """Objects that SageMaker reads and writes for the jobs of a pipeline: channels, outputs, checkpoints."""
    names = Names(PROJECT, ACCOUNT, REGION)
    read = {"code/x", "wheels/x"}
    for name in source.sources:
        uri = parameters.source_uri(name, source, Config(), names)
        read.add(f"{uri.removeprefix(f's3://{BUCKET}/').split('/')[0]}/x")
    folder = "scoring" if source.name == "scoring" else "runs"  # run_uri of sagemaker/compiler.py
    for step in source.steps:
        if isinstance(step, Step) and step.kind != "lambda":
            read |= {f"{folder}/x/{origin.split('.')[0]}/x" for origin in step.inputs.values() if "." in origin}
            for output in step.outputs:  # scores have a place of their own: processing_output of sagemaker/compiler.py
                scores = (step.name, output) == ("score", "scored")
                yield "s3:PutObject scored/x" if scores else f"s3:PutObject {folder}/x/{step.name}/x"
            if step.checkpoints:
                read.add("checkpoints/x")
                yield "s3:PutObject checkpoints/x"
    yield from (f"s3:GetObject {key}" for key in read)
    yield from ("kms:Decrypt", "kms:GenerateDataKey")


def image_arn(kind: str) -> str:
    """The ARN of AWS's repository of images. kind: training or inference."""
    host, repository = Names(PROJECT, ACCOUNT, REGION).image(kind).partition(":")[0].split("/")
    return arn("ecr", f"repository/{repository}", host.split(".")[0])


def of_endpoints(everything: Everything) -> Found:
    for model in everything.of_both_stages("AWS::SageMaker::Model"):
        whose = actor(model["ExecutionRoleArn"])
        yield from service(whose, "endpoint", "endpoint that captures")
        [stage] = [tag["Value"] for tag in model["Tags"] if tag["Key"] == "sagemaker:deployment-stage"]
        yield whose, [f"s3:PutObject capture/{stage}/x"], "DestinationS3Uri of infra/endpoint.yaml"
        yield whose, [f"{verb} {image_arn('inference')}" for verb in PULLING], ROLES_PAGE
        logs = arn("logs", f"log-group:/aws/sagemaker/Endpoints/{PROJECT}-{stage}*")
        yield whose, [f"{verb} {logs}" for verb in LOGGING], ROLES_PAGE
        alarms = f"cloudwatch:DescribeAlarms {arn_in(f'{PROJECT}-{stage}', 'AWS::CloudWatch::Alarm', {})}"
        yield whose, [alarms], f"{GUIDE}/sagemaker/latest/dg/deployment-guardrails-configuration.html"
        if "VpcConfig" in model:
            yield from service(whose, "job in a VPC")


# -- roles in a stage's own account, which the toolchain's account may enter (infra/target.yaml) ---------------------

# What a verb asks of the toolchain's account all the same: registry, packages and published names are there.
ASKED_AT_HOME = ("s3:", "kms:", "ssm:", "sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages")


def needs_elsewhere(everything: Everything, stage: str) -> dict[str, set[str]]:
    """Actor of a stage's own account -> what it needs; of `stack` and `serve` beyond what they need in the toolchain's.

    everything: of the toolchain.
    """
    enter, stack = {*OF_THE_BUCKET, "kms:Decrypt"}, {"kms:Decrypt"}
    for action in actions(everything):
        asked = action["Configuration"]
        if asked.get("StackName") == f"{PROJECT}-{stage}":
            where = at_provider("CloudFormation", asked)
            read = {need for need in artifacts(action) if need.startswith("s3:Get")}
            stack |= read
            enter |= read | {f"{need} {where}" for need in PROVIDERS["CloudFormation"]}
            enter |= {f"iam:PassRole {asked['RoleArn']}"}
            enter |= {f"cloudformation:DeleteStack {where}"} if asked["ActionMode"] == "DELETE_ONLY" else set()
    sends = {*of_verb("release smoke", stage), *(of_verb("release load", stage) if stage == "staging" else ())}
    reads = {*of_verb("release prepare", stage), *of_verb("release smoke", stage)} - {
        need for need in sends if need.startswith("sagemaker:InvokeEndpoint")
    }
    for name in (f"{PROJECT}-target-{stage}", f"{PROJECT}-{stage}"):
        reads.add(f"cloudformation:DescribeStacks {arn('cloudformation', f'stack/{name}/*')}")
    look, ask = ({need for need in needed if not need.startswith(ASKED_AT_HOME)} for needed in (reads, sends))
    look.add(f"ssm:GetParameter {arn('ssm', f'parameter/{PROJECT}/{stage}/*')}")  # quotas.py, audit.py, release.py
    found = {"enter": enter, "look": look, "ask": ask, "stack": stack, "serve": {"kms:Decrypt"}}
    return {f"{name}-{stage}": needed for name, needed in found.items()}


# -- what is missing, what is left over -------------------------------------------------------------------------------


# Action -> ARNs of what it acts on, where neither a recorded call nor a template names them. A star stands for a name
# that AWS chooses, in which no project's name occurs; tags and conditions limit such rights (test_roles.py).
PLACES = {
    "kms:*": [GIVEN["KeyArn"]],
    "codeconnections:UseConnection": [OPTIONAL["ConnectionArn"]],
    "codestar-connections:UseConnection": [OPTIONAL["ConnectionArn"]],
    "codecommit:*": [arn("codecommit", GIVEN["Repository"])],
    "codecommit:GitPull": [arn("codecommit", VARIANTS["updates on CodeCommit"]["TemplateRepository"])],
    "sns:Publish": [GIVEN["TopicArn"]],
    "sagemaker:*ModelPackage": [
        arn("sagemaker", f"model-package-group/{GIVEN['ModelPackageGroupName']}"),
        arn("sagemaker", f"model-package/{GIVEN['ModelPackageGroupName']}/*"),
    ],
    "sagemaker:CreateEndpoint": [arn("sagemaker", "endpoint-config/*")],
    "sagemaker:UpdateEndpoint": [arn("sagemaker", "endpoint-config/*")],
    "sagemaker:DescribeModel": [arn("sagemaker", "model/*")],
    "sagemaker:DescribeEndpointConfig": [arn("sagemaker", "endpoint-config/*")],
    "sagemaker:CreateArtifact": [arn("sagemaker", "artifact/*")],
    "sagemaker:AddAssociation": [arn("sagemaker", "artifact/*")],
    "ec2:CreateNetworkInterface": [arn("ec2", f"{kind}/*") for kind in ("subnet", "security-group")],
    "ec2:*NetworkInterface*": [arn("ec2", "network-interface/*")],
    "ec2:*PrivateIpAddresses": [arn("ec2", "network-interface/*")],
    "application-autoscaling:*": [arn("application-autoscaling", "scalable-target/*")],
    "iam:CreateServiceLinkedRole": [
        f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/*"
    ],
}
# Action without a need of its own -> the one that it goes with, on the same places. An upload in parts that fails is
# aborted, or its parts are paid for; which region a bucket is in, boto3 asks where S3 answers that another is right.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html
GOES_WITH = {"s3:AbortMultipartUpload": "s3:PutObject", "s3:GetBucketLocation": "s3:ListBucket"}


def arn_of(need: str) -> str:
    """The resource that a need names, as the pattern of an ARN; "" where it names none."""
    action, _, about = need.partition(" ")
    if about in ("", "elsewhere"):
        return ""
    if about.startswith("arn:"):
        return about
    if action.startswith("ssm:"):
        return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{PROJECT}/{about}"
    key = re.sub(r"\bx\b", "${ObjectName}", about)
    return f"arn:aws:s3:::{BUCKET}" if about == "." else f"arn:aws:s3:::{BUCKET}/{key}"


def may(statements: Iterable[Mapping[str, Any]], need: str) -> bool:
    """Whether a role's policies allow what is needed on what it is needed for; conditions are not weighed here."""
    action, where = need.partition(" ")[0], arn_of(need)
    patterns = [
        resource
        for statement in statements
        if statement["Effect"] == "Allow" and action in authorization.allowed_actions([statement])
        for resource in authorization.several(statement["Resource"])
    ]
    return any(not where or authorization.fit(resource, where) for resource in patterns)


def unused(statements: Iterable[Mapping[str, Any]], needed: Iterable[str]) -> Iterator[str]:
    """ "action resource" of every right that reaches beyond what any need is about.

    What the reference names beside a needed action, such as AddTags, is needed as soon as the action is. A resource of
    which the reference knows that the action does not take it gives no right.
    """
    where = places(needed)
    for statement in (statement for statement in statements if statement["Effect"] == "Allow"):
        for stated in authorization.several(statement["Action"]):
            meant = authorization.expanded(stated)
            for resource in authorization.several(statement["Resource"]):
                covers = [action for action in meant if reaches(action, resource)]
                if covers and not any(inside(resource, action, where) for action in covers):
                    yield f"{stated} {resource.removeprefix(f'arn:aws:s3:::{BUCKET}/')}"


def reaches(action: str, resource: str) -> bool:
    """Whether an action takes a resource: "*" it always does."""
    return resource == "*" or bool(authorization.types_of(resource, action))


def inside(resource: str, action: str, where: Mapping[str, set[str]]) -> bool:
    """Whether all that a policy's resource stands for is what an action is needed for. where: `places`."""
    if resource == "*" and not authorization.types(action):
        return action in where
    return any(like(place, resource) for place in where.get(action, ()))


def places(needed: Iterable[str]) -> dict[str, set[str]]:
    """Return needed action -> patterns of the ARNs that it is needed for.

    One whose needs name nothing is about the same as the other actions of its service, such as AddTags.
    """
    found: dict[str, set[str]] = {}
    for need in needed:
        where = re.sub(r"\$\{\w+\}", "*", arn_of(need))
        found.setdefault(need.partition(" ")[0], set()).update([where] if where else [])
    for name in list(found):
        found[name] |= {place for known, about in PLACES.items() if like(known, name) for place in about}
        for about in authorization.action(name).get("resource_types", {}).values():
            for other in about["dependent_actions"]:
                found.setdefault(other, set())
    for name, other in GOES_WITH.items():
        if other in found:
            found[name] = found.get(name, set()) | found[other]
    for name, about in found.items():
        beside = (found[other] for other in found if other.partition(":")[0] == name.partition(":")[0])
        found[name] = about or set().union(*beside)
    return found
