"""Model folders, as `save_pretrained` and others write them."""

import json

from zoo import tiny


def saved(parent, architecture="llama"):
    """A small model in one file, with its tokenizer: ``parent/model``."""
    lm = tiny(architecture)
    folder = parent / "model"
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def in_shards(parent):
    """The same in three files of weights with an index, two of them in a folder below."""
    folder = saved(parent)
    (folder / "model.safetensors").unlink()
    tiny("llama").hf.save_pretrained(folder, max_shard_size="90KB")
    (folder / "more").mkdir()
    for shard in sorted(folder.glob("model-*.safetensors"))[1:]:
        shard.rename(folder / "more" / shard.name)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    places = {shard.name: shard.relative_to(folder) for shard in folder.rglob("*.safetensors")}
    content["weight_map"] = {
        name: str(places[shard]) for name, shard in content["weight_map"].items()
    }
    index.write_text(json.dumps(content))
    return folder


def with_old_tokenizer(parent):
    """A GPT-2 whose tokenizer is in the files of old: vocabulary, merges, map, added tokens."""
    lm = tiny("gpt2")
    folder = parent / "model"
    lm.hf.save_pretrained(folder)
    vocabulary = lm.tokenizer.get_vocab() | {"ca": 259, "at": 260, "Ġa": 261}
    specials = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    files = {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "#version: 0.2\nc a\na t\nĠ a\n",
        "special_tokens_map.json": json.dumps(specials | {"unk_token": "<eos>"}),
        "added_tokens.json": json.dumps({"<more>": 262}),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer"}),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def change(file, **entries):
    """Set entries of a JSON file, which need not be there."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | entries))
