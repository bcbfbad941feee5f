"""Names of other libraries that kvlens uses and that nobody promises it: all of them, in one place.

They are names with an underscore, what is imported from inside a library, and what kvlens touches
of a TransformerLens bridge. Each is listed with the test that would notice if it meant something
else; that it is there is tested here, and so is that nothing of the kind is used unlisted.
"""

import ast
import copy
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers as tf
from accelerate.hooks import ModelHook, add_hook_to_module
from zoo import tiny

from kvlens.models.bridge import firing_hooks
from kvlens.models.language_model import LanguageModel

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kvlens"
WATCHED = ("accelerate", "mteb", "peft", "skdim", "transformer_lens", "transformers")
STANDARD = {"_asdict"}  # of Python's own, and documented
HOOK = re.compile(r"\bhook_[a-z_]+")


class Name(NamedTuple):
    """A name of another library.

    Attributes:
        name: as kvlens writes it.
        of: the module it is imported from, or what has it: a hook point, a bridge or, for names
            with an underscore, what `HOLDERS` makes.
        noticed_by: the test that fails when it means something else.
    """

    name: str
    of: str
    noticed_by: str


RECORDED = "tracing/test_raw.py::test_recording_equals_raw_transformers"
LENGTHS = "tracing/test_position_zero.py::test_it_equals_raw_transformers"
STATES = "tracing/test_recording.py::test_points_equal_transformers_hidden_states"
PATTERNS = "tracing/test_recording.py::test_patterns_equal_transformers_attentions"
SHIFT = "analysis/test_uptake.py::test_summaries_are_those_of_numpy_over_single_texts"
BRUTE_FORCE = "rerouting/test_prefix.py::test_equal_to_brute_force"
MERGED = "rerouting/test_merge.py::test_merging_is_one_softmax_over_prefix_and_text"
SHARED = "models/test_language_model.py::test_two_module_trees_share_one_set_of_weights"
SET_ASIDE = "models/test_hostile_folder.py::test_a_switch_in_a_part_is_set_aside"
TRAPS = "models/test_hostile_folder.py::test_every_trap_is_refused_or_set_aside"
TRAINING = "models/test_turns.py::test_train_mode_is_noticed_wherever_a_pass_begins"
HOOKED = "models/test_in_memory.py::test_hooks_of_the_users_are_refused_until_they_are_off"
COMPILED = "models/test_in_memory.py::test_compiled_parts_are_refused"
SPREAD = "models/test_dispatched.py::test_it_computes_the_same"
UNPACKED = "models/test_quantized.py::test_weights_whose_kernels_are_on_the_hub_are_unpacked"
SCALES = "dimension/test_estimators.py::test_equals_scikit_dimension_on_clean_data"
KINDS = "models/test_kind.py::test_what_is_no_decoder_is_refused"
PICKLED = "models/test_language_model.py::test_one_that_gave_hidden_states_is_pickled"
LICENCES = "evaluation/test_adapter.py::test_the_leaderboard_is_told_what_the_model_tells"
RAY = "engines/test_ray.py::test_shards_are_those_of_the_local_engine"
MTEB = "evaluation/test_adapter.py::test_mteb_loads_it_by_name"

BRIDGE = "transformer_lens.model_bridge"
AUTO = "transformers.models.auto"
NAMES = (
    # TransformerLens
    Name("build_bridge_from_module", f"{BRIDGE}.sources", SHARED),
    Name("original_model", "bridge", SHARED),
    Name("blocks", "bridge", BRUTE_FORCE),
    Name("hook_dict", "bridge", RECORDED),
    Name("hooks", "bridge", RECORDED),
    Name("hook_resid_pre", "hook", LENGTHS),
    Name("hook_resid_post", "hook", STATES),
    Name("hook_k", "hook", RECORDED),
    Name("hook_k_normed", "hook", RECORDED),
    Name("hook_rot_k", "hook", RECORDED),
    Name("hook_cos", "hook", RECORDED),
    Name("hook_sin", "hook", RECORDED),
    Name("hook_v", "hook", RECORDED),
    Name("hook_pattern", "hook", PATTERNS),
    Name("hook_attn_scores", "hook", SHIFT),
    # transformers
    Name("_attn_implementation", "config", SET_ASIDE),
    Name("_experts_implementation", "config", SET_ASIDE),
    Name("_output_attentions", "config", TRAPS),
    Name(
        "_backends",
        "dummy",
        "models/test_upstream_names.py::test_a_class_that_cannot_be_imported_is_told_by_its_backends",
    ),
    Name("_keep_in_fp32_modules", "model", UNPACKED),
    Name("_keep_in_fp32_modules_strict", "model", UNPACKED),
    Name("modeling_auto", AUTO, KINDS),
    Name("tokenizer_class_from_name", f"{AUTO}.tokenization_auto", TRAPS),
    Name("PreTrainedTokenizerBase", "transformers.tokenization_utils_base", TRAPS),
    Name(
        "logging",
        "transformers.utils",
        "models/test_quiet.py::test_threads_are_quiet_one_after_another",
    ),
    Name("_output_capturing_hooks_installed", "captured", PICKLED),
    # accelerate
    Name("AlignDevicesHook", "accelerate.hooks", SPREAD),
    Name("add_hook_to_module", "accelerate.hooks", SPREAD),
    Name("_hf_hook", "spread", SPREAD),
    # torch
    Name("_modules", "module", TRAINING),
    Name("_forward_hooks", "module", HOOKED),
    Name("_forward_pre_hooks", "module", HOOKED),
    Name("_compiled_call_impl", "module", COMPILED),
    Name("_orig_mod", "compiled", COMPILED),
    Name("_scaled_dot_product_flash_attention_for_cpu", "operator", MERGED),
    Name("_scaled_dot_product_flash_attention", "operator", MERGED),
    Name("_scaled_dot_product_efficient_attention", "operator", MERGED),
    # ray
    Name("_temp_dir", "ray.init", RAY),
    # scikit-dimension
    Name("TwoNN", "skdim.id", SCALES),
    Name("MLE", "skdim.id", SCALES),
    Name("_gride", "skdim.id._GRIDE", SCALES),
    # mteb
    Name("main", "mteb.cli", MTEB),
    Name("AbsEncoder", "mteb.models.abs_encoder", MTEB),
    Name(
        "SearchEncoderWrapper",
        "mteb.models",
        "evaluation/test_hubness.py::test_rows_of_retrieval",
    ),
    Name("ModelMeta", "mteb.models.model_meta", MTEB),
    Name("MODEL_REGISTRY", "mteb.models.model_implementations", MTEB),
    Name("PromptType", "mteb.types", MTEB),
    Name("Licenses", "mteb.types", LICENCES),
    Name(
        "TaskResult",
        "mteb.results",
        "evaluation/test_results.py::test_a_damaged_pair_is_computed_again",
    ),
    Name(
        "AbsTaskRetrieval",
        "mteb.abstasks.retrieval",
        "evaluation/test_long_texts.py::test_a_task_a_length",
    ),
    Name(
        "TaskMetadata",
        "mteb.abstasks.task_metadata",
        "evaluation/test_long_texts.py::test_a_task_a_length",
    ),
    Name(
        "AbsTaskAggregate",
        "mteb.abstasks.aggregated_task",
        "evaluation/test_tasks.py::test_an_aggregate_is_its_parts",
    ),
)

HOLDERS = {
    "config": tf.LlamaConfig,
    "model": lambda: tf.PreTrainedModel,
    "module": torch.nn.Module,
    "operator": lambda: torch.ops.aten,
    "spread": lambda: add_hook_to_module(torch.nn.Identity(), ModelHook()),
    "compiled": lambda: torch.compile(torch.nn.Identity()),
    "bridge": lambda: tiny("llama").bridge,
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name.of}.{name.name}")
def test_it_is_there(name):
    if name.of == "hook":
        assert any(point.endswith(f".{name.name}") for point in fired())
    elif name.of == "ray.init":
        assert name.name in inspect.getsource(pytest.importorskip("ray").init)
    elif name.of == "captured":
        assert getattr(captured().hf.model, name.name)
    elif name.of in HOLDERS:
        assert hasattr(HOLDERS[name.of](), name.name)
    elif name.of != "dummy":
        assert hasattr(importlib.import_module(name.of), name.name)


def captured() -> LanguageModel:
    """A model that gave its hidden states once."""
    lm = copy.deepcopy(tiny("llama"))
    with torch.inference_mode():
        lm.hf(torch.tensor([[1, 2]]), output_hidden_states=True)
    return lm


@functools.cache
def fired() -> frozenset[str]:
    """The hook points that fire in a model with key norms, and in one with a fused projection."""
    points = frozenset()
    for lm in (tiny("qwen3"), tiny("neox")):
        with lm.turn() as turn:
            wanted = [point for point in lm.bridge.hook_dict if is_wanted(point)]
            points |= firing_hooks(turn, lm.bridge, wanted, lm.device)
    return points


def is_wanted(point: str) -> bool:
    return point.startswith("blocks.") and point.rpartition(".")[2] in {x.name for x in NAMES}


def test_a_class_that_cannot_be_imported_is_told_by_its_backends():
    from transformers.utils.import_utils import DummyObject

    absent = DummyObject("Absent", (), {"_backends": ["detectron2"]})
    with pytest.raises(ImportError, match="detectron2"):
        absent.from_pretrained("x")
    assert hasattr(absent, "_backends")


@pytest.mark.parametrize("test", sorted({name.noticed_by for name in NAMES}))
def test_what_would_notice_is_there(test):
    file, function = test.split("::")
    assert f"def {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def used_in(text: str, ours: set[str]) -> Iterator[str]:
    """The names of the kind that a module uses; `ours` are the package's own."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in WATCHED:
                if "." in module:
                    yield from (alias.name for alias in node.names)
            case ast.Attribute(value=ast.Name("bridge") | ast.Attribute(attr="bridge")):
                if not hasattr(torch.nn.Module, node.attr):
                    yield node.attr
            case ast.Attribute(attr=attr) if is_private(attr) and attr not in ours:
                yield attr
            case ast.Call(func=ast.Name("getattr" | "hasattr" | "setattr")):
                yield from (key for key in texts(node.args[1:2]) if is_private(key))
            case ast.Dict(keys=keys):
                yield from (key for key in texts(keys) if is_private(key))
            case ast.Constant(value=str(value)) if " " not in value:
                yield from HOOK.findall(value)


def is_private(name: str) -> bool:
    return re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


def texts(nodes) -> Iterator[str]:
    return (node.value for node in nodes if isinstance(getattr(node, "value", None), str))


def names_of(text: str) -> Iterator[str]:
    """What a module defines: its functions, classes, methods, fields and variables."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name("self"), attr=name, ctx=ast.Store()):
                yield name


def test_no_other_is_used():
    modules = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    ours = {name for text in modules.values() for name in names_of(text)} | STANDARD
    used = {
        name: path.relative_to(ROOT)
        for path, text in modules.items()
        for name in used_in(text, ours)
    }
    listed = {name.name for name in NAMES}
    unlisted = [f"{path}: {name}" for name, path in used.items() if name not in listed]
    assert not unlisted, f"enter in NAMES, with the test that would notice: {unlisted}"
    assert not listed - set(used), "no longer used: take it out of NAMES"


def test_the_scan_sees_each_kind():
    """Else the rule would hold for whatever is written."""
    text = """
from transformer_lens.inside import thing
from transformer_lens import public
lm.bridge.shortcut, bridge.other, bridge.eval, model._hidden, model._ours
hasattr(model, "_asked"), {"_key": 1}, f"blocks.{layer}.attn.hook_z"
"blocks hook_in_a_sentence of words"
"""
    seen = {"thing", "shortcut", "other", "_hidden", "_asked", "_key", "hook_z"}
    assert set(used_in(text, {"_ours"})) == seen
