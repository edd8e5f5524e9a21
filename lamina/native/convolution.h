// What the convolutions have in common: their geometry, and activations that are applied and undone in passing.
// "Outer" is the side that a convolution comes from, with the larger picture; "inner" the one it goes to.
#pragma once

#include <utility>

#include "functions.h"
#include "handlers.h"
#include "vector.h"

namespace lamina {

struct Geometry {
  int64_t batch, height, width, channels;  // outer
  int64_t rows, columns, filters;          // inner
  int64_t kernel_height, kernel_width, groups;
  int64_t stride_y, stride_x, top, left, dilation_y, dilation_x;

  using Shape = ffi::Span<const int64_t>;
  Geometry(Shape outer, Shape kernel, Shape inner, Integers strides, Integers pads, Integers dilation, int64_t groups)
      : batch(outer[0]), height(outer[1]), width(outer[2]), channels(outer[3]), rows(inner[1]), columns(inner[2]),
        filters(inner[3]), kernel_height(kernel[0]), kernel_width(kernel[1]), groups(groups), stride_y(strides[0]),
        stride_x(strides[1]), top(pads[0]), left(pads[1]), dilation_y(dilation[0]), dilation_x(dilation[1]) {}

  int64_t group_channels() const { return channels / groups; }
  int64_t group_filters() const { return filters / groups; }
  int64_t taps() const { return kernel_height * kernel_width; }
  // That of the convolution from the inner to the outer side that is the transpose of this one, with steps of 1.
  Geometry turned() const {
    Geometry t = *this;
    std::swap(t.height, t.rows), std::swap(t.width, t.columns), std::swap(t.channels, t.filters);
    t.top = (kernel_height - 1) * dilation_y - top, t.left = (kernel_width - 1) * dilation_x - left;
    return t;
  }
  int64_t outer_at(int64_t image, int64_t y, int64_t x) const { return ((image * height + y) * width + x) * channels; }
  int64_t inner_at(int64_t image, int64_t r, int64_t c) const { return ((image * rows + r) * columns + c) * filters; }
};

// A picture, or two of which the second has the last channels.
template <typename Number>
struct Pictures {
  Number* first;
  Number* second = nullptr;
  int64_t channels = 0;  // of the second

  Pictures(Number* first) : first(first) {}
  Pictures(Number* first, Number* second, int64_t channels) : first(first), second(second), channels(channels) {}
};

// Of a convolution with steps of 1 whose outer side is two pictures.
inline Geometry joined(Geometry::Shape first, Geometry::Shape second, Geometry::Shape kernel, Geometry::Shape inner,
                       Integers pads) {
  static const int64_t ONES[] = {1, 1};
  Geometry g(first, kernel, inner, Integers(ONES, 2), pads, Integers(ONES, 2), 1);
  g.channels += second[3];
  return g;
}

// Reads a gradient with the activation undone, which is told from its result.
struct Undo {
  const float* gradient;
  const float* result = nullptr;  // none if there was no activation
  float slope = 1.0f;

  explicit Undo(const float* gradient) : gradient(gradient) {}
  Undo(const Floats& gradient, const Floats& result, float slope)
      : gradient(gradient.typed_data()),
        result(result.element_count() && slope != 1.0f ? result.typed_data() : nullptr), slope(slope) {}

  Vector at(int64_t place, int64_t count) const {
    Vector g = load(gradient + place, count);
    if (!result) return g;
    return unactivated(g, load(result + place, count), slope);
  }

  void prefetch(int64_t place) const {
    __builtin_prefetch(gradient + place);
    if (result) __builtin_prefetch(result + place);
  }

  void copy(int64_t from, int64_t count, float* to) const {
    if (!result)
      std::memcpy(to, gradient + from, count * sizeof(float));
    else
      for (int64_t i = 0; i < count; i += LANES) store(to + i, at(from + i, count - i), count - i);
  }
};

}  // namespace lamina
