/* CPU levels: what the chip says it has, what the operating system keeps across a context switch,
 * and what this build holds, all three. */
#include "engine/kernels/cpu.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static const char *const names[CPU_LEVELS] = {
    [CPU_SCALAR] = "scalar", [CPU_AVX2] = "avx2",       [CPU_AVX512] = "avx512",
    [CPU_NEON] = "neon",     [CPU_DOTPROD] = "dotprod", [CPU_I8MM] = "i8mm",
};

const char *cpu_level_name(enum cpu_level level)
{
    return (unsigned)level < CPU_LEVELS ? names[level] : "unknown";
}

bool cpu_level_parse(const char *name, enum cpu_level *ret)
{
    for (unsigned i = 0; i < CPU_LEVELS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum cpu_level)i;
            return true;
        }
    }
    return false;
}

#if defined(__x86_64__)

#define XCR0_AVX 0x06u    /* XMM and YMM state */
#define XCR0_AVX512 0xe0u /* mask registers and both halves of ZMM */

static uint32_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has_all(uint32_t value, uint32_t bits)
{
    return (value & bits) == bits;
}

/* 0: below AVX2; 2: AVX2 with FMA and F16C; 512: the AVX-512 parts we use as well */
static int x86_width(void)
{
    uint32_t a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) ||
        !has_all(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) {
        return 0;
    }
    const uint32_t saved = xcr0();
    if (!has_all(saved, XCR0_AVX) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
        !has_all(b, bit_AVX2)) {
        return 0;
    }
    if (!has_all(saved, XCR0_AVX512) || !has_all(c, bit_AVX512VNNI) ||
        !has_all(b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL)) {
        return 2;
    }
    return 512;
}

static bool chip_has(enum cpu_level level)
{
    return level == CPU_AVX2 ? x86_width() >= 2 : level == CPU_AVX512 && x86_width() >= 512;
}

bool cpu_counts_bits(void)
{
    uint32_t a, b, c, d;

    return x86_width() >= 512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           has_all(c, bit_AVX512VPOPCNTDQ);
}

#elif defined(__aarch64__)

/* Bits of the kernel's hardware capability words, by value: older headers lack the later ones. */
#define CAP_ASIMD (1ul << 1)
#define CAP_ASIMDDP (1ul << 20)
#define CAP2_I8MM (1ul << 13)

static bool chip_has(enum cpu_level level)
{
    const unsigned long cap = getauxval(AT_HWCAP);
    const unsigned long cap2 = getauxval(AT_HWCAP2);

    if (!(cap & CAP_ASIMD)) {
        return false;
    }
    switch (level) {
    case CPU_NEON:
        return true;
    case CPU_DOTPROD:
        return cap & CAP_ASIMDDP;
    case CPU_I8MM:
        return (cap & CAP_ASIMDDP) && (cap2 & CAP2_I8MM);
    default:
        return false;
    }
}

#else

static bool chip_has(enum cpu_level level)
{
    return false;
}

#endif

#if !defined(__x86_64__)

bool cpu_counts_bits(void)
{
    return false;
}

#endif

bool cpu_level_present(enum cpu_level level)
{
    /* The build holds a level only with the ones beneath it, whose slots it may take over. */
    static const bool built[CPU_LEVELS] = {
        [CPU_SCALAR] = true,
        [CPU_AVX2] = HAVE_AVX2,
        [CPU_AVX512] = HAVE_AVX2 && HAVE_AVX512,
        [CPU_NEON] = HAVE_NEON,
        [CPU_DOTPROD] = HAVE_NEON && HAVE_DOTPROD,
        [CPU_I8MM] = HAVE_NEON && HAVE_DOTPROD && HAVE_I8MM,
    };

    if ((unsigned)level >= CPU_LEVELS || !built[level]) {
        return false;
    }
    return level == CPU_SCALAR || chip_has(level);
}

enum cpu_level cpu_level_best(void)
{
    for (unsigned i = CPU_LEVELS - 1; i > CPU_SCALAR; i--) {
        if (cpu_level_present((enum cpu_level)i)) {
            return (enum cpu_level)i;
        }
    }
    return CPU_SCALAR;
}
