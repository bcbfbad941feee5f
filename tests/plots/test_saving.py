import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.image import imread
from profile_cases import CHOSEN, OTHER, PROFILE, STDERR, U, make_profile

from kvlens import Geometry, InputError, KVLens
from kvlens.layers.selection import select
from kvlens.plots.profile_page import profile_html
from kvlens.plots.saving import save_lens_plots, save_profile_plots

SAVE = """
import sys
from kvlens import LayerSet
from kvlens.plots import save_profile_plots
layer_set = LayerSet.load(sys.argv[1])
save_profile_plots(layer_set.profile, layer_set, sys.argv[2])
assert 'matplotlib.pyplot' not in sys.modules
"""
DATA = Path(__file__).parents[1] / "data" / "v0.1.0"


def test_saved_files(tmp_path):
    hostile = make_profile(
        U, STDERR, name="</script><script>alert(1)</script>", warn={2: "<img src=x>"}
    )
    paths = save_profile_plots(hostile, select(hostile), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["layer_id.png", "layer_id.pdf", "layer_id.html"]
    png, pdf, html = paths
    assert imread(png).shape[1] == 1000
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    page = html.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]*\s(src|href)\s*=", page.replace("\\u003c", ""))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page.replace("\\u0026", "&")
    assert '"showSendToCloud": false' in page
    for trace in profile_html([hostile, OTHER]).data:
        assert not re.search("<(script|img)", (trace.name or "") + "".join(trace.text or ()))
    with pytest.raises(InputError, match="cannot write"):
        save_profile_plots(hostile, None, png)


@pytest.mark.slow
def test_same_input_same_bytes_in_another_process_without_a_display(tmp_path):
    here = save_profile_plots(PROFILE, CHOSEN, tmp_path / "here")
    CHOSEN.save(tmp_path / "layers.json")
    environment = {k: v for k, v in os.environ.items() if "DISPLAY" not in k and k != "MPLBACKEND"}
    environment["PYTHONHASHSEED"] = "7"
    command = [sys.executable, "-c", SAVE, str(tmp_path / "layers.json"), str(tmp_path / "there")]
    subprocess.run(command, check=True, env=environment)
    for path in here:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_every_picture_of_a_lens_is_saved_and_matplotlib_left_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    lens = KVLens.load(DATA / "kv_lens.json")
    geometry = Geometry.load(DATA / "geometry.json")
    paths = save_lens_plots(lens, geometry, tmp_path)
    assert [path.suffix for path in paths] == [".png", ".pdf"] * 5
    assert all(path.stat().st_size > 5000 for path in paths)
    assert dict(matplotlib.rcParams) == before
