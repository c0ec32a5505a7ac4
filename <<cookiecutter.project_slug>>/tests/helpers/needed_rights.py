"""What each role needs, derived: from recorded calls, from the templates' resources, from AWS's documented policies.

Nothing here lists the rights of a role. What a role is used for is read off the templates: the verbs that its builds
run, the functions that it runs, the stacks that CloudFormation makes with it, the pipelines, rules and schedules that
it acts for. Only what AWS's services do by themselves with a role is a table, each line with its source.

No package carries CloudFormation's own lists (`handlers` of its resource schemas) for all types here: cfn-lint strips
them, and what others carry is of 2021 or lacks SageMaker. So the actions of a type are found by their names in the
authorization reference (AWS::SageMaker::Endpoint: CreateEndpoint, UpdateEndpoint, …), and `TYPES` adds the rest.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import authorization
import recording
from every_template import BUCKET, GIVEN, PROJECT, Everything
from scarcegan.aws.names import Names
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Step
from scarcegan.sagemaker import parameters
from stacks import ACCOUNT, INFRA, REGION, log_group

GUIDE = "https://docs.aws.amazon.com"
ARTIFACTS = GIVEN["ArtifactsBucketName"]
# An action, or an action and the S3 object or SSM parameter it is about; who says that it is needed.
Needs = dict[str, str]

# -- what AWS's services do with a role by themselves -----------------------------------------------------------------

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
CONTAINER = [  # its image, its log, its metrics
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "cloudwatch:PutMetricData",
]
OF_EVERY_JOB = ["sagemaker:AddTags", "iam:PassRole", "kms:CreateGrant"]
OF_THE_BUCKET = ["s3:GetBucketVersioning", "s3:GetBucketLocation"]
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
        ["s3:PutObject", "kms:GenerateDataKey"],
        f"{GUIDE}/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html",
    ),
    "endpoint that rolls back": (
        ["cloudwatch:DescribeAlarms"],
        f"{GUIDE}/sagemaker/latest/dg/deployment-guardrails-configuration.html",
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
    "function with a dead letter queue": (
        ["sqs:SendMessage"],
        f"{GUIDE}/lambda/latest/dg/invocation-async-retain-records.html",
    ),
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
        [f"sagemaker:{verb}ProcessingJob" for verb in ("Create", "Describe", "Stop")] + OF_EVERY_JOB,
        f"{GUIDE}/sagemaker/latest/dg/build-and-manage-access.html",
    ),
    "Training": (
        [f"sagemaker:{verb}TrainingJob" for verb in ("Create", "Describe", "Stop")] + OF_EVERY_JOB,
        f"{GUIDE}/sagemaker/latest/dg/build-and-manage-access.html",
    ),
    "Lambda": (["lambda:InvokeFunction"], f"{GUIDE}/sagemaker/latest/dg/build-and-manage-steps-types.html"),
    "pipeline of builds": (
        ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", *OF_THE_BUCKET, *OF_THE_KEY],
        f"{GUIDE}/codepipeline/latest/userguide/how-to-custom-role.html",
    ),
    "schedule": (["kms:Decrypt"], f"{GUIDE}/scheduler/latest/UserGuide/encryption-rest.html"),
}
LOGS = {  # who writes a log -> who says that its role has to
    "AWS::Lambda::Function": f"{GUIDE}/lambda/latest/dg/lambda-intro-execution-role.html",
    "AWS::CodeBuild::Project": f"{GUIDE}/codebuild/latest/userguide/setting-up-service-role.html",
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
        "iam:PassRole",
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
    ("AWS::SageMaker::Model", "ExecutionRoleArn"): ["iam:PassRole"],
    ("AWS::SageMaker::Model", "PrimaryContainer"): ["sagemaker:DescribeModelPackage"],
    ("AWS::SageMaker::EndpointConfig", "KmsKeyId"): ["kms:CreateGrant", "kms:DescribeKey"],
    ("AWS::Lambda::Function", "Role"): ["iam:PassRole"],
    ("AWS::Lambda::Function", "Code"): ["s3:GetObject {S3Key}", "s3:GetObjectVersion {S3Key}", "kms:Decrypt"],
    # Target tracking makes, and with the policy deletes, alarms with names of its own.
    # https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
    ("AWS::ApplicationAutoScaling::ScalingPolicy", "TargetTrackingScalingPolicyConfiguration"): [
        f"cloudwatch:{each} arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:TargetTracking-endpoint/"
        f"{PROJECT}-{{stage}}/variant/AllTraffic-AlarmHigh-1a2b"
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


def of_template(template: str, everything: Everything, stage: str) -> Needs:
    """What CloudFormation's role needs for the stack of a template. stage: of an endpoint's."""
    found: Needs = {}
    stack = everything.of_stage(template, stage)
    for name, properties in stack.resources.items():
        kind = stack.body["Resources"][name]["Type"]
        found |= dict.fromkeys(of_type(kind), f"{template}, {kind}")
        for (other, key), actions in PROPERTIES.items():
            if other == kind and key in properties:
                told = properties[key] if isinstance(properties[key], dict) else {}
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


def of_builds(everything: Everything) -> Found:
    for project, action, spec in builds(everything):
        whose, handed = actor(project["ServiceRole"]), "OutputArtifacts" in action
        yield from service(whose, "build", *(["build that hands over"] if handed else []))
        yield whose, its_log("AWS::CodeBuild::Project", project), LOGS["AWS::CodeBuild::Project"]
        if "VpcConfig" in project:
            yield from service(whose, "build in a VPC")
        yield whose, artifacts(action), f"what {action['Name']} reads and hands over"
        for verb in verbs_of(spec):
            yield whose, recorded(verb), f"recorded: {verb}"
    for pipeline in everything.of_type("AWS::CodePipeline::Pipeline").values():
        yield from of_clones(pipeline, everything)


def its_log(kind: str, properties: Mapping[str, Any]) -> Iterator[str]:
    """What a function or a build needs of its log group."""
    for action in ("CreateLogStream", "PutLogEvents"):
        yield f"logs:{action} arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{log_group(kind, properties)}:log-stream:x"


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
    """What a build reads and writes in the bucket of its CodePipeline: <pipeline>/<artifact>/<random>.

    https://docs.aws.amazon.com/codepipeline/latest/userguide/welcome-introducing-artifacts.html
    """
    for key, verbs in (("InputArtifacts", ("GetObject", "GetObjectVersion")), ("OutputArtifacts", ("PutObject",))):
        for artifact in action.get(key, ()):
            yield from (f"s3:{verb} arn:aws:s3:::{ARTIFACTS}/{PROJECT}-x/{artifact['Name']}/x.zip" for verb in verbs)


def of_functions(everything: Everything) -> Found:
    called = {action["Configuration"].get("FunctionName"): action for action in actions(everything)}
    for function in everything.of_both_stages("AWS::Lambda::Function"):
        whose = actor(function["Role"])
        if function["FunctionName"] in called:  # what it reads, it is lent the credentials for
            handed = {"OutputArtifacts": called[function["FunctionName"]].get("OutputArtifacts", ())}
            yield whose, artifacts(handed), "what it hands over"
        module = function["Handler"].split(".")[-2]
        yield whose, recorded(f"function {module.removesuffix('_function').replace('_', '-')}"), "recorded"
        yield from service(whose, *["function of a CodePipeline"] * (function["FunctionName"] in called))
        yield whose, its_log("AWS::Lambda::Function", function), LOGS["AWS::Lambda::Function"]
        optional = {"KmsKeyArn": "with a key", "DeadLetterConfig": "with a dead letter queue", "VpcConfig": "in a VPC"}
        yield from service(whose, *(f"function {what}" for key, what in optional.items() if key in function))


def of_pipelines_of_builds(everything: Everything) -> Found:
    for pipeline in everything.of_type("AWS::CodePipeline::Pipeline").values():
        whose = actor(pipeline["RoleArn"])
        yield from service(whose, "pipeline of builds")
        for action in (action for stage in pipeline["Stages"] for action in stage["Actions"]):
            provider = action["ActionTypeId"]["Provider"]
            yield whose, PROVIDERS[provider], f"CodePipeline's action {provider}"
            if provider == "CloudFormation":
                asked = action["Configuration"]
                if asked["ActionMode"] != "CREATE_UPDATE":
                    yield whose, ["cloudformation:DeleteStack"], f"CodePipeline's mode {asked['ActionMode']}"
                if "TemplatePath" not in asked:
                    continue
                template = Path(asked["TemplatePath"].split("::")[1]).name
                yield (
                    actor(asked["RoleArn"]),
                    of_template(template, everything, asked["StackName"].rsplit("-", 1)[1]),
                    f"CloudFormation, {template}",
                )


# Service of a rule's target -> what EventBridge does there with the role that it is given.
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html
DOES_AT_TARGET = {"codepipeline": "codepipeline:StartPipelineExecution", "events": "events:PutEvents"}


def of_events(everything: Everything) -> Found:
    for rule in everything.of_type("AWS::Events::Rule").values():
        for target in (target for target in rule["Targets"] if "RoleArn" in target):
            yield actor(target["RoleArn"]), [DOES_AT_TARGET[target["Arn"].split(":")[2]]], f"rule {rule['Name']}"
    for schedule in everything.of_type("AWS::Scheduler::Schedule").values():
        *_, name, operation = schedule["Target"]["Arn"].split(":")
        whose = actor(schedule["Target"]["RoleArn"])
        yield whose, [f"{name}:{operation[0].upper()}{operation[1:]}"], f"schedule {schedule['Name']}"
        if "KmsKeyArn" in schedule:
            yield from service(whose, "schedule")


def of_pipelines_of_sagemaker(everything: Everything) -> Found:
    """The role of each pipeline and of its jobs; one that scores may have roles of its own."""
    config, roles = Config(), everything.roles.properties
    for source in (definition.training(config), definition.scoring(config)):
        start = "scoring-" if source.name == "scoring" and "scoring-job" in roles else ""
        pipeline, job = f"{start}pipeline", f"{start}job"
        kinds = {step.kind.capitalize() if isinstance(step, Step) else "Gate" for step in source.steps}
        checked = {"Lambda"}  # each begins with the step `check`
        yield from service(pipeline, "pipeline of SageMaker", *sorted(kinds | checked))
        yield from service(job, "job", "job's output")
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


def of_endpoints(everything: Everything) -> Found:
    for model in everything.of_both_stages("AWS::SageMaker::Model"):
        whose = actor(model["ExecutionRoleArn"])
        yield from service(whose, "endpoint", "endpoint that captures", "endpoint that rolls back")
        [stage] = [tag["Value"] for tag in model["Tags"] if tag["Key"] == "sagemaker:deployment-stage"]
        yield whose, [f"s3:PutObject capture/{stage}/x"], "DestinationS3Uri of infra/endpoint.yaml"
        if "VpcConfig" in model:
            yield from service(whose, "job in a VPC")


# -- what is missing, what is left over -------------------------------------------------------------------------------


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
    """Actions that nothing needs; of objects in the project's bucket also those places where nothing does.

    What the reference names beside a needed action, such as AddTags, is needed as soon as the action is.
    """
    needed = list(needed)
    actions = {need.partition(" ")[0] for need in needed}
    actions |= {
        other
        for name in actions
        for about in authorization.action(name).get("resource_types", {}).values()
        for other in about["dependent_actions"]
    }
    for statement in (statement for statement in statements if statement["Effect"] == "Allow"):
        for stated in authorization.several(statement["Action"]):
            meant = set(authorization.expanded(stated))
            if not meant & actions:
                yield stated
            places = [arn_of(need) for need in needed if need.partition(" ")[0] in meant]
            for resource in authorization.several(statement["Resource"]):
                ours = resource.startswith(f"arn:aws:s3:::{BUCKET}/")
                if ours and places and all(places) and not any(authorization.fit(resource, each) for each in places):
                    yield f"{stated} {resource.removeprefix(f'arn:aws:s3:::{BUCKET}/')}"
