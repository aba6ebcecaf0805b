/* AVX-512: wide products, 32 tokens to a register. */
#include "engine/kernels/wide_binary.h"
#include "engine/kernels/wide_ternary.h"

WIDE_B1(wide_b1_avx512)
WIDE_TERNARY(wide_t256_avx512, PANEL_T256, wide_t256, panel_t256_avx512)
WIDE_TERNARY(wide_trow_avx512, PANEL_TROW, wide_trow, panel_trow_avx512)
