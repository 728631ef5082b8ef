"""The simulation of many machines against sums by hand and known expectations."""

import dataclasses
import math

import cluster
import pytest

PLAIN = cluster.Cluster(step_s=0.010, text_s=1e-4, exchange_bytes=27e6, bytes_per_s=1.25e9)


def test_without_stragglers_and_failures_it_is_the_sum_by_hand() -> None:
    """10 + 32 x .1 = 13.2 ms of work, and 14 messages of 27 / 8 MB at 1.25 GB/s and .5 ms."""
    slow = dataclasses.replace(PLAIN, latency_s=0.0005)
    cost = cluster.simulate(slow, machines=8, batch=256, local_steps=1, texts=25_600)
    assert cost.compute_s == pytest.approx(100 * 0.0132)
    assert cost.exchange_s == pytest.approx(100 * (14 * 0.0027 + 14 * 0.0005))
    assert cost.waiting_s == cost.failures_s == 0
    tenth = cluster.simulate(slow, machines=8, batch=256, local_steps=10, texts=25_600)
    assert tenth.compute_s == pytest.approx(cost.compute_s)
    assert tenth.exchange_s == pytest.approx(cost.exchange_s / 10)


def test_one_machine_exchanges_nothing() -> None:
    cost = cluster.simulate(PLAIN, machines=1, batch=256, local_steps=1, texts=256)
    assert cost.total_s == pytest.approx(0.0356)


@pytest.mark.parametrize("machines", [1, 8, 1000])
def test_the_slowest_of_many_is_waited_for(machines: int) -> None:
    """The largest of k exponential times has mean 1 + 1/2 + ... + 1/k; of one machine's, 1."""
    late = dataclasses.replace(PLAIN, straggling=0.2)
    cost = cluster.simulate(late, machines, batch=256, local_steps=1, texts=1e6, draws=4000)
    harmonic = sum(1 / i for i in range(1, machines + 1))
    assert cost.waiting_s / cost.compute_s == pytest.approx(0.2 * harmonic, rel=0.05)


def test_local_steps_even_out_stragglers() -> None:
    late = dataclasses.replace(PLAIN, straggling=0.2)
    each, rarely = (cluster.simulate(late, 64, 256, local, 1e6).waiting_s for local in (1, 400))
    # 400 steps' mean is near 1, its largest of 64 about 1 + 2.4 / 20.
    assert rarely == pytest.approx(each / sum(1 / i for i in range(1, 65)) * 1.12, rel=0.05)


def test_failures_cost_what_theory_says() -> None:
    """Of parts of t seconds that begin again at each failure of rate r: (e^(rt) - 1)(1/r + restart) each."""
    failing = dataclasses.replace(
        PLAIN, days_between_failures=10 * 1200 / cluster.DAY, checkpoint_s=20.0, restart_s=60.0
    )
    work = cluster.simulate(PLAIN, machines=10, batch=10, local_steps=1, texts=5e7).total_s
    cost = cluster.simulate(failing, machines=10, batch=10, local_steps=1, texts=5e7)
    parts, rate = work / 600, 1 / 1200
    assert parts > 300
    expected = parts * (math.exp(rate * 620) - 1) * (1 / rate + 60)
    assert cost.total_s == pytest.approx(expected, rel=0.06)


def test_a_job_that_never_gets_to_a_checkpoint_has_no_end() -> None:
    failing = dataclasses.replace(PLAIN, days_between_failures=10 / cluster.DAY)
    assert math.isinf(cluster.simulate(failing, machines=1, batch=10, local_steps=1, texts=1e6).total_s)


def test_the_fit_finds_the_machine_that_made_the_points() -> None:
    machine = dataclasses.replace(PLAIN, bytes_per_s=2e9)
    points = [
        dataclasses.replace(point, seconds=cluster.epoch_s(machine, point, 2, 1.5))
        for point in (
            cluster.Point(size, batch, local, 4750, 0.0)
            for size, batch, local in ((1, 256, 1), (1, 64, 1), (2, 256, 1), (2, 256, 20), (4, 256, 1))
        )
    ]
    # By hand: 19 steps of 10 + 25 ms, and half of the machine's three and a half turns.
    assert points[0].seconds == pytest.approx((19 * 0.010 + 4750 * 1e-4) * 1.25)
    found, others = cluster.fit(points, 2, 27e6)
    assert found.step_s == pytest.approx(0.010, rel=0.01)
    assert found.text_s == pytest.approx(1e-4, rel=0.01)
    assert found.bytes_per_s == pytest.approx(2e9, rel=0.01)
    assert others == pytest.approx(1.5, rel=0.02)
