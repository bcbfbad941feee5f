"""Made-up profiles that pictures are drawn of."""

import numpy as np
from test_layers import GEMMA, U, make_profile

from kvlens.layers.selection import select

STDERR = np.linspace(0.2, 0.6, 30)
PROFILE = make_profile(
    U,
    STDERR,
    mle=U - 1,
    warn={3: "no plateau: GRIDE 3", 4: "no plateau: GRIDE 4"},
    name="model-30",
    dropped=4,
)
CHOSEN = select(PROFILE)  # layers 11-14
OTHER = make_profile(GEMMA, 0.5, name="model-18", n=690)
LONG = make_profile(
    np.linspace(8, 30, 80),
    0.3,
    name="an-organisation/" + "a-very-long-model-name-" * 4 + "80-layers",
)
