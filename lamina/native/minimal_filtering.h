// The matrices of minimal filtering F(m, 3): m results of a line from what is seen of it, d, and a kernel g of 3 are
//
//   y = A [(G g) * (B d)]
//
// where * is by elements, with m + 2 products instead of 3 m. G takes a polynomial with the coefficients g to its values at
// m + 1 points and to its last coefficient, and so does A' with m coefficients; B' goes from such values to the coefficients of
// a product of polynomials (Winograd 1980, "Arithmetic Complexity of Computations"). For two results the points are 0, 1 and -1:
//
//       | 1  0 -1  0 |        |  1    0    0  |
//   B = | 0  1  1  0 |    G = | 1/2  1/2  1/2 |    A = | 1  1  1  0 |
//       | 0 -1  1  0 |        | 1/2 -1/2  1/2 |        | 0  1 -1 -1 |
//       | 0  1  0 -1 |        |  0    0    1  |
//
// For four they are 0, p, -p, q and -q with p = 3/4 and q = 3/2, whose powers are exact; errors are half of those with the usual
// 1 and 2. With P = p p, Q = q q, a = 1 / 2P(P - Q) and b = 1 / 2Q(Q - P):
//
//       | PQ   0  -P-Q   0    1  0 |        | 1/PQ  0   0  |
//       |  0 -pQ   -Q    p    1  0 |        |  a   ap  aP  |        | 1  1  1  1  1  0 |
//   B = |  0  pQ   -Q   -p    1  0 |    G = |  a  -ap  aP  |    A = | 0  p -p  q -q  0 |
//       |  0 -qP   -P    q    1  0 |        |  b   bq  bQ  |        | 0  P  P  Q  Q  0 |
//       |  0  qP   -P   -q    1  0 |        |  b  -bq  bQ  |        | 0 pP-pP qQ-qQ  1 |
//       |  0  PQ    0  -P-Q   0  1 |        |  0    0   1  |
#pragma once

#include "vector.h"

namespace lamina {

// Each function applies one of them, or its transpose, to vectors that lie FROM apart, and writes them TO apart.
template <int RESULTS>
struct Line;

template <>
struct Line<2> {
  static constexpr int SPOTS = 4;

  // B
  template <int FROM, int TO>
  static void seen(const Vector* in, Vector* out) {
    out[0] = in[0] - in[2 * FROM];
    out[TO] = in[FROM] + in[2 * FROM];
    out[2 * TO] = in[2 * FROM] - in[FROM];
    out[3 * TO] = in[FROM] - in[3 * FROM];
  }

  // A
  template <int FROM, int TO>
  static void result(const Vector* in, Vector* out) {
    out[0] = in[0] + in[FROM] + in[2 * FROM];
    out[TO] = in[FROM] - in[2 * FROM] - in[3 * FROM];
  }

  // A'
  template <int FROM, int TO>
  static void gradient(const Vector* in, Vector* out) {
    out[0] = in[0];
    out[TO] = in[0] + in[FROM];
    out[2 * TO] = in[0] - in[FROM];
    out[3 * TO] = -in[FROM];
  }

  // G
  template <int FROM, int TO>
  static void kernel(const Vector* in, Vector* out) {
    Vector ends = 0.5f * (in[0] + in[2 * FROM]), middle = 0.5f * in[FROM];
    out[0] = in[0];
    out[TO] = ends + middle;
    out[2 * TO] = ends - middle;
    out[3 * TO] = in[2 * FROM];
  }

  // G'
  template <int FROM, int TO>
  static void total(const Vector* in, Vector* out) {
    Vector both = 0.5f * (in[FROM] + in[2 * FROM]);
    out[0] = in[0] + both;
    out[TO] = 0.5f * (in[FROM] - in[2 * FROM]);
    out[2 * TO] = both + in[3 * FROM];
  }
};

template <>
struct Line<4> {
  static constexpr int SPOTS = 6;
  static constexpr float P = 0.75f, Q = 1.5f, PP = P * P, QQ = Q * Q;
  static constexpr float OF_0 = 1 / (PP * QQ), OF_P = 1 / (2 * PP * (PP - QQ)), OF_Q = 1 / (2 * QQ * (QQ - PP));

  template <int FROM, int TO>
  static void seen(const Vector* in, Vector* out) {
    Vector even = in[4 * FROM] - QQ * in[2 * FROM], odd = in[3 * FROM] - QQ * in[FROM];
    Vector even_q = in[4 * FROM] - PP * in[2 * FROM], odd_q = in[3 * FROM] - PP * in[FROM];
    out[0] = in[4 * FROM] - (PP + QQ) * in[2 * FROM] + PP * QQ * in[0];
    out[TO] = even + P * odd;
    out[2 * TO] = even - P * odd;
    out[3 * TO] = even_q + Q * odd_q;
    out[4 * TO] = even_q - Q * odd_q;
    out[5 * TO] = in[5 * FROM] - (PP + QQ) * in[3 * FROM] + PP * QQ * in[FROM];
  }

  template <int FROM, int TO>
  static void result(const Vector* in, Vector* out) {
    Vector even = in[FROM] + in[2 * FROM], odd = in[FROM] - in[2 * FROM];
    Vector even_q = in[3 * FROM] + in[4 * FROM], odd_q = in[3 * FROM] - in[4 * FROM];
    out[0] = in[0] + even + even_q;
    out[TO] = P * odd + Q * odd_q;
    out[2 * TO] = PP * even + QQ * even_q;
    out[3 * TO] = in[5 * FROM] + P * PP * odd + Q * QQ * odd_q;
  }

  template <int FROM, int TO>
  static void gradient(const Vector* in, Vector* out) {
    Vector even = in[0] + PP * in[2 * FROM], odd = in[FROM] + PP * in[3 * FROM];
    Vector even_q = in[0] + QQ * in[2 * FROM], odd_q = in[FROM] + QQ * in[3 * FROM];
    out[0] = in[0];
    out[TO] = even + P * odd;
    out[2 * TO] = even - P * odd;
    out[3 * TO] = even_q + Q * odd_q;
    out[4 * TO] = even_q - Q * odd_q;
    out[5 * TO] = in[3 * FROM];
  }

  template <int FROM, int TO>
  static void kernel(const Vector* in, Vector* out) {
    Vector even = in[0] + PP * in[2 * FROM], odd = P * in[FROM];
    Vector even_q = in[0] + QQ * in[2 * FROM], odd_q = Q * in[FROM];
    out[0] = OF_0 * in[0];
    out[TO] = OF_P * (even + odd);
    out[2 * TO] = OF_P * (even - odd);
    out[3 * TO] = OF_Q * (even_q + odd_q);
    out[4 * TO] = OF_Q * (even_q - odd_q);
    out[5 * TO] = in[2 * FROM];
  }

  template <int FROM, int TO>
  static void total(const Vector* in, Vector* out) {
    Vector even = OF_P * (in[FROM] + in[2 * FROM]), odd = OF_P * (in[FROM] - in[2 * FROM]);
    Vector even_q = OF_Q * (in[3 * FROM] + in[4 * FROM]), odd_q = OF_Q * (in[3 * FROM] - in[4 * FROM]);
    out[0] = OF_0 * in[0] + even + even_q;
    out[TO] = P * odd + Q * odd_q;
    out[2 * TO] = in[5 * FROM] + PP * even + QQ * even_q;
  }
};

}  // namespace lamina
