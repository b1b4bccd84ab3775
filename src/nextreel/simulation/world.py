"""The laws of the simulated app, stated once for the generator and for the oracle.

- A user has a taste (a unit vector) and prefers the topics whose centroid lies near it. A session walks over topics:
  with probability `sequence_strength` the next topic follows from the last one (a directed, user-independent chain),
  else it is drawn from the user's preferences. At strength 0 order carries nothing.
- The policy exposes a video of that topic in proportion to its Zipf weight to the power `exposure_bias`, times its
  freshness. New videos appear every day. Most videos that a user has seen are not shown again.
- An author keeps to one topic; there is about one for every five videos. `author_share` of the variance of a video's
  quality is its author's, the rest its own; quality is normal and spreads as far at any share. Popularity rests on it.
- Interest = taste . vector + quality + mood (a video that continues the session's chain is liked better). The higher
  it is, the rarer a skip and the larger the share watched; `duration_bias` lowers that share for long videos. At
  strength 0 the law of play / duration does not depend on the duration.
"""

from datetime import date
from pathlib import Path

import numpy as np
from scipy.special import expit, log_ndtr

from nextreel.clock import DAY_MS, UTC8_MS

FOLDER = Path("data/raw/simulated")  # where `dvc repro` writes its log
FIRST_DAY = date(2022, 4, 8)
FIRST_MS = (FIRST_DAY - date(1970, 1, 1)).days * DAY_MS - UTC8_MS

# The frozen constants of the world; EXPERIMENTS.md has the dates. Strengths that a study varies are parameters.
N_TOPICS = 32
WIDTH = 8
TOPIC_FOCUS = 6.0  # how much a user's topics differ
TASTE = 2.0
QUALITY = 0.5
MOOD = 1.0
FRESH_FLOOR, FRESH_DAYS = 0.5, 7.0
OLDEST_DAY = -60
VIDEOS_PER_AUTHOR = 5
SKIP_AT_ZERO = 1.2  # logit of a skip at interest 0
SKIP_ZERO_SHARE, SKIP_MEAN_MS = 0.2, 1_500.0
LOG_WTR_AT_ZERO, LOG_WTR_SLOPE, LOG_WTR_NOISE = -1.0, 0.6, 0.7
DURATION_MEDIAN_MS, DURATION_SPREAD = 20_000.0, 0.8
DURATION_BIAS_SLOPE = 0.35
MISSING_DURATION_SHARE = 0.015
REPEATED_ROW_SHARE = 0.01
REDRAWS_OF_SEEN = 4


def topic_probability(
    topic_before: np.ndarray, preference: np.ndarray, following: np.ndarray, strength: float
) -> np.ndarray:
    """P(topic of the next exposure) from the user's preference for it and P(topic | topic before); topic_before -1 =
    session start. Shapes broadcast."""
    follows = np.where(topic_before >= 0, strength, 0.0)
    return (1 - follows) * preference + follows * following


def quality(of_author: np.ndarray, of_video: np.ndarray, author_share: float) -> np.ndarray:
    """Quality [N] from independent standard normal draws for each video's author and for itself [N]."""
    return QUALITY * (np.sqrt(author_share) * of_author + np.sqrt(1 - author_share) * of_video)


def exposure_weight(weight: np.ndarray, upload_day: np.ndarray, day: int) -> np.ndarray:
    """The policy's weight of each video [N] within its topic on a day; 0 before its upload."""
    age = day - upload_day
    return np.where(age >= 0, weight * (FRESH_FLOOR + np.exp(-np.maximum(age, 0) / FRESH_DAYS)), 0.0)


def unseen_factor(seen_mass: np.ndarray) -> np.ndarray:
    """How much likelier an unseen video is shown than by its share of its topic, where videos of this mass were seen:
    a seen one is drawn again, up to REDRAWS_OF_SEEN times. Any shape."""
    return sum((seen_mass**again for again in range(1, REDRAWS_OF_SEEN + 1)), np.ones_like(seen_mass))


def interest(fit: np.ndarray, quality: np.ndarray, mood: np.ndarray) -> np.ndarray:
    """Interest from fit = taste . vector, quality and mood = strength * P(topic | topic before); any shape."""
    return TASTE * fit + quality + MOOD * mood


def log_wtr_offset(duration_ms: np.ndarray, duration_bias: float) -> np.ndarray:
    """Median log(play / duration) of a video that is not skipped, at interest 0."""
    return LOG_WTR_AT_ZERO - duration_bias * DURATION_BIAS_SLOPE * np.log(duration_ms / DURATION_MEDIAN_MS)


def skip_mean_ms(duration_ms: np.ndarray, duration_bias: float) -> np.ndarray:
    """Mean play time of a video that is skipped: a glance at strength 1, at 0 a share of the duration."""
    return SKIP_MEAN_MS * (duration_ms / DURATION_MEDIAN_MS) ** max(0.0, 1 - duration_bias)


def watch_beyond(
    interest: np.ndarray, threshold_ms: np.ndarray, duration_ms: np.ndarray, offset: np.ndarray, skip_ms: np.ndarray
) -> np.ndarray:
    """P(play time > threshold | exposed), in closed form; all shapes broadcast. Infinite thresholds give 0."""
    skip = expit(SKIP_AT_ZERO - interest)
    with np.errstate(divide="ignore"):
        z = (np.log(np.maximum(threshold_ms, 0) / duration_ms) - offset - LOG_WTR_SLOPE * interest) / LOG_WTR_NOISE
    brief = (1 - SKIP_ZERO_SHARE) * np.exp(-np.maximum(threshold_ms, 0) / skip_ms)
    return np.where(threshold_ms < 0, 1.0, skip * brief + (1 - skip) * np.exp(log_ndtr(-z)))
