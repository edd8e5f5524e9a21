// With tiles d of 4 by 4 places, kernels g and results y, and matrices
//
//       | 1  0 -1  0 |        |  1    0    0  |
//   B = | 0  1  1  0 |    G = | 1/2  1/2  1/2 |    A = | 1  1  1  0 |
//       | 0 -1  1  0 |        | 1/2 -1/2  1/2 |        | 0  1 -1 -1 |
//       | 0  1  0 -1 |        |  0    0    1  |
//
// y = A [(G g G') * (B d B')] A', where * is by elements: over channels and filters, 16 products of matrices with a row for
// each tile. The gradient of the input is the same convolution with the kernel turned round; that of the kernel is
// G' [sum over tiles of (A' y A) * (B d B')] G.

#include "winograd.h"

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

// A convolution in tiles, of which so many are worked on at once.
struct Tiling : Geometry {
  int64_t down = (rows + 1) / 2, across = (columns + 1) / 2;
  int64_t depth = vectors(channels) * LANES, breadth = vectors(filters) * LANES;  // whole vectors
  int64_t at_once;
  // Spots lie a little further apart than that takes, so that theirs do not all fall on the same lines of the cache.
  int64_t seen_step = at_once * depth + LANES, made_step = at_once * breadth + LANES;

  Tiling(const Geometry& g, int64_t at_once) : Geometry(g), at_once(at_once) {}
  // With other numbers of channels and filters at hand; their places stay.
  Tiling part(int64_t channels, int64_t filters) const {
    Tiling t = *this;
    t.channels = channels, t.filters = filters;
    return t;
  }
  int64_t tiles() const { return batch * down * across; }
  int64_t space() const { return SPOTS * (seen_step + made_step); }
};

// Fewer tiles at once where some threads would have none. A tile of products has six rows or more.
Tiling forward_tiling(const Geometry& g, int64_t threads) {
  int64_t most = g.channels * g.filters > WEIGHTS_NEAR ? FAR_TILES : TILES, each = Tiling(g, most).tiles() / threads;
  return Tiling(g, std::clamp<int64_t>(each / 6 * 6, 6, most));
}

// Where the results of a tile begin.
struct Corner {
  int64_t image, row, column;

  Corner(const Tiling& t, int64_t number)
      : image(number / (t.down * t.across)), row(number / t.across % t.down * 2), column(number % t.across * 2) {}

  // To the tile `count` tiles on, which is in the same row or the first of the next one.
  void advance(const Tiling& t, int64_t count) {
    column += 2 * count;
    if (column < 2 * t.across) return;
    column = 0, row += 2;
    if (row >= 2 * t.down) row = 0, image++;
  }
};

// out = B in B', where B times the columns of `in` are given
inline void transform_input(const Vector (&half)[SPOTS], Vector (&out)[SPOTS]) {
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) {
    out[4 * y] = half[y] - half[8 + y];
    out[4 * y + 1] = half[4 + y] + half[8 + y];
    out[4 * y + 2] = half[8 + y] - half[4 + y];
    out[4 * y + 3] = half[4 + y] - half[12 + y];
  }
}

// out = A in A'
inline void transform_result(const Vector (&in)[SPOTS], Vector (&out)[4]) {
  Vector half[8];
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) {
    half[x] = in[x] + in[4 + x] + in[8 + x];
    half[4 + x] = in[4 + x] - in[8 + x] - in[12 + x];
  }
#pragma GCC unroll 2
  for (int y = 0; y < 2; y++) {
    out[2 * y] = half[4 * y] + half[4 * y + 1] + half[4 * y + 2];
    out[2 * y + 1] = half[4 * y + 1] - half[4 * y + 2] - half[4 * y + 3];
  }
}

// out = A' in A
inline void transform_gradient(const Vector (&in)[4], Vector (&out)[SPOTS]) {
  Vector half[8];
#pragma GCC unroll 2
  for (int x = 0; x < 2; x++) {
    half[x] = in[x];
    half[2 + x] = in[x] + in[2 + x];
    half[4 + x] = in[x] - in[2 + x];
    half[6 + x] = -in[2 + x];
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) {
    out[4 * y] = half[2 * y];
    out[4 * y + 1] = half[2 * y] + half[2 * y + 1];
    out[4 * y + 2] = half[2 * y] - half[2 * y + 1];
    out[4 * y + 3] = -half[2 * y + 1];
  }
}

// out = G in G'
inline void transform_kernel(const Vector (&in)[9], Vector (&out)[SPOTS]) {
  Vector half[12];
#pragma GCC unroll 3
  for (int x = 0; x < 3; x++) {
    Vector ends = 0.5f * (in[x] + in[6 + x]), middle = 0.5f * in[3 + x];
    half[x] = in[x];
    half[3 + x] = ends + middle;
    half[6 + x] = ends - middle;
    half[9 + x] = in[6 + x];
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) {
    Vector ends = 0.5f * (half[3 * y] + half[3 * y + 2]), middle = 0.5f * half[3 * y + 1];
    out[4 * y] = half[3 * y];
    out[4 * y + 1] = ends + middle;
    out[4 * y + 2] = ends - middle;
    out[4 * y + 3] = half[3 * y + 2];
  }
}

// out = G' in G
inline void transform_total(const Vector (&in)[SPOTS], Vector (&out)[9]) {
  Vector half[12];
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) {
    Vector both = 0.5f * (in[4 + x] + in[8 + x]);
    half[x] = in[x] + both;
    half[4 + x] = 0.5f * (in[4 + x] - in[8 + x]);
    half[8 + x] = both + in[12 + x];
  }
#pragma GCC unroll 3
  for (int y = 0; y < 3; y++) {
    Vector both = 0.5f * (half[4 * y + 1] + half[4 * y + 2]);
    out[3 * y] = half[4 * y] + both;
    out[3 * y + 1] = 0.5f * (half[4 * y + 1] - half[4 * y + 2]);
    out[3 * y + 2] = both + half[4 * y + 3];
  }
}

// The rows of a picture that a row of tiles sees, where all of them are there, or all but the first or the last; LOOK for
// whether each is there to be looked up.
enum class There { ALL, NO_FIRST, NO_LAST, LOOK };

// seen[spot][tile][channel] for the tiles [first, first + count), which lie in one row of tiles
template <There THERE, bool UNDONE>
void gather_row(const Tiling& tiling, const Undo& given, const Corner& tile, int64_t count, float* seen) {
  const Tiling t = tiling;  // these are not looked up again after every store
  Undo picture = given;
  if (!UNDONE) picture.result = nullptr;
  int64_t top = tile.row - t.top, left = tile.column - t.left, step = t.width * t.channels;
  auto there = [&](int y) {
    if (THERE == There::LOOK) return top + y >= 0 && top + y < t.height;
    return y == 0 ? THERE != There::NO_FIRST : y < 3 || THERE != There::NO_LAST;
  };
  for (int64_t c = 0; c < t.channels; c += LANES) {
    int64_t some = THERE == There::LOOK ? t.channels - c : LANES, base = (tile.image * t.height + top) * step + c;
    // B times a column of a tile
    auto column = [&](int64_t x, Vector* half) {
      int64_t at = base + x * t.channels;
      picture.prefetch(at + 2 * step + AHEAD * t.channels);
      picture.prefetch(at + 3 * step + AHEAD * t.channels);
      Vector in[4];
#pragma GCC unroll 4
      for (int y = 0; y < 4; y++) in[y] = there(y) ? picture.at(at + y * step, some) : Vector{};
      half[0] = in[0] - in[2];
      half[1] = in[1] + in[2];
      half[2] = in[2] - in[1];
      half[3] = in[1] - in[3];
    };
    auto column_or_none = [&](int64_t x, Vector* half) {
      if (x >= 0 && x < t.width) return column(x, half);
      for (int y = 0; y < 4; y++) half[y] = Vector{};
    };
    Vector half[SPOTS], out[SPOTS];
    column_or_none(left, half + 8), column_or_none(left + 1, half + 12);
    float* to = seen + c;
    auto tiles = [&](int64_t from, int64_t until, auto next) {
      for (int64_t i = from; i < until; i++, to += t.depth) {
#pragma GCC unroll 8
        for (int spot = 0; spot < 8; spot++) half[spot] = half[8 + spot];  // which neighbours have in common
        next(left + 2 * i + 2, half + 8), next(left + 2 * i + 3, half + 12);
        transform_input(half, out);
#pragma GCC unroll 16
        for (int spot = 0; spot < SPOTS; spot++) store(to + spot * t.seen_step, out[spot]);
      }
    };
    // the tiles whose columns all lie in the picture
    int64_t begin = std::clamp<int64_t>((-left - 1) / 2, 0, count);
    int64_t end = std::clamp<int64_t>((t.width - left - 2) / 2, begin, count);
    tiles(0, begin, column_or_none), tiles(begin, end, column), tiles(end, count, column_or_none);
  }
}

// the same for tiles anywhere
void gather(const Tiling& t, const Undo& picture, Corner tile, int64_t count, float* seen) {
  while (count > 0) {
    int64_t some = std::min(count, t.across - tile.column / 2), top = tile.row - t.top, end = top + 4;
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
void gather(const Tiling& t, Pictures<const float> pictures, Corner tile, int64_t count, float* seen) {
  int64_t first = t.channels - pictures.channels;
  gather(t.part(first, t.filters), Undo(pictures.first), tile, count, seen);
  if (pictures.second) gather(t.part(pictures.channels, t.filters), Undo(pictures.second), tile, count, seen + first);
}

void finish_tiles(const Tiling& tiling, const float* made, Corner tile, int64_t count, Finish finish, float* result) {
  const Tiling t = tiling;
  for (int64_t i = 0; i < count; i++, tile.advance(t, 1)) {
    float* place = result + ((tile.image * t.rows + tile.row) * t.columns + tile.column) * t.filters;
    bool below = tile.row + 1 < t.rows, beside = tile.column + 1 < t.columns;
    for (int64_t k = 0; k < t.filters; k += LANES) {
      Vector in[SPOTS], out[4];
#pragma GCC unroll 16
      for (int spot = 0; spot < SPOTS; spot++) in[spot] = load(made + spot * t.made_step + i * t.breadth + k);
      transform_result(in, out);
      int64_t some = t.filters - k;
      Vector bias = finish.bias ? load(finish.bias + k, some) : Vector{};
#pragma GCC unroll 4
      for (int spot = 0; spot < 4; spot++) out[spot] = activated(out[spot] + bias, finish.slope);
      float *to = place + k, *next = to + t.columns * t.filters;
      store(to, out[0], some);
      if (beside) store(to + t.filters, out[1], some);
      if (below) store(next, out[2], some);
      if (below && beside) store(next + t.filters, out[3], some);
    }
  }
}

// The same into two pictures.
void finish_tiles(const Tiling& t, const float* made, Corner tile, int64_t count, Finish finish, Pictures<float> result) {
  int64_t first = t.filters - result.channels;
  finish_tiles(t.part(t.channels, first), made, tile, count, finish, result.first);
  if (finish.bias) finish.bias += first;
  if (result.second)
    finish_tiles(t.part(t.channels, result.channels), made + first, tile, count, finish, result.second);
}

// Of the tiles [first, end), in `space`.
template <typename Seen, typename Result>
void convolve(const Tiling& t, const Seen& picture, const Spots& weights, Finish finish, const Result& result, int64_t first,
              int64_t end, float* space) {
  float *seen = space, *made = space + SPOTS * t.seen_step;
  for (; first < end; first += t.at_once) {
    int64_t count = std::min(t.at_once, end - first);
    Corner tile(t, first);
    gather(t, picture, tile, count, seen);
    for (int spot = 0; spot < SPOTS; spot++)
      multiply<Contiguous::ROWS>({seen + spot * t.seen_step, t.depth}, {weights[spot], weights.step}, count, t.channels,
                                 t.breadth / LANES, {made + spot * t.made_step, t.breadth}, false);
    finish_tiles(t, made, tile, count, finish, result);
  }
}

template <typename Seen, typename Result>
void convolve(ffi::ThreadPool& pool, const Tiling& t, const Seen& picture, const Spots& weights, Finish finish,
              const Result& result) {
  int64_t blocks = (t.tiles() + t.at_once - 1) / t.at_once, tasks = std::min(blocks, TASKS * pool.num_threads());
  parallel_for(pool, tasks, [&](int64_t task) {
    int64_t first = share(blocks, task, tasks) * t.at_once;
    int64_t end = std::min(share(blocks, task + 1, tasks) * t.at_once, t.tiles());
    Scratch scratch(t.space());
    convolve(t, picture, weights, finish, result, first, end, scratch.take(t.space()));
  });
}

// given[spot][tile][filter] of a gradient, which is added to the bias'.
template <bool UNDONE>
void spread(const Tiling& tiling, Undo gradient, const Corner& first, int64_t count, float* given, float* bias) {
  const Tiling t = tiling;
  if (!UNDONE) gradient.result = nullptr;
  for (int64_t k = 0; k < t.filters; k += LANES) {
    int64_t some = t.filters - k;
    Corner tile = first;
    Vector total = load(bias + k);
    float* to = given + k;
    for (int64_t i = 0; i < count; i++, to += t.breadth, tile.advance(t, 1)) {
      int64_t place = t.inner_at(tile.image, tile.row, tile.column) + k, next = place + t.columns * t.filters;
      bool below = tile.row + 1 < t.rows, beside = tile.column + 1 < t.columns;
      Vector in[4]{gradient.at(place, some)}, out[SPOTS];
      if (beside) in[1] = gradient.at(place + t.filters, some);
      if (below) in[2] = gradient.at(next, some);
      if (below && beside) in[3] = gradient.at(next + t.filters, some);
      total += (in[0] + in[1]) + (in[2] + in[3]);
      transform_gradient(in, out);
#pragma GCC unroll 16
      for (int spot = 0; spot < SPOTS; spot++) store(to + spot * t.made_step, out[spot]);
    }
    store(bias + k, total);
  }
}

// The transformed kernel.
Spots transformed(ffi::ThreadPool& pool, const Geometry& g, const float* kernel) {
  Spots all(g.channels, g.filters);
  int64_t size = g.channels * g.filters;
  auto row = [&](int64_t c) {
    for (int64_t k = 0; k < g.filters; k += LANES) {
      Vector in[9], out[SPOTS];
      for (int tap = 0; tap < 9; tap++) in[tap] = load(kernel + tap * size + c * g.filters + k, g.filters - k);
      transform_kernel(in, out);
      for (int spot = 0; spot < SPOTS; spot++) store(all[spot] + c * all.step + k, out[spot]);
    }
  };
  parallel_for(pool, g.channels, row, Spots::threads_for(SPOTS * size));
  return all;
}

// The same of the kernel turned round, from filters to channels.
Spots turned(ffi::ThreadPool& pool, const Spots& weights) {
  static constexpr int TURNED[] = {3, 1, 2, 0};  // turning a kernel round exchanges the ends of what G makes of it
  return weights.transposed(pool, [](int64_t spot) { return TURNED[spot / 4] * 4 + TURNED[spot % 4]; });
}

// What the tiles [first, last) add to a part of the gradient of a kernel, in `space`.
void add_tiles(KernelTotals& totals, int64_t part, const Tiling& t, Pictures<const float> outer, const Undo& gradient,
               int64_t first, int64_t last, float* space) {
  float *seen = space, *given = space + SPOTS * t.seen_step, *bias = totals.bias(part);
  for (; first < last; first += t.at_once) {
    int64_t count = std::min(t.at_once, last - first);
    Corner tile(t, first);
    gather(t, outer, tile, count, seen);
    gradient.result ? spread<true>(t, gradient, tile, count, given, bias)
                    : spread<false>(t, gradient, tile, count, given, bias);
    totals.add(part, {seen, t.depth}, t.seen_step, {given, t.breadth}, t.made_step,
               [&](int) { return std::pair(t.channels, count); });
  }
}

// The gradients of the kernel and of the bias.
void finish_kernel(ffi::ThreadPool& pool, KernelTotals& totals, const Geometry& g, float* kernel, float* bias) {
  auto row_of = [](int, int64_t c) { return c; };
  totals.finish(pool, bias, row_of, [&](int64_t c, int64_t k, const Vector(&sums)[SPOTS]) {
    Vector out[9];
    transform_total(sums, out);
    for (int tap = 0; tap < 9; tap++) store(kernel + (tap * g.channels + c) * g.filters + k, out[tap], g.filters - k);
  });
}

}  // namespace

bool suits_winograd(const Geometry& g) {
  return g.kernel_height == 3 && g.kernel_width == 3 && g.groups == 1 && g.stride_y == 1 && g.stride_x == 1 &&
         g.dilation_y == 1 && g.dilation_x == 1 && std::min(g.channels, g.filters) >= 16 && std::min(g.rows, g.columns) > 2;
}

void winograd_forward(ffi::ThreadPool& pool, const Geometry& g, Pictures<const float> outer, const float* kernel,
                      Finish finish, float* inner) {
  convolve(pool, forward_tiling(g, pool.num_threads()), outer, transformed(pool, g, kernel), finish, inner);
}

void winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                    Pictures<float> outer) {
  Spots weights = turned(pool, transformed(pool, g, kernel));
  convolve(pool, forward_tiling(g.turned(), pool.num_threads()), gradient, weights, finish, outer);
}

void winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, Pictures<const float> outer, Undo gradient, float* kernel,
                     float* bias) {
  Tiling t(g, KERNEL_TILES);
  KernelTotals totals(std::min(PARTS, g.batch), g.channels, g.filters);
  int64_t parts = totals.parts();
  parallel_for(pool, parts, [&](int64_t part) {
    Scratch scratch(t.space());
    add_tiles(totals, part, t, outer, gradient, share(t.tiles(), part, parts), share(t.tiles(), part + 1, parts),
              scratch.take(t.space()));
  });
  finish_kernel(pool, totals, g, kernel, bias);
}

int64_t rows_at_once(const Geometry& g) { return std::max<int64_t>(2, NEAR / (g.columns * g.filters) / 2 * 2); }

void winograd_by_rows(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel, Finish finish,
                      float* inner, const std::function<void(int64_t, int64_t, int64_t)>& then) {
  Tiling t = forward_tiling(g, pool.num_threads());
  Spots weights = transformed(pool, g, kernel);
  int64_t lines = g.batch * t.down, at_once = rows_at_once(g) / 2;  // of tiles
  auto place = [&](int64_t line) { return (line / t.down * g.rows + std::min(line % t.down * 2, g.rows)) * g.columns; };
  parallel_for(pool, (lines + at_once - 1) / at_once, [&](int64_t part) {
    int64_t first = part * at_once, end = std::min(first + at_once, lines);
    Scratch scratch(t.space());
    convolve(t, Pictures<const float>(outer), weights, finish, Pictures<float>(inner), first * t.across, end * t.across,
             scratch.take(t.space()));
    then(part, place(first), place(end));
  });
}

void winograd_gradients(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                        const std::function<void(int64_t, int64_t, float*)>& give, float* outer_gradient,
                        float* kernel_gradient, float* bias) {
  int64_t size = g.rows * g.columns * g.filters, at_once = std::clamp<int64_t>(NEAR / size, 1, g.batch);
  Geometry some = g;
  some.batch = at_once;
  Tiling back = forward_tiling(some.turned(), 1), t(some, KERNEL_TILES);
  Spots weights = turned(pool, transformed(pool, g, kernel));
  KernelTotals totals(std::min(2 * PARTS, g.batch), g.channels, g.filters);
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
  finish_kernel(pool, totals, g, kernel_gradient, bias);
}

}  // namespace lamina
