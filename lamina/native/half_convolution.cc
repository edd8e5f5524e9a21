// Convolutions whose numbers are bfloat16, by products of tiles or of pairs; for what they are see convolution.cc, and for what
// the products read, half_pictures.h.

#include "half_pictures.h"

#if defined(LAMINA_HAS_TILES)

#include <array>

namespace lamina {
namespace {

// So many tasks for each thread, and so many places of a picture at once.
constexpr int64_t TASKS = 4, PLACES = 512;
// So many numbers of pictures that the gradient of a kernel works on at once.
constexpr int64_t ROOM = 1 << 18;

template <int TO>
void load_tile(const void* from, int64_t bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(bytes), "i"(TO) : "memory");
}

// Sums of up to SIDE rows and columns that belong to memory, (SIDE, SIDE), in HIGH by WIDE tiles of this thread.
template <int HIGH, int WIDE>
struct TileSums {
  static constexpr int64_t ROW = SIDE * sizeof(float);
  float* memory;

  void clear() const {
    asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::);
  }

  void load() const {
    load_tile<0>(memory, ROW);
    if (WIDE > 1) load_tile<1>(memory + LANES, ROW);
    if (HIGH > 1) load_tile<2>(memory + LANES * SIDE, ROW);
    if (WIDE > 1 && HIGH > 1) load_tile<3>(memory + LANES * SIDE + LANES, ROW);
  }

  void store() const {
    store_tile<0>(memory);
    if (WIDE > 1) store_tile<1>(memory + LANES);
    if (HIGH > 1) store_tile<2>(memory + LANES * SIDE);
    if (WIDE > 1 && HIGH > 1) store_tile<3>(memory + LANES * SIDE + LANES);
  }

  // Adds the product of so much depth.
  void add(const Half* left, const Half* right, const Steps& steps, int64_t depth) const {
    int64_t left_bytes = steps.left * sizeof(Half), right_bytes = steps.right * sizeof(Half);
    for (; depth > 0; depth -= SIDE, left += SIDE, right += steps.next) {
      load_tile<4>(left, left_bytes);
      load_tile<6>(right, right_bytes);
      asm volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0" ::);
      if (WIDE > 1) {
        load_tile<7>(right + steps.beside, right_bytes);
        asm volatile("tdpbf16ps %%tmm7, %%tmm4, %%tmm1" ::);
      }
      if (HIGH > 1) {
        load_tile<5>(left + LANES * steps.left, left_bytes);
        asm volatile("tdpbf16ps %%tmm6, %%tmm5, %%tmm2" ::);
      }
      if (HIGH > 1 && WIDE > 1) asm volatile("tdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::);
    }
  }

 private:
  template <int FROM>
  static void store_tile(float* to) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(ROW), "i"(FROM) : "memory");
  }
};

// The same without tiles: sums of so many rows stay in memory from one product to the next.
template <int WIDE>
struct PairSums {
  float* memory;
  int64_t rows;
  bool begun = true;

  void clear() { begun = false; }
  void load() const {}
  void store() const {
    if (!begun) std::fill(memory, memory + rows * SIDE, 0.0f);
  }
  void add(const Half* left, const Half* right, const Steps& steps, int64_t depth) {
    multiply_rows<WIDE>(rows, left, right, steps, depth, memory, SIDE, begun);
    begun = true;
  }
};

// Calls body with sums in this memory that suit so many rows and columns, SIDE at most of either.
template <typename Body>
void with_sums(float* memory, int64_t rows, int64_t columns, const Body& body) {
  bool high = rows > LANES, wide = columns > LANES;
  if (!has_tiles())
    wide ? body(PairSums<2>{memory, std::min(rows, SIDE)}) : body(PairSums<1>{memory, std::min(rows, SIDE)});
  else if (high)
    wide ? body(TileSums<2, 2>{memory}) : body(TileSums<2, 1>{memory});
  else
    wide ? body(TileSums<1, 2>{memory}) : body(TileSums<1, 1>{memory});
}

// What is written: pictures, of which each place gets a bias and an activation.
struct Result {
  Pictures<Half> values;
  int64_t height, width, channels;
  const Half* bias;  // none if nothing is to be added
  float slope;
};

// A vector of channels of that, from `channel` on.
struct Channels {
  Half* to;
  int64_t step;
  int64_t there;
  Vector bias;
  float slope;

  Channels(const Result& result, int64_t channel) : slope(result.slope) {
    int64_t before = result.channels - result.values.channels, count = result.channels - channel;
    bool first = channel < before;
    step = first ? before : result.values.channels;
    to = first ? result.values.first + channel : result.values.second + channel - before;
    there = first ? before - channel : count;
    bias = result.bias ? load(result.bias + channel, count) : Vector{};
  }

  void write(int64_t place, Vector value) const { store_rounded(to + place * step, activated(value + bias, slope), there); }
};

// A convolution, or the part of a transposed one whose places see the same taps.
struct Part {
  Axis down, across;
  Entries entries;
  Half* weights;  // for each panel of channels of the result and each row of taps, as a right factor

  Part(Axis down, Axis across, int64_t channels) : down(down), across(across), entries{across, channels} {}
  int64_t depth() const { return entries.size / SIDE; }
  int64_t size(int64_t channels) const { return blocks(channels) * down.taps * depth() * 2 * TILE; }
  Half* block(int64_t panel, int64_t tap) const { return weights + (panel * down.taps + tap) * depth() * 2 * TILE; }

  // Packs a row of taps, of a matrix of what is seen and what is made of it.
  void pack(const Matrix& matrix, int64_t tap) const {
    for (int64_t panel = 0; panel < blocks(matrix.columns); panel++)
      for (int64_t k = 0; k < depth(); k++) matrix.pack(k * SIDE, panel * SIDE, block(panel, tap) + k * 2 * TILE);
  }

  // The same with the kernel of the convolution that this is a part of the transpose of.
  void pack_turned(const Geometry& g, const Half* kernel, int64_t tap) const {
    int64_t wide = blocks(g.channels) * SIDE;
    HalfScratch scratch((entries.filled + SIDE) * wide, false);
    Half* space = scratch.take((entries.filled + SIDE) * wide);
    for (int64_t t = 0; t < across.taps; t++) {
      int64_t number = (down.tap + tap * down.tap_step) * g.kernel_width + across.tap + t * across.tap_step;
      Matrix one{kernel + number * g.channels * g.filters, g.channels, g.filters, g.filters};
      for (int64_t k = 0; k < g.filters; k += SIDE)  // zeros beyond the filters are written over by the next tap
        for (int64_t c = 0; c < g.channels; c += SIDE) one.turn(c, k, space + (t * g.filters + k) * wide + c, wide);
    }
    pack({space, entries.filled, g.channels, wide}, tap);
  }

  // Rows [from, until) of the places of an image.
  void run(const Picture& seen, const Result& result, int64_t image, int64_t from, int64_t until) const {
    Slots slots{down.stride, down.reach(until - from)};
    int64_t width = across.reach(across.places), places = (until - from) * across.places, row_size = across.places * entries.size;
    int64_t size = slots.count() * row_size + SIDE * entries.size;
    HalfScratch scratch(size + width * seen.channels, false);
    Half *written = scratch.take(size), *space = scratch.take(width * seen.channels);
    for (int64_t y = 0; y < slots.reach && entries.size; y++)
      entries.write(seen.row(image, down.first + from * down.stride + y, across.first, width, space),
                    written + slots.at(y) * row_size);
    for (int64_t panel = 0; panel < blocks(result.channels); panel++) {
      int64_t channel = panel * SIDE, column = 0;
      int64_t at = (image * result.height + down.start + from * down.step) * result.width + across.start;
      Channels first(result, channel), second(result, channel + LANES);
      for (int64_t place = 0; place < places; place += SIDE) {
        alignas(64) float sums[SIDE * SIDE];
        with_sums(sums, places - place, result.channels - channel, [&](auto total) {
          total.clear();
          for (int64_t tap = 0; tap < down.taps; tap++)
            total.add(written + slots.at(tap * down.spacing) * row_size + place * entries.size, block(panel, tap),
                      {entries.size, 2 * LANES, TILE, 2 * TILE}, entries.filled);
          total.store();
        });
        for (int64_t i = 0; i < std::min(SIDE, places - place); i++) {
          first.write(at, load(sums + i * SIDE));
          if (second.there > 0) second.write(at, load(sums + i * SIDE + LANES));
          at += across.step;
          if (++column == across.places) column = 0, at += down.step * result.width - across.places * across.step;
        }
      }
    }
  }
};

// Runs `parts` on all images, when pack(part, tap) has packed each of their rows of taps.
template <typename Pack>
void run(ffi::ThreadPool& pool, int64_t batch, const Picture& seen, std::vector<Part>& parts, const Result& result,
         const Pack& pack) {
  int64_t total = 0, rows = 0, places = 0, most = 0;
  for (const Part& part : parts) {
    total += part.size(result.channels), most = std::max(most, part.down.taps);
    rows = std::max(rows, part.down.places), places = std::max(places, part.down.places * part.across.places);
  }
  HalfScratch shared(total, true);
  Half* weights = shared.take(total);
  for (Part& part : parts) part.weights = weights, weights += part.size(result.channels);
  int64_t count = parts.size(), tasks = TASKS * pool.num_threads(), wanted = (tasks + batch - 1) / std::max<int64_t>(batch, 1);
  int64_t bands = std::clamp<int64_t>(std::max(wanted, places / PLACES), 1, std::max<int64_t>(rows, 1));
  parallel_phases(pool, 2, tasks, [&](int64_t phase, int64_t task) {
    if (phase == 0) {
      for (int64_t i = task; i < count * most; i += tasks)
        if (i / count < parts[i % count].down.taps) pack(parts[i % count], i / count);
      return;
    }
    Tiles tiles;
    for (int64_t i = share(batch * bands, task, tasks), end = share(batch * bands, task + 1, tasks); i < end; i++)
      for (const Part& part : parts) {
        int64_t from = share(part.down.places, i % bands, bands), until = share(part.down.places, i % bands + 1, bands);
        if (from < until && part.across.places) part.run(seen, result, i / bands, from, until);
      }
  });
}

void forward(ffi::ThreadPool& pool, const Geometry& g, const Picture& outer, const Half* kernel, const Result& inner) {
  std::vector<Part> parts{{down(g), across(g), g.channels}};
  run(pool, g.batch, outer, parts, inner, [&](const Part& part, int64_t tap) {
    part.pack({kernel + tap * part.entries.filled * g.filters, part.entries.filled, g.filters, g.filters}, tap);
  });
}

void backward_outer(ffi::ThreadPool& pool, const Geometry& g, const Picture& inner, const Half* kernel, const Result& outer) {
  std::vector<Part> parts;
  for (int64_t y = 0; y < g.stride_y; y++)
    for (int64_t x = 0; x < g.stride_x; x++)
      parts.emplace_back(Axis::turned(y, g.height, g.kernel_height, g.top, g.dilation_y, g.stride_y),
                         Axis::turned(x, g.width, g.kernel_width, g.left, g.dilation_x, g.stride_x), g.filters);
  run(pool, g.batch, inner, parts, outer, [&](const Part& part, int64_t tap) { part.pack_turned(g, kernel, tap); });
}

// The numbers of two entries in turns.
void interleave(const Half* first, const Half* second, int64_t count, Half* to) {
  alignas(64) static const auto orders = [] {
    std::array<std::array<Half, SIDE>, 2> orders;
    for (int i = 0; i < 2 * SIDE; i++) orders[i / SIDE][i % SIDE] = i / 2 + i % 2 * SIDE;
    return orders;
  }();
  __m512i low = _mm512_loadu_si512(&orders[0]), high = _mm512_loadu_si512(&orders[1]);
  for (int64_t n = 0; n < count; n += SIDE, to += 2 * SIDE) {
    __m512i a = _mm512_loadu_si512(first + n), b = _mm512_loadu_si512(second + n);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, low, b));
    _mm512_storeu_si512(to + SIDE, _mm512_permutex2var_epi16(a, high, b));
  }
}

// Gradients of the kernel and of the bias. Places are the depth of the product: gradients turned over, (filters, places), times
// entries of which two neighbours have their numbers in turns.
void backward_kernel(ffi::ThreadPool& pool, const Geometry& g, const Picture& outer, const Picture& inner, Half* kernel,
                     Half* bias) {
  Axis rows = down(g);
  Entries entries{across(g), g.channels};
  int64_t columns = (g.columns + 1) / 2 * 2, width = entries.axis.reach(g.columns);
  int64_t bands = std::clamp<int64_t>(g.rows * columns / PLACES, 1, g.rows), band = (g.rows + bands - 1) / bands;
  int64_t depth = blocks(band * columns), step = (depth | 1) * SIDE, filter_blocks = blocks(g.filters);
  Slots slots{rows.stride, rows.reach(band)};
  int64_t row_size = columns * entries.size, seen_size = slots.count() * row_size + SIDE * entries.size;
  int64_t given_size = filter_blocks * SIDE * step, at_once = std::max<int64_t>(1, ROOM / (seen_size + given_size));
  int64_t entry_blocks = entries.size / SIDE, all_blocks = rows.taps * filter_blocks * entry_blocks;
  int64_t part_size = (all_blocks + filter_blocks) * SIDE * SIDE;  // sums of the kernel, and, as those of ones, of the bias
  Scratch shared(PARTS * part_size, true);
  float* totals = shared.take(PARTS * part_size);
  alignas(64) static const auto ones = [] {
    std::array<Half, TILE> ones;
    ones.fill(0x3f80);
    return ones;
  }();

  auto sum_up = [&](int64_t part) {
    float* total = totals + part * part_size;
    std::fill(total, total + part_size, 0.0f);
    int64_t copy_size = depth * SIDE * g.filters;
    HalfScratch scratch(at_once * (seen_size + given_size) + copy_size + row_size + width * g.channels, false);
    Half *seen = scratch.take(at_once * seen_size), *given = scratch.take(at_once * given_size);
    Half *copy = scratch.take(copy_size), *plain = scratch.take(row_size), *space = scratch.take(width * g.channels);

    auto prepare = [&](int64_t image, int64_t from, int64_t until, Half* seen, Half* given) {
      if (columns > g.columns) std::fill(plain + g.columns * entries.size, plain + row_size, Half{});
      for (int64_t slot = 0; slot < slots.count(); slot++, seen += row_size) {
        int64_t y = rows.first + from * rows.stride + slots.row(slot);
        entries.write(outer.row(image, y, entries.axis.first, width, space), plain);
        for (int64_t c = 0; c < row_size; c += 2 * entries.size)
          interleave(plain + c, plain + c + entries.size, entries.size, seen + c);
      }
      std::fill(seen, seen + SIDE * entries.size, Half{});
      for (int64_t y = from; y < until; y++) inner.write(image, y, 0, columns, copy + (y - from) * columns * g.filters);
      std::fill(copy + (until - from) * columns * g.filters, copy + copy_size, Half{});
      Matrix matrix{copy, depth * SIDE, g.filters, g.filters};
      for (int64_t n = 0; n < g.filters; n += SIDE)
        for (int64_t place = 0; place < depth * SIDE; place += SIDE) matrix.turn(place, n, given + n * step + place, step);
    };
    Tiles tiles;
    for (int64_t unit = share(g.batch * bands, part, PARTS), end = share(g.batch * bands, part + 1, PARTS); unit < end;
         unit += at_once) {
      int64_t count = std::min(at_once, end - unit);
      for (int64_t i = 0; i < count; i++)
        prepare((unit + i) / bands, share(g.rows, (unit + i) % bands, bands), share(g.rows, (unit + i) % bands + 1, bands),
                seen + i * seen_size, given + i * given_size);
      float* sums = total;
      // adds the product with so many columns, whose pictures, rows and blocks of depth are so far apart
      auto add = [&](int64_t n, int64_t columns, const Half* right, int64_t next_picture, int64_t row, int64_t next_block) {
        with_sums(sums, g.filters - n, columns, [&](auto total) {
          total.load();
          for (int64_t i = 0; i < count; i++)
            total.add(given + i * given_size + n * step, right + i * next_picture, {step, row, SIDE, next_block}, depth * SIDE);
          total.store();
        });
        sums += SIDE * SIDE;
      };
      for (int64_t tap = 0; tap < rows.taps; tap++)
        for (int64_t n = 0; n < g.filters; n += SIDE)
          for (int64_t e = 0; e < entries.size; e += SIDE)
            add(n, entries.filled - e, seen + slots.at(tap * rows.spacing) * row_size + 2 * e, seen_size,
                2 * entries.size, SIDE * entries.size);
      for (int64_t n = 0; n < g.filters; n += SIDE) add(n, 1, ones.data(), 0, SIDE, 0);
    }
  };
  auto join = [&](int64_t block) {
    int64_t tap = block / entry_blocks / filter_blocks, n = block / entry_blocks % filter_blocks * SIDE;
    int64_t e = block % entry_blocks * SIDE;
    for (int64_t i = n; i < std::min(n + SIDE, g.filters); i += LANES)
      for (int64_t j = e; j < std::min(e + SIDE, entries.filled); j += LANES) {
        Square square{};
        for (int64_t part = 0; part < PARTS; part++) {
          const float* sums = totals + part * part_size + block * SIDE * SIDE + (i - n) * SIDE + j - e;
          for (int64_t r = 0; r < LANES; r++) square[r] += load(sums + r * SIDE);
        }
        transpose(square);
        Half* to = kernel + (tap * entries.filled + j) * g.filters + i;
        for (int64_t r = 0; r < std::min<int64_t>(LANES, entries.filled - j); r++)
          store(to + r * g.filters, square[r], g.filters - i);
      }
  };
  parallel_phases(pool, 2, PARTS, [&](int64_t phase, int64_t part) {
    if (phase == 0) return sum_up(part);
    for (int64_t block = share(all_blocks, part, PARTS); block < share(all_blocks, part + 1, PARTS); block++) join(block);
    if (part == 0)
      for (int64_t n = 0; n < g.filters; n++) {
        Vector sum{};
        for (int64_t i = 0; i < PARTS; i++) sum += load(totals + i * part_size + (all_blocks * SIDE + n) * SIDE);
        store(bias + n, sum, 1);
      }
  });
}

Picture outer_picture(const Geometry& g, Pictures<const Half> values) {
  return {values, nullptr, 1.0f, g.height, g.width, g.channels};
}

Picture inner_picture(const Geometry& g, const Halves& gradient, const Halves& result, float slope) {
  return {gradient.typed_data(), slope == 1.0f ? nullptr : values_or_null(result), slope, g.rows, g.columns, g.filters};
}

ffi::Error half_convolution(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, HalvesOut y, Integers strides,
                            Integers pads, Integers dilation, int64_t groups, float slope) {
  Geometry g(x.dimensions(), kernel.dimensions(), y->dimensions(), strides, pads, dilation, groups);
  forward(pool, g, outer_picture(g, x.typed_data()), kernel.typed_data(),
          {y->typed_data(), g.rows, g.columns, g.filters, values_or_null(bias), slope});
  return ffi::Error::Success();
}

ffi::Error half_convolution_outer(ffi::ThreadPool pool, Halves gradient, Halves result, Halves kernel, Halves bias,
                                  HalvesOut outer, Integers strides, Integers pads, Integers dilation, int64_t groups,
                                  float undone, float slope) {
  Geometry g(outer->dimensions(), kernel.dimensions(), gradient.dimensions(), strides, pads, dilation, groups);
  backward_outer(pool, g, inner_picture(g, gradient, result, undone), kernel.typed_data(),
                 {outer->typed_data(), g.height, g.width, g.channels, values_or_null(bias), slope});
  return ffi::Error::Success();
}

ffi::Error half_convolution_kernel(ffi::ThreadPool pool, Halves outer, Halves gradient, Halves result, HalvesOut kernel,
                                   HalvesOut bias, Integers strides, Integers pads, Integers dilation, int64_t groups,
                                   float undone) {
  Geometry g(outer.dimensions(), kernel->dimensions(), gradient.dimensions(), strides, pads, dilation, groups);
  backward_kernel(pool, g, outer_picture(g, outer.typed_data()), inner_picture(g, gradient, result, undone),
                  kernel->typed_data(), bias->typed_data());
  return ffi::Error::Success();
}

// The same of two pictures whose channels follow each other.
ffi::Error half_joined_convolution(ffi::ThreadPool pool, Halves first, Halves second, Halves kernel, Halves bias, HalvesOut y,
                                   Integers pads, float slope) {
  Geometry g = joined(first.dimensions(), second.dimensions(), kernel.dimensions(), y->dimensions(), pads);
  forward(pool, g, outer_picture(g, {first.typed_data(), second.typed_data(), second.dimensions()[3]}), kernel.typed_data(),
          {y->typed_data(), g.rows, g.columns, g.filters, values_or_null(bias), slope});
  return ffi::Error::Success();
}

ffi::Error half_joined_convolution_outer(ffi::ThreadPool pool, Halves gradient, Halves result, Halves kernel, HalvesOut first,
                                         HalvesOut second, Integers pads, float undone) {
  Geometry g = joined(first->dimensions(), second->dimensions(), kernel.dimensions(), gradient.dimensions(), pads);
  Pictures<Half> outer{first->typed_data(), second->typed_data(), second->dimensions()[3]};
  backward_outer(pool, g, inner_picture(g, gradient, result, undone), kernel.typed_data(),
                 {outer, g.height, g.width, g.channels, nullptr, 1.0f});
  return ffi::Error::Success();
}

ffi::Error half_joined_convolution_kernel(ffi::ThreadPool pool, Halves first, Halves second, Halves gradient, Halves result,
                                          HalvesOut kernel, HalvesOut bias, Integers pads, float undone) {
  Geometry g = joined(first.dimensions(), second.dimensions(), kernel->dimensions(), gradient.dimensions(), pads);
  backward_kernel(pool, g, outer_picture(g, {first.typed_data(), second.typed_data(), second.dimensions()[3]}),
                  inner_picture(g, gradient, result, undone), kernel->typed_data(), bias->typed_data());
  return ffi::Error::Success();
}

#define GEOMETRY Attr<Integers>("strides").Attr<Integers>("pads").Attr<Integers>("dilation").Attr<int64_t>("groups")

LAMINA_HANDLER_IF(has_half_products(), half_convolution, half_convolution,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>().GEOMETRY
                      .Attr<float>("slope"));
LAMINA_HANDLER_IF(has_half_products(), half_convolution_outer, half_convolution_outer,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>()
                      .Arg<Halves>().Ret<Halves>().GEOMETRY
                      .Attr<float>("undone").Attr<float>("slope"));
LAMINA_HANDLER_IF(has_half_products(), half_convolution_kernel, half_convolution_kernel,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>()
                      .Arg<Halves>().Ret<Halves>().Ret<Halves>().GEOMETRY
                      .Attr<float>("undone"));
LAMINA_HANDLER_IF(has_half_products(), half_joined_convolution, half_joined_convolution,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>()
                      .Attr<Integers>("pads").Attr<float>("slope"));
LAMINA_HANDLER_IF(has_half_products(), half_joined_convolution_outer, half_joined_convolution_outer,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>().Ret<Halves>()
                      .Attr<Integers>("pads").Attr<float>("undone"));
LAMINA_HANDLER_IF(has_half_products(), half_joined_convolution_kernel, half_joined_convolution_kernel,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>()
                      .Ret<Halves>().Attr<Integers>("pads").Attr<float>("undone"));

}  // namespace
}  // namespace lamina

#endif
