// Attention of bfloat16, forward and backward, by products of tiles. As in attention.cc queries stand in the lanes of vectors,
// and scores and weights lie as (keys, queries of a block). Scores and all sums are float32; weights, and gradients of scores,
// are rounded where they become factors of a product.

#include "half_tiles.h"

#if defined(LAMINA_HAS_TILES)

#include <cfloat>
#include <cmath>

#include "attention.h"
#include "functions.h"

namespace lamina {
namespace {

// So many queries make up a task of the forward pass, and are taken at a time in the backward pass.
constexpr int64_t QUERIES = 128, QUERY_BLOCKS = QUERIES / SIDE, KEY_BLOCKS = KEYS / SIDE, WIDTH = SIDE / LANES;
constexpr float LOG_2 = 0.693147181f;

using Problem = AttentionProblem<ffi::BF16>;
using Gradients = AttentionGradients<ffi::BF16>;
using Given = Heads<const Half>;
using Wanted = Heads<Half>;

int64_t whole(int64_t count) { return blocks(count) * SIDE; }

Matrix matrix(Rows<const Half> from, int64_t rows, int64_t columns) { return {from.values, rows, columns, from.step}; }

Half* take_halves(Scratch& scratch, int64_t size) { return reinterpret_cast<Half*>(scratch.take(size / 2)); }

// 2^x, within 3e-6 of it, relative to it, of numbers that are not above 127; zero where that is too small for a float.
Vector power_of_two(Vector value) {
  __m512 x = _mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(all(-200.0f)), reinterpret_cast<__m512>(value));
  __m512 n = _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  Vector r = reinterpret_cast<Vector>(x) - reinterpret_cast<Vector>(n);
  Vector series = all(0.009570101878f);
  series = series * r + 0.05591786178f;
  series = series * r + 0.2402474484f;
  series = series * r + 0.6931218146f;
  series = series * r + 0.9999992614f;
  return reinterpret_cast<Vector>(_mm512_maskz_scalef_ps(0xffff, reinterpret_cast<__m512>(series), n));
}

// The scores of a block of up to SIDE keys, which begin at `first`; keys that are not there, or not seen, are minus infinity.
void score(const Tiles& tiles, const Sight& sight, const Block& block, int64_t first, int64_t count, const Half* keys,
           const Half* queries, int64_t dim, float* scores) {
  tiles.multiply(keys, whole(dim), queries, blocks(dim), scores);
  bool edge = block.first - (first + count - 1) < sight.lower || block.first + block.count - 1 - first > sight.upper;
  hide(sight, block, {first, count, 0, vectors(block.count), edge}, scores, SIDE);
  std::fill(scores + count * SIDE, scores + SIDE * SIDE, -INFINITY);
}

// The results of some queries of one head and, where wanted, the logarithms of their sums of exponentials.
void forward(const Problem& p, const Block& some, const Wanted& out, float* logarithms) {
  int64_t dim = p.query.dim, value_dim = p.value.dim, wide = whole(dim), value_wide = whole(value_dim);
  int64_t key_head = some.head / p.group();
  Range keys = seen(p.sight, some, {0, p.keys});
  keys.first = keys.first / SIDE * SIDE;
  int64_t count = std::max<int64_t>(keys.end - keys.first, 0), high = whole(count);
  Scratch scratch(high * (wide + value_wide) / 2 + SIDE * (wide + value_wide + 2 * KEYS));
  Half *rows = take_halves(scratch, high * wide), *turned = take_halves(scratch, value_wide * high);
  Half *queries = take_halves(scratch, wide * SIDE), *weights = take_halves(scratch, KEYS * SIDE);
  float *results = scratch.take(value_wide * SIDE), *scores = scratch.take(KEYS * SIDE);
  Matrix key = matrix(p.key.at(some.example, keys.first, key_head), count, dim);
  Matrix value = matrix(p.value.at(some.example, keys.first, key_head), count, value_dim);
  for (int64_t k = 0; k < count; k += SIDE) {
    for (int64_t d = 0; d < dim; d += SIDE) key.copy(k, d, rows + k * wide + d, wide);
    for (int64_t d = 0; d < value_dim; d += SIDE) value.turn(k, d, turned + d * high + k, high);
  }

  Tiles tiles;
  const float factor = p.scale / LOG_2;
  for (int64_t begin = some.first; begin < some.first + some.count; begin += SIDE) {
    Block block{some.example, some.head, begin, std::min(SIDE, some.first + some.count - begin)};
    Matrix query = matrix(p.query.at(block.example, begin, block.head), block.count, dim);
    for (int64_t d = 0; d < dim; d += SIDE) query.pack_turned(0, d, queries + d * SIDE);
    std::fill(results, results + value_wide * SIDE, 0.0f);
    Vector largest[WIDTH], total[WIDTH];
    for (int v = 0; v < WIDTH; v++) largest[v] = all(-FLT_MAX), total[v] = Vector{};
    Range range = seen(p.sight, block, {0, p.keys});
    range.first = range.first / SIDE * SIDE;
    for (int64_t first = range.first, end; first < range.end; first = end) {
      end = std::min(range.end, first + KEYS);
      for (int64_t k = first; k < end; k += SIDE)
        score(tiles, p.sight, block, k, std::min(SIDE, end - k), rows + (k - keys.first) * wide, queries, dim,
              scores + (k - first) * SIDE);
      float* past = scores + whole(end - first) * SIDE;
      for (int v = 0; v < WIDTH; v++) {
        Vector top = load(scores + v * LANES), before = largest[v];
        for (const float* at = scores + v * LANES; at < past; at += SIDE) top = maximum(top, load(at));
        largest[v] = maximum(before, top * factor);
        if (first > range.first) {
          Vector less = power_of_two(before - largest[v]);
          total[v] *= less;
          for (float* at = results + v * LANES; at < results + value_wide * SIDE; at += SIDE) store(at, load(at) * less);
        }
        Half* to = weights + v * TILE;
        for (const float* at = scores + v * LANES; at < past; to += 2 * TILE)
          for (int k = 0; k < SIDE; k += 2, at += 2 * SIDE) {
            Vector one = power_of_two(load(at) * factor - largest[v]);
            Vector other = power_of_two(load(at + SIDE) * factor - largest[v]);
            total[v] += one + other;
            RoundedPair(one, other).store_paired(to + k * LANES);
          }
      }
      for (int64_t d = 0; d < value_wide; d += SIDE)
        tiles.multiply(turned + d * high + first - keys.first, high, weights, blocks(end - first), results + d * SIDE, SIDE, true);
    }
    for (int64_t i = 0; logarithms && i < block.count; i++)
      logarithms[begin - some.first + i] = logarithm_of(total[i / LANES][i % LANES], largest[i / LANES][i % LANES] * LOG_2);
    for (Vector& sum : total) sum = sum == 0.0f ? Vector{} : 1.0f / sum;
    scatter({results, SIDE}, total, block.count, value_dim, out.at(block.example, begin, block.head));
  }
}

// The sum of the products of a row of `a` and a row of `b`, for up to LANES of them.
Vector products_of_rows(Rows<const Half> a, Rows<const Half> b, int64_t count, int64_t dim) {
  Square products{};
  for (int64_t i = 0; i < std::min<int64_t>(count, LANES); i++)
    for (int64_t d = 0; d < dim; d += LANES)
      products[i] += load(a.from(i).values + d, dim - d) * load(b.from(i).values + d, dim - d);
  return sums(products);
}

// What the backward pass knows of some queries of one head.
struct Queries {
  // as right factors: with the queries as columns, and as depth; and the same of the gradients of results
  Half *columns, *depth, *gradient_columns, *gradient_depth;
  float *logarithms, *means;  // of a query: to base 2; of its gradients of weights, by the weights
  float* totals;              // the gradients of the queries, (dim, QUERIES)
};

// The gradients of keys and values of one head, and of the queries of the heads that see them.
void backward(const Problem& p, const Gradients& g, int64_t example, int64_t key_head) {
  int64_t dim = p.query.dim, value_dim = p.value.dim, wide = whole(dim), value_wide = whole(value_dim), high = whole(p.keys);
  Scratch scratch(high * (5 * wide + 3 * value_wide) / 2 + QUERIES * (2 * wide + value_wide + KEYS) + 2 * SIDE * SIDE);
  Half *rows = take_halves(scratch, high * wide), *value_rows = take_halves(scratch, high * value_wide);
  Half* turned = take_halves(scratch, wide * high);
  float *key_totals = scratch.take(high * wide), *value_totals = scratch.take(high * value_wide);
  Queries q{take_halves(scratch, QUERIES * wide), take_halves(scratch, QUERIES * wide),
            take_halves(scratch, QUERIES * value_wide), take_halves(scratch, QUERIES * value_wide),
            scratch.take(QUERIES), scratch.take(QUERIES), scratch.take(wide * QUERIES)};
  float *scores = scratch.take(SIDE * SIDE), *changes = scratch.take(SIDE * SIDE);  // changes: gradients of scores
  Half *weight_rows = take_halves(scratch, SIDE * QUERIES), *change_rows = take_halves(scratch, SIDE * QUERIES);
  Half* change_columns = take_halves(scratch, KEYS * QUERIES);
  std::fill(key_totals, key_totals + high * wide, 0.0f);
  std::fill(value_totals, value_totals + high * value_wide, 0.0f);
  Matrix key = matrix(p.key.at(example, 0, key_head), p.keys, dim);
  Matrix value = matrix(p.value.at(example, 0, key_head), p.keys, value_dim);
  for (int64_t k = 0; k < p.keys; k += SIDE) {
    for (int64_t d = 0; d < dim; d += SIDE) key.copy(k, d, rows + k * wide + d, wide), key.turn(k, d, turned + d * high + k, high);
    for (int64_t d = 0; d < value_dim; d += SIDE) value.copy(k, d, value_rows + k * value_wide + d, value_wide);
  }

  Tiles tiles;
  const float factor = p.scale / LOG_2;
  Vector scales[QUERIES / LANES];
  std::fill(scales, scales + QUERIES / LANES, all(p.scale));

  auto prepare = [&](const Block& some) {
    Rows<const Half> out = g.out.at(example, some.first, some.head);
    Rows<const Half> given = g.out_gradient.at(example, some.first, some.head);
    Matrix query = matrix(p.query.at(example, some.first, some.head), some.count, dim);
    Matrix gradient = matrix(given, some.count, value_dim);
    for (int64_t i = 0; i < some.count; i += SIDE) {
      for (int64_t d = 0; d < dim; d += SIDE) {
        query.pack_turned(i, d, q.columns + i * wide + d * SIDE);
        query.pack(i, d, q.depth + d * QUERIES + i * SIDE);
      }
      for (int64_t d = 0; d < value_dim; d += SIDE) {
        gradient.pack_turned(i, d, q.gradient_columns + i * value_wide + d * SIDE);
        gradient.pack(i, d, q.gradient_depth + d * QUERIES + i * SIDE);
      }
    }
    const float* logarithms = g.logarithms + (example * p.heads + some.head) * p.queries + some.first;
    for (int64_t i = 0; i < whole(some.count); i += LANES) {
      store(q.logarithms + i, load(logarithms + i, some.count - i) / LOG_2);
      store(q.means + i, products_of_rows(out.from(i), given.from(i), some.count - i, value_dim));
    }
    std::fill(q.totals, q.totals + wide * QUERIES, 0.0f);
  };

  // The weights, and the gradients of the scores, of a block of keys and the block of queries `i` places on.
  auto work_out = [&](const Block& block, int64_t i, int64_t k, Half* columns) {
    score(tiles, p.sight, block, k, std::min(SIDE, p.keys - k), rows + k * wide, q.columns + i * wide, dim, scores);
    tiles.multiply(value_rows + k * value_wide, value_wide, q.gradient_columns + i * value_wide, blocks(value_dim), changes);
    for (int v = 0; v < WIDTH; v++) {
      Vector logarithm = load(q.logarithms + i + v * LANES), mean = load(q.means + i + v * LANES);
      Half *weight = weight_rows + i + v * LANES, *change = change_rows + i + v * LANES, *to = columns + v * TILE;
      for (int64_t at = v * LANES; at < SIDE * SIDE; at += 2 * SIDE, weight += 2 * QUERIES, change += 2 * QUERIES, to += 2 * LANES) {
        Vector one = power_of_two(load(scores + at) * factor - logarithm);
        Vector other = power_of_two(load(scores + at + SIDE) * factor - logarithm);
        RoundedPair(one, other).store_apart(weight, weight + QUERIES);
        RoundedPair pair(one * (load(changes + at) - mean), other * (load(changes + at + SIDE) - mean));
        pair.store_apart(change, change + QUERIES);
        pair.store_paired(to);
      }
    }
  };

  auto add = [&](const Block& some) {
    int64_t count = blocks(some.count);
    Block block[QUERY_BLOCKS];
    Range range[QUERY_BLOCKS], all{p.keys, 0};  // of blocks of keys that are seen
    for (int64_t b = 0; b < count; b++) {
      block[b] = {example, some.head, some.first + b * SIDE, std::min(SIDE, some.count - b * SIDE)};
      Range keys = seen(p.sight, block[b], {0, p.keys});
      range[b] = keys.first < keys.end ? Range{keys.first / SIDE, blocks(keys.end)} : Range{0, 0};
      if (keys.first < keys.end) all = {std::min(all.first, range[b].first), std::max(all.end, range[b].end)};
    }
    for (int64_t first = all.first, end; first < all.end; first = end) {
      end = std::min(all.end, first + KEY_BLOCKS);
      for (int64_t k = first; k < end; k++) {
        auto sees = [&](int64_t b) { return range[b].first <= k && k < range[b].end; };
        int64_t low = 0, past = count;
        while (low < past && !sees(low)) low++;
        while (low < past && !sees(past - 1)) past--;
        for (int64_t b = low; b < past; b++) {
          if (sees(b)) {
            work_out(block[b], b * SIDE, k * SIDE, change_columns + (b * KEY_BLOCKS + k - first) * 2 * TILE);
            continue;
          }
          for (int64_t i = 0; i < SIDE; i++)
            for (Half* to : {weight_rows, change_rows}) std::fill_n(to + i * QUERIES + b * SIDE, SIDE, Half{});
        }
        if (low == past) continue;
        for (int64_t d = 0; d < value_wide; d += SIDE)
          tiles.multiply(weight_rows + low * SIDE, QUERIES, q.gradient_depth + d * QUERIES + low * 2 * TILE, past - low,
                         value_totals + k * SIDE * value_wide + d, value_wide, true);
        for (int64_t d = 0; d < wide; d += SIDE)
          tiles.multiply(change_rows + low * SIDE, QUERIES, q.depth + d * QUERIES + low * 2 * TILE, past - low,
                         key_totals + k * SIDE * wide + d, wide, true);
      }
      for (int64_t b = 0; b < count; b++) {
        Range keys{std::max(range[b].first, first), std::min(range[b].end, end)};
        for (int64_t d = 0; keys.first < keys.end && d < wide; d += SIDE)
          tiles.multiply(turned + d * high + keys.first * SIDE, high, change_columns + (b * KEY_BLOCKS + keys.first - first) * 2 * TILE,
                         keys.end - keys.first, q.totals + d * QUERIES + b * SIDE, QUERIES, true);
      }
    }
  };

  for (int64_t head = key_head * p.group(); head < (key_head + 1) * p.group(); head++)
    for (int64_t first = 0; first < p.queries; first += QUERIES) {
      int64_t all = std::min(QUERIES, p.queries - first);
      Block some = p.block(example, head, first, all);
      prepare(some);
      add(some);
      scatter({q.totals, QUERIES}, scales, all, dim, g.query.at(example, first, head));
    }
  for (int64_t k = 0; k < p.keys; k++) {
    Half *to = g.key.at(example, k, key_head).values, *value_to = g.value.at(example, k, key_head).values;
    for (int64_t d = 0; d < dim; d += LANES) store_rounded(to + d, load(key_totals + k * wide + d) * p.scale, dim - d);
    for (int64_t d = 0; d < value_dim; d += LANES) store_rounded(value_to + d, load(value_totals + k * value_wide + d), value_dim - d);
  }
}

ffi::Error half_attention(ffi::ThreadPool pool, Halves query, Halves key, Halves value, Booleans mask, HalvesOut out,
                          FloatsOut logarithms, Integers first, Integers heads, Integers band, float scale, bool padded) {
  Problem p(query, key, value, mask, first, heads, band, scale, padded);
  Wanted results(out->typed_data(), out->dimensions(), 0);
  int64_t parts = (p.queries + QUERIES - 1) / QUERIES;
  p.share_out(pool, p.batch * p.heads * parts, [&](int64_t task) {
    int64_t row = task / parts, begin = task % parts * QUERIES;
    int64_t count = std::min(QUERIES, p.queries - begin);
    Block some = p.block(row / p.heads, row % p.heads, begin, count);
    float* wanted = logarithms->element_count() ? logarithms->typed_data() + row * p.queries + begin : nullptr;
    leave_out(some, count, results, wanted);
    if (some.count) forward(p, some, results, wanted);
  });
  return ffi::Error::Success();
}

ffi::Error half_attention_backward(ffi::ThreadPool pool, Halves query, Halves key, Halves value, Booleans mask, Halves out,
                                   Floats logarithms, Halves gradient, HalvesOut query_gradient, HalvesOut key_gradient,
                                   HalvesOut value_gradient, Integers first, Integers heads, Integers band, float scale, bool padded) {
  Problem p(query, key, value, mask, first, heads, band, scale, padded);
  Gradients g(out, gradient, logarithms, query_gradient, key_gradient, value_gradient, first);
  p.share_out(pool, p.batch * p.key_heads, [&](int64_t task) { backward(p, g, task / p.key_heads, task % p.key_heads); });
  return ffi::Error::Success();
}

using F32 = ffi::Buffer<ffi::F32>;
#define SETTINGS Attr<Integers>("first").Attr<Integers>("heads").Attr<Integers>("band").Attr<float>("scale") \
      .Attr<bool>("padded")

LAMINA_HANDLER_IF(has_half_products(), half_attention, half_attention,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>().Ret<Halves>()
                      .Ret<F32>().SETTINGS);
LAMINA_HANDLER_IF(has_half_products(), half_attention_backward, half_attention_backward,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>().Arg<Halves>()
                      .Arg<F32>().Arg<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>().SETTINGS);

}  // namespace
}  // namespace lamina

#endif
