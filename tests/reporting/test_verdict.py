"""The verdict's sentences against the arrays of the run."""

from kvlens.reporting.run_folder import Run


def test_verdict_has_the_numbers_of_the_arrays(place):
    run = Run.read(place / "run")
    page = (place / "run" / "report.html").read_text()
    for kind in ("local", "propagated"):
        ends = run.shift.arrays[f"ends.{kind}"].astype(float)
        early, late = (100 * ends[:, i].mean() for i in (0, 1))
        half = 196 * (ends[:, 1] - ends[:, 0]).mean((1, 2)).std(ddof=1) / 60**0.5
        interval = f"(difference {late - early:+.1f} points, 95 % interval ± {half:.1f})"
        sentence = f"{early:.1f} % against {late:.1f} % {interval}"
        assert sentence.replace(" %", "\u00a0%") in page
    cosines = [
        row.mean_cosine for row in run.geometry.methods if row.label.startswith("kv_embedding")
    ]
    assert f"mean cosine of {cosines[1]:.3f} with re-routing and {cosines[0]:.3f} with" in page
    (share,) = (each for each in run.words.shares_of("v", centred=True) if each.layer == 3)
    half = 1.96 * share.gain_sd / 60**0.5
    assert f"V of layer 3 {share.own - share.other:+.2f} ± {half:.2f}; 60 texts" in page
