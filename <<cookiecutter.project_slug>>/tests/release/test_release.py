"""Release: which model goes out, how many flagged rows are as evaluated, what the approver reads, and the way back.

AWS is moto's, CloudFormation answers over HTTP from a table (stack_server.py); CodePipeline is botocore's Stubber.
"""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer
from scipy.stats import binom
from typer.testing import CliRunner

import buildspec
import pages
import stack_server
from registry_in_moto import forget_digest
from released import (
    CONFIG,
    KEY,
    NAMES,
    TOPIC,
    account,
    client,
    connection,
    evaluation,
    four,
    image,
    package,
    package_files,
    put,
    stubbed,
)
from scarcegan.aws import client as aws_client
from scarcegan.aws.accounts import STAGES
from scarcegan.cli import main as cli
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config, load_config
from scarcegan.release import load, release, smoke
from scarcegan.release.flagged_share import Band, flagged_counts, flagged_share_band
from scarcegan.release.load import LOAD_CHARACTERS
from scarcegan.release.release import ReleaseInputs
from scarcegan.report.evaluation import Predictions
from scarcegan.sagemaker.bundle import code_bundle
from scarcegan.steps.evaluate import evaluation_json
from stack_server import STACKS, serve
from stacks import INFRA, Toolchain

PROJECT = Path(__file__).parents[2]
TOOLCHAIN = {
    "SageMakerProjectName": NAMES.project,
    "Repository": "r",
    "ModelPackageGroupName": "g",
    "RegisterCodeKey": "functions/register-0a.zip",
    "CheckApprovalCodeKey": "functions/check-approval-0a.zip",
    "RareShareCodeKey": "functions/rare-share-0a.zip",
    "ToolchainVersion": "0a0a0a0a",
}
AROUND = ReleaseInputs("arn:aws:sagemaker:…", KEY, TOPIC, "functions/rare-share-1.zip", "20261121T100000Z", "p-1")
APPROVAL = 1000  # characters, of the text that CodePipeline shows


@pytest.fixture
def session(monkeypatch):
    with account(monkeypatch) as session:
        yield session


@pytest.fixture
def registry(session, tmp_path):
    return four(session, tmp_path)


@pytest.fixture
def config(tmp_path) -> Config:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return load_config(tmp_path / "config.yaml")


# -- which version --------------------------------------------------------------------------------------------------


def test_the_package_approved_last_is_released_not_the_one_registered_last_in_moto(registry):
    for version in (3, 4, 1):
        registry.approve(version)
    assert release.approved_package(registry).version == 1
    registry.reject(1)
    assert release.approved_package(registry).version == 4


def test_an_earlier_approved_version_can_be_named_in_moto(registry):
    for version in (2, 3):
        registry.approve(version)
    assert release.approved_package(registry, "2").definition == "few_unknown"


def test_nothing_is_released_while_nothing_is_approved_in_moto(registry):
    with pytest.raises(UserError, match="no model is approved, so nothing is released"):
        release.approved_package(registry)


def test_a_version_that_was_not_approved_is_refused_in_moto(registry):
    registry.approve(2)
    registry.reject(2)
    with pytest.raises(UserError, match=r"version 2 \(few_unknown\) is Rejected, and only approved ones"):
        release.approved_package(registry, "2")
    with pytest.raises(UserError, match=r"version 1 \(best_ranking\) is PendingManualApproval"):
        release.approved_package(registry, "1")
    with pytest.raises(UserError, match="no version 9"):
        release.approved_package(registry, "9")


def test_a_version_of_before_the_digests_is_neither_released_nor_rolled_back_to_in_moto(registry):
    registry.approve(2)
    forget_digest(registry, 2)
    for refused in (lambda: release.approved_package(registry), lambda: release.rollback_request(registry, NAMES, 2)):
        with pytest.raises(
            UserError,
            match=r"version 2 .* without a digest of its model or of its evaluation.* Register the model again",
        ):
            refused()


@pytest.mark.parametrize("version", ["", "-1", "5; rm -rf /", "$(id)", "5\n", "٣", "1e3", "newest ", "arn:aws:x/5"])
def test_what_is_no_version_is_refused_before_anybody_is_asked(version):
    with pytest.raises(UserError, match="is no version"):
        release.approved_package(None, version)


# -- the band -------------------------------------------------------------------------------------------------------


def test_the_band_is_the_interval_of_the_flagged_share_doubled_and_halved():
    """Wilson's interval of 80 in 2,000 is 3.2 to 5.0 %, of 100 in 2,400 it is 3.4 to 5.0 %; chance is nothing here."""
    found = flagged_share_band(evaluation(20, 80), minimum_rows=10**12)
    assert found == Band(0.0161, 0.1009, "4.0% of 2,000 unlabelled test users and 4.2% of 2,400 test users in all")


def test_few_rows_widen_the_band():
    wide, narrow = (flagged_share_band(evaluation(), rows) for rows in (100, 10_000))
    assert wide.low < narrow.low
    assert wide.high > narrow.high
    assert wide.low == 0  # in a hundred rows, none flagged out of four is no wonder


def test_labelled_users_count_where_they_are_flagged_more_often():
    """A quarter of the labelled users is flagged: traffic may hold as many of them as the test users in all do."""
    assert flagged_share_band(evaluation(100, 80), 1000).high > flagged_share_band(evaluation(20, 80), 1000).high


def test_without_unlabelled_users_the_labelled_ones_are_used():
    written = evaluation(20)
    written["scarcegan"] |= {"test_rows": {"labelled": 400, "unlabelled": 0}, "share_flagged_unlabelled": None}
    assert flagged_share_band(written, 1000).used == "5.0% of 400 labelled test users"


@pytest.mark.parametrize("share", [0, 1, 5, 20, 80, 300, 1000, 2000])
@pytest.mark.parametrize("rows", [100, 1000])
def test_a_model_that_flags_as_evaluated_is_hardly_ever_rolled_back(share, rows):
    """Once in a thousand five-minute periods at most, and the alarms want two in a row."""
    found = flagged_share_band(evaluation(20, share), rows)
    wrong = binom.cdf(found.low * rows - 1e-9, rows, share / 2000) + binom.sf(found.high * rows, rows, share / 2000)
    assert wrong < 1e-3


def test_a_model_that_flags_everybody_or_nobody_is_rolled_back():
    found = flagged_share_band(evaluation(20, 80), 1000)
    assert 0 < found.low < found.high < 1


def test_the_evaluation_steps_own_document_is_read():
    """Four of six labelled users and one of four unlabelled ones are flagged."""
    label, said = np.array([2, 2, 0, 1, 0, 1, -1, -1, -1, -1]), np.array([2, 2, 2, 2, 3, 0, 2, 3, 0, 1])
    known, rarity = label >= 0, np.linspace(0, 1, 10)
    found = SimpleNamespace(
        models={"best_ranking": Predictions(rarity, rarity, said)},
        test=SimpleNamespace(label=label),
        known=known,
        positive=label[known] == 2,
        cards={"best_ranking": {}},
        samples={"best_ranking": {}},
        preference=SimpleNamespace(sentence=""),
        **{"classes": ("calm", "keen", "risky"), "rare": "risky", "beta": 2.0, "simple_models": {}, "definition": ""},
    )
    shares = flagged_counts(evaluation_json(found, "best_ranking", count=10, seed=0))
    assert shares == {"unlabelled test users": (1, 4), "test users in all": (5, 10)}


NO_UNLABELLED = {
    "scarcegan": {"test_rows": {"labelled": 9}, "share_flagged_unlabelled": 0.1},
    "binary_classification_metrics": {"confusion_matrix": {"0": {"1": 1}, "1": {"1": 2}}},
}


@pytest.mark.parametrize("written", [{}, {"scarcegan": {}}, {"scarcegan": None}, [], NO_UNLABELLED])
def test_an_evaluation_that_does_not_say_how_many_it_flags_is_refused(written):
    with pytest.raises(UserError, match="the normal share of flagged rows is unknown"):
        flagged_share_band(written, 100)


# -- what is written ------------------------------------------------------------------------------------------------


def prepared(config, folder, **facts):
    package_files(folder)
    return release.release_of_package(config, package(**facts), folder, facts.get("against"), AROUND)


def test_staging_has_one_instance_and_production_what_config_says(config, tmp_path):
    stages = prepared(config, tmp_path / "p").stages
    staging, production = (stages[stage]["Parameters"] for stage in STAGES)
    told = ("Stage", "Traffic", "MinInstances", "MaxInstances", "WaitSeconds", "Serverless")
    assert [staging[name] for name in told] == ["staging", "ALL_AT_ONCE", "1", "1", "60", "false"]
    assert [production[name] for name in told] == ["production", "CANARY", "2", "4", "600", "false"]
    assert staging["Version"] == production["Version"] == "5"
    assert staging["RareLabel"] == "2"
    assert all(isinstance(value, str) for value in (staging | production).values())


def test_only_staging_is_ever_serverless(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "config.yaml", ["cloud.endpoint.serverless_staging=true"])
    stages = prepared(config, tmp_path / "p").stages
    assert [stages[stage]["Parameters"]["Serverless"] for stage in STAGES] == ["true", "false"]


def test_every_resource_is_tagged_with_the_project(config, tmp_path):
    tags = prepared(config, tmp_path / "p").stages["staging"]["Tags"]
    assert tags == {"sagemaker:project-name": "risky", "sagemaker:project-id": "p-1", "team": "data-science"}


def test_the_approver_reads_figures_band_difference_and_gate():
    champion = package(version=3, definition="high_recall", metrics={"pr_auc": 0.5, "recall": 0.7})
    new = package(gate={"reason": "The gate opens for best_ranking."})
    assert release.approval_summary(
        new, champion, evaluation(), Band(0.0, 0.12, "4.0% of 2,000 unlabelled test users")
    ) == (
        "Version 5 (best_ranking, model 0123456789ab): pr_auc 0.531 (0.440 to 0.610), recall 0.600, precision "
        "unknown on 400 labelled test users. "
        "It flags 4.0% of 2,000 unlabelled test users; in production 0.0% to 12.0% is taken for the same. "
        "Against the champion, version 3 (high_recall): pr_auc +0.031, recall -0.100; each on the test users of its "
        "own run. Trained in run run-1 on the data d4t4 with the code unknown. The gate opens for best_ranking."
    )


def test_docs_show_what_the_person_who_approves_reads():
    """The text is the toolchain's, with the variables of a prepared release and of a load test."""
    new = package(
        metrics={"pr_auc": 0.531, "recall": 0.6, "precision": 0.41},
        run="a1b2c3d4e5f6",
        data_fingerprint="7f3a9c",
        code_version="ab" * 16,
        gate={"reason": "The gate opens for best_ranking: its pr_auc 0.531 is at least the minimum 0.3."},
    )
    champion = package(version=3, definition="high_recall", metrics={"pr_auc": 0.5, "recall": 0.7, "precision": 0.39})
    measured = evaluation()
    measured["scarcegan"]["metrics"]["precision"]["value"] = 0.41
    band = Band(0.005, 0.12, "4.0% of 2,000 unlabelled test users")
    plan = load.plan_load(Config().cloud.endpoint, "ml.m5.large", 60, None)
    variables = {
        "Source.CommitId": "9c1f2ab04d3e5f60718293a4b5c6d7e8f9012345",
        "Prepare.VERSION": "5",
        "Prepare.DIGEST": new.model_digest,
        "Started.BY": "an event",
        "Prepare.SUMMARY": release.approval_summary(new, champion, measured, band, "ab" * 16),
        "Load.LOAD": load.summary(plan, {}, 3000, 31, load.ModelLatency(5, 9, 12), slow=False),
    }
    [stage] = [one for one in Toolchain(TOOLCHAIN).resources["DeployPipeline"]["Stages"] if one["Name"] == "Approve"]
    [asked] = [one["Configuration"]["CustomData"] for one in stage["Actions"] if one["Name"] == "Approve"]
    text = re.sub(r"#\{(.*?)\}", lambda found: variables[found[1]], asked)
    quoted = re.search(r"\n> (Commit .*?)\n\n", pages.text_of("docs/release.md"), re.DOTALL)
    assert quoted and quoted[1].replace("\n> ", " ") == text


def test_the_first_release_says_that_there_is_no_champion():
    assert "There is no champion yet." in release.approval_summary(package(), None, evaluation(), Band(0, 1, "-"))


HOSTILE = "x\"'; rm -rf ~ #{variables.VERSION} `id` $(id) $HOME\n\r\x00\x1b[31m\u202e\U0001f600 " * 100


def test_the_person_who_approves_sees_whether_the_model_was_trained_with_the_code_of_the_commit():
    """A commit that was taken back before the release may have trained the model."""
    words = [
        release.approval_summary(package(code_version="ab" * 16), None, evaluation(), Band(0, 1, "-"), code)
        for code in ("ab" * 16, "cd" * 16, "")
    ]
    assert "on the data d4t4 with this commit's code abababababab." in words[0]
    assert "on the data d4t4 with the code abababababab, NOT this commit's cdcdcdcdcdcd." in words[1]
    assert "on the data d4t4 with the code abababababab." in words[2]


def test_a_hostile_summary_stays_one_short_line_without_variables_of_codepipeline():
    new = package(gate={"reason": HOSTILE})
    found = release.approval_summary(new, None, evaluation(), Band(0, 1, "-"))
    assert found.isascii() and found.isprintable()
    assert '"' not in found and "#{" not in found
    assert len(found) <= APPROVAL


def test_commit_and_summary_fit_together_and_only_the_gates_reason_is_cut():
    """The toolchain's text, with what its three variables become. CodePipeline takes 1,000 characters."""
    actions = [
        action
        for pipeline in Toolchain(TOOLCHAIN).of_type("AWS::CodePipeline::Pipeline").values()
        for stage in pipeline["Stages"]
        for action in stage["Actions"]
        if action["ActionTypeId"]["Category"] == "Approval"
    ]
    champion = package(version=98765, definition="d" * 63)
    new = package(
        version=98766,
        definition="e" * 63,
        run="r" * 99,
        data_fingerprint="f" * 99,
        gate={"reason": "g" * 999},
        code_version="h" * 32,
    )
    summary = release.approval_summary(new, champion, evaluation(), flagged_share_band(evaluation(), 100), "c" * 32)
    [text] = [action["Configuration"]["CustomData"] for action in actions]
    whole = text.replace("#{Source.CommitId}", "c" * 40).replace("#{Prepare.SUMMARY}", summary)
    whole = whole.replace("#{Load.LOAD}", "l" * LOAD_CHARACTERS).replace("#{Started.BY}", "b" * 44)
    whole = whole.replace("#{Prepare.VERSION}", "98766").replace("#{Prepare.DIGEST}", "d" * 64)
    assert "#{" not in whole and len(whole) <= APPROVAL
    assert (
        f"on the data {'f' * 12} with the code hhhhhhhhhhhh, NOT this commit's cccccccccccc. ggg" in whole
        and whole.endswith(f"ggg... {'l' * LOAD_CHARACTERS}")
    )


def test_a_short_text_is_left_as_it_is_and_a_long_one_ends_in_dots():
    assert release.one_line_ascii("a  b\nc", 5) == "a b c"
    assert release.one_line_ascii("abcdef", 5) == "ab..."
    assert release.one_line_ascii("#{#{x}}", 99) == "# {# {x}}"


def test_the_shell_of_the_buildspec_reads_variables_whole_and_runs_nothing(config, tmp_path):
    """The commands of prepare.buildspec.yml that follow `scarcegan release prepare`, in a real bash."""
    found = prepared(config, tmp_path / "p", gate={"reason": HOSTILE})
    release.write_release(found, tmp_path / "build")
    steps = yaml.safe_load((PROJECT / "infra/prepare.buildspec.yml").read_text())["phases"]["build"]["commands"]
    commands = [step for step in steps if "build/variables" in step]
    script = "\n".join([*commands, 'python3 -c "import json, os; print(json.dumps(dict(os.environ)))"'])
    said = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    seen = json.loads(said.stdout)
    assert {name: seen[name] for name in found.variables} == dict(found.variables)
    assert "rm -rf" in seen["SUMMARY"]


def test_what_is_written_is_what_cloudformation_takes_as_a_template_configuration(config, tmp_path):
    written = release.write_release(prepared(config, tmp_path / "p"), tmp_path / "build")
    assert [path.name for path in written] == ["staging.json", "production.json", "variables"]
    for stage in STAGES:
        template = json.loads((tmp_path / "build" / f"{stage}.json").read_text())
        assert set(template) == {"Parameters", "Tags"}
        assert template["Parameters"]["Stage"] == stage


def test_a_package_that_names_no_classes_is_refused(config, tmp_path):
    package_files(tmp_path / "p")["model/model.json"].write_text("{}")
    with pytest.raises(UserError, match="names no classes"):
        release.release_of_package(config, package(), tmp_path / "p", None, AROUND)


# -- in AWS ---------------------------------------------------------------------------------------------------------


def test_a_release_is_gathered_from_registry_toolchain_and_bundle_in_moto(session, registry, config):
    registry.approve(3)
    prepared = release.prepare_release(connection(session), registry, config, "newest", "r1")
    found = prepared.stages["production"]["Parameters"]
    assert found["ModelPackageArn"].endswith(":model-package/risky-players/3")
    assert (found["KmsKeyArn"], found["TopicArn"]) == (KEY, TOPIC)
    assert prepared.variables["VERSION"] == "3"
    assert prepared.variables["DEFINITION"] == "high_precision"
    assert prepared.variables["DIGEST"] == registry.package(3).model_digest
    assert found["RareShareCodeKey"] == "functions/rare-share-0a.zip", "as the toolchain has published it"


def test_without_a_toolchain_the_next_move_is_said_in_moto(session, registry, config):
    registry.approve(3)
    put(session, "key", KEY)
    with pytest.raises(UserError, match="no SSM parameter /risky/topic in eu-west-1: the toolchain creates it"):
        release.prepare_release(aws_client.Aws(NAMES, session), registry, config, "newest", "r1")


def test_a_model_whose_bytes_were_changed_is_not_prepared_in_moto(session, registry, config):
    registry.approve(3)
    key = f"packages/{registry.package(3).set_id}/high_precision/model.tar.gz"
    session.client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=b"other bytes")
    with pytest.raises(UserError, match=r"version 3: .*model.tar.gz has the SHA-256 .* so somebody has changed it"):
        release.prepare_release(connection(session), registry, config, "3", "r1")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            "ROLLBACK_COMPLETE",
            "ROLLBACK_COMPLETE: its creation failed.* then type: aws cloudformation delete-stack --region eu-west-1",
        ),
        (
            "UPDATE_ROLLBACK_FAILED",
            ".* then type: aws cloudformation continue-update-rollback --region eu-west-1 --stack-name",
        ),
        ("UPDATE_ROLLBACK_IN_PROGRESS", ".*being changed now"),
    ],
)
def test_a_stack_that_no_release_can_update_is_noticed_before_staging_in_moto(
    session, registry, config, stage, status, words
):
    """In a new account the first create fails for an endpoint quota of 0."""
    registry.approve(3)
    STACKS[NAMES.stack(stage)] = (status, {})
    with pytest.raises(UserError, match=rf"stack risky-{stage} is {words}"):
        release.prepare_release(connection(session), registry, config, "3", "r1")


@pytest.mark.parametrize("status", ["", "CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_a_stack_that_is_not_there_or_works_takes_a_release_in_moto(session, status):
    if status:
        STACKS["risky-production"] = (status, {})
    release.require_ready_stack(aws_client.Aws(NAMES, session), "production")


def test_a_machine_that_no_endpoint_may_have_is_refused_before_staging_in_moto(session, registry, config):
    registry.approve(3)
    name = f"/{NAMES.project}/endpoint-instance-types"
    session.client("ssm").put_parameter(Name=name, Type="StringList", Value="ml.c5.*")
    with pytest.raises(UserError, match=r"no endpoint have cloud.endpoint.instance=ml.m5.large. Choose among ml.c5.\*"):
        release.prepare_release(connection(session), registry, config, "3", "r1")


def test_the_function_beside_the_endpoint_goes_where_the_toolchains_functions_are_in_moto(session, registry, config):
    registry.approve(3)
    prepared = release.prepare_release(connection(session), registry, config, "3", "r1")
    parts = ("FunctionSubnets", "FunctionSecurityGroups")
    assert [prepared.stages["production"]["Parameters"][part] for part in parts] == ["", ""]
    network = f"/{NAMES.project}/network"
    session.client("ssm").put_parameter(Name=network, Type="String", Value="subnet-1,subnet-2 sg-1")
    prepared = release.prepare_release(connection(session), registry, config, "3", "r1")
    assert [prepared.stages["production"]["Parameters"][part] for part in parts] == ["subnet-1,subnet-2", "sg-1"]


def test_another_machine_under_automatic_scaling_is_refused_with_the_way_in_moto(session, registry, config):
    registry.approve(3)
    aws = connection(session)
    serve(session, NAMES, "production", 3, registry.arn(3), instance="ml.c5.xlarge")
    release.prepare_release(aws, registry, config, "3", "r1")  # nothing scales it
    session.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/risky-production/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=2,
        MaxCapacity=4,
    )
    words = "is ml.m5.large, but production runs on ml.c5.xlarge and scales by itself.*max_instances: 2"
    with pytest.raises(UserError, match=words):
        release.prepare_release(aws, registry, config, "3", "r1")
    serve(session, NAMES, "production", 3, registry.arn(3), mark="-same-machine")
    release.prepare_release(aws, registry, config, "3", "r1")


def test_staging_with_instances_cannot_become_serverless_and_a_release_says_how_in_moto(session, registry, config):
    registry.approve(3)
    aws = connection(session)
    endpoint = config.cloud.endpoint.model_copy(update={"serverless_staging": True})
    wanted = config.model_copy(update={"cloud": config.cloud.model_copy(update={"endpoint": endpoint})})
    release.prepare_release(aws, registry, wanted, "3", "r1")  # staging has no endpoint
    serve(session, NAMES, "staging", 3, registry.arn(3))
    release.prepare_release(aws, registry, config, "3", "r1")  # and goes on with instances
    with pytest.raises(UserError, match=r"risky-staging has instances.*delete-stack .*--stack-name risky-staging;"):
        release.prepare_release(aws, registry, wanted, "3", "r1")


def test_only_the_package_that_the_endpoint_of_production_serves_becomes_the_champion_in_moto(session, registry):
    """A published version is no proof: the endpoint itself is asked for its config, model and package."""
    for version in (2, 3):
        registry.approve(version)
    aws = connection(session)
    put(session, "production/version", "3")
    with pytest.raises(UserError, match="there is no stack 'risky-production': nothing was released to production yet"):
        release.promote_served_version(aws, registry, 3)
    serve(session, NAMES, "production", 2, registry.arn(2))
    with pytest.raises(UserError, match="the stack of production is for version 2, not 3"):
        release.promote_served_version(aws, registry, 3)
    serve(session, NAMES, "production", 3, registry.arn(2))
    with pytest.raises(UserError, match=r"endpoint risky-production serves .*/2, not .*/3 of version 3"):
        release.promote_served_version(aws, registry, 3)
    serve(session, NAMES, "production", 3, registry.arn(3), mark="-right")
    release.promote_served_version(aws, registry, 3, dry_run=True)
    assert registry.champion() is None
    for _ in range(2):  # safe to repeat
        release.promote_served_version(aws, registry, 3)
        assert registry.champion().version == 3


def test_rolling_back_starts_the_deploy_pipeline_with_that_version_stubbed(registry):
    registry.approve(2)
    request = release.rollback_request(registry, NAMES, 2)
    codepipeline = client("codepipeline")
    with Stubber(codepipeline) as stub:
        variables = [{"name": "VERSION", "value": "2"}]
        stub.add_response(
            "start_pipeline_execution", {"pipelineExecutionId": "e-1"}, {"name": "risky-deploy", "variables": variables}
        )
        assert release.start_deploy(stubbed(codepipeline=codepipeline), request) == "e-1"


def test_without_a_deploy_pipeline_the_next_move_is_said_stubbed():
    codepipeline = client("codepipeline")
    request = {"name": "risky-deploy", "variables": [{"name": "VERSION", "value": "2"}]}
    with Stubber(codepipeline) as stub:
        stub.add_client_error("start_pipeline_execution", "PipelineNotFoundException")
        with pytest.raises(UserError, match=r"no CodePipeline 'risky-deploy' .* Type: scarcegan toolchain deploy"):
            release.start_deploy(stubbed(codepipeline=codepipeline), request)


def test_the_toolchain_calls_the_pipeline_and_its_variable_as_a_roll_back_does(registry):
    registry.approve(2)
    request = release.rollback_request(registry, NAMES, 2)
    pipelines = Toolchain(TOOLCHAIN).of_type("AWS::CodePipeline::Pipeline").values()
    [variables] = [it["Variables"] for it in pipelines if it["Name"] == request["name"]]
    assert [variable["Name"] for variable in variables] == [item["name"] for item in request["variables"]]
    template = (INFRA / "toolchain.yaml").read_text()
    patterns = set(re.findall(r'Variable: "#\{variables.VERSION\}", Operator: MATCHES, Value: "(.+)"', template))
    assert patterns and all(re.search(p, value) for p in patterns for value in ("2", release.NEWEST))


# -- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture
def type_(session, registry, config, tmp_path, monkeypatch):
    """Type a verb in a project's folder, with moto for AWS; stages other than moto's are stubbed at the client."""
    monkeypatch.setenv("AWS_ACCOUNT_ID", NAMES.account)
    connection(session)
    for name in ("infra", "src", "requirements-jobs.txt"):
        (tmp_path / name).symlink_to(PROJECT / name)

    def run(*words: str):
        return CliRunner().invoke(cli.app, ["--config", str(tmp_path / "config.yaml"), "release", *words])

    return run


def test_prepare_writes_the_parameters_and_says_the_variables_in_moto(type_, registry, tmp_path):
    registry.approve(4)
    said = type_("prepare", "--version", "newest")
    assert said.exit_code == 0, said.output
    assert "VERSION=4\nDEFINITION=high_recall\nSUMMARY=Version 4 (high_recall, model " in said.stdout
    assert json.loads((tmp_path / "build/production.json").read_text())["Parameters"]["Version"] == "4"


def test_a_dry_run_writes_and_starts_nothing_in_moto(type_, registry, tmp_path, monkeypatch):
    registry.approve(4)
    monkeypatch.setattr(release, "start_deploy", lambda *_: pytest.fail("started"))
    assert "version 4 (high_recall) would be released" in type_("prepare", "--dry-run").stdout
    assert not (tmp_path / "build").exists()
    assert "risky-deploy would be started: version 4 goes to staging" in type_("--rollback", "4", "--dry-run").stdout


def test_a_version_nobody_approved_is_not_rolled_back_to_in_moto(type_, monkeypatch):
    monkeypatch.setattr(release, "start_deploy", lambda *_: pytest.fail("started"))
    assert isinstance(type_("--rollback", "4").exception, UserError)


def test_status_says_that_nothing_is_released_yet_in_moto(type_):
    said = json.loads(type_("status", "--json").stdout)
    assert [(row["stage"], row["state"]) for row in said] == [
        ("staging", "no endpoint: it has one while a release is tested (StagingRuns of the toolchain)"),
        ("production", "nothing released yet"),
    ]


@pytest.fixture
def staged(session, registry, monkeypatch):
    """Staging wants the config new of version 3; called with "old", it was rolled back behind CloudFormation's back."""
    monkeypatch.setattr(smoke, "sender_to_stage", lambda *_: image)
    registry.approve(3)
    put(session, "staging/version", "3")
    put(session, "staging/endpoint", "risky-staging")

    def put_into_service(config: str, arn: str | None = None) -> None:
        serve(session, NAMES, "staging", 3, arn or registry.arn(3), mark=f"-{config}")
        STACKS["risky-staging"] = ("UPDATE_COMPLETE", WANTED)

    return put_into_service


WANTED = {"EndpointName": "risky-staging", "EndpointConfigName": "staging-3-new", "Version": "3"}


def test_a_stage_is_smoke_tested_with_what_its_package_says_in_moto(type_, staged):
    staged("new")
    said = type_("smoke", "staging", "--version", "3")
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[:2] == [
        "risky-staging serves version 3, as expected",
        "3 users answered as JSON rows, JSON columns and CSV, alike each time; missing values are taken",
    ]
    assert json.loads(type_("status", "--json").stdout)[0]["state"] == "in service"


def test_a_stage_that_was_rolled_back_fails_its_smoke_test_in_moto(type_, staged):
    staged("old")
    assert "risky-staging was rolled back: it runs staging-3-old, wanted was staging-3-new" in str(
        type_("smoke", "staging").exception
    )
    assert "was rolled back" in json.loads(type_("status", "--json").stdout)[0]["state"]


def test_a_stage_that_serves_another_package_fails_its_smoke_test_in_moto(type_, staged, registry):
    staged("new", registry.arn(1))
    assert "risky-staging serves" in (said := str(type_("smoke", "staging").exception)) and said.count("/3 of version")


def test_a_stage_whose_model_was_changed_in_s3_fails_its_smoke_test_in_moto(type_, staged, session, registry):
    staged("new")
    key = f"packages/{registry.package(3).set_id}/high_precision/model.tar.gz"
    session.client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=b"other bytes")
    assert "has the SHA-256" in str(type_("smoke", "staging").exception)


def test_a_stage_that_is_none_is_refused(type_):
    assert str(type_("smoke", "prod").exception) == "no stage 'prod'. There are: staging, production."


def test_a_stage_is_put_under_load_in_moto(type_, staged, monkeypatch, tmp_path):
    """The endpoint is a stand-in with a clock of its own; moto's CloudWatch knows nothing of it."""
    sent, moment = [], iter(range(10**9))
    monkeypatch.setattr(load, "load_sender", lambda *_: lambda body, kind: (sent.append(body), image(body, kind))[1])
    clock = load.Clock(lambda: next(moment) / 1000, lambda: 0.0, lambda: 1_800_000_000.0, lambda seconds: None)
    monkeypatch.setattr(load, "Clock", lambda: clock)
    staged("new")
    said = type_("load", "staging", "--requests-per-second", "5")
    assert said.exit_code == 0, said.output
    assert len(sent) == 5 + 300
    assert "CloudWatch gave no ModelLatency" in said.stdout
    assert "300 requests a minute; nothing is said about the 3,000" in said.stdout
    assert (
        (tmp_path / "build/variables/LOAD").read_text().startswith("Load test of ml.m5.large, 5.0 requests/s for 60 s")
    )


def test_another_model_than_the_stacks_is_not_put_under_load_in_moto(type_, staged, monkeypatch):
    monkeypatch.setattr(load, "load_sender", lambda *_: pytest.fail("asked"))
    staged("old")
    assert "was rolled back" in str(type_("load").exception)


def test_release_alone_shows_its_verbs(type_):
    assert "--rollback VERSION" in type_().stdout


# -- the deploy pipeline's builds -----------------------------------------------------------------------------------

STAND_IN = '#!/usr/bin/env bash\n[ "$2" = pip ] || exec "$REAL" "$@"\n'  # python, but nothing is installed


@pytest.fixture
def build(session, config, tmp_path, monkeypatch):
    """Run a buildspec's commands in a project's folder, with moto's server for AWS."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/python").write_text(STAND_IN)
    (tmp_path / "tools/python").chmod(0o755)
    for name in ("infra", "src", "requirements-jobs.txt"):
        (tmp_path / name).symlink_to(PROJECT / name)
    environment = {
        "REAL": sys.executable,
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        **stack_server.environment(),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "SAGEMAKER_PROJECT_NAME": NAMES.project,
        "SAGEMAKER_PROJECT_ID": "p-1",
    }

    def run_(name: str, **variables: str) -> buildspec.Build:
        spec = PROJECT / f"infra/{name}.buildspec.yml"
        path = str(tmp_path / "tools")
        return buildspec.run(spec, tmp_path, tmp_path / f"{name}-scratch", environment | variables, path)

    yield run_
    server.stop()


def test_the_builds_prepare_and_promote_with_the_real_scarcegan_against_moto(session, registry, build):
    registry.approve(3)
    connection(session)
    prepared = build("prepare", VERSION="newest")
    assert prepared.succeeded, prepared.log
    assert prepared.exported["VERSION"] == "3"
    assert prepared.exported["DEFINITION"] == "high_precision"
    digest = registry.package(3).model_digest
    commit = code_bundle(PROJECT).digest[:12]
    assert f"with the code c0de, NOT this commit's {commit}" in prepared.exported["SUMMARY"]
    assert prepared.exported["SUMMARY"].startswith(f"Version 3 (high_precision, model {digest[:12]}): pr_auc")
    handed = prepared.artifacts["build/production.json"].read_bytes()
    assert prepared.exported["PREPARED"] == hashlib.sha256(handed).hexdigest()
    production = json.loads(handed)
    assert production["Parameters"]["Version"] == "3"
    assert production["Tags"]["sagemaker:project-id"] == "p-1"

    serve(session, NAMES, "production", 3, registry.arn(3))
    promoted = build("promote", VERSION=prepared.exported["VERSION"])
    assert promoted.succeeded, promoted.log
    assert registry.champion().version == 3


def test_a_build_fails_with_one_sentence_for_a_version_nobody_approved_against_moto(registry, build):
    prepared = build("prepare", VERSION="2")
    assert not prepared.succeeded
    assert "error: version 2 (few_unknown) is PendingManualApproval" in prepared.log
    assert "Traceback" not in prepared.log
