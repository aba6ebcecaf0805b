/* Products of matrices, rows side by side in memory, by OpenBLAS in the calling thread alone. */
#ifndef TRAIN_NET_GEMM_H
#define TRAIN_NET_GEMM_H

#include <cblas.h>

#include "train/net/net.h"

/* A matrix in memory: rows of `stride` numbers. */
struct mat {
    const net_real *at;
    size_t stride;
};

static inline void gemm_run(enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, size_t m, size_t n,
                            size_t k, struct mat a, struct mat b, bool add, net_real *c,
                            size_t c_stride)
{
#ifdef NET_DOUBLE
    cblas_dgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a.at, (int)a.stride, b.at,
                (int)b.stride, add ? 1 : 0, c, (int)c_stride);
#else
    cblas_sgemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a.at, (int)a.stride, b.at,
                (int)b.stride, add ? 1 : 0, c, (int)c_stride);
#endif
}

/* c (m, n) = a (m, k) * b (n, k)^T */
static inline void gemm_nt(size_t m, size_t n, size_t k, struct mat a, struct mat b, net_real *c,
                           size_t c_stride)
{
    gemm_run(CblasNoTrans, CblasTrans, m, n, k, a, b, false, c, c_stride);
}

/* c (m, n) = a (m, k) * b (k, n) */
static inline void gemm_nn(size_t m, size_t n, size_t k, struct mat a, struct mat b, net_real *c,
                           size_t c_stride)
{
    gemm_run(CblasNoTrans, CblasNoTrans, m, n, k, a, b, false, c, c_stride);
}

/* c (m, n) += a (k, m)^T * b (k, n) */
static inline void gemm_tn_add(size_t m, size_t n, size_t k, struct mat a, struct mat b,
                               net_real *c, size_t c_stride)
{
    gemm_run(CblasTrans, CblasNoTrans, m, n, k, a, b, true, c, c_stride);
}

#endif
