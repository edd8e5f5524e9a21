// Cross-entropy of one class among several, from scores: -log softmax(x)[label] for each row, in one look at the row while it
// is in the cache, and its gradient in another. A label that is no class gives a NaN. Of a few classes, as many rows as a vector
// has numbers are turned into columns and worked on together.

#include <cmath>
#include <limits>

#include "functions.h"
#include "handlers.h"
#include "shuffles.h"

namespace lamina {
namespace {

constexpr int64_t AT_ONCE = 1 << 14;  // numbers, in a part of the work

// body(first row, number of rows) for so many together at a time.
template <typename Body>
void each_row(ffi::ThreadPool& pool, int64_t rows, int64_t classes, int64_t together, const Body& body) {
  int64_t some = std::max(together, AT_ONCE / classes / together * together);
  parallel_for(pool, (rows + some - 1) / some, [&](int64_t part) {
    int64_t end = std::min(rows, (part + 1) * some);
    for (int64_t row = part * some; row < end; row += together) body(row, std::min(together, end - row));
  });
}

// The labels of some rows, and -1 after them.
Mask load_labels(const int32_t* from, int64_t count) {
  Mask labels;
  for (int64_t i = 0; i < LANES; i++) labels[i] = i < count ? from[i] : -1;
  return labels;
}

void crossentropy_of_few(const float* scores, const int32_t* labels, int64_t rows, int64_t classes, float* losses,
                         float* logarithms) {
  Square x;
  load(scores, classes, rows, classes, x);
  transpose(x);
  Mask label = load_labels(labels, rows);
  Vector top = x[0], total{}, picked = all(std::numeric_limits<float>::quiet_NaN());
  for (int64_t c = 1; c < classes; c++) top = maximum(top, x[c]);
  for (int64_t c = 0; c < classes; c++) {
    total += exp(x[c] - top);
    picked = label == static_cast<int32_t>(c) ? x[c] : picked;
  }
  Vector logarithm = top + log_from_one(total);
  store(logarithms, logarithm, rows);
  store(losses, logarithm - picked, rows);
}

void gradient_of_few(const float* scores, const int32_t* labels, const float* logarithms, const float* given, int64_t rows,
                     int64_t classes, float* result) {
  Square x;
  load(scores, classes, rows, classes, x);
  transpose(x);
  Mask label = load_labels(labels, rows);
  Vector logarithm = load(logarithms, rows), weight = load(given, rows);
  for (int64_t c = 0; c < classes; c++)
    x[c] = weight * exp(x[c] - logarithm) - (label == static_cast<int32_t>(c) ? weight : Vector{});
  transpose(x);
  store(result, classes, x, rows, classes);
}

void crossentropy_of_row(const float* x, int64_t label, int64_t classes, float* loss, float* logarithm) {
  Vector highest = all(-std::numeric_limits<float>::infinity()), total{};
  int64_t whole = classes / LANES * LANES;
  for (int64_t c = 0; c < whole; c += LANES) highest = maximum(highest, load(x + c));
  float top = largest(highest);
  for (int64_t c = whole; c < classes; c++) top = x[c] > top ? x[c] : top;
  for (int64_t c = 0; c < whole; c += LANES) total += exp(load(x + c) - top);
  float rest = 0.0f;
  if (whole < classes) {
    Vector last = exp(load(x + whole, classes - whole) - top);
    for (int64_t c = whole; c < classes; c++) rest += last[c - whole];
  }
  *logarithm = top + std::log(sum(total) + rest);
  *loss = label >= 0 && label < classes ? *logarithm - x[label] : std::numeric_limits<float>::quiet_NaN();
}

ffi::Error crossentropy(ffi::ThreadPool pool, Floats scores, Numbers labels, FloatsOut losses,
                        FloatsOut logarithms) {
  int64_t rows = scores.dimensions()[0], classes = scores.dimensions()[1];
  bool few = classes <= LANES;
  each_row(pool, rows, classes, few ? LANES : 1, [&](int64_t row, int64_t count) {
    const float* x = scores.typed_data() + row * classes;
    const int32_t* label = labels.typed_data() + row;
    float *loss = losses->typed_data() + row, *logarithm = logarithms->typed_data() + row;
    if (few)
      crossentropy_of_few(x, label, count, classes, loss, logarithm);
    else
      crossentropy_of_row(x, *label, classes, loss, logarithm);
  });
  return ffi::Error::Success();
}

void gradient_of_row(const float* x, int64_t label, float logarithm, float given, int64_t classes, float* to) {
  for (int64_t c = 0; c < classes; c += LANES)
    store(to + c, given * exp(load(x + c, classes - c) - logarithm), classes - c);
  if (label >= 0 && label < classes) to[label] -= given;
}

ffi::Error crossentropy_gradient(ffi::ThreadPool pool, Floats scores, Numbers labels, Floats logarithms,
                                 Floats gradient, FloatsOut result) {
  int64_t rows = scores.dimensions()[0], classes = scores.dimensions()[1];
  bool few = classes <= LANES;
  each_row(pool, rows, classes, few ? LANES : 1, [&](int64_t row, int64_t count) {
    const float *x = scores.typed_data() + row * classes, *logarithm = logarithms.typed_data() + row;
    const float* given = gradient.typed_data() + row;
    const int32_t* label = labels.typed_data() + row;
    float* to = result->typed_data() + row * classes;
    if (few)
      gradient_of_few(x, label, logarithm, given, count, classes, to);
    else
      gradient_of_row(x, *label, *logarithm, *given, classes, to);
  });
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;
LAMINA_HANDLER(crossentropy, crossentropy,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<Numbers>().Ret<F32>().Ret<F32>());
LAMINA_HANDLER(crossentropy_gradient, crossentropy_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<F32>().Arg<Numbers>().Arg<F32>().Arg<F32>().Ret<F32>());

}  // namespace
}  // namespace lamina
