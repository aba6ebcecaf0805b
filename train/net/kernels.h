/* Which of OpenBLAS's kernels multiply. It chooses once, before main(), by a table of CPUs. One
 * that is newer than the table gets kernels of 2004 (Prescott), which take five to ten times as
 * long. */
#ifndef TRAIN_NET_KERNELS_H
#define TRAIN_NET_KERNELS_H

#include <stdbool.h>

/** net_kernels() - OpenBLAS's name for those that run here ("SkylakeX", "Cooperlake", "Haswell"),
 * which decide speed and the last bits. Static. */
const char *net_kernels(void);

enum net_kernels_by {
    KERNELS_BY_OPENBLAS,
    KERNELS_BY_PERSON, /* the environment variable OPENBLAS_CORETYPE, which overrides its choice */
    KERNELS_BY_US,     /* kernels_take() */
};

/**
 * kernels_better() - the kernels that suit a CPU whose registers are so wide
 * @chosen: what OpenBLAS runs
 * @v3, @v4: does the CPU have all of x86-64-v3 (AVX2, FMA), of x86-64-v4 (AVX-512)?
 *
 * Return: a name for OPENBLAS_CORETYPE, static; NULL: @chosen will do.
 */
const char *kernels_better(const char *chosen, bool v3, bool v4);

/**
 * kernels_take() - where better ones are to be had, start this program again with them
 * @argv: main()'s; the new process, which has this one's number, gets the same words
 *
 * Nothing happens where OPENBLAS_CORETYPE is set or the program cannot be started again. Call it
 * before anything else: what this process has open, and not marked to be closed, the new one has,
 * too; its memory is lost. The environment of the new one is as this one's was.
 */
void kernels_take(char **argv);

/** kernels_by() - who chose them. After kernels_take(). */
enum net_kernels_by kernels_by(void);

#endif
