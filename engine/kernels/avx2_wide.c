/* AVX2: wide products, 16 tokens to a register. */
#include "engine/kernels/wide_binary.h"
#include "engine/kernels/wide_ternary.h"

WIDE_B1(wide_b1_avx2)
WIDE_TERNARY(wide_t256_avx2, PANEL_T256, wide_t256, panel_t256_avx2)
WIDE_TERNARY(wide_trow_avx2, PANEL_TROW, wide_trow, panel_trow_avx2)
