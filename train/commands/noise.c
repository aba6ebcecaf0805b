/* What happens to a sentence between the head and the keyboard or the microphone: slips, words said
 * twice, letters of one size. Words that a slot takes stay as they are, or the slot takes them as
 * they were written. */
#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "train/commands/row.h"

/* Replaces `cut` bytes at `at` by `n` others; slots keep their words. False: no room. */
static bool splice(struct row *row, uint32_t at, uint32_t cut, const char *with, uint32_t n)
{
    if (row->n - cut + n > ROW_TEXT_MAX) {
        return false;
    }
    memmove(row->text + at + n, row->text + at + cut, row->n - at - cut + 1);
    memcpy(row->text + at, with, n);
    row->n = row->n - cut + n;
    for (unsigned i = 0; i < N_SLOTS; i++) {
        struct filled *f = &row->slots[i];
        if (!(row->have & SLOT_BIT(i)) || f->from == f->to) {
            continue;
        }
        if (f->from > at || (f->from == at && cut == 0)) {
            f->from = (uint16_t)(f->from + n - cut);
        }
        if (f->to > at) {
            f->to = (uint16_t)(f->to + n - cut);
        }
    }
    return true;
}

/* The slot whose words these are, or N_SLOTS. */
static unsigned slot_at(const struct row *row, uint32_t from, uint32_t to)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        const struct filled *f = &row->slots[i];
        if ((row->have & SLOT_BIT(i)) && f->from < to && from < f->to) {
            return i;
        }
    }
    return N_SLOTS;
}

/* The word with number @i, from 0: false past the last. */
static bool word_at(const struct row *row, uint32_t i, uint32_t *ret_from, uint32_t *ret_to)
{
    uint32_t at = 0;

    for (;; i--) {
        uint32_t end = at;
        while (end < row->n && row->text[end] != ' ') {
            end++;
        }
        if (i == 0) {
            *ret_from = at;
            *ret_to = end;
            return end > at;
        }
        if (end == row->n) {
            return false;
        }
        at = end + 1;
    }
}

static uint32_t count_words(const struct row *row)
{
    uint32_t n = row->n > 0;

    for (uint32_t i = 0; i < row->n; i++) {
        n += row->text[i] == ' ';
    }
    return n;
}

static void add_filler(struct rng *rng, struct row *row, const char *filler)
{
    char words[72];
    uint32_t from, to;

    if (!word_at(row, rng_below(rng, count_words(row)), &from, &to) ||
        (from > 0 && slot_at(row, from - 1, from + 1) < N_SLOTS &&
         slot_at(row, from - 1, from) == slot_at(row, from, from + 1)) ||
        !filler[0]) {
        return;
    }
    strcat(strcpy(words, filler), " ");
    (void)splice(row, from, 0, words, (uint32_t)strlen(words));
}

/* "turn on the turn on the lamp": the beginning again; or one word twice. */
static void add_repeat(struct rng *rng, struct row *row)
{
    char words[ROW_TEXT_MAX];
    uint32_t from, to, first, last;
    const uint32_t i = rng_below(rng, count_words(row));

    if (!word_at(row, i, &from, &to)) {
        return;
    }
    first = i < 4 && rng_chance(rng, 400) ? 0 : from;
    last = to;
    if (last - first < 2 || slot_at(row, first, last) < N_SLOTS ||
        strpbrk(row->text + first, ",.") != NULL || last - first + 2 >= sizeof(words)) {
        return;
    }
    memcpy(words, row->text + first, last - first);
    words[last - first] = ' ';
    (void)splice(row, first, 0, words, last - first + 1);
}

static char neighbour(struct rng *rng, char c)
{
    static const char *const keys[26] = {
        "qsz", "vgn", "xvd", "sfe", "wrd", "dgr", "fht", "gjy", "uok", "hku", "jli", "ko",  "nk",
        "bmh", "ipl", "ol",  "wa",  "etf", "adw", "ryg", "yij", "cbf", "qes", "zcs", "tuh", "xas"};
    const char *near = keys[c - 'a'];

    return near[rng_below(rng, (uint32_t)strlen(near))];
}

static void slip(struct rng *rng, struct row *row, uint32_t from, uint32_t to)
{
    const uint32_t at = from + 1 + rng_below(rng, to - from - 1);
    char both[2] = {row->text[at], row->text[at - 1]};

    switch (rng_below(rng, 5)) {
    case 0:
        (void)splice(row, at, 1, "", 0);
        break;
    case 1:
        (void)splice(row, at, 0, both, 1); /* doubled */
        break;
    case 2:
        row->text[at] = neighbour(rng, row->text[at]);
        break;
    case 3:
        memcpy(row->text + at - 1, both, 2); /* swapped */
        break;
    default:
        both[0] = neighbour(rng, row->text[at]);
        (void)splice(row, at, 0, both, 1);
        break;
    }
}

static void add_typo(struct rng *rng, struct row *row)
{
    uint32_t from, to;

    for (unsigned tries = 0; tries < 4; tries++) {
        if (!word_at(row, rng_below(rng, count_words(row)), &from, &to) || to - from < 4) {
            continue;
        }
        bool letters = true;
        for (uint32_t i = from; i < to; i++) {
            letters = letters && row->text[i] >= 'a' && row->text[i] <= 'z';
        }
        if (!letters || (slot_at(row, from, to) < N_SLOTS && rng_chance(rng, 850))) {
            continue;
        }
        slip(rng, row, from, to);
        return;
    }
}

static void drop_apostrophes(struct row *row)
{
    for (uint32_t i = 0; i < row->n;) {
        if (row->text[i] == '\'') {
            (void)splice(row, i, 1, "", 0);
        } else {
            i++;
        }
    }
}

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

void noise_title(struct row *row, uint32_t from)
{
    static const char *const little[] = {"of", "the", "and", "in", "for", "a", "on", "to"};

    for (uint32_t i = from; i < row->n; i++) {
        const bool start = i == 0 || row->text[i - 1] == ' ' || row->text[i - 1] == '-';
        if (!start) {
            continue;
        }
        size_t len = 0;
        while (i + len < row->n && row->text[i + len] != ' ') {
            len++;
        }
        bool is_little = false;
        for (unsigned k = 0; k < ARRAY_SIZE(little) && i > from + 1; k++) {
            is_little = is_little ||
                        (strlen(little[k]) == len && memcmp(row->text + i, little[k], len) == 0);
        }
        if (!is_little) {
            row->text[i] = upper(row->text[i]);
        }
    }
}

/* Written with care: I, TV, a capital to begin with, a mark to end with. */
static void write_full(struct rng *rng, struct row *row)
{
    static const char *const shouted[] = {"i", "tv", "ac", "i'm", "i'd", "i'll", "i've"};
    static const char *const asking[] = {"is",  "are",   "what", "what's", "how", "which", "did",
                                         "has", "have",  "can",  "could",  "do",  "does",  "when",
                                         "who", "where", "will", "would",  "any", "whats", "why"};
    uint32_t from, to;
    bool question = false;

    for (uint32_t i = 0; word_at(row, i, &from, &to); i++) {
        for (unsigned k = 0; k < ARRAY_SIZE(shouted); k++) {
            const size_t n = strlen(shouted[k]);
            if (to - from == n && memcmp(row->text + from, shouted[k], n) == 0) {
                row->text[from] = upper(row->text[from]);
                row->text[to - 1] = n == 2 ? upper(row->text[to - 1]) : row->text[to - 1];
            }
        }
        for (unsigned k = 0; i == 0 && k < ARRAY_SIZE(asking); k++) {
            question = question || (strlen(asking[k]) == to - from &&
                                    memcmp(row->text + from, asking[k], to - from) == 0);
        }
    }
    if (slot_at(row, 0, 1) == N_SLOTS) {
        row->text[0] = upper(row->text[0]);
    }
    if (row->n > 0 && strchr(".?!", row->text[row->n - 1]) == NULL && rng_chance(rng, 800)) {
        (void)splice(row, row->n, 0, question ? "?" : rng_chance(rng, 60) ? "!" : ".", 1);
    }
}

static void write_lower(struct row *row)
{
    for (uint32_t i = 0; i < row->n; i++) {
        if (row->text[i] >= 'A' && row->text[i] <= 'Z') {
            row->text[i] = (char)(row->text[i] - 'A' + 'a');
        }
    }
}

enum hand noise_hand(const struct grammar *g, struct rng *rng)
{
    const uint32_t x = rng_below(rng, 1000);

    if (x < g->noise[NOISE_LOWER]) {
        return HAND_LOWER;
    }
    return x < g->noise[NOISE_LOWER] + g->noise[NOISE_FULL] ? HAND_FULL : HAND_PLAIN;
}

void noise_add(const struct grammar *g, struct rng *rng, struct row *row, enum hand hand,
               const char *filler)
{
    if (rng_chance(rng, g->noise[NOISE_FILLER])) {
        add_filler(rng, row, filler);
    }
    if (rng_chance(rng, g->noise[NOISE_REPEAT])) {
        add_repeat(rng, row);
    }
    if (hand != HAND_FULL && rng_chance(rng, g->noise[NOISE_TYPO])) {
        add_typo(rng, row);
        if (rng_chance(rng, 200)) {
            add_typo(rng, row);
        }
    }
    if (hand != HAND_FULL && rng_chance(rng, g->noise[NOISE_APOSTROPHE])) {
        drop_apostrophes(row);
    }
    if (hand == HAND_FULL) {
        write_full(rng, row);
    } else if (hand == HAND_LOWER) {
        write_lower(row);
    }
}
