import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.load_test.plan import SECOND
from orchestration.load_test.plot import points
from orchestration.load_test.recorder import MAX_INTERVALS, Recorder, Timeline


@given(st.lists(st.integers(0, 3600 * SECOND), min_size=1, max_size=50))
def test_a_timeline_loses_nothing_and_stays_short_however_long_it_lasts(times: list[int]) -> None:
    timeline = Timeline()
    for time in times:
        timeline.at(time).latency.record(time)
    assert len(timeline.intervals) <= MAX_INTERVALS
    assert sum(i.latency.count for i in timeline.intervals) == len(times)
    for number, interval in enumerate(timeline.intervals):
        if interval.latency.count:
            assert interval.latency.least // timeline.width == number
            assert interval.latency.most // timeline.width == number


def test_the_warm_up_is_not_counted() -> None:
    recorder = Recorder()
    recorder.start = 1000
    recorder.sent(999, 1001, 50)
    recorder.answered(999, 2000, 200, "1", 10)
    recorder.failed(999, 2000, "timeout")
    assert (recorder.finished, recorder.bytes_sent, recorder.waited.count) == (0, 0, 0)
    recorder.sent(1000, 1001, 50)
    recorder.answered(1000, 2000, 200, "1", 10)
    assert (recorder.finished, recorder.bytes_sent, recorder.bytes_received) == (1, 50, 10)
    assert (recorder.latency.least, recorder.waited.least) == (1000, 1)


def test_only_successful_answers_have_a_latency() -> None:
    recorder = Recorder()
    recorder.answered(0, 5, 503, "1", 10)
    recorder.answered(0, 7, 200, "", 10)
    recorder.failed(0, 9, "timeout")
    assert (recorder.latency.count, recorder.latency.most) == (1, 7)
    assert recorder.versions == {"unknown": 1}
    assert recorder.timeline.intervals[0].failed == 2


def test_the_last_point_lasts_until_the_end_of_the_load() -> None:
    timeline = Timeline()
    for quarter in range(4):
        timeline.at(quarter * SECOND // 4).latency.record(1)
    found = points(timeline, 0.95)
    assert [point.at for point in found] == pytest.approx([0.125, 0.375, 0.625, 0.85])
    assert [point.seconds for point in found] == pytest.approx([0.25, 0.25, 0.25, 0.2])
    assert points(Timeline(), 0) == []
