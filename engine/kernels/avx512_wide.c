/* AVX-512: wide products, 32 tokens to a register. Ternary ones would be no faster than vpdpbusd on
 * two panels at once (avx512_ternary.c). */
#include "engine/kernels/wide_binary.h"

WIDE_B1(wide_b1_avx512)
