"""Who a process is, as torchrun and srun say; their environment variables as they set them."""

import pytest

from backbones.errors import InputError
from backbones.training.launching import Place, find_place, first_host, require_place

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


def test_a_step_tells_its_own_number_of_tasks() -> None:
    """That of the job came first, and where it had none, each process ran alone."""
    own = STEP | {"SLURM_STEP_NUM_TASKS": "20"}
    assert find_place({name: value for name, value in own.items() if name != "SLURM_NTASKS"}) == find_place(STEP)
    assert find_place(own | {"SLURM_NTASKS": "32"}).processes == 20
    assert find_place(STEP | {"SLURM_STEP_NUM_TASKS": "1"}) == Place()


def test_what_is_empty_is_not_set() -> None:
    assert require_place({"WORLD_SIZE": "", "RANK": ""}) == Place()
    assert find_place(STEP | {"WORLD_SIZE": "", "MASTER_ADDR": "", "MASTER_PORT": ""}) == find_place(STEP)
    assert require_place({"WORLD_SIZE": "1", "RANK": "", "MASTER_PORT": ""}).rank == 0


def test_the_number_of_a_machines_processes_may_be_left_out() -> None:
    """Launchers of MPI's do, and say which of them each is."""
    place = find_place({name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"})
    assert (place.local_rank, place.local_processes) == (1, 2)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE: 'two', expected a whole number of 1 or more"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, "WORLD_SIZE: '0', expected"),
        (TORCHRUN | {"RANK": "16"}, "RANK: '16', expected a whole number from 0 to 15"),
        (TORCHRUN | {"RANK": "-1"}, "RANK: '-1', expected"),
        ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK: '1', expected a whole number 0"),
        (TORCHRUN | {"LOCAL_RANK": "8"}, "LOCAL_RANK: '8', expected a whole number from 0 to 7"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "17"}, "LOCAL_WORLD_SIZE: '17', expected a whole number from 1 to 16"),
        (TORCHRUN | {"MASTER_PORT": "abc"}, "MASTER_PORT: 'abc', expected a whole number from 0 to 65535"),
        (TORCHRUN | {"MASTER_PORT": ""}, "MASTER_PORT: not set, and WORLD_SIZE is 16"),
        (TORCHRUN | {"MASTER_ADDR": ""}, "MASTER_ADDR: not set"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK: not set"),
        (STEP | {"SLURM_NTASKS": "20(x2)"}, r"SLURM_NTASKS: '20\(x2\)', expected"),
        (STEP | {"SLURM_PROCID": "20"}, "SLURM_PROCID: '20', expected a whole number from 0 to 19"),
        (STEP | {"SLURM_PROCID": ""}, "SLURM_PROCID: not set, in a step of 20 tasks"),
        (STEP | {"SLURM_LOCALID": "4"}, "SLURM_LOCALID: '4', expected a whole number from 0 to 3"),
        (STEP | {"MASTER_PORT": "70000"}, "MASTER_PORT: '70000', expected"),
    ],
)
def test_what_a_launcher_cannot_have_set_is_refused(environment: dict[str, str], message: str) -> None:
    """It ended in a traceback, or in processes that waited for one another for a quarter of an hour."""
    with pytest.raises(InputError, match=f"^environment variable {message}.*unset WORLD_SIZE and SLURM_STEP_ID"):
        require_place(environment)


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
