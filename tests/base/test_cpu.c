/* CPU detection: masks only take away, unknown caps are refused, and the compiler's own view agrees. */
#include "base/cpu.h"

#include "base/context.h"
#include "support/check.h"

static void caps_take_away(void) {
    static const char *const caps[] = {"baseline", "avx2", "AVX512", "avx512vnni", "amx", "neon", "sve"};
    ht_cpu all;
    REQUIRE_OK(ht_cpu_detect(NULL, &all));
    CHECK_INT(all.enabled, all.present);
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        ht_cpu cpu;
        REQUIRE_OK(ht_cpu_detect(caps[i], &cpu));
        CHECK_INT(cpu.present, all.present);
        CHECK_INT(cpu.enabled & ~all.present, 0);
    }
    ht_cpu cpu;
    REQUIRE_OK(ht_cpu_detect("baseline", &cpu));
    CHECK_INT(cpu.enabled, 0);
    REQUIRE_OK(ht_cpu_detect("avx2", &cpu));
    CHECK_INT(cpu.enabled & HT_CPU_AVX512F, 0);
    CHECK_FAILS(ht_cpu_detect("pentium", &cpu), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "pentium");
}

static void agrees_with_the_compiler(void) {
#if defined(__x86_64__)
    ht_cpu cpu;
    REQUIRE_OK(ht_cpu_detect(NULL, &cpu));
    __builtin_cpu_init();
    CHECK_INT(!!(cpu.present & HT_CPU_AVX2), !!__builtin_cpu_supports("avx2"));
    CHECK_INT(!!(cpu.present & HT_CPU_FMA), !!__builtin_cpu_supports("fma"));
    CHECK_INT(!!(cpu.present & HT_CPU_AVX512F), !!__builtin_cpu_supports("avx512f"));
    CHECK_INT(!!(cpu.present & HT_CPU_AVX512VNNI), !!__builtin_cpu_supports("avx512vnni"));
#else
    SKIP("the compiler has no second opinion on this architecture");
#endif
}

static void listed_with_source(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    size_t count = 0;
    while (ht_context_cpu_feature(ctx, count))
        CHECK(ht_context_cpu_feature(ctx, count++)->name != NULL);
    CHECK_INT(count, HT_CPU_FEATURE_COUNT);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(caps_take_away);
    RUN(agrees_with_the_compiler);
    RUN(listed_with_source);
    return check_finish();
}
