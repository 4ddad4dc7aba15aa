/* The table of commands: one row each. Adding one is a row here, its declaration in commands.h and cmd_<name>.c.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/commands.h"

#include <string.h>

static const cli_command commands[] = {
    {.name = "inspect",
     .summary = "what a checkpoint holds",
     .arguments = "PATH",
     .least = 1,
     .most = 1,
     .options = &cli_inspect_options,
     .run = cli_inspect,
     .details =
         "PATH is a Hugging Face directory, a safetensors file or a GGUF file. Every header is checked; no weight is "
         "read."},
    {.name = "bench",
     .summary = "rates of this machine, each beside a yardstick",
     .arguments = "cast",
     .least = 1,
     .most = 1,
     .options = &cli_bench_options,
     .run = cli_bench,
     .details =
         "cast: formats from bf16 and to f32. matmul: quantized weights. kernels: one scheme at every level of CPU "
         "features. model: prompt and generation. The yardstick alternates with the thing measured; the medians "
         "and their ratio are printed."},
    {.name = "doctor",
     .summary = "what this machine and this build offer",
     .arguments = "",
     .run = cli_doctor,
     .details = "CPU features and libraries."},
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
