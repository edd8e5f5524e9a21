// The largest or the mean of each window of a picture, (batch, height, width, channels), and their gradients.
// A sequence is a picture of height 1. Numbers are float32 or bfloat16, which is worked with as float32.

#include <limits>

#include "half_tiles.h"
#include "handlers.h"
#include "vector.h"

namespace lamina {
namespace {

struct Windows {
  int64_t batch, height, width, channels, rows, columns;
  int64_t size_y, size_x, stride_y, stride_x, top, left;

  Windows(ffi::Span<const int64_t> x, ffi::Span<const int64_t> y, Integers size, Integers strides, Integers pads)
      : batch(x[0]), height(x[1]), width(x[2]), channels(x[3]), rows(y[1]), columns(y[2]), size_y(size[0]),
        size_x(size[1]), stride_y(strides[0]), stride_x(strides[1]), top(pads[0]), left(pads[1]) {}

  // Where the window at (row, column) begins and ends inside the picture.
  struct Bounds {
    int64_t top, bottom, left, right;
    int64_t count() const { return std::max<int64_t>(bottom - top, 0) * std::max<int64_t>(right - left, 0); }
  };
  Bounds bounds(int64_t row, int64_t column) const {
    int64_t y = row * stride_y - top, x = column * stride_x - left;
    return {std::max<int64_t>(y, 0), std::min(y + size_y, height), std::max<int64_t>(x, 0), std::min(x + size_x, width)};
  }
  template <typename Number>
  Number* at(Number* x, int64_t image, int64_t row, int64_t column) const {
    return x + ((image * height + row) * width + column) * channels;
  }
  // Whether no entry of a picture is in two windows, so that its gradient is written once.
  bool apart() const { return stride_y >= size_y && stride_x >= size_x; }

  // Runs body(image, row, column, where its result lies) for each window; pictures are shared among the threads.
  template <typename Body>
  void each(ffi::ThreadPool& pool, const Body& body) const {
    parallel_for(pool, batch, [&](int64_t image) {
      int64_t at = image * rows * columns * channels;
      for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++, at += channels) body(image, row, column, at);
    });
  }
};

template <ffi::DataType TYPE>
using Numbers = ffi::Buffer<TYPE>;
template <ffi::DataType TYPE>
using NumbersOut = ffi::Result<ffi::Buffer<TYPE>>;

// The larger one, the first of equals, and NaN if either is.
inline Vector larger(Vector best, Vector other) { return (best >= other) | (best != best) ? best : other; }

template <ffi::DataType TYPE>
ffi::Error max_pool(ffi::ThreadPool pool, Numbers<TYPE> x, NumbersOut<TYPE> y, Integers size, Integers strides,
                    Integers pads) {
  Windows w(x.dimensions(), y->dimensions(), size, strides, pads);
  const auto* from = x.typed_data();
  auto* to = y->typed_data();
  w.each(pool, [&](int64_t image, int64_t row, int64_t column, int64_t at) {
    auto bounds = w.bounds(row, column);
    for (int64_t c = 0; c < w.channels; c += LANES) {
      Vector best = all(-std::numeric_limits<float>::infinity());
      for (int64_t y = bounds.top; y < bounds.bottom; y++) {
        const auto* seen = w.at(from, image, y, bounds.left) + c;
        for (int64_t x = bounds.left; x < bounds.right; x++, seen += w.channels)
          best = larger(best, load(seen, w.channels - c));
      }
      store(to + at + c, best, w.channels - c);
    }
  });
  return ffi::Error::Success();
}

// A window's gradient goes to the first of its entries that are as large as its result.
template <ffi::DataType TYPE>
ffi::Error max_pool_gradient(ffi::ThreadPool pool, Numbers<TYPE> x, Numbers<TYPE> y, Numbers<TYPE> gradient,
                             NumbersOut<TYPE> result, Integers size, Integers strides, Integers pads) {
  Windows w(x.dimensions(), y.dimensions(), size, strides, pads);
  const auto *from = x.typed_data(), *best = y.typed_data(), *g = gradient.typed_data();
  auto* to = result->typed_data();
  bool apart = w.apart(), covered = apart && w.stride_y == w.size_y && w.stride_x == w.size_x && w.top == 0 &&
                                    w.left == 0 && w.rows * w.size_y >= w.height && w.columns * w.size_x >= w.width;
  int64_t picture = w.height * w.width * w.channels;
  parallel_for(pool, w.batch, [&](int64_t image) {
    if (!covered) std::fill(to + image * picture, to + (image + 1) * picture, 0);
    int64_t at = image * w.rows * w.columns * w.channels;
    for (int64_t row = 0; row < w.rows; row++)
      for (int64_t column = 0; column < w.columns; column++, at += w.channels) {
        auto bounds = w.bounds(row, column);
        for (int64_t c = 0; c < w.channels; c += LANES) {
          int64_t count = w.channels - c;
          Vector wanted = load(best + at + c, count), value = load(g + at + c, count);
          Mask open = ~Mask{};  // the gradient has still to be given away
          for (int64_t y = bounds.top; y < bounds.bottom; y++)
            for (int64_t x = bounds.left; x < bounds.right; x++) {
              Vector seen = load(w.at(from, image, y, x) + c, count);
              Mask here = open & ((seen == wanted) | ((seen != seen) & (wanted != wanted)));
              open &= ~here;
              Vector sent = here ? value : Vector{};
              auto* entry = w.at(to, image, y, x) + c;
              store(entry, apart ? sent : load(entry, count) + sent, count);
            }
        }
      }
  });
  return ffi::Error::Success();
}

template <ffi::DataType TYPE>
ffi::Error average_pool(ffi::ThreadPool pool, Numbers<TYPE> x, NumbersOut<TYPE> y, Integers size, Integers strides,
                        Integers pads) {
  Windows w(x.dimensions(), y->dimensions(), size, strides, pads);
  const auto* from = x.typed_data();
  auto* to = y->typed_data();
  w.each(pool, [&](int64_t image, int64_t row, int64_t column, int64_t at) {
    auto bounds = w.bounds(row, column);
    float share = 1.0f / bounds.count();
    for (int64_t c = 0; c < w.channels; c += LANES) {
      Vector total{};
      for (int64_t y = bounds.top; y < bounds.bottom; y++) {
        const auto* seen = w.at(from, image, y, bounds.left) + c;
        for (int64_t x = bounds.left; x < bounds.right; x++, seen += w.channels) total += load(seen, w.channels - c);
      }
      store(to + at + c, total * share, w.channels - c);
    }
  });
  return ffi::Error::Success();
}

template <ffi::DataType TYPE>
ffi::Error average_pool_gradient(ffi::ThreadPool pool, Numbers<TYPE> gradient, NumbersOut<TYPE> result, Integers size,
                                 Integers strides, Integers pads) {
  Windows w(result->dimensions(), gradient.dimensions(), size, strides, pads);
  const auto* g = gradient.typed_data();
  auto* to = result->typed_data();
  int64_t picture = w.height * w.width * w.channels;
  parallel_for(pool, w.batch, [&](int64_t image) {
    std::fill(to + image * picture, to + (image + 1) * picture, 0);
    int64_t at = image * w.rows * w.columns * w.channels;
    for (int64_t row = 0; row < w.rows; row++)
      for (int64_t column = 0; column < w.columns; column++, at += w.channels) {
        auto bounds = w.bounds(row, column);
        float share = 1.0f / bounds.count();
        for (int64_t y = bounds.top; y < bounds.bottom; y++)
          for (int64_t x = bounds.left; x < bounds.right; x++) {
            auto* entry = w.at(to, image, y, x);
            for (int64_t c = 0; c < w.channels; c += LANES) {
              int64_t count = w.channels - c;
              store(entry + c, load(entry + c, count) + load(g + at + c, count) * share, count);
            }
          }
      }
  });
  return ffi::Error::Success();
}

#define WINDOWS Attr<Integers>("size").Attr<Integers>("strides").Attr<Integers>("pads")

#define ONE_FROM_ONE(TYPE) ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Numbers<TYPE>>().Ret<Numbers<TYPE>>().WINDOWS
#define ONE_FROM_THREE(TYPE)                                                                                      \
  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Numbers<TYPE>>().Arg<Numbers<TYPE>>().Arg<Numbers<TYPE>>()          \
      .Ret<Numbers<TYPE>>().WINDOWS

LAMINA_HANDLER(max_pool, max_pool<ffi::F32>, ONE_FROM_ONE(ffi::F32));
LAMINA_HANDLER(max_pool_gradient, max_pool_gradient<ffi::F32>, ONE_FROM_THREE(ffi::F32));
LAMINA_HANDLER(average_pool, average_pool<ffi::F32>, ONE_FROM_ONE(ffi::F32));
LAMINA_HANDLER(average_pool_gradient, average_pool_gradient<ffi::F32>, ONE_FROM_ONE(ffi::F32));

#if defined(LAMINA_HAS_TILES)  // where convolutions give and take such numbers
LAMINA_HANDLER_IF(has_half_products(), half_max_pool, max_pool<ffi::BF16>, ONE_FROM_ONE(ffi::BF16));
LAMINA_HANDLER_IF(has_half_products(), half_max_pool_gradient, max_pool_gradient<ffi::BF16>, ONE_FROM_THREE(ffi::BF16));
LAMINA_HANDLER_IF(has_half_products(), half_average_pool, average_pool<ffi::BF16>, ONE_FROM_ONE(ffi::BF16));
LAMINA_HANDLER_IF(has_half_products(), half_average_pool_gradient, average_pool_gradient<ffi::BF16>, ONE_FROM_ONE(ffi::BF16));
#endif

}  // namespace
}  // namespace lamina
