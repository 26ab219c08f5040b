"""Run by the released code's own library versions: what they make of a folder's tokenizer and images, as JSON.

usage: python released_era.py FOLDER TOWER < {"texts": [...], "images": [...]} > {"ids": {...}, "pixels": [...]}
"""

import json
import sys

import tokenizers
import transformers
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoTokenizer, CLIPImageProcessor, Qwen2Tokenizer


def main(folder: str, tower: str) -> None:
    asked = json.load(sys.stdin)
    file = Tokenizer.from_file(f"{folder}/tokenizer.json")
    # The released code's own call.
    special = {"pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    auto = AutoTokenizer.from_pretrained(folder, padding_side="right", **special)
    slow = Qwen2Tokenizer.from_pretrained(folder)
    ids = {
        "tokenizer.json": [file.encode(text, add_special_tokens=False).ids for text in asked["texts"]],
        "AutoTokenizer": [auto(text).input_ids for text in asked["texts"]],
        "vocab.json and merges.txt": [slow(text).input_ids for text in asked["texts"]],
    }
    pixels = CLIPImageProcessor.from_pretrained(tower)
    images = [Image.open(path).convert("RGB") for path in asked["images"]]
    answer = {
        "versions": [transformers.__version__, tokenizers.__version__],
        "ids": ids,
        "decoded": [auto.decode(each, skip_special_tokens=True) for each in ids["AutoTokenizer"]],
        "tokens": [type(auto).__name__, len(auto), auto.eos_token_id, auto.pad_token_id],
        "image": "<image>" in auto.get_vocab() or "<image>" in slow.get_vocab(),
        "pixels": [pixels(image, return_tensors="np")["pixel_values"][0].tolist() for image in images],
    }
    json.dump(answer, sys.stdout)


main(*sys.argv[1:])
