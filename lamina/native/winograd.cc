// A tile sees d of 4 by m + 2 places for y of 2 by m results of kernels g, with the matrices of minimal_filtering.h down (B2,
// G2, A2) and across (Bm, Gm, Am):
//
//   y = A2 [(G2 g Gm') * (B2 d Bm')] Am'
//
// where * is by elements: over channels and filters, 4 (m + 2) products of matrices with a row for each tile. The gradient of
// the input is the same convolution with the kernel turned round; that of the kernel is
// G2' [sum over tiles of (A2' y Am) * (B2 d Bm')] Gm.

#include "winograd.h"

#include "minimal_filtering.h"
#include "scratch.h"
#include "spots.h"

namespace lamina {
namespace {

constexpr int64_t TASKS = 16;  // that a convolution is cut into for each thread
constexpr int AHEAD = 8;       // how many columns before it is needed a picture is fetched from far memory
// How many tiles are worked on at once, so that they stay near: of a convolution, where the weights of a spot are so many that a
// core's second cache holds all, and where they are more and should be read less often; and for the gradient of a kernel.
constexpr int64_t TILES = 24, WEIGHTS_NEAR = 1 << 14, FAR_TILES = 48, KERNEL_TILES = 64;
constexpr int64_t NEAR = 16384;  // numbers of pictures that stay in the cache while more is made of them

using Down = Line<2>;

// A tile of two by so many results.
template <int ACROSS>
struct Filtering {
  using Across = Line<ACROSS>;
  static constexpr int WIDE = Across::SPOTS, SPOTS = Down::SPOTS * WIDE, RESULTS = 2 * ACROSS, TAPS = 9;

  // B2 d Bm', where B2 times the columns of d are given, one after the other
  static void seen(const Vector (&half)[SPOTS], Vector (&out)[SPOTS]) {
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) Across::template seen<4, 1>(half + y, out + y * WIDE);
  }

  // A2 in Am'
  static void result(const Vector (&in)[SPOTS], Vector (&out)[RESULTS]) {
    Vector half[2 * WIDE];
#pragma GCC unroll 6
    for (int x = 0; x < WIDE; x++) Down::result<WIDE, WIDE>(in + x, half + x);
#pragma GCC unroll 2
    for (int y = 0; y < 2; y++) Across::template result<1, 1>(half + y * WIDE, out + y * ACROSS);
  }

  // A2' y Am
  static void gradient(const Vector (&in)[RESULTS], Vector (&out)[SPOTS]) {
    Vector half[4 * ACROSS];
#pragma GCC unroll 4
    for (int x = 0; x < ACROSS; x++) Down::gradient<ACROSS, ACROSS>(in + x, half + x);
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) Across::template gradient<1, 1>(half + y * ACROSS, out + y * WIDE);
  }

  // G2 g Gm'
  static void kernel(const Vector (&in)[TAPS], Vector (&out)[SPOTS]) {
    Vector half[12];
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++) Down::kernel<3, 3>(in + x, half + x);
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) Across::template kernel<1, 1>(half + 3 * y, out + y * WIDE);
  }

  // G2' in Gm
  static void total(const Vector (&in)[SPOTS], Vector (&out)[TAPS]) {
    Vector half[3 * WIDE];
#pragma GCC unroll 6
    for (int x = 0; x < WIDE; x++) Down::total<WIDE, WIDE>(in + x, half + x);
#pragma GCC unroll 3
    for (int y = 0; y < 3; y++) Across::template total<1, 1>(half + y * WIDE, out + 3 * y);
  }
};

// A convolution in tiles, of which so many are worked on at once.
template <int ACROSS>
struct Tiling : Geometry {
  static constexpr int SPOTS = Filtering<ACROSS>::SPOTS;
  int64_t down = (rows + 1) / 2, across = (columns + ACROSS - 1) / ACROSS;
  int64_t depth = vectors(channels) * LANES, breadth = vectors(filters) * LANES;  // whole vectors
  int64_t at_once;
  // Spots lie a little further apart than that takes, so that theirs do not all fall on the same lines of the cache.
  int64_t seen_step = at_once * depth + LANES, made_step = at_once * breadth + LANES;

  Tiling(const Geometry& g, int64_t at_once) : Geometry(g), at_once(at_once) {}
  // For so many threads: fewer tiles at once where some would have none. A tile of products has six rows or more.
  static Tiling forward(const Geometry& g, int64_t threads) {
    int64_t most = g.channels * g.filters > WEIGHTS_NEAR ? FAR_TILES : TILES, each = Tiling(g, most).tiles() / threads;
    return Tiling(g, std::clamp<int64_t>(each / 6 * 6, 6, most));
  }
  // With other numbers of channels and filters at hand; their places stay.
  Tiling part(int64_t channels, int64_t filters) const {
    Tiling t = *this;
    t.channels = channels, t.filters = filters;
    return t;
  }
  int64_t tiles() const { return batch * down * across; }
  int64_t space() const { return SPOTS * (seen_step + made_step); }
};

template <int ACROSS>
using Weights = Spots<Tiling<ACROSS>::SPOTS>;
template <int ACROSS>
using Totals = KernelTotals<Tiling<ACROSS>::SPOTS>;

// Where the results of a tile begin.
template <int ACROSS>
struct Corner {
  int64_t image, row, column;

  Corner(const Tiling<ACROSS>& t, int64_t number)
      : image(number / (t.down * t.across)), row(number / t.across % t.down * 2), column(number % t.across * ACROSS) {}

  // To the tile `count` tiles on, which is in the same row or the first of the next one.
  void advance(const Tiling<ACROSS>& t, int64_t count) {
    column += ACROSS * count;
    if (column < ACROSS * t.across) return;
    column = 0, row += 2;
    if (row >= 2 * t.down) row = 0, image++;
  }
};

// The rows of a picture that a row of tiles sees, where all of them are there, or all but the first or the last; LOOK for
// whether each is there to be looked up.
enum class There { ALL, NO_FIRST, NO_LAST, LOOK };

// seen[spot][tile][channel] for the tiles [first, first + count), which lie in one row of tiles
template <There THERE, bool UNDONE, int ACROSS>
void gather_row(const Tiling<ACROSS>& tiling, const Undo& given, const Corner<ACROSS>& tile, int64_t count, float* seen) {
  const Tiling<ACROSS> t = tiling;  // these are not looked up again after every store
  Undo picture = given;
  if (!UNDONE) picture.result = nullptr;
  int64_t top = tile.row - t.top, left = tile.column - t.left, step = t.width * t.channels;
  auto there = [&](int y) {
    if (THERE == There::LOOK) return top + y >= 0 && top + y < t.height;
    return y == 0 ? THERE != There::NO_FIRST : y < 3 || THERE != There::NO_LAST;
  };
  for (int64_t c = 0; c < t.channels; c += LANES) {
    int64_t some = THERE == There::LOOK ? t.channels - c : LANES, base = (tile.image * t.height + top) * step + c;
    // B2 times a column of a tile
    auto column = [&](int64_t x, Vector* half) {
      int64_t at = base + x * t.channels;
      picture.prefetch(at + 2 * step + AHEAD * t.channels);
      picture.prefetch(at + 3 * step + AHEAD * t.channels);
      Vector in[4];
#pragma GCC unroll 4
      for (int y = 0; y < 4; y++) in[y] = there(y) ? picture.at(at + y * step, some) : Vector{};
      Down::seen<1, 1>(in, half);
    };
    auto column_or_none = [&](int64_t x, Vector* half) {
      if (x >= 0 && x < t.width) return column(x, half);
      for (int y = 0; y < 4; y++) half[y] = Vector{};
    };
    Vector half[t.SPOTS], out[t.SPOTS], *next_half = half + 4 * ACROSS;
    column_or_none(left, next_half), column_or_none(left + 1, next_half + 4);
    float* to = seen + c;
    auto tiles = [&](int64_t from, int64_t until, auto next) {
      for (int64_t i = from; i < until; i++, to += t.depth) {
#pragma GCC unroll 8
        for (int spot = 0; spot < 8; spot++) half[spot] = half[4 * ACROSS + spot];  // which neighbours have in common
#pragma GCC unroll 4
        for (int x = 2; x < ACROSS + 2; x++) next(left + ACROSS * i + x, half + 4 * x);
        Filtering<ACROSS>::seen(half, out);
#pragma GCC unroll 24
        for (int spot = 0; spot < t.SPOTS; spot++) store(to + spot * t.seen_step, out[spot]);
      }
    };
    // the tiles whose columns all lie in the picture
    int64_t begin = std::clamp<int64_t>((ACROSS - 3 - left) / ACROSS, 0, count);
    int64_t end = std::clamp<int64_t>((t.width - left - 2) / ACROSS, begin, count);
    tiles(0, begin, column_or_none), tiles(begin, end, column), tiles(end, count, column_or_none);
  }
}

// the same for tiles anywhere
template <int ACROSS>
void gather(const Tiling<ACROSS>& t, const Undo& picture, Corner<ACROSS> tile, int64_t count, float* seen) {
  while (count > 0) {
    int64_t some = std::min(count, t.across - tile.column / ACROSS), top = tile.row - t.top, end = top + 4;
    bool whole = t.channels % LANES == 0;
    There there = !whole || top < -1 || end > t.height + 1 || (top < 0 && end > t.height) ? There::LOOK
                  : top < 0                                                               ? There::NO_FIRST
                  : end > t.height                                                        ? There::NO_LAST
                                                                                          : There::ALL;
    auto row = [&](auto with) {
      constexpr bool UNDONE = decltype(with)::value;
      switch (there) {
        case There::ALL: return gather_row<There::ALL, UNDONE>(t, picture, tile, some, seen);
        case There::NO_FIRST: return gather_row<There::NO_FIRST, UNDONE>(t, picture, tile, some, seen);
        case There::NO_LAST: return gather_row<There::NO_LAST, UNDONE>(t, picture, tile, some, seen);
        default: return gather_row<There::LOOK, UNDONE>(t, picture, tile, some, seen);
      }
    };
    picture.result ? row(std::true_type{}) : row(std::false_type{});
    tile.advance(t, some);
    seen += some * t.depth;
    count -= some;
  }
}

// the same of two pictures
template <int ACROSS>
void gather(const Tiling<ACROSS>& t, Pictures<const float> pictures, Corner<ACROSS> tile, int64_t count, float* seen) {
  int64_t first = t.channels - pictures.channels;
  gather(t.part(first, t.filters), Undo(pictures.first), tile, count, seen);
  if (pictures.second) gather(t.part(pictures.channels, t.filters), Undo(pictures.second), tile, count, seen + first);
}

template <int ACROSS>
void finish_tiles(const Tiling<ACROSS>& tiling, const float* made, Corner<ACROSS> tile, int64_t count, Finish finish,
                  float* result) {
  const Tiling<ACROSS> t = tiling;
  for (int64_t i = 0; i < count; i++, tile.advance(t, 1)) {
    float* place = result + ((tile.image * t.rows + tile.row) * t.columns + tile.column) * t.filters;
    int64_t high = std::min<int64_t>(2, t.rows - tile.row), wide = std::min<int64_t>(ACROSS, t.columns - tile.column);
    for (int64_t k = 0; k < t.filters; k += LANES) {
      Vector in[t.SPOTS], out[2 * ACROSS];
#pragma GCC unroll 24
      for (int spot = 0; spot < t.SPOTS; spot++) in[spot] = load(made + spot * t.made_step + i * t.breadth + k);
      Filtering<ACROSS>::result(in, out);
      int64_t some = t.filters - k;
      Vector bias = finish.bias ? load(finish.bias + k, some) : Vector{};
#pragma GCC unroll 2
      for (int y = 0; y < 2; y++)
#pragma GCC unroll 4
        for (int x = 0; x < ACROSS; x++)
          if (y < high && x < wide)
            store(place + (y * t.columns + x) * t.filters + k, activated(out[y * ACROSS + x] + bias, finish.slope), some);
    }
  }
}

// The same into two pictures.
template <int ACROSS>
void finish_tiles(const Tiling<ACROSS>& t, const float* made, Corner<ACROSS> tile, int64_t count, Finish finish,
                  Pictures<float> result) {
  int64_t first = t.filters - result.channels;
  finish_tiles(t.part(t.channels, first), made, tile, count, finish, result.first);
  if (finish.bias) finish.bias += first;
  if (result.second)
    finish_tiles(t.part(t.channels, result.channels), made + first, tile, count, finish, result.second);
}

// Of the tiles [first, end), in `space`.
template <int ACROSS, typename Seen, typename Result>
void convolve(const Tiling<ACROSS>& t, const Seen& picture, const Weights<ACROSS>& weights, Finish finish, const Result& result,
              int64_t first, int64_t end, float* space) {
  float *seen = space, *made = space + t.SPOTS * t.seen_step;
  for (; first < end; first += t.at_once) {
    int64_t count = std::min(t.at_once, end - first);
    Corner<ACROSS> tile(t, first);
    gather(t, picture, tile, count, seen);
    for (int spot = 0; spot < t.SPOTS; spot++)
      multiply<Contiguous::ROWS>({seen + spot * t.seen_step, t.depth}, {weights[spot], weights.step}, count, t.channels,
                                 t.breadth / LANES, {made + spot * t.made_step, t.breadth}, false);
    finish_tiles(t, made, tile, count, finish, result);
  }
}

template <int ACROSS, typename Seen, typename Result>
void convolve(ffi::ThreadPool& pool, const Tiling<ACROSS>& t, const Seen& picture, const Weights<ACROSS>& weights,
              Finish finish, const Result& result) {
  int64_t blocks = (t.tiles() + t.at_once - 1) / t.at_once, tasks = std::min(blocks, TASKS * pool.num_threads());
  parallel_for(pool, tasks, [&](int64_t task) {
    int64_t first = share(blocks, task, tasks) * t.at_once;
    int64_t end = std::min(share(blocks, task + 1, tasks) * t.at_once, t.tiles());
    Scratch scratch(t.space());
    convolve(t, picture, weights, finish, result, first, end, scratch.take(t.space()));
  });
}

// given[spot][tile][filter] of a gradient, which is added to the bias'.
template <bool UNDONE, int ACROSS>
void spread(const Tiling<ACROSS>& tiling, Undo gradient, const Corner<ACROSS>& first, int64_t count, float* given,
            float* bias) {
  const Tiling<ACROSS> t = tiling;
  if (!UNDONE) gradient.result = nullptr;
  for (int64_t k = 0; k < t.filters; k += LANES) {
    int64_t some = t.filters - k;
    Corner<ACROSS> tile = first;
    Vector total = load(bias + k);
    float* to = given + k;
    for (int64_t i = 0; i < count; i++, to += t.breadth, tile.advance(t, 1)) {
      int64_t place = t.inner_at(tile.image, tile.row, tile.column) + k;
      int64_t high = std::min<int64_t>(2, t.rows - tile.row), wide = std::min<int64_t>(ACROSS, t.columns - tile.column);
      Vector in[2 * ACROSS], out[t.SPOTS];
#pragma GCC unroll 2
      for (int y = 0; y < 2; y++)
#pragma GCC unroll 4
        for (int x = 0; x < ACROSS; x++) {
          Vector& value = in[y * ACROSS + x];
          value = y < high && x < wide ? gradient.at(place + (y * t.columns + x) * t.filters, some) : Vector{};
          total += value;
        }
      Filtering<ACROSS>::gradient(in, out);
#pragma GCC unroll 24
      for (int spot = 0; spot < t.SPOTS; spot++) store(to + spot * t.made_step, out[spot]);
    }
    store(bias + k, total);
  }
}

// The transformed kernel, as it is or turned round.
template <int ACROSS, bool TURNED = false>
Weights<ACROSS> transformed(ffi::ThreadPool& pool, const Geometry& g, const float* kernel) {
  using Filtering = Filtering<ACROSS>;
  Weights<ACROSS> all(g.channels, g.filters);
  int64_t size = g.channels * g.filters;
  auto row = [&](int64_t c) {
    for (int64_t k = 0; k < g.filters; k += LANES) {
      Vector in[Filtering::TAPS], out[Filtering::SPOTS];
      for (int tap = 0; tap < Filtering::TAPS; tap++)
        in[TURNED ? Filtering::TAPS - 1 - tap : tap] = load(kernel + tap * size + c * g.filters + k, g.filters - k);
      Filtering::kernel(in, out);
      for (int spot = 0; spot < Filtering::SPOTS; spot++) store(all[spot] + c * all.step + k, out[spot]);
    }
  };
  parallel_for(pool, g.channels, row, all.threads_for(Filtering::SPOTS * size));
  return all;
}

// The same of the kernel turned round, from filters to channels.
template <int ACROSS>
Weights<ACROSS> turned(ffi::ThreadPool& pool, const Geometry& g, const float* kernel) {
  return transformed<ACROSS, true>(pool, g, kernel).transposed(pool);
}

// What the tiles [first, last) add to a part of the gradient of a kernel, in `space`.
template <int ACROSS>
void add_tiles(Totals<ACROSS>& totals, int64_t part, const Tiling<ACROSS>& t, Pictures<const float> outer,
               const Undo& gradient, int64_t first, int64_t last, float* space) {
  float *seen = space, *given = space + t.SPOTS * t.seen_step, *bias = totals.bias(part);
  for (; first < last; first += t.at_once) {
    int64_t count = std::min(t.at_once, last - first);
    Corner<ACROSS> tile(t, first);
    gather(t, outer, tile, count, seen);
    gradient.result ? spread<true>(t, gradient, tile, count, given, bias)
                    : spread<false>(t, gradient, tile, count, given, bias);
    totals.add(part, {seen, t.depth}, t.seen_step, {given, t.breadth}, t.made_step,
               [&](int) { return std::pair(t.channels, count); });
  }
}

// The gradients of the kernel and of the bias.
template <int ACROSS>
void finish_kernel(ffi::ThreadPool& pool, Totals<ACROSS>& totals, const Geometry& g, float* kernel,
                   float* bias) {
  using Filtering = Filtering<ACROSS>;
  auto row_of = [](int, int64_t c) { return c; };
  totals.finish(pool, bias, row_of, [&](int64_t c, int64_t k, const Vector(&sums)[Filtering::SPOTS]) {
    Vector out[Filtering::TAPS];
    Filtering::total(sums, out);
    for (int tap = 0; tap < Filtering::TAPS; tap++)
      store(kernel + (tap * g.channels + c) * g.filters + k, out[tap], g.filters - k);
  });
}

// Calls body with how many results of a row a tile has, as a constant: four where that makes so many fewer products that it is
// worth the longer way to them and back.
template <typename Body>
void with_across(int64_t columns, const Body& body) {
  auto products = [&](int64_t across) { return (columns + across - 1) / across * (across + 2); };
  if (5 * products(4) <= 4 * products(2))
    body(std::integral_constant<int, 4>());
  else
    body(std::integral_constant<int, 2>());
}

}  // namespace

bool suits_winograd(const Geometry& g) {
  return g.kernel_height == 3 && g.kernel_width == 3 && g.groups == 1 && g.stride_y == 1 && g.stride_x == 1 &&
         g.dilation_y == 1 && g.dilation_x == 1 && std::min(g.channels, g.filters) >= 16 && std::min(g.rows, g.columns) > 2;
}

void winograd_forward(ffi::ThreadPool& pool, const Geometry& g, Pictures<const float> outer, const float* kernel,
                      Finish finish, float* inner) {
  with_across(g.columns, [&](auto across) {
    auto t = Tiling<across>::forward(g, pool.num_threads());
    convolve(pool, t, outer, transformed<across>(pool, g, kernel), finish, inner);
  });
}

void winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                    Pictures<float> outer) {
  with_across(g.width, [&](auto across) {
    auto t = Tiling<across>::forward(g.turned(), pool.num_threads());
    convolve(pool, t, gradient, turned<across>(pool, g, kernel), finish, outer);
  });
}

void winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, Pictures<const float> outer, Undo gradient, float* kernel,
                     float* bias) {
  with_across(g.columns, [&](auto across) {
    Tiling<across> t(g, KERNEL_TILES);
    Totals<across> totals(std::min(PARTS, g.batch), g.channels, g.filters);
    int64_t parts = totals.parts();
    parallel_for(pool, parts, [&](int64_t part) {
      Scratch scratch(t.space());
      add_tiles(totals, part, t, outer, gradient, share(t.tiles(), part, parts), share(t.tiles(), part + 1, parts),
                scratch.take(t.space()));
    });
    finish_kernel<across>(pool, totals, g, kernel, bias);
  });
}

int64_t rows_at_once(const Geometry& g) { return std::max<int64_t>(2, NEAR / (g.columns * g.filters) / 2 * 2); }

void winograd_by_rows(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel, Finish finish,
                      float* inner, const std::function<void(int64_t, int64_t, int64_t)>& then) {
  with_across(g.columns, [&](auto across) {
    auto t = Tiling<across>::forward(g, pool.num_threads());
    auto weights = transformed<across>(pool, g, kernel);
    int64_t lines = g.batch * t.down, at_once = rows_at_once(g) / 2;  // of tiles
    auto place = [&](int64_t line) { return (line / t.down * g.rows + std::min(line % t.down * 2, g.rows)) * g.columns; };
    parallel_for(pool, (lines + at_once - 1) / at_once, [&](int64_t part) {
      int64_t first = part * at_once, end = std::min(first + at_once, lines);
      Scratch scratch(t.space());
      convolve(t, Pictures<const float>(outer), weights, finish, Pictures<float>(inner), first * t.across, end * t.across,
               scratch.take(t.space()));
      then(part, place(first), place(end));
    });
  });
}

void winograd_gradients(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                        const std::function<void(int64_t, int64_t, float*)>& give, float* outer_gradient,
                        float* kernel_gradient, float* bias) {
  int64_t size = g.rows * g.columns * g.filters, at_once = std::clamp<int64_t>(NEAR / size, 1, g.batch);
  Geometry some = g;
  some.batch = at_once;
  with_across(g.columns, [&](auto across) {
    auto back = Tiling<across>::forward(some.turned(), 1);
    Tiling<across> t(some, KERNEL_TILES);
    auto weights = turned<across>(pool, g, kernel);
    Totals<across> totals(std::min(2 * PARTS, g.batch), g.channels, g.filters);
    int64_t parts = totals.parts();
    parallel_for(pool, parts, [&](int64_t part) {
      int64_t space = std::max(back.space(), t.space());
      Scratch scratch(at_once * size + space);
      float *given = scratch.take(at_once * size), *rest = scratch.take(space);
      for (int64_t first = share(g.batch, part, parts), last = share(g.batch, part + 1, parts); first < last;
           first += at_once) {
        int64_t count = std::min(at_once, last - first), outer_size = g.height * g.width * g.channels;
        give(first, first + count, given);
        add_tiles(totals, part, t, outer + first * outer_size, Undo(given), 0, count * t.down * t.across, rest);
        convolve(back, Undo(given), weights, {}, Pictures<float>(outer_gradient + first * outer_size), 0,
                 count * back.down * back.across, rest);
      }
    });
    finish_kernel<across>(pool, totals, g, kernel_gradient, bias);
  });
}

}  // namespace lamina
