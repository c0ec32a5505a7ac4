"""The VPC endpoints that are needed, and what is in the VPC.

moto plays EC2. Which services are called is read off the code.
"""

import re

import boto3
import pytest
from moto import mock_aws

import authorization
import every_template
import needed_rights
import stacks as templates
from canned_aws import NAMES, connected
from scarcegan.aws import vpc
from scarcegan.aws.client import Aws
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL
from scarcegan.pipeline.config import Config

ROOT = templates.INFRA.parent
SOURCE = ROOT / "src" / "scarcegan"
EVERYTHING = every_template.everything("everything on")
CALLED = re.compile(r"\.client\(\s*\"([\w-]+)\"")


def settings(**cloud):
    return Config.model_validate({"cloud": cloud})


def needed(values=None, **cloud):
    return vpc.needed_endpoints(settings(**cloud), values or {})


# -- what is needed -------------------------------------------------------------------------------------------------


def test_without_a_vpc_nothing_is_asked_and_nothing_is_said():
    aws, session = connected({})
    assert list(vpc.vpc_findings(aws, Config(), {})) == [] and session.made == []


def test_jobs_and_endpoints_need_s3_alone():
    found = needed(subnets=["subnet-1"], security_groups=["sg-1"])
    assert {end for end, callers in found.items() if {"jobs", "endpoints"} & set(callers)} == {"s3"}


def test_jobs_that_log_to_mlflow_need_its_endpoints_too():
    app = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-app/app-1"
    found = needed(subnets=["subnet-1"], security_groups=["sg-1"], mlflow_app=app, network_isolation=False)
    assert {end for end, callers in found.items() if "jobs" in callers} == {"s3", "sagemaker.api", "experiments"}


def test_builds_need_an_endpoint_for_each_service_that_their_verbs_call():
    """Statically: the verbs of the buildspecs are upsert, start and release; logs are those of CodeBuild itself."""
    files = [*(SOURCE / "release").glob("*.py"), *(SOURCE / "registry" / "sagemaker").glob("*.py")]
    files += [SOURCE / "aws" / "client.py", SOURCE / "aws" / "storage.py"]
    files += [path for path in (SOURCE / "sagemaker").glob("*.py") if path.name != "executions.py"]
    called = {service for path in files for service in CALLED.findall(path.read_text(encoding="utf-8"))}
    assert "sagemaker" in called and called <= set(vpc.BUILDS)


def test_functions_need_an_endpoint_for_each_service_that_they_call():
    """Statically: infra/lambdas, and what the register function imports."""
    lambdas = ROOT / "infra" / "lambdas"
    files = [path for path in lambdas.glob("*.py") if path.name != "rare_share.py"]
    files += [*(SOURCE / "registry" / "sagemaker").glob("*.py")]
    files += [SOURCE / "sagemaker" / "register_function.py", SOURCE / "aws" / "storage.py"]
    called = {service for path in files for service in CALLED.findall(path.read_text(encoding="utf-8"))}
    assert "s3" in called and called <= set(vpc.FUNCTIONS)
    beside = set(CALLED.findall((lambdas / "rare_share.py").read_text(encoding="utf-8")))
    assert beside == set(vpc.BESIDE_ENDPOINTS)


def called_in(actions):
    """The services of boto3 that actions of IAM are calls of. Some a service makes by itself, or nobody: PassRole."""
    by_itself = {"iam", "kms", "ec2"}
    services = {action.partition(":")[0] for action in actions} - by_itself
    return services | {"sagemaker-runtime" for action in actions if action == "sagemaker:InvokeEndpoint"}


def test_builds_and_functions_need_an_endpoint_for_each_service_that_they_were_recorded_to_call():
    verbs = {verb for _, _, spec in needed_rights.builds(EVERYTHING) for verb in needed_rights.verbs_of(spec)}
    recorded = {need.split()[0] for verb in verbs for need in needed_rights.recorded(verb)}
    assert "sagemaker-runtime" in called_in(recorded) <= set(vpc.BUILDS)
    for function, services in (
        ("check-approval", vpc.FUNCTIONS),
        ("register", vpc.FUNCTIONS),
        ("rare-share", vpc.BESIDE_ENDPOINTS),
    ):
        calls = {need.split()[0] for need in needed_rights.recorded(f"function {function}")}
        assert calls and called_in(calls) <= set(services), function


@pytest.mark.parametrize(
    ("variant", "connection"),
    [
        ("everything on", "arn:aws:codeconnections:eu-west-1:123456789012:connection/1"),
        ("updates on CodeCommit", ""),
    ],
)
def test_the_build_of_updates_needs_an_endpoint_for_each_service_that_its_role_may_call(variant, connection):
    values = {"VpcId": "vpc-1", "UpdateSchedule": "rate(7 days)", "ConnectionArn": connection}
    ends = {end for end, callers in vpc.needed_endpoints(settings(), values).items() if "updates" in callers}
    statements = every_template.everything(variant).roles.statements("update")
    called = called_in(authorization.allowed_actions(statements)) - {"codestar-connections"}  # as the ARN has it
    assert "sns" in called and {vpc.ENDPOINTS[service] for service in called} <= ends
    assert ("git-codecommit" in ends) == (not connection)


def test_an_older_connection_has_an_endpoint_of_its_own_and_without_updates_none_is_needed():
    older = "arn:aws:codestar-connections:eu-west-1:123456789012:connection/1"
    assert "codestar-connections.api" in needed({"VpcId": "vpc-1", "UpdateSchedule": "x", "ConnectionArn": older})
    assert not {"sns", "codestar-connections.api"} & set(needed({"VpcId": "vpc-1", "ConnectionArn": older}))


def test_all_functions_of_a_toolchain_in_a_vpc_are_there_and_jobs_and_endpoints_as_config_yaml_says():
    found = needed({"VpcId": "vpc-1"})
    assert {end for end, callers in found.items() if "functions" in callers} == {
        "s3",
        "sagemaker.api",
        "ssm",
        "sts",
        "codepipeline",
    }
    assert {end for end, callers in found.items() if "functions beside endpoints" in callers} == {"s3", "monitoring"}
    assert needed(subnets=["subnet-1"], security_groups=["sg-1"]) == {"s3": ["jobs", "endpoints"]}


# -- what is there --------------------------------------------------------------------------------------------------


@pytest.fixture
def network(monkeypatch):
    """A VPC of moto's with a subnet and a security group."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield Network()


class Network:
    def __init__(self):
        self.ec2 = boto3.client("ec2", region_name=NAMES.region)
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnet = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        self.group = self.ec2.create_security_group(GroupName="g", Description="g", VpcId=self.vpc)["GroupId"]
        self.table = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])["RouteTables"][
            0
        ]["RouteTableId"]

    def add_endpoint(self, end, kind="Interface", **options):
        name = f"com.amazonaws.{NAMES.region}.{end}"
        self.ec2.create_vpc_endpoint(VpcId=self.vpc, ServiceName=name, VpcEndpointType=kind, **options)

    def findings(self, **changes):
        values = {"VpcId": self.vpc, "SubnetIds": self.subnet, "SecurityGroupIds": self.group, **changes}
        aws = Aws(NAMES, boto3.Session(region_name=NAMES.region))
        return {finding.check: finding for finding in vpc.vpc_findings(aws, Config(), values)}


def test_subnets_and_groups_that_are_in_the_vpc_are_ok(network):
    found = network.findings()
    assert (found["subnets"].state, found["security groups"].state) == (OK, OK)


def test_a_subnet_that_does_not_exist_and_one_of_another_vpc_are_named(network):
    other = network.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = network.ec2.create_subnet(VpcId=other, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    found = network.findings(SubnetIds=subnet)
    assert (
        found["subnets"].state == WOULD_FAIL and f"{subnet} in {other}, not in {network.vpc}" in found["subnets"].found
    )
    found = network.findings(SubnetIds="subnet-0123456789abcdef0")
    assert found["subnets"].found == "there is no subnet-0123456789abcdef0"


def test_an_endpoint_that_is_missing_would_fail_with_the_command_that_makes_it(network):
    found = network.findings()
    assert found["VPC endpoint sagemaker.api"].state == WOULD_FAIL
    assert "--service-name com.amazonaws.eu-west-1.sagemaker.api --vpc-endpoint-type Interface" in (
        found["VPC endpoint sagemaker.api"].fix
    )
    assert found["VPC endpoint s3"].fix.endswith("--vpc-endpoint-type Gateway --route-table-ids rtb-…")
    assert found["builds"].state == WARNING and "mirror of PyPI" in found["builds"].fix


def test_an_endpoint_that_is_there_is_ok(network):
    network.add_endpoint("s3", "Gateway", RouteTableIds=[network.table])
    network.add_endpoint("ssm", PrivateDnsEnabled=True, SubnetIds=[network.subnet])
    found = network.findings()
    assert found["VPC endpoint s3"].state == OK and found["VPC endpoint ssm"].state == OK
    assert found["VPC endpoint sts"].state == WOULD_FAIL


def test_an_interface_without_private_dns_is_used_by_nothing(network):
    network.add_endpoint("ssm", PrivateDnsEnabled=False, SubnetIds=[network.subnet])
    assert network.findings()["VPC endpoint ssm"].state == WARNING


def test_subnets_with_a_nat_gateway_need_no_endpoints_and_an_internet_gateway_is_no_way_out(network):
    gateway = network.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    network.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    everywhere = {"RouteTableId": network.table, "DestinationCidrBlock": "0.0.0.0/0"}
    network.ec2.create_route(**everywhere, GatewayId=gateway)
    assert network.findings()["VPC endpoint sts"].state == WOULD_FAIL
    nat = network.ec2.create_nat_gateway(SubnetId=network.subnet, ConnectivityType="private")
    network.ec2.replace_route(**everywhere, NatGatewayId=nat["NatGateway"]["NatGatewayId"])
    found = network.findings()
    assert found["VPC endpoint sts"].state == OK and "builds" not in found


def test_builds_without_a_way_out_have_the_mirror_that_they_were_given(network):
    found = network.findings(PackageIndexUrl="https://packages.example.com/simple/")["builds"]
    assert found.state == COULD_NOT_LOOK
    assert "download packages from https://packages.example.com/simple/" in found.found
    assert "https://packages.example.com/simple/" in found.fix
    assert "PackageIndexUrl" in network.findings()["builds"].fix


@pytest.mark.parametrize(
    ("route", "leads_out"),
    [
        ({"NatGatewayId": "nat-1"}, True),
        ({"TransitGatewayId": "tgw-1"}, True),
        ({"GatewayId": "vgw-1"}, True),
        ({"GatewayId": "igw-1"}, False),
        ({"VpcPeeringConnectionId": "pcx-1"}, False),  # nothing behind a peering is reached through it
        ({"NatGatewayId": "nat-1", "State": "blackhole"}, False),  # the gateway was deleted
    ],
)
def test_a_way_to_the_internet_is_a_route_that_is_active_and_goes_on_behind_its_end(route, leads_out):
    everywhere = {"DestinationCidrBlock": "0.0.0.0/0", "State": "active", **route}
    tables = [{"Associations": [{"Main": True}], "Routes": [everywhere]}]
    assert vpc.reach_the_internet(tables, ["subnet-1"]) is leads_out


def test_in_china_a_name_counts_whatever_it_begins_with():
    there = [
        {
            "ServiceName": "cn.com.amazonaws.cn-north-1.sts",
            "State": "available",
            "VpcEndpointId": "vpce-1",
            "VpcEndpointType": "Interface",
            "PrivateDnsEnabled": True,
        }
    ]
    found = list(vpc.endpoint_findings("cn-north-1", "vpc-1", {"sts": ["builds"], "ssm": ["builds"]}, there, False))
    assert [finding.state for finding in found] == [OK, WOULD_FAIL] and "some begin with cn." in found[1].fix


def test_a_service_that_is_called_is_in_the_list_of_endpoints():
    listed = {*vpc.BUILDS, *vpc.UPDATES, *vpc.FUNCTIONS, *vpc.BESIDE_ENDPOINTS, *vpc.JOBS_AND_ENDPOINTS, *vpc.TRACKING}
    listed |= {*vpc.repository_services(""), "codeconnections", "codestar-connections"}
    assert listed == set(vpc.ENDPOINTS)
