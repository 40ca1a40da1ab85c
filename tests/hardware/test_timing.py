"""Timing in turn: who is called how often, and what is made of the durations."""

from clef_jax.hardware.timing import Times, interleaved


def test_candidates_take_turns_and_slow_ones_are_given_up_after_three_rounds(monkeypatch):
    now, called = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def candidate(name, seconds):
        def run():
            called.append(name)
            now[0] += seconds

        return run

    found = interleaved(
        {"quick": candidate("quick", 1.0), "slow": candidate("slow", 4.0)}, rounds=5, give_up=2.0
    )
    assert called == ["quick", "slow"] * 3 + ["quick"] * 2
    assert found == {"quick": Times(1.0, 1.0, 0.0, 5), "slow": Times(4.0, 4.0, 0.0, 3)}
