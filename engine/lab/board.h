/* Boards that models are run on: how much memory, and how fast it is read. */
#ifndef ENGINE_LAB_BOARD_H
#define ENGINE_LAB_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* Memory of a board as its maker documents it. The rate at the pins is width times data rate; what
 * a processor gets out of that is less, by a share that somebody measured. */
struct board {
    const char *name, *what;
    uint32_t bus_bits,
        mega_transfers; /* width; millions of transfers a second. 0: to be measured */
    uint32_t percent;   /* of the pins' rate that reading reaches */
    uint32_t ram_mib;
    uint32_t system_mib; /* set aside for firmware, kernel and a system without a desktop */
    unsigned n_threads;  /* cores */
};

#define BOARDS_MAX 16u
#define BOARD_NAME_MAX 31u

/** board_find() - NULL for an unknown name; static */
const struct board *board_find(const char *name);

/**
 * boards_parse() - names of boards, and sizes of memory (`512M`, `8G`, bytes), with commas between
 * @ret: up to BOARDS_MAX; strings borrowed from the table or @text; of a size only ram_mib is known
 * @ret_bad: room for BOARD_NAME_MAX + 1 bytes: of what is neither, the beginning
 */
MUST_USE bool boards_parse(const char *text, struct board *ret, size_t *ret_n, char *ret_bad);

/** board_is_size() - it came as a size of memory: nothing else is known of it */
bool board_is_size(const struct board *board);

/** board_list() - print all of them to standard error, and before, that @name is none unless it is
 * "list" */
void board_list(const char *name);

/* A board, or this machine, in bytes. */
struct board_facts {
    bool measured; /* this machine: peak_rate is 0, practical_rate was measured just now */
    double peak_rate, practical_rate; /* bytes per second */
    uint64_t ram_bytes;
    uint64_t system_bytes; /* not to be had: set aside on a board, in use on this machine */
    unsigned n_threads;
};

/** board_facts() - a table's entry, or measurements. Return: 0 or a negative errno. */
MUST_USE int board_facts(const struct board *board, struct board_facts *ret);

/* Which pages a region is asked to lie in. Asking for huge ones is advice, and the system may not
 * follow it. */
enum bandwidth_pages {
    BANDWIDTH_PAGES_ANY,   /* as the system is set */
    BANDWIDTH_PAGES_SMALL, /* 4 KiB, or what the machine's smallest page is */
    BANDWIDTH_PAGES_HUGE,  /* 2 MiB */
};

struct bandwidth_ask {
    unsigned n_threads; /* read at the same time, 1..64 */
    unsigned n_passes;  /* over the region, at least 1 */
    uint64_t bytes;     /* of the region that is read; should be much larger than every cache */
    enum bandwidth_pages pages;
};

struct bandwidth {
    double rate;       /* bytes per second, the best of the passes */
    double mean_rate;  /* of all passes in the way (with or without prefetches) that is faster */
    double huge_share; /* of the region, what lay in huge pages: 0..1 */
};

/**
 * bandwidth_measure() - how fast this machine reads memory
 *
 * Takes 2 MiB more memory than it reads. Return: 0 or a negative errno.
 */
MUST_USE int bandwidth_measure(const struct bandwidth_ask *ask, struct bandwidth *ret);

#endif
