/* Elementary functions that give the same bits on every machine.
 *
 * They use only operations that IEEE 754 rounds exactly (+ - * / and comparisons, in double), in a
 * fixed order, and never libm; errors are within 1 ulp of float after the final rounding. */
#ifndef ENGINE_MATHF_H
#define ENGINE_MATHF_H

float math_expf(float x);               /* inf above 88.73, 0 below -104, NaN in gives NaN out */
double math_log(double x);              /* x > 0 */
double math_pow(double base, double y); /* base > 0 */
void math_sincos(double x, float *ret_sin, float *ret_cos); /* |x| <= 2^30 */
float math_siluf(float x);                                  /* x / (1 + exp(-x)) */

#endif
