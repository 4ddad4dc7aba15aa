/* Philox against the known-answer vectors of the Random123 distribution, and the uniform and normal draws. */
#include "base/random.h"

#include <math.h>

#include "support/check.h"

static void known_answers(void) {
    uint32_t out[4];
    ht_philox(0, 0, 0, out);
    CHECK_INT(out[0], 0x6627e8d5);
    CHECK_INT(out[1], 0xe169c58d);
    CHECK_INT(out[2], 0xbc57ac4c);
    CHECK_INT(out[3], 0x9b00dbd8);
    ht_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, out);
    CHECK_INT(out[0], 0x408f276d);
    CHECK_INT(out[1], 0x41c83b0e);
    CHECK_INT(out[2], 0xa20bc7c6);
    CHECK_INT(out[3], 0x6d5451fd);
    /* counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0 */
    ht_philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, out);
    CHECK_INT(out[0], 0xd16cfe09);
    CHECK_INT(out[1], 0x94fdcceb);
    CHECK_INT(out[2], 0x5001e420);
    CHECK_INT(out[3], 0x24126ea1);
}

static void moments(void) {
    enum { N = 1 << 18 };
    double sum = 0, sum2 = 0, usum = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = (double)ht_random_normal(5, 1, i);
        double u = (double)ht_random_uniform(5, 2, i);
        CHECK(u >= 0 && u < 1 && isfinite(x));
        sum += x;
        sum2 += x * x;
        usum += u;
    }
    CHECK_WITHIN(sum / N, 0, 0.01);
    CHECK_WITHIN(sum2 / N, 1, 0.01);
    CHECK_WITHIN(usum / N, 0.5, 0.005);
}

int main(void) {
    RUN(known_answers);
    RUN(moments);
    return check_finish();
}
