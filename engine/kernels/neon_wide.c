/* NEON: wide products, 8 tokens to a register. */
#include "engine/kernels/wide_binary.h"
#include "engine/kernels/wide_ternary.h"

WIDE_B1(wide_b1_neon)
WIDE_TERNARY(wide_t256_neon, PANEL_T256, wide_t256, panel_t256_neon)
WIDE_TERNARY(wide_trow_neon, PANEL_TROW, wide_trow, panel_trow_neon)
