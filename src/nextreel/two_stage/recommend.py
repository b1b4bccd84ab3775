"""What the system recommends: data/recommendations.parquet."""

from pathlib import Path

from ibis import _

from nextreel import engine


def recommend(con: engine.Connection, data: Path, n_recommendations: int) -> None:
    """data/recommendations.parquet: user_id, video_id, score, rank of every user at the end of the log."""
    ranked, cases, videos = (
        engine.read(con, data / name)
        for name in ("systems/two_stage/lists.parquet", "cases.parquet", "catalogue.parquet")
    )
    table = (
        ranked.filter(_.rank <= n_recommendations)
        .join(cases.filter(_.part == "next").select("case_id", "user_id"), "case_id")
        .join(videos, "video_idx")
        .select("user_id", "video_id", "score", "rank")
    )
    engine.write(con, table, data / "recommendations.parquet", ["user_id", "rank"])
