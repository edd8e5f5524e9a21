// Pictures of bfloat16 as products of tiles read them, for half_convolution.cc.
//
// A picture is written anew: each of its rows has an entry for each column of the result, with what all taps see of the row
// there. Whatever the steps, the padding and the dilation, entries of places that follow each other then lie equally far apart,
// from one row of the result to the next as well.
#pragma once

#include "half_tiles.h"

#if defined(LAMINA_HAS_TILES)

#include <numeric>

#include "convolution.h"

namespace lamina {

// Up and down, or across: tap t at place i sees number first + i * stride + t * spacing of what is seen. In the kernel it is
// number tap + t * tap_step, and the place is number start + i * step of the result.
struct Axis {
  int64_t places, taps, first, spacing, stride, tap, tap_step, start, step;

  // Of a convolution.
  Axis(int64_t places, int64_t taps, int64_t pad, int64_t dilation, int64_t stride)
      : places(places), taps(taps), first(-pad), spacing(dilation), stride(stride), tap(0), tap_step(1), start(0), step(1) {}

  // Of its transpose, the places `start`, start + stride and so on of `length`: they see the inner side by the same taps.
  static Axis turned(int64_t start, int64_t length, int64_t taps, int64_t pad, int64_t dilation, int64_t stride) {
    int64_t apart = stride / std::gcd(stride, dilation), count = 0, last = 0;
    for (int64_t t = 0; t < taps; t++)
      if ((start + pad - t * dilation) % stride == 0) count++, last = t;
    Axis axis((std::max(length, start) - start + stride - 1) / stride, count, 0, apart * dilation / stride, 1);
    axis.first = count ? (start + pad - last * dilation) / stride : 0;
    axis.tap = last, axis.tap_step = -apart, axis.start = start, axis.step = stride;
    return axis;
  }

  // How many numbers so many places see, from the first to the last.
  int64_t reach(int64_t count) const { return (count - 1) * stride + std::max<int64_t>(taps - 1, 0) * spacing + 1; }
};

inline Axis down(const Geometry& g) { return {g.rows, g.kernel_height, g.top, g.dilation_y, g.stride_y}; }
inline Axis across(const Geometry& g) { return {g.columns, g.kernel_width, g.left, g.dilation_x, g.stride_x}; }

// Numbers that are read, those of a gradient with the activation undone.
struct Picture {
  Pictures<const Half> values;
  const Half* result;  // none if there was no activation
  float slope;
  int64_t height, width, channels;

  // Writes columns [start, start + count) of a row, with zeros for those that are not there.
  void write(int64_t image, int64_t y, int64_t start, int64_t count, Half* to) const {
    int64_t from = std::clamp<int64_t>(start, 0, width), until = std::clamp<int64_t>(start + count, from, width);
    if (y < 0 || y >= height) until = from;
    Half* begin = to + std::min(count, from - start) * channels;
    Half* end = begin + (until - from) * channels;
    std::fill(to, begin, Half{});
    if (until > from) copy((image * height + y) * width + from, until - from, begin);
    std::fill(end, to + count * channels, Half{});
  }

  // The same, where they lie if nothing is to be done to them.
  const Half* row(int64_t image, int64_t y, int64_t start, int64_t count, Half* space) const {
    if (!result && !values.second && y >= 0 && y < height && start >= 0 && start + count <= width)
      return values.first + ((image * height + y) * width + start) * channels;
    write(image, y, start, count, space);
    return space;
  }

 private:
  void copy(int64_t place, int64_t count, Half* to) const {
    if (values.second) {
      int64_t before = channels - values.channels;
      for (int64_t i = place; i < place + count; i++, to += channels) {
        std::memcpy(to, values.first + i * before, before * sizeof(Half));
        std::memcpy(to + before, values.second + i * values.channels, values.channels * sizeof(Half));
      }
      return;
    }
    const Half *from = values.first + place * channels, *made = result + place * channels;
    count *= channels;
    if (!result)
      std::memcpy(to, from, count * sizeof(Half));
    else if (slope == 0.0f)
      for (int64_t i = 0; i < count; i += SIDE) {
        __mmask32 there = first_of_line(count - i);  // a positive number and no NaN, as are bits from 1 to those of infinity
        __m512i bits = _mm512_maskz_loadu_epi16(there, made + i);
        __mmask32 kept = _mm512_cmplt_epu16_mask(_mm512_sub_epi16(bits, _mm512_set1_epi16(1)), _mm512_set1_epi16(0x7f80));
        _mm512_mask_storeu_epi16(to + i, there, _mm512_maskz_loadu_epi16(there & kept, from + i));
      }
    else
      for (int64_t i = 0; i < count; i += LANES)
        store(to + i, unactivated(load(from + i, count - i), load(made + i, count - i), slope), count - i);
  }
};

// The entries of a row.
struct Entries {
  Axis axis;
  int64_t channels, filled = axis.taps * channels, size = blocks(filled) * SIDE;  // numbers of an entry

  // Of all places, from a row that begins with the first column seen.
  void write(const Half* row, Half* to) const {
    for (int64_t i = 0; i < axis.places; i++, row += axis.stride * channels, to += size) {
      if (axis.spacing == 1) {
        copy(row, filled, to);
        continue;
      }
      std::fill(to, to + size, Half{});
      for (int64_t tap = 0; tap < axis.taps; tap++)
        std::memcpy(to + tap * channels, row + tap * axis.spacing * channels, channels * sizeof(Half));
    }
  }

 private:
  // What follows to the end of a block is zero.
  static void copy(const Half* from, int64_t count, Half* to) {
    for (; count > SIDE; count -= SIDE, from += SIDE, to += SIDE) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(first_of_line(count), from));
  }
};

// Where rows lie that so many places see: those that one tap sees follow each other.
struct Slots {
  int64_t stride, reach, each = (reach + stride - 1) / stride;

  int64_t count() const { return stride * each; }
  int64_t at(int64_t row) const { return row % stride * each + row / stride; }
  // the row of a slot
  int64_t row(int64_t slot) const { return slot % each * stride + slot / each; }
};

}  // namespace lamina

#endif
