// One token through all blocks of a causal transformer, with the keys and values of the tokens before it.
//
// Each block takes two phases. In the first, every head works out its query, key and value from the normalized stream, takes
// its part of the values before, and multiplies it by its rows of the kernel that merges the heads. In the second, every
// part of the hidden units does the same between the kernels up and down. What the parts send to the stream is summed up
// by each part of the next phase for itself, in the order of the parts, so that a token needs no other waiting.

#include <cmath>

#include "functions.h"
#include "handlers.h"
#include "one_row.h"
#include "scratch.h"

namespace lamina {
namespace {

// A token of fewer products is done before another thread is awake.
constexpr int64_t WORTH_THREADS = 1 << 18;
enum Given { NORM_SCALE, NORM_OFFSET, PROJECT, PROJECT_BIAS, MERGE, MERGE_BIAS,
             SCALE, OFFSET, UP, UP_BIAS, DOWN, DOWN_BIAS, KEYS, VALUES, GIVEN };

struct Block {
  const float* given[GIVEN];
  float *keys, *values;
};

struct Sizes {
  int64_t length, width, heads, size, hidden, position;
  float epsilon;
};

// to = scale (from - mean) / sqrt(variance + epsilon) + offset
void normalize(const float* from, const float* scale, const float* offset, int64_t width, float epsilon, float* to) {
  Vector total{}, square{};
  for (int64_t c = 0; c < width; c += LANES) total += load(from + c);
  float mean = sum(total) / width;
  for (int64_t c = 0; c < width; c += LANES) {
    Vector deviation = load(from + c) - mean;
    square += deviation * deviation;
  }
  float factor = 1.0f / std::sqrt(sum(square) / width + epsilon);
  for (int64_t c = 0; c < width; c += LANES)
    store(to + c, (load(from + c) - mean) * factor * load(scale + c) + load(offset + c));
}

// out = rows * matrix, of whole vectors
void product(Places rows, Places matrix, int64_t count, int64_t depth, int64_t columns, Rows<float> out) {
  if (count == 1) return row_product(rows.values, matrix, depth, columns / LANES, out.values);
  multiply<Contiguous::ROWS>(rows, matrix, count, depth, columns / LANES, out, false);
}

// out = rows * (so many columns of `kernel` from `begin` on) + bias
void project(Places rows, Places kernel, const float* bias, const Sizes& s, int64_t begin, int64_t columns, Rows<float> out) {
  product(rows, {kernel.values + begin, kernel.step}, s.length, s.width, columns, out);
  for (int64_t i = 0; i < s.length; i++)
    for (int64_t c = 0; c < columns; c += LANES)
      store(out.from(i).values + c, load(out.from(i).values + c) + load(bias + begin + c));
}

// What a head sends to the stream.
void pass_head(const Sizes& s, const Block& b, int64_t head, Places normal, float* memory, Rows<float> out) {
  int64_t row = s.heads * s.size, first = head * s.size;
  Rows<float> queries{memory, s.size}, taken = queries.from(s.length);
  Rows<float> keys{b.keys + first, row}, values{b.values + first, row};
  auto projected = [&](int64_t part, Rows<float> to) {
    project(normal, {b.given[PROJECT], 3 * row}, b.given[PROJECT_BIAS], s, part * row + first, s.size, to);
  };
  projected(0, queries);
  projected(1, keys.from(s.position));
  projected(2, values.from(s.position));
  float *scores = taken.from(s.length).values, factor = 1.0f / std::sqrt(static_cast<float>(s.size));
  for (int64_t i = 0; i < s.length; i++)
    attend(queries.from(i).values, {keys.values, row}, {values.values, row}, s.position + i + 1, s.size, s.size, factor, {},
           scores, taken.from(i).values);
  product({taken.values, s.size}, {b.given[MERGE] + first * s.width, s.width}, s.length, s.size, s.width, out);
}

// What so many hidden units from `begin` on send to the stream.
void pass_hidden(const Sizes& s, const Block& b, int64_t begin, int64_t units, Places normal, float* memory, Rows<float> out) {
  project(normal, {b.given[UP], s.hidden}, b.given[UP_BIAS], s, begin, units, {memory, units});
  for (float* at = memory; at < memory + s.length * units; at += LANES) store(at, Gelu(load(at)).value);
  product({memory, units}, {b.given[DOWN] + begin * s.width, s.width}, s.length, units, s.width, out);
}

ffi::Error decode(ffi::ThreadPool pool, Floats x, ffi::Buffer<ffi::S32> position, ffi::RemainingArgs given, FloatsOut out,
                  ffi::RemainingRets caches, int64_t heads, float epsilon) {
  std::vector<Block> blocks(given.size() / GIVEN);
  int64_t products = 0, context = 0, hidden = 0;
  for (size_t i = 0; i < blocks.size(); i++) {
    for (int64_t n = 0; n < GIVEN; n++) {
      auto buffer = given.get<Floats>(i * GIVEN + n);
      if (buffer.has_error()) return buffer.error();
      blocks[i].given[n] = buffer->typed_data();
      if (n < KEYS) products += buffer->element_count();
      if (n == KEYS) context = buffer->dimensions()[1];
      if (n == UP) hidden = buffer->dimensions()[1];
    }
    auto keys = caches.get<Floats>(2 * i), values = caches.get<Floats>(2 * i + 1);
    if (keys.has_error()) return keys.error();
    if (values.has_error()) return values.error();
    blocks[i].keys = (*keys)->typed_data(), blocks[i].values = (*values)->typed_data();
  }
  int64_t length = x.dimensions()[1], width = x.dimensions()[2], all = length * width;
  int64_t first = std::clamp<int64_t>(*position.typed_data(), 0, context - length);
  Sizes s{length, width, heads, width / heads, hidden, first, epsilon};
  int64_t phases = 2 * blocks.size(), units = vectors(hidden);

  thread_local std::vector<float> shared;  // two streams, and what the parts of two phases send
  if (static_cast<int64_t>(shared.size()) < 2 * (1 + heads) * all) shared.resize(2 * (1 + heads) * all);
  float *streams = shared.data(), *sent = streams + 2 * all;
  // The stream before a phase: the one before, and what came from there.
  auto stream = [&](int64_t phase, float* to) {
    if (phase == 0) return std::copy_n(x.typed_data(), all, to), void();
    const Block& block = blocks[(phase - 1) / 2];
    const float* before = phase == 1 ? x.typed_data() : streams + (phase - 1) % 2 * all;
    const float *bias = block.given[phase % 2 ? MERGE_BIAS : DOWN_BIAS], *parts = sent + (phase - 1) % 2 * heads * all;
    for (int64_t i = 0; i < all; i += LANES) {
      Vector total = load(parts + i);
      for (int64_t part = 1; part < heads; part++) total += load(parts + part * all + i);
      store(to + i, load(before + i) + (total + load(bias + i % width)));
    }
  };
  auto body = [&](int64_t phase, int64_t part) {
    const Block& block = blocks[phase / 2];
    bool attends = phase % 2 == 0;
    int64_t begin = share(units, part, heads) * LANES, end = share(units, part + 1, heads) * LANES;
    int64_t needed = attends ? 2 * length * s.size + vectors(context) * LANES : length * (end - begin);
    Scratch scratch(2 * all + needed);
    float *here = scratch.take(all), *normal = scratch.take(all), *memory = scratch.take(needed);
    stream(phase, here);
    if (part == 0 && phase > 0) std::copy_n(here, all, streams + phase % 2 * all);
    const float *scale = block.given[attends ? NORM_SCALE : SCALE], *offset = block.given[attends ? NORM_OFFSET : OFFSET];
    for (int64_t i = 0; i < all; i += width) normalize(here + i, scale, offset, width, epsilon, normal + i);
    Rows<float> to{sent + (phase % 2 * heads + part) * all, width};
    if (attends)
      pass_head(s, block, part, {normal, width}, memory, to);
    else
      pass_hidden(s, block, begin, end - begin, {normal, width}, memory, to);
  };
  parallel_phases(pool, phases, heads, body, length * products < WORTH_THREADS ? 1 : pool.num_threads());
  stream(phases, out->typed_data());
  return ffi::Error::Success();
}

LAMINA_HANDLER(decode, decode,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<ffi::Buffer<ffi::S32>>().RemainingArgs()
                   .Ret<ffi::Buffer<ffi::F32>>().RemainingRets().Attr<int64_t>("heads").Attr<float>("epsilon"));

}  // namespace
}  // namespace lamina
