#!/usr/bin/env python3
"""Tokenizer goldens from the Hugging Face tokenizers library, and a live comparison with it.

    pip install tokenizers==0.23.3
    script/oracles/tokenizer_cases.py --write tests/data/tokenizer       # the committed goldens
    script/oracles/tokenizer_cases.py --program build/dev/cli/halftone   # ids of `halftone tokenize` against the library
    script/oracles/tokenizer_cases.py --library build/dev/src/libhalftone.so --random 200
                                                                         # the same through the C interface, random texts

Every case is a small tokenizer.json: one of a few models (trained here, on the test texts themselves, so that every
place where a text is cut shows in the ids) with one set of components. A golden file holds models, cases and what the
library makes of the texts; tests/tokenizer/test_variants.c puts them together again.

Texts are given to the library as str. Bytes that are not UTF-8 are replaced by U+FFFD first, which Python does by
maximal subparts, as the library's own loaders do.
"""
import argparse
import base64
import copy
import ctypes
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = [
    b"", b" ", b"  ", b"\n", b"a", b"Hello world", b" Hello  world ", b"   leading and trailing   ",
    b"Hello, y'all! How are you? I'm fine; they've said it'll work, I'd say it isn't.",
    b"HE'S SHOUTING, WE'LL GO, I'M HERE", b"tabs\tand\nnew\r\nlines\r\n\r\n  indented\n\n\n   more \n",
    b"a\n b\n\n c \n \n", b"1 12 123 1234 12345 123456 1234567890", b"3.14159, 1,000,000 and 2024-11-22T16:19",
    b"x=1;y=2;/*comment*/ if(x<y){return x+y;}", b"def f(x):\n    return x**2  # square\n\n\nprint(f(3))\n",
    b"https://example.com/path?query=1&b=2#frag mail@example.org", b"snake_case camelCase PascalCase kebab-case",
    "naïve café résumé Zürich Straße ŒUVRE İstanbul ΣΊΣΥΦΟΣ".encode(),
    "e\u0301 n\u0303 a\u0323\u0302 o\u0302\u0323 \u1e69 s\u0323\u0307 \u212b \u2126 ﬁ ﬂ ½ ² ①".encode(),
    "Cụ thể, bạn sẽ tham gia một nhóm các giám đốc điều hành tổ chức".encode(),
    "Привет, мир! Как дела? Ёлка й и\u0306".encode(), "Γειά σου Κόσμε, ᾳ ά α\u0301".encode(),
    "你好，世界！这是一个测试。", "日本語のテキスト、カタカナとひらがな。ー々〆", "한국어 텍스트 각 가\u11a8 \u1100\u1161\u11a8",
    "שלום עולם אבג", "مرحبا بالعالم ١٢٣ ۴۵۶ لا\u064e", "हिन्दी में पाठ क्षत्रिय १२३", "ไทย ภาษาไทย ๑๒๓ กำ",
    "ꦗꦮ ༀ མ་ འབྲུག", "😀 😃😄 👍🏽 👨\u200d👩\u200d👧\u200d👦 🇩🇪🇫🇷 ❤\ufe0f 1\ufe0f\u20e3", "🤖🤖🤖", "𝒜𝓑𝕮 𝟘𝟙𝟚 𠮷野家 𐍈𐍉",
    "a\u200bb\u200cc\u200dd\u200ee\u2060f\ufeffg\u00adh", "\ufeffBOM first", "a\u00a0b\u2003c\u3000d\u202fe\u1680f\u180eg\u0085h\u2028i\u2029j",
    "\u0300\u0301leading marks \u0300", "“quotes” ‘single’ «guillemets» — dash – … • §¶†", "€100 £20 ¥3000 ₹5 $7 +1 <2> ^3 `4` |5| ~6",
    "x² + y² = z², ∑∫√∞ ≠ ≤ → ⇒ ∀∃", "ⅠⅡⅢ Ⅳ ㈱ ㍿ ｱｲｳ ＡＢＣ１２３ ａｂｃ", "A\u030a\u0327\u0301 Å\u0327",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b" " * 70 + b"x" + b" " * 33, b"\n" * 40, b"abcabcabc" * 12, b"..........!!!!!!!!??????",
    b"<s>hello</s> <s> hello </s><pad><unk>", b"<|start|>user<|end|><|start|><|start|>assistant",
    b"foo<mask>bar <mask> foo  <mask>  bar <mask>", b"TOKEN token Token TOKENS aTOKENb TOKEN, (TOKEN)",
    b"[MASK] [mask][MASK] x[MASK]y [MASK]\n\n[MASK]", "Été ÉTÉ e\u0301te\u0301 ete".encode(), b"<0x41><0x0A> <0xE4>",
    "▁▁ ▁a a▁b ▁".encode(), "Ġ Ċ ġĠ".encode(), b"##a a## a</w> </w>", b"nul\x00inside\x00", b"\x01\x02\x07\x08\x0b\x0c\x0e\x1b\x7f ctl",
    b"bad \xff\xfe bytes", b"cut \xe4\xbd", b"cut \xf0\x9f\x98 mid \xf0\x9f\x98\x80 ok", b"\xc0\xaf\xe0\x80\xaf overlong \xed\xa0\x80 surrogate",
    b"\xf4\x90\x80\x80 too high \xf8\x88\x80\x80\x80", b"\x80\x81 lone \xc3( \xe2\x82( \xf0\x9f(", "\ufffd\ufffe\uffff\U0010ffff".encode(),
]
TEXTS = [t if isinstance(t, bytes) else t.encode() for t in TEXTS]


def as_str(data):
    return data.decode("utf-8", "replace")


# ---- models ----

def train(pre_tokenizer, size, **options):
    tok = Tokenizer(models.BPE(unk_token="<unk>", **{k: v for k, v in options.items() if k != "alphabet"}))
    if pre_tokenizer is not None:
        tok.pre_tokenizer = pre_tokenizer
    keep = {k: v for k, v in options.items() if k in ("continuing_subword_prefix", "end_of_word_suffix")}
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=0, show_progress=False, max_token_length=16,
                                  special_tokens=["<unk>", "<s>", "</s>"],
                                  initial_alphabet=options.get("alphabet", []), **keep)
    tok.train_from_iterator([as_str(t).replace("\0", "") for t in TEXTS] * 2, trainer)  # jansson has no NUL in keys
    return json.loads(tok.to_str())["model"]


def clean(model, **changes):
    model = copy.deepcopy(model)
    for key in ("unk_token", "fuse_unk", "byte_fallback", "ignore_merges", "dropout"):
        model.pop(key, None)
    model = {k: v for k, v in model.items() if v is not None}
    model.update(changes)
    return model


def with_bytes(model, missing=()):
    """Byte tokens behind the vocabulary, as in models made from SentencePiece files."""
    model = copy.deepcopy(model)
    for byte in range(256):
        if byte not in missing:
            model["vocab"]["<0x%02X>" % byte] = len(model["vocab"])
    return model


def without(model, characters):
    """A vocabulary that lacks some characters, and the merges that need them."""
    model = copy.deepcopy(model)
    gone = {t for t in model["vocab"] if any(c in t for c in characters)}
    kept = [t for t in model["vocab"] if t not in gone]
    model["vocab"] = {t: i for i, t in enumerate(kept)}
    model["merges"] = [m for m in model["merges"] if not any(t in gone for t in (m[0], m[1], m[0] + m[1]))]
    return model


def build_models():
    byte = train(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), 1100,
                 alphabet=pre_tokenizers.ByteLevel.alphabet())
    plain = train(None, 1300)
    meta = train(pre_tokenizers.Metaspace(split=False), 1100)
    rare = "你好世界日本語カ한Привт😀👍éüß" + "xyz"
    word = train(pre_tokenizers.Whitespace(), 900, continuing_subword_prefix="##", end_of_word_suffix="</w>")
    few = without(plain, rare)
    return {
        "byte": clean(byte),
        "byte-strings": clean(byte, merges=[" ".join(m) for m in byte["merges"]], dropout=None, fuse_unk=False),
        "byte-ignore-merges": clean(cut_merges(byte), ignore_merges=True),
        "plain": clean(plain, unk_token="<unk>"),
        "few-unk": clean(few, unk_token="<unk>", fuse_unk=False),
        "few-fused": clean(few, unk_token="<unk>", fuse_unk=True),
        "few-dropped": clean(few),
        "meta-bytes": with_bytes(clean(without(meta, rare), unk_token="<unk>", fuse_unk=True, byte_fallback=True)),
        "meta-some-bytes": with_bytes(clean(without(meta, rare), unk_token="<unk>", fuse_unk=False, byte_fallback=True),
                                      missing=(0xe4, 0xd0, 0x78)),
        "word": clean(word, unk_token="<unk>"),
        "word-bytes": with_bytes(clean(without(word, rare), unk_token="<unk>", byte_fallback=True)),
    }


def cut_merges(model):
    """Fewer merges than tokens: tokens that only ignore_merges can reach."""
    model = copy.deepcopy(model)
    model["merges"] = model["merges"][:len(model["merges"]) // 2]
    return model


# ---- components ----

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
HAN = O200K.replace("[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]")
HAN = "[\\p{Han}]+|" + HAN.replace("[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]")
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
            "\\s*[\r\n]+|\\s+(?!\\S)|\\s+")

PATTERNS = [
    r"\s", r"\S+", r"\w+", r"\W", r"\d+", r"\D", r"\h+", r"\b", r"\B", r".", r"(?m:.)+", r"[\s\S]{5}", r"\R",
    r"^\w+", r"\w+$", r"\Aa", r"\w\z", r"(?i)hello|WORLD", r"a(?i)b|C", r"(?:a(?i)b|C)d|x", r"(?i:é)+", r"\p{N}{1,3}+", r"\w{,2}",
    r"\w{2,3}?", r"\w{2}?", r"a**", r"(?:ab?)+?c", r"\p{^L}+", r"\P{L}+", r"\p{Lu}", r"[\p{Lu}[\p{N}]]", r"[a-z&&[^aeiou]]+",
    r"[^a-z&&[aeiou]]", r"[[:alpha:]]+", r"[[:^space:]]+", r"[[:punct:]]", r"[[:upper:]][[:lower:]]*", r"\p{Han}+",
    r"\p{Hiragana}|\p{Katakana}", r"\p{Greek}+", r"\p{Cyrillic}+", r"\p{Letter}+", r"\p{Punctuation}", r"\p{Alphabetic}+", r"\p{Emoji}",
    "[一-龥\u3040-ゟ゠-ヿ]+", r"[\u4e00-\u9fff]+", r"[^\x00-\x7F]+", r"\x{1F600}", r"(?<=a)b|(?<!a)c", r"(?>a+)b?", r"(a)\1",
    r"(?<q>[\"'“]).*?\k<q>", r"(?x) \w+ # words", r"[]a-c]+", r"[\]\-\\]", r"[a\-z]", r"{", r"a{x}", r"\v|\e|\a|\f", r"[^\W\d]+", r"[\w-]+",
    r"(?#comment)o", r"\s+(?!\S)|\s+", r"", r"x*", r"(?=b)", r"[ \t]*\n", r" ?\p{L}+(?=\s|$)",
]


# Made by SentencePiece 0.2 from the rules A>a, AU+030A>xy, fi>U+FB01, U+2460>(1), U+1F600>:), U+E9>e, U+200B>nothing and
# U+1112 U+1161 U+11AB > U+D55C; compressed here.
CHARSMAP = base64.b64encode(zlib.decompress(base64.b64decode(
    "eNoV03VMVlEcxvHnvcDmHM4/9C/FmLX3NYeKgYliJ4qKjYGK3YJ5mYAKWAiKCiLOQkCd3d017I4XsUXsru+522fPrXPu+Z1zrjzF4VBAMamIZM"
    "eVkbzJcK5LkJlNpKJkdKClRNtDbm9LGQkeirEtuUMtZUVKsbmWivNOvJfpS/ZaL9Oj7BRPS3ZDKT3EErfs0jwsBT4hH5RDWdMg31J5siIqoDIq"
    "YZjToSqkC05UQ1XUQHXUQk34YmlJS3XI2vBDXdRHPTAENUAj+IOS1BjN0BQBaI6WaIFWCEQbtEY7tEUHtEcndEQXdEYQuqI7uqEHgtELPdEbIe"
    "iLPuiPfhiIARiEUAzBYIRhKIabOUA4RmAURmIMRmMcxmICxmMSJmIKJmMapoIlUgRmYDpmYSbmYDaizBpgLk7ukmLIaMxDLBZgPuIRh4VIwGIs"
    "MnOPJViGRCQjCSuwHCuRgtVYhTSkIh1rkAH3dimPDbiO8w1Yj03YiExsRha2IAfZ2IateP9Aorl2Ygd2gzK0F3uwH/twEAdwGIdwFEdwHMdM7T"
    "iB0ziFsziD8ziHi7iAy7hk+Dh0hbyKXFzHNdzEDdzGLdzFHdzHPTwEQ9ZjPDK14wmeIg/PkI8XeI5XeIk3eI0CvEUh3uGDmQN8wkd8wWd8w1f8"
    "wHf8wk/8wW/8w1/zxzp9XfJ3sQ/DFBGpguRUFWZH6T/JVZ19"))).decode()


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(kind, *items):
    return {"type": "Sequence", kind: list(items)}


def pre(*items):
    return sequence("pretokenizers", *items)


def norm(*items):
    return sequence("normalizers", *items)


def added(content, id=0, **flags):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    token.update(flags)
    return token


def template(single, **ids):
    pieces = [{"Sequence": {"id": "A", "type_id": 0}} if p == "$A" else {"SpecialToken": {"id": p, "type_id": 0}} for p in single]
    table = {p: {"id": p, "ids": ids[p], "tokens": [p] * len(ids[p])} for p in ids}
    pair = pieces + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": table}


def meta(scheme="always", split=True, mark="▁"):
    return {"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": split}


def encode_cases():
    """name -> (model, sections)"""
    cases = {}

    def case(name, model, **sections):
        cases[name] = (model, sections)

    case("none", "plain")
    for model in ("few-unk", "few-fused", "few-dropped", "word", "word-bytes", "meta-bytes", "meta-some-bytes"):
        case("model-" + model, model)
        case("model-" + model + "-words", model, pre_tokenizer={"type": "WhitespaceSplit"})
    for prefix in (0, 1):
        for regex in (0, 1):
            case("byte-level-%d%d" % (prefix, regex), "byte", pre_tokenizer=byte_level(bool(prefix), bool(regex)))
    case("byte-level-old", "byte-strings", pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True})
    case("llama3", "byte-ignore-merges", pre_tokenizer=pre(split(LLAMA3), byte_level()),
         post_processor=sequence("processors", byte_level(True), template(["<s>", "$A"], **{"<s>": [1]})))
    case("qwen2", "byte", normalizer={"type": "NFC"}, pre_tokenizer=pre(split(QWEN2), byte_level()))
    case("cl100k", "byte", pre_tokenizer=pre(split(CL100K), byte_level()))
    case("cl100k-removed", "byte", pre_tokenizer=pre(split(CL100K, "Removed", True), byte_level()))
    case("o200k", "byte", pre_tokenizer=pre(split(O200K), byte_level()))
    case("han", "byte", pre_tokenizer=pre(split(HAN), byte_level()))
    case("deepseek", "byte", normalizer=norm(), pre_tokenizer=pre(
        split("\\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), byte_level()))
    case("deepseek-coder", "byte", pre_tokenizer=pre(
        split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
        {"type": "Digits", "individual_digits": True}, byte_level()))
    case("falcon", "byte", pre_tokenizer=pre({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(False, True),
                                             {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")))
    case("starcoder", "byte", pre_tokenizer=pre({"type": "Digits", "individual_digits": True}, byte_level(False, True)))
    case("nested", "byte", normalizer=norm({"type": "NFD"}, norm({"type": "Lowercase"}, norm()), {"type": "NFC"}),
         pre_tokenizer=pre(pre(split(" ", "MergedWithNext", kind="String"), pre()), pre(byte_level())))
    llama2 = norm({"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    case("llama2", "meta-bytes", normalizer=llama2, post_processor=template(["<s>", "$A", "</s>"], **{"<s>": [1], "</s>": [2, 1]}))
    case("gemma", "meta-bytes", normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
         pre_tokenizer=split(" ", "MergedWithPrevious", kind="String"))
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            case("metaspace-%s-%d" % (scheme, cut), "meta-bytes", pre_tokenizer=meta(scheme, cut),
                 added_tokens=[added("<s>"), added("<mask>", lstrip=True, normalized=True)])
    case("metaspace-old", "meta-bytes", pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"})
    case("metaspace-old-no", "meta-bytes", pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": False,
                                                          "prepend_scheme": "never"})
    case("metaspace-ascii", "plain", pre_tokenizer=meta(mark="_"))
    case("metaspace-first-strip", "meta-bytes", normalizer={"type": "Strip", "strip_left": True, "strip_right": False},
         pre_tokenizer=meta("first"))
    case("metaspace-first-replace", "meta-bytes", normalizer={"type": "Replace", "pattern": {"Regex": "[aHl]"}, "content": "é "},
         pre_tokenizer=meta("first"))
    case("metaspace-first-prepend", "meta-bytes", normalizer=norm({"type": "Prepend", "prepend": "x"}, {"type": "NFKD"}),
         pre_tokenizer=pre({"type": "FixedLength", "length": 4}, meta("first")))
    case("metaspace-first-bert", "meta-bytes", normalizer={"type": "BertNormalizer", "clean_text": True,
         "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}, pre_tokenizer=pre(meta("first"), meta("never")))
    case("metaspace-first-nfkc", "meta-bytes", normalizer={"type": "NFKC"}, pre_tokenizer=pre({"type": "Punctuation"}, meta("first")))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            case("split-%s-%d" % (behavior, invert), "plain", pre_tokenizer=split("[aeiou ]", behavior, invert))
        case("split-string-" + behavior, "plain", pre_tokenizer=split("l", behavior, kind="String"))
        case("punctuation-" + behavior, "plain", pre_tokenizer={"type": "Punctuation", "behavior": behavior})
        case("split-empty-" + behavior, "plain", pre_tokenizer=split("x*", behavior))
    case("split-string-empty", "plain", pre_tokenizer=split("", kind="String"))
    case("split-string-dots", "plain", pre_tokenizer=split("..", "MergedWithPrevious", kind="String"))
    for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts"):
        case("pre-" + name, "plain", pre_tokenizer={"type": name})
    case("digits", "plain", pre_tokenizer={"type": "Digits", "individual_digits": False})
    case("digits-individual", "plain", pre_tokenizer={"type": "Digits", "individual_digits": True})
    case("delimiter", "plain", pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "e"})
    case("delimiter-wide", "plain", pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "、"})
    for length in (1, 3, 7):
        case("fixed-%d" % length, "plain", pre_tokenizer={"type": "FixedLength", "length": length})
    for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"):
        model = "byte" if name == "ByteLevel" else "plain"
        case("norm-" + name, model, normalizer={"type": name})
        case("norm-%s-bytes" % name, "byte", normalizer={"type": name}, **({} if name == "ByteLevel" else {"pre_tokenizer": byte_level()}))
    case("norm-accents", "byte", normalizer=norm({"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}), pre_tokenizer=byte_level())
    for left in (False, True):
        case("norm-strip-%d" % left, "plain", normalizer={"type": "Strip", "strip_left": left, "strip_right": not left})
    case("norm-strip", "plain", normalizer={"type": "Strip", "strip_left": True, "strip_right": True})
    case("norm-prepend", "plain", normalizer={"type": "Prepend", "prepend": "_x"})
    case("norm-replace", "plain", normalizer={"type": "Replace", "pattern": {"String": "l"}, "content": "LL"})
    case("norm-replace-regex", "plain", normalizer={"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"})
    case("norm-replace-group", "plain", normalizer={"type": "Replace", "pattern": {"Regex": "(l)(o)"}, "content": "$2$1"})
    case("norm-replace-empty", "plain", normalizer={"type": "Replace", "pattern": {"Regex": "x*"}, "content": "-"})
    case("norm-precompiled", "plain", normalizer={"type": "Precompiled", "precompiled_charsmap": CHARSMAP})
    case("norm-precompiled-first", "meta-bytes", normalizer={"type": "Precompiled", "precompiled_charsmap": CHARSMAP},
         pre_tokenizer=meta("first"))
    for flags in (0, 1, 2, 4, 8, 15, 7, 11):
        case("norm-bert-%d" % flags, "plain", normalizer={
            "type": "BertNormalizer", "clean_text": bool(flags & 1), "handle_chinese_chars": bool(flags & 2),
            "strip_accents": bool(flags & 4), "lowercase": bool(flags & 8)}, pre_tokenizer={"type": "BertPreTokenizer"})
    for flag in ("none", "single_word", "lstrip", "rstrip", "normalized", "all"):
        on = ("single_word", "lstrip", "rstrip", "normalized") if flag == "all" else (flag,)
        flags = {f: True for f in on if f != "none"}
        tokens = [added(t, **flags) for t in ("<mask>", "TOKEN", "[MASK]", "<|start|>", "Été", "<s>", "nul", "世界")]
        tokens += [added(t, special=False, **flags) for t in ("TOKENS", "<pad>", "foo", " y", "\n\n", "eté")]
        case("added-" + flag, "plain", added_tokens=tokens)
        case("added-%s-lower" % flag, "byte", added_tokens=tokens, normalizer=norm({"type": "NFC"}, {"type": "Lowercase"}),
             pre_tokenizer=pre(split(LLAMA3), byte_level()))
    case("added-ids", "plain", added_tokens=[added("<a>", 5000), added("Hello", 7), added("<b>", 3), added("Hel", special=False)])
    case("added-prepend", "meta-bytes", normalizer=llama2, added_tokens=[added("<s>", 1), added("</s>", 2), added("<mask>", normalized=True)])
    case("post-bert", "plain", post_processor={"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]})
    case("post-roberta", "byte", pre_tokenizer=byte_level(False, True), post_processor={
        "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True, "add_prefix_space": False})
    for index, pattern in enumerate(PATTERNS):
        case("regex-%02d" % index, "plain", pre_tokenizer=split(pattern))
    return cases


def decode_cases():
    cases = {}

    def case(name, model, decoder, **sections):
        cases[name] = (model, dict(decoder=decoder, added_tokens=[added("<s>", 1), added("<x y>"), added("é世")], **sections))

    case("none", "plain", None)
    case("byte-level", "byte", byte_level(True, True))
    case("byte-fallback", "meta-bytes", {"type": "ByteFallback"})
    case("fuse", "plain", {"type": "Fuse"})
    llama = sequence("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                     {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
    case("llama2", "meta-bytes", llama)
    case("strip", "plain", {"type": "Strip", "content": "a", "start": 2, "stop": 1})
    case("replace", "plain", {"type": "Replace", "pattern": {"Regex": "[aeiou]+"}, "content": "<>"})
    for scheme in ("always", "first", "never"):
        case("metaspace-" + scheme, "meta-bytes", meta(scheme))
    case("metaspace-old", "meta-bytes", {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True})
    case("bpe", "word", {"type": "BPEDecoder", "suffix": "</w>"})
    case("wordpiece", "word", {"type": "WordPiece", "prefix": "##", "cleanup": True})
    case("wordpiece-raw", "word", {"type": "WordPiece", "prefix": "##", "cleanup": False})
    case("ctc", "plain", {"type": "CTC", "pad_token": "a", "word_delimiter_token": "l", "cleanup": True})
    case("ctc-raw", "plain", {"type": "CTC", "pad_token": "e", "word_delimiter_token": " ", "cleanup": False})
    return cases


def document(model, sections):
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}
    whole.update(sections)
    return whole


# ---- goldens ----

def write(folder):
    base = build_models()
    texts = [t.decode() if as_str(t).encode() == t else {"hex": t.hex()} for t in TEXTS]
    out = {"library": "tokenizers " + tokenizers.__version__, "texts": texts, "models": base, "encode": [], "decode": []}
    for name, (model, sections) in encode_cases().items():
        tok = Tokenizer.from_str(json.dumps(document(base[model], sections)))
        row = {"name": name, "model": model, **sections}
        row["ids"] = [tok.encode(as_str(t), add_special_tokens=False).ids for t in TEXTS]
        if "post_processor" in sections:
            row["ids_special"] = [tok.encode(as_str(t)).ids for t in TEXTS]
        out["encode"].append(row)
    for name, (model, sections) in decode_cases().items():
        tok = Tokenizer.from_str(json.dumps(document(base[model], sections)))
        rng = random.Random(name)
        row = {"name": name, "model": model, **sections, "cases": []}
        for length in [0, 1, 1, 2, 3, 5, 8] + [12] * 13:
            ids = random_ids(rng, tok, length)
            row["cases"].append([ids, tok.decode(ids, skip_special_tokens=False), tok.decode(ids, skip_special_tokens=True)])
        out["decode"].append(row)
    os.makedirs(folder, exist_ok=True)
    write_rows(os.path.join(folder, "variants.json"), out)
    write_texts(folder)


def write_texts(folder):
    """Whole texts through the bundled model's tokenizer: count, SHA-256 of the ids as little-endian int32, the ends."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    tok = Tokenizer.from_file(os.path.join(root, "models/novel-7m/tokenizer.json"))
    rows = {}
    for name in ("sample-a.txt", "sample-b.txt"):
        with open(os.path.join(root, "tests/data/text", name), "rb") as file:
            ids = tok.encode(as_str(file.read())).ids
        digest = hashlib.sha256(struct.pack("<%di" % len(ids), *ids)).hexdigest()
        rows[name] = {"count": len(ids), "sha256_int32_le": digest, "first16": ids[:16], "last16": ids[-16:]}
    with open(os.path.join(folder, "texts.json"), "w", encoding="utf-8") as file:
        json.dump({"library": "tokenizers " + tokenizers.__version__, "files": rows}, file, indent=1)
        file.write("\n")


def random_ids(rng, tok, length):
    size = tok.get_vocab_size()
    ids = [rng.randrange(size) for _ in range(length)]
    byte = tok.token_to_id("<0x00>")
    if byte is not None and length > 3:  # a run of byte tokens: valid, or cut
        data = rng.choice(["é", "世", "😀", "añ"]).encode()[rng.randrange(2):]
        ids[2:2] = [byte + b for b in data]
    if length > 4:
        ids[3] = ids[4]
    return ids


def write_rows(path, out):
    """One line per model, case and text list: small, and a change shows in a diff."""
    def dump(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"library":%s,\n"texts":%s,\n"models":{\n' % (dump(out["library"]), dump(out["texts"])))
        file.write(",\n".join("%s:%s" % (dump(k), dump(v)) for k, v in out["models"].items()))
        for key in ("encode", "decode"):
            file.write("\n%s,\n\"%s\":[\n" % ("}" if key == "encode" else "]", key))
            file.write(",\n".join(dump(row) for row in out[key]))
        file.write("\n]}\n")
    print("%s: %d bytes" % (path, os.path.getsize(path)))


# ---- live comparison ----

class Program:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def open(self, text):
        with open(os.path.join(self.folder, "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(text)

    def encode(self, data):
        name = os.path.join(self.folder, "text")
        with open(name, "wb") as file:
            file.write(data)
        out = subprocess.run([self.path, "tokenize", self.folder, "--text", name, "--json"], capture_output=True)
        if out.returncode:
            return out.stderr.decode()
        answer = json.loads(out.stdout)
        assert answer["count"] == len(answer["ids"])
        return answer["ids"]


class Encoding(ctypes.Structure):
    _fields_ = [("ids", ctypes.POINTER(ctypes.c_int32)), ("count", ctypes.c_size_t)]


class Library:
    def __init__(self, path, folder):
        self.lib, self.folder, self.tok = ctypes.CDLL(os.path.abspath(path)), folder, None
        self.lib.ht_error_message.restype = ctypes.c_char_p
        self.ctx = ctypes.c_void_p()
        assert self.lib.ht_context_create(None, ctypes.byref(self.ctx)) == 0

    def open(self, text):
        name = os.path.join(self.folder, "tokenizer.json")
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        if self.tok:
            self.lib.ht_tokenizer_close(self.tok)
        self.tok = ctypes.c_void_p()
        if self.lib.ht_tokenizer_open(self.ctx, name.encode(), ctypes.byref(self.tok)):
            raise SystemExit(self.lib.ht_error_message().decode())

    def encode(self, data):
        out = Encoding()
        if self.lib.ht_tokenizer_encode(self.tok, data, ctypes.c_size_t(len(data)), 1, ctypes.byref(out)):
            return self.lib.ht_error_message().decode()
        ids = out.ids[:out.count] if out.count else []
        self.lib.ht_encoding_release(ctypes.byref(out))
        return ids


def random_text(rng):
    parts = [rng.choice(TEXTS) for _ in range(3)]
    text = b"".join(p[(i := rng.randrange(len(p) + 1)):i + rng.randrange(30)] for p in parts)
    extra = [" ", "  ", "\n", "\r\n", "'s", "'LL", "<s>", "TOKEN", "1", "23", "é", "e\u0301", "世界", "😀", "\u200d", "▁", ".", "!?", "A", "ß", "\u00a0", "\t"]
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(extra).encode() + text[at:]
    return text


def compare(other, count, seed):
    rng, base, wrong, done = random.Random(seed), build_models(), 0, 0
    for name, (model, sections) in encode_cases().items():
        text = json.dumps(document(base[model], sections))
        tok = Tokenizer.from_str(text)
        other.open(text)
        for data in TEXTS + [random_text(rng) for _ in range(count)]:
            want, got = tok.encode(as_str(data)).ids, other.encode(data)
            done += 1
            if got != want:
                wrong += 1
                if wrong <= 40:
                    print("%s: %r\n  want %s\n  got  %s" % (name, data, want, got))
    print("%d texts in %d tokenizers, %d differ (tokenizers %s)" % (done, len(encode_cases()), wrong, tokenizers.__version__))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FOLDER")
    parser.add_argument("--program", metavar="FILE")
    parser.add_argument("--library", metavar="FILE")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="random texts per tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.write:
        write(args.write)
    with tempfile.TemporaryDirectory() as folder:
        if args.program and compare(Program(args.program, folder), args.random, args.seed):
            sys.exit(1)
        if args.library and compare(Library(args.library, folder), args.random, args.seed):
            sys.exit(1)


if __name__ == "__main__":
    main()
