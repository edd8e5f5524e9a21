// Writing with a causal transformer: tokens through all its blocks, with the keys and values of the tokens before, then one
// that is drawn from what it expects to follow, which is the next to go through.
//
// Each block takes two phases. In the first, every head works out its query, key and value from the normalized stream, takes
// its part of the values before, and multiplies it by its rows of the kernel that merges the heads. In the second, every
// part of the hidden units does the same between the kernels up and down. What the parts send to the stream is summed up
// by each part of the next phase for itself, in the order of the parts, so that a token needs no other waiting. A last phase
// works out the scores of what may follow, each part those of a share of the vocabulary.

#include <cmath>

#include "drawing.h"
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
  int64_t length, width, heads, size, hidden, vocabulary, context, position;
  float epsilon;
};

struct Network {
  std::vector<Block> blocks;
  const float *tokens, *places, *scale, *offset;  // embeddings, and what the stream is normalized with at the end
  const bool* allowed;                            // which tokens may follow
  int64_t products;                               // of two numbers, for each token
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

// Scores for what follows s.length tokens that stand at s.position; minus infinity for what may not.
void expect(ffi::ThreadPool& pool, const Network& network, const Sizes& s, const int32_t* tokens, float* scores) {
  int64_t width = s.width, heads = s.heads, all = s.length * width;
  int64_t phases = 2 * network.blocks.size(), units = vectors(s.hidden), columns = vectors(s.vocabulary);
  thread_local std::vector<float> shared;  // the embedded tokens, two streams, and what the parts of two phases send
  if (static_cast<int64_t>(shared.size()) < (3 + 2 * heads) * all) shared.resize((3 + 2 * heads) * all);
  float *embedded = shared.data(), *streams = embedded + all, *sent = streams + 2 * all;
  for (int64_t i = 0; i < s.length; i++) {
    const float* token = network.tokens + std::clamp<int64_t>(tokens[i], 0, s.vocabulary - 1) * width;
    const float* place = network.places + (s.position + i) * width;
    for (int64_t c = 0; c < width; c += LANES) store(embedded + i * width + c, load(token + c) + load(place + c));
  }
  // The stream before a phase: the one before, and what came from there.
  auto stream = [&](int64_t phase, float* to) {
    if (phase == 0) return std::copy_n(embedded, all, to), void();
    const Block& block = network.blocks[(phase - 1) / 2];
    const float* before = phase == 1 ? embedded : streams + (phase - 1) % 2 * all;
    const float *bias = block.given[phase % 2 ? MERGE_BIAS : DOWN_BIAS], *parts = sent + (phase - 1) % 2 * heads * all;
    for (int64_t i = 0; i < all; i += LANES) {
      Vector total = load(parts + i);
      for (int64_t part = 1; part < heads; part++) total += load(parts + part * all + i);
      store(to + i, load(before + i) + (total + load(bias + i % width)));
    }
  };
  auto score = [&](const float* stream, int64_t part, float* normal) {
    normalize(stream, network.scale, network.offset, width, s.epsilon, normal);
    int64_t end = std::min(share(columns, part + 1, heads) * LANES, s.vocabulary);
    for (int64_t token = share(columns, part, heads) * LANES; token < end; token += LANES) {
      Places rows{network.tokens + token * width, width};
      store(scores + token, products_of_rows(rows, {normal, 0}, end - token, width), end - token);
      for (int64_t i = token; i < std::min(token + LANES, end); i++)
        if (!network.allowed[i]) scores[i] = -INFINITY;
    }
  };
  auto body = [&](int64_t phase, int64_t part) {
    bool attends = phase % 2 == 0;
    int64_t begin = share(units, part, heads) * LANES, end = share(units, part + 1, heads) * LANES;
    int64_t needed = attends ? 2 * s.length * s.size + vectors(s.context) * LANES : s.length * (end - begin);
    Scratch scratch(2 * all + needed);
    float *here = scratch.take(all), *normal = scratch.take(all), *memory = scratch.take(needed);
    stream(phase, here);
    if (phase == phases) return score(here + all - width, part, normal);
    const Block& block = network.blocks[phase / 2];
    if (part == 0 && phase > 0) std::copy_n(here, all, streams + phase % 2 * all);
    const float *scale = block.given[attends ? NORM_SCALE : SCALE], *offset = block.given[attends ? NORM_OFFSET : OFFSET];
    for (int64_t i = 0; i < all; i += width) normalize(here + i, scale, offset, width, s.epsilon, normal + i);
    Rows<float> to{sent + (phase % 2 * heads + part) * all, width};
    if (attends)
      pass_head(s, block, part, {normal, width}, memory, to);
    else
      pass_hidden(s, block, begin, end - begin, {normal, width}, memory, to);
  };
  parallel_phases(pool, phases + 1, heads, body, s.length * network.products < WORTH_THREADS ? 1 : pool.num_threads());
}

ffi::Error write(ffi::ThreadPool pool, Numbers tokens, Numbers length, Numbers position, Numbers count, Floats chances,
                 Floats temperature, Numbers top_k, Floats top_p, Booleans allowed, Floats embeddings,
                 Floats places, Floats scale, Floats offset, ffi::RemainingArgs given, ffi::Result<Numbers> written,
                 ffi::RemainingRets caches, int64_t heads, float epsilon, int64_t stop) {
  int64_t vocabulary = embeddings.dimensions()[0], width = embeddings.dimensions()[1];
  Network network{std::vector<Block>(given.size() / GIVEN), embeddings.typed_data(), places.typed_data(), scale.typed_data(),
                  offset.typed_data(), allowed.typed_data(), vocabulary * width};
  Sizes s{0, width, heads, width / heads, 0, vocabulary, places.dimensions()[0], *position.typed_data(), epsilon};
  for (size_t i = 0; i < network.blocks.size(); i++) {
    Block& block = network.blocks[i];
    for (int64_t n = 0; n < GIVEN; n++) {
      auto buffer = given.get<Floats>(i * GIVEN + n);
      if (buffer.has_error()) return buffer.error();
      block.given[n] = buffer->typed_data();
      if (n < KEYS) network.products += buffer->element_count();
      if (n == UP) s.hidden = buffer->dimensions()[1];
      if (n == KEYS) s.context = std::min(s.context, buffer->dimensions()[1]);
    }
    auto keys = caches.get<Floats>(2 * i), values = caches.get<Floats>(2 * i + 1);
    if (keys.has_error()) return keys.error();
    if (values.has_error()) return values.error();
    block.keys = (*keys)->typed_data(), block.values = (*values)->typed_data();
  }
  Choice choice(*temperature.typed_data(), top_k, top_p);
  s.length = std::clamp<int64_t>(*length.typed_data(), 1, tokens.element_count());
  int64_t wanted = std::min<int64_t>(*count.typed_data(), chances.element_count());
  std::vector<float> scores(vocabulary);
  const int32_t* now = tokens.typed_data();
  int32_t* found = written->typed_data();
  std::fill_n(found, chances.element_count(), 0);
  for (int64_t i = 0; i < wanted; i++, now = found++, s.length = 1) {
    s.position = std::clamp<int64_t>(s.position, 0, s.context - s.length);
    expect(pool, network, s, now, scores.data());
    s.position += s.length;
    *found = draw(scores.data(), vocabulary, chances.typed_data()[i], choice);
    if (*found == stop) break;
  }
  return ffi::Error::Success();
}

LAMINA_HANDLER(write, write,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Numbers>().Arg<Numbers>().Arg<Numbers>().Arg<Numbers>()
                   .Arg<Floats>().Arg<Floats>().Arg<Numbers>().Arg<Floats>().Arg<Booleans>().Arg<Floats>()
                   .Arg<Floats>().Arg<Floats>().Arg<Floats>().RemainingArgs().Ret<Numbers>().RemainingRets()
                   .Attr<int64_t>("heads").Attr<float>("epsilon").Attr<int64_t>("stop"));

}  // namespace
}  // namespace lamina
