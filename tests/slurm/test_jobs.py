"""Jobs through a real SLURM: found again, cancelled, preempted, and lost with their node."""

import os
import signal
import subprocess

import pytest

from remit_lit.errors import ConfigError
from remit_lit.jobs.cluster import Resources
from remit_lit.jobs.job import Job
from remit_lit.jobs.scheduler import run_jobs
from remit_lit.jobs.slurm import states
from remit_lit.runs.checkpoint import all_checkpoints
from tests.slurm.watching import Watch, command, fit, run, settings, submissions, wait_until
from tests.warm import ForkedProcess

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]


def weights(job: Job) -> bytes:
    return (job.result / "model" / "model.safetensors").read_bytes()


def was_requeued(job: Job, watch: Watch) -> bool:
    """Whether it came back as the same job of SLURM's, and that was said."""
    (number,) = submissions(job)
    return f"{job.name}: back in the queue, SLURM job {number} is PENDING" in watch.text


def submit_and_wait(job: Job) -> None:
    run_jobs([job], None, print, slurm=settings(options={"begin": "now+1hour"}))


@pytest.mark.fault("kill -9 of the command that submitted jobs to SLURM", "the same command finds them in the queue")
def test_a_command_that_was_killed_finds_its_job_in_the_queue(tiny_rows, tiny_policy_dir, tmp_path):
    job = fit(tmp_path, tiny_rows, tiny_policy_dir)
    process = ForkedProcess(submit_and_wait, [job], tmp_path / "printed.txt")
    wait_until(lambda: states([job]))
    process.send_signal(signal.SIGKILL)
    process.wait()
    watch = Watch("PENDING", lambda number: command("scontrol", "update", f"jobid={number}", "starttime=now"))
    run([job], watch)
    assert job.state == "done"
    assert len(submissions(job)) == 1 and f"SLURM job {submissions(job)[0]} is PENDING (BeginTime)" in watch.text


@pytest.mark.fault("an interrupted command that submitted jobs to SLURM", "its jobs stay in the queue")
def test_an_interrupted_command_leaves_its_jobs_in_the_queue(tiny_rows, tiny_policy_dir, tmp_path):
    job = fit(tmp_path, tiny_rows, tiny_policy_dir)

    def interrupt(number: str) -> None:
        raise KeyboardInterrupt

    watch = Watch("PENDING", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run([job], watch, options={"begin": "now+1hour"})
    (number,) = submissions(job)
    assert states([job]) == {job.key: f"SLURM job {number} is PENDING (BeginTime)"}
    assert watch.lines[-1].startswith("1 jobs stay in the queue") and f"`scancel {number}`" in watch.lines[-1]
    command("scancel", number)


@pytest.mark.fault("a job of SLURM that is cancelled", "it has failed until the command is given again")
def test_a_cancelled_job_has_failed_until_the_command_is_given_again(tiny_rows, tiny_policy_dir, tmp_path):
    job = fit(tmp_path, tiny_rows, tiny_policy_dir)
    after = Job("after", job.root, "fit", job.configs, {"model.policy.path": "{base}/model"}, {"base": job})
    watch = Watch("PENDING", lambda number: command("scancel", number))
    run([after], watch, options={"begin": "now+1hour"})
    (number,) = submissions(job)
    assert {job.state, after.state} == {"failed"}
    assert job.outcome["error"].startswith(f"SLURM job {number} is CANCELLED")
    assert after.outcome["error"].startswith("needs fit-0, which failed")
    run([after], Watch())
    assert {job.state, after.state} == {"done"}


@pytest.mark.fault("a `fit` that SLURM preempts", "it goes on bit for bit")
@pytest.mark.parametrize("warning", ["signal", "preemption"])
def test_a_preempted_fit_goes_on_bit_for_bit(warning, tiny_rows, tiny_policy_dir, tmp_path):
    (tmp_path / "undisturbed").mkdir()
    undisturbed = fit(tmp_path / "undisturbed", tiny_rows, tiny_policy_dir, steps=10)
    job = fit(tmp_path, tiny_rows, tiny_policy_dir, steps=10, seconds=0.5)

    def preempt(number: str) -> None:
        wait_until(lambda: all_checkpoints(job.result / "checkpoints"))
        if warning == "signal":
            command("scancel", "--batch", "--signal=USR1", number)
        else:
            everything = f"--cpus-per-task={os.cpu_count()}"
            command("sbatch", "--partition=urgent", everything, "--output=/dev/null", "--wrap=true")

    watch = Watch("RUNNING", preempt)
    run([job], watch)
    run_jobs([undisturbed], 1, print)
    assert job.state == "done" and "Restoring states" in job.log.read_text()
    assert f"received SIG{'USR1' if warning == 'signal' else 'TERM'}" in job.log.read_text()
    assert was_requeued(job, watch)
    assert weights(job) == weights(undisturbed)


@pytest.mark.fault("a node of SLURM that dies with a job", "reported, and the job goes on")
def test_a_job_whose_node_fails_is_reported_and_goes_on(slurm, tiny_rows, tiny_policy_dir, tmp_path):
    # Longer than the node may be silent: its job runs on meanwhile, and one that ends by then is done.
    job = fit(tmp_path, tiny_rows, tiny_policy_dir, steps=60, seconds=0.5)

    def fail(number: str) -> None:
        wait_until(lambda: all_checkpoints(job.result / "checkpoints"))
        os.kill(int((slurm / "slurmd.pid").read_text()), signal.SIGKILL)
        wait_until(lambda: "down" in command("sinfo", "--noheader", "--format=%T"))
        watch.do = lambda _: subprocess.run(["slurmd"], check=True)
        watch.word = "PENDING"

    watch = Watch("RUNNING", fail)
    run([job], watch)
    assert job.state == "done" and was_requeued(job, watch)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two cores")
def test_a_fit_of_two_ranks_is_one_job(tiny_rows, tiny_policy_dir, tmp_path):
    alone = fit(tmp_path, tiny_rows, tiny_policy_dir)
    ranks = {"trainer.devices": 2, "trainer.strategy": "ddp"}
    job = Job("ranks", alone.root, "fit", alone.configs, ranks)
    run([job], Watch(), verbs={"fit": Resources(tasks=2)})
    assert job.state == "done", job.outcome
    assert "Starting with 2 processes" in job.log.read_text() and len(submissions(job)) == 1


def test_what_slurm_refuses_is_said_in_its_words(tiny_rows, tiny_policy_dir, tmp_path):
    job = fit(tmp_path, tiny_rows, tiny_policy_dir)
    with pytest.raises(ConfigError, match=r"slurm: SLURM refuses fit-0: .*invalid partition specified: nowhere"):
        run([job], Watch(), partition="nowhere")
