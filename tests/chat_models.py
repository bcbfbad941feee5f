"""Small models with chat templates of the kinds that are met, and what transformers makes of them.

The templates are written for these tests, each with one habit of a family of models.
"""

import torch
import transformers as tf
from zoo import CONFIGS, byte_tokenizer

import kvlens

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
LOOP = "{% for m in messages %}" + TURN + "{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"

PLAIN = LOOP + ANSWER
WITH_SYSTEM = DEFAULT_SYSTEM + LOOP + ANSWER
TRIMMING = "{{ bos_token }}" + LOOP.replace("m.content", "m.content | trim") + ANSWER
REFUSING = NO_SYSTEM + LOOP + ANSWER
SILENT = "{% for m in messages if m.role == 'user' %}" + TURN + "{% endfor %}" + ANSWER
TWICE = LOOP + LOOP + ANSWER
DATED = "Today {{ strftime_now('%d %b %Y') }}, {{ strftime_now(\"%Y\") }}.\n" + LOOP + ANSWER
WORDS = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
BROKEN = "{% for m in messages %}{{ m.content.nothing.at_all }}"

GOOD = {
    "plain": PLAIN,
    "with system": WITH_SYSTEM,
    "trimming": TRIMMING,
    "dated": DATED,
    "words": WORDS,
}
CONTROLS = ("<|im_start|>", "<|im_end|>")


def chat_tokenizer(template):
    """Bytes as tokens, and the marks of ChatML as control tokens."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROLS)})
    tokenizer.chat_template = template
    return tokenizer


def chat_model(template=WITH_SYSTEM, architecture="llama"):
    torch.manual_seed(0)
    config = CONFIGS[architecture]()
    config.initializer_range = 0.2
    hf = tf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return kvlens.LanguageModel.wrap(hf, chat_tokenizer(template), name="tiny-chat")


def truth(tokenizer, message, system=None, **options):
    """The ids of transformers itself for one message of the user."""
    turns = [{"role": "user", "content": message}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return tokenizer.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, return_dict=False, **options
    )
