/* The writer: layout, sidecars, refusals, resume after every kind of death, full disks. */
#include <halftone/checkpoint.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_map.h"
#include "support/check.h"

static ht_context *ctx;

enum { TENSORS = 9 };

static const ht_output_tensor tensors[TENSORS] = {
    {"model.a.weight_packed", HT_U8, 2, {3, 5}}, {"model.a.weight_scale", HT_BF16, 2, {3, 1}},
    {"model.b.weight", HT_F32, 2, {7, 9}},       {"model.c.weight_shape", HT_I64, 1, {2}},
    {"model.d \"quoted\"", HT_U8, 1, {1}},       {"model.e.empty", HT_F32, 2, {0, 4}},
    {"model.f.weight", HT_BF16, 2, {100, 64}},   {"model.g.scalar", HT_F32, 0, {0}},
    {"model.h.weight", HT_F8_E4M3, 2, {33, 3}},
};
static const size_t sizes[TENSORS] = {15, 6, 252, 16, 1, 0, 12800, 4, 99};

/* Lives as long as the program. */
static char *path_of(const char *directory, const char *name) {
    static char pool[4 << 20];
    static size_t used;
    char *p = pool + used;
    size_t a = strlen(directory), b = strlen(name);
    if (used + a + b + 2 > sizeof pool)
        abort();
    memcpy(p, directory, a);
    p[a] = '/';
    memcpy(p + a + 1, name, b + 1);
    used += a + b + 2;
    return p;
}

static uint8_t value_of(size_t tensor, size_t at) {
    return (uint8_t)(tensor * 37 + at * 11 + at / 256);
}

static ht_status write_one(ht_checkpoint_writer *writer, size_t t) {
    uint8_t bytes[12800];
    for (size_t i = 0; i < sizes[t]; i++)
        bytes[i] = value_of(t, i);
    size_t half = sizes[t] / 2; /* back to front: any order is fine */
    ht_status status = ht_checkpoint_writer_write(writer, t, half, bytes + half, sizes[t] - half);
    if (status == HT_OK)
        status = ht_checkpoint_writer_write(writer, t, 0, bytes, half);
    return status == HT_OK ? ht_checkpoint_writer_done(writer, t) : status;
}

static ht_status finish(ht_checkpoint_writer *writer) {
    ht_status status = HT_OK;
    for (size_t t = 0; t < TENSORS && status == HT_OK; t++)
        if (!ht_checkpoint_writer_is_done(writer, t))
            status = write_one(writer, t);
    if (status == HT_OK)
        status = ht_checkpoint_writer_file(writer, "config.json", "{}\n", 3);
    if (status == HT_OK)
        status = ht_checkpoint_writer_file(writer, "tokenizer.json", "[]", 2);
    return status == HT_OK ? ht_checkpoint_writer_commit(writer) : status;
}

static const char *const metadata[] = {"format", "pt", NULL};

static ht_writer_options options_of(uint64_t shard_bytes) {
    return (ht_writer_options){.shard_bytes = shard_bytes, .fingerprint = "a=1\nscheme=mxfp4\n", .metadata = metadata};
}

static ht_status create(const char *directory, const ht_writer_options *options, ht_checkpoint_writer **out) {
    return ht_checkpoint_writer_create(ctx, directory, tensors, TENSORS, options, out);
}

/* A complete output; its path. */
static const char *reference(uint64_t shard_bytes) {
    static int number;
    char name[40];
    snprintf(name, sizeof name, "reference%d", number++);
    const char *directory = path_of(check_scratch(), name);
    ht_writer_options options = options_of(shard_bytes);
    ht_checkpoint_writer *writer;
    CHECK_OK(create(directory, &options, &writer));
    CHECK_OK(finish(writer));
    ht_checkpoint_writer_destroy(writer);
    return directory;
}

static int entries_of(const char *directory) {
    int count = 0;
    DIR *dir = opendir(directory);
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count - 2;
}

/* Same names, same bytes. */
static void check_same(const char *a, const char *b) {
    CHECK_INT(entries_of(a), entries_of(b));
    DIR *dir = opendir(a);
    REQUIRE(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        ht_file_map x, y;
        CHECK_OK(ht_file_map_open(path_of(a, entry->d_name), &x));
        if (CHECK_OK(ht_file_map_open(path_of(b, entry->d_name), &y)) && CHECK_INT(x.bytes, y.bytes))
            CHECK_BYTES(x.data, y.data, x.bytes);
        ht_file_map_close(&x);
        ht_file_map_close(&y);
    }
    closedir(dir);
}

static void check_contents(const char *directory) {
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, directory, &checkpoint));
    CHECK_INT(ht_checkpoint_tensor_count(checkpoint), TENSORS);
    CHECK_TEXT(ht_checkpoint_metadata_value(checkpoint, 0), "pt");
    CHECK_TEXT(ht_checkpoint_config(checkpoint), "{}\n");
    for (size_t t = 0; t < TENSORS; t++) {
        const ht_stored_tensor *tensor = ht_checkpoint_find(checkpoint, tensors[t].name);
        if (!CHECK(tensor != NULL) || !CHECK_INT(tensor->bytes, sizes[t]))
            continue;
        CHECK_INT(tensor->dtype, tensors[t].dtype);
        CHECK_INT(tensor->rank, tensors[t].rank);
        if (sizes[t])
            CHECK_INT(tensor->offset % (ht_dtype_bits(tensor->dtype) / 8), 0);
        for (size_t i = 0; i < sizes[t]; i++)
            if (((const uint8_t *)tensor->data)[i] != value_of(t, i)) {
                CHECK_INT(((const uint8_t *)tensor->data)[i], value_of(t, i));
                break;
            }
    }
    ht_checkpoint_close(checkpoint);
}

static void one_file(void) {
    const char *directory = reference(0);
    CHECK_INT(entries_of(directory), 3);
    check_contents(directory);
    ht_file_map map;
    REQUIRE_OK(ht_file_map_open(path_of(directory, "model.safetensors"), &map));
    uint64_t length;
    memcpy(&length, map.data, 8);
    CHECK_INT((length + 8) % 64, 0);
    ht_file_map_close(&map);
}

static void shards(void) {
    const char *directory = reference(300);
    CHECK_INT(entries_of(directory), 6); /* 3 shards, index, config, tokenizer */
    check_contents(directory);
    ht_file_map map;
    REQUIRE_OK(ht_file_map_open(path_of(directory, "model.safetensors.index.json"), &map));
    char *text = strndup((const char *)map.data, map.bytes);
    CHECK_CONTAINS(text, "\"total_size\": 13193");
    CHECK_CONTAINS(text, "\"model.d \\\"quoted\\\"\": \"model-00001-of-00003.safetensors\"");
    free(text);
    ht_file_map_close(&map);
}

static void existing(void) {
    const char *directory = reference(300);
    ht_writer_options options = options_of(0);
    ht_checkpoint_writer *writer;
    CHECK_FAILS(create(directory, &options, &writer), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), "--overwrite");
    CHECK(access(path_of(directory, ".halftone"), F_OK) != 0);
    check_contents(directory);
    options.overwrite = 1;
    REQUIRE_OK(create(directory, &options, &writer));
    check_contents(directory); /* untouched until the commit */
    CHECK_OK(finish(writer));
    ht_checkpoint_writer_destroy(writer);
    check_contents(directory);
    check_same(directory, reference(0));
}

static void resume(void) {
    const char *want = reference(300), *directory = path_of(check_scratch(), "resume");
    ht_writer_options options = options_of(300);
    ht_checkpoint_writer *writer;
    options.resume = HT_RESUME_REQUIRED;
    CHECK_FAILS(create(directory, &options, &writer), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), "nothing to resume");
    CHECK(access(directory, F_OK) != 0);
    options.resume = HT_RESUME_AUTO;
    REQUIRE_OK(create(directory, &options, &writer));
    CHECK_OK(write_one(writer, 2));
    CHECK_OK(write_one(writer, 6));
    CHECK_FAILS(ht_checkpoint_writer_commit(writer), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "model.a.weight_packed is not complete");
    ht_checkpoint_writer_destroy(writer);
    CHECK_INT(entries_of(directory), 1);

    options.fingerprint = "a=1\nscheme=mxfp8\n";
    CHECK_FAILS(create(directory, &options, &writer), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), "scheme differs (begun with \"scheme=mxfp4\", now \"scheme=mxfp8\")");
    options = options_of(0);
    CHECK_FAILS(create(directory, &options, &writer), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), "the tensors to write differ");

    options = options_of(300);
    options.resume = HT_RESUME_REQUIRED;
    REQUIRE_OK(create(directory, &options, &writer));
    for (size_t t = 0; t < TENSORS; t++)
        CHECK_INT(ht_checkpoint_writer_is_done(writer, t), t == 2 || t == 6);
    ht_checkpoint_writer_destroy(writer);

    options.resume = HT_RESUME_NEVER;
    REQUIRE_OK(create(directory, &options, &writer));
    CHECK_INT(ht_checkpoint_writer_is_done(writer, 2), 0);
    CHECK_OK(finish(writer));
    ht_checkpoint_writer_destroy(writer);
    check_same(directory, want);
}

/* The process dies between any two calls. */
static void killed_between_calls(void) {
    const char *want = reference(300);
    for (int stop = 0; stop <= TENSORS + 2; stop++) {
        char name[40];
        snprintf(name, sizeof name, "killed%d", stop);
        const char *directory = path_of(check_scratch(), name);
        ht_writer_options options = options_of(300);
        ht_checkpoint_writer *writer;
        pid_t child = fork();
        if (child == 0) {
            if (create(directory, &options, &writer) != HT_OK)
                _exit(1);
            for (int t = 0; t < TENSORS && t < stop; t++)
                if (write_one(writer, (size_t)t) != HT_OK)
                    _exit(2);
            if (stop > TENSORS)
                ht_checkpoint_writer_file(writer, "config.json", "{}", 2);
            _exit(0);
        }
        int state;
        waitpid(child, &state, 0);
        CHECK_INT(state, 0);
        REQUIRE_OK(create(directory, &options, &writer));
        for (int t = 0; t < TENSORS; t++)
            CHECK_INT(ht_checkpoint_writer_is_done(writer, (size_t)t), t < stop);
        CHECK_OK(finish(writer));
        ht_checkpoint_writer_destroy(writer);
        check_same(directory, want);
    }
}

/* SIGKILL at any time, again and again, until one run gets through. */
static void killed_anywhere(void) {
    const char *want = reference(300), *directory = path_of(check_scratch(), "anywhere");
    unsigned delay = 100;
    for (int round = 0; round < 200; round++, delay += 37 + delay / 16) { /* slow builds too get through */
        pid_t child = fork();
        if (child == 0) {
            ht_writer_options options = options_of(300);
            ht_checkpoint_writer *writer;
            if (create(directory, &options, &writer) != HT_OK || finish(writer) != HT_OK)
                _exit(access(path_of(directory, "config.json"), F_OK) == 0 ? 3 : 4);
            _exit(0);
        }
        usleep(delay);
        kill(child, SIGKILL);
        int state;
        waitpid(child, &state, 0);
        if (WIFSIGNALED(state))
            continue;
        CHECK(WEXITSTATUS(state) == 0 || WEXITSTATUS(state) == 3); /* 3: the run before had finished already */
        break;
    }
    CHECK(access(path_of(directory, ".halftone"), F_OK) != 0);
    check_same(directory, want);
}

static void append_text(const char *path, const char *text) {
    FILE *file = fopen(path, "ab");
    if (CHECK(file != NULL)) {
        fputs(text, file);
        fclose(file);
    }
}

/* Killed while files were being moved: some are in place, some not. */
static void killed_in_commit(void) {
    const char *want = reference(300);
    static const char *const files[] = {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors"};
    for (int moved = 0; moved <= 3; moved++) {
        char name[40];
        snprintf(name, sizeof name, "commit%d", moved);
        const char *directory = path_of(check_scratch(), name);
        ht_writer_options options = options_of(300);
        ht_checkpoint_writer *writer;
        REQUIRE_OK(create(directory, &options, &writer));
        for (size_t t = 0; t < TENSORS; t++)
            CHECK_OK(write_one(writer, t));
        ht_checkpoint_writer_destroy(writer);
        append_text(path_of(directory, ".halftone/journal"), "commit\n");
        for (int i = 0; i < moved; i++) {
            char staged[100];
            snprintf(staged, sizeof staged, ".halftone/files/%s", files[i]);
            CHECK_INT(rename(path_of(directory, staged), path_of(directory, files[i])), 0);
        }
        REQUIRE_OK(create(directory, &options, &writer));
        CHECK_INT(ht_checkpoint_writer_is_done(writer, 0), 1);
        CHECK_OK(finish(writer));
        ht_checkpoint_writer_destroy(writer);
        check_same(directory, want);
    }
}

/* After a restart of the machine only what was synced counts; a torn line never does. */
static void machine_died(void) {
    const char *want = reference(300), *directory = path_of(check_scratch(), "machine");
    ht_writer_options options = options_of(300);
    ht_checkpoint_writer *writer;
    REQUIRE_OK(create(directory, &options, &writer));
    CHECK_OK(write_one(writer, 0));
    ht_checkpoint_writer_destroy(writer);
    char *journal = path_of(directory, ".halftone/journal");
    ht_file_map map;
    REQUIRE_OK(ht_file_map_open(journal, &map));
    char *text = strndup((const char *)map.data, map.bytes);
    ht_file_map_close(&map);
    FILE *file = fopen(journal, "wb"); /* as another boot would have written it, with a sync after tensor 1 */
    fprintf(file, "halftone-journal 1 another-boot%s", strchr(text, '\n'));
    fclose(file);
    char *boot = strstr(text, "boot ");
    REQUIRE(boot);
    file = fopen(journal, "wb");
    *boot = '\0';
    fprintf(file, "halftone-journal 1 another-boot%sdone 1\nsynced\ndone 0\ndone 7", strchr(text, '\n'));
    fclose(file);
    free(text);
    REQUIRE_OK(create(directory, &options, &writer));
    CHECK_INT(ht_checkpoint_writer_is_done(writer, 1), 1);
    CHECK_INT(ht_checkpoint_writer_is_done(writer, 0), 0);
    CHECK_INT(ht_checkpoint_writer_is_done(writer, 7), 0);
    CHECK_OK(write_one(writer, 1) == HT_OK ? HT_OK : HT_ERR_OUTPUT);
    CHECK_OK(finish(writer));
    ht_checkpoint_writer_destroy(writer);
    check_same(directory, want);
}

static void bad_journals(void) {
    static const char *const texts[] = {"", "nonsense\n", "halftone-journal 2 x\nlayout 0\n", "halftone-journal 1 x\n",
                                        "halftone-journal 1 x\nlayout zz\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "journal%zu", i);
        const char *directory = path_of(check_scratch(), name);
        mkdir(directory, 0777);
        mkdir(path_of(directory, ".halftone"), 0777);
        append_text(path_of(directory, ".halftone/journal"), texts[i]);
        ht_writer_options options = options_of(0);
        ht_checkpoint_writer *writer;
        REQUIRE_OK(create(directory, &options, &writer));
        CHECK_OK(finish(writer));
        ht_checkpoint_writer_destroy(writer);
        check_contents(directory);
    }
}

static void two_at_once(void) {
    const char *directory = path_of(check_scratch(), "twice");
    ht_writer_options options = options_of(0);
    ht_checkpoint_writer *first, *second;
    REQUIRE_OK(create(directory, &options, &first));
    CHECK_FAILS(create(directory, &options, &second), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), "another run is writing here");
    CHECK_OK(finish(first));
    ht_checkpoint_writer_destroy(first);
    check_contents(directory);
}

static void sidecars(void) {
    const char *source = reference(0), *directory = path_of(check_scratch(), "sidecars");
    append_text(path_of(source, "README.md"), "hello");
    append_text(path_of(source, "pytorch_model.bin"), "weights");
    append_text(path_of(source, "model.GGUF"), "weights");
    append_text(path_of(source, "pytorch_model.bin.index.json"), "{}");
    append_text(path_of(source, ".hidden"), "x");
    mkdir(path_of(source, "folder"), 0777);
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, source, &checkpoint));
    ht_writer_options options = options_of(0);
    ht_checkpoint_writer *writer;
    REQUIRE_OK(create(directory, &options, &writer));
    CHECK_OK(ht_checkpoint_writer_file(writer, "config.json", "{\"new\":1}", 9));
    CHECK_OK(ht_checkpoint_writer_sidecars(writer, checkpoint));
    for (size_t t = 0; t < TENSORS; t++)
        CHECK_OK(write_one(writer, t));
    CHECK_OK(ht_checkpoint_writer_commit(writer));
    ht_checkpoint_writer_destroy(writer);
    ht_checkpoint_close(checkpoint);
    CHECK_INT(entries_of(directory), 4); /* model, config, tokenizer, README */
    ht_file_map map;
    if (CHECK_OK(ht_file_map_open(path_of(directory, "README.md"), &map)))
        CHECK_BYTES(map.data, "hello", 5);
    ht_file_map_close(&map);
    if (CHECK_OK(ht_file_map_open(path_of(directory, "config.json"), &map)))
        CHECK_BYTES(map.data, "{\"new\":1}", 9);
    ht_file_map_close(&map);
}

static void bad_arguments(void) {
    const char *directory = path_of(check_scratch(), "arguments");
    ht_checkpoint_writer *writer;
    ht_output_tensor twice[2] = {{"a", HT_U8, 1, {1}}, {"a", HT_U8, 1, {1}}};
    CHECK_FAILS(ht_checkpoint_writer_create(ctx, directory, twice, 2, NULL, &writer), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "tensor a is given twice");
    ht_output_tensor narrow = {"a", HT_I4, 1, {2}};
    CHECK_FAILS(ht_checkpoint_writer_create(ctx, directory, &narrow, 1, NULL, &writer), HT_ERR_ARGUMENT);
    ht_output_tensor large = {"a", HT_F32, 2, {SIZE_MAX / 2, 4}};
    CHECK_FAILS(ht_checkpoint_writer_create(ctx, directory, &large, 1, NULL, &writer), HT_ERR_SHAPE);
    ht_output_tensor invalid = {"a\xff", HT_U8, 1, {1}};
    CHECK_FAILS(ht_checkpoint_writer_create(ctx, directory, &invalid, 1, NULL, &writer), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_checkpoint_writer_create(ctx, "", tensors, 1, NULL, &writer), HT_ERR_ARGUMENT);
    CHECK(access(directory, F_OK) != 0);
    REQUIRE_OK(create(directory, NULL, &writer));
    CHECK_FAILS(ht_checkpoint_writer_write(writer, 0, 10, "123456", 6), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_checkpoint_writer_write(writer, 0, UINT64_MAX, "1", 1), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_checkpoint_writer_write(writer, TENSORS, 0, "1", 1), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_checkpoint_writer_done(writer, TENSORS), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_checkpoint_writer_file(writer, "../x", "", 0), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_checkpoint_writer_file(writer, "model.safetensors", "", 0), HT_ERR_ARGUMENT);
    ht_checkpoint_writer_destroy(writer);
    ht_checkpoint_writer_destroy(NULL);
}

static void unwritable(void) {
    append_text(path_of(check_scratch(), "plain"), "x");
    ht_checkpoint_writer *writer;
    CHECK_FAILS(create(path_of(check_scratch(), "plain"), NULL, &writer), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), "not a directory");
    CHECK_FAILS(create(path_of(check_scratch(), "plain/out"), NULL, &writer), HT_ERR_OUTPUT);
    CHECK_FAILS(create(path_of(check_scratch(), "no/such"), NULL, &writer), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), "cannot create the directory");
    CHECK_FAILS(create("/proc/halftone", NULL, &writer), HT_ERR_OUTPUT);
}

static void too_large(void) {
    const char *directory = path_of(check_scratch(), "large");
    ht_output_tensor huge = {"a", HT_U8, 2, {(size_t)1 << 40, 1 << 10}};
    ht_checkpoint_writer *writer;
    CHECK_FAILS(ht_checkpoint_writer_create(ctx, directory, &huge, 1, NULL, &writer), HT_ERR_SPACE);
    CHECK_CONTAINS(ht_error_message(), "bytes needed, the file system has");
    CHECK(access(directory, F_OK) != 0);
}

/* In a child: a limit on file sizes stands for a disk that fills up. */
static void full_disk(void) {
    const char *directory = path_of(check_scratch(), "full");
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        ht_checkpoint_writer *writer;
        ht_status status = create(directory, NULL, &writer);
        _exit(status == HT_ERR_SPACE && access(directory, F_OK) != 0 ? 0 : 1);
    }
    int state;
    waitpid(child, &state, 0);
    CHECK_INT(state, 0);
}

/* A real file system of 64 KiB, where the process may mount one. */
static void small_file_system(void) {
    const char *directory = path_of(check_scratch(), "mount");
    mkdir(directory, 0777);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) != 0 ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", directory, "tmpfs", 0, "size=65536") != 0)
            _exit(77);
        ht_output_tensor tensor = {"a", HT_U8, 1, {50000}};
        ht_checkpoint_writer *writer;
        char output[900], pad[900];
        snprintf(output, sizeof output, "%s/out", directory);
        snprintf(pad, sizeof pad, "%s/pad", directory);
        if (ht_checkpoint_writer_create(ctx, output, &tensor, 1, NULL, &writer) != HT_OK)
            _exit(1);
        FILE *file = fopen(pad, "wb"); /* somebody else takes the rest */
        for (int i = 0; i < 65536 && fputc('x', file) != EOF; i++)
            ;
        fclose(file);
        char data[50000] = {1};
        if (ht_checkpoint_writer_write(writer, 0, 0, data, sizeof data) != HT_OK) /* was reserved */
            _exit(2);
        char text[30000] = {1};
        _exit(ht_checkpoint_writer_file(writer, "config.json", text, sizeof text) == HT_ERR_SPACE ? 0 : 3);
    }
    int state;
    waitpid(child, &state, 0);
    if (WIFEXITED(state) && WEXITSTATUS(state) == 77)
        SKIP("this process may not mount a file system");
    CHECK_INT(state, 0);
}

static void save(void) {
    const char *path = path_of(check_scratch(), "saved.safetensors");
    float f[2] = {1, 2};
    uint8_t u[3] = {1, 2, 3};
    const char *names[2] = {"u", "f"};
    ht_tensor views[2] = {ht_tensor_view_2d(u, HT_U8, 3, 1), ht_tensor_view_2d(f, HT_F32, 1, 2)};
    REQUIRE_OK(ht_safetensors_save(ctx, path, names, views, 2, metadata));
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, path, &checkpoint));
    CHECK_BYTES(ht_checkpoint_find(checkpoint, "f")->data, f, 8);
    CHECK_BYTES(ht_checkpoint_find(checkpoint, "u")->data, u, 3);
    ht_checkpoint_close(checkpoint);
    CHECK_FAILS(ht_safetensors_save(ctx, "/nonexistent/x", names, views, 2, NULL), HT_ERR_OUTPUT);
}

int main(void) {
    ht_context_options options = ht_context_options_default();
    options.threads = 1; /* the children of fork have no pool */
    if (ht_context_create(&options, &ctx) != HT_OK)
        return 1;
    RUN(one_file);
    RUN(shards);
    RUN(existing);
    RUN(resume);
    RUN(killed_between_calls);
    RUN(killed_anywhere);
    RUN(killed_in_commit);
    RUN(machine_died);
    RUN(bad_journals);
    RUN(two_at_once);
    RUN(sidecars);
    RUN(bad_arguments);
    RUN(unwritable);
    RUN(too_large);
    RUN(full_disk);
    RUN(small_file_system);
    RUN(save);
    ht_context_destroy(ctx);
    return check_finish();
}
