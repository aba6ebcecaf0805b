/* Numbers as people say and write them. */
#include "train/commands/number.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

static const char *const small[] = {"zero",    "one",     "two",       "three",    "four",
                                    "five",    "six",     "seven",     "eight",    "nine",
                                    "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
static const char *const tens[] = {"",      "",      "twenty",  "thirty", "forty",
                                   "fifty", "sixty", "seventy", "eighty", "ninety"};

int number_word(const char *word)
{
    for (int i = 0; i < (int)ARRAY_SIZE(small); i++) {
        if (strcmp(word, small[i]) == 0) {
            return i;
        }
    }
    for (int i = 2; i < (int)ARRAY_SIZE(tens); i++) {
        if (strcmp(word, tens[i]) == 0) {
            return 10 * i;
        }
    }
    return -1;
}

static uint32_t choose(struct rng *rng, uint32_t lo, uint32_t hi)
{
    const uint32_t step = rng_chance(rng, 700) ? 10 : 5;
    const uint32_t first = (lo + step - 1) / step, last = hi / step;

    if (hi - lo >= 30 && last >= first && rng_chance(rng, 700)) {
        return step * (first + rng_below(rng, last - first + 1));
    }
    return lo + rng_below(rng, hi - lo + 1);
}

static void below_hundred(char *to, size_t room, uint32_t n, char between)
{
    if (n < ARRAY_SIZE(small)) {
        snprintf(to, room, "%s", small[n]);
    } else if (n % 10 == 0) {
        snprintf(to, room, "%s", tens[n / 10]);
    } else {
        snprintf(to, room, "%s%c%s", tens[n / 10], between, small[n % 10]);
    }
}

static void in_words(struct rng *rng, char *to, uint32_t n)
{
    const char between = rng_chance(rng, 350) ? '-' : ' ';
    char rest[32] = "";
    size_t at = 0;

    if (n >= 1000) {
        below_hundred(rest, sizeof(rest), n / 1000, between);
        at += (size_t)snprintf(to, NUMBER_ROOM, "%s thousand", rest);
        n %= 1000;
    }
    if (n >= 100) {
        const char *hundreds =
            n / 100 == 1 && at == 0 && rng_chance(rng, 500) ? "a" : small[n / 100];
        at += (size_t)snprintf(to + at, NUMBER_ROOM - at, "%s%s hundred", at ? " " : "", hundreds);
        n %= 100;
    }
    if (n > 0 || at == 0) {
        below_hundred(rest, sizeof(rest), n, between);
        snprintf(to + at, NUMBER_ROOM - at, "%s%s", at ? " " : "", rest);
    }
}

void number_draw(struct rng *rng, enum number_how how, uint32_t lo, uint32_t hi, char *ret_text,
                 char *ret_value)
{
    assert(lo <= hi && hi <= NUMBER_MAX);

    const uint32_t n = choose(rng, lo, hi);

    snprintf(ret_value, 16, "%u", n);
    if (how == NUMBER_HALF) {
        static const char *const halves[] = {" point five", " and a half", " and a half",
                                             " and one half", " point 5"};
        const bool words = rng_chance(rng, 400);
        strcat(ret_value, ".5");
        if (!words && rng_chance(rng, 650)) {
            strcpy(ret_text, ret_value);
            return;
        }
        if (words) {
            in_words(rng, ret_text, n);
        } else {
            snprintf(ret_text, NUMBER_ROOM, "%u", n);
        }
        strcat(ret_text, halves[rng_below(rng, words ? 4 : 3)]);
        return;
    }
    if (how == NUMBER_WORDS || (how == NUMBER_ANY && rng_chance(rng, 420))) {
        in_words(rng, ret_text, n);
    } else {
        snprintf(ret_text, NUMBER_ROOM, "%u", n);
    }
}
