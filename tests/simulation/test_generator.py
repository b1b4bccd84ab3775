"""The made-up app has the traits it promises. Bounds on shares hold for the seeds used, with room for other seeds."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nextreel.clock import DAY_MS
from nextreel.simulation import generator
from nextreel.simulation import world as laws
from nextreel.simulation.world import FIRST_DAY, FIRST_MS, N_TOPICS

WORLD = {"n_users": 2_000, "n_videos": 600, "n_rows": 30_000, "n_days": 10, "random_share": 0.3}


class World:
    """A folder as the reader of a CSV file sees it, and its truth."""

    def __init__(self, path):
        self.path = path
        logs = {kind: sorted(path.glob(f"log_{kind}_*.csv")) for kind in ("standard", "random")}
        self.files = {path.name: pd.read_csv(path) for paths in logs.values() for path in paths}
        self.standard, self.random = (
            pd.concat([self.files[path.name] for path in paths], ignore_index=True) for paths in logs.values()
        )
        self.users = pd.read_csv(path / "user_features_simulated.csv")
        self.videos = pd.read_csv(path / "video_features_basic_simulated.csv")
        self.truth = {
            name: pd.read_parquet(path / f"truth_{name}.parquet") for name in ("events", "users", "videos", "topics")
        }

    def unique(self):
        """The standard rows in the order of each user's time, without repeats."""
        rows = self.standard.drop_duplicates(["user_id", "video_id", "time_ms"])
        return rows.sort_values(["user_id", "time_ms"], kind="stable", ignore_index=True)

    def walks(self):
        """The standard rows with the topic shown and the topic before, -1 at a session's start."""
        rows = self.unique().merge(self.truth["events"].drop(columns="day"), on=["user_id", "time_ms"])
        assert len(rows) == len(self.unique())
        return rows.merge(self.truth["videos"][["video_id", "topic"]], on="video_id").sort_values(
            ["user_id", "time_ms"]
        )


@pytest.fixture(scope="module")
def build(committed, tmp_path_factory):
    built = {}

    def world(**changes):
        key = tuple(sorted(changes.items()))
        if key not in built:
            path = tmp_path_factory.mktemp("worlds") / "simulated"
            generator.write(path, generator.Params(**committed["simulate"] | WORLD | changes))
            built[key] = World(path)
        return built[key]

    return world


@pytest.fixture(scope="module")
def world(build):
    return build()


def day_of(time_ms):
    return (time_ms - FIRST_MS) // DAY_MS


def test_the_same_parameters_give_the_same_bytes(tiny_world, committed, tmp_path):
    size = {"n_users": 60, "n_videos": 150, "n_rows": 3_000, "n_days": 10}
    params = generator.Params(**committed["simulate"] | size)
    generator.write(tmp_path / "same", params)
    generator.write(tmp_path / "other", params.model_copy(update={"seed": params.seed + 1}))
    names = sorted(path.name for path in tiny_world.iterdir())
    assert len(names) == 9
    for name in names:
        assert (tmp_path / "same" / name).read_bytes() == (tiny_world / name).read_bytes()
    assert all((tmp_path / "other" / n).read_bytes() != (tiny_world / n).read_bytes() for n in names if "log" in n)


def test_how_large_the_random_log_is_moves_nothing_else(build):
    """Not a byte of the standard log, of features or of the truth but that of the random rows."""
    small, none = build(random_share=0.01), build(random_share=0.0)
    names = sorted(path.name for path in build().path.iterdir())
    assert len(names) == 9
    for name in names:
        contents = {(world.path / name).read_bytes() for world in (build(), small, none)}
        assert (len(contents) == 1) == (name not in ("log_random_4_13_to_4_17_simulated.csv", "truth_events.parquet"))
    states = [world.truth["events"] for world in (build(), small, none)]
    n = len(states[2])
    assert n == WORLD["n_rows"]
    assert all(table[:n].equals(states[2]) for table in states)


def test_a_size_stands_for_three_numbers(committed, tmp_path):
    generator.write(tmp_path / "S", generator.Params(**committed["simulate"] | WORLD | {"scale": "S"}))
    world = World(tmp_path / "S")
    assert (len(world.users), len(world.videos)) == (1_000, 10_000)
    assert 99_000 < len(world.unique()) <= 100_000


def test_the_log_has_the_rows_asked_for(world):
    pushed_out = WORLD["n_rows"] - len(world.unique())  # sessions that began before the end and ran over it
    assert 0 <= pushed_out < 0.01 * WORLD["n_rows"]
    assert len(world.random) == WORLD["n_rows"] * WORLD["random_share"]
    assert len(world.users) == WORLD["n_users"]
    assert len(world.videos) == WORLD["n_videos"]


def test_all_logged_values_are_integers(world):
    for rows in world.files.values():
        assert {dtype.kind for dtype in rows.dtypes} == {"i"}


def test_files_are_cut_at_half_time_by_day(world):
    days = {name: day_of(rows.time_ms) for name, rows in world.files.items()}
    assert {name: (day.min(), day.max()) for name, day in days.items()} == {
        "log_standard_4_08_to_4_12_simulated.csv": (0, 4),
        "log_standard_4_13_to_4_17_simulated.csv": (5, 9),
        "log_random_4_13_to_4_17_simulated.csv": (5, 9),
    }
    for rows in world.files.values():
        dates = [int((FIRST_DAY + timedelta(days=int(day))).strftime("%Y%m%d")) for day in day_of(rows.time_ms)]
        assert (rows.date == dates).all()


def test_only_the_random_log_is_marked_random(world):
    assert (world.standard.is_rand == 0).all()
    assert (world.random.is_rand == 1).all()


def test_popularity_has_a_zipf_head_and_a_long_tail(build, world):
    def shares(rows):
        views = np.sort(np.bincount(rows.video_id, minlength=WORLD["n_videos"]))[::-1]
        slope = np.polyfit(np.log(np.arange(1, 301)), np.log(views[:300]), 1)[0]
        return views[:60].sum() / views.sum(), views[300:].sum() / views.sum(), slope

    head, tail, slope = shares(world.unique())
    assert head > 0.35
    assert 0.05 < tail < 0.2
    assert -1.2 < slope < -0.6
    assert shares(build(exposure_bias=0.0).unique())[0] < 0.3


def test_watch_time_has_zeros_loops_and_missing_durations(world):
    rows = world.unique()
    known = rows[rows.duration_ms > 0]
    assert 0.05 < (known.play_time_ms > known.duration_ms).mean() < 0.3
    assert 0.05 < (rows.play_time_ms == 0).mean() < 0.2
    missing = world.videos.video_duration == 0
    assert 0.005 < missing.mean() < 0.03
    durations = world.videos.set_index("video_id").video_duration
    assert (durations[rows.video_id].to_numpy() == rows.duration_ms.to_numpy()).all()
    assert (rows.play_time_ms <= 20 * 60_000).all()


def test_click_and_long_view_follow_from_the_true_duration(world):
    rows = world.unique()
    duration = world.truth["videos"].true_duration_ms[rows.video_id].to_numpy()
    play = rows.play_time_ms.to_numpy()
    assert (rows.is_click == np.where(duration <= 7_000, play >= duration, play > 7_000)).all()
    assert (rows.long_view == np.where(duration <= 18_000, play >= duration, play >= 18_000)).all()


def test_new_videos_come_every_day_and_none_is_shown_before(world):
    upload = (pd.to_datetime(world.videos.upload_dt) - pd.Timestamp(FIRST_DAY)).dt.days
    for rows in (world.standard, world.random):
        assert (day_of(rows.time_ms).to_numpy() >= upload[rows.video_id].to_numpy()).all()
    shown = upload[world.unique().video_id.unique()]
    assert set(range(WORLD["n_days"])) <= set(shown)
    assert (upload < 0).mean() > 0.5


def test_some_users_have_many_fans(world):
    assert 0.06 < (world.users.fans_user_num >= 1_000).mean() < 0.15
    assert world.users.fans_user_num.median() < 100


def test_about_one_row_in_a_hundred_is_repeated_in_the_standard_log_alone(world):
    key = ["user_id", "video_id", "time_ms"]
    assert 0.005 < world.standard.duplicated(key).mean() < 0.015
    assert not world.random.duplicated(key).any()
    assert world.standard.groupby(key).play_time_ms.nunique().max() == 1


def test_a_users_times_strictly_increase(world):
    rows = world.unique()
    gap_ms = np.diff(rows.time_ms)[np.diff(rows.user_id) == 0]
    assert gap_ms.min() > 0
    play_ms = rows.play_time_ms.to_numpy()[:-1][np.diff(rows.user_id) == 0]
    assert (gap_ms > play_ms).all()  # a video starts when the last one has ended


def test_sessions_are_a_minute_apart(world):
    walks = world.walks()
    is_first = (walks.topic_before.to_numpy()[1:] == -1) & (np.diff(walks.user_id) == 0)
    pause_ms = np.diff(walks.time_ms) - walks.play_time_ms.to_numpy()[:-1]
    assert pause_ms[~is_first & (np.diff(walks.user_id) == 0)].max() < 2_500
    assert pause_ms[is_first].min() > 60_000


def test_most_seen_videos_are_not_shown_again(world):
    assert world.unique().duplicated(["user_id", "video_id"]).mean() < 0.1  # 0.2 if seen videos were not drawn again


def uniformity(world, rows):
    """p of a chi-square test that each day's rows are uniform over the videos uploaded by then."""
    upload = world.truth["videos"].upload_day.to_numpy()
    per_day = day_of(rows.time_ms).value_counts()
    expected = sum(n * (upload <= day) / (upload <= day).sum() for day, n in per_day.items())
    possible = expected > 0
    views = np.bincount(rows.video_id, minlength=len(upload))
    assert not views[~possible].any()
    return stats.chisquare(views[possible], expected[possible]).pvalue


def test_the_random_log_is_uniform_over_videos_and_the_standard_one_is_not(world):
    assert uniformity(world, world.random) > 0.001
    assert uniformity(world, world.unique()) < 1e-100


def test_the_random_log_is_spread_evenly_over_its_days(world):
    assert stats.chisquare(day_of(world.random.time_ms).value_counts()).pvalue > 0.001


def test_topic_before_is_the_topic_of_the_users_previous_video(world):
    walks = world.walks()
    inside = walks.topic_before.to_numpy() >= 0
    assert 0.5 < inside.mean() < 0.95
    previous = np.r_[-1, walks.topic.to_numpy()[:-1]]
    assert (walks.topic_before.to_numpy()[inside] == previous[inside]).all()
    assert (np.diff(walks.user_id.to_numpy(), prepend=-1)[inside] == 0).all()


def transitions(walks):
    inside = walks[walks.topic_before >= 0]
    counts = np.zeros((N_TOPICS, N_TOPICS))
    np.add.at(counts, (inside.topic_before, inside.topic), 1)
    return inside, counts


def test_at_strength_1_topics_follow_the_chain(build):
    world = build(sequence_strength=1.0)
    _, counts = transitions(world.walks())
    chain = np.stack(world.truth["topics"].next_probability)
    assert not counts[chain == 0].any()
    expected = chain * counts.sum(1, keepdims=True)
    statistic = ((counts - expected)[chain > 0] ** 2 / expected[chain > 0]).sum()
    assert stats.chi2.sf(statistic, (chain > 0).sum() - N_TOPICS) > 0.001


def test_at_strength_0_topics_depend_on_the_user_alone(build, world):
    def p_value(world):
        inside, counts = transitions(world.walks())
        preferences = np.stack(world.truth["users"].topic_probability)
        expected = np.zeros((N_TOPICS, N_TOPICS))
        np.add.at(expected, inside.topic_before, preferences[inside.user_id])
        enough = expected >= 5
        statistic = ((counts - expected)[enough] ** 2 / expected[enough]).sum()
        return stats.chi2.sf(statistic, enough.sum())

    assert p_value(build(sequence_strength=0.0)) > 0.001
    assert p_value(world) < 1e-100


MANY = {"n_users": 20, "n_videos": 16_000, "n_rows": 500}


def test_authors_keep_to_a_topic_and_have_five_videos(build):
    world = build(**MANY)
    videos = world.videos.merge(world.truth["videos"], on="video_id")
    by_author = videos.groupby("author_id").topic
    assert (by_author.min() == by_author.max()).all()
    assert 4.5 < len(videos) / videos.author_id.nunique() < 5.5


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_authors_share_of_quality_is_what_it_says(build, share):
    """One-way analysis of variance over some 3,200 authors: the variance within is (1 - share) of all, the one between
    share, each known to 2.5 % of all; quality itself is as normal as ever, which one video of each author tells."""
    world = build(**MANY, author_share=share)
    videos = world.videos.merge(world.truth["videos"], on="video_id")
    by_author = videos.groupby("author_id").quality
    count, mean = by_author.size().to_numpy(), by_author.mean().to_numpy()
    residual = videos.quality - by_author.transform("mean")
    within = (residual**2).sum() / (len(videos) - len(count))
    spread = (count * (mean - videos.quality.mean()) ** 2).sum() / (len(count) - 1)
    between = (spread - within) / ((len(videos) - (count**2).sum() / len(videos)) / (len(count) - 1))
    everything = laws.QUALITY**2
    assert within / everything == pytest.approx(1 - share, abs=0.05)
    assert between / everything == pytest.approx(share, abs=0.075)
    assert stats.kstest(by_author.first() / laws.QUALITY, "norm").pvalue > 0.001


def test_what_authors_are_worth_moves_no_other_draw(build):
    """But what follows from quality: popularity, and with it the log."""
    half, none = (build(**MANY, author_share=share) for share in (0.5, 0.0))
    assert half.videos.author_id.equals(none.videos.author_id)
    for name in ("users", "topics"):
        assert (half.path / f"truth_{name}.parquet").read_bytes() == (none.path / f"truth_{name}.parquet").read_bytes()
    moved = ["quality", "exposure_weight"]
    same = [world.truth["videos"].drop(columns=[*moved, "vector"]) for world in (half, none)]
    assert same[0].equals(same[1])
    assert (np.stack(half.truth["videos"].vector) == np.stack(none.truth["videos"].vector)).all()


def test_quality_is_a_mix_of_the_authors_and_the_videos_own():
    author, own = np.array([1.0, -2.0]), np.array([3.0, 0.5])
    np.testing.assert_allclose(laws.quality(author, own, 0.0), [1.5, 0.25])
    np.testing.assert_allclose(laws.quality(author, own, 1.0), [0.5, -1.0])
    np.testing.assert_allclose(laws.quality(author, own, 0.36), [0.5 * (0.6 + 2.4), 0.5 * (-1.2 + 0.4)])


def test_topic_probabilities_sum_to_one_and_mix_taste_and_chain():
    rng = np.random.default_rng(0)
    before = np.array([-1, 0, 3, N_TOPICS - 1])
    preferences = rng.dirichlet(np.ones(N_TOPICS), len(before))
    chain = rng.dirichlet(np.ones(N_TOPICS), N_TOPICS)
    for strength in (0.0, 0.3, 1.0):
        mixed = laws.topic_probability(before[:, None], preferences, chain[before], strength)
        np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(mixed[0], preferences[0])
        np.testing.assert_allclose(mixed[1:], (1 - strength) * preferences[1:] + strength * chain[before[1:]])


def test_topics_are_exposed_by_their_own_weights(build):
    """Within a topic and day, views follow `exposure_weight`, but for the redraws of seen videos: users are many."""
    world = build(n_users=20_000, n_videos=64, sequence_strength=0.0, n_days=2)
    truth = world.truth["videos"]
    rows = world.walks()
    rows = rows[day_of(rows.time_ms) == 0]
    weight = laws.exposure_weight(truth.exposure_weight.to_numpy(), truth.upload_day.to_numpy(), 0)
    per_topic = np.bincount(rows.topic, minlength=N_TOPICS)
    share = weight / np.bincount(truth.topic, weight, minlength=N_TOPICS)[truth.topic]
    expected = share * per_topic[truth.topic]
    views = np.bincount(rows.video_id, minlength=len(truth))
    assert not views[expected == 0].any()
    correlation = np.corrcoef(views, expected)[0, 1]
    assert correlation > 0.98
    assert np.corrcoef(views, per_topic[truth.topic])[0, 1] < 0.9


def test_exposure_weight_is_zero_before_upload_and_fades_after():
    weight = laws.exposure_weight(np.full(4, 2.0), np.array([6, 5, -2, -600]), 5)
    np.testing.assert_allclose(weight, [0, 2 * (0.5 + 1), 2 * (0.5 + np.exp(-1)), 2 * 0.5])


@pytest.mark.parametrize("interest", [-1.0, 0.5, 2.5])
@pytest.mark.parametrize("duration_ms", [5_000, 60_000])
def test_watch_beyond_is_the_law_that_watch_draws_from(committed, interest, duration_ms):
    """200,000 draws: the share's standard error is at most 0.0011; 0.006 is five of them and the rounding to ms."""
    n = 200_000
    params = generator.Params(**committed["simulate"])
    duration = np.array([duration_ms])
    offset, skip_ms = laws.log_wtr_offset(duration, 1.0), laws.skip_mean_ms(duration, 1.0)
    rows = {"user": np.zeros(n, int), "video": np.zeros(n, int), "before": np.full(n, -1)}
    users = {"taste": np.zeros((1, 1))}
    videos = {
        **{"vector": np.zeros((1, 1)), "quality": np.array([interest]), "topic": np.array([0])},
        **{"duration_ms": duration, "offset": offset, "skip_ms": skip_ms},
    }
    generator._watch(np.random.default_rng(7), params, rows, users, videos, {"next": np.ones((1, 1))})
    assert (rows["interest"] == interest).all()
    for threshold_ms in (-1, 0, 200, 2_000, duration_ms // 2, duration_ms, 3 * duration_ms):
        exact = laws.watch_beyond(np.array([interest]), np.array([threshold_ms]), duration, offset, skip_ms)
        assert abs((rows["play_ms"] > threshold_ms).mean() - exact[0]) < 0.006
    assert laws.watch_beyond(interest, np.inf, duration_ms, offset[0], skip_ms[0]) == 0


def test_interest_is_fit_quality_and_mood(committed):
    chain = np.array([[0.25, 0.75], [1.0, 0.0]])
    params = generator.Params(**committed["simulate"] | {"sequence_strength": 0.5})
    rows = {"user": np.array([0, 0, 1]), "video": np.array([1, 1, 0]), "before": np.array([-1, 0, 1])}
    users = {"taste": np.array([[1.0, 0.0], [0.6, 0.8]])}
    videos = {
        **{"vector": np.array([[0.0, 1.0], [1.0, 0.0]]), "quality": np.array([0.3, -0.2]), "topic": np.array([0, 1])},
        **{"duration_ms": np.array([9_000, 9_000]), "offset": np.zeros(2), "skip_ms": np.ones(2)},
    }
    generator._watch(np.random.default_rng(7), params, rows, users, videos, {"next": chain})
    fit, quality, mood = np.array([1.0, 1.0, 0.8]), np.array([-0.2, -0.2, 0.3]), np.array([0.0, 0.375, 0.5])
    np.testing.assert_allclose(rows["interest"], 2 * fit + quality + mood)


def test_more_interest_is_watched_longer():
    interest = np.linspace(-3, 3, 7)
    beyond = laws.watch_beyond(interest, np.array(5_000), np.array(20_000), np.array(-1.0), np.array(1_500.0))
    assert (np.diff(beyond) > 0).all()


def test_only_duration_bias_makes_long_videos_watched_less(build):
    """Random exposures of many videos, skips included: at strength 0 play / duration knows nothing of the duration."""

    def correlation(duration_bias):
        world = build(n_videos=3_000, n_rows=20_000, random_share=1.0, duration_bias=duration_bias)
        rows = world.random[world.random.duration_ms > 0]
        ratio = (rows.play_time_ms / rows.duration_ms).rank()
        return np.corrcoef(ratio, np.log(rows.duration_ms))[0, 1]

    assert abs(correlation(0.0)) < 0.03
    assert correlation(1.0) < -0.05
    assert correlation(2.0) < correlation(1.0) - 0.03


@pytest.mark.parametrize("small", [{"random_share": 0.0}, {"n_days": 2}], ids=str)
def test_an_empty_log_can_be_written(committed, tmp_path, small):
    size = {"n_users": 20, "n_videos": 50, "n_rows": 500, "n_days": 4}
    generator.write(tmp_path / "world", generator.Params(**committed["simulate"] | size | small))
    assert (tmp_path / "world" / "truth_topics.parquet").exists()
