"""`parrot doctor`: Slurm's controller, partitions, resources and accounting."""

import getpass

import pytest

from parrot.cluster.doctor import slurm as cluster
from parrot.cluster.doctor.finding import Finding, execute, listed
from parrot.cluster.doctor.requests import Request, fit, requests
from parrot.cluster.doctor.submission import check_account, check_status, check_submission
from parrot.cluster.jobs import Job
from tests.helpers.fake_slurm import FakeSlurm

REQUEST = Request(
    rule="tune", partition="", nodes=1, gpus=8, gpu_model="", cpus=16, memory=400000, minutes=2880, account="", qos=""
)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", fake.path)
    return fake


def lines(findings):
    return [str(finding) for finding in findings]


def fitted(partition="gpu", **changes):
    request = Request(**{**vars(REQUEST), **changes})
    return lines(fit(request, cluster.named(partition, cluster.partitions())))


def test_a_finding_is_one_line():
    finding = Finding("failed", "slurm", "two\nlines", "do this")
    assert str(finding) == "failed   slurm       two lines; do this"
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"


def test_a_command_that_hangs_is_left_behind():
    answer = execute("sleep", "60", seconds=0.1)
    assert (answer.code, answer.why) == (None, "it did not answer in time")


def test_a_command_that_is_missing_is_said_so():
    assert execute("no-such-command").why == "no-such-command: No such file or directory"


def test_controller(slurm):
    assert str(cluster.controller()) == "ok       slurm       the controller on head answers"


def test_controller_that_is_down(slurm):
    slurm.says("scontrol", "Slurmctld(primary) at head is DOWN", code=1)
    assert str(cluster.controller()) == (
        "failed   slurm       the controller does not respond: Slurmctld(primary) at head is DOWN; "
        "ask the cluster's administrators"
    )


def test_no_slurm_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(cluster.controller()) == (
        "failed   slurm       no sbatch, srun, scontrol, sinfo, squeue, scancel on PATH; "
        "start on a node that can submit jobs"
    )


def test_partitions(slurm):
    known = cluster.partitions()
    assert lines(cluster.check_partitions(["", "small", "gpu,small"], known)) == [
        "ok       partition   gpu, the default: up, 2 of 3 nodes usable",
        "ok       partition   gpu: up, 2 of 3 nodes usable",
        "ok       partition   small: up, 2 of 2 nodes usable",
    ]
    assert [node.gpus for node in known["small"].nodes] == [{"a100": 2, "1g.10gb": 7}, {"h100": 8}]


def test_partition_that_is_not_there(slurm):
    assert lines(cluster.check_partitions(["gpuu"], cluster.partitions())) == [
        "failed   partition   gpuu: no such partition; there are gpu, small, closed; "
        "name one of them: slurm_partition in the profile's default-resources or set-resources"
    ]


def test_partition_that_is_not_up(slurm):
    assert lines(cluster.check_partitions(["closed"], cluster.partitions())) == [
        "failed   partition   closed: not up; "
        "name another: slurm_partition in the profile's default-resources or set-resources, or wait"
    ]


def test_no_partition_named_and_no_default(slurm):
    slurm.says("sinfo", "small|up|infinite|old1|old1|idle|8|64000|(null)")
    assert lines(cluster.check_partitions([""], cluster.partitions())) == [
        "failed   partition   none named, and the cluster has no default; "
        "name one: slurm_partition in the profile's default-resources or set-resources"
    ]


@pytest.mark.parametrize(
    ("limit", "minutes"), [("infinite", None), ("2-00:00:00", 2880), ("1:30:00", 90), ("30:00", 30), ("n/a", None)]
)
def test_time_limits(limit, minutes):
    assert cluster.minutes(limit) == minutes


def test_what_each_kind_of_job_asks_for():
    """By the resources' names of the rules and of Slurm's plugin; GPUs and memory are a node's."""
    two_nodes = {"nodes": 2, "gres": "gpu:h100:8", "mem_mb": 400000, "runtime": 1440}
    places = {"slurm_partition": "gpu,small", "slurm_account": "lab", "constraint": "ib"}
    one_node = {"gpu": 4, "gpu_model": "a100", "qos": "long", "runtime": 60, "mem_mb": 8000}
    jobs = [
        Job("align", "0a", threads=16, resources=two_nodes | places),
        Job("score", "parrot", resources={"runtime": 60, "mem_mb": 8000}),
        Job("fetch", "0b", is_local=True, resources={"runtime": 720, "mem_mb": 2000}),
        Job("predict", "parrot", threads=2, resources=one_node),
        Job("predict", "english", threads=2, resources=one_node),
    ]
    assert requests(jobs, "") == [
        Request("align", "gpu,small", 2, 8, "h100", 16, 400000, 1440, "lab", "", "ib"),
        Request("score", "", 1, 0, "", 1, 8000, 60, "", ""),
        Request("predict", "", 1, 4, "a100", 2, 8000, 60, "", "long"),
    ]
    assert {request.qos for request in requests(jobs, "short")} == {"short"}


def test_what_fits(slurm):
    assert fitted() == ["ok       resources   tune: 8 GPUs, 16 cores, 400000 MB for 48 h; 3 nodes have that"]
    assert fitted(rule="score", gpus=0, cpus=1, memory=2000, minutes=45, nodes=2, gpu_model="h100") == [
        "ok       resources   score: 2 nodes with 1 core, 2000 MB for 45 min; 3 nodes have that"
    ]


def test_too_much_of_everything(slurm):
    assert fitted(gpus=16, cpus=64, memory=800000, nodes=4, minutes=4320) == [
        "failed   resources   tune: requests 16 GPUs per node, partition gpu has at most 8; "
        "lower hardware.gpus, or name another partition",
        "failed   resources   tune: requests 64 cores per node, partition gpu has at most 32; "
        "lower hardware.threads, or name another partition",
        "failed   resources   tune: requests 800000 MB of memory per node, partition gpu has at most 500000; "
        "lower set-resources: tune: mem_mb, or name another partition",
        "failed   resources   tune: requests 4 nodes, partition gpu has 3; "
        "lower hardware.nodes, or name another partition",
        "failed   resources   tune: requests 72 h, partition gpu allows at most 48 h; "
        "lower set-resources: tune: runtime (a stopped training resumes from its checkpoint)",
    ]


def test_unknown_gpu_model(slurm):
    assert fitted(gpu_model="h200") == [
        "failed   resources   tune: GPU model h200 is not known on partition gpu, which has h100; "
        "hardware.gpu_model: name one of them, or leave it out and choose nodes by `constraint` in the profile"
    ]


def test_unknown_gpu_model_where_no_known_one_can_be_named(slurm):
    slurm.says("sinfo", "gpu*|up|infinite|gpu1|gpu1|idle|32|500000|gpu:nvidia_a100-sxm4-80gb:8")
    assert fitted(gpu_model="a100") == [
        "failed   resources   tune: GPU model a100 is not known on partition gpu, which has nvidia_a100-sxm4-80gb; "
        "hardware.gpu_model: leave it out and choose nodes by `constraint` in the profile"
    ]


def test_too_few_gpus_of_a_model(slurm):
    assert fitted("small", gpu_model="a100", gpus=4, minutes=60) == [
        "failed   resources   tune: requests 4 a100 GPUs per node, partition small has at most 2; "
        "lower hardware.gpus, or name another partition"
    ]


def test_no_node_has_all_of_it(slurm):
    assert fitted("small", gpus=7, gpu_model="1g.10gb", cpus=16, memory=1000, minutes=60) == [
        "failed   resources   tune: 7 1g.10gb GPUs, 16 cores, 1000 MB for 1 h; of partition small 0 nodes have "
        "all of that; request less of the scarce resources, or fewer nodes"
    ]


def test_nodes_that_are_away_make_jobs_wait(slurm):
    assert fitted(nodes=3) == [
        "warning  resources   tune: 3 nodes with 8 GPUs, 16 cores, 400000 MB for 48 h; of partition gpu 3 nodes have "
        "that, 2 of them usable; jobs wait until more are available (sinfo -R shows why they are not)"
    ]


def test_what_slurm_takes(slurm, tmp_path):
    slurm.runs(
        "sbatch", f'echo "$@" >> {tmp_path}/asked; echo "sbatch: Job 1 to start at 2026-01-$((10 + $#)) using" >&2'
    )
    score = Request(**{**vars(REQUEST), "gpus": 0, "minutes": 0, "partition": "small", "account": "lab", "qos": "long"})
    assert lines(check_submission([REQUEST, score])) == [
        "ok       submission  Slurm accepts each of these; the last would start at 2026-01-20"
    ]
    size = "--test-only --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=16 --mem=400000"
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"{size} --gres=gpu:8 --time=2880 --wrap=true",
        f"{size} --partition=small --account=lab --qos=long --wrap=true",
    ]


def test_what_slurm_refuses(slurm):
    slurm.says("sbatch", error="allocation failure: Job violates accounting/QOS policy", code=1)
    assert lines(check_submission([REQUEST])) == [
        "failed   submission  tune: Slurm rejects it: allocation failure: Job violates accounting/QOS policy; "
        "correct the profile, or ask the cluster's administrators"
    ]


def test_account_without_accounting(slurm):
    asked = [REQUEST, Request(**{**vars(REQUEST), "account": "mine", "qos": "long"})]
    assert lines(check_account(asked)) == [
        "ok       account     none named, and no accounting that requires one",
        "warning  account     account mine, qos long: cannot be checked, accounting does not answer; "
        "try: srun --account=... --qos=... true",
    ]


@pytest.mark.parametrize(
    ("account", "qos", "line"),
    [
        ("Lab", "long", "ok       account     Lab, qos long"),
        ("", "", "ok       account     none named, the default of guests, lab"),
        (
            "labs",
            "",
            "failed   account     labs: not one of your accounts, which are guests, lab; "
            "name one of them: slurm_account in the profile's default-resources",
        ),
        (
            "guests",
            "long",
            "failed   account     qos long: not one of yours for this account, which are normal; "
            "name one of them in the profile",
        ),
    ],
)
def test_account(slurm, account, qos, line):
    slurm.says("sacctmgr", "lab|normal,long\nguests|normal")
    asked = [Request(**{**vars(REQUEST), "account": account, "qos": qos})]
    assert lines(check_account(asked)) == [line]


def test_no_account_at_all(slurm):
    slurm.says("sacctmgr", "")
    assert lines(check_account([REQUEST])) == [
        f"warning  account     accounting knows no account of {getpass.getuser()}; "
        "ask the cluster's administrators for one, unless jobs need none"
    ]


def test_status_command_without_accounting(slurm):
    assert str(check_status({})) == (
        "failed   status      slurm-status-command: sacct, as the profile names none, but accounting does not answer; "
        "set slurm-status-command: squeue"
    )
    assert str(check_status({"slurm-status-command": "squeue"})) == (
        "ok       status      slurm-status-command: squeue; accounting does not answer"
    )


def test_status_command_with_accounting(slurm):
    slurm.says("sacct", "")
    assert str(check_status({"slurm-status-command": "sacct"})) == (
        "ok       status      slurm-status-command: sacct; accounting answers"
    )


def test_squeue_that_forgets_jobs_too_soon(slurm):
    slurm.says("scontrol", "MinJobAge               = 60 sec")
    assert str(check_status({"slurm-status-command": "squeue"})) == (
        "warning  status      slurm-status-command: squeue, which forgets a finished job after 60 s; "
        "request a longer MinJobAge, or lower slurm-init-seconds-before-status-checks"
    )
    shorter = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 5}
    assert check_status(shorter).status == "ok"
