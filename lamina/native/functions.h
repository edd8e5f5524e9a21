// Activations of vectors: the rectifier; and exp, log, sigmoid and tanh, within 4e-7 of the true value, relative to it. A NaN
// stays one, and infinity is taken for what it is. Results of exp that are too small for a normal float are zero.
#pragma once

#include <cmath>
#include <limits>

#include "vector.h"

namespace lamina {

// What is below zero is multiplied by `slope`.
inline Vector activated(Vector value, float slope) {
  if (slope == 1.0f) return value;
  if (slope == 0.0f) return value < 0.0f ? Vector{} : value;  // a NaN stays one
  return value < 0.0f ? value * slope : value;
}

// The gradient in front of that, told from its result.
inline Vector unactivated(Vector gradient, Vector result, float slope) {
  return slope == 0.0f ? (result > 0.0f ? gradient : Vector{}) : (result < 0.0f ? gradient * slope : gradient);
}

inline Vector sqrt(Vector x) {
  for (int i = 0; i < LANES; i++) x[i] = std::sqrt(x[i]);
  return x;
}

inline Vector exp(Vector x) {
  constexpr float HIGHEST = 88.72283f, LOWEST = -87.33654f;  // where the result leaves the normal floats
  constexpr float SHIFT = 12582912.0f;                       // 1.5 * 2^23: added, it rounds to a whole number
  // exp(x) = 2^n exp(r) with |r| <= log(2) / 2; log(2) in two parts, so that r is exact
  Vector shifted = x * 1.44269504f + SHIFT;
  Vector n = shifted - SHIFT;
  Vector r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Vector series = all(1.9875691500e-4f);
  series = series * r + 1.3981999507e-3f;
  series = series * r + 8.3334519073e-3f;
  series = series * r + 4.1665795894e-2f;
  series = series * r + 1.6666665459e-1f;
  series = series * r + 5.0000001201e-1f;
  series = series * (r * r) + r + 1.0f;
  // times 2^n: n, still in the last bits of `shifted`, is added to the exponent
  Mask bits = reinterpret_cast<Mask>(series) + (reinterpret_cast<Mask>(shifted) << 23);
  Vector result = x <= HIGHEST ? reinterpret_cast<Vector>(bits) : x + std::numeric_limits<float>::infinity();
  return x < LOWEST ? Vector{} : result;
}

// Of numbers from 1 on that are not infinite.
inline Vector log_from_one(Vector x) {
  // x = 2^n (1 + r) with 1 + r from the root of 1/2 to that of 2
  Mask bits = reinterpret_cast<Mask>(x), lowered = bits - 0x3f3504f3;
  Mask n = lowered >> 23;
  Vector r = reinterpret_cast<Vector>(bits - (n << 23)) - 1.0f, square = r * r;
  Vector whole = __builtin_convertvector(n, Vector);
  Vector series = all(7.0376836292e-2f);
  series = series * r - 1.1514610310e-1f;
  series = series * r + 1.1676998740e-1f;
  series = series * r - 1.2420140846e-1f;
  series = series * r + 1.4249322787e-1f;
  series = series * r - 1.6668057665e-1f;
  series = series * r + 2.0000714765e-1f;
  series = series * r - 2.4999993993e-1f;
  series = series * r + 3.3333331174e-1f;
  // log(2) in two parts, as above
  Vector result = whole * 0.693359375f + (r + (series * r * square - 0.5f * square - 2.12194440e-4f * whole));
  return x == x ? result : x;
}

inline Vector sigmoid(Vector x) { return 1.0f / (1.0f + exp(-x)); }

// A quotient of polynomials up to where the result rounds to 1.
inline Vector tanh(Vector x) {
  constexpr float END = 7.99881172f;
  Vector clamped = x > END ? all(END) : x;
  clamped = clamped < -END ? all(-END) : clamped;
  Vector square = clamped * clamped;
  Vector top = all(-2.76076847742355e-16f);
  top = top * square + 2.00018790482477e-13f;
  top = top * square + -8.60467152213735e-11f;
  top = top * square + 5.12229709037114e-08f;
  top = top * square + 1.48572235717979e-05f;
  top = top * square + 6.37261928875436e-04f;
  top = top * square + 4.89352455891786e-03f;
  Vector bottom = all(1.19825839466702e-06f);
  bottom = bottom * square + 1.18534705686654e-04f;
  bottom = bottom * square + 2.26843463243900e-03f;
  bottom = bottom * square + 4.89352518554385e-03f;
  return clamped * (top / bottom);
}

// 1 / x, within a unit or two of the last place, where neither is zero nor infinite.
inline Vector inverse_of_normal(Vector x) {
#if defined(__AVX512F__)  // a division takes as long as all the rest of a GELU
  Vector near = reinterpret_cast<Vector>(_mm512_maskz_rcp14_ps(0xffff, reinterpret_cast<__m512>(x)));
  return near + near * (1.0f - x * near);
#else
  return 1.0f / x;
#endif
}

// The same, of zero and infinity too.
inline Vector inverse(Vector x) {
#if defined(__AVX512F__)
  Vector near = reinterpret_cast<Vector>(_mm512_maskz_rcp14_ps(0xffff, reinterpret_cast<__m512>(x)));
  Vector nearer = near + near * (1.0f - x * near);
  return nearer == nearer ? nearer : near;
#else
  return 1.0f / x;
#endif
}

// The root, within a unit or two of the last place; of zero and infinity too.
inline Vector root(Vector x) {
#if defined(__AVX512F__)  // the processor's own takes as long as all the rest of Adam's update but its division
  Vector near = reinterpret_cast<Vector>(_mm512_maskz_rsqrt14_ps(0xffff, reinterpret_cast<__m512>(x))), close = x * near;
  Vector closer = close + 0.5f * close * (1.0f - close * near);
  return closer == closer ? closer : x;
#else
  return sqrt(x);
#endif
}

// 2^x for x from -126 to 126, within 2e-7 of the true value, relative to it. A NaN gives any number.
inline Vector power_of_two(Vector x) {
  constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: added, it rounds to a whole number
  Vector shifted = x + SHIFT, r = x - (shifted - SHIFT), series = all(1.3264727065e-3f);
  series = series * r + 9.6715126489e-3f;
  series = series * r + 5.5507337437e-2f;
  series = series * r + 2.4022242085e-1f;
  series = series * r + 6.9314697760e-1f;
  series = series * r + 1.0f;
  return reinterpret_cast<Vector>(reinterpret_cast<Mask>(series) + (reinterpret_cast<Mask>(shifted) << 23));
}

// The Gaussian error linear unit, with tanh for the error function, and its slope: x s(z) with the sigmoid s and
// z = sqrt(8 / pi) (x + 0.044715 x^3), and s(z) + x s(z) s(-z) z'.
struct Gelu {
  Vector value, slope;

  explicit Gelu(Vector x) {
    constexpr float FACTOR = 1.5957691216f, CUBE = 0.044715f, LOG2_E = 1.4426950409f;
    constexpr float END = 9.0f;  // where s(z) is 0 or 1, and the slope too
    Vector near = minimum(all(END), maximum(all(-END), x)), square = near * near;
    Vector other = power_of_two(near * (-FACTOR * LOG2_E * CUBE * square - FACTOR * LOG2_E));
    Vector share = inverse_of_normal(1.0f + other);
    value = x < -END ? Vector{} : x * share;
    slope = share + share * (other * share) * (near * (3.0f * FACTOR * CUBE * square + FACTOR));
  }
};

}  // namespace lamina
