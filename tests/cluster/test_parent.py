"""A command as its own child: what is shown, what is told in a line, what is passed on."""

import os
import signal
import sys
import threading

import pytest

from clef_jax.cluster import parent
from clef_jax.cluster.parent import RunEnded, run_again
from clef_jax.cluster.place import Place
from tests.waiting import wait_for

PLACE = Place("node0:1234", 4, 3, None)
ERROR = "E1128 02:22:56.703462   21100 coordination_service.cc:1549] [28865] Use error polling"
FATAL = (
    "F1128 02:22:56.705087   21114 client.h:80] Terminating process because the JAX distributed "
    "service detected fatal errors. This most likely indicates that another task died"
)
UNHEALTHY = "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):"
STACK = "*** Check failure stack trace: ***\n    @     0x7f462aa40634  absl::LogMessage()\n"


@pytest.fixture
def child_runs(monkeypatch):
    """Sets the program of the child, and leaves this process's signals as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield lambda program: monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", program])
    for number, handler in before.items():
        signal.signal(number, handler)


def dying(*words):
    text = "\n".join(words)
    return f"import os, sys; sys.stderr.write({text!r}); sys.stderr.flush(); os.abort()"


@pytest.mark.parametrize(
    "words, lost",
    [
        (f"{UNHEALTHY}\n1\nThe tasks have crashed.", "process 1"),
        (f"{UNHEALTHY}\n2\n1\nThe tasks have crashed.", "processes 1, 2"),
        (
            f"{UNHEALTHY}\n/job:jax_worker/replica:0/task:12\nThe tasks have crashed.",
            "process 12",
        ),
        ("UNAVAILABLE: Socket closed", "process 0"),
        ("DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.Service/Heartbeat", "process 0"),
    ],
)
def test_who_is_lost_takes_the_place_of_the_last_words(child_runs, capfd, words, lost):
    child_runs(dying("step 7\n\r 50%|bar" + ERROR, f"{FATAL} absl::Status: {words}", STACK))
    with pytest.raises(RunEnded) as error:
        run_again(PLACE)
    assert str(error.value) == (
        f"lost {lost} of 4, so process 3 has ended too; the same command on every host resumes "
        "the run from its last checkpoint"
    )
    assert capfd.readouterr().err == "step 7\n\r 50%|bar\n"


def test_those_that_do_not_come_are_told_from_those_that_are_lost(child_runs):
    child_runs(dying(f"{FATAL}: DEADLINE_EXCEEDED", "RPC: /xla.Service/RegisterTask", STACK))
    with pytest.raises(RunEnded, match="the 4 processes .* did not all come to node0:1234 within"):
        run_again(PLACE)


def test_other_last_words_are_shown_and_the_signal_is_named(child_runs, capfd):
    child_runs(dying(ERROR, "and no more"))
    with pytest.raises(RunEnded, match="SIGABRT ended process 3 of 4"):
        run_again(PLACE)
    assert capfd.readouterr().err == f"{ERROR}\nand no more"


def test_an_error_that_a_child_survives_is_shown(child_runs, capfd, monkeypatch):
    monkeypatch.setattr(parent, "_SILENT_SECONDS", 0.2)
    child_runs(
        "import sys, time\n"
        f"print({ERROR!r}, file=sys.stderr, end='', flush=True)\n"
        "time.sleep(1)\n"
        "print('\\nstep 8', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    assert run_again(PLACE) == 7
    assert capfd.readouterr().err == f"{ERROR}\nstep 8\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_go_on_to_the_child_as_sigterm(child_runs, tmp_path, number):
    ready = tmp_path / "ready"
    child_runs(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )

    def interrupt():
        wait_for(ready.exists)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run_again(PLACE) == 5
    thread.join()


def test_a_child_knows_that_it_is_one(child_runs):
    assert not parent.is_child()
    child_runs("import os, sys; sys.exit('CLEF_JAX_IS_CHILD' in os.environ)")
    assert run_again(PLACE) == 1
