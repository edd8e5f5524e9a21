// Scaled dot-product attention, forward and backward, that never writes out the scores of all queries and keys.
//
// Queries stand in the lanes of vectors: a block of them is transposed, keys and values are read where they are, number
// by number, and all that the softmax needs is done lane by lane. The forward pass takes some keys at a time, and
// scales down what it has when a larger score turns up. Of the softmax it keeps, for each query, the logarithm of the
// sum of exponentials, from which the backward pass works the weights out again. Keys that no query of a block may see
// are skipped. Dao (2023), https://arxiv.org/abs/2307.08691
//
// Queries, results and their gradients lie as (dim, queries of a block) here, scores and weights as (keys, queries of a
// block). The order of sums does not depend on the number of threads.

#include <cfloat>
#include <cmath>

#include "attention.h"
#include "functions.h"
#include "handlers.h"
#include "one_row.h"
#include "scratch.h"
#include "tiles.h"

namespace lamina {
namespace {

// So few queries are taken one by one.
constexpr int64_t FEW_QUERIES = LANES / 4;
// Keys are shared out until there are so many tasks of the backward pass, in parts of at least so many keys.
constexpr int64_t TASKS = 16, KEYS_OF_TASK = 256;

using Given = Heads<const float>;
using Wanted = Heads<float>;
using Problem = AttentionProblem<ffi::F32>;
using Gradients = AttentionGradients<ffi::F32>;

// to[d][i] = scale * from[i][d] for the queries of a block; zero past the last one.
void gather(Places from, int64_t count, int64_t dim, float scale, float* to) {
  for (int64_t i = 0; i < count; i += LANES)
    for (int64_t d = 0; d < dim; d += LANES) {
      Square square;
      load(from.values + i * from.step + d, from.step, count - i, dim - d, square);
      transpose(square);
      for (Vector& vector : square) vector *= scale;
      store(to + d * BLOCK + i, BLOCK, square, dim - d, LANES);
    }
}

// The results of a block of queries and, where wanted, the logarithms of their sums of exponentials.
void forward(const Problem& p, const Block& block, const Wanted& out, float* logarithms) {
  int64_t dim = p.query.dim, value_dim = p.value.dim, key_head = block.head / p.group();
  Scratch scratch((dim + value_dim + KEYS) * BLOCK);
  float *queries = scratch.take(dim * BLOCK), *results = scratch.take(value_dim * BLOCK);
  float* scores = scratch.take(KEYS * BLOCK);
  gather(p.query.at(block.example, block.first, block.head), block.count, dim, p.scale, queries);
  std::fill(results, results + value_dim * BLOCK, 0.0f);
  Vector largest[WIDEST_TILE], total[WIDEST_TILE];
  for (int v = 0; v < WIDEST_TILE; v++) largest[v] = all(-FLT_MAX), total[v] = Vector{};

  Range keys = seen(p.sight, block, {0, p.keys});
  for (int64_t first = keys.first, end; first < keys.end; first = end) {
    end = std::min(keys.end, (first / KEYS + 1) * KEYS);
    Runs runs(p.sight, block, {first, end});
    Vector before[WIDEST_TILE];
    std::copy(largest, largest + WIDEST_TILE, before);
    for (const Run& run : runs) {
      float* score = scores + (run.first - first) * BLOCK;
      multiply<Contiguous::ROWS>(p.key.at(block.example, run.first, key_head), {queries + run.low * LANES, BLOCK},
                                 run.count, dim, run.high - run.low, {score + run.low * LANES, BLOCK}, false);
      hide(p.sight, block, run, score);
      for (int64_t k = 0; k < run.count; k++)
        for (int64_t v = run.low; v < run.high; v++)
          largest[v] = maximum(largest[v], load(score + k * BLOCK + v * LANES));
    }
    if (first > keys.first)
      for (int64_t v = 0; v < vectors(block.count); v++) {
        Vector factor = exp(before[v] - largest[v]);
        total[v] *= factor;
        for (float* at = results + v * LANES; at < results + value_dim * BLOCK; at += BLOCK)
          store(at, load(at) * factor);
      }
    for (const Run& run : runs) {
      float* score = scores + (run.first - first) * BLOCK;
      for (int64_t v = run.low; v < run.high; v++)
        for (int64_t at = v * LANES; at < run.count * BLOCK; at += BLOCK) {
          Vector weight = exp(load(score + at) - largest[v]);
          total[v] += weight;
          store(score + at, weight);
        }
      multiply<Contiguous::COLUMNS>(p.value.at(block.example, run.first, key_head), {score + run.low * LANES, BLOCK},
                                    value_dim, run.count, run.high - run.low, {results + run.low * LANES, BLOCK},
                                    true);
    }
  }

  for (int64_t i = 0; logarithms && i < block.count; i++)
    logarithms[i] = logarithm_of(total[i / LANES][i % LANES], largest[i / LANES][i % LANES]);
  for (Vector& sum : total) sum = sum == 0.0f ? Vector{} : 1.0f / sum;
  scatter({results, BLOCK}, total, block.count, value_dim, out.at(block.example, block.first, block.head));
}

// The same for a single query; here keys are in lanes.
void forward_one(const Problem& p, const Block& block, const Wanted& out, float* logarithm) {
  int64_t value_dim = p.value.dim, key_head = block.head / p.group();
  Range keys = seen(p.sight, block, {0, p.keys});
  int64_t count = std::max<int64_t>(keys.end - keys.first, 0);
  Scratch scratch(vectors(count) * LANES + value_dim);
  float *scores = scratch.take(vectors(count) * LANES), *results = scratch.take(value_dim);
  const float* query = p.query.at(block.example, block.first, block.head).values;
  const bool* mask = p.sight.mask ? p.sight.mask_at(block.example, block.head, block.first, keys.first) : nullptr;
  while (mask && count && !mask[(count - 1) * p.sight.by_key]) count--;  // as where a text has yet to be written
  if (mask && p.sight.by_key && count && !std::memchr(mask, 0, count)) mask = nullptr;
  Places key = p.key.at(block.example, keys.first, key_head), value = p.value.at(block.example, keys.first, key_head);
  Softmax weights = attend(query, key, value, count, p.query.dim, value_dim, p.scale, {mask, p.sight.by_key}, scores, results);
  if (logarithm) *logarithm = logarithm_of(weights.total, weights.largest);
  std::memcpy(out.at(block.example, block.first, block.head).values, results, value_dim * sizeof(float));
}

// Rows that may be read up to whole vectors: the given ones, or copies where these end within a vector.
Places whole_rows(Places from, int64_t count, int64_t dim, float* space) {
  if (dim % LANES == 0) return from;
  int64_t step = vectors(dim) * LANES;
  for (int64_t i = 0; i < count; i++)
    for (int64_t d = 0; d < dim; d += LANES)
      store(space + i * step + d, load(from.values + i * from.step + d, dim - d));
  return {space, step};
}

// The gradients of the keys and values in `range` of one head, and what these keys and values send to the queries.
void backward(const Problem& p, const Gradients& g, int64_t example, int64_t key_head, Range range) {
  int64_t dim = p.query.dim, value_dim = p.value.dim, count = range.end - range.first;
  int64_t row = vectors(dim) * LANES, value_row = vectors(value_dim) * LANES;
  Scratch scratch((count + BLOCK) * (row + value_row) + (2 * dim + value_dim + 2 * KEYS) * BLOCK);
  Rows<float> key_totals{scratch.take(count * row), row}, value_totals{scratch.take(count * value_row), value_row};
  float *query_space = scratch.take(BLOCK * row), *gradient_space = scratch.take(BLOCK * value_row);
  float *queries = scratch.take(dim * BLOCK), *query_totals = scratch.take(dim * BLOCK);
  float* gradients = scratch.take(value_dim * BLOCK);
  float *weights = scratch.take(KEYS * BLOCK), *changes = scratch.take(KEYS * BLOCK);  // changes: gradients of scores
  std::fill(key_totals.values, key_totals.from(count).values, 0.0f);
  std::fill(value_totals.values, value_totals.from(count).values, 0.0f);

  auto add_block = [&](const Block& block, Range keys) {
    Places query = p.query.at(example, block.first, block.head);
    Places out = g.out.at(example, block.first, block.head);
    Places gradient = g.out_gradient.at(example, block.first, block.head);
    gather(query, block.count, dim, p.scale, queries);
    gather(gradient, block.count, value_dim, 1.0f, gradients);
    const float* logarithms = g.logarithms + (example * p.heads + block.head) * p.queries + block.first;
    Vector logarithm[WIDEST_TILE], mean[WIDEST_TILE];  // mean: of a query's gradients of weights, by the weights
    for (int64_t v = 0, i = 0; v < vectors(block.count); v++, i += LANES) {
      logarithm[v] = load(logarithms + i, block.count - i);
      mean[v] = products_of_rows(out.from(i), gradient.from(i), block.count - i, value_dim);
    }
    query = whole_rows(query, block.count, dim, query_space);
    gradient = whole_rows(gradient, block.count, value_dim, gradient_space);
    for (int64_t first = keys.first, end; first < keys.end; first = end) {
      end = std::min(keys.end, (first / KEYS + 1) * KEYS);
      for (const Run& run : Runs(p.sight, block, {first, end})) {
        Places key = p.key.at(example, run.first, key_head), value = p.value.at(example, run.first, key_head);
        int64_t lane = run.low * LANES, width = run.high - run.low;
        int64_t rows = std::min(run.high * LANES, block.count) - lane;
        float *weight = weights + lane, *change = changes + lane;
        multiply<Contiguous::ROWS>(key, {queries + lane, BLOCK}, run.count, dim, width, {weight, BLOCK}, false);
        multiply<Contiguous::ROWS>(value, {gradients + lane, BLOCK}, run.count, value_dim, width, {change, BLOCK},
                                   false);
        hide(p.sight, block, run, weights);
        for (int64_t v = run.low; v < run.high; v++)
          for (int64_t at = v * LANES; at < run.count * BLOCK; at += BLOCK) {
            Vector share = exp(load(weights + at) - logarithm[v]);
            store(weights + at, share);
            store(changes + at, share * (load(changes + at) - mean[v]));
          }
        multiply<Contiguous::ROWS>({weight, BLOCK}, gradient.from(lane), run.count, rows, vectors(value_dim),
                                   value_totals.from(run.first - range.first), true);
        multiply<Contiguous::ROWS>({change, BLOCK}, query.from(lane), run.count, rows, vectors(dim),
                                   key_totals.from(run.first - range.first), true);
        multiply<Contiguous::COLUMNS>(key, {change, BLOCK}, dim, run.count, width, {query_totals + lane, BLOCK}, true);
      }
    }
  };

  Vector scales[WIDEST_TILE];
  std::fill(scales, scales + WIDEST_TILE, all(p.scale));
  for (int64_t head = key_head * p.group(); head < (key_head + 1) * p.group(); head++)
    for (int64_t first = 0; first < p.queries; first += BLOCK) {
      int64_t all = std::min(BLOCK, p.queries - first);
      Block block = p.block(example, head, first, all);
      Range keys = seen(p.sight, block, range);
      std::fill(query_totals, query_totals + dim * BLOCK, 0.0f);
      if (block.count && keys.first < keys.end) add_block(block, keys);
      scatter({query_totals, BLOCK}, scales, all, dim, g.query.at(example, first, head));
    }
  for (int64_t k = 0; k < count; k++) {
    float *key = g.key.at(example, range.first + k, key_head).values, *key_total = key_totals.from(k).values;
    float *value = g.value.at(example, range.first + k, key_head).values, *value_total = value_totals.from(k).values;
    for (int64_t d = 0; d < dim; d += LANES) store(key + d, load(key_total + d) * p.scale, dim - d);
    for (int64_t d = 0; d < value_dim; d += LANES) store(value + d, load(value_total + d), value_dim - d);
  }
}

ffi::Error attention(ffi::ThreadPool pool, Floats query, Floats key, Floats value, Booleans mask, FloatsOut out,
                     FloatsOut logarithms, Integers first, Integers heads, Integers band, float scale, bool padded) {
  Problem p(query, key, value, mask, first, heads, band, scale, padded);
  Wanted results(out->typed_data(), out->dimensions(), 0);
  int64_t size = p.queries <= FEW_QUERIES ? 1 : BLOCK, blocks = (p.queries + size - 1) / size;
  p.share_out(pool, p.batch * p.heads * blocks, [&](int64_t task) {
    int64_t row = task / blocks, begin = task % blocks * size;
    int64_t count = std::min(size, p.queries - begin);
    Block block = p.block(row / p.heads, row % p.heads, begin, count);
    float* wanted = logarithms->element_count() ? logarithms->typed_data() + row * p.queries + begin : nullptr;
    leave_out(block, count, results, wanted);
    if (block.count) (size == 1 ? forward_one : forward)(p, block, results, wanted);
  });
  return ffi::Error::Success();
}

// Where keys are shared out, each part has its own gradient of the queries, and these are summed up.
ffi::Error attention_backward(ffi::ThreadPool pool, Floats query, Floats key, Floats value, Booleans mask, Floats out,
                              Floats logarithms, Floats gradient, FloatsOut query_gradient, FloatsOut key_gradient,
                              FloatsOut value_gradient, Integers first, Integers heads, Integers band, float scale, bool padded) {
  Problem p(query, key, value, mask, first, heads, band, scale, padded);
  Gradients g(out, gradient, logarithms, query_gradient, key_gradient, value_gradient, first);
  int64_t pairs = p.batch * p.key_heads;
  int64_t parts = std::max<int64_t>(std::min((TASKS + pairs - 1) / pairs, p.keys / KEYS_OF_TASK), 1);
  int64_t row = p.heads * p.query.dim, size = p.batch * p.queries * row;
  thread_local std::vector<float> partial;
  if (parts > 1 && static_cast<int64_t>(partial.size()) < parts * size) partial.resize(parts * size);
  int64_t shape[] = {p.batch, p.queries, p.heads, p.query.dim};
  float* sums = partial.data();
  p.share_out(pool, pairs * parts, [&](int64_t task) {
    int64_t pair = task / parts, part = task % parts;
    Gradients of_part = g;
    if (parts > 1) of_part.query = Wanted(sums + part * size, {shape, 4}, 0);
    Range keys{share(p.keys, part, parts), share(p.keys, part + 1, parts)};
    backward(p, of_part, pair / p.key_heads, pair % p.key_heads, keys);
  });
  if (parts > 1)
    p.share_out(pool, p.batch * p.queries, [&](int64_t place) {
      float* to = g.query.at(place / p.queries, place % p.queries, 0).values;
      for (int64_t i = 0; i < row; i++) {
        float total = sums[place * row + i];
        for (int64_t part = 1; part < parts; part++) total += sums[part * size + place * row + i];
        to[i] = total;
      }
    });
  return ffi::Error::Success();
}

#define SETTINGS Attr<Integers>("first").Attr<Integers>("heads").Attr<Integers>("band").Attr<float>("scale") \
      .Attr<bool>("padded")

LAMINA_HANDLER(attention, attention,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Booleans>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().SETTINGS);
LAMINA_HANDLER(attention_backward, attention_backward,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Booleans>()
                   .Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Ret<ffi::Buffer<ffi::F32>>().SETTINGS);

}  // namespace
}  // namespace lamina
