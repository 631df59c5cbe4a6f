// The project's own exp, log, sin, cos and pow: the same bits on every CPU and with every libm.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace consort::kernels {

// Scalar forms; the vector forms inside the kernels give the same bits. At most 2 ulp from the true value.
float exp(float x);    // +0 below -104, +inf above 88.8; NaN for NaN
double log(double x);  // x > 0
double exp(double x);
double pow(double base, double exponent);  // base > 0
// Angle in radians, |x| < 2^20; reduced in double by pi/2 in three pieces.
double sin(double x);
double cos(double x);

}  // namespace consort::kernels
