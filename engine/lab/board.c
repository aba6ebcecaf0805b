/* The table of boards.
 *
 * Widths and data rates are the makers':
 * - Raspberry Pi: product briefs of Pi 4 Model B (LPDDR4-3200) and Pi 5 (LPDDR4X-4267), both on a
 * bus of
 *   32 bits; Zero 2 W: 512 MB LPDDR2 at the 450 MHz that the documentation of config.txt gives for
 *   sdram_freq, 32 bits.
 * - Jetson: data sheets of the modules. Nano: 64 bits LPDDR4 at 1600 MHz; Orin Nano 4 GB and 8 GB:
 * 64 and
 *   128 bits LPDDR5 at 2133 MHz (34 and 68 GB/s; a later power mode raises the clock); Orin NX: 128
 *   bits LPDDR5 at 3200 MHz (102.4 GB/s).
 * - N100: Intel's page of the processor: one channel (64 bits) of DDR4-3200 or DDR5-4800.
 *
 * The share that reading reaches: Pi 4: STREAM gives 5.5 of 12.8 GB/s
 * (sci-pi.org.uk/bench/stream.html). Where nobody's figure is at hand: 70 %, the middle of what
 * Texas Instruments measured with STREAM on boards with LPDDR4 and DDR4 (SPRACV1B: 67 to 79 %).
 * What is set aside for the system is an allowance of ours, not a measurement. */
#include "engine/lab/board.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "engine/lab/lab.h"

#define SHARE 70u
#define SHARE_PI4 43u
#define MIB ((uint64_t)1 << 20)
#define REGION_MAX (256 * MIB) /* read to measure this machine */
#define REGION_MIN (4 * MIB)
#define PASSES 6u

static const struct board boards[] = {
    {"pi-zero-2w", "Raspberry Pi Zero 2 W, 512 MB", 32, 900, SHARE, 512, 192, 4},
    {"pi4-2gb", "Raspberry Pi 4, 2 GB", 32, 3200, SHARE_PI4, 2048, 512, 4},
    {"pi4-4gb", "Raspberry Pi 4, 4 GB", 32, 3200, SHARE_PI4, 4096, 512, 4},
    {"pi4-8gb", "Raspberry Pi 4, 8 GB", 32, 3200, SHARE_PI4, 8192, 512, 4},
    {"pi5-2gb", "Raspberry Pi 5, 2 GB", 32, 4267, SHARE, 2048, 512, 4},
    {"pi5-4gb", "Raspberry Pi 5, 4 GB", 32, 4267, SHARE, 4096, 512, 4},
    {"pi5-8gb", "Raspberry Pi 5, 8 GB", 32, 4267, SHARE, 8192, 512, 4},
    {"pi5-16gb", "Raspberry Pi 5, 16 GB", 32, 4267, SHARE, 16384, 512, 4},
    {"jetson-nano", "Jetson Nano, 4 GB", 64, 3200, SHARE, 4096, 1024, 4},
    {"orin-nano-4gb", "Jetson Orin Nano, 4 GB", 64, 4266, SHARE, 4096, 1024, 6},
    {"orin-nano-8gb", "Jetson Orin Nano, 8 GB", 128, 4266, SHARE, 8192, 1024, 6},
    {"orin-nx-8gb", "Jetson Orin NX, 8 GB", 128, 6400, SHARE, 8192, 1024, 6},
    {"orin-nx-16gb", "Jetson Orin NX, 16 GB", 128, 6400, SHARE, 16384, 1024, 8},
    {"n100-ddr4", "small PC with Intel N100, 8 GB DDR4", 64, 3200, SHARE, 8192, 1024, 4},
    {"n100-ddr5", "small PC with Intel N100, 16 GB DDR5", 64, 4800, SHARE, 16384, 1024, 4},
    {"this", "this machine, measured now", 0, 0, 100, 0, 0, 0},
};

const struct board *board_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(boards); i++) {
        if (strcmp(boards[i].name, name) == 0) {
            return &boards[i];
        }
    }
    return NULL;
}

bool board_is_size(const struct board *board)
{
    return board->bus_bits == 0 && board->ram_mib > 0;
}

static bool parse_size(const char *word, struct board *ret)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"G", UINT64_C(1) << 30}, {"M", MIB}, {"", 1}};
    char *end;

    if (*word < '0' || *word > '9') {
        return false;
    }
    errno = 0;
    const unsigned long long n = strtoull(word, &end, 10);
    for (size_t i = 0; i < ARRAY_SIZE(units) && errno == 0; i++) {
        if (strcmp(end, units[i].unit) == 0) {
            const uint64_t mib = n <= UINT64_MAX / units[i].bytes ? n * units[i].bytes / MIB : 0;
            *ret = (struct board){.what = "memory", .ram_mib = (uint32_t)mib, .n_threads = 4};
            return mib > 0 && mib < UINT32_MAX;
        }
    }
    return false;
}

bool boards_parse(const char *text, struct board *ret, size_t *ret_n, char *ret_bad)
{
    *ret_n = 0;
    for (const char *at = text;; at++) {
        const size_t n = strcspn(at, ",");
        char word[BOARD_NAME_MAX + 1];

        (void)snprintf(word, sizeof(word), "%.*s", (int)(n < sizeof(word) ? n : sizeof(word) - 1),
                       at);
        const struct board *known = n < sizeof(word) ? board_find(word) : NULL;
        const bool size =
            !known && n < sizeof(word) && *ret_n < BOARDS_MAX && parse_size(word, &ret[*ret_n]);
        if ((!known && !size) || *ret_n == BOARDS_MAX) {
            memcpy(ret_bad, word, sizeof(word));
            return false;
        }
        if (known) {
            ret[*ret_n] = *known;
        } else {
            ret[*ret_n].name = at; /* up to the comma */
        }
        ++*ret_n;
        at += n;
        if (*at == '\0') {
            return true;
        }
    }
}

static double peak_rate(const struct board *b)
{
    return (double)b->bus_bits / 8 * (double)b->mega_transfers * 1e6;
}

void board_list(const char *name)
{
    if (strcmp(name, "list") != 0) {
        lab_error("--board: none is called %s; there are", name);
    }
    for (size_t i = 0; i < ARRAY_SIZE(boards); i++) {
        const struct board *b = &boards[i];
        if (b->bus_bits == 0) {
            (void)fprintf(stderr, "  %-14s %s\n", b->name, b->what);
        } else {
            (void)fprintf(stderr, "  %-14s %s, %.1f GB/s\n", b->name, b->what, peak_rate(b) / 1e9);
        }
    }
}

/* What the system says about its memory. */
static int read_meminfo(uint64_t *ret_total, uint64_t *ret_available)
{
    FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long kib, total = 0, available = 0;
    char line[256];

    if (!f) {
        return -errno;
    }
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "MemTotal: %llu kB", &kib) == 1) {
            total = kib;
        } else if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
            available = kib;
        }
    }
    (void)fclose(f);
    if (total == 0 || available == 0 || available > total) {
        return -ENODATA;
    }
    *ret_total = total * 1024;
    *ret_available = available * 1024;
    return 0;
}

static int facts_of_this(struct board_facts *ret)
{
    const unsigned n_threads = engine_threads_default();
    uint64_t total = 0, available = 0;
    struct bandwidth read = {0};
    int r = read_meminfo(&total, &available);

    if (r == 0) {
        const uint64_t quarter = available / 4;
        const uint64_t region = quarter < REGION_MAX ? quarter : REGION_MAX;
        const struct bandwidth_ask ask = {
            .n_threads = n_threads,
            .n_passes = PASSES,
            .bytes = region > REGION_MIN ? region : REGION_MIN,
        };
        r = bandwidth_measure(&ask, &read);
    }
    if (r == 0) {
        *ret = (struct board_facts){
            .measured = true,
            .practical_rate = read.rate,
            .ram_bytes = total,
            .system_bytes = total - available,
            .n_threads = n_threads,
        };
    }
    return r;
}

int board_facts(const struct board *board, struct board_facts *ret)
{
    if (board->bus_bits == 0) {
        return facts_of_this(ret);
    }
    *ret = (struct board_facts){
        .peak_rate = peak_rate(board),
        .practical_rate = peak_rate(board) * board->percent / 100,
        .ram_bytes = board->ram_mib * MIB,
        .system_bytes = board->system_mib * MIB,
        .n_threads = board->n_threads,
    };
    return 0;
}
