/* Memory of the daemon holds what people wrote: it is written to no core file. */
#ifndef BASE_COREDUMP_H
#define BASE_COREDUMP_H

/**
 * coredump_forbid() - no core file of this process, nor one handed to a program of core_pattern
 *
 * What it executes starts without the second half and has to ask again. Under a sanitizer, whose
 * leak check has to trace the process, only the limit on core files is set. After it, files of this
 * process below /proc belong to root. Cannot fail: where the kernel refuses, nothing is lost but
 * the privacy of a crash.
 */
void coredump_forbid(void);

#endif
