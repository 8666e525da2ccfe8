"""The model, tokenizer, text and rows of the benchmarks, made once in ``.cache/benchmarks``; no download."""

import json
import sysconfig
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.score import score

CACHE = Path(".cache/benchmarks")
VOCAB, TIME, BATCH = 49_152, 512, 2
_TEXT_FILES = 4


def text() -> list[Path]:
    """The modules of Python's standard library as JSON lines, in files of about equal size."""
    files = [CACHE / f"text-{index}.jsonl" for index in range(_TEXT_FILES)]
    if not files[-1].exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        modules = sorted(Path(sysconfig.get_path("stdlib")).glob("[!s]*/**/*.py"))
        modules = [path for path in modules if "site-packages" not in path.parts]
        for index, file in enumerate(files):
            documents = [path.read_text(errors="ignore") for path in modules[index::_TEXT_FILES]]
            file.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents if document))
    return files


def model() -> Path:
    """SmolLM2-135M's shape (HuggingFaceTB/SmolLM2-135M, config.json) with random weights, and a byte-level BPE."""
    directory = CACHE / "model"
    if not (directory / "tokenizer.json").exists():
        config = LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(directory)
        _tokenizer().save_pretrained(directory)
    return directory


def tiny_model() -> Path:
    """Two layers of 32 dimensions on the same tokenizer, where the step itself should cost nothing."""
    directory = CACHE / "tiny"
    if not (directory / "tokenizer.json").exists():
        config = LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
        LlamaForCausalLM(config).save_pretrained(directory)
        PreTrainedTokenizerFast.from_pretrained(model()).save_pretrained(directory)
    return directory


def rows() -> Path:
    """Rows of ``TIME`` tokens with a float16 column ``nll`` that the model scored."""
    directory = CACHE / "rows"
    if not directory.exists():
        sources: dict[str, Source] = {"text": JsonLines([str(file) for file in text()[:1]])}
        prepare(directory, PrepareSettings(str(model()), sources, TIME, num_tokens=16 * TIME))
    if not (directory / "columns").exists():
        score(str(directory), ModelSpec(str(model())), "nll", document_attention=False)
    return directory


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<|end|>"], show_progress=False)
    lines = (json.loads(line)["text"] for file in text() for line in file.read_text().splitlines())
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")
