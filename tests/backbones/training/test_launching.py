"""Who a process is, as torchrun and srun say; their environment variables as they set them."""

import pytest

from backbones.training.launching import Place, find_place, first_host

TORCHRUN = {
    "RANK": "9",
    "WORLD_SIZE": "16",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "8",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "mae",
}
JOB = {"SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "20", "SLURM_PROCID": "0", "SLURM_NODELIST": "gpu[03-05,9]"}
"""What a batch script finds."""
STEP = JOB | {
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "17",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2),4",
    "SLURM_STEP_NODELIST": "gpu[04-05,9]",
}


def test_a_process_is_alone_where_nobody_says_otherwise() -> None:
    assert find_place({}) == Place()


def test_torchrun_says_it() -> None:
    place = Place(9, 16, local_rank=1, local_processes=8, address="node1", port=29500, launcher="torchrun", job="mae")
    assert find_place(TORCHRUN) == place


def test_srun_says_it() -> None:
    place = Place(
        17, 20, local_rank=1, local_processes=4, address="gpu04", port=22440, launcher="srun", job="1234567.2"
    )
    assert find_place(STEP) == place


def test_jobs_of_one_machine_meet_apart() -> None:
    """Step 1 of a job and step 0 of the next had one port."""
    steps = [(job, step) for job in range(100, 110) for step in range(3)]
    ports = {find_place(STEP | {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}).port for job, step in steps}
    assert len(ports) == len(steps)


def test_a_meeting_place_that_is_given_is_kept() -> None:
    place = find_place(STEP | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    assert (place.address, place.port) == ("10.0.0.1", 4000)


def test_torchrun_started_by_srun_says_it() -> None:
    assert find_place(STEP | TORCHRUN).launcher == "torchrun"


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(JOB, id="a batch script"),
        pytest.param(JOB | {"SLURM_STEP_ID": "4294967291"}, id="the batch script's own step"),
        pytest.param(STEP | {"SLURM_NTASKS": "1"}, id="one task"),
    ],
)
def test_a_process_of_slurm_may_be_alone(environment: dict[str, str]) -> None:
    assert find_place(environment) == Place()


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("a1,b2", "a1"),
        ("node[03-05,9],other", "node03"),
        ("node[9,11-12]", "node9"),
        ("rack[0-1]node[03-05].site,rack2node1", "rack0node03.site"),
    ],
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first
