/* Random numbers by counting: known words of Philox4x64-10, any count a part of a longer one, and factors of words. */
#include "check.h"
#include "cylstm.h"

#include <stdbool.h>
#include <string.h>

enum { MOST = 200 };

static void known_words_are_drawn(void) {
    /* of numpy.random.Philox(key=[1, 2], counter=[0, 0, 3, 0]), the lower half of each word first */
    static const uint32_t known[5] = {2633121721, 3087819010, 875163877, 1766373909, 3417344502};
    uint32_t words[5];
    cyl_draw_words(1, 2, 3, 5, words);
    CHECK(memcmp(words, known, sizeof known) == 0, "the words of a key are others: %u", (unsigned)words[0]);
}

static void any_count_is_a_part_of_a_longer_one(void) {
    uint32_t whole[MOST], part[MOST];
    cyl_draw_words(5, 6, 7, MOST, whole);
    for (int64_t count = 0; count < MOST; count++) {
        memset(part, 0xEE, sizeof part);
        cyl_draw_words(5, 6, 7, count, part);
        CHECK(memcmp(part, whole, (size_t)count * sizeof *part) == 0 && part[count] == 0xEEEEEEEEu,
              "%d words are not the first ones, or more", (int)count);
    }
}

static void factors_follow_the_words(void) {
    const uint32_t limit = 1u << 30;
    uint32_t words[MOST];
    cyl_draw_words(9, 8, 7, MOST, words);
    for (int64_t count = 0; count < MOST; count++) {
        float few[MOST];
        double many[MOST];
        few[count] = -7.0f;
        many[count] = -7.0;
        cyl_draw_factors(9, 8, 7, count, limit, 1.25, -0.5, false, few);
        cyl_draw_factors(9, 8, 7, count, limit, 1.25, -0.5, true, many);
        for (int64_t i = 0; i < count; i++) {
            const double expected = words[i] < limit ? -0.5 : 1.25;
            CHECK((double)few[i] == expected && many[i] == expected, "factor %d of %d is another", (int)i, (int)count);
        }
        CHECK(few[count] == -7.0f && many[count] == -7.0, "more than %d factors are written", (int)count);
    }
}

int main(void) {
    RUN(known_words_are_drawn);
    RUN(any_count_is_a_part_of_a_longer_one);
    RUN(factors_follow_the_words);
    return check_result();
}
