"""budget.yaml: a budget of what bills have the project's tag for, held against botocore's description of the call."""

import boto3
from botocore.validate import ParamValidator

from scarcegan.aws import toolchain
from scarcegan.aws.names import LACKING, project_tags
from scarcegan.pipeline.config import Config
from stacks import ACCOUNT, Stack

GIVEN = {"SageMakerProjectName": "rare-players", "MonthlyBudget": "300", "NotificationEmail": "ada@example.com"}


def properties():
    [found] = Stack("budget.yaml", GIVEN).of_type("AWS::Budgets::Budget").values()
    return found


def test_the_budget_is_what_aws_takes_checked_statically():
    found = properties()
    shape = boto3.client("budgets", "us-east-1").meta.service_model.operation_model("CreateBudget").input_shape
    found["ResourceTags"] = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in found["ResourceTags"]]
    assert set(found) <= set(shape.members) and set(found["Budget"]) <= set(shape.members["Budget"].members)
    assert ParamValidator().validate({"AccountId": ACCOUNT, **found}, shape).generate_report() == ""


def test_it_counts_what_has_the_projects_tag_and_tells_before_and_when_it_is_spent():
    """The form of a filter by tag: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_Budget.html"""
    found = properties()
    config = Config.model_validate({"project": {"name": "rare-players"}})
    name = project_tags(config)["sagemaker:project-name"]
    assert found["Budget"]["CostFilters"] == {"TagKeyValue": [f"user:sagemaker:project-name${name}"]}
    assert {key: found["Budget"][key] for key in ("BudgetName", "BudgetType", "TimeUnit", "BudgetLimit")} == {
        "BudgetName": "rare-players-month",
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": GIVEN["MonthlyBudget"], "Unit": "USD"},
    }
    told = [
        (one["Notification"]["NotificationType"], one["Notification"]["Threshold"])
        for one in found["NotificationsWithSubscribers"]
    ]
    assert told == [("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]
    for one in found["NotificationsWithSubscribers"]:
        compared = (one["Notification"]["ComparisonOperator"], one["Notification"]["ThresholdType"])
        assert compared == ("GREATER_THAN", "PERCENTAGE")
        assert one["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": "ada@example.com"}]


def test_no_region_loses_the_toolchain_for_want_of_budgets():
    assert "eu-north-1" in LACKING["AWS::Budgets::Budget"] and "us-east-1" not in LACKING["AWS::Budgets::Budget"]
    assert "budget" not in (*toolchain.STACKS, *toolchain.LATER_STACKS)
