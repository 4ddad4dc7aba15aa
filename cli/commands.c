/* The table of commands: one row each. Adding one is a row here, its declaration in commands.h and cmd_<name>.c.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/commands.h"

#include <string.h>

static const cli_command commands[] = {
    {.name = "inspect",
     .examples = "halftone inspect models/novel-7m --tensors",
     .summary = "what a checkpoint holds",
     .arguments = "PATH",
     .least = 1,
     .most = 1,
     .options = &cli_inspect_options,
     .run = cli_inspect,
     .details =
         "PATH is a Hugging Face directory, a safetensors file or a GGUF file. Every header is checked; no weight is "
         "read."},
    {.name = "tokenize",
     .examples = "halftone tokenize models/novel-7m -p \"It was a dark night\"",
     .summary = "text to token ids and back",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_tokenize_options,
     .run = cli_tokenize,
     .details = "MODEL is a directory with tokenizer.json, or that file."},
    {.name = "logits",
     .examples = "halftone logits models/novel-7m --ids 1,2,3 -o logits.safetensors",
     .summary = "f32 logits of a sequence, as a safetensors file",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_logits_options,
     .run = cli_logits,
     .details = "The file holds one tensor, logits, [tokens, vocabulary]."},
    {.name = "plan",
     .examples =
         "halftone plan models/novel-7m --scheme nvfp4\nhalftone plan models/novel-7m --scheme int4-g32-asym --tensors",
     .summary = "what quantize would do to every tensor, and why",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_plan_options,
     .run = cli_plan,
     .details = "Reads headers only. Exit status 0 means that quantize can do it."},
    {.name = "quantize",
     .examples = "halftone quantize models/novel-7m -o out --scheme mxfp4\nhalftone quantize models/novel-7m -o small "
                 "--scheme int4 --scale-rule mse --report small.html",
     .summary = "write a smaller checkpoint",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_quantize_options,
     .run = cli_quantize,
     .resumable = 1,
     .details =
         "The output has the same bytes for any number of threads and any chunk size. Stopped by a signal or killed, "
         "the same command goes on where it stopped and gives the same bytes. The closing line shows the rate of the "
         "input beside two yardsticks of the same run: the same input copied to a file, and a copy in memory."},
    {.name = "search",
     .examples = "halftone search models/novel-7m --target-bpw 4.5 --data tests/data/text/sample-a.txt --samples 2 "
                 "--candidates int3-g32,mxfp4-w,int5-g64,mxfp8-w --method rtn -o recipe.yaml",
     .summary = "mixed precision: the recipe that spends a budget best",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_search_options,
     .run = cli_search,
     .details =
         "Measures what each linear loses under each candidate and writes the recipe that loses least within the "
         "target; quantize --recipe takes it as it is. Linears that readers run as one matrix (q, k, v; gate, up; the "
         "experts of a layer) get one scheme. The recipe is the same for any number of threads."},
    {.name = "verify",
     .examples = "halftone verify out --against models/novel-7m --for vllm",
     .summary = "re-read a quantized checkpoint and prove it",
     .arguments = "OUT",
     .least = 1,
     .most = 1,
     .options = &cli_verify_options,
     .run = cli_verify,
     .details = "Exit status 6 when a check fails."},
    {.name = "eval",
     .examples = "halftone eval out --text tests/data/text/sample-a.txt --tokens 4096 --against models/novel-7m",
     .summary = "perplexity of a text, and distance from another model",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_eval_options,
     .run = cli_eval,
     .details =
         "The text is tokenized once and cut into windows of --context tokens that do not overlap; a last partial "
         "window is dropped. The loss is the mean over positions 1 to context-1 of every window; perplexity is exp "
         "of it. Inputs are quantized on the fly where the model's scheme says so."},
    {.name = "run",
     .examples = "halftone run out -p \"It was a dark night\" -n 40",
     .summary = "continue a prompt",
     .arguments = "MODEL",
     .least = 1,
     .most = 1,
     .options = &cli_run_options,
     .run = cli_run,
     .details = "Text appears as it is generated. The same seed gives the same text."},
    {.name = "compare",
     .examples = "halftone compare models/novel-7m out --top 5",
     .summary = "error of every tensor between two checkpoints",
     .arguments = "A B",
     .least = 2,
     .most = 2,
     .options = &cli_compare_options,
     .run = cli_compare,
     .details = "Both are decoded to f32; SQNR is that of B as an approximation of A. Worst first."},
    {.name = "bench",
     .examples = "halftone bench cast --what mxfp4",
     .summary = "rates of this machine, each beside a yardstick",
     .arguments = "cast|matmul|kernels|dense|gptq|model",
     .least = 1,
     .most = 1,
     .options = &cli_bench_options,
     .run = cli_bench,
     .details =
         "cast: formats from bf16 and to f32. matmul: quantized weights. kernels: one scheme at every level of CPU "
         "features. dense: second moments of inputs, and gptq: whole matrices, both beside OpenBLAS where it is found. "
         "model: prompt and generation. The yardstick alternates with the thing measured; the medians "
         "and their ratio are printed."},
    {.name = "doctor",
     .examples = "halftone doctor --kernels",
     .summary = "what this machine and this build offer",
     .arguments = "",
     .options = &cli_doctor_options,
     .run = cli_doctor,
     .details = "CPU features, devices, libraries; with --kernels the choice for every operation and its reason."},
    {.name = "list",
     .examples = "halftone list schemes",
     .summary = "names that other commands accept",
     .arguments = "schemes|formats|methods|profiles|architectures|kernels",
     .least = 1,
     .most = 1,
     .run = cli_list},
};

const cli_command *cli_command_at(size_t index) {
    return index < sizeof commands / sizeof *commands ? &commands[index] : NULL;
}

const cli_command *cli_command_find(const char *name) {
    for (size_t i = 0; cli_command_at(i); i++)
        if (strcmp(cli_command_at(i)->name, name) == 0)
            return cli_command_at(i);
    return NULL;
}
