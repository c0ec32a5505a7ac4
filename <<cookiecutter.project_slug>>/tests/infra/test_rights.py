"""Each role has what its work needs, and nothing that no work needs.

What a role needs is never typed: it is recorded while other tests run the project's code against moto and Stubber
(recording.py), derived from the templates, and read from the policies that AWS documents for its own services
(needed_rights.py). Conditions are not weighed here; test_roles.py and test_roles_at_work.py do. Statically: IAM itself
was never asked.
"""

import copy
from typing import Any

import pytest

import authorization
import every_template
import needed_rights
import recording
from enforcement import arn
from every_template import BUCKET, OPTIONAL, PROJECT, VARIANTS
from stacks import INFRA

GUIDE = "https://docs.aws.amazon.com"
LOOKED_AT = {variant: every_template.everything(variant) for variant in VARIANTS}
NEEDED = {variant: needed_rights.needs(everything) for variant, everything in LOOKED_AT.items()}
ACTORS = sorted(LOOKED_AT["everything on"].roles.properties)

# Right that no test and no template needs, or not so wide -> the actors that have it, and why they keep it.
REGISTRY = f"{GUIDE}/sagemaker/latest/dg/model-registry-version-xaccount.html"
MLFLOW = f"{GUIDE}/sagemaker/latest/dg/mlflow-app-setup-prerequisites-iam.html"
STEPS, DATA = "src/scarcegan/pipeline/definition.py", "src/scarcegan/sagemaker/parameters.py"
PERSONS_BUCKET, SERVING = f"arn:aws:s3:::{OPTIONAL['DataBucketName']}", needed_rights.image_arn("inference")
KEPT = {
    # Without it, S3 says of an object that is missing that it is forbidden.
    f"s3:ListBucket arn:aws:s3:::{BUCKET}": ("check-approval", f"{GUIDE}/AmazonS3/latest/API/API_GetObject.html"),
    # The channel of labels that the data itself holds is an empty folder.
    "s3:GetObject empty/*": ("job scoring-job", DATA),
    # Which steps there are, the pipeline's definition says. A new one is an entry in it, and no new right.
    "s3:GetObject runs/*": ("job pipeline register", STEPS),
    "s3:PutObject runs/*": ("job", STEPS),
    "s3:AbortMultipartUpload runs/*": ("job", STEPS),
    "s3:GetObject scoring/*": ("scoring-job", STEPS),
    "s3:PutObject scoring/*": ("scoring-job", STEPS),
    "s3:AbortMultipartUpload scoring/*": ("scoring-job", STEPS),
    # Names and limits that the stacks of this project publish for its builds. None is a secret.
    f"ssm:GetParameter {arn('ssm', f'parameter/{PROJECT}/*')}": (
        "build prepare promote",
        "src/scarcegan/aws/client.py",
    ),
    # A person's data below one folder of their bucket, which config.yaml names, and the key that it is encrypted with.
    f"s3:GetObject {PERSONS_BUCKET}/{OPTIONAL['DataPrefix']}*": ("job scoring-job", DATA),
    f"s3:ListBucket {PERSONS_BUCKET}": ("build job scoring-job", DATA),
    f"s3:GetBucketLocation {PERSONS_BUCKET}": ("build job scoring-job", DATA),
    f"kms:Decrypt {OPTIONAL['DataKeyArn']}": (
        "job scoring-job",
        f"{GUIDE}/AmazonS3/latest/userguide/UsingKMSEncryption.html",
    ),
    # A template is a git bundle in its bucket, under a name that .cruft.json has.
    f"s3:GetObject arn:aws:s3:::{OPTIONAL['TemplatesBucketName']}/*.bundle": ("update", "infra/template_update.py"),
    # SageMaker looks whether who registers a package may use the image that the package names.
    f"ecr:BatchGetImage {SERVING}": ("register", REGISTRY),
    f"ecr:DescribeImages {SERVING}": ("register", REGISTRY),
    # Jobs log to an MLflow App or a tracking server, where there is one; which of its calls, MLflow's client decides.
    f"sagemaker-mlflow:* {VARIANTS['serverless']['MlflowAppArn']}": ("job", MLFLOW),
    f"sagemaker:CallMlflowAppApi {OPTIONAL['MlflowAppArn']}": ("job", MLFLOW),
    f"sagemaker:DescribeMlflowApp {OPTIONAL['MlflowAppArn']}": ("job", MLFLOW),
    # Jobs need it, and share the policy for a VPC with builds.
    f"ec2:DeleteNetworkInterfacePermission {arn('ec2', 'network-interface/*')}": (
        "build prepare promote update",
        f"{GUIDE}/sagemaker/latest/dg/sagemaker-roles.html",
    ),
    # Lists, which name no package and no alarm as their resource.
    "sagemaker:ListModelPackages *": (
        "prepare promote register",
        f"{GUIDE}/sagemaker/latest/APIReference/API_ListModelPackages.html",
    ),
    "cloudwatch:DescribeAlarms *": (
        "stack-staging stack-production",
        f"{GUIDE}/autoscaling/application/userguide/security_iam_id-based-policy-examples.html",
    ),
}


def lacking(actor: str) -> set[str]:
    """What an actor needs and may not."""
    return {
        need
        for variant, everything in LOOKED_AT.items()
        for need in NEEDED[variant].get(actor, ())
        if not needed_rights.may(everything.roles.statements(actor), need)
    }


def left_over(actor: str) -> set[str]:
    """What an actor may and, whatever is switched on, does not need."""
    needed = {need for variant in VARIANTS for need in NEEDED[variant].get(actor, ())}
    there = [everything.roles for everything in LOOKED_AT.values() if actor in everything.roles.properties]
    policies = [roles.statements(actor) for roles in there]
    return {right for statements in policies for right in needed_rights.unused(statements, needed)}


@pytest.mark.parametrize("actor", ACTORS)
def test_a_role_may_do_what_its_work_was_seen_to_need_checked_statically(actor: str) -> None:
    assert lacking(actor) == set()


def kept(actor: str) -> set[str]:
    return {right for right, (actors, _) in KEPT.items() if actor in actors.split()}


@pytest.mark.parametrize("actor", ACTORS)
def test_a_role_may_do_nothing_that_no_work_needs_checked_statically(actor: str) -> None:
    assert left_over(actor) - kept(actor) == set()


def test_what_is_kept_without_a_need_is_still_there() -> None:
    assert {actor: kept(actor) - left_over(actor) for actor in ACTORS if kept(actor) - left_over(actor)} == {}
    assert {actor for actors, _ in KEPT.values() for actor in actors.split()} <= set(ACTORS)


def test_every_verb_of_a_build_and_every_function_was_recorded() -> None:
    everything = LOOKED_AT["everything on"]
    run = {verb for _, _, spec in needed_rights.builds(everything) for verb in needed_rights.verbs_of(spec)}
    assert run and [verb for verb in sorted(run) if not needed_rights.recorded(verb)] == []
    functions = [verb for verb in set(recording.ENTRIES.values()) if verb.startswith("function ")]
    assert len(functions) == len({f["Handler"] for f in everything.of_type("AWS::Lambda::Function").values()})
    assert [verb for verb in functions if not needed_rights.recorded(verb)] == []


def test_every_function_at_which_a_verb_begins_is_there() -> None:
    files = {path.as_posix(): path for folder in ("src", "infra") for path in (INFRA.parent / folder).rglob("*.py")}
    for file, name in recording.ENTRIES:
        [path] = [path for known, path in files.items() if known.endswith(f"/{file}")]
        assert f"def {name.rsplit('.', 1)[-1]}(" in path.read_text(encoding="utf-8"), f"{file} has no {name}"


def test_every_recorded_action_is_one_that_iam_knows() -> None:
    actions = {need.partition(" ")[0] for needs in NEEDED.values() for needed in needs.values() for need in needed}
    assert [action for action in sorted(actions) if not authorization.action(action)] == []


# -- a stage's own account ---------------------------------------------------------------------------------------------

IN_ITS_ACCOUNT = {
    stage: every_template.Everything("everything on", ("target.yaml",), Stage=stage).roles
    for stage in ("staging", "production")
}
ENTERED = [f"{name}-{stage}" for stage in IN_ITS_ACCOUNT for name in ("enter", "look", "ask", "stack", "serve")]
# All else that `stack` and `serve` may do, test_several_accounts.py compares with their namesakes in the toolchain's.
MORE_THERE = ("ReadTheRelease", "ReadWhatTheToolchainEncrypts")
QUOTAS = {
    "servicequotas:ListServiceQuotas *",
    "servicequotas:ListAWSDefaultServiceQuotas *",
}  # `scarcegan doctor --cloud`


@pytest.mark.parametrize("actor", ENTERED)
def test_a_role_of_a_stages_own_account_may_do_what_it_is_entered_for_and_nothing_else_checked_statically(
    actor,
) -> None:
    name, stage = actor.split("-")
    statements = IN_ITS_ACCOUNT[stage].statements(actor)
    if name in ("stack", "serve"):
        statements = [statement for statement in statements if statement["Sid"] in MORE_THERE]
    needed = needed_rights.needs_elsewhere(LOOKED_AT["everything on"], stage)[actor]
    assert {need for need in needed if not needed_rights.may(statements, need)} == set()
    assert set(needed_rights.unused(statements, needed)) == (QUOTAS if name == "look" else set())


# -- faults that must be seen ------------------------------------------------------------------------------------------


def without(statements: list[dict[str, Any]], action: str, word: str) -> list[dict[str, Any]]:
    """The statements without an action on resources that hold a word."""
    seeded = copy.deepcopy(statements)
    for statement in seeded:
        if action in authorization.allowed_actions([statement]):
            kept = [each for each in authorization.several(statement["Resource"]) if word not in each]
            statement["Resource"] = kept or ["arn:aws:s3:::nothing"]
    return seeded


@pytest.mark.parametrize(
    ("actor", "action", "word", "need"),
    [
        ("job", "s3:GetObject", "/champion/", "s3:GetObject champion/x"),
        ("job", "s3:PutObject", "/checkpoints/", "s3:PutObject checkpoints/x"),
        ("register", "s3:GetObject", "/runs/", "s3:GetObject runs/x/train/x"),
        ("serve-production", "s3:GetObject", "/packages/", "s3:GetObject packages/x"),
        ("count-production", "cloudwatch:PutMetricData", "*", "cloudwatch:PutMetricData"),
    ],
)
def test_a_role_without_a_right_that_it_needs_is_seen(actor: str, action: str, word: str, need: str) -> None:
    statements = LOOKED_AT["plain"].roles.statements(actor)
    assert need in NEEDED["plain"][actor] and needed_rights.may(statements, need)
    if word == "*":
        seeded = [statement for statement in statements if action not in authorization.allowed_actions([statement])]
    else:
        seeded = without(statements, action, word)
    assert not needed_rights.may(seeded, need)


def test_a_right_that_nothing_needs_is_seen() -> None:
    statements = copy.deepcopy(LOOKED_AT["plain"].roles.statements("serve-production"))
    before = set(needed_rights.unused(statements, NEEDED["plain"]["serve-production"]))
    place = f"arn:aws:s3:::{BUCKET}/data/*"
    statements.append({"Effect": "Allow", "Action": ["s3:GetObject", "s3:DeleteObject"], "Resource": place})
    seen = set(needed_rights.unused(statements, NEEDED["plain"]["serve-production"])) - before
    assert seen == {"s3:DeleteObject data/*", "s3:GetObject data/*"}


@pytest.mark.parametrize(
    ("actor", "action", "narrow", "wide"),
    [
        ("promote", "s3:PutObject", "/champion/package.tar.gz", "/champion/*"),
        ("promote", "ssm:PutParameter", f"/{PROJECT}/champion", f"/{PROJECT}/*"),
        ("prepare", "ssm:GetParameter", f"/{PROJECT}/*", "/*"),
        ("prepare", "logs:PutLogEvents", f":/aws/codebuild/{PROJECT}-prepare:*", ":*"),
        ("prepare", "sagemaker:DescribeModelPackage", "/rare-group/*", "/*/*"),
        ("prepare", "sagemaker:InvokeEndpoint", "-staging", "-*"),
        ("check-approval", "s3:PutObject", "/*/Checked/*", "/*"),
        ("serve-staging", "cloudwatch:DescribeAlarms", f"{PROJECT}-staging-*", "*"),
        ("scoring-job", "s3:GetObject", "/scoring/*", "/runs/*"),  # the other pipeline's job keeps this right
        ("pipeline", "iam:PassRole", "-job", "-*"),
        ("job", "kms:Encrypt", "key/1234abcd", "key/*"),
    ],
)
def test_a_right_that_reaches_beyond_what_it_is_needed_for_is_seen(actor, action, narrow, wide) -> None:
    statements = copy.deepcopy(LOOKED_AT["plain"].roles.statements(actor))
    widened = set()
    for statement in statements:
        if action in authorization.allowed_actions([statement]):
            found = authorization.several(statement["Resource"])
            statement["Resource"] = [each.replace(narrow, wide) for each in found]
            widened |= set(statement["Resource"]) - set(found)
    rights = {right.removeprefix(f"{action} ") for right in beyond(statements, actor) if right.startswith(f"{action} ")}
    assert widened and widened <= {
        right if right[:4] == "arn:" else f"arn:aws:s3:::{BUCKET}/{right}" for right in rights
    }


def beyond(statements: list[dict[str, Any]], actor: str) -> set[str]:
    """What statements of an actor allow in the plain variant, and no work needs or keeps."""
    return set(needed_rights.unused(statements, NEEDED["plain"][actor])) - kept(actor)


def test_a_call_that_the_list_does_not_have_is_seen() -> None:
    """Recording itself: a verb's call, one of its threads, and one of a test's own, against botocore's Stubber."""
    import boto3
    from botocore.stub import Stubber

    from scarcegan.sagemaker import start

    client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    bucket = "rare-players-111122223333-eu-west-1"
    with recording.recording() as calls, Stubber(client) as stub:
        stub.add_response("head_object", {}, {"Bucket": bucket, "Key": "data/x"})
        client.head_object(Bucket=bucket, Key="data/x")
        assert calls == set(), "a test's own call is nobody's"
        code = compile("def complete(call):\n    return call()", start.__file__, "exec")
        names: dict[str, Any] = {}
        exec(code, names)
        stub.add_response("head_object", {}, {"Bucket": bucket, "Key": "data/x"})
        names["complete"](lambda: client.head_object(Bucket=bucket, Key="data/x"))
        in_threads = "def complete(call):\n    from concurrent.futures import ThreadPoolExecutor\n"
        in_threads += "    with ThreadPoolExecutor(1) as pool:\n        return pool.submit(call).result()"
        exec(compile(in_threads, start.__file__, "exec"), names)
        stub.add_response("head_bucket", {}, {"Bucket": bucket})
        names["complete"](lambda: client.head_bucket(Bucket=bucket))
    assert calls == {("start", need) for need in ("s3:GetObject data/x", "kms:Decrypt", "s3:ListBucket .")}
    assert "{'start': ['s3:GetObject odd/x']}" in recording.unlisted("x.py", {("start", "s3:GetObject odd/x")})
    assert recording.unlisted("x.py", recording.listed()) == ""


def test_a_call_that_no_test_makes_any_more_is_seen_when_all_files_have_run() -> None:
    everything = {file: calls_of(verbs) for file, verbs in recording.recorded().items()}
    assert recording.unmade(everything) == ""
    [file, *others] = [file for file, verbs in recording.recorded().items() if "function rare-share" in verbs]
    assert others == [] and "function rare-share" in recording.unmade(everything | {file: set()})
    del everything[file]
    assert recording.unmade(everything) == "", "the file did not run"


def calls_of(verbs: dict[str, list[str]]) -> recording.Calls:
    return {(verb, need) for verb, needed in verbs.items() for need in needed}
